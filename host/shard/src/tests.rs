//! The shard over a disk in memory, its I/O performed in line or held back by the test.
mod rare;
mod retention;

use yard_broker::{Event, Origin, SessionId};
use yard_store::disk::lying::{Crash, Fault, LyingDisk};
use yard_store::{Disk, FileName, Io, IoDone, Lost, Repair};
use yard_wire::batch::{self, Batch, BatchHeader};
use yard_wire::operation::{Operate, TopicCreate, TopicInfo, TopicReport, TopicRow};
use yard_wire::record::{DUE, Flags, KEY, RecordParts};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{
    AckNodes, AckPlace, Call, Fetch, Find, FindCursor, FindRoute, Found, Produced, Seek, Settle,
    SettleRange, Sought, Start, Subscribe, Verdict, Wanted,
};
use yard_wire::retry::RETRY_LEVELS_MS;
use yard_wire::{
    Code, Correlation, MessageId, ProducerId, QueueIndex, QueueOffset, Refusal, Sequence, ShardId,
    SubscriptionId, TenantId, Timestamp, TopicId, Wire,
};

use crate::{FetchPlan, Input, OpenedShard, Output, Shard, ShardConfig};

const TENANT: TenantId = TenantId(0);
const SESSION: SessionId = SessionId(1);

struct Bench {
    disk: LyingDisk,
    shard: Shard,
    /// What the last opening put right.
    repairs: Vec<Repair>,
    now: Timestamp,
    next_correlation: u64,
    /// I/O that the test holds back.
    held: Vec<Io>,
    replies: Vec<(u64, Result<Reply, Refusal>)>,
    delivered: Vec<(QueueOffset, u32)>,
    /// Searches by time that had to read.
    read_seeks: u32,
}

fn id_of(sequence: u64) -> MessageId {
    MessageId::new(Timestamp(7), sequence.into())
}

fn open(disk: &LyingDisk, now: Timestamp) -> OpenedShard {
    let config = ShardConfig {
        shard: ShardId(0),
        shards: 1,
        segment_bytes: 64 << 10,
        seed: now.0,
        retention_hour: None,
    };
    Shard::open(disk, config, now).expect("the log can be opened")
}

fn subscribe_to(topic: &str) -> Request {
    Request::Subscribe(Subscribe {
        shard: ShardId(0),
        group: "g".into(),
        topic: topic.into(),
        member: "m".into(),
        start: Start::Earliest,
        expression: None,
        exclusive: false,
        lease_ms: 30_000,
        messages: 1_000,
        bytes: 1 << 20,
    })
}

impl Bench {
    fn new() -> Self {
        let disk = LyingDisk::new(1);
        let now = Timestamp(1_000_000);
        let OpenedShard { shard, outputs, repairs, .. } = open(&disk, now);
        let mut bench = Self {
            disk,
            shard,
            repairs,
            now,
            next_correlation: 1,
            held: Vec::new(),
            replies: Vec::new(),
            delivered: Vec::new(),
            read_seeks: 0,
        };
        bench.put(outputs);
        bench.perform();
        bench
    }

    fn put(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Io(io) => self.held.push(io),
                Output::Reply { origin, result } => {
                    self.replies.push((origin.correlation.0, result));
                }
                Output::Deliver { items, .. } => {
                    self.delivered.extend(items.iter().map(|item| (item.offset, item.attempt)));
                }
                Output::ReadIndex { ticket, read } => {
                    let places = yard_store::read::index(&self.disk, &read).unwrap();
                    self.step(vec![Input::Index { ticket, places }]);
                }
                Output::ReadLabels { .. } => unreachable!("no topic here is ordered"),
                Output::Fetch { origin, plan, .. } => {
                    let places = match plan {
                        FetchPlan::Records(places) => places,
                        FetchPlan::Index(read) => {
                            yard_store::read::index(&self.disk, &read).unwrap()
                        }
                    };
                    let records = yard_store::read::records(&self.disk, &places).unwrap();
                    let count = Refusal::new(Code::Closed, records.len().to_string());
                    self.replies.push((origin.correlation.0, Err(count)));
                }
                Output::Find { asked, plan } => {
                    let findings = plan.run(&self.disk).unwrap();
                    self.step(vec![Input::Event(Event::Found { asked, findings })]);
                }
                Output::Seek { origin, first, end, plan } => {
                    self.read_seeks += 1;
                    let offset = plan.run(&self.disk).unwrap();
                    let reply = crate::sought(first, end, offset);
                    self.replies.push((origin.correlation.0, Ok(reply)));
                }
                Output::EnsureTopic { .. } | Output::AskPolicy(_) => unreachable!("nobody asks"),
                Output::Notify { notice, .. } => {
                    self.step(vec![Input::Event(Event::Notice(notice))]);
                }
                Output::TxCheck { .. } => unreachable!("no test here is asked"),
                Output::Broadcast(_) | Output::Ended { .. } | Output::WakeAt(_) => {}
            }
        }
    }

    fn step(&mut self, inputs: Vec<Input>) {
        let mut outputs = Vec::new();
        self.shard.step(self.now, inputs, &mut outputs);
        self.shard.broker().check();
        self.put(outputs);
    }

    /// Performs held I/O, one after another, and what follows from it.
    fn perform(&mut self) {
        while !self.held.is_empty() {
            self.perform_one();
        }
    }

    fn perform_one(&mut self) -> IoDone {
        self.perform_at(0)
    }

    fn perform_at(&mut self, at: usize) -> IoDone {
        let io = self.held.remove(at);
        let done = yard_store::io::perform(&self.disk, &io);
        self.step(vec![Input::Io(done.clone())]);
        done
    }

    fn later(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
        self.step(Vec::new());
        self.perform();
    }

    fn origin(&mut self) -> Origin {
        let correlation = Correlation(self.next_correlation);
        self.next_correlation += 1;
        Origin { session: SESSION, stream: 1, correlation }
    }

    fn request(&mut self, request: Request) -> u64 {
        let origin = self.origin();
        self.step(vec![Input::Event(Event::Request { origin, tenant: TENANT, request })]);
        origin.correlation.0
    }

    fn answer(&mut self, request: Request) -> Result<Reply, Refusal> {
        let correlation = self.request(request);
        self.perform();
        self.reply(correlation).expect("answered")
    }

    fn reply(&self, correlation: u64) -> Option<Result<Reply, Refusal>> {
        let mut found = self.replies.iter().filter(|(c, _)| *c == correlation);
        let reply = found.next().map(|(_, reply)| reply.clone());
        assert!(found.next().is_none(), "a request is answered once");
        reply
    }

    fn call<T: Operate>(&mut self, args: &T) -> T::Result {
        let operation = T::OPERATION as u16;
        match self.answer(Request::Call(Call { operation, args: args.to_bytes() })) {
            Ok(Reply::Call(called)) => T::Result::from_bytes(called.result).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn topic(&mut self) -> TopicRow {
        self.call(&TopicCreate { name: "t".into(), queues: 1, ..TopicCreate::default() })
    }

    fn produce(&mut self, topic: TopicId, sequence: u64, place: AckPlace) -> u64 {
        let body = vec![7; 1_000];
        let key = format!("key-{}", sequence % 10);
        let properties = &[(KEY, &key[..])];
        let id = id_of(sequence);
        let parts = RecordParts { topic, id, properties, body: &body, ..RecordParts::default() };
        self.produce_records(&[parts], sequence, place)
    }

    fn produce_delayed(&mut self, topic: TopicId, sequence: u64, due: Timestamp) -> u64 {
        let due = due.to_string();
        let (flags, properties) = (Flags::DELAYED, &[(DUE, &due[..])]);
        let parts = RecordParts { topic, flags, properties, ..RecordParts::default() };
        self.produce_records(&[parts], sequence, AckPlace::Synced)
    }

    /// One batch.
    fn produce_records(&mut self, parts: &[RecordParts], sequence: u64, place: AckPlace) -> u64 {
        let mut records = Vec::new();
        parts.iter().for_each(|parts| parts.encode(&mut records).unwrap());
        let header = BatchHeader {
            producer: ProducerId(5),
            sequence: Sequence(sequence),
            ..BatchHeader::default()
        };
        let batch = Batch::parse(batch::encode(&header, parts.len(), &records)).unwrap();
        let origin = self.origin();
        let floor = Sequence(sequence);
        let (tenant, nodes) = (TENANT, AckNodes::One);
        let event = Event::Produce { origin, tenant, place, nodes, floor, batch };
        self.step(vec![Input::Event(event)]);
        origin.correlation.0
    }

    /// So many messages, each durable before the next.
    fn fill(&mut self, topic: TopicId, count: u64) {
        for sequence in 0..count {
            self.produce(topic, sequence, AckPlace::Synced);
            self.perform();
        }
    }

    fn ack(&mut self, subscription: SubscriptionId, from: u64, to: u64) -> Result<Reply, Refusal> {
        let range = SettleRange {
            queue: QueueIndex(0),
            from: QueueOffset(from),
            to: QueueOffset(to),
            attempt: 1,
            verdict: Verdict::Ack,
            delay_ms: None,
            error: None,
        };
        let settle = Settle { shard: ShardId(0), subscription, ranges: vec![range] };
        self.answer(Request::Settle(settle))
    }

    /// Three messages are settled, and the last of them is damaged while nobody runs: where queues
    /// end is known besides the log.
    fn lose_what_was_settled(&mut self, topic: TopicId) {
        let subscription = self.subscribe();
        self.fill(topic, 3);
        self.ack(subscription, 0, 3).unwrap();
        self.later(1_000);
        erase_last_group(&self.disk);
        self.restart(Crash::Process);
    }

    /// How many messages a fetch finds, as the bench answers it.
    fn fetch(&mut self, from: u64, records_max: u32) -> String {
        let (shard, topic, queue) = (ShardId(0), "t".into(), QueueIndex(0));
        let (from, bytes_max) = (QueueOffset(from), 1 << 20);
        let fetch = Fetch { shard, topic, queue, from, records_max, bytes_max };
        let correlation = self.request(Request::Fetch(fetch));
        self.reply(correlation).unwrap().unwrap_err().detail
    }

    fn produced(&self, correlation: u64) -> Produced {
        match self.reply(correlation) {
            Some(Ok(Reply::Produce(produced))) => produced,
            other => panic!("{other:?}"),
        }
    }

    fn subscribe(&mut self) -> SubscriptionId {
        match self.answer(subscribe_to("t")) {
            Ok(Reply::Subscribe(subscribed)) => subscribed.subscription,
            other => panic!("{other:?}"),
        }
    }

    fn find(&mut self, wanted: Wanted, after: Option<FindCursor>, records_max: u32) -> Found {
        let (shard, bytes_max) = (ShardId(0), 10_000);
        let find = Find { shard, wanted, after, records_max, bytes_max };
        match self.answer(Request::Find(find)) {
            Ok(Reply::Find(found)) => found,
            other => panic!("{other:?}"),
        }
    }

    /// Offsets of the messages found, in as many answers as it takes.
    fn find_all(&mut self, wanted: &Wanted, records_max: u32) -> Vec<u64> {
        let (mut offsets, mut after) = (Vec::new(), None);
        loop {
            let found = self.find(wanted.clone(), after, records_max);
            assert!(found.messages.len() <= records_max as usize);
            let bytes: usize = found.messages.iter().map(|m| m.record.len()).sum();
            assert!(bytes <= 10_000, "an answer is bounded");
            offsets.extend(found.messages.iter().map(|message| message.offset.0));
            assert!(found.next.is_none() || found.next > after, "a search goes on");
            after = found.next;
            if after.is_none() {
                return offsets;
            }
        }
    }

    fn seek(&mut self, time: Timestamp) -> Result<Sought, Refusal> {
        let (shard, topic, queue) = (ShardId(0), "t".into(), QueueIndex(0));
        match self.answer(Request::Seek(Seek { shard, topic, queue, time })) {
            Ok(Reply::Seek(sought)) => Ok(sought),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal),
        }
    }

    fn messages(&mut self) -> u64 {
        let report: TopicReport = self.call(&TopicInfo { name: "t".into() });
        report.messages
    }

    fn restart(&mut self, crash: Crash) {
        self.disk.crash(self.now.0, crash);
        self.held.clear();
        self.delivered.clear();
        self.now = self.now.plus_ms(1_000);
        let OpenedShard { shard, outputs, repairs, .. } = open(&self.disk, self.now);
        (self.shard, self.repairs) = (shard, repairs);
        self.put(outputs);
        self.perform();
    }
}

#[test]
fn an_answer_leaves_when_the_log_is_where_it_says_and_not_before() {
    let mut bench = Bench::new();
    let topic = bench.topic().id;
    let memory = bench.produce(topic, 0, AckPlace::Memory);
    let written = bench.produce(topic, 1, AckPlace::Written);
    let synced = bench.produce(topic, 2, AckPlace::Synced);
    assert!(bench.reply(memory).is_some());
    assert!(bench.reply(written).is_none());
    // The first message is a group of its own; the others gather behind it.
    let mut seen = Vec::new();
    while !bench.held.is_empty() {
        let done = bench.perform_one();
        let answered = [written, synced].map(|c| bench.reply(c).is_some());
        if matches!(done, IoDone::Written { .. } | IoDone::Synced { .. }) {
            seen.push(answered);
        }
    }
    let expected = [[false, false], [false, false], [true, false], [true, true]];
    assert_eq!(seen[..4], expected);
    let places = [memory, written, synced].map(|c| bench.produced(c).placed[0].first);
    assert_eq!(places, [QueueOffset(0), QueueOffset(1), QueueOffset(2)]);
}

#[test]
fn nothing_is_delivered_before_it_is_synced() {
    let mut bench = Bench::new();
    let topic = bench.topic().id;
    bench.subscribe();
    bench.produce(topic, 0, AckPlace::Memory);
    while !bench.held.is_empty() {
        assert_eq!(bench.delivered, [], "delivered too early");
        let done = bench.perform_one();
        if matches!(done, IoDone::Synced { .. }) {
            break;
        }
    }
    assert_eq!(bench.delivered, [(QueueOffset(0), 1)]);
}

#[test]
fn a_failed_sync_fences_the_log_until_it_is_opened_again() {
    let mut bench = Bench::new();
    let topic = bench.topic().id;
    let before = bench.produce(topic, 0, AckPlace::Synced);
    bench.perform();
    bench.disk.fail_next(Fault::Sync);
    let lost = bench.produce(topic, 1, AckPlace::Synced);
    bench.perform();
    let code = |reply: Option<Result<Reply, Refusal>>| reply.unwrap().unwrap_err().code;
    assert_eq!(code(bench.reply(lost)), Code::LogFenced);
    let after = bench.produce(topic, 2, AckPlace::Memory);
    assert_eq!(code(bench.reply(after)), Code::LogFenced);
    assert!(bench.shard.is_fenced() && bench.shard.input_budget() > 0);
    let route = bench.request(Request::FindRoute(FindRoute { topics: vec!["t".into()] }));
    assert_eq!(code(bench.reply(route)), Code::LogFenced);
    bench.restart(Crash::Power);
    assert!(bench.messages() >= 1);
    assert_eq!(bench.produced(before).placed[0].first, QueueOffset(0));
}

#[test]
fn a_delayed_message_waits_over_power_cuts_and_is_released_once() {
    let mut bench = Bench::new();
    let topic = bench.topic().id;
    let due = bench.now.plus_ms(5_000);
    let delayed = bench.produce_delayed(topic, 0, due);
    assert!(bench.reply(delayed).is_none(), "it is acknowledged where any other is");
    bench.perform();
    assert!(bench.produced(delayed).placed.is_empty(), "it has no place yet");
    bench.restart(Crash::Power);
    let left = due.0 - bench.now.0;
    bench.later(left - 1);
    assert_eq!((bench.messages(), parked(&bench)), (0, vec![0]));
    // Released, and the power goes before that is durable.
    bench.now = due;
    bench.step(Vec::new());
    assert!(!bench.held.is_empty(), "the release is on its way to the disk");
    bench.restart(Crash::Power);
    bench.later(1);
    assert_eq!((bench.messages(), parked(&bench)), (1, vec![]));
    bench.restart(Crash::Power);
    bench.later(1);
    assert_eq!(bench.messages(), 1, "once");
    bench.subscribe();
    assert_eq!(bench.delivered, [(QueueOffset(0), 1)]);
    let located = bench.shard.store().locate(topic, QueueIndex(0), QueueOffset(0), 1);
    let yard_store::Located::Places(places) = located else { panic!("{located:?}") };
    let read = yard_store::read::records(&bench.disk, &places).unwrap();
    let record = yard_wire::record::Record::parse(read[0].clone()).unwrap();
    assert_eq!((record.due(), record.flags()), (Some(due), Flags::DELAYED));
    assert!(places[0].released && places[0].stored >= due, "never early");
}

#[test]
fn what_was_settled_and_numbered_survives_power_cuts() {
    let mut bench = Bench::new();
    let topic = bench.topic().id;
    let subscription = bench.subscribe();
    bench.fill(topic, 200);
    assert_eq!(bench.delivered.len(), 200);
    let range = SettleRange {
        queue: QueueIndex(0),
        from: QueueOffset(0),
        to: QueueOffset(150),
        attempt: 1,
        verdict: Verdict::Ack,
        delay_ms: None,
        error: None,
    };
    let settle = Settle { shard: ShardId(0), subscription, ranges: vec![range] };
    let settled = bench.answer(Request::Settle(settle));
    assert!(matches!(settled, Ok(Reply::Settle(ref s)) if s.done == 150), "{settled:?}");
    bench.restart(Crash::Power);
    let again = bench.produce(topic, 199, AckPlace::Synced);
    bench.perform();
    let produced = bench.produced(again);
    assert!(produced.duplicate && produced.placed[0].first == QueueOffset(199));
    assert_eq!(bench.messages(), 200);
    bench.subscribe();
    bench.later(10);
    let offsets: Vec<u64> = bench.delivered.iter().map(|(offset, _)| offset.0).collect();
    assert_eq!(offsets, (150..200).collect::<Vec<_>>());
}

/// Erases the group in which the last message lies.
fn erase_last_group(disk: &LyingDisk) {
    let name = FileName::Segment(0);
    let mut bytes = disk.contents(name).unwrap();
    let body = bytes.windows(1_000).rposition(|body| body == [7; 1_000]).unwrap();
    let is_group = |at: &usize| bytes[*at..].starts_with(b"YGRP");
    let begin = (0..=body / 64 * 64).rev().step_by(64).find(is_group).unwrap();
    let payload = u32::from_le_bytes(bytes[begin + 48..begin + 52].try_into().unwrap());
    bytes[begin..begin + 64 + payload as usize + 32].fill(0);
    disk.put(name, bytes);
}

#[test]
fn what_is_produced_after_damage_is_delivered_though_what_was_lost_had_been_settled() {
    let mut bench = Bench::new();
    let topic = bench.topic().id;
    let (queue, to) = (QueueIndex(0), QueueOffset(3));
    bench.lose_what_was_settled(topic);
    let lost = Lost { topic, queue, from: QueueOffset(2), to };
    let reports = |repair: &Repair| match repair {
        Repair::Quarantined { lost: all, .. } => all.contains(&lost),
        _ => false,
    };
    assert!(bench.repairs.iter().any(reports), "{:?}", bench.repairs);
    let new = bench.produce(topic, 100, AckPlace::Synced);
    bench.perform();
    assert_eq!(bench.produced(new).placed[0].first, to);
    bench.subscribe();
    bench.later(10);
    assert_eq!(bench.delivered, [(to, 1)]);
}

#[test]
fn fetch_reads_across_sealed_and_active_segments() {
    let mut bench = Bench::new();
    let topic = bench.topic().id;
    bench.fill(topic, 300);
    assert!(bench.shard.row().segments > 2, "the log has rolled");
    let mut from = 0;
    while from < 300 {
        let count: u64 = bench.fetch(from, 1_000).parse().unwrap();
        assert!(count > 0, "nothing at {from}");
        from += count;
    }
    assert_eq!(from, 300);
}

/// The durable tables are derived from the log as the indexes of the store are: live or made
/// again, with the checkpoint, without it, or with any part of it.
#[test]
fn the_durable_tables_are_the_same_however_they_are_made() {
    let mut bench = Bench::new();
    let topic = bench.topic().id;
    let subscription = bench.subscribe();
    for sequence in 0..200 {
        bench.produce(topic, sequence, AckPlace::Synced);
        bench.perform();
        if sequence % 50 == 49 {
            let settled = bench.ack(subscription, sequence - 49, sequence - 9);
            assert!(matches!(settled, Ok(Reply::Settle(ref s)) if s.done == 40), "{settled:?}");
        }
    }
    bench.later(1_000);
    let live = bench.shard.broker().snapshot().encode();
    let again = |disk: LyingDisk| open(&disk, bench.now).shard.broker().snapshot().encode();
    assert_eq!(again(bench.disk.fork()), live, "from the checkpoint");
    let saved = bench.disk.contents(FileName::Checkpoint).expect("segments were sealed");
    let disk = bench.disk.fork();
    disk.remove(FileName::Checkpoint).expect("it is there");
    assert_eq!(again(disk), live, "from the log");
    for end in 0..saved.len() {
        let disk = bench.disk.fork();
        disk.put(FileName::Checkpoint, saved[..end].to_vec());
        assert_eq!(again(disk), live, "from {end} bytes of the checkpoint");
    }
}

/// A log of some segments, a message every 10 ms, and when the first was stored.
fn filled(bench: &mut Bench, messages: u64) -> Timestamp {
    let topic = bench.topic().id;
    let began = bench.now;
    for sequence in 0..messages {
        bench.now = began.plus_ms(10 * sequence);
        bench.produce(topic, sequence, AckPlace::Synced);
        bench.perform();
    }
    assert!(bench.shard.row().segments > 2, "the log has rolled");
    began
}

fn by_key(key: &str, from: Timestamp, to: Timestamp) -> Wanted {
    Wanted::Key { topic: "t".into(), key: key.to_owned(), from, to }
}

const EVER: Timestamp = Timestamp(u64::MAX);

fn check_found(bench: &mut Bench, began: Timestamp) {
    let all: Vec<u64> = (0..30).map(|n| n * 10 + 3).collect();
    for records_max in [1, 7, 1_000] {
        let wanted = by_key("key-3", Timestamp(0), EVER);
        assert_eq!(bench.find_all(&wanted, records_max), all);
        // Both ends of the time are exact: the message of the first is in it, that of the last
        // is not.
        let wanted = by_key("key-3", began.plus_ms(10 * 53), began.plus_ms(10 * 263));
        assert_eq!(bench.find_all(&wanted, records_max), all[5..26]);
    }
    assert_eq!(bench.find_all(&by_key("key", Timestamp(0), EVER), 10), [] as [u64; 0]);
    for sequence in [0, 150, 299] {
        assert_eq!(bench.find_all(&Wanted::Id(id_of(sequence)), 10), [sequence]);
    }
    assert_eq!(bench.find_all(&Wanted::Id(id_of(300)), 10), [] as [u64; 0]);
}

#[test]
fn messages_are_found_by_key_and_id_live_after_a_restart_and_without_the_index() {
    let mut bench = Bench::new();
    let began = filled(&mut bench, 300);
    check_found(&mut bench, began);
    let whole = bench.find(by_key("key-3", Timestamp(0), EVER), None, 1);
    assert!(whole.covered.segments >= 1 && whole.covered.unreadable_bytes == 0);
    assert!(whole.next.is_some(), "there are more");
    bench.restart(Crash::Power);
    check_found(&mut bench, began);
    let keys = |name: &FileName| matches!(name, FileName::Keys { .. });
    let files: Vec<FileName> = bench.disk.list().unwrap().into_iter().filter(keys).collect();
    assert!(!files.is_empty(), "sealed segments have a key index");
    for name in &files {
        bench.disk.remove(*name).unwrap();
    }
    check_found(&mut bench, began);
    bench.restart(Crash::Power);
    check_found(&mut bench, began);
    let made = bench.disk.list().unwrap().into_iter().filter(keys).count();
    assert!(made > 0, "what was removed is made again");
}

#[test]
fn a_search_says_what_it_covered() {
    let mut bench = Bench::new();
    let began = filled(&mut bench, 300);
    let last = began.plus_ms(10 * 299);
    let segments = bench.shard.row().segments;
    let found = bench.find(by_key("nothing", Timestamp(0), EVER), None, 10);
    assert_eq!((found.messages.len(), found.next), (0, None));
    assert_eq!((found.covered.segments, found.covered.to), (segments, last));
    assert!(found.covered.from <= began, "{:?}", found.covered);
    // One answer after the other covers the same, without a gap.
    let mut after = None;
    let mut to = Timestamp(0);
    loop {
        let found = bench.find(by_key("key-5", Timestamp(0), EVER), after, 1);
        let newest = found.messages.last().map_or(found.covered.to, |message| message.stored);
        assert!(newest <= found.covered.to && to <= found.covered.to, "{:?}", found.covered);
        to = found.covered.to;
        after = found.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(to, last);
    let late = bench.find(by_key("key-5", last.plus_ms(1), EVER), None, 10);
    assert_eq!((late.messages.len(), late.next), (0, None));
}

#[test]
fn a_time_is_sought_exactly_in_every_segment() {
    let mut bench = Bench::new();
    let began = filled(&mut bench, 300);
    for restarted in [false, true] {
        if restarted {
            bench.restart(Crash::Power);
        }
        for n in 0..300 {
            let at = began.plus_ms(10 * n);
            let expect = |offset: u64| Sought {
                first: QueueOffset(0),
                end: QueueOffset(300),
                offset: QueueOffset(offset),
            };
            assert_eq!(bench.seek(at), Ok(expect(n)));
            assert_eq!(bench.seek(at.plus_ms(1)), Ok(expect(n + 1)));
        }
        assert_eq!(bench.seek(Timestamp(0)).unwrap().offset, QueueOffset(0));
        assert_eq!(bench.seek(EVER).unwrap().offset, QueueOffset(300));
    }
    assert!(bench.read_seeks > 0, "sealed segments are read");
    let (shard, topic, queue) = (ShardId(0), "t".into(), QueueIndex(1));
    let seek = Seek { shard, topic, queue, time: EVER };
    assert_eq!(bench.answer(Request::Seek(seek)).unwrap_err().code, Code::QueueOutOfRange);
}

/// The segments in which delayed messages wait.
fn parked(bench: &Bench) -> Vec<u32> {
    bench.shard.broker().parked_bytes().keys().copied().collect()
}

fn settle_first(bench: &mut Bench, subscription: SubscriptionId, verdict: Verdict) {
    let (queue, from, to) = (QueueIndex(0), QueueOffset(0), QueueOffset(1));
    let error = Some("no such account".to_owned());
    let attempt = bench.delivered.last().expect("it was delivered").1;
    let range = SettleRange { queue, from, to, attempt, verdict, delay_ms: None, error };
    let settle = Settle { shard: ShardId(0), subscription, ranges: vec![range] };
    let settled = bench.answer(Request::Settle(settle));
    assert!(matches!(settled, Ok(Reply::Settle(ref s)) if s.done == 1), "{settled:?}");
}

fn dead_letters(bench: &mut Bench) -> u64 {
    let report: TopicReport = bench.call(&TopicInfo { name: "$dead.g".into() });
    report.messages
}

#[test]
fn sixteen_retries_take_their_time_across_restarts_and_the_seventeenth_delivery_is_the_last() {
    let mut bench = Bench::new();
    let topic = bench.topic().id;
    bench.produce(topic, 0, AckPlace::Synced);
    bench.perform();
    let mut subscription = bench.subscribe();
    let began = bench.now;
    for (attempt, delay_ms) in (1..).zip(RETRY_LEVELS_MS) {
        assert_eq!(bench.delivered.last(), Some(&(QueueOffset(0), attempt)));
        let due = bench.now.plus_ms(delay_ms.into());
        settle_first(&mut bench, subscription, Verdict::Nack);
        if attempt % 5 == 0 {
            bench.restart(Crash::Power);
            subscription = bench.subscribe();
        }
        let before = bench.delivered.len();
        bench.later(due.0 - bench.now.0 - 1);
        assert_eq!(bench.delivered.len(), before, "early at attempt {attempt}");
        bench.later(1);
        assert_eq!(bench.delivered.len(), before + 1, "late at attempt {attempt}");
    }
    assert_eq!(bench.now.0 - began.0, (4 * 3_600 + 45 * 60 + 40) * 1_000);
    assert_eq!(bench.delivered.last(), Some(&(QueueOffset(0), 17)));
    let before = bench.delivered.len();
    settle_first(&mut bench, subscription, Verdict::Nack);
    for _ in 0..48 {
        bench.later(3_600_000);
    }
    assert_eq!(bench.delivered.len(), before, "the seventeenth delivery was the last");
    assert_eq!(dead_letters(&mut bench), 1);
}

#[test]
fn there_is_one_dead_letter_wherever_power_is_lost() {
    // Each run performs one I/O more before power is lost.
    for performed in 0..12 {
        let mut bench = Bench::new();
        let topic = bench.topic().id;
        bench.produce(topic, 0, AckPlace::Synced);
        bench.perform();
        let subscription = bench.subscribe();
        let (queue, from, to) = (QueueIndex(0), QueueOffset(0), QueueOffset(1));
        let (verdict, delay_ms, error) = (Verdict::Reject, None, None);
        let range = SettleRange { queue, from, to, attempt: 1, verdict, delay_ms, error };
        let settle = Settle { shard: ShardId(0), subscription, ranges: vec![range] };
        let asked = bench.request(Request::Settle(settle));
        for _ in 0..performed {
            if bench.held.is_empty() {
                bench.now = bench.now.plus_ms(20);
                bench.step(Vec::new());
            }
            if !bench.held.is_empty() {
                bench.perform_one();
            }
        }
        let confirmed = matches!(bench.reply(asked), Some(Ok(_)));
        bench.restart(Crash::Power);
        for _ in 0..4 {
            bench.later(1_000);
        }
        let again = bench.subscribe();
        if !bench.delivered.is_empty() {
            assert!(!confirmed, "what was rejected was delivered again");
            settle_first(&mut bench, again, Verdict::Reject);
        }
        for _ in 0..4 {
            bench.later(1_000);
        }
        assert_eq!(dead_letters(&mut bench), 1, "after {performed}");
        bench.restart(Crash::Power);
        bench.later(5_000);
        assert_eq!(dead_letters(&mut bench), 1, "after {performed}, restarted");
    }
}
