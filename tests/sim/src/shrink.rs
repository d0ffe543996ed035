//! A failing run made small: fewer faults, clients and messages, as long as it fails in the same
//! way. What is left is a text, so that it can be run again.
//!
//! ```text
//!   plan ── halves, then single ones left out ──► run: the same verdict? ──► kept
//!           faults, producers, consumers, messages, weather            └─► put back
//! ```
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::plan::{Fault, Plan};
use crate::planted::Plant;
use crate::sweep;

/// Runs of one search at most.
const RUNS_MAX: u32 = 400;
/// How long a search goes on at most. A run that is smaller is quicker as well.
const TIME_MAX: Duration = Duration::from_secs(120);

/// What is kept of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Faults, by their numbers in the plan.
    faults: Vec<usize>,
    /// Producers, by their numbers, and the messages of each.
    producers: Vec<(usize, u64)>,
    /// Consumers, by their numbers.
    consumers: Vec<usize>,
    /// Clients that read by plain fetch.
    readers: usize,
    /// The network neither loses nor repeats anything.
    is_calm: bool,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What is kept.
    pub kept: Kept,
    /// Of how many faults and messages.
    pub of: (usize, u64),
    /// What fails in the small run.
    pub failure: String,
    /// How many runs it took.
    pub runs: u32,
    /// The faults that are left.
    pub faults: Vec<String>,
}

impl Kept {
    fn all(plan: &Plan) -> Self {
        Self {
            faults: (0..plan.faults.len()).collect(),
            producers: (0..).zip(plan.producers.iter().map(|it| it.messages)).collect(),
            consumers: (0..plan.consumers.len()).collect(),
            readers: plan.readers,
            is_calm: false,
        }
    }

    /// Messages that are sent.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.producers.iter().map(|(_, messages)| messages).sum()
    }

    /// How many faults strike.
    #[must_use]
    pub fn fault_count(&self) -> usize {
        self.faults.len()
    }

    /// Leaves the rest of a plan out.
    ///
    /// # Errors
    /// What the plan does not have.
    pub fn apply(&self, plan: &mut Plan) -> Result<(), String> {
        let missing = |what: &str, number: usize| format!("the plan has no {what} {number}");
        let faults = self.faults.iter().map(|number| {
            plan.faults.get(*number).cloned().ok_or_else(|| missing("fault", *number))
        });
        let faults: Vec<_> = faults.collect::<Result<_, _>>()?;
        let producers = self.producers.iter().map(|(number, messages)| {
            let found = plan.producers.get(*number).cloned();
            let mut producer = found.ok_or_else(|| missing("producer", *number))?;
            producer.messages = *messages;
            Ok::<_, String>(producer)
        });
        let producers: Vec<_> = producers.collect::<Result<_, _>>()?;
        let consumers = self.consumers.iter().map(|number| {
            plan.consumers.get(*number).cloned().ok_or_else(|| missing("consumer", *number))
        });
        plan.consumers = consumers.collect::<Result<_, _>>()?;
        (plan.faults, plan.producers, plan.readers) = (faults, producers, self.readers);
        if self.is_calm {
            (plan.weather.loss_one_in, plan.weather.replay_one_in) = (0, 0);
        }
        Ok(())
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |numbers: &[usize]| {
            numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        let producers: Vec<String> = self
            .producers
            .iter()
            .map(|(number, messages)| format!("{number}x{messages}"))
            .collect();
        let (faults, consumers) = (list(&self.faults), list(&self.consumers));
        let (producers, readers) = (producers.join(","), self.readers);
        write!(f, "faults={faults};producers={producers};consumers={consumers};readers={readers}")?;
        if self.is_calm { write!(f, ";calm") } else { Ok(()) }
    }
}

impl FromStr for Kept {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |part: &str| format!("{part:?} is not what is kept of a plan");
        let mut kept = Self {
            faults: Vec::new(),
            producers: Vec::new(),
            consumers: Vec::new(),
            readers: 0,
            is_calm: false,
        };
        let numbers = |text: &str| {
            let parts = text.split(',').filter(|part| !part.is_empty());
            parts.map(|part| part.parse().map_err(|_| bad(part))).collect::<Result<Vec<usize>, _>>()
        };
        for part in text.split(';') {
            match part.split_once('=') {
                Some(("faults", list)) => kept.faults = numbers(list)?,
                Some(("consumers", list)) => kept.consumers = numbers(list)?,
                Some(("readers", count)) => kept.readers = count.parse().map_err(|_| bad(part))?,
                Some(("producers", list)) => {
                    for one in list.split(',').filter(|one| !one.is_empty()) {
                        let pair = one.split_once('x').ok_or_else(|| bad(one))?;
                        let number = pair.0.parse().map_err(|_| bad(one))?;
                        kept.producers.push((number, pair.1.parse().map_err(|_| bad(one))?));
                    }
                }
                None if part == "calm" => kept.is_calm = true,
                Some(_) | None => return Err(bad(part)),
            }
        }
        Ok(kept)
    }
}

/// What kind of failure it is: the first anomaly of a verdict, or the words of a sentence without
/// its figures.
fn signature(failure: &str) -> String {
    let line = if failure.starts_with("verdict") { 3 } else { 0 };
    let line = failure.lines().nth(line).unwrap_or_default();
    let words = line.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    words.take(8).collect::<Vec<_>>().join(" ")
}

struct Search {
    plan: Plan,
    plant: Option<Plant>,
    wanted: String,
    best: (Kept, String),
    runs: u32,
    until: Instant,
}

impl Search {
    /// Tries to do without more; whether the run fails all the same.
    fn holds(&mut self, kept: Kept) -> bool {
        if self.runs >= RUNS_MAX || Instant::now() >= self.until || kept == self.best.0 {
            return false;
        }
        self.runs += 1;
        let mut plan = self.plan.clone();
        kept.apply(&mut plan).expect("it is of this plan");
        let found = sweep::run_plan(plan, self.plant, false).failure;
        let Some(failure) = found.filter(|found| signature(found) == self.wanted) else {
            return false;
        };
        self.best = (kept, failure);
        true
    }

    /// Leaves out of a list what it can do without: halves first, then smaller pieces.
    fn thin<T: Clone>(&mut self, list: fn(&mut Kept) -> &mut Vec<T>, least: usize) {
        let mut piece = list(&mut self.best.0.clone()).len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            while at < list(&mut self.best.0.clone()).len() {
                let mut kept = self.best.0.clone();
                let items = list(&mut kept);
                let end = items.len().min(at + piece);
                let may_go = items.len() - (end - at) >= least;
                items.drain(at..end);
                if !(may_go && self.holds(kept)) {
                    at += piece;
                }
            }
            if piece == 1 {
                return;
            }
            piece = piece.div_ceil(2);
        }
    }

    fn fewer_messages(&mut self) {
        for at in 0..self.best.0.producers.len() {
            loop {
                let mut kept = self.best.0.clone();
                let messages = &mut kept.producers[at].1;
                *messages = (*messages / 2).max(1);
                if !self.holds(kept) {
                    break;
                }
            }
        }
    }
}

/// Makes the failing run of a seed small; `None` when it does not fail.
#[must_use]
pub fn shrink(seed: u64, operations: u64, plant: Option<Plant>) -> Option<Shrunk> {
    let plan = Plan::draw(seed, operations);
    let failure = sweep::run_plan(plan.clone(), plant, false).failure?;
    let all = Kept::all(&plan);
    let (wanted, until) = (signature(&failure), Instant::now() + TIME_MAX);
    let of = (all.faults.len(), all.messages());
    let mut search = Search { plan, plant, wanted, best: (all, failure), runs: 1, until };
    search.thin(|kept| &mut kept.faults, 0);
    search.thin(|kept| &mut kept.producers, 1);
    search.fewer_messages();
    search.thin(|kept| &mut kept.consumers, 1);
    let calm = Kept { readers: 0, is_calm: true, ..search.best.0.clone() };
    search.holds(calm);
    search.thin(|kept| &mut kept.faults, 0);
    let Search { plan, best: (kept, failure), runs, .. } = search;
    let shown = |number: &usize| {
        let (at, fault): &(u64, Fault) = &plan.faults[*number];
        format!("{number}: after {} ms {fault:?}", at / 1_000)
    };
    let faults = kept.faults.iter().map(shown).collect();
    Some(Shrunk { kept, of, failure, runs, faults })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_as_it_is_written() {
        for text in [
            "faults=1,4;producers=0x12,2x1;consumers=0;readers=1",
            "faults=;producers=1x3;consumers=2,3;readers=0;calm",
        ] {
            let kept: Kept = text.parse().expect("well-formed");
            assert_eq!(kept.to_string(), text);
        }
        for wrong in ["", "faults", "faults=x", "producers=1", "storms=1"] {
            assert!(wrong.parse::<Kept>().is_err(), "{wrong:?}");
        }
        let kept: Kept = "faults=99;producers=;consumers=;readers=0".parse().expect("well-formed");
        assert!(kept.apply(&mut Plan::draw(1, 100)).is_err(), "no run has so many faults");
    }

    #[test]
    fn a_failing_run_becomes_small_and_fails_in_the_same_way() {
        let plant = Some(Plant::NackSettles);
        let operations = 300;
        let fails = |seed: &u64| sweep::run_seed(*seed, operations, plant, false).failure.is_some();
        let seed = (0..200).find(fails).expect("a planted bug is caught");
        let whole = sweep::run_seed(seed, operations, plant, false).failure.expect("it fails");
        let shrunk = shrink(seed, operations, plant).expect("it fails");
        assert_eq!(signature(&shrunk.failure), signature(&whole));
        assert!(shrunk.kept.messages() < shrunk.of.1, "fewer messages: {}", shrunk.kept);
        let mut plan = Plan::draw(seed, operations);
        let again: Kept = shrunk.kept.to_string().parse().expect("as it was written");
        again.apply(&mut plan).expect("it is of this plan");
        let found = sweep::run_plan(plan, plant, false).failure;
        assert_eq!(found.as_ref(), Some(&shrunk.failure), "the text repeats the run");
        assert!(shrink(seed, operations, None).is_none(), "without the bug nothing fails");
    }
}
