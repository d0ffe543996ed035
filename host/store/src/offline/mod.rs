//! Looking at a log that nobody has open, or only as far as it cannot change: for the tools that
//! verify, dump, repair and copy it. Nothing here writes, but [`repair`].
//!
//! ```text
//!   survey ──► heads ──► examine, segment by segment, in any order ──► join ──► damage, counts
//!                              │ groups, entries, records, each checksum    what the seams say
//!                              └► the sidecar that the segment should have
//! ```
//!
//! Invariants:
//! - One parser: everything is read by the scanner of [`crate::recover`] and the formats.
//! - Damage is told by its place. What is not a whole group at the end of a log is no damage: it is
//!   being written, or was torn.
//! - Segments are examined without knowing each other, so threads can share the work.
//!
//! Start reading at [`survey`], then [`examine`].
use std::fmt;

use yard_wire::{GroupNumber, QueueIndex, QueueOffset, Timestamp, TopicId};

use crate::disk::FileName;

mod cut;
mod derived;
mod examine;
mod join;
mod kinds;
mod plain;
mod queues;
mod repair;
mod survey;
mod walk;

pub use cut::cut_off;
pub use derived::{Derived, Saved, Wrong, examine_derived, saved};
pub use examine::{Examined, examine};
pub use join::{Joined, Seam, join};
pub use kinds::kind_name;
pub use plain::read_through;
pub use repair::{Plan, Step, apply, plan};
pub use survey::{Survey, Surveyed, is_proven, is_still, survey};
pub use walk::{Line, dump};

/// Messages of one queue, from one offset to before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Their topic.
    pub topic: TopicId,
    /// Their queue.
    pub queue: QueueIndex,
    /// Offset of the first.
    pub from: QueueOffset,
    /// Offset after the last.
    pub to: QueueOffset,
}

/// A place where a file is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    /// The file.
    pub name: FileName,
    /// First byte of what is damaged.
    pub offset: u64,
    /// Its bytes; 0 when they are not there at all.
    pub bytes: u64,
    /// What it is.
    pub what: &'static str,
    /// Messages that cannot be read because of it, as far as the rest of the log tells.
    pub lost: Vec<Span>,
    /// Messages besides that are known to be lost, of which nothing tells the queue.
    pub unnamed: u64,
}

impl Damage {
    /// A place that takes no message, as far as it is known.
    #[must_use]
    pub fn new(name: FileName, offset: u64, bytes: u64, what: &'static str) -> Self {
        Self { name, offset, bytes, what, lost: Vec::new(), unnamed: 0 }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}, {} bytes: {}", self.name, self.offset, self.bytes, self.what)
    }
}

/// What was found whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Groups whose every checksum holds.
    pub groups: u64,
    /// Their entries.
    pub entries: u64,
    /// Messages whose checksums hold, and releases of such.
    pub records: u64,
    /// Messages whose checksums hold, and that got no place in their queues when they were stored.
    pub parked: u64,
    /// Bytes that were read of the file.
    pub bytes: u64,
}

impl Counts {
    /// Adds what was found elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.groups += other.groups;
        self.entries += other.entries;
        self.records += other.records;
        self.parked += other.parked;
        self.bytes += other.bytes;
    }
}

/// One end of the chain of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Number of the group.
    pub group: GroupNumber,
    /// Chain hash: of the first group of a segment that before it, of the last its own.
    pub chain: u64,
    /// When its entries were stored.
    pub stored: Timestamp,
}
