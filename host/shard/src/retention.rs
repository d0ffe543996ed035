//! Retention: what the broker says may go is carried out by the log, segment by segment.
//!
//! ```text
//!   every RETENTION_MS, or when a segment was sealed:
//!   Broker::floors(parts of each topic) ──► which of the oldest segments pay ──► Store::retire
//! ```
use std::collections::BTreeMap;

use yard_broker::{DiskLevel, Event, Part, QueueParts};
use yard_store::{DoneReport, Token, Waiting};
use yard_wire::operation::TopicReport;
use yard_wire::{QueueIndex, QueueOffset, Timestamp, TopicId};

use crate::Shard;
use crate::output::Output;

/// How often a shard looks for what may go, in milliseconds. Source: RocketMQ's interval.
pub const RETENTION_MS: u64 = 10_000;
/// Files of retired segments are removed after this, in milliseconds: whoever has located records
/// there before reads them in peace.
pub const REMOVE_AFTER_MS: u64 = 1_000;
/// Segments that go at once, at most.
const SEGMENTS_MAX: u32 = 8;
/// Bytes that may be copied for so many bytes of segments that go: a third of what is freed.
const KEPT_SHARE: (u64, u64) = (1, 4);
/// The same where the disk is at its first mark: as much as is freed.
const KEPT_SHARE_FULL: (u64, u64) = (1, 2);
const HOUR_MS: u64 = 3_600_000;

/// When a shard does what.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// When it looks again.
    look_at: Option<Timestamp>,
    /// When files go.
    remove_at: Option<Timestamp>,
    /// Segments there were when it looked last.
    looked: u64,
}

impl Clock {
    pub(crate) fn wakes(&self) -> [Option<Timestamp>; 2] {
        [self.look_at, self.remove_at]
    }
}

type Floors = BTreeMap<(TopicId, QueueIndex), QueueOffset>;

/// How many of the oldest segments go, given for each the bytes that are kept and those of its
/// file: run after run of which so little is kept. What comes before a run does not pay for it:
/// else a segment that is kept whole would be copied for nothing, behind others that are empty.
fn worth_it(segments: &[(u64, u64)], (copied, of): (u64, u64)) -> usize {
    assert!(copied < of, "something is freed");
    let (mut kept, mut all, mut count) = (0, 0, 0);
    for (at, (kept_here, bytes)) in segments.iter().enumerate() {
        kept += kept_here;
        all += bytes;
        if kept * of <= all * copied {
            (kept, all, count) = (0, 0, at + 1);
        }
    }
    count
}

impl Shard {
    /// Retires what may go, and removes what is retired.
    pub(crate) fn run_retention(&mut self, outputs: &mut Vec<Output>) {
        let due = |at: Option<Timestamp>, now: Timestamp| at.is_some_and(|at| at <= now);
        let mut ios = Vec::new();
        if self.store.has_removable() {
            let at = *self.retention.remove_at.get_or_insert(self.now.plus_ms(REMOVE_AFTER_MS));
            if at <= self.now {
                self.retention.remove_at = None;
                self.store.remove_retired(&mut ios);
            }
        } else {
            self.retention.remove_at = None;
        }
        let segments = self.store.segments();
        let is_due = due(self.retention.look_at, self.now);
        if is_due || self.retention.look_at.is_none() {
            // One segment is the active one: nothing can go, and nobody needs to look.
            let next = self.now.plus_ms(RETENTION_MS);
            self.retention.look_at = (segments > 1).then_some(next);
        }
        let look = is_due || segments != self.retention.looked;
        if look && !self.store.is_retiring() && !self.is_fenced() {
            self.retention.looked = segments;
            self.retire_what_may_go(&mut ios);
        }
        outputs.extend(ios.into_iter().map(Output::Io));
    }

    fn retire_what_may_go(&mut self, ios: &mut Vec<yard_store::Io>) {
        let floors = self.floors();
        if floors.is_empty() {
            return;
        }
        let keep_from =
            |topic, queue| floors.get(&(topic, queue)).copied().unwrap_or(QueueOffset(0));
        let segments = self.store.kept_of_oldest(SEGMENTS_MAX, &keep_from);
        let is_low = self.broker.disk_level() == DiskLevel::Low;
        let first = self.store.first_segment();
        let waiting = self.broker.parked_bytes();
        let with_waiting = |(segment, (kept, bytes)): (u32, &(u64, u64))| {
            (kept + waiting.get(&segment).map_or(0, |(_, bytes)| *bytes), *bytes)
        };
        let segments: Vec<(u64, u64)> = (first..).zip(&segments).map(with_waiting).collect();
        let share = if is_low { KEPT_SHARE } else { KEPT_SHARE_FULL };
        let count = worth_it(&segments, share);
        if count > 0 {
            yard_wire::mark!(RetentionRetires);
            let until = first + count as u32;
            let waiting = self.broker.parked_below(until).into_iter();
            let waiting = waiting.map(|(token, target)| Waiting { token: Token(token), target });
            self.store.retire(until, &keep_from, waiting.collect(), ios);
            self.broker.retiring(self.store.going());
        }
    }

    /// Of each queue the offset below which nothing is kept, where there is one.
    fn floors(&self) -> Floors {
        let mut floors = Floors::new();
        let in_time = self.retention_hour.is_none_or(|hour| {
            self.now.0 / HOUR_MS % 24 == u64::from(hour)
                || self.broker.disk_level() > DiskLevel::Low
        });
        for topic in self.broker.topics_with_limits() {
            if !in_time && !self.broker.is_removed(topic) {
                continue;
            }
            let queues: Vec<QueueParts> = self.parts_of(topic);
            for (queue, floor) in self.broker.floors(topic, &queues) {
                floors.insert((topic, queue), floor);
            }
        }
        floors
    }

    fn parts_of(&self, topic: TopicId) -> Vec<QueueParts> {
        let part = |part: yard_store::Part| {
            let yard_store::Part { first, end, bytes, newest, .. } = part;
            Part { first, end, bytes, newest }
        };
        let queues = self.store.queues_of(topic).map(|queue| {
            let parts = self.store.parts(topic, queue).into_iter().map(part).collect();
            QueueParts { queue, parts }
        });
        queues.collect()
    }

    /// Tells the broker when nothing goes any more: it is gone, or it came to nothing.
    pub(crate) fn tell_what_stays(&mut self) {
        if self.store.going().next().is_none() {
            self.broker.retiring([]);
        }
    }

    /// Tells the broker what is gone.
    pub(crate) fn tell_retired(&mut self, report: &mut DoneReport, outputs: &mut Vec<Output>) {
        self.tell_what_stays();
        if !report.trimmed.is_empty() {
            self.handle(Event::Trimmed(std::mem::take(&mut report.trimmed)), outputs);
        }
        if let Some(below) = report.retired {
            self.handle(Event::Retired { below }, outputs);
        }
    }

    /// Fills in what the log knows of the queues of a topic.
    pub(crate) fn describe(&self, topic: TopicId, report: &mut TopicReport) {
        for row in &mut report.queues {
            let parts = self.store.parts(topic, row.queue);
            row.bytes = parts.iter().map(|part| part.bytes).sum();
            row.oldest_ms = parts.first().map_or(Timestamp(0), |part| part.oldest);
            row.newest_ms = parts.last().map_or(Timestamp(0), |part| part.newest);
            assert!(row.oldest_ms <= row.newest_ms, "time does not decrease along a queue");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_go_when_little_is_copied_for_them() {
        let check = |kept: &[u64], share, expected| {
            let segments: Vec<(u64, u64)> = kept.iter().map(|kept| (*kept, 100)).collect();
            assert_eq!(worth_it(&segments, share), expected, "{kept:?}");
        };
        check(&[], KEPT_SHARE, 0);
        check(&[0], KEPT_SHARE, 1);
        check(&[25], KEPT_SHARE, 1);
        check(&[26], KEPT_SHARE, 0);
        check(&[26], KEPT_SHARE_FULL, 1);
        // What is kept whole, or nearly, is not copied for nothing.
        check(&[0, 100], KEPT_SHARE, 1);
        check(&[0, 0, 0, 100], KEPT_SHARE, 3);
        check(&[0, 50, 100], KEPT_SHARE, 1);
        check(&[0, 20, 100], KEPT_SHARE, 2);
        check(&[0, 50, 0, 100], KEPT_SHARE, 3);
        // One that is kept whole goes along with three that are not.
        check(&[100, 0, 0], KEPT_SHARE, 0);
        check(&[100, 0, 0, 0], KEPT_SHARE, 4);
        check(&[100, 0, 0, 0, 1], KEPT_SHARE, 5);
        check(&[100, 100, 0, 0], KEPT_SHARE, 0);
        check(&[100, 100, 0, 0], KEPT_SHARE_FULL, 4);
    }
}
