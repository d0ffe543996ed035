//! What a group has done in one queue: the durable part.
//!
//! ```text
//!   0        settled_below        settled ranges             cursor        committed end
//!   │ settled ····│ open  ███ open  █████ open open leased ····│ never delivered │
//!                    │                 └── returned: attempts, not before when
//!                    └── open and not returned: being delivered for the first time, or was
//!                        when the process ended
//! ```
use std::sync::Arc;

use bytes::Bytes;
use yard_wire::{Malformed, QueueOffset, Timestamp, Wire};

use crate::entry::{Outcome, Step};
use crate::group::flight::Flight;
use crate::group::range_set::RangeSet;
use crate::group::returned::{Returned, ReturnedSet, error_named};
use crate::saving::Snapshot;

/// A group's state in one queue.
#[derive(Debug, Default)]
pub(crate) struct GroupQueue {
    /// What the log says.
    pub(crate) progress: Progress,
    /// What is under way; only while the group has members.
    pub(crate) flight: Option<Box<Flight>>,
}

/// The durable state of a group in one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    settled_below: QueueOffset,
    settled: RangeSet,
    returned: ReturnedSet,
    dead_count: u64,
    expired_count: u64,
    filtered_count: u64,
    duplicate_count: u64,
}

impl Progress {
    pub(crate) fn starting_at(floor: QueueOffset) -> Self {
        Self { settled_below: floor, ..Self::default() }
    }

    /// Every message below is settled.
    pub(crate) fn settled_below(&self) -> QueueOffset {
        self.settled_below
    }

    /// Settled messages above `settled_below`.
    pub(crate) fn settled(&self) -> &RangeSet {
        &self.settled
    }

    /// Unsettled messages that were delivered before.
    pub(crate) fn returned(&self) -> &ReturnedSet {
        &self.returned
    }

    /// Messages that became dead letters.
    pub(crate) fn dead_count(&self) -> u64 {
        self.dead_count
    }

    pub(crate) fn expired_count(&self) -> u64 {
        self.expired_count
    }

    /// Messages that the group did not want.
    pub(crate) fn filtered_count(&self) -> u64 {
        self.filtered_count
    }

    /// Messages with keys that the group had acked.
    pub(crate) fn duplicate_count(&self) -> u64 {
        self.duplicate_count
    }

    /// Begins anew: all below is settled, nothing above is. What was counted stays counted, and
    /// what becomes a dead letter is not settled until it is one.
    pub(crate) fn move_to(&mut self, floor: QueueOffset) {
        let Self { dead_count, expired_count, filtered_count, duplicate_count, .. } = *self;
        let mut returned = std::mem::take(&mut self.returned);
        returned.keep_doomed();
        let below = returned.from(QueueOffset(0)).map(|(offset, _)| offset);
        let below: Vec<QueueOffset> = below.take_while(|offset| *offset < floor).collect();
        let begun = Self::starting_at(below.first().copied().unwrap_or(floor));
        *self =
            Self { returned, dead_count, expired_count, filtered_count, duplicate_count, ..begun };
        let mut at = self.settled_below;
        for doomed in below {
            self.settle(at, doomed);
            at = QueueOffset(doomed.0 + 1);
        }
        self.settle(at, floor);
        assert!(self.settled_end_of(floor).is_none_or(|end| end == floor), "it goes on there");
    }

    /// Whether there is nothing to keep in a snapshot.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The end of the settled range that holds `offset`.
    pub(crate) fn settled_end_of(&self, offset: QueueOffset) -> Option<QueueOffset> {
        if offset < self.settled_below {
            return Some(self.settled_below);
        }
        self.settled.end_of(offset)
    }

    /// Offset above which nothing was ever settled or returned.
    pub(crate) fn touched_end(&self) -> QueueOffset {
        self.returned.end().max(self.settled.end()).max(self.settled_below)
    }

    /// The first message that is neither settled nor to become a dead letter.
    pub(crate) fn first_open(&self) -> QueueOffset {
        let mut at = self.settled_below;
        loop {
            if let Some(end) = self.settled_end_of(at) {
                at = end;
            } else if self.returned.get(at).is_some_and(|it| it.doom.is_some()) {
                at.0 += 1;
            } else {
                return at;
            }
        }
    }

    /// Takes in what is known of a message that was passed on to this queue.
    pub(crate) fn take_over(&mut self, offset: QueueOffset, returned: Returned) {
        assert!(returned.doom.is_none(), "what becomes a dead letter is not passed on");
        if self.settled_end_of(offset).is_none() {
            self.returned.insert(offset, returned);
        }
    }

    /// Messages of `floor..end` that are not settled.
    pub(crate) fn lag(&self, floor: QueueOffset, end: QueueOffset) -> u64 {
        let floor = floor.max(self.settled_below);
        let open = end.0.saturating_sub(floor.0);
        let settled = if open == 0 { 0 } else { self.settled.offsets_within(floor, end) };
        assert!(settled <= open, "settled messages are messages");
        open - settled
    }

    /// Takes in what the log says; a step names its error text by number.
    pub(crate) fn apply(&mut self, step: &Step, errors: &[Arc<str>]) {
        assert!(step.from < step.to, "a step concerns something");
        match step.outcome {
            Outcome::Acked | Outcome::Dropped | Outcome::Forwarded | Outcome::Trimmed => {
                self.settle(step.from, step.to);
            }
            Outcome::Filtered => self.filtered_count += self.settle(step.from, step.to),
            Outcome::Duplicate => self.duplicate_count += self.settle(step.from, step.to),
            Outcome::Expired => self.expired_count += self.settle(step.from, step.to),
            Outcome::Dead => self.dead_count += self.settle(step.from, step.to),
            Outcome::Returned { attempts, due, delivered, error } => {
                let error = error_named(errors, error).expect("an entry has the texts it names");
                let (first, last, doom, stopped) = (delivered, delivered, None, None);
                let returned = Returned { attempts, due, first, last, error, doom, stopped };
                self.give_back(step.from, step.to, &returned);
            }
            Outcome::Doomed { attempts, delivered, reason, error } => {
                let error = error_named(errors, error).expect("an entry has the texts it names");
                let (first, last, due) = (delivered, delivered, Timestamp(0));
                let (doom, stopped) = (Some(reason), None);
                let returned = Returned { attempts, due, first, last, error, doom, stopped };
                self.give_back(step.from, step.to, &returned);
            }
            Outcome::Stopped { attempts, delivered, reason, error } => {
                let error = error_named(errors, error).expect("an entry has the texts it names");
                let (first, last, due) = (delivered, delivered, Timestamp(0));
                let (doom, stopped) = (None, Some(reason));
                let returned = Returned { attempts, due, first, last, error, doom, stopped };
                self.give_back(step.from, step.to, &returned);
            }
        }
    }

    fn settle(&mut self, from: QueueOffset, to: QueueOffset) -> u64 {
        let from = from.max(self.settled_below);
        if from >= to {
            return 0;
        }
        let new = if from == self.settled_below {
            let held = self.settled.offsets_within(from, to);
            self.settled_below = to;
            to.0 - from.0 - held
        } else {
            self.settled.insert(from, to)
        };
        while let Some(end) = self.settled.take_first_up_to(self.settled_below) {
            self.settled_below = self.settled_below.max(end);
        }
        self.returned.forget(from, to);
        new
    }

    fn give_back(&mut self, from: QueueOffset, to: QueueOffset, returned: &Returned) {
        let mut offset = from;
        while offset < to {
            if let Some(end) = self.settled_end_of(offset) {
                offset = end;
                continue;
            }
            self.returned.insert(offset, returned.clone());
            offset.0 += 1;
        }
    }

    pub(crate) fn check(&self) {
        self.settled.check();
        if let Some((from, _)) = self.settled.iter().next() {
            assert!(from > self.settled_below, "what touches the floor belongs to it");
        }
        self.returned.check();
        for (offset, _) in self.returned.from(QueueOffset(0)) {
            assert!(self.settled_end_of(offset).is_none(), "what came back is not settled");
        }
    }
}

/// Adds a step, to the last one where it continues it and that is not before `first`.
pub(crate) fn push_step(steps: &mut Vec<Step>, first: usize, step: Step) {
    let continues = |last: &Step| {
        last.queue == step.queue && last.to == step.from && last.outcome == step.outcome
    };
    match steps[first..].last_mut() {
        Some(last) if continues(last) => last.to = step.to,
        Some(_) | None => steps.push(step),
    }
}

/// `u64` settled_below, ranges settled, returned messages (returned.rs), `u64` how many became dead
/// letters, `u64` how many had expired, `u64` how many were filtered, `u64`
/// how many were duplicates.
impl Progress {
    pub(crate) fn save(&self, out: &mut Snapshot) {
        assert!(self.settled.end() == QueueOffset(0) || self.settled.end() > self.settled_below);
        self.settled_below.put(out.now());
        self.settled.put(out.now());
        self.returned.save(out);
        self.dead_count.put(out.now());
        self.expired_count.put(out.now());
        self.filtered_count.put(out.now());
        self.duplicate_count.put(out.now());
    }

    pub(crate) fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let mut progress = Self::starting_at(QueueOffset::take(input)?);
        progress.settled = RangeSet::take(input)?;
        let first = progress.settled.iter().next();
        if let Some((from, _)) = first.filter(|(from, _)| *from <= progress.settled_below) {
            return Err(Malformed::Field { what: "first settled offset", value: from.0 });
        }
        progress.returned = ReturnedSet::take(input)?;
        let mut returned = progress.returned.from(QueueOffset(0)).map(|(offset, _)| offset);
        let settled = returned.find(|at| progress.settled_end_of(*at).is_some());
        drop(returned);
        if let Some(settled) = settled {
            return Err(Malformed::Field { what: "returned message", value: settled.0 });
        }
        progress.dead_count = u64::take(input)?;
        progress.expired_count = u64::take(input)?;
        progress.filtered_count = u64::take(input)?;
        progress.duplicate_count = u64::take(input)?;
        Ok(progress)
    }
}
