//! The entry: what is appended.
//!
//! ```text
//! offset size field
//!      0    4 length_bytes   the whole entry, this field included
//!      4    4 crc            CRC32C of bytes 0..4 and 8..24, of placements and notes, and of the
//!                            payload: not of a batch, and of copies only of their number
//!      8    2 kind           1: a batch; 0x104: releases; others belong to who appends them
//!     10    2 flags          0: reserved
//!     12    4 tenant
//!     16    4 placements     of a batch and of releases: how many, at least one; else 0
//!     20    4 notes          of a batch: bytes of what the broker adds; else 0
//!     24    . placements     one for each run of records or of releases, in their order
//!      0    .   4 topic
//!      4    .   2 queue
//!      6    .   8 first      offset of the first of them in the queue; 2^64 - 1: these records
//!                            are parked, they have none
//!     14    .   4 count      records or releases
//!      .    . notes          the broker's own
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
//! follows. Releases give places to records that lie elsewhere, see [`yard_wire::release`].
use bytes::Bytes;
use yard_wire::batch::HEADER_BYTES as BATCH_HEADER_BYTES;
use yard_wire::codec::Malformed;
use yard_wire::record::{Address, Record};
use yard_wire::release::{COUNT_BYTES, Release};
use yard_wire::requests::Placed;
use yard_wire::{QueueIndex, QueueOffset, TenantId, TopicId};

use super::retire::{CARRIED, COPIES_HEAD_BYTES, MOVED};
use super::{put, u16_at, u32_at, u64_at};

/// Bytes before the placements or the payload.
pub const HEADER_BYTES: usize = 24;
/// Bytes after the payload.
pub const FOOTER_BYTES: usize = 4;
/// Bytes of a placement.
pub const PLACEMENT_BYTES: usize = 18;
/// The kind of an entry whose payload is a batch of [`yard_wire::batch`].
pub const BATCH: u16 = 1;
/// The kind of an entry whose payload begins with releases, see [`yard_wire::release`].
pub const RELEASE: u16 = 0x104;
/// In place of an offset: the records have none yet.
const PARKED: u64 = u64::MAX;

/// Whether entries of this kind say which records go to which queues.
pub(crate) fn has_placements(kind: u16) -> bool {
    matches!(kind, BATCH | RELEASE)
}

/// Records of one queue that follow each other in an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlacedRun {
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueIndex,
    /// Offset of the first; `None`: they are parked.
    pub(crate) first: Option<QueueOffset>,
    pub(crate) count: u32,
}

impl PlacedRun {
    /// Offset of the record that comes `n` after the first.
    pub(crate) fn offset(&self, n: u64) -> Option<QueueOffset> {
        assert!(n <= u64::from(self.count), "a record of the run, or the place after it");
        self.first.map(|first| QueueOffset(first.0 + n))
    }

    /// Where the records went, unless they are parked.
    pub(crate) fn placed(&self) -> Option<Placed> {
        let Self { topic, queue, first, count } = *self;
        first.map(|first| Placed { topic, queue, first, count })
    }
}

/// Entries of the store's own belong to nobody.
pub(crate) const NOBODY: TenantId = TenantId(0);

/// An entry as it lies in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: u16,
    pub(crate) tenant: TenantId,
    /// Of a batch and of releases: where the records went.
    pub(crate) placements: Placements,
    /// Of a batch: what the broker adds to it.
    pub(crate) notes: Bytes,
    pub(crate) payload: Bytes,
}

/// Where the records of an entry went, run by run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placements(Bytes);

impl Placements {
    /// Bytes in the entry.
    pub(crate) fn bytes(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = PlacedRun> + '_ {
        self.0.chunks_exact(PLACEMENT_BYTES).map(placement)
    }
}

/// Reads one placement.
pub(crate) fn placement(row: &[u8]) -> PlacedRun {
    assert_eq!(row.len(), PLACEMENT_BYTES, "one placement");
    PlacedRun {
        topic: TopicId(u32_at(row, 0)),
        queue: QueueIndex(u16_at(row, 4)),
        first: Some(u64_at(row, 6)).filter(|first| *first != PARKED).map(QueueOffset),
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
        HEADER_BYTES + self.placements.bytes() + self.notes.len()
    }
}

fn header_crc(header: &[u8]) -> u32 {
    assert!(header.len() >= HEADER_BYTES, "asked with a whole header");
    crc32c::crc32c_append(crc32c::crc32c(&header[..4]), &header[8..HEADER_BYTES])
}

/// Appends an entry without placements to `out`.
pub(crate) fn put_entry(kind: u16, tenant: TenantId, payload: &[u8], out: &mut Vec<u8>) {
    assert!(!has_placements(kind), "a batch has placements");
    let begin = out.len();
    out.resize(begin + HEADER_BYTES, 0);
    out.extend_from_slice(payload);
    let covered = HEADER_BYTES + covered_payload(kind, payload.len());
    out.resize(out.len() + FOOTER_BYTES, 0);
    finish(kind, tenant, (0, 0), &mut out[begin..], covered);
}

/// How many bytes of a payload the checksum of its entry covers.
fn covered_payload(kind: u16, bytes: usize) -> usize {
    match kind {
        BATCH => 0,
        MOVED | CARRIED => bytes.min(COPIES_HEAD_BYTES),
        _ => bytes,
    }
}

/// Appends a batch or releases to `out`, with where each run of the records went, and of a batch
/// with the notes of the broker.
pub(crate) fn put_placed(
    (kind, tenant): (u16, TenantId),
    placements: impl Iterator<Item = PlacedRun>,
    (notes, payload): (&[u8], &[u8]),
    out: &mut Vec<u8>,
) {
    assert!(has_placements(kind), "only these have placements");
    assert!(kind == BATCH || notes.is_empty(), "the notes of releases are in their payload");
    let begin = out.len();
    out.resize(begin + HEADER_BYTES, 0);
    let mut count = 0;
    for placed in placements {
        let first = placed.first.map_or(PARKED, |first| first.0);
        assert!(placed.first != Some(QueueOffset(PARKED)), "queues end before that");
        let mut row = [0; PLACEMENT_BYTES];
        put(&mut row, 0, &placed.topic.0.to_le_bytes());
        put(&mut row, 4, &placed.queue.0.to_le_bytes());
        put(&mut row, 6, &first.to_le_bytes());
        put(&mut row, 14, &placed.count.to_le_bytes());
        out.extend_from_slice(&row);
        count += 1;
    }
    assert!(count > 0, "the records of an entry went somewhere");
    out.extend_from_slice(notes);
    let placed = out.len() - begin;
    out.extend_from_slice(payload);
    let covered = if kind == BATCH { placed } else { out.len() - begin };
    out.resize(out.len() + FOOTER_BYTES, 0);
    finish(kind, tenant, (count, notes.len() as u32), &mut out[begin..], covered);
}

/// Writes the header of an entry whose checksum covers so many bytes.
fn finish(
    kind: u16,
    tenant: TenantId,
    (placements, notes): (u32, u32),
    entry: &mut [u8],
    covered: usize,
) {
    assert!(covered >= HEADER_BYTES && covered <= entry.len(), "the header is covered");
    let length = u32::try_from(entry.len()).expect("a group is below 4 GiB");
    let of = (kind, tenant);
    let head = header(of, (placements, notes), length, &entry[HEADER_BYTES..covered]);
    put(entry, 0, &head);
    put(entry, length as usize - FOOTER_BYTES, &length.to_le_bytes());
}

/// The header of an entry with so many bytes, whose checksum covers these as well.
fn header(
    (kind, tenant): (u16, TenantId),
    (placements, notes): (u32, u32),
    length: u32,
    covered: &[u8],
) -> [u8; HEADER_BYTES] {
    let mut head = [0; HEADER_BYTES];
    put(&mut head, 0, &length.to_le_bytes());
    put(&mut head, 8, &kind.to_le_bytes());
    put(&mut head, 12, &tenant.0.to_le_bytes());
    put(&mut head, 16, &placements.to_le_bytes());
    put(&mut head, 20, &notes.to_le_bytes());
    let crc = crc32c::crc32c_append(header_crc(&head), covered);
    put(&mut head, 4, &crc.to_le_bytes());
    head
}

/// The entry of copies that these bytes are, if of its header and the number of copies all but
/// one bit is as it was; its other end is not looked at.
pub(crate) fn mended_copies(bytes: &Bytes) -> Option<Entry> {
    [MOVED, CARRIED].into_iter().find_map(|kind| mended_copies_of(kind, bytes))
}

fn mended_copies_of(kind: u16, bytes: &Bytes) -> Option<Entry> {
    let covered = HEADER_BYTES + COPIES_HEAD_BYTES;
    let end = bytes.len().checked_sub(FOOTER_BYTES).filter(|end| *end > covered)?;
    let length = u32::try_from(bytes.len()).ok()?;
    let said = u32_at(bytes, HEADER_BYTES);
    let others = (0..u32::BITS).map(|bit| said ^ (1 << bit));
    let count = std::iter::once(said).chain(others).find(|count| {
        let count = count.to_le_bytes();
        let head = header((kind, NOBODY), (0, 0), length, &count);
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
    let (placements, notes) = (Placements(Bytes::new()), Bytes::new());
    Some(Entry { kind, tenant: NOBODY, placements, notes, payload })
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
    if rows > rows_max || (rows > 0) != has_placements(kind) {
        let (found, max) = (rows as u64, rows_max as u64);
        return Err(Malformed::Length { what: "placements of an entry", found, max });
    }
    let notes_at = HEADER_BYTES + rows * PLACEMENT_BYTES;
    let notes = u32_at(input, 20) as usize;
    if notes > end - notes_at || (notes > 0 && kind != BATCH) {
        let (found, max) = (notes as u64, (end - notes_at) as u64);
        return Err(Malformed::Length { what: "notes of an entry", found, max });
    }
    let payload_at = notes_at + notes;
    let covered = payload_at + covered_payload(kind, end - payload_at);
    let crc = crc32c::crc32c_append(header_crc(input), &input[HEADER_BYTES..covered]);
    if crc != u32_at(input, 4) {
        return Err(Malformed::Checksum { what: "entry" });
    }
    let tenant = TenantId(u32_at(input, 12));
    let placements = Placements(input.slice(HEADER_BYTES..notes_at));
    let (notes, payload) = (input.slice(notes_at..payload_at), input.slice(payload_at..end));
    Ok(Entry { kind, tenant, placements, notes, payload })
}

/// Where a record, or a release of one, lies in its entry, and which one of its queue it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryRecord {
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueIndex,
    /// `None`: it is parked.
    pub(crate) queue_offset: Option<QueueOffset>,
    /// Byte offset in the payload.
    pub(crate) offset: u32,
    /// Bytes of the record as its readers get it.
    pub(crate) bytes: u32,
    /// Of a release: the segment that it refers to.
    pub(crate) refers_to: Option<u32>,
}

impl Entry {
    /// Gives the records of a batch, or the releases, to `each`, in order.
    ///
    /// # Errors
    /// [`Malformed`] when the next one is not where the placements say; those before were given.
    pub(crate) fn each_record(&self, mut each: impl FnMut(EntryRecord)) -> Result<(), Malformed> {
        assert!(has_placements(self.kind), "other entries have no records");
        let is_batch = self.kind == BATCH;
        let front = if is_batch { BATCH_HEADER_BYTES } else { COUNT_BYTES };
        let mut at = front.min(self.payload.len());
        for run in self.placements.iter() {
            for n in 0..u64::from(run.count) {
                let found = self.record_at(at)?;
                let said = (run.topic, run.queue, run.first.is_none());
                if (found.topic, found.queue, found.is_parked) != said {
                    let value = found.topic.0.into();
                    return Err(Malformed::Field { what: "queue of a record", value });
                }
                each(EntryRecord {
                    topic: run.topic,
                    queue: run.queue,
                    queue_offset: run.offset(n),
                    offset: at as u32,
                    bytes: found.bytes,
                    refers_to: found.refers_to,
                });
                at += found.length;
            }
        }
        // What the broker adds to its releases is its own.
        if is_batch && at < self.payload.len() {
            return Err(Malformed::Trailing { left: (self.payload.len() - at) as u64 });
        }
        Ok(())
    }

    /// The record of a batch, or the release, that begins at this byte of the payload.
    fn record_at(&self, at: usize) -> Result<Found, Malformed> {
        if self.kind == BATCH {
            let Address { topic, queue, flags, bytes } = Record::peek_address(&self.payload[at..])?;
            let (is_parked, length) = (flags.is_parked(), bytes as usize);
            return Ok(Found { topic, queue, is_parked, bytes, length, refers_to: None });
        }
        let release = Release::take(&mut self.payload.slice(at..))?;
        Ok(Found {
            topic: release.topic(),
            queue: release.queue(),
            is_parked: false,
            bytes: release.given_bytes(),
            length: release.encoded_bytes(),
            refers_to: Some(release.target().segment),
        })
    }
}

/// What a record or a release says about itself.
struct Found {
    topic: TopicId,
    queue: QueueIndex,
    is_parked: bool,
    /// Bytes of the record as its readers get it.
    bytes: u32,
    /// Bytes in the payload.
    length: usize,
    refers_to: Option<u32>,
}
