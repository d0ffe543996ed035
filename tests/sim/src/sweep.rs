//! Many seeds, on several threads; and the search for the seed that catches a planted bug.
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::plan::Plan;
use crate::planted::Plant;
use crate::world::{Outcome, World};

/// Operations of clients in a run when nobody says otherwise.
pub const OPERATIONS: u64 = 1_000;
/// One in so many seeds is run twice.
const TWICE_ONE_IN: u64 = 100;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// First seed.
    pub start: u64,
    /// How many.
    pub seeds: u64,
    /// Operations of clients in each, about.
    pub operations: u64,
    /// Threads.
    pub jobs: usize,
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
    /// Happenings in all of them.
    pub happenings: u64,
    /// The failure of the lowest seed that failed.
    pub failure: Option<(u64, String)>,
    /// How long it took.
    pub took: Duration,
}

/// Runs one seed; a panic of what is under test is a failure like any other.
#[must_use]
pub fn run_seed(seed: u64, operations: u64, plant: Option<Plant>, printing: bool) -> Outcome {
    let run = || Ok(World::new(Plan::draw(seed, operations), plant, printing).run());
    guarded(run).unwrap_or_else(|panic| Outcome {
        seed,
        hash: 0,
        operations: 0,
        crashes: 0,
        happenings: 0,
        failure: Some(panic),
    })
}

/// Does something; a panic of what is under test is a failure like any other.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let caught = catch_unwind(AssertUnwindSafe(work));
    caught.unwrap_or_else(|panic| Err(format!("panic: {}", text_of(panic.as_ref()))))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "of no known kind".to_owned())
}

impl Sweep {
    /// Runs the seeds until one fails.
    #[must_use]
    pub fn run(&self) -> Swept {
        let began = Instant::now();
        let next = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        let swept = Mutex::new(Swept::default());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    let part = self.run_part(&next, &stop);
                    if let Ok(mut all) = swept.lock() {
                        all.add(part);
                    }
                });
            }
        });
        let mut swept = swept.into_inner().unwrap_or_default();
        swept.took = began.elapsed();
        swept
    }

    fn run_part(&self, next: &AtomicU64, stop: &AtomicBool) -> Swept {
        let mut part = Swept::default();
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.seeds {
                break;
            }
            let seed = self.start + number;
            let outcome = run_seed(seed, self.operations, None, false);
            part.seeds += 1;
            part.operations += outcome.operations;
            part.crashes += outcome.crashes;
            part.happenings += outcome.happenings;
            let mut failure = outcome.failure;
            if failure.is_none() && seed.is_multiple_of(TWICE_ONE_IN) {
                part.twice += 1;
                let again = run_seed(seed, self.operations, None, false);
                if again.hash != outcome.hash {
                    let hashes = format!("{:016x} and {:016x}", outcome.hash, again.hash);
                    failure = Some(format!("not deterministic: {hashes}"));
                }
            }
            if let Some(failure) = failure {
                part.failure = Some((seed, failure));
                stop.store(true, Ordering::Relaxed);
            }
        }
        part
    }
}

impl Swept {
    fn add(&mut self, part: Self) {
        self.seeds += part.seeds;
        self.twice += part.twice;
        self.operations += part.operations;
        self.crashes += part.crashes;
        self.happenings += part.happenings;
        let failures = [self.failure.take(), part.failure];
        self.failure = failures.into_iter().flatten().min();
    }
}

/// The first of at most `seeds` seeds that shows a planted bug, with what it shows.
#[must_use]
pub fn catch(plant: Plant, start: u64, seeds: u64, operations: u64) -> Option<(u64, String)> {
    (start..start + seeds).find_map(|seed| {
        let failure = run_seed(seed, operations, Some(plant), false).failure?;
        // What fails without the bug as well says nothing about it.
        let clean = run_seed(seed, operations, None, false).failure.is_none();
        clean.then_some((seed, failure))
    })
}
