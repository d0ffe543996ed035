//! What the host does in time: two workers beside one, versions that change, plugins that load.
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use filter_sql::FilterPoint;
use rustix::time::{ClockId, clock_gettime};
use switchyard_plugin::{Config, Filter, abi};
use yard_abi::{Delivery, FrameBuilder, Room, View};
use yard_it::Failed;
use yard_it::life::{Bar, Report};
use yard_wasm::{Accepted, Binding, Compiled, Directory, Engine, Installed, Metering, early};

use crate::sandbox::{Sandbox, Tools, failed, installed, publish};
use crate::traffic::{PREDICATE, TAGS, records};

/// Messages of a batch.
const BATCH: usize = 256;
/// Plugins that are loaded.
const LOADED: u32 = 1_000;
/// A version is published so often.
const SWAP_EVERY: Duration = Duration::from_millis(5);
/// Times of batches, of thousand, that are shown.
const P50: usize = 500;
const P99: usize = 990;

/// The value below which so many of a thousand lie.
fn quantile(times: &mut [Duration], per_mille: usize) -> Duration {
    times.sort_unstable();
    times.get((times.len().saturating_sub(1)) * per_mille / 1_000).copied().unwrap_or_default()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A round's work: every record judged, frames made of them included.
fn judge_all(
    sandbox: &mut Sandbox,
    binding: &Arc<Binding>,
    (records, view): (&[Vec<u8>], View),
) -> usize {
    let (mut frame, mut wanted) = (FrameBuilder::of(view), 0);
    for batch in records.chunks(BATCH) {
        frame.clear();
        for record in early(batch.iter(), view, |record| record) {
            let room = frame.push(record, Delivery::default());
            assert_eq!(room, Ok(Room::Taken), "small records fit");
        }
        wanted += sandbox.judge(binding, &frame).delivered().count();
    }
    wanted
}

/// Processor time of this thread.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// One worker, and then two that have as much each; in turns. How much more is done in a second,
/// and by how much the processor time of a message grows. The same source natively, without engine
/// or allocator, is what two processors of this machine give at most.
///
/// # Errors
/// Where the plugin is not there.
pub fn workers(tools: &Tools, messages: usize, rounds: usize) -> Result<Report, Failed> {
    let mut report = Report::new("workers", format!("{messages} messages, {rounds} rounds"));
    let records = records(messages);
    let engine = Engine::new(Metering::Both).map_err(failed)?;
    for (plugin, text) in [("filter-tag", TAGS), ("filter-sql", PREDICATE)] {
        let file = tools.file(plugin)?;
        let binding = Binding::new(text.to_owned(), Vec::new());
        let view = tools.accept(&file)?.manifest.view(0);
        let judging = |mut sandbox: Sandbox| {
            let (binding, records) = (&binding, &records);
            move || judge_all(&mut sandbox, binding, (records, view))
        };
        let sandboxes = [Sandbox::of(tools, &engine, &file)?, Sandbox::of(tools, &engine, &file)?];
        let (more, grown) = two_beside_one(sandboxes.map(judging), rounds);
        let text = format!("processor time a message with two: {grown:.2} of that with one");
        report.figure(&format!("{plugin}: two beside one"), (more, &text), Bar::AtLeast(1.9));
    }
    let filter = FilterPoint::compile(PREDICATE, &Config::default()).map_err(Failed)?;
    let judging = || records.iter().filter(|record| is_kept(&filter, record)).count();
    let (more, grown) = two_beside_one([judging, judging], rounds);
    let text = format!("{more:.2}: processor time a message with two: {grown:.2} of that with one");
    report.tell("filter-sql's source natively: two beside one", &text);
    Ok(report)
}

fn is_kept(filter: &FilterPoint, record: &[u8]) -> bool {
    let message = abi::Message::parse(record).expect("a stored record");
    filter.keep(&message.into())
}

/// How much more two that work beside each other do in a second than one, and how much more
/// processor time each of them takes.
fn two_beside_one<W: FnMut() -> usize + Send>(mut works: [W; 2], rounds: usize) -> (f64, f64) {
    let mut round = |threads: usize| {
        let began = Instant::now();
        let spent = std::thread::scope(|scope| {
            let timed = |work: &mut W| {
                let before = processor_time();
                black_box(work());
                processor_time().saturating_sub(before)
            };
            let start = |work| scope.spawn(move || timed(work));
            let threads: Vec<_> = works[..threads].iter_mut().map(start).collect();
            let spent = threads.into_iter().map(|it| it.join().expect("no panic"));
            spent.sum::<Duration>()
        });
        (began.elapsed().as_secs_f64() / threads as f64, spent.as_secs_f64() / threads as f64)
    };
    // The first meets cold instances.
    round(2);
    let (mut more, mut grown) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (one, two) = (round(1), round(2));
        more.push(one.0 / two.0);
        grown.push(two.1 / one.1);
    }
    (median(&mut more), median(&mut grown))
}

/// Versions that change while a worker judges without a pause: its first batch by a new version,
/// beside all others.
///
/// # Errors
/// Where the plugin is not there.
pub fn swaps(tools: &Tools, count: usize) -> Result<Report, Failed> {
    let mut report = Report::new("swaps", format!("{count} swaps"));
    let engine = Engine::new(Metering::Both).map_err(failed)?;
    let (_, compiled) = tools.compile(&engine, &tools.file("filter-sql")?)?;
    let versions = [1, 2].map(|number| installed(number, compiled.clone()));
    let directory = Arc::new(Directory::default());
    publish(&directory, &versions[0]);
    let records = records(64 * BATCH);
    let is_over = AtomicBool::new(false);
    let (mut first, mut usual) = std::thread::scope(|scope| {
        let sandbox = Sandbox::new(&engine, &directory);
        let judging = scope.spawn(|| judged(sandbox, &records, &is_over));
        for number in 0..count {
            publish(&directory, &versions[(number + 1) % 2]);
            std::thread::sleep(SWAP_EVERY);
        }
        is_over.store(true, Ordering::Release);
        judging.join().expect("no panic")
    });
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let found = first.len();
    let (p50, p99) = (quantile(&mut first, P50), quantile(&mut first, P99));
    let most = quantile(&mut first, 1_000);
    let others = (quantile(&mut usual, P50), quantile(&mut usual, P99));
    let text = format!(
        "first batches of {found} swaps, p50 {:.0} us, most {:.0} us; \
         others p50 {:.0}, p99 {:.0} us",
        us(p50),
        us(most),
        us(others.0),
        us(others.1),
    );
    report.figure("p99 in ms", (us(p99) / 1_000.0, &text), Bar::AtMost(1.0));
    Ok(report)
}

/// The times of first batches of a version, and of others.
fn judged(
    mut sandbox: Sandbox,
    records: &[Vec<u8>],
    is_over: &AtomicBool,
) -> (Vec<Duration>, Vec<Duration>) {
    let binding = Binding::new(PREDICATE.to_owned(), Vec::new());
    let (mut first, mut usual, mut last) = (Vec::new(), Vec::new(), None);
    let mut frame = FrameBuilder::new(0);
    for batch in records.chunks(BATCH).cycle() {
        if is_over.load(Ordering::Acquire) {
            break;
        }
        let began = Instant::now();
        frame.clear();
        for record in batch {
            assert_eq!(frame.push(record, Delivery::default()), Ok(Room::Taken));
        }
        let version = sandbox.judge(&binding, &frame).version();
        let times = if last.is_some() && version != last { &mut first } else { &mut usual };
        times.push(began.elapsed());
        last = version;
    }
    (first, usual)
}

/// Plugins that are compiled already, as at a start of the broker.
///
/// # Errors
/// Where the plugin is not there, or the disk fails.
pub fn loads(tools: &Tools) -> Result<Report, Failed> {
    let mut report = Report::new("loads", format!("{LOADED} plugins"));
    let engine = Engine::new(Metering::Both).map_err(failed)?;
    let file = tools.file("filter-sql")?;
    let accepted = tools.accept(&file)?;
    let compiler = &tools.compiler;
    let artefact = compiler.compile(&file, Metering::Both, &accepted.limits).map_err(failed)?;
    let all: Vec<Accepted> = (0..LOADED)
        .map(|number| {
            let mut hash = accepted.hash;
            hash.0[..4].copy_from_slice(&number.to_le_bytes());
            Accepted { hash, ..accepted.clone() }
        })
        .collect();
    for one in &all {
        tools.cache.put(&engine.artefact(one.hash), &artefact)?;
    }
    let began = Instant::now();
    let mut loaded: Vec<Arc<Installed>> = Vec::new();
    for one in &all {
        let found = Compiled::load(&engine, &tools.cache, one).map_err(failed)?;
        loaded.push(installed(1, found.ok_or_else(|| failed("it was put there"))?));
    }
    let text = format!("{} of {} bytes of code each", loaded.len(), artefact.len());
    report.figure("seconds", (began.elapsed().as_secs_f64(), &text), Bar::AtMost(1.0));
    Ok(report)
}
