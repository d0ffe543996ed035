//! Whether a group is where it was moved to: what the broker answered, beside what was read back.
//!
//! | found | without members | with members |
//! |---|---|---|
//! | below the target | wrong | wrong |
//! | at the target | right | right |
//! | above it, at most at the oldest message | right: retention | right |
//! | above that, by no more than dead letters were made | right | right |
//! | above that | wrong | right: they have gone on |
//!
//! What is to become a dead letter is settled when it is one, wherever the group was moved to.
//! Below the target the group is looked at again, see the caller; from the target on it may carry
//! the group along.
//!
//! What the broker has answered is judged as without members in any case: when it moved the group,
//! none had begun. So it is also known of a group with members that it went back.
use std::collections::BTreeMap;

use yard_wire::requests::MovedQueue;
use yard_wire::{Code, QueueIndex, QueueOffset};

use super::{QueueMove, QueueSought};
use crate::Error;

/// What was read after a group was moved.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadBack {
    /// Below which offset everything is settled.
    pub(super) settled_below: BTreeMap<QueueIndex, QueueOffset>,
    /// The oldest message of each queue, read after the above.
    pub(super) firsts: BTreeMap<QueueIndex, QueueOffset>,
    /// Dead letters that were made of messages of each queue since before it was moved.
    pub(super) letters: BTreeMap<QueueIndex, u64>,
    /// The group has members, or had some when it was moved, which come back by themselves.
    pub(super) has_members: bool,
}

impl ReadBack {
    /// Whether a queue was found below where it was to go.
    pub(super) fn is_below(&self, planned: &QueueMove) -> bool {
        self.settled_below.get(&planned.queue).is_some_and(|found| *found < planned.to)
    }

    /// Where a queue was found, and what is wrong with that.
    fn find(
        &self,
        QueueMove { queue, to, .. }: QueueMove,
        after: QueueOffset,
    ) -> (Option<QueueOffset>, Result<(), Error>) {
        let Some(found) = self.settled_below.get(&queue).copied() else {
            let detail = format!("queue {queue} was moved to {to}, and found nowhere");
            return (None, Err(Error::new(Code::BadReply, detail)));
        };
        let first = self.firsts.get(&queue).copied().unwrap_or_default();
        let is_there = |at: QueueOffset| at == to || (to < at && at <= first);
        let letters = self.letters.get(&queue).copied().unwrap_or_default();
        let was_carried = to < found && found.0.saturating_sub(to.max(first).0) <= letters;
        let has_gone_on = to < found && self.has_members || was_carried;
        if is_there(after) && (is_there(found) || has_gone_on) {
            return (Some(found), Ok(()));
        }
        let detail = format!(
            "queue {queue} was to go to {to}; the broker says {after}, and it was found at {found}"
        );
        (Some(found), Err(Error::new(Code::BadReply, detail)))
    }
}

/// What became of a queue, by the answer about it and by what was read back.
pub(super) fn judge(
    planned: QueueMove,
    moved: Result<MovedQueue, Error>,
    read: &Result<ReadBack, Error>,
) -> QueueSought {
    let (before, found, result) = match (moved, read) {
        (Err(error), _) => (planned.before, None, Err(error)),
        (Ok(moved), Err(error)) => (moved.before, None, Err(error.clone())),
        (Ok(moved), Ok(read)) => {
            let (found, result) = read.find(planned, moved.after);
            (moved.before, found, result)
        }
    };
    QueueSought { planned: QueueMove { before, ..planned }, found, error: result.err() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_wire::ShardId;

    const QUEUE: QueueIndex = QueueIndex(3);

    fn planned(to: u64) -> QueueMove {
        let (before, to, end) = (QueueOffset(10), QueueOffset(to), QueueOffset(20));
        QueueMove { queue: QUEUE, shard: ShardId(0), before, to, end }
    }

    fn moved(after: u64) -> MovedQueue {
        let (after, end) = (QueueOffset(after), QueueOffset(20));
        MovedQueue { queue: QUEUE, before: QueueOffset(11), after, end }
    }

    fn read(found: Option<u64>, first: u64, has_members: bool) -> ReadBack {
        ReadBack {
            settled_below: found.map(|found| (QUEUE, QueueOffset(found))).into_iter().collect(),
            firsts: BTreeMap::from([(QUEUE, QueueOffset(first))]),
            letters: BTreeMap::new(),
            has_members,
        }
    }

    #[test]
    fn a_group_is_found_where_it_was_sent_and_nowhere_else() {
        // Whether it is right that a queue that was to go to 5, and went to `after` by the broker's
        // answer, is found at `found`: without members, and with some.
        let check = |after: u64, found: Option<u64>, first: u64, expect: [bool; 2]| {
            let result = [false, true].map(|has_members| {
                let read = Ok(read(found, first, has_members));
                let sought = judge(planned(5), Ok(moved(after)), &read);
                assert_eq!(sought.found, found.map(QueueOffset));
                assert_eq!(sought.planned.before, QueueOffset(11), "as it was when it was done");
                sought.error.is_none()
            });
            assert_eq!(result, expect, "answered {after}, found {found:?}, oldest {first}");
        };
        check(5, Some(5), 0, [true, true]);
        check(5, Some(5), 5, [true, true]);
        check(5, Some(4), 0, [false, false]);
        check(5, None, 0, [false, false]);
        // It went back, and is found where it was.
        check(5, Some(11), 0, [false, true]);
        check(11, Some(11), 0, [false, false]);
        check(4, Some(5), 0, [false, false]);
        // Retention goes on, before and after.
        check(5, Some(7), 7, [true, true]);
        check(6, Some(7), 9, [true, true]);
        check(6, Some(6), 5, [false, false]);
        check(5, Some(8), 7, [false, true]);
    }

    #[test]
    fn dead_letters_carry_a_group_on_and_no_further() {
        // Whether a queue that was to go to 5 is rightly found there, with so many letters made.
        let check = |found: u64, first: u64, letters: u64, expect: bool| {
            let letters = BTreeMap::from([(QUEUE, letters)]);
            let read = Ok(ReadBack { letters, ..read(Some(found), first, false) });
            let sought = judge(planned(5), Ok(moved(5)), &read);
            assert_eq!(sought.error.is_none(), expect, "{found}, oldest {first}: {sought:?}");
        };
        check(6, 0, 0, false);
        check(6, 0, 1, true);
        check(8, 0, 2, false);
        check(8, 0, 3, true);
        check(8, 6, 2, true);
        check(8, 6, 1, false);
        check(4, 0, 1, false);
        let is_below = |found: u64| read(Some(found), 0, false).is_below(&planned(5));
        assert_eq!([4, 5, 6].map(is_below), [true, false, false]);
    }

    #[test]
    fn what_was_not_answered_or_not_read_is_not_done() {
        let error = || Error::new(Code::Disconnected, "lost");
        let read = Ok(read(Some(5), 0, false));
        let unanswered = judge(planned(5), Err(error()), &read);
        assert_eq!((unanswered.found, unanswered.error), (None, Some(error())));
        let unread = judge(planned(5), Ok(moved(5)), &Err(error()));
        assert_eq!((unread.found, unread.error), (None, Some(error())));
    }
}
