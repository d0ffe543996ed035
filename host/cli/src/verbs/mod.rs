//! What each verb does.
mod bench;
mod contexts;
mod dev;
mod dlq;
mod exchange;
mod explain;
mod fetch;
mod find;
mod log;
mod operation;
mod peek;
mod plugin;
mod publish;
mod seek;
mod serve;
mod sh;
mod sim;
mod subscribe;
mod tenant;

use std::env;
use std::future::Future;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime;
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;
use yard_client::Client;
use yard_client::transport::Controller;
use yard_client::wire::catalogue::{Program, Runs};
use yard_client::wire::limits::{LANES_MAX, QUEUES_MAX};
use yard_client::wire::operation::Operation;
use yard_client::wire::{Code, QueueIndex, Timestamp};
use yard_server::os::Priority;

use crate::args::{Parsed, Written};
use crate::context::{self, Contexts};
use crate::failure::Failure;
use crate::output::Format;
use crate::text;

/// What holds for a whole run of the program.
#[derive(Clone)]
pub(crate) struct Session {
    /// When the process began.
    pub(crate) started: Instant,
    pub(crate) format: Format,
    given_context: Option<String>,
    given_controller: Option<Controller>,
}

impl Session {
    /// The context of the command line, else of `YARD_CONTEXT`, else the current one.
    pub(crate) fn context(&self) -> Result<yard_client::Context, Failure> {
        let given = self.given_context.clone().or_else(context::of_environment);
        let mut context = Contexts::of_user()?.load(given.as_deref())?;
        context.controller = self.given_controller.unwrap_or(context.controller);
        Ok(context)
    }

    /// The name of that context for people; of a file its path.
    pub(crate) fn context_name(&self) -> String {
        let given = self.given_context.clone().or_else(context::of_environment);
        let current = || Contexts::of_user().ok().and_then(|contexts| contexts.current());
        given.or_else(current).unwrap_or_default()
    }

    /// Whether the command line names a context.
    pub(crate) fn has_context(&self) -> bool {
        self.given_context.is_some()
    }

    /// Connects; `streams` data streams share the work, or as many as the path asks for.
    pub(crate) async fn connect(&self, streams: Option<u16>) -> Result<Client, Failure> {
        connect(self.context()?, streams).await
    }
}

/// How long each address of a context is tried at most, before the command fails.
const CONNECTING: Duration = Duration::from_secs(3);
/// A client that owes nobody anything gets this long to say goodbye: the broker forgets it by
/// itself, and the user waits.
const LEAVING: Duration = Duration::from_millis(10);

/// Connects with a context.
pub(crate) async fn connect(
    context: yard_client::Context,
    streams: Option<u16>,
) -> Result<Client, Failure> {
    let addresses = context.addresses.join(", ");
    let patience = CONNECTING * u32::try_from(context.addresses.len()).unwrap_or(u32::MAX);
    let client = Client::builder().name("yard").context(context);
    let client = match streams {
        Some(streams) => client.streams(streams),
        None => client,
    };
    let started = Instant::now();
    client.connect_timeout(patience).connect().await.map_err(|mut error| {
        if error.code == Code::Disconnected {
            let seconds = started.elapsed().as_secs_f64();
            error.detail = format!(
                "no connection to {addresses} in {seconds:.1} s; the last attempt: {}",
                error.detail
            );
        }
        error.into()
    })
}

/// Closes a client that has all its answers.
pub(crate) async fn leave(client: &Client) {
    let _ = timeout(LEAVING, client.close()).await;
}

/// Reads how many data streams are asked for.
pub(crate) fn streams(written: &Written) -> Result<Option<u16>, Failure> {
    let streams = written.number("streams", 1, u64::from(LANES_MAX))?;
    Ok(streams.map(|streams| u16::try_from(streams).expect("checked against the most streams")))
}

/// Reads which queue is meant.
pub(crate) fn queue(written: &Written) -> Result<QueueIndex, Failure> {
    let queue = written.number("queue", 0, u64::from(QUEUES_MAX) - 1)?.unwrap_or(0);
    Ok(QueueIndex(u16::try_from(queue).expect("checked against the most queues")))
}

/// Reads a time, where there is one.
pub(crate) fn time(written: &Written, name: &str) -> Result<Option<Timestamp>, Failure> {
    let now = now();
    written.read(name, |text| {
        text::read_time(text, now).ok_or_else(|| {
            format!("takes a time (2013-01-01T10:00:00Z) or an age (2h), not {text:?}")
        })
    })
}

/// The clock, in the broker's unit.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| since.as_millis() as u64))
}

/// Runs the verb that the command line names.
pub(crate) fn run(parsed: Parsed, started: Instant) -> Result<(), Failure> {
    let Parsed { verb, mut written, format, context: given_context, controller, verbose } = parsed;
    let session = Session { started, format, given_context, given_controller: controller };
    if let Some(controller) = controller {
        // For a broker it is a setting like others.
        written.fill("controller", controller.to_string());
    }
    log_to_stderr(verb.runs, verbose);
    match verb.runs {
        Runs::Operation(Operation::PluginGet) => block_on(plugin::get(&session, &written)),
        Runs::Operation(Operation::PluginPush) => block_on(plugin::push(&session, &written)),
        Runs::Operation(operation @ (Operation::PluginTrust | Operation::PluginDistrust)) => {
            plugin::with_key(&mut written)?;
            block_on(operation::run(&session, operation, &written))
        }
        Runs::Operation(Operation::TenantAdd) => block_on(tenant::add(&session, written)),
        Runs::Operation(operation) => block_on(operation::run(&session, operation, &written)),
        Runs::Program(Program::Bench) => bench::run(&session, &written),
        Runs::Program(Program::ContextLs) => contexts::list(format),
        Runs::Program(Program::ContextUse) => contexts::choose(&written),
        Runs::Program(Program::Dev) => block_on(dev::run(&session, &written)),
        Runs::Program(Program::Explain) => explain::run(format, &written),
        Runs::Program(Program::Fetch) => block_on(fetch::run(&session, &written)),
        Runs::Program(Program::GroupSeek) => block_on(seek::run(&session, &written)),
        Runs::Program(Program::LogBackup) => log::backup(format, &written),
        Runs::Program(Program::LogDump) => log::dump(format, &written),
        Runs::Program(Program::LogRepair) => log::repair(format, &written),
        Runs::Program(Program::LogRestore) => log::restore(format, &written),
        Runs::Program(Program::LogVerify) => log::verify(format, &written),
        Runs::Program(Program::DlqDrop) => block_on(dlq::discard(&session, &written)),
        Runs::Program(Program::DlqPeek) => block_on(dlq::peek(&session, &written)),
        Runs::Program(Program::DlqResend) => block_on(dlq::resend(&session, &written)),
        Runs::Program(Program::MsgShow) => block_on(find::show(&session, &written)),
        Runs::Program(Program::PluginBench) => plugin::bench(&session, &written),
        Runs::Program(Program::PluginBuild) => plugin::build(&session, &written),
        Runs::Program(Program::PluginNew) => plugin::new(&session, &written),
        Runs::Program(Program::PluginReplay) => block_on(plugin::replay(&session, &written)),
        Runs::Program(Program::PluginTest) => plugin::test(&session, &written),
        Runs::Program(Program::Pub) => block_on(publish::run(&session, &written)),
        Runs::Program(Program::Reply) => block_on(exchange::reply(&session, &written)),
        Runs::Program(Program::Request) => block_on(exchange::request(&session, &written)),
        Runs::Program(Program::Run) => block_on(sh::run(&session, &written)),
        Runs::Program(Program::Serve) => serve_on(serve::run(&written)),
        Runs::Program(Program::Sh) => block_on(sh::sh(&session, &written)),
        Runs::Program(Program::SimShow) => sim::show(format, &written),
        Runs::Program(Program::Sub) => block_on(subscribe::run(&session, &written)),
        Runs::Program(Program::TopicFind) => block_on(find::by_key(&session, &written)),
        Runs::Program(Program::TopicPeek) => block_on(peek::run(&session, &written)),
    }
}

fn log_to_stderr(runs: Runs, verbose: bool) {
    let quiet = match runs {
        Runs::Program(Program::Serve) => "info",
        Runs::Program(Program::Dev) => "warn",
        Runs::Program(_) | Runs::Operation(_) => "off",
    };
    let chosen = env::var("YARD_LOG").ok().filter(|text| !text.is_empty());
    let filter = match (chosen, verbose) {
        (Some(chosen), _) => chosen,
        (None, true) => "info,yard_client=debug,yard_server=debug,yard_transport=debug".into(),
        (None, false) if quiet == "off" => return,
        (None, false) => quiet.into(),
    };
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_env_filter(EnvFilter::builder().parse_lossy(filter))
        .init();
}

/// Threads of a broker that read from the disk at a time.
const READERS_MAX: usize = 16;

/// Runs a verb that waits for something. Threads that still wait for a terminal are left behind.
fn block_on<F: Future<Output = Result<(), Failure>>>(verb: F) -> Result<(), Failure> {
    run_on(runtime::Builder::new_multi_thread().enable_all(), verb)
}

/// Runs a broker: its threads before those of who only uses it.
fn serve_on<F: Future<Output = Result<(), Failure>>>(verb: F) -> Result<(), Failure> {
    yard_server::os::share_no_memory();
    let mut builder = runtime::Builder::new_multi_thread();
    builder.enable_all().max_blocking_threads(READERS_MAX);
    builder.on_thread_start(|| yard_server::os::prefer(Priority::Network));
    run_on(&mut builder, verb)
}

fn run_on<F>(builder: &mut runtime::Builder, verb: F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let runtime = builder
        .build()
        .map_err(|error| Failure::local(format!("no threads could be started: {error}")))?;
    let result = runtime.block_on(verb);
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}
