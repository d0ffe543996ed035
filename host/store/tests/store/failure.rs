//! Failing syncs and writes fence the log; a full disk keeps its reserve; other files may fail.
use yard_store::disk::lying::{Crash, Fault, LyingDisk};
use yard_store::error::{Fenced, NoSpace, TooLarge};
use yard_store::{AppendError, Disk, FileName, LogState, OpenError, Store, StoreConfig};
use yard_wire::{QueueIndex, QueueOffset, ShardId, TopicId};

use crate::support::{CONFIG, Random, Rig, batch_of, open_all, open_with};

#[test]
fn a_failed_write_or_sync_fences_the_log() {
    for fault in [Fault::Write, Fault::Sync] {
        let mut random = Random(2);
        let mut rig = Rig::new(2);
        rig.settle();
        rig.append_batch(&batch_of(&mut random, &[(1, 0, 100)])).unwrap();
        rig.flush();
        rig.append_batch(&batch_of(&mut random, &[(1, 0, 900)])).unwrap();
        rig.close(false).unwrap();
        rig.disk.fail_next(fault);
        let mut fenced = false;
        while !rig.io.is_empty() {
            let report = rig.perform(0);
            assert_eq!((report.synced, report.committed.len()), (None, 0));
            fenced |= report.fenced;
        }
        assert!(fenced && rig.store.state() == LogState::Fenced);
        assert_eq!(rig.append(b"x").unwrap_err(), AppendError::Fenced(Fenced));
        let batch = batch_of(&mut random, &[(1, 0, 1)]);
        assert_eq!(rig.append_batch(&batch).unwrap_err(), AppendError::Fenced(Fenced));
        assert_eq!((rig.store.input_budget(), rig.close(true)), (0, None));
        let span = rig.store.queue_span(TopicId(1), QueueIndex(0));
        assert_eq!(span, (QueueOffset(0), QueueOffset(1)), "what was durable stays readable");
        rig.check_queues();
        let found = {
            rig.disk.crash(3, Crash::Power);
            open_all(&rig.disk).unwrap().entries
        };
        assert_eq!(found, rig.model.entries[..1], "a failed sync has lost its sectors");
    }
}

#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_written_again() {
    let mut rig = Rig::new(2);
    rig.settle();
    rig.append(&[7; 3_000]).unwrap();
    rig.close(false).unwrap();
    rig.disk.fail_next(Fault::Sync);
    rig.settle();
    assert_eq!(rig.store.state(), LogState::Fenced);
    rig.disk.crash(1, Crash::Process);
    assert_eq!(open_all(&rig.disk).unwrap().entries, rig.model.entries, "it can be read");
    rig.disk.crash(1, Crash::Power);
    assert_eq!(open_all(&rig.disk).unwrap().entries, rig.model.entries, "and stays");
}

/// Fills the log until a batch is refused; returns how many bytes were left then.
fn fill(rig: &mut Rig, random: &mut Random) -> u64 {
    loop {
        let batch = batch_of(random, &[(1, 0, 700)]);
        match rig.append_batch(&batch) {
            Ok(_) => rig.flush(),
            Err(error) => {
                assert_eq!(error, AppendError::NoSpace(NoSpace));
                return rig.store.input_budget() as u64;
            }
        }
    }
}

#[test]
fn a_full_disk_refuses_batches_takes_entries_and_recovers() {
    let mut random = Random(4);
    let disk = LyingDisk::new(4);
    disk.set_capacity(140 << 10);
    let mut rig = Rig::on(disk, CONFIG);
    rig.settle();
    assert_eq!(rig.store.state(), LogState::Open);
    assert!(fill(&mut rig, &mut random) < 900);
    assert_eq!(rig.store.state(), LogState::Full);
    for _ in 0..8 {
        rig.append(&[1; 100]).unwrap();
        rig.flush();
    }
    assert_eq!(rig.model.up_to(rig.model.synced), rig.model.entries.len(), "all durable");
    rig.check_queues();
    rig.store.retry(&mut rig.io);
    rig.settle();
    assert_eq!(rig.store.state(), LogState::Full, "still no space");
    rig.disk.set_capacity(u64::MAX);
    rig.store.retry(&mut rig.io);
    rig.settle();
    assert_eq!(rig.store.state(), LogState::Open);
    for _ in 0..100 {
        rig.append_batch(&batch_of(&mut random, &[(1, 0, 700)])).unwrap();
        rig.flush();
    }
    rig.crash(1, Crash::Power);
    assert!(rig.model.entries.len() > 200);
}

#[test]
fn the_reserve_ends_too() {
    let mut random = Random(4);
    let disk = LyingDisk::new(4);
    disk.set_capacity(100 << 10);
    let mut rig = Rig::on(disk, CONFIG);
    rig.settle();
    fill(&mut rig, &mut random);
    let refused = (0..1_000).find_map(|_| {
        let result = rig.append(&[1; 100]).err();
        rig.flush();
        result
    });
    assert_eq!(refused, Some(AppendError::NoSpace(NoSpace)));
    rig.crash(9, Crash::Power);
    assert_eq!(rig.model.up_to(rig.model.synced), rig.model.entries.len(), "nothing stuck");
}

#[test]
fn an_entry_larger_than_a_segment_is_refused() {
    let mut rig = Rig::new(1);
    rig.settle();
    let largest = (64 << 10) - 512 - 128 - 24 - 4;
    rig.append(&vec![0; largest]).unwrap();
    let error = rig.append(&vec![0; largest + 1]).unwrap_err();
    assert!(matches!(error, AppendError::TooLarge(TooLarge { .. })));
    rig.append(&vec![0; largest]).unwrap();
    assert_eq!(rig.store.input_budget(), (1 << 20) - rig.store.gathered_bytes());
    rig.flush();
    rig.crash(1, Crash::Power);
    assert_eq!(rig.model.entries.len(), 2);
}

#[test]
fn a_sidecar_or_checkpoint_that_cannot_be_written_is_tried_again() {
    let mut random = Random(6);
    let mut rig = Rig::new(6);
    rig.settle();
    // A part of the key index, the queue index, the checkpoint.
    for _ in 0..3 {
        rig.disk.fail_next(Fault::Replace);
    }
    while rig.store.stats().segments < 2 {
        rig.append_batch(&batch_of(&mut random, &[(1, 0, 700)])).unwrap();
        rig.flush();
    }
    let keys = FileName::Keys { segment: 0, from: 512 };
    assert!(rig.disk.contents(FileName::Index(0)).is_none());
    assert!(rig.disk.contents(keys).is_none());
    rig.check_queues();
    rig.checkpoint();
    rig.settle();
    assert!(rig.disk.contents(FileName::Checkpoint).is_none());
    rig.store.retry(&mut rig.io);
    rig.settle();
    assert!(rig.disk.contents(FileName::Index(0)).is_some());
    assert!(rig.disk.contents(keys).is_some());
    rig.check_queues();
}

#[test]
fn a_start_tries_again_what_could_not_be_read_and_gives_up_on_a_dead_disk() {
    let mut rig = Rig::new(7);
    rig.settle();
    for _ in 0..3 {
        rig.append(b"entry").unwrap();
        rig.flush();
    }
    for failures in [1, 2] {
        for _ in 0..failures {
            rig.disk.fail_next(Fault::Read);
        }
        let opened = open_all(&rig.disk).unwrap();
        assert_eq!((opened.repairs, opened.entries), (vec![], rig.model.entries.clone()));
    }
    rig.disk.set_dead(true);
    let error = open_all(&rig.disk).map(|_| ()).unwrap_err();
    let source = match error {
        OpenError::Disk { source, .. } => source,
        other => panic!("{other}"),
    };
    assert_eq!(source.raw_os_error(), Some(libc::EIO));
    assert!(Store::read_checkpoint(&rig.disk, &CONFIG).is_ok(), "there is none");
    rig.disk.set_dead(false);
    assert_eq!(open_all(&rig.disk).unwrap().entries, rig.model.entries, "nothing was changed");
    // The only file of a log has lost its head: what follows can be read.
    rig.disk.remove(FileName::Segment(1)).unwrap();
    rig.disk.spoil(FileName::Segment(0), 0..512);
    let opened = open_all(&rig.disk).unwrap();
    let found: Vec<_> = opened.entries.iter().map(|entry| entry.group).collect();
    assert!(found.len() < 3, "those of its first block are lost: {found:?}");
}

#[test]
fn wrong_settings_and_foreign_files_are_refused() {
    let disk = LyingDisk::new(1);
    open_all(&disk).unwrap();
    let cases = [
        StoreConfig { segment_bytes: 1_000, ..CONFIG },
        StoreConfig { segment_bytes: 4 << 30, ..CONFIG },
        StoreConfig { reserve_bytes: 40 << 10, ..CONFIG },
    ];
    for config in cases {
        assert!(matches!(open_with(&disk, config, None), Err(OpenError::Config(_))), "{config:?}");
    }
    let other = StoreConfig { shard: ShardId(4), ..CONFIG };
    assert!(matches!(open_with(&disk, other, None), Err(OpenError::WrongShard { shard: 3, .. })));
    let larger = StoreConfig { segment_bytes: 128 << 10, ..CONFIG };
    assert!(open_with(&disk, larger, None).is_ok(), "an empty log takes a new size");
    assert_eq!(disk.len(FileName::Segment(0)).unwrap(), 128 << 10);
}
