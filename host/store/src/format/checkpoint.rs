//! The checkpoint: the state of the shard up to a group, so that a start need not replay all.
//!
//! ```text
//! offset size field
//!      0    8 magic        "YARDCHK\n"
//!      8    2 version      1
//!     10    2 shard
//!     12    4 segment      that holds the group
//!     16    8 offset       byte after the group in that segment
//!     24    8 group        last group that the state has seen
//!     32    8 chain        of that group
//!     40    8 stored_ms    of that group
//!     48    8 state_bytes
//!     56    4 begins       first segment of the log
//!     60    4 snapshot     1 + the segment of the group after which the state is in the log as
//!                          well; 0: it is not
//!     64    4 floors       queues of which something was removed
//!     68    4 body_crc     CRC32C of floors, ends and state
//!     72    4 ends         queues with records in segments without a durable sidecar
//!     76    4 crc          CRC32C of bytes 0..76
//!     80    . floors       22 bytes each, as in `retire.rs`
//!      .    . ends         one for each:
//!      0    .   4 topic
//!      4    .   2 queue
//!      6    .   8 end      offset after its last record
//!      .    . state        the shard's own
//! ```
use bytes::Bytes;
use yard_wire::{GroupNumber, QueueIndex, QueueOffset, ShardId, Timestamp, TopicId};

use super::retire::{FLOOR_BYTES, floors_of, put_floor};
use super::{HeadError, VERSION, put, u16_at, u32_at, u64_at};

use crate::index::{Floor, QueueEnd};

/// Bytes before floors, ends and state.
pub const HEADER_BYTES: usize = 80;
const MAGIC: &[u8; 8] = b"YARDCHK\n";
const END_BYTES: usize = 14;
const CRC_AT: usize = 76;

const _: () = assert!(CRC_AT + 4 == HEADER_BYTES);

/// A state of the shard, and the place in the log up to which it is the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The shard.
    pub shard: ShardId,
    /// Segment that holds the last group that the state has seen.
    pub segment: u32,
    /// Byte after that group in the segment's file.
    pub offset: u64,
    /// That group.
    pub group: GroupNumber,
    /// Its chain hash.
    pub chain: u64,
    /// When its entries were stored.
    pub stored: Timestamp,
    /// First segment of the log.
    pub(crate) begins: u32,
    /// The segment of the group after which the state is in the log as well.
    pub(crate) snapshot: Option<u32>,
    /// Where queues begin of which something was removed.
    pub(crate) floors: Vec<Floor>,
    /// Where queues end whose last segments have no sidecar that says it.
    pub(crate) ends: Vec<QueueEnd>,
    /// It was found in the log, not in its file.
    pub(crate) is_from_log: bool,
    /// What the shard gave.
    pub state: Bytes,
}

impl Checkpoint {
    /// The bytes of the file.
    ///
    /// # Panics
    /// When it follows no group.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        self.encode_with(&self.state)
    }

    /// The same with a state that it does not hold.
    ///
    /// # Panics
    /// As [`Checkpoint::encode`].
    #[must_use]
    pub fn encode_with(&self, state: &[u8]) -> Bytes {
        assert!(self.offset > 0, "a checkpoint follows a group");
        let mut out = Vec::with_capacity(HEADER_BYTES + state.len());
        out.resize(HEADER_BYTES, 0);
        put(&mut out, 0, MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 10, &self.shard.0.to_le_bytes());
        put(&mut out, 12, &self.segment.to_le_bytes());
        put(&mut out, 16, &self.offset.to_le_bytes());
        put(&mut out, 24, &self.group.0.to_le_bytes());
        put(&mut out, 32, &self.chain.to_le_bytes());
        put(&mut out, 40, &self.stored.0.to_le_bytes());
        put(&mut out, 48, &(state.len() as u64).to_le_bytes());
        put(&mut out, 56, &self.begins.to_le_bytes());
        put(&mut out, 60, &self.snapshot.map_or(0, |segment| segment + 1).to_le_bytes());
        put(&mut out, 64, &(self.floors.len() as u32).to_le_bytes());
        put(&mut out, 72, &(self.ends.len() as u32).to_le_bytes());
        self.floors.iter().for_each(|floor| put_floor(floor, &mut out));
        self.ends.iter().for_each(|end| put_end(end, &mut out));
        out.extend_from_slice(state);
        let body_crc = crc32c::crc32c(&out[HEADER_BYTES..]);
        put(&mut out, 68, &body_crc.to_le_bytes());
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        put(&mut out, CRC_AT, &crc.to_le_bytes());
        Bytes::from(out)
    }

    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, HeadError> {
        if bytes.len() < HEADER_BYTES
            || &bytes[..8] != MAGIC
            || u32_at(bytes, CRC_AT) != crc32c::crc32c(&bytes[..CRC_AT])
        {
            return Err(HeadError::Damaged);
        }
        if u16_at(bytes, 8) != VERSION {
            return Err(HeadError::Version(u16_at(bytes, 8)));
        }
        if u64_at(bytes, 24) == u64::MAX {
            // No log comes to this group: the number after it could not be said.
            return Err(HeadError::Damaged);
        }
        let body = bytes.slice(HEADER_BYTES..);
        let floors_bytes = u32_at(bytes, 64) as usize * FLOOR_BYTES;
        let state_at = floors_bytes + u32_at(bytes, 72) as usize * END_BYTES;
        if Some(u64_at(bytes, 48)) != (body.len() as u64).checked_sub(state_at as u64)
            || u32_at(bytes, 68) != crc32c::crc32c(&body)
        {
            return Err(HeadError::Damaged);
        }
        let floors = floors_of(&body[..floors_bytes]).map_err(|_| HeadError::Damaged)?;
        Ok(Self {
            shard: ShardId(u16_at(bytes, 10)),
            segment: u32_at(bytes, 12),
            offset: u64_at(bytes, 16),
            group: GroupNumber(u64_at(bytes, 24)),
            chain: u64_at(bytes, 32),
            stored: Timestamp(u64_at(bytes, 40)),
            begins: u32_at(bytes, 56),
            snapshot: u32_at(bytes, 60).checked_sub(1),
            floors,
            ends: body[floors_bytes..state_at].chunks_exact(END_BYTES).map(end_of).collect(),
            is_from_log: false,
            state: body.slice(state_at..),
        })
    }
}

fn put_end((topic, queue, end): &QueueEnd, out: &mut Vec<u8>) {
    assert!(end.0 > 0, "a queue with records ends behind them");
    let mut row = [0; END_BYTES];
    put(&mut row, 0, &topic.0.to_le_bytes());
    put(&mut row, 4, &queue.0.to_le_bytes());
    put(&mut row, 6, &end.0.to_le_bytes());
    out.extend_from_slice(&row);
}

fn end_of(row: &[u8]) -> QueueEnd {
    assert_eq!(row.len(), END_BYTES, "one queue");
    (TopicId(u32_at(row, 0)), QueueIndex(u16_at(row, 4)), QueueOffset(u64_at(row, 6)))
}
