//! Finding the end of a log and putting it in order.
//!
//! ```text
//!   sealed below the checkpoint   sealed since        active             prepared
//!   directory of the sidecar      scanned, entries    scanned, entries   kept when all zero,
//!   (or scanned)                  handed out          handed out, torn   removed otherwise
//!                                                     tail zeroed
//! ```
use std::collections::BTreeMap;

use yard_wire::codec::Malformed;
use yard_wire::release::Target;
use yard_wire::requests::Placed;
use yard_wire::{GroupNumber, LogPos};

use super::scan::{SegmentReader, Tail, ValidGroup, disk_error};
use super::{Opened, Recovered, Repair, heads, sidecars};
use crate::config::{FIRST_ZERO_BYTES, StoreConfig};
use crate::disk::{Disk, FileName};
use crate::error::{Corrupt, OpenError};
use crate::format::checkpoint::Checkpoint;
use crate::format::entry::{self, Entry};
use crate::format::group;
use crate::format::segment::{self, SegmentHeader};
use crate::format::sidecar::IndexEntry;
use crate::index::{Misfit, QueueIndexes};
use crate::store::{Active, Cursor, Placing, Resumed, Sealing, Store, new_segment, sidecar_header};

const FIRST_GROUP_AT: u64 = segment::HEADER_BYTES as u64;
/// Zeros that are written at once over a torn tail.
const ZERO_BYTES: usize = 1 << 20;

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

pub(super) struct Opening<'a> {
    pub(super) disk: &'a dyn Disk,
    pub(super) config: StoreConfig,
    pub(super) checkpoint: Option<&'a Checkpoint>,
    pub(super) on_entry: OnEntry<'a>,
    pub(super) index: QueueIndexes,
    pub(super) cursor: Cursor,
    pub(super) repairs: Vec<Repair>,
    pub(super) unsaved: BTreeMap<u32, Sealing>,
}

impl Opening<'_> {
    pub(super) fn run(mut self) -> Result<Opened, OpenError> {
        let names = self.disk.list().map_err(|source| OpenError::List { source })?;
        if names.contains(&FileName::Checkpoint) && self.checkpoint.is_none() {
            self.repairs.push(Repair::CheckpointIgnored);
        }
        let mut heads = heads::read_all(self.disk, &self.config, &names, &mut self.repairs)?;
        let derived = |name: &FileName| match name {
            FileName::Index(_) | FileName::Checkpoint => true,
            FileName::Segment(_) => false,
        };
        if heads.is_empty() && names.iter().any(derived) {
            return Err(OpenError::Missing { segment: 0 });
        }
        if heads.is_empty() {
            heads.push(self.create_first()?);
        }
        let scan_from = self.load_sealed(&heads)?;
        let Scanned { begun: mut sealed, idle } = self.scan_rest(&heads, scan_from)?;
        let last = sealed.pop().expect("a scan finds the active segment");
        self.check_checkpoint_reached(&last)?;
        self.check_sidecars_after(&names, &heads, &last)?;
        self.mend_tail(&last)?;
        let (active, next) = self.settle_segments(&last, &idle)?;
        for end in &sealed {
            let active = Active { header: end.header, tail: end.offset, begun: true };
            self.save_index(&active, &end.cursor)?;
        }
        self.index.commit_all();
        Ok(self.finish(active, next, &heads))
    }

    fn finish(
        self,
        active: Active,
        next: Option<SegmentHeader>,
        heads: &[SegmentHeader],
    ) -> Opened {
        let checkpoint = self.checkpoint.map_or((LogPos(0), 0), |saved| {
            let base = heads[saved.segment as usize].base.0;
            (LogPos(base + saved.offset), saved.state.len() as u64)
        });
        let Self { config, cursor, index, unsaved, repairs, .. } = self;
        let found = Resumed { config, active, next, cursor, index, checkpoint, unsaved };
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
        let scan_from = self.checkpoint.map_or(0, |saved| saved.segment as usize);
        if scan_from >= heads.len() {
            return Err(OpenError::Missing { segment: heads.len() as u32 });
        }
        for (index, head) in heads[..scan_from].iter().enumerate() {
            if self.load_one(head, &heads[index + 1])? {
                continue;
            }
            let end = self.scan(head)?;
            let begun = self.index.stored_base(head.segment).is_some();
            if !begun || end.tail.header_at.is_some() {
                let what = "a group below the checkpoint";
                return Err(Corrupt { segment: head.segment, offset: end.offset, what }.into());
            }
            let active = Active { header: *head, tail: end.offset, begun: true };
            self.save_index(&active, &end.cursor)?;
        }
        Ok(scan_from)
    }

    fn load_one(&mut self, head: &SegmentHeader, next: &SegmentHeader) -> Result<bool, OpenError> {
        let Some((sidecar, lines)) = sidecars::read(self.disk, head)? else {
            return Ok(false);
        };
        if sidecar.last_group.0 < self.cursor.next_group
            || !sidecars::is_followed_by(self.disk, &sidecar, next)?
            || self.index.load(&sidecar, &lines).is_err()
        {
            return Ok(false);
        }
        self.cursor = sidecars::cursor_after(&sidecar);
        Ok(true)
    }

    fn save_index(&mut self, active: &Active, cursor: &Cursor) -> Result<(), OpenError> {
        let header = sidecar_header(active, cursor, &self.index);
        let left = sidecars::ensure(self.disk, &header, &mut self.index, &mut self.repairs)?;
        if let Some(sealing) = left {
            self.unsaved.insert(header.segment, sealing);
        }
        Ok(())
    }

    /// Scans the segments from the checkpoint's on. The first of a log may hold no group.
    fn scan_rest(&mut self, heads: &[SegmentHeader], from: usize) -> Result<Scanned, OpenError> {
        let mut begun: Vec<End> = Vec::new();
        let mut idle: Vec<End> = Vec::new();
        for head in &heads[from..] {
            let before = self.cursor.next_group;
            let end = self.scan(head)?;
            let holds_groups = self.cursor.next_group > before;
            if end.tail.header_at.is_some() || (holds_groups && !idle.is_empty()) {
                // A later group at the very front: then the last one of the segment before is
                // what is damaged.
                let front = end.tail.header_at == Some(FIRST_GROUP_AT);
                let place = begun.last().filter(|_| front).unwrap_or(&end);
                let (segment, offset) = (place.header.segment, place.offset);
                let what = "a group that later ones follow";
                return Err(Corrupt { segment, offset, what }.into());
            }
            let list = if holds_groups || begun.is_empty() { &mut begun } else { &mut idle };
            list.push(end);
        }
        assert!(!begun.is_empty(), "there is a segment to scan");
        Ok(Scanned { begun, idle })
    }

    /// Reads the valid groups of one segment and looks at what lies behind them.
    fn scan(&mut self, head: &SegmentHeader) -> Result<End, OpenError> {
        let mut reader = SegmentReader::new(self.disk, *head);
        let (mut last_at, mut offset) = (FIRST_GROUP_AT, FIRST_GROUP_AT);
        while let Some(group) = reader.group(offset, &self.cursor)? {
            self.take_group(head.segment, offset, &group)?;
            last_at = offset;
            offset += group.header.total_bytes() as u64;
        }
        let tail = reader.tail(offset, GroupNumber(self.cursor.next_group))?;
        Ok(End { header: *head, last_at, offset, cursor: self.cursor, tail })
    }

    /// Takes in a valid group: hands out its entries, indexes its records, moves the cursor.
    fn take_group(
        &mut self,
        segment: u32,
        offset: u64,
        group: &ValidGroup,
    ) -> Result<(), OpenError> {
        let header = &group.header;
        let corrupt = |what| Corrupt { segment, offset, what };
        assert_eq!(header.group.0, self.cursor.next_group, "the reader asked for the next one");
        let base = self.index.stored_base(segment).unwrap_or(header.stored);
        if offset == FIRST_GROUP_AT {
            self.index.begin_segment(segment, base);
        }
        let delta = u32::try_from(header.stored.0 - base.0)
            .map_err(|_| corrupt("the group is much younger than its segment"))?;
        let entries = self.take_entries(segment, offset, delta, group)?;
        if entries != header.entries {
            return Err(corrupt("the group does not hold as many entries as it says").into());
        }
        let other = |saved: &Checkpoint| saved.group == header.group && saved.chain != group.chain;
        if self.checkpoint.is_some_and(other) {
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
            if wanted {
                let Entry { kind, tenant, payload, placements: _ } = entry;
                let (group, stored) = (header.group, header.stored);
                let recovered = Recovered { group, kind, tenant, payload, placed, parked, stored };
                (self.on_entry)(recovered).map_err(malformed)?;
            }
        }
        Ok(entries)
    }

    /// Puts the records of the entry at `at` into the index, at the offsets that the log says they
    /// have; returns where they went, and where those lie that have none.
    fn place_entry(
        &mut self,
        segment: u32,
        at: u64,
        stored_delta_ms: u32,
        entry: &Entry,
    ) -> Result<(Vec<Placed>, Vec<Target>), Malformed> {
        let payload_at = at as u32 + entry.payload_at() as u32;
        let (mut entries, mut parked) = (Vec::new(), Vec::new());
        let mut refers_from: Option<u32> = None;
        entry.each_record(|record| {
            let (offset, bytes) = (payload_at + record.offset, record.bytes);
            let released = record.refers_to.is_some();
            match record.queue_offset {
                Some(_) => {
                    entries.push(IndexEntry::new(bytes, released, offset, stored_delta_ms));
                }
                None => parked.push(Target { segment, offset, bytes, released }),
            }
            refers_from = [refers_from, record.refers_to].into_iter().flatten().min();
        })?;
        if let Some(to) = refers_from {
            let value = to.into();
            if to > segment {
                return Err(Malformed::Field { what: "segment of a release", value });
            }
            self.index.refer(segment, to);
        }
        let mut entries = entries.into_iter();
        let mut placing = Placing::begin(&mut self.index);
        for run in entry.placements.iter() {
            let Some(first) = run.first else { continue };
            let slot = self.index.slot(run.topic, run.queue);
            let value = first.0;
            self.index
                .skip_to(slot, segment, first)
                .map_err(|Misfit| Malformed::Field { what: "offset of a placement", value })?;
            placing.place(&mut self.index, run.topic, run.queue, run.count);
            self.index.add(slot, segment, entries.by_ref().take(run.count as usize));
        }
        assert!(entries.next().is_none(), "every record is of a run");
        Ok((placing.placed, parked))
    }

    /// A checkpoint is written after its group was synced: the log cannot end before.
    fn check_checkpoint_reached(&self, last: &End) -> Result<(), OpenError> {
        let reached = |saved: &Checkpoint| saved.group.0 < self.cursor.next_group;
        if self.checkpoint.is_none_or(reached) {
            return Ok(());
        }
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
            let Some(head) = heads.get(segment as usize) else {
                return Err(OpenError::Missing { segment });
            };
            let said = sidecars::read_header(self.disk, head)?;
            if said.is_some_and(|(said, _)| said.last_group.0 >= self.cursor.next_group) {
                let (segment, offset) = (last.header.segment, last.offset);
                let what = "a group that was sealed";
                return Err(Corrupt { segment, offset, what }.into());
            }
            self.disk.remove(*name).map_err(disk_error(*name))?;
        }
        Ok(())
    }

    /// Zeroes what lies behind the last group, and makes everything before it durable.
    fn mend_tail(&mut self, last: &End) -> Result<(), OpenError> {
        let name = FileName::Segment(last.header.segment);
        let end = last.tail.dirty_end;
        if end > last.offset {
            let bytes = end - last.offset;
            let zeros = vec![0; ZERO_BYTES.min(bytes as usize)];
            let mut at = last.offset;
            while at < end {
                let count = (end - at).min(ZERO_BYTES as u64);
                let zeros = &zeros[..count as usize];
                self.disk.write_at(name, at, zeros).map_err(disk_error(name))?;
                at += count;
            }
            let segment = last.header.segment;
            self.repairs.push(Repair::TailZeroed { segment, offset: last.offset, bytes });
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
        self.disk.read_at(name, last.last_at, &mut bytes).map_err(disk_error(name))?;
        self.disk.write_at(name, last.last_at, &bytes).map_err(disk_error(name))
    }

    /// The segment that goes on being written, and the one after it if it can be used as it is.
    fn settle_segments(
        &mut self,
        last: &End,
        idle: &[End],
    ) -> Result<(Active, Option<SegmentHeader>), OpenError> {
        let begun = self.cursor.next_group > 0;
        let mut header = last.header;
        let resized = !begun && header.capacity != self.config.segment_bytes;
        let mut next = None;
        for end in idle.iter().rev() {
            let head = end.header;
            let fits = head.capacity == self.config.segment_bytes && !resized;
            let clean = end.tail.dirty_end == FIRST_GROUP_AT;
            if head.segment == header.segment + 1 && fits && clean {
                next = Some(head);
                continue;
            }
            let name = FileName::Segment(head.segment);
            self.disk.remove(name).map_err(disk_error(name))?;
            self.repairs.push(Repair::SegmentRemoved { segment: head.segment });
        }
        if resized {
            header = self.create_first()?;
        }
        Ok((Active { header, tail: last.offset, begun }, next))
    }
}
