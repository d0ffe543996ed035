//! Drains: the backlog of a group is passed on to a wider topic by key, and with it all that comes
//! later, until the group returns.
//!
//! ```text
//!   own topic   q0 q1 ───────┐ nothing is passed on while members have something
//!                            │ place and key asked of the index, as for dead letters
//!                            ▼
//!              Release into the wide topic's queue of the key, in this shard,
//!              and step Forwarded: one entry, both or neither; no body is written again
//!                            ▼
//!   wide topic  w0 w1 w2 w3 … ──► members, whichever of the two topics they subscribe to
//!
//!   begun ──► draining ──► forwarding … ──► returning: nothing is passed on any more
//!                                               └─ all that was is settled ──► ended
//! ```
//!
//! Order: messages of a key lie in one queue, are passed on in its order, go to one wide queue, and
//! are consumed in one place at a time. What is known of one that came back (attempts, when it is
//! due, that it stops its order group) goes along. All of it is within a shard, so a wide topic has
//! a queue in each shard of the other, and nothing crosses. Which queues take part is fixed when a
//! drain begins: a key stays in its queue though the wide topic grows.
mod entry;
mod forward;
mod operate;

use std::collections::BTreeMap;

use yard_wire::release::Release;
use yard_wire::{
    Code, QueueIndex, QueueOffset, Refusal, SubscriptionId, TenantId, Timestamp, TopicId,
};

use crate::bounds::{DRAIN_MAX, DRAIN_QUESTIONS_MAX, RETURN_LOOK_MS};
use crate::broker::Broker;
use crate::effect::Effect;
use crate::entry::{Entry, GroupCreated, GroupId, Progress};
use crate::event::{Applied, SessionId};
use crate::group::Group;
use crate::group::returned::Returned;
use crate::meta::Topic;
use crate::meta_table::queues_on;
use crate::refusal::SubscribeError;
use crate::relocate::MOVED_WAIT_MS;

pub(crate) use entry::Drain;
pub use entry::{DrainBegun, DrainEntry};

impl Broker {
    /// The topic in which a group that subscribes to this one gets its messages.
    pub(crate) fn goes_on_in<'a>(
        &'a self,
        tenant: TenantId,
        group: &str,
        topic: &'a Topic,
    ) -> Result<&'a Topic, SubscribeError> {
        let group = self.groups.find(tenant, group, topic.topic);
        match group.and_then(|id| self.groups.get(id)?.drain.as_ref()) {
            Some(drain) => {
                yard_wire::mark!(DrainGoesOn);
                self.meta.topic(drain.to).ok_or(SubscribeError::Moving)
            }
            None => Ok(topic),
        }
    }

    /// Takes in what the log says of a drain.
    pub(crate) fn apply_drain(&mut self, tenant: TenantId, entry: &DrainEntry) {
        match entry {
            DrainEntry::Begun(id, begun) => self.begin_drain(tenant, *id, begun),
            DrainEntry::Returning(id) => {
                let drain = self.groups.get_mut(*id).and_then(|group| group.drain.as_mut());
                if let Some(drain) = drain {
                    yard_wire::mark!(DrainReturning);
                    drain.returning = true;
                    self.drains.forget(*id);
                    self.returning.insert(*id);
                }
            }
            DrainEntry::Ended(id) => {
                if self.groups.get(*id).is_some() {
                    yard_wire::mark!(DrainEnded);
                    self.groups.set_drain(*id, None);
                    self.forget_drains(*id);
                }
            }
        }
    }

    fn begin_drain(&mut self, tenant: TenantId, id: GroupId, begun: &DrainBegun) {
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        let topic = group.topic;
        assert_ne!(topic, begun.to, "messages are passed on to another topic");
        if let Some(drain) = &mut group.drain {
            assert_eq!(drain.target, begun.target, "a drain that goes on goes to the same group");
            yard_wire::mark!(DrainAgain);
            drain.returning = false;
            self.returning.remove(&id);
        } else {
            let name = group.name.clone();
            if self.groups.get(begun.target).is_none() {
                let (group, topic, floors) = (begun.target, begun.to, begun.floors.clone());
                let created = GroupCreated { group, topic, name, floors };
                let queues = self.queue_count_here(topic);
                self.groups.create(tenant, &created, queues);
            }
            self.groups.set_drain(id, Some(Box::new(Drain::new(begun))));
        }
        self.headroom.remove(&topic);
        self.headroom.remove(&begun.to);
        if self.groups.get(id).is_some_and(|group| group.live.is_some()) {
            self.to_pump.insert(id);
        }
        self.list_drain_of(id);
    }

    /// Takes in that messages were passed on: they are settled here, and what is known of them
    /// goes along.
    pub(crate) fn apply_forwarded(
        &mut self,
        progress: &Progress,
        items: &[Release],
        applied: &Applied,
    ) {
        let id = progress.group;
        let known = self.groups.get(id).map(|group| came_back(group, progress));
        self.apply_progress(progress);
        let group = self.groups.get_mut(id);
        let Some(drain) = group.and_then(|group| group.drain.as_mut()) else {
            return;
        };
        let (target, to) = (drain.target, drain.to);
        let mut next: BTreeMap<QueueIndex, QueueOffset> = BTreeMap::new();
        for placed in applied.placed.iter().filter(|placed| placed.topic == to) {
            let count = u64::from(placed.count);
            drain.note(placed.queue, QueueOffset(placed.first.0 + count), count);
            next.entry(placed.queue).or_insert(placed.first);
        }
        self.headroom.remove(&to);
        // Where none of them came back, they lie in another order.
        for (item, known) in items.iter().zip(known.unwrap_or_default()) {
            let Some(offset) = next.get_mut(&item.queue()) else { continue };
            if let Some(returned) = known {
                yard_wire::mark!(DrainTakesOver);
                self.take_over(target, (item.queue(), *offset), returned);
            }
            offset.0 += 1;
        }
    }

    fn take_over(
        &mut self,
        target: GroupId,
        (queue, offset): (QueueIndex, QueueOffset),
        returned: Returned,
    ) {
        let now = self.now;
        assert!(returned.attempts >= 1, "what came back was delivered");
        let group = self.groups.get_mut(target).expect("messages go to a group");
        let state = group.queues.entry(queue).or_default();
        if let Some(flight) = &mut state.flight {
            flight.take_over(offset, &returned, now);
        }
        state.progress.take_over(offset, returned);
        self.list_due(target, queue);
    }

    /// Ends the subscriptions to a group's own topic that hold nothing: they begin again in the
    /// wide one. When all have, messages are passed on.
    pub(crate) fn hand_over(&mut self, id: GroupId, effects: &mut Vec<Effect>) {
        let group = self.groups.get(id).expect("the caller has the group");
        assert!(group.drain.is_some(), "only a group that goes on elsewhere is handed over");
        let members = group.live.iter().flat_map(|live| live.members.iter());
        let free = members.filter(|(_, member)| member.leased == 0);
        let free: Vec<(SubscriptionId, SessionId)> =
            free.map(|(subscription, member)| (*subscription, member.session)).collect();
        for (subscription, session) in free {
            yard_wire::mark!(DrainHandsOver);
            self.end_member(subscription, effects);
            let detail = "the group goes on in another topic; subscribe again";
            let why = Refusal::after(Code::GroupMoved, MOVED_WAIT_MS, detail);
            effects.push(Effect::Ended { session, subscription, why });
        }
        self.list_drain_of(id);
    }

    /// Lets groups go on in their own topics that have settled all that was passed on.
    pub(crate) fn end_returns(&mut self, effects: &mut Vec<Effect>) {
        for id in self.returning.clone() {
            let group = self.groups.get(id).expect("who returns is a group");
            let drain = group.drain.as_ref().expect("who returns was elsewhere");
            assert!(drain.returning, "a listed group returns");
            let (tenant, target) = (group.tenant, drain.target);
            if self.wide_lag(drain) > 0 {
                yard_wire::mark!(DrainWaitsForWide);
                continue;
            }
            self.end_members_of_group(target, effects);
            let entry = Entry::Drain { tenant, entry: DrainEntry::Ended(id) };
            effects.push(Effect::Append { entry, then: Vec::new() });
        }
    }

    /// Messages of the wide topic, up to the last that was passed on, that are not settled.
    pub(crate) fn wide_lag(&self, drain: &Drain) -> u64 {
        let group = self.groups.get(drain.target).expect("messages go to a group");
        let lag = |(queue, tail): &(QueueIndex, QueueOffset)| {
            let first = self.ends_of(drain.to, *queue).first;
            let state = group.queues.get(queue);
            let all = tail.0.saturating_sub(first.0);
            state.map_or(all, |state| state.progress.lag(first, *tail))
        };
        drain.tails.iter().map(lag).sum()
    }

    /// Notes whether a queue of a group has messages to pass on.
    pub(crate) fn list_drain(&mut self, id: GroupId, queue: QueueIndex) {
        let group = self.groups.get(id).filter(|group| group.is_forwarding());
        let has_some = group.is_some_and(|group| {
            let ends = self.ends_of(group.topic, queue);
            group.first_open(queue).max(ends.first) < ends.end
        });
        if has_some {
            self.drains.put((id, queue), Timestamp(0));
        } else {
            self.drains.remove((id, queue));
        }
    }

    /// Notes which queues of a group have messages to pass on, if it is one that does.
    pub(crate) fn list_drain_of(&mut self, id: GroupId) {
        let group = self.groups.get(id).filter(|group| group.drain.is_some());
        let topic = group.and_then(|group| self.meta.topic(group.topic));
        let here = self.config.shard;
        let queues: Vec<QueueIndex> =
            topic.into_iter().flat_map(|topic| queues_on(topic, here)).collect();
        queues.into_iter().for_each(|queue| self.list_drain(id, queue));
    }

    /// Finds what is to be passed on, and who returns, when the log was read.
    pub(crate) fn list_drains(&mut self) {
        let drained: Vec<GroupId> = self.groups.drained().collect();
        for id in drained {
            let group = self.groups.get(id).expect("a listed group exists");
            if group.drain.as_ref().is_some_and(|drain| drain.returning) {
                self.returning.insert(id);
            }
            // Of queues of which nothing is known yet the end is, once its topic is.
            let topic = group.topic;
            let all = (topic, QueueIndex(0))..=(topic, QueueIndex(u16::MAX));
            let queues: Vec<QueueIndex> = self.ends.range(all).map(|((_, it), _)| *it).collect();
            queues.into_iter().for_each(|queue| self.list_drain(id, queue));
        }
    }

    /// The queues of wide topics up to where messages were passed on to them.
    pub(crate) fn drain_tails(&self) -> Vec<(TopicId, QueueIndex, QueueOffset)> {
        let drains = self.groups.drained().filter_map(|id| self.groups.get(id)?.drain.as_deref());
        let tails = drains
            .flat_map(|drain| drain.tails.iter().map(|(queue, tail)| (drain.to, *queue, *tail)));
        tails.collect()
    }

    /// A group passes nothing on any more, and gets nothing.
    pub(crate) fn forget_drains(&mut self, id: GroupId) {
        let source = self.groups.get(id).and_then(|group| group.source);
        for id in [Some(id), source].into_iter().flatten() {
            self.drains.forget(id);
            self.returning.remove(&id);
        }
    }

    /// When something is to be passed on, or to be looked at.
    pub(crate) fn next_of_drains(&self) -> Option<Timestamp> {
        let has_room = self.drains.asked_count() < DRAIN_QUESTIONS_MAX;
        let next = self.drains.next().filter(|_| has_room);
        let look = (!self.returning.is_empty()).then(|| self.now.plus_ms(RETURN_LOOK_MS));
        [next, look].into_iter().flatten().min()
    }

    /// Whether the messages of some group go to a topic, as far as this shard knows.
    pub(crate) fn drained_into(&self, topic: TopicId) -> Option<&Group> {
        let groups = self.groups.of_topic(topic).into_iter();
        let source = groups.filter_map(|id| self.groups.get(id)?.source).next()?;
        self.groups.get(source)
    }
}

/// Of each message that a step is about, in order, what is known of it if it came back; nothing
/// where none did.
fn came_back(group: &Group, progress: &Progress) -> Vec<Option<Returned>> {
    let returned = |queue: QueueIndex, offset: u64| {
        let state = group.queues.get(&queue)?;
        state.progress.returned().get(QueueOffset(offset)).cloned()
    };
    let offsets = progress.steps.iter().flat_map(|step| {
        let queue = step.queue;
        (step.from.0..step.to.0).map(move |offset| (queue, offset))
    });
    let known: Vec<Option<Returned>> =
        offsets.map(|(queue, offset)| returned(queue, offset)).collect();
    assert!(known.len() <= DRAIN_MAX as usize, "an entry passes on a bounded number");
    if known.iter().any(Option::is_some) { known } else { Vec::new() }
}
