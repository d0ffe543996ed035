//! The entries of the store's own that let the first segments of a log go.
//!
//! ```text
//! MOVED: copies of records whose segments are about to go
//! offset size field
//!      0    4 records
//!      4    . one for each:
//!      0    .   4 topic
//!      4    .   2 queue
//!      6    .   8 offset      in the queue
//!     14    .   8 stored_ms   when it was stored first
//!     22    .   4 bytes
//!     26    .   4 crc         CRC32C of bytes 0..26
//!      .    . the records, one after another
//! Its entry's checksum covers the number of records; rows and records have their own, so damage
//! to one costs no other.
//!
//! CARRIED: copies of parked records that still wait, likewise
//! offset size field
//!      0    4 records
//!      4    . one for each:
//!      0    .  16 token       the broker's name of it
//!     16    .   4 bytes       0: the record was damaged and is lost
//!     20    .   4 crc         CRC32C of bytes 0..20
//!      .    . the records, one after another
//!
//! SNAPSHOT: a piece of a checkpoint, bytes of its file
//!      0    8 group           last one that the state has seen
//!      8    4 piece           0, 1, 2 ...
//!     12    4 pieces          how many; incomplete ones are ignored
//!     16    . bytes
//!
//! RETIRED: the segments below a number are gone
//!      0    4 until           the first segment that stays
//!      4    4 piece           0, 1, 2 ...
//!      8    4 pieces          how many; it counts from the last one on
//!     12    . one for each queue that had records there:
//!      0    .   4 topic
//!      4    .   2 queue
//!      6    .   8 first       its oldest offset from now on
//!     14    .   8 front       from here on records are where they were appended
//! ```
use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use yard_wire::codec::Malformed;
use yard_wire::{GroupNumber, QueueIndex, QueueOffset, Timestamp, TopicId};

use super::{put, u16_at, u32_at, u64_at};
use crate::index::Floor;
use crate::kept::Token;

/// The kind of an entry with copies of records.
pub const MOVED: u16 = 0x101;
/// The kind of an entry with copies of parked records.
pub const CARRIED: u16 = 0x105;
/// The kind of an entry with a piece of a checkpoint.
pub const SNAPSHOT: u16 = 0x102;
/// The kind of an entry that says which segments are gone.
pub const RETIRED: u16 = 0x103;

/// Bytes of the number of records in an entry of copies.
pub(crate) const COPIES_HEAD_BYTES: usize = 4;
/// Bytes of the checksum at the end of a row.
const ROW_CRC_BYTES: usize = 4;
const SNAPSHOT_HEAD_BYTES: usize = 16;
const RETIRED_HEAD_BYTES: usize = 12;
/// Bytes of a [`Floor`].
pub(crate) const FLOOR_BYTES: usize = 22;

/// A record that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRecord {
    /// Topic of its queue.
    pub topic: TopicId,
    /// Its queue.
    pub queue: QueueIndex,
    /// Its offset there.
    pub offset: QueueOffset,
    /// When it was stored first.
    pub stored: Timestamp,
    /// The record.
    pub record: Bytes,
}

impl KeptRecord {
    /// Bytes that it takes in an entry.
    pub(crate) fn entry_bytes(&self) -> usize {
        Moved::BYTES + self.record.len()
    }
}

/// What an entry of copies says of one of them, in a row with a checksum of its own.
pub(crate) trait Row: Sized {
    /// Bytes of a row, its checksum included.
    const BYTES: usize;

    /// Writes it, but for the checksum.
    fn put(&self, row: &mut [u8]);

    /// Reads one that holds, but for where the copy lies.
    fn take(row: &[u8]) -> Self;

    /// Where the copy lies: its byte offset in the payload, and its bytes.
    fn lies(&mut self) -> (&mut u32, u32);
}

/// A copy of a record of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueIndex,
    pub(crate) offset: QueueOffset,
    pub(crate) stored: Timestamp,
    /// Byte offset of the record in the payload.
    pub(crate) at: u32,
    pub(crate) bytes: u32,
}

impl Row for Moved {
    const BYTES: usize = 26 + ROW_CRC_BYTES;

    fn put(&self, row: &mut [u8]) {
        put(row, 0, &self.topic.0.to_le_bytes());
        put(row, 4, &self.queue.0.to_le_bytes());
        put(row, 6, &self.offset.0.to_le_bytes());
        put(row, 14, &self.stored.0.to_le_bytes());
        put(row, 22, &self.bytes.to_le_bytes());
    }

    fn take(row: &[u8]) -> Self {
        Self {
            topic: TopicId(u32_at(row, 0)),
            queue: QueueIndex(u16_at(row, 4)),
            offset: QueueOffset(u64_at(row, 6)),
            stored: Timestamp(u64_at(row, 14)),
            at: 0,
            bytes: u32_at(row, 22),
        }
    }

    fn lies(&mut self) -> (&mut u32, u32) {
        (&mut self.at, self.bytes)
    }
}

/// A copy of a parked record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CarriedOn {
    pub(crate) token: Token,
    /// Byte offset of the record in the payload.
    pub(crate) at: u32,
    /// 0: the record was damaged and is lost.
    pub(crate) bytes: u32,
}

impl Row for CarriedOn {
    const BYTES: usize = 20 + ROW_CRC_BYTES;

    fn put(&self, row: &mut [u8]) {
        put(row, 0, &self.token.0);
        put(row, 16, &self.bytes.to_le_bytes());
    }

    fn take(row: &[u8]) -> Self {
        let token = *row.first_chunk().expect("a row begins with a token");
        Self { token: Token(token), at: 0, bytes: u32_at(row, 16) }
    }

    fn lies(&mut self) -> (&mut u32, u32) {
        (&mut self.at, self.bytes)
    }
}

/// The payload of an entry with these copies of records.
pub(crate) fn encode_moved(records: &[KeptRecord]) -> Vec<u8> {
    encode_copies(records.iter().map(|kept| {
        let KeptRecord { topic, queue, offset, stored, ref record } = *kept;
        let bytes = record.len() as u32;
        (Moved { topic, queue, offset, stored, at: 0, bytes }, record)
    }))
}

/// A parked record, or its name only where it was damaged.
pub(crate) type CarriedRecord = (Token, Bytes);

/// The payload of an entry with these parked records.
pub(crate) fn encode_carried(records: &[CarriedRecord]) -> Vec<u8> {
    encode_copies(records.iter().map(|(token, record)| {
        (CarriedOn { token: *token, at: 0, bytes: record.len() as u32 }, record)
    }))
}

fn encode_copies<'a, R: Row>(
    copies: impl ExactSizeIterator<Item = (R, &'a Bytes)> + Clone,
) -> Vec<u8> {
    assert!(copies.len() > 0, "an entry holds something");
    let table = COPIES_HEAD_BYTES + copies.len() * R::BYTES;
    let mut out = vec![0; table];
    put(&mut out, 0, &(copies.len() as u32).to_le_bytes());
    for ((row, _), at) in copies.clone().zip((COPIES_HEAD_BYTES..).step_by(R::BYTES)) {
        let crc_at = at + R::BYTES - ROW_CRC_BYTES;
        row.put(&mut out[at..crc_at]);
        let crc = crc32c::crc32c(&out[at..crc_at]);
        put(&mut out, crc_at, &crc.to_le_bytes());
    }
    copies.for_each(|(_, record)| out.extend_from_slice(record));
    out
}

fn short(wanted: usize, left: usize) -> Malformed {
    Malformed::Short { wanted: wanted as u64, left: left as u64 }
}

/// The copies in an entry that is whole.
pub(crate) fn decode_copies<R: Row>(payload: &[u8]) -> Result<Vec<R>, Malformed> {
    let rows: Option<Vec<R>> = copies_rows(payload)?.into_iter().collect();
    rows.ok_or(Malformed::Checksum { what: "row of a copy" })
}

/// The rows of an entry of copies, `None` for each that does not hold; one flipped bit of a row
/// is put right. Where a copy lies is known unless rows before and behind it do not hold: then it
/// counts as one of these.
pub(crate) fn copies_rows<R: Row>(payload: &[u8]) -> Result<Vec<Option<R>>, Malformed> {
    if payload.len() < COPIES_HEAD_BYTES {
        return Err(short(COPIES_HEAD_BYTES, payload.len()));
    }
    let rows = u32_at(payload, 0) as usize;
    let begin = COPIES_HEAD_BYTES.saturating_add(rows.saturating_mul(R::BYTES));
    let table = payload.get(COPIES_HEAD_BYTES..begin).ok_or_else(|| short(begin, payload.len()))?;
    let mut copies: Vec<Option<R>> = table.chunks_exact(R::BYTES).map(mended_row).collect();
    assert_eq!(copies.len(), rows, "the table has a row for each");
    let mut front = begin;
    let known = copies.iter().position(Option::is_none).unwrap_or(rows);
    for copy in copies[..known].iter_mut().flatten() {
        let (at, bytes) = copy.lies();
        *at = front as u32;
        front = front.saturating_add(bytes as usize);
    }
    let mut end = payload.len();
    let known_again = copies.iter().rposition(Option::is_none).map_or(rows, |last| last + 1);
    for copy in copies[known_again..].iter_mut().rev().flatten() {
        let (at, bytes) = copy.lies();
        end = end.checked_sub(bytes as usize).ok_or_else(|| short(begin, payload.len()))?;
        *at = end as u32;
    }
    copies[known..known_again].fill_with(|| None);
    let fits = if known == rows { front == payload.len() } else { front <= end };
    if fits { Ok(copies) } else { Err(short(front, payload.len())) }
}

/// A row, but for where its copy lies.
fn mended_row<R: Row>(row: &[u8]) -> Option<R> {
    assert_eq!(row.len(), R::BYTES, "one row");
    let crc_at = R::BYTES - ROW_CRC_BYTES;
    let holds = |row: &[u8]| crc32c::crc32c(&row[..crc_at]) == u32_at(row, crc_at);
    if holds(row) {
        return Some(R::take(row));
    }
    let mut mended = row.to_vec();
    for bit in 0..R::BYTES * 8 {
        mended[bit / 8] ^= 1 << (bit % 8);
        if holds(&mended) {
            return Some(R::take(&mended));
        }
        mended[bit / 8] ^= 1 << (bit % 8);
    }
    None
}

/// Below which segment a RETIRED entry, or a piece of one, says that all are gone.
pub(crate) fn retired_below(payload: &[u8]) -> u32 {
    if payload.len() < RETIRED_HEAD_BYTES { 0 } else { u32_at(payload, 0) }
}

pub(crate) fn put_floor(floor: &Floor, out: &mut Vec<u8>) {
    assert!(floor.first <= floor.front, "copies come before what was appended");
    let mut row = [0; FLOOR_BYTES];
    put(&mut row, 0, &floor.topic.0.to_le_bytes());
    put(&mut row, 4, &floor.queue.0.to_le_bytes());
    put(&mut row, 6, &floor.first.0.to_le_bytes());
    put(&mut row, 14, &floor.front.0.to_le_bytes());
    out.extend_from_slice(&row);
}

pub(crate) fn floors_of(rows: &[u8]) -> Result<Vec<Floor>, Malformed> {
    if !rows.len().is_multiple_of(FLOOR_BYTES) {
        return Err(Malformed::Trailing { left: (rows.len() % FLOOR_BYTES) as u64 });
    }
    let floor = |row: &[u8]| Floor {
        topic: TopicId(u32_at(row, 0)),
        queue: QueueIndex(u16_at(row, 4)),
        first: QueueOffset(u64_at(row, 6)),
        front: QueueOffset(u64_at(row, 14)),
    };
    let floors: Vec<Floor> = rows.chunks_exact(FLOOR_BYTES).map(floor).collect();
    match floors.iter().find(|floor| floor.first > floor.front) {
        Some(floor) => Err(Malformed::Field { what: "first offset", value: floor.first.0 }),
        None => Ok(floors),
    }
}

/// The payloads that say that segments below `until` are gone, none larger than `bytes_max`.
pub(crate) fn encode_retired(until: u32, floors: &[Floor], bytes_max: usize) -> Vec<Vec<u8>> {
    assert!(bytes_max >= RETIRED_HEAD_BYTES + FLOOR_BYTES, "a piece holds a queue");
    let rows = (bytes_max - RETIRED_HEAD_BYTES) / FLOOR_BYTES;
    let pieces = floors.len().div_ceil(rows).max(1);
    assert!(pieces * rows >= floors.len(), "every queue is in a piece");
    let piece = |piece: usize| {
        let mut out = vec![0; RETIRED_HEAD_BYTES];
        put(&mut out, 0, &until.to_le_bytes());
        put(&mut out, 4, &(piece as u32).to_le_bytes());
        put(&mut out, 8, &(pieces as u32).to_le_bytes());
        floors.iter().skip(piece * rows).take(rows).for_each(|floor| put_floor(floor, &mut out));
        out
    };
    (0..pieces).map(piece).collect()
}

/// The payloads that hold a checkpoint after `group`, none larger than `bytes_max`.
pub(crate) fn encode_snapshot(group: GroupNumber, file: &[u8], bytes_max: usize) -> Vec<Vec<u8>> {
    assert!(bytes_max > SNAPSHOT_HEAD_BYTES && !file.is_empty(), "a piece holds something");
    let pieces = file.chunks(bytes_max - SNAPSHOT_HEAD_BYTES);
    let count = pieces.len() as u32;
    let piece = |(piece, bytes): (u32, &[u8])| {
        let mut out = vec![0; SNAPSHOT_HEAD_BYTES];
        put(&mut out, 0, &group.0.to_le_bytes());
        put(&mut out, 8, &piece.to_le_bytes());
        put(&mut out, 12, &count.to_le_bytes());
        out.extend_from_slice(bytes);
        out
    };
    (0..count).zip(pieces).map(piece).collect()
}

/// Puts the pieces of retirements together.
#[derive(Debug, Default)]
pub(crate) struct RetiredPieces {
    floors: Vec<Floor>,
    next: u32,
}

impl RetiredPieces {
    /// Takes the next piece; gives the retirement when it was the last. Pieces of one that was
    /// not finished are forgotten.
    pub(crate) fn add(&mut self, payload: &[u8]) -> Result<Option<(u32, Vec<Floor>)>, Malformed> {
        let rows = payload.get(RETIRED_HEAD_BYTES..);
        let rows = rows.ok_or_else(|| short(RETIRED_HEAD_BYTES, payload.len()))?;
        let (until, piece, pieces) = (u32_at(payload, 0), u32_at(payload, 4), u32_at(payload, 8));
        if piece == 0 {
            *self = Self::default();
        }
        if piece != self.next {
            return Ok(None);
        }
        self.floors.extend(floors_of(rows)?);
        self.next += 1;
        if self.next < pieces {
            return Ok(None);
        }
        let Self { floors, .. } = std::mem::take(self);
        Ok(Some((until, floors)))
    }
}

/// Puts the pieces of snapshots together, in whatever order they come.
#[derive(Debug, Default)]
pub(crate) struct SnapshotPieces {
    found: BTreeMap<u64, BTreeMap<u32, (u32, Bytes)>>,
}

impl SnapshotPieces {
    pub(crate) fn add(&mut self, payload: &Bytes) {
        if payload.len() > SNAPSHOT_HEAD_BYTES {
            let (group, piece) = (u64_at(payload, 0), u32_at(payload, 8));
            let bytes = payload.slice(SNAPSHOT_HEAD_BYTES..);
            let count = u32_at(payload, 12);
            self.found.entry(group).or_default().insert(piece, (count, bytes));
        }
    }

    /// The newest that is complete.
    pub(crate) fn newest(&self) -> Option<Bytes> {
        let complete = |pieces: &&BTreeMap<u32, (u32, Bytes)>| {
            pieces.values().all(|(count, _)| *count as usize == pieces.len())
                && pieces.keys().copied().eq(0..pieces.len() as u32)
        };
        let pieces = self.found.values().rev().find(complete)?;
        let mut file = BytesMut::new();
        pieces.values().for_each(|(_, bytes)| file.extend_from_slice(bytes));
        Some(file.freeze())
    }
}
