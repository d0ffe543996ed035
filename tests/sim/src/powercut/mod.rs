//! Power cuts: recorded scripts of one shard, opened again on what a cut at any step leaves.
//!
//! ```text
//!   script ──► Device: every step of the disk, every promise with its step
//!                │
//!                └─► Image at each step ─┬─ in order, the next write torn ──┐
//!                                        └─ not synced: dropped, torn ──────┴─► judge
//! ```
//!
//! Start reading at [`Campaign::run`], then `image.rs` and `judge.rs`.
pub(crate) mod bench;
mod device;
pub(crate) mod image;
mod judge;
pub(crate) mod script;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use image::{Files, Image};
use judge::{Cut, judge};
use script::{Contents, Recording};

use crate::jobs::share_out;
use crate::planted::Plant;
use crate::random::Random;
use crate::sweep::guarded;

/// States that are drawn at each step, unless something else is asked for.
pub const DRAWS: u64 = 12;
/// Findings that are kept word for word.
const FINDINGS_MAX: usize = 10;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// Scripts, each with its own number from 0 on.
    pub scripts: u64,
    /// States with dropped or torn sectors that are drawn at each step.
    pub draws: u64,
    /// Threads.
    pub jobs: usize,
    /// The bug that is planted, if any.
    pub plant: Option<Plant>,
    /// It ends with the first finding, or after so many states.
    pub states_max: u64,
}

/// States of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct States {
    /// Different ones by the hash of all files.
    pub distinct: u64,
    /// Of these, with an acknowledgement that a loss would break.
    pub promised: u64,
    /// Of these, with requests that wait for theirs.
    pub outstanding: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Scripts that were recorded.
    pub scripts: u64,
    /// Steps of their disks.
    pub steps: u64,
    /// Every step, in order, and every sector of the write after it.
    pub in_order: States,
    /// Sectors that were not synced dropped or torn.
    pub reordered: States,
    /// Broken promises.
    pub findings: Vec<String>,
    /// How many there were.
    pub found: u64,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// States that were judged.
    #[must_use]
    pub fn states(&self) -> u64 {
        self.in_order.distinct + self.reordered.distinct
    }

    fn add(&mut self, other: Self) {
        self.scripts += other.scripts;
        self.steps += other.steps;
        let pairs = [(&mut self.in_order, other.in_order), (&mut self.reordered, other.reordered)];
        for (mine, others) in pairs {
            mine.distinct += others.distinct;
            mine.promised += others.promised;
            mine.outstanding += others.outstanding;
        }
        self.found += other.found;
        self.findings.extend(other.findings);
        self.findings.truncate(FINDINGS_MAX);
    }
}

impl Campaign {
    /// Records every script and cuts the power at every step of each.
    #[must_use]
    pub fn run(&self) -> Report {
        let began = Instant::now();
        let work = |number| ControlFlow::Continue(self.run_script(number));
        let mut report = share_out((self.jobs, self.scripts), work, Report::add);
        report.took = began.elapsed();
        report
    }

    fn run_script(&self, number: u64) -> Report {
        let mut trial = Trial {
            campaign: self,
            number,
            recording: script::record(number, self.plant),
            contents: Contents::of(&[]),
            answers: Vec::new(),
            seen: BTreeMap::new(),
            report: Report { scripts: 1, ..Report::default() },
        };
        trial.contents = Contents::of(&trial.recording.sent);
        trial.answers = trial.recording.answers();
        trial.run();
        for seen in trial.seen.values() {
            let Report { in_order, reordered, .. } = &mut trial.report;
            let states = if seen.is_reordered { reordered } else { in_order };
            states.distinct += 1;
            states.promised += u64::from(seen.promised);
            states.outstanding += u64::from(seen.outstanding);
        }
        trial.report
    }
}

/// What is known of a state.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// It is left when sectors are dropped, and was not seen in order before.
    is_reordered: bool,
    /// Answers that were given before it, when it was judged last.
    answers: usize,
    promised: bool,
    outstanding: bool,
}

/// How many states it takes until a planted bug shows, and what shows; `None` when it is missed
/// within its bound.
#[must_use]
pub fn catch(plant: Plant) -> Option<(u64, String)> {
    let states_max = plant.cases_max();
    let mut judged = 0;
    for number in 0.. {
        let left = states_max.checked_sub(judged).filter(|left| *left > 0)?;
        let plant = Some(plant);
        let campaign = Campaign { scripts: 1, draws: DRAWS, jobs: 1, plant, states_max: left };
        let report = campaign.run_script(number);
        judged += report.states();
        if let Some(finding) = report.findings.first() {
            return Some((judged, finding.clone()));
        }
    }
    None
}

/// One script and the states of it that were judged.
struct Trial<'a> {
    campaign: &'a Campaign,
    number: u64,
    recording: Recording,
    contents: Contents,
    /// Steps after which an answer was given, in order.
    answers: Vec<usize>,
    seen: BTreeMap<u64, Seen>,
    report: Report,
}

impl Trial<'_> {
    fn run(&mut self) {
        let steps = std::mem::take(&mut self.recording.steps);
        self.report.steps = steps.len() as u64;
        let mut random = Random::new(self.number);
        let mut image = Image::default();
        for (at, step) in steps.iter().enumerate() {
            self.judge(&image.in_order(), at, Some(Cut::Nothing));
            image.torn(step, &mut |files| self.judge(&files, at, None));
            image.take(step);
            if image.is_pending() {
                for _ in 0..self.campaign.draws {
                    self.judge(&image.reordered(&mut random), at + 1, Some(Cut::Unsynced));
                }
            }
            if self.is_over() {
                return;
            }
        }
        self.judge(&image.in_order(), steps.len(), Some(Cut::Nothing));
    }

    fn is_over(&self) -> bool {
        let found = self.campaign.plant.is_some() && self.report.found > 0;
        found || self.seen.len() as u64 >= self.campaign.states_max
    }

    /// Judges a state, unless it was judged with as many promises to keep. `None`: of one write
    /// only a part was done, while all before it was.
    fn judge(&mut self, files: &Files, at: usize, cut: Option<Cut>) {
        let answers = self.answers.partition_point(|answered| *answered <= at);
        let name = files.hash();
        let before = self.seen.get(&name).copied();
        if before.is_some_and(|seen| seen.answers >= answers) {
            return;
        }
        let kept = cut.unwrap_or(Cut::Nothing);
        let judged = guarded(|| judge(&self.recording, &self.contents, files, (at, kept)));
        let is_reordered = cut == Some(Cut::Unsynced);
        let fresh = Seen { is_reordered, answers, promised: false, outstanding: false };
        let mut seen = Seen { answers, ..before.unwrap_or(fresh) };
        match judged {
            Ok(judged) => {
                seen.promised |= judged.promised > 0;
                seen.outstanding |= judged.promised > 0 && judged.unanswered > 0;
            }
            Err(why) => {
                self.report.found += 1;
                if self.report.findings.len() < FINDINGS_MAX {
                    let number = self.number;
                    self.report.findings.push(format!("script {number}, step {at}: {why}"));
                }
            }
        }
        self.seen.insert(name, seen);
    }
}
