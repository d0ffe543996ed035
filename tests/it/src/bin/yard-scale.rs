//! Measures what much costs: many topics, a long log.
//!
//! ```text
//! yard-scale --what spread  [--topics N[,N]] [--rounds N] [--mebibytes N] [--body N] [--batch N]
//! yard-scale --what memory  [--topics N] [--messages N]
//! yard-scale --what restart [--mebibytes N] [--body N] [--topics N] [--restarts N] [--between N]
//! yard-scale --what lookups [--messages N] [--rounds N] [--seconds N] [--per-second N]
//!            each: [--segment-mebibytes N] [--yard PATH]
//! ```
//!
//! They are benchmarks: figures are printed and nothing is judged. Exit codes: 0 measured, 2 not.
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use yard_it::arguments::Arguments;
use yard_it::scale::{self, LookupOptions, MemoryOptions, RestartOptions, SpreadOptions};
use yard_it::{Failed, program, yard};

const FLAGS: &[&str] = &[
    "what",
    "topics",
    "rounds",
    "mebibytes",
    "body",
    "batch",
    "messages",
    "seconds",
    "per-second",
    "restarts",
    "between",
    "segment-mebibytes",
    "yard",
];
const SEGMENT_MEBIBYTES: u64 = 128;

fn main() -> ExitCode {
    program::run("yard-scale", FLAGS, async |arguments| {
        let found = match arguments.text("what") {
            Some("spread") => spread(arguments).await,
            Some("memory") => memory(arguments).await,
            Some("restart") => restart(arguments).await,
            Some("lookups") => lookups(arguments).await,
            _ => Err(Failed("--what takes spread, memory, restart or lookups".to_owned())),
        };
        found.map(|said| print!("{said}"))
    })
}

async fn spread(arguments: &Arguments) -> Result<String, Failed> {
    let topics = arguments.text("topics").unwrap_or("10000,100000").split(',');
    let topics: Result<Vec<usize>, _> = topics.map(str::parse).collect();
    let options = SpreadOptions {
        yard: yard::locate(arguments.text("yard").map(Path::new))?,
        topics: topics.map_err(|error| Failed(format!("--topics: {error}")))?,
        rounds: arguments.value("rounds", 7)?,
        mebibytes: arguments.value("mebibytes", 96)?,
        body_bytes: arguments.value("body", 1 << 10)?,
        batch_messages: arguments.value("batch", 60)?,
        segment_bytes: Some(arguments.value("segment-mebibytes", SEGMENT_MEBIBYTES)? << 20),
    };
    scale::spread(&options).await
}

async fn memory(arguments: &Arguments) -> Result<String, Failed> {
    let options = MemoryOptions {
        yard: yard::locate(arguments.text("yard").map(Path::new))?,
        topics: arguments.value("topics", 100_000)?,
        messages: arguments.value("messages", 3)?,
    };
    scale::memory(&options).await
}

async fn lookups(arguments: &Arguments) -> Result<String, Failed> {
    let options = LookupOptions {
        yard: yard::locate(arguments.text("yard").map(Path::new))?,
        messages: arguments.value("messages", 200_000)?,
        rounds: arguments.value("rounds", 7)?,
        round: Duration::from_secs(arguments.value("seconds", 4)?),
        per_second: arguments.value("per-second", 100)?,
    };
    scale::lookups(&options).await
}

async fn restart(arguments: &Arguments) -> Result<String, Failed> {
    let options = RestartOptions {
        yard: yard::locate(arguments.text("yard").map(Path::new))?,
        mebibytes: arguments.value("mebibytes", 1 << 10)?,
        body_bytes: arguments.value("body", 1 << 10)?,
        topics: arguments.value("topics", 8)?,
        restarts: arguments.value("restarts", 100)?,
        between_mebibytes: arguments.value("between", 8)?,
        segment_bytes: arguments.value("segment-mebibytes", SEGMENT_MEBIBYTES)? << 20,
    };
    scale::restart(&options).await
}
