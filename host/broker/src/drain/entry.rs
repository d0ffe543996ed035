//! What the log says of drains, and what follows from it.
use bytes::Bytes;
use yard_wire::{Malformed, QueueIndex, QueueOffset, Timestamp, TopicId, Wire};

use crate::entry::GroupId;

/// What becomes of a drain.
///
/// ```text
/// offset size field
///      0    1 what     0 begun, 1 returning, 2 ended
///      1    4 group    whose messages are passed on
///      5    . begun    of 0 only (see DrainBegun)
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrainEntry {
    /// It began; or goes on, where the group was to return.
    Begun(GroupId, DrainBegun),
    /// Nothing is passed on any more; the group returns when it has settled what was.
    Returning(GroupId),
    /// The group is back in its own topic.
    Ended(GroupId),
}

yard_wire::message! {
    /// Where messages are passed on to.
    pub struct DrainBegun {
        /// The same group in the wide topic; it is created where there is none.
        pub target: GroupId,
        /// The wide topic.
        pub to: TopicId,
        /// Its queues below this number take part.
        pub wide: u16,
        /// When it began.
        pub since: Timestamp,
        /// Where a group that is created begins; in queues not named at 0.
        pub floors: Vec<(QueueIndex, QueueOffset)>,
    }

    /// A group whose messages are passed on.
    pub struct Drain {
        /// The same group in the wide topic.
        pub target: GroupId,
        /// The wide topic.
        pub to: TopicId,
        /// Its queues below this number take part.
        pub wide: u16,
        /// Nothing is passed on any more.
        pub returning: bool,
        /// When it began.
        pub since: Timestamp,
        /// Messages that were passed on.
        pub moved: u64,
        /// Of each queue of the wide topic, in order, the offset after the last of them.
        pub tails: Vec<(QueueIndex, QueueOffset)>,
    }
}

impl Drain {
    pub(crate) fn new(begun: &DrainBegun) -> Self {
        let DrainBegun { target, to, wide, since, floors: _ } = *begun;
        Self { target, to, wide, returning: false, since, moved: 0, tails: Vec::new() }
    }

    /// Takes in that messages were passed on to a queue.
    pub(crate) fn note(&mut self, queue: QueueIndex, end: QueueOffset, count: u64) {
        self.moved += count;
        match self.tails.binary_search_by_key(&queue, |(at, _)| *at) {
            Ok(at) => self.tails[at].1 = self.tails[at].1.max(end),
            Err(at) => self.tails.insert(at, (queue, end)),
        }
        assert!(self.tails.is_sorted_by_key(|(queue, _)| *queue), "each queue has its place");
    }
}

impl Wire for DrainEntry {
    fn put(&self, out: &mut Vec<u8>) {
        let (what, group) = match self {
            Self::Begun(group, _) => (0, group),
            Self::Returning(group) => (1, group),
            Self::Ended(group) => (2, group),
        };
        out.push(what);
        group.put(out);
        if let Self::Begun(_, begun) = self {
            begun.put(out);
        }
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let (what, group) = (u8::take(input)?, GroupId::take(input)?);
        match what {
            0 => Ok(Self::Begun(group, DrainBegun::take(input)?)),
            1 => Ok(Self::Returning(group)),
            2 => Ok(Self::Ended(group)),
            other => Err(Malformed::Field { what: "what becomes of a drain", value: other.into() }),
        }
    }
}
