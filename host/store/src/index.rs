//! The queue index: where each record of each queue lies, in memory for segments that are being
//! written, in a sidecar for sealed ones.
//!
//! ```text
//!   (topic, queue) ──► Queue: next, committed
//!                      spans:  segment 0   segment 3   segment 3   segment 4
//!                              in sidecar  lost        in sidecar  in memory: [offset, bytes,
//! ```                                                                          stored]*
//!
//! Every offset below `next` is in one span. What the log held and holds no more, because it was
//! damaged or removed, is a span too: so nothing shifts, and whoever asks is told where to go on.
//!
//! What outlives its segment is copied forward (`index/retire.rs`):
//!
//! ```text
//!   0         first              front                         next
//!   │ removed ··│ in copies, newest │ spans: as they were appended │
//!   └────── retired segments ───────┘
//! ```
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use yard_tables::{Chunks, Paged};
use yard_wire::limits::BATCH_RECORDS_MAX;
use yard_wire::{QueueIndex, QueueOffset, RecordPlace, Timestamp, TopicId};

use crate::derived::{DerivedIndex, LogPlace, RecordView, Sought, TimeSearch};
use crate::few::Few;
use crate::format::sidecar::{
    IndexEntries, IndexEntry, IndexFile, IndexRead, Line, LineKind, SidecarHeader, Sums,
};

mod retire;

pub use retire::Part;
pub(crate) use retire::{Floor, KeptRange};

/// A walk notes the number of a run of a batch, or of releases, of which there are fewer.
const _: () = assert!(BATCH_RECORDS_MAX <= u16::MAX as usize);

/// Names a queue inside the index; never shown outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(u32);

/// What the index says about a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Located {
    /// Consecutive records from the one asked for on: at least one, at most as many as asked.
    Places(Vec<RecordPlace>),
    /// As above, but the entries must be read first.
    Read(IndexRead),
    /// Nothing is committed at or after the offset.
    End,
    /// The log does not hold the record any more.
    Gap {
        /// Offset after the last of those that are gone with it, and committed; at most the
        /// committed end.
        until: QueueOffset,
        /// Why.
        why: GapCause,
    },
}

/// Why the log does not hold records that it gave offsets to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapCause {
    /// Their bytes were damaged.
    Damaged,
    /// They were removed, as the settings say.
    Removed,
}

enum Held {
    /// Shared with whoever writes the sidecar, once the segment is sealed.
    Memory(Arc<IndexEntries>),
    Sidecar {
        file_offset: u64,
        count: u32,
    },
    Nowhere {
        count: u32,
        why: GapCause,
    },
}

/// The records of one queue in one segment.
struct Span {
    segment: u32,
    first: u64,
    /// The times of its entries count from here.
    base: Timestamp,
    sums: Sums,
    held: Held,
}

impl Span {
    fn count(&self) -> u64 {
        match &self.held {
            Held::Memory(entries) => entries.len() as u64,
            Held::Sidecar { count, .. } | Held::Nowhere { count, .. } => u64::from(*count),
        }
    }

    fn end(&self) -> u64 {
        self.first + self.count()
    }

    fn is_nowhere(&self) -> bool {
        matches!(self.held, Held::Nowhere { .. })
    }

    /// What a line for it says, unless it is one of copies.
    fn kind(&self) -> LineKind {
        if self.is_nowhere() { LineKind::Lost } else { LineKind::Appended }
    }

    fn push(&mut self, entry: IndexEntry) {
        let Held::Memory(entries) = &mut self.held else {
            unreachable!("what is written is in memory")
        };
        self.sums.add(&entry);
        Arc::get_mut(entries).expect("no sealed segment gets more records").push(entry);
    }
}

/// There are as many of them as the broker has queues, most of them idle.
struct Queue {
    topic: TopicId,
    queue: QueueIndex,
    /// Offset of the next record that is appended.
    next: u64,
    /// Offset after the newest durable record.
    committed: u64,
    /// Which walk touched the queue last, and what it noted.
    mark: (u32, u16),
    /// The queue that was asked for after this one, when that was last.
    follower: Slot,
    /// In order of segments and of offsets, without gaps.
    spans: Few<Span>,
    /// None where nothing was removed and nothing copied, as in most queues.
    late: Option<Box<Late>>,
}

/// How a queue begins of which segments were retired, or are about to be.
#[derive(Default)]
struct Late {
    /// Oldest offset; those below were removed.
    first: u64,
    /// The spans begin here; of those from `first` on there are copies.
    front: u64,
    /// Copies of records, in the order of the log. Of several the last counts; none counts where
    /// there is a span.
    copies: Vec<Span>,
}

impl Queue {
    /// Oldest offset; those below were removed.
    fn first(&self) -> u64 {
        self.late.as_ref().map_or(0, |late| late.first)
    }

    /// The spans begin here.
    fn front(&self) -> u64 {
        self.late.as_ref().map_or(0, |late| late.front)
    }

    fn copies(&self) -> &[Span] {
        self.late.as_ref().map_or(&[], |late| &late.copies)
    }

    fn copies_mut(&mut self) -> &mut [Span] {
        self.late.as_mut().map_or(&mut [], |late| &mut late.copies)
    }

    fn late_mut(&mut self) -> &mut Late {
        self.late.get_or_insert_default()
    }

    fn indexed(&self) -> u64 {
        self.spans.last().map_or_else(|| self.front(), Span::end)
    }

    fn line(&self, span: &Span) -> Line {
        let file_offset = match &span.held {
            Held::Sidecar { file_offset, .. } => *file_offset,
            Held::Memory(_) | Held::Nowhere { .. } => 0,
        };
        let (count, first) = (span.count() as u32, QueueOffset(span.first));
        let (topic, queue, stored_base, sums) = (self.topic, self.queue, span.base, span.sums);
        let kind = span.kind();
        Line { topic, queue, first, file_offset, count, kind, stored_base, sums }
    }
}

/// A queue, and the offset after its last record.
pub(crate) type QueueEnd = (TopicId, QueueIndex, QueueOffset);

/// Something that does not continue the queues as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Misfit;

/// A span that is written to a sidecar, and where its blocks begin there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SidecarPlace {
    slot: Slot,
    segment: u32,
    kind: LineKind,
    first: u64,
    file_offset: u64,
}

/// Every queue of a shard.
#[derive(Default)]
pub(crate) struct QueueIndexes {
    slots: Paged<(TopicId, QueueIndex), Slot>,
    queues: Chunks<Queue>,
    /// Time of the first group of each segment.
    stored_bases: BTreeMap<u32, Timestamp>,
    /// Queues with spans of segments that have no sidecar yet; some more than once.
    unsaved: BTreeMap<u32, Vec<Slot>>,
    /// The lowest segment that releases in a segment refer to, of those that have any.
    refers_from: BTreeMap<u32, u32>,
    /// Sealed segments of whose releases there are copies, so that they refer to nothing any more.
    copied: BTreeSet<u32>,
    /// The same of releases that lay in a segment before such a place in its file when the first
    /// segments went the last time.
    copied_before: BTreeMap<u32, u64>,
    last: Option<Slot>,
    walk: u32,
    /// The first segments are gone: a queue may begin at any offset.
    begins_late: bool,
}

impl QueueIndexes {
    /// The slot of a queue, made when it is new.
    pub(crate) fn slot(&mut self, topic: TopicId, queue: QueueIndex) -> Slot {
        let is_it = |slot: &Slot| {
            let found = &self.queues[slot.0 as usize];
            found.topic == topic && found.queue == queue
        };
        // Records of one queue come in runs, or queues take turns.
        if let Some(last) = self.last {
            let follower = self.queues[last.0 as usize].follower;
            if let Some(slot) = [last, follower].into_iter().find(is_it) {
                self.last = Some(slot);
                return slot;
            }
        }
        let known = self.slots.get(&(topic, queue)).copied();
        let slot = known.unwrap_or_else(|| self.make(topic, queue));
        if let Some(last) = self.last {
            self.queues[last.0 as usize].follower = slot;
        }
        self.last = Some(slot);
        slot
    }

    fn make(&mut self, topic: TopicId, queue: QueueIndex) -> Slot {
        let slot = Slot(u32::try_from(self.queues.len()).expect("topics bound the queues"));
        let before = self.slots.insert((topic, queue), slot);
        assert!(before.is_none(), "a queue is made once");
        self.queues.push(Queue {
            topic,
            queue,
            next: 0,
            committed: 0,
            mark: (0, 0),
            follower: slot,
            spans: Few::default(),
            late: None,
        });
        slot
    }

    /// Begins a walk over queues; see [`Self::note`].
    pub(crate) fn begin_walk(&mut self) {
        if self.walk == u32::MAX {
            self.queues.iter_mut().for_each(|queue| queue.mark = (0, 0));
            self.walk = 0;
        }
        self.walk += 1;
    }

    /// What this walk noted for the queue; notes `value` when it is here for the first time.
    pub(crate) fn note(&mut self, slot: Slot, value: u16) -> Option<u16> {
        let queue = &mut self.queues[slot.0 as usize];
        if queue.mark.0 == self.walk {
            return Some(queue.mark.1);
        }
        queue.mark = (self.walk, value);
        None
    }

    /// Gives the next records of the queue their offsets; returns the first.
    pub(crate) fn assign(&mut self, slot: Slot, count: u32) -> QueueOffset {
        let queue = &mut self.queues[slot.0 as usize];
        assert!(queue.next >= queue.committed, "what is durable was assigned");
        let first = queue.next;
        queue.next += u64::from(count);
        QueueOffset(first)
    }

    /// Makes the next record of the queue the one with this offset: those before it were lost in
    /// this segment, or at the end of the one before. Returns how many.
    pub(crate) fn skip_to(
        &mut self,
        slot: Slot,
        segment: u32,
        offset: QueueOffset,
    ) -> Result<u32, Misfit> {
        let queue = &mut self.queues[slot.0 as usize];
        assert_eq!(queue.indexed(), queue.next, "a recovery indexes what it assigns");
        let lost = offset.0.checked_sub(queue.next).ok_or(Misfit)?;
        if self.begins_late && queue.spans.is_empty() {
            // Those before were in segments that were retired: of some there may be copies.
            queue.next = offset.0;
            if offset.0 > queue.front() {
                queue.late_mut().front = offset.0;
            }
            return Ok(0);
        }
        let count = u32::try_from(lost).map_err(|_| Misfit)?;
        if count == 0 {
            return Ok(0);
        }
        match queue.spans.last_mut().filter(|last| last.segment == segment) {
            Some(Span { held: Held::Nowhere { count: held, .. }, .. }) => {
                *held = held.checked_add(count).ok_or(Misfit)?;
            }
            Some(_) | None => {
                queue.spans.push(Span::lost(segment, queue.next, count));
                self.unsaved.entry(segment).or_default().push(slot);
            }
        }
        queue.next = offset.0;
        Ok(count)
    }

    /// Records of the queue were stored up to this end: those that nothing else tells of were
    /// lost in this segment, or at the end of the one before. Returns how many.
    pub(crate) fn raise(&mut self, segment: u32, (topic, queue, end): QueueEnd) -> u32 {
        if self.next(topic, queue) >= end {
            return 0;
        }
        assert!(end.0 > 0, "an end behind another is not the first offset");
        let slot = self.slot(topic, queue);
        // As many as do not fit the count were never in one segment.
        self.skip_to(slot, segment, end).unwrap_or(0)
    }

    /// Where the queues end that have records in this segment or later.
    pub(crate) fn ends_from(&self, segment: u32) -> Vec<QueueEnd> {
        let end = |((topic, queue), slot): (&(TopicId, QueueIndex), &Slot)| {
            let found = &self.queues[slot.0 as usize];
            let is_in = found.spans.last().is_some_and(|last| last.segment >= segment);
            is_in.then_some((*topic, *queue, QueueOffset(found.indexed())))
        };
        self.slots.iter().filter_map(end).collect()
    }

    /// A segment begins with a group of this time.
    pub(crate) fn begin_segment(&mut self, segment: u32, stored: Timestamp) {
        let before = self.stored_bases.insert(segment, stored);
        assert!(before.is_none(), "a segment begins once");
        let last = self.stored_bases.last_key_value();
        assert_eq!(last.map(|(last, _)| *last), Some(segment), "segments begin in order");
    }

    /// Time of the first group of a segment that has one.
    pub(crate) fn stored_base(&self, segment: u32) -> Option<Timestamp> {
        self.stored_bases.get(&segment).copied()
    }

    /// A release in a segment refers to one before, or to the same.
    pub(crate) fn refer(&mut self, segment: u32, to: u32) {
        assert!(to <= segment, "targets lie before their releases");
        let lowest = self.refers_from.entry(segment).or_insert(to);
        *lowest = to.min(*lowest);
    }

    /// The lowest segment that releases in this segment refer to.
    pub(crate) fn refers_from(&self, segment: u32) -> Option<u32> {
        self.refers_from.get(&segment).copied()
    }

    /// The segments from `until` on with releases that refer to segments before, and of which
    /// there are no copies.
    pub(crate) fn referring_below(&self, until: u32) -> impl Iterator<Item = u32> + '_ {
        let later = self.refers_from.range(until..).map(|(segment, _)| *segment);
        later.filter(move |segment| {
            !self.copied.contains(segment) && self.reaches_to(*segment) < until
        })
    }

    /// The lowest segment that a release in this one may come to, over others between.
    fn reaches_to(&self, segment: u32) -> u32 {
        let mut lowest = segment;
        loop {
            let between = self.refers_from.range(lowest..=segment);
            let open = between.filter(|(of, _)| !self.copied.contains(of));
            let reached = open.map(|(_, to)| *to).min().unwrap_or(lowest);
            if reached >= lowest {
                return lowest;
            }
            lowest = reached;
        }
    }

    /// Adds the next assigned records of the queue that are not yet indexed.
    pub(crate) fn add(
        &mut self,
        slot: Slot,
        segment: u32,
        entries: impl IntoIterator<Item = IndexEntry>,
    ) {
        let base = self.stored_base(segment).expect("a segment with records has begun");
        let queue = &mut self.queues[slot.0 as usize];
        let first = queue.indexed();
        let last = queue.spans.last().map_or(0, |span| span.segment);
        assert!(last <= segment, "records are indexed in the order of the log");
        let (is_memory, is_same) = queue.spans.last().map_or((false, false), |span| {
            (matches!(span.held, Held::Memory(_)), span.segment == segment)
        });
        if !(is_memory && is_same) {
            queue.spans.push(Span::empty(segment, first, base));
            self.unsaved.entry(segment).or_default().push(slot);
        }
        let span = queue.spans.last_mut().expect("it was there or pushed just now");
        entries.into_iter().for_each(|entry| span.push(entry));
        assert!(queue.indexed() <= queue.next, "a record is assigned before it is indexed");
    }

    /// Everything indexed of the queue is durable; returns its new end.
    pub(crate) fn commit(&mut self, slot: Slot) -> (TopicId, QueueIndex, QueueOffset) {
        let queue = &mut self.queues[slot.0 as usize];
        let end = queue.indexed();
        assert!(end >= queue.committed && end <= queue.next, "a commit goes forward");
        queue.committed = end;
        (queue.topic, queue.queue, QueueOffset(end))
    }

    /// Everything indexed of every queue is durable: at the end of a recovery.
    pub(crate) fn commit_all(&mut self) {
        for queue in self.queues.iter_mut() {
            assert_eq!(queue.indexed(), queue.next, "a recovery indexes what it assigns");
            queue.committed = queue.next;
        }
    }

    /// The sidecar of a segment whose entries are in memory, with the file offset of each span.
    pub(crate) fn sidecar(&mut self, header: SidecarHeader) -> (IndexFile, Vec<SidecarPlace>) {
        let mut slots = self.unsaved.remove(&header.segment).unwrap_or_default();
        let key = |slot: &Slot| {
            let queue = &self.queues[slot.0 as usize];
            (queue.topic, queue.queue)
        };
        slots.sort_by_cached_key(key);
        slots.dedup();
        let mut spans = Vec::with_capacity(slots.len());
        let mut lines = Vec::with_capacity(slots.len());
        for slot in &slots {
            let queue = &self.queues[slot.0 as usize];
            for (span, kind) in queue.lines_of(header.segment) {
                let entries = match &span.held {
                    Held::Memory(entries) => Arc::clone(entries),
                    Held::Nowhere { .. } => Arc::default(),
                    Held::Sidecar { .. } => {
                        unreachable!("entries are in memory until their sidecar is written")
                    }
                };
                let line = Line { kind, ..queue.line(span) };
                spans.push((*slot, kind, span.first));
                lines.push((line, entries));
            }
        }
        let (file, offsets) = IndexFile::new(header, lines);
        let segment = header.segment;
        let place = |((slot, kind, first), file_offset)| SidecarPlace {
            slot,
            segment,
            kind,
            first,
            file_offset,
        };
        (file, spans.into_iter().zip(offsets).map(place).collect())
    }

    /// The sidecar is durable: its entries leave the memory.
    pub(crate) fn leave_memory(&mut self, places: &[SidecarPlace]) {
        for SidecarPlace { slot, segment, kind, first, file_offset } in places {
            let queue = &mut self.queues[slot.0 as usize];
            let found = if *kind == LineKind::Copies {
                let is_it = |span: &&mut Span| (span.segment, span.first) == (*segment, *first);
                queue.copies_mut().iter_mut().find(is_it)
            } else {
                let at = queue.spans.binary_search_by_key(first, |span| span.first);
                at.ok().map(|at| &mut queue.spans[at])
            };
            // Copies that no queue needs any more may have gone while the sidecar was written.
            let Some(span) = found else { continue };
            if let Held::Memory(entries) = &span.held {
                let (file_offset, count) = (*file_offset, entries.len() as u32);
                span.held = Held::Sidecar { file_offset, count };
            }
        }
    }

    /// Takes over the directory of the sidecar of the next segment; changes nothing when it does
    /// not continue the queues.
    pub(crate) fn load(&mut self, header: &SidecarHeader, lines: &[Line]) -> Result<(), Misfit> {
        let mut before: Option<&Line> = None;
        let mut last = None;
        for line in lines {
            let key = (line.topic, line.queue);
            if line.count == 0 || last.is_some_and(|last| last > key) {
                return Err(Misfit);
            }
            last = Some(key);
            if line.kind == LineKind::Copies {
                continue;
            }
            let fits = match before.filter(|before| (before.topic, before.queue) == key) {
                Some(before) => before.first.0 + u64::from(before.count) == line.first.0,
                None => {
                    let queue = self.get(line.topic, line.queue);
                    let next = queue.map_or(0, |queue| queue.next);
                    let begins = self.begins_late && queue.is_none_or(|it| it.spans.is_empty());
                    next == line.first.0 || (begins && next < line.first.0)
                }
            };
            if !fits {
                return Err(Misfit);
            }
            before = Some(line);
        }
        if header.refers_from.is_some_and(|to| to > header.segment) {
            return Err(Misfit);
        }
        self.begin_segment(header.segment, header.stored_base);
        if let Some(to) = header.refers_from {
            self.refer(header.segment, to);
        }
        for line in lines {
            let slot = self.slot(line.topic, line.queue);
            if line.kind != LineKind::Copies {
                self.skip_to(slot, header.segment, line.first)?;
            }
            let queue = &mut self.queues[slot.0 as usize];
            let (count, file_offset, segment) = (line.count, line.file_offset, header.segment);
            let held = match line.kind {
                LineKind::Lost => Held::Nowhere { count, why: GapCause::Damaged },
                LineKind::Appended | LineKind::Copies => Held::Sidecar { file_offset, count },
            };
            let (first, base, sums) = (line.first.0, line.stored_base, line.sums);
            let span = Span { segment, first, base, sums, held };
            if line.kind == LineKind::Copies {
                queue.add_copies(span);
                continue;
            }
            queue.spans.push(span);
            queue.next += u64::from(line.count);
            assert_eq!(queue.indexed(), queue.next, "the directory continues the queue");
        }
        Ok(())
    }

    /// Where up to `count` committed records of the queue are, from `from` on.
    pub(crate) fn locate(
        &self,
        topic: TopicId,
        queue: QueueIndex,
        from: QueueOffset,
        count: u32,
    ) -> Located {
        let Some(queue) = self.get(topic, queue) else {
            return Located::End;
        };
        if from.0 < queue.first() {
            let until = QueueOffset(queue.first());
            return Located::Gap { until, why: GapCause::Removed };
        }
        if from.0 >= queue.committed || count == 0 {
            return Located::End;
        }
        let (span, limit) = match queue.holder_of(from.0) {
            Ok(found) => found,
            Err(until) => {
                let until = QueueOffset(until.min(queue.committed));
                return Located::Gap { until, why: GapCause::Damaged };
            }
        };
        let count = u64::from(count).min(queue.committed.min(limit) - from.0) as u32;
        match &span.held {
            Held::Sidecar { .. } => {
                let line = queue.line(span);
                Located::Read(IndexRead::plan(span.segment, &line, from, count))
            }
            Held::Memory(entries) => {
                let wanted = entries.from((from.0 - span.first) as usize);
                let place = |entry: &IndexEntry| entry.place(span.segment, span.base);
                Located::Places(wanted.take(count as usize).map(place).collect())
            }
            Held::Nowhere { why, .. } => {
                let until = QueueOffset(queue.committed.min(span.first + span.count()));
                Located::Gap { until, why: *why }
            }
        }
    }

    /// Forgets a queue's records that lie at `from` or after; of a segment with a sidecar, all.
    fn truncate_queue(&mut self, slot: Slot, from: LogPlace) {
        let queue = &mut self.queues[slot.0 as usize];
        while let Some(last) = queue.spans.last_mut() {
            if last.segment < from.segment {
                break;
            }
            if let Held::Memory(entries) = &mut last.held
                && last.segment == from.segment
            {
                let entries = Arc::get_mut(entries).expect("no sealed segment is truncated");
                entries.truncate(from.offset);
                last.sums = Sums::of(entries);
                if entries.len() > 0 {
                    break;
                }
            }
            queue.spans.pop();
        }
        assert!(queue.indexed() <= queue.next, "truncating takes away");
        queue.next = queue.indexed();
        queue.committed = queue.committed.min(queue.next);
    }

    /// The offset of the oldest committed record of the queue that is there and was stored at
    /// `time` or later.
    pub(crate) fn offset_at(&self, topic: TopicId, queue: QueueIndex, time: Timestamp) -> Sought {
        let Some(queue) = self.get(topic, queue) else {
            return Sought::At(QueueOffset(0));
        };
        if let Some(found) = queue.copy_at(time) {
            return found;
        }
        let base = |span: &Span| self.stored_base(span.segment).expect("its segment has begun");
        let begun = queue.spans.partition_point(|span| base(span) < time);
        let is_there = |span: &&Span| !matches!(span.held, Held::Nowhere { .. });
        let after = queue.spans[begun..].iter().find(is_there);
        let after = after.map_or(queue.committed, |span| span.first.min(queue.committed));
        // All of a segment before was stored when this one began, or earlier.
        let Some(last) = queue.spans[..begun].last() else {
            return Sought::At(QueueOffset(after));
        };
        let mut lines = Vec::new();
        let base = base(last);
        for span in &queue.spans[within(&queue.spans, last.segment)] {
            match &span.held {
                Held::Sidecar { .. } => lines.push(queue.line(span)),
                Held::Memory(entries) => {
                    let delta = u32::try_from(time.0 - base.0);
                    let before = delta.map_or(entries.len(), |it| entries.stored_before(it));
                    if before < entries.len() {
                        let offset = span.first + before as u64;
                        return Sought::At(QueueOffset(offset.min(queue.committed)));
                    }
                }
                Held::Nowhere { .. } => {}
            }
        }
        TimeSearch::plan(last.segment, lines, time, QueueOffset(after))
    }

    fn get(&self, topic: TopicId, queue: QueueIndex) -> Option<&Queue> {
        self.slots.get(&(topic, queue)).map(|slot| &self.queues[slot.0 as usize])
    }

    /// Oldest offset and committed end of a queue; both 0 when nothing was ever stored in it.
    pub(crate) fn span(&self, topic: TopicId, queue: QueueIndex) -> (QueueOffset, QueueOffset) {
        self.get(topic, queue).map_or((QueueOffset(0), QueueOffset(0)), |queue| {
            (QueueOffset(queue.first()), QueueOffset(queue.committed))
        })
    }

    /// Offset that the next record of a queue gets.
    pub(crate) fn next(&self, topic: TopicId, queue: QueueIndex) -> QueueOffset {
        QueueOffset(self.get(topic, queue).map_or(0, |queue| queue.next))
    }

    /// Every queue in order, with its oldest offset and its committed end.
    pub(crate) fn iter(
        &self,
    ) -> impl Iterator<Item = (TopicId, QueueIndex, QueueOffset, QueueOffset)> + '_ {
        self.slots.iter().map(|((topic, queue), slot)| {
            let found = &self.queues[slot.0 as usize];
            (*topic, *queue, QueueOffset(found.first()), QueueOffset(found.committed))
        })
    }

    /// Records that are durable.
    pub(crate) fn messages(&self) -> u64 {
        self.queues.iter().map(Queue::messages).sum()
    }
}

impl DerivedIndex for QueueIndexes {
    const NAME: &'static str = "queues and times";

    fn apply(&mut self, record: &RecordView<'_>) {
        let slot = self.slot(record.topic, record.queue);
        let place = record.place;
        if record.offset.0 < self.queues[slot.0 as usize].next {
            return;
        }
        if self.stored_base(place.segment).is_none() {
            self.begin_segment(place.segment, place.stored);
        }
        let base = self.stored_base(place.segment).expect("begun just now");
        let delta = u32::try_from(place.stored.0 - base.0).expect("the segment was rolled in time");
        self.skip_to(slot, place.segment, record.offset).expect("offsets go forward");
        self.assign(slot, 1);
        let entry = IndexEntry::new(place.bytes, place.released, place.offset, delta);
        self.add(slot, place.segment, [entry]);
    }

    fn durable_to(&self) -> LogPlace {
        let sealed = |span: &Span| matches!(span.held, Held::Sidecar { .. });
        let spans = self.queues.iter().flat_map(|queue| &queue.spans[..]);
        let segment = spans.filter(|span| sealed(span)).map(|span| span.segment + 1).max();
        LogPlace { segment: segment.unwrap_or_default(), offset: 0 }
    }

    fn truncate(&mut self, from: LogPlace) {
        for slot in 0..self.queues.len() as u32 {
            self.truncate_queue(Slot(slot), from);
        }
        self.stored_bases.retain(|segment, _| *segment <= from.segment);
        self.unsaved.retain(|segment, _| *segment <= from.segment);
    }
}

/// The spans of one segment.
fn within(spans: &[Span], segment: u32) -> std::ops::Range<usize> {
    let begin = spans.partition_point(|span| span.segment < segment);
    begin..spans.partition_point(|span| span.segment <= segment)
}
