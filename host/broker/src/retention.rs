//! What may go, and who must wait: limits of topics as pure decisions over what the log holds.
//!
//! ```text
//!   queue   │ part 0 │ part 1 │ part 2 │ part 3 │ active     a part is what one segment holds
//!           └─expired─────────┘  ▲ floor     ▲ settled by every group
//! ```
//!
//! A part goes as a whole or not at all, and of a queue only from the front: so one offset for each
//! queue, its floor, says everything.
use std::collections::BTreeMap;

use yard_wire::batch::Batch;
use yard_wire::name::is_temporary_group;
use yard_wire::{QueueIndex, QueueOffset, Timestamp, TopicId};

use crate::bounds::BACKLOG_LOOK_MS;
use crate::broker::Broker;
use crate::group::Group;
use crate::meta::{Topic, TopicLimits};
use crate::meta_table::queues_on;
use crate::refusal::ProduceError;

/// How full the disk of the broker is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskLevel {
    /// Below both marks.
    #[default]
    Low,
    /// At the first mark: what is expired goes at any hour.
    Expire,
    /// At the second mark: batches are refused as well.
    Refuse,
}

/// Consecutive messages of a queue that lie in one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Offset of the first.
    pub first: QueueOffset,
    /// Offset after the last.
    pub end: QueueOffset,
    /// Bytes of all of them.
    pub bytes: u64,
    /// When the last was stored.
    pub newest: Timestamp,
}

/// A queue with what the log holds of it, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueParts {
    /// The queue.
    pub queue: QueueIndex,
    /// Its messages, in order.
    pub parts: Vec<Part>,
}

/// A share of a limit: that of so many queues of so many.
pub(crate) fn share(limit: u64, here: usize, all: usize) -> u64 {
    assert!(here <= all && all > 0, "a share is a part of the whole");
    let share = u128::from(limit) * here as u128;
    share.div_ceil(all as u128).try_into().expect("a share is no larger than the whole")
}

/// Of each queue the offset below which the limits of age and size keep nothing; `bytes` is this
/// shard's share of the limit of size.
pub(crate) fn expired(
    limits: &TopicLimits,
    bytes: Option<u64>,
    now: Timestamp,
    queues: &[QueueParts],
) -> BTreeMap<QueueIndex, QueueOffset> {
    let mut parts: Vec<(QueueIndex, Part)> = Vec::new();
    for QueueParts { queue, parts: of_queue } in queues {
        assert!(of_queue.is_sorted_by_key(|part| part.first), "parts come in order");
        parts.extend(of_queue.iter().map(|part| (*queue, *part)));
    }
    // Stored times never decrease along a queue, so each queue's parts stay in their order.
    parts.sort_by_key(|(queue, part)| (part.newest, *queue, part.first));
    let mut left: u64 = parts.iter().map(|(_, part)| part.bytes).sum();
    let mut floors = BTreeMap::new();
    for (queue, part) in parts {
        let aged = limits.retain.get().is_some_and(|ms| part.newest.plus_ms(ms) <= now);
        let spare = bytes.is_some_and(|bytes| left - part.bytes >= bytes);
        if !aged && !spare {
            break;
        }
        left -= part.bytes;
        floors.insert(queue, part.end);
    }
    floors
}

/// How many more messages of a topic are let in before somebody looks how far groups are behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Headroom {
    messages: u64,
    /// Nobody looks again before.
    refused_until: Timestamp,
}

impl Broker {
    /// How full the disk is, as far as the broker was told.
    #[must_use]
    pub fn disk_level(&self) -> DiskLevel {
        self.disk
    }

    /// Topics of which messages may have to go: removed ones, and those with limits.
    #[must_use]
    pub fn topics_with_limits(&self) -> Vec<TopicId> {
        let limited = self.meta.topics().filter(|topic| topic.settings.limits.expire());
        self.removed.iter().copied().chain(limited.map(|topic| topic.topic)).collect()
    }

    /// Whether messages of the topic go at any hour: it was removed.
    #[must_use]
    pub fn is_removed(&self, topic: TopicId) -> bool {
        self.removed.contains(&topic)
    }

    /// Of each queue of a topic the offset below which nothing is kept, as far as something is
    /// not: limits of age and size, but nothing that a group has not settled, unless the topic
    /// says so; of a removed topic everything.
    #[must_use]
    pub fn floors(
        &self,
        topic: TopicId,
        queues: &[QueueParts],
    ) -> BTreeMap<QueueIndex, QueueOffset> {
        if self.is_removed(topic) {
            return queues.iter().map(|parts| (parts.queue, QueueOffset(u64::MAX))).collect();
        }
        let Some(found) = self.meta.topic(topic) else {
            return BTreeMap::new();
        };
        let limits = &found.settings.limits;
        let bytes = limits.retain_bytes.get().map(|bytes| self.share_of(found, bytes));
        let mut floors = expired(limits, bytes, self.now, queues);
        if !limits.discard_unconsumed {
            for (queue, floor) in &mut floors {
                let settled = self.groups_that_hold(topic);
                let settled = settled.map(|group| group.settled_below(*queue)).min();
                *floor = settled.map_or(*floor, |settled| settled.min(*floor));
            }
        }
        floors
    }

    /// Messages below these offsets, and no others, are about to go: until the next call, which
    /// names none when they are gone or stay after all. A group that begins meanwhile begins
    /// behind them: it was not asked what it still wants.
    pub fn retiring(
        &mut self,
        going: impl IntoIterator<Item = (TopicId, QueueIndex, QueueOffset)>,
    ) {
        let going = going.into_iter();
        self.going = going.map(|(topic, queue, first)| ((topic, queue), first)).collect();
    }

    fn share_of(&self, topic: &Topic, limit: u64) -> u64 {
        let here = queues_on(topic, self.config.shard).count();
        share(limit, here, topic.shards.len())
    }

    /// Whether the batch may be stored as far as disk and backlogs are concerned.
    pub(crate) fn check_backlog(&mut self, batch: &Batch) -> Result<(), ProduceError> {
        if self.disk == DiskLevel::Refuse {
            return Err(ProduceError::DiskMark);
        }
        let mut counts: BTreeMap<TopicId, u64> = BTreeMap::new();
        for run in batch.runs() {
            let topic = self.meta.topic(run.topic).expect("the batch's topics were checked");
            if topic.settings.limits.backlog_max.get().is_some() {
                *counts.entry(run.topic).or_default() += u64::from(run.count);
            }
        }
        for topic in counts.keys() {
            self.look_at_backlog(*topic)?;
        }
        for (topic, count) in counts {
            let headroom = self.headroom.get_mut(&topic).expect("looked at just now");
            headroom.messages = headroom.messages.saturating_sub(count);
        }
        Ok(())
    }

    /// Settling only makes a backlog smaller, so that what was seen once is good for as many
    /// messages as there was room for.
    fn look_at_backlog(&mut self, topic: TopicId) -> Result<(), ProduceError> {
        let found = self.meta.topic(topic).expect("the caller has the topic");
        let limit = found.settings.limits.backlog_max.get().expect("the topic has a limit");
        let known = self.headroom.get(&topic);
        if known.is_some_and(|known| known.messages > 0) {
            return Ok(());
        }
        let limit_here = self.share_of(found, limit);
        let name = found.name.clone();
        let wait = |known: &Headroom| self.now < known.refused_until;
        if !known.is_some_and(wait) {
            let messages = limit_here.saturating_sub(self.backlog(topic));
            let wait_ms = if messages > 0 { 0 } else { u64::from(BACKLOG_LOOK_MS) };
            let refused_until = self.now.plus_ms(wait_ms);
            self.headroom.insert(topic, Headroom { messages, refused_until });
            if messages > 0 {
                return Ok(());
            }
        }
        Err(ProduceError::Backlog { name: name.into(), limit })
    }

    /// The groups of a topic for which messages are kept and producers wait.
    fn groups_that_hold(&self, topic: TopicId) -> impl Iterator<Item = &Group> {
        let groups = self.groups.of_topic(topic).into_iter();
        let groups = groups.filter_map(|id| self.groups.get(id));
        groups.filter(|group| !is_temporary_group(&group.name))
    }

    /// Committed messages of the topic in this shard that the group with most of them has not
    /// settled.
    fn backlog(&self, topic: TopicId) -> u64 {
        let lag = |group: &Group| {
            let queues = queues_on(self.meta.topic(topic)?, self.config.shard);
            let of_queue = |queue| {
                let ends = self.ends_of(topic, queue);
                let state = group.queues.get(&queue);
                let all = ends.end.0 - ends.first.0;
                state.map_or(all, |state| state.progress.lag(ends.first, ends.end))
            };
            Some(queues.map(of_queue).sum())
        };
        self.groups_that_hold(topic).filter_map(lag).max().unwrap_or(0)
    }
}
