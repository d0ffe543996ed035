//! The way to one node: a connection that is made again whenever it is lost.
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use yard_quic::Spread;
use yard_wire::Code;
use yard_wire::limits::LANES_MAX;
use yard_wire::request::Request;
use yard_wire::requests::{FindRoute, Hello};

use crate::Error;
use crate::backoff::Backoff;
use crate::clock::BrokerClock;
use crate::connection::Connection;

/// The first attempt to connect to an address takes this long at most; each later one twice as
/// long as the one before, up to [`ATTEMPT_MAX`].
const ATTEMPT_MIN: Duration = Duration::from_secs(2);
const ATTEMPT_MAX: Duration = Duration::from_secs(10);
/// How often a connection is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How long a node may leave what was sent to it without any datagram before it is asked, over a
/// second connection, whether it is alive.
const SILENCE: Duration = Duration::from_secs(2);
/// How long the old connection has to answer once the second one is there.
const LAST_WORD: Duration = Duration::from_secs(1);

/// How often the path is looked at for the number of streams that suits it.
const SPREAD_EVERY: Duration = Duration::from_millis(100);

/// Over how many streams a client spreads its work.
#[derive(Debug)]
pub(crate) struct Streams {
    /// How many there are to be; grows.
    wanted: AtomicU16,
    /// The most that there may be; the number itself where it is fixed.
    max: u16,
}

impl Streams {
    /// As many as the settings say, always.
    pub(crate) fn fixed(streams: u16) -> Self {
        Self { wanted: AtomicU16::new(streams), max: streams }
    }

    /// One, and more where the path asks for them.
    pub(crate) fn adapted() -> Self {
        Self { wanted: AtomicU16::new(1), max: LANES_MAX }
    }

    pub(crate) fn wanted(&self) -> u16 {
        self.wanted.load(Ordering::Acquire)
    }
}

/// How to make a connection.
#[derive(Debug)]
pub(crate) struct Dialer {
    /// For IPv4 and, where the system has it, IPv6.
    pub(crate) endpoints: Vec<quinn::Endpoint>,
    pub(crate) config: quinn::ClientConfig,
    pub(crate) server_name: Option<String>,
    pub(crate) hello: Hello,
    pub(crate) streams: Arc<Streams>,
    pub(crate) clock: Arc<BrokerClock>,
}

impl Dialer {
    /// Connects to `host:port`, trying each of the host's addresses in turn.
    pub(crate) async fn dial(
        &self,
        address: &str,
        timeout: Duration,
    ) -> Result<Arc<Connection>, Error> {
        let unusable = |why: String| {
            Error::new(Code::Disconnected, format!("{address} cannot be reached: {why}"))
        };
        let found: Vec<SocketAddr> =
            tokio::time::timeout(timeout, tokio::net::lookup_host(address))
                .await
                .map_err(|_| unusable("its name could not be looked up in time".into()))?
                .map_err(|e| unusable(e.to_string()))?
                .collect();
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let server_name = self.server_name.as_deref().unwrap_or(host);
        let mut last = unusable("its name has no address".into());
        for target in found {
            let Some(endpoint) = self.endpoint_for(target) else {
                continue;
            };
            let opening = Connection::open(
                endpoint,
                self.config.clone(),
                (target, server_name),
                self.hello.clone(),
                (self.streams.wanted(), timeout),
            );
            match tokio::time::timeout(timeout, opening).await {
                Ok(Ok((connection, broker_now))) => {
                    self.clock.heard(broker_now, self.clock.wall());
                    return Ok(connection);
                }
                Ok(Err(error)) => last = error,
                Err(_) => {
                    last = unusable(format!("no answer within {} ms", timeout.as_millis()));
                }
            }
        }
        Err(last)
    }

    fn endpoint_for(&self, target: SocketAddr) -> Option<&quinn::Endpoint> {
        self.endpoints.iter().find(|endpoint| {
            endpoint.local_addr().is_ok_and(|local| local.is_ipv4() == target.is_ipv4())
        })
    }
}

/// How the way to one node does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathReport {
    /// Connections that were made to it; the last one may be gone.
    pub connections: u64,
    /// Data streams that are open; 0 without a connection, and all that follows, too.
    pub streams: u16,
    /// Round trip, smoothed, in microseconds.
    pub round_trip_us: u64,
    /// Packets that this connection has sent.
    pub sent: u64,
    /// Of these, packets that were found lost and whose contents were sent again.
    pub lost: u64,
    /// Bytes of UDP payload that the path was found to carry.
    pub mtu_bytes: u16,
    /// Bytes that may be on their way at the moment: the congestion window.
    pub window_bytes: u64,
}

/// Whether there is a connection.
#[derive(Clone, Debug)]
pub(crate) enum LinkState {
    Up(Arc<Connection>),
    /// With what the last attempt failed with.
    Down(Error),
}

/// The way to one node. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Link {
    state: watch::Receiver<LinkState>,
    addresses: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicU64>,
    _stop: oneshot::Sender<()>,
}

impl Link {
    /// Starts with a connection where there is one. `addresses` are tried in turn.
    pub(crate) fn start(
        dialer: Arc<Dialer>,
        addresses: Vec<String>,
        connection: Option<Arc<Connection>>,
        seed: u64,
    ) -> Self {
        let first = match &connection {
            Some(connection) => LinkState::Up(connection.clone()),
            None => LinkState::Down(Error::new(Code::Disconnected, "not connected yet")),
        };
        let (publish, state) = watch::channel(first);
        let (stop, stopped) = oneshot::channel();
        let addresses = Arc::new(Mutex::new(addresses));
        let connections = Arc::new(AtomicU64::new(connection.is_some().into()));
        let task = Task {
            dialer,
            addresses: addresses.clone(),
            connections: connections.clone(),
            publish,
            backoff: Backoff::new(seed),
        };
        tokio::spawn(task.run(connection, stopped));
        Self { state, addresses, connections, _stop: stop }
    }

    pub(crate) fn report(&self) -> PathReport {
        let connections = self.connections.load(Ordering::Relaxed);
        match &*self.state.borrow() {
            LinkState::Up(connection) => PathReport { connections, ..connection.report() },
            LinkState::Down(_) => PathReport { connections, ..PathReport::default() },
        }
    }

    pub(crate) fn set_addresses(&self, addresses: Vec<String>) {
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    pub(crate) fn watch(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// The connection, as soon as there is one.
    pub(crate) async fn up(&self, deadline: Instant) -> Result<Arc<Connection>, Error> {
        let mut state = self.state.clone();
        let is_up = |state: &LinkState| matches!(state, LinkState::Up(_));
        let waited = tokio::time::timeout_at(deadline, state.wait_for(is_up)).await;
        if let Ok(Ok(found)) = waited
            && let LinkState::Up(connection) = &*found
        {
            return Ok(connection.clone());
        }
        let last = self.state.borrow();
        match &*last {
            LinkState::Up(connection) => Ok(connection.clone()),
            LinkState::Down(error) => Err(error.clone()),
        }
    }
}

struct Task {
    dialer: Arc<Dialer>,
    addresses: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicU64>,
    publish: watch::Sender<LinkState>,
    backoff: Backoff,
}

impl Task {
    async fn run(
        mut self,
        mut connection: Option<Arc<Connection>>,
        mut stopped: oneshot::Receiver<()>,
    ) {
        let streams = &self.dialer.streams;
        let mut spread = Spread::new(streams.wanted(), streams.max);
        loop {
            let current = match connection.take() {
                Some(connection) => connection,
                None => tokio::select! {
                    biased;
                    _ = &mut stopped => return,
                    found = self.connect() => found,
                },
            };
            self.publish.send_replace(LinkState::Up(current.clone()));
            tokio::select! {
                biased;
                _ = &mut stopped => {
                    current.close("closed");
                    return;
                }
                error = current.closed() => {
                    tracing::debug!(%error, "connection lost");
                    self.publish.send_replace(LinkState::Down(error));
                }
                better = self.outlive(&current) => {
                    self.connections.fetch_add(1, Ordering::Relaxed);
                    current.close("replaced");
                    connection = Some(better);
                }
                () = self.spread(&current, &mut spread) => {}
            }
        }
    }

    async fn connect(&mut self) -> Arc<Connection> {
        let mut attempt = ATTEMPT_MIN;
        loop {
            let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for address in &addresses {
                match self.dialer.dial(address, attempt).await {
                    Ok(connection) => {
                        self.connections.fetch_add(1, Ordering::Relaxed);
                        self.backoff.reset();
                        return connection;
                    }
                    Err(error) => {
                        tracing::debug!(%address, %error, "no connection");
                        self.publish.send_replace(LinkState::Down(error));
                    }
                }
            }
            attempt = (attempt * 2).min(ATTEMPT_MAX);
            tokio::time::sleep(self.backoff.next()).await;
        }
    }

    /// Opens streams as this path asks for them, or that of another node. Never resolves.
    async fn spread(&self, current: &Connection, spread: &mut Spread) {
        let streams = &self.dialer.streams;
        spread.path_changed();
        let began = Instant::now();
        while current.streams() < current.streams_max().min(streams.max) {
            tokio::time::sleep(SPREAD_EVERY).await;
            let wanted = spread.look(current.sample(began.elapsed().as_micros() as u64));
            let wanted = wanted.max(streams.wanted());
            if wanted <= current.streams() {
                continue;
            }
            if current.spread(wanted).await.is_err() {
                break;
            }
            tracing::debug!(streams = current.streams(), "packets are lost: more streams");
            // Only now: whoever sees the number uses the streams.
            streams.wanted.fetch_max(current.streams(), Ordering::AcqRel);
        }
        // A connection that is lost ends elsewhere.
        std::future::pending().await
    }

    /// Resolves with a better connection when this one is found dead. A node that was killed and
    /// came back knows nothing of the old connection and says nothing on it; without this, only
    /// the idle timeout would tell. A network that was away for a while loses nothing: the old
    /// connection has the last word.
    async fn outlive(&self, current: &Connection) -> Arc<Connection> {
        let (mut received, mut sent) = current.datagrams();
        let mut silent_since = None;
        loop {
            tokio::time::sleep(WATCH_EVERY).await;
            let (received_now, sent_now) = current.datagrams();
            if received_now != received {
                (received, sent) = (received_now, sent_now);
                silent_since = None;
                continue;
            }
            if sent_now == sent {
                continue;
            }
            let since = *silent_since.get_or_insert_with(Instant::now);
            if since.elapsed() < SILENCE {
                continue;
            }
            let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for address in &addresses {
                let Ok(better) = self.dialer.dial(address, ATTEMPT_MIN).await else {
                    continue;
                };
                let question = Request::FindRoute(FindRoute { topics: Vec::new() });
                if current.ask(None, &question, LAST_WORD).await.is_err() {
                    tracing::debug!(%address, "the node came back, its old connection did not");
                    return better;
                }
                better.close("not needed");
                break;
            }
        }
    }
}
