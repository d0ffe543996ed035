//! Requests and replies: messages like others, and an inbox of the client's own for what returns.
//!
//! ```text
//!   request ─► topic ─► whoever consumes it ─► reply ─► inbox (a topic of one queue) ─► who waits
//!     $reply-to: inbox 0, $correlation ────────► $correlation ──────────────────────────┘
//! ```
//!
//! The broker knows nothing of it. The inbox is made with the first request and removed when the
//! client is closed; it keeps an hour of replies at most. What a client leaves behind that was not
//! closed is removed by later ones, after a day without a message or a reader. Requests expire when
//! nobody waits for their replies any more.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use yard_wire::operation::{GroupInfo, TopicCreate, TopicInfo, TopicLs, TopicRm};
use yard_wire::property::{CORRELATION, FAILED, REPLY_TO};
use yard_wire::units::AgeLimit;
use yard_wire::{Code, MessageId, QueueIndex, Timestamp};

use crate::{Client, Delivery, Error, Message, Producer, SendResult, Start};

/// How names of inboxes begin; then 32 hexadecimal digits.
const INBOX: &str = "yard-inbox.";
/// The group that reads an inbox.
const GROUP: &str = "inbox";
/// Replies are kept for so long.
const RETAIN_MS: u64 = 3_600_000;
/// An inbox without readers is abandoned after this.
const ABANDONED_MS: u64 = 24 * 3_600_000;
/// Abandoned inboxes that one client removes.
const SWEEP_MAX: usize = 16;
/// Replies that are waited for at a time.
const PENDING_MAX: usize = 65_536;
/// Topics that requests or replies go to, and whose producers are kept.
const PRODUCERS_MAX: usize = 64;
/// How long the removal of the inbox may take when the client is closed.
const REMOVAL: Duration = Duration::from_secs(1);

/// A reply.
#[derive(Debug)]
pub struct Response {
    delivery: Delivery,
    body: Bytes,
}

impl Response {
    /// The body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The message, which is acked already.
    #[must_use]
    pub fn delivery(&self) -> &Delivery {
        &self.delivery
    }
}

/// Who waits, by what its reply will say.
type Waiters = BTreeMap<MessageId, oneshot::Sender<Result<Response, Error>>>;

/// Who waits for which reply.
#[derive(Debug, Default)]
struct Pending(Mutex<Waiters>);

impl Pending {
    fn with<T>(&self, change: impl FnOnce(&mut Waiters) -> T) -> T {
        // Nothing in here panics half-way, so a poisoned map is a whole one.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Nothing more will come.
    fn give_up(&self, error: &Error) {
        for (_, waiter) in self.with(std::mem::take) {
            // Whoever asked may have stopped waiting.
            let _ = waiter.send(Err(error.clone()));
        }
    }

    /// Takes in what came; replies that nobody waits for any more are dropped.
    fn arrived(&self, delivery: Delivery) {
        delivery.ack_later();
        let correlation = delivery.property(CORRELATION).and_then(MessageId::parse);
        let Some(waiter) = correlation.and_then(|it| self.with(|waiting| waiting.remove(&it)))
        else {
            tracing::debug!(id = %delivery.id(), "nobody waits for this reply");
            return;
        };
        let is_failure = delivery.property(FAILED).is_some();
        let result = delivery.body().and_then(|body| match is_failure {
            true => {
                let detail = String::from_utf8_lossy(&body).into_owned();
                Err(Error::new(Code::RequestFailed, detail))
            }
            false => Ok(Response { delivery, body }),
        });
        // Whoever asked may have stopped waiting.
        let _ = waiter.send(result);
    }
}

/// Stops waiting when it is dropped.
struct Waiting<'p> {
    pending: &'p Pending,
    correlation: MessageId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pending.with(|waiting| waiting.remove(&self.correlation));
    }
}

#[derive(Debug)]
struct Inbox {
    topic: String,
    pending: Arc<Pending>,
    /// Resolves at the other end when the inbox is dropped.
    open: oneshot::Sender<()>,
}

impl Inbox {
    fn is_read(&self) -> bool {
        !self.open.is_closed()
    }
}

/// What a client needs for requests and replies; shared by its clones, and gone with the last.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    inbox: tokio::sync::Mutex<Option<Arc<Inbox>>>,
    producers: Mutex<Producers>,
}

/// Producers by topic, each with the turn in which it was used last.
#[derive(Debug, Default)]
struct Producers {
    turn: u64,
    by_topic: BTreeMap<String, (u64, Producer)>,
}

impl Producers {
    fn find(&mut self, topic: &str) -> Option<Producer> {
        self.turn += 1;
        let (used, producer) = self.by_topic.get_mut(topic)?;
        *used = self.turn;
        Some(producer.clone())
    }

    fn keep(&mut self, topic: &str, producer: Producer) {
        self.by_topic.insert(topic.to_owned(), (self.turn, producer));
        if self.by_topic.len() > PRODUCERS_MAX {
            let eldest = self.by_topic.iter().min_by_key(|(_, (used, _))| *used);
            let eldest = eldest.map(|(topic, _)| topic.clone()).expect("there are some");
            self.by_topic.remove(&eldest);
        }
    }
}

impl Exchange {
    fn with_producers<T>(&self, change: impl FnOnce(&mut Producers) -> T) -> T {
        // Nothing in here panics half-way, so a poisoned map is a whole one.
        change(&mut self.producers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn producer(&self, client: &Client, topic: &str) -> Result<Producer, Error> {
        if let Some(known) = self.with_producers(|producers| producers.find(topic)) {
            return Ok(known);
        }
        let made = client.producer(topic).build().await?;
        self.with_producers(|producers| producers.keep(topic, made.clone()));
        Ok(made)
    }

    async fn inbox(&self, client: &Client) -> Result<Arc<Inbox>, Error> {
        let mut inbox = self.inbox.lock().await;
        if let Some(open) = inbox.as_ref().filter(|open| open.is_read()) {
            return Ok(open.clone());
        }
        let opened = Arc::new(open_inbox(client).await?);
        *inbox = Some(opened.clone());
        let client = client.clone();
        tokio::spawn(async move {
            if let Err(error) = sweep(&client).await {
                tracing::debug!(%error, "abandoned inboxes were not looked for");
            }
        });
        Ok(opened)
    }

    /// The client is being closed.
    pub(crate) async fn close(&self, client: &Client) {
        self.with_producers(|producers| producers.by_topic.clear());
        let Some(inbox) = self.inbox.lock().await.take() else {
            return;
        };
        inbox.pending.give_up(&Error::closed("client"));
        let name = inbox.topic.clone();
        drop(inbox);
        let removed = tokio::time::timeout(REMOVAL, client.admin().call(TopicRm { name })).await;
        if !matches!(removed, Ok(Ok(_))) {
            tracing::debug!("the inbox was not removed; a later client will do it");
        }
    }
}

async fn open_inbox(client: &Client) -> Result<Inbox, Error> {
    let random = &client.inner().random;
    let topic = format!("{INBOX}{:016x}{:016x}", random.next_u64(), random.next_u64());
    let create = TopicCreate {
        name: topic.clone(),
        queues: 1,
        note: format!("replies to {}", client.inner().name),
        retain: AgeLimit(RETAIN_MS),
        discard_unconsumed: true,
        ..TopicCreate::default()
    };
    client.admin().call(create).await?;
    let mut consumer = client
        .consumer(topic.as_str(), GROUP)
        .start(Start::Earliest)
        .credit(1_024, 8 << 20)
        .build()
        .await?;
    let pending = Arc::new(Pending::default());
    let (open, mut closed) = oneshot::channel::<()>();
    let arrivals = pending.clone();
    tokio::spawn(async move {
        let error = loop {
            tokio::select! {
                biased;
                _ = &mut closed => break Error::closed("client"),
                delivery = consumer.recv() => match delivery {
                    Ok(delivery) => arrivals.arrived(delivery),
                    Err(error) => break error,
                },
            }
        };
        arrivals.give_up(&error);
    });
    Ok(Inbox { topic, pending, open })
}

/// Removes what clients have left behind that were not closed.
async fn sweep(client: &Client) -> Result<(), Error> {
    let admin = client.admin();
    let now = client.inner().clock.now();
    let is_old = |at: Timestamp| at.plus_ms(ABANDONED_MS) < now;
    let topics = admin.call(TopicLs {}).await?;
    let old =
        topics.into_iter().filter(|row| row.name.starts_with(INBOX) && is_old(row.created_ms));
    let old: Vec<String> = old.map(|row| row.name).take(SWEEP_MAX).collect();
    if old.is_empty() {
        return Ok(());
    }
    let group = admin.call(GroupInfo { name: GROUP.to_owned() }).await?;
    for name in old {
        let is_read = group.members.iter().any(|member| member.topic == name);
        let report = admin.call(TopicInfo { name: name.clone() }).await?;
        let is_used = report.queues.iter().any(|queue| !is_old(queue.newest_ms));
        if !is_read && !is_used {
            admin.call(TopicRm { name }).await?;
        }
    }
    Ok(())
}

impl Client {
    /// Sends a message and waits for the first reply to it, for `timeout` at most. The request
    /// expires by then, so that nobody works on what nobody waits for. At most 65,536 requests may
    /// wait at a time.
    ///
    /// # Errors
    /// As [`Producer::send`]; [`Code::TimedOut`] when no reply came in time: the request may have
    /// been handled; [`Code::RequestFailed`] when whoever took it says that it failed;
    /// [`Code::BadEncoding`] and [`Code::UnpackedTooLarge`] for the body of the reply;
    /// [`Code::LimitReached`].
    pub async fn request(
        &self,
        topic: &str,
        message: Message,
        timeout: Duration,
    ) -> Result<Response, Error> {
        let deadline = Instant::now() + timeout;
        let late = |_| Error::timed_out("a request", timeout);
        let client = self.clone();
        // On its own, so that whoever stops waiting leaves no inbox behind that nobody knows of.
        let opening = tokio::spawn(async move { client.exchange().inbox(&client).await });
        let preparing = async {
            let inbox = opening.await.unwrap_or_else(|_| Err(Error::closed("client")))?;
            Ok::<_, Error>((inbox, self.exchange().producer(self, topic).await?))
        };
        let (inbox, producer) =
            tokio::time::timeout_at(deadline, preparing).await.map_err(late)??;
        let left = deadline.saturating_duration_since(Instant::now());
        let random = &self.inner().random;
        let random = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
        let correlation = MessageId::new(self.inner().clock.wall(), random);
        let (sender, receiver) = oneshot::channel();
        let is_full = inbox.pending.with(|waiting| {
            let is_full = waiting.len() >= PENDING_MAX;
            if !is_full {
                waiting.insert(correlation, sender);
            }
            is_full
        });
        if is_full {
            let detail = format!("{PENDING_MAX} requests wait for replies");
            return Err(Error::new(Code::LimitReached, detail));
        }
        let _waiting = Waiting { pending: &inbox.pending, correlation };
        let message = message.wants_reply(&inbox.topic, correlation).or_expires_after(left);
        let asking = async {
            producer.send(message).await?;
            receiver.await.unwrap_or_else(|_| Err(Error::closed("client")))
        };
        tokio::time::timeout_at(deadline, asking).await.map_err(late)?
    }

    /// Answers a request: [`Delivery::wants_reply`] says whether a message is one. Ack the request
    /// afterwards: if this process dies in between, it is handled once more, and whoever asked
    /// takes the first reply.
    ///
    /// # Errors
    /// [`Code::BadArgument`] for a message that wants no reply; [`Code::UnknownTopic`] when whoever
    /// asked is gone; otherwise as [`Producer::send`].
    pub async fn reply(&self, request: &Delivery, message: Message) -> Result<SendResult, Error> {
        let (topic, queue, correlation) = return_address(request).ok_or_else(|| {
            let detail = format!("message {} wants no reply", request.id());
            Error::new(Code::BadArgument, detail)
        })?;
        let producer = self.exchange().producer(self, topic).await?;
        let message = self.inner().propagation.answer(message, request);
        producer.send(message.queue(queue.0).answers(correlation)).await
    }

    /// Answers a request with why it could not be done: whoever asked gets
    /// [`Code::RequestFailed`] with this detail.
    ///
    /// # Errors
    /// As [`Client::reply`].
    pub async fn reply_failed(&self, request: &Delivery, why: &str) -> Result<SendResult, Error> {
        self.reply(request, Message::new(why.as_bytes().to_vec()).failed()).await
    }
}

/// Where a reply to a message goes, if it wants one.
pub(crate) fn return_address(request: &Delivery) -> Option<(&str, QueueIndex, &str)> {
    let (topic, queue) = request.property(REPLY_TO)?.split_once(' ')?;
    Some((topic, QueueIndex(queue.parse().ok()?), request.property(CORRELATION)?))
}
