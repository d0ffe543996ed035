//! The client: connects, asks, and makes producers and consumers.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{Fetch, Fetched, FindRoute, Route, TopicRoute};
use yard_wire::{Code, QueueIndex, QueueOffset, ShardId, Timestamp, limits};

use crate::backoff::Backoff;
use crate::clock::BrokerClock;
use crate::connection::{AskError, Connection};
use crate::exchange::Exchange;
use crate::link::Streams;
use crate::random::Random;
use crate::topology::Topology;
use crate::trace::Propagation;
use crate::{Admin, ConsumerBuilder, Error, ProducerBuilder, Reader, TransactionsBuilder};

mod builder;

pub use crate::link::PathReport;
pub use builder::ClientBuilder;

/// How long a route is believed.
pub(crate) const ROUTE_FRESH: Duration = Duration::from_secs(30);
/// Routes that a client remembers.
const ROUTES_MAX: usize = 1_024;

/// How long the clock on the wall is not looked at, in milliseconds.
const WALL_MS: u64 = 100;

/// The clock on the wall when it was last looked at: a look for each message would be a good part
/// of what a small one costs its sender.
#[derive(Debug)]
struct Wall {
    /// By the client's clock.
    seen_ms: AtomicU64,
    /// How far it was ahead of the client's clock.
    ahead_ms: AtomicU64,
}

impl Wall {
    /// As seen now, when the client's clock begins.
    fn new(clock: &BrokerClock) -> Self {
        Self { seen_ms: AtomicU64::new(0), ahead_ms: AtomicU64::new(clock.wall().0) }
    }
}

/// When a request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resend {
    /// It changes nothing, or the same thing again.
    Always,
    /// Only when the broker cannot have seen it.
    OnlyIfNotSent,
}

/// A connection to Switchyard. Cheap to clone; all clones are the same client. It reconnects by
/// itself, waiting 50 ms to 2 s between attempts, for as long as it lives.
///
/// A client should be closed with [`Client::close`]: otherwise the broker learns of its end, and
/// delivers to others what its consumers hold, only after 30 seconds of silence.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
    /// Not a part of the inner one: what is in here holds that.
    exchange: Arc<Exchange>,
}

/// A token that keeps [`Client::close`] waiting.
pub(crate) type Alive = mpsc::Sender<()>;

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) topology: Topology,
    pub(crate) random: Random,
    pub(crate) name: String,
    pub(crate) streams: Arc<Streams>,
    pub(crate) request_timeout: Duration,
    pub(crate) delivery_timeout: Duration,
    pub(crate) clock: Arc<BrokerClock>,
    pub(crate) propagation: Propagation,
    endpoints: Vec<quinn::Endpoint>,
    closing: watch::Sender<bool>,
    alive: Mutex<Option<Alive>>,
    all_ended: tokio::sync::Mutex<mpsc::Receiver<()>>,
    routes: Mutex<BTreeMap<String, (Instant, Arc<TopicRoute>)>>,
    started: Instant,
    wall: Wall,
}

/// An answer of another kind than its request.
pub(crate) fn unexpected(reply: &Reply) -> Error {
    let name = reply.kind().name();
    Error::new(Code::BadReply, format!("the broker answered as if to {name}"))
}

impl Client {
    /// Settings of a client to be.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// A producer for a topic; see [`ProducerBuilder`].
    #[must_use]
    pub fn producer(&self, topic: impl Into<String>) -> ProducerBuilder {
        ProducerBuilder::new(self.clone(), topic.into())
    }

    /// A consumer of a topic for a group; see [`ConsumerBuilder`].
    #[must_use]
    pub fn consumer(&self, topic: impl Into<String>, group: impl Into<String>) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone(), topic.into(), group.into())
    }

    /// A reader of queues of a topic by their numbers, without a group; see [`Reader`].
    #[must_use]
    pub fn reader(&self, topic: impl Into<String>) -> Reader {
        Reader::new(self.clone(), topic.into())
    }

    /// Transactions of a producer group; see [`TransactionsBuilder`].
    #[must_use]
    pub fn transactions(&self, group: impl Into<String>) -> TransactionsBuilder {
        TransactionsBuilder::new(self.clone(), group.into())
    }

    /// Operations.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// Asks where a topic is: its id and the shard of each of its queues.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`], [`Code::BadName`], or a code of the client from 801 on.
    pub async fn route(&self, topic: &str) -> Result<TopicRoute, Error> {
        self.inner.find_route(topic).await.map(|route| TopicRoute::clone(&route))
    }

    /// Reads up to `count` committed messages of a queue from an offset on, without a group and
    /// without waiting for more. The reply says where the queue begins and ends, holds at most
    /// 4 MiB unless a single message is larger, and is empty at the end of the queue. `count` is
    /// at least 1 and at most 16,384.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`], [`Code::QueueOutOfRange`], [`Code::OffsetOutOfRange`] for what is
    /// no longer held, or a code of the client from 801 on.
    pub async fn fetch(
        &self,
        topic: &str,
        queue: QueueIndex,
        from: QueueOffset,
        count: u32,
    ) -> Result<Fetched, Error> {
        let request = |shard| {
            Request::Fetch(Fetch {
                shard,
                topic: topic.to_owned(),
                queue,
                from,
                records_max: count.clamp(1, limits::FETCH_RECORDS_MAX),
                bytes_max: limits::FETCH_BYTES_MAX,
            })
        };
        match self.inner.ask_queue(topic, queue, request).await? {
            Reply::Fetch(fetched) => Ok(fetched),
            other => Err(unexpected(&other)),
        }
    }

    /// The ways to the nodes that the client knows, in the order of the nodes.
    #[must_use]
    pub fn paths(&self) -> Vec<PathReport> {
        self.inner.topology.paths()
    }

    /// Closes the client, once for all clones: producers flush, consumers send what was settled
    /// and end their subscriptions, then the connections close. Waits for that at most the
    /// request timeout; what is left then is lost, and reported as [`Code::Closed`] to whoever
    /// waits for it.
    pub async fn close(&self) {
        self.exchange.close(self).await;
        self.inner.closing.send_replace(true);
        drop(self.inner.with_alive(Option::take));
        let mut all_ended = self.inner.all_ended.lock().await;
        // Ends with `None` when every task has dropped its token.
        if tokio::time::timeout(self.inner.request_timeout, all_ended.recv()).await.is_err() {
            tracing::warn!("closed before everything was flushed");
        }
        self.inner.topology.clear();
        let idle = async {
            for endpoint in &self.inner.endpoints {
                endpoint.wait_idle().await;
            }
        };
        // Long enough to say goodbye; a broker that is gone cannot hear it.
        let _ = tokio::time::timeout(Duration::from_millis(500), idle).await;
    }
}

impl Inner {
    /// Milliseconds since the client was made; never runs backwards.
    pub(crate) fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// The instant at which [`Inner::now_ms`] is `at_ms`.
    pub(crate) fn instant(&self, at_ms: u64) -> Instant {
        self.started + Duration::from_millis(at_ms)
    }

    /// The clock on the wall at [`Inner::now_ms`], for the birth of messages. A change of that
    /// clock is seen after [`WALL_MS`].
    pub(crate) fn wall_clock(&self, now_ms: u64) -> Timestamp {
        let Wall { seen_ms, ahead_ms } = &self.wall;
        if now_ms >= seen_ms.load(Ordering::Relaxed).saturating_add(WALL_MS) {
            ahead_ms.store(self.clock.wall().0.wrapping_sub(now_ms), Ordering::Relaxed);
            seen_ms.store(now_ms, Ordering::Relaxed);
        }
        Timestamp(ahead_ms.load(Ordering::Relaxed).wrapping_add(now_ms))
    }

    fn with_alive<T>(&self, change: impl FnOnce(&mut Option<Alive>) -> T) -> T {
        change(&mut self.alive.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A token for a task that must end before the client is closed.
    pub(crate) fn alive(&self) -> Result<Alive, Error> {
        self.with_alive(|alive| alive.clone()).ok_or_else(|| Error::closed("client"))
    }

    /// Becomes true when the client is closed.
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.subscribe()
    }

    /// Sends a request to the node that leads `shard` until there is an answer that repeating
    /// cannot better, or the request timeout has passed.
    pub(crate) async fn ask(
        &self,
        shard: ShardId,
        lane: Option<u16>,
        request: Request,
        resend: Resend,
    ) -> Result<Reply, Error> {
        let deadline = Instant::now() + self.request_timeout;
        let mut backoff = Backoff::new(self.random.next_u64());
        loop {
            let (error, may_resend) = match self.ask_once(shard, lane, &request, deadline).await {
                Ok(reply) => return Ok(reply),
                Err(AskError::NotSent(mut error)) => {
                    error.detail.push_str("; the request was not sent");
                    (error, true)
                }
                Err(AskError::TooLarge(mut error)) => {
                    error.detail.push_str("; the request was not sent");
                    (error, false)
                }
                Err(AskError::Sent(error)) => {
                    let may_help = error.is_retryable() && error.code != Code::WrongShard;
                    // Nothing is done before the plugin has been asked.
                    let is_undone = error.code == Code::PluginCompiling;
                    (error, may_help && (is_undone || resend == Resend::Always))
                }
            };
            let wait = error.retry_after.unwrap_or_else(|| backoff.next());
            if !may_resend || error.code == Code::Closed || Instant::now() + wait >= deadline {
                return Err(error);
            }
            tracing::debug!(%error, request = request.kind().name(), "asking again");
            tokio::time::sleep(wait).await;
        }
    }

    async fn ask_once(
        &self,
        shard: ShardId,
        lane: Option<u16>,
        request: &Request,
        deadline: Instant,
    ) -> Result<Reply, AskError> {
        let link = self.topology.link(shard).map_err(AskError::NotSent)?;
        let connection = link.up(deadline).await.map_err(AskError::NotSent)?;
        let left = deadline.saturating_duration_since(Instant::now());
        connection.ask(lane, request, left).await
    }

    /// Takes in a fresh route, and gives the answer for its first topic.
    fn learn(&self, route: Route, first: Option<Arc<Connection>>) -> Option<Arc<TopicRoute>> {
        self.topology.update(&route.nodes, first, self.random.next_u64());
        let topic = Arc::new(route.topics.into_iter().next().flatten()?);
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if routes.len() >= ROUTES_MAX {
            routes.clear();
        }
        routes.insert(topic.name.clone(), (Instant::now(), topic.clone()));
        Some(topic)
    }

    pub(crate) async fn find_route(&self, topic: &str) -> Result<Arc<TopicRoute>, Error> {
        // Topics of the system are read like others.
        if !yard_wire::name::is_system(topic) {
            yard_wire::name::check(topic)?;
        }
        let route = self.ask_route(vec![topic.to_owned()]).await?;
        let found = self.learn(route, None).ok_or_else(|| {
            Error::new(Code::UnknownTopic, format!("no topic is called {topic:?}"))
        })?;
        if found.shards.is_empty() {
            return Err(Error::new(Code::BadReply, format!("topic {topic:?} has no queue")));
        }
        Ok(found)
    }

    async fn cached_route(&self, topic: &str) -> Result<Arc<TopicRoute>, Error> {
        let cached = {
            let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
            routes.get(topic).filter(|(at, _)| at.elapsed() < ROUTE_FRESH).map(|(_, r)| r.clone())
        };
        match cached {
            Some(route) => Ok(route),
            None => self.find_route(topic).await,
        }
    }

    /// Asks the shard that holds a queue; a second time, by a fresh route, where the answer says
    /// that the route is old.
    pub(crate) async fn ask_queue(
        &self,
        topic: &str,
        queue: QueueIndex,
        request: impl Fn(ShardId) -> Request,
    ) -> Result<Reply, Error> {
        let mut is_second = false;
        loop {
            let route = self.cached_route(topic).await?;
            let result = match route.shards.get(usize::from(queue.0)) {
                Some(shard) => {
                    self.ask(*shard, Some(queue.0), request(*shard), Resend::Always).await
                }
                None => {
                    let queues = route.shards.len();
                    let detail = format!("queue {queue} of a topic that has {queues}");
                    Err(Error::new(Code::QueueOutOfRange, detail))
                }
            };
            let is_stale = result.as_ref().is_err_and(|error| {
                matches!(error.code, Code::QueueOutOfRange | Code::WrongShard | Code::UnknownTopic)
            });
            if !is_stale || is_second {
                return result;
            }
            self.forget_route(topic);
            is_second = true;
        }
    }

    /// Every shard of the installation, as the broker says now.
    pub(crate) async fn all_shards(&self) -> Result<Vec<ShardId>, Error> {
        let route = self.ask_route(Vec::new()).await?;
        let shards = route.nodes.iter().flat_map(|node| node.shards.iter().copied()).collect();
        self.learn(route, None);
        Ok(shards)
    }

    async fn ask_route(&self, topics: Vec<String>) -> Result<Route, Error> {
        let request = Request::FindRoute(FindRoute { topics });
        match self.ask(ShardId(0), None, request, Resend::Always).await? {
            Reply::FindRoute(route) => Ok(route),
            other => Err(unexpected(&other)),
        }
    }

    fn forget_route(&self, topic: &str) {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
    }
}
