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

/// What becomes of a message that arrived, or was about to be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is handled.
    Comes,
    /// It is given back.
    GoesBack,
    /// It is given back when [`Failures::answered`] is told of this message of its queue, and stays
    /// in hand until then.
    Waits(QueueOffset),
}

/// What was given back up to a moment: a release that was sent then covers no more, see
/// [`Failures::returned`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Given(u64);

/// Order groups that are remembered. What was on its way when the first of more failed has arrived
/// long ago.
const LINES_MAX: usize = 65_536;

/// Deliveries of a queue arrive in the order in which the broker made them. So behind a failed
/// message come those that were sent before the broker knew of the failure, each further on than
/// the one before. The failed message itself, or one that was given back for it, was sent
/// afterwards; one before it says nothing of it. Where the order group goes on elsewhere meanwhile,
/// a message is given back once that need not have been.
///
/// All of that counts from when the broker has taken the failure in. Until it has answered, it may
/// have refused to, as with a full disk: then the failed message is leased on, and what was given
/// back would come again at once. So until then what is behind the message waits for the answer.
///
/// Where the lease of a message ends that is being given back, it comes as the same attempt, and
/// what is said of the first delivery counts for the second: so that one is given back as well, and
/// what is behind it, as if it had failed.
#[derive(Debug, Default)]
pub struct Failures {
    lines: BTreeMap<OrderLine, Line>,
    /// The order groups of messages whose failures the broker has not answered. Bounded by what is
    /// in hand.
    unanswered: BTreeMap<(QueueIndex, QueueOffset), OrderLine>,
    /// What was given back, or is to be, without an answer yet, and when it came last. Bounded as
    /// those.
    released: BTreeMap<(QueueIndex, QueueOffset), Given>,
    given: Given,
    noted: u64,
}

/// What failed of an order group, and has not come again.
#[derive(Debug, Default)]
struct Line {
    /// Each that failed, and the furthest that was given back for it. Bounded by what is in hand.
    failed: Vec<Failed>,
    /// When the last of them was noted.
    noted: u64,
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    offset: QueueOffset,
    furthest: QueueOffset,
    /// Whether the broker knows of it.
    is_answered: bool,
}

impl Failed {
    /// Whether a message says by its coming that the broker has gone on after the failure.
    fn is_over_with(&self, offset: QueueOffset) -> bool {
        let was_given_back = (self.offset..=self.furthest).contains(&offset);
        offset == self.offset || self.is_answered && was_given_back
    }

    /// A message behind it is given back.
    fn give_back(&mut self, offset: QueueOffset) {
        if self.is_answered {
            self.furthest = offset;
        }
    }
}

impl Failures {
    /// A message failed, and whoever gives it back does not ask what the broker says.
    pub fn failed(&mut self, line: OrderLine, offset: QueueOffset) {
        self.note(line, Failed { offset, furthest: offset, is_answered: true });
    }

    /// A message failed, which the broker is told, again and again if it must be.
    pub fn failed_unanswered(&mut self, line: OrderLine, offset: QueueOffset) {
        self.note(line, Failed { offset, furthest: offset, is_answered: false });
        self.unanswered.insert((line.0, offset), line);
    }

    /// The broker has said what came of settling these messages, or never will.
    pub fn answered(&mut self, queue: QueueIndex, from: QueueOffset, to: QueueOffset) {
        while let Some((at, line)) = self.unanswered.range((queue, from)..(queue, to)).next() {
            let (at, line) = (*at, *line);
            self.unanswered.remove(&at);
            let failed = self.lines.get_mut(&line).into_iter().flat_map(|it| &mut it.failed);
            failed.filter(|it| it.offset == at.1).for_each(|it| it.is_answered = true);
        }
    }

    /// What was given back by now: who sends a release keeps this until the answer.
    #[must_use]
    pub fn given(&self) -> Given {
        self.given
    }

    /// The broker has said what came of giving these messages back, or never will. `given` is of
    /// when that was sent: a message that came again since then is given back by another release,
    /// which has no answer yet.
    pub fn returned(
        &mut self,
        queue: QueueIndex,
        (from, to): (QueueOffset, QueueOffset),
        given: Given,
    ) {
        let its = self.released.extract_if((queue, from)..(queue, to), |_, last| *last <= given);
        its.for_each(drop);
    }

    fn note(&mut self, line: OrderLine, it: Failed) {
        self.noted += 1;
        let Line { failed, noted } = self.lines.entry(line).or_default();
        *noted = self.noted;
        failed.retain(|before| before.offset != it.offset);
        failed.push(it);
        if self.lines.len() > LINES_MAX {
            let oldest = self.lines.iter().min_by_key(|(_, line)| line.noted);
            let oldest = oldest.map(|(line, _)| *line).expect("there are many");
            self.lines.remove(&oldest);
        }
    }

    /// Whether a message that arrived is given back, for who does not wait for answers.
    pub fn gives_back(&mut self, line: OrderLine, offset: QueueOffset) -> bool {
        self.turn_of(line, offset) != Turn::Comes
    }

    /// What becomes of a message that arrived, or was about to be handled. One that does not come
    /// counts as given back until [`Failures::returned`] is told of it.
    pub fn turn(&mut self, line: OrderLine, offset: QueueOffset) -> Turn {
        let is_again = self.released.contains_key(&(line.0, offset));
        let turn = match self.turn_of(line, offset) {
            Turn::Comes if is_again => {
                self.failed(line, offset);
                Turn::GoesBack
            }
            turn => turn,
        };
        if turn != Turn::Comes {
            self.given.0 += 1;
            self.released.insert((line.0, offset), self.given);
        }
        turn
    }

    fn turn_of(&mut self, line: OrderLine, offset: QueueOffset) -> Turn {
        let Some(Line { failed, .. }) = self.lines.get_mut(&line) else { return Turn::Comes };
        failed.retain(|it| !it.is_over_with(offset));
        let mut turn = Turn::Comes;
        for ahead in failed.iter_mut().filter(|it| it.furthest < offset) {
            ahead.give_back(offset);
            turn = match turn {
                Turn::Waits(_) => turn,
                _ if ahead.is_answered => Turn::GoesBack,
                _ => Turn::Waits(ahead.offset),
            };
        }
        if failed.is_empty() {
            self.lines.remove(&line);
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: OrderLine = (QueueIndex(0), 1);
    const B: OrderLine = (QueueIndex(0), 2);

    /// What becomes of messages: `.` comes, `<` goes back, which is answered at once, else it waits
    /// for the one of that digit.
    #[track_caller]
    fn check(failures: &mut Failures, line: OrderLine, offsets: &[u64], expected: &str) {
        let turn = |offset: &u64| match failures.turn(line, QueueOffset(*offset)) {
            Turn::Comes => '.',
            Turn::GoesBack => {
                let given = failures.given();
                failures.returned(line.0, (QueueOffset(*offset), QueueOffset(offset + 1)), given);
                '<'
            }
            Turn::Waits(failed) => char::from_digit(failed.0 as u32, 10).unwrap(),
        };
        assert_eq!(offsets.iter().map(turn).collect::<String>(), expected);
    }

    #[test]
    fn what_was_on_its_way_is_given_back_until_the_failed_message_comes_again() {
        let mut failures = Failures::default();
        check(&mut failures, A, &[1, 3], "..");
        failures.failed(A, QueueOffset(3));
        check(&mut failures, B, &[4], ".");
        check(&mut failures, A, &[5, 7], "<<");
        check(&mut failures, A, &[3, 5, 7, 9], "....");
    }

    #[test]
    fn an_order_group_that_went_on_elsewhere_is_taken_again_after_one_message() {
        let mut failures = Failures::default();
        failures.failed(A, QueueOffset(3));
        check(&mut failures, A, &[9, 9, 10], "<..");
    }

    #[test]
    fn what_is_behind_a_failure_that_the_broker_may_have_refused_waits_for_its_answer() {
        let mut failures = Failures::default();
        failures.failed_unanswered(A, QueueOffset(3));
        // It goes on without the failure, and leases end: each may come again.
        check(&mut failures, A, &[2, 9, 9, 10, 9], ".3333");
        failures.answered(QueueIndex(0), QueueOffset(4), QueueOffset(9));
        failures.answered(QueueIndex(1), QueueOffset(3), QueueOffset(9));
        check(&mut failures, A, &[9], "3");
        failures.answered(QueueIndex(0), QueueOffset(0), QueueOffset(4));
        // One that was sent before the broker knew of it.
        check(&mut failures, A, &[9, 3, 9], "<..");
        // Its lease has ended before the broker took it in.
        failures.failed_unanswered(A, QueueOffset(3));
        check(&mut failures, A, &[9, 3, 9], "3.<");
        failures.answered(QueueIndex(0), QueueOffset(3), QueueOffset(4));
        check(&mut failures, A, &[9], ".");
        assert!(failures.lines.is_empty() && failures.unanswered.is_empty());
    }

    #[test]
    fn each_of_several_that_failed_holds_back_what_is_behind_it() {
        let mut failures = Failures::default();
        failures.failed(A, QueueOffset(5));
        failures.failed(A, QueueOffset(3));
        check(&mut failures, A, &[6, 3, 5, 6], "<...");
        // The later one fails first and comes again before the broker knows of the earlier one.
        failures.failed(A, QueueOffset(6));
        failures.failed(A, QueueOffset(5));
        check(&mut failures, A, &[6, 5, 6], "<..");
        // The earlier one comes again before the broker knows of the later one.
        failures.failed(A, QueueOffset(3));
        failures.failed(A, QueueOffset(5));
        check(&mut failures, A, &[3, 6, 5, 6], ".<..");
        // One of them is not answered.
        failures.failed(A, QueueOffset(3));
        failures.failed_unanswered(A, QueueOffset(5));
        check(&mut failures, A, &[4, 6, 3, 5, 6], "<5..<");
    }

    #[test]
    fn what_comes_again_while_it_is_given_back_goes_back_with_what_is_behind_it() {
        let mut failures = Failures::default();
        failures.failed_unanswered(A, QueueOffset(1));
        check(&mut failures, A, &[2], "1");
        failures.answered(QueueIndex(0), QueueOffset(1), QueueOffset(2));
        // Leases have ended meanwhile, and the broker counts on what it sent last.
        check(&mut failures, A, &[1, 2, 3], ".<<");
        check(&mut failures, A, &[2, 3, 4], "...");
        assert!(failures.lines.is_empty() && failures.released.is_empty());
    }

    #[test]
    fn an_answer_is_about_what_was_given_back_before_it_was_asked_for() {
        let mut failures = Failures::default();
        failures.failed(A, QueueOffset(1));
        let two = (QueueOffset(2), QueueOffset(3));
        assert_eq!(failures.turn(A, two.0), Turn::GoesBack);
        let first = failures.given();
        // Its lease has ended: it comes again, and goes back by a second release.
        check(&mut failures, A, &[1], ".");
        assert_eq!(failures.turn(A, two.0), Turn::GoesBack);
        let second = failures.given();
        failures.returned(A.0, two, first);
        assert_eq!(failures.turn(A, two.0), Turn::GoesBack, "the second has no answer yet");
        failures.returned(A.0, two, second);
        assert_eq!(failures.turn(A, two.0), Turn::GoesBack, "nor has the third");
        failures.returned(A.0, two, failures.given());
        check(&mut failures, A, &[2, 3], "..");
        assert!(failures.lines.is_empty() && failures.released.is_empty());
    }

    #[test]
    fn the_oldest_of_too_many_is_forgotten() {
        let mut failures = Failures::default();
        for line in 0..=LINES_MAX as u64 {
            failures.failed((QueueIndex(1), line), QueueOffset(1));
        }
        check(&mut failures, (QueueIndex(1), 0), &[2], ".");
        check(&mut failures, (QueueIndex(1), 1), &[2], "<");
    }
}
