//! `yard-judge [OPERATIONS]`: how long the checker takes over a history that is made up, on one
//! core; without a number ten million operations, which need some 4 GiB of memory.
use std::process::ExitCode;
use std::time::Instant;

use yard_checker::{Options, check, made};

const OPERATIONS: u64 = 10_000_000;

fn main() -> ExitCode {
    let asked = std::env::args().nth(1).map_or(Ok(OPERATIONS), |word| word.parse());
    let Ok(operations) = asked else {
        eprintln!("usage: yard-judge [OPERATIONS]");
        return ExitCode::from(2);
    };
    let history = made::history(operations);
    let began = Instant::now();
    let verdict = check(&history, &Options::drained());
    let seconds = began.elapsed().as_secs_f64();
    let counts = verdict.counts;
    print!("{verdict}");
    println!(
        "{} operations, {} deliveries judged in {seconds:.1} s",
        counts.operations, counts.delivered
    );
    if verdict.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
