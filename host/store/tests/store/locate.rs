//! The queue index: questions across sealed and active segments, and blocks of a sidecar.
use yard_store::disk::lying::{Crash, LyingDisk};
use yard_store::{Disk, FileName, Located, StoreConfig, read};
use yard_wire::{QueueIndex, QueueOffset, RecordPlace, Timestamp, TopicId};

use crate::support::{CONFIG, Random, Rig, batch_of, open_with};

const TOPIC: TopicId = TopicId(1);
const QUEUE: QueueIndex = QueueIndex(5);

/// 5,000 records of one queue, with some of others between, in segments of 256 KiB.
fn rig() -> Rig {
    let mut random = Random(3);
    let config = StoreConfig { segment_bytes: 256 << 10, ..CONFIG };
    let mut rig = Rig::on(LyingDisk::new(3), config);
    for _ in 0..100 {
        let mut records = vec![(TOPIC.0, QUEUE.0, 0); 50];
        records.insert(20, (2, random.below(900) as u16, 3));
        rig.append_batch(&batch_of(&mut random, &records)).unwrap();
        rig.flush();
    }
    assert!(rig.store.stats().segments >= 2 && rig.disk.len(FileName::Index(0)).is_ok());
    rig
}

fn places(rig: &Rig, from: u64, count: u32) -> Vec<RecordPlace> {
    match rig.store.locate(TOPIC, QUEUE, QueueOffset(from), count) {
        Located::Places(places) => places,
        Located::Read(wanted) => {
            let found = read::index(&rig.disk, &wanted).unwrap();
            // Without its sidecar the segment itself gives the same answer.
            let other = rig.disk.fork();
            other.remove(FileName::Index(wanted.segment)).unwrap();
            assert_eq!(read::index(&other, &wanted).unwrap(), found);
            let bytes = rig.disk.contents(FileName::Index(wanted.segment)).unwrap();
            let begin = wanted.file_offset as usize;
            let mut read = bytes[begin..begin + wanted.bytes as usize].to_vec();
            let last = read.len() - 1;
            read[last] ^= 1;
            assert!(wanted.parse(&read).is_err() && wanted.parse(&read[..last]).is_err());
            found
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn any_range_of_a_queue_is_found() {
    let rig = rig();
    let records = &rig.model.queues(100)[&(TOPIC, QUEUE)];
    assert_eq!(records.len(), 5_000);
    for from in [0, 1, 510, 511, 512, 513, 1_023, 1_024, 2_000, 2_700, 4_999] {
        for count in [1, 2, 511, 512, 513, 1_025, 10_000] {
            let found = places(&rig, from, count);
            assert!(!found.is_empty() && found.len() <= count as usize);
            let read = read::records(&rig.disk, &found).unwrap();
            for (at, record) in read.iter().enumerate() {
                assert_eq!(*record, records[from as usize + at].0, "{from} + {at} of {count}");
            }
        }
    }
    let end = QueueOffset(5_000);
    assert_eq!(rig.store.locate(TOPIC, QUEUE, end, 1), Located::End);
    assert_eq!(rig.store.locate(TopicId(77), QUEUE, QueueOffset(0), 1), Located::End);
}

#[test]
fn nothing_is_located_before_it_is_durable() {
    let mut rig = rig();
    let mut random = Random(1);
    let appended = rig.append_batch(&batch_of(&mut random, &[(1, 5, 9)])).unwrap();
    assert_eq!(appended.placed[0].first, QueueOffset(5_000));
    let end = |rig: &Rig| rig.store.locate(TOPIC, QUEUE, QueueOffset(5_000), 1) == Located::End;
    assert!(end(&rig));
    rig.close(false).unwrap();
    assert!(end(&rig));
    let written = rig.perform(0);
    assert!(written.written.is_some() && end(&rig));
    let synced = rig.perform(0);
    assert_eq!(synced.committed, [(TOPIC, QUEUE, QueueOffset(5_001))]);
    assert!(!end(&rig));
}

#[test]
fn a_hundred_thousand_queues_need_no_file_each() {
    let mut random = Random(1);
    let config = StoreConfig { segment_bytes: 16 << 20, ..CONFIG };
    let mut rig = Rig::on(LyingDisk::new(1), config);
    for first in (0..100_000).step_by(1_000) {
        let records: Vec<_> = (first..first + 1_000).map(|topic| (topic, 0, 0)).collect();
        rig.append_batch(&batch_of(&mut random, &records)).unwrap();
    }
    rig.flush();
    assert_eq!(rig.store.queues().count(), 100_000);
    let keys = FileName::Keys { segment: 0, from: 512 };
    let files = [FileName::Segment(0), FileName::Segment(1), keys];
    assert_eq!(rig.disk.list().unwrap(), files, "one for all queues");
    rig.disk.crash(1, Crash::Power);
    let opened = open_with(&rig.disk, config, None).unwrap();
    assert_eq!(opened.store.queues().count(), 100_000);
}

#[test]
fn time_never_goes_back_along_a_log() {
    let mut rig = Rig::new(1);
    rig.settle();
    for (now, stored) in [(500, 500), (100, 500), (501, 501), (1, 501)] {
        rig.now = Timestamp(now - 1);
        let appended = rig.append(b"x").unwrap();
        assert_eq!(appended.stored, Timestamp(stored));
        rig.flush();
    }
    rig.crash(1, Crash::Power);
    assert_eq!(rig.append(b"x").unwrap().stored, Timestamp(501));
    // The index writes times in 32 bits: a segment is rolled before they overflow.
    let mut random = Random(1);
    for days in [40, 80, 120] {
        rig.settle();
        rig.now = Timestamp(days * 86_400_000);
        rig.append_batch(&batch_of(&mut random, &[(1, 0, 10)])).unwrap();
        rig.flush();
    }
    assert_eq!(rig.store.stats().segments, 2);
    rig.crash(1, Crash::Power);
    assert_eq!(rig.model.entries.len(), 8);
}
