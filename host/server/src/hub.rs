//! What the parts of the process share: sessions, inboxes, disks, the mirror of the metadata.
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use yard_broker::{Event, MetaChange, Origin, SessionId};
use yard_shard::Input;
use yard_store::{Disk, LogCache};
use yard_transport::SessionHandle;
use yard_transport::tls::Authority;
use yard_wire::operation::{Arguments, ClientRow};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{Call, Called, Node};
use yard_wire::{Code, Refusal, ShardId, TenantId, Timestamp};

use crate::before::Lines;
use crate::bodies::Bodies;
use crate::deliver::Lanes;
use crate::fairness::Fairness;
use crate::fan_out::{self, Asker, FanOut};
use crate::inbox::Inbox;
use crate::policy::Policies;
use crate::runner::{Readers, Runner};
use crate::time::Wall;

/// Bytes that the connections of one tenant may have sent ahead together, while they are many.
const TENANT_WINDOW_BYTES: u32 = 4 << 20;
/// However many they are, each may send so much ahead.
const WINDOW_BYTES_MIN: u32 = 64 << 10;

/// Connections of one tenant: half of what the broker takes.
const TENANT_CONNECTIONS_MAX: u32 = 10_000;
/// Reads of one tenant at a time, of deliveries and fetches together. The threads that read are
/// shared, so none may have all of them.
const TENANT_READS_MAX: usize = 4;
/// Bytes of all logs that are kept in memory for readers, of each at least
/// [`yard_store::cache::CACHE_BYTES_MIN`].
const CACHE_BYTES_MAX: usize = 64 << 20;

/// Requests that the server makes of its own shards carry this session.
pub(crate) const OWN_SESSION: SessionId = SessionId(0);

/// One connection, after its hello.
pub(crate) struct Session {
    /// The way back to the client.
    pub handle: SessionHandle,
    /// Its tenant.
    pub tenant: TenantId,
    /// Name of its tenant.
    pub tenant_name: String,
    /// Whether it may run operators' operations.
    pub operator: bool,
    /// Name that the client gave itself.
    pub client: String,
    /// Name and version of its library.
    pub library: String,
    /// When it said hello.
    pub connected: Timestamp,
    /// Deliveries under way.
    pub lanes: Lanes,
    /// Batches that wait for plugins.
    pub lines: Lines,
    /// The right to read, shared by the tenant's sessions.
    pub reads: Arc<Semaphore>,
}

/// What reading a shard's log needs.
#[derive(Clone)]
pub(crate) struct Log {
    /// Its files.
    pub disk: Arc<dyn Disk>,
    /// What of them is in memory.
    pub cache: Arc<LogCache>,
    /// What was made of its tail for one group and may serve others.
    pub bodies: Arc<Bodies>,
    /// Who reads it, and so holds its files.
    pub readers: Readers,
}

impl Log {
    pub(crate) fn new(disk: Arc<dyn Disk>, cache: LogCache, runner: Runner) -> Self {
        let (bodies, readers) = (Arc::default(), Readers::new(runner));
        Self { disk, cache: Arc::new(cache), bodies, readers }
    }

    /// Waits until nobody reads any more, once nobody asks for it.
    pub(crate) async fn unread(&self) {
        self.readers.ended().await;
    }
}

/// The logs of all shards, which share the memory for them.
fn logs(disks: Vec<Arc<dyn Disk>>, runner: Runner) -> Vec<Log> {
    let bytes_max = CACHE_BYTES_MAX / disks.len().max(1);
    let log = |disk| Log::new(disk, LogCache::new(bytes_max), runner);
    disks.into_iter().map(log).collect()
}

/// Shared by everything in the process.
pub(crate) struct Hub {
    /// The queue before each shard.
    pub inboxes: Vec<Arc<Inbox>>,
    /// The log of each shard, for reading.
    pub logs: Vec<Log>,
    /// Where reading runs.
    pub runtime: Handle,
    /// Lets loopback in without a certificate.
    pub dev: bool,
    /// Data streams that a connection may open.
    pub lanes_max: u16,
    /// Signs tenants' certificates, where this broker may.
    pub authority: Option<Authority>,
    /// When the process started.
    pub started: Timestamp,
    /// The clock on the wall.
    pub wall: Wall,
    /// How fast each tenant may send.
    pub fairness: Arc<Fairness>,
    /// What plugins decide.
    pub policies: Arc<Policies>,
    advertised: OnceLock<Vec<String>>,
    sessions: RwLock<BTreeMap<u64, Arc<Session>>>,
    /// Sessions of each tenant.
    session_counts: Mutex<BTreeMap<TenantId, u32>>,
    /// The right to read of each tenant that was ever connected.
    reads: Mutex<BTreeMap<TenantId, Arc<Semaphore>>>,
    fan_outs: Mutex<HashMap<u64, FanOut>>,
    next_fan_out: AtomicU64,
    tenants: RwLock<BTreeMap<String, TenantId>>,
}

/// The parts of a hub that are known at the start.
pub(crate) struct HubParts {
    /// See [`Hub::inboxes`].
    pub inboxes: Vec<Arc<Inbox>>,
    /// The disk of each shard.
    pub disks: Vec<Arc<dyn Disk>>,
    /// See [`Hub::dev`].
    pub dev: bool,
    /// See [`Hub::lanes_max`].
    pub lanes_max: u16,
    /// See [`Hub::authority`].
    pub authority: Option<Authority>,
    /// See [`Hub::policies`].
    pub policies: Arc<Policies>,
    /// See [`Hub::wall`].
    pub wall: Wall,
}

/// A lock whose holders do not panic; were one to, what it guards is still whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What each of so many connections of one tenant may send ahead: together they fill no more of
/// the broker, and of its time when all begin at once, than a few would.
fn window_bytes(connections: u32) -> u32 {
    let share = TENANT_WINDOW_BYTES / connections.max(1).next_power_of_two();
    share.max(WINDOW_BYTES_MIN)
}

impl Hub {
    /// A hub without sessions that knows the metadata given.
    #[must_use]
    pub(crate) fn new(parts: HubParts, runtime: Handle, metadata: &[MetaChange]) -> Self {
        assert_eq!(parts.inboxes.len(), parts.disks.len(), "each shard has an inbox and a disk");
        let hub = Self {
            inboxes: parts.inboxes,
            logs: logs(parts.disks, parts.wall.runner()),
            runtime,
            advertised: OnceLock::new(),
            dev: parts.dev,
            lanes_max: parts.lanes_max,
            authority: parts.authority,
            started: parts.wall.now(),
            wall: parts.wall,
            fairness: Arc::default(),
            policies: parts.policies,
            sessions: RwLock::default(),
            session_counts: Mutex::default(),
            reads: Mutex::default(),
            fan_outs: Mutex::default(),
            next_fan_out: AtomicU64::new(1),
            tenants: RwLock::default(),
        };
        for change in metadata {
            hub.mirror(change);
        }
        hub
    }

    /// The inbox of a shard, `None` where this broker has no such shard.
    #[must_use]
    pub(crate) fn inbox(&self, shard: ShardId) -> Option<&Arc<Inbox>> {
        self.inboxes.get(usize::from(shard.0))
    }

    /// The session with this number, while it is connected.
    #[must_use]
    pub(crate) fn session(&self, session: u64) -> Option<Arc<Session>> {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        sessions.get(&session).cloned()
    }

    /// The right to read of a tenant.
    pub(crate) fn reads(&self, tenant: TenantId) -> Arc<Semaphore> {
        let new = || Arc::new(Semaphore::new(TENANT_READS_MAX));
        Arc::clone(lock(&self.reads).entry(tenant).or_insert_with(new))
    }

    /// Whether a tenant has as many connections as it may.
    pub(crate) fn is_crowded(&self, tenant: TenantId) -> bool {
        let counts = lock(&self.session_counts);
        counts.get(&tenant).is_some_and(|count| *count >= TENANT_CONNECTIONS_MAX)
    }

    /// Remembers a session.
    pub(crate) fn open_session(&self, session: Session) {
        let number = session.handle.id();
        assert_ne!(number, OWN_SESSION.0, "the server's own number is not given to clients");
        let session = Arc::new(session);
        let tenant = session.tenant;
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(number, Arc::clone(&session));
        let mut counts = lock(&self.session_counts);
        let count = counts.entry(tenant).or_insert(0);
        *count += 1;
        let window = window_bytes(*count);
        if window < window_bytes(*count - 1) {
            // Each doubling halves them, so a tenant's connections are gone through rarely.
            let others = sessions.values().filter(|session| session.tenant == tenant);
            others.for_each(|session| session.handle.limit_window(window));
        } else {
            session.handle.limit_window(window);
        }
    }

    /// Forgets a session and tells every shard.
    pub(crate) fn close_session(&self, session: u64) {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        let known = sessions.remove(&session);
        drop(sessions);
        if let Some(session) = known {
            let mut counts = lock(&self.session_counts);
            let count = counts.get_mut(&session.tenant).expect("an open session was counted");
            *count -= 1;
            if *count == 0 {
                counts.remove(&session.tenant);
            }
            drop(counts);
            session.lanes.close();
            for inbox in &self.inboxes {
                let event = Event::SessionClosed(SessionId(session.handle.id()));
                // After the requests that the session made: they must find it closed.
                inbox.put_after(session.tenant, Input::Event(event));
            }
        }
    }

    /// The id of a tenant.
    #[must_use]
    pub(crate) fn tenant(&self, name: &str) -> Option<TenantId> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    fn mirror(&self, change: &MetaChange) {
        self.policies.learn(change);
        if let MetaChange::TenantPut(tenant) = change {
            let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
            tenants.insert(tenant.name.clone(), tenant.tenant);
        }
    }

    /// A durable change of the metadata: mirrored here and given to every other shard.
    pub(crate) fn broadcast(&self, change: &MetaChange) {
        self.mirror(change);
        for inbox in self.inboxes.iter().skip(1) {
            inbox.put_first(Input::Event(Event::Metadata(change.clone())));
        }
    }

    /// Registers an operation whose answers must be worked on; returns the origin for its shards.
    pub(crate) fn start_fan_out(&self, fan_out: FanOut) -> Origin {
        let number = self.next_fan_out.fetch_add(1, Ordering::Relaxed);
        lock(&self.fan_outs).insert(number, fan_out);
        Origin { session: OWN_SESSION, stream: 0, correlation: yard_wire::Correlation(number) }
    }

    /// An answer for the server itself.
    pub(crate) fn answer_fan_out(self: &Arc<Self>, number: u64, answer: Result<Reply, Refusal>) {
        let mut fan_outs = lock(&self.fan_outs);
        let Some(fan_out) = fan_outs.get_mut(&number) else {
            return;
        };
        let Some(result) = fan_out.answer(answer, self) else {
            return;
        };
        let done = fan_outs.remove(&number).expect("it was there just now");
        drop(fan_outs);
        let is_later = done.changes_plugins() && result.is_ok();
        match done.asker {
            Asker::Client(origin) if is_later => {
                // Whoever has the answer finds what it says: the version that decides is loaded.
                let hub = Arc::clone(self);
                self.runtime.spawn(async move {
                    hub.policies.caught_up().await;
                    hub.reply(origin, result);
                });
            }
            Asker::Client(origin) => self.reply(origin, result),
            // Nobody may wait for it any more.
            Asker::Here(to) => {
                let _ = to.send(result);
            }
        }
    }

    /// Asks every shard something in the name of a tenant; what they say together.
    ///
    /// # Errors
    /// As the operation is refused.
    pub(crate) async fn ask_shards(
        self: &Arc<Self>,
        tenant: TenantId,
        arguments: Arguments,
    ) -> Result<Bytes, Refusal> {
        let (to, from) = oneshot::channel();
        let operation = arguments.operation();
        assert!(fan_out::asks_every_shard(operation), "each shard answers");
        let mut args = Vec::new();
        arguments.put(&mut args);
        let call = Call { operation: operation as u16, args: args.into() };
        let asker = Asker::Here(to);
        let fan_out = FanOut::new(asker, tenant, arguments, self.inboxes.len());
        let origin = self.start_fan_out(fan_out);
        for inbox in &self.inboxes {
            let request = Request::Call(call.clone());
            inbox.put_after(tenant, Input::Event(Event::Request { origin, tenant, request }));
        }
        match from.await {
            Ok(Ok(Reply::Call(Called { result }))) => Ok(result),
            Ok(Ok(_)) => Err(Code::Internal.into()),
            Ok(Err(refusal)) => Err(refusal),
            Err(_) => Err(Code::ShuttingDown.into()),
        }
    }

    /// Answers a client.
    pub(crate) fn reply(&self, origin: Origin, mut result: Result<Reply, Refusal>) {
        if let Ok(Reply::FindRoute(route)) = &mut result {
            route.nodes = vec![self.node()];
        }
        if let Some(session) = self.session(origin.session.0) {
            session.handle.reply(origin.stream, origin.correlation, result);
        }
    }

    fn node(&self) -> Node {
        let shards = (0..self.inboxes.len()).map(|n| ShardId(n as u16)).collect();
        let addresses = self.advertised.get().cloned().unwrap_or_default();
        Node { node: 0, addresses, shards }
    }

    /// Says, once, which addresses clients are told.
    pub(crate) fn advertise(&self, addresses: Vec<String>) {
        let first = self.advertised.set(addresses).is_ok();
        assert!(first, "a broker learns its address once");
    }

    /// The connections, as `yard client ls` shows them; those of one tenant, or all.
    #[must_use]
    pub(crate) fn client_rows(&self, only: Option<TenantId>) -> Vec<ClientRow> {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        let shown = sessions.values().filter(|s| only.is_none_or(|tenant| s.tenant == tenant));
        let row = |session: &Arc<Session>| ClientRow {
            session: session.handle.id(),
            tenant: session.tenant_name.clone(),
            client: session.client.clone(),
            library: session.library.clone(),
            address: session.handle.address().to_string(),
            connected_ms: session.connected,
            round_trip_us: session.handle.round_trip_us(),
        };
        shown.map(row).collect()
    }

    /// How many connections there are.
    #[must_use]
    pub(crate) fn connections(&self) -> usize {
        self.sessions.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The tenant that everybody belongs to where there are no certificates.
    #[must_use]
    pub(crate) fn default_tenant() -> (TenantId, &'static str) {
        (TenantId(0), "default")
    }
}
