//! What the index does when segments are retired: which records are kept and must be copied
//! forward, where the copies are, and what is gone afterwards.
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use yard_wire::{QueueIndex, QueueOffset, Timestamp, TopicId};

use super::{GapCause, Held, Queue, QueueIndexes, Slot, Span, within};
use crate::derived::{Sought, TimeSearch};
use crate::format::sidecar::{IndexEntry, LineKind, Sums, delta_ms};

/// Consecutive records of a queue that lie in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The segment.
    pub segment: u32,
    /// Offset of the first.
    pub first: QueueOffset,
    /// Offset after the last.
    pub end: QueueOffset,
    /// Bytes of all of them.
    pub bytes: u64,
    /// When the first was stored.
    pub oldest: Timestamp,
    /// When the last was stored.
    pub newest: Timestamp,
}

/// Where a queue begins once segments are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Floor {
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueIndex,
    /// Its oldest offset.
    pub(crate) first: QueueOffset,
    /// From here on records are where they were appended; copies of those before, from `first` on.
    pub(crate) front: QueueOffset,
}

/// Records that must be copied before their segments go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeptRange {
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueIndex,
    pub(crate) from: QueueOffset,
    pub(crate) to: QueueOffset,
    /// Of the records that have a release there only: their segment stays, what it refers to does
    /// not.
    pub(crate) released_only: bool,
}

impl Span {
    pub(super) fn empty(segment: u32, first: u64, base: Timestamp) -> Self {
        let (sums, held) = (Sums::default(), Held::Memory(Arc::default()));
        Self { segment, first, base, sums, held }
    }

    pub(super) fn lost(segment: u32, first: u64, count: u32) -> Self {
        let held = Held::Nowhere { count, why: GapCause::Damaged };
        Self { segment, first, base: Timestamp(0), sums: Sums::default(), held }
    }

    fn part(&self, first: u64, end: u64) -> Part {
        Part {
            segment: self.segment,
            first: QueueOffset(first),
            end: QueueOffset(end),
            bytes: self.sums.bytes.into(),
            oldest: self.base.plus_ms(self.sums.oldest_ms.into()),
            newest: self.base.plus_ms(self.sums.newest_ms.into()),
        }
    }
}

impl Queue {
    /// The span that holds a record that is not below the first, and the offset up to which it
    /// counts; else the offset at which the next one begins.
    pub(super) fn span_of(&self, offset: u64) -> Result<(&Span, u64), u64> {
        assert!(offset >= self.first() && offset < self.next, "the offset is one of the queue's");
        if offset >= self.front() {
            let at = self.spans.partition_point(|span| span.first <= offset);
            let span = &self.spans[at.checked_sub(1).expect("spans have no gap")];
            return Ok((span, span.end()));
        }
        let holds = |span: &&Span| span.first <= offset && offset < span.end();
        let later = |of: &[Span]| {
            let after = of.iter().map(|span| span.first).filter(|first| *first > offset);
            after.min().map_or(self.front(), |first| first.min(self.front()))
        };
        let copies = self.copies();
        match copies.iter().rposition(|span| holds(&span)) {
            Some(at) => {
                let span = &copies[at];
                let limit = later(&copies[at + 1..]).min(span.end());
                Ok((span, limit))
            }
            None => Err(later(copies)),
        }
    }

    /// As [`Self::span_of`], but a copy goes before a record that is still where it was appended:
    /// they are equal, and where a release was appended the record may be gone.
    pub(super) fn holder_of(&self, offset: u64) -> Result<(&Span, u64), u64> {
        if offset < self.front() || self.copies().is_empty() {
            return self.span_of(offset);
        }
        let holds = |span: &Span| span.first <= offset && offset < span.end();
        let later = |of: &[Span], end: u64| {
            let after = of.iter().map(|span| span.first).filter(|first| *first > offset);
            after.min().map_or(end, |first| first.min(end))
        };
        match self.copies().iter().rposition(holds) {
            Some(at) => {
                let span = &self.copies()[at];
                Ok((span, later(&self.copies()[at + 1..], span.end())))
            }
            None => {
                let (span, end) = self.span_of(offset)?;
                Ok((span, later(self.copies(), end)))
            }
        }
    }

    /// What the log holds of the queue, in order.
    fn parts(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut at = self.first();
        while at < self.front().min(self.next) {
            match self.span_of(at) {
                Ok((span, limit)) => {
                    parts.push(span.part(at, limit));
                    at = limit;
                }
                Err(next) => at = next,
            }
        }
        let spans = self.spans.iter().filter(|span| !span.is_nowhere());
        parts.extend(spans.map(|span| span.part(span.first, span.end())));
        parts
    }

    /// Where the first copy is that was stored at `time` or later; `None` when all were before.
    pub(super) fn copy_at(&self, time: Timestamp) -> Option<Sought> {
        let mut at = self.first();
        while at < self.front().min(self.next) {
            let (span, limit) = match self.span_of(at) {
                Ok(found) => found,
                Err(next) => {
                    at = next;
                    continue;
                }
            };
            if span.base.plus_ms(span.sums.newest_ms.into()) >= time {
                return Some(self.sought_in(span, time));
            }
            assert!(limit > at, "a look goes forward");
            at = limit;
        }
        None
    }

    /// The first record of a span of copies that was stored at `time` or later: there is one.
    fn sought_in(&self, span: &Span, time: Timestamp) -> Sought {
        let Held::Memory(entries) = &span.held else {
            let end = QueueOffset(span.end());
            return TimeSearch::plan(span.segment, vec![self.line(span)], time, end);
        };
        let delta = u32::try_from(time.0.saturating_sub(span.base.0)).unwrap_or(u32::MAX);
        Sought::At(QueueOffset(span.first + entries.stored_before(delta) as u64))
    }

    /// Records that are durable.
    pub(super) fn messages(&self) -> u64 {
        let parts = self.parts();
        let indexed: u64 = parts.iter().map(|part| part.end.0 - part.first.0).sum();
        assert!(self.committed <= self.indexed(), "what is durable is indexed");
        indexed - (self.indexed() - self.committed)
    }

    /// The spans of a segment, in the order of offsets.
    pub(super) fn lines_of(&self, segment: u32) -> Vec<(&Span, LineKind)> {
        let copies = self.copies().iter().filter(|span| span.segment == segment);
        let copies = copies.map(|span| (span, LineKind::Copies));
        let spans = &self.spans[within(&self.spans, segment)];
        let spans = spans.iter().map(|span| (span, span.kind()));
        copies.chain(spans).collect()
    }

    pub(super) fn add_copies(&mut self, span: Span) {
        assert!(span.count() > 0, "a copy is of something");
        let last = self.copies().last().map_or(0, |last| last.segment);
        assert!(last <= span.segment, "copies are added in the order of the log");
        // Of copies that were made twice, in an attempt that came to nothing, the last counts.
        self.late_mut().copies.push(span);
    }

    /// Where the records begin that lie where they were appended, in this segment or later.
    fn front_at(&self, until: u32) -> u64 {
        let at = self.spans.partition_point(|span| span.segment < until);
        self.spans.get(at).map_or_else(|| self.indexed(), |span| span.first)
    }

    /// Offsets of `from..to` that no copy from segment `until` on holds.
    fn uncopied(&self, until: u32, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut covered: Vec<(u64, u64)> = self
            .copies()
            .iter()
            .filter(|span| span.segment >= until)
            .map(|span| (span.first, span.end()))
            .collect();
        covered.sort_unstable();
        assert!(from <= to, "a range does not end before it begins");
        let (mut at, mut left) = (from, Vec::new());
        for (first, end) in covered {
            if first > at && at < to {
                left.push((at, first.min(to)));
            }
            at = at.max(end);
        }
        if at < to {
            left.push((at, to));
        }
        left
    }

    fn retire(&mut self, until: u32, floor: &Floor) {
        assert!(floor.first <= floor.front, "copies come before what was appended");
        if floor.front.0 > 0 || self.late.is_some() {
            let late = self.late_mut();
            late.first = late.first.max(floor.first.0);
            late.front = late.front.max(floor.front.0);
            let first = late.first;
            late.copies.retain(|span| span.segment >= until && span.end() > first);
            late.copies.shrink_to_fit();
        }
        let front = self.front();
        self.next = self.next.max(front);
        self.committed = self.committed.max(front);
        assert!(self.first() <= front && front <= self.next, "a queue is in order");
        self.spans.retain(|span| span.end() > front);
        if let Some(Span { first, held: Held::Nowhere { count, .. }, .. }) = self.spans.first_mut()
            && *first < front
        {
            *count -= (front - *first) as u32;
            *first = front;
        }
        let begins = self.spans.first().map_or(front, |span| span.first);
        assert_eq!(begins, front, "segments go whole");
    }
}

impl QueueIndexes {
    /// The first segments of the log are gone.
    pub(crate) fn begin_late(&mut self) {
        self.begins_late = true;
    }

    /// Adds a copy of a record.
    pub(crate) fn add_copy(
        &mut self,
        (topic, queue, offset): (TopicId, QueueIndex, QueueOffset),
        stored: Timestamp,
        segment: u32,
        (at, bytes): (u32, u32),
    ) {
        let slot = self.slot(topic, queue);
        let queue = &mut self.queues[slot.0 as usize];
        let entry = |stored_delta_ms| IndexEntry::new(bytes, false, at, stored_delta_ms);
        let joined = queue.copies_mut().last_mut().filter(|last| {
            let goes_on = last.segment == segment && last.end() == offset.0;
            goes_on && matches!(last.held, Held::Memory(_))
        });
        if let Some(last) = joined
            && let Some(delta) = delta_ms(last.base, stored)
        {
            return last.push(entry(delta));
        }
        let mut span = Span::empty(segment, offset.0, stored);
        span.push(entry(0));
        queue.add_copies(span);
        self.unsaved.entry(segment).or_default().push(slot);
    }

    /// The queues of a topic.
    pub(crate) fn queues_of(&self, topic: TopicId) -> impl Iterator<Item = QueueIndex> + '_ {
        let all = (topic, QueueIndex(0))..=(topic, QueueIndex(u16::MAX));
        self.slots.range(all).map(|((_, queue), _)| *queue)
    }

    /// What the log holds of a queue, in order.
    pub(crate) fn parts(&self, topic: TopicId, queue: QueueIndex) -> Vec<Part> {
        self.get(topic, queue).map_or_else(Vec::new, Queue::parts)
    }

    /// Bytes of records above the floors in each of these segments, the oldest of the log.
    pub(crate) fn kept_bytes(
        &self,
        segments: Range<u32>,
        keep_from: &dyn Fn(TopicId, QueueIndex) -> QueueOffset,
    ) -> Vec<u64> {
        assert!(segments.start <= segments.end, "segments are counted upwards");
        let mut kept = vec![0; segments.len()];
        for queue in self.queues.iter() {
            let touched = queue.spans.first().is_some_and(|span| span.segment < segments.end);
            if !touched && queue.copies().is_empty() {
                continue;
            }
            let floor = keep_from(queue.topic, queue.queue);
            for part in queue.parts().into_iter().filter(|part| part.end > floor) {
                let at = (part.segment - segments.start) as usize;
                if let Some(kept) = kept.get_mut(at) {
                    *kept += part.bytes;
                }
            }
        }
        kept
    }

    /// Records that are kept of segments that are gone, and of which there is no copy.
    pub(crate) fn nowhere(&self) -> Vec<(TopicId, QueueIndex, QueueOffset, QueueOffset)> {
        let mut found = Vec::new();
        for slot in self.slots.values() {
            let queue = &self.queues[slot.0 as usize];
            assert!(queue.first() <= queue.front(), "copies come before what was appended");
            if queue.first() < queue.front() {
                let ranges = queue.uncopied(0, queue.first(), queue.front()).into_iter();
                found.extend(ranges.map(|(from, to)| {
                    (queue.topic, queue.queue, QueueOffset(from), QueueOffset(to))
                }));
            }
        }
        found
    }

    /// Where every queue begins of which something was removed.
    pub(crate) fn floors(&self) -> Vec<Floor> {
        let removed = self.slots.values().map(|slot| &self.queues[slot.0 as usize]);
        let removed = removed.filter(|queue| queue.front() > 0);
        removed.map(|queue| queue.floor(queue.first(), queue.front())).collect()
    }

    /// Where the queues begin once the segments below `until` are gone, of which nothing below
    /// `keep_from` is kept, and what must be copied before.
    pub(crate) fn plan_retirement(
        &self,
        until: u32,
        keep_from: &dyn Fn(TopicId, QueueIndex) -> QueueOffset,
    ) -> (Vec<Floor>, Vec<KeptRange>) {
        let (mut floors, mut kept) = (Vec::new(), Vec::new());
        for slot in self.slots.values() {
            let queue = &self.queues[slot.0 as usize];
            let touched = |spans: &[Span]| spans.iter().any(|span| span.segment < until);
            if !touched(&queue.spans[..queue.spans.len().min(1)]) && !touched(queue.copies()) {
                continue;
            }
            let front = queue.front_at(until);
            let wanted = keep_from(queue.topic, queue.queue).0.max(queue.first()).min(front);
            assert!(queue.first() <= wanted && wanted <= front, "a floor is within the queue");
            floors.push(queue.floor(wanted, front));
            let (topic, index) = (queue.topic, queue.queue);
            kept.extend(queue.uncopied(until, wanted, front).into_iter().map(|(from, to)| {
                let (from, to) = (QueueOffset(from), QueueOffset(to));
                KeptRange { topic, queue: index, from, to, released_only: false }
            }));
        }
        (floors, kept)
    }

    /// What must be copied because releases in these segments, which stay, refer to some that go.
    pub(crate) fn plan_references(&self, segments: &BTreeSet<u32>) -> Vec<KeptRange> {
        let mut kept = Vec::new();
        for slot in self.slots.values() {
            let queue = &self.queues[slot.0 as usize];
            for segment in segments {
                let spans = &queue.spans[within(&queue.spans, *segment)];
                let there = spans.iter().filter(|span| !span.is_nowhere() && span.count() > 0);
                kept.extend(there.map(|span| KeptRange {
                    topic: queue.topic,
                    queue: queue.queue,
                    from: QueueOffset(span.first.max(queue.first())),
                    to: QueueOffset(span.end()),
                    released_only: true,
                }));
            }
        }
        kept.retain(|range| range.from < range.to);
        kept
    }

    /// There are copies of all releases in these sealed segments, and in the others of those that
    /// lie before such places in their files.
    pub(crate) fn references_copied(
        &mut self,
        segments: &BTreeSet<u32>,
        before: &BTreeMap<u32, u64>,
    ) {
        self.copied.extend(segments);
        self.copied_before.extend(before);
    }

    /// Whether there is a copy of a release: what it refers to may be gone.
    pub(crate) fn is_release_copied(&self, segment: u32, offset: u32) -> bool {
        let before = self.copied_before.get(&segment).copied().unwrap_or(0);
        self.copied.contains(&segment) || u64::from(offset) < before
    }

    /// The segments below `until` are gone. Returns the queues that begin later than before.
    pub(crate) fn retire(
        &mut self,
        until: u32,
        floors: &[Floor],
    ) -> Vec<(TopicId, QueueIndex, QueueOffset)> {
        let mut trimmed = Vec::new();
        for floor in floors {
            let Slot(slot) = self.slot(floor.topic, floor.queue);
            let queue = &mut self.queues[slot as usize];
            let before = queue.first();
            queue.retire(until, floor);
            if queue.first() > before {
                trimmed.push((floor.topic, floor.queue, QueueOffset(queue.first())));
            }
        }
        self.stored_bases = self.stored_bases.split_off(&until);
        self.unsaved = self.unsaved.split_off(&until);
        self.refers_from = self.refers_from.split_off(&until);
        self.copied = self.copied.split_off(&until);
        self.copied_before = self.copied_before.split_off(&until);
        trimmed
    }

    /// Begins where a checkpoint says that queues do.
    pub(crate) fn restore_floors(&mut self, floors: &[Floor]) {
        assert!(self.queues.is_empty(), "a checkpoint comes before the log");
        for floor in floors {
            let Slot(slot) = self.slot(floor.topic, floor.queue);
            self.queues[slot as usize].retire(0, floor);
        }
    }
}

impl Queue {
    fn floor(&self, first: u64, front: u64) -> Floor {
        let (first, front) = (QueueOffset(first), QueueOffset(front));
        Floor { topic: self.topic, queue: self.queue, first, front }
    }
}
