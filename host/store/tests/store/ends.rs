//! Groups that are lost whole at the end of what is known: the queues that they held end where
//! they ended, so that no offset is given out a second time.
use yard_store::disk::lying::LyingDisk;
use yard_store::{Disk, FileName, GapCause, Located, Lost, Opened, Repair, Store};
use yard_wire::{QueueIndex, QueueOffset, Timestamp, TopicId};

use crate::support::{CONFIG, Model, Random, Rig, batch_of};

type End = (TopicId, QueueIndex, QueueOffset);

const TOPIC: TopicId = TopicId(1);
const QUEUE: QueueIndex = QueueIndex(0);

/// Where each queue ends.
fn ends(store: &Store) -> Vec<End> {
    store.queues().map(|(topic, queue, _, end)| (topic, queue, end)).collect()
}

fn open(disk: &LyingDisk) -> Opened {
    let saved = Store::read_checkpoint(disk, &CONFIG).unwrap();
    Store::open(disk, CONFIG, saved.as_ref(), &mut |_| Ok(())).unwrap()
}

fn lost(repairs: &[Repair]) -> Vec<Lost> {
    let lists = repairs.iter().filter_map(|repair| match repair {
        Repair::Quarantined { lost, .. } => Some(lost.clone()),
        _ => None,
    });
    lists.flatten().collect()
}

/// One message to a queue, in a group of its own; where the group lies.
fn group(rig: &mut Rig, topic: u32, queue: u16) -> (FileName, u64) {
    let batch = batch_of(&mut Random(topic.into()), &[(topic, queue, 900)]);
    rig.append_batch(&batch).unwrap();
    rig.flush();
    let stats = rig.store.stats();
    let segment = stats.segments as u32 - 1;
    let end = stats.appended.0 - u64::from(segment) * CONFIG.segment_bytes;
    let bytes = (64 + 24 + 18 + batch.bytes().len() + 4 + 32).next_multiple_of(64);
    (FileName::Segment(segment), end - bytes as u64)
}

/// Overwrites the rest of a segment's file, from a place up to another.
fn erase(disk: &LyingDisk, (name, from): (FileName, u64), to: u64, with: u8) {
    let mut bytes = disk.contents(name).unwrap();
    let to = (to as usize).min(bytes.len());
    bytes[from as usize..to].fill(with);
    disk.put(name, bytes);
}

/// The queues end where they did, what was erased is a gap, and new messages come behind it.
fn check(disk: LyingDisk, opened: Opened, before: &[End], gap: (u64, u64)) -> Rig {
    assert_eq!(ends(&opened.store), before, "{:?}", opened.repairs);
    let (from, to) = (QueueOffset(gap.0), QueueOffset(gap.1));
    let wanted = Lost { topic: TOPIC, queue: QUEUE, from, to };
    assert!(lost(&opened.repairs).contains(&wanted), "{:?}", opened.repairs);
    let found = opened.store.locate(TOPIC, QUEUE, from, 10);
    assert_eq!(found, Located::Gap { until: to, why: GapCause::Damaged });
    assert_eq!(opened.store.locate(TOPIC, QUEUE, to, 10), Located::End);
    let (model, now, repairs) = (Model::default(), Timestamp(1_000_000), opened.repairs);
    let (store, io, gathered) = (opened.store, opened.io, std::collections::VecDeque::new());
    let mut rig = Rig { disk, store, io, model, now, repairs, gathered };
    let batch = batch_of(&mut Random(1), &[(TOPIC.0, QUEUE.0, 10)]);
    let appended = rig.append_batch(&batch).unwrap();
    assert_eq!(appended.placed[0].first, to, "new messages come behind what was lost");
    rig.flush();
    assert!(matches!(rig.store.locate(TOPIC, QUEUE, to, 1), Located::Places(_)));
    rig
}

#[test]
fn a_checkpoint_says_where_queues_end_whose_last_groups_are_lost() {
    for with in [0, 0xa5] {
        let mut rig = Rig::new(1);
        rig.settle();
        for _ in 0..3 {
            group(&mut rig, 1, 0);
        }
        group(&mut rig, 2, 7);
        let from = group(&mut rig, 1, 0);
        group(&mut rig, 1, 0);
        group(&mut rig, 3, 1);
        rig.checkpoint();
        rig.settle();
        let seen = rig.store.stats().appended.0;
        let before = ends(&rig.store);
        let disk = rig.disk.fork();
        erase(&disk, from, seen, with);
        let opened = open(&disk);
        let lost_of_3 = Lost {
            topic: TopicId(3),
            queue: QueueIndex(1),
            from: QueueOffset(0),
            to: QueueOffset(1),
        };
        assert!(lost(&opened.repairs).contains(&lost_of_3), "a queue of which all is lost");
        let rig = check(disk, opened, &before, (3, 5));
        // It stays so, with and without the new message.
        let again = open(&rig.disk);
        assert_eq!(lost(&again.repairs).len(), 2);
        assert_eq!(ends(&again.store)[0], (TOPIC, QUEUE, QueueOffset(6)));
        // What is lost behind the checkpoint as well: one group of each kind is proven.
        let mut rig = rig;
        let from = group(&mut rig, 1, 0);
        let to = rig.store.stats().appended.0;
        rig.close(true).unwrap();
        rig.settle();
        erase(&rig.disk, from, to, with);
        let mut opened = open(&rig.disk);
        assert_eq!(ends(&opened.store)[0], (TOPIC, QUEUE, QueueOffset(6)), "nothing says more");
        opened.prove_ends(&[(TOPIC, QUEUE, QueueOffset(7)), (TOPIC, QUEUE, QueueOffset(2))]);
        let proven = [(TOPIC, QUEUE, QueueOffset(7)), before[1], before[2]];
        check(rig.disk, opened, &proven, (6, 7));
    }
}

/// A log of several segments; the last group of segment 1 alone holds the last message of its
/// queue. Where that lies, and the log.
fn sealed() -> (Rig, (FileName, u64)) {
    let mut rig = Rig::new(2);
    rig.settle();
    group(&mut rig, 1, 0);
    let bytes = rig.store.stats().appended.0 - 512;
    group(&mut rig, 1, 0);
    let mut place = (FileName::Segment(0), 0);
    while rig.store.stats().segments < 4 {
        let room = CONFIG.segment_bytes - rig.store.stats().appended.0 % CONFIG.segment_bytes;
        let is_last = rig.store.stats().segments == 2 && (bytes..2 * bytes).contains(&room);
        let at = group(&mut rig, if is_last { 1 } else { 9 }, 0);
        if is_last && at.0 == FileName::Segment(1) {
            place = at;
        }
    }
    assert!(place.1 > 0, "segment 1 ends with a message of the queue");
    rig.settle();
    (rig, place)
}

#[test]
fn a_sidecar_says_where_queues_end_whose_last_groups_are_lost() {
    let (rig, place) = sealed();
    let before = ends(&rig.store);
    let end = before[0].2.0;
    for with in [0, 0xa5] {
        let disk = rig.disk.fork();
        erase(&disk, place, CONFIG.segment_bytes, with);
        let opened = open(&disk);
        let rebuilt = Repair::IndexRebuilt { segment: 1 };
        assert!(opened.repairs.contains(&rebuilt), "{:?}", opened.repairs);
        // The new sidecar knows it too.
        let again = open(&disk);
        assert_eq!(lost(&again.repairs), lost(&opened.repairs));
        check(disk, opened, &before, (2, end));
    }
    // Neither is there: a start knows no more than the log.
    let disk = rig.disk.fork();
    erase(&disk, place, CONFIG.segment_bytes, 0);
    disk.remove(FileName::Index(1)).unwrap();
    assert_eq!(ends(&open(&disk).store)[0], (TOPIC, QUEUE, QueueOffset(2)));
}

#[test]
fn what_was_proven_besides_the_log_stays_known() {
    let (mut rig, place) = sealed();
    let before = ends(&rig.store);
    let end = before[0].2.0;
    erase(&rig.disk, place, CONFIG.segment_bytes, 0);
    rig.disk.remove(FileName::Index(1)).unwrap();
    let mut opened = open(&rig.disk);
    opened.prove_ends(&before);
    let gap = Lost { topic: TOPIC, queue: QUEUE, from: QueueOffset(2), to: QueueOffset(end) };
    assert_eq!(lost(&opened.repairs), [gap]);
    assert_eq!(ends(&opened.store), before);
    // Nothing new comes to the queue; a checkpoint is all that knows it.
    (rig.store, rig.io) = (opened.store, opened.io);
    group(&mut rig, 9, 0);
    rig.checkpoint();
    rig.settle();
    let before = ends(&rig.store);
    let disk = rig.disk.fork();
    let opened = open(&disk);
    check(disk, opened, &before, (2, end));
    // Then the segment in which it was found out is sealed, and says it.
    while rig.disk.contents(FileName::Index(3)).is_none() {
        group(&mut rig, 9, 0);
    }
    group(&mut rig, 9, 0);
    rig.checkpoint();
    rig.settle();
    let opened = open(&rig.disk);
    assert_eq!(lost(&opened.repairs), []);
    assert_eq!(ends(&opened.store)[0], before[0]);
    assert_eq!(opened.store.queue_next(TOPIC, QUEUE), QueueOffset(end));
}

#[test]
fn the_ends_of_a_whole_log_change_nothing() {
    let (mut rig, _) = sealed();
    rig.checkpoint();
    rig.settle();
    let before = ends(&rig.store);
    let disk = rig.disk.fork();
    let mut opened = open(&disk);
    opened.prove_ends(&before);
    assert_eq!((&opened.repairs[..], ends(&opened.store)), (&[][..], before));
    // Only queues of segments that have no sidecar are in a checkpoint.
    let bytes = disk.contents(FileName::Checkpoint).unwrap();
    let count = u32::from_le_bytes(bytes[72..76].try_into().unwrap());
    assert_eq!(count, 1, "of topic 9 alone");
}
