//! Random events against a model that knows only what a client can know, plus the log.
//!
//! The model holds, for each group and message: who has it, since which attempt, whether it is
//! settled. What the broker may never do is an assertion; what it must do in the end is drained:
//! when every wait is over and everything is acknowledged, nothing is left.
use std::collections::{BTreeMap, BTreeSet};

use yard_wire::batch::BatchHeader;
use yard_wire::limits::DELIVER_RECORDS_MAX;
use yard_wire::name::is_system;
use yard_wire::operation::{GroupSet, Operate, TopicCreate, TopicRm, TopicSet};
use yard_wire::plugin_use::PluginUse;
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{
    AckNodes, Call, Credit, OpenProducer, Settle, SettleRange, Start, Subscribe, Unsubscribe,
    Verdict,
};
use yard_wire::retry::{Attempts, Exponential, RetryPolicy};
use yard_wire::{
    Epoch, Lane, ProducerId, QueueIndex, QueueOffset, Sequence, ShardId, SubscriptionId, TenantId,
    Timestamp, TopicId,
};

use super::Random;
use super::world::{Delivery, Out, World, config};
use crate::{
    Decision, Doom, Entry, Event, Fate, MetaChange, Outcome, PolicyAnswer, RetryAnswer,
    RetryQuestion, SessionId,
};

const LEASES_MS: [u32; 3] = [1_000, 1_500, 30_000];
const TENANT: TenantId = TenantId(0);

/// A message of a group in somebody's hands.
#[derive(Clone, Copy, Debug)]
struct Held {
    by: SubscriptionId,
    until: Timestamp,
    attempt: u32,
}

/// First sequence of a batch, and the queue of each of its records.
type Sent = (u64, Vec<(TopicId, QueueIndex)>);
type Place = (TopicId, QueueIndex, u64);

#[derive(Clone, Debug)]
struct Consumer {
    session: u64,
    group: String,
    topic: TopicId,
    lease_ms: u32,
    credit: u32,
}

#[derive(Default)]
struct Model {
    consumers: BTreeMap<SubscriptionId, Consumer>,
    held: BTreeMap<(String, Place), Held>,
    attempts: BTreeMap<(String, Place), u32>,
    settled: BTreeSet<(String, Place)>,
    topics: BTreeMap<TopicId, (String, u16)>,
    /// Next sequence of each producer and lane, and its last batch.
    lanes: BTreeMap<(u64, u16), (u64, Option<Sent>)>,
    /// The newest incarnation of each producer.
    epochs: BTreeMap<u64, Epoch>,
    next_session: u64,
    /// Then what comes back without being asked for is not always recorded, and attempts may be
    /// counted again after the last member left.
    disk_may_be_full: bool,
    delivered: u64,
    redelivered: u64,
    /// What a plugin was asked and has not answered.
    questions: Vec<RetryQuestion>,
    /// Messages that a plugin decided about in time.
    decided: u64,
    /// Settlements of deliveries of messages that were held by others.
    superseded: u64,
}

struct Run {
    random: Random,
    world: World,
    model: Model,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut run = Self {
            random: Random::new(seed),
            world: World::new(config(0, 1)),
            model: Model { next_session: 1, disk_may_be_full: seed % 2 == 1, ..Model::default() },
        };
        run.create_topic();
        run.create_topic();
        run.set_policy("group0", RetryPolicy::List(vec![1, 500]), 0);
        run.set_policy("group1", RetryPolicy::List(vec![100, 900, 2_000]), 5);
        run
    }

    fn set_policy(&mut self, name: &str, retry: RetryPolicy, attempts: u32) {
        let (retry, max_attempts) = (Some(retry), Some(Attempts(attempts)));
        let name = name.to_owned();
        self.call(&GroupSet { name, retry, max_attempts, ..GroupSet::default() });
    }

    fn change_policy(&mut self) {
        let name = format!("group{}", self.random.below(2));
        let first_ms = 1 + self.random.below(1_000) as u32;
        let growing = Exponential { first_ms, max_ms: 2_000, ..Exponential::default() };
        let attempts = self.random.below(7) as u32;
        let retry = if self.random.chance(40) {
            RetryPolicy::Plugin(PluginUse::read("ladder").unwrap())
        } else {
            RetryPolicy::Exponential(growing)
        };
        self.set_policy(&name, retry, attempts);
    }

    /// A plugin answers one of its questions, possibly about some of the messages only.
    fn decide(&mut self) {
        let Some(count) = (self.model.questions.len() as u64).checked_sub(1) else { return };
        let at = self.random.below(count + 1) as usize;
        let RetryQuestion { group, queue, asked, failures, group_name, topic, .. } =
            self.model.questions.swap_remove(at);
        let mut decisions = Vec::new();
        for failure in failures {
            let fate = match self.random.below(10) {
                0 => Fate::Dropped,
                1 => Fate::Dead { reason: "e9".to_owned() },
                2 => continue,
                _ => Fate::Again { delay_ms: self.random.below(900) as u32 },
            };
            decisions.push(Decision { offset: failure.offset, attempt: failure.attempt, fate });
        }
        let before = self.world.log.len();
        let answer = RetryAnswer { group, queue, asked, decisions };
        self.world.handle(Event::PolicyAnswered(PolicyAnswer::Retry(answer)));
        for (entry, _) in &self.world.log[before..] {
            let Entry::Progress { progress, .. } = entry else { continue };
            for step in &progress.steps {
                self.model.decided += 1;
                if let Outcome::Dropped | Outcome::Doomed { reason: Doom::Policy, .. } =
                    step.outcome
                {
                    let places = (step.from.0..step.to.0).map(|offset| (topic, queue, offset));
                    let settled = places.map(|place| (group_name.clone(), place));
                    self.model.settled.extend(settled);
                }
            }
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..22 => self.put(),
            22..38 => self.world.sync(),
            38..46 => self.subscribe(),
            46..49 => self.leave(),
            49..58 => self.credit(),
            58..80 => self.settle(),
            80..88 => self.pass_time(),
            88..91 => self.trim(),
            91 => self.world.slow_index ^= true,
            92 => self.open(),
            93..96 => {
                let readable = self.random.chance(80);
                self.world.answer_index(readable);
            }
            96 => self.world.full = self.model.disk_may_be_full && self.random.chance(30),
            97 => self.change_topic(),
            98 => self.restart(),
            99 if self.random.chance(50) => self.change_policy(),
            _ => self.create_topic(),
        }
        self.observe();
        if self.random.chance(20) {
            self.decide();
        }
        self.observe();
    }

    fn call<O: Operate>(&mut self, arguments: &O) {
        let call = Call { operation: O::OPERATION as u16, args: arguments.to_bytes() };
        self.world.request(0, TENANT, Request::Call(call));
    }

    fn create_topic(&mut self) {
        if self.model.topics.len() >= 3 {
            return;
        }
        let name = format!("topic{}", self.random.below(1_000));
        let queues = 1 + self.random.below(3) as u16;
        self.call(&TopicCreate { name, queues, ..TopicCreate::default() });
        self.observe_topics();
    }

    /// What the broker knows, durable or not.
    fn observe_topics(&mut self) {
        self.model.topics.clear();
        for change in self.world.broker.metadata() {
            // Those of the system are not for applications to change.
            if let MetaChange::TopicPut(topic) = change
                && !is_system(&topic.name)
            {
                let queues = topic.shards.len() as u16;
                self.model.topics.insert(topic.topic, (topic.name.to_string(), queues));
            }
        }
    }

    /// Entries of a kind that were appended since the log had so many.
    fn logged(&self, kind: u16, before: usize) -> usize {
        self.world.log[before..].iter().filter(|(entry, _)| entry.kind() == kind).count()
    }

    fn a_topic(&mut self) -> Option<(TopicId, String, u16)> {
        let count = self.model.topics.len() as u64;
        if count == 0 {
            return None;
        }
        let at = self.random.below(count) as usize;
        let (topic, (name, queues)) = self.model.topics.iter().nth(at).unwrap();
        Some((*topic, name.clone(), *queues))
    }

    fn change_topic(&mut self) {
        let Some((_, name, queues)) = self.a_topic() else {
            return;
        };
        if self.random.chance(30) {
            self.call(&TopicRm { name });
        } else {
            self.call(&TopicSet { name, queues: Some(queues + 1), ..TopicSet::default() });
        }
        self.world.advance(self.world.now);
        self.observe();
        self.observe_topics();
    }

    fn put(&mut self) {
        let lane = (self.random.below(3), self.random.below(2) as u16);
        let known = self.model.lanes.get(&lane).cloned().unwrap_or_default();
        let (sequence, queues) = match known {
            (_, Some((sequence, queues))) if self.random.chance(15) => (sequence, queues),
            (next, _) => {
                let count = 1 + self.random.below(6);
                let mut queues = Vec::new();
                for _ in 0..count {
                    let Some((topic, _, count)) = self.a_topic() else {
                        return;
                    };
                    let queue = QueueIndex(self.random.below(count.into()) as u16);
                    queues.push((topic, queue));
                }
                (next, queues)
            }
        };
        let header = BatchHeader {
            producer: ProducerId(lane.0),
            epoch: self.model.epochs.get(&lane.0).copied().unwrap_or_default(),
            lane: Lane(lane.1),
            sequence: Sequence(sequence),
            ..BatchHeader::default()
        };
        let before = self.world.log.len();
        self.world.produce(TENANT, AckNodes::One, 0, header, &queues);
        let appended = self.logged(Entry::BATCH, before);
        if appended > 0 {
            assert!(appended == 1, "one batch is one entry");
            let next = sequence + queues.len() as u64;
            self.model.lanes.insert(lane, (next, Some((sequence, queues))));
        }
    }

    /// A producer begins anew: its lanes go on.
    fn open(&mut self) {
        let producer = ProducerId(self.random.below(3));
        let before = self.world.log.len();
        let open = OpenProducer { shard: ShardId(0), producer };
        self.world.request(0, TENANT, Request::OpenProducer(open));
        for (entry, _) in &self.world.log[before..] {
            let Entry::Incarnation { epoch, .. } = entry else { continue };
            let older = self.model.epochs.insert(producer.0, *epoch);
            assert!(older.is_none_or(|older| older < *epoch), "each is newer than the last");
        }
        let (_, lanes) = self.world.broker.producers.known(TENANT, producer);
        let of_it = |lane: u16| self.model.lanes.get(&(producer.0, lane));
        let next = (0..2).filter_map(|lane| Some((Lane(lane), Sequence(of_it(lane)?.0))));
        assert_eq!(lanes, next.collect::<Vec<_>>(), "what is stored is counted");
    }

    fn subscribe(&mut self) {
        if self.model.consumers.len() >= 6 {
            return;
        }
        let Some((topic, name, _)) = self.a_topic() else {
            return;
        };
        let session = if self.random.chance(70) || self.model.next_session == 1 {
            self.model.next_session += 1;
            self.model.next_session
        } else {
            1 + self.random.below(self.model.next_session)
        };
        let start = match self.random.below(3) {
            0 => Start::Earliest,
            1 => Start::Latest,
            _ => Start::Offsets(vec![(QueueIndex(0), QueueOffset(self.random.below(20)))]),
        };
        let consumer = Consumer {
            session,
            group: format!("group{}", self.random.below(2)),
            topic,
            lease_ms: LEASES_MS[self.random.below(3) as usize],
            credit: self.random.below(40) as u32,
        };
        let subscription = self.world.broker.next_subscription;
        let request = Subscribe {
            shard: ShardId(0),
            group: consumer.group.clone(),
            topic: name,
            member: "somebody".to_owned(),
            start,
            expression: None,
            exclusive: false,
            lease_ms: consumer.lease_ms,
            messages: consumer.credit,
            bytes: 1 << 20,
        };
        self.world.request(session, TENANT, Request::Subscribe(request));
        if self.world.broker.subscriptions.contains_key(&subscription) {
            self.model.consumers.insert(subscription, consumer);
        }
    }

    fn a_consumer(&mut self) -> Option<(SubscriptionId, Consumer)> {
        let count = self.model.consumers.len() as u64;
        if count == 0 {
            return None;
        }
        let at = self.random.below(count) as usize;
        self.model.consumers.iter().nth(at).map(|(id, it)| (*id, it.clone()))
    }

    fn leave(&mut self) {
        let Some((subscription, consumer)) = self.a_consumer() else {
            return;
        };
        if self.random.chance(50) {
            let shard = ShardId(0);
            let request = Request::Unsubscribe(Unsubscribe { shard, subscription });
            self.gone(|id, _| id == subscription);
            self.world.request(consumer.session, TENANT, request);
        } else {
            self.gone(|_, it| it.session == consumer.session);
            self.world.handle(Event::SessionClosed(SessionId(consumer.session)));
        }
    }

    /// Consumers that are gone hold nothing.
    fn gone(&mut self, gone: impl Fn(SubscriptionId, &Consumer) -> bool) {
        let consumers = &mut self.model.consumers;
        consumers.retain(|id, consumer| !gone(*id, consumer));
        self.model.held.retain(|_, held| consumers.contains_key(&held.by));
    }

    fn credit(&mut self) {
        let Some((subscription, consumer)) = self.a_consumer() else {
            return;
        };
        let messages = self.random.below(20) as u32;
        self.model.consumers.get_mut(&subscription).unwrap().credit += messages;
        let request = Credit { shard: ShardId(0), subscription, messages, bytes: 5_000 };
        self.world.request(consumer.session, TENANT, Request::Credit(request));
    }

    fn settle(&mut self) {
        let Some((subscription, consumer)) = self.a_consumer() else {
            return;
        };
        let mut ranges = Vec::new();
        for _ in 0..1 + self.random.below(4) {
            let from = self.random.below(60);
            let to = from + 1 + self.random.below(15);
            let verdict = Verdict::ALL[self.random.below(5).min(2) as usize];
            let verdict = if self.random.chance(60) { Verdict::Ack } else { verdict };
            let queue = QueueIndex(self.random.below(3) as u16);
            // Mostly the last delivery of the first message; at times one of long ago, or none.
            let key = (consumer.group.clone(), (consumer.topic, queue, from));
            let last = self.model.attempts.get(&key).copied().unwrap_or(1);
            let any = 1 + self.random.below(4) as u32;
            ranges.push(SettleRange {
                queue,
                from: QueueOffset(from),
                to: QueueOffset(to),
                attempt: if self.random.chance(80) { last } else { any },
                verdict,
                delay_ms: self.random.chance(80).then(|| self.random.below(3_000) as u32),
                error: self.random.chance(50).then(|| format!("e{}", self.random.below(3))),
            });
        }
        self.send_settle(subscription, &consumer, ranges);
    }

    fn send_settle(&mut self, by: SubscriptionId, consumer: &Consumer, ranges: Vec<SettleRange>) {
        self.observe();
        let before = self.world.log.len();
        let settle = Settle { shard: ShardId(0), subscription: by, ranges: ranges.clone() };
        self.world.request(consumer.session, TENANT, Request::Settle(settle));
        let appended = self.logged(Entry::PROGRESS, before) > 0;
        let (mut done, mut other) = (0, 0);
        let mut seen = BTreeSet::new();
        for range in ranges {
            for offset in range.from.0..range.to.0 {
                let key = (consumer.group.clone(), (consumer.topic, range.queue, offset));
                let now = self.world.now;
                let held = self.model.held.get(&key);
                let held = held.filter(|held| held.by == by && held.until > now);
                other += u64::from(held.is_some_and(|held| held.attempt != range.attempt));
                let mine = held.is_some_and(|held| held.attempt == range.attempt);
                if !mine || !seen.insert((range.queue, offset)) {
                    continue;
                }
                done += 1;
                if appended {
                    self.model.held.remove(&key);
                    if range.verdict != Verdict::Nack {
                        self.model.settled.insert(key);
                    }
                }
            }
        }
        self.model.superseded += other;
        assert!(done > 0 || !appended, "what is not held is not recorded");
        assert!(done == 0 || appended || self.world.full, "what is held is recorded");
    }

    fn pass_time(&mut self) {
        let to = self.world.now.plus_ms(self.random.below(1_200));
        self.world.advance(to);
    }

    fn trim(&mut self) {
        let Some((topic, _, queues)) = self.a_topic() else {
            return;
        };
        let queue = QueueIndex(self.random.below(queues.into()) as u16);
        let first = self.random.below(40);
        self.world.trim(topic, queue, first);
        let first = self.world.firsts[&(topic, queue)];
        let kept = |place: &Place| (place.0, place.1) != (topic, queue) || place.2 >= first;
        self.model.held.retain(|(_, place), _| kept(place));
    }

    fn restart(&mut self) {
        self.world.compare_with_log();
        self.observe();
        // Either everything was synced, or the rest is lost and the model starts afresh.
        self.world.full = false;
        self.world.sync();
        self.observe();
        self.world.restart();
        self.model.consumers.clear();
        self.model.held.clear();
        // Deliveries that nobody answered are not recorded.
        self.model.attempts.clear();
        self.observe_topics();
    }

    fn observe(&mut self) {
        for out in self.world.take_outs() {
            match out {
                Out::Deliver(at, delivery) => {
                    let Delivery { session, subscription: by, topic, queue, items, .. } = delivery;
                    assert!(items.len() <= DELIVER_RECORDS_MAX);
                    let end = self.world.broker.ends_of(topic, queue).end;
                    for item in items {
                        assert!(item.offset < end, "only what is committed is delivered");
                        assert_eq!(u64::from(item.place.offset), item.offset.0, "the right place");
                        assert_eq!(item.place.segment, u32::from(queue.0), "the right place");
                        let place = (topic, queue, item.offset.0);
                        self.model.deliver(session, by, place, item.attempt, at);
                    }
                }
                Out::Ended(_, by, _) => self.gone(|id, _| id == by),
                Out::Ask(question) => self.model.questions.push(question),
                Out::Look(_) => unreachable!("nobody here has transactions"),
                Out::Reply(_, Ok(Reply::Produce(produced))) => {
                    assert!(!produced.placed.is_empty());
                }
                Out::Reply(..)
                | Out::Fetch(..)
                | Out::Find(..)
                | Out::Seek(..)
                | Out::Broadcast(_)
                | Out::Notify(..)
                | Out::Check(..)
                | Out::Ensure(_) => {}
            }
        }
    }

    /// Everything is acknowledged until nothing comes any more; then nothing may be left.
    fn drain(&mut self) {
        self.world.full = false;
        self.world.slow_index = false;
        while !self.world.asked.is_empty() {
            self.world.answer_index(true);
        }
        self.world.sync();
        self.observe();
        self.gone_all();
        let topics: Vec<(TopicId, String)> =
            self.model.topics.iter().map(|(id, (name, _))| (*id, name.clone())).collect();
        let mut drainers = Vec::new();
        for (topic, name) in topics {
            for group in ["group0", "group1"] {
                let id = self.world.broker.next_subscription;
                let consumer = Consumer {
                    session: 900,
                    group: group.to_owned(),
                    topic,
                    lease_ms: 30_000,
                    credit: 60_000,
                };
                let request = Subscribe {
                    shard: ShardId(0),
                    group: group.to_owned(),
                    topic: name.clone(),
                    member: "drain".to_owned(),
                    start: Start::Earliest,
                    expression: None,
                    exclusive: false,
                    lease_ms: 30_000,
                    messages: 60_000,
                    bytes: u32::MAX,
                };
                self.model.consumers.insert(id, consumer.clone());
                self.world.request(900, TENANT, Request::Subscribe(request));
                drainers.push((id, consumer));
            }
        }
        // At last for as long as the table of those that no plugin decided about.
        for wait_ms in [[1_000; 60].as_slice(), &[7_200_000; 6]].concat() {
            self.world.advance(self.world.now.plus_ms(wait_ms));
            self.observe();
            for (id, consumer) in &drainers {
                let held = self.model.held.iter().filter(|(_, held)| held.by == *id);
                let ranges = held.map(|((_, (_, queue, offset)), held)| SettleRange {
                    queue: *queue,
                    from: QueueOffset(*offset),
                    to: QueueOffset(offset + 1),
                    attempt: held.attempt,
                    verdict: Verdict::Ack,
                    delay_ms: None,
                    error: None,
                });
                let ranges: Vec<SettleRange> = ranges.take(4_096).collect();
                if !ranges.is_empty() {
                    self.send_settle(*id, consumer, ranges);
                }
            }
        }
        self.world.compare_with_log();
        for (_, group) in self.world.broker.groups.iter() {
            for (queue, state) in &group.queues {
                let ends = self.world.broker.ends_of(group.topic, *queue);
                let lag = state.progress.lag(ends.first, ends.end);
                assert_eq!(lag, 0, "{} {:?} {queue:?} {state:?}", group.name, group.topic);
            }
        }
    }

    fn gone_all(&mut self) {
        let sessions: BTreeSet<u64> = self.model.consumers.values().map(|it| it.session).collect();
        for session in sessions {
            self.gone(|_, it| it.session == session);
            self.world.handle(Event::SessionClosed(SessionId(session)));
        }
    }
}

impl Model {
    fn deliver(
        &mut self,
        session: SessionId,
        by: SubscriptionId,
        place: Place,
        attempt: u32,
        now: Timestamp,
    ) {
        // Pushed in the same breath as the answer that the connection is gone: nobody sees it.
        let Some(consumer) = self.consumers.get_mut(&by) else {
            return;
        };
        assert_eq!(consumer.session, session.0, "to its own connection");
        assert_eq!(consumer.topic, place.0, "of its own topic");
        consumer.credit = consumer.credit.checked_sub(1).expect("within the credit");
        let key = (consumer.group.clone(), place);
        assert!(!self.settled.contains(&key), "what is settled is not delivered again: {key:?}");
        if let Some(held) = self.held.get(&key) {
            assert!(held.until <= now, "what is held is not delivered: {key:?} {held:?}");
        }
        let until = now.plus_ms(consumer.lease_ms.into());
        self.held.insert(key.clone(), Held { by, until, attempt });
        self.delivered += 1;
        if let Some(before) = self.attempts.insert(key.clone(), attempt) {
            let counted = attempt > before || self.disk_may_be_full;
            assert!(counted, "attempts count upwards: {key:?} {before} {attempt}");
            self.redelivered += 1;
        }
    }
}

#[test]
fn random_events_keep_every_promise() {
    let (mut delivered, mut redelivered, mut decided, mut superseded) = (0, 0, 0, 0);
    for seed in 0..60 {
        let mut run = Run::new(seed);
        for step in 0..700 {
            run.step();
            if step % 50 == 0 {
                run.world.compare_with_log();
            }
        }
        run.drain();
        delivered += run.model.delivered;
        redelivered += run.model.redelivered;
        decided += run.model.decided;
        superseded += run.model.superseded;
    }
    // So that the test cannot pass by doing nothing.
    assert!(delivered > 10_000 && redelivered > 1_000, "{delivered} {redelivered}");
    assert!(decided > 100 && superseded > 100, "{decided} {superseded}");
}

#[test]
fn equal_events_give_equal_effects() {
    for seed in 100..108 {
        let journal = || {
            let mut run = Run::new(seed);
            for _ in 0..500 {
                run.step();
            }
            run.world.journal
        };
        let (one, two) = (journal(), journal());
        assert!(one.len() > 200, "{} effects of seed {seed}", one.len());
        assert!(one == two, "seed {seed}");
    }
}
