//! Who does the work of a broker: threads, or the tasks of the runtime that it was started in.
use std::future::Future;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::os::{self, Priority};
use crate::tasks::ShardTask;
use crate::threads::ShardThreads;

/// Who runs shards, disks and readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runner {
    /// Threads of their own: they may wait for the disk.
    Threads,
    /// Tasks: everything happens on the threads of the runtime, one after another where it has
    /// one. The disks are not waited for, they are in memory.
    Tasks,
}

/// A shard at work.
pub(crate) enum RunningShard {
    Threads(ShardThreads),
    Task(ShardTask),
}

/// Waits for shards to end, after their inboxes were closed.
pub(crate) async fn ended(shards: Vec<RunningShard>) {
    let mut threads = Vec::new();
    for shard in shards {
        match shard {
            RunningShard::Threads(shard) => threads.push(shard),
            RunningShard::Task(shard) => shard.ended().await,
        }
    }
    let joined =
        tokio::task::spawn_blocking(move || threads.into_iter().for_each(ShardThreads::join));
    if joined.await.is_err() {
        tracing::error!("a shard did not end");
    }
}

/// Who reads a log.
#[derive(Clone, Debug)]
pub(crate) struct Readers {
    runner: Runner,
    tracker: TaskTracker,
}

impl Readers {
    pub(crate) fn new(runner: Runner) -> Self {
        Self { runner, tracker: TaskTracker::new() }
    }

    /// Has something read. Must be called within the runtime.
    pub(crate) fn spawn(&self, read: impl FnOnce() + Send + 'static) {
        self.spawn_on(read, &Handle::current());
    }

    /// The same, from anywhere.
    pub(crate) fn spawn_on(&self, read: impl FnOnce() + Send + 'static, runtime: &Handle) {
        match self.runner {
            Runner::Threads => {
                let read = || {
                    os::prefer(Priority::Reader);
                    read();
                };
                drop(self.tracker.spawn_blocking_on(read, runtime));
            }
            Runner::Tasks => drop(self.tracker.spawn_on(async move { read() }, runtime)),
        }
    }

    /// Resolves when nobody reads any more, once nobody asks for it.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> {
        self.tracker.close();
        self.tracker.wait()
    }
}
