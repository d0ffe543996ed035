//! Opening a log: what is there, what is damaged, where it ends.
use std::collections::BTreeMap;

use bytes::Bytes;
use yard_wire::codec::Malformed;
use yard_wire::release::Target;
use yard_wire::requests::Placed;
use yard_wire::{GroupNumber, QueueIndex, QueueOffset, ShardId, TenantId, Timestamp, TopicId};

use self::scan::{SegmentReader, disk_error};
use crate::config::StoreConfig;
use crate::disk::{Disk, FileName, PatientDisk};
use crate::error::OpenError;
use crate::format::checkpoint::Checkpoint;
use crate::format::retire::{RetiredPieces, SNAPSHOT, SnapshotPieces};
use crate::format::segment::{self, SegmentHeader};
use crate::format::{HeadError, entry};
use crate::index::QueueIndexes;
use crate::io::Io;
use crate::kept::Carried;
use crate::store::{Cursor, Store};

mod chunk;
pub(crate) mod cut;
mod heads;
mod open;
mod quarantine;
pub(crate) mod salvage;
pub(crate) mod scan;
pub(crate) mod sidecars;

/// An entry of the log after the checkpoint, handed out once and in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The group that it is in.
    pub group: GroupNumber,
    /// What it was appended as: [`crate::BATCH`] or another.
    pub kind: u16,
    /// The tenant that it was appended for.
    pub tenant: TenantId,
    /// For a batch: what was appended beside it.
    pub notes: Bytes,
    /// As it was appended.
    pub payload: Bytes,
    /// For a batch and releases: queue by queue, in order of first use, where the records went;
    /// the same as when it was appended.
    pub placed: Vec<Placed>,
    /// For a batch: those of its records, in order, that are parked.
    pub parked: Vec<Parked>,
    /// Where parked records lie from now on, of an entry of the store's own that says so: it has
    /// nothing else.
    pub carried: Vec<Carried>,
    /// When it was stored.
    pub stored: Timestamp,
}

/// A record that waits for its release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Where it lies.
    pub target: Target,
    /// All of it.
    pub record: Bytes,
}

/// Records that were stored and are lost: offsets `from` to before `to` of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Topic of the queue.
    pub topic: TopicId,
    /// The queue.
    pub queue: QueueIndex,
    /// First offset.
    pub from: QueueOffset,
    /// Offset after the last.
    pub to: QueueOffset,
}

/// What had to be put right when a log was opened. Nothing that was durable is lost by any but
/// [`Repair::Quarantined`] and [`Repair::FileCut`], and nothing that was durable is changed by any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Bytes that were durable are not what they were. What is left of them is served.
    Quarantined {
        /// Number of the segment.
        segment: u32,
        /// First byte of the damaged structure.
        offset: u64,
        /// How many bytes it has; 0 where all that is known is that something is missing.
        bytes: u64,
        /// What is damaged.
        what: &'static str,
        /// The records that are lost by it; none when all could be read all the same.
        lost: Vec<Lost>,
    },
    /// The file of a segment is shorter than when it was made, and nothing else says where the log
    /// ended: what was in the rest is lost. The file has its length again, or was removed.
    FileCut {
        /// Number of the segment.
        segment: u32,
        /// Byte at which the file ended.
        offset: u64,
        /// How many bytes were gone.
        bytes: u64,
        /// Messages that were there and are not reported otherwise, as far as the key index is in
        /// files; of which queues, it does not say. What came after those files is not counted.
        messages: u64,
    },
    /// The end of the log held bytes of a group that was not completely written.
    TailZeroed {
        /// Number of the segment.
        segment: u32,
        /// First byte that was zeroed.
        offset: u64,
        /// How many bytes.
        bytes: u64,
    },
    /// A segment that held nothing, or a torn group only, was removed.
    SegmentRemoved {
        /// Number of the segment.
        segment: u32,
    },
    /// The sidecar of a sealed segment was missing or damaged and was made again.
    IndexRebuilt {
        /// Number of the segment.
        segment: u32,
    },
    /// The checkpoint was damaged: everything was replayed.
    CheckpointIgnored,
}

/// A log that was opened.
pub struct Opened {
    /// The log.
    pub store: Store,
    /// What it wants of the disk to begin with.
    pub io: Vec<Io>,
    /// What was put right.
    pub repairs: Vec<Repair>,
}

impl Opened {
    /// Records of these queues were stored up to these offsets, as whoever replayed the entries
    /// knows: for example because a group has settled them. New ones come behind them; those that
    /// the log does not know of are reported as lost.
    pub fn prove_ends(&mut self, ends: &[(TopicId, QueueIndex, QueueOffset)]) {
        let mut lost = Vec::new();
        for (topic, queue, to) in ends.iter().copied() {
            let count = self.store.raise((topic, queue, to));
            if count > 0 {
                let from = QueueOffset(to.0 - u64::from(count));
                lost.push(Lost { topic, queue, from, to });
            }
        }
        if !lost.is_empty() {
            yard_wire::mark!(RecoveryEndsProven);
            let (segment, offset) = self.store.tail();
            let what = "messages before this place, which groups have settled";
            self.repairs.push(Repair::Quarantined { segment, offset, bytes: 0, what, lost });
        }
    }
}

/// Reads the checkpoint of a shard's log; `None` when there is none or it is damaged.
pub(crate) fn read_checkpoint(
    disk: &dyn Disk,
    shard: ShardId,
) -> Result<Option<Checkpoint>, OpenError> {
    let name = FileName::Checkpoint;
    let bytes = match disk.len(name) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            yard_wire::mark!(CheckpointAbsent);
            return Ok(None);
        }
        Err(error) => return Err(disk_error(name)(error)),
    };
    let mut found = vec![0; bytes as usize];
    disk.read_at(name, 0, &mut found).map_err(disk_error(name))?;
    checked(&Bytes::from(found), shard)
}

impl Store {
    /// Reads the checkpoint, so that its state can be restored before the rest is replayed by
    /// [`Store::open`]. `None` when there is none or it is damaged: then everything is replayed.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn read_checkpoint(
        disk: &dyn Disk,
        config: &StoreConfig,
    ) -> Result<Option<Checkpoint>, OpenError> {
        let disk = &PatientDisk::new(disk);
        let names = disk.list().map_err(|source| OpenError::List { source })?;
        let first = names.iter().find(|name| matches!(name, FileName::Segment(_)));
        let first = first.and_then(|name| name.segment()).unwrap_or(0);
        match read_checkpoint(disk, config.shard)? {
            Some(saved) if saved.segment >= first => Ok(Some(saved)),
            // The first entries of the log are gone: the state after them is in the log.
            Some(_) | None if first > 0 => {
                yard_wire::mark!(CheckpointFromLog);
                in_log(disk, config, &names)
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Opens the log of a shard, or creates it: finds its end, makes everything valid durable,
    /// and hands out the entries after the checkpoint.
    ///
    /// # Errors
    /// [`OpenError`]; an error of `on_entry` becomes [`OpenError::Entry`].
    pub fn open(
        disk: &dyn Disk,
        config: StoreConfig,
        checkpoint: Option<&Checkpoint>,
        on_entry: &mut dyn FnMut(Recovered) -> Result<(), Malformed>,
    ) -> Result<Opened, OpenError> {
        config.check()?;
        let disk = &PatientDisk::new(disk);
        let opening = open::Opening {
            disk,
            config,
            checkpoint,
            on_entry,
            index: QueueIndexes::default(),
            cursor: Cursor::START,
            repairs: Vec::new(),
            unsaved: BTreeMap::new(),
            ends: Vec::new(),
            bare: Vec::new(),
            chain_is_unknown: false,
            lacks_copies: false,
            begins: 0,
            retired: RetiredPieces::default(),
        };
        opening.run()
    }
}

/// Reads the bytes of a checkpoint; `None` when they are damaged.
fn checked(bytes: &Bytes, shard: ShardId) -> Result<Option<Checkpoint>, OpenError> {
    let name = FileName::Checkpoint;
    match Checkpoint::decode(bytes) {
        Ok(saved) if saved.shard == shard => Ok(Some(saved)),
        Ok(saved) => {
            yard_wire::mark!(CheckpointOtherShard);
            Err(OpenError::WrongShard { name, shard: saved.shard.0 })
        }
        Err(HeadError::Damaged) => {
            yard_wire::mark!(CheckpointDamaged);
            Ok(None)
        }
        Err(HeadError::Version(version)) => {
            yard_wire::mark!(CheckpointVersion);
            Err(OpenError::Version { name, version })
        }
    }
}

/// The newest state that is in the log, looked for from its end.
fn in_log(
    disk: &dyn Disk,
    config: &StoreConfig,
    names: &[FileName],
) -> Result<Option<Checkpoint>, OpenError> {
    let mut pieces = SnapshotPieces::default();
    for name in names.iter().rev().filter(|name| matches!(name, FileName::Segment(_))) {
        let mut head = [0; segment::HEADER_BYTES];
        let bytes = disk.len(*name).map_err(disk_error(*name))?;
        if bytes < head.len() as u64 {
            continue;
        }
        disk.read_at(*name, 0, &mut head).map_err(disk_error(*name))?;
        let Ok(head) = SegmentHeader::decode(&head) else { continue };
        let mut reader = SegmentReader::new(disk, head);
        let mut offset = segment::HEADER_BYTES as u64;
        while let Some(group) = reader.any_group(offset).map_err(disk_error(*name))? {
            let mut rest = group.payload.clone();
            while let Ok(entry) = entry::take_entry(&mut rest) {
                if entry.kind == SNAPSHOT {
                    pieces.add(&entry.payload);
                }
            }
            offset += group.header.total_bytes() as u64;
        }
        if let Some(bytes) = pieces.newest()
            && let Some(saved) = checked(&bytes, config.shard)?
        {
            yard_wire::mark!(CheckpointFoundInLog);
            return Ok(Some(Checkpoint { is_from_log: true, ..saved }));
        }
    }
    Ok(None)
}
