//! Finding the end of a log and putting it in order.
//!
//! ```text
//!   sealed below the checkpoint   sealed since        active             prepared
//!   directory of the sidecar      scanned, entries    scanned, entries   kept when all zero,
//!   (or scanned)                  handed out          handed out, torn   removed otherwise
//!                                                     tail zeroed
//! ```
use std::collections::BTreeMap;

use bytes::Bytes;
use yard_wire::codec::Malformed;
use yard_wire::release::Target;
use yard_wire::requests::Placed;
use yard_wire::{LogPos, QueueOffset};

use super::quarantine::Verdict;
use super::scan::{SegmentReader, Tail, ValidGroup, disk_error};
use super::{Lost, Opened, Parked, Recovered, Repair, cut, heads, read_checkpoint, sidecars};
use crate::config::{FIRST_ZERO_BYTES, StoreConfig};
use crate::derived::KeyIndex;
use crate::disk::{Disk, FileName, PatientDisk, Unreadable};
use crate::error::{Corrupt, OpenError};
use crate::format::checkpoint::Checkpoint;
use crate::format::entry::{self, Entry, EntryRecord, PlacedRun};
use crate::format::group;
use crate::format::retire::{
    CARRIED, MOVED, Moved, RETIRED, RetiredPieces, SNAPSHOT, decode_copies,
};
use crate::format::segment::{self, SegmentHeader};
use crate::format::sidecar::IndexEntry;
use crate::index::{Misfit, QueueIndexes, Slot};
use crate::io::remove_segment;
use crate::kept::Carried;
use crate::store::{Active, Cursor, Placing, Resumed, Sealing, Store, new_segment, sidecar_header};

pub(super) const FIRST_GROUP_AT: u64 = segment::HEADER_BYTES as u64;
/// Zeros that are written at once over a torn tail.
const ZERO_BYTES: usize = 1 << 20;

fn unreadable(found: Unreadable) -> Repair {
    let segment = found.name.segment().expect("a file of a segment");
    assert!(found.bytes > 0, "a block has bytes");
    let (what, lost) = ("the disk cannot read this", Vec::new());
    Repair::Quarantined { segment, offset: found.offset, bytes: found.bytes, what, lost }
}

type OnEntry<'a> = &'a mut dyn FnMut(Recovered) -> Result<(), Malformed>;

/// Where the groups of a segment end, and the cursor there.
#[derive(Clone, Copy)]
struct End {
    header: SegmentHeader,
    /// Where the last group begins; the same as `offset` when there is none.
    last_at: u64,
    offset: u64,
    cursor: Cursor,
    tail: Tail,
}

/// The segments that were scanned, in order.
struct Scanned {
    /// Those that hold groups; of an empty log its first one. The last is the active one.
    begun: Vec<End>,
    /// Those after, which hold none.
    idle: Vec<End>,
}

/// Where the records of an entry went, queue by queue, and those that are parked.
pub(super) type Placements = (Vec<Placed>, Vec<Parked>);

/// A record of an entry, or a release.
#[derive(Clone, Copy)]
pub(super) struct Lying {
    /// Byte offset in the payload.
    pub(super) offset: u32,
    /// Bytes of the record as its readers get it.
    pub(super) bytes: u32,
    /// Of a release: the segment that it refers to.
    pub(super) refers_to: Option<u32>,
}

/// A batch or releases in the log, and where the records are: `None` for one that is lost.
pub(super) struct PlacedRecords {
    pub(super) segment: u32,
    /// Byte offset of the payload in the segment.
    pub(super) payload_at: u32,
    pub(super) payload: Bytes,
    pub(super) stored_delta_ms: u32,
    pub(super) rows: Vec<PlacedRun>,
    pub(super) records: Vec<Option<Lying>>,
}

impl PlacedRecords {
    fn parked(&self, lying: &Lying) -> Parked {
        let Lying { offset, bytes, refers_to } = *lying;
        assert!(refers_to.is_none(), "a release has its place");
        let at = self.payload_at + offset;
        let target = Target { segment: self.segment, offset: at, bytes, released: false };
        let begin = offset as usize;
        Parked { target, record: self.payload.slice(begin..begin + bytes as usize) }
    }
}

/// Where the parked records of the entry at `at` lie, if it is one of those that were carried on.
pub(super) fn carried_in(segment: u32, at: u64, entry: &Entry) -> Result<Vec<Carried>, Malformed> {
    if entry.kind != CARRIED {
        return Ok(Vec::new());
    }
    let payload_at = at as u32 + entry.payload_at() as u32;
    let rows = decode_copies(&entry.payload)?.into_iter();
    Ok(rows.map(|copy| Carried::at(segment, payload_at, &copy)).collect())
}

pub(super) struct Opening<'a> {
    pub(super) disk: &'a PatientDisk<'a>,
    pub(super) config: StoreConfig,
    pub(super) checkpoint: Option<&'a Checkpoint>,
    pub(super) on_entry: OnEntry<'a>,
    pub(super) index: QueueIndexes,
    pub(super) cursor: Cursor,
    pub(super) repairs: Vec<Repair>,
    pub(super) unsaved: BTreeMap<u32, Sealing>,
    /// The segments that hold groups, with the byte after the last.
    pub(super) ends: Vec<(SegmentHeader, u32)>,
    /// Segments without a group: whether they held any, a later group says.
    pub(super) bare: Vec<u32>,
    /// The chain of the last group is lost: the next one says it.
    pub(super) chain_is_unknown: bool,
    /// An entry was lost that may have held copies of records.
    pub(super) lacks_copies: bool,
    /// The first segment that was not retired.
    pub(super) begins: u32,
    pub(super) retired: RetiredPieces,
}

impl Opening<'_> {
    /// The checkpoint's file is whole, but the log begins behind it and has the state itself: those
    /// after it could not be written.
    fn has_old_checkpoint(&self) -> Result<bool, OpenError> {
        let in_file = read_checkpoint(self.disk, self.config.shard)?;
        Ok(self.checkpoint.is_some() && in_file.is_some())
    }

    pub(super) fn run(mut self) -> Result<Opened, OpenError> {
        let names = self.disk.list().map_err(|source| OpenError::List { source })?;
        let is_used = self.checkpoint.is_some_and(|saved| !saved.is_from_log);
        if names.contains(&FileName::Checkpoint) && !is_used && !self.has_old_checkpoint()? {
            self.repairs.push(Repair::CheckpointIgnored);
        }
        let (disk, saved) = (self.disk, self.checkpoint);
        let mut heads = heads::read_all(disk, &self.config, &names, saved, &mut self.repairs)?;
        let derived = |name: &FileName| match name {
            FileName::Index(_) | FileName::Keys { .. } | FileName::Checkpoint => true,
            FileName::Segment(_) => false,
        };
        if heads.is_empty() && names.iter().any(derived) {
            yard_wire::mark!(RecoveryLogGone);
            return Err(OpenError::Missing { segment: 0 });
        }
        if heads.is_empty() {
            yard_wire::mark!(RecoveryCreated);
            heads.push(self.create_first()?);
        }
        self.begin_where_the_log_does(&mut heads)?;
        let scan_from = self.load_sealed(&heads)?;
        let Scanned { begun: mut sealed, idle } = self.scan_rest(&heads, scan_from)?;
        let last = sealed.pop().expect("a scan finds the active segment");
        self.check_checkpoint_reached(&last)?;
        self.check_sidecars_after(&names, &heads, &last)?;
        if heads[0].segment > self.begins {
            yard_wire::mark!(RecoveryFirstGone);
            return Err(OpenError::Missing { segment: self.begins });
        }
        self.mend_tail(&last, &names)?;
        let (active, next) = self.settle_segments(&last, &idle, &names)?;
        let begins = self.begins;
        for end in sealed.iter().filter(|end| end.header.segment >= begins) {
            let active = Active { header: end.header, tail: end.offset, begun: true };
            self.save_index(&active, &end.cursor)?;
        }
        self.miss_copies();
        self.index.commit_all();
        self.remove_retired(&names)?;
        Ok(self.finish(active, next, &heads, &names))
    }

    fn finish(
        self,
        active: Active,
        next: Option<SegmentHeader>,
        heads: &[SegmentHeader],
        names: &[FileName],
    ) -> Opened {
        let checkpoint = self.checkpoint.map_or((LogPos(0), 0), |saved| {
            let base = heads.iter().find(|head| head.segment == saved.segment);
            let base = base.expect("the checkpoint's segment was scanned").base.0;
            (LogPos(base + saved.offset), saved.state.len() as u64)
        });
        let snapshot = self.checkpoint.and_then(|saved| saved.snapshot);
        let Self { disk, config, cursor, index, unsaved, mut repairs, begins, ends, .. } = self;
        // Of files that follow from the log it is enough that they were made again.
        let log = |it: &Unreadable| matches!(it.name, FileName::Segment(_));
        repairs.extend(disk.unreadable().into_iter().filter(log).map(unreadable));
        // What was said about a retirement after the checkpoint is not known to be all.
        let snapshot = snapshot.filter(|segment| *segment >= begins);
        let kept = ends.into_iter().filter(|(head, _)| head.segment >= begins);
        let keys = KeyIndex::open(disk, names, kept);
        let places = (begins, snapshot);
        let found =
            Resumed { config, active, next, cursor, index, checkpoint, unsaved, keys, places };
        let mut io = Vec::new();
        let store = Store::resume(found, &mut io);
        Opened { store, io, repairs }
    }

    fn create_first(&self) -> Result<SegmentHeader, OpenError> {
        let head = new_segment(&self.config, 0, LogPos(0));
        let name = FileName::Segment(0);
        self.disk
            .create_segment(name, &head.encode(), head.capacity, FIRST_ZERO_BYTES)
            .map_err(disk_error(name))?;
        Ok(head)
    }

    /// Loads or rebuilds the index of every segment below the checkpoint's; returns the first
    /// segment to scan.
    fn load_sealed(&mut self, heads: &[SegmentHeader]) -> Result<usize, OpenError> {
        let first = heads[0].segment;
        let scan_from = self.checkpoint.map_or(first, |saved| saved.segment);
        let scan_from = scan_from.checked_sub(first).expect("older ones are not used") as usize;
        if scan_from >= heads.len() {
            yard_wire::mark!(RecoveryCheckpointGone);
            return Err(OpenError::Missing { segment: first + heads.len() as u32 });
        }
        for (index, head) in heads[..scan_from].iter().enumerate() {
            if self.load_one(head, &heads[index + 1])? {
                continue;
            }
            let end = self.scan(heads, index)?;
            self.begin(head.segment, self.cursor.stored);
            let active = Active { header: *head, tail: end.offset, begun: true };
            self.save_index(&active, &end.cursor)?;
        }
        Ok(scan_from)
    }

    fn load_one(&mut self, head: &SegmentHeader, next: &SegmentHeader) -> Result<bool, OpenError> {
        let Some((sidecar, lines)) = sidecars::read(self.disk, head)? else {
            yard_wire::mark!(SidecarAbsent);
            return Ok(false);
        };
        let name = FileName::Segment(head.segment);
        let bytes = self.disk.len(name).map_err(disk_error(name))?;
        if sidecar.last_group.0 < self.cursor.next_group
            || bytes < sidecar.end
            || !sidecars::is_followed_by(self.disk, &sidecar, next)?
            || self.index.load(&sidecar, &lines).is_err()
        {
            yard_wire::mark!(SidecarUnfit);
            return Ok(false);
        }
        yard_wire::mark!(SidecarLoaded);
        self.cursor = sidecars::cursor_after(&sidecar);
        self.note_end(head, sidecar.end);
        Ok(true)
    }

    fn save_index(&mut self, active: &Active, cursor: &Cursor) -> Result<(), OpenError> {
        if cursor.next_group == 0 {
            yard_wire::mark!(RecoveryFirstLost);
            // Every group of it was lost, and it was the first: nothing says what it held.
            return Ok(());
        }
        let header = sidecar_header(active, cursor, &self.index);
        let left = sidecars::ensure(self.disk, &header, &mut self.index, &mut self.repairs)?;
        if let Some(sealing) = left {
            yard_wire::mark!(SidecarUnsaved);
            self.unsaved.insert(header.segment, sealing);
        }
        Ok(())
    }

    /// Scans the segments from the checkpoint's on. The first of a log may hold no group.
    fn scan_rest(&mut self, heads: &[SegmentHeader], from: usize) -> Result<Scanned, OpenError> {
        let mut begun: Vec<End> = Vec::new();
        let mut idle: Vec<End> = Vec::new();
        for index in from..heads.len() {
            let before = self.cursor.next_group;
            let end = self.scan(heads, index)?;
            let holds_groups = self.cursor.next_group > before;
            if holds_groups {
                if !idle.is_empty() {
                    yard_wire::mark!(RecoverySegmentsLost);
                }
                // Every group of those between was lost.
                begun.append(&mut idle);
            } else {
                self.bare.push(end.header.segment);
            }
            let list = if holds_groups || begun.is_empty() { &mut begun } else { &mut idle };
            list.push(end);
        }
        assert!(!begun.is_empty(), "there is a segment to scan");
        Ok(Scanned { begun, idle })
    }

    /// Reads the valid groups of one segment and looks at what lies behind them.
    fn scan(&mut self, heads: &[SegmentHeader], at: usize) -> Result<End, OpenError> {
        let head = &heads[at];
        let mut reader = SegmentReader::new(self.disk, *head);
        let (mut last_at, mut offset) = (FIRST_GROUP_AT, FIRST_GROUP_AT);
        loop {
            self.learn_chain(&mut reader, offset)?;
            let end = match reader.group(offset, &self.cursor)? {
                Some(group) => {
                    self.take_group(head.segment, offset, &group)?;
                    offset + group.header.total_bytes() as u64
                }
                None => match self.quarantine(&mut reader, heads, at, offset)? {
                    Verdict::GoOn(end) => end,
                    Verdict::End(tail) => {
                        yard_wire::mark!(QuarantineNothingLater);
                        self.raise_ends(head, offset)?;
                        if offset > FIRST_GROUP_AT {
                            self.note_end(head, offset);
                        }
                        let (header, cursor) = (*head, self.cursor);
                        return Ok(End { header, last_at, offset, cursor, tail });
                    }
                },
            };
            assert!(end >= offset, "a scan goes forward");
            if end > offset {
                last_at = offset;
            }
            offset = end;
        }
    }

    fn note_end(&mut self, head: &SegmentHeader, end: u64) {
        let end = u32::try_from(end).expect("a segment is below 4 GiB");
        self.ends.push((*head, end));
    }

    /// Takes in a valid group: hands out its entries, indexes its records, moves the cursor.
    pub(super) fn take_group(
        &mut self,
        segment: u32,
        offset: u64,
        group: &ValidGroup,
    ) -> Result<(), OpenError> {
        let header = &group.header;
        let corrupt = |what| Corrupt { segment, offset, what };
        assert_eq!(header.group.0, self.cursor.next_group, "the reader asked for the next one");
        let base = self.begin(segment, header.stored);
        let delta = u32::try_from(header.stored.0 - base.0).map_err(|_| {
            yard_wire::mark!(RecoveryGroupYoung);
            corrupt("the group is much younger than its segment")
        })?;
        let entries = self.take_entries(segment, offset, delta, group)?;
        if entries != header.entries {
            yard_wire::mark!(RecoveryEntriesOther);
            return Err(corrupt("the group does not hold as many entries as it says").into());
        }
        let other = |saved: &Checkpoint| saved.group == header.group && saved.chain != group.chain;
        if self.checkpoint.is_some_and(other) {
            yard_wire::mark!(RecoveryChainOther);
            return Err(corrupt("the group is not the one that the checkpoint has seen").into());
        }
        self.cursor = Cursor {
            next_group: header.group.0 + 1,
            chain: group.chain,
            stored: header.stored,
            empty: header.entries == 0,
        };
        Ok(())
    }

    /// Returns how many entries the group at `offset` holds.
    fn take_entries(
        &mut self,
        segment: u32,
        offset: u64,
        stored_delta_ms: u32,
        group: &ValidGroup,
    ) -> Result<u32, OpenError> {
        let header = &group.header;
        let wanted = self.checkpoint.is_none_or(|saved| header.group > saved.group);
        let mut rest = group.payload.clone();
        let mut entries = 0;
        while !rest.is_empty() {
            let at = offset + (group::HEADER_BYTES + group.payload.len() - rest.len()) as u64;
            let malformed = |why| OpenError::Entry { segment, offset: at, why };
            let entry = entry::take_entry(&mut rest).map_err(malformed)?;
            entries += 1;
            let (mut placed, mut parked) = Default::default();
            if entry::has_placements(entry.kind) {
                (placed, parked) =
                    self.place_entry(segment, at, stored_delta_ms, &entry).map_err(malformed)?;
            }
            let is_own = self.take_own(segment, at, &entry).map_err(malformed)?;
            let carried = carried_in(segment, at, &entry).map_err(malformed)?;
            if wanted && (!is_own || !carried.is_empty()) {
                let Entry { kind, tenant, notes, payload, placements: _ } = entry;
                let (group, stored) = (header.group, header.stored);
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
            }
        }
        Ok(entries)
    }

    /// Takes in an entry of the store's own; false for any other.
    pub(super) fn take_own(
        &mut self,
        segment: u32,
        at: u64,
        entry: &Entry,
    ) -> Result<bool, Malformed> {
        match entry.kind {
            MOVED => {
                yard_wire::mark!(RecoveryCopies);
                let payload_at = at as u32 + entry.payload_at() as u32;
                for copy in decode_copies::<Moved>(&entry.payload)? {
                    let which = (copy.topic, copy.queue, copy.offset);
                    let place = (payload_at + copy.at, copy.bytes);
                    self.index.add_copy(which, copy.stored, segment, place);
                }
            }
            RETIRED => {
                if let Some((until, floors)) = self.retired.add(&entry.payload)?
                    && until <= segment
                {
                    yard_wire::mark!(RecoveryRetired);
                    let _ = self.index.retire(until, &floors);
                    self.begins = self.begins.max(until);
                }
            }
            SNAPSHOT | CARRIED => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The first segments of a log may have been retired. What a checkpoint says about where
    /// queues begin, and the first group that is there, stand for them.
    fn begin_where_the_log_does(
        &mut self,
        heads: &mut Vec<SegmentHeader>,
    ) -> Result<(), OpenError> {
        if let Some(saved) = self.checkpoint {
            self.begins = saved.begins;
            self.index.restore_floors(&saved.floors);
            heads.retain(|head| head.segment >= saved.begins);
        }
        let Some(first) = heads.first() else {
            yard_wire::mark!(RecoveryHeadsGone);
            return Err(OpenError::Missing { segment: self.begins });
        };
        if first.segment == 0 {
            return Ok(());
        }
        if self.checkpoint.is_none() {
            yard_wire::mark!(RecoveryStateGone);
            return Err(OpenError::Missing { segment: 0 });
        }
        yard_wire::mark!(RecoveryBeginsLate);
        self.index.begin_late();
        if let Some(cursor) = SegmentReader::new(self.disk, *first).first_cursor()? {
            self.cursor = cursor;
        }
        Ok(())
    }

    /// Files of retired segments that were not removed yet.
    fn remove_retired(&self, names: &[FileName]) -> Result<(), OpenError> {
        let mut gone: Vec<u32> = names.iter().filter_map(|name| name.segment()).collect();
        gone.retain(|segment| *segment < self.begins);
        gone.sort_unstable();
        gone.dedup();
        for segment in gone {
            yard_wire::mark!(RecoveryRetiredRemoved);
            let name = FileName::Segment(segment);
            remove_segment(self.disk, segment).map_err(disk_error(name))?;
        }
        Ok(())
    }

    /// Puts the records of the entry at `at` into the index, at the offsets that the log says they
    /// have; returns where they went, and where those lie that have none.
    pub(super) fn place_entry(
        &mut self,
        segment: u32,
        at: u64,
        stored_delta_ms: u32,
        entry: &Entry,
    ) -> Result<Placements, Malformed> {
        let mut records = Vec::new();
        entry.each_record(|record| {
            let EntryRecord { offset, bytes, refers_to, .. } = record;
            records.push(Some(Lying { offset, bytes, refers_to }));
        })?;
        let placed = PlacedRecords {
            segment,
            payload_at: at as u32 + entry.payload_at() as u32,
            payload: entry.payload.clone(),
            stored_delta_ms,
            rows: entry.placements.iter().collect(),
            records,
        };
        self.index_records(&placed)
    }

    /// Puts those records of an entry into the index that are left.
    pub(super) fn index_records(&mut self, entry: &PlacedRecords) -> Result<Placements, Malformed> {
        let PlacedRecords { segment, payload_at, stored_delta_ms, .. } = *entry;
        let mut placing = Placing::begin(&mut self.index);
        let mut parked = Vec::new();
        let mut records = entry.records.iter();
        for row in &entry.rows {
            let found = records.by_ref().take(row.count as usize);
            let Some(run) = row.placed() else {
                parked.extend(found.flatten().map(|lying| entry.parked(lying)));
                continue;
            };
            let slot = self.index.slot(run.topic, run.queue);
            let value = run.first.0;
            let misfit = |Misfit| Malformed::Field { what: "offset of a placement", value };
            self.skip(slot, segment, &run).map_err(misfit)?;
            placing.note(&mut self.index, slot, run.clone());
            let end = run.first.0 + u64::from(run.count);
            for (offset, record) in (run.first.0..end).zip(found) {
                let Some(lying) = record else { continue };
                self.skip(slot, segment, &Placed { first: QueueOffset(offset), ..run.clone() })
                    .map_err(misfit)?;
                self.index.assign(slot, 1);
                let is_release = lying.refers_to.is_some();
                let at = payload_at + lying.offset;
                let found = IndexEntry::new(lying.bytes, is_release, at, stored_delta_ms);
                self.index.add(slot, segment, [found]);
                self.refer(segment, lying.refers_to)?;
            }
            self.skip(slot, segment, &Placed { first: QueueOffset(end), ..run.clone() })
                .map_err(misfit)?;
        }
        Ok((placing.placed, parked))
    }

    /// Notes what a release refers to.
    fn refer(&mut self, segment: u32, to: Option<u32>) -> Result<(), Malformed> {
        match to {
            Some(to) if to > segment => {
                yard_wire::mark!(RecoveryRefersForward);
                Err(Malformed::Field { what: "segment of a release", value: to.into() })
            }
            Some(to) => {
                self.index.refer(segment, to);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Notes as lost what the queue of the run has no records of before it.
    fn skip(&mut self, slot: Slot, segment: u32, run: &Placed) -> Result<(), Misfit> {
        let count = self.index.skip_to(slot, segment, run.first)?;
        if count > 0 {
            yard_wire::mark!(RecoverySkipped);
            let from = QueueOffset(run.first.0 - u64::from(count));
            self.lost(Lost { topic: run.topic, queue: run.queue, from, to: run.first });
        }
        Ok(())
    }

    /// A checkpoint is written after its group was synced: the log cannot end before.
    fn check_checkpoint_reached(&self, last: &End) -> Result<(), OpenError> {
        let reached = |saved: &Checkpoint| {
            let ends = (saved.segment, saved.offset) <= (last.header.segment, last.offset);
            saved.group.0 < self.cursor.next_group && ends
        };
        if self.checkpoint.is_none_or(reached) {
            return Ok(());
        }
        yard_wire::mark!(RecoveryCheckpointAhead);
        let what = "a group that the checkpoint has seen";
        Err(Corrupt { segment: last.header.segment, offset: last.offset, what }.into())
    }

    /// A sidecar is written after its segment was sealed: it says that groups were durable. One
    /// of the active segment is removed, because it will not be true for long.
    fn check_sidecars_after(
        &self,
        names: &[FileName],
        heads: &[SegmentHeader],
        last: &End,
    ) -> Result<(), OpenError> {
        for name in names {
            let FileName::Index(segment) = *name else {
                continue;
            };
            if segment < last.header.segment {
                continue;
            }
            let Some(head) = heads.iter().find(|head| head.segment == segment) else {
                yard_wire::mark!(SidecarAlone);
                return Err(OpenError::Missing { segment });
            };
            let said = sidecars::read_header(self.disk, head)?;
            if said.is_some_and(|(said, _)| said.last_group.0 >= self.cursor.next_group) {
                let (segment, offset) = (last.header.segment, last.offset);
                yard_wire::mark!(SidecarAhead);
                let what = "a group that was sealed";
                return Err(Corrupt { segment, offset, what }.into());
            }
            yard_wire::mark!(SidecarOfActive);
            self.disk.remove(*name).map_err(disk_error(*name))?;
        }
        Ok(())
    }

    /// The header of a segment is written when its file has all its bytes: one that has fewer has
    /// lost them.
    fn report_cut(&mut self, end: &End, names: &[FileName]) -> Result<bool, OpenError> {
        let End { header, offset: from, .. } = *end;
        assert!(from >= FIRST_GROUP_AT, "groups lie behind the header");
        let name = FileName::Segment(header.segment);
        let there = self.disk.len(name).map_err(disk_error(name))?;
        if there >= header.capacity {
            return Ok(false);
        }
        yard_wire::mark!(RecoveryFileShort);
        let messages = cut::messages_from(self.disk, names, &header, from);
        let (segment, bytes) = (header.segment, header.capacity - there);
        self.repairs.push(Repair::FileCut { segment, offset: there, bytes, messages });
        Ok(true)
    }

    /// Zeroes what lies behind the last group, and makes everything before it durable. A file that
    /// has lost its end gets it back, as zeros.
    fn mend_tail(&mut self, last: &End, names: &[FileName]) -> Result<(), OpenError> {
        let name = FileName::Segment(last.header.segment);
        let there = self.disk.len(name).map_err(disk_error(name))?;
        let is_short = self.report_cut(last, names)?;
        let from = last.offset.min(there);
        let end = if is_short { last.header.capacity } else { last.tail.dirty_end };
        if end > from {
            let bytes = end - from;
            let zeros = vec![0; ZERO_BYTES.min(bytes as usize)];
            let mut at = from;
            while at < end {
                let count = (end - at).min(ZERO_BYTES as u64);
                let zeros = &zeros[..count as usize];
                self.disk.write_at(name, at, zeros).map_err(disk_error(name))?;
                at += count;
            }
        }
        let (segment, torn) = (last.header.segment, last.tail.dirty_end.saturating_sub(from));
        if torn > 0 {
            yard_wire::mark!(RecoveryTailZeroed);
            self.repairs.push(Repair::TailZeroed { segment, offset: from, bytes: torn });
        }
        self.write_last_group_again(last)?;
        self.disk.sync(name).map_err(disk_error(name))
    }

    /// After a failed sync the page cache may hold a group as clean that the device does not
    /// have; no later sync would write it. Groups before the last were synced without failure.
    fn write_last_group_again(&self, last: &End) -> Result<(), OpenError> {
        let name = FileName::Segment(last.header.segment);
        assert!(last.last_at <= last.offset, "groups lie one after another");
        let mut bytes = vec![0; (last.offset - last.last_at) as usize];
        match self.disk.read_exactly(name, last.last_at, &mut bytes) {
            Ok(()) => self.disk.write_at(name, last.last_at, &bytes).map_err(disk_error(name)),
            // Nobody knows what to write.
            Err(_) if self.disk.lacks(name, last.last_at, last.offset) => {
                yard_wire::mark!(RecoveryLastUnreadable);
                Ok(())
            }
            Err(error) => Err(disk_error(name)(error)),
        }
    }

    /// The segment that goes on being written, and the one after it if it can be used as it is.
    fn settle_segments(
        &mut self,
        last: &End,
        idle: &[End],
        names: &[FileName],
    ) -> Result<(Active, Option<SegmentHeader>), OpenError> {
        let begun = self.cursor.next_group > 0;
        let mut header = last.header;
        let resized = !begun && header.capacity != self.config.segment_bytes;
        let mut next = None;
        for end in idle.iter().rev() {
            let head = end.header;
            let fits = head.capacity == self.config.segment_bytes && !resized;
            let name = FileName::Segment(head.segment);
            let is_short = self.report_cut(end, names)?;
            let clean = end.tail.dirty_end == FIRST_GROUP_AT && !is_short;
            if head.segment == header.segment + 1 && fits && clean {
                yard_wire::mark!(RecoveryPreparedKept);
                next = Some(head);
                continue;
            }
            self.disk.remove(name).map_err(disk_error(name))?;
            yard_wire::mark!(RecoveryPreparedRemoved);
            self.repairs.push(Repair::SegmentRemoved { segment: head.segment });
        }
        if resized {
            yard_wire::mark!(RecoveryResized);
            header = self.create_first()?;
        }
        Ok((Active { header, tail: last.offset, begun }, next))
    }
}
