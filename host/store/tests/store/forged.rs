//! Files that are whole and yet cannot be true together: somebody has mixed them up. The log is
//! refused, and says why.
use xxhash_rust::xxh3::xxh3_64;
use yard_store::disk::lying::LyingDisk;
use yard_store::error::Corrupt;
use yard_store::{Disk, FileName, OpenError, Repair, Reserve, Store};
use yard_wire::codec::Malformed;
use yard_wire::record::Flags;
use yard_wire::release::{Notes, Release};
use yard_wire::{QueueIndex, TenantId, TopicId};

use crate::cache::Counting;
use crate::damage::{long, small};
use crate::rare::is_reached;
use crate::support::{CONFIG, Random, flagged_batch, open_all, open_with};
use crate::survive::groups;

const SEGMENT: FileName = FileName::Segment(0);
/// The head of a file ends with a checksum of what is before, at this place.
const SEGMENT_CRC_AT: usize = 508;
const CHECKPOINT_CRC_AT: usize = 76;
const SIDECAR_CRC_AT: usize = 124;
/// Bytes of the head of a group, of an entry, and of where its records went.
const GROUP_HEADER_BYTES: usize = 64;
const ENTRY_HEADER_BYTES: usize = 24;
const PLACEMENT_BYTES: usize = 18;
/// Kinds of entries of the log's own.
const MOVED: u16 = 0x101;
const RETIRED: u16 = 0x103;

/// The disk with another file on it, of which these bytes are at this place and the head holds.
fn forged(disk: &LyingDisk, name: FileName, crc_at: usize, at: usize, bytes: &[u8]) -> LyingDisk {
    let disk = disk.fork();
    let mut file = disk.contents(name).unwrap();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&file[..crc_at]);
    file[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
    disk.put(name, file);
    disk
}

/// The disk with another group, of which these bytes are at this place and both its checksums hold.
fn regrouped(disk: &LyingDisk, (begin, end): (u64, u64), at: usize, bytes: &[u8]) -> LyingDisk {
    let (disk, begin, end) = (disk.fork(), begin as usize, end as usize);
    let mut file = disk.contents(SEGMENT).unwrap();
    let group = &mut file[begin..end];
    group[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&group[..4]), &group[16..64]);
    group[4..8].copy_from_slice(&crc.to_le_bytes());
    let trailer = group.len() - 32;
    let (entries, chain) = (group[52..56].to_vec(), xxh3_64(&group[16..trailer]));
    group[trailer + 4..trailer + 8].copy_from_slice(&entries);
    group[trailer + 16..trailer + 24].copy_from_slice(&chain.to_le_bytes());
    let crc = crc32c::crc32c(&group[trailer..trailer + 28]);
    group[trailer + 28..trailer + 32].copy_from_slice(&crc.to_le_bytes());
    disk.put(SEGMENT, file);
    disk
}

fn refused(disk: &LyingDisk) -> OpenError {
    let saved = match Store::read_checkpoint(disk, &CONFIG) {
        Ok(saved) => saved,
        Err(error) => return error,
    };
    open_with(disk, CONFIG, saved.as_ref()).map(|_| ()).unwrap_err()
}

fn corrupt(error: &OpenError) -> &'static str {
    let OpenError::Corrupt(Corrupt { what, .. }) = error else { panic!("{error}") };
    what
}

#[test]
fn the_head_of_a_segment_is_of_that_segment() {
    let rig = long();
    let check = |at: usize, bytes: &[u8], what: &str| {
        let disk = forged(&rig.disk, FileName::Segment(1), SEGMENT_CRC_AT, at, bytes);
        assert_eq!(corrupt(&refused(&disk)), what);
    };
    check(12, &2u32.to_le_bytes(), "the header belongs to another segment");
    check(16, &1_536u64.to_le_bytes(), "the capacity of the segment is out of bounds");
    let base = CONFIG.segment_bytes + 512;
    check(24, &base.to_le_bytes(), "the segment does not follow the one before it");
}

#[test]
fn a_group_follows_the_one_before() {
    let rig = small(true);
    let second = groups(&rig.disk.contents(SEGMENT).unwrap())[1];
    let refused = |at: usize, bytes: &[u8]| {
        let disk = regrouped(&rig.disk, second, at, bytes);
        open_all(&disk).map(|_| ()).unwrap_err()
    };
    let version = refused(16, &2u16.to_le_bytes());
    assert!(matches!(version, OpenError::Version { name: SEGMENT, version: 2 }), "{version}");
    let shard = refused(18, &9u16.to_le_bytes());
    assert_eq!(corrupt(&shard), "the group belongs to another shard");
    let stored = refused(32, &1u64.to_le_bytes());
    assert_eq!(corrupt(&stored), "the group is older than the one before it");
}

#[test]
fn a_group_is_as_its_head_says() {
    let rig = small(true);
    let last = *groups(&rig.disk.contents(SEGMENT).unwrap()).last().unwrap();
    let refused = |at: usize, bytes: &[u8]| {
        let disk = regrouped(&rig.disk, last, at, bytes);
        open_all(&disk).map(|_| ()).unwrap_err()
    };
    let entries = refused(52, &1u32.to_le_bytes());
    assert_eq!(corrupt(&entries), "the group does not hold as many entries as it says");
    let stored = refused(32, &(1u64 << 40).to_le_bytes());
    assert_eq!(corrupt(&stored), "the group is much younger than its segment");
}

#[test]
fn a_checkpoint_is_of_this_log() {
    let rig = long();
    let refused = |at: usize, bytes: &[u8]| {
        refused(&forged(&rig.disk, FileName::Checkpoint, CHECKPOINT_CRC_AT, at, bytes))
    };
    let version = refused(8, &2u16.to_le_bytes());
    let name = FileName::Checkpoint;
    assert!(matches!(version, OpenError::Version { name: it, version: 2 } if it == name));
    let shard = refused(10, &9u16.to_le_bytes());
    assert!(matches!(shard, OpenError::WrongShard { name: it, shard: 9 } if it == name));
    let begins = refused(56, &9u32.to_le_bytes());
    assert!(matches!(begins, OpenError::Missing { segment: 9 }), "{begins}");
    let segment = refused(12, &9u32.to_le_bytes());
    let count = segments(&rig.disk);
    assert!(matches!(segment, OpenError::Missing { segment } if segment == count), "{segment}");
    let mut place = (count - 1).to_le_bytes().to_vec();
    place.extend(CONFIG.segment_bytes.to_le_bytes());
    assert_eq!(corrupt(&refused(12, &place)), "a group that the checkpoint has seen");
}

/// How many there are.
fn segments(disk: &LyingDisk) -> u32 {
    let is_there = |segment: &u32| disk.contents(FileName::Segment(*segment)).is_some();
    (0..).take_while(is_there).count() as u32
}

#[test]
fn a_sidecar_is_of_this_log() {
    let rig = long();
    let version = forged(&rig.disk, FileName::Index(0), SIDECAR_CRC_AT, 8, &2u16.to_le_bytes());
    let version = refused(&version);
    let name = FileName::Index(0);
    assert!(matches!(version, OpenError::Version { name: it, version: 2 } if it == name));
    // Of a segment that there is not.
    let alone = rig.disk.fork();
    alone.put(FileName::Index(9), vec![0; 10]);
    assert!(matches!(refused(&alone), OpenError::Missing { segment: 9 }));
}

#[test]
fn a_group_of_the_last_number_is_nobodys() {
    let rig = long();
    let last = u64::MAX.to_le_bytes();
    let entries = open_all(&rig.disk.fork()).unwrap().entries;
    let segments = || (0..2).map(FileName::Index);
    let files = segments().map(|name| (name, SIDECAR_CRC_AT));
    for (name, crc_at) in files.chain([(FileName::Checkpoint, CHECKPOINT_CRC_AT)]) {
        let disk = forged(&rig.disk, name, crc_at, 24, &last);
        // And damage, so that is asked what lay behind it.
        let begin = groups(&disk.contents(SEGMENT).unwrap())[1].0;
        for hurt in [None, Some(begin)] {
            let disk = disk.fork();
            if let Some(at) = hurt {
                let mut bytes = disk.contents(SEGMENT).unwrap();
                bytes[at as usize..].fill(0);
                disk.put(SEGMENT, bytes);
            }
            let saved = Store::read_checkpoint(&disk, &CONFIG).unwrap();
            assert_eq!(saved.is_none(), name == FileName::Checkpoint, "{name}");
            let opened = open_with(&disk, CONFIG, None).unwrap();
            assert!(opened.entries.len() <= entries.len(), "{name}");
            assert!(hurt.is_some() || opened.entries == entries, "{name}");
        }
    }
    let rig = small(true);
    let all = groups(&rig.disk.contents(SEGMENT).unwrap());
    let disk = regrouped(&rig.disk, *all.last().unwrap(), 24, &last);
    assert!(open_all(&disk).is_ok(), "an end that makes no sense is torn");
    let disk = regrouped(&rig.disk, all[1], 24, &last);
    let opened = open_all(&disk).unwrap();
    assert!(!opened.repairs.is_empty(), "{:?}", opened.repairs);
    assert!(crate::offline::look(&disk).is_ok(), "the tools look at it as well");
}

#[test]
fn what_is_derived_from_a_log_is_not_the_log() {
    let rig = long();
    for name in [FileName::Checkpoint, FileName::Index(0)] {
        let disk = LyingDisk::new(1);
        disk.put(name, rig.disk.contents(name).unwrap());
        assert!(matches!(refused(&disk), OpenError::Missing { segment: 0 }), "{name}");
    }
}

#[test]
fn a_release_refers_to_what_lies_before_it() {
    let (mut random, mut rig) = (Random(5), small(true));
    rig.append_batch(&flagged_batch(&mut random, &[((1, 0, 300), Flags::DELAYED)])).unwrap();
    rig.flush();
    let queue = (TopicId(1), QueueIndex(0));
    rig.append_releases(&[Release::new(rig.parked()[0], queue, Notes::default())]);
    rig.flush();
    let file = rig.disk.contents(SEGMENT).unwrap();
    let group = *groups(&file).last().unwrap();
    let forged = |segment: u32| {
        let mut entry = file[group.0 as usize + GROUP_HEADER_BYTES..group.1 as usize].to_vec();
        let length = u32::from_le_bytes(entry[..4].try_into().unwrap()) as usize;
        let release = &mut entry[ENTRY_HEADER_BYTES + PLACEMENT_BYTES + 4..];
        let bytes = u32::from_le_bytes(release[..4].try_into().unwrap()) as usize;
        release[8..12].copy_from_slice(&segment.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&release[..4]), &release[8..bytes]);
        release[4..8].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&entry[..4]), &entry[8..length - 4]);
        entry[4..8].copy_from_slice(&crc.to_le_bytes());
        let disk = regrouped(&rig.disk, group, GROUP_HEADER_BYTES, &entry[..length]);
        open_all(&disk)
    };
    assert_eq!(forged(0).unwrap().entries, rig.model.entries, "nothing but the segment is forged");
    let OpenError::Entry { why, .. } = forged(1).map(|_| ()).unwrap_err() else {
        panic!("an entry refers to what comes later")
    };
    assert_eq!(why, Malformed::Field { what: "segment of a release", value: 1 });
    assert!(is_reached("store.recovery.refers-forward"));
}

/// Its checksum holds; the group that it is in is damaged in another entry.
#[test]
fn an_entry_of_the_logs_own_that_says_nothing_is_told() {
    let own = (RETIRED, "store.quarantine.own-lost", "an entry of the log's own");
    let copies = (MOVED, "store.quarantine.copies-lost", "an entry of copies");
    for (kind, mark, told) in [own, copies] {
        let mut rig = small(true);
        rig.store.append(rig.now, kind, TenantId(0), &[9; 3], Reserve::Use).unwrap();
        rig.append(b"damaged").unwrap();
        rig.flush();
        let refused = open_all(&rig.disk.fork()).map(|_| ()).unwrap_err();
        assert!(matches!(refused, OpenError::Entry { .. }), "{refused}");
        rig.append(b"behind").unwrap();
        rig.flush();
        let file = rig.disk.contents(SEGMENT).unwrap();
        let at = file.windows(7).position(|bytes| bytes == b"damaged").unwrap();
        rig.disk.flip_bit(SEGMENT, 8 * at as u64);
        let opened = open_all(&rig.disk).unwrap();
        let is_told = |it: &Repair| matches!(it, Repair::Quarantined { what, .. } if *what == told);
        assert_eq!(opened.repairs.iter().filter(|it| is_told(it)).count(), 1);
        assert!(is_reached(mark), "{mark}");
        let payloads: Vec<_> = opened.entries.iter().map(|entry| &entry.payload[..]).collect();
        assert_eq!(payloads.last(), Some(&&b"behind"[..]), "what is behind is served");
    }
}

/// Else the log would be cut off where only a read of its sidecar went wrong.
#[test]
fn a_sidecar_that_is_read_wrong_once_takes_nothing_away() {
    let rig = long();
    let name = FileName::Segment(1);
    let mut lost = rig.disk.contents(name).unwrap();
    lost[512..].fill(0);
    rig.disk.put(name, lost);
    let files = rig.disk.list().unwrap();
    let is_used = |name: &FileName| match *name {
        FileName::Segment(segment) | FileName::Index(segment) => segment < 2,
        FileName::Keys { .. } | FileName::Checkpoint => false,
    };
    files.into_iter().filter(|name| !is_used(name)).for_each(|it| rig.disk.remove(it).unwrap());
    let found = open_all(&rig.disk.fork()).unwrap().entries;
    let mut refused = 0;
    for read in 1..5 {
        let below = rig.disk.fork();
        let disk = Counting::flickering(&below, FileName::Index(1), read);
        let mut entries = Vec::new();
        let opened = Store::open(&disk, CONFIG, None, &mut |entry| {
            entries.push(entry);
            Ok(())
        });
        match opened {
            Ok(_) => assert_eq!(entries, found),
            Err(error) => {
                assert_eq!(corrupt(&error), "a group that was sealed");
                assert!(below.contents(FileName::Index(1)).is_some(), "it is kept");
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && is_reached("store.sidecar.ahead"));
}
