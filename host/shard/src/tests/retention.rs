//! Segments that go while others work: what waits there is carried on, and a group that begins
//! meanwhile begins behind what goes, and behind nothing else.
use yard_store::disk::lying::Crash;
use yard_store::{Io, IoDone, Located};
use yard_wire::limits::{FIND_BYTES_MAX, FIND_RECORDS_MAX};
use yard_wire::operation::TopicCreate;
use yard_wire::record::{Flags, Record, RecordParts};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{AckPlace, Find, Wanted};
use yard_wire::units::SizeLimit;
use yard_wire::{MessageId, QueueIndex, QueueOffset, ShardId, TopicId};

use super::{Bench, parked, subscribe_to};
use crate::Input;
use crate::retention::RETENTION_MS;

/// A topic that keeps one message at least, and no more where its segments go.
fn short_topic(bench: &mut Bench) -> TopicId {
    let (name, retain_bytes) = ("short".to_owned(), SizeLimit(1));
    bench.call(&TopicCreate { name, queues: 1, retain_bytes, ..TopicCreate::default() }).id
}

#[test]
fn a_delayed_message_outlives_its_segment_and_the_one_of_its_release() {
    let mut bench = Bench::new();
    let topic = bench.topic().id;
    let short = short_topic(&mut bench);
    let due = bench.now.plus_ms(3_600_000);
    bench.produce_delayed(topic, 0, due);
    bench.produce_delayed(topic, 1, bench.now.plus_ms(20));
    bench.perform();
    let mut sequence = 2;
    let mut fill = |bench: &mut Bench, until: u32| {
        let mut turns = 0;
        while bench.shard.store().first_segment() < until {
            for _ in 0..20 {
                bench.produce(short, sequence, AckPlace::Synced);
                bench.perform();
                sequence += 1;
            }
            bench.later(5_000);
            turns += 1;
            assert!(turns < 1_000, "segments go");
        }
    };
    fill(&mut bench, 4);
    // Its body was in the first segment, its release in one of those after.
    assert_eq!(bench.messages(), 1, "the short one was released");
    let waits_in = parked(&bench);
    assert!(waits_in.len() == 1 && waits_in[0] >= 4, "{waits_in:?}");
    for crash in [Crash::Power, Crash::Process] {
        bench.restart(crash);
        assert_eq!(parked(&bench), waits_in);
    }
    fill(&mut bench, 9);
    assert!(parked(&bench)[0] >= 9, "it is carried on again");
    let left = due.0 - bench.now.0;
    bench.later(left - 1);
    assert_eq!(bench.messages(), 1, "never early");
    bench.later(1);
    bench.later(1);
    assert_eq!((bench.messages(), parked(&bench)), (2, vec![]));
    fill(&mut bench, 14);
    bench.restart(Crash::Power);
    for offset in 0..2 {
        let located = bench.shard.store().locate(topic, QueueIndex(0), QueueOffset(offset), 1);
        let places = match located {
            Located::Places(places) => places,
            Located::Read(read) => yard_store::read::index(&bench.disk, &read).unwrap(),
            other => panic!("{other:?}"),
        };
        let read = yard_store::read::records(&bench.disk, &places).unwrap();
        let record = Record::parse(read[0].clone()).unwrap();
        assert_eq!((record.flags(), record.topic()), (Flags::DELAYED, topic));
        assert_eq!(record.due() == Some(due), offset == 1);
    }
}

/// Batches of so many messages that nobody keeps and so many that stay, a segment each; then the
/// first of them begins to go.
fn begin_to_retire(bench: &mut Bench, batches: [(usize, usize); 3]) {
    let (stays, short) = (bench.topic().id, short_topic(bench));
    let body = vec![7; 1_000];
    let of = |topic| RecordParts { topic, body: &body, ..RecordParts::default() };
    for (sequence, (goes, kept)) in (0..).step_by(100).zip(batches) {
        let mut records: Vec<RecordParts> = (0..goes).map(|_| of(short)).collect();
        records.extend((0..kept).map(|_| of(stays)));
        bench.produce_records(&records, sequence, AckPlace::Synced);
        // A segment goes when its index is durable.
        let is_other = |io: &Io| !matches!(io, Io::WriteIndex { .. });
        while let Some(at) = bench.held.iter().position(is_other) {
            bench.perform_at(at);
        }
    }
    bench.perform();
    let store = bench.shard.store();
    assert_eq!((store.segments(), store.first_segment()), (3, 0), "a batch fills a segment");
    bench.now = bench.now.plus_ms(RETENTION_MS);
    bench.step(Vec::new());
    assert!(bench.shard.store().is_retiring(), "the oldest segment is not worth keeping");
}

fn first_of_short(bench: &Bench) -> u64 {
    let mut queues = bench.shard.store().queues();
    let short = queues.find(|(topic, ..)| *topic == TopicId(2));
    short.map(|(_, _, first, _)| first.0).expect("it holds messages")
}

/// Where a group begins that subscribed with this request.
fn began(bench: &Bench, asked: u64) -> u64 {
    match bench.reply(asked).expect("answered") {
        Ok(Reply::Subscribe(subscribed)) => subscribed.queues[0].settled_below.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_group_begins_behind_what_goes_and_not_behind_what_could_go_next() {
    let mut bench = Bench::new();
    // Of the second segment 15 messages are over their limit as well, but it is worth keeping.
    begin_to_retire(&mut bench, [(50, 0), (15, 40), (15, 40)]);
    let asked = bench.request(subscribe_to("short"));
    bench.perform();
    assert_eq!((began(&bench, asked), first_of_short(&bench)), (50, 50));
}

#[test]
fn a_group_begins_at_the_front_when_nothing_of_its_topic_went() {
    let mut bench = Bench::new();
    begin_to_retire(&mut bench, [(0, 10), (15, 40), (15, 40)]);
    bench.perform();
    assert_eq!(bench.shard.store().first_segment(), 1, "the oldest segment went");
    let asked = bench.request(subscribe_to("short"));
    bench.perform();
    assert_eq!((began(&bench, asked), first_of_short(&bench)), (0, 0));
}

#[test]
fn what_is_kept_of_a_segment_that_goes_is_found_once() {
    let mut bench = Bench::new();
    begin_to_retire(&mut bench, [(45, 5), (15, 40), (15, 40)]);
    let all: Vec<(String, u64)> = (0..85).map(|offset| ("t".to_owned(), offset)).collect();
    // Before it is copied, while it lies there twice, and when its segment is gone.
    while !bench.held.is_empty() {
        bench.perform_one();
        let (wanted, after) = (Wanted::Id(MessageId::default()), None);
        let (records_max, bytes_max) = (FIND_RECORDS_MAX, FIND_BYTES_MAX);
        let find = Find { shard: ShardId(0), wanted, after, records_max, bytes_max };
        let asked = bench.request(Request::Find(find));
        let Some(Ok(Reply::Find(found))) = bench.reply(asked) else { panic!("it is answered") };
        let places = found.messages.iter().map(|it| (it.topic.clone(), it.offset.0));
        let mut places: Vec<(String, u64)> = places.filter(|(topic, _)| topic == "t").collect();
        places.sort();
        assert_eq!(places, all);
    }
    assert_eq!(bench.shard.store().first_segment(), 1, "the oldest segment went");
}

#[test]
fn a_group_begins_at_the_front_when_a_retirement_came_to_nothing() {
    let mut bench = Bench::new();
    begin_to_retire(&mut bench, [(45, 5), (15, 40), (15, 40)]);
    let reads = bench.held.iter().position(|io| matches!(io, Io::ReadKept { .. }));
    let read = bench.held.remove(reads.expect("something is kept"));
    bench.disk.set_dead(true);
    let done = yard_store::io::perform(&bench.disk, &read);
    bench.disk.set_dead(false);
    assert!(done == IoDone::KeptFailed, "nothing can be read");
    bench.step(vec![Input::Io(done)]);
    let asked = bench.request(subscribe_to("short"));
    bench.perform();
    assert_eq!((began(&bench, asked), first_of_short(&bench)), (0, 0));
    // From now on it is asked what it still wants.
    bench.later(20_000);
    assert_eq!(first_of_short(&bench), 0);
}
