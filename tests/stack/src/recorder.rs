//! One clock and one history for all parts of a run.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use yard_checker::{Event, History, Time};
use yard_sim::Trace;

use crate::world::BEGAN_MS;

/// What a run has seen.
#[derive(Debug)]
struct Seen {
    history: History,
    trace: Trace,
    /// What may not happen at all, in words.
    wrongs: Vec<String>,
    last: Time,
}

/// Writes down what happens. Clones write into the same.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    began: Instant,
    seen: Arc<Mutex<Seen>>,
}

impl Recorder {
    /// Must be called within the runtime whose time it is.
    pub(crate) fn new(printing: bool) -> Self {
        let trace = Trace::new(printing);
        let seen = Seen { history: History::new(), trace, wrongs: Vec::new(), last: 0 };
        Self { began: Instant::now(), seen: Arc::new(Mutex::new(seen)) }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Nothing panics half-way through a change of what was seen.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Microseconds since the run began.
    fn micros(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// Nanoseconds since the run began; two calls get two times. All happens on one thread, so
    /// their order is that of what they stand for, however coarse the runtime's clock is.
    pub(crate) fn now(&self) -> Time {
        let at = self.began.elapsed().as_nanos() as Time;
        let mut seen = self.lock();
        seen.last = at.max(seen.last + 1);
        seen.last
    }

    /// When something is due that is delayed by so many milliseconds: by the clocks on the wall,
    /// and by this one.
    pub(crate) fn due(&self, delay_ms: u64) -> (SystemTime, Time) {
        let since = self.began.elapsed().as_millis() as u64 + delay_ms;
        let instant = SystemTime::UNIX_EPOCH + Duration::from_millis(BEGAN_MS + since);
        (instant, since * 1_000_000)
    }

    /// Adds an event to the history, and its figures to the trace.
    pub(crate) fn push(&self, event: Event) {
        let at = self.micros();
        let mut seen = self.lock();
        let words = words_of(&event);
        seen.trace.mix(&words);
        seen.trace.line(at, || format!("{event:?}"));
        seen.history.push(event);
    }

    /// Adds numbers to the trace, and a line where somebody reads.
    pub(crate) fn note(&self, words: &[u64], line: impl FnOnce() -> String) {
        let at = self.micros();
        let mut seen = self.lock();
        seen.trace.mix(&[at]);
        seen.trace.mix(words);
        seen.trace.line(at, line);
    }

    /// Something happened that no checker has to judge.
    pub(crate) fn wrong(&self, what: String) {
        let at = self.micros();
        let mut seen = self.lock();
        seen.trace.line(at, || what.clone());
        seen.wrongs.push(what);
    }

    /// Everything, at the end.
    pub(crate) fn take(&self) -> (History, u64, Vec<String>) {
        let mut seen = self.lock();
        let hash = seen.trace.hash();
        (std::mem::take(&mut seen.history), hash, std::mem::take(&mut seen.wrongs))
    }
}

/// The figures of an event that two equal runs share.
fn words_of(event: &Event) -> Vec<u64> {
    let queue = |queue: yard_checker::Queue| u64::from(queue.index);
    match event {
        Event::Send(sent) => vec![1, sent.producer, sent.seq, sent.invoked, queue(sent.queue)],
        Event::Poll(poll) => {
            let mut words = vec![2, poll.client, poll.completed, queue(poll.queue)];
            words.extend(poll.deliveries.iter().flat_map(|d| [d.offset, d.hash]));
            words
        }
        Event::Settle(settle) => {
            vec![3, settle.client, settle.from, settle.completed.unwrap_or_default()]
        }
        Event::Crash(crash) => vec![4, crash.at],
        Event::Scan(scan) => scan.messages.iter().flat_map(|m| [m.offset, m.hash]).collect(),
        Event::Hold(_)
        | Event::Skip(_)
        | Event::Reset(_)
        | Event::Removal(_)
        | Event::DeadLetter(_) => Vec::new(),
    }
}
