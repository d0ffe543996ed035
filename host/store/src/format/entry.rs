//! The entry: what is appended.
//!
//! ```text
//! offset size field
//!      0    4 length_bytes   the whole entry, this field included
//!      4    4 crc            CRC32C of bytes 0..4 and 8..24, and of the payload; of a batch: of
//!                            its placements instead; of copies: of their number instead
//!      8    2 kind           1: a batch; others belong to who appends them
//!     10    2 flags          0: reserved
//!     12    4 tenant
//!     16    4 placements     of a batch: how many, at least one; else 0
//!     20    4 reserved       0
//!     24    . placements     of a batch only: one for each run of its records, in their order
//!      0    .   4 topic
//!      4    .   2 queue
//!      6    .   8 first      offset of the first of them in the queue
//!     14    .   4 count      records
//!      .    . payload
//!      .    4 length_bytes   again
//! ```
//!
//! The length is at both ends, so that the entries of a group can be walked from either: one whose
//! header is damaged hides none of the others, and nobody needs to search for one in bytes that
//! clients have made.
//!
//! A batch is stored as it arrived and has checksums of its own. What the log adds to it is where
//! its records went: so every segment describes itself, and damage shifts no offset of what
//! follows.
use bytes::Bytes;
use yard_wire::batch::HEADER_BYTES as BATCH_HEADER_BYTES;
use yard_wire::codec::Malformed;
use yard_wire::record::Record;
use yard_wire::requests::Placed;
use yard_wire::{QueueIndex, QueueOffset, TenantId, TopicId};

use super::retire::{MOVED, MOVED_HEAD_BYTES};
use super::{put, u16_at, u32_at, u64_at};

/// Bytes before the placements or the payload.
pub const HEADER_BYTES: usize = 24;
/// Bytes after the payload.
pub const FOOTER_BYTES: usize = 4;
/// Bytes of a placement.
pub const PLACEMENT_BYTES: usize = 18;
/// The kind of an entry whose payload is a batch of [`yard_wire::batch`].
pub const BATCH: u16 = 1;

/// Entries of the store's own belong to nobody.
pub(crate) const NOBODY: TenantId = TenantId(0);

/// An entry as it lies in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: u16,
    pub(crate) tenant: TenantId,
    /// Of a batch: where its records went.
    pub(crate) placements: Placements,
    pub(crate) payload: Bytes,
}

/// Where the records of a batch went, run by run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placements(Bytes);

impl Placements {
    /// Bytes in the entry.
    pub(crate) fn bytes(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Placed> + '_ {
        self.0.chunks_exact(PLACEMENT_BYTES).map(placement)
    }
}

/// Reads one placement.
pub(crate) fn placement(row: &[u8]) -> Placed {
    assert_eq!(row.len(), PLACEMENT_BYTES, "one placement");
    Placed {
        topic: TopicId(u32_at(row, 0)),
        queue: QueueIndex(u16_at(row, 4)),
        first: QueueOffset(u64_at(row, 6)),
        count: u32_at(row, 14),
    }
}

impl Entry {
    /// Bytes of the whole entry.
    pub(crate) fn total_bytes(&self) -> usize {
        self.payload_at() + self.payload.len() + FOOTER_BYTES
    }

    /// Byte offset of the payload in the entry.
    pub(crate) fn payload_at(&self) -> usize {
        HEADER_BYTES + self.placements.bytes()
    }
}

fn header_crc(header: &[u8]) -> u32 {
    assert!(header.len() >= HEADER_BYTES, "asked with a whole header");
    crc32c::crc32c_append(crc32c::crc32c(&header[..4]), &header[8..HEADER_BYTES])
}

/// Appends an entry that is not a batch to `out`.
pub(crate) fn put_entry(kind: u16, tenant: TenantId, payload: &[u8], out: &mut Vec<u8>) {
    assert!(kind != BATCH, "a batch has placements");
    let begin = out.len();
    out.resize(begin + HEADER_BYTES, 0);
    out.extend_from_slice(payload);
    let covered = HEADER_BYTES + covered_payload(kind, payload.len());
    out.resize(out.len() + FOOTER_BYTES, 0);
    finish(kind, tenant, 0, &mut out[begin..], covered);
}

/// How many bytes of a payload the checksum of its entry covers.
fn covered_payload(kind: u16, bytes: usize) -> usize {
    match kind {
        BATCH => 0,
        MOVED => bytes.min(MOVED_HEAD_BYTES),
        _ => bytes,
    }
}

/// Appends a batch to `out`, with where each run of its records went.
pub(crate) fn put_batch(
    tenant: TenantId,
    placements: impl Iterator<Item = Placed>,
    batch: &[u8],
    out: &mut Vec<u8>,
) {
    let begin = out.len();
    out.resize(begin + HEADER_BYTES, 0);
    let mut count = 0;
    for placed in placements {
        let mut row = [0; PLACEMENT_BYTES];
        put(&mut row, 0, &placed.topic.0.to_le_bytes());
        put(&mut row, 4, &placed.queue.0.to_le_bytes());
        put(&mut row, 6, &placed.first.0.to_le_bytes());
        put(&mut row, 14, &placed.count.to_le_bytes());
        out.extend_from_slice(&row);
        count += 1;
    }
    assert!(count > 0, "the records of a batch went somewhere");
    let covered = out.len() - begin;
    out.extend_from_slice(batch);
    out.resize(out.len() + FOOTER_BYTES, 0);
    finish(BATCH, tenant, count, &mut out[begin..], covered);
}

/// Writes the header of an entry whose checksum covers so many bytes.
fn finish(kind: u16, tenant: TenantId, placements: u32, entry: &mut [u8], covered: usize) {
    assert!(covered >= HEADER_BYTES && covered <= entry.len(), "the header is covered");
    let length = u32::try_from(entry.len()).expect("a group is below 4 GiB");
    let head = header(kind, tenant, placements, length, &entry[HEADER_BYTES..covered]);
    put(entry, 0, &head);
    put(entry, length as usize - FOOTER_BYTES, &length.to_le_bytes());
}

/// The header of an entry with so many bytes, whose checksum covers these as well.
fn header(
    kind: u16,
    tenant: TenantId,
    placements: u32,
    length: u32,
    covered: &[u8],
) -> [u8; HEADER_BYTES] {
    let mut head = [0; HEADER_BYTES];
    put(&mut head, 0, &length.to_le_bytes());
    put(&mut head, 8, &kind.to_le_bytes());
    put(&mut head, 12, &tenant.0.to_le_bytes());
    put(&mut head, 16, &placements.to_le_bytes());
    let crc = crc32c::crc32c_append(header_crc(&head), covered);
    put(&mut head, 4, &crc.to_le_bytes());
    head
}

/// The entry of copies that these bytes are, if of its header and the number of copies all but
/// one bit is as it was; its other end is not looked at.
pub(crate) fn mended_copies(bytes: &Bytes) -> Option<Entry> {
    let covered = HEADER_BYTES + MOVED_HEAD_BYTES;
    let end = bytes.len().checked_sub(FOOTER_BYTES).filter(|end| *end > covered)?;
    let length = u32::try_from(bytes.len()).ok()?;
    let said = u32_at(bytes, HEADER_BYTES);
    let others = (0..u32::BITS).map(|bit| said ^ (1 << bit));
    let count = std::iter::once(said).chain(others).find(|count| {
        let count = count.to_le_bytes();
        let head = header(MOVED, NOBODY, 0, length, &count);
        let whole = head.iter().chain(&count);
        let wrong = whole.zip(&bytes[..]).map(|(wanted, found)| (wanted ^ found).count_ones());
        wrong.sum::<u32>() <= 1
    })?;
    let mut payload = bytes.slice(HEADER_BYTES..end);
    if count != said {
        let mut mended = payload.to_vec();
        put(&mut mended, 0, &count.to_le_bytes());
        payload = Bytes::from(mended);
    }
    assert!(count.abs_diff(said).count_ones() <= 1, "one bit at most was put right");
    let placements = Placements(Bytes::new());
    Some(Entry { kind: MOVED, tenant: NOBODY, placements, payload })
}

/// Where the entry that ends at `end` begins, as it says.
pub(crate) fn begin_of(bytes: &[u8], end: usize) -> Option<usize> {
    assert!(end <= bytes.len(), "the end lies in the bytes");
    let footer = end.checked_sub(FOOTER_BYTES)?;
    end.checked_sub(u32_at(bytes, footer) as usize).filter(|begin| *begin < footer)
}

/// Takes one entry off the front of `input`.
pub(crate) fn take_entry(input: &mut Bytes) -> Result<Entry, Malformed> {
    let entry = front(input)?;
    let length = entry.total_bytes();
    if begin_of(input, length) != Some(0) {
        return Err(Malformed::Field { what: "length at the end of an entry", value: 0 });
    }
    let _ = input.split_to(length);
    Ok(entry)
}

/// The entry at the front of `input`, whatever the length at its end says.
pub(crate) fn front(input: &Bytes) -> Result<Entry, Malformed> {
    if input.len() < HEADER_BYTES {
        return Err(Malformed::Short { wanted: HEADER_BYTES as u64, left: input.len() as u64 });
    }
    let length = u32_at(input, 0) as usize;
    if length < HEADER_BYTES + FOOTER_BYTES || length > input.len() {
        let max = input.len() as u64;
        return Err(Malformed::Length { what: "length of an entry", found: length as u64, max });
    }
    let kind = u16_at(input, 8);
    let rows = u32_at(input, 16) as usize;
    let end = length - FOOTER_BYTES;
    let rows_max = (end - HEADER_BYTES) / PLACEMENT_BYTES;
    if rows > rows_max || (rows > 0) != (kind == BATCH) {
        let (found, max) = (rows as u64, rows_max as u64);
        return Err(Malformed::Length { what: "placements of an entry", found, max });
    }
    let payload_at = HEADER_BYTES + rows * PLACEMENT_BYTES;
    let covered = payload_at + covered_payload(kind, end - payload_at);
    let crc = crc32c::crc32c_append(header_crc(input), &input[HEADER_BYTES..covered]);
    if crc != u32_at(input, 4) {
        return Err(Malformed::Checksum { what: "entry" });
    }
    let tenant = TenantId(u32_at(input, 12));
    let placements = Placements(input.slice(HEADER_BYTES..payload_at));
    let payload = input.slice(payload_at..end);
    Ok(Entry { kind, tenant, placements, payload })
}

/// Where a record lies in its batch, and which one of its queue it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchRecord {
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueIndex,
    pub(crate) queue_offset: QueueOffset,
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
}

impl Entry {
    /// Gives the records of a batch to `each`, in order.
    ///
    /// # Errors
    /// [`Malformed`] when the next one is not where the placements say; those before were given.
    pub(crate) fn each_record(&self, mut each: impl FnMut(BatchRecord)) -> Result<(), Malformed> {
        let batch = &self.payload[..];
        let mut at = BATCH_HEADER_BYTES.min(batch.len());
        for run in self.placements.iter() {
            for n in 0..u64::from(run.count) {
                let address = Record::peek_address(&batch[at..])?;
                if (address.topic, address.queue) != (run.topic, run.queue) {
                    let value = address.topic.0.into();
                    return Err(Malformed::Field { what: "queue of a record", value });
                }
                each(BatchRecord {
                    topic: run.topic,
                    queue: run.queue,
                    queue_offset: QueueOffset(run.first.0 + n),
                    offset: at as u32,
                    bytes: address.bytes,
                });
                at += address.bytes as usize;
            }
        }
        if at < batch.len() {
            return Err(Malformed::Trailing { left: (batch.len() - at) as u64 });
        }
        Ok(())
    }
}
