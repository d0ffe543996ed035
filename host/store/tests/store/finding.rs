//! Finding by id, key and time: exact whatever is in files, in memory or not indexed yet; and the
//! files behind it, made again from any damage.
use std::collections::BTreeMap;
use std::slice::from_ref;

use bytes::Bytes;
use yard_store::disk::lying::{Crash, Fault, LyingDisk};
use yard_store::{
    BATCH, Disk, FileName, Io, KeyAnswer, KeyBudget, KeyFound, KeyQuery, LogPlace, Sought, Store,
    StoreConfig, io,
};
use yard_wire::batch::{self, Batch, BatchHeader};
use yard_wire::record::{KEY, RecordParts};
use yard_wire::{MessageId, QueueIndex, QueueOffset, Timestamp, TopicId};

use crate::support::{CONFIG, Model, Random, Rig, open_with};

const KEYS: u64 = 12;
const ALWAYS: (Timestamp, Timestamp) = (Timestamp(0), Timestamp(u64::MAX));
const ALL: KeyBudget = KeyBudget { bytes: u64::MAX, messages: usize::MAX };

/// Records with ids of their own, some with keys, one of them twice.
pub(crate) fn keyed_batch(random: &mut Random) -> Batch {
    let mut bytes = Vec::new();
    let count = 1 + random.below(8) as usize;
    for _ in 0..count {
        let keys: Vec<String> =
            (0..random.below(4)).map(|_| format!("key-{}", random.below(KEYS))).collect();
        let mut properties: Vec<_> = keys.iter().map(|key| (KEY, key.as_str())).collect();
        properties.push(("colour", "key-1"));
        let parts = RecordParts {
            topic: TopicId(random.below(3) as u32),
            queue: QueueIndex(random.below(2) as u16),
            id: MessageId::new(Timestamp(7), u128::from(random.next())),
            properties: &properties,
            body: &vec![7; random.below(200) as usize],
            ..RecordParts::default()
        };
        parts.encode(&mut bytes).unwrap();
    }
    let header = BatchHeader { shard: CONFIG.shard, ..BatchHeader::default() };
    Batch::parse(batch::encode(&header, count, &bytes)).unwrap()
}

/// What must be found: topic, queue, offset, stored, record; in the order of the log.
type Message = (TopicId, QueueIndex, QueueOffset, Timestamp, Bytes);

fn messages(model: &Model, entries: usize) -> Vec<(Message, MessageId, Vec<String>)> {
    let mut next: BTreeMap<(TopicId, QueueIndex), u64> = BTreeMap::new();
    let mut all = Vec::new();
    for entry in model.entries[..entries].iter().filter(|entry| entry.kind == BATCH) {
        for record in Batch::parse(entry.payload.clone()).unwrap().records() {
            let (topic, queue) = (record.topic(), record.queue());
            let next = next.entry((topic, queue)).or_default();
            let message = (topic, queue, QueueOffset(*next), entry.stored, record.bytes().clone());
            *next += 1;
            all.push((message, record.id(), record.keys().map(str::to_owned).collect()));
        }
    }
    all
}

fn strip(found: &KeyFound) -> Message {
    assert_eq!(found.place.bytes as usize, found.record.len());
    (found.topic, found.queue, found.offset, found.place.stored, found.record.clone())
}

fn search(
    store: &Store,
    disk: &LyingDisk,
    query: &KeyQuery,
    times: (Timestamp, Timestamp),
    budget: KeyBudget,
) -> Vec<Message> {
    let (mut from, mut found) = (LogPlace::default(), Vec::new());
    loop {
        let answer: KeyAnswer =
            store.key_search(query.clone(), times, from).run(disk, budget).unwrap();
        assert_eq!(answer.unreadable, []);
        found.extend(answer.found.iter().map(strip));
        let Some(next) = answer.next else { return found };
        assert!(next > from || next == from && !answer.found.is_empty(), "it goes on");
        assert_eq!(LogPlace::from_u64(next.to_u64()), next);
        from = next;
    }
}

fn at_time(store: &Store, disk: &LyingDisk, queue: (TopicId, QueueIndex), time: u64) -> u64 {
    let mut sought = store.offset_at(queue.0, queue.1, Timestamp(time));
    loop {
        match sought {
            Sought::At(offset) => return offset.0,
            Sought::Read(search) => sought = search.run(disk, 1).unwrap(),
        }
    }
}

/// Ids and every key, in any portions and spans of time, and every time are found exactly.
pub(crate) fn check(store: &Store, disk: &LyingDisk, model: &Model, random: &mut Random) {
    let entries = model.up_to(store.synced_group());
    let all = messages(model, entries);
    let first = random.below(all.len().max(50) as u64 / 50) as usize;
    for (message, id, _) in all.iter().skip(first).step_by(1 + all.len() / 50) {
        let found = search(store, disk, &KeyQuery::Id(*id), ALWAYS, ALL);
        assert_eq!(found, from_ref(message));
    }
    for key in 0..=KEYS {
        let (topic, key) = (TopicId(random.below(3) as u32), format!("key-{key}"));
        let newest = model.entries.last().map_or(0, |last| last.stored.0) + 2;
        let times = if random.below(2) == 0 {
            ALWAYS
        } else {
            let oldest = random.below(newest);
            (Timestamp(oldest), Timestamp(oldest + random.below(newest)))
        };
        let budget = KeyBudget { bytes: random.below(3_000), messages: random.below(4) as usize };
        let budget = if random.below(3) == 0 { ALL } else { budget };
        let expected: Vec<Message> = all
            .iter()
            .filter(|(message, _, keys)| message.0 == topic && keys.contains(&key))
            .filter(|(message, ..)| times.0 <= message.3 && message.3 <= times.1)
            .map(|(message, ..)| message.clone())
            .collect();
        let query = KeyQuery::Key { topic, key };
        assert_eq!(search(store, disk, &query, times, budget), expected, "{query:?} {times:?}");
    }
    let nobody = KeyQuery::Id(MessageId([9; 16]));
    assert_eq!(search(store, disk, &nobody, ALWAYS, ALL), []);
    for (topic, queue, _, end) in store.queues() {
        let its = |(message, ..): &&(Message, _, _)| (message.0, message.1) == (topic, queue);
        let stored: Vec<u64> = all.iter().filter(its).map(|(message, ..)| message.3.0).collect();
        assert_eq!(stored.len() as u64, end.0);
        let newest = stored.last().map_or(0, |last| last + 2);
        for time in (0..40).map(|_| random.below(newest + 1)).chain([0, newest, u64::MAX]) {
            let expected = stored.partition_point(|stored| *stored < time) as u64;
            assert_eq!(at_time(store, disk, (topic, queue), time), expected, "time {time}");
        }
    }
}

pub(crate) fn is_of_keys(io: &Io) -> bool {
    matches!(io, Io::IndexKeys { .. } | Io::WriteKeys { .. })
}

#[test]
fn whatever_is_indexed_everything_is_found() {
    let (mut files, mut rests) = (0, 0);
    for seed in 0..25 {
        let mut random = Random(seed);
        let mut rig = Rig::new(seed);
        for round in 0..4 {
            // In some rounds the key index gets no turn, or fails.
            let is_idle = random.below(3) == 0;
            for _ in 0..random.below(250) {
                if rig.store.input_budget() > 3_000 {
                    rig.append_batch(&keyed_batch(&mut random)).unwrap();
                }
                if random.below(50) == 0 {
                    rig.disk.fail_next(Fault::Replace);
                    rig.store.retry(&mut rig.io);
                }
                rig.now.0 += random.below(5);
                rig.close(false);
                while let Some(at) = rig.io.iter().position(|io| !(is_idle && is_of_keys(io))) {
                    rig.perform(at);
                }
            }
            rests += u32::from(rig.io.iter().any(is_of_keys));
            let name = |name: &FileName| matches!(name, FileName::Keys { .. });
            files += rig.disk.list().unwrap().iter().filter(|file| name(file)).count();
            check(&rig.store, &rig.disk, &rig.model, &mut random);
            if round % 2 == 1 {
                rig.crash(seed, Crash::Power);
                check(&rig.store, &rig.disk, &rig.model, &mut random);
            }
        }
    }
    assert!(files > 300 && rests > 10, "{files} files, {rests} times not indexed");
}

#[test]
fn what_waits_too_long_to_be_indexed_is_read_again() {
    let mut random = Random(5);
    let config = StoreConfig { segment_bytes: 64 << 20, ..CONFIG };
    let mut rig = Rig::on(LyingDisk::new(5), config);
    while rig.store.stats().synced.0 < 34 << 20 {
        rig.append_batch(&keyed_batch(&mut random)).unwrap();
        rig.append(&vec![1; 200_000]).unwrap();
        rig.close(false);
        while let Some(at) = rig.io.iter().position(|io| !is_of_keys(io)) {
            rig.perform(at);
        }
    }
    assert!(rig.io.iter().any(is_of_keys), "the first job waits");
    check(&rig.store, &rig.disk, &rig.model, &mut random);
    rig.settle();
    let part = FileName::Keys { segment: 0, from: 512 };
    assert!(rig.disk.contents(part).is_some());
    check(&rig.store, &rig.disk, &rig.model, &mut random);
}

/// A log of some segments, everything indexed, as it is after a start.
fn settled(segments: u64) -> Rig {
    let mut random = Random(segments);
    let mut rig = Rig::new(1);
    while rig.store.stats().segments < segments {
        rig.append_batch(&keyed_batch(&mut random)).unwrap();
        rig.now.0 += 3;
        rig.flush();
    }
    // The sidecars are used only below a checkpoint.
    rig.checkpoint();
    rig.settle();
    rig
}

fn derived(disk: &LyingDisk) -> Vec<(FileName, Vec<u8>)> {
    let is_derived = |name: &FileName| {
        matches!(name, FileName::Index(_) | FileName::Keys { .. } | FileName::Checkpoint)
    };
    let names = disk.list().unwrap().into_iter().filter(is_derived);
    names.map(|name| (name, disk.contents(name).unwrap())).collect()
}

/// Opens a copy of a disk and does all there is to do.
fn reopen(disk: LyingDisk) -> (Store, LyingDisk) {
    let saved = Store::read_checkpoint(&disk, &CONFIG).unwrap();
    let opened = open_with(&disk, CONFIG, saved.as_ref()).unwrap();
    let (mut store, mut todo) = (opened.store, opened.io);
    while !todo.is_empty() {
        let done = io::perform(&disk, &todo.remove(0));
        store.done(done, &mut todo);
    }
    (store, disk)
}

#[test]
fn what_is_deleted_is_made_again_as_it_was() {
    let rig = settled(5);
    let before = derived(&rig.disk);
    let keys = before.iter().filter(|(name, _)| matches!(name, FileName::Keys { .. }));
    assert!(keys.count() >= 12, "several parts a segment");
    let mut random = Random(1);
    for (name, _) in &before {
        let disk = rig.disk.fork();
        disk.remove(*name).unwrap();
        let (store, disk) = reopen(disk);
        if *name != FileName::Checkpoint {
            assert_eq!(derived(&disk), before, "{name}");
        }
        check(&store, &disk, &rig.model, &mut random);
    }
    let disk = rig.disk.fork();
    before.iter().for_each(|(name, _)| disk.remove(*name).unwrap());
    let (store, disk) = reopen(disk);
    let files: Vec<_> = derived(&disk);
    let kept = before.iter().filter(|(name, _)| *name != FileName::Checkpoint);
    assert!(files.iter().eq(kept), "all of them");
    check(&store, &disk, &rig.model, &mut random);
}

#[test]
fn a_search_does_not_wait_for_what_was_deleted() {
    let rig = settled(4);
    let disk = rig.disk.fork();
    let gone = |name: &FileName| matches!(name, FileName::Keys { .. });
    let names = disk.list().unwrap().into_iter().filter(gone);
    names.for_each(|name| disk.remove(name).unwrap());
    let opened = open_with(&disk, CONFIG, None).unwrap();
    check(&opened.store, &disk, &rig.model, &mut Random(1));
    // And while it runs.
    let names = rig.disk.list().unwrap().into_iter().filter(gone);
    names.for_each(|name| rig.disk.remove(name).unwrap());
    check(&rig.store, &rig.disk, &rig.model, &mut Random(2));
}

#[test]
fn derived_files_that_end_at_any_byte_are_made_again() {
    let rig = settled(2);
    let before = derived(&rig.disk);
    assert!(before.len() >= 5, "a sidecar, parts of both segments, a checkpoint");
    for (name, bytes) in &before {
        for end in 0..bytes.len() {
            let disk = rig.disk.fork();
            disk.put(*name, bytes[..end].to_vec());
            let (_, disk) = reopen(disk);
            if *name != FileName::Checkpoint {
                assert_eq!(disk.contents(*name).as_ref(), Some(bytes), "{name} of {end} bytes");
            }
        }
    }
}

#[test]
fn a_flipped_bit_of_a_derived_file_changes_no_answer() {
    let rig = settled(2);
    let mut random = Random(1);
    let all = messages(&rig.model, rig.model.entries.len());
    for (name, bytes) in derived(&rig.disk) {
        for byte in 0..bytes.len() as u64 {
            let disk = rig.disk.fork();
            disk.flip_bit(name, byte * 8 + random.below(8));
            let saved = Store::read_checkpoint(&disk, &CONFIG).unwrap();
            let store = open_with(&disk, CONFIG, saved.as_ref()).unwrap().store;
            let (message, id, _) = &all[random.below(all.len() as u64) as usize];
            let found = search(&store, &disk, &KeyQuery::Id(*id), ALWAYS, ALL);
            assert_eq!(found, from_ref(message), "{name} byte {byte}");
            let (topic, queue, offset, stored, _) = message;
            let is_its = |(other, ..): &&(Message, _, _)| (other.0, other.1) == (*topic, *queue);
            let before = |(other, ..): &&(Message, _, _)| other.3 < *stored;
            let expected = all.iter().filter(is_its).filter(before).count() as u64;
            let at = at_time(&store, &disk, (*topic, *queue), stored.0);
            assert_eq!(at, expected, "{name} byte {byte}");
            assert!(at <= offset.0);
        }
    }
}
