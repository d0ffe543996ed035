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
use std::collections::BTreeMap;
use std::sync::Arc;

use yard_wire::{QueueIndex, QueueOffset, RecordPlace, Timestamp, TopicId};

use crate::format::sidecar::{IndexEntries, IndexEntry, IndexFile, IndexRead, Line, SidecarHeader};

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
    held: Held,
}

impl Span {
    fn count(&self) -> u64 {
        match &self.held {
            Held::Memory(entries) => entries.len() as u64,
            Held::Sidecar { count, .. } | Held::Nowhere { count, .. } => u64::from(*count),
        }
    }
}

struct Queue {
    topic: TopicId,
    queue: QueueIndex,
    /// Offset of the next record that is appended.
    next: u64,
    /// Offset after the newest durable record.
    committed: u64,
    /// Which walk touched the queue last, and what it noted.
    mark: (u64, u32),
    /// The queue that was asked for after this one, when that was last.
    follower: Slot,
    /// In order of segments and of offsets, without gaps.
    spans: Vec<Span>,
}

impl Queue {
    fn indexed(&self) -> u64 {
        self.spans.last().map_or(0, |span| span.first + span.count())
    }

    fn first(&self) -> u64 {
        self.spans.first().map_or(0, |span| span.first)
    }

    fn line(&self, span: &Span) -> Line {
        let file_offset = match &span.held {
            Held::Sidecar { file_offset, .. } => *file_offset,
            Held::Memory(_) | Held::Nowhere { .. } => 0,
        };
        let (count, first) = (span.count() as u32, QueueOffset(span.first));
        let lost = matches!(span.held, Held::Nowhere { .. });
        Line { topic: self.topic, queue: self.queue, first, file_offset, count, lost }
    }
}

/// Something that does not continue the queues as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Misfit;

/// A span that is written to a sidecar, and where its blocks begin there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SidecarPlace {
    slot: Slot,
    first: u64,
    file_offset: u64,
}

/// Every queue of a shard.
#[derive(Default)]
pub(crate) struct QueueIndexes {
    slots: BTreeMap<(TopicId, QueueIndex), Slot>,
    queues: Vec<Queue>,
    /// Time of the first group of each segment.
    stored_bases: BTreeMap<u32, Timestamp>,
    /// The lowest segment that releases in a segment refer to, of those that have any.
    refers_from: BTreeMap<u32, u32>,
    last: Option<Slot>,
    walk: u64,
    /// Records in spans that hold nothing.
    gone: u64,
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
        let fresh = Slot(u32::try_from(self.queues.len()).expect("topics bound the queues"));
        let slot = *self.slots.entry((topic, queue)).or_insert(fresh);
        if slot == fresh {
            let (mark, follower, spans) = ((0, 0), fresh, Vec::new());
            self.queues.push(Queue { topic, queue, next: 0, committed: 0, mark, follower, spans });
        }
        if let Some(last) = self.last {
            self.queues[last.0 as usize].follower = slot;
        }
        self.last = Some(slot);
        slot
    }

    /// Begins a walk over queues; see [`Self::note`].
    pub(crate) fn begin_walk(&mut self) {
        self.walk += 1;
    }

    /// What this walk noted for the queue; notes `value` when it is here for the first time.
    pub(crate) fn note(&mut self, slot: Slot, value: u32) -> Option<u32> {
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
    /// this segment, or at the end of the one before.
    pub(crate) fn skip_to(
        &mut self,
        slot: Slot,
        segment: u32,
        offset: QueueOffset,
    ) -> Result<(), Misfit> {
        let queue = &mut self.queues[slot.0 as usize];
        assert_eq!(queue.indexed(), queue.next, "a recovery indexes what it assigns");
        let lost = offset.0.checked_sub(queue.next).ok_or(Misfit)?;
        let count = u32::try_from(lost).map_err(|_| Misfit)?;
        if count == 0 {
            return Ok(());
        }
        match queue.spans.last_mut().filter(|last| last.segment == segment) {
            Some(Span { held: Held::Nowhere { count: held, .. }, .. }) => {
                *held = held.checked_add(count).ok_or(Misfit)?;
            }
            Some(_) | None => {
                let held = Held::Nowhere { count, why: GapCause::Damaged };
                queue.spans.push(Span { segment, first: queue.next, held });
            }
        }
        queue.next = offset.0;
        self.gone += lost;
        Ok(())
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

    /// The lowest segment that releases in this segment and later ones refer to.
    pub(crate) fn referred_from(&self, segment: u32) -> Option<u32> {
        self.refers_from.range(segment..).map(|(_, lowest)| *lowest).min()
    }

    /// Adds the next assigned records of the queue that are not yet indexed.
    pub(crate) fn add(
        &mut self,
        slot: Slot,
        segment: u32,
        entries: impl IntoIterator<Item = IndexEntry>,
    ) {
        let queue = &mut self.queues[slot.0 as usize];
        let first = queue.indexed();
        let last = queue.spans.last().map_or(0, |span| span.segment);
        assert!(last <= segment, "records are indexed in the order of the log");
        let (is_memory, is_same) = queue.spans.last().map_or((false, false), |span| {
            (matches!(span.held, Held::Memory(_)), span.segment == segment)
        });
        if !(is_memory && is_same) {
            let held = Held::Memory(Arc::default());
            queue.spans.push(Span { segment, first, held });
        }
        let span = queue.spans.last_mut().expect("it was there or pushed just now");
        let Held::Memory(held) = &mut span.held else {
            unreachable!("the span was pushed or is in memory")
        };
        let held = Arc::get_mut(held).expect("no sealed segment gets more records");
        entries.into_iter().for_each(|entry| held.push(entry));
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
        for queue in &mut self.queues {
            assert_eq!(queue.indexed(), queue.next, "a recovery indexes what it assigns");
            queue.committed = queue.next;
        }
    }

    /// The sidecar of a segment whose entries are in memory, with the file offset of each span.
    pub(crate) fn sidecar(&self, header: SidecarHeader) -> (IndexFile, Vec<SidecarPlace>) {
        let mut spans = Vec::new();
        let mut lines = Vec::new();
        for slot in self.slots.values() {
            let queue = &self.queues[slot.0 as usize];
            for span in &queue.spans[within(&queue.spans, header.segment)] {
                let entries = match &span.held {
                    Held::Memory(entries) => Arc::clone(entries),
                    Held::Nowhere { .. } => Arc::default(),
                    Held::Sidecar { .. } => {
                        unreachable!("entries are in memory until their sidecar is written")
                    }
                };
                spans.push((*slot, span.first));
                lines.push((queue.line(span), entries));
            }
        }
        let (file, offsets) = IndexFile::new(header, lines);
        let place = |((slot, first), file_offset)| SidecarPlace { slot, first, file_offset };
        (file, spans.into_iter().zip(offsets).map(place).collect())
    }

    /// The sidecar is durable: its entries leave the memory.
    pub(crate) fn leave_memory(&mut self, places: &[SidecarPlace]) {
        for SidecarPlace { slot, first, file_offset } in places {
            let spans = &mut self.queues[slot.0 as usize].spans;
            let span = spans.binary_search_by_key(first, |span| span.first);
            let span = &mut spans[span.expect("the sidecar was made from this index")];
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
        for line in lines {
            let key = (line.topic, line.queue);
            let next = match before.filter(|before| (before.topic, before.queue) == key) {
                Some(before) => before.first.0 + u64::from(before.count),
                None => self.slots.get(&key).map_or(0, |slot| self.queues[slot.0 as usize].next),
            };
            let sorted = before.is_none_or(|before| (before.topic, before.queue) <= key);
            if line.first.0 != next || line.count == 0 || !sorted {
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
            let queue = &mut self.queues[slot.0 as usize];
            let (count, file_offset) = (line.count, line.file_offset);
            let held = if line.lost {
                self.gone += u64::from(count);
                Held::Nowhere { count, why: GapCause::Damaged }
            } else {
                Held::Sidecar { file_offset, count }
            };
            queue.spans.push(Span { segment: header.segment, first: line.first.0, held });
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
        let span = queue.spans.partition_point(|span| span.first <= from.0) - 1;
        let span = &queue.spans[span];
        let base = || self.stored_base(span.segment).expect("a segment with records has begun");
        let count = u64::from(count).min(queue.committed - from.0) as u32;
        match &span.held {
            Held::Sidecar { .. } => {
                let line = queue.line(span);
                Located::Read(IndexRead::plan(span.segment, base(), &line, from, count))
            }
            Held::Memory(entries) => {
                let (base, wanted) = (base(), entries.from((from.0 - span.first) as usize));
                let place = |entry: &IndexEntry| entry.place(span.segment, base);
                Located::Places(wanted.take(count as usize).map(place).collect())
            }
            Held::Nowhere { why, .. } => {
                let until = QueueOffset(queue.committed.min(span.first + span.count()));
                Located::Gap { until, why: *why }
            }
        }
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
        let held: u64 = self.queues.iter().map(|queue| queue.committed - queue.first()).sum();
        assert!(self.gone <= held, "what is gone had offsets");
        held - self.gone
    }
}

/// The spans of one segment.
fn within(spans: &[Span], segment: u32) -> std::ops::Range<usize> {
    let begin = spans.partition_point(|span| span.segment < segment);
    begin..spans.partition_point(|span| span.segment <= segment)
}
