//! What the disk has really done, to hold every answer against: an answer that promises a place
//! leaves after the bytes are there.
//!
//! It reads the groups as they are written, by the layout in the store's FORMAT.md, and knows
//! nothing of what the shard believes.
use std::collections::BTreeMap;

use bytes::Bytes;
use yard_broker::Origin;
use yard_store::Io;
use yard_wire::batch::{self, BatchHeader};
use yard_wire::requests::{AckPlace, Produced};
use yard_wire::{Epoch, Lane, Malformed, ProducerId, Sequence, ShardId, Wire};

const GROUP_HEADER_BYTES: usize = 64;
const PAYLOAD_BYTES_AT: usize = 48;
const ENTRY_HEADER_BYTES: usize = 24;
const ENTRY_KIND_AT: usize = 8;
const PLACEMENTS_AT: usize = 16;
const PLACEMENT_BYTES: usize = 18;
const NOTES_AT: usize = 20;
const ENTRY_FOOTER_BYTES: usize = 4;
const BATCH_KIND: u16 = 1;
/// A batch of which nothing is stored.
const DUPLICATES_KIND: u16 = 26;

type Batch = (ProducerId, Epoch, Lane, Sequence);

/// What the disk of one shard has really done.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// Groups below are written.
    written: u64,
    /// Groups below are synced.
    synced: u64,
    batches: BTreeMap<Batch, u64>,
    asked: BTreeMap<Origin, Batch>,
}

fn name(header: &BatchHeader) -> Batch {
    (header.producer, header.epoch, header.lane, header.sequence)
}

/// The batch of which nothing is stored, by its entry.
fn name_alone(payload: &[u8]) -> Result<Batch, Malformed> {
    let mut input = Bytes::copy_from_slice(payload);
    let (producer, epoch) = (ProducerId::take(&mut input)?, Epoch::take(&mut input)?);
    let (lane, _shard) = (Lane::take(&mut input)?, ShardId::take(&mut input)?);
    Ok((producer, epoch, lane, Sequence::take(&mut input)?))
}

impl Oracle {
    /// A produce request was let in.
    pub(crate) fn asked(&mut self, origin: Origin, header: &BatchHeader) {
        if origin.correlation.0 != 0 {
            self.asked.insert(origin, name(header));
        }
    }

    /// The disk tries this: even what fails may be there after the next start.
    pub(crate) fn tried(&mut self, io: &Io) {
        if let Io::WriteGroup { group, bytes, .. } = io {
            self.read_group(group.0, bytes);
        }
    }

    /// The disk has done this.
    pub(crate) fn done(&mut self, io: &Io) {
        match io {
            Io::WriteGroup { group, .. } => self.written = group.0 + 1,
            Io::SyncGroup { group, .. } => self.synced = group.0 + 1,
            Io::PrepareSegment { .. }
            | Io::WriteIndex { .. }
            | Io::IndexKeys { .. }
            | Io::WriteKeys { .. }
            | Io::ReadKept { .. }
            | Io::RemoveSegment { .. }
            | Io::WriteCheckpoint { .. } => {}
        }
    }

    fn read_group(&mut self, group: u64, bytes: &[u8]) {
        let u32_at = |at: usize| {
            let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
            four.map_or(0, u32::from_le_bytes) as usize
        };
        let end = GROUP_HEADER_BYTES + u32_at(PAYLOAD_BYTES_AT);
        let mut at = GROUP_HEADER_BYTES;
        while at < end {
            let length = u32_at(at);
            let kind = u32_at(at + ENTRY_KIND_AT) as u16;
            let placements = u32_at(at + PLACEMENTS_AT) * PLACEMENT_BYTES;
            let batch_at = at + ENTRY_HEADER_BYTES + placements + u32_at(at + NOTES_AT);
            if kind == BATCH_KIND
                && let Some(batch) = bytes.get(batch_at..at + length - ENTRY_FOOTER_BYTES)
                && let Ok((header, _)) = batch::parse_header(batch)
            {
                // The first copy counts; a second one would be a finding of the checker's.
                self.batches.entry(name(&header)).or_insert(group);
            }
            let alone = bytes.get(at + ENTRY_HEADER_BYTES..at + length);
            if let (DUPLICATES_KIND, Some(alone)) = (kind, alone)
                && let Ok(batch) = name_alone(alone)
            {
                self.batches.entry(batch).or_insert(group);
            }
            assert!(length >= ENTRY_HEADER_BYTES, "the group is laid out as drawn");
            at += length;
        }
    }

    /// The shard was opened: of what was written before, only groups below `groups` are there,
    /// and they are durable.
    pub(crate) fn reopened(&mut self, groups: u64) {
        self.written = groups;
        self.synced = groups;
        self.asked.clear();
        self.batches.retain(|_, group| *group < groups);
    }

    /// An answer leaves.
    ///
    /// # Errors
    /// The promise that it makes too early.
    pub(crate) fn answered(&mut self, origin: Origin, produced: &Produced) -> Result<(), String> {
        let Some(batch) = self.asked.remove(&origin) else { return Ok(()) };
        let group = self.batches.get(&batch).copied().unwrap_or(u64::MAX);
        let below = match produced.place {
            AckPlace::Memory => return Ok(()),
            AckPlace::Written => self.written,
            AckPlace::Synced => self.synced,
        };
        if group < below {
            return Ok(());
        }
        let Produced { place, duplicate, .. } = produced;
        Err(format!(
            "answered too early: batch {batch:?} as {place:?} (duplicate: {duplicate}), \
             groups below {below} are"
        ))
    }
}
