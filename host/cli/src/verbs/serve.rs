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

pub(crate) async fn run(written: &Written) -> Result<(), Failure> {
    let settings = settings(written).map_err(|problems| wrong(&problems))?;
    let (dev, data) = (settings.dev, settings.data.clone());
    let mut interrupts = Interrupts::catch()?;
    let running = yard_server::start(settings).await.map_err(|error| not_started(&error))?;
    if dev {
        let file = data.join("context.toml");
        eprintln!("context for clients: {}", file.display());
        match save(CONTEXT, &client_context(&running)) {
            Ok(()) => eprintln!("other commands use it without saying so (saved as {CONTEXT})"),
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
    Failure::local(format!("the broker cannot start: {error}"))
}

/// Saves a context and makes it the one that later commands use.
pub(crate) fn save(name: &str, context: &Context) -> Result<(), Failure> {
    let contexts = Contexts::of_user()?;
    contexts.save(name, context.clone())?;
    contexts.choose(name)
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
    }
}
