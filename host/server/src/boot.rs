//! What starts in which order: folder, keys, logs, threads, and the network last.
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;
use tokio::runtime::Handle;
use yard_broker::{Event, MetaChange};
use yard_shard::{Input, OpenedShard, Output, Shard, ShardConfig};
use yard_store::disk::real::RealDisk;
use yard_store::{Disk, Repair};
use yard_transport::tls::{ServerIdentity, TlsError};
use yard_transport::{RESET_KEY_BYTES, Transport, TransportConfig, TransportOptions};
use yard_wasm::Compiler;
use yard_wire::{Code, ShardId};

use crate::config::Settings;
use crate::dispatch::Dispatch;
use crate::fairness;
use crate::folder::{Connection, Folder, Keys};
use crate::hub::{Hub, HubParts};
use crate::inbox::Inbox;
use crate::os;
use crate::outputs::ShardOutputs;
use crate::policy::{self, Policies, PolicyError, PolicyOptions};
use crate::rest;
use crate::runner::{Runner, RunningShard};
use crate::tasks::{ShardTask, Slow};
use crate::threads::ShardThreads;
use crate::time::{Clock, Wall};
use crate::watermark;
use crate::{EndsPolicies, Running};

/// Why a broker did not start. Nothing of its data was changed, but for what recovery cuts off.
#[derive(Debug, Error)]
pub enum StartError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// A file of the folder makes no sense.
    #[error("{}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The folder was written by another version.
    #[error("{} has format {format}; this program reads format 1", path.display())]
    Format {
        /// The file that says so.
        path: PathBuf,
        /// The format.
        format: u32,
    },
    /// Another broker runs on the folder.
    #[error("another broker runs on {}", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The number of shards cannot be changed.
    #[error("this folder has {fixed} shards since its first start; {wanted} were asked for")]
    Shards {
        /// Shards that the folder has.
        fixed: u16,
        /// Shards that the settings ask for.
        wanted: u16,
    },
    /// The logs of shards are gone that were made.
    #[error(
        "{} had logs of its own for {}, and they are gone: look whether their disks are mounted, \
         bring them back, or restore a backup",
        path.display(),
        folder_names(shards)
    )]
    LogMissing {
        /// The data folder.
        path: PathBuf,
        /// The shards.
        shards: Vec<u16>,
    },
    /// There are logs that the folder's own file does not count.
    #[error(
        "{} says that there are {fixed} shards, but there are logs in {} too",
        path.display(),
        folder_names(shards)
    )]
    LogsBeyond {
        /// The folder's own file.
        path: PathBuf,
        /// Shards that it counts.
        fixed: u16,
        /// Those beyond.
        shards: Vec<u16>,
    },
    /// There are logs, and nothing says how many there should be.
    #[error(
        "{} is missing, but there are logs in {}: bring it back, or give their number with \
         --shards when all of them are there",
        path.display(),
        folder_names(shards)
    )]
    Unnumbered {
        /// The folder's own file.
        path: PathBuf,
        /// Shards whose logs are there.
        shards: Vec<u16>,
    },
    /// There are neither certificates nor development mode.
    #[error("no certificates: set tls_certificate, tls_key and client_authority, or use --dev")]
    NoCertificates,
    /// Keys or certificates are of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A log could not be opened.
    #[error("shard {shard}: {source}")]
    Log {
        /// The shard.
        shard: u16,
        /// What is wrong with its log.
        source: yard_shard::OpenError,
    },
    /// The network or its certificates could not be used.
    #[error(transparent)]
    Transport(yard_transport::StartError),
    /// The system does not say which address is listened on.
    #[error("no address: {0}")]
    Address(std::io::Error),
    /// Plugins cannot be run.
    #[error(transparent)]
    Policies(#[from] PolicyError),
    /// The system gave no thread.
    #[error("no thread: {0}")]
    Thread(std::io::Error),
}

impl StartError {
    /// The code of the page that says what to do, where there is one.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::LogMissing { .. } => Some(Code::LogMissing),
            Self::Shards { .. } | Self::LogsBeyond { .. } | Self::Unnumbered { .. } => {
                Some(Code::ShardsDiffer)
            }
            Self::File { .. }
            | Self::Unreadable { .. }
            | Self::Format { .. }
            | Self::InUse { .. }
            | Self::NoCertificates
            | Self::Tls(_)
            | Self::Log { .. }
            | Self::Transport(_)
            | Self::Address(_)
            | Self::Policies(_)
            | Self::Thread(_) => None,
        }
    }
}

/// The folders of these shards, for people.
fn folder_names(shards: &[u16]) -> String {
    let names: Vec<String> = shards.iter().map(|shard| format!("shard-{shard}")).collect();
    names.join(", ")
}

/// What a broker stands on.
pub(crate) struct Ground {
    /// The disk of each shard.
    pub disks: Vec<Arc<dyn Disk>>,
    pub keys: Keys,
    pub reset_key: [u8; RESET_KEY_BYTES],
    pub policies: Policies,
    /// The clock on the wall; a world's, where it runs in one.
    pub wall: Wall,
    /// The data folder, where it has one.
    pub folder: Option<Folder>,
}

/// Starts a broker; must be called inside a tokio runtime with timers and I/O.
///
/// # Errors
/// [`StartError`]; nothing runs then.
pub async fn start(settings: Settings) -> Result<Running, StartError> {
    let folder = Folder::open(&settings.data)?;
    let shards = folder.fix_shards(settings.shards)?;
    let ground = Ground {
        keys: folder.keys(&settings)?,
        reset_key: folder.reset_key()?,
        disks: real_disks(&folder, shards)?,
        policies: start_policies(&folder.plugins(), &settings)?,
        wall: Wall::Machine,
        folder: Some(folder),
    };
    start_on(settings, ground).await
}

/// Starts a broker on this ground.
///
/// # Errors
/// [`StartError`]; nothing runs then.
pub(crate) async fn start_on(settings: Settings, ground: Ground) -> Result<Running, StartError> {
    let Ground { disks, keys, reset_key, policies, wall, folder } = ground;
    let opened = open_shards(disks, &settings, &wall)?;
    if let Some(folder) = &folder {
        // Before anything is acknowledged: who removes a log from here on is noticed.
        folder.note_logs()?;
    }
    let metadata: Vec<MetaChange> =
        opened.first().map(|opened| opened.shard.broker().metadata()).unwrap_or_default();
    let inbox_bytes = usize::try_from(settings.inbox_bytes).unwrap_or(usize::MAX);
    let parts = HubParts {
        inboxes: opened.iter().map(|_| Arc::new(Inbox::new(inbox_bytes))).collect(),
        disks: opened.iter().map(|opened| Arc::clone(&opened.disk)).collect(),
        dev: settings.dev,
        lanes_max: settings.lanes,
        authority: keys.authority,
        policies: Arc::new(policies),
        wall,
    };
    let hub = Arc::new(Hub::new(parts, Handle::current(), &metadata));
    tokio::spawn(policy::watch_trials(Arc::downgrade(&hub)));
    if hub.wall.runner() == Runner::Threads {
        tokio::spawn(fairness::run(Arc::clone(&hub.fairness)));
        tokio::spawn(watermark::run(Arc::downgrade(&hub), watermark::Marks::of(&settings)));
        tokio::spawn(rest::run(Arc::downgrade(&hub)));
    }
    let shards = start_shards(opened, &hub, &metadata)?;
    drop(metadata);
    if hub.wall.runner() == Runner::Threads {
        // Reading checkpoints takes several times what is kept of them.
        crate::os::give_back_memory();
    }
    let config = transport_config(&settings, reset_key);
    let (transport, local) = match listen(config, &keys.server, &hub) {
        Ok(listening) => listening,
        Err(error) => {
            crate::stop_shards(&hub, shards).await;
            return Err(error);
        }
    };
    let addresses = vec![settings.advertise.clone().unwrap_or_else(|| reachable(local))];
    hub.advertise(addresses.clone());
    let (certificate, key) = keys.operator.unzip();
    let connection = Connection {
        addresses,
        server_name: "localhost".to_owned(),
        tenant: "default".to_owned(),
        authority: keys.server.client_authority_pem,
        certificate,
        key,
    };
    if let Some(folder) = folder.as_ref().filter(|_| settings.dev) {
        // Whoever has the context of an earlier start can go on with it.
        if let Err(error) = folder.write_context(&connection) {
            tracing::warn!(%error, "the context was not written");
        }
    }
    tracing::info!(%local, shards = shards.len(), "broker started");
    let ends = EndsPolicies(Arc::clone(&hub.policies));
    Ok(Running { transport, hub, shards, connection, local, folder, _ends_policies: ends })
}

/// The argument by which this program is told to compile a plugin and nothing else.
pub const COMPILE_ARGUMENT: &str = "--compile-plugin";

/// What the program does as such a child: after everybody else.
pub fn compile_child(
    arguments: impl Iterator<Item = std::ffi::OsString>,
) -> std::process::ExitCode {
    os::run_last();
    yard_wasm::compile_child(arguments)
}

pub(crate) fn start_policies(folder: &Path, settings: &Settings) -> Result<Policies, StartError> {
    let program = std::env::current_exe().map_err(PolicyError::System)?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Policies::start(PolicyOptions {
        folder,
        compiler: Compiler::new(program, vec![COMPILE_ARGUMENT.into()]),
        workers: settings.plugin_workers.map_or(processors, usize::from),
        require_signed: settings.plugins_require_signed,
        generate_after: settings.sql_code_after,
    })?)
}

fn listen(
    config: TransportConfig,
    identity: &ServerIdentity,
    hub: &Arc<Hub>,
) -> Result<(Transport, SocketAddr), StartError> {
    let service = Arc::new(Dispatch { hub: Arc::clone(hub) });
    let transport = match &hub.wall {
        Wall::Machine => Transport::start(config, identity, service),
        Wall::Within(surroundings) => {
            let (address, server) = (config.listen, config.server(identity)?);
            surroundings
                .endpoint(config.endpoint(), server)
                .map_err(|source| yard_transport::StartError::Listen { address, source })
                .map(|endpoint| Transport::serve(config, service, endpoint))
        }
    };
    let transport = transport.map_err(StartError::Transport)?;
    let local = transport.local_address().map_err(StartError::Address)?;
    Ok((transport, local))
}

struct Opened {
    shard: Shard,
    disk: Arc<dyn Disk>,
    outputs: Vec<Output>,
}

fn real_disks(folder: &Folder, shards: u16) -> Result<Vec<Arc<dyn Disk>>, StartError> {
    let open = |number| {
        let path = folder.shard(number)?;
        let disk = RealDisk::open(&path).map_err(|source| StartError::File { path, source })?;
        Ok(Arc::new(disk) as Arc<dyn Disk>)
    };
    (0..shards).map(open).collect()
}

fn open_shards(
    disks: Vec<Arc<dyn Disk>>,
    settings: &Settings,
    wall: &Wall,
) -> Result<Vec<Opened>, StartError> {
    let mut opened = Vec::new();
    let shards = u16::try_from(disks.len()).expect("shards have a bound");
    for (number, disk) in (0..shards).zip(disks) {
        let began = Instant::now();
        let config = ShardConfig {
            shard: ShardId(number),
            shards,
            segment_bytes: settings.segment_bytes,
            seed: match wall {
                Wall::Machine => seed(number),
                Wall::Within(surroundings) => surroundings.seed(number),
            },
            retention_hour: settings.retention_hour,
        };
        let OpenedShard { shard, outputs, repairs, replayed } =
            Shard::open(disk.as_ref(), config, wall.now())
                .map_err(|source| StartError::Log { shard: number, source })?;
        let ms = began.elapsed().as_millis() as u64;
        repairs.iter().for_each(|repair| tell(number, repair));
        tracing::info!(shard = number, ms, replayed, ?repairs, "log opened");
        opened.push(Opened { shard, disk, outputs });
    }
    Ok(opened)
}

/// Says of damage to what was durable what it was.
fn tell(shard: u16, repair: &Repair) {
    match repair {
        Repair::Quarantined { segment, offset, bytes, what, lost } => {
            tracing::error!(shard, segment, offset, bytes, what = *what, ?lost, "log damaged");
        }
        Repair::FileCut { segment, offset, bytes, messages } => {
            let what = "the file has lost its end, and messages that were acknowledged with it";
            tracing::error!(shard, segment, offset, bytes, messages, what, "log damaged");
        }
        Repair::TailZeroed { .. }
        | Repair::SegmentRemoved { .. }
        | Repair::IndexRebuilt { .. }
        | Repair::CheckpointIgnored => {}
    }
}

fn start_shards(
    opened: Vec<Opened>,
    hub: &Arc<Hub>,
    metadata: &[MetaChange],
) -> Result<Vec<RunningShard>, StartError> {
    let mut shards = Vec::new();
    for (Opened { shard, disk, outputs }, inbox) in opened.into_iter().zip(&hub.inboxes) {
        let number = shard.id();
        if number != ShardId(0) {
            for change in metadata {
                inbox.put_first(Input::Event(Event::Metadata(change.clone())));
            }
        }
        let to = ShardOutputs { hub: Arc::clone(hub), shard: number };
        let begin = (Clock::start(hub.wall.now(), shard.now()), outputs);
        let inbox = Arc::clone(inbox);
        shards.push(match &hub.wall {
            Wall::Machine => RunningShard::Threads(
                ShardThreads::start(shard, disk, inbox, to, begin).map_err(StartError::Thread)?,
            ),
            Wall::Within(surroundings) => {
                let disk = Slow { disk, surroundings: Arc::clone(surroundings) };
                RunningShard::Task(ShardTask::start(shard, disk, inbox, to, begin))
            }
        });
    }
    Ok(shards)
}

/// A number that differs from start to start, for salts. Not a secret.
pub(crate) fn seed(shard: u16) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one((shard, crate::time::now().0, std::process::id()))
}

fn transport_config(settings: &Settings, reset_key: [u8; RESET_KEY_BYTES]) -> TransportConfig {
    TransportConfig {
        listen: settings.listen,
        options: TransportOptions {
            controller: settings.controller,
            mtu_bytes_max: settings.mtu_bytes_max,
            stream_window_bytes: settings.stream_window_bytes,
            receive_window_bytes: settings.receive_window_bytes,
            send_window_bytes: settings.send_window_bytes,
            socket_buffer_bytes: settings.socket_buffer_bytes,
            idle_ms: settings.idle_ms,
            keep_alive_ms: settings.idle_ms / 3,
            ..TransportOptions::default()
        },
        lanes_max: settings.lanes,
        reset_key: Some(reset_key),
        ..TransportConfig::default()
    }
}

/// The address at which this machine reaches what listens on `local`.
fn reachable(local: SocketAddr) -> String {
    if local.ip().is_unspecified() {
        format!("127.0.0.1:{}", local.port())
    } else {
        local.to_string()
    }
}
