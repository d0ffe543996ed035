//! `yard-judge FILE` judges a history that somebody recorded, for example `yard bench --record`.
//! `yard-judge [OPERATIONS]`: how long the checker takes over a history that is made up, on one
//! core; without a number ten million operations, which need some 4 GiB of memory.
use std::fs::File;
use std::io::BufReader;
use std::process::ExitCode;
use std::time::Instant;

use yard_checker::{History, Options, check, made};

const OPERATIONS: u64 = 10_000_000;

/// A history, and what it promises: one that is made up has no end that is open.
fn history() -> Result<(History, Options), String> {
    let Some(word) = std::env::args().nth(1) else {
        return Ok((made::history(OPERATIONS), Options::drained()));
    };
    if let Ok(operations) = word.parse() {
        return Ok((made::history(operations), Options::drained()));
    }
    let file = File::open(&word).map_err(|error| format!("{word}: {error}"))?;
    let history = History::read_from(BufReader::new(file));
    Ok((history.map_err(|error| format!("{word}: {error}"))?, Options::default()))
}

fn main() -> ExitCode {
    let (history, options) = match history() {
        Ok(found) => found,
        Err(error) => {
            eprintln!("error: {error}\nusage: yard-judge [FILE | OPERATIONS]");
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let verdict = check(&history, &options);
    let seconds = began.elapsed().as_secs_f64();
    let counts = verdict.counts;
    print!("{verdict}");
    println!(
        "{} operations, {} deliveries judged in {seconds:.1} s",
        counts.operations, counts.delivered
    );
    if verdict.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
