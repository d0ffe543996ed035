//! Measures how much faster a backlog is consumed that is passed on to a wider topic, and whether
//! the order of each key is kept on the way there and back.
//!
//! ```text
//! yard-backlog [--messages N] [--keys N] [--queues N] [--times N] [--handler-ms N] [--before-s N]
//!              [--live N] [--shards N] [--at-least RATIO] [--yard PATH]
//! ```
//!
//! Exit codes: 0 as fast as wanted and in order, 1 not, 2 not run.
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use yard_it::arguments::Arguments;
use yard_it::backlog::{Backlog, run};
use yard_it::server::{Server, ServerOptions};
use yard_it::{Failed, program, yard};

const FLAGS: &[&str] = &[
    "messages",
    "keys",
    "queues",
    "times",
    "handler-ms",
    "before-s",
    "live",
    "shards",
    "at-least",
    "yard",
];

fn main() -> ExitCode {
    program::run("yard-backlog", FLAGS, measure)
}

async fn measure(arguments: &Arguments) -> Result<bool, Failed> {
    let messages = arguments.value("messages", 1_000_000)?;
    let backlog = Backlog {
        messages,
        keys: arguments.value("keys", 100_000)?,
        queues: arguments.value("queues", 8)?,
        times: arguments.value("times", 10)?,
        handler: Duration::from_millis(arguments.value("handler-ms", 5)?),
        before: Duration::from_secs(arguments.value("before-s", 10)?),
        live: arguments.value("live", messages / 100)?,
    };
    let at_least: f64 = arguments.value("at-least", 8.0)?;
    let yard = yard::locate(arguments.text("yard").map(Path::new))?;
    let options =
        ServerOptions { shards: arguments.value("shards", 1)?, ..ServerOptions::new(yard) };
    let server = Server::start(options).await?;
    let found = run(&server, &backlog).await?;
    let is_good = found.is_good(&backlog) && found.ratio() >= at_least;
    let verdict = if is_good { "ok" } else { "FOUND" };
    println!("row|a backlog passed on to a wider topic|{backlog}|{found}|{verdict}");
    Ok(is_good)
}
