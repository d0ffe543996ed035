//! Reading what is kept of segments that are about to go, on whichever thread.
use bytes::Bytes;
use yard_wire::{QueueIndex, QueueOffset, RecordPlace, TopicId};

use crate::config::MOVED_BYTES_MAX;
use crate::disk::Disk;
use crate::error::ReadError;
use crate::format::retire::KeptRecord;
use crate::format::sidecar::IndexRead;
use crate::read;

/// Consecutive records of a queue to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRead {
    /// Topic of the queue.
    pub topic: TopicId,
    /// The queue.
    pub queue: QueueIndex,
    /// Offset of the first.
    pub from: QueueOffset,
    /// Where they are.
    pub at: KeptAt,
}

/// Where records are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptAt {
    /// At these places.
    Places(Vec<RecordPlace>),
    /// Where these index entries say.
    Index(IndexRead),
}

/// What was read: as much as fits one piece, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptFound {
    /// The records.
    pub records: Vec<KeptRecord>,
    /// Of each read that was begun, in order: the offset up to which it was done.
    pub done: Vec<QueueOffset>,
    /// Records among them that were damaged: they are lost.
    pub damaged: u64,
}

/// Reads until a piece is full.
pub(crate) fn read(disk: &dyn Disk, reads: &[KeptRead]) -> Result<KeptFound, ReadError> {
    let (mut found, mut bytes) = (KeptFound::default(), 0);
    for read in reads {
        if bytes >= MOVED_BYTES_MAX {
            break;
        }
        let indexed;
        let places = match &read.at {
            KeptAt::Places(places) => places,
            KeptAt::Index(wanted) => {
                indexed = read::index(disk, wanted)?;
                &indexed
            }
        };
        let mut offset = read.from;
        for place in places {
            if bytes > 0 && bytes + place.bytes as usize > MOVED_BYTES_MAX {
                bytes = MOVED_BYTES_MAX;
                break;
            }
            match read_checked(disk, place)? {
                Some(record) => {
                    let KeptRead { topic, queue, .. } = *read;
                    let stored = place.stored;
                    let kept = KeptRecord { topic, queue, offset, stored, record };
                    bytes += kept.entry_bytes();
                    found.records.push(kept);
                }
                None => found.damaged += 1,
            }
            offset.0 += 1;
        }
        found.done.push(offset);
    }
    assert!(found.done.len() <= reads.len(), "a read is done once");
    Ok(found)
}

/// `None` for a record that is damaged; its neighbours are not.
fn read_checked(disk: &dyn Disk, place: &RecordPlace) -> Result<Option<Bytes>, ReadError> {
    match read::records(disk, std::slice::from_ref(place)) {
        Ok(mut records) => Ok(records.pop()),
        Err(ReadError::Damaged { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
