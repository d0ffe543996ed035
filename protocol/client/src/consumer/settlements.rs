//! What was settled and not yet sent, as a value: gathers, and coalesces into ranges.
use tokio::sync::oneshot;
use yard_wire::limits::SETTLE_RANGES_MAX;
use yard_wire::requests::{SettleRange, Settled, Verdict};
use yard_wire::{Code, QueueIndex, QueueOffset};

use crate::Error;

/// How long a settlement waits for others, in milliseconds.
const GATHER_MS: u64 = 5;
/// As many do not wait.
const GATHER_MESSAGES: usize = 1_024;

/// What became of one message.
#[derive(Debug)]
pub(super) struct Settlement {
    pub(super) queue: QueueIndex,
    pub(super) offset: QueueOffset,
    pub(super) verdict: Verdict,
    pub(super) delay_ms: Option<u32>,
    /// Who waits for it to be durable.
    pub(super) waiter: Option<oneshot::Sender<Result<(), Error>>>,
}

impl Settlement {
    pub(super) fn resolve(self, result: Result<(), Error>) {
        if let Some(waiter) = self.waiter {
            // Whoever settled may have stopped waiting.
            let _ = waiter.send(result);
        }
    }
}

/// Bounded by what the application holds: a message is settled once.
#[derive(Debug, Default)]
pub(super) struct Settlements {
    gathered: Vec<Settlement>,
    first_ms: u64,
    not_before_ms: u64,
    /// Whether anybody waits.
    is_awaited: bool,
}

impl Settlements {
    pub(super) fn add(&mut self, settlement: Settlement, now_ms: u64) {
        if self.gathered.is_empty() {
            self.first_ms = now_ms;
        }
        self.is_awaited |= settlement.waiter.is_some();
        self.gathered.push(settlement);
    }

    /// After a refusal that asks for patience.
    pub(super) fn hold(&mut self, until_ms: u64) {
        self.not_before_ms = until_ms;
    }

    /// When to send, if there is anything. One that is waited for goes at once where nothing is
    /// on its way, so that settling one by one costs no extra wait.
    pub(super) fn due_ms(&self, is_one_on_its_way: bool) -> Option<u64> {
        if self.gathered.is_empty() {
            return None;
        }
        let is_urgent = self.is_awaited && !is_one_on_its_way;
        let at_once = is_urgent || self.gathered.len() >= GATHER_MESSAGES;
        let due_ms = if at_once { self.first_ms } else { self.first_ms + GATHER_MS };
        Some(due_ms.max(self.not_before_ms))
    }

    /// The next ranges to send, with what they are made of; what does not fit stays.
    pub(super) fn take(&mut self) -> (Vec<SettleRange>, Vec<Settlement>) {
        self.gathered.sort_by_key(|settlement| (settlement.queue, settlement.offset));
        let mut ranges: Vec<SettleRange> = Vec::new();
        let mut count = 0;
        for Settlement { queue, offset, verdict, delay_ms, .. } in &self.gathered {
            let is_full = ranges.len() == SETTLE_RANGES_MAX;
            let last = ranges.last_mut().filter(|range| {
                let is_same = range.verdict == *verdict && range.delay_ms == *delay_ms;
                range.queue == *queue && range.to == *offset && is_same
            });
            match last {
                Some(range) => range.to = QueueOffset(offset.0 + 1),
                None if is_full => break,
                None => ranges.push(SettleRange {
                    queue: *queue,
                    from: *offset,
                    to: QueueOffset(offset.0 + 1),
                    verdict: *verdict,
                    delay_ms: *delay_ms,
                }),
            }
            count += 1;
        }
        let rest = self.gathered.split_off(count);
        self.is_awaited = rest.iter().any(|settlement| settlement.waiter.is_some());
        (ranges, std::mem::replace(&mut self.gathered, rest))
    }
}

/// Tells everybody what the broker answered.
pub(super) fn resolve(settlements: Vec<Settlement>, settled: &Settled) {
    for settlement in settlements {
        let Settlement { queue, offset, .. } = settlement;
        let is_lost = settled
            .lost
            .iter()
            .any(|(lost, (from, to))| *lost == queue && (*from..*to).contains(&offset));
        settlement.resolve(if is_lost {
            let detail = format!("offset {offset} of queue {queue} was no longer leased");
            Err(Error::new(Code::LeaseLost, detail))
        } else {
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settlement(queue: u16, offset: u64, verdict: Verdict) -> Settlement {
        let (queue, offset) = (QueueIndex(queue), QueueOffset(offset));
        Settlement { queue, offset, verdict, delay_ms: None, waiter: None }
    }

    #[test]
    fn neighbours_of_one_verdict_become_one_range() {
        let check = |given: &[(u16, u64, Verdict)], expect: &[(u16, u64, u64, Verdict)]| {
            let mut settlements = Settlements::default();
            for (queue, offset, verdict) in given {
                settlements.add(settlement(*queue, *offset, *verdict), 0);
            }
            let (ranges, taken) = settlements.take();
            let ranges: Vec<_> =
                ranges.iter().map(|r| (r.queue.0, r.from.0, r.to.0, r.verdict)).collect();
            assert_eq!(ranges, expect, "{given:?}");
            assert_eq!(taken.len(), given.len());
            assert_eq!(settlements.due_ms(false), None);
        };
        use Verdict::{Ack, Nack};
        check(&[], &[]);
        check(&[(0, 5, Ack), (0, 4, Ack), (0, 6, Ack)], &[(0, 4, 7, Ack)]);
        check(&[(0, 4, Ack), (0, 6, Ack)], &[(0, 4, 5, Ack), (0, 6, 7, Ack)]);
        check(&[(0, 4, Ack), (1, 5, Ack)], &[(0, 4, 5, Ack), (1, 5, 6, Ack)]);
        check(&[(0, 4, Ack), (0, 5, Nack)], &[(0, 4, 5, Ack), (0, 5, 6, Nack)]);
    }

    #[test]
    fn a_request_has_a_bounded_number_of_ranges() {
        let mut settlements = Settlements::default();
        for offset in 0..5_000 {
            settlements.add(settlement(0, offset * 2, Verdict::Ack), 0);
        }
        let (ranges, taken) = settlements.take();
        assert_eq!((ranges.len(), taken.len()), (SETTLE_RANGES_MAX, SETTLE_RANGES_MAX));
        let (ranges, taken) = settlements.take();
        assert_eq!((ranges.len(), taken.len()), (5_000 - SETTLE_RANGES_MAX, 904));
    }

    #[test]
    fn what_is_waited_for_goes_at_once_unless_something_is_on_its_way() {
        let mut settlements = Settlements::default();
        settlements.add(settlement(0, 1, Verdict::Ack), 100);
        assert_eq!(settlements.due_ms(false), Some(105));
        let (waiter, mut waiting) = oneshot::channel();
        let awaited = Settlement { waiter: Some(waiter), ..settlement(0, 2, Verdict::Ack) };
        settlements.add(awaited, 101);
        assert_eq!(settlements.due_ms(false), Some(100));
        assert_eq!(settlements.due_ms(true), Some(105));
        settlements.hold(200);
        assert_eq!(settlements.due_ms(false), Some(200));
        let lost = vec![(QueueIndex(0), (QueueOffset(2), QueueOffset(3)))];
        resolve(settlements.take().1, &Settled { done: 1, lost });
        assert_eq!(waiting.try_recv().unwrap().unwrap_err().code, Code::LeaseLost);
    }
}
