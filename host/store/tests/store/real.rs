//! The same on a file system.
use std::path::PathBuf;
use std::time::Instant;

use yard_store::disk::MEMORY_ALIGNMENT;
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

/// Bytes that differ from place to place, and are never zero.
fn pattern(from: u64, bytes: usize) -> Vec<u8> {
    (from..from + bytes as u64).map(|at| (at % 251) as u8 + 1).collect()
}

fn whole(disk: &RealDisk, name: FileName, bytes: u64) -> Vec<u8> {
    let mut contents = vec![0; bytes as usize];
    disk.read_at(name, 0, &mut contents).unwrap();
    contents
}

#[test]
fn appended_groups_of_any_size_lie_where_they_should() {
    let directory = Directory::new("appended");
    // The last block of the first segment is not whole.
    for (segment, bytes) in [(0, (64 << 10) + 512), (1, 256 << 10)] {
        let name = FileName::Segment(segment);
        let disk = RealDisk::open(&directory.0).unwrap();
        disk.create_segment(name, &pattern(0, 512), bytes, bytes / 2).unwrap();
        assert_eq!(disk.len(name).unwrap(), bytes);
        let mut at = 512;
        for size in [64, 4_032, 64, 3_520, 4_096, 20_032, 64, 8_192 - 64, 128] {
            disk.append_at(name, at, &pattern(at, size)).unwrap();
            at += size as u64;
        }
        disk.sync(name).unwrap();
        drop(disk);
        // The process is another one, and knows nothing of the block that it goes on in.
        let disk = RealDisk::open(&directory.0).unwrap();
        disk.append_at(name, at, &pattern(at, 192)).unwrap();
        at += 192;
        // Recovery writes through the page cache what an appender has in memory.
        disk.write_at(name, at - 64, &[0; 64]).unwrap();
        at -= 64;
        disk.append_at(name, at, &pattern(at, 64)).unwrap();
        at += 64;
        let mut expected = pattern(0, at as usize);
        expected.resize(bytes as usize, 0);
        assert!(whole(&disk, name, bytes) == expected, "what was appended is read, then zeros");
        let rest = (bytes - at) as usize;
        disk.append_at(name, at, &pattern(at, rest)).unwrap();
        assert!(disk.append_at(name, bytes, &[1; 64]).is_err(), "a segment does not grow");
        assert_eq!(disk.len(name).unwrap(), bytes);
        drop(disk);
        // Past every cache of the process, and in any piece.
        let disk = RealDisk::open(&directory.0).unwrap();
        assert!(whole(&disk, name, bytes) == pattern(0, bytes as usize));
        for (from, count) in [(0, 1), (4_095, 2), (511, 4_098), (bytes - 1, 1)] {
            let mut piece = vec![0; count];
            disk.read_at(name, from, &mut piece).unwrap();
            assert!(piece == pattern(from, count), "{count} bytes from {from}");
        }
        let end = disk.read_at(name, bytes - 1, &mut [0; 2]).unwrap_err();
        assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof);
    }
}

#[test]
fn bytes_that_lie_as_in_the_file_are_written_as_well_as_others() {
    let directory = Directory::new("pieces");
    let disk = RealDisk::open(&directory.0).unwrap();
    let (name, bytes) = (FileName::Segment(0), (512 << 10) + 512);
    disk.create_segment(name, &pattern(0, 512), bytes, bytes).unwrap();
    let mut at = 512;
    let mut memory = vec![0; (256 << 10) + 2 * MEMORY_ALIGNMENT];
    let sizes = [20_032, 64, 16_384, 20_480, 65_536 - 64, 3_584, 40_960, 64, 100_032];
    for size in sizes.into_iter().map(Some).chain([None]) {
        let size = size.unwrap_or((bytes - at) as usize);
        let address = memory.as_ptr() as usize;
        let begin = (at as usize).wrapping_sub(address) % MEMORY_ALIGNMENT;
        memory[begin..begin + size].copy_from_slice(&pattern(at, size));
        disk.append_at(name, at, &memory[begin..begin + size]).unwrap();
        at += size as u64;
        let found = whole(&disk, name, bytes);
        assert!(found[..at as usize] == pattern(0, at as usize), "up to {at}");
        assert!(found[at as usize..].iter().all(|byte| *byte == 0), "zeros from {at}");
    }
    assert_eq!(disk.len(name).unwrap(), bytes);
}

#[test]
fn a_sealed_segment_reads_as_it_was_written() {
    let directory = Directory::new("sealed");
    let disk = RealDisk::open(&directory.0).unwrap();
    let bytes = 128 << 10;
    for segment in 0..3 {
        let name = FileName::Segment(segment);
        disk.create_segment(name, &pattern(0, 512), bytes, bytes).unwrap();
        assert!(whole(&disk, name, bytes)[512..].iter().all(|byte| *byte == 0));
        disk.append_at(name, 512, &pattern(512, 100 << 10)).unwrap();
        // The one before is sealed now, and read another way.
        for known in 0..=segment {
            let found = whole(&disk, FileName::Segment(known), bytes);
            assert!(found[..512 + (100 << 10)] == pattern(0, 512 + (100 << 10)), "{known}");
        }
    }
}

#[test]
fn a_sealed_segment_reads_the_same_however_it_is_asked() {
    let directory = Directory::new("ways");
    let disk = RealDisk::open(&directory.0).unwrap();
    let bytes = 512u64 << 10;
    for segment in 0..2 {
        let name = FileName::Segment(segment);
        disk.create_segment(name, &pattern(0, 512), bytes, bytes).unwrap();
        disk.append_at(name, 512, &pattern(512, (512 << 10) - 512)).unwrap();
    }
    let name = FileName::Segment(0);
    let mut memory = vec![0; (256 << 10) + 2 * MEMORY_ALIGNMENT];
    let aligned = memory.as_ptr().align_offset(MEMORY_ALIGNMENT);
    for size in [1, 4 << 10, 60_000, 64 << 10, (64 << 10) + 1, 100_000, 256 << 10] {
        for offset in [0, 1, 4 << 10, 100_001, 256 << 10] {
            for begin in [aligned, aligned + 1] {
                let wanted = &mut memory[begin..begin + size];
                wanted.fill(0);
                disk.read_at(name, offset, wanted).unwrap();
                assert!(*wanted == pattern(offset, size), "{size} at {offset}, from {begin}");
            }
        }
    }
    // The same error at the end of the file, read either way.
    for (offset, begin) in [(bytes - 4_096, aligned), (bytes - 4_096, aligned + 1), (bytes, 0)] {
        for size in [4_097, 64 << 10, 128 << 10] {
            let read = disk.read_at(name, offset, &mut memory[begin..begin + size]);
            assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        }
    }
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
