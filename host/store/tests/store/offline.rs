//! The tools' view of a log: what is whole, what is damaged and which messages that takes, and
//! that looking at it changes nothing.
use std::ops::ControlFlow;

use yard_store::disk::lying::LyingDisk;
use yard_store::offline::{
    self, Damage, Joined, Line, Plan, Saved, Span, Step, examine_derived, join, survey,
};
use yard_store::{Disk, FileName, Located, OpenError, Store, read};
use yard_wire::{QueueIndex, QueueOffset, RecordPlace, ShardId, TopicId};

use crate::support::{CONFIG, Random, Rig, batch_of, open_with, some_batch};

/// A log of several segments whose last has a checkpoint and a proven tail.
fn rig() -> Rig {
    let mut random = Random(11);
    let mut rig = Rig::new(11);
    while rig.store.stats().segments < 4 {
        for _ in 0..8 {
            rig.append_batch(&some_batch(&mut random)).unwrap();
        }
        rig.append(b"a decision").unwrap();
        rig.flush();
        if rig.store.checkpoint_due() {
            rig.checkpoint();
        }
    }
    rig.append_batch(&batch_of(&mut random, &[(0, 0, 40), (1, 1, 40), (2, 2, 40)])).unwrap();
    rig.flush();
    rig.close(true).unwrap();
    rig.settle();
    rig
}

fn contents(disk: &LyingDisk) -> Vec<(FileName, Vec<u8>)> {
    let names = disk.list().unwrap().into_iter();
    names.map(|name| (name, disk.contents(name).unwrap())).collect()
}

/// Verifies a log, and plans its repair; nothing of it may change.
pub(crate) fn look(disk: &LyingDisk) -> Result<(Joined, Plan), OpenError> {
    let before = contents(disk);
    let found = survey(disk, Some(CONFIG.shard))?;
    let saved = offline::saved(disk, CONFIG.shard, &found.names)?;
    let wanted = match &saved {
        Saved::Whole(saved) => Some(saved.group),
        Saved::Nothing | Saved::Damaged => None,
    };
    let (mut all, mut derived) = (Vec::new(), Vec::new());
    for at in 0..found.segments.len() {
        let (examined, wrong) = examine_derived(disk, &found, at, wanted)?;
        derived.extend(wrong);
        all.push(examined);
    }
    let mut joined = join(&found, &all);
    let checkpoint = saved.damage(&all);
    let plan = offline::plan(disk, &found, &all, &derived, checkpoint.as_ref(), 9)?;
    joined.damage.extend(checkpoint);
    joined.damage.extend(offline::cut_off(disk, &found, &all, &saved));
    assert!(before == contents(disk), "looking changes nothing");
    Ok((joined, plan))
}

/// Where every message lies.
fn places(rig: &Rig) -> Vec<(Span, RecordPlace)> {
    let mut found = Vec::new();
    for (topic, queue, first, end) in rig.store.queues() {
        let mut from = first;
        while from < end {
            let places = match rig.store.locate(topic, queue, from, 100) {
                Located::Places(places) => places,
                Located::Read(wanted) => read::index(&rig.disk, &wanted).unwrap(),
                other => panic!("{other:?}"),
            };
            for place in places {
                let to = QueueOffset(from.0 + 1);
                found.push((Span { topic, queue, from, to }, place));
                from = to;
            }
        }
    }
    found
}

#[test]
fn a_healthy_log_is_whole_and_counted() {
    let rig = rig();
    let (joined, plan) = look(&rig.disk).unwrap();
    assert_eq!(joined.damage, []);
    assert_eq!((plan.steps, plan.losses), (vec![], vec![]));
    assert_eq!(joined.counts.entries, rig.model.entries.len() as u64);
    assert_eq!(joined.counts.records, rig.store.stats().messages);
    assert_eq!(joined.counts.groups, rig.store.stats().groups);
    assert_eq!(joined.loose, 0);
    let queues = rig.store.queues().filter(|queue| queue.3.0 > 0).count();
    assert_eq!(joined.queues, queues as u64);
    assert_eq!(places(&rig).len() as u64, joined.counts.records);
}

#[test]
fn a_flipped_bit_is_told_by_its_place() {
    let rig = rig();
    let mut random = Random(3);
    let mut told = 0;
    // A last segment that is only prepared has nothing to lose.
    let prepared = rig.disk.list().unwrap().into_iter().rfind(|name| {
        matches!(name, FileName::Segment(_))
            && rig.disk.contents(*name).unwrap()[512..].iter().all(|byte| *byte == 0)
    });
    for (name, bytes) in contents(&rig.disk) {
        if Some(name) == prepared {
            continue;
        }
        let last = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
        for _ in 0..300 {
            let byte = random.below(last + 1);
            let disk = rig.disk.fork();
            assert!(disk.flip_bit(name, byte * 8 + random.below(8)));
            let (joined, plan) = look(&disk).unwrap();
            let covers = |damage: &Damage| {
                let range = damage.offset..damage.offset + damage.bytes;
                damage.name == name && (range.contains(&byte) || damage.bytes == 0)
            };
            match name {
                FileName::Segment(_) => {
                    // The very last group may be one that is being written.
                    let ends = FileName::Segment(joined.end.0) == name && joined.loose > 0;
                    let is_told = joined.damage.iter().any(covers);
                    assert!(is_told || ends, "{name} {byte}: {:?}", joined.damage);
                }
                FileName::Keys { .. } => {
                    let removes =
                        |step: &Step| matches!(step, Step::Remove { name: it, .. } if *it == name);
                    assert!(plan.steps.len() == 1 && removes(&plan.steps[0]), "{name} {byte}");
                }
                FileName::Index(_) => {
                    assert!(
                        matches!(&plan.steps[..], [Step::Write { name: it, .. }] if *it == name)
                    );
                }
                FileName::Checkpoint => {
                    assert!(joined.damage.iter().any(covers));
                    assert!(matches!(plan.steps[..], [Step::Remove { .. }]));
                }
            }
            told += 1;
        }
    }
    let is_keys = |name: &FileName| matches!(name, FileName::Keys { .. });
    assert!(rig.disk.list().unwrap().iter().any(is_keys), "the key index is among them");
    assert!(told >= 2_000, "{told}");
}

#[test]
fn a_segment_is_begun_wherever_its_first_group_can_be_read() {
    let rig = rig();
    let first = (512 + 20) * 8;
    for bits in [&[first][..], &[40 * 8], &[40 * 8, first]] {
        for segment in 0..4 {
            let disk = rig.disk.fork();
            bits.iter().for_each(|bit| assert!(disk.flip_bit(FileName::Segment(segment), *bit)));
            let found = survey(&disk, Some(CONFIG.shard)).unwrap();
            assert_eq!((found.active(), &found.missing[..]), (3, &[][..]), "{segment}: {bits:?}");
            let salts = |found: &offline::Survey| -> Vec<u64> {
                found.segments[..4].iter().map(offline::Surveyed::salt).collect()
            };
            let whole = survey(&rig.disk, Some(CONFIG.shard)).unwrap();
            assert_eq!(salts(&found), salts(&whole), "{segment}: {bits:?}");
            assert_eq!(found.segments[2].base(), whole.segments[2].base(), "{segment}: {bits:?}");
            let (joined, _) = look(&disk).unwrap();
            let name = FileName::Segment(segment);
            assert!(joined.damage.iter().any(|damage| damage.name == name), "{segment}: {bits:?}");
        }
    }
}

#[test]
fn a_damaged_body_takes_that_message_only() {
    let rig = rig();
    let mut random = Random(4);
    let all = places(&rig);
    let mut hit = 0;
    for (span, place) in &all {
        // Not those with an empty body: it has no byte to flip.
        if place.bytes <= 80 || random.below(10) > 0 {
            continue;
        }
        let disk = rig.disk.fork();
        let byte = u64::from(place.offset) + 80 + random.below(u64::from(place.bytes) - 80);
        disk.flip_bit(FileName::Segment(place.segment), byte * 8);
        let (joined, _) = look(&disk).unwrap();
        let [damage] = &joined.damage[..] else { panic!("{place:?}: {:?}", joined.damage) };
        let expected = (&[*span][..], u64::from(place.bytes));
        assert_eq!((&damage.lost[..], damage.bytes), expected, "{place:?}: {damage}");
        assert_eq!(joined.counts.records + 1, all.len() as u64);
        hit += 1;
    }
    assert!(hit > 20, "{hit}");
}

/// Where each message of a log lies, as a dump says it.
fn dumped(disk: &LyingDisk) -> Vec<(yard_wire::LogPos, Option<QueueOffset>)> {
    let mut found = Vec::new();
    for segment in &survey(disk, Some(CONFIG.shard)).unwrap().segments {
        let _ = offline::dump(disk, segment, &mut |line| {
            if let Line::Record { position, offset, .. } = line {
                found.push((position, offset));
            }
            ControlFlow::Continue(())
        });
    }
    found
}

#[test]
fn messages_of_a_damaged_entry_lie_where_they_did() {
    let rig = rig();
    let expected = dumped(&rig.disk);
    assert!(expected.len() > 100, "{}", expected.len());
    // Its checksum, and how many bytes of notes it has.
    for byte in [4, 20] {
        let disk = rig.disk.fork();
        disk.flip_bit(FileName::Segment(1), (512 + 64 + byte) * 8);
        assert_eq!(look(&disk).unwrap().0.damage.len(), 1, "byte {byte}");
        assert!(dumped(&disk) == expected, "byte {byte}");
    }
}

#[test]
fn a_damaged_entry_takes_what_the_queues_lack() {
    let rig = rig();
    let all = places(&rig);
    // The length of the entry in the first group of segment 1.
    let disk = rig.disk.fork();
    disk.flip_bit(FileName::Segment(1), (512 + 64) * 8 + 3);
    let (joined, _) = look(&disk).unwrap();
    let header_at = joined.damage[0].offset;
    assert_eq!(header_at, 512 + 64);
    assert_eq!((joined.counts.records, joined.lost()), (all.len() as u64, 0), "all is found");
    // With its placements and the header of its batch nothing says what it was.
    let mut bytes = disk.contents(FileName::Segment(1)).unwrap();
    bytes[512 + 64..512 + 64 + 100].fill(0xff);
    disk.put(FileName::Segment(1), bytes);
    let (joined, _) = look(&disk).unwrap();
    assert_eq!(joined.counts.records + joined.lost(), all.len() as u64, "each found or missed");
    let lost = joined.damage.iter().flat_map(|damage| &damage.lost);
    let lies_there = |span: &Span| {
        let of_queue =
            all.iter().filter(|(it, _)| (it.topic, it.queue) == (span.topic, span.queue));
        let mut hit = of_queue.filter(|(it, _)| span.from <= it.from && it.to <= span.to);
        hit.all(|(_, place)| place.segment == 1)
    };
    assert!(joined.lost() > 0 && lost.into_iter().all(lies_there));
}

#[test]
fn a_missing_segment_is_told_and_its_messages_named() {
    let rig = rig();
    let all = places(&rig);
    let disk = rig.disk.fork();
    disk.remove(FileName::Segment(1)).unwrap();
    let (joined, plan) = look(&disk).unwrap();
    let gone = all.iter().filter(|(_, place)| place.segment == 1).count() as u64;
    assert_eq!(joined.lost(), gone);
    assert!(joined.damage.iter().any(|damage| damage.what == "the segment is missing"));
    assert_eq!(plan.losses.len(), 1, "{:?}", plan.losses);
    let replaces = |step: &Step| matches!(step, Step::Replace { segment: 1, bytes: 65_536, .. });
    assert!(plan.steps.iter().any(replaces), "{:?}", plan.steps);
    // The end of the log: what a checkpoint has seen is gone with it.
    let disk = rig.disk.fork();
    disk.remove(FileName::Segment(3)).unwrap();
    disk.remove(FileName::Segment(4)).unwrap();
    let (joined, plan) = look(&disk).unwrap();
    assert!(!plan.losses.is_empty() && !joined.damage.is_empty());
}

/// Does all that a plan says.
fn repair(disk: &LyingDisk) -> Plan {
    let found = survey(disk, None).unwrap();
    let (_, plan) = look(disk).unwrap();
    for step in &plan.steps {
        offline::apply(disk, &found, step).unwrap();
    }
    plan
}

/// Every message that lay in none of these segments is served; how many are not.
fn check_rest(rig: &Rig, disk: &LyingDisk, gone: &[u32]) -> u64 {
    let saved = Store::read_checkpoint(disk, &CONFIG).unwrap();
    let opened = open_with(disk, CONFIG, saved.as_ref()).unwrap();
    let mut lost = 0;
    for (span, place) in places(rig) {
        let places = match opened.store.locate(span.topic, span.queue, span.from, 1) {
            Located::Places(places) => places,
            Located::Read(wanted) => read::index(disk, &wanted).unwrap(),
            Located::Gap { .. } | Located::End if gone.contains(&place.segment) => {
                lost += 1;
                continue;
            }
            other => panic!("{span:?}: {other:?} {:?}", opened.repairs),
        };
        let record = read::records(disk, &places).unwrap();
        assert_eq!(record, read::records(&rig.disk, &[place]).unwrap());
        assert_eq!(places[0].stored, place.stored);
    }
    lost
}

#[test]
fn a_loss_that_is_accepted_leaves_a_log_that_serves_the_rest() {
    let rig = rig();
    let all = places(&rig);
    for gone in [&[0][..], &[1], &[2], &[1, 2], &[0, 1]] {
        let disk = rig.disk.fork();
        gone.iter().for_each(|segment| disk.remove(FileName::Segment(*segment)).unwrap());
        let saved = Store::read_checkpoint(&disk, &CONFIG).unwrap();
        let refused = open_with(&disk, CONFIG, saved.as_ref()).map(|_| ()).unwrap_err();
        assert!(matches!(refused, OpenError::Missing { .. }), "{gone:?}: {refused}");
        let plan = repair(&disk);
        assert_eq!(plan.losses.len(), gone.len(), "{gone:?}: {:?}", plan.losses);
        let lay_there = all.iter().filter(|(_, place)| gone.contains(&place.segment)).count();
        assert_eq!(check_rest(&rig, &disk, gone), lay_there as u64, "{gone:?}");
        let (_, plan) = look(&disk).unwrap();
        assert_eq!((plan.losses, plan.steps), (vec![], vec![]), "{gone:?}: nothing is left to do");
    }
    // The end of the log, which a checkpoint has seen: the checkpoint goes.
    let disk = rig.disk.fork();
    disk.remove(FileName::Segment(4)).unwrap();
    disk.remove(FileName::Segment(3)).unwrap();
    let plan = repair(&disk);
    assert!(!plan.losses.is_empty() && disk.contents(FileName::Checkpoint).is_none());
    assert!(check_rest(&rig, &disk, &[3]) > 0);
}

#[test]
fn a_file_that_was_cut_off_is_told_with_what_it_held() {
    let rig = rig();
    let all = places(&rig);
    let last = all.iter().map(|(_, place)| place.segment).max().unwrap();
    let mut lost = 0;
    for segment in [1, last] {
        let name = FileName::Segment(segment);
        let bytes = rig.disk.contents(name).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        for length in (512..used).step_by(997) {
            let disk = rig.disk.fork();
            disk.put(name, bytes[..length].to_vec());
            let (joined, _) = look(&disk).unwrap();
            let is_told = joined.damage.iter().any(|damage| {
                let reach = damage.offset..damage.offset + damage.bytes;
                damage.name == name && reach.contains(&(length as u64))
            });
            assert!(is_told, "cut at {length}: {:?}", joined.damage);
            let found = joined.counts.records + joined.lost();
            if segment != last {
                assert_eq!(found, all.len() as u64, "cut at {length}: each found or missed");
            }
            assert!(found <= all.len() as u64, "cut at {length}: {:?}", joined.damage);
            lost += joined.lost();
        }
    }
    assert!(lost > 100, "{lost}");
}

#[test]
fn what_follows_from_the_log_is_made_again() {
    let rig = rig();
    let saved = Store::read_checkpoint(&rig.disk, &CONFIG).unwrap();
    for spoil in [0, 1, 2] {
        let disk = rig.disk.fork();
        let good = disk.contents(FileName::Index(1));
        match spoil {
            0 => disk.remove(FileName::Index(1)).unwrap(),
            1 => disk.put(FileName::Index(1), disk.contents(FileName::Index(0)).unwrap()),
            _ => disk.put(FileName::Checkpoint, vec![7; 100]),
        }
        let found = survey(&disk, None).unwrap();
        let (_, plan) = look(&disk).unwrap();
        assert_eq!((plan.steps.len(), plan.losses.len()), (1, 0), "{:?}", plan.steps);
        offline::apply(&disk, &found, &plan.steps[0]).unwrap();
        assert!(disk.contents(FileName::Index(1)) == good, "the same bytes");
        let (joined, plan) = look(&disk).unwrap();
        assert_eq!((joined.damage, plan.steps), (vec![], vec![]));
        let saved = if spoil == 2 { None } else { saved.as_ref() };
        assert_eq!(open_with(&disk, CONFIG, saved).unwrap().repairs, []);
    }
}

#[test]
fn what_is_not_this_log_is_refused() {
    let disk = LyingDisk::new(1);
    assert!(matches!(survey(&disk, None), Err(OpenError::Missing { segment: 0 })));
    let rig = rig();
    let other = survey(&rig.disk, Some(ShardId(4)));
    assert!(matches!(other, Err(OpenError::WrongShard { shard: 3, .. })));
    let disk = rig.disk.fork();
    disk.put(FileName::Segment(1), disk.contents(FileName::Segment(2)).unwrap());
    assert!(matches!(survey(&disk, None), Err(OpenError::Corrupt(_))));
    assert_eq!(survey(&rig.disk, None).unwrap().shard, CONFIG.shard);
}

#[test]
fn a_dump_shows_everything_in_order_and_stops_when_told() {
    let rig = rig();
    let found = survey(&rig.disk, None).unwrap();
    let (mut lines, mut records, mut waiting, mut last) = (0, 0, 0, 0);
    for segment in &found.segments {
        let flow = offline::dump(&rig.disk, segment, &mut |line| {
            let position = match line {
                Line::Group { position, .. } | Line::Entry { position, .. } => position,
                Line::Record { position, offset: Some(_), .. } | Line::Release { position, .. } => {
                    records += 1;
                    position
                }
                Line::Record { position, offset: None, .. } => {
                    waiting += 1;
                    position
                }
                Line::Damage { damage, .. } => panic!("{damage}"),
            };
            assert!(position.0 > last, "in the order of the log");
            last = position.0;
            lines += 1;
            ControlFlow::Continue(())
        });
        assert!(flow.is_continue());
    }
    let stats = rig.store.stats();
    assert_eq!(records, stats.messages);
    assert_eq!(waiting, rig.parked().len(), "what waits has no offset");
    let entries = rig.model.entries.len() as u64;
    assert_eq!(lines, stats.groups + entries + stats.messages + waiting as u64);
    let mut count = 0;
    let flow = offline::dump(&rig.disk, &found.segments[0], &mut |_| {
        count += 1;
        if count == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(flow.is_break() && count == 5);
    let (topic, queue) = (TopicId(0), QueueIndex(0));
    assert!(rig.store.queue_span(topic, queue).1.0 > 0, "the log holds what it is about");
}
