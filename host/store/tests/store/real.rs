//! The same on a file system.
use std::path::PathBuf;
use std::time::Instant;

use yard_store::disk::real::RealDisk;
use yard_store::{Disk, FileName, Io, Store, StoreConfig, io, read};
use yard_store::{Located, Repair};
use yard_wire::{QueueIndex, QueueOffset, TenantId, Timestamp, TopicId};

use crate::support::{CONFIG, Random, batch_of};

/// A directory that is removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("yard-store-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn settle(disk: &dyn Disk, store: &mut Store, io: &mut Vec<Io>) {
    while !io.is_empty() {
        let next = io.remove(0);
        store.done(io::perform(disk, &next), io);
    }
}

fn fill(disk: &dyn Disk, config: StoreConfig, batches: usize, records: usize) -> Store {
    let mut random = Random(1);
    let opened = Store::open(disk, config, None, &mut |_| Ok(())).unwrap();
    let (mut store, mut io) = (opened.store, opened.io);
    let bodies: Vec<_> = (0..records).map(|at| (1, (at % 8) as u16, 1_024 - 80)).collect();
    let batch = batch_of(&mut random, &bodies);
    for at in 0..batches {
        store.append_batch(Timestamp(at as u64), TenantId(0), &batch).unwrap();
        store.close_group(Timestamp(0), false, &mut io).unwrap();
        settle(disk, &mut store, &mut io);
    }
    store
}

#[test]
fn a_log_on_a_file_system_is_found_again() {
    let directory = Directory::new("again");
    let disk = RealDisk::open(&directory.0).unwrap();
    let kind = RealDisk::open(&directory.0).err().map(|error| error.kind());
    assert_eq!(kind, Some(std::io::ErrorKind::WouldBlock), "one process at a time");
    let store = fill(&disk, CONFIG, 30, 10);
    let queues: Vec<_> = store.queues().collect();
    drop((store, disk));
    std::fs::write(directory.0.join("log-1"), "somebody else's").unwrap();
    let disk = RealDisk::open(&directory.0).unwrap();
    disk.remove(FileName::Index(1)).unwrap();
    let mut entries = 0;
    let opened = Store::open(&disk, CONFIG, None, &mut |_| {
        entries += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(entries, 30);
    assert_eq!(opened.repairs, [Repair::IndexRebuilt { segment: 1 }]);
    assert_eq!(opened.store.queues().collect::<Vec<_>>(), queues);
    let place = opened.store.locate(TopicId(1), QueueIndex(3), QueueOffset(1), 1);
    let Located::Read(wanted) = place else { panic!("{place:?}") };
    let places = read::index(&disk, &wanted).unwrap();
    assert_eq!(read::records(&disk, &places).unwrap()[0].len(), 1_024);
    assert!(disk.len(FileName::Index(77)).is_err() && disk.remove(FileName::Index(77)).is_ok());
}

/// Prints figures: `cargo test -p yard-store --release -- --ignored --nocapture speed`.
#[test]
#[expect(clippy::disallowed_methods, reason = "it measures")]
#[ignore = "a measurement, and 1 GiB of disk"]
fn speed() {
    let directory = Directory::new("speed");
    let config = StoreConfig { segment_bytes: 1 << 30, reserve_bytes: 1 << 20, ..CONFIG };
    let disk = RealDisk::open(&directory.0).unwrap();
    for _ in 0..5 {
        let begin = Instant::now();
        drop(Store::open(&disk, config, None, &mut |_| Ok(())).unwrap());
        println!("create: {:?}", begin.elapsed());
        disk.remove(FileName::Segment(0)).unwrap();
    }
    let begin = Instant::now();
    let store = fill(&disk, config, 1_000, 1_000);
    println!("prepare and fill 1 GB: {:?}", begin.elapsed());
    let bytes = store.stats().synced.0;
    for _ in 0..3 {
        let begin = Instant::now();
        let mut entries = 0;
        let opened = Store::open(&disk, config, None, &mut |_| {
            entries += 1;
            Ok(())
        });
        let took = begin.elapsed();
        assert_eq!((opened.unwrap().repairs, entries), (vec![], 1_000));
        println!("open: {took:?}, {:.2} GB/s", bytes as f64 / took.as_secs_f64() / 1e9);
    }
}
