//! A producer's decisions beside several simulated brokers, in virtual time: which queue a message
//! gets, when it is sent again, when it is given up. What decides is what ships ([`Health`],
//! [`LaneCore`], [`Message`]), put together as [`super::lane_sender`] does it.
use std::collections::BTreeMap;

use yard_wire::batch::BatchHeader;
use yard_wire::requests::{Produce, Produced};
use yard_wire::{Code, Epoch, Lane, MessageId, ProducerId, Refusal, Sequence, ShardId, Timestamp};

use crate::Message;
use crate::health::Health;
use crate::lane::model::{self, TOPIC};
use crate::lane::{Attempt, LaneCore, LaneOptions, LaneRecord};

/// Queues of each broker.
const QUEUES_EACH: u16 = 2;
/// A message each so many milliseconds.
const PACE_MS: u64 = 5;
const ATTEMPT_MS: u64 = 1_000;
const DELIVERY_MS: u64 = 6_000;

/// What a broker does with what comes at an instant.
#[derive(Clone, Copy, Debug)]
enum Mood {
    /// Stores it, and answers after so many milliseconds.
    Answers(u64),
    /// Refuses it for now.
    Refuses,
    /// Stores it and does not answer.
    Silent,
}

const WELL: Mood = Mood::Answers(4);
const ALWAYS_WELL: &[(u64, Mood)] = &[(0, WELL)];

#[derive(Debug)]
struct Broker {
    moods: Vec<(u64, Mood)>,
    numbers: model::Broker,
    /// When batches came.
    came: Vec<u64>,
}

impl Broker {
    fn new(moods: &[(u64, Mood)]) -> Self {
        Self { moods: moods.to_vec(), numbers: model::Broker::default(), came: Vec::new() }
    }

    /// What it answers, and after how long; nothing if it is silent.
    fn produce(
        &mut self,
        produce: &Produce,
        now_ms: u64,
    ) -> Option<(u64, Result<Produced, Refusal>)> {
        self.came.push(now_ms);
        let mood = self.moods.iter().rev().find(|(from, _)| *from <= now_ms);
        match mood.expect("a mood from the start").1 {
            Mood::Answers(ms) => Some((ms, self.numbers.produce(produce))),
            Mood::Refuses => Some((4, Err(Code::Busy.into()))),
            Mood::Silent => {
                let _ = self.numbers.produce(produce);
                None
            }
        }
    }
}

/// What became of a message.
#[derive(Clone, Debug)]
struct Sent {
    shard: ShardId,
    is_keyed: bool,
    sent_ms: u64,
    /// When it was told, and that it is stored or why not.
    told: Option<(u64, Result<(), Code>)>,
}

struct Run {
    brokers: Vec<Broker>,
    sent: Vec<Sent>,
}

/// Sends for so many seconds; each fifth message has a key. Waits for all that is told of it.
fn run(moods: &[&[(u64, Mood)]], seconds: u64) -> Run {
    let mut brokers: Vec<Broker> = moods.iter().map(|moods| Broker::new(moods)).collect();
    let count = brokers.len() as u16;
    let shards: Vec<ShardId> = (0..count * QUEUES_EACH).map(|at| ShardId(at % count)).collect();
    let options =
        LaneOptions { attempt_ms: ATTEMPT_MS, delivery_ms: DELIVERY_MS, ..LaneOptions::default() };
    let mut lanes: Vec<(LaneCore, Vec<usize>)> = (0..count)
        .map(|shard| {
            let (lane, sequence, epoch) = (Lane(0), Sequence(0), Epoch(0));
            let (producer, shard) = (ProducerId(7), ShardId(shard));
            let first = BatchHeader { producer, epoch, lane, shard, sequence };
            let mut core = LaneCore::new(first, options, 3);
            core.on_connect();
            (core, Vec::new())
        })
        .collect();
    let mut health = Health::new();
    let mut sent: Vec<Sent> = Vec::new();
    // Answers by the time at which they come: how a batch was sent, and what is said of it.
    type Answer = (ShardId, Attempt, u64, Result<Produced, Refusal>);
    let mut answers: BTreeMap<u64, Vec<Answer>> = BTreeMap::new();
    for now in 0..=seconds * 1_000 + 2 * DELIVERY_MS {
        for (shard, attempt, sent_ms, result) in answers.remove(&now).unwrap_or_default() {
            health.heard(shard, (sent_ms, now), result.as_ref().err().map(|it| it.code));
            lanes[usize::from(shard.0)].0.on_reply(attempt, result, now);
        }
        if now < seconds * 1_000 && now.is_multiple_of(PACE_MS) {
            let number = sent.len();
            let is_keyed = number.is_multiple_of(5);
            let message = Message::new(vec![b'x'; 20]);
            let message = if is_keyed { message.key(format!("k{}", number % 7)) } else { message };
            let turn = number as u64;
            let pick = |range: std::ops::Range<u16>| {
                let ways = &shards[usize::from(range.start)..usize::from(range.end)];
                range.start + health.choose(ways, turn, now) as u16
            };
            let (id, born) = (MessageId((number as u128).to_be_bytes()), Timestamp(now));
            let queues = (shards.len() as u16, shards.len() as u16);
            let record = message.into_record((TOPIC, queues), id, born, None, pick).unwrap();
            let (queue, bytes) = (record.queue(), record.bytes());
            let shard = shards[usize::from(queue.0)];
            let (core, numbers) = &mut lanes[usize::from(shard.0)];
            let of = LaneRecord { topic: TOPIC, queue, bytes: bytes.len(), parked: false };
            core.push(of, now, |out| out.extend_from_slice(bytes));
            numbers.push(number);
            sent.push(Sent { shard, is_keyed, sent_ms: now, told: None });
        }
        for (at, (core, numbers)) in lanes.iter_mut().enumerate() {
            let shard = ShardId(at as u16);
            core.on_time(now);
            while let Some(outgoing) = core.next_to_send(now) {
                if let Some((after, result)) = brokers[at].produce(&outgoing.produce, now) {
                    let answer = (shard, outgoing.attempt, now, result);
                    answers.entry(now + after.max(1)).or_default().push(answer);
                }
            }
            if core.take_silences() > 0 {
                health.failed(shard, now);
            }
            while let Some(completion) = core.next_completion() {
                for ticket in completion.tickets {
                    let result = completion.result.as_ref().map(drop).map_err(|it| it.code);
                    let it = &mut sent[numbers[ticket as usize]];
                    assert!(it.told.replace((now, result)).is_none(), "each is told once");
                }
            }
        }
    }
    let run = Run { brokers, sent };
    run.check();
    run
}

impl Run {
    /// What holds whatever brokers do: each message is told of in time, what is told to be stored
    /// is stored once, and messages of a queue are in order.
    fn check(&self) {
        let mut stored = BTreeMap::new();
        for broker in &self.brokers {
            let mut newest = BTreeMap::new();
            for (number, queue) in &broker.numbers.stored {
                let before = newest.insert(queue, number);
                assert!(before.is_none_or(|it| it <= number), "in the order of the calls");
                *stored.entry(*number as usize).or_insert(0) += 1;
            }
        }
        assert!(stored.values().all(|count| *count == 1), "nothing is stored twice");
        for (number, sent) in self.sent.iter().enumerate() {
            let (told_ms, result) = sent.told.expect("each is told of");
            assert!(told_ms <= sent.sent_ms + DELIVERY_MS + 1, "{number}: {sent:?}");
            assert!(result.is_err() || stored.contains_key(&number), "{number} is not stored");
        }
    }

    /// Of what was sent in this span of seconds: those that went to a broker, without a key or
    /// with one.
    fn share(&self, shard: u16, (from, to): (u64, u64), is_keyed: bool) -> usize {
        let span = from * 1_000..to * 1_000;
        let sent = self.sent.iter().filter(|it| span.contains(&it.sent_ms));
        sent.filter(|it| it.shard == ShardId(shard) && it.is_keyed == is_keyed).count()
    }

    /// Those of them that took longer than so many milliseconds, or are not stored.
    fn bad(&self, (from, to): (u64, u64), is_keyed: bool, most_ms: u64) -> usize {
        let span = from * 1_000..to * 1_000;
        let sent = self.sent.iter().filter(|it| span.contains(&it.sent_ms));
        let is_bad = |it: &&Sent| {
            let (told_ms, result) = it.told.expect("each is told of");
            result.is_err() || told_ms - it.sent_ms > most_ms
        };
        sent.filter(|it| it.is_keyed == is_keyed).filter(is_bad).count()
    }
}

/// Unkeyed messages of a second.
const UNKEYED: usize = 160;
/// Keyed messages that go to each of three brokers in ten seconds, at least.
const KEYED_MIN: usize = 40;

#[test]
fn where_all_are_well_each_has_its_share() {
    let run = run(&[ALWAYS_WELL; 3], 10);
    for shard in 0..3 {
        let share = run.share(shard, (0, 10), false);
        assert!(share.abs_diff(10 * UNKEYED / 3) <= UNKEYED / 3, "{shard}: {share}");
    }
    assert_eq!(run.bad((0, 10), false, 20) + run.bad((0, 10), true, 20), 0);
}

#[test]
fn the_slow_one_is_avoided_by_what_has_no_key_and_comes_back() {
    let slow: &[_] = &[(0, WELL), (10_000, Mood::Answers(2_000)), (30_000, WELL)];
    let run = run(&[ALWAYS_WELL, slow, ALWAYS_WELL], 60);
    // Two seconds of messages go before the first slow answer, and one at a time later on.
    assert!(run.share(1, (13, 30), false) <= 40, "{}", run.share(1, (13, 30), false));
    assert!(run.bad((13, 30), false, 100) <= 40, "{}", run.bad((13, 30), false, 100));
    // Its keys stay with it, in their order, and arrive.
    assert!(run.share(1, (15, 25), true) >= KEYED_MIN, "{}", run.share(1, (15, 25), true));
    assert!(run.share(1, (50, 60), false) >= 3 * UNKEYED, "{}", run.share(1, (50, 60), false));
}

#[test]
fn the_refusing_one_is_asked_within_its_budget_and_others_take_over() {
    let refuses: &[_] = &[(0, WELL), (10_000, Mood::Refuses), (40_000, WELL)];
    let run = run(&[ALWAYS_WELL, refuses, ALWAYS_WELL], 80);
    let came = run.brokers[1].came.iter().filter(|at| (10_000..40_000).contains(*at)).count();
    let keyed = run.share(1, (10, 40), true);
    assert!(keyed >= 3 * KEYED_MIN, "{keyed}");
    // Waits grow, so thirty seconds are no more requests than messages.
    assert!(came < keyed, "{came} requests for {keyed} messages");
    assert!(run.share(1, (11, 40), false) <= 40, "{}", run.share(1, (11, 40), false));
    // What has a key is given up with what it was refused with, and not stored elsewhere.
    let of_it = run.sent.iter().filter(|it| it.shard == ShardId(1));
    let failed = of_it.filter_map(|it| it.told.and_then(|(_, result)| result.err()));
    let codes: Vec<Code> = failed.collect();
    assert!(codes.len() >= 2 * KEYED_MIN && codes.iter().all(|code| *code == Code::Busy));
    assert!(run.share(1, (72, 80), false) >= 2 * UNKEYED, "{}", run.share(1, (72, 80), false));
}

#[test]
fn the_silent_one_is_left_and_what_it_stored_is_stored_once() {
    let silent: &[_] = &[(0, WELL), (10_000, Mood::Silent), (13_000, WELL)];
    let run = run(&[ALWAYS_WELL, silent, ALWAYS_WELL], 60);
    // Until the first answer is late, one in three goes there.
    let before = run.share(1, (10, 12), false);
    assert!(before <= UNKEYED, "{before}");
    assert_eq!(run.bad((14, 60), false, 7_000), 0);
    // It is back before anything of it is given up.
    assert_eq!(run.bad((0, 60), true, DELIVERY_MS), 0);
    assert!(run.share(1, (30, 60), false) >= 9 * UNKEYED, "{}", run.share(1, (30, 60), false));
}

#[test]
fn where_none_is_well_messages_go_on_and_arrive_when_one_is_back() {
    let refuses: &[_] = &[(0, WELL), (5_000, Mood::Refuses), (9_000, WELL)];
    let silent: &[_] = &[(0, WELL), (5_000, Mood::Silent), (9_000, WELL)];
    let run = run(&[refuses, silent], 30);
    assert_eq!(run.bad((0, 30), false, DELIVERY_MS) + run.bad((0, 30), true, DELIVERY_MS), 0);
    for shard in 0..2 {
        let share = run.share(shard, (20, 30), false);
        assert!(share >= 3 * UNKEYED, "{shard}: {share}");
    }
}
