//! The heads of the segments: which there are, and whether they belong together.
use yard_wire::LogPos;

use super::scan::{disk_error, first_group};
use super::{Repair, cut};
use crate::config::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, StoreConfig};
use crate::disk::{Disk, FileName};
use crate::error::{Corrupt, OpenError};
use crate::format::HeadError;
use crate::format::checkpoint::Checkpoint;
use crate::format::segment::{HEADER_BYTES, SegmentHeader};

/// Reads the heads of all segments, in order and without a gap. A last one that was never
/// finished is removed.
pub(super) fn read_all(
    disk: &dyn Disk,
    config: &StoreConfig,
    names: &[FileName],
    checkpoint: Option<&Checkpoint>,
    repairs: &mut Vec<Repair>,
) -> Result<Vec<SegmentHeader>, OpenError> {
    let number = |name: &FileName| match name {
        FileName::Segment(segment) => Some(*segment),
        FileName::Index(_) | FileName::Keys { .. } | FileName::Checkpoint => None,
    };
    let numbers: Vec<u32> = names.iter().filter_map(number).collect();
    let mut heads: Vec<SegmentHeader> = Vec::with_capacity(numbers.len());
    for (index, segment) in numbers.iter().copied().enumerate() {
        // Which segment may be the first is known once the log was read.
        let expected = numbers[0].saturating_add(index as u32);
        if segment != expected {
            yard_wire::mark!(HeadGap);
            return Err(OpenError::Missing { segment: expected });
        }
        let before = heads.last().map(|last| LogPos(last.base.0 + last.capacity));
        let before = before.or((segment == 0).then_some(LogPos(0)));
        if let Some(head) = read(disk, config, segment)? {
            if before.is_some_and(|base| head.base != base) {
                yard_wire::mark!(HeadApart);
                let what = "the segment does not follow the one before it";
                return Err(Corrupt { segment, offset: 0, what }.into());
            }
            heads.push(head);
            continue;
        }
        let name = FileName::Segment(segment);
        let bytes = disk.len(name).map_err(disk_error(name))?;
        let next = match numbers.get(index + 1) {
            Some(next) => read(disk, config, *next)?,
            None => None,
        };
        let is_last = index + 1 == numbers.len();
        let is_sealed = names.contains(&FileName::Index(segment));
        let saved = names.contains(&FileName::Checkpoint);
        let is_first = index == 0 && (segment > 0 || saved);
        let is_seen = checkpoint.is_some_and(|saved| saved.segment >= segment);
        let front = first_group(disk, config.shard, name, bytes)?;
        let front = front.or_else(|| cut::salt(disk, names, segment));
        if is_last && !is_sealed && !is_first && !is_seen && front.is_none() {
            yard_wire::mark!(HeadUnfinished);
            disk.remove(name).map_err(disk_error(name))?;
            repairs.push(Repair::SegmentRemoved { segment });
            continue;
        }
        // Of the first segment of a log that begins late, only the next one says where it begins.
        let base = before.or(next.and_then(|next| next.base.0.checked_sub(bytes).map(LogPos)));
        let what = "the headers of the first segments";
        let base = base.ok_or_else(|| {
            yard_wire::mark!(HeadUnknown);
            Corrupt { segment, offset: 0, what }
        })?;
        heads.push(derived(config, segment, base, (bytes, next), front.unwrap_or(0)));
        yard_wire::mark!(HeadDerived);
        let what = "the header of the segment";
        let (offset, bytes, lost) = (0, HEADER_BYTES as u64, Vec::new());
        repairs.push(Repair::Quarantined { segment, offset, bytes, what, lost });
    }
    Ok(heads)
}

/// The head of a segment whose own is damaged: what it said is known otherwise. Its length is
/// what the next one leaves it, or that of the file; unless that was cut off as well.
fn derived(
    config: &StoreConfig,
    segment: u32,
    base: LogPos,
    (bytes, next): (u64, Option<SegmentHeader>),
    salt: u64,
) -> SegmentHeader {
    let room = next.and_then(|next| next.base.0.checked_sub(base.0));
    let known = [room, Some(bytes)].into_iter().flatten().find(|bytes| is_capacity(*bytes));
    let capacity = known.unwrap_or(config.segment_bytes);
    assert!(segment == 0 || base.0 > 0, "a later segment lies behind the first");
    assert!(is_capacity(capacity), "a file's, or that of a checked setting");
    SegmentHeader { shard: config.shard, segment, capacity, base, salt }
}

fn is_capacity(bytes: u64) -> bool {
    (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes)
        && bytes.is_multiple_of(HEADER_BYTES as u64)
}

/// Reads one head; `None` when it is not there or damaged. The file may have another length than
/// it says: what of it is gone counts as zeros, and nobody looks at what is too much.
fn read(
    disk: &dyn Disk,
    config: &StoreConfig,
    segment: u32,
) -> Result<Option<SegmentHeader>, OpenError> {
    let name = FileName::Segment(segment);
    let bytes = disk.len(name).map_err(disk_error(name))?;
    if bytes < HEADER_BYTES as u64 {
        yard_wire::mark!(HeadShort);
        return Ok(None);
    }
    let mut head = [0; HEADER_BYTES];
    disk.read_at(name, 0, &mut head).map_err(disk_error(name))?;
    let head = match SegmentHeader::decode(&head) {
        Ok(head) => head,
        Err(HeadError::Damaged) => {
            yard_wire::mark!(HeadDamaged);
            return Ok(None);
        }
        Err(HeadError::Version(version)) => {
            yard_wire::mark!(HeadVersion);
            return Err(OpenError::Version { name, version });
        }
    };
    if head.shard != config.shard {
        yard_wire::mark!(HeadOtherShard);
        return Err(OpenError::WrongShard { name, shard: head.shard.0 });
    }
    let corrupt = |what| Err(Corrupt { segment, offset: 0, what }.into());
    if head.segment != segment {
        yard_wire::mark!(HeadOtherSegment);
        return corrupt("the header belongs to another segment");
    }
    if !is_capacity(head.capacity) {
        yard_wire::mark!(HeadCapacity);
        return corrupt("the capacity of the segment is out of bounds");
    }
    Ok(Some(head))
}
