//! Plain reading from a given offset, without a group and without waiting.
use bytes::Bytes;

use crate::codec::Wire;
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
        /// Messages in order, without gaps. The first lies behind the offset asked for where the
        /// broker does not hold those before it any more.
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

impl Fetched {
    /// Bytes before the records.
    pub const HEAD_BYTES: usize = 8 + 8 + 4;

    /// Appends what comes before `count` records; each is then appended with
    /// [`FetchedRecord::put_with`].
    pub fn put_head(first: QueueOffset, end: QueueOffset, count: u32, out: &mut Vec<u8>) {
        let begin = out.len();
        first.put(out);
        end.put(out);
        count.put(out);
        debug_assert_eq!(out.len() - begin, Self::HEAD_BYTES);
    }
}

impl FetchedRecord {
    /// Bytes before the record.
    pub const HEAD_BYTES: usize = 8 + 8 + 4;

    /// Appends a message whose record is a slice of something else.
    pub fn put_with(offset: QueueOffset, stored: Timestamp, record: &[u8], out: &mut Vec<u8>) {
        let begin = out.len();
        offset.put(out);
        stored.put(out);
        (record.len() as u32).put(out);
        debug_assert_eq!(out.len() - begin, Self::HEAD_BYTES);
        out.extend_from_slice(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_made_of_slices_has_the_bytes_of_the_value() {
        let record = |at: u64, record: &'static [u8]| FetchedRecord {
            offset: QueueOffset(at),
            stored: Timestamp(5 + at),
            record: Bytes::from_static(record),
        };
        let records = vec![record(1, b"one"), record(2, b"")];
        let (first, end) = (QueueOffset(1), QueueOffset(90));
        let value = Fetched { first, end, records: records.clone() };
        let mut out = Vec::new();
        Fetched::put_head(first, end, records.len() as u32, &mut out);
        for FetchedRecord { offset, stored, record } in &records {
            FetchedRecord::put_with(*offset, *stored, record, &mut out);
        }
        assert_eq!(Bytes::from(out), value.to_bytes());
    }
}
