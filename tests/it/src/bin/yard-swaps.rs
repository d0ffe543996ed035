//! Swaps versions of a filter under load, and counts what was lost, repeated, reordered or judged
//! by two versions.
//!
//! ```text
//! yard-swaps [--swaps N] [--messages N] [--yard PATH]
//! ```
//!
//! Exit codes: 0 nothing of the kind, 1 something, 2 not run.
use std::path::Path;
use std::process::ExitCode;

use yard_it::arguments::Arguments;
use yard_it::server::{Server, ServerOptions};
use yard_it::swaps::{Swaps, run};
use yard_it::{Failed, program, yard};

fn main() -> ExitCode {
    program::run("yard-swaps", &["swaps", "messages", "yard"], swap)
}

async fn swap(arguments: &Arguments) -> Result<bool, Failed> {
    let swaps = arguments.value("swaps", 1_000)?;
    let messages = arguments.value("messages", 100_000)?;
    let yard = yard::locate(arguments.text("yard").map(Path::new))?;
    let server = Server::start(ServerOptions::new(yard)).await?;
    let found = run(&server, Swaps { messages, swaps }).await?;
    let verdict = if found.is_good() { "ok" } else { "FOUND" };
    println!("row|swaps of a filter under load|{} swaps|{found}|{verdict}", found.swaps);
    Ok(found.is_good())
}
