//! Flips bits of recorded logs and cuts their ends off, and looks for what else is missing.
//!
//! ```text
//! yard-damage [--logs N] [--flips N] [--cut-every N] [--jobs N]
//! ```
//!
//! Exit codes: 0 nothing is wrong, 1 a promise was broken, 2 the run could not be carried out.
use std::process::ExitCode;

use yard_sim::damage::{Campaign, Cases};

fn main() -> ExitCode {
    let mut campaign = Campaign {
        logs: 8,
        flips: 14_000,
        cut_every: 8,
        erases: true,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        plant: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let number = words.next().and_then(|text| text.parse::<u64>().ok());
        match (word.as_str(), number) {
            ("--logs", Some(number)) => campaign.logs = number,
            ("--flips", Some(number)) => campaign.flips = number,
            ("--cut-every", Some(number)) => campaign.cut_every = number,
            ("--jobs", Some(number)) => campaign.jobs = number as usize,
            _ => {
                eprintln!("yard-damage: {word:?} is not known or wants a number");
                return ExitCode::from(2);
            }
        }
    }
    // A panic of what is under test is a finding like any other.
    std::panic::set_hook(Box::new(|_| {}));
    let report = campaign.run();
    let tried = report.flips.tried + report.cuts.tried + report.erasures.tried;
    let seconds = report.took.as_secs_f64();
    println!("{} logs, {tried} cases in {seconds:.1} s", campaign.logs);
    row("R5 the last 64 KiB of the log cut off", report.cuts);
    row("R6 flipped bits in all files", report.flips);
    row("R6 the last groups erased", report.erasures);
    for finding in &report.findings {
        println!("  {finding}");
    }
    if report.found() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn row(name: &str, cases: Cases) {
    let Cases { tried, hit, missing, reported, whole, found } = cases;
    let verdict = if found == 0 { "ok".to_owned() } else { format!("{found} FOUND") };
    println!(
        "row|{name}|{tried} cases|{hit} hit records: {missing} missing, {reported} reported, \
         {whole} delivered|{verdict}"
    );
}
