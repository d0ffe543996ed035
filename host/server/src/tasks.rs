//! A shard as a task of the runtime, its disk beside it: the same writer as on a thread, where
//! everything shall happen in one order.
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use yard_shard::{Input, Output, Shard};
use yard_store::{Disk, Io, IoDone};

use crate::inbox::Inbox;
use crate::time::Clock;
use crate::within::Surroundings;
use crate::writer::{Hands, Outputs, Writer};

/// Jobs of one worker that wait: of each kind a shard has a few under way.
const JOBS_MAX: usize = 1_024;
/// How often a shard that ends looks whether what it took in is durable.
const CLOSING_LOOK: Duration = Duration::from_millis(1);

/// A disk on which everything takes as long as its world says.
#[derive(Clone)]
pub(crate) struct Slow {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) surroundings: Arc<dyn Surroundings>,
}

impl Slow {
    async fn perform(&self, io: &Io) -> IoDone {
        tokio::time::sleep(self.surroundings.takes(io)).await;
        yard_store::io::perform(self.disk.as_ref(), io)
    }

    /// Performs one after another; where the first of a job fails, the rest of it is left.
    async fn work(self, mut jobs: mpsc::Receiver<Vec<Io>>, inbox: Arc<Inbox>) {
        while let Some(job) = jobs.recv().await {
            for io in job {
                let done = self.perform(&io).await;
                let has_failed = matches!(done, IoDone::Failed { .. });
                inbox.put_first(Input::Io(done));
                if has_failed {
                    break;
                }
            }
        }
    }
}

/// A shard that runs as tasks. Dropped, they end where they are.
pub(crate) struct ShardTask {
    tasks: JoinSet<()>,
}

impl ShardTask {
    /// Starts the tasks; `first` is what the shard wants done to begin with.
    pub(crate) fn start(
        shard: Shard,
        disk: Slow,
        inbox: Arc<Inbox>,
        outputs: impl Outputs,
        (clock, first): (Clock, Vec<Output>),
    ) -> Self {
        let mut tasks = JoinSet::new();
        let mut worker = || {
            let (to, from) = mpsc::channel(JOBS_MAX);
            tasks.spawn(disk.clone().work(from, Arc::clone(&inbox)));
            to
        };
        let hands = Workers { log: worker(), background: worker(), keys: worker() };
        tasks.spawn(run(Writer::new(shard, clock, inbox, outputs, hands), first));
        Self { tasks }
    }

    /// Resolves when they have ended, after the inbox was closed.
    pub(crate) async fn ended(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if ended.is_err() {
                tracing::error!("a task of a shard panicked");
            }
        }
    }
}

/// The tasks that work for a shard, as its threads would.
struct Workers {
    log: mpsc::Sender<Vec<Io>>,
    background: mpsc::Sender<Vec<Io>>,
    keys: mpsc::Sender<Vec<Io>>,
}

impl Hands for Workers {
    fn is_handed_over(&self) -> bool {
        true
    }

    fn begin(&mut self, io: Io, _tell_write: bool, _results: &mut Vec<IoDone>) {
        let (worker, job) = match io {
            Io::WriteGroup { group, segment, .. } => {
                (&self.log, vec![io, Io::SyncGroup { group, segment }])
            }
            // Its worker goes on to it by itself.
            Io::SyncGroup { .. } => return,
            Io::IndexKeys { .. } => (&self.keys, vec![io]),
            Io::PrepareSegment { .. }
            | Io::WriteIndex { .. }
            | Io::WriteKeys { .. }
            | Io::ReadKept { .. }
            | Io::RemoveSegment { .. }
            | Io::WriteCheckpoint { .. } => (&self.background, vec![io]),
        };
        // A worker lives as long as its sender, and a shard waits for more than so many.
        let is_taken = worker.try_send(job).is_ok();
        assert!(is_taken, "a shard has few jobs under way");
    }
}

async fn run(mut writer: Writer<impl Outputs, Workers>, first: Vec<Output>) {
    writer.begin(first);
    loop {
        let wants = writer.wants().expect("its workers do nothing at once");
        let inbox = writer.inbox();
        let taken = inbox.taken(wants.budget_bytes, wants.is_patient, wants.wake_at).await;
        if writer.turn(Some(taken)) {
            return;
        }
        if writer.inbox().is_closing() {
            tokio::time::sleep(CLOSING_LOOK).await;
        }
    }
}
