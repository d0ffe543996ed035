//! `yard-sim`: runs seeds, repeats one, proves that planted bugs are caught.
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use yard_linear::Judged;
use yard_sim::marks::Coverage;
use yard_sim::shrink::{self, Kept, Shrunk};
use yard_sim::sweep::{self, OPERATIONS, Sweep};
use yard_sim::{Outcome, Plan, Plant};

const HELP: &str = "\
Runs the broker as values in virtual time, under faults, one run a seed.

  cargo xtask sim [--seeds N] [--start S] [--ops N] [--jobs N]   run seeds until one fails
  cargo xtask sim --seed S [--ops N] [--print] [--plant NAME]    run one seed; print everything
  cargo xtask sim --seed S [--keep WHAT] [--trace FILE]          the same into a log, for yard sim
  cargo xtask sim --seed S --shrink                              make a failing run small
  cargo xtask sim --marks [--seeds N]                            branches that nothing came through
  cargo xtask sim --hash S [--ops N]                             print the hash of one seed
  cargo xtask sim --slice                                        what `cargo xtask test` runs
  cargo xtask sim --planted [--jobs N]                           all bugs of PLANTED.md
";

/// Seeds of `--slice`.
const SLICE_SEEDS: u64 = 2_000;
/// Operations in each run of `--slice`.
const SLICE_OPERATIONS: u64 = OPERATIONS;

struct Arguments {
    seeds: u64,
    start: u64,
    operations: u64,
    jobs: usize,
    seed: Option<u64>,
    hash: Option<u64>,
    print: bool,
    trace: Option<PathBuf>,
    keep: Option<Kept>,
    shrink: bool,
    marks: bool,
    planted: bool,
    plant: Option<Plant>,
}

fn parse() -> Result<Option<Arguments>, String> {
    let mut parsed = Arguments {
        seeds: 1_000,
        start: 0,
        operations: OPERATIONS,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        seed: None,
        hash: None,
        print: false,
        trace: None,
        keep: None,
        shrink: false,
        marks: false,
        planted: false,
        plant: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next().ok_or(format!("{word} takes a number"))?;
            text.parse::<u64>().map_err(|_| format!("{word} takes a number, not {text:?}"))
        };
        match word.as_str() {
            "--seeds" => parsed.seeds = number()?,
            "--start" => parsed.start = number()?,
            "--ops" => parsed.operations = number()?,
            "--jobs" => parsed.jobs = number()?.clamp(1, 64) as usize,
            "--seed" => parsed.seed = Some(number()?),
            "--hash" => parsed.hash = Some(number()?),
            "--slice" => {
                parsed.seeds = SLICE_SEEDS;
                parsed.operations = SLICE_OPERATIONS;
            }
            "--print" => parsed.print = true,
            "--trace" => {
                parsed.trace = Some(words.next().ok_or("--trace takes a file")?.into());
            }
            "--keep" => parsed.keep = Some(words.next().unwrap_or_default().parse()?),
            "--shrink" => parsed.shrink = true,
            "--marks" => parsed.marks = true,
            "--planted" => parsed.planted = true,
            "--plant" => {
                let name = words.next().unwrap_or_default();
                let found = Plant::ALL.iter().copied().find(|plant| plant.name() == name);
                parsed.plant = Some(found.ok_or(format!("no planted bug is called {name:?}"))?);
            }
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("{other:?} is not an argument; see --help")),
        }
    }
    Ok(Some(parsed))
}

fn main() -> ExitCode {
    let arguments = match parse() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let ok = if let Some(seed) = arguments.hash {
        let outcome = sweep::run_seed(seed, arguments.operations, arguments.plant, false);
        println!("{seed} {:016x}", outcome.hash);
        outcome.failure.is_none()
    } else if let Some(seed) = arguments.seed {
        one(seed, &arguments)
    } else if arguments.marks {
        marked(&arguments)
    } else if arguments.planted {
        planted(&arguments)
    } else {
        many(&arguments)
    };
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: u64, arguments: &Arguments) -> bool {
    let outcome = match outcome_of(seed, arguments) {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("error: {error}");
            return false;
        }
    };
    if let Some(failure) = &outcome.failure {
        println!("seed {seed} failed: {failure}");
    }
    println!(
        "seed {seed}: {} operations, {} crashes, {} happenings, hash {:016x}",
        outcome.operations, outcome.crashes, outcome.happenings, outcome.hash
    );
    if outcome.failure.is_some() && arguments.shrink {
        make_small(seed, arguments.operations, arguments.plant);
    }
    outcome.failure.is_none()
}

fn outcome_of(seed: u64, arguments: &Arguments) -> Result<Outcome, String> {
    let &Arguments { operations, plant, print, .. } = arguments;
    let mut plan = Plan::draw(seed, operations);
    let kept = arguments.keep.as_ref().map(ToString::to_string).unwrap_or_default();
    if let Some(keep) = &arguments.keep {
        keep.apply(&mut plan)?;
    }
    match &arguments.trace {
        Some(path) => {
            let outcome = sweep::run_logged(plan, plant, (operations, &kept), path);
            let outcome = outcome.map_err(|error| format!("{}: {error}", path.display()))?;
            println!("{}: step through it with yard sim show", path.display());
            Ok(outcome)
        }
        None => Ok(sweep::run_plan(plan, plant, print)),
    }
}

/// Looks for a smaller run that fails in the same way, and says how to look at it.
fn make_small(seed: u64, operations: u64, plant: Option<Plant>) {
    let Some(shrunk) = shrink::shrink(seed, operations, plant) else {
        return println!("it did not fail again: that is a failure of the simulator");
    };
    let Shrunk { kept, of: (faults, messages), failure, runs, faults: left } = shrunk;
    let (few, sent) = (kept.fault_count(), kept.messages());
    println!("shrunk in {runs} runs to {few} of {faults} faults, {sent} of {messages} messages:");
    left.iter().for_each(|fault| println!("  {fault}"));
    println!("  {}", failure.lines().next().unwrap_or_default());
    let plant = plant.map(|plant| format!(" --plant {}", plant.name())).unwrap_or_default();
    println!(
        "Look at it: cargo xtask sim --seed {seed} --ops {operations}{plant} --keep '{kept}' \
         --trace run.log && yard sim show run.log"
    );
}

/// Runs seeds and both campaigns, and says what they came through.
fn marked(arguments: &Arguments) -> bool {
    let &Arguments { mut start, seeds, operations, jobs, .. } = arguments;
    let (end, mut is_clean) = (start + seeds, true);
    quiet_panics();
    // A seed that fails is another matter: what the others come through is asked.
    while start < end {
        let swept = Sweep { start, seeds: end - start, operations, jobs }.run();
        let Some((seed, failure)) = swept.failure else { break };
        println!("seed {seed} failed: {}", failure.lines().next().unwrap_or_default());
        (start, is_clean) = (seed + 1, false);
    }
    let coverage = Coverage::after_seeds(arguments.jobs);
    print!("{coverage}");
    for name in coverage.needless() {
        println!("explained in MARKS.md, and reached: {name}");
    }
    let findings = coverage.findings();
    for name in &findings {
        println!("not reached, and not explained: {name}");
    }
    is_clean && findings.is_empty()
}

fn many(arguments: &Arguments) -> bool {
    let &Arguments { start, seeds, operations, jobs, .. } = arguments;
    quiet_panics();
    let swept = Sweep { start, seeds, operations, jobs }.run();
    if let Some((seed, failure)) = &swept.failure {
        println!("seed {seed} failed: {failure}");
        println!("Repeat it: cargo xtask sim --seed {seed} --ops {operations} --print");
        make_small(*seed, operations, None);
    }
    let counts = swept.transactions;
    println!(
        "transactions: {} committed, {} rolled back; of them {} by an operator from a list, {} by \
         a plugin, {} left by producers that died",
        counts.committed, counts.rolled_back, counts.by_operator, counts.by_plugin, counts.orphaned
    );
    let Judged { objects, operations: asked, open } = swept.objects;
    println!("small objects: {objects} linearizable, of {asked} operations, {open} unanswered");
    let seconds = swept.took.as_secs_f64();
    let runs = (swept.seeds + swept.twice) as f64;
    let rate = runs / seconds / jobs as f64;
    let verdict = if swept.failure.is_none() { "all clean" } else { "FAILED" };
    println!(
        "{verdict}: {} seeds ({} of them twice), {} operations, {} crashes in {seconds:.1} s: \
         {rate:.0} seeds/s a core",
        swept.seeds, swept.twice, swept.operations, swept.crashes
    );
    swept.failure.is_none()
}

fn planted(arguments: &Arguments) -> bool {
    quiet_panics();
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let caught = AtomicUsize::new(0);
    let plants: Vec<Plant> = Plant::ALL
        .iter()
        .copied()
        .filter(|plant| arguments.plant.is_none_or(|only| only == *plant))
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| {
                while let Some(plant) = plants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    caught.fetch_add(usize::from(try_plant(*plant, arguments)), Ordering::Relaxed);
                }
            });
        }
    });
    let caught = caught.into_inner();
    let seconds = began.elapsed().as_secs_f64();
    println!("caught {caught} of {} in {seconds:.1} s", plants.len());
    caught == plants.len()
}

fn try_plant(plant: Plant, arguments: &Arguments) -> bool {
    let (name, bound) = (plant.name(), plant.cases_max());
    match yard_sim::find(plant, arguments.start, arguments.operations) {
        Some((seed, failure)) => {
            // A verdict's third line is its first kind of anomaly.
            let line = if failure.starts_with("verdict") { 3 } else { 0 };
            let why = failure.lines().nth(line).unwrap_or_default().trim();
            println!("caught  {name:<26} {seed:>5} of {bound:>6}: {why}");
            true
        }
        None => {
            println!("MISSED  {name:<26} in {bound} cases");
            false
        }
    }
}

/// A panic of what is under test is reported with its seed; the hook's own words only disturb.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}
