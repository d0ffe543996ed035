//! Measures what a tenant notices of a noisy neighbour.
//!
//! ```text
//! yard-neighbour [--connections N] [--rounds N] [--seconds N] [--shards N] [--nice N]
//!                [--yard PATH]
//! ```
//!
//! It is a benchmark: it prints a table and judges nothing. Exit codes: 0 measured, 2 not.
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use yard_it::arguments::Arguments;
use yard_it::neighbour::{self, NeighbourOptions};
use yard_it::{Failed, program, yard};

const FLAGS: &[&str] = &["connections", "rounds", "seconds", "shards", "yard", "noise", "nice"];
const CONNECTIONS: usize = 128;

fn main() -> ExitCode {
    program::run("yard-neighbour", FLAGS, async |arguments| {
        let connections = arguments.value("connections", CONNECTIONS)?;
        match arguments.text("noise") {
            // Started by the measuring process.
            Some(path) => neighbour::serve_noise(Path::new(path), connections).await,
            None => measure(arguments, connections).await,
        }
    })
}

async fn measure(arguments: &Arguments, connections: usize) -> Result<(), Failed> {
    let options = NeighbourOptions {
        yard: yard::locate(arguments.text("yard").map(Path::new))?,
        me: std::env::current_exe()?,
        connections,
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
