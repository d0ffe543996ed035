//! Which segments a directory holds, and whether their heads belong together.
use yard_wire::{GroupNumber, LogPos, ShardId};

use super::Damage;
use crate::config::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::disk::{Disk, FileName};
use crate::error::{Corrupt, OpenError};
use crate::format::HeadError;
use crate::format::group::{self, GroupHeader};
use crate::format::segment::{HEADER_BYTES, SegmentHeader};
use crate::recover::scan::disk_error;

/// A segment that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surveyed {
    /// As its header says, or else its neighbours; no longer than the file is.
    pub(crate) header: SegmentHeader,
    /// Byte after it in the log, which a file that was cut off does not reach.
    pub(super) end: LogPos,
    /// Number of the group at its front and the chain before that: it holds groups, so the
    /// segment before is sealed.
    pub(super) front: Option<(GroupNumber, u64)>,
    /// No group is added to it any more.
    pub(super) is_sealed: bool,
}

impl Surveyed {
    /// Its number.
    #[must_use]
    pub fn segment(&self) -> u32 {
        self.header.segment
    }

    /// What its groups repeat.
    #[must_use]
    pub fn salt(&self) -> u64 {
        self.header.salt
    }

    /// Bytes of its file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.header.capacity
    }

    /// Log position of its first byte.
    #[must_use]
    pub fn base(&self) -> LogPos {
        self.header.base
    }

    /// Number of the group at its front, and the chain hash of the one before that.
    #[must_use]
    pub fn front(&self) -> Option<(GroupNumber, u64)> {
        self.front
    }

    /// The header as it should be, for a file in its place.
    #[must_use]
    pub fn head(&self) -> bytes::Bytes {
        self.header.encode()
    }
}

/// The segments of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Whose log it is.
    pub shard: ShardId,
    /// Those that are there, in order; one that was never finished is left out.
    pub segments: Vec<Surveyed>,
    /// Numbers of those that should be there as well.
    pub missing: Vec<u32>,
    /// What is wrong with the heads.
    pub damage: Vec<Damage>,
    /// All files of the store.
    pub names: Vec<FileName>,
}

impl Survey {
    /// Place in [`Survey::segments`] of the one that is written to; those before it are sealed.
    #[must_use]
    pub fn active(&self) -> usize {
        assert!(!self.segments.is_empty(), "a survey finds a segment");
        self.segments.iter().rposition(|segment| segment.front.is_some()).unwrap_or(0)
    }
}

/// Looks at the heads of all segments. `shard` is whose log it should be, where that is known.
///
/// # Errors
/// [`OpenError`] when there is no log here that this program can read.
pub fn survey(disk: &dyn Disk, shard: Option<ShardId>) -> Result<Survey, OpenError> {
    let names = disk.list().map_err(|source| OpenError::List { source })?;
    let number = |name: &FileName| match name {
        FileName::Segment(segment) => Some(*segment),
        FileName::Index(_) | FileName::Keys { .. } | FileName::Checkpoint => None,
    };
    let numbers: Vec<u32> = names.iter().filter_map(number).collect();
    let mut heads = Vec::with_capacity(numbers.len());
    for segment in &numbers {
        heads.push(read_head(disk, *segment)?);
    }
    let found = heads.iter().find_map(|head| Some(head.said?.shard));
    let shard = shard.or(found).ok_or(OpenError::Missing { segment: 0 })?;
    let mut survey =
        Survey { shard, segments: Vec::new(), missing: Vec::new(), damage: Vec::new(), names };
    for (at, head) in heads.iter().enumerate() {
        let is_last = at + 1 == heads.len();
        take_head(head, is_last, &mut survey)?;
    }
    if survey.segments.is_empty() {
        return Err(OpenError::Missing { segment: 0 });
    }
    let last = survey.segments.last().map_or(0, |segment| segment.segment());
    let active = survey.active();
    survey.segments[..active].iter_mut().for_each(|segment| segment.is_sealed = true);
    survey.missing = (numbers[0]..last).filter(|number| !numbers.contains(number)).collect();
    Ok(survey)
}

struct Head {
    segment: u32,
    /// Bytes of the file.
    bytes: u64,
    said: Option<SegmentHeader>,
    /// The group at the front, and the salt that it repeats.
    front: Option<(GroupHeader, u64)>,
}

fn read_head(disk: &dyn Disk, segment: u32) -> Result<Head, OpenError> {
    let name = FileName::Segment(segment);
    let bytes = disk.len(name).map_err(disk_error(name))?;
    let mut front = [0; HEADER_BYTES + group::HEADER_BYTES];
    let there = bytes.min(front.len() as u64) as usize;
    disk.read_at(name, 0, &mut front[..there]).map_err(disk_error(name))?;
    let head = front.first_chunk::<HEADER_BYTES>().expect("the front begins with the header");
    let said = match SegmentHeader::decode(head) {
        Ok(head) => Some(head),
        Err(HeadError::Damaged) => None,
        Err(HeadError::Version(version)) => return Err(OpenError::Version { name, version }),
    };
    let front = GroupHeader::decode(&front[HEADER_BYTES..]);
    Ok(Head { segment, bytes, said, front })
}

fn take_head(head: &Head, is_last: bool, survey: &mut Survey) -> Result<(), OpenError> {
    let Head { segment, bytes, .. } = *head;
    let name = FileName::Segment(segment);
    let mut damaged =
        |offset, bytes, what| survey.damage.push(Damage::new(name, offset, bytes, what));
    let before = survey.segments.last().filter(|last| last.segment() + 1 == segment);
    let base = before.map(|last| last.end);
    let header = match head.said {
        Some(said) if said.shard != survey.shard => {
            return Err(OpenError::WrongShard { name, shard: said.shard.0 });
        }
        Some(said) if said.segment != segment => {
            let what = "the header belongs to another segment";
            return Err(Corrupt { segment, offset: 0, what }.into());
        }
        Some(said) if !is_capacity(said.capacity) => {
            let what = "the capacity of the segment is out of bounds";
            return Err(Corrupt { segment, offset: 0, what }.into());
        }
        Some(said) => {
            if said.capacity != bytes {
                let what = "the file is not as long as it was";
                damaged(said.capacity.min(bytes), said.capacity.abs_diff(bytes), what);
            }
            if base.is_some_and(|base| base != said.base) {
                damaged(0, HEADER_BYTES as u64, "the segment does not follow the one before it");
            }
            said
        }
        None if head.front.is_none() && is_last => return Ok(()),
        None => {
            damaged(0, HEADER_BYTES.min(bytes as usize) as u64, "the header of the segment");
            let Some((_, salt)) = head.front else { return Ok(()) };
            let base = base.unwrap_or(LogPos(0));
            SegmentHeader { shard: survey.shard, segment, capacity: bytes, base, salt }
        }
    };
    assert!(header.segment == segment && header.shard == survey.shard, "others were refused");
    let end = LogPos(header.base.0 + header.capacity);
    let readable = header.capacity.min(bytes);
    let header = SegmentHeader { capacity: readable, ..header };
    let front = head.front.filter(|(_, salt)| *salt == header.salt);
    let front = front.map(|(group, _)| (group.group, group.previous_chain));
    survey.segments.push(Surveyed { header, end, front, is_sealed: false });
    Ok(())
}

pub(super) fn is_capacity(bytes: u64) -> bool {
    (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes)
        && bytes.is_multiple_of(HEADER_BYTES as u64)
}

/// Whether the group after this one has been begun: then this one is durable. `at` is the byte
/// after it in its segment.
#[must_use]
pub fn is_proven(disk: &dyn Disk, of: &Surveyed, at: u64, group: GroupNumber) -> bool {
    let follows = |segment: u32, at: u64| {
        let mut bytes = [0; group::HEADER_BYTES];
        let read = disk.read_at(FileName::Segment(segment), at, &mut bytes);
        let header = read.ok().and_then(|()| GroupHeader::decode(&bytes));
        header.is_some_and(|(header, _)| header.group.0 == group.0 + 1)
    };
    assert!(at <= of.bytes(), "the group lies in its segment");
    follows(of.segment(), at) || follows(of.segment() + 1, HEADER_BYTES as u64)
}
