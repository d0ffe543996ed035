//! Damage to what was durable: how far it reaches, and what is left of it.
//!
//! ```text
//!   … valid │ damaged: from offset             to the next that is known │ valid …
//!                      header? payload trailer?  a header of a later group, or what a checkpoint
//!                                                or a sidecar says of a later one
//! ```
//!
//! Nothing in the log is changed. Without anything known of a later group, what is invalid is a
//! torn tail and none of this module's business.
use bytes::Bytes;
use yard_wire::batch::Batch;
use yard_wire::{GroupNumber, QueueOffset, TenantId, Timestamp};

use super::open::{FIRST_GROUP_AT, Lying, Opening, PlacedRecords, Placements};
use super::salvage::{self, Copied, Piece};
use super::scan::{SegmentReader, Tail, ValidGroup, disk_error, first_header};
use super::{Lost, Recovered, Repair, sidecars};
use crate::disk::FileName;
use crate::error::{Corrupt, OpenError};
use crate::format::entry::{self, BATCH, Entry, FOOTER_BYTES, PlacedRun};
use crate::format::group::{self, GroupHeader, Trailer};
use crate::format::retire::{CARRIED, CarriedOn, MOVED};
use crate::format::segment::SegmentHeader;
use crate::format::sidecar::Line;
use crate::format::{VERSION, u64_at};
use crate::kept::Carried;
use crate::store::Cursor;

/// Something that was durable behind the damage.
struct Later {
    /// No byte of what is damaged lies at or after this offset.
    at: u64,
    /// Group that follows what is damaged.
    number: u64,
    /// Chain of the group before that one.
    chain: u64,
    /// Nothing that is damaged was stored later.
    stored: Timestamp,
}

/// Where the payload of a damaged group begins.
struct Place {
    segment: u32,
    payload_at: u64,
}

/// What to hand out: tenant, kind, payload, and where the records of a batch or of releases went.
type Left = (TenantId, u16, (Bytes, Bytes), Placements);

/// A group that is damaged, as far as it is known.
struct Damaged {
    segment: u32,
    offset: u64,
    header: GroupHeader,
    payload: Bytes,
}

/// A record that begins so many bytes behind the front of its batch and has so many.
fn lying((offset, bytes): (u32, u32)) -> Lying {
    Lying { offset, bytes, refers_to: None }
}

/// Header, payload and trailer of a group whose header holds.
fn with_header(
    header: GroupHeader,
    bytes: &Bytes,
) -> (Option<GroupHeader>, Bytes, Option<Trailer>) {
    assert_eq!(bytes.len(), header.total_bytes(), "all of the group");
    let end = group::HEADER_BYTES + header.payload_bytes as usize;
    let payload = bytes.slice(group::HEADER_BYTES..end);
    (Some(header), payload, Trailer::decode(&bytes[end..]))
}

/// What a place is where no valid group lies.
pub(super) enum Verdict {
    /// Something durable was damaged; what was left of it is handed out. Go on here.
    GoOn(u64),
    /// The groups of the segment end here.
    End(Tail),
}

impl Opening<'_> {
    /// Looks at what is invalid at `offset`. Where it was durable, what is left of it is handed
    /// out.
    pub(super) fn quarantine(
        &mut self,
        reader: &mut SegmentReader<'_>,
        heads: &[SegmentHeader],
        at: usize,
        offset: u64,
    ) -> Result<Verdict, OpenError> {
        let name = FileName::Segment(heads[at].segment);
        let header = reader.header(offset).map_err(disk_error(name))?.filter(|header| {
            header.group.0 == self.cursor.next_group
                && header.version == VERSION
                && offset + header.total_bytes() as u64 <= heads[at].capacity
        });
        let claimed_end = header.map(|header| offset + header.total_bytes() as u64);
        let tail = reader.tail(offset, GroupNumber(self.cursor.next_group))?;
        let Some(later) = self.later(reader, heads, at, (offset, claimed_end, tail))? else {
            return Ok(Verdict::End(tail));
        };
        self.check_plausible(&later, heads[at].segment, offset)?;
        let end = claimed_end.unwrap_or(later.at).min(heads[at].capacity);
        let next = self.cursor.next_group + 1;
        let there = reader.file_end().map_err(disk_error(name))?.max(offset);
        if end.min(there) <= offset {
            self.missing(heads[at].segment, (offset, end.max(offset)), &later);
            return Ok(Verdict::GoOn(end.max(offset)));
        }
        if there < end {
            yard_wire::mark!(QuarantineFileCut);
            self.report(heads[at].segment, there, end - there, "the file has lost its end");
        }
        let read_to = if header.is_some() { end } else { end.min(there) };
        let bytes = reader.bytes(offset, (read_to - offset) as usize).map_err(disk_error(name))?;
        let bytes = bytes.expect("the damage lies in the segment");
        let one = later.number == next;
        let chain = one.then_some(later.chain);
        let segment = heads[at].segment;
        let (header, payload, trailer) = match header {
            Some(header) => with_header(header, &bytes),
            None if bytes.len() < group::FRAME_BYTES => (None, Bytes::new(), None),
            None => self.without_header(&bytes, one),
        };
        let number = GroupNumber(self.cursor.next_group);
        let trailer = trailer.filter(|trailer| trailer.group == number);
        let chain = chain.or(trailer.map(|trailer| trailer.chain));
        if let Some(header) = header
            && chain == Some(header.chain_of(&payload))
            && header.previous_chain == self.cursor.chain
        {
            yard_wire::mark!(QuarantineGroupMended);
            let what = "header or end of a group";
            self.report(segment, offset, end - offset, what);
            let chain = header.chain_of(&payload);
            self.take_group(segment, offset, &ValidGroup { header, chain, payload })?;
            return Ok(Verdict::GoOn(end));
        }
        let is_one = header.is_some() || trailer.is_some() || one;
        let header = header.unwrap_or(GroupHeader {
            stored: self.cursor.stored,
            ..GroupHeader::new(self.config.shard, number)
        });
        self.take_damaged(&Damaged { segment, offset, header, payload }, &later)?;
        self.chain_is_unknown = chain.is_none() && is_one;
        self.cursor = Cursor {
            next_group: if is_one { next } else { later.number },
            chain: if is_one { chain.unwrap_or(0) } else { later.chain },
            stored: header.stored.max(self.cursor.stored),
            empty: false,
        };
        Ok(Verdict::GoOn(end))
    }

    /// The header of the group in `bytes` from what is known besides it, with payload and trailer.
    fn without_header(
        &self,
        bytes: &Bytes,
        one: bool,
    ) -> (Option<GroupHeader>, Bytes, Option<Trailer>) {
        assert!(bytes.len() >= group::FRAME_BYTES, "room for a group");
        let number = GroupNumber(self.cursor.next_group);
        let inside = bytes.slice(group::HEADER_BYTES..);
        let trailer = Trailer::before_padding(&inside, number).filter(|_| one);
        let Some((end, trailer)) = trailer else {
            yard_wire::mark!(QuarantineBothEndsLost);
            return (None, inside, None);
        };
        let payload = inside.slice(..end);
        let header = |stored| GroupHeader {
            stored,
            previous_chain: self.cursor.chain,
            payload_bytes: payload.len() as u32,
            entries: trailer.entries,
            ..GroupHeader::new(self.config.shard, number)
        };
        // One bit of the time may be what was damaged; the chain says which.
        let written = u64_at(bytes, 32);
        let times = (0..64).map(|bit| written ^ (1 << bit));
        let times = std::iter::once(written).chain(times).map(Timestamp);
        let whole = times.map(header).find(|header| header.chain_of(&payload) == trailer.chain);
        if whole.is_some() {
            yard_wire::mark!(QuarantineHeaderFound);
        }
        (whole, payload, Some(trailer))
    }

    /// What is known of a group behind the damage at `offset`.
    fn later(
        &self,
        reader: &mut SegmentReader<'_>,
        heads: &[SegmentHeader],
        at: usize,
        (offset, claimed_end, tail): (u64, Option<u64>, Tail),
    ) -> Result<Option<Later>, OpenError> {
        let head = &heads[at];
        let expected = self.cursor.next_group;
        let of = |(at, header): (u64, GroupHeader)| Later {
            at,
            number: header.group.0,
            chain: header.previous_chain,
            stored: header.stored,
        };
        // What a damaged group holds is no witness.
        let within = |at: u64| claimed_end.filter(|end| at < *end);
        let found = match tail.header_at {
            Some(at) => match within(at) {
                Some(end) => reader.tail(end, GroupNumber(expected))?.header_at,
                None => Some(at),
            },
            None => None,
        };
        let name = FileName::Segment(head.segment);
        if let Some(at) = found
            && let Some(header) = reader.header(at).map_err(disk_error(name))?
        {
            yard_wire::mark!(QuarantineByGroup);
            return Ok(Some(of((at, header))));
        }
        if let Some((said, _)) = sidecars::read_header(self.disk, head)?
            && said.last_group.0 >= expected
        {
            yard_wire::mark!(QuarantineBySidecar);
            let (at, number) = (said.end, said.last_group.0 + 1);
            return Ok(Some(Later { at, number, chain: said.chain, stored: said.last_stored }));
        }
        let saved = self.checkpoint.filter(|saved| saved.group.0 >= expected);
        if let Some(saved) = saved.filter(|saved| saved.segment == head.segment) {
            yard_wire::mark!(QuarantineByCheckpoint);
            let (at, number) = (saved.offset, saved.group.0 + 1);
            return Ok(Some(Later { at, number, chain: saved.chain, stored: saved.stored }));
        }
        // Where nothing was written the segment ended: what is missing was in the next.
        if tail.dirty_end == offset {
            return Ok(None);
        }
        for next in &heads[at + 1..] {
            let front = SegmentReader::new(self.disk, *next).header(FIRST_GROUP_AT);
            let front = front.map_err(disk_error(FileName::Segment(next.segment)))?;
            if front.is_some_and(|header| header.group.0 == expected) {
                yard_wire::mark!(QuarantineTornBeforeRoll);
                return Ok(None);
            }
            let is_later =
                |header: &GroupHeader, salt: u64| salt == next.salt && header.group.0 > expected;
            let Some((_, header)) = first_header(self.disk, next, FIRST_GROUP_AT, &is_later)?
            else {
                continue;
            };
            yard_wire::mark!(QuarantineByNextSegment);
            let end = tail.dirty_end.next_multiple_of(group::ALIGNMENT as u64);
            return Ok(Some(of((end, header))));
        }
        Ok(None)
    }

    /// What was durable lay in the bytes between: more groups than fit are those of another log.
    fn check_plausible(&self, later: &Later, segment: u32, offset: u64) -> Result<(), OpenError> {
        assert!(later.number > self.cursor.next_group, "something is missing");
        let groups = later.number - self.cursor.next_group;
        let room = later.at.saturating_sub(offset) / group::FRAME_BYTES as u64;
        let what = "more groups are missing than were there: files of another log";
        let sealed = self.config.segment_bytes.max(later.at) / group::FRAME_BYTES as u64;
        if groups > room.max(sealed) || later.stored < self.cursor.stored {
            yard_wire::mark!(QuarantineImplausible);
            return Err(Corrupt { segment, offset, what }.into());
        }
        Ok(())
    }

    /// Groups are known to have been there, and no byte of them is.
    fn missing(&mut self, segment: u32, (offset, end): (u64, u64), later: &Later) {
        assert!(offset <= end, "a scan goes forward");
        yard_wire::mark!(QuarantineGroupsMissing);
        self.report(segment, offset, end - offset, "groups are missing");
        self.lacks_copies = true;
        self.begin(segment, later.stored);
        self.cursor = Cursor {
            next_group: later.number,
            chain: later.chain,
            stored: self.cursor.stored,
            empty: false,
        };
    }

    /// Hands out what is left of a damaged group.
    fn take_damaged(&mut self, group: &Damaged, later: &Later) -> Result<(), OpenError> {
        let Damaged { segment, offset, header, payload } = group;
        assert_eq!(header.group.0, self.cursor.next_group, "the group that is expected");
        let stored = header.stored.clamp(self.cursor.stored, later.stored);
        self.begin(*segment, stored);
        let before = self.repairs.len();
        for piece in salvage::pieces(payload) {
            self.take_piece((*segment, *offset), header, stored, piece)?;
        }
        if self.repairs.len() == before {
            let bytes = group::total_bytes(payload.len()) as u64;
            yard_wire::mark!(QuarantineEntriesHold);
            self.report(*segment, *offset, bytes, "a group whose entries hold");
        }
        Ok(())
    }

    fn take_piece(
        &mut self,
        (segment, offset): (u32, u64),
        header: &GroupHeader,
        stored: Timestamp,
        piece: Piece,
    ) -> Result<(), OpenError> {
        let base = self.index.stored_base(segment).expect("begun by the caller");
        let stored_delta_ms = u32::try_from(stored.0.saturating_sub(base.0)).unwrap_or(u32::MAX);
        let place = Place { segment, payload_at: offset + group::HEADER_BYTES as u64 };
        let left = match piece {
            Piece::Lost { at, bytes } => {
                yard_wire::mark!(QuarantineEntryLost);
                let what = "an entry: a decision, or a batch";
                self.report(segment, place.payload_at + at as u64, bytes as u64, what);
                self.lacks_copies = true;
                None
            }
            Piece::Entry { at, entry, is_whole } => {
                if !is_whole {
                    yard_wire::mark!(QuarantineEntryMended);
                    let bytes = entry.total_bytes() as u64;
                    self.report(segment, place.payload_at + at as u64, bytes, "an entry");
                }
                match entry.kind {
                    BATCH => self.take_entry(&place, stored_delta_ms, at, entry),
                    CARRIED => {
                        yard_wire::mark!(QuarantineCarried);
                        let payload_at = place.payload_at + (at + entry.payload_at()) as u64;
                        let carried = self.take_carried(segment, payload_at, &entry.payload);
                        self.hand_out_carried(header, stored, &entry, carried)?;
                        None
                    }
                    _ => self.take_other(&place, stored_delta_ms, at, entry),
                }
            }
            Piece::Batch { at, entry, batch, rows } => {
                yard_wire::mark!(QuarantineBatchFound);
                self.report(segment, place.payload_at + at as u64, entry.len() as u64, "an entry");
                self.take_batch(&place, stored_delta_ms, (at, &entry), &batch, rows)
            }
        };
        let wanted = self.checkpoint.is_none_or(|saved| header.group > saved.group);
        let Some((tenant, kind, (notes, payload), (placed, parked))) = left.filter(|_| wanted)
        else {
            return Ok(());
        };
        let (group, carried) = (header.group, Vec::new());
        let malformed = |why| OpenError::Entry { segment, offset, why };
        (self.on_entry)(Recovered {
            group,
            kind,
            tenant,
            notes,
            payload,
            placed,
            parked,
            carried,
            stored,
        })
        .map_err(malformed)?;
        Ok(())
    }

    fn hand_out_carried(
        &mut self,
        header: &GroupHeader,
        stored: Timestamp,
        entry: &Entry,
        carried: Vec<Carried>,
    ) -> Result<(), OpenError> {
        assert_eq!(entry.kind, CARRIED, "others carry nothing on");
        let is_old = self.checkpoint.is_some_and(|saved| header.group <= saved.group);
        if is_old || carried.is_empty() {
            return Ok(());
        }
        let (group, kind, tenant) = (header.group, entry.kind, entry.tenant);
        let (segment, offset) = (0, 0);
        let malformed = |why| OpenError::Entry { segment, offset, why };
        (self.on_entry)(Recovered {
            group,
            kind,
            tenant,
            notes: Bytes::new(),
            payload: entry.payload.clone(),
            placed: Vec::new(),
            parked: Vec::new(),
            carried,
            stored,
        })
        .map_err(malformed)
    }

    /// Takes an entry that holds and is no batch; what to hand out of it. Copies and retirements
    /// are the log's own, and so are handed out to nobody.
    fn take_other(
        &mut self,
        place: &Place,
        stored_delta_ms: u32,
        at: usize,
        entry: Entry,
    ) -> Option<Left> {
        let segment = place.segment;
        let entry_at = place.payload_at + at as u64;
        if entry.kind == MOVED {
            self.take_copies(segment, entry_at + entry.payload_at() as u64, &entry.payload);
            return None;
        }
        if entry::has_placements(entry.kind) {
            let placed = self.place_entry(segment, entry_at, stored_delta_ms, &entry).ok()?;
            return Some((entry.tenant, entry.kind, (entry.notes, entry.payload), placed));
        }
        match self.take_own(segment, entry_at, &entry) {
            Ok(true) => None,
            Ok(false) => {
                let placed = Placements::default();
                Some((entry.tenant, entry.kind, (entry.notes, entry.payload), placed))
            }
            Err(_) => {
                let bytes = entry.total_bytes() as u64;
                yard_wire::mark!(QuarantineOwnLost);
                self.report(segment, entry_at, bytes, "an entry of the log's own");
                None
            }
        }
    }

    /// Takes those copies of records that hold, of a payload at this place.
    fn take_copies(&mut self, segment: u32, payload_at: u64, payload: &Bytes) {
        assert!(payload_at <= u64::from(u32::MAX), "segments are below 4 GiB");
        let copies = salvage::copies(payload);
        if copies.is_empty() {
            yard_wire::mark!(QuarantineCopiesLost);
            self.report(segment, payload_at, payload.len() as u64, "an entry of copies");
            self.lacks_copies = true;
        }
        for copied in copies {
            let copy = match copied {
                Copied::Whole(copy) => copy,
                Copied::Damaged(copy) => {
                    let record_at = payload_at + u64::from(copy.at);
                    yard_wire::mark!(QuarantineCopyDamaged);
                    self.report(segment, record_at, copy.bytes.into(), "a copy of a message");
                    self.lacks_copies = true;
                    continue;
                }
                Copied::Unknown => {
                    yard_wire::mark!(QuarantineCopyUnknown);
                    self.report(segment, payload_at, 0, "which message a copy is of");
                    self.lacks_copies = true;
                    continue;
                }
            };
            let which = (copy.topic, copy.queue, copy.offset);
            let place = ((payload_at + u64::from(copy.at)) as u32, copy.bytes);
            self.index.add_copy(which, copy.stored, segment, place);
        }
    }

    /// Where those parked records lie that hold, of a payload at this place. Those that do not are
    /// where they were before, as long as that is there.
    fn take_carried(&mut self, segment: u32, payload_at: u64, payload: &Bytes) -> Vec<Carried> {
        assert!(payload_at <= u64::from(u32::MAX), "segments are below 4 GiB");
        let copies = salvage::carried(payload);
        if copies.is_empty() {
            self.report(segment, payload_at, payload.len() as u64, "an entry of waiting messages");
        }
        let mut carried = Vec::new();
        for copied in copies {
            match copied {
                Copied::Whole(copy) => carried.push(Carried::at(segment, payload_at as u32, &copy)),
                Copied::Damaged(CarriedOn { at, bytes, .. }) => {
                    let record_at = payload_at + u64::from(at);
                    self.report(segment, record_at, bytes.into(), "a waiting message");
                }
                Copied::Unknown => {
                    self.report(segment, payload_at, 0, "which message it is that waits");
                }
            }
        }
        carried
    }

    /// Copies may have been lost: those of records that are nowhere else now are lost with them.
    pub(super) fn miss_copies(&mut self) {
        if !self.lacks_copies {
            return;
        }
        yard_wire::mark!(QuarantineNowhere);
        for (topic, queue, from, to) in self.index.nowhere() {
            self.lost(Lost { topic, queue, from, to });
        }
    }

    /// Takes what is left of a batch whose entry holds; what to hand out of it.
    fn take_entry(
        &mut self,
        place: &Place,
        stored_delta_ms: u32,
        at: usize,
        entry: Entry,
    ) -> Option<Left> {
        let rows: Vec<PlacedRun> = entry.placements.iter().collect();
        let records = salvage::records(&entry.payload, &rows);
        let payload_at = (place.payload_at as usize + at + entry.payload_at()) as u32;
        let has_header = yard_wire::batch::parse_header(&entry.payload).is_ok();
        if !has_header || records.contains(&None) {
            let bytes = entry.payload.len() as u64;
            yard_wire::mark!(QuarantineBatchDamaged);
            self.report(place.segment, payload_at.into(), bytes, "a batch");
        }
        let (segment, payload) = (place.segment, entry.payload.clone());
        let records = records.into_iter().map(|found| found.map(lying)).collect();
        let batch = PlacedRecords { segment, payload_at, payload, stored_delta_ms, rows, records };
        let placed = self.index_records(&batch).ok()?;
        // Without its header nobody knows whose numbering it continues.
        has_header.then_some((entry.tenant, BATCH, (entry.notes, entry.payload), placed))
    }

    /// Takes a batch that holds, in an entry that does not; what to hand out of it.
    fn take_batch(
        &mut self,
        place: &Place,
        stored_delta_ms: u32,
        (at, entry): (usize, &Bytes),
        batch: &Batch,
        rows: Option<Vec<PlacedRun>>,
    ) -> Option<Left> {
        let next = |topic, queue| self.index.next(topic, queue);
        let follow = salvage::following(batch, next);
        let holds = |rows: &Vec<PlacedRun>| salvage::compared(entry, rows, batch).1 == 0;
        let fits = |rows: &Vec<PlacedRun>| {
            rows.iter().zip(&follow).all(|(row, next)| row.first >= next.first)
        };
        let rows = match rows {
            Some(rows) if holds(&rows) || (!holds(&follow) && fits(&rows)) => rows,
            Some(_) | None => follow,
        };
        let (tenant, bits) = salvage::compared(entry, &rows, batch);
        let rows_count = rows.len();
        let end = place.payload_at as usize + at + entry.len() - FOOTER_BYTES;
        let placed = self.index_records(&PlacedRecords {
            segment: place.segment,
            payload_at: (end - batch.bytes().len()) as u32,
            payload: batch.bytes().clone(),
            stored_delta_ms,
            rows,
            records: batch.places().map(|place| Some(lying(place))).collect(),
        });
        let placed = placed.ok()?;
        let notes = salvage::notes(entry, rows_count, batch);
        (bits <= 1).then(|| (tenant, BATCH, (notes, batch.bytes().clone()), placed))
    }

    /// After a group whose chain was lost: takes over what the next one says.
    pub(super) fn learn_chain(
        &mut self,
        reader: &mut SegmentReader<'_>,
        offset: u64,
    ) -> Result<(), OpenError> {
        if !self.chain_is_unknown {
            return Ok(());
        }
        yard_wire::mark!(QuarantineChainLost);
        let name = FileName::Segment(reader.segment().segment);
        let header = reader.header(offset).map_err(disk_error(name))?;
        if let Some(header) = header.filter(|it| it.group.0 == self.cursor.next_group) {
            yard_wire::mark!(QuarantineChainLearned);
            self.cursor.chain = header.previous_chain;
            self.chain_is_unknown = false;
        }
        Ok(())
    }

    /// A segment held groups, the first of this time, and so did those before it: they have a
    /// place in the index, even where every group was lost. Returns the time that it has there.
    pub(super) fn begin(&mut self, segment: u32, stored: Timestamp) -> Timestamp {
        if let Some(base) = self.index.stored_base(segment) {
            return base;
        }
        let before = self.bare.extract_if(.., |bare| *bare < segment);
        let stored_before = self.cursor.stored.min(stored);
        before.for_each(|bare| self.index.begin_segment(bare, stored_before));
        self.index.begin_segment(segment, stored);
        stored
    }

    fn report(&mut self, segment: u32, offset: u64, bytes: u64, what: &'static str) {
        let lost = Vec::new();
        self.repairs.push(Repair::Quarantined { segment, offset, bytes, what, lost });
    }

    /// The groups of a segment end at `end`. How far its queues reached is known besides: by the
    /// checkpoint, and where the segment is damaged by its sidecar.
    pub(super) fn raise_ends(&mut self, head: &SegmentHeader, end: u64) -> Result<(), OpenError> {
        let number = head.segment;
        if self.index.stored_base(number).is_none() {
            return Ok(());
        }
        let of_it = |repair: &Repair| match repair {
            Repair::Quarantined { segment, .. } => *segment == number,
            _ => false,
        };
        let mut ends = Vec::new();
        if self.repairs.iter().any(of_it)
            && let Some((_, lines)) = sidecars::read(self.disk, head)?
        {
            ends.extend(lines.iter().filter_map(Line::end));
        }
        if let Some(saved) = self.checkpoint.filter(|saved| saved.segment == number) {
            ends.extend_from_slice(&saved.ends);
        }
        for (topic, queue, to) in ends {
            let count = self.index.raise(number, (topic, queue, to));
            assert!(self.index.next(topic, queue) >= to || count == 0, "what is raised is there");
            if count > 0 {
                yard_wire::mark!(QuarantineEndsRaised);
                if !self.repairs.iter().any(of_it) {
                    self.report(number, end, 0, "messages before this place");
                }
                let from = QueueOffset(to.0 - u64::from(count));
                self.lost(Lost { topic, queue, from, to });
            }
        }
        Ok(())
    }

    /// Records are lost: by the damage that was met last, for all that is known.
    pub(super) fn lost(&mut self, found: Lost) {
        assert!(found.from < found.to, "something is lost");
        let last = self.repairs.iter_mut().rev().find_map(|repair| match repair {
            Repair::Quarantined { lost, .. } => Some(lost),
            _ => None,
        });
        let Some(lost) = last else { return };
        match lost.last_mut().filter(|last| {
            (last.topic, last.queue, last.to) == (found.topic, found.queue, found.from)
        }) {
            Some(last) => last.to = found.to,
            None => lost.push(found),
        }
    }
}
