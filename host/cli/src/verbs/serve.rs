//! `yard serve`: a broker until it is told to stop.
use std::env;
use std::path::Path;

use yard_client::Context;
use yard_server::config::{self, Layer, Problem, Settings};
use yard_server::{Running, StartError};

use crate::args::Written;
use crate::context::Contexts;
use crate::failure::Failure;
use crate::output::Format;
use crate::terminal::Interrupts;

/// Name under which a broker in development mode saves its context.
const CONTEXT: &str = "serve";
/// Names of contexts that a broker saves by itself, so that it may put one in another's place.
const OWN: [&str; 2] = ["dev", CONTEXT];

pub(crate) async fn run(written: &Written) -> Result<(), Failure> {
    let settings = settings(written).map_err(|problems| wrong(&problems))?;
    let (dev, data) = (settings.dev, settings.data.clone());
    warn_of_strangers(&settings);
    let mut interrupts = Interrupts::catch()?;
    let running = yard_server::start(settings).await.map_err(|error| not_started(&error))?;
    if dev {
        let file = data.join("context.toml");
        eprintln!("context for clients: {}", file.display());
        match save(CONTEXT, &client_context(&running)) {
            Ok(true) => eprintln!("other commands use it without saying so (saved as {CONTEXT})"),
            Ok(false) if is_chosen(&file) => eprintln!("commands use it (YARD_CONTEXT)"),
            Ok(false) => eprintln!("{}", how_to_use(CONTEXT)),
            Err(failure) => failure.report(Format::Table),
        }
    }
    eprintln!("listening on {}", running.local_addr());
    interrupts.next().await;
    eprintln!("stopping");
    tokio::select! {
        () = running.stop() => Ok(()),
        () = interrupts.next() => Err(Failure::local("stopped at the second signal")),
    }
}

/// Settings of the file, the environment and the flags; later ones win.
fn settings(written: &Written) -> Result<Settings, Vec<Problem>> {
    let file = written.text("config").map(str::to_owned).or_else(|| env::var("YARD_CONFIG").ok());
    let (mut layers, mut problems) = (Vec::new(), Vec::new());
    if let Some(path) = file {
        match config::file(Path::new(&path)) {
            Ok(layer) => layers.push(layer),
            Err(problem) => problems.push(problem),
        }
    }
    let texts = env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
    layers.push(config::environment(texts));
    let flag = |key: &config::Key| Some((key.name, written.text(key.name)?.to_owned()));
    layers.push(Layer::flags(Settings::KEYS.iter().filter_map(flag)));
    if !problems.is_empty() {
        return Err(problems);
    }
    Settings::from_layers(&layers)
}

pub(crate) fn wrong(problems: &[Problem]) -> Failure {
    let lines: Vec<String> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
    Failure::usage(format!("the settings cannot be used:{}", lines.concat()))
}

/// What stands against the start, with the address or file that it is about.
pub(crate) fn not_started(error: &StartError) -> Failure {
    let failure = Failure::local(format!("the broker cannot start: {error}"));
    match error.code() {
        Some(code) => failure.with_code(code),
        None => failure,
    }
}

/// Saves a context, and makes it the one that later commands use where none was chosen. Whether
/// they use it.
pub(crate) fn save(name: &str, context: &Context) -> Result<bool, Failure> {
    let contexts = Contexts::of_user()?;
    contexts.save(name, context.clone())?;
    contexts.choose_unless_chosen(name, &OWN)
}

/// Whether the environment names this file, in whichever way.
fn is_chosen(file: &Path) -> bool {
    let used = crate::context::of_environment().map(std::fs::canonicalize);
    matches!((used, std::fs::canonicalize(file)), (Some(Ok(used)), Ok(file)) if used == file)
}

/// What to do where another context is in use.
pub(crate) fn how_to_use(name: &str) -> String {
    if let Some(used) = crate::context::of_environment() {
        return format!(
            "commands use {used} (YARD_CONTEXT); for this broker give --context {name}"
        );
    }
    format!(
        "saved as {name}; another context stays current: give --context {name}, or \
         `yard context use {name}`"
    )
}

/// In development mode, what is open on this machine is not open to others.
pub(crate) fn warn_of_strangers(settings: &Settings) {
    if settings.dev && !settings.listen.ip().is_loopback() {
        eprintln!(
            "warning: {} is not loopback: clients there need a certificate, only clients on \
             loopback enter without one",
            settings.listen
        );
    }
}

/// How an operator of this broker connects.
pub(crate) fn client_context(running: &Running) -> Context {
    let found = running.connection().clone();
    Context {
        addresses: found.addresses,
        authority_pem: found.authority,
        certificate_pem: found.certificate,
        key_pem: found.key,
        server_name: Some(found.server_name),
        tenant: found.tenant,
        ..Context::default()
    }
}
