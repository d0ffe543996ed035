//! Faults under a real broker: kills and errors at every call, a slow disk, a full one.
//!
//! ```text
//! yard-faults --run kill|sync|read|space|slow|full [--every N] [--messages N] [--jobs N]
//!             [--times N] [--seconds N] [--yard PATH]
//! ```
//!
//! Exit codes: 0 nothing is wrong, 1 a promise was broken, 2 the run could not be carried out.
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use yard_it::arguments::Arguments;
use yard_it::faults::{self, Plan, full, slow, strace};
use yard_it::{Failed, yard};

const FLAGS: &[&str] = &["run", "every", "messages", "jobs", "times", "seconds", "yard"];
/// After so long half the rate must be there again, once a disk is as fast as before: by the clock
/// of a broker beside it, which is as late as the machine is.
const BACK_MAX: Duration = Duration::from_secs(2);
/// A refusal for lack of space takes at most so long; the median, as a machine may pause.
const REFUSED_MAX: Duration = Duration::from_millis(100);
/// With space again a message is taken after at most so long.
const RESUMED_MAX: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let run = || -> Result<bool, Failed> {
        let arguments = Arguments::read(std::env::args().skip(1), FLAGS)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(start(&arguments))
    };
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failed) => {
            eprintln!("yard-faults: {failed}");
            ExitCode::from(2)
        }
    }
}

async fn start(arguments: &Arguments) -> Result<bool, Failed> {
    let program = yard::locate(arguments.text("yard").map(Path::new))?;
    let name = arguments.text("run").unwrap_or("kill");
    if name != "full" && !strace::is_there() {
        return Ok(skipped(name, "strace is missing, or may not be used here"));
    }
    match name {
        "kill" => calls(arguments, &program, "R2 killed at each call", Plan::KILLED).await,
        "sync" => calls(arguments, &program, "R8 EIO at each sync", Plan::SYNC_FAILS).await,
        "read" => calls(arguments, &program, "R8 EIO at reads of a start", Plan::READ_FAILS).await,
        "space" => calls(arguments, &program, "R9 ENOSPC at each write", Plan::NO_SPACE).await,
        "slow" => slow_disk(arguments, &program).await,
        "full" => full_disk(arguments, &program).await,
        other => Err(Failed(format!("--run does not know {other:?}"))),
    }
}

/// Nothing was tried, so nothing is wrong; who wants all of it will see.
fn skipped(name: &str, why: &str) -> bool {
    println!("row|--run {name}|0 runs|{why}|skipped");
    true
}

async fn calls(
    arguments: &Arguments,
    program: &Path,
    name: &str,
    plan: Plan,
) -> Result<bool, Failed> {
    let plan = Plan {
        every: arguments.value("every", plan.every)?,
        messages: arguments.value("messages", plan.messages)?,
        jobs: arguments.value("jobs", plan.jobs)?,
        ..plan
    };
    let report = faults::run(program, plan).await?;
    let (died, fenced, whole) = report.ends;
    let verdict = if report.findings.is_empty() { "ok" } else { "FOUND" };
    println!(
        "row|{name}|{} runs|{} calls in a whole run; died {died}, fenced {fenced}, went on \
         {whole}; {} acks found again; {:.0} s|{verdict}",
        report.runs,
        report.calls,
        report.acknowledged,
        report.took.as_secs_f64(),
    );
    for finding in &report.findings {
        println!("  {finding}");
    }
    Ok(report.findings.is_empty())
}

async fn slow_disk(arguments: &Arguments, program: &Path) -> Result<bool, Failed> {
    let times: u64 = arguments.value("times", 20)?;
    let late = Duration::from_secs(arguments.value("seconds", 10)?);
    let (mut acknowledged, mut worst, mut slowest) = (0, Duration::ZERO, f64::MAX);
    for _ in 0..times {
        let report = slow::run(program, late).await?;
        acknowledged += report.acknowledged;
        worst = worst.max(report.back_after);
        slowest = slowest.min(report.shares.1);
    }
    let is_good = worst <= BACK_MAX;
    println!(
        "row|R10 syncs of 200 ms for {} s|{times} runs|{acknowledged} acks found again; down to \
         {:.1} % of a healthy one beside it; half of that one's rate after {} ms of its time at \
         most|{}",
        late.as_secs(),
        slowest * 100.0,
        worst.as_millis(),
        if is_good { "ok" } else { "FOUND" },
    );
    Ok(is_good)
}

async fn full_disk(arguments: &Arguments, program: &Path) -> Result<bool, Failed> {
    let times: u64 = arguments.value("times", 25)?;
    let (mut fills, mut stored) = (0, 0);
    let (mut refused, mut resumed) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let Some(report) = full::run(program).await? else {
            return Ok(skipped("full", "no file system may be mounted here"));
        };
        fills += report.fills;
        stored += report.stored;
        refused.extend(report.refused);
        resumed.extend(report.resumed);
    }
    refused.sort_unstable();
    let median = refused.get(refused.len() / 2).copied().unwrap_or_default();
    let longest = resumed.into_iter().max().unwrap_or_default();
    let is_good = median <= REFUSED_MAX && longest <= RESUMED_MAX;
    println!(
        "row|R9 a disk of 4 MiB filled|{fills} fills|{stored} messages found again; refused in \
         {} us (median), resumed in {} ms at most|{}",
        median.as_micros(),
        longest.as_millis(),
        if is_good { "ok" } else { "FOUND" },
    );
    Ok(is_good)
}
