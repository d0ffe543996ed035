//! What becomes of dead letters: which of them somebody has dealt with, and which wait.
//!
//! A dead-letter topic has one group of the system's own, without members. What it has settled was
//! sent again or dropped; nothing else is kept, so that the answer outlives restarts like any
//! other progress.
use yard_wire::name::DEAD_PREFIX;
use yard_wire::operation::{DlqCounts, DlqDone, DlqRange, DlqRow, DlqWaiting};
use yard_wire::{QueueIndex, QueueOffset, TenantId, TopicId};

use crate::bounds::{DLQ_RANGES_MAX, DLQ_ROWS_MAX, STEPS_MAX};
use crate::broker::Broker;
use crate::burial::dead_topic_name;
use crate::entry::{Entry, GroupCreated, GroupId, Outcome as StepOutcome, Progress, Step};
use crate::meta::Topic;
use crate::meta_table::queues_on;
use crate::operate::{Outcome, called, listed};
use crate::refusal::{LimitReached, OperateError};

/// The group that has settled what was dealt with. No application's group has such a name.
const OPERATORS: &str = "$operators";

/// Offsets of one queue, from one to before another.
type Range = (QueueOffset, QueueOffset);

impl Broker {
    /// The groups with dead letters, as this shard knows them.
    pub(crate) fn dlq_ls(&self, tenant: TenantId) -> Result<Outcome, OperateError> {
        let rows = self.meta.topics_of(tenant).filter_map(|topic| {
            let group = topic.name.strip_prefix(DEAD_PREFIX)?.to_owned();
            let mut row = DlqRow { group, waiting: 0, done: 0 };
            for queue in queues_on(topic, self.config.shard) {
                let ends = self.ends_of(topic.topic, queue);
                let open = self.lag_of_operators(topic, queue, (ends.first, ends.end));
                row.waiting += open;
                row.done += ends.end.0 - ends.first.0 - open;
            }
            Some(Ok(row))
        });
        listed(rows).map(Outcome::Now)
    }

    /// The next ranges of a queue of dead letters that wait.
    pub(crate) fn dlq_waiting(
        &self,
        tenant: TenantId,
        arguments: &DlqWaiting,
    ) -> Result<Outcome, OperateError> {
        let queue = QueueIndex(arguments.queue);
        let wanted = (QueueOffset(arguments.from), QueueOffset(u64::MAX));
        let mut rows = Vec::new();
        if let Some(topic) = self.dead_topic(tenant, &arguments.group)?
            && let Some((from, to)) = self.within(topic, queue, wanted)
        {
            let open = self.open_ranges(topic.topic, tenant, queue, (from, to));
            let row = |(from, to)| DlqRange { queue, from, to };
            rows.extend(open.into_iter().take(DLQ_ROWS_MAX).map(row));
        }
        Ok(Outcome::Now(called(&rows)))
    }

    /// Notes that dead letters were dealt with.
    pub(crate) fn dlq_done(
        &self,
        tenant: TenantId,
        arguments: &DlqDone,
    ) -> Result<Outcome, OperateError> {
        let queue = QueueIndex(arguments.queue);
        let wanted = (QueueOffset(arguments.from), QueueOffset(arguments.to));
        let mut counts = DlqCounts::default();
        let Some((topic, (from, to))) = self
            .dead_topic(tenant, &arguments.group)?
            .and_then(|topic| Some((topic, self.within(topic, queue, wanted)?)))
        else {
            return Ok(Outcome::Now(called(&counts)));
        };
        let known = self.groups.find(tenant, OPERATORS, topic.topic);
        let open = self.open_ranges(topic.topic, tenant, queue, (from, to));
        let taken = &open[..open.len().min(STEPS_MAX)];
        let end = if taken.len() < open.len() { open[taken.len()].0 } else { to };
        counts.done = taken.iter().map(|(from, to)| to.0 - from.0).sum();
        counts.skipped = end.0 - from.0 - counts.done;
        counts.left = to.0 - end.0;
        let reply = called(&counts);
        if taken.is_empty() {
            return Ok(Outcome::Unchanged(reply));
        }
        self.check_ranges(known, queue, taken.len())?;
        let step = |(from, to): &Range| {
            let (from, to, outcome) = (*from, *to, StepOutcome::Acked);
            Step { queue, from, to, outcome }
        };
        let (steps, errors) = (taken.iter().map(step).collect(), Vec::new());
        let group = known.unwrap_or_else(|| self.groups.next_id());
        let progress = Progress { group, steps, errors };
        let says = Entry::Progress { tenant, progress };
        if known.is_some() {
            return Ok(Outcome::Record(says, reply));
        }
        let (topic, name, floors) = (topic.topic, OPERATORS.to_owned(), Vec::new());
        let created = GroupCreated { group, topic, name, floors };
        Ok(Outcome::Found { group: Entry::Group { tenant, created }, says, reply })
    }

    /// The topic of a group's dead letters; `None`: it has none yet.
    fn dead_topic(&self, tenant: TenantId, group: &str) -> Result<Option<&Topic>, OperateError> {
        let topic = self.meta.topic_named(tenant, &dead_topic_name(group));
        if topic.is_none() {
            self.check_known_group(tenant, group)?;
        }
        Ok(topic)
    }

    /// What of a range this shard holds.
    fn within(&self, topic: &Topic, queue: QueueIndex, wanted: Range) -> Option<Range> {
        if !queues_on(topic, self.config.shard).any(|held| held == queue) {
            return None;
        }
        let ends = self.ends_of(topic.topic, queue);
        let (from, to) = (wanted.0.max(ends.first), wanted.1.min(ends.end));
        (from < to).then_some((from, to))
    }

    /// What of a range waits, in order.
    fn open_ranges(
        &self,
        topic: TopicId,
        tenant: TenantId,
        queue: QueueIndex,
        (from, to): Range,
    ) -> Vec<Range> {
        assert!(from < to, "a range holds something");
        let group = self.groups.find(tenant, OPERATORS, topic).and_then(|id| self.groups.get(id));
        let Some(state) = group.and_then(|group| group.queues.get(&queue)) else {
            return vec![(from, to)];
        };
        let from = from.max(state.progress.settled_below());
        if from < to { state.progress.settled().gaps(from, to) } else { Vec::new() }
    }

    fn lag_of_operators(&self, topic: &Topic, queue: QueueIndex, (first, end): Range) -> u64 {
        let group = self.groups.find(topic.tenant, OPERATORS, topic.topic);
        let state = group.and_then(|id| self.groups.get(id)?.queues.get(&queue));
        state.map_or(end.0 - first.0, |state| state.progress.lag(first, end))
    }

    /// Whether what was dealt with can be kept: as many ranges as there are gaps between.
    fn check_ranges(
        &self,
        group: Option<GroupId>,
        queue: QueueIndex,
        more: usize,
    ) -> Result<(), OperateError> {
        let group = group.and_then(|group| self.groups.get(group));
        let state = group.and_then(|group| group.queues.get(&queue));
        let kept = state.map_or(0, |state| state.progress.settled().ranges());
        if kept + more <= DLQ_RANGES_MAX {
            return Ok(());
        }
        let what = "gaps between dead letters that were dealt with";
        Err(OperateError::LimitReached(LimitReached { what, max: DLQ_RANGES_MAX }))
    }
}
