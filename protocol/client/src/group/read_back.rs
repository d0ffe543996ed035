//! Whether a group is where it was moved to: what the broker answered, beside what was read back.
//!
//! | found | without members | with members |
//! |---|---|---|
//! | below the target | wrong | wrong |
//! | at the target | right | right |
//! | above it, at most at the oldest message | right: retention | right |
//! | above that | wrong | right: they have gone on |
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
    /// The group has members, or had some when it was moved, which come back by themselves.
    pub(super) has_members: bool,
}

impl ReadBack {
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
        let has_gone_on = self.has_members && to < found;
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
    fn what_was_not_answered_or_not_read_is_not_done() {
        let error = || Error::new(Code::Disconnected, "lost");
        let read = Ok(read(Some(5), 0, false));
        let unanswered = judge(planned(5), Err(error()), &read);
        assert_eq!((unanswered.found, unanswered.error), (None, Some(error())));
        let unread = judge(planned(5), Ok(moved(5)), &Err(error()));
        assert_eq!((unread.found, unread.error), (None, Some(error())));
    }
}
