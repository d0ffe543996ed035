//! How long finding takes among many messages: `finding DIR [MESSAGES]`. Fills a fresh folder in
//! DIR with messages of 8 queues that have an id and a key each, asks for some of them by id, key
//! and time, prints the percentiles as JSON, and removes the folder.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement, with a clock")]

use std::path::Path;
use std::time::{Duration, Instant};

use yard_store::disk::real::RealDisk;
use yard_store::{
    Io, IoDone, KeyBudget, KeyQuery, LogPlace, LogState, Sought, Store, StoreConfig, io,
};
use yard_wire::batch::{self, Batch, BatchHeader};
use yard_wire::record::{KEY, RecordParts};
use yard_wire::{MessageId, QueueIndex, ShardId, TenantId, Timestamp, TopicId};

const MESSAGES: u64 = 10_000_000;
const BATCH: u64 = 1_000;
const QUEUES: u16 = 8;
const BODY: &[u8] = &[7; 16];
const TOPIC: TopicId = TopicId(1);
const LOOKUPS: u64 = 20_000;
const BEGIN_MS: u64 = 1_700_000_000_000;
const BUDGET: KeyBudget = KeyBudget { bytes: 64 << 20, messages: 1 };
const ALWAYS: (Timestamp, Timestamp) = (Timestamp(0), Timestamp(u64::MAX));

fn config(seed: u64) -> StoreConfig {
    StoreConfig {
        shard: ShardId(0),
        segment_bytes: 256 << 20,
        reserve_bytes: 8 << 20,
        salt_seed: seed,
    }
}

/// splitmix64 of one number.
fn mixed(number: u64) -> u64 {
    let z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn id(number: u64) -> MessageId {
    MessageId::new(Timestamp(BEGIN_MS), u128::from(mixed(number)) << 8 | 1)
}

fn queue(number: u64) -> QueueIndex {
    QueueIndex((number / BATCH % u64::from(QUEUES)) as u16)
}

fn batch_of(first: u64, count: u64) -> Batch {
    let mut bytes = Vec::new();
    for number in first..first + count {
        let key = format!("order-{number}");
        let properties = [(KEY, key.as_str())];
        let parts = RecordParts {
            topic: TOPIC,
            queue: queue(number),
            id: id(number),
            properties: &properties,
            body: BODY,
            ..RecordParts::default()
        };
        parts.encode(&mut bytes).unwrap();
    }
    Batch::parse(batch::encode(&BatchHeader::default(), count as usize, &bytes)).unwrap()
}

/// The store with everything done at once, and how long each kind of it took.
struct Filled {
    disk: RealDisk,
    store: Store,
    todo: Vec<Io>,
    indexing: Duration,
    writing_keys: Duration,
}

impl Filled {
    fn work(&mut self) {
        while !self.todo.is_empty() {
            let io = self.todo.remove(0);
            let began = Instant::now();
            let done = io::perform(&self.disk, &io);
            match io {
                Io::IndexKeys { .. } => self.indexing += began.elapsed(),
                Io::WriteKeys { .. } => self.writing_keys += began.elapsed(),
                _ => {}
            }
            assert!(!matches!(done, IoDone::Failed { .. } | IoDone::KeysFailed), "{io:?}");
            self.store.done(done, &mut self.todo);
        }
    }

    fn fill(&mut self, messages: u64) {
        for first in (0..messages).step_by(BATCH as usize) {
            let count = BATCH.min(messages - first);
            let now = Timestamp(BEGIN_MS + first / BATCH);
            self.store.append_batch(now, TenantId(1), &batch_of(first, count)).unwrap();
            self.store.close_group(now, false, &mut self.todo);
            self.work();
        }
        assert!(self.store.state() == LogState::Open && self.store.gathered_bytes() == 0);
    }
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_nanos() / 1_000;
    let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
    format!(r#"{{"p50_us":{p50},"p99_us":{p99},"max_us":{max}}}"#)
}

/// The times of lookups of numbers drawn from below `end`, the first of which warm up.
fn timed(end: u64, mut lookup: impl FnMut(u64)) -> Vec<Duration> {
    let mut times = Vec::new();
    for n in 0..2 * LOOKUPS {
        let number = mixed(n ^ 0x5eed) % end;
        let began = Instant::now();
        lookup(number);
        if n >= LOOKUPS {
            times.push(began.elapsed());
        }
    }
    times
}

fn find(filled: &Filled, query: KeyQuery, number: u64) {
    let search = filled.store.key_search(query, ALWAYS, LogPlace::default());
    let answer = search.run(&filled.disk, BUDGET).unwrap();
    assert_eq!(answer.found.len(), 1, "message {number}");
    let (turn, in_batch) = (number / BATCH / u64::from(QUEUES), number % BATCH);
    assert_eq!(answer.found[0].offset.0, turn * BATCH + in_batch);
}

fn measure(path: &Path, messages: u64) {
    let open = |seed| {
        let disk = RealDisk::open(path).unwrap();
        let opened = Store::open(&disk, config(seed), None, &mut |_| Ok(())).unwrap();
        let (store, todo) = (opened.store, opened.io);
        let (indexing, writing_keys) = Default::default();
        Filled { disk, store, todo, indexing, writing_keys }
    };
    let mut filled = open(1);
    filled.work();
    let began = Instant::now();
    filled.fill(messages);
    let fill = began.elapsed();
    let each = |time: Duration| time.as_nanos() / u128::from(messages);
    let (indexing, writing) = (each(filled.indexing), each(filled.writing_keys));
    let by_id = timed(messages, |n| find(&filled, KeyQuery::Id(id(n)), n));
    let by_key = timed(messages, |n| {
        find(&filled, KeyQuery::Key { topic: TOPIC, key: format!("order-{n}") }, n);
    });
    let by_time = timed(messages, |n| {
        let time = Timestamp(BEGIN_MS + n / BATCH);
        let mut sought = filled.store.offset_at(TOPIC, queue(n), time);
        let offset = loop {
            match sought {
                Sought::At(offset) => break offset.0,
                Sought::Read(search) => sought = search.run(&filled.disk, 64 << 20).unwrap(),
            }
        };
        assert_eq!(offset, n / BATCH / u64::from(QUEUES) * BATCH, "message {n}");
    });
    println!(
        r#"{{"messages":{messages},"fill_s":{:.1},"index_ns_message":{indexing},"write_ns_message":{writing},"#,
        fill.as_secs_f64()
    );
    println!(r#" "id":{},"#, percentiles(by_id));
    println!(r#" "key":{},"#, percentiles(by_key));
    println!(r#" "time":{}}}"#, percentiles(by_time));
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("usage: finding DIR [MESSAGES]");
    let messages = arguments.next().map_or(MESSAGES, |text| text.parse().expect("a number"));
    let path = Path::new(&folder).join("finding");
    std::fs::create_dir(&path).expect("a fresh folder");
    let result = std::panic::catch_unwind(|| measure(&path, messages));
    std::fs::remove_dir_all(&path).expect("what was made is removed");
    if result.is_err() {
        std::process::exit(1);
    }
}
