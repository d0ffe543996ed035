//! The file of the segment that is written to has lost its end: that it has is told, and how much
//! was lost by it as far as other files know.
use yard_store::disk::lying::LyingDisk;
use yard_store::offline::Step;
use yard_store::{Disk, FileName, Located, Repair, Store};

use crate::finding::keyed_batch;
use crate::offline::look;
use crate::support::{CONFIG, Random, Rig, open_all, open_with};
use crate::survive::groups;

/// A log whose active segment holds so many bytes at least, most of them in its key index's files.
fn filled(segment: u32, bytes: u64) -> Rig {
    let mut random = Random(u64::from(segment) + 1);
    let mut rig = Rig::new(4);
    while rig.store.stats().appended.0 < u64::from(segment) * CONFIG.segment_bytes + bytes {
        rig.append_batch(&keyed_batch(&mut random)).unwrap();
        rig.flush();
    }
    rig.close(true).unwrap();
    rig.settle();
    assert_eq!(rig.store.stats().segments, u64::from(segment) + 1);
    rig
}

/// Where the messages of a segment that is written to lie.
fn places(rig: &Rig, segment: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for (topic, queue, mut at, end) in rig.store.queues() {
        while at < end {
            let places = match rig.store.locate(topic, queue, at, 100) {
                Located::Places(places) => places,
                Located::Read(wanted) => yard_store::read::index(&rig.disk, &wanted).unwrap(),
                other => panic!("{other:?}"),
            };
            at.0 += places.len() as u64;
            found.extend(places.iter().filter(|it| it.segment == segment).map(|it| it.offset));
        }
    }
    found
}

fn is_key_of(segment: u32) -> impl Fn(&FileName) -> bool {
    move |name| matches!(name, FileName::Keys { segment: of, .. } if *of == segment)
}

/// Byte after what the key index of a segment has in files.
fn filed(disk: &LyingDisk, segment: u32) -> u32 {
    let names = disk.list().unwrap().into_iter().filter(is_key_of(segment));
    let to = names.map(|name| {
        let bytes = disk.contents(name).unwrap();
        u32::from_le_bytes(bytes[28..32].try_into().unwrap())
    });
    to.max().expect("there are files")
}

fn cut(disk: &LyingDisk, segment: u32, length: usize) {
    let name = FileName::Segment(segment);
    let mut bytes = disk.contents(name).unwrap();
    bytes.truncate(length);
    disk.put(name, bytes);
}

/// Byte after the last group that lies before this one.
fn whole_end(disk: &LyingDisk, segment: u32, length: usize) -> u32 {
    let all = groups(&disk.contents(FileName::Segment(segment)).unwrap());
    let end = all.iter().map(|(_, end)| *end).rfind(|end| *end <= length as u64);
    end.map_or(512, |end| end.next_multiple_of(64) as u32)
}

fn cuts(repairs: &[Repair]) -> Vec<(u32, u64, u64, u64)> {
    let cut = |repair: &Repair| match repair {
        Repair::FileCut { segment, offset, bytes, messages } => {
            Some((*segment, *offset, *bytes, *messages))
        }
        _ => None,
    };
    repairs.iter().filter_map(cut).collect()
}

#[test]
fn what_a_file_has_lost_is_told_and_counted_by_the_key_index() {
    let rig = filled(0, 56_000);
    let (places, filed) = (places(&rig, 0), filed(&rig.disk, 0));
    assert!(filed > 40_000 && places.iter().any(|place| *place >= filed), "{filed}");
    let mut counted = 0;
    for length in [513, 600, 4_096, 20_000, 33_333, 40_000, filed as usize, 65_000] {
        let disk = rig.disk.fork();
        let end = whole_end(&disk, 0, length);
        cut(&disk, 0, length);
        let gone = places.iter().filter(|place| (end..filed).contains(place)).count() as u64;
        let (joined, plan) = look(&disk).unwrap();
        assert_eq!(joined.lost(), gone, "cut at {length}: {:?}", joined.damage);
        assert!(!joined.damage.is_empty(), "cut at {length}");
        let removes = |step: &Step| matches!(step, Step::Remove { name, .. } if is_key_of(0)(name));
        assert!(!plan.steps.iter().any(removes), "cut at {length}: what knows of it stays");
        let opened = open_all(&disk).unwrap();
        let bytes = CONFIG.segment_bytes - length as u64;
        assert_eq!(cuts(&opened.repairs), [(0, length as u64, bytes, gone)]);
        let kept: u64 = opened.store.queues().map(|(.., end)| end.0).sum();
        let expected = places.iter().filter(|place| **place < end).count() as u64;
        assert_eq!(kept, expected, "cut at {length}");
        let again = open_all(&disk).unwrap();
        assert_eq!(cuts(&again.repairs), [], "it has its length again");
        counted += gone;
    }
    assert!(counted > 500, "{counted}");
}

#[test]
fn a_file_that_was_cut_off_is_told_though_nothing_counts_what_it_held() {
    let rig = filled(0, 56_000);
    let names = rig.disk.list().unwrap().into_iter().filter(is_key_of(0));
    names.for_each(|name| rig.disk.remove(name).unwrap());
    cut(&rig.disk, 0, 20_000);
    assert!(!look(&rig.disk).unwrap().0.damage.is_empty());
    let opened = open_all(&rig.disk).unwrap();
    assert_eq!(cuts(&opened.repairs), [(0, 20_000, CONFIG.segment_bytes - 20_000, 0)]);
}

#[test]
fn a_file_of_which_nothing_is_left_is_told_by_its_key_index() {
    let rig = filled(1, 40_000);
    let (places, filed) = (places(&rig, 1), filed(&rig.disk, 1));
    let gone = places.iter().filter(|place| **place < filed).count() as u64;
    assert!(gone > 50, "{gone}");
    for length in [0, 100, 511, 512] {
        let disk = rig.disk.fork();
        cut(&disk, 1, length);
        let (joined, _) = look(&disk).unwrap();
        assert_eq!(joined.lost(), gone, "cut at {length}: {:?}", joined.damage);
        let opened = open_all(&disk).unwrap();
        let bytes = CONFIG.segment_bytes - length as u64;
        assert_eq!(cuts(&opened.repairs), [(1, length as u64, bytes, gone)], "cut at {length}");
    }
}

#[test]
fn what_the_checkpoint_has_seen_is_counted_once() {
    let mut rig = filled(0, 44_000);
    rig.checkpoint();
    rig.settle();
    let mut random = Random(9);
    while rig.store.stats().appended.0 < 60_000 {
        rig.append_batch(&keyed_batch(&mut random)).unwrap();
        rig.flush();
    }
    rig.close(true).unwrap();
    rig.settle();
    let saved = Store::read_checkpoint(&rig.disk, &CONFIG).unwrap().unwrap();
    let (places, filed) = (places(&rig, 0), filed(&rig.disk, 0));
    let (seen, end) = (saved.offset as u32, whole_end(&rig.disk, 0, 20_000));
    let is_known = |place: &&u32| **place >= end && **place < seen.max(filed);
    let known = places.iter().filter(is_known).count() as u64;
    assert!(filed > seen && end < seen, "{filed} {seen} {end}");
    cut(&rig.disk, 0, 20_000);
    let (joined, _) = look(&rig.disk).unwrap();
    assert_eq!(joined.lost(), known, "{:?}", joined.damage);
    let opened = open_with(&rig.disk, CONFIG, Some(&saved)).unwrap();
    let lost = |repair: &Repair| match repair {
        Repair::Quarantined { lost, .. } => lost.iter().map(|it| it.to.0 - it.from.0).sum(),
        Repair::FileCut { messages, .. } => *messages,
        _ => 0,
    };
    let reported: u64 = opened.repairs.iter().map(lost).sum();
    // Of the group that the cut goes through messages may be left.
    assert!(reported <= known && reported + 8 > known, "{reported} of {known}");
}
