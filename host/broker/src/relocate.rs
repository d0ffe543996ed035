//! Moving a group to other offsets, with or without members, also one that does not exist yet.
//!
//! ```text
//!   members ──► their subscriptions end, so that nothing delivered before settles anything
//!   then    ──► one entry: in each queue named, progress begins anew at its offset;
//!               what becomes a dead letter still does
//! ```
use std::collections::BTreeMap;

use yard_wire::limits::QUEUES_MAX;
use yard_wire::request::Reply;
use yard_wire::requests::{GroupMoved, MoveGroup, MovedQueue};
use yard_wire::{Code, QueueIndex, QueueOffset, Refusal, SubscriptionId, TenantId};

use crate::broker::Broker;
use crate::effect::{Effect, Then};
use crate::entry::{Entry, GroupCreated, GroupId, Moved};
use crate::event::Origin;
use crate::meta::Topic;
use crate::refusal::{BadArgument, MoveError, NoQueue, NoTopic, NotHere, SubscribeError};

/// A consumer whose group was moved subscribes again after this, in milliseconds.
pub(crate) const MOVED_WAIT_MS: u32 = 20;

impl Broker {
    pub(crate) fn move_group(
        &mut self,
        origin: Origin,
        tenant: TenantId,
        request: MoveGroup,
        effects: &mut Vec<Effect>,
    ) -> Result<(), MoveError> {
        let subscribing = MoveError::Subscribing;
        self.check_here(request.shard).map_err(|fact| subscribing(fact.into()))?;
        yard_wire::name::check(&request.group)
            .map_err(|refusal| subscribing(SubscribeError::BadName(refusal)))?;
        let named = self.meta.topic_named(tenant, &request.topic);
        let no_topic = || SubscribeError::NoTopic(NoTopic::Named(request.topic.clone()));
        let topic = named.ok_or_else(|| subscribing(no_topic()))?;
        let here = self.queues_here(topic).map_err(subscribing)?;
        let floors = self.checked_floors(topic, &here, &request.to)?;
        let topic_id = topic.topic;
        let group = self.groups.find(tenant, &request.group, topic_id);
        if let Some(drain) = group.and_then(|id| self.groups.get(id)?.drain.as_ref()) {
            let (group, to) = (request.group, self.topic_name(drain.to));
            return Err(MoveError::Drained { group, to });
        }
        if group.is_none() {
            self.check_new_group(tenant, here.len()).map_err(subscribing)?;
        }
        let queues = floors.iter().map(|(queue, after)| {
            let ends = self.ends_of(topic_id, *queue);
            let known = group.and_then(|id| self.groups.get(id));
            let before = known.map_or(ends.first, |group| group.settled_below(*queue));
            let (queue, after) = (*queue, *after);
            MovedQueue { queue, before: before.max(ends.first), after, end: ends.end }
        });
        let queues: Vec<MovedQueue> = queues.collect();
        let (entry, ended) = match group {
            Some(group) => {
                yard_wire::mark!(GroupMoved);
                let ended = self.end_members_of_group(group, effects);
                let floors = floors.into_iter().collect();
                (Entry::Move { tenant, moved: Moved { group, floors } }, ended)
            }
            None => {
                yard_wire::mark!(GroupMovedNew);
                let begin = here.iter().map(|queue| {
                    let first = self.ends_of(topic_id, *queue).first;
                    (*queue, floors.get(queue).copied().unwrap_or(first))
                });
                let floors = begin.filter(|(_, floor)| *floor > QueueOffset(0)).collect();
                let (group, name) = (self.groups.next_id(), request.group);
                let created = GroupCreated { group, topic: topic_id, name, floors };
                (Entry::Group { tenant, created }, 0)
            }
        };
        let reply = Reply::MoveGroup(GroupMoved { queues, ended });
        effects.push(Effect::Append { entry, then: vec![Then::Reply { origin, reply }] });
        Ok(())
    }

    /// Where the group shall go on, checked, in the queues that are named.
    fn checked_floors(
        &self,
        topic: &Topic,
        here: &[QueueIndex],
        to: &[(QueueIndex, QueueOffset)],
    ) -> Result<BTreeMap<QueueIndex, QueueOffset>, MoveError> {
        let bad = |detail: String| {
            MoveError::Subscribing(SubscribeError::BadArgument(BadArgument(detail)))
        };
        if to.is_empty() || to.len() > usize::from(QUEUES_MAX) {
            return Err(bad(format!("offsets of {} queues: 1 to {QUEUES_MAX}", to.len())));
        }
        let mut floors = BTreeMap::new();
        for (queue, offset) in to {
            let queues = topic.shards.len();
            if usize::from(queue.0) >= queues {
                let fact = NoQueue { queue: *queue, queues };
                return Err(MoveError::Subscribing(SubscribeError::NoQueue(fact)));
            }
            if !here.contains(queue) {
                let fact = NotHere { here: self.config.shard };
                return Err(MoveError::Subscribing(SubscribeError::NotHere(fact)));
            }
            let ends = self.ends_of(topic.topic, *queue);
            if *offset > ends.end {
                let (queue, offset, end) = (*queue, *offset, ends.end);
                return Err(MoveError::BeyondEnd { queue, offset, end });
            }
            if floors.insert(*queue, (*offset).max(ends.first)).is_some() {
                return Err(bad(format!("queue {queue} is named twice")));
            }
        }
        assert_eq!(floors.len(), to.len(), "every queue is named once");
        Ok(floors)
    }

    /// Ends the subscriptions of a group; they are told why, and how many they were is returned.
    pub(crate) fn end_members_of_group(&mut self, id: GroupId, effects: &mut Vec<Effect>) -> u32 {
        let group = self.groups.get(id).expect("the caller found the group");
        let members = group.live.iter().flat_map(|live| live.members.iter());
        let members: Vec<(SubscriptionId, crate::SessionId)> =
            members.map(|(subscription, member)| (*subscription, member.session)).collect();
        for (subscription, session) in &members {
            yard_wire::mark!(GroupMovedMember);
            self.end_member(*subscription, effects);
            let why = Refusal::after(Code::GroupMoved, MOVED_WAIT_MS, Code::GroupMoved.sentence());
            let (session, subscription) = (*session, *subscription);
            effects.push(Effect::Ended { session, subscription, why });
        }
        assert!(self.groups.get(id).is_some_and(|group| group.live.is_none()), "nobody is left");
        members.len() as u32
    }

    /// Takes in that a group goes on elsewhere. It has no members when that is decided, and gets
    /// none before it is appended.
    pub(crate) fn apply_move(&mut self, moved: &Moved) {
        let Some(group) = self.groups.get_mut(moved.group) else {
            return;
        };
        assert!(group.live.is_none(), "the members of a group leave before it is moved");
        for (queue, floor) in &moved.floors {
            group.queues.entry(*queue).or_default().progress.move_to(*floor);
        }
        let topic = group.topic;
        self.forget_moved(moved);
        // It may be further behind than before.
        self.headroom.remove(&topic);
    }
}
