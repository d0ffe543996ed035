//! A broker in a process of its own: started, killed, started again on the same address.
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use yard_client::{Client, ClientBuilder, Context};

use crate::seeded::Seeded;
use crate::wait::{PATIENCE, until};
use crate::{Failed, Scratch};

/// Ports that the system does not hand out by itself, so that nobody takes the broker's while it
/// is down. Source: the default of Linux's `ip_local_port_range` begins at 32768.
const PORTS: std::ops::Range<u64> = 10_000..32_000;
/// Ports that are tried until one is free.
const ATTEMPTS: usize = 20;
/// Anonymous memory has settled when it has not grown or shrunk by more than this for so long: the
/// broker gives back what it does not need when it has rested for five to ten seconds.
const SETTLED_BYTES: u64 = 256 << 10;
const SETTLED: Duration = Duration::from_secs(12);
/// However long it moves, it is looked at then.
const MOVING_MAX: Duration = Duration::from_secs(60);

/// How a broker is started.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The program.
    pub yard: PathBuf,
    /// Its data folder; a temporary one without.
    pub data: Option<PathBuf>,
    /// Its commit logs.
    pub shards: u16,
    /// Bytes of a segment of its log; its own default without.
    pub segment_bytes: Option<u64>,
    /// Where it listens; a free port without.
    pub address: Option<SocketAddr>,
    /// More flags.
    pub flags: Vec<String>,
    /// A program and its arguments that run it, so that it stays our child; none without.
    pub under: Vec<String>,
}

impl ServerOptions {
    /// One shard, in a temporary folder.
    #[must_use]
    pub fn new(yard: PathBuf) -> Self {
        Self {
            yard,
            data: None,
            shards: 1,
            segment_bytes: None,
            address: None,
            flags: Vec::new(),
            under: Vec::new(),
        }
    }
}

/// A `yard serve --dev` process, killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    options: ServerOptions,
    data: PathBuf,
    address: SocketAddr,
    /// Unless the caller named an address.
    _reserved: Option<Reserved>,
    child: Option<Child>,
    /// Removed at the end, unless the caller named a folder.
    scratch: Option<Scratch>,
}

/// A context file, as development mode writes it.
#[derive(Deserialize, Serialize)]
struct ContextFile {
    addresses: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_name: Option<String>,
    #[serde(default)]
    tenant: String,
    authority: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// Reads a context file.
///
/// # Errors
/// When it is not there or no such file.
pub fn read_context(path: &Path) -> Result<Context, Failed> {
    let text = fs::read_to_string(path).map_err(Failed::file(path))?;
    let file: ContextFile =
        toml::from_str(&text).map_err(|error| Failed(format!("{}: {error}", path.display())))?;
    Ok(Context {
        addresses: file.addresses,
        authority_pem: file.authority,
        certificate_pem: file.certificate,
        key_pem: file.key,
        server_name: file.server_name,
        tenant: file.tenant,
        ..Context::default()
    })
}

/// Writes a context file, for another process.
///
/// # Errors
/// What the file system says.
pub fn write_context(path: &Path, context: Context) -> Result<(), Failed> {
    let file = ContextFile {
        addresses: context.addresses,
        server_name: context.server_name,
        tenant: context.tenant,
        authority: context.authority_pem,
        certificate: context.certificate_pem,
        key: context.key_pem,
    };
    let text = toml::to_string(&file).map_err(|error| Failed(error.to_string()))?;
    fs::write(path, text).map_err(Failed::file(path))
}

/// An address that is nobody else's, until this is dropped: also while the broker on it is down. It
/// holds the TCP port of the same number, which no broker listens on.
#[derive(Debug)]
pub struct Reserved {
    /// The address.
    pub address: SocketAddr,
    _holds: TcpListener,
}

/// An address of this machine that nobody listens on, and nobody has reserved.
///
/// # Errors
/// When none was found.
pub fn free_address() -> Result<Reserved, Failed> {
    use std::hash::{BuildHasher, RandomState};
    let mut random = Seeded::new(RandomState::new().hash_one(std::process::id()));
    for _ in 0..ATTEMPTS {
        let port = random.within(PORTS) as u16;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let Ok(_holds) = TcpListener::bind(address) else { continue };
        if UdpSocket::bind(address).is_ok() {
            return Ok(Reserved { address, _holds });
        }
    }
    Err(Failed("no free port was found".to_owned()))
}

/// Settings of a client that waits for a slow machine.
#[must_use]
pub fn patient(context: Context) -> ClientBuilder {
    let builder = Client::builder().context(context);
    builder.connect_timeout(PATIENCE).request_timeout(PATIENCE)
}

impl Server {
    /// Starts a broker and waits until it answers.
    ///
    /// # Errors
    /// When it ends instead; what it said is in `broker.log` next to its data.
    pub async fn start(options: ServerOptions) -> Result<Self, Failed> {
        let mut server = Self::not_started(options)?;
        server.restart().await?;
        Ok(server)
    }

    /// A broker that was not started yet.
    ///
    /// # Errors
    /// When there is no folder or no address for it.
    pub fn not_started(options: ServerOptions) -> Result<Self, Failed> {
        let (data, scratch) = match &options.data {
            Some(data) => (data.clone(), None),
            None => {
                let scratch = Scratch::new("server")?;
                (scratch.path().join("data"), Some(scratch))
            }
        };
        let reserved = if options.address.is_some() { None } else { Some(free_address()?) };
        let address = options.address.or(reserved.as_ref().map(|it| it.address));
        let address = address.expect("it is named, or was reserved");
        Ok(Self { options, data, address, _reserved: reserved, child: None, scratch })
    }

    /// Starts the process again, on the same folder and address, and waits until it answers.
    ///
    /// # Errors
    /// When it ends instead.
    pub async fn restart(&mut self) -> Result<(), Failed> {
        self.spawn()?;
        self.ready().await
    }

    /// Starts the process without waiting for it.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn spawn(&mut self) -> Result<(), Failed> {
        assert!(self.child.is_none(), "one process at a time");
        let path = self.context_path();
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failed::file(&path)(error)),
        }
        fs::create_dir_all(&self.data).map_err(Failed::file(&self.data))?;
        let log_path = self.log_path();
        let log = fs::File::options().create(true).append(true).open(&log_path);
        let log = log.map_err(Failed::file(&log_path))?;
        let mut words = self.options.under.iter().map(PathBuf::from);
        let mut command = Command::new(words.next().unwrap_or_else(|| self.options.yard.clone()));
        command.args(words);
        if !self.options.under.is_empty() {
            command.arg(&self.options.yard);
        }
        command.args(["serve", "--dev", "--data"]).arg(&self.data);
        command.arg("--listen").arg(self.address.to_string());
        command.arg("--shards").arg(self.options.shards.to_string());
        if let Some(bytes) = self.options.segment_bytes {
            command.arg("--segment-bytes").arg(bytes.to_string());
        }
        command.args(&self.options.flags);
        // The contexts of whoever runs this stay as they are.
        command.env("YARD_HOME", self.data.with_extension("home")).env_remove("YARD_CONTEXT");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().map_err(Failed::file(&self.options.yard))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until the process that was started answers.
    ///
    /// # Errors
    /// When it ends instead.
    pub async fn ready(&mut self) -> Result<(), Failed> {
        let path = self.context_path();
        let deadline = Instant::now() + PATIENCE;
        while !path.is_file() {
            let child = self.child.as_mut().expect("it was started just now");
            if let Some(status) = child.try_wait()? {
                self.child = None;
                let log = self.log();
                return Err(Failed(format!("the broker ended ({status}); it said:\n{log}")));
            }
            if Instant::now() >= deadline {
                return Err(Failed(format!("the broker is not ready; it said:\n{}", self.log())));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let client = self.client("ready").await?;
        client.close().await;
        Ok(())
    }

    /// Kills the process as `kill -9` does, and waits until it is dead.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill9(&mut self) -> Result<(), Failed> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks the process to end, as `kill -TERM` does, and waits for it.
    ///
    /// # Errors
    /// When it does not end in time or not well.
    pub async fn stop(&mut self) -> Result<(), Failed> {
        let Some(child) = self.child.as_mut() else { return Ok(()) };
        let kill = format!("kill -TERM {}", child.id());
        Command::new("sh").arg("-c").arg(kill).status()?;
        let ended = until("the broker ends", || {
            let ended = self.child.as_mut().map(Child::try_wait);
            async move { ended.and_then(|waited| waited.ok().flatten()) }
        });
        let status: ExitStatus = ended.await?;
        self.child = None;
        if status.success() {
            return Ok(());
        }
        Err(Failed(format!("the broker ended with {status}; it said:\n{}", self.log())))
    }

    /// Whether the process is there. One that died by itself is not.
    pub fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The id of the process, when there is one.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Bytes of memory that the process has for itself: `RssAnon` of the system.
    ///
    /// # Errors
    /// When there is no process, or the system does not say.
    pub fn rss_anon(&self) -> Result<u64, Failed> {
        let id = self.child.as_ref().map(Child::id).unwrap_or_default();
        let path = PathBuf::from(format!("/proc/{id}/status"));
        let text = fs::read_to_string(&path).map_err(Failed::file(&path))?;
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        kib.map(|kib| kib << 10)
            .ok_or_else(|| Failed(format!("{} says no RssAnon", path.display())))
    }

    /// The same when it has settled, with nobody using the broker: it takes 12 to 60 s.
    ///
    /// # Errors
    /// As [`Server::rss_anon`].
    pub async fn rss_anon_at_rest(&self) -> Result<u64, Failed> {
        let began = Instant::now();
        let (mut at, mut since) = (self.rss_anon()?, Instant::now());
        while since.elapsed() < SETTLED && began.elapsed() < MOVING_MAX {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = self.rss_anon()?;
            if now.abs_diff(at) > SETTLED_BYTES {
                (at, since) = (now, Instant::now());
            }
        }
        self.rss_anon()
    }

    /// Processor time that the process has taken so far, over all of its threads.
    ///
    /// # Errors
    /// As [`Server::rss_anon`].
    pub fn processor_time(&self) -> Result<Duration, Failed> {
        let id = self.child.as_ref().map(Child::id).unwrap_or_default();
        let path = PathBuf::from(format!("/proc/{id}/task"));
        let mut spent = Duration::ZERO;
        for thread in fs::read_dir(&path).map_err(Failed::file(&path))? {
            // Source: proc(5), schedstat. A thread may end while it is looked at.
            let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            let first = text.split(' ').next().and_then(|text| text.parse().ok());
            spent += Duration::from_nanos(first.unwrap_or_default());
        }
        Ok(spent)
    }

    /// The address that it listens on, the same for every process.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The context file that the broker writes.
    #[must_use]
    pub fn context_path(&self) -> PathBuf {
        self.data.join("context.toml")
    }

    /// How an operator connects.
    ///
    /// # Errors
    /// When the broker has not written it yet.
    pub fn context(&self) -> Result<Context, Failed> {
        read_context(&self.context_path())
    }

    /// Settings of an operator's client.
    ///
    /// # Errors
    /// As [`Server::context`].
    pub fn builder(&self, name: &str) -> Result<ClientBuilder, Failed> {
        Ok(patient(self.context()?).name(name))
    }

    /// An operator's client.
    ///
    /// # Errors
    /// As [`Server::context`], or when it cannot connect.
    pub async fn client(&self, name: &str) -> Result<Client, Failed> {
        Ok(self.builder(name)?.connect().await?)
    }

    /// What the processes said so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    /// Leaves the temporary folder where it is; returns the data folder's path.
    pub fn keep(&mut self) -> &Path {
        if let Some(scratch) = &mut self.scratch {
            scratch.keep();
        }
        &self.data
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.kill9() {
            eprintln!("the broker could not be killed: {error}");
        }
    }
}
