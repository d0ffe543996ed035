//! Many seeds, some at a time; and the search for the seed that catches a planted bug.
//!
//! Each seed is a process of its own. tokio counts its runtimes, and draws from that count in which
//! order those who wait for the same value wake up: only the first runtime of a process, whose
//! randomness is fixed (`entropy.rs`), does the same again.
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::planted::Plant;
use crate::run::Outcome;

/// Operations of clients in a run when nobody says otherwise.
pub const OPERATIONS: u64 = 100;
/// Seeds of the slice that every change is tried with.
pub const SLICE_SEEDS: u64 = 120;
/// One in so many seeds is run twice.
const TWICE_ONE_IN: u64 = 20;

/// What to run.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// This crate's program.
    pub program: PathBuf,
    /// First seed.
    pub start: u64,
    /// How many.
    pub seeds: u64,
    /// Operations of clients in each, about.
    pub operations: u64,
    /// Seeds at a time.
    pub jobs: usize,
    /// Goes on after a seed that failed.
    pub keeps_going: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Swept {
    /// Seeds run.
    pub seeds: u64,
    /// Seeds run twice.
    pub twice: u64,
    /// Operations of clients in all of them.
    pub operations: u64,
    /// Deaths of the broker in all of them.
    pub crashes: u64,
    /// Messages stored in all of them.
    pub stored: u64,
    /// The failures, by seed.
    pub failures: Vec<(u64, String)>,
    /// How long it took.
    pub took: Duration,
}

impl Sweep {
    /// Runs the seeds.
    #[must_use]
    pub fn run(&self) -> Swept {
        let began = Instant::now();
        let work = |number| self.run_one(self.start + number);
        let mut swept = yard_sim::share_out((self.jobs, self.seeds), work, Swept::add);
        swept.failures.sort();
        swept.took = began.elapsed();
        swept
    }

    fn run_one(&self, seed: u64) -> ControlFlow<Swept, Swept> {
        let outcome = run_apart(&self.program, seed, self.operations, None);
        let (operations, crashes, stored) = (outcome.operations, outcome.crashes, outcome.stored);
        let mut part = Swept { seeds: 1, operations, crashes, stored, ..Swept::default() };
        let mut failure = outcome.failure;
        if failure.is_none() && seed.is_multiple_of(TWICE_ONE_IN) {
            part.twice += 1;
            let again = run_apart(&self.program, seed, self.operations, None);
            if again.hash != outcome.hash {
                let hashes = format!("{:016x} and {:016x}", outcome.hash, again.hash);
                failure = Some(format!("not deterministic: {hashes}"));
            }
        }
        let Some(failure) = failure else { return ControlFlow::Continue(part) };
        part.failures.push((seed, failure));
        if self.keeps_going { ControlFlow::Continue(part) } else { ControlFlow::Break(part) }
    }
}

impl Swept {
    fn add(&mut self, mut part: Self) {
        self.seeds += part.seeds;
        self.twice += part.twice;
        self.operations += part.operations;
        self.crashes += part.crashes;
        self.stored += part.stored;
        self.failures.append(&mut part.failures);
    }
}

/// The first of the seeds within its bound that shows a planted bug, with what it shows.
#[must_use]
pub fn catch(program: &Path, plant: Plant, operations: u64) -> Option<(u64, String)> {
    (0..plant.seeds_max()).find_map(|seed| {
        let failure = run_apart(program, seed, operations, Some(plant)).failure?;
        // What fails without the bug as well says nothing about it.
        let clean = run_apart(program, seed, operations, None).failure.is_none();
        clean.then_some((seed, failure))
    })
}

/// Runs a seed in a process of its own; one that dies has failed.
#[must_use]
pub fn run_apart(program: &Path, seed: u64, operations: u64, plant: Option<Plant>) -> Outcome {
    let mut command = Command::new(program);
    command.args(["--apart", &seed.to_string(), "--ops", &operations.to_string()]);
    command.args(plant.iter().flat_map(|plant| ["--plant", plant.name()]));
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return failed(seed, format!("no process: {error}")),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    Outcome::read(seed, &said).unwrap_or_else(|| {
        let why = String::from_utf8_lossy(&output.stderr);
        failed(seed, format!("its process ended with {}: {why}", output.status))
    })
}

fn failed(seed: u64, why: String) -> Outcome {
    Outcome { seed, failure: Some(why), ..Outcome::default() }
}
