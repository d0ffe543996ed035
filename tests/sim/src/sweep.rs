//! Many seeds, on several threads; and the search for the seed that catches a planted bug.
use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use yard_linear::Judged;

use crate::jobs::share_out;
use crate::ledger::TxCounts;
use crate::log::{self, Log};
use crate::plan::Plan;
use crate::planted::Plant;
use crate::world::{Outcome, World};

/// Operations of clients in a run when nobody says otherwise.
pub const OPERATIONS: u64 = 1_000;
/// One in so many seeds is run twice.
const TWICE_ONE_IN: u64 = 100;
/// A seed that runs so long is named: most take less than a tenth of a second, and one that never
/// ends could not be repeated without its number.
const NAMED_AFTER: Duration = Duration::from_secs(60);

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
    /// Transactions in all of them.
    pub transactions: TxCounts,
    /// Small objects in all of them.
    pub objects: Judged,
    /// The failure of the lowest seed that failed.
    pub failure: Option<(u64, String)>,
    /// How long it took.
    pub took: Duration,
}

/// Runs one seed; a panic of what is under test is a failure like any other.
#[must_use]
pub fn run_seed(seed: u64, operations: u64, plant: Option<Plant>, printing: bool) -> Outcome {
    guarded(|| Ok(Plan::draw(seed, operations)))
        .map_or_else(|panic| panicked(seed, panic), |plan| run_plan(plan, plant, printing))
}

/// Runs a plan, as [`run_seed`] does one that is drawn.
#[must_use]
pub fn run_plan(plan: Plan, plant: Option<Plant>, printing: bool) -> Outcome {
    let seed = plan.seed;
    let run = || Ok(World::new(plan, plant, printing).run());
    guarded(run).unwrap_or_else(|panic| panicked(seed, panic))
}

/// As [`run_plan`], with an event log in a file; `about` is of how many operations the plan was
/// drawn, and what of it is kept.
///
/// # Errors
/// What the file system says.
pub fn run_logged(
    plan: Plan,
    plant: Option<Plant>,
    about: (u64, &str),
    path: &Path,
) -> io::Result<Outcome> {
    let log = Log::create(path, &plan, about)?;
    let seed = plan.seed;
    let run = || {
        let mut world = World::new(plan, plant, false);
        world.log_to(log);
        Ok(world.run())
    };
    let outcome = guarded(run).unwrap_or_else(|panic| panicked(seed, panic));
    log::end(path, &outcome)?;
    Ok(outcome)
}

fn panicked(seed: u64, panic: String) -> Outcome {
    Outcome {
        seed,
        hash: 0,
        operations: 0,
        crashes: 0,
        happenings: 0,
        transactions: TxCounts::default(),
        objects: Judged::default(),
        failure: Some(panic),
    }
}

/// Does something; a panic of what is under test is a failure like any other.
pub fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
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
        let under_way = UnderWay::default();
        let work = |number| under_way.during(self.start + number, |seed| self.run_one(seed));
        let (done, ended) = mpsc::channel();
        let mut swept = thread::scope(|scope| {
            scope.spawn(|| under_way.name_the_slow(ended));
            let swept = share_out((self.jobs, self.seeds), work, Swept::add);
            drop(done);
            swept
        });
        swept.took = began.elapsed();
        swept
    }

    fn run_one(&self, seed: u64) -> ControlFlow<Swept, Swept> {
        let outcome = run_seed(seed, self.operations, None, false);
        let Outcome { operations, crashes, happenings, transactions, objects, .. } = outcome;
        let counted = Swept { operations, crashes, happenings, ..Swept::default() };
        let mut part = Swept { seeds: 1, transactions, objects, ..counted };
        let mut failure = outcome.failure;
        if failure.is_none() && seed.is_multiple_of(TWICE_ONE_IN) {
            part.twice += 1;
            let again = run_seed(seed, self.operations, None, false);
            if again.hash != outcome.hash {
                let hashes = format!("{:016x} and {:016x}", outcome.hash, again.hash);
                failure = Some(format!("not deterministic: {hashes}"));
            }
        }
        let Some(failure) = failure else { return ControlFlow::Continue(part) };
        part.failure = Some((seed, failure));
        ControlFlow::Break(part)
    }
}

/// Seeds that run now, and since when.
#[derive(Default)]
struct UnderWay(Mutex<BTreeMap<u64, Instant>>);

impl UnderWay {
    fn during<T>(&self, seed: u64, run: impl FnOnce(u64) -> T) -> T {
        self.0.lock().expect("nothing panics with it").insert(seed, Instant::now());
        let done = run(seed);
        self.0.lock().expect("nothing panics with it").remove(&seed);
        done
    }

    /// Names each that runs long, until the sweep has ended.
    fn name_the_slow(&self, ended: Receiver<()>) {
        while ended.recv_timeout(NAMED_AFTER) == Err(RecvTimeoutError::Timeout) {
            for (seed, since) in &*self.0.lock().expect("nothing panics with it") {
                let seconds = since.elapsed().as_secs();
                if since.elapsed() >= NAMED_AFTER {
                    eprintln!("seed {seed} has run for {seconds} s");
                }
            }
        }
    }
}

impl Swept {
    fn add(&mut self, part: Self) {
        self.seeds += part.seeds;
        self.twice += part.twice;
        self.operations += part.operations;
        self.crashes += part.crashes;
        self.happenings += part.happenings;
        self.transactions.add(part.transactions);
        self.objects += part.objects;
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
