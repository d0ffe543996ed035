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
//! CARRIED: copies of parked records that still wait
//! offset size field
//!      0    4 records
//!      4    . one for each:
//!      0    .  16 token       the broker's name of it
//!     16    .   4 bytes       0: the record was damaged and is lost
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
pub(crate) const MOVED_HEAD_BYTES: usize = 4;
const MOVED_ROW_BYTES: usize = 30;
const MOVED_CRC_AT: usize = 26;
pub(crate) const CARRIED_ROW_BYTES: usize = 20;
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
        MOVED_ROW_BYTES + self.record.len()
    }
}

/// A copy in an entry.
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

/// The payload of an entry with these copies.
pub(crate) fn encode_moved(records: &[KeptRecord]) -> Vec<u8> {
    assert!(!records.is_empty(), "an entry holds something");
    let mut out = vec![0; MOVED_HEAD_BYTES + records.len() * MOVED_ROW_BYTES];
    put(&mut out, 0, &(records.len() as u32).to_le_bytes());
    for (record, at) in records.iter().zip((MOVED_HEAD_BYTES..).step_by(MOVED_ROW_BYTES)) {
        put(&mut out, at, &record.topic.0.to_le_bytes());
        put(&mut out, at + 4, &record.queue.0.to_le_bytes());
        put(&mut out, at + 6, &record.offset.0.to_le_bytes());
        put(&mut out, at + 14, &record.stored.0.to_le_bytes());
        put(&mut out, at + 22, &(record.record.len() as u32).to_le_bytes());
        let crc = crc32c::crc32c(&out[at..at + MOVED_CRC_AT]);
        put(&mut out, at + MOVED_CRC_AT, &crc.to_le_bytes());
    }
    records.iter().for_each(|record| out.extend_from_slice(&record.record));
    let bytes: usize = records.iter().map(KeptRecord::entry_bytes).sum();
    assert_eq!(out.len(), MOVED_HEAD_BYTES + bytes, "an entry has the bytes of its records");
    out
}

fn short(wanted: usize, left: usize) -> Malformed {
    Malformed::Short { wanted: wanted as u64, left: left as u64 }
}

/// The copies in an entry that is whole.
pub(crate) fn decode_moved(payload: &[u8]) -> Result<Vec<Moved>, Malformed> {
    let rows: Option<Vec<Moved>> = moved_rows(payload)?.into_iter().collect();
    rows.ok_or(Malformed::Checksum { what: "place of a copy" })
}

/// The rows of an entry of copies, `None` for each that does not hold; one flipped bit of a row
/// is put right. Where a copy lies is known unless rows before and behind it do not hold: then it
/// counts as one of these.
pub(crate) fn moved_rows(payload: &[u8]) -> Result<Vec<Option<Moved>>, Malformed> {
    if payload.len() < MOVED_HEAD_BYTES {
        return Err(short(MOVED_HEAD_BYTES, payload.len()));
    }
    let rows = u32_at(payload, 0) as usize;
    let begin = MOVED_HEAD_BYTES + rows.saturating_mul(MOVED_ROW_BYTES);
    let table = payload.get(MOVED_HEAD_BYTES..begin).ok_or_else(|| short(begin, payload.len()))?;
    let mut moved: Vec<_> = table.chunks_exact(MOVED_ROW_BYTES).map(moved_row).collect();
    assert_eq!(moved.len(), rows, "the table has a row for each");
    let mut front = begin;
    let known = moved.iter().position(Option::is_none).unwrap_or(rows);
    for copy in moved[..known].iter_mut().flatten() {
        copy.at = front as u32;
        front = front.saturating_add(copy.bytes as usize);
    }
    let mut end = payload.len();
    let known_again = moved.iter().rposition(Option::is_none).map_or(rows, |last| last + 1);
    for copy in moved[known_again..].iter_mut().rev().flatten() {
        end = end.checked_sub(copy.bytes as usize).ok_or_else(|| short(begin, payload.len()))?;
        copy.at = end as u32;
    }
    moved[known..known_again].fill(None);
    let fits = if known == rows { front == payload.len() } else { front <= end };
    if fits { Ok(moved) } else { Err(short(front, payload.len())) }
}

/// A row, but for where its copy lies.
fn moved_row(row: &[u8]) -> Option<Moved> {
    assert_eq!(row.len(), MOVED_ROW_BYTES, "one row");
    let holds = |row: &[u8]| crc32c::crc32c(&row[..MOVED_CRC_AT]) == u32_at(row, MOVED_CRC_AT);
    let mut mended: [u8; MOVED_ROW_BYTES] = row.try_into().expect("asserted above");
    if !holds(&mended) {
        let bit = (0..MOVED_ROW_BYTES * 8).find(|bit| {
            let mut other = mended;
            other[bit / 8] ^= 1 << (bit % 8);
            holds(&other)
        })?;
        mended[bit / 8] ^= 1 << (bit % 8);
    }
    Some(Moved {
        topic: TopicId(u32_at(&mended, 0)),
        queue: QueueIndex(u16_at(&mended, 4)),
        offset: QueueOffset(u64_at(&mended, 6)),
        stored: Timestamp(u64_at(&mended, 14)),
        at: 0,
        bytes: u32_at(&mended, 22),
    })
}

/// A parked record, or its name only where it was damaged.
pub(crate) type CarriedRecord = (Token, Bytes);

/// The payload of an entry with these parked records.
pub(crate) fn encode_carried(records: &[CarriedRecord]) -> Vec<u8> {
    assert!(!records.is_empty(), "an entry holds something");
    let mut out = Vec::new();
    out.extend_from_slice(&(records.len() as u32).to_le_bytes());
    for (token, record) in records {
        out.extend_from_slice(&token.0);
        out.extend_from_slice(&(record.len() as u32).to_le_bytes());
    }
    records.iter().for_each(|(_, record)| out.extend_from_slice(record));
    out
}

/// The parked records in an entry: of each its name, its byte offset in the payload and its bytes.
pub(crate) fn decode_carried(payload: &[u8]) -> Result<Vec<(Token, u32, u32)>, Malformed> {
    if payload.len() < 4 {
        return Err(short(4, payload.len()));
    }
    let rows = u32_at(payload, 0) as usize;
    let mut at = 4 + rows.saturating_mul(CARRIED_ROW_BYTES);
    let table = payload.get(4..at).ok_or_else(|| short(at, payload.len()))?;
    let mut carried = Vec::with_capacity(rows);
    for row in table.chunks_exact(CARRIED_ROW_BYTES) {
        let (token, bytes) = row.split_first_chunk().expect("a row begins with a token");
        let bytes = u32_at(bytes, 0);
        carried.push((Token(*token), at as u32, bytes));
        at += bytes as usize;
    }
    if at == payload.len() { Ok(carried) } else { Err(short(at, payload.len())) }
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
