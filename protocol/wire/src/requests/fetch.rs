//! Plain reading from a given offset, without a group and without waiting.
use bytes::Bytes;

use crate::{QueueIndex, QueueOffset, ShardId, Timestamp};

message! {
    /// Read committed messages of one queue, from an offset on.
    pub struct Fetch {
        /// The shard that holds the queue.
        pub shard: ShardId,
        /// Name of the topic.
        pub topic: String,
        /// The queue.
        pub queue: QueueIndex,
        /// Offset of the first message wanted. At or past the end the reply is empty.
        pub from: QueueOffset,
        /// Records at most; the broker's own bound is [`crate::limits::FETCH_RECORDS_MAX`].
        pub records_max: u32,
        /// Bytes of records at most, but always one record; the broker's own bound is
        /// [`crate::limits::FETCH_BYTES_MAX`].
        pub bytes_max: u32,
    }

    /// What was read, and where the queue begins and ends.
    pub struct Fetched {
        /// Offset of the oldest message that the queue holds.
        pub first: QueueOffset,
        /// Offset after the newest committed message.
        pub end: QueueOffset,
        /// Messages in order, without gaps.
        pub records: Vec<FetchedRecord>,
    }

    /// One message as it was read.
    pub struct FetchedRecord {
        /// Its place in the queue.
        pub offset: QueueOffset,
        /// When the broker stored it.
        pub stored: Timestamp,
        /// The record, see [`crate::record`].
        pub record: Bytes,
    }
}
