//! Which order groups have failed here, as a value: what had been sent of them before the failure
//! is given back, until the failed message or one that was given back comes again.
use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;
use yard_wire::record::Record;
use yard_wire::{QueueIndex, QueueOffset};

/// An order group of a queue, by a hash of its name.
pub type OrderLine = (QueueIndex, u64);

/// The order group of a record of an ordered topic; those that name none are one in each queue.
#[must_use]
pub fn order_line(queue: QueueIndex, record: &Record) -> OrderLine {
    (queue, record.order_group().map_or(0, |name| xxh3_64(name.as_bytes()).max(1)))
}

/// Order groups that are remembered. What was on its way when the first of more failed has arrived
/// long ago.
const LINES_MAX: usize = 65_536;

/// Deliveries of a queue arrive in the order in which the broker made them. So behind a failed
/// message come those that were sent before the broker knew of the failure, each further on than
/// the one before; the first that is not further on was sent afterwards. Where the order group goes
/// on elsewhere meanwhile, a message is given back once that need not have been.
#[derive(Debug, Default)]
pub struct Failures {
    /// The furthest message of each that failed or was given back, and when it was noted.
    lines: BTreeMap<OrderLine, (QueueOffset, u64)>,
    noted: u64,
}

impl Failures {
    /// A message failed.
    pub fn failed(&mut self, line: OrderLine, offset: QueueOffset) {
        self.noted += 1;
        let (furthest, _) = self.lines.entry(line).or_insert((offset, self.noted));
        *furthest = offset.max(*furthest);
        if self.lines.len() > LINES_MAX {
            let oldest = self.lines.iter().min_by_key(|(_, (_, noted))| *noted);
            let oldest = oldest.map(|(line, _)| *line).expect("there are many");
            self.lines.remove(&oldest);
        }
    }

    /// Whether a message that arrived, or was about to be handled, is to be given back.
    pub fn gives_back(&mut self, line: OrderLine, offset: QueueOffset) -> bool {
        let Some((furthest, _)) = self.lines.get_mut(&line) else { return false };
        if *furthest < offset {
            *furthest = offset;
            return true;
        }
        self.lines.remove(&line);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: OrderLine = (QueueIndex(0), 1);
    const B: OrderLine = (QueueIndex(0), 2);

    #[track_caller]
    fn check(failures: &mut Failures, line: OrderLine, offsets: &[u64], given_back: &[bool]) {
        let given = |offset: &u64| failures.gives_back(line, QueueOffset(*offset));
        assert_eq!(offsets.iter().map(given).collect::<Vec<_>>(), given_back);
    }

    #[test]
    fn what_was_on_its_way_is_given_back_until_the_failed_message_comes_again() {
        let mut failures = Failures::default();
        check(&mut failures, A, &[1, 3], &[false, false]);
        failures.failed(A, QueueOffset(3));
        check(&mut failures, B, &[4], &[false]);
        check(&mut failures, A, &[5, 7], &[true, true]);
        check(&mut failures, A, &[3, 5, 7, 9], &[false; 4]);
    }

    #[test]
    fn an_order_group_that_went_on_elsewhere_is_taken_again_after_one_message() {
        let mut failures = Failures::default();
        failures.failed(A, QueueOffset(3));
        check(&mut failures, A, &[9, 9, 10], &[true, false, false]);
    }

    #[test]
    fn of_several_that_failed_the_furthest_counts() {
        let mut failures = Failures::default();
        failures.failed(A, QueueOffset(5));
        failures.failed(A, QueueOffset(3));
        check(&mut failures, A, &[6, 3, 5, 6], &[true, false, false, false]);
    }

    #[test]
    fn the_oldest_of_too_many_is_forgotten() {
        let mut failures = Failures::default();
        for line in 0..=LINES_MAX as u64 {
            failures.failed((QueueIndex(1), line), QueueOffset(1));
        }
        check(&mut failures, (QueueIndex(1), 0), &[2], &[false]);
        check(&mut failures, (QueueIndex(1), 1), &[2], &[true]);
    }
}
