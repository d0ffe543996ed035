//! Many seeds, some at a time.
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::counts::Counts;
use crate::nursery::Nurseries;

/// Operations of clients in a run when nobody says otherwise.
pub const OPERATIONS: u64 = 100;
/// Seeds of the slice that every change is tried with.
pub const SLICE_SEEDS: u64 = 120;
/// One in so many seeds is run twice.
const TWICE_ONE_IN: u64 = 20;

/// What to run.
#[derive(Clone, Debug)]
pub struct Sweep {
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
    /// Of all of them.
    pub counts: Counts,
    /// The failures, by seed.
    pub failures: Vec<(u64, String)>,
    /// How long it took.
    pub took: Duration,
}

impl Sweep {
    /// Runs the seeds.
    #[must_use]
    pub fn run(&self, nurseries: &Nurseries) -> Swept {
        let began = Instant::now();
        let work = |number| self.run_one(nurseries, self.start + number);
        let mut swept = yard_sim::share_out((self.jobs, self.seeds), work, Swept::add);
        swept.failures.sort();
        swept.took = began.elapsed();
        swept
    }

    fn run_one(&self, nurseries: &Nurseries, seed: u64) -> ControlFlow<Swept, Swept> {
        let outcome = nurseries.run(seed, self.operations, None);
        let mut part = Swept { seeds: 1, counts: outcome.counts, ..Swept::default() };
        let mut failure = outcome.failure;
        if failure.is_none() && seed.is_multiple_of(TWICE_ONE_IN) {
            part.twice += 1;
            let again = nurseries.run(seed, self.operations, None);
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
        self.counts.add(&part.counts);
        self.failures.append(&mut part.failures);
    }
}
