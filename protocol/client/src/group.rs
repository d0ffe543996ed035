//! Moving a group to other offsets: a plan that shows what would change, its application, and what
//! was read back afterwards, queue by queue.
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use yard_wire::operation::{GroupInfo, GroupQueueRow, TopicInfo};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{GroupMoved, MoveGroup, MovedQueue};
use yard_wire::{Code, QueueIndex, QueueOffset, ShardId, Timestamp};

use crate::client::{Resend, unexpected};
use crate::{Admin, Error};
use read_back::{ReadBack, judge};

mod read_back;

/// A group that is below where it was moved to is looked at again for so long: a message there is
/// becoming a dead letter, and settled when it is one.
const LETTERS_WAIT: Duration = Duration::from_secs(2);
/// The pause between two looks.
const LETTERS_PAUSE: Duration = Duration::from_millis(20);

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
    /// The offset that was read back afterwards, if it was.
    pub found: Option<QueueOffset>,
    /// Why it was not moved, or not found where it was moved to: at [`QueueMove::to`], or at the
    /// oldest message where retention has taken that, both by the broker's answer and as it was
    /// read back. A group that has members, or had some that come back, may be found further on; so
    /// may any, by messages that became dead letters meanwhile. One that is to become a dead letter
    /// below the target is waited for, 2 s at most.
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
    /// Where nothing was done: it could not be asked where the group is before.
    pub async fn seek_group(&self, plan: &SeekPlan) -> Result<SeekReport, Error> {
        let mut by_shard: BTreeMap<ShardId, Vec<QueueMove>> = BTreeMap::new();
        for queue in &plan.queues {
            by_shard.entry(queue.shard).or_default().push(*queue);
        }
        let rejected = self.rejected_of(plan).await?;
        let (mut moved, mut ended) = (Vec::new(), 0);
        for (shard, moves) in by_shard {
            let answer = self.move_in(plan, shard, &moves).await;
            let each = moves.into_iter().map(|planned| (planned, about(&answer, planned.queue)));
            moved.extend(each);
            ended += answer.map_or(0, |moved| moved.ended);
        }
        moved.sort_by_key(|(planned, _)| planned.queue);
        let done = moved.iter().filter(|(_, moved)| moved.is_ok());
        let done: Vec<QueueMove> = done.map(|(planned, _)| *planned).collect();
        let read = self.read_back_settled(plan, &done, ended, &rejected).await;
        let queues = moved.into_iter().map(|(planned, moved)| judge(planned, moved, &read));
        Ok(SeekReport { queues: queues.collect(), ended })
    }

    /// How many messages of each queue the group has rejected so far.
    async fn rejected_of(&self, plan: &SeekPlan) -> Result<BTreeMap<QueueIndex, u64>, Error> {
        let (rows, _) = self.rows_of(&plan.topic, &plan.group).await?.unwrap_or_default();
        Ok(rows.into_iter().map(|(queue, row)| (queue, row.rejected)).collect())
    }

    /// Reads where the group is, again as long as it waits for dead letters.
    async fn read_back_settled(
        &self,
        plan: &SeekPlan,
        done: &[QueueMove],
        ended: u32,
        rejected: &BTreeMap<QueueIndex, u64>,
    ) -> Result<ReadBack, Error> {
        let until = Instant::now() + LETTERS_WAIT;
        loop {
            let read = self.read_back(plan, ended, rejected).await?;
            let waits = done.iter().any(|planned| read.is_below(planned));
            if !waits || Instant::now() >= until {
                return Ok(read);
            }
            tokio::time::sleep(LETTERS_PAUSE).await;
        }
    }

    /// Reads where the group is, and then what retention has left.
    async fn read_back(
        &self,
        plan: &SeekPlan,
        ended: u32,
        rejected: &BTreeMap<QueueIndex, u64>,
    ) -> Result<ReadBack, Error> {
        let (rows, members) = self.rows_of(&plan.topic, &plan.group).await?.unwrap_or_default();
        let report = self.call(TopicInfo { name: plan.topic.clone() }).await?;
        let letters = rows.iter().map(|(queue, row)| {
            let before = rejected.get(queue).copied().unwrap_or_default();
            (*queue, row.rejected.saturating_sub(before))
        });
        Ok(ReadBack {
            letters: letters.collect(),
            settled_below: rows.iter().map(|(queue, row)| (*queue, row.settled_below)).collect(),
            firsts: report.queues.iter().map(|row| (row.queue, row.first)).collect(),
            has_members: ended > 0 || members > 0,
        })
    }

    async fn move_in(
        &self,
        plan: &SeekPlan,
        shard: ShardId,
        moves: &[QueueMove],
    ) -> Result<GroupMoved, Error> {
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

/// What an answer says about a queue.
fn about(answer: &Result<GroupMoved, Error>, queue: QueueIndex) -> Result<MovedQueue, Error> {
    let moved = answer.as_ref().map_err(Error::clone)?;
    moved.queues.iter().find(|moved| moved.queue == queue).cloned().ok_or_else(|| {
        let detail = format!("the answer does not say what became of queue {queue}");
        Error::new(Code::BadReply, detail)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_an_answer_leaves_out_is_not_done() {
        let queue = QueueIndex;
        let offset = QueueOffset(4);
        let moved = MovedQueue { queue: queue(1), before: offset, after: offset, end: offset };
        let answer = Ok(GroupMoved { queues: vec![moved.clone()], ended: 0 });
        assert_eq!(about(&answer, queue(1)), Ok(moved));
        let left_out = about(&answer, queue(2)).unwrap_err();
        assert_eq!(left_out.code, Code::BadReply);
        assert!(left_out.detail.contains("queue 2"), "{left_out}");
        let lost = Error::new(Code::Disconnected, "lost");
        assert_eq!(about(&Err(lost.clone()), queue(1)), Err(lost));
    }
}
