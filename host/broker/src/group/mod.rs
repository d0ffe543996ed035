//! The groups of a shard: each is a group's consumption of one topic.
//!
//! ```text
//!   Groups ─┬─ by_id     GroupId ─► Group ─┬─ queues   progress (durable), flight (volatile)
//!           ├─ by_name   tenant, name, topic ─► GroupId  └─ live   members, turns (volatile)
//!           └─ by_topic  topic ─► GroupIds; those with members apart
//! ```
pub(crate) mod claims;
pub(crate) mod flight;
pub(crate) mod label;
pub(crate) mod lease;
pub(crate) mod member;
pub(crate) mod order;
pub(crate) mod owners;
pub(crate) mod queue;
pub(crate) mod range_set;
pub(crate) mod returned;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use yard_wire::{Malformed, QueueIndex, QueueOffset, SubscriptionId, TenantId, TopicId, Wire};

use crate::drain::Drain;
use crate::entry::{GroupCreated, GroupId, Outcome, Step};
use crate::group::claims::Claims;
use crate::group::member::Live;
use crate::group::queue::{GroupQueue, Progress};
use crate::saving::Snapshot;

/// A group's consumption of one topic in this shard.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) tenant: TenantId,
    pub(crate) topic: TopicId,
    pub(crate) name: String,
    pub(crate) queues: BTreeMap<QueueIndex, GroupQueue>,
    /// Its members, while it has any.
    pub(crate) live: Option<Box<Live>>,
    /// Where it has members and a business key: whose hands keys are in.
    pub(crate) claims: Option<Box<Claims>>,
    /// Its messages are passed on to another topic.
    pub(crate) drain: Option<Box<Drain>>,
    /// It gets the messages that this group passes on. Follows from that one.
    pub(crate) source: Option<GroupId>,
}

impl Group {
    /// Takes in what the log says; the leases that end by it no longer count.
    pub(crate) fn apply(&mut self, steps: &[Step], errors: &[Arc<str>]) {
        for step in steps {
            let queue = self.queues.entry(step.queue).or_default();
            queue.progress.apply(step, errors);
            let Some(flight) = &mut queue.flight else {
                continue;
            };
            let was_full = flight.is_full();
            flight.doomed = queue.progress.returned().doomed_count();
            let live = self.live.as_mut().expect("only a group with members has flights");
            flight.apply(step, |subscription, count| live.leases_ended(subscription, count));
            // Others may go on where this one was in the way.
            let others_wait = flight.orders().is_some() || live.is_moving(step.queue);
            if was_full || others_wait || step.outcome == Outcome::Trimmed {
                live.make_available(step.queue);
            }
        }
    }

    pub(crate) fn member_count(&self) -> usize {
        self.live.as_ref().map_or(0, |live| live.members.len())
    }

    /// Every message of a queue below is settled.
    pub(crate) fn settled_below(&self, queue: QueueIndex) -> QueueOffset {
        let state = self.queues.get(&queue);
        state.map(|state| state.progress.settled_below()).unwrap_or_default()
    }

    /// Whether messages are passed on: not while members still have some of them.
    pub(crate) fn is_forwarding(&self) -> bool {
        self.live.is_none() && self.drain.as_ref().is_some_and(|drain| !drain.returning)
    }

    /// The first message of a queue that is neither settled nor to become a dead letter.
    pub(crate) fn first_open(&self, queue: QueueIndex) -> QueueOffset {
        let state = self.queues.get(&queue);
        state.map(|state| state.progress.first_open()).unwrap_or_default()
    }

    /// Whether what becomes of a message there may let others go on.
    pub(crate) fn is_in_the_way(&self, queue: QueueIndex) -> bool {
        let flight = self.queues.get(&queue).and_then(|queue| queue.flight.as_ref());
        let is_full = flight.is_some_and(|flight| flight.is_full());
        let is_ordered = flight.is_some_and(|flight| flight.orders().is_some());
        let is_moving = self.live.as_ref().is_some_and(|live| live.is_moving(queue));
        is_full || is_ordered || is_moving || self.waits_for_keys() || self.drain.is_some()
    }

    /// Somebody wants something: there may be what only it may have.
    pub(crate) fn look_again(&mut self) {
        let live = self.live.as_mut().expect("somebody wants something");
        let flights =
            self.queues.iter().filter_map(|(queue, it)| Some((queue, it.flight.as_ref()?)));
        let is_exclusive = live.owners.is_some();
        // Of one queue of a topic it is as of all.
        let bound = flights.take_while(|(_, it)| is_exclusive || it.orders().is_some());
        for (queue, _) in bound.filter(|(_, flight)| flight.deliverable() > 0) {
            live.make_available(*queue);
        }
    }

    /// Where the leases of the group say whose they are, member by member.
    pub(crate) fn check_members(&self) {
        let Some(live) = &self.live else {
            let flying = self.queues.values().any(|queue| queue.flight.is_some());
            assert!(!flying, "a group without members has nothing under way");
            return;
        };
        assert!(!live.members.is_empty(), "a group without members is not live");
        live.check();
        let mut counted: BTreeMap<SubscriptionId, u32> = BTreeMap::new();
        let flights = self.queues.values().filter_map(|queue| queue.flight.as_ref());
        let all = QueueOffset(0)..QueueOffset(u64::MAX);
        for (from, to, hold) in flights.flat_map(|it| it.leases.ranges(all.start, all.end)) {
            *counted.entry(hold.subscription).or_default() += (to.0 - from.0) as u32;
        }
        for (id, member) in &live.members {
            let count = counted.remove(id).unwrap_or(0);
            assert_eq!(count, member.leased, "a member's leases are counted");
        }
        assert!(counted.is_empty(), "every lease is a member's");
    }
}

/// What a tenant has in a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// Groups, each topic of a group counted.
    groups: usize,
    /// Queues of these groups: of each as many as its topic has here.
    queues: usize,
}

/// All groups of a shard.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    by_id: BTreeMap<GroupId, Group>,
    by_name: BTreeMap<TenantId, BTreeMap<String, BTreeMap<TopicId, GroupId>>>,
    by_topic: BTreeMap<TopicId, BTreeSet<GroupId>>,
    /// Those with members.
    live_by_topic: BTreeMap<TopicId, BTreeSet<GroupId>>,
    /// Those whose messages are passed on.
    drained_by_topic: BTreeMap<TopicId, BTreeSet<GroupId>>,
    counts: BTreeMap<TenantId, Counts>,
    next: u32,
}

impl Groups {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn next_id(&self) -> GroupId {
        GroupId(self.next)
    }

    /// Groups of one tenant, each topic of a group counted.
    pub(crate) fn count_of(&self, tenant: TenantId) -> usize {
        self.counts.get(&tenant).map_or(0, |counts| counts.groups)
    }

    /// Queues of the groups of one tenant.
    pub(crate) fn queue_count_of(&self, tenant: TenantId) -> usize {
        self.counts.get(&tenant).map_or(0, |counts| counts.queues)
    }

    /// Takes in that a topic has another number of queues here than before.
    pub(crate) fn resize(&mut self, topic: TopicId, before: usize, after: usize) {
        for id in self.by_topic.get(&topic).into_iter().flatten() {
            let tenant = self.by_id[id].tenant;
            let counts = self.counts.get_mut(&tenant).expect("a group is counted");
            counts.queues = counts.queues - before + after;
        }
    }

    pub(crate) fn get(&self, id: GroupId) -> Option<&Group> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.by_id.iter().map(|(id, group)| (*id, group))
    }

    pub(crate) fn find(&self, tenant: TenantId, name: &str, topic: TopicId) -> Option<GroupId> {
        self.by_name.get(&tenant)?.get(name)?.get(&topic).copied()
    }

    /// The topics that a group of this name consumes.
    pub(crate) fn named(&self, tenant: TenantId, name: &str) -> Option<Vec<GroupId>> {
        Some(self.by_name.get(&tenant)?.get(name)?.values().copied().collect())
    }

    /// All groups of a tenant, by name and topic.
    pub(crate) fn of_tenant(&self, tenant: TenantId) -> impl Iterator<Item = GroupId> {
        let names = self.by_name.get(&tenant).into_iter().flat_map(BTreeMap::values);
        names.flat_map(|topics| topics.values().copied())
    }

    pub(crate) fn of_topic(&self, topic: TopicId) -> Vec<GroupId> {
        self.by_topic.get(&topic).into_iter().flatten().copied().collect()
    }

    pub(crate) fn live_of_topic(&self, topic: TopicId) -> impl Iterator<Item = GroupId> {
        self.live_by_topic.get(&topic).into_iter().flatten().copied()
    }

    /// The groups with members.
    pub(crate) fn live(&self) -> impl Iterator<Item = GroupId> {
        self.live_by_topic.values().flatten().copied()
    }

    /// The groups whose messages of a topic are passed on.
    pub(crate) fn drained_of_topic(&self, topic: TopicId) -> impl Iterator<Item = GroupId> {
        self.drained_by_topic.get(&topic).into_iter().flatten().copied()
    }

    /// The groups whose messages are passed on.
    pub(crate) fn drained(&self) -> impl Iterator<Item = GroupId> {
        self.drained_by_topic.values().flatten().copied()
    }

    /// Takes in that a group passes its messages on, or does no more; both groups exist.
    pub(crate) fn set_drain(&mut self, id: GroupId, drain: Option<Box<Drain>>) {
        let group = self.by_id.get_mut(&id).expect("the caller found the group");
        let (topic, is_drained) = (group.topic, drain.is_some());
        let target = drain.as_ref().map(|drain| drain.target);
        let before = std::mem::replace(&mut group.drain, drain).map(|before| before.target);
        if let Some(before) = before.and_then(|before| self.by_id.get_mut(&before)) {
            before.source = None;
        }
        if let Some(target) = target {
            self.by_id.get_mut(&target).expect("messages go to a group").source = Some(id);
        }
        let groups = self.drained_by_topic.entry(topic).or_default();
        let _ = if is_drained { groups.insert(id) } else { groups.remove(&id) };
        if groups.is_empty() {
            self.drained_by_topic.remove(&topic);
        }
    }

    pub(crate) fn topics(&self) -> impl Iterator<Item = TopicId> {
        self.by_topic.keys().copied()
    }

    /// Notes whether a group has members.
    pub(crate) fn set_live(&mut self, id: GroupId, live: bool) {
        let topic = self.by_id[&id].topic;
        let groups = self.live_by_topic.entry(topic).or_default();
        let _ = if live { groups.insert(id) } else { groups.remove(&id) };
        if groups.is_empty() {
            self.live_by_topic.remove(&topic);
        }
    }

    /// Takes in that a group was created on a topic that has `queues_here` in this shard.
    pub(crate) fn create(&mut self, tenant: TenantId, created: &GroupCreated, queues_here: usize) {
        let id = created.group;
        self.next = self.next.max(id.0.saturating_add(1));
        let floors = created.floors.iter();
        let queues = floors.map(|(queue, floor)| {
            let progress = Progress::starting_at(*floor);
            (*queue, GroupQueue { progress, flight: None })
        });
        let group = Group {
            tenant,
            topic: created.topic,
            name: created.name.clone(),
            queues: queues.collect(),
            live: None,
            claims: None,
            drain: None,
            source: None,
        };
        self.insert(id, group);
        let counts = self.counts.get_mut(&tenant).expect("a group is counted");
        counts.queues += queues_here;
    }

    fn insert(&mut self, id: GroupId, group: Group) {
        let names = self.by_name.entry(group.tenant).or_default();
        let old = names.entry(group.name.clone()).or_default().insert(group.topic, id);
        assert!(old.is_none(), "a group is created once");
        self.by_topic.entry(group.topic).or_default().insert(id);
        self.counts.entry(group.tenant).or_default().groups += 1;
        self.by_id.insert(id, group);
    }

    /// Takes a group without members out. Its topic has `queues_here` in this shard.
    pub(crate) fn remove(&mut self, id: GroupId, queues_here: usize) -> Option<Group> {
        let group = self.by_id.get(&id)?;
        for drained in [group.drain.is_some().then_some(id), group.source].into_iter().flatten() {
            self.set_drain(drained, None);
        }
        let group = self.by_id.remove(&id).expect("looked at just now");
        assert!(group.live.is_none(), "members left before");
        if let Some(groups) = self.by_topic.get_mut(&group.topic) {
            groups.remove(&id);
            if groups.is_empty() {
                self.by_topic.remove(&group.topic);
            }
        }
        let names = self.by_name.get_mut(&group.tenant).expect("a group is listed by name");
        let topics = names.get_mut(&group.name).expect("a group is listed by name");
        topics.remove(&group.topic);
        if topics.is_empty() {
            names.remove(&group.name);
        }
        if names.is_empty() {
            self.by_name.remove(&group.tenant);
        }
        let counts = self.counts.get_mut(&group.tenant).expect("a group is counted");
        counts.groups -= 1;
        counts.queues -= queues_here;
        if counts.groups == 0 {
            assert_eq!(counts.queues, 0, "only groups have queues");
            self.counts.remove(&group.tenant);
        }
        Some(group)
    }

    pub(crate) fn check(&self) {
        let listed: usize = self.by_topic.values().map(BTreeSet::len).sum();
        assert_eq!(listed, self.by_id.len(), "every group is listed by its topic");
        let counted: usize = self.counts.values().map(|counts| counts.groups).sum();
        assert_eq!(counted, listed, "every group is counted");
        for (id, group) in self.iter() {
            assert!(id.0 < self.next, "numbers are given out upwards");
            assert_eq!(self.find(group.tenant, &group.name, group.topic), Some(id));
            let live = self.live_by_topic.get(&group.topic);
            let listed = live.is_some_and(|groups| groups.contains(&id));
            assert_eq!(listed, group.live.is_some(), "groups with members are listed");
            self.check_drain(id, group);
        }
    }
}

impl Groups {
    fn restore_drain(&mut self, id: GroupId, drain: Drain) -> Result<(), Malformed> {
        let target = self.by_id.get(&drain.target);
        let fits = target.is_some_and(|target| {
            let group = &self.by_id[&id];
            let is_same = (target.tenant, &target.name) == (group.tenant, &group.name);
            let is_other = drain.target != id && target.topic == drain.to;
            is_same && is_other && target.source.is_none() && target.drain.is_none()
        });
        if !fits {
            let value = drain.target.0.into();
            return Err(Malformed::Field { what: "group that messages go to", value });
        }
        self.set_drain(id, Some(Box::new(drain)));
        Ok(())
    }

    fn check_drain(&self, id: GroupId, group: &Group) {
        let listed = self.drained_by_topic.get(&group.topic);
        let listed = listed.is_some_and(|groups| groups.contains(&id));
        assert_eq!(listed, group.drain.is_some(), "what is passed on is listed");
        if let Some(drain) = &group.drain {
            let target = self.by_id.get(&drain.target).expect("messages go to a group");
            assert_eq!((target.topic, &target.name), (drain.to, &group.name), "it is the same one");
            assert_eq!(target.source, Some(id), "who gets messages knows whose they were");
            assert!(target.drain.is_none(), "what was passed on is not passed on again");
        }
        if let Some(source) = group.source {
            let drain = self.by_id.get(&source).and_then(|source| source.drain.as_ref());
            assert_eq!(drain.map(|drain| drain.target), Some(id), "what comes is passed on");
        }
    }
}

/// `u32` next number, `u32` count, then of each: `u32` number, `u32` tenant, `u32` topic, name,
/// `u32` count of queues, then `u16` queue and progress of each that is not at its default, and
/// whether its messages are passed on, and where.
impl Groups {
    pub(crate) fn save(&self, out: &mut Snapshot) {
        self.next.put(out.now());
        (self.by_id.len() as u32).put(out.now());
        for (id, group) in self.iter() {
            id.put(out.now());
            group.tenant.put(out.now());
            group.topic.put(out.now());
            group.name.put(out.now());
            let kept = || group.queues.iter().filter(|(_, queue)| !queue.progress.is_default());
            (kept().count() as u32).put(out.now());
            for (index, queue) in kept() {
                index.put(out.now());
                queue.progress.save(out);
            }
            group.drain.as_deref().cloned().put(out.now());
        }
    }

    pub(crate) fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let mut groups = Self { next: u32::take(input)?, ..Self::default() };
        let mut drains = Vec::new();
        for _ in 0..u32::take(input)? {
            let id = GroupId::take(input)?;
            let mut group = Group {
                tenant: TenantId::take(input)?,
                topic: TopicId::take(input)?,
                name: String::take(input)?,
                queues: BTreeMap::new(),
                live: None,
                claims: None,
                drain: None,
                source: None,
            };
            for _ in 0..u32::take(input)? {
                let queue = QueueIndex::take(input)?;
                let progress = Progress::take(input)?;
                group.queues.insert(queue, GroupQueue { progress, flight: None });
            }
            let drain = <Option<Drain> as Wire>::take(input)?;
            drains.extend(drain.map(|drain| (id, drain)));
            let known = groups.find(group.tenant, &group.name, group.topic).is_some();
            if known || groups.by_id.contains_key(&id) || id.0 >= groups.next {
                return Err(Malformed::Field { what: "number of a group", value: id.0.into() });
            }
            groups.insert(id, group);
        }
        for (id, drain) in drains {
            groups.restore_drain(id, drain)?;
        }
        Ok(groups)
    }
}

/// Where a queue of this shard begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    /// Its oldest message.
    pub(crate) first: QueueOffset,
    /// Offset after its newest committed message.
    pub(crate) end: QueueOffset,
}
