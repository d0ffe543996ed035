//! Sending.
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use yard_wire::requests::{AckNodes, AckPlace, TopicRoute};
use yard_wire::{Code, Lane, MessageId, QueueIndex, QueueOffset, ShardId, Timestamp, TopicId};

use crate::client::{Inner, ROUTE_FRESH};
use crate::compress::Compression;
use crate::health::Health;
use crate::lane::LaneOptions;
use crate::random::{OwnRandom, Random};
use crate::{Error, Message, spans};

mod builder;
mod lane_sender;
mod lane_task;
mod numbering;
mod receipt;
#[cfg(test)]
mod several;
mod spread;

pub use builder::ProducerBuilder;
use lane_sender::{Ending, LaneSender};
use numbering::Numbering;
pub use receipt::Receipt;

/// The pause between two looks at the route when answers say that it is old.
const ROUTE_PAUSE: Duration = Duration::from_millis(100);

/// Where a message is, and what is known about it. Where a message with its dedupe key was stored
/// before, id, queue and offset are those of that one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendResult {
    /// Id of the message.
    pub id: MessageId,
    /// Name of its topic.
    pub topic: Arc<str>,
    /// Its queue.
    pub queue: QueueIndex,
    /// Its place in the queue; `None` of a delayed message, which gets one when it is due, and of
    /// one in a transaction.
    pub offset: Option<QueueOffset>,
    /// Where its bytes are on the broker that answered.
    pub place: AckPlace,
    /// On how many nodes they are.
    pub nodes: AckNodes,
    /// An earlier attempt had stored it, or another message with its dedupe key was; it is stored
    /// once.
    pub duplicate: bool,
}

/// Sends messages to one topic, each stored at most once however often it is sent again. Cheap
/// to clone; all clones are the same producer. Messages that go to the same queue are stored in
/// the order of the calls.
///
/// Dropping it does not stop what was enqueued, as long as the tokio runtime lives.
#[derive(Clone, Debug)]
pub struct Producer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Arc<Inner>,
    topic: Arc<str>,
    options: LaneOptions,
    compression: Option<Compression>,
    selector: Option<Selector>,
    numbering: Numbering,
    /// Bytes of records that may wait for an answer.
    budget: Arc<Semaphore>,
    budget_bytes: usize,
    routing: Mutex<Routing>,
    route_is_old: Arc<Notify>,
    /// Of the shards: which are well.
    health: Arc<Mutex<Health>>,
    runtime: tokio::runtime::Handle,
}

/// Chooses the queue of a message that names none: which message, and how many queues there are.
#[derive(Clone)]
struct Selector(Arc<Select>);

type Select = dyn Fn(&Message, u16) -> u16 + Send + Sync;

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Selector")
    }
}

#[derive(Debug)]
struct Routing {
    is_closed: bool,
    route: Arc<TopicRoute>,
    /// Decides where nothing else does.
    turn: u64,
    /// For ids.
    random: OwnRandom,
    lanes: BTreeMap<(ShardId, Lane), Arc<LaneSender>>,
    /// The lane of each queue of the route, as soon as it was needed.
    by_queue: Vec<Option<Arc<LaneSender>>>,
    /// The queues lie in more than one shard, so there is something to choose.
    has_ways: bool,
    spread: spread::State,
}

impl Routing {
    fn new(route: Arc<TopicRoute>, random: &Random, streams: u16) -> Self {
        let by_queue = vec![None; route.shards.len()];
        let (turn, random) = (random.next_u64() >> 1, random.split());
        let (lanes, spread) = (BTreeMap::new(), spread::State::new(streams));
        let has_ways = has_ways(&route);
        Self { is_closed: false, route, turn, random, lanes, by_queue, has_ways, spread }
    }

    fn follow(&mut self, route: Arc<TopicRoute>) {
        self.by_queue = vec![None; route.shards.len()];
        self.has_ways = has_ways(&route);
        self.route = route;
    }
}

fn has_ways(route: &TopicRoute) -> bool {
    route.shards.windows(2).any(|two| two[0] != two[1])
}

/// A message for which there is no room yet.
struct Waiting {
    message: Message,
    shared: Arc<Shared>,
    /// What it costs of the budget.
    cost: u32,
    topic: TopicId,
    queue: QueueIndex,
    id: MessageId,
    born: Timestamp,
}

impl Waiting {
    async fn enqueue(self: Box<Self>) -> Result<Receipt, Error> {
        let Self { message, shared, cost, topic, queue, id, born } = *self;
        let permit = shared.budget.acquire_many(cost).await;
        let permit = permit.map_err(|_| Error::new(Code::Closed, "the producer was closed"))?;
        // Only now: while it waited, its queue may have changed its lane.
        let lane = shared.with_routing(|routing| shared.lane(routing, queue))?;
        permit.forget();
        let head = message.head((topic, queue), id, born);
        let sized = head.check(message.properties()).expect("it was checked before");
        lane.push(&head.seal(&sized), shared.client.now_ms())
    }
}

impl Producer {
    /// Sends a message and waits until it is where [`ProducerBuilder::ack`] says.
    ///
    /// # Errors
    /// As [`Producer::enqueue`] and [`Receipt`].
    pub async fn send(&self, message: Message) -> Result<SendResult, Error> {
        self.enqueue(message).await?.await
    }

    /// Sends a message one way: the call neither waits for room nor for an answer, and what becomes
    /// of the message is not told. It is numbered and sent again like any other, within
    /// [`ProducerBuilder::delivery_timeout`], so it is stored once at most, and in its order.
    /// Returns its id.
    ///
    /// # Errors
    /// As [`Producer::enqueue`]; [`Code::BufferFull`] when [`ProducerBuilder::buffer_bytes`] wait
    /// for answers: the message was not taken.
    pub fn send_one_way(&self, message: Message) -> Result<MessageId, Error> {
        let span = spans::send(self.topic());
        let taken = match span.in_scope(|| self.shared.enqueue(message)) {
            Ok(receipt) => receipt.map(|receipt| receipt.id()),
            Err(_no_room) => {
                let detail = format!("{} bytes wait for answers", self.shared.budget_bytes);
                Err(Error::new(Code::BufferFull, detail))
            }
        };
        spans::taken(&span, &taken);
        taken
    }

    /// Puts a message into its lane and gives a [`Receipt`], to be awaited at leisure:
    ///
    /// - The call itself puts the message into its lane when there is room, so order is the order
    ///   of the calls, whether or not the future is awaited.
    /// - When [`ProducerBuilder::buffer_bytes`] are waiting for answers, the future waits for
    ///   room first; then order is that in which the futures are polled.
    ///
    /// # Errors
    /// [`Code::BodyTooLarge`], [`Code::PropertiesTooLarge`], [`Code::ReservedProperty`] for a
    /// property that begins with `$`, [`Code::BadTag`], [`Code::BadArgument`] for a priority that
    /// cannot be, [`Code::QueueOutOfRange`], [`Code::Closed`].
    ///
    /// The receipt's: what the broker refuses with for good, for example
    /// [`Code::AckUnavailable`] or [`Code::Forbidden`]; when the delivery timeout has passed, what
    /// it refused each attempt with, for example [`Code::BacklogFull`]: nothing was stored; else
    /// [`Code::TimedOut`]: the detail says whether the message may be stored.
    pub fn enqueue(
        &self,
        message: Message,
    ) -> impl Future<Output = Result<Receipt, Error>> + Send + use<> {
        let span = spans::send(self.topic());
        let first = span.in_scope(|| self.shared.enqueue(message));
        async move {
            let receipt = match first {
                Ok(receipt) => receipt,
                Err(waiting) => waiting.enqueue().await,
            };
            match receipt {
                Ok(receipt) => Ok(receipt.within(span)),
                Err(error) => {
                    spans::failed(&span, &error);
                    Err(error)
                }
            }
        }
    }

    /// Waits until everything enqueued before has its result, good or bad; what lingers is sent
    /// at once.
    ///
    /// # Errors
    /// [`Code::Closed`] when the client was closed meanwhile.
    pub async fn flush(&self) -> Result<(), Error> {
        let lanes = self.shared.lanes();
        let flushed: Vec<_> = lanes.iter().map(LaneSender::flush).collect::<Result<_, _>>()?;
        for lane in flushed {
            lane.await.map_err(|_| Error::closed("client"))?;
        }
        Ok(())
    }

    /// Flushes, then refuses everything with [`Code::Closed`].
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub async fn close(&self) -> Result<(), Error> {
        self.shared.with_routing(|routing| routing.is_closed = true);
        let flushed = self.flush().await;
        self.shared.lanes().iter().for_each(LaneSender::close);
        flushed
    }

    /// Name of the topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.shared.topic
    }

    /// How many queues the topic has, as far as is known.
    #[must_use]
    pub fn queues(&self) -> u16 {
        self.shared.with_routing(|routing| routing.route.shards.len() as u16)
    }

    /// How many messages had been stored in a queue under [`ProducerBuilder::identity`] when this
    /// producer was built, those that were duplicates by their dedupe keys and those that were
    /// delayed counted as well. 0 without an identity, where the broker remembers nothing of it,
    /// and for a queue that there is not.
    ///
    /// Queues of one shard whose numbers differ by a multiple of 32 are numbered together: of a
    /// topic with more than 32 queues this is the count of all of those.
    #[must_use]
    pub fn sent_before(&self, queue: QueueIndex) -> u64 {
        self.shared.with_routing(|routing| {
            let lane = routing.spread.lane(queue);
            let shard = routing.route.shards.get(usize::from(queue.0));
            shard.map_or(0, |shard| self.shared.numbering.begins_at(*shard, lane).0)
        })
    }
}

impl Shared {
    fn with_routing<T>(&self, change: impl FnOnce(&mut Routing) -> T) -> T {
        // Nothing in here panics half-way, so a poisoned route is a whole one.
        change(&mut self.routing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn lanes(&self) -> Vec<Arc<LaneSender>> {
        self.with_routing(|routing| routing.lanes.values().cloned().collect())
    }

    /// Puts a message into its lane if there is room.
    fn enqueue(
        self: &Arc<Self>,
        mut message: Message,
    ) -> Result<Result<Receipt, Error>, Box<Waiting>> {
        let now_ms = self.client.now_ms();
        let born = self.client.wall_clock(now_ms);
        message.fix_due(born);
        if let Err(error) = self.prepare(&mut message, born) {
            return Ok(Err(error));
        }
        let (topic, queue, id, cost) = {
            let placed = self.with_routing(|routing| {
                spread::follow(self, routing, now_ms);
                routing.turn += 1;
                let queues = (routing.route.shards.len() as u16, routing.route.created_queues);
                let pick = |range| self.pick(routing, range, now_ms);
                let queue = message.choose_queue(queues, pick).inspect_err(|_| {
                    // The topic may have grown.
                    self.route_is_old.notify_one();
                })?;
                let id = MessageId::new(born, routing.random.next_u128());
                let head = message.head((routing.route.topic, queue), id, born);
                let sized = head.check(message.properties())?;
                // A message larger than the whole budget waits until it is alone.
                let cost =
                    u32::try_from(sized.bytes().min(self.budget_bytes)).expect("at most 1 GiB");
                // Room first, then the lane: queues change their lanes when all the room is free.
                let permit = self.budget.try_acquire_many(cost);
                let lane = self.lane(routing, queue)?;
                Ok((permit.map(|permit| (lane, permit)), head, sized, cost))
            });
            match placed {
                Err(error) => return Ok(Err(error)),
                Ok((Ok((lane, permit)), head, sized, _)) => {
                    permit.forget();
                    return Ok(lane.push(&head.seal(&sized), now_ms));
                }
                Ok((Err(_none), head, _sized, cost)) => (head.topic, head.queue, head.id, cost),
            }
        };
        let shared = self.clone();
        Err(Box::new(Waiting { message, shared, cost, topic, queue, id, born }))
    }

    /// What there is to do with a message before its queue is known.
    fn prepare(&self, message: &mut Message, born: Timestamp) -> Result<(), Error> {
        if let Some(Selector(select)) = &self.selector
            && !message.names_queue()
        {
            let queues = self.with_routing(|routing| routing.route.shards.len() as u16);
            let queue = select(message, queues);
            *message = std::mem::take(message).queue(queue);
        }
        if !message.has_trace() {
            *message = self.client.propagation.attach(std::mem::take(message));
        }
        message.prepare(self.client.clock.at(born), self.compression.as_ref())
    }

    /// One of these queues for a message that may go to any: in turns, but not to shards that are
    /// slow or fail while others are well.
    fn pick(&self, routing: &Routing, range: Range<u16>, now_ms: u64) -> u16 {
        assert!(!range.is_empty(), "there is a queue to choose");
        let turn = routing.turn;
        let count = u64::from(range.end - range.start);
        if !routing.has_ways {
            return range.start + (turn % count) as u16;
        }
        let ways = &routing.route.shards[usize::from(range.start)..usize::from(range.end)];
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        range.start + health.choose(ways, turn, now_ms) as u16
    }

    fn lane(&self, routing: &mut Routing, queue: QueueIndex) -> Result<Arc<LaneSender>, Error> {
        if routing.is_closed {
            return Err(Error::closed("producer"));
        }
        let at = usize::from(queue.0);
        let Some(known) = routing.by_queue.get(at) else {
            return Err(Error::new(
                Code::QueueOutOfRange,
                format!("there is no queue {queue} now"),
            ));
        };
        if let Some(lane) = known {
            return Ok(lane.clone());
        }
        let shard = routing.route.shards[at];
        let lane = routing.spread.lane(queue);
        let found = match routing.lanes.get(&(shard, lane)) {
            Some(found) => found.clone(),
            None => {
                let made = self.open(shard, lane)?;
                routing.lanes.insert((shard, lane), made.clone());
                made
            }
        };
        routing.by_queue[at] = Some(found.clone());
        Ok(found)
    }

    fn open(&self, shard: ShardId, lane: Lane) -> Result<Arc<LaneSender>, Error> {
        let alive = self.client.alive()?;
        let made = Arc::new(LaneSender::new(
            self.client.clone(),
            self.topic.clone(),
            self.numbering.first(shard, lane),
            self.options,
            (self.budget.clone(), self.budget_bytes),
            (self.route_is_old.clone(), self.health.clone()),
        ));
        self.runtime.spawn(lane_task::run(Ending { lane: made.clone(), _alive: alive }));
        Ok(made)
    }

    /// Looks at the route again every 30 seconds, and when an answer says that it is old.
    async fn keep_route(
        shared: Weak<Self>,
        is_old: Arc<Notify>,
        mut closing: tokio::sync::watch::Receiver<bool>,
    ) {
        loop {
            tokio::select! {
                biased;
                _ = closing.changed() => return,
                () = is_old.notified() => tokio::time::sleep(ROUTE_PAUSE).await,
                () = tokio::time::sleep(ROUTE_FRESH) => {}
            }
            let Some(shared) = shared.upgrade() else {
                return;
            };
            match shared.client.find_route(&shared.topic).await {
                Ok(route) => {
                    shared.with_routing(|routing| routing.follow(route));
                }
                Err(error) => tracing::debug!(%error, topic = %shared.topic, "no fresh route"),
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // What was enqueued is sent all the same.
        self.lanes().iter().for_each(LaneSender::close);
    }
}
