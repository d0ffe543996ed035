//! Damage to what was durable: exactly the records that were hit are missing, each is reported,
//! and no byte is given out that was not stored.
//!
//! Each test takes a slice; `YARD_DAMAGE_CASES` says how many cases the random ones try instead.
use std::collections::{BTreeMap, VecDeque};

use yard_store::disk::lying::{Crash, LyingDisk};
use yard_store::{
    BATCH, Disk, FileName, GapCause, Located, OpenError, Recovered, Repair, Store, StoreConfig,
    read,
};
use yard_wire::batch::{self, Batch, BatchHeader};
use yard_wire::record::RecordParts;
use yard_wire::{QueueIndex, QueueOffset, RecordPlace, Timestamp, TopicId};

use crate::support::{CONFIG, Random, Rig, batch_of, constant_batch, open_with, some_batch};

type Queue = (TopicId, QueueIndex);

/// How many random cases a test tries.
fn cases(ordinary: u64) -> u64 {
    let told = std::env::var("YARD_DAMAGE_CASES").ok().and_then(|text| text.parse().ok());
    told.unwrap_or(ordinary)
}

/// A log that is whole: what it holds and where.
struct Whole {
    rig: Rig,
    /// Bytes and time of every record, and where it lies.
    records: BTreeMap<(Queue, QueueOffset), (RecordPlace, bytes::Bytes)>,
}

impl Whole {
    fn of(rig: Rig) -> Self {
        let mut records = BTreeMap::new();
        for (topic, queue, first, end) in rig.store.queues() {
            let mut from = first;
            while from < end {
                let places = locate(&rig.store, &rig.disk, (topic, queue), from).unwrap();
                for place in places {
                    let bytes = read::records(&rig.disk, &[place]).unwrap().remove(0);
                    records.insert(((topic, queue), from), (place, bytes));
                    from.0 += 1;
                }
            }
        }
        Self { rig, records }
    }

    /// Opens a damaged copy and holds what it serves against what was stored. `hit` says which
    /// records may be missing: each that is not must be there.
    fn check(&self, disk: &LyingDisk, hit: &dyn Fn(&RecordPlace) -> bool, case: &str) -> Seen {
        let before: Vec<_> = segments(disk);
        let saved = Store::read_checkpoint(disk, &CONFIG).unwrap();
        let opened = open_with(disk, CONFIG, saved.as_ref());
        let opened = opened.unwrap_or_else(|error| panic!("{case}: refused: {error}"));
        let mut seen = Seen { missing: 0, repairs: opened.repairs, entries: opened.entries };
        for ((queue, offset), (place, bytes)) in &self.records {
            match locate(&opened.store, disk, *queue, *offset) {
                Ok(places) => {
                    let found = &places[0];
                    // A group whose header is gone does not say when it was stored.
                    let is_exact = found.stored == place.stored;
                    assert!(is_exact || hit(place), "{case}: {queue:?} {offset}: time");
                    match read::records(disk, &[*found]) {
                        Ok(found) => {
                            assert!(found[0] == *bytes, "{case}: {queue:?} {offset}: wrong bytes");
                        }
                        Err(error) => {
                            assert!(hit(place), "{case}: {queue:?} {offset}: {error}");
                            seen.missing += 1;
                        }
                    }
                }
                Err(Located::Gap { until, why: GapCause::Damaged }) => {
                    assert!(hit(place), "{case}: {queue:?} {offset} is lost: {:?}", seen.repairs);
                    // A sealed segment's index knows it without looking at the log again.
                    let told = seen.reports(*queue, *offset) || seen.quarantined() == 0;
                    assert!(until > *offset && told, "{case}: unreported");
                    seen.missing += 1;
                }
                // That there was something behind what is left, nothing may say any more.
                Err(Located::End) if hit(place) && seen.has_lost_an_end() => seen.missing += 1,
                Err(other) => panic!("{case}: {queue:?} {offset}: {other:?} {:?}", seen.repairs),
            }
        }
        for entry in &seen.entries {
            let known = self.rig.model.entries.iter().any(|it| same(it, entry));
            assert!(known, "{case}: an entry that was not appended: {entry:?}");
        }
        let after = segments(disk);
        let end = opened.store.stats().appended.0;
        for (at, (name, bytes)) in (0..).zip(before) {
            // Behind the last group may be torn ones, and a segment that was prepared.
            let kept = end.saturating_sub(at * CONFIG.segment_bytes).min(bytes.len() as u64);
            let now = after.iter().find(|(other, _)| *other == name);
            let kept = kept as usize;
            assert!(kept == 0 || now.unwrap().1[..kept] == bytes[..kept], "{case}: changed");
        }
        seen
    }
}

/// What an opening gave.
#[derive(Debug)]
struct Seen {
    missing: u64,
    repairs: Vec<Repair>,
    entries: Vec<Recovered>,
}

impl Seen {
    fn quarantined(&self) -> usize {
        let is = |repair: &&Repair| matches!(repair, Repair::Quarantined { .. });
        self.repairs.iter().filter(is).count()
    }

    fn is_torn(&self) -> bool {
        let is = |repair: &Repair| {
            matches!(repair, Repair::TailZeroed { .. } | Repair::SegmentRemoved { .. })
        };
        self.repairs.iter().any(is)
    }

    fn has_lost_an_end(&self) -> bool {
        let is = |repair: &Repair| match repair {
            Repair::FileCut { .. } => true,
            Repair::Quarantined { what, .. } => {
                let gone = ["groups are missing", "the file has lost its end"];
                gone.contains(what) || *what == "the disk cannot read this"
            }
            _ => false,
        };
        self.is_torn() || self.repairs.iter().any(is)
    }

    fn reports(&self, queue: Queue, offset: QueueOffset) -> bool {
        let lists = self.repairs.iter().filter_map(|repair| match repair {
            Repair::Quarantined { lost, .. } => Some(lost),
            _ => None,
        });
        let mut lost = lists.flatten();
        lost.any(|it| (it.topic, it.queue) == queue && it.from <= offset && offset < it.to)
    }
}

/// As they were appended; of a batch the bytes may be damaged, not what is said of it.
fn same(appended: &Recovered, found: &Recovered) -> bool {
    let payload = found.kind == BATCH || appended.payload == found.payload;
    let head = (appended.kind, appended.tenant, &appended.placed, appended.group);
    payload && head == (found.kind, found.tenant, &found.placed, found.group)
}

fn segments(disk: &LyingDisk) -> Vec<(FileName, Vec<u8>)> {
    let names = disk.list().unwrap().into_iter();
    let names = names.filter(|name| matches!(name, FileName::Segment(_)));
    names.map(|name| (name, disk.contents(name).unwrap())).collect()
}

fn locate(
    store: &Store,
    disk: &LyingDisk,
    (topic, queue): Queue,
    from: QueueOffset,
) -> Result<Vec<RecordPlace>, Located> {
    match store.locate(topic, queue, from, 1) {
        Located::Places(places) => Ok(places),
        Located::Read(wanted) => Ok(read::index(disk, &wanted).unwrap()),
        other => Err(other),
    }
}

/// One more group.
fn grow(rig: &mut Rig, random: &mut Random) {
    rig.append(&[7; 40]).unwrap();
    for _ in 0..1 + random.below(3) {
        rig.append_batch(&some_batch(random)).unwrap();
        if random.below(3) == 0 {
            rig.append(&[8; 3]).unwrap();
        }
    }
    rig.flush();
}

/// Groups of batches and decisions, the last one proven.
fn log(seed: u64, segments: u64, checkpoints: bool) -> Whole {
    let mut random = Random(seed);
    let mut rig = Rig::new(seed);
    loop {
        grow(&mut rig, &mut random);
        if checkpoints && rig.store.checkpoint_due() {
            rig.checkpoint();
        }
        if segments > 0 && rig.store.stats().segments > segments {
            break;
        }
        if segments == 0 && rig.store.stats().groups >= 6 {
            break;
        }
    }
    rig.close(true).unwrap();
    rig.settle();
    Whole::of(rig)
}

#[test]
fn of_every_bit_of_a_log_only_the_record_with_it_is_lost() {
    let whole = log(3, 0, false);
    let end = whole.rig.store.stats().appended.0;
    let name = FileName::Segment(0);
    let (mut missing, mut reported, mut decisions) = (0, 0, 0);
    // The last group is an empty one, that is torn when it is damaged.
    let proven = end - 128;
    // A stride that is odd meets every bit of a byte.
    let stride = if cases(0) == 0 { 13 } else { 1 };
    for bit in (0..proven * 8).step_by(stride) {
        let disk = whole.rig.disk.fork();
        assert!(disk.flip_bit(name, bit));
        let hit = |place: &RecordPlace| {
            let (begin, byte) = (u64::from(place.offset), bit / 8);
            (begin..begin + u64::from(place.bytes)).contains(&byte)
        };
        let seen = whole.check(&disk, &hit, &format!("bit {bit} of byte {}", bit / 8));
        let expect = u64::from(whole.records.values().any(|(place, _)| hit(place)));
        assert_eq!(seen.missing, expect, "bit {bit}: {:?}", seen.repairs);
        let of = |entries: &[Recovered]| entries.iter().filter(|it| it.kind != BATCH).count();
        let lost = of(&whole.rig.model.entries) - of(&seen.entries);
        assert!(lost <= 1 && (lost == 0 || expect == 0), "bit {bit}");
        decisions += lost;
        missing += seen.missing;
        reported += seen.quarantined();
    }
    let bits = proven * 8 / stride as u64;
    println!("{bits} bits: {missing} records, {decisions} decisions missing");
    assert!(reported as u64 >= missing + decisions as u64);
    assert!(missing > bits / 4 && decisions as u64 > bits / 100, "{missing} {decisions}");
}

#[test]
fn of_bits_of_any_file_only_the_record_with_it_is_lost() {
    let whole = log(4, 3, true);
    let names = whole.rig.disk.list().unwrap();
    let mut random = Random(9);
    let (mut missing, mut reported) = (0, 0);
    for case in 0..cases(400) {
        let name = names[random.below(names.len() as u64) as usize];
        let bytes = whole.rig.disk.len(name).unwrap();
        let bit = random.below(bytes * 8);
        let disk = whole.rig.disk.fork();
        assert!(disk.flip_bit(name, bit));
        if case % 2 == 0 {
            // Then every segment is looked at, not only those that no sidecar vouches for.
            disk.remove(FileName::Checkpoint).unwrap();
        }
        let hit = |place: &RecordPlace| {
            let (begin, byte) = (u64::from(place.offset), bit / 8);
            name == FileName::Segment(place.segment)
                && (begin..begin + u64::from(place.bytes)).contains(&byte)
        };
        let seen = whole.check(&disk, &hit, &format!("case {case}: {name} bit {bit}"));
        let expect = u64::from(whole.records.values().any(|(place, _)| hit(place)));
        assert_eq!(seen.missing, expect, "{name} bit {bit}");
        missing += seen.missing;
        reported += seen.quarantined();
    }
    assert!(missing > 0 && reported > 0, "{missing} {reported}");
}

#[test]
fn whole_sectors_lose_what_was_in_them_or_behind_and_never_serve_wrong_bytes() {
    let whole = log(5, 2, true);
    let mut random = Random(10);
    for case in 0..cases(200) {
        let segment = random.below(3) as u32;
        let name = FileName::Segment(segment);
        let at = (random.below(CONFIG.segment_bytes / 512) * 512) as usize;
        let disk = whole.rig.disk.fork();
        let mut bytes = disk.contents(name).unwrap();
        let garbage = random.below(2) == 0;
        bytes[at..at + 512].fill_with(|| if garbage { random.next() as u8 } else { 0 });
        disk.put(name, bytes);
        // How much a group loses depends on what of it is left; other segments lose nothing.
        let hit = |place: &RecordPlace| place.segment == segment;
        whole.check(&disk, &hit, &format!("case {case}: {name} at {at}"));
    }
}

#[test]
fn a_block_that_cannot_be_read_loses_what_was_in_its_groups() {
    let Whole { mut rig, .. } = log(5, 2, true);
    (0..6).for_each(|seed| grow(&mut rig, &mut Random(seed)));
    let whole = Whole::of(rig);
    let mut missing = 0;
    for name in whole.rig.disk.list().unwrap() {
        let bytes = whole.rig.disk.contents(name).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
        for at in (0..used).step_by(1_536) {
            let disk = whole.rig.disk.fork();
            disk.spoil(name, at..at + 1);
            // A disk is read in blocks of 4 KiB.
            let (from, to) = (at / 4_096 * 4_096, at / 4_096 * 4_096 + 4_096);
            let reached = match name {
                FileName::Segment(0..=2) => groups(&bytes),
                // One that is prepared holds none.
                _ => Vec::new(),
            };
            let reached = reached.into_iter().filter(|(begin, end)| *begin < to && from < *end);
            let reached: Vec<_> = reached.collect();
            let hit = |place: &RecordPlace| {
                let of = |(begin, end): &(u64, u64)| (*begin..*end).contains(&place.offset.into());
                FileName::Segment(place.segment) == name && reached.iter().any(of)
            };
            let seen = whole.check(&disk, &hit, &format!("{name} at {at}"));
            let says_so = |repair: &Repair| match repair {
                Repair::Quarantined { segment, offset, bytes: 4_096, what, .. } => {
                    let place = (FileName::Segment(*segment), *offset);
                    place == (name, from) && *what == "the disk cannot read this"
                }
                _ => false,
            };
            let is_log = matches!(name, FileName::Segment(_));
            // Of the first two, which have indexes, nothing but their heads is read, and of the
            // second the block with its first group: whether that follows the first segment.
            let is_told = seen.repairs.iter().any(says_so);
            let is_read = match name {
                FileName::Segment(0) => at < 512,
                FileName::Segment(1) => at < 4_096,
                _ => true,
            };
            assert_eq!(is_told, is_log && is_read, "{name} at {at}: {:?}", seen.repairs);
            missing += seen.missing;
            let again = open_with(&disk, CONFIG, None).unwrap();
            assert!(again.entries.len() <= whole.rig.model.entries.len());
        }
    }
    assert!(missing > 100, "{missing}");
}

#[test]
fn what_was_lost_stays_known_and_the_log_goes_on() {
    let whole = log(6, 2, true);
    let (_, (place, _)) = whole
        .records
        .iter()
        .find(|(_, (place, _))| place.segment == 2)
        .expect("the last segment holds records");
    let disk = whole.rig.disk.fork();
    disk.flip_bit(FileName::Segment(2), u64::from(place.offset + place.bytes - 1) * 8);
    let hit = |it: &RecordPlace| it == place;
    let first = whole.check(&disk, &hit, "first");
    assert_eq!((first.missing, first.quarantined()), (1, 1), "{:?}", first.repairs);
    let again = whole.check(&disk, &hit, "again");
    assert_eq!(first.repairs, again.repairs, "nothing was changed, so the same is found");
    // Sealed, the segment's index knows what is lost.
    let saved = Store::read_checkpoint(&disk, &CONFIG).unwrap();
    let opened = open_with(&disk, CONFIG, saved.as_ref()).unwrap();
    let (store, io) = (opened.store, opened.io);
    let model = whole.rig.model.clone();
    let (now, repairs) = (Timestamp(whole.rig.now.0), Vec::new());
    let mut rig = Rig { disk, store, io, model, now, repairs, gathered: VecDeque::new() };
    let mut random = Random(1);
    while rig.store.stats().segments < 5 {
        rig.append_batch(&batch_of(&mut random, &[(9, 9, 4_000)])).unwrap();
        rig.flush();
        if rig.store.checkpoint_due() {
            rig.checkpoint();
        }
    }
    rig.settle();
    rig.disk.crash(1, Crash::Power);
    let later = whole.check(&rig.disk, &hit, "later");
    assert_eq!((later.missing, later.quarantined()), (1, 0), "{:?}", later.repairs);
}

/// A body that holds a record, an entry of a decision and a group, each as the log would have it.
fn forged(salt: u64, queue: (u32, u16)) -> Vec<u8> {
    let whole = log(11, 0, false);
    let mut bytes = whole.rig.disk.contents(FileName::Segment(0)).unwrap();
    let end = whole.rig.store.stats().appended.0 as usize;
    bytes.truncate(end);
    bytes.drain(..512);
    for at in (0..bytes.len())
        .step_by(64)
        .filter(|at| bytes[*at..].starts_with(b"YGRP"))
        .collect::<Vec<_>>()
    {
        bytes[at + 8..at + 16].copy_from_slice(&salt.to_le_bytes());
    }
    let body = &batch_of(&mut Random(1), &[(queue.0, queue.1, 50)]).bytes()[48..].to_vec();
    [body.as_slice(), &bytes, body].concat()
}

#[test]
fn what_clients_forge_in_bodies_is_never_served_as_something_of_its_own() {
    let mut random = Random(12);
    let mut rig = Rig::new(12);
    rig.settle();
    let head = rig.disk.contents(FileName::Segment(0)).unwrap();
    let salt = u64::from_le_bytes(head[32..40].try_into().unwrap());
    for salt in [salt ^ 1, salt, salt ^ 2] {
        for queue in [(1, 0), (2, 3)] {
            let body = forged(salt, queue);
            let mut bytes = Vec::new();
            for body in [&body[..], b"between", &body[..], b"after"] {
                let (topic, queue) = (TopicId(queue.0), QueueIndex(queue.1));
                let parts = RecordParts { topic, queue, body, ..RecordParts::default() };
                parts.encode(&mut bytes).unwrap();
            }
            let header = BatchHeader { shard: CONFIG.shard, ..BatchHeader::default() };
            let batch = Batch::parse(batch::encode(&header, 4, &bytes)).unwrap();
            rig.append_batch(&batch).unwrap();
            rig.append(b"decided").unwrap();
            rig.flush();
        }
    }
    rig.close(true).unwrap();
    rig.settle();
    let end = rig.store.stats().appended.0;
    let whole = Whole::of(rig);
    let mut missing = 0;
    for case in 0..cases(300) {
        let bit = 512 * 8 + random.below((end - 512 - 128) * 8);
        let disk = whole.rig.disk.fork();
        disk.flip_bit(FileName::Segment(0), bit);
        // A header of a record may hide the rest of its batch: there are two ways to read it.
        let hit = |place: &RecordPlace| {
            let (begin, byte) = (u64::from(place.offset), bit / 8);
            let reach = begin.saturating_sub(64 << 10)..begin + u64::from(place.bytes);
            reach.contains(&byte)
        };
        missing += whole.check(&disk, &hit, &format!("case {case}: bit {bit}")).missing;
    }
    assert!(missing > 0);
}

#[test]
fn a_head_that_is_damaged_is_known_otherwise() {
    let whole = log(7, 2, true);
    for segment in 0..3 {
        for byte in [0, 9, 11, 13, 20, 25, 33, 200, 510] {
            let disk = whole.rig.disk.fork();
            disk.flip_bit(FileName::Segment(segment), byte * 8);
            let seen = whole.check(&disk, &|_| false, &format!("segment {segment} byte {byte}"));
            assert_eq!(seen.quarantined(), 1);
        }
    }
    let missing = |segment| {
        let disk = whole.rig.disk.fork();
        disk.remove(FileName::Segment(segment)).unwrap();
        let saved = Store::read_checkpoint(&disk, &CONFIG).unwrap();
        open_with(&disk, CONFIG, saved.as_ref()).map(|_| ()).unwrap_err()
    };
    assert!(matches!(missing(1), OpenError::Missing { segment: 1 }));
}

/// Where the groups of a segment begin, and where they end but for their padding.
pub(crate) fn groups(segment: &[u8]) -> Vec<(u64, u64)> {
    let mut groups = Vec::new();
    let mut at = 512;
    while segment[at..].starts_with(b"YGRP") {
        let payload = u32::from_le_bytes(segment[at + 48..at + 52].try_into().unwrap());
        let end = at + 64 + payload as usize + 32;
        groups.push((at as u64, end as u64));
        at = end.next_multiple_of(64);
    }
    assert!(groups.len() > 3, "a segment of a log");
    groups
}

#[test]
fn a_last_segment_that_was_cut_off_ends_with_its_last_whole_group() {
    let Whole { mut rig, .. } = log(8, 2, true);
    (0..6).for_each(|seed| grow(&mut rig, &mut Random(seed)));
    let whole = Whole::of(rig);
    let name = FileName::Segment(2);
    let bytes = whole.rig.disk.contents(name).unwrap();
    let all = groups(&bytes);
    let end = all[all.len() - 1].1 as usize;
    let stride = if cases(0) == 0 { 61 } else { 1 };
    let lengths = (0..end + 200).step_by(stride).chain([511, 512, 513, bytes.len() - 1]);
    for (case, length) in (0..).zip(lengths) {
        let cut = length as u64;
        let whole_end = all.iter().map(|(_, end)| *end).rfind(|end| *end <= cut);
        let hit = |place: &RecordPlace| {
            place.segment == 2 && u64::from(place.offset) >= whole_end.unwrap_or(0)
        };
        for is_seen in [false, true] {
            let disk = whole.rig.disk.fork();
            disk.put(name, bytes[..length].to_vec());
            if !is_seen {
                disk.remove(FileName::Checkpoint).unwrap();
            }
            let text = format!("cut at {length}, checkpoint: {is_seen}");
            let seen = whole.check(&disk, &hit, &text);
            let torn = whole.records.values().filter(|(place, _)| hit(place)).count() as u64;
            // What a checkpoint has seen may be told apart record by record.
            assert!(seen.missing == torn || is_seen && seen.missing < torn, "{text}: {seen:?}");
            disk.crash(case, Crash::Power);
            let saved = Store::read_checkpoint(&disk, &CONFIG).unwrap();
            let again = open_with(&disk, CONFIG, saved.as_ref()).unwrap();
            let is_torn = |it: &Repair| matches!(it, Repair::TailZeroed { .. });
            assert!(!again.repairs.iter().any(is_torn), "{text}: mended durably");
            assert_eq!(again.entries, seen.entries, "{text}");
            goes_on(disk);
        }
    }
}

/// The log on the disk takes a message and has it after the next start.
fn goes_on(disk: LyingDisk) {
    let saved = Store::read_checkpoint(&disk, &CONFIG).unwrap();
    let opened = open_with(&disk, CONFIG, saved.as_ref()).unwrap();
    let (store, io) = (opened.store, opened.io);
    let (model, now) = (crate::support::Model::default(), Timestamp(1_000_000));
    let mut rig =
        Rig { disk, store, io, model, now, repairs: Vec::new(), gathered: VecDeque::new() };
    rig.append_batch(&batch_of(&mut Random(1), &[(9, 9, 4_000)])).unwrap();
    rig.flush();
    rig.disk.crash(1, Crash::Power);
    let opened = open_with(&rig.disk, CONFIG, saved.as_ref()).unwrap();
    assert!(opened.entries.ends_with(&rig.model.entries), "{:?}", opened.repairs);
}

#[test]
fn a_sealed_segment_that_was_cut_off_loses_what_was_behind_and_tells() {
    let whole = log(9, 2, true);
    let lost = cut_off(&whole, 0, 997) + cut_off(&whole, 1, 97);
    assert!(lost > 1_000, "{lost}");
}

/// Cuts a sealed segment at many places; how many records were lost by it.
fn cut_off(whole: &Whole, segment: u32, stride: usize) -> u64 {
    let name = FileName::Segment(segment);
    let bytes = whole.rig.disk.contents(name).unwrap();
    let all = groups(&bytes);
    let end = all[all.len() - 1].1 as usize;
    let stride = if cases(0) == 0 { stride } else { 1 };
    let mut missing = 0;
    for length in (0..end + 200).step_by(stride).chain([511, 512, 513, bytes.len() - 1]) {
        let hit = |place: &RecordPlace| {
            place.segment == segment && u64::from(place.offset + place.bytes) > length as u64
        };
        // With the witnesses that a log has, and without them.
        for removed in [
            &[][..],
            &[FileName::Index(segment)],
            &[FileName::Checkpoint],
            &[FileName::Checkpoint, FileName::Index(segment)],
        ] {
            let disk = whole.rig.disk.fork();
            disk.put(name, bytes[..length].to_vec());
            removed.iter().for_each(|name| disk.remove(*name).unwrap());
            let text = format!("cut at {length} without {removed:?}");
            let seen = whole.check(&disk, &hit, &text);
            let gone = whole.records.values().filter(|(place, _)| hit(place)).count() as u64;
            assert_eq!(seen.missing, gone, "{text}: {:?}", seen.repairs);
            assert!(gone == 0 || seen.quarantined() > 0, "{text}: {:?}", seen.repairs);
            assert_eq!(disk.len(name).unwrap(), length as u64, "nothing was changed");
            missing += gone;
        }
    }
    missing
}

/// However long a hole in the log is: behind it may be what was durable.
#[test]
fn what_lies_behind_many_zeros_is_neither_missed_nor_written_over() {
    const ZEROS: usize = 66 << 20;
    let config = StoreConfig { segment_bytes: 96 << 20, ..CONFIG };
    let mut rig = Rig::on(LyingDisk::new(3), config);
    let append = |rig: &mut Rig, batch: &Batch| {
        let appended = rig.append_batch(batch).unwrap();
        rig.flush();
        appended.placed[0].first
    };
    let (small, large) = (constant_batch(1, 0, &[1; 9]), constant_batch(1, 0, &[2; 4 << 20]));
    append(&mut rig, &small);
    while rig.store.stats().appended.0 < ZEROS as u64 + (1 << 20) {
        append(&mut rig, &large);
    }
    let (last, queue) = (append(&mut rig, &small), (TopicId(1), QueueIndex(0)));
    rig.close(true).unwrap();
    rig.settle();
    let place = locate(&rig.store, &rig.disk, queue, last).unwrap()[0];
    let name = FileName::Segment(0);
    let mut bytes = rig.disk.contents(name).unwrap();
    let from = groups(&bytes)[1].0 as usize;
    bytes[from..from + ZEROS].fill(0);
    rig.disk.put(name, bytes);
    let opened = open_with(&rig.disk, config, None).unwrap();
    assert_eq!(
        opened.store.queue_span(queue.0, queue.1),
        (QueueOffset(0), QueueOffset(last.0 + 1))
    );
    assert_eq!(locate(&opened.store, &rig.disk, queue, last).unwrap()[0], place);
    let gap = locate(&opened.store, &rig.disk, queue, QueueOffset(1)).unwrap_err();
    assert!(matches!(gap, Located::Gap { why: GapCause::Damaged, .. }), "{gap:?}");
    let is_torn = |it: &Repair| matches!(it, Repair::TailZeroed { .. });
    assert!(!opened.repairs.iter().any(is_torn), "{:?}", opened.repairs);
}
