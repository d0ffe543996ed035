//! Walking over the records of a part of a segment, from memory or from the disk.
use std::io;

use bytes::Bytes;
use yard_wire::codec::Malformed;
use yard_wire::{RecordPlace, Timestamp};

use super::RecordView;
use crate::disk::Disk;
use crate::format::entry::{self, BATCH, Entry, EntryRecord};
use crate::format::group::{self, GroupHeader};
use crate::format::retire::{MOVED, Moved, decode_moved};
use crate::format::segment::SegmentHeader;
use crate::read;
use crate::recover::scan::SegmentReader;

/// A group in memory, as it lies at this byte offset of its segment.
pub(crate) type KeptGroup = (u32, Bytes);

/// The next thing of a walk.
pub(crate) enum Step {
    /// A whole group.
    Group(WalkedGroup),
    /// Bytes that are no whole group, up to the next one or the end of the walk.
    Damaged { from: u32, to: u32 },
}

/// A group that can be read.
pub(crate) struct WalkedGroup {
    pub(crate) header: GroupHeader,
    pub(crate) from: u32,
    pub(crate) to: u32,
    payload: Bytes,
}

/// Goes over a part of a segment that begins and ends between groups.
pub(crate) struct Walk<'a> {
    disk: &'a dyn Disk,
    reader: SegmentReader<'a>,
    segment: u32,
    kept: &'a [KeptGroup],
    at: u32,
    end: u32,
}

impl<'a> Walk<'a> {
    /// From `at` to `end`; groups in `kept`, which come in order, are not read.
    pub(crate) fn new(
        disk: &'a dyn Disk,
        header: SegmentHeader,
        kept: &'a [KeptGroup],
        (at, end): (u32, u32),
    ) -> Self {
        assert!(kept.is_sorted_by_key(|(offset, _)| *offset), "kept groups come in order");
        assert!(u64::from(end) <= header.capacity, "the walk stays in the segment");
        let (reader, segment) = (SegmentReader::new(disk, header), header.segment);
        Self { disk, reader, segment, kept, at, end }
    }

    /// Goes on at `place`, if a group begins there.
    pub(crate) fn skip_to(&mut self, place: u32) -> io::Result<()> {
        if place > self.at && place < self.end && self.group(place)?.is_some() {
            self.at = place;
        }
        Ok(())
    }

    /// The next group.
    pub(crate) fn next(&mut self) -> io::Result<Option<Step>> {
        let from = self.at;
        while self.at < self.end {
            if let Some(group) = self.group(self.at)? {
                if self.at > from {
                    return Ok(Some(Step::Damaged { from, to: self.at }));
                }
                assert!(group.to <= self.end, "a walk ends between groups");
                self.at = group.to;
                return Ok(Some(Step::Group(group)));
            }
            self.at = self.at.saturating_add(group::ALIGNMENT as u32).min(self.end);
        }
        Ok((from < self.end).then_some(Step::Damaged { from, to: self.end }))
    }

    /// The group that begins at a place.
    fn group(&mut self, at: u32) -> io::Result<Option<WalkedGroup>> {
        let found = self.kept.binary_search_by_key(&at, |(offset, _)| *offset);
        let (header, payload) = if let Ok(found) = found {
            let bytes = &self.kept[found].1;
            let (header, _) = GroupHeader::decode(bytes).expect("it was closed by this process");
            let end = group::HEADER_BYTES + header.payload_bytes as usize;
            (header, bytes.slice(group::HEADER_BYTES..end))
        } else {
            let Some(group) = self.reader.any_group(at.into())? else { return Ok(None) };
            (group.header, group.payload)
        };
        let to = at + header.total_bytes() as u32;
        assert!(at.is_multiple_of(group::ALIGNMENT as u32), "groups are aligned");
        Ok(Some(WalkedGroup { header, from: at, to, payload }))
    }

    /// Gives every record of a group that has its place in a queue to `each`, in order; of a
    /// release, what its readers get.
    ///
    /// # Errors
    /// [`Malformed`] when the rest of the group is not what the log is made of.
    pub(crate) fn each_record(
        &self,
        group: &WalkedGroup,
        mut each: impl FnMut(&RecordView<'_>),
    ) -> Result<(), Malformed> {
        let mut rest = group.payload.clone();
        while !rest.is_empty() {
            let before = group.payload.len() - rest.len();
            let entry = entry::take_entry(&mut rest)?;
            let payload_at = group::HEADER_BYTES + before + entry.payload_at();
            let payload_at = group.from + payload_at as u32;
            if entry.kind == MOVED {
                self.each_copy(&entry.payload, payload_at, &mut each)?;
            } else if entry::has_placements(entry.kind) {
                self.each_placed(&entry, payload_at, group.header.stored, &mut each)?;
            }
        }
        Ok(())
    }

    /// The records of a batch or of releases whose payload begins at this byte of the segment.
    fn each_placed(
        &self,
        entry: &Entry,
        payload_at: u32,
        stored: Timestamp,
        each: &mut impl FnMut(&RecordView<'_>),
    ) -> Result<(), Malformed> {
        entry.each_record(|record| {
            let EntryRecord { topic, queue, queue_offset, bytes, refers_to, .. } = record;
            let Some(offset) = queue_offset else { return };
            let (segment, released) = (self.segment, refers_to.is_some());
            let at = payload_at + record.offset;
            let place = RecordPlace { segment, offset: at, bytes, stored, released };
            if entry.kind == BATCH {
                let begin = record.offset as usize;
                let bytes = &entry.payload[begin..begin + bytes as usize];
                return each(&RecordView { topic, queue, offset, place, bytes });
            }
            // One whose record cannot be read has neither id nor keys; its place says why.
            if let Ok(given) = read::records(self.disk, &[place]) {
                each(&RecordView { topic, queue, offset, place, bytes: &given[0] });
            }
        })
    }

    /// The copies of an entry whose payload begins at this byte of the segment.
    fn each_copy(
        &self,
        payload: &[u8],
        payload_at: u32,
        each: &mut impl FnMut(&RecordView<'_>),
    ) -> Result<(), Malformed> {
        for moved in decode_moved(payload)? {
            let Moved { topic, queue, offset, stored, at, bytes } = moved;
            let (segment, released) = (self.segment, false);
            let place = RecordPlace { segment, offset: payload_at + at, bytes, stored, released };
            let end = (at + bytes) as usize;
            assert!(end <= payload.len(), "copies lie in their entry");
            let bytes = &payload[at as usize..end];
            each(&RecordView { topic, queue, offset, place, bytes });
        }
        Ok(())
    }
}
