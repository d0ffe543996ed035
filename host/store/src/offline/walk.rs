//! Walking over all that one segment holds, whole or not.
//!
//! ```text
//!   group ─ group ─ ✗ damaged ─ group ─ group ─ whatever is behind the last
//!                   └ entries and messages in it that are whole by their own checksums
//! ```
use std::ops::ControlFlow;

use bytes::Bytes;
use yard_wire::batch::parse_header;
use yard_wire::record::Record;
use yard_wire::release::Release;
use yard_wire::{
    GroupNumber, LogPos, QueueIndex, QueueOffset, RecordPlace, TenantId, Timestamp, TopicId,
};

use super::kinds::{Kind, kind_of};
use super::queues::Queues;
use super::survey::Surveyed;
use super::{Counts, Damage, Link, Span};
use crate::derived::{KeyBuilder, RecordView};
use crate::disk::{Disk, FileName};
use crate::format::entry::{self, Entry, EntryRecord, PlacedRun};
use crate::format::group::{self, GroupHeader, Trailer};
use crate::format::retire::{CarriedOn, Moved, retired_below};
use crate::format::segment;
use crate::format::sidecar::IndexEntry;
use crate::read;
use crate::recover::salvage::{self, Copied, Piece};
use crate::recover::scan::{SegmentReader, ValidGroup};

const FIRST_GROUP_AT: u64 = segment::HEADER_BYTES as u64;

/// Something that lies in a segment, in the order of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A group; its entries follow.
    Group {
        /// Where it begins in the log.
        position: LogPos,
        /// Bytes with header, trailer and padding.
        bytes: u64,
        /// Its number.
        group: GroupNumber,
        /// When its entries were stored.
        stored: Timestamp,
        /// How many.
        entries: u32,
        /// Its chain hash.
        chain: u64,
    },
    /// An entry; the messages of a batch follow, or releases.
    Entry {
        /// Where it begins in the log.
        position: LogPos,
        /// Bytes with its header.
        bytes: u64,
        /// What it was appended as.
        kind: u16,
        /// For whom.
        tenant: TenantId,
        /// What was appended.
        payload: &'a Bytes,
    },
    /// A message.
    Record {
        /// Where it begins in the log.
        position: LogPos,
        /// Its offset in its queue; `None`: it waits for its release.
        offset: Option<QueueOffset>,
        /// The message.
        record: Record,
    },
    /// A stored message becomes visible.
    Release {
        /// Where it begins in the log.
        position: LogPos,
        /// Its offset in its queue.
        offset: QueueOffset,
        /// What lies there.
        release: &'a Release,
    },
    /// A place that is not what was written.
    Damage {
        /// Where it begins in the log.
        position: LogPos,
        /// What it is.
        damage: &'a Damage,
    },
}

type Visit<'a> = &'a mut dyn FnMut(Line<'_>) -> ControlFlow<()>;

/// Hands out what lies in a segment until there is no more or `visit` breaks off.
pub fn dump(disk: &dyn Disk, segment: &Surveyed, visit: Visit<'_>) -> ControlFlow<()> {
    let mut walk = Walk::new(disk, segment, Some(visit));
    walk.run();
    walk.flow
}

/// What was found in a segment.
pub(super) struct Walk<'a> {
    disk: &'a dyn Disk,
    segment: Surveyed,
    reader: SegmentReader<'a>,
    visit: Option<Visit<'a>>,
    pub(super) flow: ControlFlow<()>,
    pub(super) first: Option<Link>,
    pub(super) last: Option<Link>,
    /// Group whose end and chain are wanted.
    pub(super) wanted: Option<GroupNumber>,
    pub(super) seen: Option<(u64, u64)>,
    /// Where the first whole group begins.
    pub(super) begin: u64,
    /// Byte after the last whole group, and after the last that a later one proves.
    pub(super) end: u64,
    pub(super) proven_end: u64,
    /// That proven group.
    pub(super) proven: Option<Link>,
    /// The last group has no entries.
    pub(super) is_idle: bool,
    /// Bytes behind the last group, up to the last that is not zero.
    pub(super) loose: u64,
    /// Byte after the last that is not zero, or that cannot be read.
    pub(super) filled: u64,
    pub(super) counts: Counts,
    pub(super) damage: Vec<Damage>,
    /// The segments below this one are said to be gone.
    pub(super) retired: u32,
    pub(super) queues: Queues,
    /// The parts of the key index that are there, made again meanwhile.
    pub(super) keys: Vec<KeyBuilder>,
    /// All that they are made of could be read.
    pub(super) keys_are_known: bool,
    /// The lowest segment that releases refer to.
    pub(super) refers_from: Option<u32>,
    stored_base: Timestamp,
    /// The next group follows a damaged one.
    is_broken: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(disk: &'a dyn Disk, segment: &Surveyed, visit: Option<Visit<'a>>) -> Self {
        Self {
            disk,
            segment: *segment,
            reader: SegmentReader::new(disk, segment.header),
            visit,
            flow: ControlFlow::Continue(()),
            first: None,
            last: None,
            wanted: None,
            seen: None,
            begin: FIRST_GROUP_AT,
            end: FIRST_GROUP_AT,
            proven_end: FIRST_GROUP_AT,
            proven: None,
            is_idle: false,
            loose: 0,
            filled: FIRST_GROUP_AT,
            counts: Counts { bytes: segment.bytes(), ..Counts::default() },
            damage: Vec::new(),
            retired: 0,
            queues: Queues::default(),
            keys: Vec::new(),
            keys_are_known: true,
            refers_from: None,
            stored_base: Timestamp(0),
            is_broken: false,
        }
    }

    pub(super) fn run(&mut self) {
        let mut at = FIRST_GROUP_AT;
        while let Some(next) = self.step(at) {
            assert!(next > at, "a walk goes forward");
            at = next;
            if self.flow.is_break() {
                return;
            }
        }
    }

    /// Takes what lies at `at`; returns where the next group begins.
    fn step(&mut self, at: u64) -> Option<u64> {
        assert!(at.is_multiple_of(group::ALIGNMENT as u64), "groups are aligned");
        match self.reader.any_group(at) {
            Ok(Some(group)) => return Some(self.take_group(at, &group)),
            Ok(None) => {}
            Err(_) => return self.unreadable(at),
        }
        let header = self.reader.header(at).ok().flatten();
        let own = header.map_or(0, |header| header.group.0);
        let expected = self.last.map_or(own, |last| last.group.0 + 1);
        let Ok(tail) = self.reader.tail(at, GroupNumber(expected)) else {
            return self.unreadable(at);
        };
        let next = tail.header_at.filter(|next| *next > at);
        if next.is_some() {
            // Where a log is being written, it may be whole by now.
            self.reader = SegmentReader::new(self.disk, self.segment.header);
            if let Ok(Some(group)) = self.reader.any_group(at) {
                return Some(self.take_group(at, &group));
            }
        }
        if header.is_some_and(|header| header.group.0 == expected) {
            (self.proven_end, self.proven) = (at, self.last);
        }
        if let Some(next) = next {
            self.take_damaged(at, next, (header, expected));
        } else if self.segment.is_sealed && tail.dirty_end > at {
            // Nothing more was to come.
            let end = tail.dirty_end.next_multiple_of(group::ALIGNMENT as u64);
            self.take_damaged(at, end.min(self.segment.bytes()), (header, expected));
        } else {
            self.loose = tail.dirty_end.saturating_sub(at);
        }
        self.filled = tail.dirty_end;
        next
    }

    /// The disk refuses: what lies behind is not known.
    fn unreadable(&mut self, at: u64) -> Option<u64> {
        let bytes = self.segment.bytes().saturating_sub(at);
        self.filled = self.segment.bytes();
        self.note(at, bytes, "the rest of the segment cannot be read", Vec::new());
        None
    }

    fn note(&mut self, at: u64, bytes: u64, what: &'static str, lost: Vec<Span>) {
        assert!(lost.iter().all(|span| span.from < span.to), "each span takes a message");
        let name = FileName::Segment(self.segment.segment());
        let damage = Damage { lost, ..Damage::new(name, at, bytes, what) };
        let position = self.position(at);
        self.show(Line::Damage { position, damage: &damage });
        self.damage.push(damage);
    }

    fn position(&self, at: u64) -> LogPos {
        LogPos(self.segment.base().0 + at)
    }

    fn show(&mut self, line: Line<'_>) {
        if let Some(visit) = &mut self.visit
            && self.flow.is_continue()
        {
            self.flow = visit(line);
        }
    }

    /// Takes a whole group; returns where the next one begins.
    fn take_group(&mut self, at: u64, group: &ValidGroup) -> u64 {
        let header = &group.header;
        let bytes = header.total_bytes() as u64;
        self.check_order(at, header, bytes);
        (self.proven_end, self.proven) = (at, self.last);
        self.is_idle = header.entries == 0;
        let line = Line::Group {
            position: self.position(at),
            bytes,
            group: header.group,
            stored: header.stored,
            entries: header.entries,
            chain: group.chain,
        };
        self.show(line);
        if self.first.is_none() {
            let chain = header.previous_chain;
            self.first = Some(Link { group: header.group, chain, stored: header.stored });
            self.stored_base = header.stored;
            self.begin = at;
        }
        self.last = Some(Link { group: header.group, chain: group.chain, stored: header.stored });
        self.is_broken = false;
        self.counts.groups += 1;
        let entries = self.take_entries(at, &group.payload, header.stored);
        if entries.is_some_and(|entries| entries != header.entries) {
            let what = "the group does not hold as many entries as it says";
            self.note(at, bytes, what, Vec::new());
        }
        let padding = group::HEADER_BYTES + group.payload.len() + group::TRAILER_BYTES;
        self.check_zero(at + padding as u64, bytes - padding as u64);
        self.end = at + bytes;
        if self.wanted == Some(header.group) {
            self.seen = Some((self.end, group.chain));
        }
        self.end
    }

    /// Whether the group is the one that follows.
    fn check_order(&mut self, at: u64, header: &GroupHeader, bytes: u64) {
        assert!(bytes.is_multiple_of(group::ALIGNMENT as u64), "groups are aligned");
        let Some(last) = self.last else { return };
        let continues = header.group.0 == last.group.0 + 1 && header.previous_chain == last.chain;
        let what = if header.shard != self.segment.header.shard {
            "the group belongs to another shard"
        } else if header.stored < last.stored {
            "the group is older than the one before it"
        } else if !continues && !self.is_broken {
            "the group follows another one than lies before it"
        } else {
            return;
        };
        self.note(at, bytes, what, Vec::new());
    }

    /// Padding belongs to nobody and is zero.
    fn check_zero(&mut self, at: u64, bytes: u64) {
        debug_assert!(bytes < group::ALIGNMENT as u64, "groups are aligned");
        let found = self.reader.bytes(at, bytes as usize);
        if found.is_ok_and(|found| found.is_some_and(|bytes| bytes.iter().any(|byte| *byte != 0))) {
            self.note(at, bytes, "the padding of a group", Vec::new());
        }
    }

    /// What can be told of a group that is not whole, up to the next one.
    fn take_damaged(&mut self, at: u64, next: u64, (header, expected): (Option<GroupHeader>, u64)) {
        assert!(next > at, "a damaged group lies before the next");
        self.is_broken = true;
        let inside = at + group::HEADER_BYTES as u64;
        let end = match header {
            Some(header) => (inside + u64::from(header.payload_bytes)).min(next),
            None => {
                let bytes = inside.min(next) - at;
                self.note(at, bytes, "the header of a group", Vec::new());
                next
            }
        };
        let before = self.damage.len();
        let stored = header.map_or(self.stored_base, |header| header.stored);
        let count = end.saturating_sub(inside) as usize;
        if let Ok(Some(payload)) = self.reader.bytes(inside, count) {
            let trailer = Trailer::before_padding(&payload, GroupNumber(expected));
            let bytes = trailer.filter(|_| header.is_none()).map_or(payload.len(), |found| found.0);
            self.take_pieces(inside, &payload.slice(..bytes), stored);
        }
        if self.damage.len() == before && header.is_some() {
            self.note(end, next - end, "the end of a group", Vec::new());
        }
    }

    fn delta_ms(&self, stored: Timestamp) -> u32 {
        let delta = stored.0.saturating_sub(self.stored_base.0);
        u32::try_from(delta).unwrap_or(u32::MAX)
    }

    /// Takes the entries of the whole group at `at`; `None` when not all could be told.
    fn take_entries(&mut self, at: u64, payload: &Bytes, stored: Timestamp) -> Option<u32> {
        assert!(!self.is_broken, "it is whole");
        let mut rest = payload.clone();
        let mut entries = 0;
        let stored_delta_ms = self.delta_ms(stored);
        while !rest.is_empty() && self.flow.is_continue() {
            let entry_at = at + (group::HEADER_BYTES + payload.len() - rest.len()) as u64;
            let Ok(entry) = entry::take_entry(&mut rest) else {
                let left = rest.len() as u64;
                self.note(entry_at, left, "an entry, and those after it", Vec::new());
                return None;
            };
            self.take_entry(entry_at, &entry, stored_delta_ms);
            entries += 1;
        }
        self.flow.is_continue().then_some(entries)
    }

    /// Takes what is left of a damaged group, whose payload begins at `inside`.
    fn take_pieces(&mut self, inside: u64, payload: &Bytes, stored: Timestamp) {
        assert!(self.is_broken, "it is damaged");
        let stored_delta_ms = self.delta_ms(stored);
        for piece in salvage::pieces(payload) {
            if self.flow.is_break() {
                return;
            }
            match &piece {
                Piece::Entry { at, entry, is_whole } => {
                    let entry_at = inside + *at as u64;
                    if !is_whole {
                        self.note(entry_at, entry.total_bytes() as u64, "an entry", Vec::new());
                    }
                    self.take_entry(entry_at, entry, stored_delta_ms);
                }
                Piece::Batch { at, entry, .. } => {
                    self.note(inside + *at as u64, entry.len() as u64, "an entry", Vec::new());
                    if let Some((at, batch, rows)) = piece.batch() {
                        self.take_left(inside + at as u64, &batch, (&rows, 0), stored_delta_ms);
                    }
                }
                Piece::Lost { at, bytes } => {
                    let what = "an entry, or several";
                    self.note(inside + *at as u64, *bytes as u64, what, Vec::new());
                }
            }
        }
    }

    fn take_entry(&mut self, at: u64, entry: &Entry, stored_delta_ms: u32) {
        let bytes = entry.total_bytes() as u64;
        assert!(bytes >= entry::HEADER_BYTES as u64, "an entry has its header");
        self.counts.entries += 1;
        let (position, kind, tenant) = (self.position(at), entry.kind, entry.tenant);
        let payload = &entry.payload;
        self.show(Line::Entry { position, bytes, kind, tenant, payload });
        match kind_of(kind) {
            Kind::Batch => self.take_batch(at + entry.payload_at() as u64, entry, stored_delta_ms),
            Kind::Releases => {
                self.take_releases(at + entry.payload_at() as u64, entry, stored_delta_ms);
            }
            Kind::Copies => self.take_copies(at + entry.payload_at() as u64, payload),
            Kind::Carried => self.take_carried(at + entry.payload_at() as u64, payload),
            Kind::Retired => self.retired = self.retired.max(retired_below(payload)),
            Kind::Other => {}
        }
    }

    /// Takes the copies of an entry whose payload begins at `at`.
    fn take_copies(&mut self, at: u64, payload: &Bytes) {
        assert!(at <= u64::from(u32::MAX), "segments are below 4 GiB");
        let copies = salvage::copies(payload);
        if copies.is_empty() {
            self.note(at, payload.len() as u64, "an entry of copies", Vec::new());
        }
        for copied in copies {
            let (Copied::Whole(copy) | Copied::Damaged(copy)) = copied else {
                self.note(at, payload.len() as u64, "which message a copy is of", Vec::new());
                continue;
            };
            let Moved { topic, queue, offset, stored, bytes, .. } = copy;
            let record_at = at + u64::from(copy.at);
            let segment = self.segment.segment();
            let (at_in, released) = (record_at as u32, false);
            let place = RecordPlace { segment, offset: at_in, bytes, stored, released };
            self.queues.add_copy((topic, queue, offset), &place);
            self.counts.records += 1;
            if copied == Copied::Damaged(copy) {
                let lost = Span { topic, queue, from: offset, to: QueueOffset(offset.0 + 1) };
                self.note(record_at, bytes.into(), "a copy of a message", vec![lost]);
                continue;
            }
            let record = payload.slice(copy.at as usize..(copy.at + bytes) as usize);
            self.give(&RecordView { topic, queue, offset, place, bytes: &record }, &record);
        }
    }

    /// A message that holds: to the parts of the key index, and to who looks.
    fn give(&mut self, view: &RecordView<'_>, record: &Bytes) {
        for part in &mut self.keys {
            part.take(view);
        }
        self.show_record(view.place.offset.into(), Some(view.offset), record);
    }

    fn show_record(&mut self, at: u64, offset: Option<QueueOffset>, record: &Bytes) {
        if self.visit.is_some() {
            let position = self.position(at);
            let record = Record::parse(record.clone()).expect("it was checked just now");
            self.show(Line::Record { position, offset, record });
        }
    }

    /// Takes the parked records of an entry whose payload begins at `at`.
    fn take_carried(&mut self, at: u64, payload: &Bytes) {
        assert!(at <= u64::from(u32::MAX), "segments are below 4 GiB");
        let carried = salvage::carried(payload);
        if carried.is_empty() {
            self.note(at, payload.len() as u64, "an entry of waiting messages", Vec::new());
        }
        for copied in carried {
            match copied {
                Copied::Whole(CarriedOn { bytes: 0, .. }) => {}
                Copied::Whole(CarriedOn { at: begin, bytes, .. }) => {
                    self.counts.parked += 1;
                    let record = payload.slice(begin as usize..(begin + bytes) as usize);
                    self.show_record(at + u64::from(begin), None, &record);
                }
                Copied::Damaged(CarriedOn { at: begin, bytes, .. }) => {
                    let record_at = at + u64::from(begin);
                    self.note(record_at, bytes.into(), "a waiting message", Vec::new());
                }
                Copied::Unknown => {
                    let what = "which message it is that waits";
                    self.note(at, payload.len() as u64, what, Vec::new());
                }
            }
        }
    }

    /// Takes the releases of an entry whose payload begins at `at`.
    fn take_releases(&mut self, at: u64, entry: &Entry, stored_delta_ms: u32) {
        assert!(at <= u64::from(u32::MAX), "segments are below 4 GiB");
        let mut given = 0_u64;
        let walked = entry.each_record(|found| {
            let EntryRecord { topic, queue, bytes, refers_to, .. } = found;
            let offset = found.queue_offset.expect("a release gives a place");
            let release_at = at + u64::from(found.offset);
            given += 1;
            if let Some(gap) = self.queues.seek(topic, queue, offset) {
                self.gap(release_at, gap);
            }
            self.counts.records += 1;
            let place = self.place(release_at, bytes, stored_delta_ms, true);
            self.queues.add(IndexEntry::new(bytes, true, place.offset, stored_delta_ms));
            self.refers_from = [self.refers_from, refers_to].into_iter().flatten().min();
            self.take_release(entry, (topic, queue, offset), found.offset as usize, &place);
        });
        if walked.is_err() {
            self.lose_rest(at, entry, given, "the rest of an entry of releases");
        }
    }

    /// Takes one release: what its readers get belongs to the key index.
    fn take_release(
        &mut self,
        entry: &Entry,
        (topic, queue, offset): (TopicId, QueueIndex, QueueOffset),
        begin: usize,
        place: &RecordPlace,
    ) {
        if !self.keys.is_empty() {
            match read::records(self.disk, std::slice::from_ref(place)) {
                Ok(record) => {
                    let (bytes, place) = (&record[0][..], *place);
                    let view = RecordView { topic, queue, offset, place, bytes };
                    self.keys.iter_mut().for_each(|part| part.take(&view));
                }
                // Another segment is damaged, of which its own walk tells.
                Err(_) => self.keys_are_known = false,
            }
        }
        if self.visit.is_some() {
            let release = Release::take(&mut entry.payload.slice(begin..));
            let release = &release.expect("it was read just now");
            let position = self.position(place.offset.into());
            self.show(Line::Release { position, offset, release });
        }
    }

    fn place(&self, at: u64, bytes: u32, stored_delta_ms: u32, released: bool) -> RecordPlace {
        assert!(at <= u64::from(u32::MAX), "segments are below 4 GiB");
        let stored = self.stored_base.plus_ms(stored_delta_ms.into());
        let (segment, offset) = (self.segment.segment(), at as u32);
        RecordPlace { segment, offset, bytes, stored, released }
    }

    /// Takes the messages of a batch that begins at `at`.
    fn take_batch(&mut self, at: u64, entry: &Entry, stored_delta_ms: u32) {
        let batch = &entry.payload;
        assert!(at <= u64::from(u32::MAX), "segments are below 4 GiB");
        if parse_header(batch).is_err() {
            self.note(at, batch.len().min(48) as u64, "the header of a batch", Vec::new());
        }
        let mut given = 0;
        let walked = entry.each_record(|found| {
            given += 1;
            self.take_record(at, batch, &found, stored_delta_ms);
        });
        if walked.is_err() {
            let rows: Vec<PlacedRun> = entry.placements.iter().collect();
            self.take_left(at, batch, (&rows, given), stored_delta_ms);
        }
    }

    /// Takes a message of the batch that begins at `at`.
    fn take_record(&mut self, at: u64, batch: &Bytes, found: &EntryRecord, stored_delta_ms: u32) {
        let EntryRecord { topic, queue, queue_offset, bytes, .. } = *found;
        let record_at = at + u64::from(found.offset);
        if let Some(gap) = queue_offset.and_then(|offset| self.queues.seek(topic, queue, offset)) {
            self.gap(record_at, gap);
        }
        let record = batch.slice(found.offset as usize..(found.offset + bytes) as usize);
        if Record::check(&record).is_err() {
            let lost = queue_offset.map(|from| {
                self.queues.skip(1);
                Span { topic, queue, from, to: QueueOffset(from.0 + 1) }
            });
            self.note(record_at, bytes.into(), "a message", lost.into_iter().collect());
            return;
        }
        let Some(offset) = queue_offset else {
            self.counts.parked += 1;
            return self.show_record(record_at, None, &record);
        };
        let place = self.place(record_at, bytes, stored_delta_ms, false);
        self.queues.add(IndexEntry::new(bytes, false, place.offset, stored_delta_ms));
        self.counts.records += 1;
        self.give(&RecordView { topic, queue, offset, place, bytes: &record }, &record);
    }

    /// Takes those messages of a damaged batch that are left, but for the first `given`.
    fn take_left(
        &mut self,
        at: u64,
        batch: &Bytes,
        (rows, given): (&[PlacedRun], usize),
        stored_delta_ms: u32,
    ) {
        let (mut lost, mut is_lost) = (Vec::<Span>::new(), false);
        let numbered = salvage::numbered(batch, rows);
        assert!(given <= numbered.len(), "only those that the placements name were given");
        for (row, record) in numbered.into_iter().skip(given) {
            let PlacedRun { topic, queue, first: queue_offset, .. } = row;
            if let Some((offset, bytes)) = record {
                let refers_to = None;
                let found = EntryRecord { topic, queue, queue_offset, offset, bytes, refers_to };
                self.take_record(at, batch, &found, stored_delta_ms);
                continue;
            }
            is_lost = true;
            let Some(from) = queue_offset else { continue };
            if let Some(gap) = self.queues.seek(topic, queue, from) {
                self.gap(at, gap);
            }
            self.queues.skip(1);
            let to = QueueOffset(from.0 + 1);
            let follows =
                |last: &&mut Span| (last.topic, last.queue, last.to) == (topic, queue, from);
            match lost.last_mut().filter(follows) {
                Some(last) => last.to = to,
                None => lost.push(Span { topic, queue, from, to }),
            }
        }
        if is_lost {
            self.note(at, batch.len() as u64, "messages of a batch", lost);
        }
    }

    /// The releases of an entry after the first `given` cannot be told from each other.
    fn lose_rest(&mut self, at: u64, entry: &Entry, given: u64, what: &'static str) {
        let mut left = given;
        let mut lost = Vec::new();
        for run in entry.placements.iter() {
            let count = u64::from(run.count);
            let here = left.min(count);
            left -= here;
            if here < count
                && let Some((from, to)) = run.offset(here).zip(run.offset(count))
            {
                let (topic, queue) = (run.topic, run.queue);
                // What lies before was told already.
                let _ = self.queues.seek(topic, queue, from);
                self.queues.skip(count - here);
                lost.push(Span { topic, queue, from, to });
            }
        }
        assert_eq!(left, 0, "only those that the placements name were given");
        self.note(at, entry.payload.len() as u64, what, lost);
    }

    /// Messages that should lie before `at` do not: what was damaged there held them.
    fn gap(&mut self, at: u64, gap: Span) {
        assert!(gap.from < gap.to, "a gap takes a message");
        match self.damage.last_mut() {
            Some(damage) => damage.lost.push(gap),
            None => self.note(at, 0, "messages before this place are missing", vec![gap]),
        }
    }
}
