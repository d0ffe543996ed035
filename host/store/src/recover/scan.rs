//! Walking over one segment: its valid groups from the front, then whatever lies behind them.
use std::io;

use bytes::Bytes;
use yard_wire::{GroupNumber, ShardId};

use super::chunk::Chunks;
use crate::disk::{Disk, FileName};
use crate::error::{Corrupt, OpenError};
use crate::format::group::{self, GroupHeader};
use crate::format::segment::SegmentHeader;
use crate::format::{VERSION, segment};
use crate::store::Cursor;

/// Bytes that are read at a time.
const CHUNK_BYTES: u64 = 4 << 20;
/// Bytes that are looked at together for being zero.
const ZERO_BYTES: usize = 4 << 10;

const _: () = assert!(CHUNK_BYTES.is_multiple_of(ZERO_BYTES as u64));
const _: () = assert!(segment::HEADER_BYTES.is_multiple_of(group::ALIGNMENT));

pub(crate) fn disk_error(name: FileName) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Disk { name, source }
}

/// A group whose every byte was checked.
pub(crate) struct ValidGroup {
    pub(crate) header: GroupHeader,
    pub(crate) chain: u64,
    pub(crate) payload: Bytes,
}

/// Reads one segment from the front, in large pieces.
pub(crate) struct SegmentReader<'a> {
    disk: &'a dyn Disk,
    header: SegmentHeader,
    chunks: Chunks<'a>,
}

impl<'a> SegmentReader<'a> {
    pub(crate) fn new(disk: &'a dyn Disk, header: SegmentHeader) -> Self {
        let chunks = Chunks::new(disk, FileName::Segment(header.segment), header.capacity);
        Self { disk, header, chunks }
    }

    pub(super) fn segment(&self) -> &SegmentHeader {
        &self.header
    }

    /// Where the file ends, which may be before the segment does.
    pub(super) fn file_end(&self) -> io::Result<u64> {
        let bytes = self.disk.len(FileName::Segment(self.header.segment))?;
        Ok(bytes.min(self.header.capacity))
    }

    /// `count` bytes from `offset` on; `None` when the segment ends before.
    pub(crate) fn bytes(&mut self, offset: u64, count: usize) -> io::Result<Option<Bytes>> {
        self.chunks.bytes(offset, count)
    }

    /// The header of the group at `offset`, if one of this segment lies there.
    pub(crate) fn header(&mut self, offset: u64) -> io::Result<Option<GroupHeader>> {
        let Some(bytes) = self.bytes(offset, group::HEADER_BYTES)? else {
            return Ok(None);
        };
        let found = GroupHeader::decode(&bytes).filter(|(_, salt)| *salt == self.header.salt);
        Ok(found.map(|(header, _)| header))
    }

    /// The rest of the group with this header, if it is whole.
    fn whole(&mut self, offset: u64, header: GroupHeader) -> io::Result<Option<ValidGroup>> {
        let Some(bytes) = self.bytes(offset, header.total_bytes())? else {
            return Ok(None);
        };
        let Some(chain) = header.verify(&bytes) else {
            yard_wire::mark!(GroupTorn);
            return Ok(None);
        };
        let end = group::HEADER_BYTES + header.payload_bytes as usize;
        Ok(Some(ValidGroup { header, chain, payload: bytes.slice(group::HEADER_BYTES..end) }))
    }

    /// The group at `offset` if it is whole, whatever lies before it.
    pub(crate) fn any_group(&mut self, offset: u64) -> io::Result<Option<ValidGroup>> {
        match self.header(offset)? {
            Some(header) if header.version == VERSION => self.whole(offset, header),
            Some(_) | None => Ok(None),
        }
    }

    /// The cursor before the first group of the segment, if that group's header is there.
    pub(super) fn first_cursor(&mut self) -> Result<Option<Cursor>, OpenError> {
        let name = FileName::Segment(self.header.segment);
        let found = self.header(segment::HEADER_BYTES as u64).map_err(disk_error(name))?;
        Ok(found.map(|header| Cursor {
            next_group: header.group.0,
            chain: header.previous_chain,
            stored: header.stored,
            empty: false,
        }))
    }

    /// The group at `offset` if it is whole and the one that follows the cursor.
    pub(super) fn group(
        &mut self,
        offset: u64,
        cursor: &Cursor,
    ) -> Result<Option<ValidGroup>, OpenError> {
        assert!(offset.is_multiple_of(group::ALIGNMENT as u64), "groups are aligned");
        let name = FileName::Segment(self.header.segment);
        let Some(header) = self.header(offset).map_err(disk_error(name))? else {
            return Ok(None);
        };
        if header.group != GroupNumber(cursor.next_group) {
            yard_wire::mark!(GroupOther);
            return Ok(None);
        }
        if header.version != VERSION {
            yard_wire::mark!(GroupVersion);
            return Err(OpenError::Version { name, version: header.version });
        }
        // The header was written whole, so what it says is what the writer believed.
        let corrupt = |what| Corrupt { segment: self.header.segment, offset, what };
        if header.shard != self.header.shard {
            yard_wire::mark!(GroupOtherShard);
            return Err(corrupt("the group belongs to another shard").into());
        }
        if header.previous_chain != cursor.chain {
            yard_wire::mark!(GroupOtherChain);
            return Err(corrupt("the group follows another one than lies before it").into());
        }
        if header.stored < cursor.stored {
            yard_wire::mark!(GroupOlder);
            return Err(corrupt("the group is older than the one before it").into());
        }
        self.whole(offset, header).map_err(disk_error(name))
    }

    /// What lies in the segment from `from` on, where the valid groups end.
    pub(crate) fn tail(&self, from: u64, expected: GroupNumber) -> Result<Tail, OpenError> {
        let name = FileName::Segment(self.header.segment);
        let later =
            |header: &GroupHeader, salt| salt == self.header.salt && header.group > expected;
        inspect(self.disk, name, from, self.header.capacity, &later)
    }
}

/// What lies behind the last valid group of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Where the header of a wanted group lies.
    pub(crate) header_at: Option<u64>,
    /// Byte after the last that is not zero; where the tail begins when all are.
    pub(crate) dirty_end: u64,
}

/// The first header of a wanted group in a segment from `from` on, and where it lies.
pub(crate) fn first_header(
    disk: &dyn Disk,
    segment: &SegmentHeader,
    from: u64,
    wanted: &dyn Fn(&GroupHeader, u64) -> bool,
) -> Result<Option<(u64, GroupHeader)>, OpenError> {
    let name = FileName::Segment(segment.segment);
    let tail = inspect(disk, name, from, segment.capacity, wanted)?;
    let Some(at) = tail.header_at else {
        return Ok(None);
    };
    let header = SegmentReader::new(disk, *segment).header(at).map_err(disk_error(name))?;
    Ok(header.map(|header| (at, header)))
}

/// The salt of the groups of a file whose head is damaged, as its first one has it.
pub(crate) fn first_group(
    disk: &dyn Disk,
    shard: ShardId,
    name: FileName,
    bytes: u64,
) -> Result<Option<u64>, OpenError> {
    let from = (segment::HEADER_BYTES as u64).min(bytes);
    let ours = |header: &GroupHeader, _| header.shard == shard;
    let Some(at) = inspect(disk, name, from, bytes, &ours)?.header_at else {
        return Ok(None);
    };
    let mut header = [0; group::HEADER_BYTES];
    disk.read_at(name, at, &mut header).map_err(disk_error(name))?;
    Ok(GroupHeader::decode(&header).map(|(_, salt)| salt))
}

/// Reads to the end of the file, however many zeros there are: where a disk has lost durable bytes,
/// they are zeros too, and nothing but a later group tells them from room that was never written.
fn inspect(
    disk: &dyn Disk,
    name: FileName,
    from: u64,
    end: u64,
    wanted: &dyn Fn(&GroupHeader, u64) -> bool,
) -> Result<Tail, OpenError> {
    assert!(from <= end, "a tail begins in its segment");
    let end = end.min(disk.len(name).map_err(disk_error(name))?);
    let mut tail = Tail { header_at: None, dirty_end: from };
    let mut chunks = Chunks::new(disk, name, end);
    let mut at = from;
    while at < end {
        // Up to a boundary, so that whole blocks are read from then on.
        let bytes = (end - at).min(CHUNK_BYTES - at % CHUNK_BYTES) as usize;
        let chunk = chunks.bytes(at, bytes).map_err(disk_error(name))?;
        let chunk = chunk.expect("the file does not end before");
        for (index, block) in chunk.chunks(ZERO_BYTES).enumerate() {
            if block.iter().fold(0, |all, byte| all | byte) == 0 {
                continue;
            }
            let block_at = at + (index * ZERO_BYTES) as u64;
            let last = block.iter().rposition(|byte| *byte != 0).expect("one is not zero");
            tail.dirty_end = block_at + last as u64 + 1;
            for (index, unit) in block.chunks(group::ALIGNMENT).enumerate() {
                let found =
                    GroupHeader::decode(unit).filter(|(header, salt)| wanted(header, *salt));
                if found.is_some() && tail.header_at.is_none() {
                    tail.header_at = Some(block_at + (index * group::ALIGNMENT) as u64);
                }
            }
        }
        at += bytes as u64;
    }
    Ok(tail)
}
