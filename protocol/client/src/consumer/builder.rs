//! The settings of a consumer.
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use yard_wire::limits::{
    CREDIT_BYTES_MAX, CREDIT_MESSAGES_MAX, EXPRESSION_BYTES_MAX, LEASE_MS_DEFAULT, LEASE_MS_MAX,
    LEASE_MS_MIN, NAME_BYTES_MAX,
};
use yard_wire::requests::{self, Expression, Subscribe, TopicRoute};
use yard_wire::{Code, ShardId};

use super::subscriber::{Subscriber, stopped};
use super::{Consumer, Shared, Start, start};
use crate::client::{Alive, ROUTE_FRESH};
use crate::spans::Source;
use crate::{Client, Error};

/// The pause between two looks at the route when answers say that it is old.
const ROUTE_PAUSE: Duration = Duration::from_secs(1);

/// Settings of a consumer; made by [`Client::consumer`].
#[derive(Clone, Debug)]
pub struct ConsumerBuilder {
    client: Client,
    topic: String,
    group: String,
    start: Start,
    lease_ms: u128,
    messages: u32,
    bytes: u32,
    member: String,
    expression: Option<Expression>,
    broadcast: Option<Broadcast>,
    exclusive: bool,
}

/// Every member gets every message; for [`ConsumerBuilder::broadcast`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broadcast {
    member: String,
    drops_failed: bool,
}

impl Broadcast {
    /// For the member of this name, which no other member has. Under the same name it goes on where
    /// it was, also in another process; where it is keeps being known at the broker, under the name
    /// of the group, a dot, and the name of the member.
    #[must_use]
    pub fn to(member: impl Into<String>) -> Self {
        Self { member: member.into(), drops_failed: false }
    }

    /// What [`Consumer::run`]'s handler fails on does not come again, as with RocketMQ. Unless set,
    /// it comes again for this member only.
    #[must_use]
    pub fn drop_failed(mut self) -> Self {
        self.drops_failed = true;
        self
    }
}

impl ConsumerBuilder {
    pub(crate) fn new(client: Client, topic: String, group: String) -> Self {
        let member = client.inner().name.clone();
        Self {
            client,
            topic,
            group,
            start: Start::Latest,
            lease_ms: LEASE_MS_DEFAULT.into(),
            messages: 4_096,
            bytes: 8 << 20,
            member,
            expression: None,
            broadcast: None,
            exclusive: false,
        }
    }

    /// Where the group begins if it has never consumed the topic: [`Start::Latest`] unless set.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// How long the consumer may hold a message before it is delivered again: 30 s unless set;
    /// 1 s to 12 h.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease_ms = lease.as_millis();
        self
    }

    /// How much the broker may send ahead of what [`Consumer::recv`] has taken, over all shards:
    /// 4,096 messages and 8 MiB unless set; 1 to 65,536 messages and 1 byte to 64 MiB. A message
    /// larger than the bytes left is sent all the same. Each shard of the topic gets its share.
    #[must_use]
    pub fn credit(mut self, messages: u32, bytes: u32) -> Self {
        self.messages = messages;
        self.bytes = bytes;
        self
    }

    /// Name of the consumer for people, at most 127 bytes: the client's unless set.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.member = name.into();
        self
    }

    /// Which messages are wanted, at most 16 KiB, in a dialect that the broker knows, for example
    /// `tag`; all unless set.
    #[must_use]
    pub fn expression(mut self, dialect: impl Into<String>, text: impl Into<String>) -> Self {
        self.expression = Some(Expression { dialect: dialect.into(), text: text.into() });
        self
    }

    /// Every member of the group gets every message, instead of sharing them.
    #[must_use]
    pub fn broadcast(mut self, broadcast: Broadcast) -> Self {
        self.broadcast = Some(broadcast);
        self
    }

    /// Members of the group have queues of their own, instead of sharing the messages of all
    /// queues: each gets as many queues as any other, or one more, and members beyond the queues
    /// get none. The broker shares them out, moves as few as it can when members come and go, and
    /// hands a queue over when nothing of it is in anybody's hands. All members of a group have to
    /// want this.
    #[must_use]
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    fn check(&self) -> Result<(), Error> {
        // Topics of the system are read like others.
        if !yard_wire::name::is_system(&self.topic) {
            yard_wire::name::check(&self.topic)?;
        }
        yard_wire::name::check(&self.group)?;
        let bad = |detail: String| Err(Error::new(Code::BadArgument, detail));
        if !(u128::from(LEASE_MS_MIN)..=u128::from(LEASE_MS_MAX)).contains(&self.lease_ms) {
            let found = self.lease_ms;
            return bad(format!("a lease of {found} ms; {LEASE_MS_MIN} to {LEASE_MS_MAX} may be"));
        }
        if !(1..=CREDIT_MESSAGES_MAX).contains(&self.messages) {
            return bad(format!("credit for {} messages", self.messages));
        }
        if !(1..=CREDIT_BYTES_MAX).contains(&self.bytes) {
            return bad(format!("credit for {} bytes", self.bytes));
        }
        if self.member.len() > NAME_BYTES_MAX {
            return bad(format!("the name of the consumer has more than {NAME_BYTES_MAX} bytes"));
        }
        let expression_bytes = self.expression.as_ref().map_or(0, |e| e.text.len());
        if expression_bytes > EXPRESSION_BYTES_MAX {
            return bad(format!("the expression has more than {EXPRESSION_BYTES_MAX} bytes"));
        }
        Ok(())
    }

    /// Subscribes at every shard that holds a queue of the topic. The group is created if it does
    /// not exist.
    ///
    /// # Errors
    /// [`Code::BadArgument`] and [`Code::BadName`] for settings out of bounds;
    /// [`Code::UnknownTopic`]; [`Code::UnsupportedExpression`]; [`Code::Forbidden`]; or a code of
    /// the client from 801 on.
    pub async fn build(mut self) -> Result<Consumer, Error> {
        if let Some(Broadcast { member, .. }) = &self.broadcast {
            self.group = format!("{}.{member}", self.group);
        }
        self.check()?;
        let inner = self.client.inner().clone();
        let alive = inner.alive()?;
        let route = inner.find_route(&self.topic).await?;
        let start = start::resolve(&inner, &route, self.start).await?;
        let close_timeout = inner.request_timeout;
        let shards: BTreeSet<ShardId> = route.shards.iter().copied().collect();
        let share = shards.len() as u32;
        let request = Subscribe {
            shard: ShardId(0),
            group: self.group,
            topic: self.topic,
            member: self.member,
            start,
            expression: self.expression,
            exclusive: self.exclusive,
            lease_ms: u32::try_from(self.lease_ms).expect("checked against 12 hours"),
            messages: (self.messages / share).max(1),
            bytes: (self.bytes / share).max(1),
        };
        let (topic, group) = (request.topic.clone(), request.group.clone());
        let shared = Arc::new(Shared {
            source: Arc::new(Source { topic, group }),
            stop: watch::Sender::new(false),
            pause: watch::Sender::new(false),
            error: Mutex::new(None),
            propagation: inner.propagation.clone(),
            drops_failed: self.broadcast.is_some_and(|broadcast| broadcast.drops_failed),
        });
        // Every frame has a message that credit was given for.
        let (out, batches) = mpsc::channel(self.messages as usize);
        // From here on dropping the consumer stops what was begun.
        let consumer = Consumer { batches, current: None, shared: shared.clone(), close_timeout };
        let subscriber = Subscriber {
            client: inner,
            shared,
            request,
            out,
            route_is_old: Arc::new(Notify::new()),
        };
        let mut firsts = Vec::new();
        for shard in &shards {
            let (first, made) = oneshot::channel();
            let alive = alive.clone();
            let subscriber = subscriber.at(*shard);
            tokio::spawn(async move {
                subscriber.run(Some(first)).await;
                drop(alive);
            });
            firsts.push(made);
        }
        for made in firsts {
            made.await.unwrap_or_else(|_| Err(Error::closed("client")))?;
        }
        tokio::spawn(keep_route(subscriber, shards, alive));
        Ok(consumer)
    }
}

/// Looks at the route again every 30 seconds, and when an answer says that it is old: a topic
/// that has grown may have queues in more shards.
async fn keep_route(mut subscriber: Subscriber, mut shards: BTreeSet<ShardId>, alive: Alive) {
    let client = subscriber.client.clone();
    let (mut stop, mut closing) = (subscriber.shared.stop.subscribe(), client.closing());
    // Whatever these queues hold came after the group had begun.
    subscriber.request.start = requests::Start::Earliest;
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop, &mut closing) => return,
            () = subscriber.route_is_old.notified() => tokio::time::sleep(ROUTE_PAUSE).await,
            () = tokio::time::sleep(ROUTE_FRESH) => {}
        }
        let topic = &subscriber.request.topic;
        let found: Result<Arc<TopicRoute>, Error> = tokio::select! {
            biased;
            () = stopped(&mut stop, &mut closing) => return,
            found = client.find_route(topic) => found,
        };
        match found {
            Ok(route) => {
                for shard in route.shards.iter().copied().filter(|shard| shards.insert(*shard)) {
                    let alive = alive.clone();
                    let subscriber = subscriber.at(shard);
                    tokio::spawn(async move {
                        subscriber.run(None).await;
                        drop(alive);
                    });
                }
            }
            Err(error) => tracing::debug!(%error, %topic, "no fresh route"),
        }
    }
}
