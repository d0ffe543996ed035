use std::io;

use yard_broker::OrderKey;
use yard_store::disk::Look;
use yard_store::{FileName, LogCache};
use yard_wire::record::RecordParts;
use yard_wire::requests::Deliver;
use yard_wire::{Timestamp, Wire};

use super::*;
use crate::runner::Runner;

/// One segment in memory, some bytes of which cannot be read.
struct BadSector {
    bytes: Vec<u8>,
    bad: std::ops::Range<u64>,
}

fn refused<T>() -> io::Result<T> {
    Err(io::Error::other("a bad sector"))
}

impl Look for BadSector {
    fn list(&self) -> io::Result<Vec<FileName>> {
        Ok(vec![FileName::Segment(0)])
    }
    fn len(&self, _: FileName) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }
    fn read_at(&self, _: FileName, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset + buffer.len() as u64;
        if offset < self.bad.end && self.bad.start < end {
            return refused();
        }
        buffer.copy_from_slice(&self.bytes[offset as usize..end as usize]);
        Ok(())
    }
}

const COUNT: u64 = 60;

/// A segment of records, the places of them, and a job that delivers them all.
fn segment() -> (Vec<u8>, Vec<RecordPlace>, Job) {
    let (mut bytes, mut places) = (vec![0; 512], Vec::new());
    for n in 0..COUNT {
        let body = vec![n as u8; 1_000];
        let offset = bytes.len() as u32;
        RecordParts { body: &body, ..RecordParts::default() }.encode(&mut bytes).unwrap();
        let length = bytes.len() as u32 - offset;
        places.push(RecordPlace {
            segment: 0,
            offset,
            bytes: length,
            stored: Timestamp(9),
            released: false,
        });
    }
    let item = |(n, place): (u64, &RecordPlace)| DeliverItem {
        offset: QueueOffset(100 + n),
        attempt: 1,
        order: None,
        place: *place,
    };
    let (shard, subscription, queue) = (ShardId(0), SubscriptionId(4), QueueIndex(2));
    let items = (0..).zip(&places).map(item).collect();
    (bytes, places, Job { shard, subscription, queue, items, topic: TopicId(7), asking: None })
}

fn log(bytes: &[u8], bad: std::ops::Range<u64>) -> Log {
    let disk = Arc::new(BadSector { bytes: bytes.to_vec(), bad });
    Log::new(disk, LogCache::new(0), Runner::Threads)
}

/// No turn to read ahead.
fn turns() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

fn delivered(frame: &[Bytes; 2]) -> Vec<(u64, Bytes)> {
    let frame = Bytes::from(frame.concat());
    assert_eq!(u32::from_le_bytes(frame[..4].try_into().unwrap()) as usize, frame.len());
    let deliver = Deliver::from_bytes(frame.slice(HEADER_BYTES..)).unwrap();
    let head = (deliver.shard, deliver.subscription, deliver.queue);
    assert_eq!(head, (ShardId(0), SubscriptionId(4), QueueIndex(2)));
    deliver.messages.into_iter().map(|message| (message.offset.0, message.record)).collect()
}

/// The frames of what was read.
fn frames(job: &Job, portions: Vec<Portion>) -> Vec<[Bytes; 2]> {
    let frame = |portion: Portion| delivery(job, portion.items.len(), portion.messages);
    portions.into_iter().map(frame).collect()
}

/// The frame of a job that is in memory.
fn from_memory(log: &Log, job: &Job) -> Option<[Bytes; 2]> {
    let messages = delivery_in_memory(log, &turns(), job)?;
    Some(delivery(job, job.items.len(), messages))
}

#[test]
fn a_frame_is_the_same_from_memory_and_from_the_disk() {
    let (bytes, places, job) = segment();
    let expect: Vec<(u64, &[u8])> = (100..)
        .zip(&places)
        .map(|(n, place)| (n, &bytes[place.offset as usize..][..place.bytes as usize]))
        .collect();
    let check = |frame: &[Bytes; 2]| {
        let found = delivered(frame);
        let found: Vec<(u64, &[u8])> = found.iter().map(|(n, record)| (*n, &record[..])).collect();
        assert_eq!(found, expect);
    };
    let cold = log(&bytes, 0..0);
    assert!(from_memory(&cold, &job).is_none(), "nothing was read yet");
    let read = read_what_can_be(&cold, &job);
    assert!(given_back(&job, &read).is_empty());
    check(&frames(&job, read.portions)[0]);
    check(&from_memory(&cold, &job).expect("it was read just now"));

    let tail = log(&bytes, 0..u64::MAX);
    tail.cache.put_group(0, 0, Bytes::from(bytes.clone()));
    let first = from_memory(&tail, &job).expect("it was appended");
    check(&first);
    // Another group gets the same bytes, and what it is sent again gets new ones.
    let mut other = Job { subscription: SubscriptionId(5), ..job };
    let second = from_memory(&tail, &other).expect("it was appended");
    assert_eq!(second[1].as_ptr(), first[1].as_ptr());
    assert_ne!(second[0], first[0]);
    other.items[0].attempt = 2;
    let third = from_memory(&tail, &other).expect("it was appended");
    let third = Deliver::from_bytes(Bytes::from(third.concat()).slice(HEADER_BYTES..)).unwrap();
    assert_eq!((third.subscription, third.messages[0].attempt), (SubscriptionId(5), 2));
}

#[test]
fn a_record_that_cannot_be_read_comes_back_and_holds_up_nothing() {
    let (bytes, places, job) = segment();
    let begin = u64::from(places[20].offset);
    let log = log(&bytes, begin..begin + 10);
    let read = read_what_can_be(&log, &job);
    let damaged = given_back(&job, &read);
    assert!(read.lost.is_empty() && read.behind.is_empty());
    let frames = frames(&job, read.portions);
    let found: Vec<u64> = frames.iter().flat_map(delivered).map(|(offset, _)| offset).collect();
    let expect: Vec<u64> = (100..100 + COUNT).filter(|offset| *offset != 120).collect();
    assert_eq!(found, expect);
    let [Request::Settle(settle), Request::Credit(credit)] = &damaged[..] else {
        panic!("{damaged:?}");
    };
    let [SettleRange { from, to, attempt, verdict, .. }] = &settle.ranges[..] else {
        panic!("{settle:?}");
    };
    assert_eq!((from.0, to.0, *verdict), (120, 121, Verdict::Nack));
    assert_eq!(*attempt, job.items[20].attempt);
    assert_eq!((credit.messages, credit.bytes), (1, places[20].bytes));
}

/// What of a job of an ordered topic is sent, and what is given back because of what it is behind.
fn in_order(log: &Log, lanes: &Lanes, mut job: Job) -> (Vec<u64>, Vec<u64>) {
    let mut behind = lanes.take_behind(&mut job);
    let read = read_what_can_be(log, &job);
    lanes.note_unread(&job, &read);
    behind.extend(&read.behind);
    let sent = frames(&job, read.portions);
    let sent = sent.iter().flat_map(delivered).map(|(offset, _)| offset).collect();
    (sent, behind.iter().map(|item| item.offset.0).collect())
}

#[test]
fn nothing_of_an_order_group_comes_before_what_cannot_be_read() {
    let (bytes, places, job) = segment();
    let begin = u64::from(places[20].offset);
    let bad = log(&bytes, begin..begin + 10);
    let names = ["a", "b", "c"];
    let ordered = |item: &DeliverItem| {
        let order = Some(OrderKey::named(names[item.offset.0 as usize % 3]));
        DeliverItem { order, ..*item }
    };
    let items: Vec<DeliverItem> = job.items.iter().map(ordered).collect();
    let part = |items: &[DeliverItem]| {
        let (shard, subscription, queue) = (job.shard, job.subscription, job.queue);
        Job { shard, subscription, queue, items: items.to_vec(), topic: job.topic, asking: None }
    };
    let lanes = Lanes::default();
    let (sent, behind) = in_order(&bad, &lanes, part(&items[..40]));
    assert_eq!(behind, (123..140).step_by(3).collect::<Vec<_>>(), "those behind 120 in its group");
    let expect = |n: &u64| *n != 120 && !behind.contains(n);
    assert_eq!(sent, (100..140).filter(expect).collect::<Vec<_>>(), "others go on");

    // On its way before the broker knew: behind it as well, and read by nobody.
    let (sent, behind) = in_order(&bad, &lanes, part(&items[40..50]));
    assert_eq!(behind, [141, 144, 147]);
    assert_eq!(sent, (140..150).filter(|n| !behind.contains(n)).collect::<Vec<_>>());

    // It comes again with those behind it, from a disk that gives it now.
    let again: Vec<DeliverItem> = items[20..50].iter().step_by(3).copied().collect();
    let (sent, behind) = in_order(&log(&bytes, 0..0), &lanes, part(&again));
    assert_eq!((sent, behind), ((120..150).step_by(3).collect(), Vec::new()));
    let (sent, behind) = in_order(&bad, &lanes, part(&items[50..]));
    assert_eq!((sent, behind), ((150..160).collect(), Vec::new()));
}

#[test]
fn what_is_behind_comes_back_as_if_it_had_not_been_delivered() {
    let (bytes, places, mut job) = segment();
    job.items.iter_mut().for_each(|item| item.order = Some(OrderKey::NONE));
    let begin = u64::from(places[57].offset);
    let read = read_what_can_be(&log(&bytes, begin..begin + 10), &job);
    let requests = given_back(&job, &read);
    let [Request::Settle(failed), Request::Settle(behind), Request::Credit(credit)] = &requests[..]
    else {
        panic!("{requests:?}");
    };
    let said = |settle: &Settle| {
        let ranges = settle.ranges.iter();
        ranges.map(|it| (it.from.0, it.to.0, it.attempt, it.verdict)).collect::<Vec<_>>()
    };
    assert_eq!(said(failed), [(157, 158, 1, Verdict::Nack)]);
    let released = Verdict::Release;
    assert_eq!(said(behind), [(158, 159, 1, released), (159, 160, 1, released)]);
    assert_eq!((credit.messages, credit.bytes), (3, 3 * places[57].bytes));
}

#[test]
fn a_record_that_is_damaged_is_never_given_out_and_holds_up_nothing() {
    let (mut bytes, places, job) = segment();
    bytes[places[20].offset as usize + 200] ^= 1;
    let log = log(&bytes, 0..0);
    let read = read_what_can_be(&log, &job);
    let damaged = given_back(&job, &read);
    let frames = frames(&job, read.portions);
    let found: Vec<u64> = frames.iter().flat_map(delivered).map(|(offset, _)| offset).collect();
    let expect: Vec<u64> = (100..100 + COUNT).filter(|offset| *offset != 120).collect();
    assert_eq!((found, read.lost), (expect, vec![job.items[20]]));
    let [Request::Credit(credit)] = &damaged[..] else { panic!("{damaged:?}") };
    assert_eq!((credit.messages, credit.bytes), (1, places[20].bytes));
}

#[test]
fn a_fetch_that_meets_an_error_fails_and_others_do_not() {
    let (bytes, places, _) = segment();
    let begin = u64::from(places[20].offset);
    let log = log(&bytes, begin..begin + 10);
    let fetch = |from: usize, bytes_max: u32| {
        let session = SessionId(1);
        let origin = Origin { session, stream: 1, correlation: Correlation(7) };
        let (first, end) = (QueueOffset(0), QueueOffset(COUNT));
        let plan = FetchPlan::Records(places[from..].to_vec());
        let from = QueueOffset(from as u64);
        let job = FetchJob { origin, shard: ShardId(0), from, first, end, bytes_max, plan };
        read_fetch(&log, job).0
    };
    assert!(fetch(10, 1 << 20).is_err());
    let frame = fetch(21, 1 << 20).unwrap();
    let fetched = Fetched::from_bytes(frame.slice(HEADER_BYTES..)).unwrap();
    let offsets: Vec<u64> = fetched.records.iter().map(|record| record.offset.0).collect();
    assert_eq!(offsets, (21..COUNT).collect::<Vec<_>>());
    // Not even one fits, and one is read.
    let frame = fetch(5, 1).unwrap();
    assert_eq!(Fetched::from_bytes(frame.slice(HEADER_BYTES..)).unwrap().records.len(), 1);
}

#[test]
fn what_is_wanted_of_a_portion_is_what_is_sent() {
    use crate::policy::Verdict as Judged;
    let (bytes, _, job) = segment();
    let log = log(&bytes, 0..0);
    let check = |verdicts: &dyn Fn(usize) -> Judged, expect: &[u64]| {
        let portion = read_job(&log, &job.items).unwrap();
        let whole = portion.messages.as_ptr();
        let verdicts: Vec<Judged> = (0..COUNT as usize).map(verdicts).collect();
        let Some(kept) = wanted::keep(portion, &verdicts) else {
            assert!(expect.is_empty());
            return;
        };
        let is_copy = kept.messages.as_ptr() != whole;
        assert_eq!(is_copy, expect.len() < COUNT as usize, "what is whole is not copied");
        let records: Vec<Bytes> =
            records_of(&kept.items, &kept.messages).map(Bytes::copy_from_slice).collect();
        let found = delivered(&delivery(&job, kept.items.len(), kept.messages.clone()));
        let offsets: Vec<u64> = found.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, expect);
        assert!(found.iter().map(|(_, record)| record).eq(&records), "each record is its own");
    };
    let all: Vec<u64> = (100..100 + COUNT).collect();
    let thirds: Vec<u64> = all.iter().copied().filter(|n| n % 3 == 0).collect();
    check(&|_| Judged::Wanted, &all);
    check(&|_| Judged::Unwanted, &[]);
    check(&|n| if n % 3 == 2 { Judged::Wanted } else { Judged::Poison }, &thirds);
}

#[test]
fn a_portion_is_parted_between_messages() {
    let (bytes, _, job) = segment();
    let log = log(&bytes, 0..0);
    for count in [0, 1, 17, COUNT as usize] {
        let (first, rest) = wanted::part(read_job(&log, &job.items).unwrap(), count);
        let of = |portion: Option<Portion>| {
            let portion = portion?;
            Some(delivered(&delivery(&job, portion.items.len(), portion.messages)))
        };
        let offsets = |portion: Option<Vec<(u64, Bytes)>>| {
            portion.into_iter().flatten().map(|(offset, _)| offset).collect::<Vec<u64>>()
        };
        let middle = 100 + count as u64;
        assert_eq!(offsets(of(first)), (100..middle).collect::<Vec<_>>());
        assert_eq!(offsets(of(rest)), (middle..100 + COUNT).collect::<Vec<_>>());
    }
}
