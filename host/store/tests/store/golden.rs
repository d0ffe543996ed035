//! Data directories of format version 1, healthy and damaged, as they were written once: opened,
//! they must give what they gave.
//!
//! A file of `tests/golden/v1` holds bytes as text: `length N`, then `offset: bytes`, in
//! hexadecimal, with `xx*N` for N equal bytes; what no line names is zero. `listing.txt` says what
//! opening the directory gives. `UPDATE_EXPECT=1` writes them anew, which a released version never
//! needs.
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;

use yard_store::disk::lying::LyingDisk;
use yard_store::{Disk, FileName, Io, Located, Store, read};
use yard_wire::QueueOffset;

use crate::support::{CONFIG, Random, Rig, batch_of, constant_batch, open_with};

type Files = BTreeMap<FileName, Vec<u8>>;

/// Bytes of a run that is worth its own token.
const RUN_MIN: usize = 16;
/// Tokens of a line.
const LINE_BYTES: usize = 32;
const CASES: [&str; 5] = ["healthy", "torn-tail", "bit-flip", "missing-index", "from-the-future"];

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(case)
}

fn encode(bytes: &[u8]) -> String {
    let mut out = format!("length {}\n", bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let run = bytes[at..].iter().take_while(|byte| **byte == bytes[at]).count();
        if run >= RUN_MIN {
            if bytes[at] != 0 {
                writeln!(out, "{at}: {:02x}*{run}", bytes[at]).unwrap();
            }
            at += run;
            continue;
        }
        let rest = &bytes[at..(at + LINE_BYTES).min(bytes.len())];
        let is_run = |from: &usize| {
            let run = rest[*from..].iter().take_while(|byte| **byte == rest[*from]).count();
            run >= RUN_MIN
        };
        let end = (0..rest.len()).find(is_run).unwrap_or(rest.len());
        let hexadecimal: String = rest[..end].iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(out, "{at}: {hexadecimal}").unwrap();
        at += end;
    }
    out
}

fn decode(text: &str) -> Vec<u8> {
    let mut lines = text.lines();
    let length = lines.next().and_then(|line| line.strip_prefix("length ")).unwrap();
    let mut bytes = vec![0; length.parse().unwrap()];
    for line in lines {
        let (at, tokens) = line.split_once(": ").unwrap();
        let at: usize = at.parse().unwrap();
        let byte = |text: &str| u8::from_str_radix(text, 16).unwrap();
        match tokens.split_once('*') {
            Some((value, run)) => {
                let run: usize = run.parse().unwrap();
                bytes[at..at + run].fill(byte(value));
            }
            None => {
                let values = (0..tokens.len()).step_by(2).map(|two| byte(&tokens[two..two + 2]));
                bytes.iter_mut().skip(at).zip(values).for_each(|(byte, value)| *byte = value);
            }
        }
    }
    bytes
}

fn files_of(disk: &LyingDisk) -> Files {
    let names = disk.list().unwrap();
    names.into_iter().map(|name| (name, disk.contents(name).unwrap())).collect()
}

/// What this version writes: three segments with records, two of them sealed, and a checkpoint.
fn healthy() -> Rig {
    let mut random = Random(41);
    let mut rig = Rig::new(41);
    rig.settle();
    for queue in 0..3 {
        let batch = batch_of(&mut random, &[(1, 0, 20), (1, queue, 30), (2, queue, 7)]);
        rig.append_batch(&batch).unwrap();
        rig.append(b"a decision").unwrap();
        rig.flush();
    }
    for byte in [0x61, 0x62, 0x63, 0x64] {
        rig.append_batch(&constant_batch(1, 1, &[byte; 30_000])).unwrap();
        rig.flush();
    }
    assert!(rig.store.checkpoint_due());
    rig.checkpoint();
    rig.append_batch(&batch_of(&mut random, &[(2, 1, 40)])).unwrap();
    rig.append(b"after the checkpoint").unwrap();
    rig.flush();
    rig.close(true).unwrap();
    rig.settle();
    rig
}

fn generate(case: &str) -> Files {
    let mut rig = healthy();
    let mut files = files_of(&rig.disk);
    match case {
        "healthy" => {}
        "torn-tail" => {
            rig.append_batch(&constant_batch(1, 0, &[0x65; 2_000])).unwrap();
            rig.close(false).unwrap();
            let Some(Io::WriteGroup { segment, offset, bytes, .. }) = rig.io.last() else {
                panic!("a group is written")
            };
            let (at, half) = (*offset as usize, bytes.len() / 2);
            let file = files.get_mut(&FileName::Segment(*segment)).unwrap();
            file[at..at + half].copy_from_slice(&bytes[..half]);
        }
        "bit-flip" => {
            // In the body of a record of the first segment.
            let file = files.get_mut(&FileName::Segment(0)).unwrap();
            let body = file.windows(64).position(|bytes| bytes == [0x61; 64]).unwrap();
            file[body + 1_000] ^= 4;
        }
        "missing-index" => {
            files.remove(&FileName::Index(0)).unwrap();
        }
        "from-the-future" => {
            let head = &mut files.get_mut(&FileName::Segment(0)).unwrap()[..512];
            head[8] = 2;
            let crc = crc32c::crc32c(&head[..508]);
            head[508..].copy_from_slice(&crc.to_le_bytes());
        }
        other => panic!("{other} is no case"),
    }
    files
}

/// What opening the files gives, as text: every record of every queue, or the refusal.
fn listing(files: &Files) -> String {
    let disk = LyingDisk::new(1);
    files.iter().for_each(|(name, bytes)| disk.put(*name, bytes.clone()));
    let mut out = String::new();
    let saved = match Store::read_checkpoint(&disk, &CONFIG) {
        Ok(saved) => saved,
        Err(error) => return format!("refused: {error}\n"),
    };
    let opened = match open_with(&disk, CONFIG, saved.as_ref()) {
        Ok(opened) => opened,
        Err(error) => return format!("refused: {error}\n"),
    };
    writeln!(out, "checkpoint {:?}", saved.map(|saved| saved.group.0)).unwrap();
    for repair in &opened.repairs {
        writeln!(out, "repair {repair:?}").unwrap();
    }
    for entry in &opened.entries {
        let hash = xxhash_rust::xxh3::xxh3_64(&entry.payload);
        writeln!(out, "replayed kind {} group {} {hash:016x}", entry.kind, entry.group.0).unwrap();
    }
    for (topic, queue, first, end) in opened.store.queues() {
        let mut at = first;
        while at < end {
            let places = match opened.store.locate(topic, queue, at, 100) {
                Located::Places(places) => places,
                Located::Read(wanted) => read::index(&disk, &wanted).unwrap(),
                other => {
                    let Located::Gap { until, .. } = other else { panic!("{other:?}") };
                    writeln!(out, "{topic}.{queue} {at} {other:?}").unwrap();
                    at = until;
                    continue;
                }
            };
            for place in places {
                let text = match read::records(&disk, &[place]) {
                    Ok(record) => format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&record[0])),
                    Err(error) => error.to_string(),
                };
                let (bytes, stored) = (place.bytes, place.stored.0);
                writeln!(out, "{topic}.{queue} {at} {bytes} bytes at {stored}: {text}").unwrap();
                at = QueueOffset(at.0 + 1);
            }
        }
    }
    out
}

fn load(case: &str) -> Files {
    static UPDATED: Once = Once::new();
    UPDATED.call_once(|| {
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            CASES.into_iter().for_each(update);
        }
    });
    let mut files = Files::new();
    for item in fs::read_dir(folder(case)).unwrap() {
        let path = item.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if let Some(name) = name.strip_suffix(".hex") {
            let text = fs::read_to_string(&path).unwrap();
            files.insert(FileName::parse(name).unwrap(), decode(&text));
        }
    }
    assert!(!files.is_empty(), "{case} is there");
    files
}

fn update(case: &str) {
    let folder = folder(case);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let files = generate(case);
    for (name, bytes) in &files {
        fs::write(folder.join(format!("{name}.hex")), encode(bytes)).unwrap();
    }
    fs::write(folder.join("listing.txt"), listing(&files)).unwrap();
}

#[test]
fn directories_of_version_1_give_what_they_gave() {
    for case in CASES {
        let files = load(case);
        let expected = fs::read_to_string(folder(case).join("listing.txt")).unwrap();
        assert_eq!(listing(&files), expected, "{case}");
    }
}

#[test]
fn each_listing_notices_a_changed_byte() {
    for case in CASES {
        let files = load(case);
        let expected = listing(&files);
        let noticed = files.keys().filter(|name| {
            let mut files = files.clone();
            let file = files.get_mut(name).unwrap();
            // What comes first in a file names it and its version.
            file[9] ^= 0x40;
            listing(&files) != expected
        });
        let noticed: Vec<_> = noticed.collect();
        assert!(noticed.contains(&&FileName::Segment(0)), "{case}: {noticed:?}");
    }
}

#[test]
fn what_is_written_today_is_version_1() {
    assert!(generate("healthy") == load("healthy"), "the bytes of version 1 do not change");
    let files = load("healthy");
    assert!(files.contains_key(&FileName::Index(0)) && files.contains_key(&FileName::Checkpoint));
}

#[test]
fn a_version_that_is_not_known_is_refused_with_a_sentence() {
    let said = listing(&load("from-the-future"));
    let sentence = "log-0000000000 has format version 2, this program reads version 1";
    assert_eq!(said, format!("refused: {sentence}\n"));
}

#[test]
fn text_and_bytes_are_the_same() {
    let mut random = Random(3);
    for length in [1, 15, 16, 17, 100, 5_000] {
        let mut bytes: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        if length > 90 {
            bytes[20..60].fill(0);
            bytes[70..90].fill(7);
        }
        assert_eq!(decode(&encode(&bytes)), bytes);
    }
}
