//! Sending.
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use yard_wire::batch::BatchHeader;
use yard_wire::requests::{AckNodes, AckPlace, TopicRoute};
use yard_wire::{
    Code, Epoch, Lane, MessageId, ProducerId, QueueIndex, QueueOffset, Sequence, ShardId, TopicId,
};

use crate::client::{Inner, ROUTE_FRESH};
use crate::lane::{LaneCore, LaneOptions};
use crate::{Error, Message};

mod builder;
mod lane_task;
mod spread;

pub use builder::ProducerBuilder;
use lane_task::{Command, LaneTask};

/// Flushes that wait in the queue of a lane.
const FLUSHES_MAX: usize = 1_024;
/// The pause between two looks at the route when answers say that it is old.
const ROUTE_PAUSE: Duration = Duration::from_millis(100);

/// Where a message is, and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendResult {
    /// Id of the message.
    pub id: MessageId,
    /// Name of its topic.
    pub topic: Arc<str>,
    /// Its queue.
    pub queue: QueueIndex,
    /// Its place in the queue.
    pub offset: QueueOffset,
    /// Where its bytes are on the broker that answered.
    pub place: AckPlace,
    /// On how many nodes they are.
    pub nodes: AckNodes,
    /// An earlier attempt had stored it; it is stored once.
    pub duplicate: bool,
}

/// What becomes of an enqueued message: a future of its [`SendResult`]. Dropping it does not
/// stop the message.
#[derive(Debug)]
pub struct Receipt {
    id: MessageId,
    result: oneshot::Receiver<Result<SendResult, Error>>,
}

impl Receipt {
    /// Id of the message, known before it is sent.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.id
    }
}

impl Future for Receipt {
    type Output = Result<SendResult, Error>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let received = ready!(Pin::new(&mut self.result).poll(context));
        Poll::Ready(received.unwrap_or_else(|_| Err(Error::closed("producer"))))
    }
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
struct Lanes {
    is_closed: bool,
    open: BTreeMap<(ShardId, Lane), mpsc::Sender<Command>>,
    /// Streams over which queues are spread: queue `n` is in lane `n` modulo this.
    streams: u16,
    /// What came while queues change their lanes, in order; each has room in the budget.
    parked: Option<Vec<(ShardId, lane_task::Record)>>,
    /// How often that began.
    moves: u64,
    /// Queues stay where they are until then.
    stay_until_ms: u64,
}

impl Lanes {
    fn new(streams: u16) -> Self {
        Self {
            is_closed: false,
            open: BTreeMap::new(),
            streams,
            parked: None,
            moves: 0,
            stay_until_ms: 0,
        }
    }
}

#[derive(Debug)]
struct Shared {
    client: Arc<Inner>,
    topic: Arc<str>,
    route: Mutex<Arc<TopicRoute>>,
    options: LaneOptions,
    producer: ProducerId,
    /// Bytes of records that may wait for an answer.
    budget: Arc<Semaphore>,
    budget_bytes: u32,
    turn: AtomicU64,
    lanes: Mutex<Lanes>,
    route_is_old: Arc<Notify>,
    runtime: tokio::runtime::Handle,
}

/// A message as it will be stored, not yet in its lane.
struct Prepared {
    id: MessageId,
    shard: ShardId,
    topic: TopicId,
    queue: QueueIndex,
    bytes: Bytes,
}

impl Producer {
    /// Sends a message and waits until it is where [`ProducerBuilder::ack`] says.
    ///
    /// # Errors
    /// As [`Producer::enqueue`] and [`Receipt`].
    pub async fn send(&self, message: Message) -> Result<SendResult, Error> {
        self.enqueue(message).await?.await
    }

    /// Puts a message into its lane and gives a [`Receipt`], to be awaited at leisure:
    ///
    /// - The call itself puts the message into its lane when there is room, so order is the order
    ///   of the calls, whether or not the future is awaited.
    /// - When [`ProducerBuilder::buffer_bytes`] are waiting for answers, the future waits for
    ///   room first; then order is that in which the futures are polled.
    ///
    /// # Errors
    /// [`Code::BodyTooLarge`], [`Code::PropertiesTooLarge`], [`Code::BadArgument`] for a property
    /// that begins with `$`, [`Code::QueueOutOfRange`], [`Code::Closed`].
    ///
    /// The receipt's: what the broker refuses with for good, for example
    /// [`Code::AckUnavailable`] or [`Code::Forbidden`]; [`Code::TimedOut`] when the delivery
    /// timeout has passed: the detail says whether the message may be stored.
    pub fn enqueue(
        &self,
        message: Message,
    ) -> impl Future<Output = Result<Receipt, Error>> + Send + use<> {
        let shared = self.shared.clone();
        let prepared = shared.prepare(&message);
        let first = prepared.map(|prepared| {
            let cost = shared.cost(&prepared);
            match shared.budget.clone().try_acquire_many_owned(cost) {
                Ok(permit) => Ok(shared.push(prepared, permit)),
                Err(_) => Err((prepared, cost)),
            }
        });
        async move {
            match first? {
                Ok(pushed) => pushed,
                Err((prepared, cost)) => {
                    let permit = shared.budget.clone().acquire_many_owned(cost).await;
                    shared.push(prepared, permit.map_err(|_| Error::closed("producer"))?)
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
        loop {
            self.shared.client.settled().await;
            let (lanes, moves): (Vec<_>, u64) = self
                .shared
                .with_lanes(|lanes| (lanes.open.values().cloned().collect(), lanes.moves));
            let mut flushed = Vec::with_capacity(lanes.len());
            for lane in lanes {
                let (sender, receiver) = oneshot::channel();
                let sent = lane.send(Command::Flush(sender)).await;
                sent.map_err(|_| Error::closed("client"))?;
                flushed.push(receiver);
            }
            for receiver in flushed {
                receiver.await.map_err(|_| Error::closed("client"))?;
            }
            // What was on its way to another lane meanwhile was in none of these.
            if self.shared.with_lanes(|lanes| lanes.moves == moves) {
                return Ok(());
            }
        }
    }

    /// Flushes, then refuses everything with [`Code::Closed`].
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub async fn close(&self) -> Result<(), Error> {
        self.shared.with_lanes(|lanes| lanes.is_closed = true);
        let flushed = self.flush().await;
        self.shared.with_lanes(|lanes| lanes.open.clear());
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
        self.shared.route().shards.len() as u16
    }
}

impl Shared {
    fn with_lanes<T>(&self, change: impl FnOnce(&mut Lanes) -> T) -> T {
        // Nothing in here panics half-way, so poisoned lanes are whole ones.
        change(&mut self.lanes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn route(&self) -> Arc<TopicRoute> {
        self.route.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn cost(&self, prepared: &Prepared) -> u32 {
        // A message larger than the whole budget waits until it is alone.
        u32::try_from(prepared.bytes.len()).unwrap_or(u32::MAX).min(self.budget_bytes)
    }

    fn prepare(&self, message: &Message) -> Result<Prepared, Error> {
        let route = self.route();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let queue = message.choose_queue(route.shards.len(), turn).inspect_err(|_| {
            // The topic may have grown.
            self.route_is_old.notify_one();
        })?;
        let born = Inner::wall_clock();
        let id = MessageId::new(born, self.client.random.next_u128());
        let bytes = message.encode(route.topic, queue, id, born)?.into();
        let shard = route.shards[usize::from(queue.0)];
        Ok(Prepared { id, shard, topic: route.topic, queue, bytes })
    }

    fn push(
        self: &Arc<Self>,
        prepared: Prepared,
        permit: OwnedSemaphorePermit,
    ) -> Result<Receipt, Error> {
        let Prepared { id, shard, topic, queue, bytes } = prepared;
        let (sender, result) = oneshot::channel();
        let since_ms = None;
        let record =
            lane_task::Record { id, topic, queue, bytes, result: sender, permit, since_ms };
        // All of it under the lock: what is pushed before queues change their lanes is in its lane
        // before that begins.
        self.with_lanes(|lanes| {
            if lanes.is_closed {
                return Err(Error::closed("producer"));
            }
            if self.client.streams.wanted() > lanes.streams {
                spread::begin(self, lanes);
            }
            match &mut lanes.parked {
                None => self.enter(lanes, shard, record),
                Some(parked) => {
                    let since_ms = Some(self.client.now_ms());
                    parked.push((shard, lane_task::Record { since_ms, ..record }));
                    Ok(())
                }
            }
        })?;
        Ok(Receipt { id, result })
    }

    /// Puts a record into the lane of its queue.
    fn enter(
        &self,
        lanes: &mut Lanes,
        shard: ShardId,
        record: lane_task::Record,
    ) -> Result<(), Error> {
        let lane = self.lane(lanes, shard, Lane(record.queue.0 % lanes.streams))?;
        lane.try_send(Command::Record(record)).map_err(|error| match error {
            mpsc::error::TrySendError::Closed(_) => Error::closed("client"),
            // The budget in bytes is used up first, unless there is a crowd of flushes.
            mpsc::error::TrySendError::Full(_) => {
                Error::new(Code::Busy, "the queue of the lane is full")
            }
        })
    }

    fn lane<'a>(
        &self,
        lanes: &'a mut Lanes,
        shard: ShardId,
        lane: Lane,
    ) -> Result<&'a mpsc::Sender<Command>, Error> {
        match lanes.open.entry((shard, lane)) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(place) => Ok(place.insert(self.open(shard, lane)?)),
        }
    }

    fn open(&self, shard: ShardId, lane: Lane) -> Result<mpsc::Sender<Command>, Error> {
        let alive = self.client.alive()?;
        let records_max = self.budget_bytes as usize / yard_wire::record::HEADER_BYTES;
        let (sender, commands) = mpsc::channel(records_max + FLUSHES_MAX);
        let first = BatchHeader {
            producer: self.producer,
            epoch: Epoch(0),
            lane,
            shard,
            sequence: Sequence(0),
        };
        let core = LaneCore::new(first, self.options, self.client.random.next_u64());
        let task = LaneTask::new(
            self.client.clone(),
            (self.topic.clone(), shard, lane),
            core,
            commands,
            self.route_is_old.clone(),
        );
        self.runtime.spawn(async move {
            task.run().await;
            drop(alive);
        });
        Ok(sender)
    }

    /// Looks at the route again every 30 seconds, and when an answer says that it is old.
    async fn keep_route(
        shared: Weak<Self>,
        is_old: Arc<Notify>,
        mut closing: tokio::sync::watch::Receiver<bool>,
    ) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(ROUTE_FRESH) => {}
                () = is_old.notified() => tokio::time::sleep(ROUTE_PAUSE).await,
                _ = closing.changed() => return,
            }
            let Some(shared) = shared.upgrade() else {
                return;
            };
            match shared.client.find_route(&shared.topic).await {
                Ok(route) => {
                    *shared.route.lock().unwrap_or_else(PoisonError::into_inner) = route;
                }
                Err(error) => tracing::debug!(%error, topic = %shared.topic, "no fresh route"),
            }
        }
    }
}
