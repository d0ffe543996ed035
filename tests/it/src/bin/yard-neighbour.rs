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
use yard_it::{Failed, yard};

const FLAGS: &[&str] = &["connections", "rounds", "seconds", "shards", "yard", "noise", "nice"];
const CONNECTIONS: usize = 128;

fn main() -> ExitCode {
    let run = || -> Result<(), Failed> {
        let arguments = Arguments::read(std::env::args().skip(1), FLAGS)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let connections = arguments.value("connections", CONNECTIONS)?;
        let done = match arguments.text("noise") {
            // Started by the measuring process.
            Some(path) => runtime.block_on(neighbour::serve_noise(Path::new(path), connections)),
            None => runtime.block_on(measure(&arguments, connections)),
        };
        runtime.shutdown_timeout(Duration::from_millis(100));
        done
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("yard-neighbour: {failed}");
            ExitCode::from(2)
        }
    }
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
