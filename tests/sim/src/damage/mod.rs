//! Damage: recorded logs whose files are flipped bit by bit, cut short or erased from a group on,
//! opened again.
//!
//! ```text
//!   script ──► files, whole ──┬─ one bit flipped ──┐
//!                             ├─ the end cut off ──┤
//!                             └─ groups erased ────┴─► shard opened ──► every record listed
//!                                                       │
//!                 exactly the records hit are missing, each reported, no byte is wrong
//! ```
//!
//! Start reading at [`Campaign::run`], then [`survey`].
mod listing;
mod survey;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use yard_store::disk::FileName;

use crate::jobs::share_out;
use crate::planted::{self, Plant};
use crate::powercut::image::Files;
use crate::random::Random;
use crate::sweep::guarded;
use survey::{Allowed, Survey};

/// Bytes at the end of the log that are cut off one by one.
const CUT_BYTES: u64 = 64 << 10;
/// Findings that are kept word for word.
const FINDINGS_MAX: usize = 10;
/// One flip in so many falls behind what a file says, where it holds zeros.
const BEHIND_ONE_IN: u64 = 20;
/// Logs whose last groups are erased to show a planted bug: a checkpoint has seen few of each.
const ERASED_LOGS: u64 = 8;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// Logs, each of the script of its number.
    pub logs: u64,
    /// Bits flipped at random in the files of each, one at a time.
    pub flips: u64,
    /// Of the last bytes of each log, one in so many is where it is cut. 0: it is not cut.
    pub cut_every: u64,
    /// Whether the last groups of each log are erased, from each on that a checkpoint has seen.
    pub erases: bool,
    /// Threads.
    pub jobs: usize,
    /// The bug that is planted, if any.
    pub plant: Option<Plant>,
}

/// Cases of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cases {
    /// Files that were damaged and opened.
    pub tried: u64,
    /// Of these, with at least one record hit.
    pub hit: u64,
    /// Records that were missing, and had to be.
    pub missing: u64,
    /// Of these, reported by their offset when the log was opened or when they were read.
    pub reported: u64,
    /// Records that were delivered as they were sent.
    pub whole: u64,
    /// Cases with a finding.
    pub found: u64,
}

impl Cases {
    fn add(&mut self, other: Self) {
        self.tried += other.tried;
        self.hit += other.hit;
        self.missing += other.missing;
        self.reported += other.reported;
        self.whole += other.whole;
        self.found += other.found;
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// One bit flipped.
    pub flips: Cases,
    /// The end cut off.
    pub cuts: Cases,
    /// The last groups erased.
    pub erasures: Cases,
    /// What was wrong, for the first few.
    pub findings: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// Cases with a finding.
    #[must_use]
    pub fn found(&self) -> u64 {
        self.flips.found + self.cuts.found + self.erasures.found
    }

    fn add(&mut self, other: Self) {
        self.flips.add(other.flips);
        self.cuts.add(other.cuts);
        self.erasures.add(other.erasures);
        self.findings.extend(other.findings);
        self.findings.truncate(FINDINGS_MAX);
    }
}

/// One damage.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip { name: FileName, bit: u64 },
    Cut { name: FileName, length: u64 },
    Erase { name: FileName, from: u64 },
}

impl Campaign {
    /// Damages every log in every way.
    #[must_use]
    pub fn run(&self) -> Report {
        let began = Instant::now();
        let work = |number| ControlFlow::Continue(self.run_log(number));
        let mut report = share_out((self.jobs, self.logs), work, Report::add);
        report.took = began.elapsed();
        report
    }

    fn run_log(&self, number: u64) -> Report {
        let survey = Survey::of(number);
        let mut report = Report::default();
        for damage in self.damages(&survey, number) {
            let mut cases = Cases { tried: 1, ..Cases::default() };
            let judged = guarded(|| self.judge(&survey, damage, &mut cases));
            if let Err(why) = judged
                && self.is_of_plant(&survey, damage)
            {
                cases.found = 1;
                if report.findings.len() < FINDINGS_MAX {
                    report.findings.push(format!("log {number}, {damage:?}: {why}"));
                }
            }
            match damage {
                Damage::Flip { .. } => report.flips.add(cases),
                Damage::Cut { .. } => report.cuts.add(cases),
                Damage::Erase { .. } => report.erasures.add(cases),
            }
            if self.plant.is_some() && cases.found > 0 {
                break;
            }
        }
        report
    }

    /// What fails without the planted bug as well says nothing about it.
    fn is_of_plant(&self, survey: &Survey, damage: Damage) -> bool {
        let clean = Self { plant: None, ..*self };
        self.plant.is_none()
            || guarded(|| clean.judge(survey, damage, &mut Cases::default())).is_ok()
    }

    /// Every bit of the last two records, bits anywhere, every end, every group that is erased.
    fn damages(&self, survey: &Survey, number: u64) -> impl Iterator<Item = Damage> {
        let mut random = Random::new(number ^ 0x6461_6d61_6765);
        let used: Vec<(FileName, u64, u64)> = survey.used_bytes();
        let total: u64 = used.iter().map(|(_, used, _)| used).sum();
        let last = survey.last_records(2).flat_map(|(name, bytes)| {
            (bytes.start * 8..bytes.end * 8).map(move |bit| Damage::Flip { name, bit })
        });
        let last: Vec<Damage> = if self.flips == 0 { Vec::new() } else { last.collect() };
        let anywhere = (0..self.flips).map(move |_| {
            let mut at = random.below(total);
            for (name, used, length) in &used {
                if at < *used {
                    let behind = random.once_in(BEHIND_ONE_IN) && used < length;
                    let byte = if behind { random.range(*used, length - 1) } else { at };
                    return Damage::Flip { name: *name, bit: byte * 8 + random.below(8) };
                }
                at -= used;
            }
            unreachable!("the number is below the sum")
        });
        let (name, end) = survey.end();
        let lengths = (0..CUT_BYTES.min(end))
            .filter(|cut| self.cut_every > 0 && cut.is_multiple_of(self.cut_every));
        let lengths: Vec<u64> = lengths.map(|cut| end - cut).collect();
        let cuts = lengths.into_iter().map(move |length| Damage::Cut { name, length });
        let erased = if self.erases { survey.seen_groups() } else { Vec::new() };
        let erased = erased.into_iter().map(|(name, from)| Damage::Erase { name, from });
        let random_first = self.plant.is_some();
        let (first, second) = if random_first { (Vec::new(), last) } else { (last, Vec::new()) };
        first.into_iter().chain(anywhere).chain(second).chain(cuts).chain(erased)
    }

    fn judge(&self, survey: &Survey, damage: Damage, cases: &mut Cases) -> Result<(), String> {
        let mut files = survey.files.clone();
        let allowed = match damage {
            Damage::Flip { name, bit } => {
                flip(&mut files, name, bit);
                planted::alter_damaged(self.plant, &mut files.0, (name, (bit / 8) as usize), {
                    survey.record_at(name, bit / 8)
                });
                survey.hit_by(name, bit / 8)
            }
            Damage::Cut { name, length } => {
                if let Some(file) = files.0.get_mut(&name) {
                    file.truncate(length as usize);
                }
                survey.cut_at(name, length)
            }
            Damage::Erase { name, from } => {
                if let Some(file) = files.0.get_mut(&name) {
                    file[from as usize..].fill(0);
                }
                planted::alter_erased(self.plant, &mut files.0);
                survey.erased_from(name, from)
            }
        };
        let disk = files.disk();
        if matches!(damage, Damage::Cut { .. }) {
            planted::alter_cut(self.plant, &disk);
        }
        let found = listing::list(&disk, survey, self.plant, damage_name(damage))?;
        if matches!(damage, Damage::Erase { .. }) {
            listing::deliver_new(&disk, survey)?;
        }
        cases.hit = u64::from(allowed.count() > 0);
        compare(survey, &allowed, &found, cases)
    }
}

fn damage_name(damage: Damage) -> FileName {
    match damage {
        Damage::Flip { name, .. } | Damage::Cut { name, .. } | Damage::Erase { name, .. } => name,
    }
}

fn flip(files: &mut Files, name: FileName, bit: u64) {
    let file = files.0.get_mut(&name).expect("the file was surveyed");
    file[(bit / 8) as usize] ^= 1 << (bit % 8);
}

/// Nothing is missing but what was hit, and each of that is reported.
fn compare(
    survey: &Survey,
    allowed: &Allowed,
    found: &listing::Listing,
    cases: &mut Cases,
) -> Result<(), String> {
    for ((topic, queue), wanted) in &survey.queues {
        for (offset, kept) in (0..).zip(wanted) {
            let name = (*topic, *queue, offset);
            match found.records.get(&name) {
                Some(record) if *record == kept.record => cases.whole += 1,
                Some(_) => return Err(format!("wrong bytes: {topic}.{queue} at {offset}")),
                None if !allowed.may_miss(&name) => {
                    return Err(format!("{topic}.{queue} at {offset} is missing and was not hit"));
                }
                None => {
                    cases.missing += 1;
                    let reported = found.reported.contains(&name);
                    cases.reported += u64::from(reported);
                    if !reported && allowed.is_proven(&name) {
                        return Err(format!("{topic}.{queue} at {offset} is lost, unreported"));
                    }
                }
            }
        }
    }
    let known = |(topic, queue, offset): &&survey::Name| {
        survey.queues.get(&(*topic, *queue)).is_some_and(|queue| *offset < queue.len() as u64)
    };
    match found.records.keys().find(|name| !known(name)) {
        Some((topic, queue, offset)) => Err(format!("a phantom: {topic}.{queue} at {offset}")),
        None => Ok(()),
    }
}

/// How many cases it takes until a planted bug shows, and what shows; `None` when it is missed
/// within its bound.
#[must_use]
pub fn catch(plant: Plant) -> Option<(u64, String)> {
    let bound = plant.cases_max();
    let erases = plant == Plant::EndsForgotten;
    let (flips, cut_every) = match plant {
        Plant::EndsForgotten => (0, 0),
        Plant::TailCutTooFar => (0, CUT_BYTES / bound),
        _ => (bound, 0),
    };
    let logs = if erases { ERASED_LOGS } else { 1 };
    let campaign = Campaign { logs, flips, cut_every, erases, jobs: 1, plant: Some(plant) };
    let report = campaign.run();
    let tried = report.flips.tried + report.cuts.tried + report.erasures.tried;
    report.findings.first().map(|finding| (tried, finding.clone()))
}
