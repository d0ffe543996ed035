//! How far ids and keys are indexed, segment by segment, and what is to be done next.
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use yard_wire::Timestamp;

use super::LogPlace;
use super::build::KeyJob;
use super::find::{KeyQuery, KeySearch, Piece};
use super::walk::KeptGroup;
use crate::config::{
    KEY_KEPT_BYTES_MAX, KEY_PART_BYTES_MAX, KEY_PART_LOG_BYTES, KEY_RUN_LOG_BYTES,
};
use crate::disk::{Disk, FileName};
use crate::format::keys::{self, ENTRY_BYTES, KeyHead, KeyRun};
use crate::format::segment::{self, SegmentHeader};
use crate::io::Io;

/// One segment.
struct SegmentKeys {
    header: SegmentHeader,
    /// Byte after the last durable group.
    end: u32,
    /// In files: from the segment's first group on, without a gap.
    parts: Vec<KeyHead>,
    /// Going on behind them: what makes the part that is being written, or was not written.
    writing: Vec<KeyRun>,
    /// Going on behind that: of the part that is being collected.
    runs: Vec<KeyRun>,
    /// The last durable groups, as far as they are kept.
    kept: VecDeque<KeptGroup>,
}

impl SegmentKeys {
    fn new(header: SegmentHeader, end: u32) -> Self {
        let (parts, writing, runs, kept) = Default::default();
        Self { header, end, parts, writing, runs, kept }
    }

    /// Byte after what is in files.
    fn filed(&self) -> u32 {
        self.parts.last().map_or(segment::HEADER_BYTES as u32, |part| part.to)
    }

    /// Where the part that is being collected begins.
    fn part_from(&self) -> u32 {
        self.writing.last().map_or_else(|| self.filed(), |run| run.head().to)
    }

    /// Byte after what is indexed.
    fn indexed(&self) -> u32 {
        self.runs.last().map_or_else(|| self.part_from(), |run| run.head().to)
    }

    fn run_entries(&self) -> u32 {
        self.runs.iter().map(|run| run.head().entries).sum()
    }

    /// Where the part that is being made ends at the latest, but for the rest of a group.
    fn part_to_max(&self) -> u32 {
        let bytes = KEY_PART_LOG_BYTES.min(self.header.capacity / 4) as u32;
        self.part_from().saturating_add(bytes)
    }

    /// The runs make a part: a decision by the log alone, so that it is the same when the files
    /// are made again.
    fn part_is_full(&self) -> bool {
        self.run_entries() >= PART_ENTRIES_MAX || self.indexed() >= self.part_to_max()
    }

    /// All that will be in the part is there.
    fn part_is_whole(&self, is_sealed: bool) -> bool {
        let is_last = is_sealed && self.indexed() == self.end;
        !self.runs.is_empty() && (is_last || self.part_is_full())
    }

    fn write(&mut self) -> Io {
        if self.writing.is_empty() {
            self.writing = std::mem::take(&mut self.runs);
        }
        assert!(!self.writing.is_empty(), "a part is made of runs");
        assert!(self.indexed() <= self.end, "what is indexed is durable");
        Io::WriteKeys { runs: self.writing.clone() }
    }

    fn collect(&self) -> Io {
        let from = self.indexed();
        assert!(from < self.end, "there is something to index");
        let kept = self.kept.iter().filter(|(offset, _)| *offset >= from).cloned().collect();
        let entries_max = PART_ENTRIES_MAX - self.run_entries();
        let (header, end, to_max) = (self.header, self.end, self.part_to_max());
        Io::IndexKeys { job: KeyJob { header, from, end, kept, entries_max, to_max } }
    }

    /// Forgets groups before `offset`; returns their bytes.
    fn let_go(&mut self, offset: u32) -> usize {
        assert!(offset <= self.end, "what is indexed is durable");
        let mut bytes = 0;
        while self.kept.front().is_some_and(|(at, _)| *at < offset) {
            bytes += self.kept.pop_front().map_or(0, |(_, group)| group.len());
        }
        bytes
    }
}

const PART_ENTRIES_MAX: u32 = (KEY_PART_BYTES_MAX / ENTRY_BYTES) as u32;

/// The key index of a shard. Collecting goes on while a part is written: what is not collected when
/// its groups are no longer kept has to be read again.
#[derive(Default)]
pub(crate) struct KeyIndex {
    /// All that hold groups; all but the last are sealed.
    segments: BTreeMap<u32, SegmentKeys>,
    /// Those that are not in files to their end; of others there may be thousands.
    unfinished: BTreeSet<u32>,
    kept_bytes: usize,
    is_collecting: bool,
    is_writing: bool,
    /// The last job failed; `retry` goes on.
    has_failed: bool,
}

impl KeyIndex {
    /// Takes over what is there of the segments with these ends. What is not there or does not
    /// fit is made again later.
    pub(crate) fn open(
        disk: &dyn Disk,
        names: &[FileName],
        segments: impl Iterator<Item = (SegmentHeader, u32)>,
    ) -> Self {
        let mut index = Self::default();
        for (header, end) in segments {
            let mut keys = SegmentKeys::new(header, end);
            while keys.part_from() < end {
                let (segment, from) = (header.segment, keys.part_from());
                if names.binary_search(&FileName::Keys { segment, from }).is_err() {
                    break;
                }
                let fits = |head: &KeyHead| {
                    let whose = (head.shard, head.salt) == (header.shard, header.salt);
                    whose && head.to > head.from && head.to <= end
                };
                match keys::read_head(disk, segment, from).filter(fits) {
                    Some(head) => keys.parts.push(head),
                    None => break,
                }
            }
            index.unfinished.insert(header.segment);
            index.segments.insert(header.segment, keys);
        }
        let segments: Vec<u32> = index.segments.keys().copied().collect();
        segments.into_iter().for_each(|segment| index.note_finished(segment));
        for name in names {
            // What is in the way is no reason to do without the log.
            if let FileName::Keys { segment, from } = *name
                && !index.holds(segment, from)
            {
                let _ = disk.remove(*name);
            }
        }
        index
    }

    fn holds(&self, segment: u32, from: u32) -> bool {
        let parts = self.segments.get(&segment).map(|keys| &keys.parts);
        parts.is_some_and(|parts| parts.iter().any(|part| part.from == from))
    }

    /// A segment gets its first group.
    pub(crate) fn begin_segment(&mut self, header: SegmentHeader) {
        let keys = SegmentKeys::new(header, segment::HEADER_BYTES as u32);
        let before = self.segments.insert(header.segment, keys);
        assert!(before.is_none(), "a segment begins once");
        self.unfinished.insert(header.segment);
        // Only now it is known that the one before gets no more groups.
        self.note_finished(header.segment.wrapping_sub(1));
    }

    fn note_finished(&mut self, segment: u32) {
        let is_last = self.segments.last_key_value().is_some_and(|(last, _)| *last == segment);
        let keys = self.segments.get_mut(&segment);
        if is_last || keys.as_ref().is_some_and(|keys| keys.filed() != keys.end) {
            return;
        }
        self.unfinished.remove(&segment);
        if let Some(keys) = keys {
            assert!(keys.kept.is_empty() && keys.runs.is_empty(), "all of it is in files");
            // There may be thousands of segments: the room for what was kept goes as well.
            (keys.writing, keys.runs, keys.kept) = Default::default();
        }
    }

    /// Segments below this one are retired: their files go with them.
    pub(crate) fn forget_below(&mut self, segment: u32) {
        let kept = self.segments.split_off(&segment);
        for keys in std::mem::replace(&mut self.segments, kept).values() {
            self.kept_bytes -= keys.kept.iter().map(|(_, group)| group.len()).sum::<usize>();
        }
    }

    /// A group is durable.
    pub(crate) fn add_group(&mut self, segment: u32, offset: u32, bytes: Bytes) {
        let keys = self.segments.get_mut(&segment).expect("a segment begins before its groups");
        assert_eq!(keys.end, offset, "groups become durable in order");
        keys.end += bytes.len() as u32;
        self.kept_bytes += bytes.len();
        keys.kept.push_back((offset, bytes));
        for segment in &self.unfinished {
            let Some(keys) = self.segments.get_mut(segment) else { continue };
            // Indexing is behind: what leaves is read again.
            while self.kept_bytes > KEY_KEPT_BYTES_MAX
                && let Some((_, group)) = keys.kept.pop_front()
            {
                self.kept_bytes -= group.len();
            }
            if self.kept_bytes <= KEY_KEPT_BYTES_MAX {
                break;
            }
        }
    }

    /// What should be done next, as far as nothing of its kind is under way.
    pub(crate) fn next_io(&mut self, out: &mut Vec<Io>) {
        if self.has_failed {
            return;
        }
        if !self.is_writing
            && let Some(keys) = self.next_to_write()
        {
            out.push(keys.write());
            self.is_writing = true;
        }
        if !self.is_collecting
            && let Some(keys) = self.next_to_collect()
        {
            out.push(keys.collect());
            self.is_collecting = true;
        }
    }

    /// A segment with a part to be written: first what failed before.
    fn next_to_write(&mut self) -> Option<&mut SegmentKeys> {
        let newest = *self.segments.last_key_value()?.0;
        let wants = |segment: &&u32| {
            let keys = self.segments.get(*segment);
            keys.is_some_and(|keys| {
                !keys.writing.is_empty() || keys.part_is_whole(**segment < newest)
            })
        };
        let segment = *self.unfinished.iter().find(wants)?;
        self.segments.get_mut(&segment)
    }

    /// A segment to collect from: what is half done first, then what is still kept.
    fn next_to_collect(&self) -> Option<&SegmentKeys> {
        let (newest, live) = self.segments.last_key_value()?;
        let unfinished = || self.unfinished.iter().filter_map(|it| self.segments.get(it));
        let entries: u32 = unfinished().map(SegmentKeys::run_entries).sum();
        if entries >= 2 * PART_ENTRIES_MAX {
            return None;
        }
        let sealed = || unfinished().filter(|keys| keys.header.segment < *newest);
        let wants = |keys: &&SegmentKeys| keys.indexed() < keys.end && !keys.part_is_full();
        let mut begun = sealed().filter(|keys| !keys.runs.is_empty()).peekable();
        let others = begun.peek().is_some();
        if let Some(keys) = begun.find(wants) {
            return Some(keys);
        }
        let due = KEY_RUN_LOG_BYTES.min(live.header.capacity / 8) as u32;
        if live.end - live.indexed() >= due && wants(&live) {
            return Some(live);
        }
        sealed().rev().find(wants).filter(|_| !others)
    }

    /// A part of a segment was indexed.
    pub(crate) fn indexed(&mut self, run: KeyRun) {
        assert!(self.is_collecting, "a job was given out");
        self.is_collecting = false;
        let head = *run.head();
        let Some(keys) = self.segments.get_mut(&head.segment) else { return };
        if keys.header.salt != head.salt {
            return;
        }
        assert_eq!(keys.indexed(), head.from, "runs have no gap");
        keys.runs.push(run);
        self.kept_bytes -= keys.let_go(head.to);
    }

    /// The runs of a segment are a file now.
    pub(crate) fn written(&mut self, part: KeyHead) {
        assert!(self.is_writing, "a job was given out");
        self.is_writing = false;
        let Some(keys) = self.segments.get_mut(&part.segment) else { return };
        if keys.header.salt != part.salt {
            return;
        }
        assert_eq!((keys.filed(), keys.part_from()), (part.from, part.to), "parts have no gap");
        keys.parts.push(part);
        keys.writing.clear();
        self.note_finished(part.segment);
    }

    /// A part of the log could not be read.
    pub(crate) fn collect_failed(&mut self) {
        assert!(self.is_collecting, "a job was given out");
        (self.is_collecting, self.has_failed) = (false, true);
    }

    /// A file could not be written.
    pub(crate) fn write_failed(&mut self) {
        assert!(self.is_writing, "a job was given out");
        (self.is_writing, self.has_failed) = (false, true);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    pub(crate) fn retry(&mut self) {
        let under_way = self.is_collecting && self.is_writing;
        assert!(!self.has_failed || !under_way, "a failed job is no longer under way");
        self.has_failed = false;
    }

    /// A plan of where to look for a query, from `from` on.
    pub(crate) fn search(
        &self,
        query: KeyQuery,
        times: (Timestamp, Timestamp),
        from: LogPlace,
    ) -> KeySearch {
        let mut pieces = Vec::new();
        for keys in self.segments.range(from.segment..).map(|(_, keys)| keys) {
            let header = keys.header;
            pieces.extend(keys.parts.iter().map(|part| Piece::File { header, part: *part }));
            let runs = keys.writing.iter().chain(&keys.runs);
            pieces.extend(runs.cloned().map(Piece::Memory));
            let (from, to) = (keys.indexed(), keys.end);
            if from < to {
                let kept = keys.kept.iter().cloned().collect();
                pieces.push(Piece::Rest { header, from, to, kept });
            }
        }
        pieces.retain(|piece| piece.end() > from);
        KeySearch::new(query, times, from, pieces)
    }
}
