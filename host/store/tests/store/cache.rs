//! What readers share: nothing else comes out of memory than what is in the files, memory is
//! bounded, and an error of the disk is the reader's who met it.
use std::io;
use std::ops::Range;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use yard_store::cache::CACHE_BYTES_MIN;
use yard_store::disk::lying::LyingDisk;
use yard_store::{Disk, FileName, Io, Located, LogCache, ReadError, StoreConfig, read};
use yard_wire::{QueueIndex, QueueOffset, RecordPlace, TopicId};

use crate::support::{CONFIG, Random, Rig, batch_of};

const TOPIC: TopicId = TopicId(1);
const QUEUES: u64 = 8;

/// A disk that counts what is read, refuses to read some bytes of segments, and reads some wrong.
pub(crate) struct Counting<'a> {
    disk: &'a LyingDisk,
    bad: Vec<(u32, Range<u64>)>,
    reads: AtomicU64,
    /// Bytes of the segments below this one are counted.
    below: u32,
    bytes: AtomicU64,
    /// Where the first reader says that it reads, and then lets others catch up with it.
    begun: Option<Barrier>,
    /// A file of which the head is read wrong once, and after how many reads of it that is.
    flickers: Option<(FileName, AtomicU32)>,
}

impl<'a> Counting<'a> {
    pub(crate) fn new(disk: &'a LyingDisk) -> Self {
        Self::below(disk, 0)
    }

    /// One that counts bytes of the segments below this one.
    pub(crate) fn below(disk: &'a LyingDisk, below: u32) -> Self {
        let (bad, reads, bytes) = Default::default();
        Self { disk, bad, reads, below, bytes, begun: None, flickers: None }
    }

    /// One of which this read of the head of a file comes out wrong, and the next one right.
    pub(crate) fn flickering(disk: &'a LyingDisk, name: FileName, read: u32) -> Self {
        Self { flickers: Some((name, AtomicU32::new(read))), ..Self::new(disk) }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

impl Disk for Counting<'_> {
    fn list(&self) -> io::Result<Vec<FileName>> {
        self.disk.list()
    }
    fn len(&self, name: FileName) -> io::Result<u64> {
        self.disk.len(name)
    }
    fn read_at(&self, name: FileName, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let before = self.reads.fetch_add(1, Ordering::Relaxed);
        if matches!(name, FileName::Segment(segment) if segment < self.below) {
            self.bytes.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        }
        if let Some(begun) = self.begun.as_ref().filter(|_| before == 0) {
            begun.wait();
            let is_alone = |_: &u32| self.reads() == 1;
            (0..10_000).take_while(is_alone).for_each(|_| std::thread::yield_now());
        }
        let end = offset + buffer.len() as u64;
        let meets = |(segment, bad): &(u32, Range<u64>)| {
            name == FileName::Segment(*segment) && offset < bad.end && bad.start < end
        };
        if self.bad.iter().any(meets) {
            return Err(io::Error::other("a bad sector"));
        }
        self.disk.read_at(name, offset, buffer)?;
        if let Some((flickers, left)) = &self.flickers
            && (name, offset) == (*flickers, 0)
            && left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            buffer[20] ^= 1;
        }
        Ok(())
    }
    fn write_at(&self, name: FileName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_at(name, offset, bytes)
    }
    fn sync(&self, name: FileName) -> io::Result<()> {
        self.disk.sync(name)
    }
    fn create_segment(
        &self,
        name: FileName,
        header: &[u8],
        bytes: u64,
        zero_bytes: u64,
    ) -> io::Result<()> {
        self.disk.create_segment(name, header, bytes, zero_bytes)
    }
    fn replace(&self, name: FileName, bytes: &[u8]) -> io::Result<()> {
        self.disk.replace(name, bytes)
    }
    fn remove(&self, name: FileName) -> io::Result<()> {
        self.disk.remove(name)
    }
}

/// A log with segments of some blocks.
fn rig(seed: u64) -> Rig {
    Rig::on(LyingDisk::new(seed), StoreConfig { segment_bytes: 1 << 20, ..CONFIG })
}

/// Appends messages that take turns over the queues; `seen` sees each group before it is written.
fn append(rig: &mut Rig, random: &mut Random, seen: &LogCache) {
    let turn = random.below(QUEUES);
    let record = |at: u64, random: &mut Random| {
        (TOPIC.0, ((turn + at) % QUEUES) as u16, random.below(3_000) as usize)
    };
    let records: Vec<_> = (0..1 + random.below(40)).map(|at| record(at, random)).collect();
    rig.append_batch(&batch_of(random, &records)).unwrap();
    rig.settle();
    while rig.close(false).is_some() {
        for io in &rig.io {
            if let Io::WriteGroup { segment, offset, bytes, .. } = io {
                seen.put_group(*segment, *offset, bytes.clone());
            }
        }
        rig.settle();
    }
}

fn places(rig: &Rig, queue: u16, from: u64, count: u32) -> Vec<RecordPlace> {
    match rig.store.locate(TOPIC, QueueIndex(queue), QueueOffset(from), count) {
        Located::Places(places) => places,
        Located::Read(wanted) => read::index(&rig.disk, &wanted).unwrap(),
        Located::End | Located::Gap { .. } => Vec::new(),
    }
}

fn everything(rig: &Rig) -> Vec<RecordPlace> {
    let mut all = Vec::new();
    for queue in 0..QUEUES as u16 {
        let mut from = 0;
        loop {
            let some = places(rig, queue, from, 1_000);
            if some.is_empty() {
                break;
            }
            from += some.len() as u64;
            all.extend(some);
        }
    }
    all
}

fn read_all(
    cache: &LogCache,
    disk: &dyn Disk,
    places: &[RecordPlace],
) -> Result<Vec<Vec<u8>>, ReadError> {
    let mut records = Vec::new();
    cache.read(disk, places, |record| records.push(record.to_vec()))?;
    Ok(records)
}

fn check_bounds(cache: &LogCache) {
    let (groups, blocks) = cache.bytes();
    assert!(groups <= CACHE_BYTES_MIN / 2 && blocks <= CACHE_BYTES_MIN / 2, "{groups}, {blocks}");
}

#[test]
fn what_comes_out_of_memory_is_what_is_in_the_files() {
    let mut found = 0;
    for seed in 0..6 {
        let mut random = Random(seed);
        let mut rig = rig(seed);
        let cache = LogCache::new(0);
        // The log may be older than the process: then nothing of it was seen.
        let unseen = LogCache::new(0);
        for step in 0..120 {
            append(&mut rig, &mut random, if step < 40 { &unseen } else { &cache });
            for _ in 0..4 {
                let queue = random.below(QUEUES) as u16;
                let end = rig.store.queue_span(TOPIC, QueueIndex(queue)).1.0;
                let back = random.below(200);
                let from = if random.below(3) == 0 { 0 } else { end.saturating_sub(back) };
                let mut wanted = places(&rig, queue, from, 1 + random.below(300) as u32);
                if random.below(8) == 0 {
                    wanted.reverse();
                }
                let expect = read::records(&rig.disk, &wanted).unwrap();
                if let Some(memory) = cache.find(&wanted) {
                    let mut records = Vec::new();
                    memory.each(&wanted, |record| records.push(record.to_vec())).unwrap();
                    assert_eq!(records, expect, "seed {seed}, step {step}");
                    found += usize::from(!wanted.is_empty());
                }
                let records = read_all(&cache, &rig.disk, &wanted).unwrap();
                assert_eq!(records, expect, "seed {seed}, step {step}");
                check_bounds(&cache);
            }
        }
        assert!(rig.store.stats().segments >= 3);
    }
    assert!(found > 500, "{found} of 2,880 reads were found in memory");
}

#[test]
fn the_tail_needs_no_disk_and_queues_share_what_was_read() {
    let (mut random, mut rig) = (Random(5), rig(5));
    let cache = LogCache::new(16 << 20);
    for _ in 0..40 {
        append(&mut rig, &mut random, &cache);
    }
    let all = everything(&rig);
    let disk = Counting::new(&rig.disk);
    assert!(cache.find(&all).is_some());
    read_all(&cache, &disk, &all).unwrap();
    assert_eq!(disk.reads(), 0, "all of it was appended just now");

    let later = LogCache::new(16 << 20);
    read_all(&later, &disk, &all).unwrap();
    let bytes: u64 = all.iter().map(|place| u64::from(place.bytes)).sum();
    // A queue at a time, and each block once, but for one that ends where a queue did.
    assert!(disk.reads() <= bytes / (256 << 10) + 2 * QUEUES + 2, "{} reads", disk.reads());
    let before = disk.reads();
    read_all(&later, &disk, &all).unwrap();
    assert_eq!(disk.reads(), before, "and then it is in memory");
}

#[test]
fn a_reader_that_goes_on_finds_the_next_blocks_in_memory_and_no_errors_of_theirs() {
    let (mut random, mut rig) = (Random(9), rig(9));
    let nobody = LogCache::new(16 << 20);
    for _ in 0..40 {
        append(&mut rig, &mut random, &nobody);
    }
    let mut all = everything(&rig);
    all.sort_by_key(|place| (place.segment, place.offset));
    let block = |place: &RecordPlace| (place.offset + place.bytes - 1) >> 18;
    let of = |wanted: u32| -> Vec<RecordPlace> {
        let is_in = |place: &&RecordPlace| {
            place.segment == 0 && place.offset >> 18 == wanted && block(place) == wanted
        };
        all.iter().filter(is_in).copied().collect()
    };
    assert!(all.iter().any(|place| place.segment > 0), "the first segment is sealed");
    assert!((0..3).all(|wanted| !of(wanted).is_empty()), "it has some blocks");
    // Segments before the one that is written are sealed.
    let fresh = || {
        let cache = LogCache::new(16 << 20);
        cache.put_group(1_000, 512, b"a group".as_slice().into());
        cache
    };
    let cache = fresh();
    let disk = Counting::new(&rig.disk);
    read_all(&cache, &disk, &of(0)).unwrap();
    assert!(cache.find(&of(1)).is_some() && cache.find(&of(2)).is_some());

    let cache = fresh();
    read_all(&cache, &disk, &of(2)).unwrap();
    assert!(cache.find(&of(1)).is_none(), "it did not go on from there");

    let cache = fresh();
    let mut disk = Counting::new(&rig.disk);
    disk.bad.push((0, 256 << 10..512 << 10));
    read_all(&cache, &disk, &of(0)).unwrap();
    assert!(read_all(&cache, &disk, &of(1)).is_err());
    read_all(&cache, &disk, &of(2)).unwrap();
}

#[test]
fn an_error_of_the_disk_is_about_the_records_that_it_hides() {
    let (mut random, mut rig) = (Random(7), rig(7));
    let unseen = LogCache::new(0);
    for _ in 0..60 {
        append(&mut rig, &mut random, &unseen);
    }
    let all = everything(&rig);
    let middle = all[all.len() / 2];
    let begin = u64::from(middle.offset);
    let mut disk = Counting::new(&rig.disk);
    disk.bad.push((middle.segment, begin..begin + 1));
    let cache = LogCache::new(16 << 20);
    let error = read_all(&cache, &disk, &all).unwrap_err();
    assert!(matches!(error, ReadError::Disk { .. }), "{error}");
    // Who does not want that record does not meet the error, though it is in the same block.
    let others: Vec<_> = all.iter().copied().filter(|place| *place != middle).collect();
    let expect = read::records(&rig.disk, &others).unwrap();
    assert_eq!(read_all(&cache, &disk, &others).unwrap(), expect);
    // One by one, as a reader does after an error: all others are there.
    for place in &all {
        let one = std::slice::from_ref(place);
        let result = read_all(&cache, &disk, one);
        let expect = read::records(&rig.disk, one).unwrap();
        match result {
            Ok(records) => assert_eq!(records, expect),
            Err(_) => assert_eq!(place, &middle),
        }
    }
    // And so is it when the disk has recovered.
    disk.bad.clear();
    assert_eq!(read_all(&cache, &disk, &all).unwrap(), read::records(&rig.disk, &all).unwrap());
}

#[test]
fn a_damaged_copy_is_not_kept() {
    let (mut random, mut rig) = (Random(9), rig(9));
    let unseen = LogCache::new(0);
    for _ in 0..20 {
        append(&mut rig, &mut random, &unseen);
    }
    let all = everything(&rig);
    let victim = *all.iter().find(|place| place.bytes > 200).unwrap();
    let name = FileName::Segment(victim.segment);
    let at = u64::from(victim.offset) + 150;
    let mut byte = [0];
    rig.disk.read_at(name, at, &mut byte).unwrap();
    rig.disk.write_at(name, at, &[byte[0] ^ 1]).unwrap();
    let cache = LogCache::new(16 << 20);
    let error = read_all(&cache, &rig.disk, &all).unwrap_err();
    assert!(matches!(error, ReadError::Damaged { .. }), "{error}");
    rig.disk.write_at(name, at, &byte).unwrap();
    assert_eq!(read_all(&cache, &rig.disk, &all).unwrap().len(), all.len());
}

/// A log of some segments that no cache has seen.
fn some_segments() -> Rig {
    let (mut random, mut rig) = (Random(9), rig(9));
    let nobody = LogCache::new(16 << 20);
    for _ in 0..40 {
        append(&mut rig, &mut random, &nobody);
    }
    rig
}

/// What lies in one block of the first segment and nowhere else.
fn in_block(rig: &Rig, wanted: u32) -> Vec<RecordPlace> {
    let is_in = |place: &RecordPlace| {
        let last = (place.offset + place.bytes - 1) >> 18;
        place.segment == 0 && place.offset >> 18 == wanted && last == wanted
    };
    everything(rig).into_iter().filter(is_in).collect()
}

/// For a log whose segments are all sealed; too small to read several blocks by one call.
fn all_sealed() -> LogCache {
    let cache = LogCache::new(CACHE_BYTES_MIN);
    cache.put_group(1_000, 512, b"a group".as_slice().into());
    cache
}

#[test]
fn what_is_read_ahead_is_read_once_and_its_errors_are_nobodys() {
    let rig = some_segments();
    let of = |wanted| in_block(&rig, wanted);
    let (cache, disk) = (all_sealed(), Counting::new(&rig.disk));
    assert!(cache.ahead_of(&disk, &of(0)).is_none(), "nobody was there");
    read_all(&cache, &disk, &of(0)).unwrap();
    let ahead = cache.ahead_of(&disk, &of(0)).expect("it may go on");
    assert!(cache.ahead_of(&disk, &of(0)).is_none(), "somebody is on it");
    let before = disk.reads();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| read_all(&cache, &disk, &of(1)).unwrap());
        cache.read_ahead(&disk, ahead);
        assert_eq!(waits.join().unwrap(), read::records(&rig.disk, &of(1)).unwrap());
    });
    assert!(cache.find(&of(1)).is_some() && cache.find(&of(2)).is_some());
    assert_eq!(disk.reads() - before, 2, "the two blocks, and neither twice");

    let (cache, mut disk) = (all_sealed(), Counting::new(&rig.disk));
    disk.bad.push((0, 256 << 10..512 << 10));
    read_all(&cache, &disk, &of(0)).unwrap();
    let ahead = cache.ahead_of(&disk, &of(0)).expect("it may go on");
    cache.read_ahead(&disk, ahead);
    assert!(read_all(&cache, &disk, &of(1)).is_err(), "who wants it meets the error");
    read_all(&cache, &disk, &of(2)).unwrap();
}

#[test]
fn a_plan_that_nobody_carries_out_holds_up_nobody() {
    let rig = some_segments();
    let (cache, disk) = (all_sealed(), Counting::new(&rig.disk));
    let read = |block: u32| {
        let wanted = in_block(&rig, block);
        assert_eq!(
            read_all(&cache, &disk, &wanted).unwrap(),
            read::records(&rig.disk, &wanted).unwrap()
        );
    };
    read(0);
    let plan = cache.ahead_of(&disk, &in_block(&rig, 0)).expect("it may go on");
    // Its thread has not begun, and these are all threads that there are.
    read(1);
    drop(plan);
    read(2);
    assert_eq!(disk.reads(), 3, "each block once");
    // A plan may begin when everybody has what it is about.
    let (cache, disk) = (all_sealed(), Counting::new(&rig.disk));
    read_all(&cache, &disk, &in_block(&rig, 0)).unwrap();
    let plan = cache.ahead_of(&disk, &in_block(&rig, 0)).expect("it may go on");
    read_all(&cache, &disk, &in_block(&rig, 1)).unwrap();
    read_all(&cache, &disk, &in_block(&rig, 2)).unwrap();
    cache.read_ahead(&disk, plan);
    assert_eq!(disk.reads(), 3, "and none again");
}

#[test]
fn readers_of_one_block_at_a_time_read_it_once() {
    const READERS: usize = 4;
    let rig = some_segments();
    let wanted = in_block(&rig, 1);
    let expect = read::records(&rig.disk, &wanted).unwrap();
    let (cache, mut disk) = (all_sealed(), Counting::new(&rig.disk));
    disk.begun = Some(Barrier::new(READERS));
    std::thread::scope(|scope| {
        let (cache, disk, wanted, expect) = (&cache, &disk, &wanted, &expect);
        scope.spawn(move || assert_eq!(&read_all(cache, disk, wanted).unwrap(), expect));
        for _ in 1..READERS {
            scope.spawn(move || {
                disk.begun.as_ref().unwrap().wait();
                assert_eq!(&read_all(cache, disk, wanted).unwrap(), expect);
            });
        }
    });
    assert_eq!(disk.reads(), 1, "the others waited for the first");
}

#[test]
fn a_block_that_was_read_while_it_was_filled_is_read_again_as_a_whole() {
    let (mut random, mut rig) = (Random(11), rig(11));
    let unseen = LogCache::new(0);
    append(&mut rig, &mut random, &unseen);
    let (cache, disk) = (LogCache::new(16 << 20), Counting::new(&rig.disk));
    read_all(&cache, &disk, &everything(&rig)).unwrap();
    let first = disk.reads();
    (0..4).for_each(|_| append(&mut rig, &mut random, &unseen));
    let all = everything(&rig);
    let disk = Counting::new(&rig.disk);
    let expect = read::records(&rig.disk, &all).unwrap();
    assert_eq!(read_all(&cache, &disk, &all).unwrap(), expect);
    let (reads, records) = (disk.reads(), all.len() as u64);
    assert!(first > 0 && records > 4 * QUEUES, "{first} reads, {records} records");
    // A queue at a time, each to the end of what it wants.
    assert!(reads <= 2 * QUEUES, "{reads} reads of {records} records");
}

/// Small messages of one queue that lie far apart are read together where they are many, and one by
/// one where they are few.
#[test]
fn records_that_lie_apart_are_read_together_where_they_are_many() {
    let (mut random, mut rig) = (Random(13), rig(13));
    // One small message of queue 0 every 8 KiB, and others between.
    for _ in 0..60 {
        let records = [(TOPIC.0, 0, 20), (TOPIC.0, 1, 4_000), (TOPIC.0, 2, 4_000)];
        rig.append_batch(&batch_of(&mut random, &records)).unwrap();
        rig.settle();
        while rig.close(false).is_some() {
            rig.settle();
        }
    }
    let of = |count| places(&rig, 0, 0, count);
    let reads = |places: &[RecordPlace]| {
        let (cache, disk) = (all_sealed(), Counting::new(&rig.disk));
        let expect = read::records(&rig.disk, places).unwrap();
        assert_eq!(read_all(&cache, &disk, places).unwrap(), expect);
        disk.reads()
    };
    let (few, many) = (of(8), of(48));
    let bytes: u64 = many.iter().map(|place| u64::from(place.bytes)).sum();
    let blocks = u64::from(many[47].offset >> 18) + 1;
    assert!(bytes < 16 << 10 && (1..=3).contains(&blocks), "{bytes} bytes in {blocks} blocks");
    assert_eq!(reads(&few), 8, "one by one");
    assert!(reads(&many) <= blocks + 16, "{} reads of {blocks} blocks", reads(&many));
}
