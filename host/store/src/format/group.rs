//! The group: what is written by one call and synced by one call.
//!
//! ```text
//! offset size field
//!      0    4 magic            "YGRP"
//!      4    4 header_crc       CRC32C of bytes 0..4 and 16..64
//!      8    8 salt             of the segment
//!     16    2 version          1
//!     18    2 shard
//!     20    4 epoch            of the log's leader; 0 on a single node
//!     24    8 group            number: 0, 1, 2 … over all segments
//!     32    8 stored_ms        time of all its entries; never decreases along a log
//!     40    8 previous_chain   chain of the group before; 0 before the first
//!     48    4 payload_bytes
//!     52    4 entries          how many
//!     56    8 reserved         0
//!     64    . payload          entries, one after another
//!      .   32 trailer
//!      .    . padding          0, up to a multiple of 64
//!
//! the trailer:
//!      0    4 magic            "YEND"
//!      4    4 entries          as in the header
//!      8    8 group            as in the header
//!     16    8 chain            XXH3-64 of bytes 16..64 of the header and the payload
//!     24    4 reserved         0
//!     28    4 crc              CRC32C of bytes 0..28
//! ```
//!
//! Nothing but the salt depends on the segment, so that replicas can hold equal bytes. The header
//! lies in one sector: it is there or not.
use xxhash_rust::xxh3::xxh3_64;
use yard_wire::{GroupNumber, ShardId, Timestamp};

use super::{VERSION, put, u16_at, u32_at, u64_at};

/// Bytes before the entries.
pub const HEADER_BYTES: usize = 64;
/// Bytes after the entries.
pub const TRAILER_BYTES: usize = 32;
/// Groups begin at multiples of this.
pub const ALIGNMENT: usize = 64;
/// Bytes of a group besides its entries, padding included.
pub const FRAME_BYTES: usize = 2 * ALIGNMENT;
pub(crate) const MAGIC: &[u8; 4] = b"YGRP";
const TRAILER_MAGIC: &[u8; 4] = b"YEND";
const CHAINED_AT: usize = 16;
const TRAILER_CRC_AT: usize = 28;

const _: () = assert!(HEADER_BYTES == ALIGNMENT && TRAILER_BYTES <= ALIGNMENT);
// A header lies in one sector.
const _: () = assert!(super::segment::HEADER_BYTES.is_multiple_of(ALIGNMENT));
const _: () = assert!(TRAILER_CRC_AT + 4 == TRAILER_BYTES);

/// The fixed part of a group, but for its salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) version: u16,
    pub(crate) shard: ShardId,
    pub(crate) epoch: u32,
    pub(crate) group: GroupNumber,
    pub(crate) stored: Timestamp,
    pub(crate) previous_chain: u64,
    pub(crate) payload_bytes: u32,
    pub(crate) entries: u32,
}

/// Bytes of a group with a payload of this size, from header to padding.
pub(crate) fn total_bytes(payload_bytes: usize) -> usize {
    (HEADER_BYTES + payload_bytes + TRAILER_BYTES).next_multiple_of(ALIGNMENT)
}

fn header_crc(header: &[u8]) -> u32 {
    assert!(header.len() >= HEADER_BYTES, "asked with a whole header");
    let crc = crc32c::crc32c(&header[..4]);
    crc32c::crc32c_append(crc, &header[CHAINED_AT..HEADER_BYTES])
}

/// The chain hash of a group, from its header with its payload.
fn chain(group: &[u8]) -> u64 {
    assert!(group.len() >= HEADER_BYTES, "asked with a whole header");
    xxh3_64(&group[CHAINED_AT..])
}

impl GroupHeader {
    /// Fills in header, trailer and padding around a payload that begins [`HEADER_BYTES`] after
    /// `begin` in `memory`; returns the chain.
    pub(crate) fn seal(&self, salt: u64, memory: &mut Vec<u8>, begin: usize) -> u64 {
        let bytes = &mut memory[begin..];
        assert_eq!(bytes.len(), HEADER_BYTES + self.payload_bytes as usize, "all of the payload");
        self.put(salt, bytes);
        let chain = chain(bytes);
        let mut trailer = [0; TRAILER_BYTES];
        put(&mut trailer, 0, TRAILER_MAGIC);
        put(&mut trailer, 4, &self.entries.to_le_bytes());
        put(&mut trailer, 8, &self.group.0.to_le_bytes());
        put(&mut trailer, 16, &chain.to_le_bytes());
        let crc = crc32c::crc32c(&trailer[..TRAILER_CRC_AT]);
        put(&mut trailer, TRAILER_CRC_AT, &crc.to_le_bytes());
        memory.extend_from_slice(&trailer);
        memory.resize(begin + total_bytes(self.payload_bytes as usize), 0);
        chain
    }

    /// Writes the header to the front of `bytes`.
    fn put(&self, salt: u64, bytes: &mut [u8]) {
        put(bytes, 0, MAGIC);
        put(bytes, 8, &salt.to_le_bytes());
        put(bytes, 16, &self.version.to_le_bytes());
        put(bytes, 18, &self.shard.0.to_le_bytes());
        put(bytes, 20, &self.epoch.to_le_bytes());
        put(bytes, 24, &self.group.0.to_le_bytes());
        put(bytes, 32, &self.stored.0.to_le_bytes());
        put(bytes, 40, &self.previous_chain.to_le_bytes());
        put(bytes, 48, &self.payload_bytes.to_le_bytes());
        put(bytes, 52, &self.entries.to_le_bytes());
        put(bytes, 56, &[0; 8]);
        let crc = header_crc(bytes);
        put(bytes, 4, &crc.to_le_bytes());
    }

    /// Reads a header whose checksum holds, with its salt; `None` for any other bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, u64)> {
        if bytes.len() < HEADER_BYTES || &bytes[..4] != MAGIC {
            return None;
        }
        // No log comes to the last number: the one after it could not be said.
        if u32_at(bytes, 4) != header_crc(bytes) || u64_at(bytes, 24) == u64::MAX {
            return None;
        }
        let header = Self {
            version: u16_at(bytes, 16),
            shard: ShardId(u16_at(bytes, 18)),
            epoch: u32_at(bytes, 20),
            group: GroupNumber(u64_at(bytes, 24)),
            stored: Timestamp(u64_at(bytes, 32)),
            previous_chain: u64_at(bytes, 40),
            payload_bytes: u32_at(bytes, 48),
            entries: u32_at(bytes, 52),
        };
        Some((header, u64_at(bytes, 8)))
    }

    pub(crate) fn total_bytes(&self) -> usize {
        total_bytes(self.payload_bytes as usize)
    }

    /// The chain that a group with this header and payload has.
    pub(crate) fn chain_of(&self, payload: &[u8]) -> u64 {
        assert_eq!(payload.len(), self.payload_bytes as usize, "all of the payload");
        let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
        bytes.resize(HEADER_BYTES, 0);
        self.put(0, &mut bytes);
        bytes.extend_from_slice(payload);
        chain(&bytes)
    }

    /// Checks payload and trailer of a group that is all in `bytes`; returns its chain.
    pub(crate) fn verify(&self, bytes: &[u8]) -> Option<u64> {
        let end = HEADER_BYTES + self.payload_bytes as usize;
        let trailer = Trailer::decode(bytes.get(end..end + TRAILER_BYTES)?)?;
        let chain = chain(&bytes[..end]);
        let expected = Trailer { entries: self.entries, group: self.group, chain };
        (trailer == expected).then_some(chain)
    }

    pub(crate) fn new(shard: ShardId, group: GroupNumber) -> Self {
        Self {
            version: VERSION,
            shard,
            epoch: 0,
            group,
            stored: Timestamp(0),
            previous_chain: 0,
            payload_bytes: 0,
            entries: 0,
        }
    }
}

/// The end of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    pub(crate) entries: u32,
    pub(crate) group: GroupNumber,
    pub(crate) chain: u64,
}

impl Trailer {
    /// Reads a trailer whose checksum holds; `None` for any other bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let whole = bytes.len() >= TRAILER_BYTES && &bytes[..4] == TRAILER_MAGIC;
        if !whole || u32_at(bytes, TRAILER_CRC_AT) != crc32c::crc32c(&bytes[..TRAILER_CRC_AT]) {
            return None;
        }
        let (entries, group) = (u32_at(bytes, 4), GroupNumber(u64_at(bytes, 8)));
        Some(Self { entries, group, chain: u64_at(bytes, 16) })
    }

    /// The trailer of this group in bytes that end with its padding, and where it begins.
    pub(crate) fn before_padding(bytes: &[u8], group: GroupNumber) -> Option<(usize, Self)> {
        let last = bytes.len().checked_sub(TRAILER_BYTES)?;
        let first = (last + 1).saturating_sub(ALIGNMENT);
        let found = (first..=last).rev().filter_map(|at| Some((at, Self::decode(&bytes[at..])?)));
        found.into_iter().find(|(_, trailer)| trailer.group == group)
    }
}
