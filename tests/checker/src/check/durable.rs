//! What was on the device at which time, by the evidence of others: a crash excuses no loss of
//! what lies before something known to be synced, since a queue's log is synced as a prefix.

use crate::event::{AckLevel, Outcome, Queue, Time};
use crate::index::Index;
use std::collections::BTreeMap;

/// For each queue the times at which a higher offset was known to be synced, ascending.
pub(crate) struct Durable {
    marks: BTreeMap<Queue, Vec<(Time, u64)>>,
}

impl Durable {
    /// Evidence are sends confirmed as synced and deliveries, which come only after it.
    pub(crate) fn new(index: &Index) -> Durable {
        let mut marks: BTreeMap<Queue, Vec<(Time, u64)>> = BTreeMap::new();
        for send in &index.history.sends {
            if let (Outcome::Ok { offset: Some(offset) }, Some(completed), AckLevel::Synced) =
                (send.outcome, send.completed, send.level)
            {
                marks.entry(send.queue).or_default().push((completed, offset));
            }
        }
        for poll in &index.history.polls {
            let marks = marks.entry(poll.queue).or_default();
            for delivery in &poll.deliveries {
                // A delivery that is wrong by itself is evidence of nothing.
                let sent = index.find(delivery.producer, delivery.seq);
                if sent.and_then(|at| index.place(at)) == Some(delivery.offset) {
                    marks.push((poll.completed, delivery.offset));
                }
            }
        }
        for marks in marks.values_mut() {
            marks.sort_unstable();
            let mut highest = None;
            marks.retain(|(_, offset)| {
                let higher = highest.is_none_or(|highest| highest < *offset);
                highest = highest.max(Some(*offset));
                higher
            });
        }
        Durable { marks }
    }

    /// The highest offset that was known to be synced before a time.
    pub(crate) fn highest_before(&self, queue: Queue, time: Time) -> Option<u64> {
        let marks = self.marks.get(&queue)?;
        let known = marks.partition_point(|(at, _)| *at < time);
        known.checked_sub(1).map(|last| marks[last].1)
    }
}
