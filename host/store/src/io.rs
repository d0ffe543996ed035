//! What the store wants of the disk, what came of it, and the one place that does it.
//!
//! ```text
//!   close_group ──► WriteGroup ──► Written ──► SyncGroup ──► Synced ──► the group is committed
//!               └─► (roll) WriteIndex, PrepareSegment of the segment after
//!   checkpoint  ──► (once its group is synced) WriteCheckpoint
//!   Synced      ──► (every few MiB) IndexKeys, WriteKeys
//!   retire      ──► ReadKept ──► … copied, recorded, synced … ──► RemoveSegment, oldest first
//! ```
//!
//! `WriteGroup` and `SyncGroup` come one at a time and in order. The others may be done by another
//! thread, in any order and as late as it likes.
use std::io;

use bytes::Bytes;
use yard_wire::GroupNumber;

use crate::derived::KeyJob;
use crate::disk::{Disk, FileName};
use crate::format::checkpoint::Checkpoint;
use crate::format::keys::{KeyHead, KeyRun};
use crate::format::sidecar::IndexFile;
use crate::kept::{self, KeptFound, KeptRead, Waiting};
use crate::shard_state::ShardState;

/// Something to do on the disk of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Io {
    /// Write a closed group.
    WriteGroup {
        /// Number of the group.
        group: GroupNumber,
        /// Segment that it goes to.
        segment: u32,
        /// Byte offset in the segment's file.
        offset: u32,
        /// The group, from header to padding.
        bytes: Bytes,
    },
    /// Make a written group durable.
    SyncGroup {
        /// Number of the group.
        group: GroupNumber,
        /// Segment that holds it.
        segment: u32,
    },
    /// Create a segment, zeroed ahead.
    PrepareSegment {
        /// Number of the segment.
        segment: u32,
        /// Its header.
        header: Bytes,
        /// Bytes of the whole file.
        bytes: u64,
    },
    /// Write the queue index of a sealed segment.
    WriteIndex {
        /// Number of the segment.
        segment: u32,
        /// The whole file, not encoded yet.
        index: IndexFile,
    },
    /// Collect ids and keys of a part of a segment.
    IndexKeys {
        /// Which part.
        job: KeyJob,
    },
    /// Write a file of the key index.
    WriteKeys {
        /// Runs that follow each other and make the file, at least one.
        runs: Vec<KeyRun>,
    },
    /// Read records that are kept though their segment goes.
    ReadKept {
        /// Which ones.
        reads: Vec<KeptRead>,
        /// Parked ones, which come first.
        waiting: Vec<Waiting>,
    },
    /// Remove a segment and what is derived from it.
    RemoveSegment {
        /// Number of the segment.
        segment: u32,
    },
    /// Replace the checkpoint.
    WriteCheckpoint {
        /// What it says, but for the state.
        saved: Box<Checkpoint>,
        /// The state. Whoever writes it makes bytes of it, which takes its time with a large one.
        state: ShardState,
    },
}

/// What came of an [`Io`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IoDone {
    /// The group is in the page cache.
    Written {
        /// Number of the group.
        group: GroupNumber,
    },
    /// The group is durable.
    Synced {
        /// Number of the group.
        group: GroupNumber,
    },
    /// The group could not be written or synced: the log is fenced.
    Failed {
        /// Number of the group.
        group: GroupNumber,
    },
    /// The segment can be written to.
    Prepared {
        /// Number of the segment.
        segment: u32,
    },
    /// The segment could not be created.
    PrepareFailed {
        /// Number of the segment.
        segment: u32,
        /// For lack of space.
        no_space: bool,
    },
    /// The index of the segment is durable.
    IndexWritten {
        /// Number of the segment.
        segment: u32,
    },
    /// The index could not be written; it stays in memory.
    IndexFailed {
        /// Number of the segment.
        segment: u32,
    },
    /// Ids and keys were collected.
    KeysIndexed {
        /// What became of it.
        run: KeyRun,
    },
    /// A file of the key index is durable.
    KeysWritten {
        /// Which one.
        part: KeyHead,
    },
    /// A part of the log could not be read for its ids and keys.
    IndexKeysFailed,
    /// A file of the key index could not be written.
    WriteKeysFailed,
    /// Records that are kept were read.
    KeptRead(KeptFound),
    /// They could not be read.
    KeptFailed,
    /// The segment is gone, and so is what was derived from it.
    SegmentRemoved {
        /// Number of the segment.
        segment: u32,
    },
    /// The segment could not be removed.
    RemoveFailed {
        /// Number of the segment.
        segment: u32,
    },
    /// The checkpoint is durable.
    CheckpointWritten {
        /// Bytes of its state.
        state_bytes: u64,
    },
    /// The checkpoint could not be written; the one before stays.
    CheckpointFailed,
}

/// Does one I/O, blocking, and says what came of it.
#[must_use]
pub fn perform(disk: &dyn Disk, io: &Io) -> IoDone {
    match io {
        Io::WriteGroup { group, segment, offset, bytes } => {
            match disk.append_at(FileName::Segment(*segment), u64::from(*offset), bytes) {
                Ok(()) => IoDone::Written { group: *group },
                Err(_) => IoDone::Failed { group: *group },
            }
        }
        Io::SyncGroup { group, segment } => match disk.sync(FileName::Segment(*segment)) {
            Ok(()) => IoDone::Synced { group: *group },
            Err(_) => IoDone::Failed { group: *group },
        },
        Io::PrepareSegment { segment, header, bytes } => {
            match disk.create_segment(FileName::Segment(*segment), header, *bytes, *bytes) {
                Ok(()) => IoDone::Prepared { segment: *segment },
                Err(error) => {
                    let no_space = is_no_space(&error);
                    IoDone::PrepareFailed { segment: *segment, no_space }
                }
            }
        }
        Io::WriteIndex { segment, index } => {
            match disk.replace(FileName::Index(*segment), &index.encode()) {
                Ok(()) => IoDone::IndexWritten { segment: *segment },
                Err(_) => IoDone::IndexFailed { segment: *segment },
            }
        }
        Io::IndexKeys { job } => match job.run(disk) {
            Ok(run) => IoDone::KeysIndexed { run },
            Err(_) => IoDone::IndexKeysFailed,
        },
        Io::WriteKeys { runs } => {
            let run = KeyRun::merged(runs);
            match disk.replace(run.head().name(), run.bytes()) {
                Ok(()) => IoDone::KeysWritten { part: *run.head() },
                Err(_) => IoDone::WriteKeysFailed,
            }
        }
        Io::ReadKept { reads, waiting } => match kept::read(disk, reads, waiting) {
            Ok(found) => IoDone::KeptRead(found),
            Err(_) => IoDone::KeptFailed,
        },
        Io::RemoveSegment { segment } => match remove_segment(disk, *segment) {
            Ok(()) => IoDone::SegmentRemoved { segment: *segment },
            Err(_) => IoDone::RemoveFailed { segment: *segment },
        },
        Io::WriteCheckpoint { saved, state } => {
            let state = state.encode();
            let state_bytes = state.len() as u64;
            match disk.replace(FileName::Checkpoint, &saved.encode_with(&state)) {
                Ok(()) => IoDone::CheckpointWritten { state_bytes },
                Err(_) => IoDone::CheckpointFailed,
            }
        }
    }
}

/// The log itself goes last: what is derived from a segment is never there without it.
pub(crate) fn remove_segment(disk: &dyn Disk, segment: u32) -> io::Result<()> {
    for name in disk.list()?.into_iter().rev() {
        if name.segment() == Some(segment) && name != FileName::Segment(segment) {
            disk.remove(name)?;
        }
    }
    disk.remove(FileName::Segment(segment))
}

fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
