//! The head of a segment.
//!
//! ```text
//! offset size field
//!      0    8 magic      "YARDLOG\n"
//!      8    2 version    1
//!     10    2 shard
//!     12    4 segment    its number: 0, 1, 2 …
//!     16    8 capacity   bytes of the file
//!     24    8 base       log position of the file's first byte: base + capacity of the one before
//!     32    8 salt       random; every group of this segment repeats it
//!     40  468 reserved   0
//!    508    4 crc        CRC32C of bytes 0..508
//! ```
use bytes::Bytes;
use yard_wire::{LogPos, ShardId};

use super::{HeadError, VERSION, put, u16_at, u32_at, u64_at};

/// Bytes of the head: one sector, so that it is there or not.
pub const HEADER_BYTES: usize = 512;
const MAGIC: &[u8; 8] = b"YARDLOG\n";
const CRC_AT: usize = 508;

const _: () = assert!(CRC_AT + 4 == HEADER_BYTES);

/// The head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) shard: ShardId,
    pub(crate) segment: u32,
    pub(crate) capacity: u64,
    pub(crate) base: LogPos,
    pub(crate) salt: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Bytes {
        assert!(self.capacity > HEADER_BYTES as u64, "a segment has room for groups");
        assert!(self.capacity.is_multiple_of(HEADER_BYTES as u64), "a segment is whole sectors");
        let mut out = vec![0; HEADER_BYTES];
        put(&mut out, 0, MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 10, &self.shard.0.to_le_bytes());
        put(&mut out, 12, &self.segment.to_le_bytes());
        put(&mut out, 16, &self.capacity.to_le_bytes());
        put(&mut out, 24, &self.base.0.to_le_bytes());
        put(&mut out, 32, &self.salt.to_le_bytes());
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        put(&mut out, CRC_AT, &crc.to_le_bytes());
        Bytes::from(out)
    }

    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, HeadError> {
        if &bytes[..8] != MAGIC || u32_at(bytes, CRC_AT) != crc32c::crc32c(&bytes[..CRC_AT]) {
            return Err(HeadError::Damaged);
        }
        if u16_at(bytes, 8) != VERSION {
            return Err(HeadError::Version(u16_at(bytes, 8)));
        }
        Ok(Self {
            shard: ShardId(u16_at(bytes, 10)),
            segment: u32_at(bytes, 12),
            capacity: u64_at(bytes, 16),
            base: LogPos(u64_at(bytes, 24)),
            salt: u64_at(bytes, 32),
        })
    }
}
