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
//!     56    4 state_crc    CRC32C of the state
//!     60    4 crc          CRC32C of bytes 0..60
//!     64    . state        the shard's own
//! ```
use bytes::Bytes;
use yard_wire::{GroupNumber, ShardId, Timestamp};

use super::{HeadError, VERSION, put, u16_at, u32_at, u64_at};

/// Bytes before the state.
pub const HEADER_BYTES: usize = 64;
const MAGIC: &[u8; 8] = b"YARDCHK\n";
const CRC_AT: usize = 60;

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
    /// What the shard gave.
    pub state: Bytes,
}

impl Checkpoint {
    pub(crate) fn encode(&self) -> Bytes {
        assert!(self.offset > 0, "a checkpoint follows a group");
        let mut out = vec![0; HEADER_BYTES];
        put(&mut out, 0, MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 10, &self.shard.0.to_le_bytes());
        put(&mut out, 12, &self.segment.to_le_bytes());
        put(&mut out, 16, &self.offset.to_le_bytes());
        put(&mut out, 24, &self.group.0.to_le_bytes());
        put(&mut out, 32, &self.chain.to_le_bytes());
        put(&mut out, 40, &self.stored.0.to_le_bytes());
        put(&mut out, 48, &(self.state.len() as u64).to_le_bytes());
        put(&mut out, 56, &crc32c::crc32c(&self.state).to_le_bytes());
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        put(&mut out, CRC_AT, &crc.to_le_bytes());
        out.extend_from_slice(&self.state);
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
        let state = bytes.slice(HEADER_BYTES..);
        if u64_at(bytes, 48) != state.len() as u64 || u32_at(bytes, 56) != crc32c::crc32c(&state) {
            return Err(HeadError::Damaged);
        }
        Ok(Self {
            shard: ShardId(u16_at(bytes, 10)),
            segment: u32_at(bytes, 12),
            offset: u64_at(bytes, 16),
            group: GroupNumber(u64_at(bytes, 24)),
            chain: u64_at(bytes, 32),
            stored: Timestamp(u64_at(bytes, 40)),
            state,
        })
    }
}
