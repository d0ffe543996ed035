//! Beginning and ending subscriptions, and their credit.
use std::collections::BTreeMap;
use std::sync::Arc;

use yard_wire::limits::{
    GROUPS_MAX, LEASE_MS_MAX, LEASE_MS_MIN, NAME_BYTES_MAX, QUEUES_MAX, SUBSCRIPTIONS_MAX,
};
use yard_wire::order::TopicType;
use yard_wire::request::Reply;
use yard_wire::requests::{
    Credit, Credited, Expression, QueueStart, Start, Subscribe, Subscribed, Unsubscribe,
    Unsubscribed,
};
use yard_wire::{QueueIndex, QueueOffset, ShardId, SubscriptionId, TenantId, TopicId};

use crate::bounds::{CREDIT_PIECE, GROUP_QUEUES_MAX};
use crate::broker::Broker;
use crate::effect::{Effect, Then};
use crate::entry::{Entry, GroupCreated, GroupId};
use crate::event::{Origin, SessionId};
use crate::group::Ends;
use crate::group::claims::Claims;
use crate::group::flight::Flight;
use crate::group::member::{Live, Member};
use crate::judged;
use crate::meta::Topic;
use crate::meta_table::queues_on;
use crate::refusal::{
    BadArgument, LimitReached, MemberError, NoQueue, NoTopic, NotHere, SubscribeError,
};

/// A member that waits for its group to be created.
#[derive(Debug)]
pub(crate) struct Joining {
    pub(crate) group: GroupId,
    subscription: SubscriptionId,
    member: Member,
    filter: Option<Expression>,
    is_exclusive: bool,
}

impl Broker {
    pub(crate) fn subscribe(
        &mut self,
        origin: Origin,
        tenant: TenantId,
        request: Subscribe,
        effects: &mut Vec<Effect>,
    ) -> Result<(), SubscribeError> {
        self.check_subscribe(origin, &request)?;
        let named = self.meta.topic_named(tenant, &request.topic);
        let no_topic = || SubscribeError::NoTopic(NoTopic::Named(request.topic.clone()));
        let own = named.ok_or_else(no_topic)?;
        let topic = self.goes_on_in(tenant, &request.group, own)?;
        // Where to begin is said of the topic that was named.
        let is_own = topic.topic == own.topic;
        let start = if is_own { &request.start } else { &Start::Earliest };
        let queues = self.queues_here(topic)?;
        let (topic_id, r#type) = (topic.topic, topic.settings.order.r#type);
        let mut floors = self.resolve_start(topic, &queues, start)?;
        let known = self.groups.find(tenant, &request.group, topic_id);
        let filter = judged::read(request.expression.as_ref())?;
        match known {
            Some(group) => self.check_same(group, filter.as_ref(), request.exclusive)?,
            None => self.check_new_group(tenant, queues.len())?,
        }
        let subscription = self.next_subscription;
        self.next_subscription.0 += 1;
        let (name, is_exclusive) = (request.group.clone(), request.exclusive);
        let member = member_of(origin.session, request);
        if let Some(group) = known {
            yard_wire::mark!(GroupJoined);
            let queues = self.queue_starts(group, &queues);
            let reply = Reply::Subscribe(Subscribed { subscription, queues, r#type });
            self.join(Joining { group, subscription, member, filter, is_exclusive });
            Self::reply_durable(origin, reply, effects);
            return Ok(());
        }
        let group = self.groups.next_id();
        let starts = floors.iter().map(|(queue, floor)| QueueStart {
            queue: *queue,
            settled_below: *floor,
            end: self.ends_of(topic_id, *queue).end,
        });
        let queues = starts.collect();
        let reply = Reply::Subscribe(Subscribed { subscription, queues, r#type });
        floors.retain(|(_, floor)| *floor > QueueOffset(0));
        let created = GroupCreated { group, topic: topic_id, name, floors };
        effects.push(Effect::Append {
            entry: Entry::Group { tenant, created },
            then: vec![Then::Reply { origin, reply }],
        });
        self.joining = Some(Joining { group, subscription, member, filter, is_exclusive });
        // The group exists when the entry was applied; then there is something to deliver.
        self.wake(self.now);
        Ok(())
    }

    fn check_subscribe(&self, origin: Origin, request: &Subscribe) -> Result<(), SubscribeError> {
        self.check_here(request.shard).map_err(SubscribeError::NotHere)?;
        yard_wire::name::check(&request.group).map_err(SubscribeError::BadName)?;
        if request.member.len() > NAME_BYTES_MAX {
            let detail = format!("the member's name has more than {NAME_BYTES_MAX} bytes");
            return Err(SubscribeError::BadArgument(BadArgument(detail)));
        }
        if !(LEASE_MS_MIN..=LEASE_MS_MAX).contains(&request.lease_ms) {
            let lease_ms = request.lease_ms;
            let detail = format!("lease of {lease_ms} ms: {LEASE_MS_MIN} to {LEASE_MS_MAX}");
            return Err(SubscribeError::BadArgument(BadArgument(detail)));
        }
        let held = self.sessions.get(&origin.session).map_or(0, |held| held.len());
        assert!(held <= SUBSCRIPTIONS_MAX, "subscriptions of a session are bounded");
        if held == SUBSCRIPTIONS_MAX {
            let what = "subscriptions of the connection";
            let fact = LimitReached { what, max: SUBSCRIPTIONS_MAX };
            return Err(SubscribeError::LimitReached(fact));
        }
        Ok(())
    }

    /// Whether a tenant may have one more group, with so many queues.
    pub(crate) fn check_new_group(
        &self,
        tenant: TenantId,
        queues: usize,
    ) -> Result<(), SubscribeError> {
        assert!(queues >= 1, "a group is where its topic is");
        if self.groups.count_of(tenant) >= GROUPS_MAX {
            let fact = LimitReached { what: "groups of the tenant", max: GROUPS_MAX };
            return Err(SubscribeError::LimitReached(fact));
        }
        if self.groups.queue_count_of(tenant) + queues > GROUP_QUEUES_MAX {
            let what = "queues of the tenant's groups";
            let fact = LimitReached { what, max: GROUP_QUEUES_MAX };
            return Err(SubscribeError::LimitReached(fact));
        }
        Ok(())
    }

    pub(crate) fn queues_here(&self, topic: &Topic) -> Result<Vec<QueueIndex>, SubscribeError> {
        let here = self.config.shard;
        let queues: Vec<QueueIndex> = queues_on(topic, here).collect();
        if queues.is_empty() { Err(SubscribeError::NotHere(NotHere { here })) } else { Ok(queues) }
    }

    pub(crate) fn check_here(&self, asked: ShardId) -> Result<(), NotHere> {
        let here = self.config.shard;
        if asked == here { Ok(()) } else { Err(NotHere { here }) }
    }

    /// Where a new group begins in each queue of this shard.
    fn resolve_start(
        &self,
        topic: &Topic,
        queues: &[QueueIndex],
        start: &Start,
    ) -> Result<Vec<(QueueIndex, QueueOffset)>, SubscribeError> {
        let ends = |queue: &QueueIndex| {
            let Ends { first, end } = self.ends_of(topic.topic, *queue);
            let going = self.going.get(&(topic.topic, *queue)).copied().unwrap_or(first);
            Ends { first: first.max(going.min(end)), end }
        };
        Ok(match start {
            Start::Earliest => queues.iter().map(|queue| (*queue, ends(queue).first)).collect(),
            Start::Latest => {
                // A group that goes on elsewhere comes here when the topic grows into this shard.
                // What was produced here until then is not behind it. Whether it is such a group
                // is not known here, so only a shard without any of the first queues asks.
                let grown_into = queues.iter().all(|queue| queue.0 >= topic.created_queues);
                if grown_into {
                    yard_wire::mark!(GroupGrownInto);
                }
                let floor = |queue: &QueueIndex| {
                    let Ends { first, end } = ends(queue);
                    (*queue, if grown_into { first } else { end })
                };
                queues.iter().map(floor).collect()
            }
            Start::Offsets(offsets) => {
                if offsets.len() > usize::from(QUEUES_MAX) {
                    let detail = format!("offsets of more than {QUEUES_MAX} queues");
                    return Err(SubscribeError::BadArgument(BadArgument(detail)));
                }
                let count = topic.shards.len();
                for (queue, _) in offsets {
                    if usize::from(queue.0) >= count {
                        let fact = NoQueue { queue: *queue, queues: count };
                        return Err(SubscribeError::NoQueue(fact));
                    }
                }
                let wanted: BTreeMap<_, _> = offsets.iter().copied().collect();
                let floor = |queue: &QueueIndex| {
                    let ends = ends(queue);
                    let wanted = wanted.get(queue).copied().unwrap_or(ends.first);
                    (*queue, wanted.clamp(ends.first, ends.end))
                };
                queues.iter().map(floor).collect()
            }
        })
    }

    fn queue_starts(&self, id: GroupId, queues: &[QueueIndex]) -> Vec<QueueStart> {
        let group = self.groups.get(id).expect("the caller found the group");
        let starts = queues.iter().map(|queue| {
            let ends = self.ends_of(group.topic, *queue);
            let settled_below = group.settled_below(*queue).max(ends.first);
            QueueStart { queue: *queue, settled_below, end: ends.end }
        });
        starts.collect()
    }

    /// Makes somebody a member of a group that exists.
    pub(crate) fn join(&mut self, joining: Joining) {
        let Joining { group: id, subscription, member, filter, is_exclusive } = joining;
        let session = member.session;
        self.sessions.entry(session).or_default().insert(subscription);
        let old = self.subscriptions.insert(subscription, (session, id));
        assert!(old.is_none(), "the number of a subscription is new");
        let group = self.groups.get_mut(id).expect("the group exists");
        let was_live = group.live.is_some();
        let (tenant, name) = (group.tenant, group.name.clone());
        let live = group.live.get_or_insert_with(Box::<Live>::default);
        if !was_live {
            live.filter = filter.map(Arc::new);
            live.owners = is_exclusive.then(Box::default);
        }
        live.join(subscription, member);
        group.look_again();
        let topic = group.topic;
        if !was_live {
            let by = self.compared_by(tenant, &name);
            let group = self.groups.get_mut(id).expect("the group exists");
            group.claims = by.map(|by| Box::new(Claims::new(by)));
            self.groups.set_live(id, true);
            let known = self.meta.topic(topic).expect("the topic was looked up");
            let queues: Vec<QueueIndex> = queues_on(known, self.config.shard).collect();
            for queue in queues {
                self.take_off(id, topic, queue);
            }
        }
        self.share_queues(id);
        self.to_pump.insert(id);
    }

    /// Shares the queues out anew, where members have queues of their own.
    fn share_queues(&mut self, id: GroupId) {
        let group = self.groups.get_mut(id).expect("the caller has the group");
        let Some(topic) = self.meta.topic(group.topic) else { return };
        let here = self.config.shard;
        let live = group.live.as_mut().expect("somebody has a share");
        live.share_queues(|| queues_on(topic, here).collect(), here.0.into());
    }

    /// Begins the deliveries of a group with members in one queue, unless they began.
    pub(crate) fn take_off(&mut self, id: GroupId, topic: TopicId, queue: QueueIndex) {
        let (ends, now) = (self.ends_of(topic, queue), self.now);
        let known = self.meta.topic(topic).expect("the topic was looked up");
        let is_ordered = known.settings.order.r#type == TopicType::Ordered;
        let group = self.groups.get_mut(id).expect("the caller has the group");
        let live = group.live.as_mut().expect("only a group with members delivers");
        let state = group.queues.entry(queue).or_default();
        if state.flight.is_none() {
            let reads = (is_ordered, group.claims.is_some());
            let flight = Flight::begin(&state.progress, ends.first, now, reads);
            state.flight = Some(Box::new(flight));
            // The queue may be new, and nobody's.
            let here = self.config.shard;
            live.share_queues(|| queues_on(known, here).collect(), here.0.into());
        }
        live.make_available(queue);
        self.list_due(id, queue);
    }

    /// Ends the deliveries of a group whose members are gone: their leases were given back.
    pub(crate) fn land(&mut self, id: GroupId) {
        let group = self.groups.get_mut(id).expect("the caller has the group");
        group.claims = None;
        for (queue, state) in &mut group.queues {
            let Some(flight) = state.flight.take() else {
                continue;
            };
            if let Some(due) = flight.listed_due {
                let was = self.dues.remove(&(due, id, *queue));
                assert!(was, "what is due is listed");
            }
            if let Some(asked) = flight.asked {
                self.tickets.remove(&asked.ticket);
            }
        }
        // Most queues of an idle group have nothing to remember.
        group.queues.retain(|_, state| !state.progress.is_default());
    }

    pub(crate) fn credit(
        &mut self,
        origin: Origin,
        request: &Credit,
        effects: &mut Vec<Effect>,
    ) -> Result<(), MemberError> {
        let id = request.subscription;
        let group_id = self.own_subscription(origin, request.shard, id)?;
        let group = self.groups.get_mut(group_id).expect("a member's group exists");
        let live = group.live.as_mut().expect("a group with a member is live");
        live.add_credit(id, request.messages, request.bytes);
        group.look_again();
        self.to_pump.insert(group_id);
        effects.push(Effect::Reply { origin, result: Ok(Reply::Credit(Credited {})) });
        Ok(())
    }

    pub(crate) fn unsubscribe(
        &mut self,
        origin: Origin,
        request: &Unsubscribe,
        effects: &mut Vec<Effect>,
    ) -> Result<(), MemberError> {
        self.own_subscription(origin, request.shard, request.subscription)?;
        self.end_member(request.subscription, effects);
        effects.push(Effect::Reply { origin, result: Ok(Reply::Unsubscribe(Unsubscribed {})) });
        Ok(())
    }

    /// The group of a subscription of this connection.
    pub(crate) fn own_subscription(
        &self,
        origin: Origin,
        shard: ShardId,
        id: SubscriptionId,
    ) -> Result<GroupId, MemberError> {
        self.check_here(shard).map_err(MemberError::NotHere)?;
        match self.subscriptions.get(&id) {
            Some((session, group)) if *session == origin.session => Ok(*group),
            Some(_) | None => Err(MemberError::NoSubscription(id)),
        }
    }

    pub(crate) fn session_closed(&mut self, session: SessionId, effects: &mut Vec<Effect>) {
        let Some(held) = self.sessions.get(&session).cloned() else {
            return;
        };
        for id in held {
            self.end_member(id, effects);
        }
        assert!(!self.sessions.contains_key(&session), "it held what was ended");
    }

    /// Ends a subscription; what it holds is ready for others at once.
    pub(crate) fn end_member(&mut self, id: SubscriptionId, effects: &mut Vec<Effect>) {
        let group_id = self.forget_subscription(id);
        let group = self.groups.get_mut(group_id).expect("a member's group exists");
        let live = group.live.as_mut().expect("a group with a member is live");
        let member = live.leave(id);
        let mut steps = Vec::new();
        let mut touched = Vec::new();
        let mut left = member.leased as usize;
        for (queue, state) in &mut group.queues {
            if left == 0 {
                break;
            }
            let Some(flight) = &mut state.flight else {
                continue;
            };
            let ended = flight.end_holder(id);
            if !ended.is_empty() {
                yard_wire::mark!(MemberLeavesHeld);
                left -= ended.len();
                steps.extend(Flight::steps(*queue, &ended));
                live.make_available(*queue);
                touched.push(*queue);
            }
        }
        assert_eq!(left, 0, "a member's leases are counted");
        let last = live.members.is_empty();
        for queue in touched {
            self.list_due(group_id, queue);
        }
        self.append_steps(group_id, &steps, effects);
        if last {
            yard_wire::mark!(MemberLast);
            self.land(group_id);
            let group = self.groups.get_mut(group_id).expect("looked up above");
            group.live = None;
            self.groups.set_live(group_id, false);
            self.list_drain_of(group_id);
        } else {
            yard_wire::mark!(MemberHandsOver);
            self.share_queues(group_id);
            self.to_pump.insert(group_id);
        }
    }

    /// Takes a subscription off the lists; its group is told apart.
    pub(crate) fn forget_subscription(&mut self, id: SubscriptionId) -> GroupId {
        let (session, group) = self.subscriptions.remove(&id).expect("a member is listed");
        let held = self.sessions.get_mut(&session).expect("a member's session is listed");
        held.remove(&id);
        if held.is_empty() {
            self.sessions.remove(&session);
        }
        group
    }
}

fn member_of(session: SessionId, request: Subscribe) -> Member {
    let mut member = Member {
        session,
        name: request.member,
        lease_ms: request.lease_ms,
        messages: 0,
        bytes: 0,
        withheld: (0, 0),
        piece: (
            CREDIT_PIECE.0.min(request.messages / 4).max(1),
            CREDIT_PIECE.1.min(request.bytes / 4).max(1),
        ),
        leased: 0,
        rounds: BTreeMap::new(),
    };
    member.add_credit(request.messages, request.bytes);
    assert!(member.lease_ms >= LEASE_MS_MIN, "the request was checked");
    member
}
