//! Backups of damaged logs: each is copied as it is and told, and restores to what it was.
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use yard_store::disk::real::RealDisk;
use yard_store::{Disk, FileName, Opened, Recovered, Repair, Reserve, Store, StoreConfig, io};
use yard_wire::{ShardId, TenantId, Timestamp};

use super::{DumpOptions, backup, dump, repair, restore, verify};
use crate::folder::Folder;

const SEGMENT_BYTES: usize = 64 << 10;
const CONFIG: StoreConfig = StoreConfig {
    shard: ShardId(0),
    segment_bytes: SEGMENT_BYTES as u64,
    reserve_bytes: 4 << 10,
    salt_seed: 5,
};
/// Bytes of a group: one entry, with what is around it.
const GROUP_BYTES: usize = 6_144;
const ENTRY_BYTES: usize = 6_000;
/// Where the last group of a sealed segment begins.
const LAST_AT: usize = 512 + 9 * GROUP_BYTES;
/// The segment that is written to, and the groups in it.
const ACTIVE: u32 = 3;
const ACTIVE_GROUPS: usize = 4;

/// A folder that is gone when the test is.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("yard-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind it would be in nobody's way.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path) -> (Opened, Vec<Recovered>, RealDisk) {
    let disk = RealDisk::open(path).unwrap();
    let mut entries = Vec::new();
    let opened = Store::open(&disk, CONFIG, None, &mut |entry| {
        entries.push(entry);
        Ok(())
    });
    (opened.unwrap(), entries, disk)
}

/// A data folder of one shard: three sealed segments of ten groups each, a checkpoint after the
/// last group but the one that proves it, and a segment that is only prepared.
fn data(path: &Path) {
    let folder = Folder::open(path).unwrap();
    folder.fix_shards(Some(1)).unwrap();
    let (Opened { mut store, mut io, .. }, _, disk) = open(&folder.shard(0).unwrap());
    let settle = |store: &mut Store, io: &mut Vec<yard_store::Io>| {
        while !io.is_empty() {
            let done = io::perform(&disk, &io.remove(0));
            store.done(done, io);
        }
    };
    settle(&mut store, &mut io);
    for number in 0..(10 * ACTIVE as usize + ACTIVE_GROUPS) {
        let now = Timestamp(1_000 + number as u64);
        let payload = vec![number as u8 + 1; ENTRY_BYTES];
        store.append(now, 2, TenantId(1), &payload, Reserve::Use).unwrap();
        store.close_group(now, false, &mut io);
        settle(&mut store, &mut io);
    }
    store.checkpoint(Bytes::from_static(b"state"), &mut io);
    settle(&mut store, &mut io);
    let at = |segment| disk.len(FileName::Segment(segment)).unwrap() as usize;
    assert_eq!((at(ACTIVE), store.stats().segments), (SEGMENT_BYTES, u64::from(ACTIVE) + 1));
}

fn segment(path: &Path, segment: u32) -> PathBuf {
    path.join("shard-0").join(FileName::Segment(segment).to_string())
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let path = item.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_tree(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

/// What a start makes of a log without what is derived from it.
fn started(path: &Path) -> (Vec<Recovered>, Vec<Repair>) {
    let shard = path.join("shard-0");
    for item in fs::read_dir(&shard).unwrap() {
        let path = item.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with("log-") {
            fs::remove_file(path).unwrap();
        }
    }
    let (opened, entries, _) = open(&shard);
    let is_damage = |repair: &Repair| matches!(repair, Repair::Quarantined { .. });
    (entries, opened.repairs.into_iter().filter(is_damage).collect())
}

/// What is done to a file.
enum Harm {
    Flip(usize),
    Zero(Range<usize>),
    Cut(usize),
}

impl Harm {
    fn strike(&self, path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        match self {
            Self::Flip(at) => bytes[*at] ^= 4,
            Self::Zero(range) => bytes[range.clone()].fill(0),
            Self::Cut(length) => bytes.truncate(*length),
        }
        fs::write(path, bytes).unwrap();
    }
}

const CASES: &[(&str, u32, &[Harm])] = &[
    ("a body in the middle of a sealed segment", 1, &[Harm::Flip(512 + 200)]),
    ("the last group of a sealed segment", 1, &[Harm::Flip(LAST_AT + 200)]),
    ("the header of that group", 1, &[Harm::Flip(LAST_AT + 20)]),
    ("the end of that group", 1, &[Harm::Flip(LAST_AT + GROUP_BYTES - 64)]),
    ("that group, gone without a trace", 1, &[Harm::Zero(LAST_AT..SEGMENT_BYTES)]),
    ("the header of a segment", 1, &[Harm::Flip(40)]),
    ("the header of the first segment", 0, &[Harm::Flip(40)]),
    ("the header of the first group", 1, &[Harm::Flip(512 + 20)]),
    ("both headers", 1, &[Harm::Flip(40), Harm::Flip(512 + 20)]),
    ("all groups of a segment", 1, &[Harm::Zero(512..SEGMENT_BYTES)]),
    ("all of a segment", 1, &[Harm::Zero(0..SEGMENT_BYTES)]),
    ("all of the first segment", 0, &[Harm::Zero(0..SEGMENT_BYTES)]),
    ("half of a segment", 1, &[Harm::Cut(SEGMENT_BYTES / 2)]),
    ("nearly all of a segment", 1, &[Harm::Cut(100)]),
    ("all of the file of a segment", 1, &[Harm::Cut(0)]),
    ("the header of the active segment", ACTIVE, &[Harm::Flip(40)]),
    ("the header of its first group", ACTIVE, &[Harm::Flip(512 + 20)]),
    ("both headers of it", ACTIVE, &[Harm::Flip(40), Harm::Flip(512 + 20)]),
    ("a body of it", ACTIVE, &[Harm::Flip(512 + GROUP_BYTES + 200)]),
];

#[test]
fn a_damaged_log_is_copied_as_it_is_and_told() {
    let scratch = Scratch::new("damaged-backup");
    let (whole, path) = (scratch.0.join("whole"), |name: &str| scratch.0.join(name));
    data(&whole);
    for (at, (what, number, harms)) in CASES.iter().enumerate() {
        let [data, target, back] = ["data", "backup", "back"].map(|it| path(&format!("{it}-{at}")));
        copy_tree(&whole, &data);
        harms.iter().for_each(|harm| harm.strike(&segment(&data, *number)));
        let struck: Vec<_> = (0..=ACTIVE).map(|it| fs::read(segment(&data, it)).unwrap()).collect();
        for round in ["first", "second"] {
            let report = backup(&data, &target, 7).unwrap_or_else(|why| panic!("{what}: {why}"));
            assert_eq!(report.segments, u64::from(ACTIVE) + 1, "{what}, {round}");
            assert!(!report.damage.is_empty(), "{what}, {round}: it is told");
        }
        let report = restore(&target, &back).unwrap_or_else(|why| panic!("{what}: {why}"));
        assert!(!report.damage.is_empty(), "{what}: restoring tells it too");
        for (number, struck) in (0..).zip(&struck) {
            let now = fs::read(segment(&data, number)).unwrap();
            assert!(now == *struck, "{what}: segment {number} is touched");
            let (found, behind) = {
                let mut found = fs::read(segment(&back, number)).unwrap();
                let behind = found.split_off(struck.len());
                (found, behind)
            };
            assert!(found == *struck, "{what}: segment {number} is another one");
            // What a file has lost of its header reads as zeros.
            assert!(behind.len() <= 512 && behind.iter().all(|byte| *byte == 0), "{what}");
        }
        let (expected, found) = (started(&data), started(&back));
        assert!(expected.0 == found.0, "{what}: both start with the same entries");
        assert!(!expected.1.is_empty(), "{what}: it is damage to a start as well");
        [data, target, back].iter().for_each(|it| fs::remove_dir_all(it).unwrap());
    }
}

#[test]
fn what_only_the_checkpoint_has_seen_is_copied_and_told() {
    let scratch = Scratch::new("seen-backup");
    let [data_at, target] = ["data", "backup"].map(|name| scratch.0.join(name));
    data(&data_at);
    let last_at = 512 + (ACTIVE_GROUPS - 1) * GROUP_BYTES;
    Harm::Flip(last_at + 200).strike(&segment(&data_at, ACTIVE));
    let report = backup(&data_at, &target, 7).unwrap();
    assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
    assert!(report.damage[0].contains("the checkpoint has seen"), "{:?}", report.damage);
    let back = scratch.0.join("back");
    restore(&target, &back).unwrap();
    assert!(
        fs::read(segment(&back, ACTIVE)).unwrap() == fs::read(segment(&data_at, ACTIVE)).unwrap()
    );
    // Without one it may be torn, and nothing tells it from what was never acknowledged.
    fs::remove_file(data_at.join("shard-0/checkpoint")).unwrap();
    let report = backup(&data_at, &scratch.0.join("other"), 7).unwrap();
    assert_eq!(report.damage, Vec::<String>::new());
}

#[test]
fn a_backup_keeps_what_was_whole_when_it_was_taken() {
    let scratch = Scratch::new("older-backup");
    let [data_at, target, back] = ["data", "backup", "back"].map(|name| scratch.0.join(name));
    data(&data_at);
    assert_eq!(backup(&data_at, &target, 7).unwrap().damage, Vec::<String>::new());
    let whole: Vec<_> = (0..=ACTIVE).map(|it| fs::read(segment(&data_at, it)).unwrap()).collect();
    let named = || {
        let files = fs::read_dir(target.join("shard-0")).unwrap();
        files.map(|file| file.unwrap().path()).collect::<Vec<_>>()
    };
    let before: Vec<_> = named().into_iter().map(|path| (path.clone(), fs::read(path))).collect();
    // Two sealed segments rot, of one nothing is left; and so does the one that is written to.
    Harm::Flip(LAST_AT + 200).strike(&segment(&data_at, 0));
    Harm::Zero(0..SEGMENT_BYTES).strike(&segment(&data_at, 2));
    Harm::Flip(512 + 200).strike(&segment(&data_at, ACTIVE));
    let report = backup(&data_at, &target, 8).unwrap();
    // What segment 1 goes on with cannot be read, so it is copied once more, and is the same.
    assert_eq!((report.copied, report.damage.len()), (2, 1), "{:?}", report.damage);
    restore(&target, &back).unwrap();
    for number in 0..ACTIVE {
        let found = fs::read(segment(&back, number)).unwrap();
        assert!(found == whole[number as usize], "segment {number} is as it was");
    }
    // What was damaged has a name of its own: until the manifest is replaced, the first one holds.
    let kept = |(path, bytes): &(PathBuf, std::io::Result<Vec<u8>>)| {
        fs::read(path).map_or(true, |now| now == *bytes.as_ref().unwrap())
    };
    assert!(before.iter().all(kept), "no file of the first backup was written to");
}

#[test]
fn a_backup_goes_elsewhere_than_into_its_data_folder() {
    let scratch = Scratch::new("inside-backup");
    let at = |name: &str| scratch.0.join(name);
    data(&at("data"));
    std::os::unix::fs::symlink(at("data"), at("link")).unwrap();
    for target in ["data", "data/x", "data/x/y", "data/../data/x", "link/x"] {
        let error = backup(&at("data"), &at(target), 7).unwrap_err().to_string();
        assert!(error.contains("it lies in the data folder"), "{target}: {error}");
        assert!(!at("data/x").exists(), "{target}: nothing was made");
    }
    // A name that begins alike is elsewhere.
    backup(&at("data"), &at("data-2"), 7).unwrap();
    restore(&at("data-2"), &at("back")).unwrap();
    let file = fs::read_to_string(at("back/broker.toml")).unwrap();
    assert!(file.contains("logs_made = true"), "a restored log can be missed: {file}");
}

#[test]
fn a_segment_that_is_not_there_is_not_dumped() {
    let scratch = Scratch::new("dumped");
    let at = scratch.0.join("data");
    data(&at);
    let dumped = |number| {
        let options = DumpOptions { segment: Some(number), limit: 9, ..DumpOptions::default() };
        dump(&at, &options).map(|dumped| dumped.lines.len())
    };
    assert_eq!(dumped(ACTIVE).unwrap(), 2 * ACTIVE_GROUPS, "a line a group and one an entry");
    let error = dumped(99).unwrap_err().to_string();
    assert!(error.contains("data has no segment 99: shard 0 has 0 to "), "{error}");
}

#[test]
fn what_cannot_be_repaired_is_told_by_its_place() {
    let scratch = Scratch::new("unrepaired");
    let at = scratch.0.join("data");
    data(&at);
    assert!(repair(&at, false, false).unwrap().damaged.is_empty());
    Harm::Flip(512 + 200).strike(&segment(&at, 1));
    for applied in [false, true] {
        let report = repair(&at, applied, false).unwrap();
        let [(0, damage)] = &report.damaged[..] else { panic!("{:?}", report.damaged) };
        let bytes = damage.offset..damage.offset + damage.bytes;
        assert!(damage.name == FileName::Segment(1) && bytes.contains(&712), "{damage}");
        assert!(report.steps.is_empty(), "{:?}", report.steps);
    }
}

#[test]
fn a_folder_whose_shards_are_not_those_that_it_had_is_not_looked_at() {
    let scratch = Scratch::new("shards");
    let at = scratch.0.join("data");
    data(&at);
    Folder::open(&at).unwrap().note_logs().unwrap();
    copy_tree(&at.join("shard-0"), &at.join("shard-1"));
    let refused = |sentence: &str| {
        let tools = [verify(&at, false).err(), repair(&at, true, true).err()];
        for error in tools.map(|error| error.expect("it is refused").to_string()) {
            assert!(error.contains(sentence), "{error}");
        }
    };
    refused("there are logs in shard-1 too");
    fs::remove_file(at.join("broker.toml")).unwrap();
    refused("broker.toml is missing, but there are logs in shard-0, shard-1");
    fs::write(at.join("broker.toml"), "format = 1\nshards = 2\nlogs_made = true\n").unwrap();
    assert_eq!(crate::folder::shards_of(&at).unwrap(), Some(2));
    fs::remove_dir_all(at.join("shard-1")).unwrap();
    refused("had logs of its own for shard-1, and they are gone");
}
