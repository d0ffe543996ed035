//! Measures what a tenant notices of a noisy neighbour.
//!
//! ```text
//! yard-neighbour [--neighbour load|hostile] [--connections N] [--part N] [--rounds N]
//!                [--seconds N] [--shards N] [--nice N] [--yard PATH]
//! ```
//!
//! The neighbour sends all it can, or runs plugins that are made to hurt. Who is measured sends a
//! quarter of what it can (`--part 4`).
//!
//! It is a benchmark: it prints a table and judges nothing. Exit codes: 0 measured, 2 not.
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use yard_it::arguments::Arguments;
use yard_it::neighbour::{self, Kind, NeighbourOptions};
use yard_it::{Failed, program, yard};

const FLAGS: &[&str] =
    &["neighbour", "connections", "part", "rounds", "seconds", "shards", "yard", "noise", "nice"];
const CONNECTIONS: usize = 128;

fn main() -> ExitCode {
    program::run("yard-neighbour", FLAGS, async |arguments| {
        let connections = arguments.value("connections", CONNECTIONS)?;
        let kind = arguments.value("neighbour", Kind::Load)?;
        match arguments.text("noise") {
            // Started by the measuring process.
            Some(path) => neighbour::serve_noise(Path::new(path), kind, connections).await,
            None => measure(arguments, kind, connections).await,
        }
    })
}

async fn measure(arguments: &Arguments, kind: Kind, connections: usize) -> Result<(), Failed> {
    let options = NeighbourOptions {
        yard: yard::locate(arguments.text("yard").map(Path::new))?,
        me: std::env::current_exe()?,
        kind,
        connections,
        part: arguments.value("part", 4)?,
        niceness: arguments.value("nice", 0)?,
        rounds: arguments.value("rounds", 6)?,
        round: Duration::from_secs(arguments.value("seconds", 4)?),
        shards: arguments.value("shards", 1)?,
    };
    let NeighbourOptions { rounds, round, shards, .. } = &options;
    let seconds = round.as_secs();
    println!(
        "{connections} noisy connections, {rounds} x 2 rounds of {seconds} s, {shards} shards"
    );
    print!("{}", neighbour::run(&options).await?);
    Ok(())
}
