//! Delayed messages: never early, once, in order, and over restarts.
use yard_wire::batch::{self, Batch, BatchHeader};
use yard_wire::limits::{DELAY_MS_MAX, RELEASES_MAX};
use yard_wire::operation::{
    DelayCancel, DelayCancelled, DelayLs, DelayReport, Operate, TopicCreate, TopicRm,
};
use yard_wire::record::{DUE, Flags, RecordParts};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{AckNodes, AckPlace, Call};
use yard_wire::{Code, ProducerId, QueueIndex, Sequence, TenantId, Timestamp, TopicId, Wire};

use super::Random;
use super::world::{Out, World, call, config, id, origin};
use crate::bounds::{RELEASE_RETRY_MS, TICK_RELEASES_MAX};
use crate::*;

const TENANT: TenantId = TenantId(0);
const TOPIC: TopicId = TopicId(1);

fn world() -> World {
    let mut world = World::new(config(0, 1));
    let create = TopicCreate { name: "orders".into(), queues: 4, ..TopicCreate::default() };
    call(&mut world, &create).unwrap();
    world
}

/// Messages with these numbers, queues and properties, each as it is flagged.
fn batch(sequence: u64, messages: &[(u64, u16, Flags, Option<String>)]) -> Batch {
    let mut records = Vec::new();
    for (number, queue, flags, due) in messages {
        let properties: Vec<_> = due.iter().map(|due| (DUE, due.as_str())).collect();
        let parts = RecordParts {
            topic: TOPIC,
            queue: QueueIndex(*queue),
            id: id(*number),
            flags: *flags,
            properties: &properties,
            ..RecordParts::default()
        };
        parts.encode(&mut records).unwrap();
    }
    let (producer, sequence) = (ProducerId(1), Sequence(sequence));
    let header = BatchHeader { producer, sequence, ..BatchHeader::default() };
    Batch::parse(batch::encode(&header, messages.len(), &records)).unwrap()
}

fn put(world: &mut World, batch: Batch) {
    let (place, nodes, floor) = (AckPlace::Synced, AckNodes::One, Sequence(0));
    let (origin, tenant) = (origin(0), TENANT);
    world.handle(Event::Produce { origin, tenant, place, nodes, floor, batch });
}

fn delayed(number: u64, queue: u16, due: u64) -> (u64, u16, Flags, Option<String>) {
    (number, queue, Flags::DELAYED, Some(due.to_string()))
}

/// What was released: when, and which places of the log, in order.
fn released(world: &World) -> Vec<(u64, QueueIndex, u64)> {
    let mut all = Vec::new();
    for (entry, applied) in &world.log {
        if let Entry::Release { items, dues, .. } = entry {
            assert_eq!(items.len(), dues.len());
            assert!(items.len() <= RELEASES_MAX);
            for (item, due) in items.iter().zip(dues) {
                assert!(due.due <= applied.stored, "never early");
                all.push((applied.stored.0, item.queue(), due.due.0));
            }
        }
    }
    all
}

#[test]
fn a_delayed_message_is_released_when_it_is_due_and_once() {
    let mut world = world();
    let due = world.now.0 + 5_000;
    put(&mut world, batch(0, &[delayed(1, 2, due), (2, 2, Flags::NONE, None)]));
    world.sync();
    let outs = world.take_outs();
    let Some(Out::Reply(_, Ok(Reply::Produce(produced)))) = outs.last() else { panic!("{outs:?}") };
    assert_eq!(produced.placed.iter().map(|placed| placed.count).sum::<u32>(), 1, "no place yet");
    world.compare_with_log();
    world.advance(Timestamp(due - 1));
    assert_eq!(released(&world), []);
    assert!(world.broker.parked_bytes().contains_key(&0), "its segment is needed");
    world.advance(Timestamp(due));
    assert_eq!(released(&world), [(due, QueueIndex(2), due)]);
    world.sync();
    assert!(world.broker.parked_bytes().is_empty());
    world.advance(Timestamp(due + 100_000));
    assert_eq!(released(&world).len(), 1);
    world.compare_with_log();
    // Sent again, it is the same.
    put(&mut world, batch(0, &[delayed(1, 2, due), (2, 2, Flags::NONE, None)]));
    world.advance(Timestamp(due + 200_000));
    assert_eq!(released(&world).len(), 1);
}

#[test]
fn messages_of_one_instant_keep_the_order_of_the_log() {
    let mut world = world();
    let due = world.now.0 + 50;
    let late: Vec<_> = (0..40).map(|number| delayed(40 - number, 1, due)).collect();
    put(&mut world, batch(0, &late));
    put(&mut world, batch(40, &[delayed(90, 1, due - 1)]));
    world.sync();
    world.advance(Timestamp(due + 5));
    let places: Vec<_> = world
        .log
        .iter()
        .filter_map(|(entry, _)| match entry {
            Entry::Release { items, .. } => Some(items.clone()),
            _ => None,
        })
        .flatten()
        .map(|item| (item.target().segment, item.target().offset))
        .collect();
    assert_eq!(places.len(), 41);
    assert!(places[1..].is_sorted(), "in the order in which they were sent");
    assert!(places[0] > places[40], "the one that was due before them comes first");
}

#[test]
fn a_restart_keeps_what_waits_and_releases_what_is_overdue_at_once() {
    let mut world = world();
    let now = world.now.0;
    put(&mut world, batch(0, &[delayed(1, 0, now + 10), delayed(2, 0, now + 10_000)]));
    world.sync();
    // This one is lost with the process.
    put(&mut world, batch(2, &[delayed(3, 0, now + 10)]));
    world.now = Timestamp(now + 500);
    world.restart();
    assert_eq!(released(&world), [(now + 500, QueueIndex(0), now + 10)]);
    world.compare_with_log();
    // Its release was not synced: it comes again, and once.
    world.restart();
    assert_eq!(released(&world).len(), 1);
    world.sync();
    world.restart();
    world.advance(Timestamp(now + 20_000));
    assert_eq!(released(&world).len(), 2);
}

#[test]
fn what_cannot_be_stored_is_tried_again_later_and_not_at_once() {
    let mut world = world();
    let due = world.now.0 + 10;
    put(&mut world, batch(0, &[delayed(1, 0, due)]));
    world.sync();
    world.full = true;
    let before = world.journal.len();
    world.advance(Timestamp(due + RELEASE_RETRY_MS - 1));
    let asked = world.journal[before..].iter().filter(|line| line.contains("Release")).count();
    assert_eq!((asked, released(&world).len()), (1, 0));
    world.full = false;
    world.advance(Timestamp(due + RELEASE_RETRY_MS));
    assert_eq!(released(&world), [(due + RELEASE_RETRY_MS, QueueIndex(0), due)]);
    world.compare_with_log();
}

#[test]
fn a_tick_releases_a_bounded_number_and_goes_on_a_millisecond_later() {
    let mut world = world();
    world.is_large = true;
    let due = world.now.0 + 10;
    let count = TICK_RELEASES_MAX as u64 + 500;
    for number in 0..count {
        put(&mut world, batch(number, &[delayed(number, (number % 4) as u16, due)]));
    }
    world.sync();
    world.advance(Timestamp(due));
    let first = released(&world).len();
    // The next tick of this world comes at the same instant, that of a shard a millisecond later.
    assert_eq!(first as u64, count);
    let largest = world.log.iter().map(|(entry, _)| match entry {
        Entry::Release { items, .. } => items.len(),
        _ => 0,
    });
    assert_eq!(largest.max(), Some(RELEASES_MAX));
    world.compare_with_log();
}

#[test]
fn cancelling_says_truthfully_whether_it_was_still_waiting() {
    let mut world = world();
    let due = world.now.0 + 1_000;
    put(&mut world, batch(0, &[delayed(1, 0, due), delayed(2, 0, due)]));
    world.take_outs();
    let (operation, args) = (DelayCancel::OPERATION as u16, DelayCancel { id: id(1) }.to_bytes());
    world.request(1, TENANT, Request::Call(Call { operation, args }));
    let outs = world.take_outs();
    let Some(Out::Reply(_, Err(refusal))) = outs.last() else { panic!("{outs:?}") };
    assert_eq!(refusal.code, Code::Busy, "it is not known yet where it lies");
    world.sync();
    let cancel = |world: &mut World, number| -> DelayCancelled {
        call(world, &DelayCancel { id: id(number) }).unwrap()
    };
    let first = cancel(&mut world, 1);
    assert_eq!((first.cancelled, &first.topic[..], first.due_ms.0), (true, "orders", due));
    assert!(!cancel(&mut world, 1).cancelled, "it was taken back before");
    assert!(!cancel(&mut world, 77).cancelled, "nobody sent it");
    world.compare_with_log();
    world.restart();
    world.advance(Timestamp(due));
    assert_eq!(released(&world).len(), 1);
    assert!(!cancel(&mut world, 2).cancelled, "it was released");
    world.compare_with_log();
}

#[test]
fn bad_instants_are_refused_and_nothing_is_stored() {
    let check = |message: (u64, u16, Flags, Option<String>), code: Code| {
        let mut world = world();
        let entries = world.log.len();
        put(&mut world, batch(0, &[(1, 0, Flags::NONE, None), message]));
        let outs = world.take_outs();
        let Some(Out::Reply(_, Err(refusal))) = outs.last() else { panic!("{outs:?}") };
        assert_eq!(refusal.code, code, "{refusal}");
        assert_eq!(world.log.len(), entries);
    };
    let now = 1_000;
    check(delayed(2, 0, now + DELAY_MS_MAX + 1), Code::DelayTooLong);
    check(delayed(2, 0, u64::MAX), Code::DelayTooLong);
    check((2, 0, Flags::DELAYED, None), Code::BadArgument);
    check((2, 0, Flags::DELAYED, Some("soon".into())), Code::BadArgument);
    check((2, 0, Flags::DELAYED, Some("-1".into())), Code::BadArgument);
    check((2, 0, Flags::PREPARED, Some("1".into())), Code::BadArgument);
    let mut world = world();
    put(&mut world, batch(0, &[delayed(2, 0, now + DELAY_MS_MAX), delayed(3, 0, 0)]));
    world.sync();
    world.advance(Timestamp(now + 1));
    assert_eq!(released(&world).len(), 1, "what was due in the past comes at once");
    world.advance(Timestamp(now + DELAY_MS_MAX));
    assert_eq!(released(&world).len(), 2, "400 days are waited for");
}

#[test]
fn lists_are_in_the_order_of_due_instants_and_go_on_where_they_ended() {
    let mut world = world();
    let mut random = Random::new(4);
    let now = world.now.0;
    let mut dues: Vec<u64> = (0..50).map(|_| now + 1 + random.below(20)).collect();
    let messages: Vec<_> = (0..).zip(&dues).map(|(n, due)| delayed(n, 0, *due)).collect();
    put(&mut world, batch(0, &messages));
    world.sync();
    dues.sort_unstable();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let topic = Some("orders".to_owned());
        let report: DelayReport =
            call(&mut world, &DelayLs { topic, limit: 7, after: after.clone() }).unwrap();
        assert_eq!(report.waiting, 50);
        found.extend(report.rows.iter().map(|row| row.due_ms.0));
        if report.next.is_empty() {
            break;
        }
        after = Some(report.next);
    }
    assert_eq!(found, dues);
    let wrong = |world: &mut World, topic: Option<&str>, limit, after: Option<&str>| {
        let (topic, after) = (topic.map(str::to_owned), after.map(str::to_owned));
        call(world, &DelayLs { topic, limit, after }).unwrap_err().code
    };
    assert_eq!(wrong(&mut world, Some("others"), 7, None), Code::UnknownTopic);
    assert_eq!(wrong(&mut world, None, 0, None), Code::BadArgument);
    assert_eq!(wrong(&mut world, None, 7, Some("here")), Code::BadArgument);
}

#[test]
fn a_topic_that_is_removed_takes_what_waits_with_it() {
    let mut world = world();
    let due = world.now.0 + 10;
    put(&mut world, batch(0, &[delayed(1, 0, due)]));
    world.sync();
    // One is appended, and it is not known yet where it lies.
    put(&mut world, batch(1, &[delayed(2, 0, due)]));
    call(&mut world, &TopicRm { name: "orders".into() }).unwrap();
    assert_eq!(world.broker.stats().delayed, 0);
    world.advance(Timestamp(due + 10));
    assert_eq!(released(&world), []);
    world.compare_with_log();
}

#[test]
fn releases_and_what_they_settle_are_one_entry() {
    use yard_wire::QueueOffset;
    use yard_wire::release::{Notes, Release, Target};
    let target = Target { segment: 0, offset: 512, bytes: 90, released: false };
    let items = vec![Release::new(target, (TOPIC, QueueIndex(0)), Notes::default())];
    let (queue, from, to) = (QueueIndex(0), QueueOffset(0), QueueOffset(1));
    let step = Step { queue, from, to, outcome: Outcome::Dead };
    let settle = Some(Progress { group: GroupId(3), steps: vec![step], errors: Vec::new() });
    let entry = Entry::Release { tenant: TENANT, items, settle, dues: Vec::new(), tx: None };
    let bytes = entry.encode_payload();
    assert_eq!(Entry::decode(Entry::RELEASE, TENANT, bytes.clone()), Ok(entry));
    for end in 0..bytes.len() {
        Entry::decode(Entry::RELEASE, TENANT, bytes.slice(..end)).unwrap_err();
    }
}
