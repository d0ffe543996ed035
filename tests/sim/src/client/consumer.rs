//! A client that receives: takes deliveries, thinks, settles in ranges, late or never, and dies.
use std::collections::{BTreeMap, BTreeSet};

use yard_broker::SessionId;
use yard_checker::{AckLevel, Delivery, Event, Outcome, Poll, Settle, SettleVerdict};
use yard_client::{Failures, Given, OrderLine, Turn, order_line};
use yard_wire::record::Record;
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{
    Credit, Deliver, Ended, HeldRange, Settle as SettleRequest, SettleRange, Settled, Start,
    Subscribe, Verdict,
};
use yard_wire::{Code, Correlation, QueueIndex, QueueOffset, ShardId, SubscriptionId, TopicId};

mod keeper;

use super::Link;
use crate::agenda::{Happening, MS, Micros, SECOND};
use crate::base::{Base, Phase, queue_name};
use crate::host::{WALL_MS, expression, is_wanted};
use crate::network::ToClient;
use crate::plan::{ConsumerPlan, base_of, member_of};
use crate::planted::Plant;
use crate::random::Random;
use crate::{alike, keys, message};
use keeper::Keeper;

/// How often it looks whether its group was removed.
const AWAY: Micros = 20 * MS;
/// Credit that it gives when everything is to be drained.
const DRAIN_BYTES: u32 = 8 << 20;

/// A message that it holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// When it is settled.
    due: Micros,
    /// It is settled when the failure of this message of its queue is answered, not before.
    waits_for: Option<QueueOffset>,
    shard: ShardId,
    subscription: SubscriptionId,
    queue: QueueIndex,
    offset: QueueOffset,
    attempt: u32,
    bytes: u32,
    /// Its order group; `None` where that it failed was said before.
    line: Option<OrderLine>,
    /// None: it forgets the message.
    verdict: Option<Verdict>,
    /// By the group's settings it is not delivered again, whatever fails.
    is_last: bool,
    /// Messages of credit to give back with it.
    credit: u32,
}

/// A settle request without an answer.
struct Settling {
    invoked: Micros,
    to: (ShardId, SubscriptionId),
    ranges: Vec<SettleRange>,
    /// Of each, whether its messages were delivered for the last time.
    are_last: Vec<bool>,
    given: Given,
}

/// A client that receives.
pub(crate) struct Consumer {
    pub(super) link: Link,
    plan: ConsumerPlan,
    random: Random,
    /// Its number in the history: another one after each reconnection.
    member: u64,
    reconnects: u64,
    subscribing: BTreeMap<Correlation, ShardId>,
    subscriptions: BTreeMap<ShardId, SubscriptionId>,
    /// Subscriptions that the broker has ended.
    ended: BTreeSet<SubscriptionId>,
    /// Topics that subscriptions get messages of.
    sources: BTreeMap<(ShardId, SubscriptionId), TopicId>,
    held: Vec<Held>,
    /// Order groups that have failed here.
    failures: BTreeMap<ShardId, Failures>,
    settling: BTreeMap<Correlation, Settling>,
    keeper: Keeper,
    /// It waits until its group was removed.
    is_away: bool,
}

impl Consumer {
    /// A consumer with this number among the clients.
    #[must_use]
    pub(crate) fn new(base: &mut Base, client: usize, plan: ConsumerPlan) -> Self {
        Self {
            link: Link::new(client),
            plan,
            random: base.random.split(),
            member: 0,
            reconnects: 0,
            subscribing: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            ended: BTreeSet::new(),
            sources: BTreeMap::new(),
            held: Vec::new(),
            failures: BTreeMap::new(),
            settling: BTreeMap::new(),
            keeper: Keeper::new(base.plan.seed, client),
            is_away: false,
        }
    }

    /// Whether it waits for nothing. One that is not subscribed yet waits for its first messages:
    /// until then its group may be unknown, and nothing is left of what nobody has asked for.
    pub(super) fn is_done(&self, base: &Base) -> bool {
        let is_subscribed = self.shards(base).iter().all(|it| self.subscriptions.contains_key(it));
        is_subscribed && self.held.is_empty() && self.settling.is_empty()
    }

    /// Those that have queues of its topic.
    fn shards(&self, base: &Base) -> BTreeSet<ShardId> {
        base.routes[self.plan.topic as usize].shards.iter().copied().collect()
    }

    fn topic(&self, base: &Base) -> TopicId {
        base.routes[self.plan.topic as usize].topic
    }

    pub(super) fn connected(&mut self, base: &mut Base) {
        self.reconnects += 1;
        self.member = self.link.client as u64 * 10_000 + self.reconnects;
        self.begin(base);
    }

    /// Subscribes, unless its group is being removed.
    fn begin(&mut self, base: &mut Base) {
        self.is_away = base.removals.is_leaving(self.plan.group);
        if self.is_away {
            return self.link.work_at(base, base.now + AWAY);
        }
        if let Some(session) = self.link.session {
            base.removals.asks(self.plan.group, session);
        }
        for shard in self.shards(base) {
            self.subscribe(base, shard);
        }
        self.link.work_at(base, base.now + SECOND);
    }

    fn subscribe(&mut self, base: &mut Base, shard: ShardId) {
        let is_latest = base.removals.is_latest(self.plan.group);
        let request = Request::Subscribe(Subscribe {
            shard,
            group: group_name(self.plan.group),
            topic: topic_name(self.plan.topic),
            member: self.member.to_string(),
            start: if is_latest { Start::Latest } else { Start::Earliest },
            expression: self.plan.is_picky.then(|| expression(self.plan.group)),
            exclusive: false,
            lease_ms: self.plan.lease_ms,
            messages: self.plan.credit,
            bytes: self.plan.credit_bytes,
        });
        if let Some(correlation) = self.link.request(base, 0, request) {
            self.subscribing.insert(correlation, shard);
        }
    }

    pub(super) fn lost(&mut self, base: &mut Base) {
        self.subscribing.clear();
        self.subscriptions.clear();
        self.held.clear();
        self.failures.clear();
        for settling in std::mem::take(&mut self.settling).into_values() {
            self.record(base, &settling, None, &[]);
        }
        self.keeper.lost(base);
        self.is_away = false;
    }

    /// It dies without a word: the broker finds out later, its next life does not wait for that.
    fn die(&mut self, base: &mut Base, session: SessionId) {
        base.trace.line(base.now, || format!("client {} dies", self.link.client));
        let delay = self.random.range(MS, 3 * SECOND);
        base.after(delay, Happening::BrokerLost(session));
        base.after(1, Happening::ClientLost(session));
    }

    pub(super) fn drain(&mut self, base: &mut Base) {
        self.plan.nack_percent = 0;
        self.plan.reject_percent = 0;
        self.plan.late_percent = 0;
        self.plan.keeps_percent = 0;
        self.plan.dies_one_in = 0;
        for (shard, subscription) in self.subscriptions.clone() {
            self.give_drain_credit(base, shard, subscription);
        }
    }

    fn give_drain_credit(&mut self, base: &mut Base, shard: ShardId, subscription: SubscriptionId) {
        let (messages, bytes) = (base.plan.credit_max(), DRAIN_BYTES);
        let credit = Credit { shard, subscription, messages, bytes };
        self.link.request(base, 0, Request::Credit(credit));
    }

    /// Its group is to be removed: it goes, and the broker finds out soon.
    pub(crate) fn leave(&mut self, base: &mut Base) {
        if let Some(session) = self.link.session {
            let delay = base.random.range(1, 300 * MS);
            base.after(delay, Happening::BrokerLost(session));
            base.after(1, Happening::ClientLost(session));
        }
    }

    /// Its group.
    pub(crate) fn group(&self) -> u64 {
        self.plan.group
    }

    /// Settles what is due, gives its credit back.
    pub(super) fn work(&mut self, base: &mut Base) {
        if self.is_away {
            return self.begin(base);
        }
        let now = base.now;
        let is_due = |held: &Held| held.due <= now && held.waits_for.is_none();
        let (mut due, later): (Vec<Held>, Vec<Held>) =
            std::mem::take(&mut self.held).into_iter().partition(is_due);
        self.held = later;
        due.sort_by_key(|it| (it.shard, it.subscription, it.queue, it.attempt, it.offset));
        for of_one in due.chunk_by(|a, b| (a.shard, a.subscription) == (b.shard, b.subscription)) {
            self.settle(base, of_one);
            self.give_credit(base, of_one);
        }
        self.extend(base);
        self.look_again(base);
    }

    /// Extends leases that would end before their messages are settled.
    fn extend(&mut self, base: &mut Base) {
        for extend in self.keeper.take_due(base.now, self.plan.lease_ms) {
            let request = Request::Extend(extend.clone());
            if let Some(correlation) = self.link.request(base, 1, request) {
                self.keeper.asked(base.now, correlation, extend);
            }
        }
    }

    fn look_again(&mut self, base: &mut Base) {
        let timed = self.held.iter().filter(|held| held.waits_for.is_none());
        // A little later, so that several are settled together.
        let settles = timed.map(|held| held.due).min();
        let settles = settles.map(|at| at.max(base.now + 1) + self.plan.think / 2);
        if let Some(at) = settles.into_iter().chain(self.keeper.due()).min() {
            self.link.work_at(base, at);
        }
    }

    fn settle(&mut self, base: &mut Base, due: &[Held]) {
        let (mut ranges, mut are_last): (Vec<SettleRange>, Vec<bool>) = Default::default();
        let mut unsaid = Vec::new();
        for held in due {
            let place = (held.queue, held.offset, held.attempt);
            self.keeper.release((held.shard, held.subscription), place);
            let Some(verdict) = held.verdict else { continue };
            let (from, to) = (held.offset, QueueOffset(held.offset.0 + 1));
            // It may hold a message twice: of an ordered topic also as the same attempt.
            let of = (held.queue, held.attempt);
            if ranges.last().is_some_and(|it| (it.queue, it.attempt) == of && it.to > from) {
                let ((queue, attempt), (delay_ms, error)) = (of, (None, None));
                unsaid.push(SettleRange { queue, from, to, attempt, verdict, delay_ms, error });
                continue;
            }
            if let (Some(line), Verdict::Nack | Verdict::Reject) = (held.line, verdict) {
                let failures = self.failures.entry(held.shard).or_default();
                failures.failed_unanswered(line, held.offset);
            }
            match ranges.last_mut() {
                Some(last)
                    if (last.queue, last.attempt) == of
                        && (last.to, last.verdict) == (from, verdict)
                        && are_last.last() == Some(&held.is_last) =>
                {
                    last.to = to;
                }
                _ => {
                    let delay = self.random.range(1, 800) as u32;
                    // By its own delay, or by the group's policy.
                    let own = verdict == Verdict::Nack && self.random.percent(50);
                    let delay_ms = own.then_some(delay);
                    let ((queue, attempt), error) = (of, self.error_of(verdict));
                    let range = SettleRange { queue, from, to, attempt, verdict, delay_ms, error };
                    ranges.push(range);
                    are_last.push(held.is_last);
                }
            }
        }
        let (Some(first), false) = (due.first(), ranges.is_empty()) else { return };
        let request = Request::Settle(SettleRequest {
            shard: first.shard,
            subscription: first.subscription,
            ranges: ranges.clone(),
        });
        if let Some(correlation) = self.link.request(base, 1, request) {
            let (invoked, to) = (base.now, (first.shard, first.subscription));
            let given = self.failures.entry(first.shard).or_default().given();
            self.settling.insert(correlation, Settling { invoked, to, ranges, are_last, given });
        }
        // What was to be said a second time of an attempt never is: nothing waits for an answer.
        let (invoked, to) = (base.now, (first.shard, first.subscription));
        let given = self.failures.entry(first.shard).or_default().given();
        let are_last = Vec::new();
        self.answered(base, &Settling { invoked, to, ranges: unsaid, are_last, given });
    }

    /// What it says about a message that it does not want, sometimes.
    fn error_of(&mut self, verdict: Verdict) -> Option<String> {
        let may_say = matches!(verdict, Verdict::Nack | Verdict::Reject);
        let says = may_say && self.random.percent(50);
        says.then(|| format!("failure {}", self.random.below(5)))
    }

    fn give_credit(&mut self, base: &mut Base, due: &[Held]) {
        let Some(first) = due.first() else { return };
        let (shard, subscription) = (first.shard, first.subscription);
        let messages = due.iter().map(|held| held.credit).sum();
        let bytes = due.iter().map(|held| held.bytes).sum();
        let credit = Credit { shard, subscription, messages, bytes };
        self.link.request(base, 0, Request::Credit(credit));
    }

    pub(super) fn receive(&mut self, base: &mut Base, session: SessionId, frame: ToClient) {
        match frame {
            ToClient::TxCheck(check) => {
                base.fail(|| format!("a consumer is asked about {}", check.tx));
            }
            ToClient::Deliver { deliver, decided } => {
                self.take(base, deliver, decided);
                if self.random.once_in(self.plan.dies_one_in) {
                    self.die(base, session);
                }
            }
            ToClient::Reply(correlation, result) => {
                if let Some(settling) = self.settling.remove(&correlation) {
                    self.settled(base, settling, result);
                } else if let Some(shard) = self.subscribing.remove(&correlation) {
                    self.subscribed(base, shard, result);
                } else if let Some(extending) = self.keeper.answered(correlation) {
                    self.extended(base, &extending, result);
                } else if let Err(refusal) = result {
                    self.refused(base, &refusal);
                }
            }
            ToClient::Ended(ended) => self.has_ended(base, ended),
        }
    }

    fn extended(
        &mut self,
        base: &mut Base,
        extending: &keeper::Extending,
        result: Result<Reply, yard_wire::Refusal>,
    ) {
        match result {
            Ok(Reply::Extend(extended)) => {
                let source = self.sources.get(&extending.to).copied();
                let topic = source.unwrap_or_else(|| self.topic(base));
                let group = base.removals.called(self.plan.group);
                let who = (self.link.session, self.member, group, topic);
                self.keeper.extended(base, extending, &extended, who);
            }
            Ok(other) => base.fail(|| format!("an extension was answered by {other:?}")),
            Err(refusal) => self.refused(base, &refusal),
        }
    }

    fn subscribed(
        &mut self,
        base: &mut Base,
        shard: ShardId,
        result: Result<Reply, yard_wire::Refusal>,
    ) {
        match result {
            Ok(Reply::Subscribe(subscribed)) => {
                let subscription = subscribed.subscription;
                if self.ended.contains(&subscription) {
                    return;
                }
                self.subscriptions.insert(shard, subscription);
                if let Some(session) = self.link.session {
                    base.removals.is_member(self.plan.group, shard, session);
                }
                if base.phase > Phase::Storm {
                    self.give_drain_credit(base, shard, subscription);
                }
                let topic = self.topic(base);
                for start in subscribed.queues {
                    let queue = queue_name(topic, start.queue);
                    base.removals.starts(self.plan.group, queue, start.settled_below.0);
                    self.record_poll(base, topic, start.queue, base.now, Vec::new());
                }
            }
            Ok(other) => base.fail(|| format!("a subscribe was answered by {other:?}")),
            Err(refusal) => {
                self.refused(base, &refusal);
                if let Some(session) = self.link.session {
                    self.die(base, session);
                }
            }
        }
    }

    /// The broker has ended a subscription: the group goes on in another topic. It may be told of
    /// that before it knows that there was one.
    fn has_ended(&mut self, base: &mut Base, ended: Ended) {
        let Ended { shard, subscription, why } = ended;
        if why.code != Code::GroupMoved || base.plan.wide_queues == 0 {
            base.fail(|| format!("a subscription ended: {why}"));
        }
        if self.subscriptions.get(&shard) == Some(&subscription) {
            self.subscriptions.remove(&shard);
        }
        self.ended.insert(subscription);
        self.held.retain(|held| held.subscription != subscription);
        self.failures.remove(&shard);
        self.keeper.ended((shard, subscription));
        self.subscribe(base, shard);
    }

    /// A refusal must have a reason that the storm gives.
    fn refused(&mut self, base: &mut Base, refusal: &yard_wire::Refusal) {
        let expected = [Code::LogFenced, Code::DiskFull, Code::Busy, Code::UnknownSubscription];
        if !expected.contains(&refusal.code) {
            base.fail(|| format!("a consumer was refused: {refusal}"));
        }
    }

    fn take(&mut self, base: &mut Base, deliver: Deliver, decided: Micros) {
        let Deliver { shard, subscription, queue, messages } = deliver;
        let is_ordered = base.plan.ordered[self.plan.topic as usize].is_some();
        let address = messages.first().map(|it| Record::peek_address(&it.record));
        let topic = match address {
            Some(Ok(address)) => address.topic,
            _ => self.topic(base),
        };
        self.sources.insert((shard, subscription), topic);
        let mut deliveries = Vec::with_capacity(messages.len());
        for message in messages {
            let spot = (topic, queue, message.offset);
            let (mut line, mut has_expired) = ((queue, 0), false);
            match message::decode(&message.record) {
                Ok((_, found)) if self.plan.is_picky && !is_wanted(&found) => {
                    base.fail(|| format!("a message of queue {queue} was not wanted: {found:?}"));
                }
                Ok((record, found)) => {
                    keys::seen(base, &record);
                    line = order_line(queue, &record);
                    let now = WALL_MS + base.now / MS;
                    has_expired = message::expiry(&record).is_some_and(|at| at.0 <= now);
                    let group = base.removals.called(self.plan.group);
                    alike::given(base, group, spot, &found, decided);
                    deliveries.push(Delivery {
                        offset: message.offset.0,
                        producer: found.producer,
                        seq: found.seq,
                        hash: found.hash,
                        attempt: message.attempt,
                    });
                }
                Err(error) => base.fail(|| format!("a delivery of queue {queue}: {error}")),
            }
            let failures = self.failures.entry(shard).or_default();
            let goes_on = !is_ordered || base.has(Plant::FailuresForgotten);
            let turn = if goes_on { Turn::Comes } else { failures.turn(line, message.offset) };
            let (verdict, delay, waits_for) = match turn {
                Turn::Comes if has_expired => (Some(Verdict::Expire), 1, None),
                Turn::Comes => {
                    let (verdict, delay) = self.think();
                    let plan = (self.plan.keeps_percent, self.plan.lease_ms);
                    let place = (queue, message.offset, message.attempt);
                    let keeper = verdict.is_some().then_some(&mut self.keeper);
                    let kept =
                        keeper.and_then(|it| it.keep(base, plan, (shard, subscription), place));
                    (verdict, kept.unwrap_or(delay), None)
                }
                Turn::GoesBack => (Some(Verdict::Release), 1, None),
                Turn::Waits(failed) => (Some(Verdict::Release), 1, Some(failed)),
            };
            self.held.push(Held {
                due: base.now + delay,
                waits_for,
                shard,
                subscription,
                queue,
                offset: message.offset,
                attempt: message.attempt,
                bytes: message.record.len() as u32,
                line: Some(line),
                verdict,
                is_last: base.plan.attempts.are_used_up(message.attempt),
                credit: 1,
            });
        }
        self.record_poll(base, topic, queue, decided, deliveries);
        self.look_again(base);
    }

    /// What becomes of a message, and when.
    fn think(&mut self) -> (Option<Verdict>, Micros) {
        let mut delay = self.random.latency(self.plan.think);
        let mut verdict = Some(Verdict::Ack);
        if self.random.percent(self.plan.nack_percent) {
            verdict = Some(Verdict::Nack);
        } else if self.random.percent(self.plan.reject_percent) {
            verdict = Some(Verdict::Reject);
        } else if self.random.percent(self.plan.late_percent) {
            let lease = Micros::from(self.plan.lease_ms) * MS;
            delay = self.random.range(lease * 9 / 10, lease * 3 / 2);
            verdict = self.random.percent(60).then_some(Verdict::Ack);
        }
        if self.plan.drops_failed && verdict.is_some() {
            verdict = Some(Verdict::Ack);
        }
        (verdict, delay)
    }

    fn record_poll(
        &mut self,
        base: &mut Base,
        topic: TopicId,
        queue: QueueIndex,
        invoked: Micros,
        deliveries: Vec<Delivery>,
    ) {
        let poll = Poll {
            client: self.member,
            tenant: 0,
            group: base.removals.called(self.plan.group),
            queue: queue_name(topic, queue),
            invoked,
            completed: base.now,
            deliveries,
        };
        base.history.push(Event::Poll(poll));
    }

    fn settled(
        &mut self,
        base: &mut Base,
        settling: Settling,
        result: Result<Reply, yard_wire::Refusal>,
    ) {
        match result {
            Ok(Reply::Settle(settled)) => {
                self.answered(base, &settling);
                let Settled { done, lost, other } = settled;
                let asked: u64 = settling.ranges.iter().map(|r| r.to.0 - r.from.0).sum();
                let gone: u64 = lost.iter().map(|(_, (from, to))| to.0 - from.0).sum();
                let else_held: u64 = other.iter().map(|it| it.to.0 - it.from.0).sum();
                if done + gone + else_held != asked {
                    let parts = format!("{done} done, {gone} lost, {else_held} held otherwise");
                    base.fail(|| format!("{asked} were settled: {parts}"));
                }
                self.record(base, &settling, Some(true), &refused(&lost, &other));
            }
            Ok(other) => base.fail(|| format!("a settle was answered by {other:?}")),
            Err(refusal) => {
                self.refused(base, &refusal);
                // A log that was fenced may hold it all the same.
                let open = refusal.code == Code::LogFenced;
                self.record(base, &settling, (!open).then_some(false), &[]);
                if refusal.code.is_retryable() {
                    self.settle_later(base, &settling);
                } else {
                    self.answered(base, &settling);
                }
            }
        }
    }

    /// Notes that these are not said again: what has waited for that is given back.
    fn answered(&mut self, base: &mut Base, settling: &Settling) {
        let shard = settling.to.0;
        let mut is_any_free = false;
        let failures = self.failures.entry(shard).or_default();
        for SettleRange { queue, from, to, verdict, .. } in &settling.ranges {
            if *verdict == Verdict::Release {
                failures.returned(*queue, (*from, *to), settling.given);
            }
            if let Verdict::Nack | Verdict::Reject = verdict {
                failures.answered(*queue, *from, *to);
                for held in &mut self.held {
                    let is_its = (held.shard, held.queue) == (shard, *queue);
                    let is_told = |failed: &mut QueueOffset| (*from..*to).contains(failed);
                    is_any_free |= is_its && held.waits_for.take_if(is_told).is_some();
                }
            }
        }
        if is_any_free {
            self.look_again(base);
        }
    }

    fn settle_later(&mut self, base: &mut Base, settling: &Settling) {
        let (shard, subscription) = settling.to;
        let due = base.now + self.random.range(100 * MS, SECOND);
        for (range, is_last) in settling.ranges.iter().zip(&settling.are_last) {
            self.held.extend((range.from.0..range.to.0).map(|offset| Held {
                due,
                waits_for: None,
                shard,
                subscription,
                queue: range.queue,
                offset: QueueOffset(offset),
                attempt: range.attempt,
                bytes: 0,
                line: None,
                verdict: Some(range.verdict),
                is_last: *is_last,
                credit: 0,
            }));
        }
        self.look_again(base);
    }

    /// Writes down a settlement: confirmed, refused, or nobody knows.
    fn record(
        &mut self,
        base: &mut Base,
        settling: &Settling,
        confirmed: Option<bool>,
        refused: &[Gone],
    ) {
        let topic = self.sources.get(&settling.to).copied().unwrap_or_else(|| self.topic(base));
        let group = base.removals.called(self.plan.group);
        for (range, is_last) in settling.ranges.iter().zip(&settling.are_last) {
            let mut from = range.from.0;
            let mut push = |from: u64, to: u64, outcome: Outcome| {
                if range.verdict == Verdict::Ack {
                    let spots = (from..to).map(|at| (topic, range.queue, QueueOffset(at)));
                    spots.for_each(|spot| alike::acked(base, group, spot, outcome));
                }
                if from < to {
                    base.history.push(Event::Settle(Settle {
                        client: self.member,
                        group,
                        queue: queue_name(topic, range.queue),
                        from,
                        to,
                        attempt: range.attempt,
                        verdict: verdict(range.verdict, *is_last),
                        invoked: settling.invoked,
                        completed: confirmed.map(|_| base.now),
                        outcome,
                        level: AckLevel::Synced,
                    }));
                }
            };
            let kept = match confirmed {
                None => Outcome::Unknown,
                Some(true) => Outcome::Ok { offset: None },
                Some(false) => Outcome::Refused,
            };
            let mut gone: Vec<(u64, u64)> = (refused.iter())
                .filter(|it| it.queue == range.queue && it.held_by != Some(range.attempt))
                .map(|it| (it.from.0.max(range.from.0), it.to.0.min(range.to.0)))
                .filter(|(from, to)| from < to)
                .collect();
            gone.sort_unstable();
            for (begin, end) in gone {
                push(from, begin, kept);
                push(begin, end, Outcome::Refused);
                from = from.max(end);
            }
            push(from, range.to.0, kept);
        }
    }
}

/// Messages that were not settled.
struct Gone {
    queue: QueueIndex,
    from: QueueOffset,
    to: QueueOffset,
    /// The delivery by which they are held: settlements of others were refused.
    held_by: Option<u32>,
}

fn refused(lost: &[(QueueIndex, (QueueOffset, QueueOffset))], other: &[HeldRange]) -> Vec<Gone> {
    let lost = lost.iter().map(|&(queue, (from, to))| Gone { queue, from, to, held_by: None });
    let other = other.iter().map(|&HeldRange { queue, from, to, attempt }| {
        let held_by = Some(attempt);
        Gone { queue, from, to, held_by }
    });
    lost.chain(other).collect()
}

/// What a settlement promises: a failure of the last delivery is as good as a rejection.
fn verdict(verdict: Verdict, is_last: bool) -> SettleVerdict {
    match verdict {
        Verdict::Ack => SettleVerdict::Ack,
        Verdict::Expire => SettleVerdict::Expire,
        Verdict::Release => SettleVerdict::Nack,
        Verdict::Nack if !is_last => SettleVerdict::Nack,
        Verdict::Nack | Verdict::Reject => SettleVerdict::Reject,
    }
}

/// The name of a topic.
#[must_use]
pub(crate) fn topic_name(number: u32) -> String {
    format!("topic-{number}")
}

/// The name of the wide topic of a group.
#[must_use]
pub(crate) fn wide_name(group: u64) -> String {
    format!("wide-{group}")
}

/// The name of a group, by its number.
#[must_use]
pub(crate) fn group_name(number: u64) -> String {
    match base_of(number) {
        (group, None) => format!("group-{group}"),
        (group, Some(member)) => format!("group-{group}.member-{member}"),
    }
}

/// The number of the group with this name, if it is one of the plan's.
#[must_use]
pub(crate) fn group_of(name: &str) -> Option<u64> {
    let name = name.strip_prefix("group-")?;
    match name.split_once(".member-") {
        Some((group, member)) => Some(member_of(group.parse().ok()?, member.parse().ok()?)),
        None => name.parse().ok(),
    }
}
