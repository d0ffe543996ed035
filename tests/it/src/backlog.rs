//! A backlog that is passed on to a wider topic: how much faster it is consumed there, whether the
//! order of each key is kept, and whether its group returns.
//!
//! ```text
//!   producer ──► own topic, n queues ─┬─► n consumers: how fast they are
//!                                     │ group drain
//!                                     └─► wide topic, 10 n queues ─► 10 n consumers: the rest
//!                own topic ◄── group return ── and what is sent then is consumed where it lies
//! ```
//!
//! Each consumer handles one message after another, and each queue is one consumer's, so order is
//! that of the queues. A handler is a timer: what is measured is waiting, not this machine.
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use yard_client::wire::operation::{GroupDrain, GroupDrained, GroupInfo, GroupReturn, TopicCreate};
use yard_client::{Client, Message, Start};

use crate::wait::until;
use crate::{Failed, Server};

const TOPIC: &str = "backlog";
const WIDE: &str = "backlog.wide";
const GROUP: &str = "workers";
/// Messages on their way to a consumer: what it handles in a second, and no more, so that it soon
/// has nothing of its old queues.
const CREDIT: u32 = 200;
/// Messages that are sent before anybody waits for their receipts.
const IN_FLIGHT: usize = 20_000;

/// What is to happen.
#[derive(Clone, Copy, Debug)]
pub struct Backlog {
    /// Messages of the backlog.
    pub messages: usize,
    /// Keys that they have, in turns.
    pub keys: usize,
    /// Queues of the own topic, and consumers at first.
    pub queues: u16,
    /// How many times as many there are then.
    pub times: u16,
    /// How long a message is handled.
    pub handler: Duration,
    /// For how long the first consumers are watched.
    pub before: Duration,
    /// Messages that are sent while the backlog is passed on, and again when the group returns.
    pub live: usize,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Found {
    /// Messages that were sent.
    pub sent: usize,
    /// Messages a second that the first consumers handled.
    pub before: f64,
    /// The same of all of them, from the order to drain to the end of what was sent by then.
    pub after: f64,
    /// Messages that were passed on.
    pub moved: u64,
    /// Messages that were not handled.
    pub lost: usize,
    /// Messages that were handled more than once.
    pub repeated: usize,
    /// Messages whose handling began before that of all in front of them, of their key, had ended.
    pub reordered: usize,
    /// Whether the group settled everything and is back, and consumed what came then from its own
    /// topic.
    pub is_back: bool,
}

impl Found {
    /// Whether nothing was lost, doubled or reordered, and the group is back.
    #[must_use]
    pub fn is_good(&self, backlog: &Backlog) -> bool {
        let Self { sent, lost, repeated, reordered, is_back, .. } = *self;
        let is_all = sent == backlog.messages + 2 * backlog.live;
        is_all && (lost, repeated, reordered) == (0, 0, 0) && is_back
    }

    /// How many times as fast it went.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        if self.before > 0.0 { self.after / self.before } else { 0.0 }
    }
}

impl fmt::Display for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, queues, times, handler, .. } = self;
        let wide = queues * times;
        write!(f, "{messages} messages, {handler:?} each, {queues} to {wide} queues and consumers")
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, before, after, moved, lost, repeated, reordered, is_back } = self;
        let (ratio, back) = (self.ratio(), if *is_back { "returned" } else { "not returned" });
        write!(
            f,
            "{before:.0} a second before, {after:.0} after: {ratio:.1} times; of {sent} messages \
             {moved} passed on, {lost} lost, {repeated} repeated, {reordered} reordered; {back}"
        )
    }
}

/// What consumers have handled.
#[derive(Debug)]
struct Handled {
    /// Of each key, how many were handled, in its order.
    done: Vec<usize>,
    total: usize,
    repeated: usize,
    reordered: usize,
    /// Topics that the messages came from since they were last asked for.
    topics: BTreeSet<u32>,
}

impl Handled {
    fn of(keys: usize) -> Self {
        let (done, topics) = (vec![0; keys], BTreeSet::new());
        Self { done, total: 0, repeated: 0, reordered: 0, topics }
    }

    /// A handler begins.
    fn begin(&mut self, key: usize, number: usize, topic: u32) {
        self.topics.insert(topic);
        let next = self.done[key];
        self.repeated += usize::from(number < next);
        self.reordered += usize::from(number > next);
    }

    /// It ends.
    fn end(&mut self, key: usize, number: usize) {
        let is_next = self.done[key] == number;
        self.total += usize::from(is_next);
        self.done[key] = self.done[key].max(number + 1);
    }
}

type Shared = Arc<Mutex<Handled>>;

fn with<T>(handled: &Shared, look: impl FnOnce(&mut Handled) -> T) -> T {
    look(&mut handled.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// Sends messages from a number on, each with its key and its number in the key.
async fn send(client: &Client, keys: usize, from: usize, count: usize) -> Result<(), Failed> {
    let producer = client.producer(TOPIC).build().await?;
    let mut receipts = Vec::with_capacity(IN_FLIGHT);
    for at in from..from + count {
        let (key, number) = (at % keys, at / keys);
        let message = Message::new(format!("{key} {number}").into_bytes()).key(key.to_string());
        receipts.push(producer.enqueue(message).await?);
        if receipts.len() == IN_FLIGHT {
            for receipt in receipts.drain(..) {
                receipt.await?;
            }
        }
    }
    for receipt in receipts {
        receipt.await?;
    }
    producer.close().await?;
    Ok(())
}

/// A consumer that handles one message after another, until it is aborted.
async fn consume(
    client: &Client,
    number: u16,
    handler: Duration,
    handled: Shared,
) -> Result<JoinHandle<()>, Failed> {
    let builder = client.consumer(TOPIC, GROUP).start(Start::Earliest).name(format!("{number:04}"));
    let mut consumer = builder.exclusive().credit(CREDIT, 1 << 20).build().await?;
    Ok(tokio::spawn(async move {
        while let Ok(delivery) = consumer.recv().await {
            let body = delivery.body().expect("nothing is packed");
            let text = std::str::from_utf8(&body).expect("it was sent as text");
            let (key, number) = text.split_once(' ').expect("a key and a number");
            let read = |text: &str| text.parse().expect("it was sent as a number");
            let (key, number, topic) = (read(key), read(number), delivery.record().topic().0);
            with(&handled, |handled| handled.begin(key, number, topic));
            tokio::time::sleep(handler).await;
            with(&handled, |handled| handled.end(key, number));
            delivery.ack_later();
        }
    }))
}

async fn create(client: &Client, name: &str, queues: u16) -> Result<u32, Failed> {
    let create = TopicCreate { name: name.to_owned(), queues, ..TopicCreate::default() };
    Ok(client.admin().call(create).await?.id.0)
}

/// Waits until so many messages were handled; gives up when for a while nothing was.
async fn handled_up_to(handled: &Shared, count: usize) {
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        let total = with(handled, |handled| handled.total);
        if total >= count {
            return;
        }
        if total > seen {
            (seen, since) = (total, Instant::now());
        }
        if since.elapsed() > crate::wait::PATIENCE {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Builds the backlog, passes it on, consumes it and lets the group return.
///
/// # Errors
/// When the broker refuses something, or does not do it in time.
pub async fn run(server: &Server, backlog: &Backlog) -> Result<Found, Failed> {
    let Backlog { messages, keys, queues, times, handler, before, live } = *backlog;
    let client = server.client("backlog").await?;
    let own = create(&client, TOPIC, queues).await?;
    create(&client, WIDE, queues * times).await?;
    send(&client, keys, 0, messages).await?;
    let handled: Shared = Arc::new(Mutex::new(Handled::of(keys)));
    let mut consumers = Vec::new();
    for number in 0..queues {
        consumers.push(consume(&client, number, handler, handled.clone()).await?);
    }
    let mut found = Found { sent: messages + 2 * live, ..Found::default() };
    let began = Instant::now();
    tokio::time::sleep(before).await;
    let first = with(&handled, |handled| handled.total);
    found.before = first as f64 / began.elapsed().as_secs_f64();

    let began = Instant::now();
    let (name, topic) = (GROUP.to_owned(), TOPIC.to_owned());
    let drain = GroupDrain { name: name.clone(), topic: topic.clone(), to: WIDE.to_owned() };
    client.admin().call(drain).await?;
    for number in queues..queues * times {
        consumers.push(consume(&client, number, handler, handled.clone()).await?);
    }
    send(&client, keys, messages, live).await?;
    handled_up_to(&handled, messages + live).await;
    let total = with(&handled, |handled| handled.total);
    found.after = (total - first) as f64 / began.elapsed().as_secs_f64();
    let rows = client.admin().call(GroupDrained {}).await?;
    found.moved = rows.iter().map(|row| row.moved).sum();

    with(&handled, |handled| handled.topics.clear());
    client.admin().call(GroupReturn { name: name.clone(), topic }).await?;
    send(&client, keys, messages + live, live).await?;
    let admin = client.admin();
    until("the group is back", async || {
        let rows = admin.call(GroupDrained {}).await.ok()?;
        rows.is_empty().then_some(())
    })
    .await?;
    handled_up_to(&handled, found.sent).await;
    until("what was handled is settled", async || {
        let report = admin.call(GroupInfo { name: name.clone() }).await.ok()?;
        (report.lag == 0).then_some(())
    })
    .await?;
    consumers.iter().for_each(JoinHandle::abort);
    with(&handled, |handled| {
        found.lost = found.sent - handled.total;
        (found.repeated, found.reordered) = (handled.repeated, handled.reordered);
        found.is_back = handled.topics.contains(&own);
    });
    client.close().await;
    Ok(found)
}
