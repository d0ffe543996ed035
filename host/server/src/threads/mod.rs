//! The threads of one shard: the writer runs it, the log thread writes and syncs its groups, the
//! keys thread collects ids and keys from them, the background thread does what may take long.
//! Reading happens elsewhere.
//!
//! ```text
//!   inbox ──► writer ──► outputs (replies, deliveries)
//!     ▲         ├──────► log         pwrite and fdatasync of one group
//!     │         ├──────► keys        ids and keys of groups that are still in memory
//!     │         └──────► background  zeroing, indexes, checkpoints
//!     └── results ◄───────┴─────────┘
//! ```
//!
//! Where the disk is quick, the writer writes and syncs the group itself: to wake another thread,
//! and to be woken by it, takes a good part of such a sync, and what arrives meanwhile is the next
//! group either way. The log thread is for slower disks, where requests that need no sync would
//! wait too long.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use yard_shard::{Input, Output, Shard};
use yard_store::{Disk, Io, IoDone};

use crate::inbox::{Inbox, Watch};
use crate::os::{self, Priority};
use crate::time::Clock;
use crate::writer::{Hands, Outputs, Writer};

/// Work that may wait for a thread: one segment to prepare, an index, a part of the key index, a
/// checkpoint, with room for a few of each.
const BACKGROUND_JOBS_MAX: usize = 16;
/// The writer writes a group itself while syncs take no longer than this, in microseconds:
/// until then it takes no request.
const QUICK_US: u64 = 300;
/// How long the background thread keeps what it has written.
const KEPT: Duration = Duration::from_secs(1);
/// How long a closing shard waits for its last group, in seconds.
const CLOSE_SECONDS_MAX: u64 = 5;

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
        (clock, first): (Clock, Vec<Output>),
    ) -> std::io::Result<Self> {
        let number = shard.id().0;
        let (log_to, log_from) = sync_channel(2);
        let (background_to, background_from) = sync_channel(BACKGROUND_JOBS_MAX);
        let log = LogDisk { disk: Arc::clone(&disk), typical_us: Arc::default() };
        let log_thread = start_log(format!("log-{number}"), log_from, log.clone(), &inbox)?;
        let name = format!("background-{number}");
        let background = start_background(name, background_from, Arc::clone(&disk), &inbox)?;
        let (keys_to, keys_from) = sync_channel(BACKGROUND_JOBS_MAX);
        let keys = start_background(format!("keys-{number}"), keys_from, disk, &inbox)?;
        let hands = Helpers {
            shard: number,
            log,
            log_thread: log_to,
            is_handed_over: false,
            background: background_to,
            keys: keys_to,
        };
        let writer = Writer::new(shard, clock, inbox, outputs, hands);
        let run = move || run(writer, first);
        let writer = os::spawn(format!("writer-{number}"), Priority::Log, run)?;
        Ok(Self { writer, helpers: vec![log_thread, background, keys] })
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

/// The disk as groups are written to it, and how long it takes to sync them.
#[derive(Clone)]
struct LogDisk {
    disk: Arc<dyn Disk>,
    /// A sync, lately, in microseconds.
    typical_us: Arc<AtomicU64>,
}

impl LogDisk {
    fn perform(&self, io: &Io) -> IoDone {
        let began = Instant::now();
        let done = yard_store::io::perform(self.disk.as_ref(), io);
        if matches!(io, Io::SyncGroup { .. }) {
            let us = began.elapsed().as_micros() as u64;
            // Towards the median: one that took long because the processors were busy, or the
            // disk for once, counts no more than one that was quick.
            let before = self.typical_us.load(Ordering::Relaxed);
            let step = before / 16 + 1;
            let typical = if us > before { before + step } else { before - step.min(before) };
            self.typical_us.store(typical, Ordering::Relaxed);
        }
        done
    }

    fn is_quick(&self) -> bool {
        self.typical_us.load(Ordering::Relaxed) <= QUICK_US
    }
}

/// A group for the log thread.
struct LogJob {
    write: Io,
    sync: Io,
    /// Somebody waits for the write alone.
    tell_write: bool,
}

fn start_log(
    name: String,
    jobs: Receiver<LogJob>,
    log: LogDisk,
    inbox: &Arc<Inbox>,
) -> std::io::Result<JoinHandle<()>> {
    let inbox = Arc::clone(inbox);
    os::spawn(name, Priority::Log, move || {
        let _ends = EndsWithMe;
        while let Ok(LogJob { write, sync, tell_write }) = jobs.recv() {
            let written = log.perform(&write);
            if matches!(written, IoDone::Failed { .. }) {
                inbox.put_first(Input::Io(written));
                continue;
            }
            let mut told = Some(written);
            if tell_write && let Some(written) = told.take() {
                inbox.put_first(Input::Io(written));
            }
            let synced = log.perform(&sync);
            inbox.put_all_first(told.into_iter().chain([synced]).map(Input::Io));
        }
    })
}

fn start_background(
    name: String,
    jobs: Receiver<Io>,
    disk: Arc<dyn Disk>,
    inbox: &Arc<Inbox>,
) -> std::io::Result<JoinHandle<()>> {
    let inbox = Arc::clone(inbox);
    os::spawn(name, Priority::Background, move || {
        let _ends = EndsWithMe;
        let mut last: Option<Io> = None;
        loop {
            // The writer has an index as well until it hears that it was written. To give so much
            // memory back takes long, so whoever does it last should be this thread.
            let job = match last {
                Some(_) => jobs.recv_timeout(KEPT),
                None => jobs.recv().map_err(RecvTimeoutError::from),
            };
            last = match job {
                Ok(io) => {
                    let done = yard_store::io::perform(disk.as_ref(), &io);
                    inbox.put_first(Input::Io(done));
                    Some(io)
                }
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
        }
    })
}

/// The writer's helpers, and what it does with their work.
struct Helpers {
    shard: u16,
    log: LogDisk,
    log_thread: SyncSender<LogJob>,
    /// The log thread has the group that is on its way to the disk.
    is_handed_over: bool,
    background: SyncSender<Io>,
    /// Ids and keys are collected beside what takes long: groups are kept for tens of
    /// milliseconds, and would have to be read again.
    keys: SyncSender<Io>,
}

impl Hands for Helpers {
    fn is_handed_over(&self) -> bool {
        self.is_handed_over
    }

    fn begin(&mut self, io: Io, tell_write: bool, results: &mut Vec<IoDone>) {
        // A helper lives as long as its sender, so sending fails only after it panicked; the
        // shard then never hears of the result, which is what a hung disk looks like.
        let is_gone = match io {
            Io::WriteGroup { group, segment, .. } => {
                self.is_handed_over = !self.log.is_quick();
                if self.is_handed_over {
                    let sync = Io::SyncGroup { group, segment };
                    self.log_thread.send(LogJob { write: io, sync, tell_write }).is_err()
                } else {
                    results.push(self.log.perform(&io));
                    false
                }
            }
            Io::SyncGroup { .. } => {
                // The log thread goes on to it by itself.
                if !self.is_handed_over {
                    results.push(self.log.perform(&io));
                }
                false
            }
            Io::PrepareSegment { .. }
            | Io::WriteIndex { .. }
            | Io::WriteKeys { .. }
            | Io::ReadKept { .. }
            | Io::RemoveSegment { .. }
            | Io::WriteCheckpoint { .. } => self.background.send(io).is_err(),
            Io::IndexKeys { .. } => self.keys.send(io).is_err(),
        };
        if is_gone {
            tracing::error!(shard = self.shard, "a helper thread is gone");
        }
    }
}

/// Runs a shard until its inbox is closed and what it took in is durable.
fn run(mut writer: Writer<impl Outputs, Helpers>, first: Vec<Output>) {
    let _ends = EndsWithMe;
    writer.begin(first);
    let mut watch = Watch::default();
    let mut closing_since: Option<Instant> = None;
    loop {
        let taken = writer.wants().map(|wants| {
            let wake_at = wants.wake_at.map(tokio::time::Instant::into_std);
            writer.inbox().take(wants.budget_bytes, wants.is_patient, wake_at, &mut watch)
        });
        if writer.turn(taken) {
            return;
        }
        if writer.inbox().is_closing() {
            let since = *closing_since.get_or_insert_with(Instant::now);
            if since.elapsed() > Duration::from_secs(CLOSE_SECONDS_MAX) {
                return writer.give_up();
            }
        }
    }
}
