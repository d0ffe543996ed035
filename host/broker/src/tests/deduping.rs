//! Dedupe keys: each is stored once in its window, and whoever sends it hears of the first.
use std::collections::BTreeMap;

use yard_wire::batch::{self, Batch, BatchHeader};
use yard_wire::limits::{DEDUPE_COUNT_MAX, DEDUPE_WINDOW_MS_MAX};
use yard_wire::operation::{DelayCancel, TopicCreate, TopicInfo, TopicReport, TopicRm, TopicSet};
use yard_wire::plugin_use::{PluginChoice, PluginUse};
use yard_wire::record::{DEDUPE, DUE, Flags, RecordParts};
use yard_wire::request::Reply;
use yard_wire::requests::{AckNodes, AckPlace, Produced};
use yard_wire::units::{AgeLimit, CountLimit};
use yard_wire::{
    Code, DedupeKey, ProducerId, QueueIndex, QueueOffset, Refusal, Sequence, TenantId, Timestamp,
    TopicId,
};

use super::Random;
use super::world::{Out, World, call, config, id, origin};
use crate::bounds::{DEDUPE_KEYS_OF_TENANT_MAX, SWEEP_MS};
use crate::*;

const TENANT: TenantId = TenantId(0);
const TOPIC: TopicId = TopicId(1);
/// The window of the topic, in milliseconds.
const WINDOW_MS: u64 = 60_000;

fn world_with(count: u64) -> World {
    let mut world = World::new(config(0, 1));
    let create = TopicCreate {
        name: "orders".into(),
        queues: 4,
        dedupe_window: Some(AgeLimit(WINDOW_MS)),
        dedupe_count: Some(CountLimit(count)),
        ..TopicCreate::default()
    };
    call(&mut world, &create).unwrap();
    world
}

fn world() -> World {
    world_with(1_000)
}

/// A message: number, queue, dedupe key (none where it is empty), when it is due.
type Letter<'a> = (u64, u16, &'a str, Option<u64>);

fn batch(producer: u64, sequence: u64, letters: &[Letter<'_>]) -> Batch {
    let mut records = Vec::new();
    for (number, queue, key, due) in letters {
        let due = due.map(|due| due.to_string());
        let dues = due.iter().map(|due| (DUE, due.as_str()));
        let keys = (!key.is_empty()).then_some((DEDUPE, *key));
        let properties: Vec<_> = dues.chain(keys).collect();
        let flags = if due.is_some() { Flags::DELAYED } else { Flags::NONE };
        let flags = if key.is_empty() { flags } else { flags.and(Flags::DEDUPE) };
        let parts = RecordParts {
            topic: TOPIC,
            queue: QueueIndex(*queue),
            id: id(*number),
            flags,
            properties: &properties,
            ..RecordParts::default()
        };
        parts.encode(&mut records).unwrap();
    }
    let (producer, sequence) = (ProducerId(producer), Sequence(sequence));
    let header = BatchHeader { producer, sequence, ..BatchHeader::default() };
    Batch::parse(batch::encode(&header, letters.len(), &records)).unwrap()
}

fn put(world: &mut World, batch: Batch) -> Result<Produced, Refusal> {
    world.take_outs();
    let (place, nodes, floor) = (AckPlace::Synced, AckNodes::One, Sequence(0));
    let (origin, tenant) = (origin(0), TENANT);
    world.handle(Event::Produce { origin, tenant, place, nodes, floor, batch });
    world.sync();
    let mut replies = world.take_outs().into_iter().filter_map(|out| match out {
        Out::Reply(_, reply) => Some(reply),
        _ => None,
    });
    match replies.next().expect("a batch is answered") {
        Ok(Reply::Produce(produced)) => Ok(produced),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(refusal),
    }
}

/// The same with keys that a plugin has made of its messages; empty: none.
fn keyed(mut batch: Batch, keys: &[&str]) -> Batch {
    assert_eq!(batch.count(), keys.len());
    let keys = (0..).zip(keys).filter(|(_, key)| !key.is_empty());
    let keys = keys.map(|(at, key)| (at, DedupeKey::of_plugin(1, key.as_bytes())));
    batch.set_dedupe_keys(keys.collect());
    batch
}

/// Queue, first offset and count; number in the batch, number of the original, queue and offset.
type Said = (Vec<(u16, u64, u32)>, Vec<(u32, u64, u16, Option<u64>)>);

/// What an answer says: the places of what was stored, and the originals of what was not.
fn said(produced: &Produced) -> Said {
    let placed = produced.placed.iter().map(|it| (it.queue.0, it.first.0, it.count));
    let originals = produced.originals.iter().map(|it| {
        let number = (0..1_000).find(|number| id(*number) == it.id).expect("one of the letters");
        (it.record, number, it.queue.0, it.offset.map(|offset| offset.0))
    });
    (placed.collect(), originals.collect())
}

fn keys(world: &mut World) -> u64 {
    let report: TopicReport = call(world, &TopicInfo { name: "orders".into() }).unwrap();
    report.dedupe_keys
}

#[test]
fn keys_of_a_plugin_take_the_place_of_those_of_senders() {
    let mut world = world();
    let letters = [(1, 0, "", None), (2, 0, "own", None), (3, 0, "own", None), (4, 1, "", None)];
    let first = keyed(batch(1, 0, &letters), &["a", "b", "", "a"]);
    let produced = put(&mut world, first.clone()).unwrap();
    // Of the third the plugin says that it is never a duplicate, whatever its sender says.
    assert_eq!(said(&produced), (vec![(0, 0, 3)], vec![(3, 1, 0, Some(0))]));
    // Who sends it again has the same answer, whatever the plugin says by then.
    let again = put(&mut world, keyed(batch(1, 0, &letters), &["x", "y", "z", ""])).unwrap();
    assert_eq!((said(&again), again.duplicate), (said(&produced), true));
    world.restart();
    let again = put(&mut world, first).unwrap();
    assert_eq!((said(&again), again.duplicate), (said(&produced), true));
    let others = keyed(batch(2, 0, &[(5, 2, "", None), (6, 2, "", None)]), &["b", "c"]);
    assert_eq!(said(&put(&mut world, others).unwrap()).1, [(0, 2, 0, Some(1))]);
    // A key of a sender is never one of a plugin's.
    let own = put(&mut world, batch(3, 0, &[(7, 0, "a", None)])).unwrap();
    assert_eq!(said(&own).1, []);
    world.compare_with_log();
}

#[test]
fn a_dedupe_plugin_is_a_setting_that_needs_a_window() {
    let mut world = world();
    let plugin = |text: &str| PluginChoice(PluginUse::read(text).ok());
    let name = || "orders".to_owned();
    let set = |chosen, strict| TopicSet {
        name: name(),
        dedupe_plugin: Some(chosen),
        dedupe_strict: strict,
        ..TopicSet::default()
    };
    let row = call(&mut world, &set(plugin("window(fields=a)"), Some(true))).unwrap();
    assert_eq!((row.dedupe_plugin, row.dedupe_strict), (plugin("window(fields=a)"), true));
    let none = TopicSet { name: name(), dedupe_window: Some(AgeLimit(0)), ..TopicSet::default() };
    assert_eq!(call(&mut world, &none).unwrap_err().code, Code::NoDedupeWindow);
    let create = TopicCreate {
        name: "other".into(),
        queues: 1,
        dedupe_window: Some(AgeLimit(0)),
        dedupe_plugin: plugin("window"),
        ..TopicCreate::default()
    };
    assert_eq!(call(&mut world, &create).unwrap_err().code, Code::NoDedupeWindow);
    world.restart();
    let report: TopicReport = call(&mut world, &TopicInfo { name: name() }).unwrap();
    assert_eq!((report.dedupe_plugin, report.dedupe_strict), (plugin("window(fields=a)"), true));
    let row = call(&mut world, &set(PluginChoice(None), None)).unwrap();
    assert_eq!((row.dedupe_plugin, row.dedupe_strict), (PluginChoice(None), true));
    call(&mut world, &none).unwrap();
    world.compare_with_log();
}

#[test]
fn a_key_is_stored_once_and_answered_with_the_original() {
    let mut world = world();
    let first = put(&mut world, batch(1, 0, &[(1, 2, "a", None), (2, 2, "b", None)])).unwrap();
    assert_eq!(said(&first), (vec![(2, 0, 2)], vec![]));
    // Another producer, who knows nothing of the first; other keys go on beside.
    let mixed = [(3, 2, "b", None), (4, 2, "", None), (5, 2, "c", None), (6, 1, "a", None)];
    let second = put(&mut world, batch(2, 0, &mixed)).unwrap();
    let originals = vec![(0, 2, 2, Some(1)), (3, 1, 2, Some(0))];
    assert_eq!(said(&second), (vec![(2, 2, 2)], originals.clone()));
    assert!(!second.duplicate, "the batch is new, some of its messages are not");
    world.compare_with_log();
    // The same batch again, also after a restart: the same answer.
    for _ in 0..2 {
        let again = put(&mut world, batch(2, 0, &mixed)).unwrap();
        assert_eq!(said(&again), (vec![(2, 2, 2)], originals.clone()));
        assert!(again.duplicate);
        world.restart();
    }
    // The lane goes on behind all of its records, stored or not.
    let next = put(&mut world, batch(2, 4, &[(7, 0, "d", None)])).unwrap();
    assert_eq!(said(&next), (vec![(0, 0, 1)], vec![]));
    assert_eq!(keys(&mut world), 4);
    world.compare_with_log();
}

#[test]
fn a_batch_of_known_keys_stores_nothing_and_still_has_its_number() {
    let mut world = world();
    put(&mut world, batch(1, 0, &[(1, 0, "a", None), (2, 1, "b", None)])).unwrap();
    let letters = [(3, 1, "b", None), (4, 0, "a", None)];
    let originals = vec![(0, 2, 1, Some(0)), (1, 1, 0, Some(0))];
    for is_again in [false, true] {
        let all = put(&mut world, batch(2, 0, &letters)).unwrap();
        assert_eq!((said(&all), all.duplicate), ((vec![], originals.clone()), is_again));
        world.compare_with_log();
        world.restart();
    }
    let refusal = put(&mut world, batch(2, 3, &[(5, 0, "", None)])).unwrap_err();
    assert_eq!(refusal.code, Code::OutOfSequence);
    assert!(put(&mut world, batch(2, 2, &[(5, 0, "", None)])).is_ok());
    let stored: u64 = world.stored.values().sum();
    assert_eq!(stored, 3);
}

#[test]
fn messages_of_one_batch_are_compared_with_each_other() {
    let mut world = world();
    let letters = [(1, 0, "", None), (2, 0, "a", None), (3, 0, "a", None), (4, 3, "a", None)];
    let produced = put(&mut world, batch(1, 0, &letters)).unwrap();
    let originals = vec![(2, 2, 0, Some(1)), (3, 2, 0, Some(1))];
    assert_eq!(said(&produced), (vec![(0, 0, 2)], originals));
    world.compare_with_log();
}

#[test]
fn a_window_ends_by_time_and_what_is_forgotten_is_in_the_log() {
    let mut world = world();
    put(&mut world, batch(1, 0, &[(1, 0, "a", None)])).unwrap();
    world.advance(Timestamp(world.now.0 + WINDOW_MS - 1));
    let last = put(&mut world, batch(1, 1, &[(2, 0, "a", None), (3, 0, "b", None)])).unwrap();
    assert_eq!(said(&last), (vec![(0, 1, 1)], vec![(0, 1, 0, Some(0))]));
    world.now = Timestamp(world.now.0 + 1);
    // Not swept yet, and all the same over.
    let anew = put(&mut world, batch(1, 3, &[(4, 0, "a", None), (5, 0, "b", None)])).unwrap();
    assert_eq!(said(&anew), (vec![(0, 2, 1)], vec![(1, 3, 0, Some(1))]));
    world.compare_with_log();
    let end = world.now.0 + WINDOW_MS + 2 * SWEEP_MS;
    world.advance(Timestamp(end));
    assert_eq!(keys(&mut world), 0);
    world.compare_with_log();
    assert!(world.log.iter().any(|(entry, _)| matches!(entry, Entry::Forget { .. })));
}

#[test]
fn a_window_ends_by_count_oldest_first() {
    let mut world = world_with(3);
    for (number, key) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let number = number as u64;
        put(&mut world, batch(1, number, &[(number, 0, key, None)])).unwrap();
    }
    assert_eq!(keys(&mut world), 3);
    let letters = [(9, 0, "b", None), (10, 0, "a", None)];
    let produced = put(&mut world, batch(1, 4, &letters)).unwrap();
    assert_eq!(said(&produced), (vec![(0, 4, 1)], vec![(0, 1, 0, Some(1))]));
    // More new keys at once than are remembered: the last of them are.
    let many: Vec<_> = ["v", "w", "x", "y", "z"].iter().map(|key| (20, 1, *key, None)).collect();
    put(&mut world, batch(1, 6, &many)).unwrap();
    let again = [(21, 1, "v", None), (22, 1, "z", None)];
    let produced = put(&mut world, batch(1, 11, &again)).unwrap();
    assert_eq!(produced.originals.iter().map(|it| it.record).collect::<Vec<_>>(), [1]);
    world.compare_with_log();
    world.restart();
    assert_eq!(keys(&mut world), 3);
}

#[test]
fn delayed_messages_are_compared_and_a_cancelled_one_no_more() {
    let mut world = world();
    let due_ms = world.now.0 + 5_000;
    let due = Some(due_ms);
    put(&mut world, batch(1, 0, &[(1, 2, "a", due), (2, 2, "b", None)])).unwrap();
    let again = put(&mut world, batch(2, 0, &[(3, 2, "a", due), (4, 2, "a", None)])).unwrap();
    assert_eq!(said(&again), (vec![], vec![(0, 1, 2, None), (1, 1, 2, None)]));
    world.compare_with_log();
    assert!(call(&mut world, &DelayCancel { id: id(1) }).unwrap().cancelled);
    world.compare_with_log();
    let anew = put(&mut world, batch(2, 2, &[(5, 2, "a", due), (6, 2, "b", None)])).unwrap();
    assert_eq!(said(&anew), (vec![], vec![(1, 2, 2, Some(0))]));
    world.restart();
    let twice = put(&mut world, batch(3, 0, &[(7, 2, "a", None)])).unwrap();
    assert_eq!(said(&twice), (vec![], vec![(0, 5, 2, None)]));
    world.advance(Timestamp(due_ms + 1));
    world.sync();
    assert_eq!(world.stored[&(TOPIC, QueueIndex(2))], 2, "each key once");
    world.compare_with_log();
}

#[test]
fn what_is_refused_changes_nothing() {
    let mut world = world();
    world.full = true;
    let refusal = put(&mut world, batch(1, 0, &[(1, 0, "a", None)])).unwrap_err();
    assert_eq!(refusal.code, Code::DiskFull);
    world.full = false;
    let produced = put(&mut world, batch(1, 0, &[(1, 0, "a", None)])).unwrap();
    assert_eq!(said(&produced), (vec![(0, 0, 1)], vec![]));
    // All of it known, and no room even to say so: the number is still free.
    world.full = true;
    let refusal = put(&mut world, batch(2, 0, &[(2, 0, "a", None)])).unwrap_err();
    assert_eq!(refusal.code, Code::DiskFull);
    world.full = false;
    let known = put(&mut world, batch(2, 0, &[(2, 0, "a", None)])).unwrap();
    assert!(!known.duplicate && known.originals.len() == 1);
    let long = "x".repeat(257);
    let refusal = put(&mut world, batch(3, 0, &[(2, 0, &long, None)])).unwrap_err();
    assert_eq!(refusal.code, Code::BadDedupeKey);
    let name = "orders".to_owned();
    let none = TopicSet { name, dedupe_window: Some(AgeLimit(0)), ..TopicSet::default() };
    call(&mut world, &none).unwrap();
    let refusal = put(&mut world, batch(3, 0, &[(2, 0, "b", None)])).unwrap_err();
    assert_eq!(refusal.code, Code::NoDedupeWindow);
    assert!(put(&mut world, batch(3, 0, &[(2, 0, "", None)])).is_ok(), "others are taken");
    world.compare_with_log();
}

#[test]
fn bounds_of_windows_are_checked() {
    let mut world = world();
    let mut check = |window: Option<u64>, count: Option<u64>, expected: Option<Code>| {
        let set = TopicSet {
            name: "orders".into(),
            dedupe_window: window.map(AgeLimit),
            dedupe_count: count.map(CountLimit),
            ..TopicSet::default()
        };
        let found = call(&mut world, &set).err().map(|refusal| refusal.code);
        assert_eq!(found, expected, "{window:?} {count:?}");
    };
    check(Some(999), None, Some(Code::BadArgument));
    check(Some(DEDUPE_WINDOW_MS_MAX + 1), None, Some(Code::BadArgument));
    check(Some(DEDUPE_WINDOW_MS_MAX), Some(DEDUPE_COUNT_MAX), None);
    check(None, Some(0), Some(Code::BadArgument));
    check(None, Some(DEDUPE_COUNT_MAX + 1), Some(Code::BadArgument));
    check(Some(0), Some(1), None);
}

#[test]
fn a_topic_takes_its_keys_with_it() {
    let mut world = world();
    put(&mut world, batch(1, 0, &[(1, 0, "a", None)])).unwrap();
    call(&mut world, &TopicRm { name: "orders".into() }).unwrap();
    assert_eq!(world.broker.windows.len(), 0);
    world.compare_with_log();
}

#[test]
fn keys_that_a_policy_has_computed_count_like_those_of_the_sender() {
    let mut world = world();
    put(&mut world, batch(1, 0, &[(1, 0, "a", None)])).unwrap();
    let mut computed = batch(2, 0, &[(2, 0, "", None), (3, 0, "", None)]);
    let [a, b] = ["a", "b"].map(|key| DedupeKey::of(key).unwrap());
    computed.set_dedupe_keys(vec![(0, b), (1, a)]);
    let produced = put(&mut world, computed).unwrap();
    assert_eq!(said(&produced), (vec![(0, 1, 1)], vec![(1, 1, 0, Some(0))]));
    let known = put(&mut world, batch(3, 0, &[(4, 0, "b", None)])).unwrap();
    assert_eq!(said(&known), (vec![], vec![(0, 2, 0, Some(1))]));
    // They are in the log, though no record says them.
    world.compare_with_log();
}

/// A plain list of what was stored, against batches of few keys, restarts and time.
#[test]
fn whatever_happens_a_key_is_stored_once_a_window() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let mut world = world_with(1_000);
        // Of each key: when it was stored last, and which message it was.
        let mut model: BTreeMap<u64, (u64, u64, u16, u64)> = BTreeMap::new();
        let (mut next, mut number) = ([0u64; 2], 0);
        for _ in 0..40 {
            if random.chance(10) {
                world.restart();
            }
            let step = random.below(WINDOW_MS / 2);
            world.advance(Timestamp(world.now.0 + step));
            let producer = random.below(2);
            let count = 1 + random.below(6);
            let names: Vec<String> = (0..count).map(|_| random.below(9).to_string()).collect();
            let mut letters = Vec::new();
            for name in &names {
                number += 1;
                let queue = (name.as_bytes()[0] % 4).into();
                letters.push((number % 1_000, queue, &name[..], None));
            }
            let batch = batch(producer, next[producer as usize], &letters);
            let produced = put(&mut world, batch.clone()).unwrap();
            next[producer as usize] += count;
            let originals: BTreeMap<u32, _> =
                produced.originals.iter().map(|it| (it.record, *it)).collect();
            let mut ends: BTreeMap<u16, u64> =
                produced.placed.iter().map(|placed| (placed.queue.0, placed.first.0)).collect();
            for (at, (number, queue, key, _)) in letters.iter().enumerate() {
                let key: u64 = key.parse().unwrap();
                let known = model.get(&key).filter(|(at, ..)| world.now.0 < at + WINDOW_MS);
                match (originals.get(&(at as u32)), known) {
                    (Some(original), Some((_, number, queue, offset))) => {
                        let expected = (id(*number), *queue, Some(QueueOffset(*offset)));
                        let found = (original.id, original.queue.0, original.offset);
                        assert_eq!(found, expected, "seed {seed}");
                    }
                    (None, None) => {
                        let offset = ends.get_mut(queue).expect("its queue got something");
                        model.insert(key, (world.now.0, *number, *queue, *offset));
                        *offset += 1;
                    }
                    (found, known) => panic!("seed {seed}: {found:?} for {known:?}"),
                }
            }
            assert_eq!(put(&mut world, batch).unwrap().originals, produced.originals);
        }
        world.compare_with_log();
    }
}

#[test]
fn keys_of_a_tenant_are_bounded() {
    let mut world = world();
    world.is_large = true;
    // Another topic of the tenant holds all of them but one.
    for number in 1..DEDUPE_KEYS_OF_TENANT_MAX as u128 {
        let (id, queue) = (id(1), QueueIndex(0));
        let first = windows::First { id, queue, offset: Some(QueueOffset(0)) };
        let row = windows::Row::new(DedupeKey(number.to_be_bytes()), first, world.now);
        world.broker.windows.remember(TENANT, TopicId(2), row);
    }
    let both = batch(1, 0, &[(1, 0, "a", None), (2, 0, "b", None)]);
    let refusal = put(&mut world, both).unwrap_err();
    assert_eq!(refusal.code, Code::DedupeFull);
    assert!(refusal.retry_after_ms > 0, "keys are forgotten in time");
    assert!(put(&mut world, batch(2, 0, &[(3, 0, "", None)])).is_ok(), "without a key it goes on");
    // It is for the number of keys, and the number of the batch is still free.
    assert!(put(&mut world, batch(1, 0, &[(1, 0, "a", None), (2, 0, "a", None)])).is_ok());
    let refusal = put(&mut world, batch(3, 0, &[(4, 0, "c", None)])).unwrap_err();
    assert_eq!(refusal.code, Code::DedupeFull);
    world.broker.windows.forget(TopicId(2), 1);
    assert!(put(&mut world, batch(3, 0, &[(4, 0, "c", None)])).is_ok());
}
