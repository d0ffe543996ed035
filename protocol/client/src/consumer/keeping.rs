//! Which deliveries are to be held for as long as somebody works on them, as a value: when their
//! leases are to be extended next. Time is an argument, in milliseconds.
use std::collections::{BTreeMap, BTreeSet};

use yard_wire::limits::{CREDIT_MESSAGES_MAX, SETTLE_RANGES_MAX};
use yard_wire::requests::{Extended, HeldRange};
use yard_wire::{QueueIndex, QueueOffset};

/// A lease is extended when a third of it has passed, so that two attempts may fail.
const PARTS: u64 = 3;

/// A delivery: where its message is, and its attempt.
pub(super) type Place = (QueueIndex, QueueOffset, u32);

/// Which deliveries are kept, and when each is to be extended next. Bounded by what the application
/// works on.
#[derive(Debug, Default)]
pub struct Keeping {
    /// When each is extended next, and how many want it.
    kept: BTreeMap<Place, (u64, u32)>,
    /// The same by time.
    dues: BTreeSet<(u64, Place)>,
}

impl Keeping {
    /// Keeps a message that was received at `received_ms`, under a lease of `lease_ms`. True when
    /// what is due may have become due earlier by it.
    pub fn keep(&mut self, place: Place, received_ms: u64, lease_ms: u64) -> bool {
        let due_ms = received_ms.saturating_add(lease_ms / PARTS);
        if let Some((_, wanted)) = self.kept.get_mut(&place) {
            *wanted += 1;
            return false;
        }
        let is_first = self.dues.first().is_none_or(|(first, _)| due_ms < *first);
        self.kept.insert(place, (due_ms, 1));
        self.dues.insert((due_ms, place));
        is_first
    }

    /// One of those that wanted a message kept does no more.
    pub fn release(&mut self, place: Place) {
        if let Some((due_ms, wanted)) = self.kept.get_mut(&place) {
            *wanted -= 1;
            if *wanted == 0 {
                self.dues.remove(&(*due_ms, place));
                self.kept.remove(&place);
            }
        }
    }

    /// When to extend next, if anything is kept.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        self.dues.first().map(|(due_ms, _)| *due_ms)
    }

    /// What is to be extended now, by a third of the lease before its time: so that messages that
    /// are worked on at the same time share a request. Within the bounds of a request; each is due
    /// again after another third of its lease.
    pub fn take_due(&mut self, now_ms: u64, lease_ms: u64) -> Vec<HeldRange> {
        if self.due_ms().is_none_or(|due_ms| due_ms > now_ms) {
            return Vec::new();
        }
        let soon_ms = now_ms.saturating_add(lease_ms / PARTS / 2);
        let due = self.dues.iter().take_while(|(due_ms, _)| *due_ms <= soon_ms);
        let due: Vec<(u64, Place)> = due.take(CREDIT_MESSAGES_MAX as usize).copied().collect();
        let mut places: Vec<Place> = due.iter().map(|(_, place)| *place).collect();
        places.sort_unstable_by_key(|(queue, offset, attempt)| (*queue, *attempt, *offset));
        let mut ranges: Vec<HeldRange> = Vec::new();
        for place @ (queue, from, attempt) in places {
            let to = QueueOffset(from.0 + 1);
            let is_full = ranges.len() == SETTLE_RANGES_MAX;
            match ranges.last_mut() {
                Some(last) if (last.queue, last.attempt, last.to) == (queue, attempt, from) => {
                    last.to = to;
                }
                Some(_) if is_full => break,
                Some(_) | None => ranges.push(HeldRange { queue, from, to, attempt }),
            }
            let (due_ms, _) = self.kept.get_mut(&place).expect("what is due is kept");
            let next_ms = now_ms.saturating_add((lease_ms / PARTS).max(1));
            self.dues.remove(&(*due_ms, place));
            *due_ms = next_ms;
            self.dues.insert((next_ms, place));
        }
        ranges
    }

    /// Takes in an answer: what cannot be held any longer is not asked for again. How many
    /// messages those are.
    pub fn answered(&mut self, extended: &Extended) -> usize {
        let before = self.kept.len();
        for held in extended.lost.iter().chain(&extended.spent) {
            self.forget(held, |attempt| attempt == held.attempt);
        }
        for held in &extended.other {
            self.forget(held, |attempt| attempt != held.attempt);
        }
        assert_eq!(self.kept.len(), self.dues.len(), "what is kept is due at some time");
        before - self.kept.len()
    }

    fn forget(&mut self, held: &HeldRange, is_gone: impl Fn(u32) -> bool) {
        let range = (held.queue, held.from, 0)..(held.queue, held.to, 0);
        let gone: Vec<Place> =
            self.kept.range(range).map(|(place, _)| *place).filter(|it| is_gone(it.2)).collect();
        for place in gone {
            let (due_ms, _) = self.kept.remove(&place).expect("it was listed");
            self.dues.remove(&(due_ms, place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_wire::Timestamp;

    fn place(queue: u16, offset: u64) -> Place {
        (QueueIndex(queue), QueueOffset(offset), 1)
    }

    fn ranges(taken: &[HeldRange]) -> Vec<(u16, u64, u64)> {
        taken.iter().map(|range| (range.queue.0, range.from.0, range.to.0)).collect()
    }

    #[test]
    fn what_is_worked_on_is_extended_by_thirds_of_its_lease() {
        let mut keeping = Keeping::default();
        assert!(keeping.keep(place(0, 5), 1_000, 30_000));
        assert!(!keeping.keep(place(0, 6), 2_000, 30_000));
        assert!(keeping.keep(place(1, 0), 0, 30_000), "it has waited for longer");
        assert_eq!(keeping.due_ms(), Some(10_000));
        assert!(keeping.take_due(9_999, 30_000).is_empty());
        let taken = keeping.take_due(10_000, 30_000);
        assert_eq!(ranges(&taken), [(0, 5, 7), (1, 0, 1)], "those that are due soon come with it");
        assert_eq!(keeping.due_ms(), Some(20_000));
        keeping.release(place(0, 5));
        keeping.release(place(0, 5));
        assert_eq!(ranges(&keeping.take_due(20_000, 30_000)), [(0, 6, 7), (1, 0, 1)]);
        keeping.release(place(0, 6));
        keeping.release(place(1, 0));
        assert_eq!(keeping.due_ms(), None);
    }

    #[test]
    fn what_two_want_is_kept_until_both_do_not() {
        let mut keeping = Keeping::default();
        assert!(keeping.keep(place(0, 1), 0, 3_000) && !keeping.keep(place(0, 1), 0, 3_000));
        keeping.release(place(0, 1));
        assert_eq!(keeping.due_ms(), Some(1_000));
        keeping.release(place(0, 1));
        assert_eq!(keeping.due_ms(), None);
    }

    #[test]
    fn what_is_lost_or_held_too_long_is_not_asked_for_again() {
        let mut keeping = Keeping::default();
        for offset in 0..6 {
            assert_eq!(keeping.keep(place(0, offset), 0, 3_000), offset == 0);
        }
        assert_eq!(ranges(&keeping.take_due(1_000, 3_000)), [(0, 0, 6)]);
        let held = |from, to| HeldRange {
            queue: QueueIndex(0),
            from: QueueOffset(from),
            to: QueueOffset(to),
            attempt: 1,
        };
        let (spent, lost, other) = (vec![held(0, 1)], vec![held(3, 9)], vec![]);
        let extended = Extended { done: 2, until: Timestamp(1), spent, lost, other };
        assert_eq!(keeping.answered(&extended), 4);
        assert_eq!(ranges(&keeping.take_due(2_000, 3_000)), [(0, 1, 3)]);
        keeping.release(place(0, 4));
        assert_eq!(keeping.due_ms(), Some(3_000), "releasing what is gone changes nothing");
    }

    #[test]
    fn an_earlier_delivery_is_not_kept_once_a_later_one_is() {
        let mut keeping = Keeping::default();
        let (queue, from, to) = (QueueIndex(0), QueueOffset(5), QueueOffset(6));
        assert!(keeping.keep((queue, from, 1), 0, 3_000));
        assert!(!keeping.keep((queue, from, 2), 0, 3_000), "a delivery of its own");
        let taken = keeping.take_due(1_000, 3_000);
        let of = |attempt| HeldRange { queue, from, to, attempt };
        assert_eq!(taken, [of(1), of(2)], "a range is of one attempt");
        let (spent, lost) = (vec![], vec![]);
        let extended = Extended { done: 1, until: Timestamp(1), spent, lost, other: vec![of(2)] };
        assert_eq!(keeping.answered(&extended), 1);
        assert_eq!(keeping.take_due(2_000, 3_000), [of(2)]);
    }

    #[test]
    fn a_request_has_a_bounded_number_of_ranges() {
        let mut keeping = Keeping::default();
        for offset in 0..5_000 {
            assert_eq!(keeping.keep(place(0, offset * 2), 0, 3_000), offset == 0);
        }
        assert_eq!(keeping.take_due(1_000, 3_000).len(), SETTLE_RANGES_MAX);
        assert_eq!(keeping.take_due(1_000, 3_000).len(), 5_000 - SETTLE_RANGES_MAX);
        assert!(keeping.take_due(1_000, 3_000).is_empty());
    }
}
