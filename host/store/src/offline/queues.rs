//! The queues of one segment: which messages it holds of each, in order, and where.
use std::collections::BTreeMap;
use std::sync::Arc;

use yard_wire::{QueueIndex, QueueOffset, RecordPlace, TopicId};

use super::Span;
use crate::format::sidecar::{
    IndexEntries, IndexEntry, IndexFile, Line, LineKind, SidecarHeader, Sums, delta_ms,
};

/// What a segment holds of one queue.
pub(super) struct Held {
    /// Offset of its first message here.
    pub(super) first: QueueOffset,
    /// Offset after its last.
    pub(super) next: QueueOffset,
    entries: IndexEntries,
}

/// What a segment holds of every queue.
#[derive(Default)]
pub(super) struct Queues {
    slots: BTreeMap<(TopicId, QueueIndex), usize>,
    held: Vec<((TopicId, QueueIndex), Held)>,
    last: usize,
    /// Of messages that outlived their segments: lines of their own.
    copies: Vec<(Line, IndexEntries)>,
    /// The newest of them for each queue.
    last_copies: BTreeMap<(TopicId, QueueIndex), usize>,
}

impl Queues {
    /// The next message of a queue is at `first`: returns those that should have come before.
    pub(super) fn seek(
        &mut self,
        topic: TopicId,
        queue: QueueIndex,
        first: QueueOffset,
    ) -> Option<Span> {
        let key = (topic, queue);
        let fresh = self.held.len();
        self.last = match self.held.get(self.last) {
            Some((last, _)) if *last == key => self.last,
            Some(_) | None => *self.slots.entry(key).or_insert(fresh),
        };
        if self.last == fresh {
            let entries = IndexEntries::default();
            self.held.push((key, Held { first, next: first, entries }));
            return None;
        }
        let held = &mut self.held[self.last].1;
        assert!(held.next >= held.first, "a queue goes forward");
        if first <= held.next {
            return None;
        }
        let from = std::mem::replace(&mut held.next, first);
        Some(Span { topic, queue, from, to: first })
    }

    /// The next message of the run that was begun last.
    pub(super) fn add(&mut self, entry: IndexEntry) {
        let held = &mut self.held[self.last].1;
        held.entries.push(entry);
        held.next.0 += 1;
        let span = held.next.0 - held.first.0;
        assert!(held.entries.len() as u64 <= span, "each message has an offset of its own");
    }

    /// A copy of a message.
    pub(super) fn add_copy(
        &mut self,
        (topic, queue, offset): (TopicId, QueueIndex, QueueOffset),
        place: &RecordPlace,
    ) {
        let (at, bytes) = (place.offset, place.bytes);
        let entry = |stored_delta_ms| IndexEntry::new(bytes, false, at, stored_delta_ms);
        let last = self.last_copies.get(&(topic, queue)).map(|at| &mut self.copies[*at]);
        let goes_on = |line: &Line| line.first.0 + u64::from(line.count) == offset.0;
        if let Some((line, entries)) = last.filter(|(line, _)| goes_on(line))
            && let Some(delta) = delta_ms(line.stored_base, place.stored)
        {
            entries.push(entry(delta));
            line.count += 1;
            line.sums.add(&entry(delta));
            return;
        }
        let mut entries = IndexEntries::default();
        entries.push(entry(0));
        let (kind, sums) = (LineKind::Copies, Sums::of(&entries));
        let (first, file_offset, count, stored_base) = (offset, 0, 1, place.stored);
        let line = Line { topic, queue, first, file_offset, count, kind, stored_base, sums };
        self.last_copies.insert((topic, queue), self.copies.len());
        self.copies.push((line, entries));
    }

    /// The next message of the run cannot be read.
    pub(super) fn skip(&mut self, count: u64) {
        assert!(count > 0, "messages are skipped");
        self.held[self.last].1.next.0 += count;
    }

    /// By topic and queue.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TopicId, QueueIndex, &Held)> {
        assert_eq!(self.slots.len(), self.held.len(), "a slot for each queue");
        self.slots.iter().map(|((topic, queue), slot)| (*topic, *queue, &self.held[*slot].1))
    }

    /// Gives away the queue index that the segment should have, with the lines `lost` of messages
    /// that were lost before it; `None` when messages between those that it holds are missing.
    pub(super) fn take_file(&mut self, header: SidecarHeader, lost: &[Line]) -> Option<IndexFile> {
        assert!(lost.iter().all(Line::is_lost), "what is there is in the segment");
        let mut lines: Vec<_> = lost.iter().map(|line| (*line, Arc::default())).collect();
        let copies = std::mem::take(&mut self.copies).into_iter();
        lines.extend(copies.map(|(line, entries)| (line, Arc::new(entries))));
        for ((topic, queue), slot) in &self.slots {
            let held = &mut self.held[*slot].1;
            let entries = std::mem::take(&mut held.entries);
            let count = u32::try_from(entries.len()).expect("a segment is below 4 GiB");
            if held.first.0 + u64::from(count) != held.next.0 {
                return None;
            }
            let (topic, queue) = (*topic, *queue);
            let (kind, first, sums) = (LineKind::Appended, held.first, Sums::of(&entries));
            let stored_base = header.stored_base;
            let line = Line { topic, queue, first, file_offset: 0, count, kind, stored_base, sums };
            lines.push((line, Arc::new(entries)));
        }
        // Copies come first, in the order in which they were made.
        let is_own = |line: &Line| line.kind != LineKind::Copies;
        lines.sort_by_key(|(line, _)| {
            let first = if is_own(line) { line.first } else { QueueOffset(0) };
            (line.topic, line.queue, is_own(line), first)
        });
        Some(IndexFile::new(header, lines).0)
    }
}
