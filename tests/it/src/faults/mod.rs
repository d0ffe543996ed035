//! Faults at every call: the real broker runs a script of two hundred messages under strace, once
//! for each call that changes files, and what it promised is looked for afterwards.
//!
//! ```text
//!   census: the calls of one whole run ──► of each kind 1, 2, 3 …
//!   each:   copy of a folder ─► yard under strace, fault at call n ─► yard alone ─► compare
//! ```
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Failed;

pub mod full;
pub mod script;
pub mod slow;
pub mod strace;

use script::{End, Template};
use strace::{CHANGES, Fault, Instead};

/// Findings that are kept word for word.
const FINDINGS_MAX: usize = 10;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What happens at the calls.
    pub instead: Instead,
    /// The calls.
    pub calls: &'static [&'static str],
    /// Messages of the script.
    pub messages: u64,
    /// One in so many calls.
    pub every: u64,
    /// Runs at a time.
    pub jobs: usize,
}

impl Plan {
    /// The broker is killed at each call that changes files.
    pub const KILLED: Self =
        Self { instead: Instead::Killed, calls: CHANGES, messages: 200, every: 1, jobs: 2 };
    /// Each sync fails.
    pub const SYNC_FAILS: Self =
        Self { instead: Instead::Eio, calls: &["fdatasync", "fsync"], ..Self::KILLED };
    /// Each read fails, while the broker starts.
    pub const READ_FAILS: Self =
        Self { instead: Instead::Eio, calls: &["pread64", "preadv"], ..Self::KILLED };
    /// There is no space at each write.
    pub const NO_SPACE: Self =
        Self { instead: Instead::Enospc, calls: &["pwrite64", "fallocate"], ..Self::KILLED };
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Calls of a whole run, over all threads.
    pub calls: u64,
    /// Runs with a fault.
    pub runs: u64,
    /// Of these, ended by the broker's death; with a log that was fenced; not at all.
    pub ends: (u64, u64, u64),
    /// Messages that were acknowledged in them, and found again.
    pub acknowledged: u64,
    /// What was wrong.
    pub findings: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// Runs a plan.
///
/// # Errors
/// When it cannot be carried out.
pub async fn run(yard: &Path, plan: Plan) -> Result<Report, Failed> {
    let began = Instant::now();
    let template = Arc::new(Template::make(yard).await?);
    let log = template.file("calls");
    let census = template.copy("census")?;
    let end = census.run(strace::noting(plan.calls, &log), plan.messages).await?;
    if end != End::Whole {
        return Err(Failed(format!("without a fault, the script ended with {end:?}")));
    }
    let in_start = plan.calls == Plan::READ_FAILS.calls;
    if in_start {
        // What is there to be read.
        census.start_only(strace::noting(plan.calls, &log)).await?;
    }
    let noted = strace::read(&log)?;
    let mut faults = VecDeque::new();
    for call in plan.calls {
        let most = noted.get(*call).map_or(0, |noted| noted.most);
        let numbers = (1..=most).filter(|number| number.is_multiple_of(plan.every));
        faults.extend(numbers.map(|number| Fault { call, number, instead: plan.instead }));
    }
    let calls = noted.values().map(|noted| noted.all).sum();
    let report = Arc::new(Mutex::new(Report { calls, ..Report::default() }));
    let faults = Arc::new(Mutex::new(faults));
    let census = Arc::new(census);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..plan.jobs {
        let (template, faults, report) = (template.clone(), faults.clone(), report.clone());
        let census = census.clone();
        tasks.spawn(async move {
            loop {
                let fault = faults.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(fault) = fault else { break };
                let struck = if in_start {
                    strike_start(&template, &census, fault).await
                } else {
                    strike(&template, plan.messages, fault).await
                };
                let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                report.add(fault, struck);
            }
        });
    }
    while tasks.join_next().await.transpose()?.is_some() {}
    let mut report = std::mem::take(&mut *report.lock().unwrap_or_else(PoisonError::into_inner));
    report.acknowledged += census.verify().await?;
    report.took = began.elapsed();
    Ok(report)
}

impl Report {
    fn add(&mut self, fault: Fault, struck: Result<(End, u64), Failed>) {
        self.runs += 1;
        match struck {
            Ok((end, acknowledged)) => {
                self.acknowledged += acknowledged;
                match end {
                    End::Died => self.ends.0 += 1,
                    End::Fenced => self.ends.1 += 1,
                    End::Whole => self.ends.2 += 1,
                }
            }
            Err(Failed(why)) => {
                if self.findings.len() < FINDINGS_MAX {
                    self.findings.push(format!("{fault:?}: {why}"));
                }
            }
        }
    }
}

fn name(fault: Fault) -> String {
    format!("{}-{}", fault.call, fault.number)
}

/// One run with a fault, and the look afterwards.
async fn strike(template: &Template, messages: u64, fault: Fault) -> Result<(End, u64), Failed> {
    let case = template.copy(&name(fault))?;
    let under = strace::under(fault, Path::new("/dev/null"));
    let end = case.run(under, messages).await?;
    Ok((end, case.verify().await?))
}

/// A start with a fault, over what a whole run has left; the next one has everything.
async fn strike_start(
    template: &Template,
    whole: &script::Case,
    fault: Fault,
) -> Result<(End, u64), Failed> {
    let case = whole.again(template, &name(fault))?;
    let started = case.start_only(strace::under(fault, Path::new("/dev/null"))).await?;
    let end = if started { End::Whole } else { End::Died };
    Ok((end, case.verify().await?))
}
