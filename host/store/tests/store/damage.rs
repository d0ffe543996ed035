//! Torn tails are cut off; anything else that is not as it was written is refused or harmless.
use yard_store::disk::lying::{Crash, LyingDisk};
use yard_store::error::Corrupt;
use yard_store::{
    Disk, FileName, Io, Located, OpenError, Recovered, Repair, Store, StoreConfig, read,
};

use crate::support::{CONFIG, Random, Rig, batch_of, open_all, open_with, some_batch};

const SEGMENT: FileName = FileName::Segment(0);

/// A log of three groups of two entries, all durable.
pub(crate) fn small(prove_tail: bool) -> Rig {
    let mut random = Random(5);
    let mut rig = Rig::new(5);
    for group in 0..3 {
        let batch = batch_of(&mut random, &[(1, 0, 20), (1, group, 30)]);
        rig.append_batch(&batch).unwrap();
        rig.append(b"entry").unwrap();
        rig.flush();
    }
    if prove_tail {
        assert!(!rig.store.tail_is_proven());
        rig.close(true).unwrap();
        rig.settle();
        assert!(rig.store.tail_is_proven());
        assert_eq!(rig.close(true), None, "one proof is enough");
    }
    rig
}

fn tail_of(rig: &Rig) -> u64 {
    rig.store.stats().appended.0
}

#[test]
fn a_group_torn_at_any_byte_is_cut_off() {
    let rig = small(false);
    let before = rig.model.entries.len();
    let start = tail_of(&rig) as usize;
    let mut rig = rig;
    rig.settle();
    rig.append(b"the last entry, which is torn").unwrap();
    rig.close(false).unwrap();
    let Some(Io::WriteGroup { bytes, .. }) = rig.io.last() else { panic!("a write") };
    let bytes = bytes.clone();
    let trailer_end = 64 + 24 + 29 + 4 + 32;
    for written in 0..=bytes.len() {
        for rest in [0, 0xa5] {
            let disk = rig.disk.fork();
            let mut contents = disk.contents(SEGMENT).unwrap();
            contents[start..start + bytes.len()].fill(rest);
            contents[start..start + written].copy_from_slice(&bytes[..written]);
            // The padding is nobody's.
            contents[start + trailer_end..start + bytes.len()].fill(0);
            disk.put(SEGMENT, contents);
            let whole = written >= trailer_end;
            let found = open_all(&disk).unwrap();
            assert_eq!(found.entries.len(), before + usize::from(whole), "{written} bytes");
            assert_eq!(found.entries, rig.model.entries[..found.entries.len()]);
            let after = disk.contents(SEGMENT).unwrap();
            let clean = if whole { start + bytes.len() } else { start };
            assert!(after[clean..].iter().all(|byte| *byte == 0), "{written}: stale bytes");
            disk.crash(1, Crash::Power);
            assert_eq!(open_all(&disk).unwrap().repairs, [], "mended durably");
        }
    }
}

#[test]
fn bytes_of_an_earlier_life_of_a_segment_do_not_pass_for_its_own() {
    // The same messages at the same times, but for the randomness of the start.
    let life = |salt_seed, groups: u8| {
        let mut rig = Rig::on(LyingDisk::new(1), StoreConfig { salt_seed, ..CONFIG });
        rig.settle();
        for group in 0..groups {
            rig.append(&[group; 100]).unwrap();
            rig.flush();
        }
        rig
    };
    for (salt_seed, expect) in [(CONFIG.salt_seed + 1, 1), (CONFIG.salt_seed, 3)] {
        let earlier = life(CONFIG.salt_seed, 3).disk.contents(SEGMENT).unwrap();
        let rig = life(salt_seed, 1);
        let mut bytes = rig.disk.contents(SEGMENT).unwrap();
        let end = tail_of(&rig) as usize;
        bytes[end..].copy_from_slice(&earlier[end..]);
        rig.disk.put(SEGMENT, bytes);
        let opened = open_all(&rig.disk).unwrap();
        assert_eq!(opened.entries.len(), expect, "salts differ: {}", expect == 1);
        let cut = |repair: &Repair| matches!(repair, Repair::TailZeroed { .. });
        assert_eq!(opened.repairs.iter().any(cut), expect == 1, "{:?}", opened.repairs);
    }
}

#[test]
fn every_segment_has_a_salt_of_its_own() {
    let salt = |disk: &LyingDisk, segment| {
        let head = disk.contents(FileName::Segment(segment)).unwrap();
        u64::from_le_bytes(head[32..40].try_into().unwrap())
    };
    let rig = long();
    let mut salts: Vec<u64> = (0..4).map(|segment| salt(&rig.disk, segment)).collect();
    // The same segment, prepared by another start.
    let other = StoreConfig { salt_seed: CONFIG.salt_seed + 1, ..CONFIG };
    let again = Rig::on(LyingDisk::new(1), other);
    salts.push(salt(&again.disk, 0));
    salts.sort_unstable();
    salts.dedup();
    assert_eq!(salts.len(), 5);
}

/// Opens a log with one flipped bit: `Ok` with what it hands out.
fn open_flipped(rig: &Rig, name: FileName, bit: u64) -> Result<Vec<Recovered>, OpenError> {
    let disk = rig.disk.fork();
    assert!(disk.flip_bit(name, bit));
    let before = disk.contents(SEGMENT);
    let saved = Store::read_checkpoint(&disk, &CONFIG)?;
    let opened = open_with(&disk, CONFIG, saved.as_ref());
    if opened.is_err() {
        assert!(before == disk.contents(SEGMENT), "bit {bit}: refused and changed");
    }
    let opened = opened?;
    check_index(&opened.store, &disk, rig);
    Ok(opened.entries)
}

/// Whatever is located is right.
fn check_index(store: &Store, disk: &LyingDisk, rig: &Rig) {
    let queues = rig.model.queues(rig.model.entries.len());
    for (topic, queue, _, end) in store.queues() {
        let records = &queues[&(topic, queue)];
        let mut from = yard_wire::QueueOffset(0);
        while from < end {
            let places = match store.locate(topic, queue, from, 1_000) {
                Located::Places(places) => places,
                Located::Read(wanted) => read::index(disk, &wanted).unwrap(),
                other => panic!("{other:?}"),
            };
            for place in places {
                if let Ok(found) = read::records(disk, &[place]) {
                    assert_eq!((&found[0], place.stored), {
                        let (bytes, stored) = &records[from.0 as usize];
                        (bytes, *stored)
                    });
                }
                from.0 += 1;
            }
        }
    }
}

/// A log of several segments with a checkpoint in a late one.
pub(crate) fn long() -> Rig {
    let mut random = Random(8);
    let mut rig = Rig::new(8);
    while rig.store.stats().segments < 4 {
        for _ in 0..8 {
            rig.append_batch(&some_batch(&mut random)).unwrap();
        }
        rig.flush();
        if rig.store.checkpoint_due() {
            rig.checkpoint();
        }
    }
    rig.append(b"after the checkpoint").unwrap();
    rig.flush();
    rig.close(true).unwrap();
    rig.settle();
    rig
}

#[test]
fn damage_at_a_seam_of_segments_is_told_by_its_place() {
    let rig = long();
    let last_of_1 = rig.disk.contents(FileName::Segment(1)).unwrap();
    let last_of_1 = last_of_1.iter().rposition(|byte| *byte != 0).unwrap();
    // The last group of a sealed segment is proven by the first of the next.
    let cases = [(2, 20, 0), (3, 9, 0), (3, 600, 512 + 64), (1, last_of_1 as u64, 0)];
    for (segment, byte, least) in cases {
        let disk = rig.disk.fork();
        disk.flip_bit(FileName::Segment(segment), byte * 8);
        let opened = open_all(&disk).unwrap();
        let [Repair::CheckpointIgnored, Repair::Quarantined { segment: found, offset, .. }, ..] =
            &opened.repairs[..]
        else {
            panic!("segment {segment}, byte {byte}: {:?}", opened.repairs)
        };
        assert!(*found == segment && *offset >= least && *offset <= byte, "{segment} {byte}");
    }
    let disk = rig.disk.fork();
    disk.remove(FileName::Segment(1)).unwrap();
    assert!(matches!(open_all(&disk), Err(OpenError::Missing { segment: 1 })));
    let disk = rig.disk.fork();
    disk.remove(FileName::Segment(3)).unwrap();
    disk.remove(FileName::Segment(4)).unwrap();
    let saved = Store::read_checkpoint(&disk, &CONFIG).unwrap();
    assert!(matches!(open_with(&disk, CONFIG, saved.as_ref()), Err(OpenError::Missing { .. })));
}

#[test]
fn every_flipped_bit_of_a_derived_file_is_harmless() {
    let rig = long();
    let saved = Store::read_checkpoint(&rig.disk, &CONFIG).unwrap().unwrap();
    let state: usize = str::from_utf8(&saved.state).unwrap().parse().unwrap();
    let mut random = Random(1);
    for name in [FileName::Index(0), FileName::Index(2), FileName::Checkpoint] {
        let bytes = rig.disk.len(name).unwrap();
        for byte in (0..bytes).filter(|byte| *byte < 300 || byte % 7 == 0) {
            let entries = open_flipped(&rig, name, byte * 8 + random.below(8)).unwrap();
            let whole = entries == rig.model.entries;
            let rest = entries == rig.model.entries[state..];
            assert!(if name == FileName::Checkpoint { whole } else { rest }, "{name}, {byte}");
        }
    }
}

#[test]
fn a_lost_or_stale_sidecar_is_made_again() {
    let rig = long();
    let saved = Store::read_checkpoint(&rig.disk, &CONFIG).unwrap();
    let queues = |store: &Store| store.queues().collect::<Vec<_>>();
    for replaced in [None, Some(FileName::Index(1))] {
        let disk = rig.disk.fork();
        let good = disk.contents(FileName::Index(0));
        disk.remove(FileName::Index(0)).unwrap();
        if let Some(other) = replaced {
            disk.put(FileName::Index(0), disk.contents(other).unwrap());
        }
        let opened = open_with(&disk, CONFIG, saved.as_ref()).unwrap();
        assert!(opened.repairs.contains(&Repair::IndexRebuilt { segment: 0 }));
        assert_eq!(queues(&opened.store), queues(&rig.store));
        assert!(disk.contents(FileName::Index(0)) == good, "the same bytes");
        check_index(&opened.store, &disk, &rig);
    }
}

#[test]
fn an_unfinished_segment_is_removed() {
    for bytes in [0, 100, 512, 64 << 10] {
        let rig = small(true);
        rig.disk.put(FileName::Segment(1), vec![0; bytes]);
        let opened = open_all(&rig.disk).unwrap();
        assert_eq!(opened.repairs, [Repair::SegmentRemoved { segment: 1 }]);
        assert_eq!(opened.entries, rig.model.entries);
        assert!(matches!(opened.io[..], [Io::PrepareSegment { segment: 1, .. }]));
    }
    let disk = LyingDisk::new(1);
    disk.put(SEGMENT, vec![0; 100]);
    assert_eq!(open_all(&disk).unwrap().repairs, [Repair::SegmentRemoved { segment: 0 }]);
}

/// A log whose first group of segment 1 is on its way to the disk, written and not synced.
fn rolled(seed: u64) -> Rig {
    let mut random = Random(seed);
    let mut rig = Rig::new(seed);
    rig.settle();
    while rig.store.stats().segments < 2 {
        rig.flush();
        rig.append_batch(&batch_of(&mut random, &[(1, 0, 4_000)])).unwrap();
        rig.close(false).unwrap();
    }
    while let Some(at) = rig.io.iter().position(|io| !matches!(io, Io::SyncGroup { .. })) {
        rig.perform(at);
    }
    assert_eq!(rig.io.len(), 1, "only the sync is left");
    rig
}

#[test]
fn a_segment_whose_first_group_is_torn_is_not_used_again() {
    let mut lost = 0;
    for seed in 0..20 {
        let mut rig = rolled(seed);
        let stale = rig.disk.contents(FileName::Index(0)).unwrap();
        let entries = rig.model.entries.len();
        rig.crash(seed, Crash::Power);
        let next = rig.disk.contents(FileName::Segment(1));
        if rig.model.entries.len() == entries {
            continue;
        }
        lost += 1;
        assert!(next.is_none_or(|bytes| bytes[512..].iter().all(|byte| *byte == 0)));
        assert!(rig.disk.contents(FileName::Index(0)).is_none(), "it is active again");
        // A small group still fits segment 0, so that its first index becomes stale.
        rig.append(b"fits").unwrap();
        let batch = batch_of(&mut Random(seed), &[(1, 0, 200)]);
        rig.append_batch(&batch).unwrap();
        rig.flush();
        while rig.disk.contents(FileName::Index(0)).is_none() {
            rig.append(&[1; 4_000]).unwrap();
            rig.flush();
        }
        rig.checkpoint();
        rig.settle();
        rig.disk.put(FileName::Index(0), stale);
        let saved = Store::read_checkpoint(&rig.disk, &CONFIG).unwrap();
        let opened = open_with(&rig.disk, CONFIG, saved.as_ref()).unwrap();
        let rebuilt = [Repair::IndexRebuilt { segment: 0 }];
        assert_eq!(opened.repairs, rebuilt, "seed {seed}");
        check_index(&opened.store, &rig.disk, &rig);
    }
    assert!(lost > 10);
}

#[test]
fn what_a_sidecar_says_was_sealed_is_not_cut_off() {
    let mut rig = rolled(1);
    rig.settle();
    let mut next = rig.disk.contents(FileName::Segment(1)).unwrap();
    next[512..].fill(0);
    rig.disk.put(FileName::Segment(1), next);
    let last = rig.disk.contents(SEGMENT).unwrap();
    let last = last.iter().rposition(|byte| *byte != 0).unwrap();
    rig.disk.flip_bit(SEGMENT, last as u64 * 8);
    let damaged = rig.disk.contents(SEGMENT);
    let opened = open_all(&rig.disk).unwrap();
    let first = opened.repairs.first();
    assert!(matches!(first, Some(Repair::Quarantined { segment: 0, .. })), "{first:?}");
    assert_eq!(opened.entries.len(), rig.model.entries.len() - 1, "but for segment 1");
    assert!(damaged == rig.disk.contents(SEGMENT), "nothing was changed");
}

#[test]
fn a_checkpoint_of_another_log_is_refused() {
    let rig = long();
    let mut saved = Store::read_checkpoint(&rig.disk, &CONFIG).unwrap().unwrap();
    saved.chain ^= 1;
    let result = open_with(&rig.disk, CONFIG, Some(&saved));
    assert!(matches!(result, Err(OpenError::Corrupt(Corrupt { .. }))));
    saved.chain ^= 1;
    saved.group.0 += 100_000;
    let result = open_with(&rig.disk, CONFIG, Some(&saved));
    assert!(matches!(result, Err(OpenError::Corrupt(Corrupt { .. }))));
}
