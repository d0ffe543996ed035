//! The identities and quantities of the protocol, each its own type so that the compiler keeps
//! them apart.
use std::fmt;

use bytes::Bytes;

use crate::codec::{Malformed, Wire};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }
            fn take(input: &mut Bytes) -> Result<Self, Malformed> {
                Ok(Self(<$inner>::take(input)?))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// The unit of isolation. 0 is the `default` tenant, which always exists.
    TenantId, u32
}
id! {
    /// A topic, unique over all tenants and never used again after the topic is removed.
    TopicId, u32
}
id! {
    /// One writer with one commit log. Shard 0 is also the metadata log.
    ShardId, u16
}
id! {
    /// The index of a queue in its topic: 0 to [`crate::limits::QUEUES_MAX`] - 1.
    QueueIndex, u16
}
id! {
    /// The place of a message in its queue: 0, 1, 2 and so on, without gaps.
    QueueOffset, u64
}
id! {
    /// A byte address in the commit log of one shard.
    LogPos, u64
}
id! {
    /// The number of a group in the commit log of one shard: 0, 1, 2 and so on.
    GroupNumber, u64
}
id! {
    /// Milliseconds since 1970-01-01 UTC.
    Timestamp, u64
}
id! {
    /// An idempotent producer: a random number that the client draws when it is built, or a hash of
    /// the name under which it goes on after a restart.
    ProducerId, u64
}
id! {
    /// The incarnation of a producer. A higher one fences every lower one.
    Epoch, u32
}
id! {
    /// One ordered line of batches from a producer to a shard; lanes do not wait for each other.
    Lane, u16
}
id! {
    /// The number of a record in its lane: 0, 1, 2 and so on.
    Sequence, u64
}
id! {
    /// Ties a reply to its request on one connection. 0 in a request: no reply is wanted.
    Correlation, u64
}
id! {
    /// A subscription, unique in its shard until the broker restarts.
    SubscriptionId, u64
}

impl Timestamp {
    /// This instant moved by `ms` milliseconds; stops at the largest instant instead of wrapping.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// The id of a message: 48 bits of milliseconds, then 80 random bits, as in UUID version 7, so
/// that ids sort by time of birth. Written as 32 hexadecimal digits.
///
/// Source: RFC 9562 section 5.7 for the layout (without its version and variant bits);
/// RocketMQ's ids collide in containers with equal address, process id and clock, random bits
/// do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub [u8; 16]);

impl MessageId {
    /// Makes an id from the time of birth and random bits (the lower 80 are used).
    #[must_use]
    pub fn new(born: Timestamp, random: u128) -> Self {
        let high = u128::from(born.0 & 0xffff_ffff_ffff) << 80;
        let low = random & ((1 << 80) - 1);
        Self((high | low).to_be_bytes())
    }

    /// Reads 32 hexadecimal digits; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|value| Self(value.to_be_bytes()))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl Wire for MessageId {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let bytes = crate::codec::take_bytes(input, 16)?;
        let mut id = [0; 16];
        id.copy_from_slice(&bytes);
        Ok(Self(id))
    }
}

/// Where a record lies in the log of its shard, and when it was stored: what an index entry says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordPlace {
    /// Number of the log's segment.
    pub segment: u32,
    /// Byte offset in the segment's file.
    pub offset: u32,
    /// Bytes of the record as its readers get it.
    pub bytes: u32,
    /// When the broker stored it; never decreases along a log.
    pub stored: Timestamp,
    /// What lies there is not the record but its release, see [`crate::release`].
    pub released: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_sort_by_time_and_print_as_they_parse() {
        let early = MessageId::new(Timestamp(1_000), u128::MAX);
        let late = MessageId::new(Timestamp(1_001), 0);
        assert!(early < late);
        assert_eq!(MessageId::parse(&early.to_string()), Some(early));
        assert_eq!(MessageId::parse("xyz"), None);
        assert_eq!(MessageId::parse("+0000000000000000000000000000001"), None);
    }
}
