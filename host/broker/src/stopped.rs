//! Order groups that have stopped: a message failed for the last time, and the topic's choice is
//! that an operator decides what becomes of it.
//!
//! ```text
//!   failed for the last time ── step Stopped ──► stopped ─┬─ retry ─ step Returned ─► once more
//!                                                         └─ bury ── step Doomed ───► dead letter
//! ```
use yard_wire::operation::{GroupUnblock, StoppedRow, UnblockRow};
use yard_wire::order::Unblock;
use yard_wire::{QueueIndex, QueueOffset, TenantId, Timestamp};

use crate::bounds::STOPPED_ROWS_MAX;
use crate::broker::Broker;
use crate::entry::{Entry, Outcome as StepOutcome, Progress, Step};
use crate::group::Group;
use crate::meta_table::shard_of;
use crate::operate::{Outcome, called, listed};
use crate::refusal::{NoQueue, NoTopic, OperateError};

impl Broker {
    /// The messages that have stopped order groups of a group, as far as this shard has them.
    pub(crate) fn group_stopped(
        &self,
        tenant: TenantId,
        name: &str,
    ) -> Result<Outcome, OperateError> {
        self.check_known_group(tenant, name)?;
        let ids = self.groups.named(tenant, name).unwrap_or_default();
        let groups = ids.into_iter().filter_map(|id| self.groups.get(id));
        let rows = groups.flat_map(|group| self.stopped_rows(group));
        listed(rows.take(STOPPED_ROWS_MAX).map(Ok)).map(Outcome::Now)
    }

    fn stopped_rows<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = StoppedRow> + 'a {
        // Of a topic that is being removed there is no name to show.
        let topic = self.meta.topic(group.topic).map(|topic| &*topic.name);
        let queues = group.queues.iter().filter_map(move |queue| Some((topic?, queue)));
        queues.flat_map(move |(topic, (queue, state))| {
            let returned = state.progress.returned();
            returned.from(QueueOffset(0)).filter_map(move |(offset, it)| {
                let reason = it.stopped?.to_string();
                assert!(it.doom.is_none(), "what becomes a dead letter stops nothing");
                Some(StoppedRow {
                    topic: topic.to_owned(),
                    queue: *queue,
                    offset,
                    attempts: it.attempts,
                    reason,
                    error: it.error.as_deref().unwrap_or_default().to_owned(),
                    last_ms: it.last,
                })
            })
        })
    }

    /// Decides what becomes of a message that has stopped its order group. Every shard is asked;
    /// the one that holds the queue does it.
    pub(crate) fn group_unblock(
        &self,
        tenant: TenantId,
        arguments: GroupUnblock,
    ) -> Result<Outcome, OperateError> {
        let GroupUnblock { name, topic, queue, offset, then } = arguments;
        let (queue, offset) = (QueueIndex(queue), QueueOffset(offset));
        let known = self.meta.topic_named(tenant, &topic);
        let no_topic = || OperateError::NoTopic(NoTopic::Named(topic.clone()));
        let known = known.ok_or_else(no_topic)?;
        let queues = known.shards.len();
        let shard =
            shard_of(known, queue).ok_or(OperateError::NoQueue(NoQueue { queue, queues }))?;
        let row = |name, done| UnblockRow { name, topic: topic.clone(), queue, offset, then, done };
        if shard != self.config.shard {
            return Ok(Outcome::Now(called(&row(name, false))));
        }
        let Some(group) = self.groups.find(tenant, &name, known.topic) else {
            return Err(OperateError::NoGroup(name));
        };
        let state = self.groups.get(group).and_then(|group| group.queues.get(&queue));
        let returned = state.and_then(|state| state.progress.returned().get(offset));
        let stopped = returned.and_then(|it| Some((it, it.stopped?)));
        let Some((returned, reason)) = stopped else {
            return Err(OperateError::NotStopped { queue, offset });
        };
        let (attempts, delivered, error) = (returned.attempts, returned.last, 0);
        let outcome = match then {
            Unblock::Retry => {
                let due = self.now.max(Timestamp(1));
                StepOutcome::Returned { attempts, due, delivered, error }
            }
            Unblock::Bury => StepOutcome::Doomed { attempts, delivered, reason, error },
        };
        let steps = vec![Step::of_one(queue, offset, outcome)];
        let progress = Progress { group, steps, errors: Vec::new() };
        let reply = called(&row(name, true));
        Ok(Outcome::Record(Entry::Progress { tenant, progress }, reply))
    }
}
