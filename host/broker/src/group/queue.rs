//! What a group has done in one queue: the durable part.
//!
//! ```text
//!   0        settled_below        settled ranges             cursor        committed end
//!   │ settled ····│ open  ███ open  █████ open open leased ····│ never delivered │
//!                    │                 └── returned: attempts, not before when
//!                    └── open and not returned: being delivered for the first time, or was
//!                        when the process ended
//! ```
use std::collections::BTreeMap;

use bytes::Bytes;
use yard_wire::{Malformed, QueueIndex, QueueOffset, Timestamp, Wire};

use crate::bounds::REJECTED_RANGES_MAX;
use crate::entry::{Outcome, Step};
use crate::group::flight::Flight;
use crate::group::range_set::RangeSet;

/// A group's state in one queue.
#[derive(Debug, Default)]
pub(crate) struct GroupQueue {
    /// What the log says.
    pub(crate) progress: Progress,
    /// What is under way; only while the group has members.
    pub(crate) flight: Option<Box<Flight>>,
}

/// A message that was delivered and came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Returned {
    /// How often it was delivered.
    pub(crate) attempts: u32,
    /// Not before this instant; 0: at once.
    pub(crate) due: Timestamp,
}

/// The durable state of a group in one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    settled_below: QueueOffset,
    settled: RangeSet,
    returned: BTreeMap<QueueOffset, Returned>,
    rejected: RangeSet,
    rejected_count: u64,
    expired_count: u64,
    filtered_count: u64,
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
    pub(crate) fn returned(&self) -> &BTreeMap<QueueOffset, Returned> {
        &self.returned
    }

    pub(crate) fn rejected_count(&self) -> u64 {
        self.rejected_count
    }

    pub(crate) fn expired_count(&self) -> u64 {
        self.expired_count
    }

    /// Messages that the group did not want.
    pub(crate) fn filtered_count(&self) -> u64 {
        self.filtered_count
    }

    /// Begins anew: all below is settled, nothing above is. What was counted stays counted.
    pub(crate) fn move_to(&mut self, floor: QueueOffset) {
        let Self { rejected_count, expired_count, filtered_count, .. } = *self;
        let begun = Self::starting_at(floor);
        *self = Self { rejected_count, expired_count, filtered_count, ..begun };
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
        let returned = self.returned.last_key_value().map_or(0, |(offset, _)| offset.0 + 1);
        QueueOffset(returned.max(self.settled.end().0).max(self.settled_below.0))
    }

    /// Messages of `floor..end` that are not settled.
    pub(crate) fn lag(&self, floor: QueueOffset, end: QueueOffset) -> u64 {
        let floor = floor.max(self.settled_below);
        let open = end.0.saturating_sub(floor.0);
        let settled = if open == 0 { 0 } else { self.settled.offsets_within(floor, end) };
        assert!(settled <= open, "settled messages are messages");
        open - settled
    }

    /// Takes in what the log says.
    pub(crate) fn apply(&mut self, step: &Step) {
        assert!(step.from < step.to, "a step concerns something");
        match step.outcome {
            Outcome::Acked | Outcome::Trimmed => {
                self.settle(step.from, step.to);
            }
            Outcome::Filtered => self.filtered_count += self.settle(step.from, step.to),
            Outcome::Rejected => {
                self.rejected_count += self.settle(step.from, step.to);
                self.rejected.insert(step.from, step.to);
                while self.rejected.ranges() > REJECTED_RANGES_MAX {
                    let _ = self.rejected.take_first();
                }
            }
            Outcome::Expired => self.expired_count += self.settle(step.from, step.to),
            Outcome::Returned { attempts, due } => {
                self.give_back(step.from, step.to, Returned { attempts, due });
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
        while let Some((offset, _)) = self.returned.range(from..to).next() {
            let offset = *offset;
            self.returned.remove(&offset);
        }
        new
    }

    fn give_back(&mut self, from: QueueOffset, to: QueueOffset, returned: Returned) {
        let mut offset = from;
        while offset < to {
            if let Some(end) = self.settled_end_of(offset) {
                offset = end;
                continue;
            }
            let slot = self.returned.entry(offset).or_insert(returned);
            slot.attempts = slot.attempts.max(returned.attempts);
            slot.due = returned.due;
            offset.0 += 1;
        }
    }

    pub(crate) fn check(&self) {
        self.settled.check();
        self.rejected.check();
        assert!(self.rejected.ranges() <= REJECTED_RANGES_MAX, "the list of rejected is bounded");
        assert!(self.rejected.offsets() <= self.rejected_count, "what is listed was counted");
        if let Some((from, _)) = self.settled.iter().next() {
            assert!(from > self.settled_below, "what touches the floor belongs to it");
        }
        for (offset, returned) in &self.returned {
            assert!(self.settled_end_of(*offset).is_none(), "what came back is not settled");
            assert!(returned.attempts >= 1, "what came back was delivered");
        }
    }

    fn returned_runs(&self) -> Vec<Step> {
        let mut runs: Vec<Step> = Vec::new();
        for (offset, Returned { attempts, due }) in &self.returned {
            let outcome = Outcome::Returned { attempts: *attempts, due: *due };
            push_run(&mut runs, QueueIndex(0), *offset, outcome);
        }
        runs
    }
}

/// Adds one message to the runs, to the last of them where it continues it.
pub(crate) fn push_run(
    runs: &mut Vec<Step>,
    queue: QueueIndex,
    offset: QueueOffset,
    outcome: Outcome,
) {
    let to = QueueOffset(offset.0 + 1);
    match runs.last_mut() {
        Some(run) if run.queue == queue && run.to == offset && run.outcome == outcome => {
            run.to = to;
        }
        _ => runs.push(Step { queue, from: offset, to, outcome }),
    }
}

/// `u64` settled_below, ranges settled, returned messages as steps of queue 0, ranges rejected,
/// `u64` how many were rejected, `u64` how many had expired, `u64` how many were filtered.
impl Wire for Progress {
    fn put(&self, out: &mut Vec<u8>) {
        self.settled_below.put(out);
        self.settled.put(out);
        self.returned_runs().put(out);
        self.rejected.put(out);
        self.rejected_count.put(out);
        self.expired_count.put(out);
        self.filtered_count.put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let mut progress = Self::starting_at(QueueOffset::take(input)?);
        progress.settled = RangeSet::take(input)?;
        let first = progress.settled.iter().next();
        if let Some((from, _)) = first.filter(|(from, _)| *from <= progress.settled_below) {
            return Err(Malformed::Field { what: "first settled offset", value: from.0 });
        }
        for step in Vec::<Step>::take(input)? {
            let Outcome::Returned { attempts: 1.., .. } = step.outcome else {
                return Err(Malformed::Field { what: "returned message", value: step.from.0 });
            };
            progress.apply(&step);
        }
        progress.rejected = RangeSet::take(input)?;
        progress.rejected_count = u64::take(input)?;
        if progress.rejected_count < progress.rejected.offsets() {
            let value = progress.rejected_count;
            return Err(Malformed::Field { what: "count of rejected messages", value });
        }
        progress.expired_count = u64::take(input)?;
        progress.filtered_count = u64::take(input)?;
        Ok(progress)
    }
}
