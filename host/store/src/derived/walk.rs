//! Walking over the records of a part of a segment, from memory or from the disk.
use std::io;
use std::slice::from_ref;

use bytes::Bytes;
use yard_wire::codec::Malformed;
use yard_wire::{QueueIndex, QueueOffset, RecordPlace, Timestamp, TopicId};

use super::RecordView;
use crate::disk::Disk;
use crate::error::ReadError;
use crate::format::VERSION;
use crate::format::entry::{self, BATCH, Entry, EntryRecord};
use crate::format::group::{self, GroupHeader};
use crate::format::retire::{MOVED, Moved, decode_copies};
use crate::format::segment::SegmentHeader;
use crate::read;
use crate::recover::salvage::{self, Copied, Piece};
use crate::recover::scan::SegmentReader;

/// A group in memory, as it lies at this byte offset of its segment.
pub(crate) type KeptGroup = (u32, Bytes);

/// The next thing of a walk.
pub(crate) enum Step {
    /// A group: whole, or damaged behind its header.
    Group(WalkedGroup),
    /// Bytes that are no group, up to the next one or the end of the walk.
    Damaged { from: u32, to: u32 },
}

/// A group that can be read.
pub(crate) struct WalkedGroup {
    pub(crate) header: GroupHeader,
    pub(crate) from: u32,
    pub(crate) to: u32,
    payload: Bytes,
    is_whole: bool,
}

/// A record whose release lies in the group.
struct Lying {
    topic: TopicId,
    queue: QueueIndex,
    offset: QueueOffset,
    place: RecordPlace,
}

impl Lying {
    fn view<'a>(&self, bytes: &'a [u8]) -> RecordView<'a> {
        let Self { topic, queue, offset, place } = *self;
        RecordView { topic, queue, offset, place, bytes }
    }
}

/// Bytes of records that are read together, unless one is larger.
const READ_BYTES_MAX: u32 = 1 << 20;

/// Why records of a group were not given.
pub(crate) enum Unread {
    /// The group is damaged, or not what the log is made of.
    Damaged,
    /// The disk refused to read what a release refers to: it may do so later.
    Disk(io::Error),
}

impl From<Malformed> for Unread {
    fn from(_: Malformed) -> Self {
        Self::Damaged
    }
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
        if place > self.at && place < self.end && self.whole(place)?.is_some() {
            self.at = place;
        }
        Ok(())
    }

    /// The next group.
    pub(crate) fn next(&mut self) -> io::Result<Option<Step>> {
        let from = self.at;
        while self.at < self.end {
            let mut found = self.whole(self.at)?;
            if found.is_none() && self.at == from {
                // Anywhere else it may be what a client has made.
                found = self.damaged(from)?;
            }
            if let Some(group) = found {
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

    /// The group that begins at a place, if it is whole.
    fn whole(&mut self, at: u32) -> io::Result<Option<WalkedGroup>> {
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
        Ok(Some(WalkedGroup { header, from: at, to, payload, is_whole: true }))
    }

    /// The group at a place where one begins, if its header holds.
    fn damaged(&mut self, at: u32) -> io::Result<Option<WalkedGroup>> {
        let header = self.reader.header(at.into())?.filter(|header| {
            let fits = header.total_bytes() as u64 <= u64::from(self.end - at);
            header.version == VERSION && fits
        });
        let Some(header) = header else { return Ok(None) };
        let inside = u64::from(at) + group::HEADER_BYTES as u64;
        let payload = self.reader.bytes(inside, header.payload_bytes as usize)?;
        let Some(payload) = payload else { return Ok(None) };
        let to = at + header.total_bytes() as u32;
        assert!(to <= self.end, "only one that fits was taken");
        Ok(Some(WalkedGroup { header, from: at, to, payload, is_whole: false }))
    }

    /// Gives every record of a group that has its place in a queue to `each`, in order; of a
    /// release, what its readers get; of a damaged group those that are left.
    ///
    /// # Errors
    /// [`Unread::Damaged`], and [`Unread::Disk`] when it is not known what all of them say.
    pub(crate) fn each_record(
        &self,
        group: &WalkedGroup,
        mut each: impl FnMut(&RecordView<'_>),
    ) -> Result<(), Unread> {
        if !group.is_whole {
            self.each_left(group, each)?;
            return Err(Unread::Damaged);
        }
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
    ) -> Result<(), Unread> {
        let mut lying: Vec<Lying> = Vec::new();
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
            lying.push(Lying { topic, queue, offset, place });
        })?;
        let mut rest = &lying[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |it: &&Lying| {
                let fits = bytes < READ_BYTES_MAX;
                bytes += it.place.bytes;
                fits
            };
            let (now, after) = rest.split_at(rest.iter().take_while(fits).count());
            self.each_lying(now, (&entry.payload, payload_at), each)?;
            rest = after;
        }
        Ok(())
    }

    /// The records of releases that lie in a payload which begins at this byte of the segment.
    fn each_lying(
        &self,
        lying: &[Lying],
        (payload, payload_at): (&Bytes, u32),
        each: &mut impl FnMut(&RecordView<'_>),
    ) -> Result<(), Unread> {
        assert!(!lying.is_empty(), "a read is about something");
        let at_hand = |place: &RecordPlace| {
            let begin = place.offset.checked_sub(payload_at)? as usize;
            let end = begin + place.bytes as usize;
            let is_here = place.segment == self.segment && end <= payload.len();
            is_here.then(|| payload.slice(begin..end))
        };
        let places: Vec<RecordPlace> = lying.iter().map(|it| it.place).collect();
        match read::released(self.disk, &places, at_hand) {
            Ok(given) => lying.iter().zip(&given).for_each(|(it, bytes)| each(&it.view(bytes))),
            // One by one: those that can be read count.
            Err(_) if lying.len() > 1 => {
                yard_wire::mark!(WalkOneByOne);
                let mut failed = None;
                for one in lying {
                    let read = self.each_lying(from_ref(one), (payload, payload_at), each);
                    failed = failed.or(read.err());
                }
                return failed.map_or(Ok(()), Err);
            }
            Err(ReadError::Disk { source, .. }) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Unread::Disk(source));
            }
            // What is damaged or gone has neither id nor keys; its place says why.
            Err(_) => {}
        }
        Ok(())
    }

    /// The copies of an entry whose payload begins at this byte of the segment.
    fn each_copy(
        &self,
        payload: &[u8],
        payload_at: u32,
        each: &mut impl FnMut(&RecordView<'_>),
    ) -> Result<(), Malformed> {
        let copies: Vec<Moved> = decode_copies(payload)?;
        copies.iter().for_each(|copy| self.give(copy, payload, payload_at, each));
        Ok(())
    }

    fn give(
        &self,
        copy: &Moved,
        payload: &[u8],
        payload_at: u32,
        each: &mut impl FnMut(&RecordView<'_>),
    ) {
        let Moved { topic, queue, offset, stored, at, bytes } = *copy;
        let (segment, released) = (self.segment, false);
        let place = RecordPlace { segment, offset: payload_at + at, bytes, stored, released };
        let end = (at + bytes) as usize;
        assert!(end <= payload.len(), "copies lie in their entry");
        let bytes = &payload[at as usize..end];
        each(&RecordView { topic, queue, offset, place, bytes });
    }

    /// Gives what is left of a damaged group to `each`.
    fn each_left(
        &self,
        group: &WalkedGroup,
        mut each: impl FnMut(&RecordView<'_>),
    ) -> Result<(), Unread> {
        assert!(!group.is_whole, "of a whole one everything is left");
        let inside = group.from + group::HEADER_BYTES as u32;
        for piece in salvage::pieces(&group.payload) {
            if let Piece::Entry { at, entry, .. } = &piece
                && entry.kind != BATCH
            {
                let payload_at = inside + (at + entry.payload_at()) as u32;
                if entry::has_placements(entry.kind) {
                    // Its checksum holds, so it is as it was written.
                    let stored = group.header.stored;
                    let read = self.each_placed(entry, payload_at, stored, &mut each);
                    if let Err(Unread::Disk(source)) = read {
                        return Err(Unread::Disk(source));
                    }
                }
                let copies = if entry.kind == MOVED { &entry.payload[..] } else { &[] };
                for copied in salvage::copies(copies) {
                    let Copied::Whole(copy) = copied else { continue };
                    self.give(&copy, &entry.payload, payload_at, &mut each);
                }
                continue;
            }
            let Some((at, batch, rows)) = piece.batch() else { continue };
            for (row, record) in salvage::numbered(&batch, &rows) {
                let Some(((begin, bytes), first)) = record.zip(row.first) else { continue };
                let offset = inside + at as u32 + begin;
                let (segment, stored) = (self.segment, group.header.stored);
                let place = RecordPlace { segment, offset, bytes, stored, released: false };
                let end = (begin + bytes) as usize;
                each(&RecordView {
                    topic: row.topic,
                    queue: row.queue,
                    offset: first,
                    place,
                    bytes: &batch[begin as usize..end],
                });
            }
        }
        Ok(())
    }
}
