//! Finding messages: by id, by key, and the offset at which a queue was at a time.
use bytes::Bytes;

use crate::codec::{Malformed, Wire};
use crate::{MessageId, QueueIndex, QueueOffset, ShardId, Timestamp};

/// Which messages are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Messages with this id, in whatever topic of the tenant. A producer's ids are random, so
    /// there is one or none, unless an application has sent the same id again.
    Id(MessageId),
    /// Messages of a topic with this key.
    Key {
        /// Name of the topic.
        topic: String,
        /// The key, as the producer gave it: any one of a message's keys.
        key: String,
        /// Only what was stored at this time or later.
        from: Timestamp,
        /// Only what was stored before this time.
        to: Timestamp,
    },
}

impl Wire for Wanted {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Id(id) => {
                out.push(0);
                id.put(out);
            }
            Self::Key { topic, key, from, to } => {
                out.push(1);
                topic.put(out);
                key.put(out);
                from.put(out);
                to.put(out);
            }
        }
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        match u8::take(input)? {
            0 => Ok(Self::Id(MessageId::take(input)?)),
            1 => Ok(Self::Key {
                topic: String::take(input)?,
                key: String::take(input)?,
                from: Timestamp::take(input)?,
                to: Timestamp::take(input)?,
            }),
            other => Err(Malformed::Field { what: "what is looked for", value: other.into() }),
        }
    }
}

message! {
    /// Look for messages in the log of one shard, from its oldest on. One request looks at so
    /// much of the log as its budget allows, and says how much that was.
    pub struct Find {
        /// The shard. Messages of a key are where the queues of the topic are, an id may be
        /// anywhere.
        pub shard: ShardId,
        /// What is looked for.
        pub wanted: Wanted,
        /// Where to go on: [`Found::next`] of the answer before; `None`: from the beginning.
        pub after: Option<FindCursor>,
        /// Messages at most, at least 1; the broker's own bound is
        /// [`crate::limits::FIND_RECORDS_MAX`].
        pub records_max: u32,
        /// Bytes of records at most, but always one record; the broker's own bound is
        /// [`crate::limits::FIND_BYTES_MAX`].
        pub bytes_max: u32,
    }

    /// How far a search has come in the log of one shard: the first place that was not looked at.
    /// It stays of use when the log grows, and when what lies before it is removed.
    #[derive(Copy, PartialOrd, Ord, Hash)]
    pub struct FindCursor {
        /// Number of the log's segment.
        pub segment: u32,
        /// Byte offset in the segment.
        pub offset: u32,
    }

    /// What was found, and where it was looked for.
    pub struct Found {
        /// In the order of the log: by the time at which they were stored.
        pub messages: Vec<FoundMessage>,
        /// What was looked at for this answer.
        pub covered: Covered,
        /// Where to go on; `None` when everything was looked at.
        pub next: Option<FindCursor>,
    }

    /// A part of the log that was looked at.
    #[derive(Copy, Default)]
    pub struct Covered {
        /// Segments, wholly or in part. 0: the log holds nothing that could be meant.
        pub segments: u32,
        /// Time of the oldest message that was looked at, or could have been: 0 without segments.
        pub from: Timestamp,
        /// Time of the newest.
        pub to: Timestamp,
        /// Bytes of it that could not be read: what is looked for may have been there.
        pub unreadable_bytes: u64,
    }

    /// A message that was found.
    pub struct FoundMessage {
        /// Name of its topic.
        pub topic: String,
        /// Its queue.
        pub queue: QueueIndex,
        /// Its place in the queue.
        pub offset: QueueOffset,
        /// When the broker stored it.
        pub stored: Timestamp,
        /// The record, see [`crate::record`].
        pub record: Bytes,
    }

    /// Find the first message of a queue that was stored at a time or later.
    pub struct Seek {
        /// The shard that holds the queue.
        pub shard: ShardId,
        /// Name of the topic.
        pub topic: String,
        /// The queue.
        pub queue: QueueIndex,
        /// The time, by the broker's clock.
        pub time: Timestamp,
    }

    /// Where a queue was at a time.
    pub struct Sought {
        /// Offset of the oldest message that the queue holds.
        pub first: QueueOffset,
        /// Offset after the newest committed message.
        pub end: QueueOffset,
        /// Offset of the first message stored at the time or later; `end` where there is none.
        pub offset: QueueOffset,
    }
}

impl Covered {
    /// Both parts together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self.segments, other.segments) {
            (0, _) => other,
            (_, 0) => self,
            (ours, theirs) => Self {
                segments: ours.saturating_add(theirs),
                from: self.from.min(other.from),
                to: self.to.max(other.to),
                unreadable_bytes: self.unreadable_bytes.saturating_add(other.unreadable_bytes),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_were_looked_at_add_up() {
        let part = |segments, from, to, unreadable_bytes| Covered {
            segments,
            from: Timestamp(from),
            to: Timestamp(to),
            unreadable_bytes,
        };
        let (none, one, other) = (Covered::default(), part(2, 50, 60, 7), part(1, 10, 55, 1));
        assert_eq!(one.and(other), part(3, 10, 60, 8));
        assert_eq!(other.and(one), part(3, 10, 60, 8));
        // What was not there has no time.
        assert_eq!(one.and(none), one);
        assert_eq!(none.and(one), one);
    }
}
