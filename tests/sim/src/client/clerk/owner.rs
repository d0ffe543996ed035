//! A clerk as a member of a group whose members have queues of their own: of the only queue there
//! is one message at a time is somebody's, who gives it back, ends the subscription, or dies.
use std::collections::BTreeMap;

use yard_broker::SessionId;
use yard_linear::{Ticket, lock};
use yard_wire::limits::LEASE_MS_MAX;
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{
    Credit, Deliver, Settle, SettleRange, Start, Subscribe, Unsubscribe, Verdict,
};
use yard_wire::{Correlation, QueueIndex, QueueOffset, Refusal, ShardId, SubscriptionId};

use super::{Link, TOPIC, says_nothing};
use crate::agenda::{Happening, MS, Micros, SECOND};
use crate::base::{Base, Phase};
use crate::random::Random;

/// So long clerks are members of the same group.
const SPAN: Micros = 1_500 * MS;

/// A subscription.
struct Membership {
    span: u64,
    /// Its number in the group, used once.
    member: u64,
    /// When it last let the broker give it something.
    asked: Micros,
    /// When it may first have held what it has not let go for certain.
    since: Option<Micros>,
    /// The message that it has.
    has: Option<(QueueOffset, u32)>,
}

/// What it waits for.
enum Asked {
    Subscribed(Membership),
    LetGo(Ticket, SubscriptionId),
}

/// The member.
pub(super) struct Owner {
    random: Random,
    members: u64,
    asked: BTreeMap<Correlation, Asked>,
    /// Its subscriptions, those that it has ended among them.
    memberships: BTreeMap<SubscriptionId, Membership>,
    current: Option<SubscriptionId>,
}

impl Owner {
    pub(super) fn new(client: usize, random: Random) -> Self {
        let members = client as u64 * 10_000;
        let (asked, memberships) = (BTreeMap::new(), BTreeMap::new());
        Self { random, members, asked, memberships, current: None }
    }

    pub(super) fn work(&mut self, base: &mut Base, link: &mut Link, shard: ShardId) {
        let span = base.now / SPAN;
        let Some(id) = self.current else { return self.subscribe(base, link, shard, span) };
        let is_over = self.memberships.get(&id).is_none_or(|it| it.span != span);
        if is_over || self.random.percent(8) {
            self.current = None;
            let request = Request::Unsubscribe(Unsubscribe { shard, subscription: id });
            self.let_go(base, link, id, request);
        } else {
            self.give_back(base, link, shard, id);
        }
    }

    fn subscribe(&mut self, base: &mut Base, link: &mut Link, shard: ShardId, span: u64) {
        let is_asked = self.asked.values().any(|it| matches!(it, Asked::Subscribed(_)));
        if is_asked || self.random.percent(50) || !base.objects.locks.has_room(span) {
            return;
        }
        self.members += 1;
        let (member, asked) = (self.members, base.now);
        let request = Request::Subscribe(Subscribe {
            shard,
            group: format!("clerks-own-{span}"),
            topic: TOPIC.to_owned(),
            member: member.to_string(),
            start: Start::Earliest,
            expression: None,
            exclusive: true,
            // No clock is set that far ahead.
            lease_ms: LEASE_MS_MAX,
            messages: 1,
            bytes: 1,
        });
        let membership = Membership { span, member, asked, since: None, has: None };
        if let Some(correlation) = link.request(base, 0, request) {
            self.asked.insert(correlation, Asked::Subscribed(membership));
        }
    }

    /// Gives back what it has, mostly, and lets the broker give it something again.
    fn give_back(&mut self, base: &mut Base, link: &mut Link, shard: ShardId, id: SubscriptionId) {
        let (is_slow, is_done) = (self.random.percent(30), self.random.percent(15));
        let membership = self.memberships.get_mut(&id).expect("it was subscribed");
        let (Some((from, attempt)), false) = (membership.has, is_slow) else { return };
        if !base.objects.locks.has_room(membership.span) {
            return;
        }
        membership.has = None;
        membership.asked = base.now;
        let verdict = if is_done { Verdict::Ack } else { Verdict::Release };
        let (queue, to) = (QueueIndex(0), QueueOffset(from.0 + 1));
        let range = SettleRange { queue, from, to, attempt, verdict, delay_ms: None, error: None };
        let settle = Settle { shard, subscription: id, ranges: vec![range] };
        self.let_go(base, link, id, Request::Settle(settle));
        let credit = Credit { shard, subscription: id, messages: 1, bytes: 1_000 };
        link.request(base, 1, Request::Credit(credit));
    }

    fn let_go(&mut self, base: &mut Base, link: &mut Link, id: SubscriptionId, request: Request) {
        let Some(Membership { span, member, .. }) = self.memberships.get(&id) else { return };
        let ticket = base.objects.locks.invoked(*span, base.now, lock::Ask::LetGo(*member));
        if let Some(correlation) = link.request(base, 1, request) {
            self.asked.insert(correlation, Asked::LetGo(ticket, id));
        }
    }

    /// Whether this answers something that it has asked.
    pub(super) fn answered(
        &mut self,
        base: &mut Base,
        correlation: Correlation,
        result: &Result<Reply, Refusal>,
    ) -> bool {
        match (self.asked.remove(&correlation), result) {
            (None, _) => return false,
            (Some(_), Err(refusal)) if says_nothing(refusal) => {}
            (Some(Asked::Subscribed(membership)), Ok(Reply::Subscribe(subscribed))) => {
                self.current = Some(subscribed.subscription);
                self.memberships.insert(subscribed.subscription, membership);
            }
            (Some(Asked::LetGo(ticket, id)), Ok(Reply::Settle(_) | Reply::Unsubscribe(_))) => {
                base.objects.locks.completed(ticket, base.now, ());
                let waits = |it: &Asked| matches!(it, Asked::LetGo(_, other) if *other == id);
                let is_last = !self.asked.values().any(waits);
                let membership = self.memberships.get_mut(&id);
                if let Some(membership) = membership.filter(|it| it.has.is_none() && is_last) {
                    membership.since = None;
                }
            }
            (Some(_), other) => base.fail(|| format!("a clerk's queue: {other:?}")),
        }
        true
    }

    /// It has got a message; whether it dies of it.
    pub(super) fn takes(&mut self, base: &mut Base, deliver: &Deliver) -> bool {
        // What arrives before the subscription is answered it holds without knowing since when.
        let Some(membership) = self.memberships.get_mut(&deliver.subscription) else {
            return false;
        };
        let Membership { span, member, asked, .. } = *membership;
        let ticket = base.objects.locks.invoked(span, asked, lock::Ask::Hold(member));
        base.objects.locks.completed(ticket, base.now, ());
        membership.since.get_or_insert(asked);
        let last = deliver.messages.last();
        membership.has = last.map(|message| (message.offset, message.attempt));
        base.phase == Phase::Storm && self.random.percent(5)
    }

    /// It dies without a word: the broker finds out later.
    pub(super) fn die(&mut self, base: &mut Base, client: usize, session: SessionId) {
        base.trace.line(base.now, || format!("client {client} dies"));
        let delay = self.random.range(MS, 3 * SECOND);
        base.after(delay, Happening::BrokerLost(session));
        base.after(1, Happening::ClientLost(session));
    }

    /// The connection is gone: what it held it has let go at some time since, whenever the broker
    /// found out.
    pub(super) fn lost(&mut self, base: &mut Base) {
        self.asked.clear();
        self.current = None;
        for Membership { span, member, since, .. } in
            std::mem::take(&mut self.memberships).into_values()
        {
            if let Some(since) = since {
                base.objects.locks.invoked(span, since, lock::Ask::LetGo(member));
            }
        }
    }
}
