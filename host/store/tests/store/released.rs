//! Records that get their place by a release: read over one and over several, from memory, from
//! the disk and from sidecars, the same bytes each time.
use bytes::Bytes;
use yard_store::disk::lying::{Crash, LyingDisk};
use yard_store::{Disk, FileName, Io, IoDone, Located, LogCache, ReadError, read};
use yard_wire::record::{Flags, Record};
use yard_wire::release::{Notes, Release, Target};
use yard_wire::{QueueIndex, QueueOffset, RecordPlace, TopicId};

use crate::cache::Counting;
use crate::finding::{is_of_keys, keyed_batch};
use crate::support::{Random, Rig, batch_of, flagged_batch, open_all};

const QUEUE: (TopicId, QueueIndex) = (TopicId(1), QueueIndex(0));
const OTHER: (TopicId, QueueIndex) = (TopicId(2), QueueIndex(3));

fn place(rig: &Rig, queue: (TopicId, QueueIndex), offset: u64) -> RecordPlace {
    let places = match rig.store.locate(queue.0, queue.1, QueueOffset(offset), 1) {
        Located::Places(places) => places,
        Located::Read(wanted) => {
            let other = rig.disk.fork();
            other.remove(FileName::Index(wanted.segment)).unwrap();
            let found = read::index(&rig.disk, &wanted).unwrap();
            assert_eq!(read::index(&other, &wanted).unwrap(), found, "the segment says the same");
            found
        }
        other => panic!("{other:?}"),
    };
    places[0]
}

/// A parked record, closed and durable, and where it lies.
fn parked(rig: &mut Rig, random: &mut Random) -> Target {
    let batch = flagged_batch(random, &[((1, 0, 300), Flags::DELAYED)]);
    let appended = rig.append_batch(&batch).unwrap();
    assert!(appended.placed.is_empty(), "it has no place yet");
    rig.flush();
    *rig.parked().last().unwrap()
}

/// What a reader gets, by every way that there is.
fn read_everywhere(rig: &Rig, places: &[RecordPlace], groups: &[Io]) -> Vec<Bytes> {
    let expect = read::records(&rig.disk, places).unwrap();
    let cold = LogCache::new(0);
    let warm = LogCache::new(4 << 20);
    for io in groups {
        if let Io::WriteGroup { segment, offset, bytes, .. } = io {
            warm.put_group(*segment, *offset, bytes.clone());
        }
    }
    for cache in [&cold, &warm] {
        let mut found = Vec::new();
        cache.read(&rig.disk, places, |record| found.push(record.to_vec())).unwrap();
        assert_eq!(found, expect);
    }
    if !groups.is_empty() {
        let mut found = Vec::new();
        let records = warm.find(places).expect("all groups are in memory");
        records.each(places, |record| found.push(record.to_vec())).unwrap();
        assert_eq!(found, expect);
    }
    for (record, place) in expect.iter().zip(places) {
        assert_eq!(record.len(), place.bytes as usize, "budgets hold");
    }
    expect
}

#[test]
fn a_release_gives_a_place_and_its_readers_the_record() {
    let mut random = Random(1);
    let mut rig = Rig::new(1);
    let mut groups = Vec::new();
    let mut flush = |rig: &mut Rig| {
        rig.settle();
        while rig.close(false).is_some() {
            groups.extend(rig.io.iter().cloned());
            rig.settle();
        }
    };
    let batch =
        [((1, 0, 10), Flags::NONE), ((1, 0, 300), Flags::DELAYED), ((1, 0, 5), Flags::NONE)];
    let batch = flagged_batch(&mut random, &batch);
    let appended = rig.append_batch(&batch).unwrap();
    assert_eq!((appended.placed.len(), appended.placed[0].count), (1, 2));
    assert_eq!(rig.store.take_parked(), [], "not before its group is closed");
    flush(&mut rig);
    let target = rig.parked()[0];
    rig.append_releases(&[Release::new(target, QUEUE, Notes::default())]);
    flush(&mut rig);
    let first = place(&rig, QUEUE, 2);
    assert!(first.released && first.bytes == target.bytes);
    // To another queue with notes: over the first release, and straight.
    let notes = Notes::new([("$dead.group", "g"), ("$dead.reason", "late")]);
    rig.append_releases(&[
        Release::new(first.into(), OTHER, notes.clone()),
        Release::new(target, OTHER, notes.clone()),
    ]);
    flush(&mut rig);
    let again = Release::new(place(&rig, OTHER, 0).into(), OTHER, Notes::new([("again", "1")]));
    rig.append_releases(&[again]);
    flush(&mut rig);
    let plain = place(&rig, QUEUE, 1);
    let dead = [0, 1, 2].map(|offset| place(&rig, OTHER, offset));
    let found = read_everywhere(&rig, &[first, plain, dead[0], dead[1], dead[2]], &groups);
    let records: Vec<Bytes> = batch.records().map(|record| record.bytes().clone()).collect();
    assert_eq!(found[..2], [records[1].clone(), records[2].clone()], "byte for byte");
    assert_eq!(found[2], found[3], "one way is as good as two");
    let last = Record::parse(found[4].clone()).unwrap();
    let stored = Record::parse(records[1].clone()).unwrap();
    assert_eq!((last.topic(), last.queue()), OTHER);
    assert_eq!((last.id(), last.body()), (stored.id(), stored.body()));
    let properties: Vec<_> = last.properties().collect();
    assert_eq!(properties, [("again", "1"), ("$dead.group", "g"), ("$dead.reason", "late")]);
}

/// Appends until keys are to be collected: that job, which nobody has done.
fn keys_job(rig: &mut Rig, random: &mut Random) -> Io {
    let is_job = |io: &Io| matches!(io, Io::IndexKeys { .. });
    while !rig.io.iter().any(is_job) {
        rig.append_batch(&keyed_batch(random)).unwrap();
        rig.close(false);
        while let Some(at) = rig.io.iter().position(|io| !is_of_keys(io)) {
            rig.perform(at);
        }
    }
    let at = rig.io.iter().position(is_job).expect("it was there just now");
    rig.io.remove(at)
}

/// Else nobody would ever find it by its id.
#[test]
fn a_released_record_that_cannot_be_read_now_is_indexed_later() {
    let mut random = Random(8);
    let mut rig = Rig::new(8);
    let target = parked(&mut rig, &mut random);
    rig.append_releases(&[Release::new(target, QUEUE, Notes::default())]);
    let job = keys_job(&mut rig, &mut random);
    let disk = rig.disk.fork();
    let bytes = u64::from(target.offset)..u64::from(target.offset + target.bytes);
    disk.spoil(FileName::Segment(target.segment), bytes);
    assert_eq!(yard_store::io::perform(&disk, &job), IoDone::IndexKeysFailed);
    assert!(matches!(yard_store::io::perform(&rig.disk, &job), IoDone::KeysIndexed { .. }));
}

/// What is passed on in thousands is indexed in a few reads, and one that is damaged is missing
/// alone.
#[test]
fn many_released_records_are_indexed_together() {
    const MANY: usize = 200;
    let mut random = Random(9);
    let mut rig = Rig::new(9);
    rig.append_batch(&flagged_batch(&mut random, &[((1, 0, 50), Flags::DELAYED); MANY])).unwrap();
    rig.flush();
    let targets = rig.parked().to_vec();
    assert_eq!(targets.len(), MANY);
    // Not in the order in which they lie.
    let release = |at: usize| Release::new(targets[at * 7 % MANY], QUEUE, Notes::default());
    rig.append_releases(&(0..MANY).map(release).collect::<Vec<Release>>());
    let job = keys_job(&mut rig, &mut random);
    let run_bytes = |disk: &dyn Disk| match yard_store::io::perform(disk, &job) {
        IoDone::KeysIndexed { run } => run.bytes().len(),
        other => panic!("{other:?}"),
    };
    let counting = Counting::new(&rig.disk);
    let whole = run_bytes(&counting);
    assert!(counting.reads() < 10, "{} reads", counting.reads());
    let without = |damaged: &[usize]| {
        let disk = rig.disk.fork();
        damaged.iter().for_each(|at| flip(&disk, targets[*at].offset as usize + 40));
        whole - run_bytes(&disk)
    };
    let one = without(&[5]);
    assert!(one > 0, "it is missing");
    assert_eq!([without(&[150]), without(&[1, 2, 99])], [one, 3 * one], "and no other");
}

#[test]
fn segments_know_what_their_releases_refer_to() {
    let mut random = Random(2);
    let mut rig = Rig::new(2);
    let target = parked(&mut rig, &mut random);
    assert!(target.segment == 0 && !rig.store.is_referred_below(1));
    let fill = |rig: &mut Rig, random: &mut Random| {
        let segments = rig.store.stats().segments;
        while rig.store.stats().segments == segments {
            rig.append_batch(&batch_of(random, &[(1, 1, 9_000)])).unwrap();
            rig.flush();
        }
    };
    fill(&mut rig, &mut random);
    fill(&mut rig, &mut random);
    rig.append_releases(&[Release::new(target, QUEUE, Notes::default())]);
    rig.flush();
    let released_in = place(&rig, QUEUE, 0).segment;
    assert_eq!(released_in, 2);
    let check = |rig: &Rig| {
        let referred = (0..=released_in + 1).map(|until| rig.store.is_referred_below(until));
        assert_eq!(referred.collect::<Vec<bool>>(), [false, true, true, false]);
    };
    check(&rig);
    fill(&mut rig, &mut random);
    fill(&mut rig, &mut random);
    check(&rig);
    rig.checkpoint();
    rig.settle();
    // Sealed by now: from a sidecar, with a checkpoint and without, with sidecars and without.
    assert_eq!(read_everywhere(&rig, &[place(&rig, QUEUE, 0)], &[]).len(), 1);
    for seed in 0..2 {
        rig.crash(seed, Crash::Power);
        check(&rig);
        for segment in 0..3 {
            rig.disk.remove(FileName::Index(segment)).unwrap();
        }
        rig.crash(seed, Crash::Process);
        check(&rig);
    }
}

#[test]
fn a_damaged_release_or_target_is_an_error_of_that_record_only() {
    let mut random = Random(3);
    let mut rig = Rig::new(3);
    let target = parked(&mut rig, &mut random);
    rig.append_batch(&batch_of(&mut random, &[(1, 0, 40)])).unwrap();
    rig.append_releases(&[Release::new(target, QUEUE, Notes::new([("a", "b")]))]);
    rig.flush();
    let released = place(&rig, QUEUE, 1);
    for (at, bytes) in [(released.offset, 28 + 6), (target.offset, target.bytes)] {
        for at in at..at + bytes {
            let disk = rig.disk.fork();
            flip(&disk, at as usize);
            let places = [released];
            let error = read::records(&disk, &places).unwrap_err();
            assert!(matches!(error, ReadError::Damaged { .. }), "{at}: {error}");
            let error = LogCache::new(0).read(&disk, &places, |_| {}).unwrap_err();
            assert!(matches!(error, ReadError::Damaged { .. }), "{at}: {error}");
            read::records(&disk, &[place(&rig, QUEUE, 0)]).unwrap();
        }
    }
}

fn flip(disk: &LyingDisk, at: usize) {
    let mut contents = disk.contents(FileName::Segment(0)).unwrap();
    contents[at] ^= 1;
    disk.put(FileName::Segment(0), contents);
}

#[test]
fn releases_torn_at_any_byte_are_there_whole_or_not_at_all() {
    let mut random = Random(4);
    let mut rig = Rig::new(4);
    let target = parked(&mut rig, &mut random);
    let before = rig.model.entries.len();
    let start = rig.store.stats().appended.0 as usize;
    let release = |notes| Release::new(target, QUEUE, notes);
    rig.append_releases(&[release(Notes::default()), release(Notes::new([("a", "b")]))]);
    rig.close(false).unwrap();
    let Some(Io::WriteGroup { bytes, .. }) = rig.io.last().cloned() else { panic!("a write") };
    let mut whole = 0;
    for written in 0..=bytes.len() {
        let disk = rig.disk.fork();
        let mut contents = disk.contents(FileName::Segment(0)).unwrap();
        contents[start..start + written].copy_from_slice(&bytes[..written]);
        disk.put(FileName::Segment(0), contents);
        let found = open_all(&disk).unwrap();
        let span = found.store.queue_span(QUEUE.0, QUEUE.1).1;
        let entries = found.entries.len() - before;
        assert_eq!(span.0, 2 * entries as u64, "{written} bytes");
        assert_eq!(found.entries, rig.model.entries[..found.entries.len()]);
        whole += entries;
    }
    assert!(whole >= 1, "written whole it is there");
}
