//! The first message of a queue that was stored at a time or later, exactly.
use std::collections::VecDeque;

use yard_wire::{QueueOffset, Timestamp};

use super::walk::{Step, Unread, Walk};
use crate::disk::{Disk, FileName};
use crate::error::ReadError;
use crate::format::segment;
use crate::format::sidecar::{BLOCK_ENTRIES, IndexRead, Line};
use crate::read;

/// What is known of the offset that belongs to a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sought {
    /// The oldest message that is there and was stored at the time or later has this offset; the
    /// queue's committed end when there is none yet.
    At(QueueOffset),
    /// It is in a sealed segment, whose index must be read.
    Read(TimeSearch),
}

/// A search in the index of a sealed segment. Any thread carries it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeSearch {
    segment: u32,
    /// Those of the queue that are left, in order: several only where records were lost.
    lines: VecDeque<Line>,
    time: Timestamp,
    /// The answer when all messages of the lines were stored before.
    otherwise: QueueOffset,
    /// Blocks of the first line that may hold the answer: first, and the one after the last.
    blocks: (u32, u32),
}

impl TimeSearch {
    pub(crate) fn plan(
        segment: u32,
        lines: Vec<Line>,
        time: Timestamp,
        otherwise: QueueOffset,
    ) -> Sought {
        let Some(first) = lines.first() else {
            return Sought::At(otherwise);
        };
        let blocks = all_blocks(first);
        let lines = lines.into();
        Sought::Read(Self { segment, lines, time, otherwise, blocks })
    }

    /// Searches until the answer is known or `bytes` were read, but reads once at least. What is
    /// left to do is a search again.
    ///
    /// # Errors
    /// [`ReadError`] when the disk cannot be read. An index that is damaged or gone is done
    /// without: the segment itself is searched, at one go.
    pub fn run(mut self, disk: &dyn Disk, bytes: u64) -> Result<Sought, ReadError> {
        let mut left = bytes.max(1);
        while let Some(line) = self.lines.front().copied() {
            let (low, high) = self.blocks;
            if low == high {
                // Between two blocks: the first message of the later one, or behind the line.
                if low < all_blocks(&line).1 {
                    return Ok(Sought::At(first_of(&line, low)));
                }
                self.lines.pop_front();
                self.blocks = self.lines.front().map_or((0, 0), all_blocks);
                continue;
            }
            if left == 0 {
                return Ok(Sought::Read(self));
            }
            assert!(low < high && high <= all_blocks(&line).1, "blocks of the line");
            let middle = low.midpoint(high);
            let first = first_of(&line, middle);
            let count = BLOCK_ENTRIES as u32;
            let wanted = IndexRead::plan(self.segment, &line, first, count);
            left = left.saturating_sub(wanted.bytes.into());
            let Some(places) = read::sidecar(disk, &wanted)? else {
                return self.search(disk);
            };
            let before = places.partition_point(|place| place.stored < self.time);
            if before == places.len() {
                self.blocks.0 = middle + 1;
            } else if before == 0 {
                self.blocks.1 = middle;
            } else {
                return Ok(Sought::At(QueueOffset(first.0 + before as u64)));
            }
        }
        Ok(Sought::At(self.otherwise))
    }

    /// The answer by the segment itself.
    fn search(&self, disk: &dyn Disk) -> Result<Sought, ReadError> {
        let line = self.lines.front().expect("asked while there is a line");
        let name = FileName::Segment(self.segment);
        let failed = |source| ReadError::Disk { name, offset: 0, source };
        let header = read::segment_header(disk, self.segment)?;
        let bounds = (segment::HEADER_BYTES as u32, header.capacity as u32);
        let mut walk = Walk::new(disk, header, &[], bounds);
        let mut least = None;
        while least.is_none() {
            let Some(step) = walk.next().map_err(failed)? else { break };
            let Step::Group(group) = step else { continue };
            if group.header.stored < self.time {
                continue;
            }
            // What is behind damage has offsets that are known to be lost.
            let read = walk.each_record(&group, |record| {
                let is_queue = (record.topic, record.queue) == (line.topic, line.queue);
                if is_queue && record.place.stored >= self.time {
                    least.get_or_insert(record.offset);
                }
            });
            if let Err(Unread::Disk(source)) = read {
                return Err(failed(source));
            }
        }
        Ok(Sought::At(least.unwrap_or(self.otherwise)))
    }
}

fn all_blocks(line: &Line) -> (u32, u32) {
    assert!(line.count > 0, "a line is for a queue with records");
    (0, line.count.div_ceil(BLOCK_ENTRIES as u32))
}

/// Offset of the first message of a block.
fn first_of(line: &Line, block: u32) -> QueueOffset {
    QueueOffset(line.first.0 + u64::from(block) * BLOCK_ENTRIES as u64)
}
