//! What is left of bytes that were damaged: entries of a group, records of a batch.
//!
//! ```text
//!   entries ──►  entry │ entry │ damaged │ damaged │ entry │ entry  ◄── entries
//!     from the front, by the length at their begin      from the end, by the length at their end
//! ```
//!
//! Bytes that a client made may look like anything. So nothing is searched for: what counts as an
//! entry lies where the log itself put it, next to another or to an end of the group. Inside a
//! batch, whose layout is its producer's, a record behind a damaged header is taken only when
//! there is exactly one way to read the rest with the counts that the log knows.
use bytes::Bytes;
use yard_wire::batch::{self, Batch, HEADER_BYTES as BATCH_HEADER_BYTES};
use yard_wire::record::{Address, Record};
use yard_wire::{QueueIndex, QueueOffset, TenantId, TopicId};

use crate::format::entry::{
    self, BATCH, Entry, FOOTER_BYTES, HEADER_BYTES, PLACEMENT_BYTES, PlacedRun,
};
use crate::format::retire::{CarriedOn, Moved, Row, copies_rows};
use crate::format::u32_at;

/// A part of the payload of a damaged group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// An entry whose header, and payload unless a batch or copies, hold; not whole when one bit
    /// of the header was put right, or the length at its end does not hold.
    Entry { at: usize, entry: Entry, is_whole: bool },
    /// A batch that holds, in an entry that does not; its placements if they fit the batch.
    Batch { at: usize, entry: Bytes, batch: Batch, rows: Option<Vec<PlacedRun>> },
    /// Nothing that can be read.
    Lost { at: usize, bytes: usize },
}

/// The parts of a payload, in order.
pub(crate) fn pieces(payload: &Bytes) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = payload.clone();
    let mut begin = 0;
    while let Ok(entry) = entry::take_entry(&mut rest) {
        pieces.push(Piece::Entry { at: begin, entry, is_whole: true });
        begin = payload.len() - rest.len();
    }
    let mut end = payload.len();
    let mut back = Vec::new();
    while let Some((at, entry)) = entry_before(payload, begin, end) {
        yard_wire::mark!(SalvageFromEnd);
        back.push(Piece::Entry { at, entry, is_whole: true });
        end = at;
    }
    assert!(begin <= end, "the two walks do not cross");
    damaged(payload, begin, end, &mut pieces);
    pieces.extend(back.into_iter().rev());
    pieces
}

/// The whole entry that ends at `end` and does not begin before `begin`.
fn entry_before(payload: &Bytes, begin: usize, end: usize) -> Option<(usize, Entry)> {
    assert!(begin <= end && end <= payload.len(), "the end lies behind what was walked");
    let at = entry::begin_of(payload, end).filter(|at| *at >= begin)?;
    let entry = entry::front(&payload.slice(at..end)).ok()?;
    (entry.total_bytes() == end - at).then_some((at, entry))
}

/// Looks at what lies between two whole entries: one that is damaged, or several.
fn damaged(payload: &Bytes, begin: usize, end: usize, pieces: &mut Vec<Piece>) {
    let mut at = begin;
    while at < end {
        let rest = payload.slice(at..end);
        let found = match entry::front(&rest) {
            // Only the length at its end does not hold.
            Ok(entry) => Some((entry.total_bytes(), Piece::Entry { at, entry, is_whole: false })),
            Err(_) => batch_in(&rest, at).or_else(|| copies_in(&rest, at)),
        };
        let Some((bytes, piece)) = found else {
            pieces.push(Piece::Lost { at, bytes: end - at });
            return;
        };
        pieces.push(piece);
        at += bytes;
    }
    assert_eq!(at, end, "no entry is longer than what was looked at");
}

/// The batch in a damaged entry at the front of `rest`, with the bytes of the entry.
fn batch_in(rest: &Bytes, at: usize) -> Option<(usize, Piece)> {
    let stored = rest.get(..HEADER_BYTES).map(|bytes| u32_at(bytes, 16) as usize)?;
    let rows_max = yard_wire::limits::BATCH_RECORDS_MAX;
    let counted = (1..=rows_max).filter(|rows| *rows != stored);
    let tried = std::iter::once(stored).filter(|rows| (1..=rows_max).contains(rows));
    // The bytes of the notes may be what is damaged, in one bit.
    let said = u32_at(rest, 20);
    let others = (0..u32::BITS).map(|bit| said ^ (1 << bit));
    let lengths = std::iter::once(said).chain(others);
    let tried = tried.flat_map(|rows| lengths.clone().map(move |notes| (rows, notes as usize)));
    for (rows, notes) in tried.chain(counted.map(|rows| (rows, said as usize))) {
        let notes_at = HEADER_BYTES + rows * PLACEMENT_BYTES;
        let batch_at = notes_at.saturating_add(notes);
        if rest.len() < batch_at.saturating_add(BATCH_HEADER_BYTES) {
            continue;
        }
        let length = u32_at(rest, batch_at) as usize;
        let Some(bytes) = rest.get(batch_at..batch_at.saturating_add(length)) else { continue };
        let Ok((_, count)) = batch::parse_header(bytes) else { continue };
        let total = batch_at + length + FOOTER_BYTES;
        let placed: Vec<PlacedRun> = rest[HEADER_BYTES..notes_at]
            .chunks_exact(PLACEMENT_BYTES)
            .map(entry::placement)
            .collect();
        let sum: u64 = placed.iter().map(|row| u64::from(row.count)).sum();
        if total > rest.len() || (rows != stored && sum != count as u64) {
            continue;
        }
        let batch = Batch::parse(rest.slice(batch_at..batch_at + length)).ok()?;
        let same = |(row, run): (&PlacedRun, &batch::Run)| {
            let said = (row.topic, row.queue, row.count, row.first.is_none());
            said == (run.topic, run.queue, run.count, run.parked)
        };
        let rows_hold =
            placed.len() == batch.runs().len() && placed.iter().zip(batch.runs()).all(same);
        let rows = rows_hold.then_some(placed);
        if rows.is_none() {
            yard_wire::mark!(SalvageRowsLost);
        }
        return Some((total, Piece::Batch { at, entry: rest.slice(..total), batch, rows }));
    }
    None
}

/// The entry of copies at the front of `rest`, of whose header little is damaged, with its bytes.
fn copies_in(rest: &Bytes, at: usize) -> Option<(usize, Piece)> {
    let said = rest.get(..4).map_or(0, |bytes| u32_at(bytes, 0) as usize);
    let lengths = [said, rest.len()].into_iter().filter(|length| *length <= rest.len());
    let mut entries = lengths.filter_map(|length| entry::mended_copies(&rest.slice(..length)));
    let entry = entries.next()?;
    assert!(entry.total_bytes() <= rest.len(), "it lies in what was looked at");
    yard_wire::mark!(SalvageCopies);
    Some((entry.total_bytes(), Piece::Entry { at, entry, is_whole: false }))
}

/// A copy of a record in an entry that may be damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copied<R> {
    /// It holds.
    Whole(R),
    /// The record does not.
    Damaged(R),
    /// Nobody knows of what it is one.
    Unknown,
}

/// The copies in the payload of an entry; none when not even their number can be right.
pub(crate) fn copies(payload: &[u8]) -> Vec<Copied<Moved>> {
    copied(payload, |copy: &Moved, record| {
        let address = Record::check(record).and_then(|()| Record::check_header(record));
        address.is_ok_and(|address| (address.topic, address.queue) == (copy.topic, copy.queue))
    })
}

/// The parked records in the payload of an entry, likewise. One without bytes was lost before.
pub(crate) fn carried(payload: &[u8]) -> Vec<Copied<CarriedOn>> {
    let holds = |copy: &CarriedOn, record: &[u8]| copy.bytes == 0 || Record::check(record).is_ok();
    copied(payload, holds)
}

fn copied<R: Row>(payload: &[u8], holds: impl Fn(&R, &[u8]) -> bool) -> Vec<Copied<R>> {
    let copied = |row: Option<R>| {
        let Some(mut copy) = row else { return Copied::Unknown };
        let (at, bytes) = copy.lies();
        let record = &payload[*at as usize..(*at + bytes) as usize];
        if holds(&copy, record) { Copied::Whole(copy) } else { Copied::Damaged(copy) }
    };
    copies_rows(payload).unwrap_or_default().into_iter().map(copied).collect()
}

/// The tenant that a damaged entry of a batch names; in how many bits its checksum differs from
/// that of a whole one with these placements.
pub(super) fn compared(entry: &[u8], rows: &[PlacedRun], batch: &Batch) -> (TenantId, u32) {
    assert!(entry.len() >= HEADER_BYTES + FOOTER_BYTES, "an entry has both its ends");
    let tenant = TenantId(u32_at(entry, 12));
    let mut whole = Vec::with_capacity(entry.len());
    let notes = notes_of(entry, rows.len(), batch);
    let parts = (&entry[notes], &batch.bytes()[..]);
    entry::put_placed((BATCH, tenant), rows.iter().copied(), parts, &mut whole);
    (tenant, (u32_at(&whole, 4) ^ u32_at(entry, 4)).count_ones())
}

/// Where the notes of a damaged entry of a batch lie, which has so many placements.
fn notes_of(entry: &[u8], rows: usize, batch: &Batch) -> std::ops::Range<usize> {
    let begin = HEADER_BYTES + rows * PLACEMENT_BYTES;
    let end = entry.len() - FOOTER_BYTES - batch.bytes().len();
    begin.min(end)..end
}

/// The notes of a damaged entry of a batch, which has so many placements.
pub(super) fn notes(entry: &Bytes, rows: usize, batch: &Batch) -> Bytes {
    entry.slice(notes_of(entry, rows, batch))
}

/// The records of a batch whose placements hold, in order: offset in the batch and bytes of each
/// that is as it was written, `None` for one that is not.
pub(super) fn records(batch: &[u8], rows: &[PlacedRun]) -> Vec<Option<(u32, u32)>> {
    let of = |row: &PlacedRun| (row.topic, row.queue, row.first.is_none());
    let wanted: Vec<Wanted> =
        rows.iter().flat_map(|row| (0..row.count).map(move |_| of(row))).collect();
    let mut found = vec![None; wanted.len()];
    let mut at = BATCH_HEADER_BYTES.min(batch.len());
    let mut next = 0;
    while next < wanted.len() {
        if let Some(bytes) = header_at(batch, at, wanted[next]) {
            let record = &batch[at..at + bytes];
            found[next] = Record::check(record).is_ok().then_some((at as u32, bytes as u32));
            at += bytes;
            next += 1;
            continue;
        }
        // The record is lost, and with it where the next one begins.
        let Some(begin) = behind(batch, at, &wanted[next + 1..]) else { break };
        yard_wire::mark!(SalvageBehindRecord);
        at = begin;
        next += 1;
    }
    assert!(at <= batch.len(), "records lie in their batch");
    found
}

/// What the placements say of a record: its queue, and whether it is parked.
type Wanted = (TopicId, QueueIndex, bool);

/// Bytes of the record of this queue at `at`, if its header holds.
fn header_at(batch: &[u8], at: usize, wanted: Wanted) -> Option<usize> {
    let Address { topic, queue, flags, bytes } = Record::check_header(batch.get(at..)?).ok()?;
    ((topic, queue, flags.is_parked()) == wanted).then_some(bytes as usize)
}

/// Where the records `wanted` begin that fill the rest of the batch behind `at`; `None` unless
/// there is exactly one such place.
fn behind(batch: &[u8], at: usize, wanted: &[Wanted]) -> Option<usize> {
    assert!(at <= batch.len(), "the damage lies in the batch");
    let first = wanted.first()?;
    let fills = |begin: &usize| {
        header_at(batch, *begin, *first).is_some()
            && wanted
                .iter()
                .try_fold(*begin, |at, queue| Some(at + header_at(batch, at, *queue)?))
                .is_some_and(|end| end == batch.len())
    };
    let mut places = (at + 1..batch.len()).filter(fills);
    let begin = places.next()?;
    places.next().is_none().then_some(begin)
}

impl Piece {
    /// The batch in it with where its records went, and where it begins in the payload; `None`
    /// for what is lost, and a batch of which that cannot be told without the rest of the log.
    /// Entries of other kinds hold none and are not asked.
    pub(crate) fn batch(&self) -> Option<(usize, Bytes, Vec<PlacedRun>)> {
        match self {
            Self::Entry { at, entry, .. } => {
                assert_eq!(entry.kind, BATCH, "only an entry of a batch is asked for one");
                let rows = entry.placements.iter().collect();
                Some((at + entry.payload_at(), entry.payload.clone(), rows))
            }
            Self::Batch { at, entry, batch, rows: Some(rows) } => {
                let begin = at + entry.len() - FOOTER_BYTES - batch.bytes().len();
                let holds = compared(entry, rows, batch).1 <= 1;
                holds.then(|| (begin, batch.bytes().clone(), rows.clone()))
            }
            Self::Batch { .. } | Self::Lost { .. } => None,
        }
    }
}

/// Each record of a batch on its own, with the offset that it was given, if it was; and as in
/// [`records`].
pub(crate) fn numbered(batch: &[u8], rows: &[PlacedRun]) -> Vec<(PlacedRun, Option<(u32, u32)>)> {
    let each = rows.iter().flat_map(|row| {
        let of = |n: u32| PlacedRun { first: row.offset(n.into()), count: 1, ..*row };
        (0..row.count).map(of)
    });
    let numbered: Vec<_> = each.zip(records(batch, rows)).collect();
    let count: u64 = rows.iter().map(|row| u64::from(row.count)).sum();
    assert_eq!(numbered.len() as u64, count, "each record has a place");
    numbered
}

/// The placements of a batch that was read whole, when its own table does not hold: what follows
/// the records known of each queue.
pub(super) fn following(
    batch: &Batch,
    mut next: impl FnMut(TopicId, QueueIndex) -> QueueOffset,
) -> Vec<PlacedRun> {
    let mut rows: Vec<PlacedRun> = Vec::with_capacity(batch.runs().len());
    for run in batch.runs() {
        let (topic, queue, count) = (run.topic, run.queue, run.count);
        let of_queue = rows.iter().filter(|row| (row.topic, row.queue) == (topic, queue));
        let before = of_queue.filter_map(|row| row.offset(row.count.into())).next_back();
        let first = (!run.parked).then(|| before.unwrap_or_else(|| next(topic, queue)));
        rows.push(PlacedRun { topic, queue, first, count });
    }
    assert_eq!(rows.len(), batch.runs().len(), "each run has its place");
    rows
}
