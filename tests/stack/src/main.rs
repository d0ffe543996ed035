//! `yard-stack`: runs seeds, repeats one, proves that planted bugs are caught.
mod entropy;
mod fork;

use std::io;
use std::process::ExitCode;

use yard_stack::{
    NURSERY_ARGUMENT, Nurseries, OPERATIONS, Plan, Plant, SLICE_SEEDS, Sweep, Swept, keep, run_seed,
};

const HELP: &str = "\
Runs client, QUIC, TLS and broker as they ship in a world from a seed, under faults.

  cargo xtask stack [--seeds N] [--start S] [--ops N] [--jobs N]   run seeds until one fails
                    [--all]                                        run the others as well
  cargo xtask stack --seed S [--ops N] [--trace] [--plant NAME]    run one; print everything
  cargo xtask stack --slice                                        what `cargo xtask test` runs
  cargo xtask stack --planted                                      all bugs of PLANTED.md
";

struct Arguments {
    sweep: Sweep,
    /// Runs seeds for another process of this program.
    is_nursery: bool,
    seed: Option<u64>,
    trace: bool,
    planted: bool,
    plant: Option<Plant>,
}

fn parse() -> Result<Option<Arguments>, String> {
    let sweep = Sweep {
        start: 0,
        seeds: 1_000,
        operations: OPERATIONS,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        keeps_going: false,
    };
    let (is_nursery, trace, planted) = (false, false, false);
    let mut parsed = Arguments { sweep, is_nursery, seed: None, trace, planted, plant: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next().ok_or(format!("{word} takes a number"))?;
            text.parse::<u64>().map_err(|_| format!("{word} takes a number, not {text:?}"))
        };
        match word.as_str() {
            "--seeds" => parsed.sweep.seeds = number()?,
            "--start" => parsed.sweep.start = number()?,
            "--ops" => parsed.sweep.operations = number()?,
            "--jobs" => parsed.sweep.jobs = number()?.clamp(1, 64) as usize,
            "--seed" => parsed.seed = Some(number()?),
            NURSERY_ARGUMENT => parsed.is_nursery = true,
            "--slice" => parsed.sweep.seeds = SLICE_SEEDS,
            "--all" => parsed.sweep.keeps_going = true,
            "--trace" => parsed.trace = true,
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
    let done = match arguments.seed {
        _ if arguments.is_nursery => {
            make_ready();
            keep(fork::in_copy).map(|()| true)
        }
        Some(seed) => Ok(one(seed, &arguments)),
        None => nurseries().map(|nurseries| match arguments.planted {
            true => planted(&nurseries, arguments.sweep.operations),
            false => many(&nurseries, &arguments.sweep),
        }),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn nurseries() -> io::Result<Nurseries> {
    std::env::current_exe().map(Nurseries::new)
}

/// Does what takes long and is the same for every seed: TLS collects entropy.
fn make_ready() {
    aws_lc_rs::rand::fill(&mut [0; 32]).expect("the system has randomness");
}

fn one(seed: u64, arguments: &Arguments) -> bool {
    let operations = arguments.sweep.operations;
    if arguments.trace {
        println!("{:#?}", Plan::draw(seed, operations));
    }
    // As in a nursery: it is the same run.
    make_ready();
    let outcome = run_seed(seed, operations, arguments.plant, arguments.trace);
    if let Some(failure) = &outcome.failure {
        println!("seed {seed} failed: {failure}");
    }
    println!("seed {seed}: {}, hash {:016x}", outcome.counts, outcome.hash);
    outcome.failure.is_none()
}

fn many(nurseries: &Nurseries, sweep: &Sweep) -> bool {
    let swept = sweep.run(nurseries);
    for (seed, failure) in &swept.failures {
        println!("seed {seed} failed: {failure}");
        let operations = sweep.operations;
        println!("Repeat it: cargo xtask stack --seed {seed} --ops {operations} --trace");
    }
    let seconds = swept.took.as_secs_f64();
    let rate = (swept.seeds + swept.twice) as f64 / seconds / sweep.jobs as f64;
    let verdict = if swept.failures.is_empty() { "all clean" } else { "FAILED" };
    let Swept { seeds, twice, counts, .. } = &swept;
    println!(
        "{verdict}: {seeds} seeds ({twice} of them twice), {counts} in {seconds:.1} s: {rate:.1} \
         seeds/s a core"
    );
    swept.failures.is_empty()
}

fn planted(nurseries: &Nurseries, operations: u64) -> bool {
    let mut missed = 0;
    for plant in Plant::ALL.iter().copied() {
        let (name, bound) = (plant.name(), plant.seeds_max());
        match nurseries.catch(plant, operations) {
            Some((seed, failure)) => {
                let why = failure.lines().next().unwrap_or_default();
                println!("caught  {name:<16} {seed:>4} of {bound:>4}: {why}");
            }
            None => {
                missed += 1;
                println!("MISSED  {name:<16} in {bound} seeds");
            }
        }
    }
    missed == 0
}
