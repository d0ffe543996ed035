//! What speaks for damage having been durable, and what does not.
use yard_store::disk::lying::LyingDisk;
use yard_store::{Disk, FileName, OpenError, Recovered, Repair};

use crate::support::{Random, Rig, open_all, some_batch};
use crate::survive::groups;

/// A log of groups of a batch and a decision each, until it has so many segments.
fn log(seed: u64, segments: u64) -> Rig {
    let mut random = Random(seed);
    let mut rig = Rig::new(seed);
    while rig.store.stats().segments < segments {
        rig.append_batch(&some_batch(&mut random)).unwrap();
        rig.append(b"a decision").unwrap();
        rig.flush();
    }
    (0..5).for_each(|_| {
        rig.append_batch(&some_batch(&mut random)).unwrap();
        rig.flush();
    });
    rig.close(true).unwrap();
    rig.settle();
    rig
}

fn alter(disk: &LyingDisk, name: FileName, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.contents(name).unwrap();
    change(&mut bytes);
    disk.put(name, bytes);
}

#[test]
fn an_empty_group_whose_header_is_damaged_is_known_by_its_end() {
    let mut rig = Rig::new(1);
    for payload in [&b"first"[..], b"second"] {
        rig.append(payload).unwrap();
        rig.flush();
        rig.close(true).unwrap();
        rig.settle();
    }
    let name = FileName::Segment(0);
    let (empty, end) = groups(&rig.disk.contents(name).unwrap())[1];
    assert_eq!(end - empty, 64 + 32, "it has no entries");
    rig.disk.flip_bit(name, (empty + 57) * 8);
    let opened = open_all(&rig.disk).unwrap();
    let (what, lost) = ("header or end of a group", Vec::new());
    let expected = Repair::Quarantined { segment: 0, offset: empty, bytes: 128, what, lost };
    assert_eq!(opened.repairs, [expected]);
    assert_eq!(opened.entries, rig.model.entries);
}

#[test]
fn an_index_without_messages_says_that_its_segment_was_sealed() {
    let mut rig = Rig::new(4);
    while rig.store.stats().segments < 2 {
        rig.append(&[1; 4_000]).unwrap();
        rig.flush();
    }
    rig.settle();
    let (name, index) = (FileName::Segment(0), FileName::Index(0));
    assert_eq!(rig.disk.len(index).unwrap(), 128, "nothing but its header");
    alter(&rig.disk, FileName::Segment(1), |bytes| bytes[512..].fill(0));
    alter(&rig.disk, name, |bytes| {
        let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes[last] ^= 1;
    });
    let opened = open_all(&rig.disk).unwrap();
    let is_damage = matches!(opened.repairs[..], [Repair::Quarantined { segment: 0, .. }, ..]);
    assert!(is_damage, "{:?}", opened.repairs);
    assert_eq!(opened.entries, rig.model.entries[..rig.model.entries.len() - 1]);
}

/// A header of a group in the log's own words, but for some of its fields: each a place in it, and
/// what it says there.
fn forge(header: &[u8], fields: &[(usize, u64)]) -> Vec<u8> {
    let mut forged = header.to_vec();
    for (at, value) in fields {
        forged[*at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&forged[..4]), &forged[16..64]);
    forged[4..8].copy_from_slice(&crc.to_le_bytes());
    forged
}

#[test]
fn a_header_of_elsewhere_in_the_next_segment_is_no_witness() {
    let rig = log(5, 3);
    let (first, second) = (FileName::Segment(1), FileName::Segment(2));
    let (own, begins) = (word_of(&rig.disk, second, 32), word_of(&rig.disk, second, 512 + 24));
    // A later number that another segment's salt goes with, and an earlier one with the own salt.
    for (salt, group) in [(own ^ 1, begins + 100), (own, 1)] {
        let disk = rig.disk.fork();
        disk.remove(FileName::Index(1)).unwrap();
        let last = *groups(&disk.contents(first).unwrap()).last().unwrap();
        alter(&disk, first, |bytes| bytes[last.0 as usize + 70] ^= 1);
        alter(&disk, second, |bytes| {
            let forged = forge(&bytes[512..576], &[(8, salt), (24, group)]);
            bytes[512] ^= 1;
            bytes[576..640].copy_from_slice(&forged);
        });
        let opened = open_all(&disk).unwrap();
        let is_hit = |entry: &Recovered| (begins - 1..=begins).contains(&entry.group.0);
        let expected: Vec<_> = rig.model.entries.iter().filter(|entry| !is_hit(entry)).collect();
        let found: Vec<_> = opened.entries.iter().filter(|entry| !is_hit(entry)).collect();
        assert_eq!(found, expected, "{:?}", opened.repairs);
        let is_damage = |repair: &&Repair| matches!(repair, Repair::Quarantined { .. });
        assert!(opened.repairs.iter().filter(is_damage).count() >= 2, "{:?}", opened.repairs);
    }
}

fn word_of(disk: &LyingDisk, name: FileName, at: u64) -> u64 {
    let mut bytes = [0; 8];
    disk.read_at(name, at, &mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

#[test]
fn a_group_that_follows_another_log_is_refused() {
    let rig = log(5, 3);
    let second = FileName::Segment(2);
    let chain = word_of(&rig.disk, second, 512 + 40);
    let disk = rig.disk.fork();
    alter(&disk, second, |bytes| {
        let forged = forge(&bytes[512..576], &[(40, chain ^ 1)]);
        bytes[512..576].copy_from_slice(&forged);
    });
    let Err(OpenError::Corrupt(why)) = open_all(&disk) else { panic!("it is not this log") };
    assert_eq!(why.what, "the group follows another one than lies before it");
    assert_eq!((why.segment, why.offset), (2, 512));
}
