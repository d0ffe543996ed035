//! Which segments a directory holds, and whether their heads belong together.
use yard_wire::{GroupNumber, LogPos, ShardId};

use super::Damage;
use crate::config::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::disk::{Disk, FileName};
use crate::error::{Corrupt, OpenError};
use crate::format::HeadError;
use crate::format::group::{self, GroupHeader};
use crate::format::segment::{HEADER_BYTES, SegmentHeader};
use crate::recover::cut;
use crate::recover::scan::{disk_error, first_group, first_header};

/// A segment that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surveyed {
    /// As its header says, or else its neighbours; no longer than the file is.
    pub(crate) header: SegmentHeader,
    /// Byte after it in the log, which a file that was cut off does not reach.
    pub(super) end: LogPos,
    /// Number of the group at its front and the chain before that.
    pub(super) front: Option<(GroupNumber, u64)>,
    /// Groups lie in it or behind it, so the segment before is sealed.
    is_begun: bool,
    /// No group is added to it any more.
    pub(super) is_sealed: bool,
}

impl Surveyed {
    /// Its number.
    #[must_use]
    pub fn segment(&self) -> u32 {
        self.header.segment
    }

    /// What its groups repeat; 0 when its header and all of its groups are damaged.
    #[must_use]
    pub fn salt(&self) -> u64 {
        self.header.salt
    }

    /// Bytes of its file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.header.capacity
    }

    /// Its file is shorter than the segment.
    pub(super) fn is_short(&self) -> bool {
        assert!(self.base() < self.end, "a segment has a header");
        self.base().0 + self.bytes() < self.end.0
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
        self.segments.iter().rposition(|segment| segment.is_begun).unwrap_or(0)
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
    let begun = heads.iter().rposition(|head| head.front().is_some());
    for (at, head) in heads.iter().enumerate() {
        let next = heads.get(at + 1).map(|next| next.said);
        let is_begun = begun.is_some_and(|begun| at <= begun);
        take_head(disk, head, next, is_begun, &mut survey)?;
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
    /// What lies where the first group should, and the salt that it repeats.
    first: Option<(GroupHeader, u64)>,
}

impl Head {
    /// The group at the front, and the salt that it repeats.
    fn front(&self) -> Option<(GroupHeader, u64)> {
        self.first.filter(|(_, salt)| self.said.is_none_or(|said| said.salt == *salt))
    }
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
    let first = GroupHeader::decode(&front[HEADER_BYTES..]);
    Ok(Head { segment, bytes, said, first })
}

/// Adds a segment to the survey. `next` is what the header of the one behind it says, if there is
/// one behind it; whether one of them holds groups, who surveys knows where their fronts say so.
fn take_head(
    disk: &dyn Disk,
    head: &Head,
    next: Option<Option<SegmentHeader>>,
    is_begun: bool,
    survey: &mut Survey,
) -> Result<(), OpenError> {
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
        None => {
            let salt = match head.front() {
                Some((_, salt)) => Some(salt),
                None => first_group(disk, survey.shard, name, bytes)?,
            };
            let salt = salt.or_else(|| cut::salt(disk, &survey.names, segment));
            if salt.is_none() && next.is_none() {
                // It was never finished.
                return Ok(());
            }
            damaged(0, HEADER_BYTES.min(bytes as usize) as u64, "the header of the segment");
            derived(survey.shard, (segment, bytes), base, next.flatten(), salt.unwrap_or(0))
        }
    };
    assert!(header.segment == segment && header.shard == survey.shard, "others were refused");
    let end = LogPos(header.base.0 + header.capacity);
    let readable = header.capacity.min(bytes).max(HEADER_BYTES as u64);
    let header = SegmentHeader { capacity: readable, ..header };
    let is_begun = is_begun || holds_groups(disk, &header)?;
    let front = head.front().map(|(group, _)| (group.group, group.previous_chain));
    survey.segments.push(Surveyed { header, end, front, is_begun, is_sealed: false });
    Ok(())
}

/// The header of a segment whose own is damaged, as far as those beside it say what it was.
fn derived(
    shard: ShardId,
    (segment, bytes): (u32, u64),
    base: Option<LogPos>,
    next: Option<SegmentHeader>,
    salt: u64,
) -> SegmentHeader {
    let behind = next.and_then(|next| next.base.0.checked_sub(bytes)).map(LogPos);
    let base = base.or(behind).unwrap_or(LogPos(0));
    let room = next.and_then(|next| next.base.0.checked_sub(base.0));
    // Every segment has the bytes of a header, though of this file they may be gone.
    let capacity = room.filter(|room| is_capacity(*room)).unwrap_or(bytes).max(HEADER_BYTES as u64);
    SegmentHeader { shard, segment, capacity, base, salt }
}

/// Whether there is a group anywhere in a segment, of which the front does not say so.
fn holds_groups(disk: &dyn Disk, of: &SegmentHeader) -> Result<bool, OpenError> {
    let own = |_: &GroupHeader, salt: u64| salt == of.salt;
    Ok(first_header(disk, of, HEADER_BYTES as u64, &own)?.is_some())
}

/// Whether the file of a segment is still the one that was surveyed, for all that its header says.
#[must_use]
pub fn is_still(disk: &dyn Disk, of: &Surveyed) -> bool {
    let mut head = [0; HEADER_BYTES];
    let read = disk.read_at(FileName::Segment(of.segment()), 0, &mut head);
    match SegmentHeader::decode(&head) {
        Ok(said) => read.is_ok() && said.salt == of.salt(),
        // So it was when it was surveyed.
        Err(_) => read.is_ok(),
    }
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
