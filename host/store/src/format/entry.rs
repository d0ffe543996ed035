//! The entry: what is appended.
//!
//! ```text
//! offset size field
//!      0    4 length_bytes   the whole entry, this field included
//!      4    4 crc            CRC32C of bytes 0..4 and 8..24, and of the payload unless a batch
//!      8    2 kind           1: a batch; others belong to who appends them
//!     10    2 flags          0: reserved
//!     12    4 tenant
//!     16    8 reserved       0
//!     24    . payload
//! ```
//!
//! A batch is stored as it arrived and has checksums of its own.
use bytes::Bytes;
use yard_wire::batch::HEADER_BYTES as BATCH_HEADER_BYTES;
use yard_wire::codec::Malformed;
use yard_wire::record::Record;
use yard_wire::{QueueIndex, TenantId, TopicId};

use super::{put, u16_at, u32_at};

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 24;
/// The kind of an entry whose payload is a batch of [`yard_wire::batch`].
pub const BATCH: u16 = 1;

/// An entry as it lies in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: u16,
    pub(crate) tenant: TenantId,
    pub(crate) payload: Bytes,
}

fn header_crc(header: &[u8]) -> u32 {
    assert!(header.len() >= HEADER_BYTES, "asked with a whole header");
    crc32c::crc32c_append(crc32c::crc32c(&header[..4]), &header[8..HEADER_BYTES])
}

/// Appends an entry to `out`.
pub(crate) fn put_entry(kind: u16, tenant: TenantId, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(HEADER_BYTES + payload.len()).expect("a group is below 4 GiB");
    let mut header = [0; HEADER_BYTES];
    put(&mut header, 0, &length.to_le_bytes());
    put(&mut header, 8, &kind.to_le_bytes());
    put(&mut header, 12, &tenant.0.to_le_bytes());
    let mut crc = header_crc(&header);
    if kind != BATCH {
        crc = crc32c::crc32c_append(crc, payload);
    }
    put(&mut header, 4, &crc.to_le_bytes());
    let start = out.len();
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
    assert_eq!(out.len() - start, length as usize, "the announced length is the written one");
}

/// Takes one entry off the front of `input`.
pub(crate) fn take_entry(input: &mut Bytes) -> Result<Entry, Malformed> {
    if input.len() < HEADER_BYTES {
        return Err(Malformed::Short { wanted: HEADER_BYTES as u64, left: input.len() as u64 });
    }
    let length = u32_at(input, 0) as usize;
    if length < HEADER_BYTES || length > input.len() {
        let max = input.len() as u64;
        return Err(Malformed::Length { what: "length of an entry", found: length as u64, max });
    }
    let kind = u16_at(input, 8);
    let mut crc = header_crc(input);
    if kind != BATCH {
        crc = crc32c::crc32c_append(crc, &input[HEADER_BYTES..length]);
    }
    if crc != u32_at(input, 4) {
        return Err(Malformed::Checksum { what: "entry" });
    }
    let tenant = TenantId(u32_at(input, 12));
    let payload = input.slice(HEADER_BYTES..length);
    let _ = input.split_to(length);
    Ok(Entry { kind, tenant, payload })
}

/// Where a record lies in its batch, and its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchRecord {
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueIndex,
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
}

/// The records of a batch in order. The first that does not fit ends the walk with its error.
pub(crate) fn batch_records(
    batch: &[u8],
) -> impl Iterator<Item = Result<BatchRecord, Malformed>> + '_ {
    let mut at = BATCH_HEADER_BYTES.min(batch.len());
    std::iter::from_fn(move || {
        if at == batch.len() {
            return None;
        }
        let found = Record::peek_address(&batch[at..]).map(|address| BatchRecord {
            topic: address.topic,
            queue: address.queue,
            offset: at as u32,
            bytes: address.bytes,
        });
        at = found.as_ref().map_or(batch.len(), |record| at + record.bytes as usize);
        Some(found)
    })
}
