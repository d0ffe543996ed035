//! The threads of one shard: the writer runs `Shard::step` and writes groups, the syncer waits
//! for the disk, the background thread does what may take long. Reading happens elsewhere.
//!
//! ```text
//!   inbox ──► writer ──► outputs (replies, deliveries)
//!     ▲         ├──────► syncer      fdatasync, one at a time
//!     │         └──────► background  zeroing, indexes, checkpoints
//!     └── results ◄───────┴─────────┘
//! ```
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use yard_shard::{Input, Output, Shard};
use yard_store::{Disk, Io, IoDone};
use yard_wire::Timestamp;

use crate::inbox::Inbox;
use crate::os::{self, Priority};
use crate::time::Clock;

/// Work that may wait for the background thread: one segment to prepare, an index, a checkpoint,
/// with room for a few of each.
const BACKGROUND_JOBS_MAX: usize = 16;
/// How long a closing shard waits for its last group, in seconds.
const CLOSE_SECONDS_MAX: u64 = 5;

/// What a writer does with outputs that are not I/O.
pub(crate) trait Outputs: Send + 'static {
    /// Does one thing; never blocks.
    fn put(&mut self, output: Output);

    /// Sees a group that is about to be written at `offset` of a segment: readers take it from
    /// memory. Never blocks for long.
    fn group(&mut self, segment: u32, offset: u32, bytes: &Bytes);
}

/// The running threads of one shard.
pub(crate) struct ShardThreads {
    writer: JoinHandle<()>,
    helpers: Vec<JoinHandle<()>>,
}

impl ShardThreads {
    /// Starts the threads; `first` is what the shard wants done to begin with.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(
        shard: Shard,
        disk: Arc<dyn Disk>,
        inbox: Arc<Inbox>,
        outputs: impl Outputs,
        first: Vec<Output>,
    ) -> std::io::Result<Self> {
        let number = shard.id().0;
        let (sync_to, sync_from) = sync_channel(2);
        let (background_to, background_from) = sync_channel(BACKGROUND_JOBS_MAX);
        let log = Some(Priority::Log);
        let syncer = helper(format!("sync-{number}"), log, sync_from, &disk, &inbox)?;
        let name = format!("background-{number}");
        let background = helper(name, None, background_from, &disk, &inbox)?;
        let mut writer = Writer {
            clock: Clock::start(shard.now()),
            shard,
            disk,
            inbox,
            outputs,
            syncer: sync_to,
            background: background_to,
            wake_at: None,
            spare: Vec::new(),
        };
        let writer = std::thread::Builder::new()
            .name(format!("writer-{number}"))
            .spawn(move || writer.run(first))?;
        Ok(Self { writer, helpers: vec![syncer, background] })
    }

    /// Waits for the threads to end, after the inbox was closed.
    pub(crate) fn join(self) {
        for thread in std::iter::once(self.writer).chain(self.helpers) {
            if thread.join().is_err() {
                tracing::error!("a thread of a shard panicked");
            }
        }
    }
}

/// Ends the process when its thread panics. An engine's own invariant did not hold, so nothing
/// more may be promised; whoever started the process starts it again, and recovery does its work.
/// A shard without its thread would take requests and never answer.
struct EndsWithMe;

impl Drop for EndsWithMe {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a thread of a shard panicked; the broker ends");
            std::process::abort();
        }
    }
}

fn helper(
    name: String,
    priority: Option<Priority>,
    jobs: Receiver<Io>,
    disk: &Arc<dyn Disk>,
    inbox: &Arc<Inbox>,
) -> std::io::Result<JoinHandle<()>> {
    let (disk, inbox) = (Arc::clone(disk), Arc::clone(inbox));
    std::thread::Builder::new().name(name).spawn(move || {
        let _ends = EndsWithMe;
        if let Some(priority) = priority {
            os::prefer(priority);
        }
        while let Ok(io) = jobs.recv() {
            let done = yard_store::io::perform(disk.as_ref(), &io);
            inbox.put_first(Input::Io(done));
        }
    })
}

struct Writer<O> {
    shard: Shard,
    clock: Clock,
    disk: Arc<dyn Disk>,
    inbox: Arc<Inbox>,
    outputs: O,
    syncer: SyncSender<Io>,
    background: SyncSender<Io>,
    wake_at: Option<Timestamp>,
    spare: Vec<Output>,
}

impl<O: Outputs> Writer<O> {
    fn run(&mut self, mut first: Vec<Output>) {
        let _ends = EndsWithMe;
        os::prefer(Priority::Log);
        let mut results: Vec<IoDone> = Vec::new();
        self.put(&mut first, &mut results);
        let mut closing_since: Option<Instant> = None;
        loop {
            let mut inputs: Vec<Input> = results.drain(..).map(Input::Io).collect();
            let mut closing = false;
            if inputs.is_empty() {
                let taken = self.inbox.take(self.shard.input_budget(), self.deadline(closing));
                inputs = taken.inputs;
                closing |= taken.closing;
            }
            self.step(inputs, &mut results);
            if closing || self.inbox.is_closing() {
                let since = *closing_since.get_or_insert_with(Instant::now);
                let gave_up = since.elapsed() > Duration::from_secs(CLOSE_SECONDS_MAX);
                if closing && self.shard.is_quiet() && results.is_empty() {
                    tracing::info!(shard = self.shard.id().0, "shard closed");
                    return;
                }
                if gave_up || self.shard.is_fenced() {
                    tracing::warn!(shard = self.shard.id().0, "closed with writes under way");
                    return;
                }
            }
        }
    }

    /// When `take` must return without an input.
    fn deadline(&self, closing: bool) -> Option<Instant> {
        if closing {
            return Some(Instant::now() + Duration::from_millis(2));
        }
        self.wake_at.map(|at| self.clock.instant(at))
    }

    fn step(&mut self, inputs: Vec<Input>, results: &mut Vec<IoDone>) {
        let now = self.clock.now();
        if self.wake_at.is_some_and(|at| at <= now) {
            self.wake_at = None;
        }
        let mut outputs = std::mem::take(&mut self.spare);
        self.shard.step(now, inputs, &mut outputs);
        self.put(&mut outputs, results);
        self.spare = outputs;
    }

    fn put(&mut self, outputs: &mut Vec<Output>, results: &mut Vec<IoDone>) {
        for output in outputs.drain(..) {
            match output {
                Output::Io(io) => self.start_io(io, results),
                Output::WakeAt(at) => self.wake_at = Some(at),
                other => self.outputs.put(other),
            }
        }
    }

    fn start_io(&mut self, io: Io, results: &mut Vec<IoDone>) {
        // A helper lives as long as its sender, so sending fails only after it panicked; the
        // shard then never hears of the result, which is what a hung disk looks like.
        let sent = match io {
            Io::WriteGroup { segment, offset, ref bytes, .. } => {
                self.outputs.group(segment, offset, bytes);
                results.push(yard_store::io::perform(self.disk.as_ref(), &io));
                Ok(())
            }
            Io::SyncGroup { .. } => self.syncer.send(io),
            Io::PrepareSegment { .. } | Io::WriteIndex { .. } | Io::WriteCheckpoint { .. } => {
                self.background.send(io)
            }
        };
        if sent.is_err() {
            tracing::error!(shard = self.shard.id().0, "a helper thread is gone");
        }
    }
}
