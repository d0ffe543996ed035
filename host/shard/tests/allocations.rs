//! Allocations on the hot path, counted: what a batch costs must not grow with its messages.
//!
//! `cargo test -p yard-shard --test allocations -- --nocapture` prints the table. Counted are the
//! parsing of a batch, the steps of the shard that append it, write it, sync it and deliver it,
//! the reading of its records and the encoding of the delivery, and the step that settles it. Not
//! counted are the disk itself, sockets and tasks.
#![allow(clippy::unwrap_used, reason = "all of it is test code")]
use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use yard_broker::{Applied, Broker, BrokerConfig, DeliverItem, Event, Origin, SessionId};
use yard_shard::{Input, Output, Shard, ShardConfig};
use yard_store::Io;
use yard_store::disk::lying::LyingDisk;
use yard_wire::batch::{self, Batch, BatchHeader};
use yard_wire::operation::{Operate, TopicCreate, TopicRow};
use yard_wire::record::{DUE, Flags, Record, RecordParts, TX};
use yard_wire::release::Target;
use yard_wire::request::{Push, Reply, Request};
use yard_wire::requests::{
    AckNodes, AckPlace, Call, Credit, Deliver, Delivered, Settle, SettleRange, Start, Subscribe,
    Verdict,
};
use yard_wire::{
    Correlation, MessageId, ProducerId, QueueIndex, QueueOffset, RecordPlace, Sequence, ShardId,
    SubscriptionId, TenantId, Timestamp, TopicId, TxId, Wire,
};

const TENANT: TenantId = TenantId(0);
/// Messages of the small batch and of the large one.
const SMALL: u32 = 16;
const LARGE: u32 = 1_024;
/// Batches before counting, so that what is kept has its size, and batches counted.
const WARM_UP: u64 = 32;
const COUNTED: u64 = 64;
/// What the large batch may cost beyond the small one: its buffers double a few times more, and
/// indexes grow now and then.
const GROWTH_MAX: f64 = 24.0;
/// Leases are in a tree, of which a node holds some six messages in order. That is less than one
/// allocation a message, and more than none.
const LEASE_GROWTH_MAX: f64 = (LARGE - SMALL) as f64 / 6.0;

/// The stages that are counted, and what the large batch may cost each beyond the small one.
const STAGES: [(&str, f64); 7] = [
    ("parse", GROWTH_MAX),
    ("append", GROWTH_MAX),
    ("written", GROWTH_MAX),
    ("synced, leased", LEASE_GROWTH_MAX),
    ("read", GROWTH_MAX),
    ("encode", GROWTH_MAX),
    ("settle", GROWTH_MAX),
];

/// Bytes that a queue may cost while nobody uses it.
const IDLE_QUEUE_BYTES_MAX: f64 = 300.0;
/// What an allocator adds to each piece, about: a header, and half of a rounding to 16 bytes.
const PIECE_BYTES: i64 = 16;
/// Queues that are idle, and messages that each has held.
const IDLE_QUEUES: usize = 4_000;
const IDLE_MESSAGES: usize = 3;

struct World {
    disk: LyingDisk,
    shard: Shard,
    now: Timestamp,
    correlation: u64,
    sequence: u64,
    topic: TopicId,
    subscription: SubscriptionId,
    frame: Vec<u8>,
    /// The groups that were written, as readers keep them.
    groups: Vec<Bytes>,
    /// How often ids and keys were collected: no group is kept for that then.
    collected: u64,
}

/// What steps put out, sorted.
#[derive(Default)]
struct Found {
    ios: Vec<Io>,
    replies: Vec<Reply>,
    delivered: Vec<(QueueIndex, Vec<DeliverItem>)>,
}

impl Found {
    fn sort(&mut self, outputs: &mut Vec<Output>) {
        for output in outputs.drain(..) {
            match output {
                Output::Io(io) => self.ios.push(io),
                Output::Reply { result, .. } => self.replies.push(result.unwrap()),
                Output::Deliver { queue, items, .. } => self.delivered.push((queue, items)),
                Output::WakeAt(_) | Output::Broadcast(_) => {}
                other => panic!("not expected here: {other:?}"),
            }
        }
    }
}

impl World {
    fn new() -> Self {
        let disk = LyingDisk::new(1);
        let now = Timestamp(1_000_000);
        let opened = Shard::open(&disk, config(), now).unwrap();
        let (topic, subscription) = (TopicId(0), SubscriptionId(0));
        let frame = Vec::with_capacity(4 << 20);
        let shard = opened.shard;
        let (correlation, sequence, groups, collected) = (0, 0, Vec::new(), 0);
        let mut world = Self {
            disk,
            shard,
            now,
            correlation,
            sequence,
            topic,
            subscription,
            frame,
            groups,
            collected,
        };
        let mut outputs = opened.outputs;
        let mut found = Found::default();
        found.sort(&mut outputs);
        world.perform(&mut found);
        world.set_up();
        world
    }

    fn origin(&mut self) -> Origin {
        self.correlation += 1;
        let correlation = Correlation(self.correlation);
        Origin { session: SessionId(1), stream: 1, correlation }
    }

    fn event(&mut self, request: Request) -> Input {
        let origin = self.origin();
        Input::Event(Event::Request { origin, tenant: TENANT, request })
    }

    /// One step; how often it allocated.
    fn step(&mut self, input: Input, found: &mut Found) -> u64 {
        let mut outputs = Vec::with_capacity(64);
        let counted = measure(|| self.shard.step(self.now, [input], &mut outputs));
        found.sort(&mut outputs);
        counted.count_total
    }

    /// Performs I/O and all that follows; how often the steps after a sync allocated, and those
    /// after everything else.
    fn perform(&mut self, found: &mut Found) -> (u64, u64) {
        let (mut other, mut synced) = (0, 0);
        while !found.ios.is_empty() {
            let io = found.ios.remove(0);
            let done = yard_store::io::perform(&self.disk, &io);
            let is_sync = matches!(io, Io::SyncGroup { .. });
            if let Io::WriteGroup { bytes, .. } = &io
                && self.groups.len() < self.groups.capacity()
            {
                self.groups.push(bytes.clone());
            }
            self.collected += u64::from(matches!(io, Io::IndexKeys { .. }));
            drop(io);
            let count = self.step(Input::Io(done), found);
            *(if is_sync { &mut synced } else { &mut other }) += count;
        }
        (synced, other)
    }

    fn ask(&mut self, request: Request) -> Reply {
        let (mut found, input) = (Found::default(), self.event(request));
        self.step(input, &mut found);
        self.perform(&mut found);
        found.replies.pop().unwrap()
    }

    fn create(&mut self, name: &str, queues: u16) -> TopicId {
        let args = TopicCreate { name: name.into(), queues, ..TopicCreate::default() };
        let operation = TopicCreate::OPERATION as u16;
        let call = Call { operation, args: args.to_bytes() };
        let Reply::Call(called) = self.ask(Request::Call(call)) else { panic!("not a call") };
        TopicRow::from_bytes(called.result).unwrap().id
    }

    fn set_up(&mut self) {
        self.topic = self.create("t", 4);
        let subscribe = Subscribe {
            shard: ShardId(0),
            group: "g".into(),
            topic: "t".into(),
            member: "m".into(),
            start: Start::Earliest,
            expression: None,
            exclusive: false,
            lease_ms: 600_000,
            messages: 65_536,
            bytes: 64 << 20,
        };
        let Reply::Subscribe(subscribed) = self.ask(Request::Subscribe(subscribe)) else {
            panic!("not a subscription")
        };
        self.subscription = subscribed.subscription;
    }

    fn batch(&mut self, messages: u32) -> bytes::Bytes {
        let mut records = Vec::new();
        for number in 0..messages {
            let queue = QueueIndex((number % 4) as u16);
            let topic = self.topic;
            let parts = RecordParts { topic, queue, body: &[7; 100], ..RecordParts::default() };
            parts.encode(&mut records).unwrap();
        }
        let header = BatchHeader {
            producer: ProducerId(5),
            sequence: Sequence(self.sequence),
            ..BatchHeader::default()
        };
        batch::encode(&header, messages as usize, &records)
    }

    /// A batch from its bytes to its end; how often each stage allocated.
    fn round(&mut self, messages: u32) -> [u64; 7] {
        let bytes = self.batch(messages);
        let mut batch = None;
        let parse = measure(|| batch = Some(Batch::parse(bytes).unwrap())).count_total;
        let (origin, floor) = (self.origin(), Sequence(self.sequence));
        let (place, nodes, batch) = (AckPlace::Synced, AckNodes::One, batch.unwrap());
        let event = Event::Produce { origin, tenant: TENANT, place, nodes, floor, batch };
        self.sequence += u64::from(messages);
        let mut found = Found::default();
        let append = self.step(Input::Event(event), &mut found);
        let (synced, written) = self.perform(&mut found);
        assert_eq!(found.replies.len(), 1, "the batch was answered");
        let delivered = std::mem::take(&mut found.delivered);
        let count: usize = delivered.iter().map(|(_, items)| items.len()).sum();
        assert_eq!(count, messages as usize, "everything was delivered");
        let (mut read, mut encode, mut settle) = (0, 0, 0);
        for (queue, items) in delivered {
            let counts = self.deliver(queue, &items);
            read += counts.0;
            encode += counts.1;
            settle += self.settle(queue, &items);
        }
        [parse, append, written, synced, read, encode, settle]
    }

    /// Stores messages in each of these topics, in one batch.
    fn store(&mut self, topics: &[TopicId], each: usize, bytes: usize) {
        let (mut records, body) = (Vec::new(), vec![7; bytes]);
        for topic in topics.iter().flat_map(|topic| std::iter::repeat_n(*topic, each)) {
            let parts = RecordParts { topic, body: &body, ..Default::default() };
            parts.encode(&mut records).unwrap();
        }
        let (sequence, count) = (Sequence(self.sequence), topics.len() * each);
        let header = BatchHeader { producer: ProducerId(6), sequence, ..BatchHeader::default() };
        let batch = Batch::parse(batch::encode(&header, count, &records)).unwrap();
        self.sequence += count as u64;
        let (origin, place, nodes) = (self.origin(), AckPlace::Synced, AckNodes::One);
        let (tenant, floor) = (TENANT, sequence);
        let event = Event::Produce { origin, tenant, place, nodes, floor, batch };
        let mut found = Found::default();
        self.step(Input::Event(event), &mut found);
        self.perform(&mut found);
        assert_eq!(found.replies.len(), 1, "the batch was answered");
    }

    fn deliver(&mut self, queue: QueueIndex, items: &[DeliverItem]) -> (u64, u64) {
        let mut records = Vec::new();
        let read = measure(|| {
            let places: Vec<RecordPlace> = items.iter().map(|item| item.place).collect();
            records = yard_store::read::records(&self.disk, &places).unwrap();
        });
        let subscription = self.subscription;
        let encode = measure(|| {
            let messages = items.iter().zip(records).map(|(item, record)| Delivered {
                offset: item.offset,
                stored: item.place.stored,
                attempt: item.attempt,
                record,
            });
            let messages = messages.collect();
            let shard = ShardId(0);
            let push = Push::Deliver(Deliver { shard, subscription, queue, messages });
            self.frame.clear();
            push.put_body(&mut self.frame);
        });
        (read.count_total, encode.count_total)
    }

    fn settle(&mut self, queue: QueueIndex, items: &[DeliverItem]) -> u64 {
        let (from, last) = (items[0].offset, items[items.len() - 1].offset);
        let to = QueueOffset(last.0 + 1);
        let (attempt, verdict) = (1, Verdict::Ack);
        let range = SettleRange { queue, from, to, attempt, verdict, delay_ms: None, error: None };
        let (shard, subscription) = (ShardId(0), self.subscription);
        let settle = Settle { shard, subscription, ranges: vec![range] };
        let messages = items.len() as u32;
        let bytes = items.iter().map(|item| item.place.bytes).sum();
        let credit = Credit { shard, subscription, messages, bytes };
        let mut found = Found::default();
        let mut count = 0;
        for request in [Request::Settle(settle), Request::Credit(credit)] {
            let input = self.event(request);
            count += self.step(input, &mut found);
            let (synced, other) = self.perform(&mut found);
            count += synced + other;
        }
        count
    }
}

fn config() -> ShardConfig {
    let (shard, segment_bytes, retention_hour) = (ShardId(0), 64 << 20, None);
    ShardConfig { shard, shards: 1, segment_bytes, seed: 1, retention_hour }
}

/// Bytes that a shard takes which has so many queues, of which each has held messages, and of
/// which nobody uses any but the first: where it wrote them, and after a restart.
fn idle_bytes(queues: usize) -> [i64; 2] {
    let mut world = World::new();
    let topics: Vec<TopicId> = (0..queues).map(|n| world.create(&format!("idle-{n}"), 1)).collect();
    let spread: Vec<TopicId> =
        topics.iter().copied().cycle().take(IDLE_QUEUES * IDLE_MESSAGES).collect();
    spread.chunks(500).for_each(|topics| world.store(topics, 1, 16));
    // Until what the queues hold is in a sealed segment and all of it in a checkpoint, and what
    // the numbering remembers is the same however many queues there are.
    (0..120).for_each(|_| world.store(&topics[..1], 1, 1 << 20));
    let collected = world.collected;
    while world.collected == collected {
        world.store(&topics[..1], 1, 64 << 10);
    }
    let World { disk, shard, now, .. } = world;
    let written = measure(|| drop(shard));
    let mut opened = None;
    let read = measure(|| opened = Some(Shard::open(&disk, config(), now).unwrap()));
    let opened = opened.unwrap();
    assert_eq!(opened.shard.broker().stats().topics, queues as u64 + 1);
    let bytes = |it: AllocationInfo| it.bytes_current + PIECE_BYTES * it.count_current;
    [-bytes(written), bytes(read)]
}

#[test]
fn an_idle_queue_costs_little_memory() {
    let (one, all) = (idle_bytes(1), idle_bytes(IDLE_QUEUES));
    for (at, state) in ["where it was written", "after a restart"].iter().enumerate() {
        let each = (all[at] - one[at]) as f64 / (IDLE_QUEUES - 1) as f64;
        println!("an idle queue, {state}: {each:.0} bytes");
        assert!(each > 100.0 && each <= IDLE_QUEUE_BYTES_MAX, "{state}: {each} bytes");
    }
}

/// Allocations a batch, stage by stage.
fn count(messages: u32) -> [f64; 7] {
    let mut world = World::new();
    for _ in 0..WARM_UP {
        world.round(messages);
    }
    let mut sums = [0; 7];
    for _ in 0..COUNTED {
        for (sum, count) in sums.iter_mut().zip(world.round(messages)) {
            *sum += count;
        }
    }
    sums.map(|sum| sum as f64 / COUNTED as f64)
}

#[test]
fn what_a_batch_allocates_does_not_grow_with_its_messages() {
    let (small, large) = (count(SMALL), count(LARGE));
    println!("allocations a batch       {SMALL:>6} messages {LARGE:>6} messages   a message");
    let mut grown = Vec::new();
    for (((stage, growth_max), small), large) in STAGES.iter().zip(small).zip(large) {
        let each = (large - small) / f64::from(LARGE - SMALL);
        println!("{stage:<24}{small:>14.1}{large:>16.1}{each:>14.3}");
        if large - small > *growth_max {
            grown.push(format!("{stage}: {small:.1} of {SMALL}, {large:.1} of {LARGE}"));
        }
    }
    assert!(grown.is_empty(), "allocations grow with the messages: {grown:#?}");
}

/// Bytes of a piece of shared memory beside what it holds: its own counts, and where it is.
const SHARED_BYTES: i64 = 80;

#[test]
fn a_group_that_readers_keep_takes_little_more_than_its_bytes() {
    const GROUPS: usize = 200;
    for messages in [1, 40, 400] {
        let mut world = World::new();
        for _ in 0..WARM_UP {
            world.store(&[world.topic], messages, 100);
        }
        world.groups.reserve_exact(GROUPS);
        while world.groups.len() < world.groups.capacity() {
            world.store(&[world.topic], messages, 100);
        }
        let World { shard, groups, .. } = world;
        drop(shard);
        let held: usize = groups.iter().map(Bytes::len).sum();
        let freed = -measure(|| drop(groups)).bytes_current;
        let share = (freed - GROUPS as i64 * SHARED_BYTES) as f64 / held as f64;
        println!("groups of {} bytes: {share:.2} times in memory", held / GROUPS);
        assert!((0.9..1.3).contains(&share), "of {messages} messages: {share} times their bytes");
    }
}

#[test]
fn a_delayed_message_that_waits_takes_at_most_two_hundred_bytes() {
    const MESSAGES: u32 = 100_000;
    const BATCH: u32 = 1_000;
    let config = BrokerConfig { shard: ShardId(0), shards: 1, seed: 1, replicated: false };
    let mut broker = Broker::new(config);
    // What the log gives at a recovery: in a row of dues as they come, and in no order.
    for is_mixed in [false, true] {
        let before = broker.stats().delayed;
        let grown = measure(|| {
            for first in (0..MESSAGES).step_by(BATCH as usize) {
                park(&mut broker, first..first + BATCH, is_mixed, false);
            }
        });
        assert_eq!(broker.stats().delayed - before, u64::from(MESSAGES));
        let each = grown.bytes_current as f64 / f64::from(MESSAGES);
        println!("a delayed message that waits, mixed {is_mixed}: {each:.0} bytes");
        assert!(each <= 200.0, "{each} bytes");
    }
}

#[test]
fn a_prepared_message_takes_at_most_two_hundred_and_fifty_bytes() {
    const MESSAGES: u32 = 100_000;
    const BATCH: u32 = 1_000;
    let config = BrokerConfig { shard: ShardId(0), shards: 1, seed: 1, replicated: false };
    let mut broker = Broker::new(config);
    let grown = measure(|| {
        for first in (0..MESSAGES).step_by(BATCH as usize) {
            park(&mut broker, first..first + BATCH, false, true);
        }
    });
    assert_eq!(broker.stats().prepared, u64::from(MESSAGES));
    let each = grown.bytes_current as f64 / f64::from(MESSAGES);
    println!("a prepared message, {IN_ONE} in a transaction: {each:.0} bytes");
    assert!(each <= 250.0, "{each} bytes");
}

/// Messages of a transaction.
const IN_ONE: u32 = 10;

fn park(broker: &mut Broker, numbers: std::ops::Range<u32>, is_mixed: bool, is_prepared: bool) {
    let (mut records, mut parked) = (Vec::new(), Vec::new());
    let segment = u32::from(is_mixed);
    for number in numbers.clone() {
        let spread = number.wrapping_mul(0x9e37_79b9);
        let order = if is_mixed { spread } else { number };
        let due = (1_000_000_000_000 + u64::from(order)).to_string();
        let tx = TxId { number: u64::from(number / IN_ONE), ..TxId::default() }.to_string();
        let waits = if is_prepared { (TX, &tx[..]) } else { (DUE, &due[..]) };
        let parts = RecordParts {
            topic: TopicId(1),
            id: MessageId::new(Timestamp(number.into()), spread.into()),
            flags: if is_prepared { Flags::PREPARED } else { Flags::DELAYED },
            properties: &[waits],
            ..RecordParts::default()
        };
        parts.encode(&mut records).unwrap();
        let bytes = parts.encoded_bytes() as u32;
        let target = Target { segment, offset: number, bytes, released: false };
        let begin = records.len() - bytes as usize;
        let record = Record::parse(Bytes::copy_from_slice(&records[begin..])).unwrap();
        parked.push((target, record));
    }
    let header = BatchHeader { sequence: Sequence(numbers.start.into()), ..Default::default() };
    let batch = Batch::parse(batch::encode(&header, numbers.len(), &records)).unwrap();
    broker.apply_batch(TENANT, batch.header(), batch.count(), &Applied::default());
    for (target, record) in parked {
        broker.apply_parked(TENANT, target, &record);
    }
}
