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
use std::time::Instant;

use yard_it::arguments::Arguments;
use yard_it::crash::{self, CrashOptions, CrashReport};
use yard_it::flights::{self, Flights, Kills};
use yard_it::{Failed, yard};

const FLAGS: &[&str] = &["rounds", "seed", "shards", "yard", "history", "flights", "seconds"];

fn main() -> ExitCode {
    let run = || -> Result<bool, Failed> {
        let arguments = Arguments::read(std::env::args().skip(1), FLAGS)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            match arguments.text("flights") {
                Some(file) => run_flights(&arguments, Path::new(file)).await,
                None => run_crash(&arguments).await,
            }
        })
    };
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failed) => {
            eprintln!("yard-crash: {failed}");
            ExitCode::from(2)
        }
    }
}

async fn run_crash(arguments: &Arguments) -> Result<bool, Failed> {
    let clock = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let options = CrashOptions {
        yard: yard::locate(arguments.text("yard").map(Path::new))?,
        rounds: arguments.value("rounds", 20)?,
        seed: arguments.value("seed", clock.as_secs())?,
        shards: arguments.value("shards", 1)?,
        verbose: true,
    };
    let CrashOptions { rounds, seed, shards, .. } = options;
    println!("yard-crash: {rounds} rounds, seed {seed}, {shards} shards");
    let began = Instant::now();
    let report = crash::run(&options).await?;
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
    let counts = report.verdict.counts;
    println!(
        "row|R1 killed at random under load|{} kills|{} acks, {} deliveries; serving again after \
         p50 {} ms, p99 {} ms, at most {} ms|{}",
        counts.crashes,
        counts.acked,
        counts.delivered,
        report.restart_percentile(50).as_millis(),
        report.restart_percentile(99).as_millis(),
        report.restart_percentile(100).as_millis(),
        if report.is_clean() { "ok" } else { "FOUND" },
    );
    let named = arguments.text("history");
    if let Some(path) = named.or((!report.is_clean()).then_some("yard-crash.history")) {
        write(&report, Path::new(path))?;
    }
    Ok(report.is_clean())
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
