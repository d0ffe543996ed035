//! Reading what is kept of segments that are about to go, on whichever thread.
use bytes::Bytes;
use yard_wire::release::Target;
use yard_wire::{QueueIndex, QueueOffset, RecordPlace, Timestamp, TopicId};

use crate::config::MOVED_BYTES_MAX;
use crate::disk::Disk;
use crate::error::ReadError;
use crate::format::retire::{CarriedOn, KeptRecord, Row};
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
    /// Those only that have a release there.
    pub released_only: bool,
}

/// Where records are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptAt {
    /// At these places.
    Places(Vec<RecordPlace>),
    /// Where these index entries say.
    Index(IndexRead),
}

/// What the broker calls a parked record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub [u8; 16]);

/// A parked record that waits, and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What the broker calls it.
    pub token: Token,
    /// Where it lies.
    pub target: Target,
}

/// Where a parked record lies from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// What the broker calls it.
    pub token: Token,
    /// `None`: it was damaged and is lost.
    pub target: Option<Target>,
}

impl Carried {
    /// What a row of an entry of copies says, whose records count from this offset of a segment.
    pub(crate) fn at(segment: u32, begin: u32, copy: &CarriedOn) -> Self {
        let CarriedOn { token, at, bytes } = *copy;
        let ends = begin.checked_add(at).and_then(|offset| offset.checked_add(bytes));
        assert!(ends.is_some(), "segments are below 4 GiB");
        let target = Target { segment, offset: begin + at, bytes, released: false };
        Self { token, target: (bytes > 0).then_some(target) }
    }
}

/// What was read: as much as fits one piece, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptFound {
    /// Parked records, the first of those that were asked for; one that is damaged has no bytes.
    pub waiting: Vec<(Token, Bytes)>,
    /// The records.
    pub records: Vec<KeptRecord>,
    /// Of each read that was begun, in order: the offset up to which it was done.
    pub done: Vec<QueueOffset>,
    /// Records among them that were damaged: they are lost.
    pub damaged: u64,
}

/// Reads until a piece is full.
pub(crate) fn read(
    disk: &dyn Disk,
    reads: &[KeptRead],
    waiting: &[Waiting],
) -> Result<KeptFound, ReadError> {
    let (mut found, mut bytes) = (KeptFound::default(), 0);
    for Waiting { token, target } in waiting {
        if bytes > 0 && bytes + target.bytes as usize > MOVED_BYTES_MAX {
            bytes = MOVED_BYTES_MAX;
            break;
        }
        let record = read_checked(disk, &target.place(Timestamp(0)))?;
        found.damaged += u64::from(record.is_none());
        bytes += CarriedOn::BYTES + target.bytes as usize;
        found.waiting.push((*token, record.unwrap_or_default()));
    }
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
            if read.released_only && !place.released {
                offset.0 += 1;
                continue;
            }
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
        Err(ReadError::Damaged { .. }) => {
            yard_wire::mark!(RetireDamaged);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
