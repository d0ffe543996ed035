//! `yard-stack`: runs seeds, repeats one, proves that planted bugs are caught.
mod entropy;

use std::process::ExitCode;

use yard_stack::{OPERATIONS, Plan, Plant, SLICE_SEEDS, Sweep, catch, run_seed};

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
    /// To be run for another process of this program.
    apart: Option<u64>,
    seed: Option<u64>,
    trace: bool,
    planted: bool,
    plant: Option<Plant>,
}

fn parse() -> Result<Option<Arguments>, String> {
    let sweep = Sweep {
        program: std::env::current_exe().map_err(|error| format!("no program: {error}"))?,
        start: 0,
        seeds: 1_000,
        operations: OPERATIONS,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        keeps_going: false,
    };
    let (apart, seed, plant) = (None, None, None);
    let mut parsed = Arguments { sweep, apart, seed, trace: false, planted: false, plant };
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
            "--apart" => parsed.apart = Some(number()?),
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
    let ok = match (arguments.apart, arguments.seed) {
        (Some(seed), _) => {
            let operations = arguments.sweep.operations;
            print!("{}", run_seed(seed, operations, arguments.plant, false).write());
            true
        }
        (None, Some(seed)) => one(seed, &arguments),
        (None, None) if arguments.planted => planted(&arguments.sweep),
        (None, None) => many(&arguments.sweep),
    };
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: u64, arguments: &Arguments) -> bool {
    let operations = arguments.sweep.operations;
    if arguments.trace {
        println!("{:#?}", Plan::draw(seed, operations));
    }
    let outcome = run_seed(seed, operations, arguments.plant, arguments.trace);
    if let Some(failure) = &outcome.failure {
        println!("seed {seed} failed: {failure}");
    }
    println!(
        "seed {seed}: {} operations, {} messages stored, {} deaths of the broker, hash {:016x}",
        outcome.operations, outcome.stored, outcome.crashes, outcome.hash
    );
    outcome.failure.is_none()
}

fn many(sweep: &Sweep) -> bool {
    let swept = sweep.run();
    for (seed, failure) in &swept.failures {
        println!("seed {seed} failed: {failure}");
        let operations = sweep.operations;
        println!("Repeat it: cargo xtask stack --seed {seed} --ops {operations} --trace");
    }
    let seconds = swept.took.as_secs_f64();
    let rate = (swept.seeds + swept.twice) as f64 / seconds / sweep.jobs as f64;
    let verdict = if swept.failures.is_empty() { "all clean" } else { "FAILED" };
    println!(
        "{verdict}: {} seeds ({} of them twice), {} operations, {} messages stored, {} deaths of \
         the broker in {seconds:.1} s: {rate:.1} seeds/s a core",
        swept.seeds, swept.twice, swept.operations, swept.stored, swept.crashes
    );
    swept.failures.is_empty()
}

fn planted(Sweep { program, operations, .. }: &Sweep) -> bool {
    let mut missed = 0;
    for plant in Plant::ALL.iter().copied() {
        let (name, bound) = (plant.name(), plant.seeds_max());
        match catch(program, plant, *operations) {
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
