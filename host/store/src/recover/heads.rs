//! The heads of the segments: which there are, and whether they belong together.
use yard_wire::LogPos;

use super::Repair;
use super::scan::{disk_error, first_group};
use crate::config::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, StoreConfig};
use crate::disk::{Disk, FileName};
use crate::error::{Corrupt, OpenError};
use crate::format::HeadError;
use crate::format::segment::{HEADER_BYTES, SegmentHeader};

/// Reads the heads of all segments, in order and without a gap. A last one that was never
/// finished is removed.
pub(super) fn read_all(
    disk: &dyn Disk,
    config: &StoreConfig,
    names: &[FileName],
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
            return Err(OpenError::Missing { segment: expected });
        }
        match read(disk, config, segment)? {
            Some(head) => {
                let first_base = if segment == 0 { LogPos(0) } else { head.base };
                let base =
                    heads.last().map_or(first_base, |last| LogPos(last.base.0 + last.capacity));
                if head.base != base {
                    let what = "the segment does not follow the one before it";
                    return Err(Corrupt { segment, offset: 0, what }.into());
                }
                heads.push(head);
            }
            None => {
                let name = FileName::Segment(segment);
                let bytes = disk.len(name).map_err(disk_error(name))?;
                let last = index + 1 == numbers.len();
                let sealed = names.contains(&FileName::Index(segment));
                let saved = names.contains(&FileName::Checkpoint);
                let first = index == 0 && (segment > 0 || saved);
                let front = first_group(disk, config, name, bytes)?;
                if !last || sealed || first || front.is_some() {
                    let base = match heads.last() {
                        Some(before) => LogPos(before.base.0 + before.capacity),
                        None if segment == 0 => LogPos(0),
                        None => base_of_first(disk, config, segment, bytes)?,
                    };
                    let salt = front.unwrap_or(0);
                    let head = derived(config, segment, base, bytes, salt)?;
                    let what = "the header of the segment";
                    let (offset, bytes, lost) = (0, HEADER_BYTES as u64, Vec::new());
                    repairs.push(Repair::Quarantined { segment, offset, bytes, what, lost });
                    heads.push(head);
                    continue;
                }
                disk.remove(name).map_err(disk_error(name))?;
                repairs.push(Repair::SegmentRemoved { segment });
            }
        }
    }
    Ok(heads)
}

/// Where the first segment of a log begins whose own head is damaged: the next one's says it.
fn base_of_first(
    disk: &dyn Disk,
    config: &StoreConfig,
    segment: u32,
    bytes: u64,
) -> Result<LogPos, OpenError> {
    let next = match disk.len(FileName::Segment(segment + 1)) {
        Ok(_) => read(disk, config, segment + 1)?,
        Err(_) => None,
    };
    let base = next.and_then(|next| next.base.0.checked_sub(bytes));
    let what = "the headers of the first segments";
    base.map(LogPos).ok_or_else(|| Corrupt { segment, offset: 0, what }.into())
}

/// The head of a segment whose own is damaged: what it said is known otherwise.
fn derived(
    config: &StoreConfig,
    segment: u32,
    base: LogPos,
    capacity: u64,
    salt: u64,
) -> Result<SegmentHeader, OpenError> {
    if !is_capacity(capacity) {
        let what = "the header of the segment, and the file has not the length of one";
        return Err(Corrupt { segment, offset: 0, what }.into());
    }
    assert!(segment == 0 || base.0 > 0, "a later segment lies behind the first");
    Ok(SegmentHeader { shard: config.shard, segment, capacity, base, salt })
}

fn is_capacity(bytes: u64) -> bool {
    (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes)
        && bytes.is_multiple_of(HEADER_BYTES as u64)
}

/// Reads one head; `None` when it is not there or damaged.
fn read(
    disk: &dyn Disk,
    config: &StoreConfig,
    segment: u32,
) -> Result<Option<SegmentHeader>, OpenError> {
    let name = FileName::Segment(segment);
    let bytes = disk.len(name).map_err(disk_error(name))?;
    if bytes < HEADER_BYTES as u64 {
        return Ok(None);
    }
    let mut head = [0; HEADER_BYTES];
    disk.read_at(name, 0, &mut head).map_err(disk_error(name))?;
    let head = match SegmentHeader::decode(&head) {
        Ok(head) => head,
        Err(HeadError::Damaged) => return Ok(None),
        Err(HeadError::Version(version)) => return Err(OpenError::Version { name, version }),
    };
    if head.shard != config.shard {
        return Err(OpenError::WrongShard { name, shard: head.shard.0 });
    }
    let corrupt = |what| Err(Corrupt { segment, offset: 0, what }.into());
    if head.segment != segment {
        return corrupt("the header belongs to another segment");
    }
    if !is_capacity(head.capacity) {
        return corrupt("the capacity of the segment is out of bounds");
    }
    if head.capacity != bytes {
        return corrupt("the file is not as long as its header says");
    }
    Ok(Some(head))
}
