//! Moving a group to other offsets: a plan that shows what would change, its application, and what
//! was read back afterwards, queue by queue.
use std::collections::BTreeMap;

use yard_wire::operation::{GroupInfo, GroupQueueRow, TopicInfo};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::MoveGroup;
use yard_wire::{Code, QueueIndex, QueueOffset, ShardId, Timestamp};

use crate::client::{Resend, unexpected};
use crate::{Admin, Error};

/// Where a group is to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// At the oldest message that each queue holds.
    Earliest,
    /// After the newest message that each queue holds now.
    Latest,
    /// At this offset of every queue.
    Offset(QueueOffset),
    /// At these offsets; other queues stay where they are.
    Offsets(Vec<(QueueIndex, QueueOffset)>),
    /// At the first message of each queue that was stored then or later; after the newest where
    /// there is none.
    Time(Timestamp),
    /// Where another group of the topic is. What that one has settled out of order comes again.
    Like(String),
    /// So many messages further on in each queue, or at its end.
    Skip(u64),
}

/// What moving a group would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeekPlan {
    /// Name of the topic.
    pub topic: String,
    /// Name of the group.
    pub group: String,
    /// Whether the group exists; otherwise it is created.
    pub exists: bool,
    /// Subscriptions that it has now: they end, and begin again by themselves.
    pub members: usize,
    /// The queues in which it goes on elsewhere, in order.
    pub queues: Vec<QueueMove>,
}

/// What changes in one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueMove {
    /// The queue.
    pub queue: QueueIndex,
    /// The shard that holds it.
    pub shard: ShardId,
    /// Every message below is settled now; the oldest message where the group is new.
    pub before: QueueOffset,
    /// Every message below is to be settled, and none above.
    pub to: QueueOffset,
    /// Offset after the newest message.
    pub end: QueueOffset,
}

/// What became of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSought {
    /// What was planned; [`QueueMove::before`] as it was when it was done.
    pub planned: QueueMove,
    /// The offset that was read back afterwards; a group with members may be further on already.
    pub found: Option<QueueOffset>,
    /// Why it was not moved, or not found where it was moved to.
    pub error: Option<Error>,
}

/// What became of a plan. Every queue is in `done` or in `failed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeekReport {
    /// Queue by queue, in order.
    pub queues: Vec<QueueSought>,
    /// Subscriptions that ended.
    pub ended: u32,
}

impl SeekReport {
    /// Queues that were planned.
    #[must_use]
    pub fn matched(&self) -> usize {
        self.queues.len()
    }

    /// Queues that were moved, and found there.
    #[must_use]
    pub fn done(&self) -> usize {
        self.queues.iter().filter(|queue| queue.error.is_none()).count()
    }

    /// Queues that were not.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.matched() - self.done()
    }
}

impl Admin {
    /// What moving a group would change, with or without members, also of one that does not exist.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; [`Code::UnknownGroup`] for the group of [`SeekTo::Like`];
    /// [`Code::SeekBeyondEnd`] and [`Code::OffsetOutOfRange`] for an offset beyond the end of a
    /// queue or below its oldest message; [`Code::QueueOutOfRange`]; or a code of the client from
    /// 801 on.
    pub async fn plan_seek(
        &self,
        topic: &str,
        group: &str,
        to: &SeekTo,
    ) -> Result<SeekPlan, Error> {
        yard_wire::name::check(group)?;
        let report = self.call(TopicInfo { name: topic.to_owned() }).await?;
        let known = self.rows_of(topic, group).await?;
        let (exists, members) = known.as_ref().map_or((false, 0), |(_, members)| (true, *members));
        let rows = known.map(|(rows, _)| rows).unwrap_or_default();
        let other = match to {
            SeekTo::Like(other) => match self.rows_of(topic, other).await? {
                Some((rows, _)) if !rows.is_empty() => rows,
                Some(_) | None => {
                    let detail = format!("group {other:?} does not consume topic {topic:?}");
                    return Err(Error::new(Code::UnknownGroup, detail));
                }
            },
            SeekTo::Earliest
            | SeekTo::Latest
            | SeekTo::Offset(_)
            | SeekTo::Offsets(_)
            | SeekTo::Time(_)
            | SeekTo::Skip(_) => BTreeMap::new(),
        };
        let times = self.times_of(topic, to, report.queues.len()).await?;
        let named = named(to, report.queues.len())?;
        let mut queues = Vec::new();
        for row in &report.queues {
            let (queue, first, end) = (row.queue, row.first, row.end);
            let before = rows.get(&queue).map_or(first, |row| row.settled_below);
            let wanted = match to {
                SeekTo::Earliest => first,
                SeekTo::Latest => end,
                SeekTo::Offset(offset) => *offset,
                SeekTo::Offsets(_) => match named.get(&queue) {
                    Some(offset) => *offset,
                    None => continue,
                },
                SeekTo::Time(_) => times[&queue].clamp(first, end),
                // Where the other has not been yet, it begins at the oldest.
                SeekTo::Like(_) => {
                    other.get(&queue).map_or(first, |row| row.settled_below).clamp(first, end)
                }
                SeekTo::Skip(messages) => QueueOffset(before.0.saturating_add(*messages)).min(end),
            };
            check_offset(queue, wanted, (first, end))?;
            queues.push(QueueMove { queue, shard: row.shard, before, to: wanted, end });
        }
        let (topic, group) = (topic.to_owned(), group.to_owned());
        Ok(SeekPlan { topic, group, exists, members, queues })
    }

    /// Does what a plan says, then reads back where the group is. What cannot be done in one queue
    /// stands in the report, and the others are done all the same.
    ///
    /// # Errors
    /// Where nothing could be done because the client was closed.
    pub async fn seek_group(&self, plan: &SeekPlan) -> Result<SeekReport, Error> {
        let mut by_shard: BTreeMap<ShardId, Vec<QueueMove>> = BTreeMap::new();
        for queue in &plan.queues {
            by_shard.entry(queue.shard).or_default().push(*queue);
        }
        let (mut queues, mut ended) = (Vec::new(), 0);
        for (shard, moves) in by_shard {
            let answer = self.move_in(plan, shard, &moves).await;
            for planned in moves {
                let (before, error) = match &answer {
                    Ok(moved) => {
                        let found = moved.queues.iter().find(|moved| moved.queue == planned.queue);
                        (found.map_or(planned.before, |moved| moved.before), None)
                    }
                    Err(error) => (planned.before, Some(error.clone())),
                };
                let planned = QueueMove { before, ..planned };
                queues.push(QueueSought { planned, found: None, error });
            }
            ended += answer.map_or(0, |moved| moved.ended);
        }
        queues.sort_by_key(|queue| queue.planned.queue);
        self.verify(plan, &mut queues).await;
        Ok(SeekReport { queues, ended })
    }

    /// Reads back where the group is.
    async fn verify(&self, plan: &SeekPlan, queues: &mut [QueueSought]) {
        let read = self.rows_of(&plan.topic, &plan.group).await;
        let (rows, problem) = match read {
            Ok(rows) => (rows.map(|(rows, _)| rows).unwrap_or_default(), None),
            Err(error) => (BTreeMap::new(), Some(error)),
        };
        for sought in queues.iter_mut().filter(|sought| sought.error.is_none()) {
            let QueueMove { queue, to, .. } = sought.planned;
            sought.found = rows.get(&queue).map(|row| row.settled_below);
            // Members that came back may have settled something, and retention may have gone on.
            if sought.found.is_none_or(|found| found < to) {
                let missed = || {
                    let found = sought.found.map_or("nowhere".to_owned(), |at| format!("at {at}"));
                    Error::new(Code::BadReply, format!("moved to {to}, and found {found}"))
                };
                sought.error = Some(problem.clone().unwrap_or_else(missed));
            }
        }
    }

    async fn move_in(
        &self,
        plan: &SeekPlan,
        shard: ShardId,
        moves: &[QueueMove],
    ) -> Result<yard_wire::requests::GroupMoved, Error> {
        let request = Request::MoveGroup(MoveGroup {
            shard,
            group: plan.group.clone(),
            topic: plan.topic.clone(),
            to: moves.iter().map(|queue| (queue.queue, queue.to)).collect(),
        });
        // A second time it would take back what was settled since the first.
        match self.client().inner().ask(shard, None, request, Resend::OnlyIfNotSent).await? {
            Reply::MoveGroup(moved) => Ok(moved),
            other => Err(unexpected(&other)),
        }
    }

    /// Where a group is in a topic, and its members there; `None` where there is no such group.
    async fn rows_of(
        &self,
        topic: &str,
        group: &str,
    ) -> Result<Option<(BTreeMap<QueueIndex, GroupQueueRow>, usize)>, Error> {
        let report = match self.call(GroupInfo { name: group.to_owned() }).await {
            Ok(report) => report,
            Err(error) if error.code == Code::UnknownGroup => return Ok(None),
            Err(error) => return Err(error),
        };
        let rows = report.queues.into_iter().filter(|row| row.topic == topic);
        let rows: BTreeMap<_, _> = rows.map(|row| (row.queue, row)).collect();
        let members = report.members.iter().filter(|member| member.topic == topic).count();
        Ok((!rows.is_empty()).then_some((rows, members)))
    }

    async fn times_of(
        &self,
        topic: &str,
        to: &SeekTo,
        queues: usize,
    ) -> Result<BTreeMap<QueueIndex, QueueOffset>, Error> {
        let SeekTo::Time(time) = to else {
            return Ok(BTreeMap::new());
        };
        let offsets = self.client().inner().seek_all(topic, queues, *time).await?;
        Ok(offsets.into_iter().collect())
    }
}

fn named(to: &SeekTo, queues: usize) -> Result<BTreeMap<QueueIndex, QueueOffset>, Error> {
    let SeekTo::Offsets(offsets) = to else {
        return Ok(BTreeMap::new());
    };
    if let Some((queue, _)) = offsets.iter().find(|(queue, _)| usize::from(queue.0) >= queues) {
        let detail = format!("queue {queue} of a topic that has {queues}");
        return Err(Error::new(Code::QueueOutOfRange, detail));
    }
    Ok(offsets.iter().copied().collect())
}

fn check_offset(
    queue: QueueIndex,
    offset: QueueOffset,
    (first, end): (QueueOffset, QueueOffset),
) -> Result<(), Error> {
    if offset > end {
        let detail = format!("offset {offset} of queue {queue}, which ends at {end}");
        return Err(Error::new(Code::SeekBeyondEnd, detail));
    }
    if offset < first {
        let detail = format!("offset {offset} of queue {queue}, whose oldest message has {first}");
        return Err(Error::new(Code::OffsetOutOfRange, detail));
    }
    Ok(())
}
