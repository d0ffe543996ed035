//! Measures what can happen to a message between send and acknowledgement, and counts whether it
//! was exact.
//!
//! ```text
//! yard-life --what order        [--messages N] [--rounds N] [--alone N] [--way-ms N] [--seed N]
//! yard-life --what delayed      [--messages N] [--minutes N] [--load N]
//! yard-life --what storm        [--messages N] [--rounds N]
//! yard-life --what transactions [--messages N] [--kills N] [--seed N]
//! yard-life --what flights      [--messages N] [--every-ms N] [--kills N] [--file PATH]
//!           each: [--yard PATH]
//! ```
//!
//! A row a figure, with its bar where it has one. Exit codes: 0 exact, 1 not, however fast it was,
//! 2 not run.
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use yard_it::arguments::Arguments;
use yard_it::life::{self, Report};
use yard_it::program::Verdict;
use yard_it::{Failed, program, yard};

const FLAGS: &[&str] = &[
    "what", "messages", "rounds", "alone", "way-ms", "seed", "minutes", "load", "kills",
    "every-ms", "file", "yard", "part", "name", "context", "database",
];
/// Next to the repository; it is not part of it.
const FLIGHTS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/flights-2013.ndjson.gz");
/// Of a producer, transactions between two kills.
const TRANSACTIONS_A_KILL: u64 = 2_000;

fn main() -> ExitCode {
    program::run("yard-life", FLAGS, async |arguments| {
        if let Some(part) = arguments.text("part") {
            // Started by the measuring process.
            return play(part, arguments).await.map(|()| true);
        }
        let report = match arguments.text("what") {
            Some("order") => order(arguments).await?,
            Some("delayed") => delayed(arguments).await?,
            Some("storm") => storm(arguments).await?,
            Some("transactions") => transactions(arguments).await?,
            Some("flights") => flights(arguments).await?,
            _ => {
                let all = "order, delayed, storm, transactions or flights";
                return Err(Failed(format!("--what takes {all}")));
            }
        };
        print!("{report}");
        Ok(report.is_good())
    })
}

async fn play(part: &str, arguments: &Arguments) -> Result<(), Failed> {
    let text = |name: &str| arguments.text(name).unwrap_or_default().to_owned();
    let options = life::PartOptions {
        context: text("context").into(),
        database: text("database").into(),
        name: text("name"),
        messages: arguments.value("messages", 0)?,
        seed: arguments.value("seed", 0)?,
    };
    life::part(part, &options).await
}

fn program(arguments: &Arguments) -> Result<PathBuf, Failed> {
    yard::locate(arguments.text("yard").map(Path::new))
}

async fn order(arguments: &Arguments) -> Result<Report, Failed> {
    let options = life::OrderOptions {
        yard: program(arguments)?,
        messages: arguments.value("messages", 20_000)?,
        alone: arguments.value("alone", 60)?,
        rounds: arguments.value("rounds", 3)?,
        way: Duration::from_millis(arguments.value("way-ms", 25)?),
        seed: arguments.value("seed", 1)?,
    };
    life::order(&options).await
}

async fn delayed(arguments: &Arguments) -> Result<Report, Failed> {
    let minutes: f64 = arguments.value("minutes", 10.0)?;
    let span = Duration::try_from_secs_f64(minutes * 60.0);
    let options = life::DelayedOptions {
        yard: program(arguments)?,
        messages: arguments.value("messages", 1_000_000)?,
        span: span.map_err(|error| Failed(format!("--minutes: {error}")))?,
        load: arguments.value("load", 0)?,
    };
    life::delayed(&options).await
}

async fn storm(arguments: &Arguments) -> Result<Report, Failed> {
    let options = life::StormOptions {
        yard: program(arguments)?,
        messages: arguments.value("messages", 1_000_000)?,
        rounds: arguments.value("rounds", 3)?,
    };
    life::storm(&options).await
}

async fn transactions(arguments: &Arguments) -> Result<Report, Failed> {
    let transactions = arguments.value("messages", 100_000)?;
    let options = life::TransactionsOptions {
        yard: program(arguments)?,
        life: std::env::current_exe()?,
        transactions,
        kills: arguments.value("kills", (transactions / TRANSACTIONS_A_KILL).max(1))?,
        seed: arguments.value("seed", 1)?,
    };
    life::transactions(&options).await
}

async fn flights(arguments: &Arguments) -> Result<Report, Failed> {
    let options = life::FlightsOptions {
        yard: program(arguments)?,
        life: std::env::current_exe()?,
        file: arguments.text("file").unwrap_or(FLIGHTS).into(),
        messages: arguments.value("messages", usize::MAX)?,
        every: Duration::from_millis(arguments.value("every-ms", 1_000)?),
        kills_max: arguments.value("kills", u64::MAX)?,
    };
    life::flights(&options).await
}
