//! Receiving messages: a subscription, its credit, what is delivered to it.
use bytes::Bytes;

use crate::codec::{Malformed, Wire};
use crate::order::TopicType;
use crate::{QueueIndex, QueueOffset, Refusal, ShardId, SubscriptionId, Timestamp};

/// Where a group begins that has never consumed the topic. A group that has, goes on where it
/// was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest message that each queue holds.
    Earliest,
    /// After the newest message that each queue holds now.
    Latest,
    /// At the given offset of each queue named; at the oldest message of every other queue. An
    /// offset below the oldest message means the oldest; past the end means the end.
    Offsets(Vec<(QueueIndex, QueueOffset)>),
}

impl Wire for Start {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Earliest => out.push(0),
            Self::Latest => out.push(1),
            Self::Offsets(offsets) => {
                out.push(2);
                offsets.put(out);
            }
        }
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        match u8::take(input)? {
            0 => Ok(Self::Earliest),
            1 => Ok(Self::Latest),
            2 => Ok(Self::Offsets(Vec::take(input)?)),
            other => Err(Malformed::Field { what: "start", value: other.into() }),
        }
    }
}

message! {
    /// Begin to receive messages of a topic for a group, from the queues of one shard. The group
    /// is created if it does not exist.
    pub struct Subscribe {
        /// The shard; a consumer subscribes at each shard that holds a queue of the topic.
        pub shard: ShardId,
        /// Name of the group.
        pub group: String,
        /// Name of the topic.
        pub topic: String,
        /// Name of the consumer, for people.
        pub member: String,
        /// Where a new group begins.
        pub start: Start,
        /// Which messages are wanted; `None`: all.
        pub expression: Option<Expression>,
        /// Whether members of the group have queues of their own, instead of sharing the messages
        /// of all. All members of a group want the same.
        pub exclusive: bool,
        /// How long the consumer may hold a message before it is delivered again, in
        /// milliseconds: [`crate::limits::LEASE_MS_MIN`] to [`crate::limits::LEASE_MS_MAX`].
        pub lease_ms: u32,
        /// First credit, see [`Credit`].
        pub messages: u32,
        /// First credit, see [`Credit`].
        pub bytes: u32,
    }

    /// A filter expression.
    pub struct Expression {
        /// Language of the text, for example `tag` or `sql`.
        pub dialect: String,
        /// The expression, at most [`crate::limits::EXPRESSION_BYTES_MAX`] bytes.
        pub text: String,
    }

    /// A subscription began.
    pub struct Subscribed {
        /// Its number, for credit, settling and ending it.
        pub subscription: SubscriptionId,
        /// The queues that it can receive from.
        pub queues: Vec<QueueStart>,
        /// What the topic promises about order.
        pub r#type: TopicType,
    }

    /// A queue when a subscription began.
    pub struct QueueStart {
        /// The queue.
        pub queue: QueueIndex,
        /// Every message of the group below this offset is settled.
        pub settled_below: QueueOffset,
        /// Offset after the newest committed message.
        pub end: QueueOffset,
    }

    /// Let the broker deliver more: what was consumed is given back. Both counts add up, to at
    /// most [`crate::limits::CREDIT_MESSAGES_MAX`] and [`crate::limits::CREDIT_BYTES_MAX`]. A
    /// message is delivered when both are left; one larger than the bytes left is, too, so that
    /// it cannot block.
    pub struct Credit {
        /// The shard of the subscription.
        pub shard: ShardId,
        /// The subscription.
        pub subscription: SubscriptionId,
        /// Messages more.
        pub messages: u32,
        /// Bytes of records more.
        pub bytes: u32,
    }

    /// The credit was added.
    pub struct Credited {}

    /// End a subscription. Messages that it holds are delivered to others at once.
    pub struct Unsubscribe {
        /// The shard of the subscription.
        pub shard: ShardId,
        /// The subscription.
        pub subscription: SubscriptionId,
    }

    /// The subscription ended.
    pub struct Unsubscribed {}

    /// Messages of one queue for one subscription, on the data stream `queue % streams`.
    pub struct Deliver {
        /// The shard of the subscription.
        pub shard: ShardId,
        /// The subscription.
        pub subscription: SubscriptionId,
        /// The queue.
        pub queue: QueueIndex,
        /// In the order of their offsets where none was delivered before.
        pub messages: Vec<Delivered>,
    }

    /// One delivered message.
    pub struct Delivered {
        /// Its place in the queue.
        pub offset: QueueOffset,
        /// When the broker stored it.
        pub stored: Timestamp,
        /// 1 for the first delivery to the group, 2 for the second, and so on.
        pub attempt: u32,
        /// The record, see [`crate::record`].
        pub record: Bytes,
    }

    /// The broker ended a subscription.
    pub struct Ended {
        /// The shard of the subscription.
        pub shard: ShardId,
        /// The subscription.
        pub subscription: SubscriptionId,
        /// Why.
        pub why: Refusal,
    }
}

impl Deliver {
    /// Bytes before the messages.
    pub const HEAD_BYTES: usize = 2 + 8 + 2 + 4;

    /// Appends what comes before `count` messages, so that a frame can be made without having
    /// them as values; each is then appended with [`Delivered::put_with`].
    pub fn put_head(
        (shard, subscription, queue): (ShardId, SubscriptionId, QueueIndex),
        count: u32,
        out: &mut Vec<u8>,
    ) {
        let begin = out.len();
        shard.put(out);
        subscription.put(out);
        queue.put(out);
        count.put(out);
        debug_assert_eq!(out.len() - begin, Self::HEAD_BYTES);
    }
}

impl Delivered {
    /// Bytes before the record.
    pub const HEAD_BYTES: usize = 8 + 8 + 4 + 4;

    /// Appends a message whose record is a slice of something else: the only copy on its way from
    /// the log to the stream.
    pub fn put_with(
        offset: QueueOffset,
        stored: Timestamp,
        attempt: u32,
        record: &[u8],
        out: &mut Vec<u8>,
    ) {
        let begin = out.len();
        offset.put(out);
        stored.put(out);
        attempt.put(out);
        (record.len() as u32).put(out);
        debug_assert_eq!(out.len() - begin, Self::HEAD_BYTES);
        out.extend_from_slice(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_made_of_slices_has_the_bytes_of_the_value() {
        let records: [&[u8]; 3] = [b"first", b"", b"third record"];
        let message = |(at, record): (usize, &&[u8])| Delivered {
            offset: QueueOffset(7 + at as u64),
            stored: Timestamp(1_700_000_000_000 + at as u64),
            attempt: 1 + at as u32,
            record: Bytes::copy_from_slice(record),
        };
        let (shard, subscription, queue) = (ShardId(3), SubscriptionId(1 << 40), QueueIndex(9));
        let messages: Vec<_> = records.iter().enumerate().map(message).collect();
        let value = Deliver { shard, subscription, queue, messages: messages.clone() };
        let mut out = Vec::new();
        Deliver::put_head((shard, subscription, queue), messages.len() as u32, &mut out);
        for Delivered { offset, stored, attempt, record } in &messages {
            Delivered::put_with(*offset, *stored, *attempt, record, &mut out);
        }
        assert_eq!(Bytes::from(out), value.to_bytes());
    }
}
