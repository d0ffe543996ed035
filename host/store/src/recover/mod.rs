//! Opening a log: what is there, what is damaged, where it ends.
use std::collections::BTreeMap;

use bytes::Bytes;
use yard_wire::codec::Malformed;
use yard_wire::release::Target;
use yard_wire::requests::Placed;
use yard_wire::{GroupNumber, TenantId, Timestamp};

use self::scan::disk_error;
use crate::config::StoreConfig;
use crate::disk::{Disk, FileName};
use crate::error::OpenError;
use crate::format::HeadError;
use crate::format::checkpoint::Checkpoint;
use crate::index::QueueIndexes;
use crate::io::Io;
use crate::store::{Cursor, Store};

mod heads;
mod open;
pub(crate) mod scan;
mod sidecars;

/// An entry of the log after the checkpoint, handed out once and in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The group that it is in.
    pub group: GroupNumber,
    /// What it was appended as: [`crate::BATCH`] or another.
    pub kind: u16,
    /// The tenant that it was appended for.
    pub tenant: TenantId,
    /// As it was appended.
    pub payload: Bytes,
    /// For a batch and releases: queue by queue, in order of first use, where the records went;
    /// the same as when it was appended.
    pub placed: Vec<Placed>,
    /// For a batch: where those of its records lie, in order, that are parked.
    pub parked: Vec<Target>,
    /// When it was stored.
    pub stored: Timestamp,
}

/// What had to be put right when a log was opened. Nothing that was durable is lost by any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
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
        let name = FileName::Checkpoint;
        let bytes = match disk.len(name) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(disk_error(name)(error)),
        };
        let mut found = vec![0; bytes as usize];
        disk.read_at(name, 0, &mut found).map_err(disk_error(name))?;
        match Checkpoint::decode(&Bytes::from(found)) {
            Ok(saved) if saved.shard == config.shard => Ok(Some(saved)),
            Ok(saved) => Err(OpenError::WrongShard { name, shard: saved.shard.0 }),
            Err(HeadError::Damaged) => Ok(None),
            Err(HeadError::Version(version)) => Err(OpenError::Version { name, version }),
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
        let opening = open::Opening {
            disk,
            config,
            checkpoint,
            on_entry,
            index: QueueIndexes::default(),
            cursor: Cursor::START,
            repairs: Vec::new(),
            unsaved: BTreeMap::new(),
        };
        opening.run()
    }
}
