//! The scripts: producers, consumers and time over one shard, recorded step by step of the disk,
//! with what was promised when.
use std::collections::BTreeMap;

use bytes::Bytes;
use yard_shard::{IDLE_GROUP_MS, Input};
use yard_wire::batch::{self, Batch, BatchHeader};
use yard_wire::operation::{TopicCreate, TopicRow};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{AckPlace, Placed, Settle, SettleRange, Verdict};
use yard_wire::{
    Lane, ProducerId, QueueIndex, QueueOffset, Sequence, ShardId, Timestamp, TopicId, Wire,
};

use super::bench::{Bench, Given};
use super::device::{Device, Step};
use crate::message::{Letter, encode};
use crate::planted::Plant;
use crate::random::Random;

/// Bytes of the smallest segment that a store takes: a script fills several.
pub(crate) const SEGMENT_BYTES: u64 = 64 << 10;
/// When a script begins, in milliseconds.
const BEGIN_MS: u64 = 1_000_000;
/// Turns after which a script must have ended.
const TURNS_MAX: u64 = 1_000_000;

/// A batch, and what was promised about it.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) batch: Batch,
    pub(crate) floor: Sequence,
    pub(crate) place: AckPlace,
    /// Steps of the disk when it was sent.
    pub(crate) asked_at: usize,
    /// Steps of the disk when it was answered.
    pub(crate) answered: Option<usize>,
    pub(crate) placed: Vec<Placed>,
    asked: u64,
}

/// A message that was acknowledged by its consumer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acked {
    pub(crate) given: Given,
    /// Steps of the disk when it was answered.
    pub(crate) answered: Option<usize>,
    asked: u64,
}

/// A topic, and when its creation was answered.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) answered: usize,
}

/// A script that was run to its end.
pub(crate) struct Recording {
    pub(crate) steps: Vec<Step>,
    pub(crate) topics: Vec<Topic>,
    pub(crate) sent: Vec<Sent>,
    pub(crate) acked: Vec<Acked>,
    /// When it ended, in the shard's time.
    pub(crate) ended: Timestamp,
}

/// What a script is made of, by its number.
struct Sizes {
    topics: u64,
    queues: u16,
    producers: u64,
    batches: u64,
    records: u64,
    body_bytes: u64,
    in_flight: usize,
    /// Of 100 turns, those in which the disk does something.
    disk_percent: u64,
}

impl Sizes {
    fn of(number: u64, random: &mut Random) -> Self {
        let (batches, records, body_bytes) = match number % 4 {
            0 => (200, 1, 300),
            1 => (110, 6, 700),
            2 => (70, 12, 500),
            _ => (90, 3, 4_000),
        };
        Self {
            topics: random.range(1, 2),
            queues: random.range(1, 6) as u16,
            producers: random.range(1, 3),
            batches,
            records,
            body_bytes,
            in_flight: random.pick(&[1, 3, 8]),
            disk_percent: random.pick(&[30, 50, 70]),
        }
    }
}

impl Recording {
    /// Steps after which something was answered, in order.
    pub(crate) fn answers(&self) -> Vec<usize> {
        let topics = self.topics.iter().map(|topic| topic.answered);
        let sent = self.sent.iter().filter_map(|sent| sent.answered);
        let acked = self.acked.iter().filter_map(|acked| acked.answered);
        let mut answers: Vec<usize> = topics.chain(sent).chain(acked).collect();
        answers.sort_unstable();
        answers
    }
}

struct Run<'a> {
    device: &'a Device,
    bench: Bench<'a>,
    random: Random,
    sizes: Sizes,
    topics: Vec<(Topic, TopicId)>,
    next: BTreeMap<u64, Sequence>,
    sent: Vec<Sent>,
    acked: Vec<Acked>,
    letters: u64,
    /// The other thread is at work; this is what it will say.
    other: Option<Input>,
}

/// Runs a script and notes everything.
pub(crate) fn record(number: u64, plant: Option<Plant>) -> Recording {
    let mut random = Random::new(number ^ 0x7077_7263_7574);
    let sizes = Sizes::of(number, &mut random);
    let device = Device::new(number, plant);
    let opened = Bench::open(&device, SEGMENT_BYTES, Timestamp(BEGIN_MS));
    let (mut bench, _) = opened.expect("an empty disk can be opened");
    bench.settle();
    let mut run = Run {
        device: &device,
        bench,
        random,
        sizes,
        topics: Vec::new(),
        next: BTreeMap::new(),
        sent: Vec::new(),
        acked: Vec::new(),
        letters: 0,
        other: None,
    };
    run.set_up();
    let mut turns = 0;
    while run.turn() {
        turns += 1;
        assert!(turns < TURNS_MAX, "script {number} ends");
    }
    run.end();
    let Run { topics, sent, acked, bench, .. } = run;
    let ended = bench.now;
    drop(bench);
    let topics = topics.into_iter().map(|(topic, _)| topic).collect();
    Recording { steps: device.into_steps(), topics, sent, acked, ended }
}

impl Run<'_> {
    fn set_up(&mut self) {
        for number in 0..self.sizes.topics {
            let name = format!("topic-{number}");
            let (queues, note) = (self.sizes.queues, String::new());
            let asked = self.bench.call(&TopicCreate {
                name: name.clone(),
                queues,
                note,
                ..TopicCreate::default()
            });
            self.bench.settle();
            let Some(Ok(Reply::Call(called))) = self.bench.reply(asked) else {
                panic!("the topic is created");
            };
            let row = TopicRow::from_bytes(called.result.clone()).expect("the answer is a row");
            let answered = self.device.steps_taken();
            self.topics.push((Topic { name: name.clone(), answered }, row.id));
            self.bench.subscribe(&name);
            self.bench.settle();
        }
    }

    /// Something happens. False when all is done.
    fn turn(&mut self) -> bool {
        let waiting = self.sent.iter().filter(|sent| sent.answered.is_none()).count();
        let more = (self.sent.len() as u64) < self.sizes.batches;
        if self.random.percent(self.sizes.disk_percent) {
            self.disk_works();
        } else if more && waiting < self.sizes.in_flight {
            self.send();
        } else if self.random.percent(30) {
            self.acknowledge();
        } else {
            // Idle for long enough, an empty group proves the last one.
            let ms = self.random.pick(&[0, 1, 4, 12]);
            self.bench.now = self.bench.now.plus_ms(ms);
            self.bench.step(Vec::new());
        }
        self.note_answers();
        more || waiting > 0
    }

    /// What is under way is done, and an empty group proves the last one.
    fn end(&mut self) {
        while self.other.is_some() {
            self.disk_works();
        }
        self.bench.settle();
        for _ in 0..2 {
            self.bench.now = self.bench.now.plus_ms(IDLE_GROUP_MS);
            self.bench.step(Vec::new());
            self.bench.settle();
        }
        self.note_answers();
    }

    fn disk_works(&mut self) {
        if self.random.percent(40) {
            match self.other.take() {
                Some(said) => {
                    if self.device.mix_in() {
                        self.other = Some(said);
                    } else {
                        self.bench.step(vec![said]);
                    }
                }
                None => {
                    let Some(io) = self.bench.others.pop_front() else { return };
                    let device = self.device;
                    let done = device.aside(|| yard_store::io::perform(device, &io));
                    self.other = Some(Input::Io(done));
                }
            }
        } else {
            self.bench.advance();
        }
    }

    fn send(&mut self) {
        let producer = self.random.range(1, self.sizes.producers);
        let first = self.next.get(&producer).copied().unwrap_or(Sequence(0));
        let mut records = Vec::new();
        let count = self.random.range(1, self.sizes.records);
        for _ in 0..count {
            let (_, topic) = self.topics[self.random.below(self.sizes.topics) as usize];
            let queue = QueueIndex(self.random.below(self.sizes.queues.into()) as u16);
            self.letters += 1;
            let letter = Letter {
                topic,
                queue,
                producer,
                seq: self.letters,
                order_group: None,
                // Keys that nobody else has: what lies beside batches is cut off too.
                dedupe: self.letters.is_multiple_of(4).then_some(self.letters),
                is_for_plugin: false,
                alike: None,
                packed: None,
                body_bytes: self.random.range(20, self.sizes.body_bytes),
                born: self.bench.now,
                due: None,
                expires: None,
                priority: None,
                tx: None,
            };
            records.extend_from_slice(&encode(&letter).0);
        }
        let header = BatchHeader {
            producer: ProducerId(producer),
            lane: Lane(0),
            shard: ShardId(0),
            sequence: first,
            ..BatchHeader::default()
        };
        let batch = batch::encode(&header, count as usize, &records);
        let batch = Batch::parse(batch).expect("it was encoded just now");
        self.next.insert(producer, batch.next_sequence());
        let place = self.random.pick(&[AckPlace::Synced, AckPlace::Synced, AckPlace::Written]);
        let asked = self.bench.produce(&batch, place, first);
        let asked_at = self.device.steps_taken();
        let (floor, answered, placed) = (first, None, Vec::new());
        self.sent.push(Sent { batch, floor, place, asked_at, answered, placed, asked });
    }

    fn acknowledge(&mut self) {
        if self.bench.given.is_empty() {
            return;
        }
        let at = self.random.below(self.bench.given.len() as u64) as usize;
        let given = self.bench.given.swap_remove(at);
        let Given { queue, offset, attempt, subscription, .. } = given;
        let to = QueueOffset(offset.0 + 1);
        let range = SettleRange {
            queue,
            from: offset,
            to,
            attempt,
            verdict: Verdict::Ack,
            delay_ms: None,
            error: None,
        };
        let ranges = vec![range];
        let request = Request::Settle(Settle { shard: ShardId(0), subscription, ranges });
        let asked = self.bench.request(request);
        self.acked.push(Acked { given, answered: None, asked });
    }

    fn note_answers(&mut self) {
        let at = self.device.steps_taken();
        for (number, result) in std::mem::take(&mut self.bench.replies) {
            let reply = result.expect("nothing goes wrong while a script is recorded");
            if let Some(sent) = self.sent.iter_mut().find(|sent| sent.asked == number) {
                let Reply::Produce(produced) = reply else { panic!("a batch was asked about") };
                assert!(!produced.duplicate, "it was sent once");
                (sent.answered, sent.placed) = (Some(at), produced.placed);
            } else if let Some(acked) = self.acked.iter_mut().find(|it| it.asked == number) {
                acked.answered = Some(at);
            }
        }
    }
}

/// The records of batches in their order, queue by queue: what a log of all of them holds.
pub(crate) struct Contents {
    pub(crate) queues: BTreeMap<(TopicId, QueueIndex), Vec<Bytes>>,
    /// After each number of batches, how many records each queue has.
    pub(crate) counts: Vec<BTreeMap<(TopicId, QueueIndex), usize>>,
}

impl Contents {
    pub(crate) fn of(sent: &[Sent]) -> Self {
        let mut queues: BTreeMap<_, Vec<Bytes>> = BTreeMap::new();
        let mut counts = vec![BTreeMap::new()];
        for sent in sent {
            for record in sent.batch.records() {
                let queue = queues.entry((record.topic(), record.queue())).or_default();
                queue.push(record.bytes().clone());
            }
            counts.push(queues.iter().map(|(name, queue)| (*name, queue.len())).collect());
        }
        Self { queues, counts }
    }
}
