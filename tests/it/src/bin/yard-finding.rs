//! Measures how long finding takes among many messages: a log of one shard, filled with messages
//! of 8 queues that have an id and a key each, asked for some of them by id, key and time.
//!
//! ```text
//! yard-finding [--messages N]
//! ```
//!
//! Prints percentiles, and the processor time that the key index took for each message, as JSON.
//! Ten million messages take 2.5 GB of the system's temporary folder meanwhile. Exit codes: 0
//! measured, 2 not.
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use yard_it::Failed;
use yard_it::arguments::Arguments;
use yard_it::scratch::Scratch;
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

fn config() -> StoreConfig {
    StoreConfig {
        shard: ShardId(0),
        segment_bytes: 256 << 20,
        reserve_bytes: 8 << 20,
        salt_seed: 1,
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
        parts.encode(&mut bytes).expect("small parts are within limits");
    }
    let bytes = batch::encode(&BatchHeader::default(), count as usize, &bytes);
    Batch::parse(bytes).expect("what was encoded is well-formed")
}

/// Processor time of this thread so far. Source: proc(5), schedstat.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split(' ').next().and_then(|text| text.parse().ok());
    Duration::from_nanos(first.unwrap_or_default())
}

/// The store with everything done at once, and the processor time of what is done for the keys.
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
            let began = processor_time();
            let done = io::perform(&self.disk, &io);
            let took = processor_time() - began;
            match io {
                Io::IndexKeys { .. } => self.indexing += took,
                Io::WriteKeys { .. } => self.writing_keys += took,
                _ => {}
            }
            assert!(
                !matches!(
                    done,
                    IoDone::Failed { .. } | IoDone::IndexKeysFailed | IoDone::WriteKeysFailed
                ),
                "{io:?}"
            );
            self.store.done(done, &mut self.todo);
        }
    }

    fn fill(&mut self, messages: u64) {
        for first in (0..messages).step_by(BATCH as usize) {
            let count = BATCH.min(messages - first);
            let now = Timestamp(BEGIN_MS + first / BATCH);
            let appended = self.store.append_batch(now, TenantId(1), &batch_of(first, count));
            appended.expect("the log is open");
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
    let answer = search.run(&filled.disk, BUDGET).expect("the log can be read");
    assert_eq!(answer.found.len(), 1, "message {number}");
    let (turn, in_batch) = (number / BATCH / u64::from(QUEUES), number % BATCH);
    assert_eq!(answer.found[0].offset.0, turn * BATCH + in_batch);
}

fn measure(path: &Path, messages: u64) {
    let disk = RealDisk::open(path).expect("a fresh folder");
    let opened = Store::open(&disk, config(), None, &mut |_| Ok(())).expect("a fresh log");
    let (indexing, writing_keys) = Default::default();
    let (store, todo) = (opened.store, opened.io);
    let mut filled = Filled { disk, store, todo, indexing, writing_keys };
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
                Sought::Read(search) => {
                    sought = search.run(&filled.disk, BUDGET.bytes).expect("the log can be read");
                }
            }
        };
        assert_eq!(offset, n / BATCH / u64::from(QUEUES) * BATCH, "message {n}");
    });
    let fill = fill.as_secs_f64();
    println!(r#"{{"messages":{messages},"fill_s":{fill:.1},"#);
    println!(r#" "collect_ns_message":{indexing},"merge_ns_message":{writing},"#);
    println!(r#" "id":{},"#, percentiles(by_id));
    println!(r#" "key":{},"#, percentiles(by_key));
    println!(r#" "time":{}}}"#, percentiles(by_time));
}

fn main() -> ExitCode {
    let run = || -> Result<(), Failed> {
        let arguments = Arguments::read(std::env::args().skip(1), &["messages"])?;
        let messages = arguments.value("messages", MESSAGES)?.max(1);
        let scratch = Scratch::new("finding")?;
        measure(scratch.path(), messages);
        Ok(())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("yard-finding: {failed}");
            ExitCode::from(2)
        }
    }
}
