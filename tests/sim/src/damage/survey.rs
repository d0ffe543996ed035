//! A whole log: its files, every record in them and where it lies, and so what a damage hits.
use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use yard_store::disk::FileName;
use yard_wire::{QueueIndex, QueueOffset, TopicId};

use crate::planted;
use crate::powercut::bench::{Bench, places};
use crate::powercut::image::{Files, Image};
use crate::powercut::script::{self, SEGMENT_BYTES};

const SEGMENT_HEADER_BYTES: u64 = 512;

/// A record by topic, queue and offset.
pub(super) type Name = (TopicId, QueueIndex, u64);

/// A record and where it lies.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) record: Bytes,
    pub(super) segment: u32,
    pub(super) bytes: Range<u64>,
}

/// A log. See the module.
pub(super) struct Survey {
    pub(super) files: Files,
    pub(super) queues: BTreeMap<(TopicId, QueueIndex), Vec<Kept>>,
    pub(super) now: yard_wire::Timestamp,
    /// Names of the topics.
    pub(super) topics: Vec<String>,
}

/// What may be missing.
pub(super) struct Allowed {
    /// Whether something else shows that it was durable, so that it must be reported.
    names: BTreeMap<Name, bool>,
}

impl Allowed {
    pub(super) fn count(&self) -> usize {
        self.names.len()
    }

    pub(super) fn may_miss(&self, name: &Name) -> bool {
        self.names.contains_key(name)
    }

    pub(super) fn is_proven(&self, name: &Name) -> bool {
        self.names.get(name).copied().unwrap_or(true)
    }
}

impl Survey {
    /// The log that the script of this number leaves.
    pub(super) fn of(number: u64) -> Self {
        let recording = script::record(number, None);
        let mut image = Image::default();
        recording.steps.iter().for_each(|step| image.take(step));
        let files = image.in_order();
        let disk = files.disk();
        let now = recording.ended.plus_ms(1_000);
        let (bench, repairs) =
            Bench::open(&disk, SEGMENT_BYTES, now).expect("a whole log can be opened");
        assert!(repairs.is_empty(), "nothing was left to put right: {repairs:?}");
        let store = bench.shard.store();
        let mut queues: BTreeMap<_, Vec<Kept>> = BTreeMap::new();
        for (topic, queue, _, end) in store.queues() {
            let mut at = QueueOffset(0);
            while at < end {
                let places = places(store, &disk, (topic, queue, at)).expect("it is whole");
                let records = yard_store::read::records(&disk, &places).expect("it is whole");
                at.0 += places.len() as u64;
                let kept = places.iter().zip(records).map(|(place, record)| Kept {
                    record,
                    segment: place.segment,
                    bytes: place.offset.into()..u64::from(place.offset) + u64::from(place.bytes),
                });
                queues.entry((topic, queue)).or_default().extend(kept);
            }
        }
        assert!(!queues.is_empty(), "a script stores something");
        let topics = recording.topics.into_iter().map(|topic| topic.name).collect();
        Self { files, queues, now, topics }
    }

    fn all(&self) -> impl Iterator<Item = (Name, &Kept)> {
        self.queues.iter().flat_map(|((topic, queue), records)| {
            (0..).zip(records).map(move |(offset, kept)| ((*topic, *queue, offset), kept))
        })
    }

    /// Each file, how many of its bytes say something, and how many it has.
    pub(super) fn used_bytes(&self) -> Vec<(FileName, u64, u64)> {
        let used =
            |bytes: &Vec<u8>| bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        let files = self.files.0.iter();
        let files = files.map(|(name, bytes)| (*name, used(bytes) as u64, bytes.len() as u64));
        files.filter(|(_, used, _)| *used > 0).collect()
    }

    /// Where the last records of the log lie.
    pub(super) fn last_records(
        &self,
        count: usize,
    ) -> impl Iterator<Item = (FileName, Range<u64>)> + use<> {
        let mut places: Vec<_> =
            self.all().map(|(_, kept)| (kept.segment, kept.bytes.start, kept.bytes.end)).collect();
        places.sort_unstable();
        let from = places.len().saturating_sub(count);
        places
            .split_off(from)
            .into_iter()
            .map(|(segment, begin, end)| (FileName::Segment(segment), begin..end))
    }

    /// The segment in which the log ends, and its length.
    pub(super) fn end(&self) -> (FileName, u64) {
        let segment = self.all().map(|(_, kept)| kept.segment).max().unwrap_or_default();
        let name = FileName::Segment(segment);
        (name, self.files.0.get(&name).map_or(0, |bytes| bytes.len() as u64))
    }

    /// The record that this byte of a file belongs to.
    pub(super) fn record_at(&self, name: FileName, byte: u64) -> Option<Range<u64>> {
        let hit =
            |kept: &&Kept| FileName::Segment(kept.segment) == name && kept.bytes.contains(&byte);
        self.all().map(|(_, kept)| kept).find(hit).map(|kept| kept.bytes.clone())
    }

    /// What a damaged byte may cost: the record that it belongs to.
    pub(super) fn hit_by(&self, name: FileName, byte: u64) -> Allowed {
        let hit =
            |kept: &Kept| FileName::Segment(kept.segment) == name && kept.bytes.contains(&byte);
        let names = self.all().filter(|(_, kept)| hit(kept)).map(|(name, _)| (name, true));
        Allowed { names: names.collect() }
    }

    /// What cutting a segment to this length may cost: the records of groups that do not fit it.
    /// It may look like a group that was never written to its end.
    pub(super) fn cut_at(&self, name: FileName, length: u64) -> Allowed {
        let bytes = self.files.0.get(&name).map_or(&[][..], Vec::as_slice);
        let ends = planted::group_ends(bytes);
        let whole = ends.into_iter().map(|end| end as u64).take_while(|end| *end <= length).last();
        let hit = |kept: &Kept| {
            FileName::Segment(kept.segment) == name && kept.bytes.end > whole.unwrap_or(0)
        };
        let names = self.all().filter(|(_, kept)| hit(kept)).map(|(name, _)| (name, false));
        Allowed { names: names.collect() }
    }

    /// Where the groups begin that the checkpoint has seen of its segment, if that is the last.
    pub(super) fn seen_groups(&self) -> Vec<(FileName, u64)> {
        let (name, _) = self.end();
        let (segment, end) = self.checkpoint_at();
        let bytes = self.files.0.get(&name).map_or(&[][..], Vec::as_slice);
        if FileName::Segment(segment) != name {
            return Vec::new();
        }
        let ends = planted::group_ends(bytes).into_iter().map(|end| end.next_multiple_of(64));
        let begins = std::iter::once(SEGMENT_HEADER_BYTES).chain(ends.map(|end| end as u64));
        begins.take_while(|begin| *begin < end).map(|begin| (name, begin)).collect()
    }

    /// Segment and byte after the last group that the checkpoint has seen.
    fn checkpoint_at(&self) -> (u32, u64) {
        let Some(saved) = self.files.0.get(&FileName::Checkpoint) else { return (0, 0) };
        let segment = saved[12..16].try_into().map_or(0, u32::from_le_bytes);
        (segment, saved[16..24].try_into().map_or(0, u64::from_le_bytes))
    }

    /// What erasing a segment from a group on may cost: of what the checkpoint has seen, each must
    /// be reported.
    pub(super) fn erased_from(&self, name: FileName, from: u64) -> Allowed {
        let (segment, end) = self.checkpoint_at();
        assert_eq!(FileName::Segment(segment), name, "that segment is erased");
        let is_hit = |kept: &Kept| kept.segment == segment && kept.bytes.end > from;
        let hit = self.all().filter(|(_, kept)| is_hit(kept));
        Allowed { names: hit.map(|(name, kept)| (name, kept.bytes.end <= end)).collect() }
    }
}
