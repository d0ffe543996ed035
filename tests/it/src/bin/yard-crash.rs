//! Kills a real broker again and again and looks for losses.
//!
//! ```text
//! yard-crash [--rounds N] [--seed N] [--shards N] [--yard PATH] [--history FILE]
//! yard-crash --flights FILE [--seconds N] [--shards N] [--yard PATH]
//! ```
//!
//! Exit codes: 0 nothing is wrong, 1 a promise was broken, 2 the run could not be carried out.
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use yard_it::arguments::Arguments;
use yard_it::crash::{self, CrashOptions, CrashReport};
use yard_it::flights::{self, Flights, Kills};
use yard_it::{Failed, program, yard};

const FLAGS: &[&str] = &["rounds", "seed", "shards", "yard", "history", "flights", "seconds"];

fn main() -> ExitCode {
    program::run("yard-crash", FLAGS, async |arguments| match arguments.text("flights") {
        Some(file) => run_flights(arguments, Path::new(file)).await,
        None => run_crash(arguments).await,
    })
}

/// Kills of one run: what its clients saw is judged at once, and must fit into memory.
const ROUNDS_MAX: u64 = 100;

async fn run_crash(arguments: &Arguments) -> Result<bool, Failed> {
    let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let rounds: u64 = arguments.value("rounds", 20)?;
    let seed: u64 = arguments.value("seed", clock.as_secs())?;
    let mut all = Totals::default();
    for run in 0..rounds.div_ceil(ROUNDS_MAX) {
        let options = CrashOptions {
            yard: yard::locate(arguments.text("yard").map(Path::new))?,
            rounds: ROUNDS_MAX.min(rounds - run * ROUNDS_MAX),
            seed: seed + run,
            shards: arguments.value("shards", 1)?,
            verbose: true,
        };
        let report = run_once(&options, arguments.text("history")).await?;
        all.is_clean &= report.is_clean();
        all.kills += report.verdict.counts.crashes;
        all.acked += report.verdict.counts.acked;
        all.delivered += report.verdict.counts.delivered;
        all.restarts.extend(report.restarts);
    }
    all.restarts.sort_unstable();
    println!(
        "row|R1 killed at random under load|{} kills|{} acks, {} deliveries; serving again after \
         p50 {} ms, p99 {} ms, at most {} ms|{}",
        all.kills,
        all.acked,
        all.delivered,
        all.restart_ms(50),
        all.restart_ms(99),
        all.restart_ms(100),
        if all.is_clean { "ok" } else { "FOUND" },
    );
    Ok(all.is_clean)
}

/// What all runs came to.
struct Totals {
    is_clean: bool,
    kills: u64,
    acked: u64,
    delivered: u64,
    /// How long each start took until the broker answered a client.
    restarts: Vec<Duration>,
}

impl Default for Totals {
    fn default() -> Self {
        Self { is_clean: true, kills: 0, acked: 0, delivered: 0, restarts: Vec::new() }
    }
}

impl Totals {
    /// Of 100 restarts so many took at most this long; they are in order.
    fn restart_ms(&self, percent: usize) -> u128 {
        let at = (self.restarts.len() * percent).div_ceil(100).max(1) - 1;
        self.restarts.get(at).map_or(0, Duration::as_millis)
    }
}

async fn run_once(options: &CrashOptions, history: Option<&str>) -> Result<CrashReport, Failed> {
    let CrashOptions { rounds, seed, shards, .. } = options;
    println!("yard-crash: {rounds} rounds, seed {seed}, {shards} shards");
    let began = Instant::now();
    let report = crash::run(options).await?;
    print!("{}", report.verdict);
    println!(
        "  {} answers said that an earlier attempt had stored the message; {} refusals; {:.1} s",
        report.resent,
        report.refusals.len(),
        began.elapsed().as_secs_f64(),
    );
    for refusal in &report.refusals {
        println!("    {refusal}");
    }
    if let Some(path) = history.or((!report.is_clean()).then_some("yard-crash.history")) {
        write(&report, Path::new(path))?;
    }
    Ok(report)
}

fn write(report: &CrashReport, path: &Path) -> Result<(), Failed> {
    let file = File::create(path).map_err(Failed::file(path))?;
    let mut out = BufWriter::new(file);
    report.history.write_to(&mut out)?;
    out.flush()?;
    println!("  the history is in {}", path.display());
    Ok(())
}

async fn run_flights(arguments: &Arguments, file: &Path) -> Result<bool, Failed> {
    let program = yard::locate(arguments.text("yard").map(Path::new))?;
    let flights = Flights::read(file)?;
    let seconds: u64 = arguments.value("seconds", 20)?;
    let shards = arguments.value("shards", 1)?;
    let rate = (flights.count() / seconds.max(1)).max(1);
    println!("yard-crash: {} flights, {rate} a second, {shards} shards", flights.count());
    let report = flights::run(&flights, &program, shards, Kills::Three { rate }).await?;
    println!(
        "  sent in {:.1} s, the broker killed at 20, 50 and 80 %; {} messages stored",
        report.sending.as_secs_f64(),
        report.stored,
    );
    for ((group, received), took) in report.groups.iter().zip(&report.receiving) {
        println!(
            "  group {group}: {} lines in {:.1} s; {} missing, {} twice, {} foreign, {} disordered",
            received.lines,
            took.as_secs_f64(),
            received.missing,
            received.twice,
            received.foreign,
            received.disordered,
        );
        for example in &received.examples {
            println!("    {example}");
        }
    }
    let is_exact = report.is_exact(&flights);
    println!("verdict: {}", if is_exact { "clean" } else { "not what was sent" });
    Ok(is_exact)
}
