//! Closing a group: it gets its place, its chain and its checksums, and goes to the disk.
use bytes::Bytes;
use yard_wire::release::Target;
use yard_wire::{GroupNumber, Timestamp};

use super::{
    Active, Gather, GatheredRecord, InFlight, Next, Sealing, Stage, Store, following, header_of,
};
use crate::disk::IN_PLACE_BYTES_MIN;
use crate::format::sidecar::{IndexEntry, SidecarHeader};
use crate::format::{group, segment};
use crate::index::Slot;
use crate::io::Io;
use crate::kept::Carried;

impl Store {
    /// Closes the oldest gathered group and emits its write. Does nothing while another group is
    /// on its way to the disk, while the segment that it needs is not prepared, and when nothing
    /// is gathered; in this last case `allow_empty` closes an empty group, unless the last one is
    /// empty already. Returns the number of the closed group.
    ///
    /// Rolls to the next segment when the group does not fit: then also emits the index of the
    /// sealed segment and the preparation of the segment after.
    pub fn close_group(
        &mut self,
        now: Timestamp,
        allow_empty: bool,
        out: &mut Vec<Io>,
    ) -> Option<GroupNumber> {
        if self.fenced || self.in_flight.is_some() {
            return None;
        }
        if self.gathers.is_empty() {
            if !allow_empty || self.cursor.empty {
                return None;
            }
            let gather = self.begin_gather(now);
            self.gathers.push_back(gather);
            // An empty group that finds no place is not kept: the next entry may come first.
            if !self.make_place(out) {
                yard_wire::mark!(CloseEmptyDropped);
                self.gathers.clear();
                return None;
            }
        } else if !self.make_place(out) {
            return None;
        }
        let gather = self.gathers.pop_front().expect("pushed or found above");
        Some(self.write(gather, out))
    }

    /// Rolls when the oldest gather does not fit the active segment. False when it must wait.
    fn make_place(&mut self, out: &mut Vec<Io>) -> bool {
        let gather = self.gathers.front().expect("asked with a gather");
        let segment = self.active.header.segment;
        let base = self.index.stored_base(segment).unwrap_or(gather.stored);
        assert!(gather.stored >= base, "time does not decrease along the log");
        // Times in the index are written in 32 bits since the segment's first group.
        let expressible = gather.stored.0 - base.0 <= u64::from(u32::MAX);
        if gather.total_bytes() <= self.active.room() && expressible {
            return true;
        }
        match self.next {
            Next::Ready(header) => {
                yard_wire::mark!(CloseRolls);
                assert!(self.active.begun, "any group fits an empty segment");
                self.seal(out);
                let tail = segment::HEADER_BYTES as u64;
                self.active = Active { header, tail, begun: false };
                self.next = Next::Preparing(following(&self.config, &header));
                self.ask_for_next(out);
                true
            }
            Next::Preparing(_) | Next::Failed(_) => {
                yard_wire::mark!(CloseWaits);
                false
            }
        }
    }

    /// The active segment is full; every group in it is durable.
    fn seal(&mut self, out: &mut Vec<Io>) {
        assert!(self.in_flight.is_none(), "groups are closed one at a time");
        assert_eq!(self.synced_groups, self.cursor.next_group, "a sealed segment is durable");
        let header = sidecar_header(&self.active, &self.cursor, &self.index);
        let (index, places) = self.index.sidecar(header);
        out.push(Io::WriteIndex { segment: header.segment, index: index.clone() });
        let sealing = Sealing { index, places, failed: false };
        let before = self.sealing.insert(header.segment, sealing);
        assert!(before.is_none(), "a segment is sealed once");
        self.saving.sealed = true;
    }

    fn write(&mut self, mut gather: Gather, out: &mut Vec<Io>) -> GroupNumber {
        assert_eq!(gather.group.0, self.cursor.next_group, "groups are closed in order");
        let segment = self.active.header.segment;
        if !self.active.begun {
            self.index.begin_segment(segment, gather.stored);
            self.keys.begin_segment(self.active.header);
            self.active.begun = true;
        }
        let header = header_of(&gather, &self.config, &self.cursor);
        let offset = u32::try_from(self.active.tail).expect("segments are below 4 GiB");
        let touched = self.index_gather(&gather, offset);
        let copies = std::mem::take(&mut gather.copies);
        let chain = header.seal(self.active.header.salt, &mut gather.bytes, gather.begin);
        let bytes = fitted(gather.bytes, gather.begin);
        // Slow to go down: sizes change from group to group, and too much costs no memory.
        let before = self.typical_bytes - self.typical_bytes / 16;
        self.typical_bytes = (bytes.len() + bytes.len() / 2).max(before);
        self.active.tail += bytes.len() as u64;
        assert!(self.active.tail <= self.active.header.capacity, "place was made for the group");
        self.cursor.next_group += 1;
        self.cursor.chain = chain;
        self.cursor.stored = gather.stored;
        self.cursor.empty = gather.entries == 0;
        let group = gather.group;
        let (stage, held) = (Stage::Writing, bytes.clone());
        self.in_flight =
            Some(InFlight { group, segment, stage, touched, copies, offset, bytes: held });
        self.check();
        out.push(Io::WriteGroup { group, segment, offset, bytes });
        group
    }

    /// Puts the records of a group at `offset` of the active segment into the index; returns
    /// their queues, each once.
    fn index_gather(&mut self, gather: &Gather, offset: u32) -> Vec<Slot> {
        let segment = self.active.header.segment;
        let base = self.index.stored_base(segment).expect("the segment has begun");
        let delta = gather.stored.0 - base.0;
        let stored_delta_ms = u32::try_from(delta).expect("the segment was rolled in time");
        assert!(offset.is_multiple_of(group::ALIGNMENT as u32), "groups are aligned");
        let mut touched = Vec::with_capacity(gather.runs.len());
        self.index.begin_walk();
        let mut records = gather.records.iter();
        for (slot, count) in &gather.runs {
            let run = records.by_ref().take(*count as usize);
            let entry = |record: &GatheredRecord| {
                let GatheredRecord { offset: at, bytes, refers_to } = *record;
                IndexEntry::new(bytes, refers_to.is_some(), offset + at, stored_delta_ms)
            };
            self.index.add(*slot, segment, run.map(entry));
            if self.index.note(*slot, 0).is_none() {
                touched.push(*slot);
            }
        }
        assert!(records.next().is_none(), "every record is of a run");
        for to in gather.records.iter().filter_map(|record| record.refers_to) {
            self.index.refer(segment, to);
        }
        self.parked.extend(gather.parked.iter().map(|record| Target {
            segment,
            offset: offset + record.offset,
            bytes: record.bytes,
            released: false,
        }));
        self.carried.extend(gather.carried.iter().map(|copy| Carried::at(segment, offset, copy)));
        touched
    }
}

/// The bytes from `begin` on, in memory that is not much larger: readers keep a group for long
/// after it was written, and count its bytes.
fn fitted(mut bytes: Vec<u8>, begin: usize) -> Bytes {
    assert!(begin < bytes.len(), "a group has a header");
    if bytes.len() - begin < IN_PLACE_BYTES_MIN {
        return Bytes::copy_from_slice(&bytes[begin..]);
    }
    // It stays where it is, in memory as it will lie in the file.
    bytes.shrink_to_fit();
    Bytes::from(bytes).slice(begin..)
}

/// What the sidecar of a full segment says about it.
pub(crate) fn sidecar_header(
    active: &Active,
    cursor: &super::Cursor,
    index: &crate::index::QueueIndexes,
) -> SidecarHeader {
    let header = &active.header;
    assert!(active.begun && cursor.next_group > 0, "a sealed segment holds a group");
    SidecarHeader {
        shard: header.shard,
        segment: header.segment,
        salt: header.salt,
        last_group: GroupNumber(cursor.next_group - 1),
        chain: cursor.chain,
        last_stored: cursor.stored,
        stored_base: index.stored_base(header.segment).expect("a segment with groups has begun"),
        end: active.tail,
        refers_from: index.refers_from(header.segment),
    }
}
