//! Making runs of the key index, away from the writer.
use std::io;

use yard_wire::RecordPlace;
use yard_wire::record::Record;
use yard_wire::release;

use super::walk::{KeptGroup, Step, Unread, Walk};
use super::{DerivedIndex, LogPlace, RecordView};
use crate::disk::Disk;
use crate::format::keys::{KeyEntry, KeyHash, KeyHead, KeyRun};
use crate::format::segment::SegmentHeader;

/// Bytes of the log that one job indexes, unless a single group is larger: others wait for their
/// turn on the same thread.
const JOB_BYTES_MAX: u32 = 16 << 20;

/// A part of a segment to be indexed: from a place between groups on, until it has indexed
/// enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyJob {
    pub(super) header: SegmentHeader,
    pub(super) from: u32,
    /// Durable end of the segment.
    pub(super) end: u32,
    /// The last groups before that, not to be read.
    pub(super) kept: Vec<KeptGroup>,
    /// It ends at the first end of a group at which the run has so many entries, or lies there.
    pub(super) entries_max: u32,
    pub(super) to_max: u32,
}

impl KeyJob {
    /// The segment that it is about.
    #[must_use]
    pub fn segment(&self) -> u32 {
        self.header.segment
    }

    /// Indexes the next groups.
    pub(crate) fn run(&self, disk: &dyn Disk) -> io::Result<KeyRun> {
        assert!(self.from < self.end, "there is something to index");
        let mut builder = KeyBuilder::new(self.header, self.from);
        let mut walk = Walk::new(disk, self.header, &self.kept, (self.from, self.end));
        while let Some(step) = walk.next()? {
            match step {
                Step::Group(group) => {
                    // What is damaged is not found by its key; its place says that it is lost.
                    let read = walk.each_record(&group, |record| builder.apply(record));
                    if let Err(Unread::Disk(source)) = read {
                        return Err(source);
                    }
                    builder.to = group.to;
                }
                Step::Damaged { to, .. } => builder.to = to,
            }
            let is_full = builder.entries.len() >= self.entries_max as usize;
            if is_full || builder.to >= self.to_max || builder.to - self.from >= JOB_BYTES_MAX {
                break;
            }
        }
        Ok(builder.finish())
    }
}

/// The ids and keys of consecutive groups.
pub(crate) struct KeyBuilder {
    header: SegmentHeader,
    from: u32,
    to: u32,
    /// Byte after the last record.
    applied: u32,
    entries: Vec<KeyEntry>,
}

impl KeyBuilder {
    pub(super) fn new(header: SegmentHeader, from: u32) -> Self {
        Self { header, from, to: from, applied: from, entries: Vec::new() }
    }

    /// For the records from one place to another, both between groups.
    pub(crate) fn of_part(header: SegmentHeader, from: u32, to: u32) -> Self {
        assert!(from < to, "a part has groups");
        Self { to, ..Self::new(header, from) }
    }

    /// Takes a record, if it is in the part.
    pub(crate) fn take(&mut self, record: &RecordView<'_>) {
        if (self.from..self.to).contains(&record.place.offset) {
            self.apply(record);
        }
    }

    /// The run of what was applied.
    pub(crate) fn finish(mut self) -> KeyRun {
        self.entries.sort_unstable();
        // A record may have a key twice.
        self.entries.dedup();
        let SegmentHeader { shard, segment, salt, .. } = self.header;
        assert!(self.applied <= self.to, "records are applied with their groups");
        let mut head = KeyHead::empty(shard, segment, salt, self.from);
        head.to = self.to;
        head.entries = u32::try_from(self.entries.len()).expect("a segment is below 4 GiB");
        for entry in &self.entries {
            head.first = head.first.min(entry.stored);
            head.last = head.last.max(entry.stored);
        }
        KeyRun::new(head, self.entries.into_iter())
    }
}

impl DerivedIndex for KeyBuilder {
    const NAME: &'static str = "keys";

    fn apply(&mut self, record: &RecordView<'_>) {
        let place = record.place;
        assert_eq!(place.segment, self.header.segment, "a run is about one segment");
        if place.offset < self.applied {
            return;
        }
        let salt = self.header.salt;
        let mut add = |hash| {
            let RecordPlace { offset: place, stored, released, .. } = place;
            self.entries.push(KeyEntry { hash, place, offset: record.offset, stored, released });
        };
        // The record was checked when it was let in; one that cannot be split has no keys.
        let Ok((id, keys)) = Record::peek_keys(record.bytes) else { return };
        add(KeyHash::of_id(salt, &id));
        keys.for_each(|key| add(KeyHash::of_key(salt, record.topic, key)));
        let lying = if place.released { release::HEADER_BYTES as u32 } else { place.bytes };
        self.applied = place.offset + lying;
        self.to = self.to.max(self.applied);
    }

    fn durable_to(&self) -> LogPlace {
        LogPlace { segment: self.header.segment, offset: self.from }
    }

    fn truncate(&mut self, from: LogPlace) {
        let offset = match from.segment.cmp(&self.header.segment) {
            std::cmp::Ordering::Less => self.from,
            std::cmp::Ordering::Equal => from.offset.max(self.from),
            std::cmp::Ordering::Greater => return,
        };
        self.entries.retain(|entry| entry.place < offset);
        assert!(offset >= self.from, "a run is not about what lies before it");
        self.to = self.to.min(offset);
        self.applied = self.applied.min(offset);
    }
}
