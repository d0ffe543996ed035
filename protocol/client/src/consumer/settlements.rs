//! What was settled and not yet sent, as a value: gathers, and coalesces into ranges.
use std::sync::Arc;

use tokio::sync::oneshot;
use yard_wire::limits::{CREDIT_MESSAGES_MAX, SETTLE_ERRORS_BYTES_MAX, SETTLE_RANGES_MAX};
use yard_wire::requests::{HeldRange, SettleRange, Settled, Verdict};
use yard_wire::{Code, QueueIndex, QueueOffset};

use crate::Error;

/// How long a settlement waits for others, in milliseconds.
const GATHER_MS: u64 = 5;
/// As many do not wait.
const GATHER_MESSAGES: u64 = 4_096;
/// Messages of one request, and so of one settlement.
const SPAN_MAX: u64 = CREDIT_MESSAGES_MAX as u64;

/// Who waits for a settlement to be durable.
pub(super) type Waiter = oneshot::Sender<Result<(), Error>>;

/// What became of consecutive messages of a queue, all of the same attempt.
#[derive(Debug)]
pub(super) struct Settlement {
    pub(super) queue: QueueIndex,
    pub(super) from: QueueOffset,
    /// Offset after the last.
    pub(super) to: QueueOffset,
    /// Which of their deliveries it is about.
    pub(super) attempt: u32,
    pub(super) verdict: Verdict,
    pub(super) delay_ms: Option<u32>,
    /// Why it failed, within the bounds of a request.
    pub(super) error: Option<Arc<str>>,
    /// Who waits for which of the messages.
    pub(super) waiters: Vec<(QueueOffset, Waiter)>,
}

impl Settlement {
    pub(super) fn resolve(self, result: Result<(), Error>) {
        for (_, waiter) in self.waiters {
            // Whoever settled may have stopped waiting.
            let _ = waiter.send(result.clone());
        }
    }

    fn messages(&self) -> u64 {
        self.to.0 - self.from.0
    }

    fn error_bytes(&self) -> usize {
        self.error.as_ref().map_or(0, |error| error.len())
    }

    /// Takes in what follows, if it does; else gives it back.
    fn join(&mut self, next: Self) -> Option<Self> {
        let what = |it: &Self| (it.attempt, it.verdict, it.delay_ms);
        let is_same = what(self) == what(&next) && self.error == next.error;
        let is_next = self.queue == next.queue && self.to == next.from;
        if !is_same || !is_next || self.messages() + next.messages() > SPAN_MAX {
            return Some(next);
        }
        self.to = next.to;
        self.waiters.extend(next.waiters);
        None
    }
}

/// Bounded by what the application holds: a message is settled once.
#[derive(Debug, Default)]
pub(super) struct Settlements {
    /// As they came; what follows the last one was joined to it.
    gathered: Vec<Settlement>,
    messages: u64,
    first_ms: u64,
    not_before_ms: u64,
    /// Whether anybody waits.
    is_awaited: bool,
}

impl Settlements {
    /// Takes one in. True when what is due may have become due earlier by it. `now_ms` is asked
    /// for only where it matters.
    pub(super) fn add(&mut self, settlement: Settlement, now_ms: impl FnOnce() -> u64) -> bool {
        let is_first = self.gathered.is_empty();
        if is_first {
            self.first_ms = now_ms();
        }
        let is_awaited = !settlement.waiters.is_empty();
        self.is_awaited |= is_awaited;
        let had_room = self.messages < GATHER_MESSAGES;
        self.messages += settlement.messages();
        let is_full = had_room && self.messages >= GATHER_MESSAGES;
        let left = match self.gathered.last_mut() {
            Some(last) => last.join(settlement),
            None => Some(settlement),
        };
        self.gathered.extend(left);
        is_first || is_awaited || is_full
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
        let at_once = is_urgent || self.messages >= GATHER_MESSAGES;
        let due_ms = if at_once { self.first_ms } else { self.first_ms + GATHER_MS };
        Some(due_ms.max(self.not_before_ms))
    }

    /// What to send next, a range each, within the bounds of a request; what does not fit stays.
    pub(super) fn take(&mut self) -> Vec<Settlement> {
        let mut gathered = std::mem::take(&mut self.gathered);
        gathered.sort_by_key(|it| (it.queue, it.attempt, it.from));
        let mut taken: Vec<Settlement> = Vec::new();
        let (mut span, mut errors) = (0, 0);
        for settlement in gathered {
            let (messages, bytes) = (settlement.messages(), settlement.error_bytes());
            let has_room = span + messages <= SPAN_MAX && errors + bytes <= SETTLE_ERRORS_BYTES_MAX;
            let fits = self.gathered.is_empty() && has_room;
            let left = match taken.last_mut() {
                Some(last) if fits => last.join(settlement),
                Some(_) | None => Some(settlement),
            };
            match left {
                Some(left) if !fits || taken.len() == SETTLE_RANGES_MAX => self.gathered.push(left),
                left => {
                    span += messages;
                    errors += left.as_ref().map_or(0, Settlement::error_bytes);
                    taken.extend(left);
                }
            }
        }
        self.messages -= span;
        self.is_awaited = self.gathered.iter().any(|settlement| !settlement.waiters.is_empty());
        taken
    }
}

/// What a request says of these.
pub(super) fn ranges(settlements: &[Settlement]) -> Vec<SettleRange> {
    let range = |settlement: &Settlement| {
        let &Settlement { queue, from, to, attempt, verdict, delay_ms, .. } = settlement;
        let error = settlement.error.as_deref().map(str::to_owned);
        SettleRange { queue, from, to, attempt, verdict, delay_ms, error }
    };
    settlements.iter().map(range).collect()
}

/// Tells everybody what the broker answered.
pub(super) fn resolve(settlements: Vec<Settlement>, settled: &Settled) {
    for Settlement { queue, attempt, waiters, .. } in settlements {
        for (offset, waiter) in waiters {
            let is_it = |(lost, (from, to)): &(QueueIndex, (QueueOffset, QueueOffset))| {
                *lost == queue && (*from..*to).contains(&offset)
            };
            let result = match superseded(&settled.other, (queue, offset, attempt)) {
                Some(error) => Err(error),
                None if settled.lost.iter().any(is_it) => {
                    let detail = format!("offset {offset} of queue {queue} was no longer leased");
                    Err(Error::new(Code::LeaseLost, detail))
                }
                None => Ok(()),
            };
            // Whoever settled may have stopped waiting.
            let _ = waiter.send(result);
        }
    }
}

/// Why a delivery counts for nothing, where the broker says that another one of the same message is
/// held.
pub(super) fn superseded(
    other: &[HeldRange],
    (queue, offset, attempt): (QueueIndex, QueueOffset, u32),
) -> Option<Error> {
    let is_it = |held: &&HeldRange| {
        held.queue == queue && held.attempt != attempt && (held.from..held.to).contains(&offset)
    };
    let held = other.iter().find(is_it)?;
    let detail = format!(
        "offset {offset} of queue {queue} is leased as attempt {}, this was attempt {attempt}",
        held.attempt
    );
    Some(Error::new(held.refuses(attempt), detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settlement(queue: u16, offset: u64, verdict: Verdict) -> Settlement {
        let (queue, from, to) = (QueueIndex(queue), QueueOffset(offset), QueueOffset(offset + 1));
        let (attempt, delay_ms, error, waiters) = (1, None, None, Vec::new());
        Settlement { queue, from, to, attempt, verdict, delay_ms, error, waiters }
    }

    fn messages(taken: &[Settlement]) -> u64 {
        taken.iter().map(Settlement::messages).sum()
    }

    #[test]
    fn neighbours_of_one_verdict_become_one_range() {
        let check = |given: &[(u16, u64, Verdict)], expect: &[(u16, u64, u64, Verdict)]| {
            let mut settlements = Settlements::default();
            for (queue, offset, verdict) in given {
                settlements.add(settlement(*queue, *offset, *verdict), || 0);
            }
            let taken = settlements.take();
            let ranges: Vec<_> =
                ranges(&taken).iter().map(|r| (r.queue.0, r.from.0, r.to.0, r.verdict)).collect();
            assert_eq!(ranges, expect, "{given:?}");
            assert_eq!(messages(&taken), given.len() as u64);
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
    fn a_range_is_of_one_attempt_and_first_deliveries_are_one_range() {
        let mut settlements = Settlements::default();
        for offset in 0..4_096 {
            let attempt = if offset == 7 { 3 } else { 1 };
            let settled = settlement(0, offset, Verdict::Ack);
            settlements.add(Settlement { attempt, ..settled }, || 0);
        }
        let late = settlement(0, 7, Verdict::Ack);
        settlements.add(late, || 0);
        let taken = ranges(&settlements.take());
        let taken: Vec<_> = taken.iter().map(|it| (it.from.0, it.to.0, it.attempt)).collect();
        assert_eq!(taken, [(0, 4_096, 1), (7, 8, 3)], "the late one is of the first delivery");
    }

    #[test]
    fn what_was_delivered_again_is_refused_for_the_earlier_delivery_only() {
        let awaited = |offset, attempt| {
            let (waiter, waiting) = oneshot::channel();
            let waiters = vec![(QueueOffset(offset), waiter)];
            let settled = settlement(0, offset, Verdict::Ack);
            (Settlement { attempt, waiters, ..settled }, waiting)
        };
        let cases = [(4, 1, None), (5, 1, Some(Code::LeaseSuperseded)), (5, 2, None)];
        let forged = [(5, 3, Some(Code::LeaseForged)), (6, 1, Some(Code::LeaseLost))];
        let (mut settlements, mut waiting) = (Vec::new(), Vec::new());
        for (offset, attempt, expect) in cases.into_iter().chain(forged) {
            let (settled, receiver) = awaited(offset, attempt);
            settlements.push(settled);
            waiting.push((receiver, expect));
        }
        let (queue, from, to) = (QueueIndex(0), QueueOffset(5), QueueOffset(6));
        let other = vec![HeldRange { queue, from, to, attempt: 2 }];
        let lost = vec![(queue, (QueueOffset(6), QueueOffset(7)))];
        resolve(settlements, &Settled { done: 2, lost, other });
        for (mut receiver, expect) in waiting {
            let told = receiver.try_recv().unwrap();
            assert_eq!(told.err().map(|error| error.code), expect);
        }
    }

    #[test]
    fn a_request_has_a_bounded_number_of_ranges() {
        let mut settlements = Settlements::default();
        for offset in 0..5_000 {
            settlements.add(settlement(0, offset * 2, Verdict::Ack), || 0);
        }
        assert_eq!(settlements.take().len(), SETTLE_RANGES_MAX);
        assert_eq!(settlements.take().len(), 5_000 - SETTLE_RANGES_MAX);
        assert_eq!(settlements.due_ms(false), None);
    }

    #[test]
    fn neighbours_that_failed_alike_are_one_range_and_error_texts_are_bounded() {
        let mut settlements = Settlements::default();
        let text = |number: u64| Some(Arc::from(format!("{number:01024}")));
        for offset in 0..3_000 {
            let failed = settlement(0, offset, Verdict::Nack);
            settlements.add(Settlement { error: text(offset / 2), ..failed }, || 0);
        }
        let taken = settlements.take();
        assert_eq!((taken.len(), messages(&taken)), (1_024, 2_048));
        let taken = settlements.take();
        assert_eq!((taken.len(), messages(&taken)), (476, 952));
    }

    #[test]
    fn a_request_is_about_a_bounded_number_of_messages() {
        let mut settlements = Settlements::default();
        for offset in 0..SPAN_MAX + 10 {
            settlements.add(settlement(0, offset, Verdict::Ack), || 0);
        }
        settlements.add(settlement(1, 0, Verdict::Ack), || 0);
        let taken = settlements.take();
        assert_eq!((taken.len(), messages(&taken)), (1, SPAN_MAX));
        let taken = settlements.take();
        assert_eq!((taken.len(), messages(&taken)), (2, 11));
        assert_eq!(settlements.due_ms(false), None);
    }

    #[test]
    fn who_sends_is_woken_only_when_there_is_something_new_to_wait_for() {
        let mut settlements = Settlements::default();
        for offset in 0..2 * GATHER_MESSAGES {
            let wakes = settlements.add(settlement(0, offset, Verdict::Ack), || 0);
            assert_eq!(wakes, offset == 0 || offset + 1 == GATHER_MESSAGES, "{offset}");
        }
    }

    #[test]
    fn what_is_waited_for_goes_at_once_unless_something_is_on_its_way() {
        let mut settlements = Settlements::default();
        settlements.add(settlement(0, 1, Verdict::Ack), || 100);
        assert_eq!(settlements.due_ms(false), Some(105));
        let (waiter, mut waiting) = oneshot::channel();
        let waiters = vec![(QueueOffset(2), waiter)];
        let awaited = Settlement { waiters, ..settlement(0, 2, Verdict::Ack) };
        assert!(settlements.add(awaited, || 101));
        assert_eq!(settlements.due_ms(false), Some(100));
        assert_eq!(settlements.due_ms(true), Some(105));
        settlements.hold(200);
        assert_eq!(settlements.due_ms(false), Some(200));
        let lost = vec![(QueueIndex(0), (QueueOffset(2), QueueOffset(3)))];
        resolve(settlements.take(), &Settled { done: 1, lost, other: Vec::new() });
        assert_eq!(waiting.try_recv().unwrap().unwrap_err().code, Code::LeaseLost);
    }
}
