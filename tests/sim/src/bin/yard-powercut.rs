//! Cuts the power at every step of recorded scripts and looks for losses.
//!
//! ```text
//! yard-powercut [--scripts N] [--draws N] [--jobs N]
//! ```
//!
//! Exit codes: 0 nothing is wrong, 1 a promise was broken, 2 the run could not be carried out.
use std::process::ExitCode;

use yard_sim::powercut::{self, Campaign, States};

fn main() -> ExitCode {
    let mut campaign = Campaign {
        scripts: 24,
        draws: powercut::DRAWS,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        plant: None,
        states_max: u64::MAX,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let number = words.next().and_then(|text| text.parse::<u64>().ok());
        match (word.as_str(), number) {
            ("--scripts", Some(number)) => campaign.scripts = number,
            ("--draws", Some(number)) => campaign.draws = number,
            ("--jobs", Some(number)) => campaign.jobs = number as usize,
            _ => {
                eprintln!("yard-powercut: {word:?} is not known or wants a number");
                return ExitCode::from(2);
            }
        }
    }
    let report = campaign.run();
    let seconds = report.took.as_secs_f64();
    println!(
        "{} scripts, {} steps of their disks, {seconds:.1} s: {:.0} states/s a core",
        report.scripts,
        report.steps,
        report.states() as f64 / seconds / campaign.jobs.max(1) as f64,
    );
    row("R3 power cut at every write, in order", report.in_order, &report.findings);
    row("R4 unsynced writes dropped or torn", report.reordered, &report.findings);
    for finding in &report.findings {
        println!("  {finding}");
    }
    if report.found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn row(name: &str, states: States, findings: &[String]) {
    let States { distinct, promised, outstanding } = states;
    let verdict = if findings.is_empty() { "ok" } else { "FOUND" };
    println!(
        "row|{name}|{distinct} states|{promised} with promises to keep, {outstanding} of these \
         with requests under way|{verdict}"
    );
}
