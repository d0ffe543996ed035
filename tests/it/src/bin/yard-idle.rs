//! Measures what an idle connection costs the broker in memory.
//!
//! ```text
//! yard-idle [--connections N] [--yard PATH]
//! ```
//!
//! A connection has said hello, has its control stream and one data stream open, and is silent.
//! What is printed is the growth of the process's anonymous memory, divided. Exit codes: 0
//! measured, 2 not.
use std::path::Path;
use std::process::ExitCode;

use yard_it::arguments::Arguments;
use yard_it::raw::{Raw, RawWindows};
use yard_it::server::{Server, ServerOptions};
use yard_it::{Failed, program, yard};

/// Connections that are made first, so that what the process needs once is not counted.
const FIRST: usize = 50;

fn main() -> ExitCode {
    program::run("yard-idle", &["connections", "yard"], measure)
}

async fn measure(arguments: &Arguments) -> Result<(), Failed> {
    let connections: usize = arguments.value("connections", 1_000)?;
    let yard = yard::locate(arguments.text("yard").map(Path::new))?;
    let server = Server::start(ServerOptions::new(yard)).await?;
    let context = server.context()?;
    let mut kept = Vec::new();
    for _ in 0..FIRST {
        kept.push(greeted(&context).await?);
    }
    let before = server.rss_anon()?;
    for _ in 0..connections {
        kept.push(greeted(&context).await?);
    }
    let after = server.rss_anon()?;
    let each = after.saturating_sub(before) / connections.max(1) as u64;
    println!("{connections} connections: {before} -> {after} bytes, {each} bytes each");
    for (raw, _streams) in kept {
        raw.close();
    }
    Ok(())
}

/// A connection with its control stream and one data stream.
async fn greeted(
    context: &yard_client::Context,
) -> Result<(Raw, (yard_it::raw::RawStream, yard_it::raw::RawStream)), Failed> {
    let raw = Raw::connect(context, RawWindows::default()).await?;
    let (control, data, _welcome) = raw.welcomed().await?;
    Ok((raw, (control, data)))
}
