//! The broker's world: its lives, its disks, its clocks; and what clients take of it.
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::hmac;
use quinn::{AsyncTimer, AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, Endpoint};
use quinn::{EndpointConfig, Runtime, ServerConfig, TokioRuntime};
use tokio::time::Instant;
use yard_checker::CrashKind;
use yard_server::config::Settings;
use yard_server::{Running, start_within};
use yard_sim::Random;
use yard_store::disk::FileName;
use yard_store::disk::lying::{Crash, LyingDisk};
use yard_store::{Disk, Io};
use yard_transport::{RESET_KEY_BYTES, ServerIdentity};
use yard_wire::Timestamp;

use crate::identity;
use crate::network::{BROKER, Network, Node};
use crate::plan::Plan;
use crate::planted::Plant;

/// The clock on the wall when a world begins, in milliseconds since 1970: in May 2026.
pub(crate) const BEGAN_MS: u64 = 1_777_777_777_777;
/// How far the broker's clock is ahead where the bug is planted, in milliseconds.
const AHEAD_MS: u64 = 60_000;
/// Nothing on a disk takes longer, so that it is known when everything is done.
const TAKES_MAX: Duration = Duration::from_secs(2);
/// Bytes of a connection's name, as quinn makes them.
const CONNECTION_ID_BYTES: usize = 8;

/// What all parts of a run share of their world.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) network: Network,
    pub(crate) plant: Option<Plant>,
    began: Instant,
    random: Mutex<Random>,
    disks: Vec<Arc<LyingDisk>>,
    /// How many times as long everything on them takes, and until when.
    slow: Mutex<(u64, Instant)>,
    /// Endpoints of clients, to move them.
    endpoints: Mutex<Vec<(usize, Endpoint)>>,
}

impl World {
    /// Must be called within the runtime that the world lives in.
    pub(crate) fn new(
        plan: Plan,
        network: Network,
        plant: Option<Plant>,
        mut random: Random,
    ) -> Self {
        let disks = (0..plan.shards).map(|_| Arc::new(LyingDisk::new(random.word()))).collect();
        let (began, endpoints) = (Instant::now(), Mutex::default());
        let (random, slow) = (Mutex::new(random), Mutex::new((1, began)));
        Self { plan, network, plant, began, random, disks, slow, endpoints }
    }

    /// A random number of the world.
    pub(crate) fn word(&self) -> u64 {
        lock(&self.random).word()
    }

    fn wall(&self) -> Timestamp {
        Timestamp(BEGAN_MS + self.began.elapsed().as_millis() as u64)
    }

    /// Makes everything on the disks take so many times as long for some time.
    pub(crate) fn slow_down(&self, factor: u64, time: Duration) {
        *lock(&self.slow) = (factor, Instant::now() + time);
    }

    /// An endpoint of a node, all of whose randomness is the world's.
    fn endpoint(
        self: &Arc<Self>,
        node: Node,
        mut config: EndpointConfig,
        server: Option<ServerConfig>,
    ) -> io::Result<Endpoint> {
        let mut seed = [0; 32];
        seed.chunks_mut(8).for_each(|part| part.copy_from_slice(&self.word().to_le_bytes()));
        let random = Random::new(self.word());
        config.rng_seed(Some(seed)).cid_generator(move || Box::new(Names(random.clone())));
        if node != Node::Broker {
            let key = self.word().to_le_bytes();
            config.reset_key(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &key)));
        }
        let runtime = Timers { forgets: self.plant == Some(Plant::TimerForgotten) };
        let socket = self.network.bind(node);
        Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(runtime))
    }

    /// Lets a client go to a new socket.
    pub(crate) fn rebind(&self, client: usize) {
        for (of, endpoint) in lock(&self.endpoints).iter() {
            if *of == client {
                let moved = endpoint.rebind_abstract(self.network.bind(Node::Client(client)));
                moved.expect("a new socket has an address");
            }
        }
    }

    /// What this client takes of the world.
    pub(crate) fn client(self: &Arc<Self>, number: usize) -> Arc<dyn yard_client::Surroundings> {
        Arc::new(ClientWorld { world: Arc::clone(self), number })
    }

    /// Forgets the endpoints that it keeps for moving them.
    pub(crate) fn let_go(&self) {
        lock(&self.endpoints).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names of connections, from a seed.
struct Names(Random);

impl ConnectionIdGenerator for Names {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.word().to_le_bytes())
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// quinn's own runtime; where the bug is planted, with timers that do not notice being moved.
#[derive(Debug)]
struct Timers {
    forgets: bool,
}

impl Runtime for Timers {
    fn new_timer(&self, at: std::time::Instant) -> Pin<Box<dyn AsyncTimer>> {
        let timer = TokioRuntime.new_timer(at);
        if self.forgets { Box::pin(Forgetful(timer)) } else { timer }
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(future);
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn now(&self) -> std::time::Instant {
        TokioRuntime.now()
    }
}

#[derive(Debug)]
struct Forgetful(Pin<Box<dyn AsyncTimer>>);

impl AsyncTimer for Forgetful {
    fn reset(mut self: Pin<&mut Self>, at: std::time::Instant) {
        // Moved to an earlier time, it stays where it is for a while.
        self.0.as_mut().reset(at + Duration::from_secs(90));
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

#[derive(Debug)]
struct ClientWorld {
    world: Arc<World>,
    number: usize,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("seed", &self.plan.seed).finish_non_exhaustive()
    }
}

impl yard_client::Surroundings for ClientWorld {
    fn endpoint(&self, config: EndpointConfig) -> io::Result<Endpoint> {
        let endpoint = self.world.endpoint(Node::Client(self.number), config, None)?;
        lock(&self.world.endpoints).push((self.number, endpoint.clone()));
        Ok(endpoint)
    }

    fn seed(&self) -> u128 {
        if self.world.plant == Some(Plant::NamesRepeat) {
            return 7;
        }
        u128::from(self.world.word()) << 64 | u128::from(self.world.word())
    }

    fn wall(&self) -> Timestamp {
        self.world.wall()
    }
}

/// One life of the broker.
pub(crate) struct Life {
    running: Option<Running>,
    is_alive: Arc<AtomicBool>,
}

impl Life {
    /// Starts the broker on what its disks hold.
    pub(crate) async fn begin(world: &Arc<World>) -> Result<Self, String> {
        let is_alive = Arc::new(AtomicBool::new(true));
        let inside = Inside { world: Arc::clone(world), is_alive: Arc::clone(&is_alive) };
        let plan = &world.plan;
        let settings = Settings {
            shards: Some(plan.shards),
            segment_bytes: plan.segment_bytes,
            idle_ms: plan.idle_ms,
            plugin_workers: Some(1),
            ..Settings::for_dev(PathBuf::new(), BROKER)
        };
        let running = start_within(settings, Arc::new(inside)).await.map_err(|e| e.to_string())?;
        Ok(Self { running: Some(running), is_alive })
    }

    /// Ends it in good order.
    pub(crate) async fn stop(mut self, world: &World) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
        self.is_alive.store(false, Ordering::Relaxed);
        world.network.kill_broker();
    }

    /// Ends it as a kill or a power cut does: nothing that it had begun goes on, and the disks
    /// keep what they must.
    pub(crate) fn crash(self, world: &World, kind: CrashKind) {
        self.is_alive.store(false, Ordering::Relaxed);
        world.network.kill_broker();
        drop(self.running);
        let kind = match kind {
            CrashKind::Process => Crash::Process,
            CrashKind::Power => Crash::Power,
        };
        for disk in &world.disks {
            disk.crash(world.word(), kind);
        }
    }
}

/// What one life of the broker takes of the world.
struct Inside {
    world: Arc<World>,
    is_alive: Arc<AtomicBool>,
}

impl yard_server::Surroundings for Inside {
    fn disk(&self, shard: u16) -> Arc<dyn Disk> {
        let disk = Arc::clone(&self.world.disks[usize::from(shard)]);
        let skips_syncs = self.world.plant == Some(Plant::SyncSkipped);
        Arc::new(Mortal { disk, is_alive: Arc::clone(&self.is_alive), skips_syncs })
    }

    fn takes(&self, io: &Io) -> Duration {
        let typical = match io {
            Io::SyncGroup { .. } => self.world.plan.sync_us,
            Io::WriteGroup { .. } => 20,
            _ => 2_000,
        };
        let (factor, until) = *lock(&self.world.slow);
        let factor = if Instant::now() < until { factor } else { 1 };
        let micros = factor * lock(&self.world.random).latency(typical);
        Duration::from_micros(micros).min(TAKES_MAX)
    }

    fn endpoint(&self, config: EndpointConfig, mut server: ServerConfig) -> io::Result<Endpoint> {
        if self.world.plant == Some(Plant::MovesRefused) {
            server.migration(false);
        }
        self.world.endpoint(Node::Broker, config, Some(server))
    }

    fn identity(&self) -> ServerIdentity {
        identity::broker()
    }

    fn reset_key(&self) -> [u8; RESET_KEY_BYTES] {
        [7; RESET_KEY_BYTES]
    }

    fn wall(&self) -> Timestamp {
        let is_ahead = self.world.plant == Some(Plant::ClockAhead);
        self.world.wall().plus_ms(if is_ahead { AHEAD_MS } else { 0 })
    }

    fn seed(&self, _: u16) -> u64 {
        self.world.word()
    }

    fn plugins(&self) -> PathBuf {
        std::env::temp_dir().join("yard-stack-plugins")
    }
}

/// A disk as one life of the broker has it: after its end nothing reaches it any more.
struct Mortal {
    disk: Arc<LyingDisk>,
    is_alive: Arc<AtomicBool>,
    /// Where the bug is planted: says that it has synced, and has not.
    skips_syncs: bool,
}

impl Mortal {
    fn living(&self) -> io::Result<&LyingDisk> {
        if self.is_alive.load(Ordering::Relaxed) {
            return Ok(&self.disk);
        }
        Err(io::Error::other("its process is gone"))
    }
}

impl Disk for Mortal {
    fn list(&self) -> io::Result<Vec<FileName>> {
        self.living()?.list()
    }

    fn len(&self, name: FileName) -> io::Result<u64> {
        self.living()?.len(name)
    }

    fn read_at(&self, name: FileName, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.living()?.read_at(name, offset, buffer)
    }

    fn write_at(&self, name: FileName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.living()?.write_at(name, offset, bytes)
    }

    fn sync(&self, name: FileName) -> io::Result<()> {
        let disk = self.living()?;
        if self.skips_syncs { Ok(()) } else { disk.sync(name) }
    }

    fn create_segment(
        &self,
        name: FileName,
        header: &[u8],
        bytes: u64,
        zero_bytes: u64,
    ) -> io::Result<()> {
        self.living()?.create_segment(name, header, bytes, zero_bytes)
    }

    fn replace(&self, name: FileName, bytes: &[u8]) -> io::Result<()> {
        self.living()?.replace(name, bytes)
    }

    fn remove(&self, name: FileName) -> io::Result<()> {
        self.living()?.remove(name)
    }
}
