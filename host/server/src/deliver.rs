//! Reading for consumers: records by place, off the writer and off the network's threads.
//!
//! ```text
//!   Output::Deliver ──► lane of the session (bounded) ──► read on a blocking thread ──► stream
//! ```
//!
//! Deliveries of one stream keep their order. What waits here are places, not bytes: at most one
//! frame of a lane is in memory, so a consumer that stops reading costs little, and its credit
//! bounds how many places wait.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::mpsc;
use yard_broker::{DeliverItem, Origin, SessionId};
use yard_shard::FetchPlan;
use yard_store::{Disk, ReadError};
use yard_transport::CONTROL;
use yard_wire::request::{Push, Reply};
use yard_wire::requests::{Deliver, Delivered, Fetched, FetchedRecord};
use yard_wire::{Code, QueueIndex, QueueOffset, RecordPlace, Refusal, ShardId, SubscriptionId};

use crate::hub::{Hub, Session, lock};

/// Deliveries that may wait in one lane: with the largest credit, one message each.
const LANE_JOBS_MAX: usize = yard_wire::limits::CREDIT_MESSAGES_MAX as usize;

/// Messages of one queue on their way to a subscription.
#[derive(Debug)]
pub(crate) struct Job {
    /// The shard that delivers.
    pub shard: ShardId,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The queue.
    pub queue: QueueIndex,
    /// The messages.
    pub items: Vec<DeliverItem>,
}

/// The lanes of one session: a task for each stream that deliveries go to.
#[derive(Default)]
pub(crate) struct Lanes {
    senders: Mutex<HashMap<u16, mpsc::Sender<Job>>>,
    count: OnceLock<u16>,
}

impl Lanes {
    /// Ends the tasks once they have nothing more to do.
    pub(crate) fn close(&self) {
        lock(&self.senders).clear();
    }
}

/// Puts a delivery into the lane of its queue.
pub(crate) fn deliver(hub: &Arc<Hub>, session: SessionId, job: Job) {
    let Some(session) = hub.session(session.0) else {
        return;
    };
    // Data stream n is stream n + 1; a delivery waits for a client that has none open yet. How
    // many there are is asked once, so that a queue stays on its stream.
    let lanes = *session.lanes.count.get_or_init(|| session.handle.lanes_open().max(1));
    let stream = 1 + job.queue.0 % lanes;
    let mut senders = lock(&session.lanes.senders);
    let sender = senders.entry(stream).or_insert_with(|| {
        let (to, from) = mpsc::channel(LANE_JOBS_MAX);
        hub.runtime.spawn(run_lane(Arc::clone(hub), Arc::clone(&session), stream, from));
        to
    });
    if sender.try_send(job).is_err() {
        let detail = "more deliveries wait than any credit allows";
        session.handle.close(&Refusal::new(Code::LimitReached, detail));
    }
}

async fn run_lane(
    hub: Arc<Hub>,
    session: Arc<Session>,
    stream: u16,
    mut jobs: mpsc::Receiver<Job>,
) {
    while let Some(job) = jobs.recv().await {
        let Some(disk) = hub.disks.get(usize::from(job.shard.0)).cloned() else {
            continue;
        };
        let (shard, subscription) = (job.shard, job.subscription);
        let read = tokio::task::spawn_blocking(move || read_job(disk.as_ref(), job)).await;
        let why = match read {
            Ok(Ok(push)) => match session.handle.deliver(stream, &push).await {
                Ok(()) => continue,
                Err(_ended) => return,
            },
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic.to_string(),
        };
        // The messages stay leased and come back; this consumer hears why now.
        tracing::error!(shard = shard.0, why, "records could not be read");
        let why = Refusal::new(Code::ReadFailed, why);
        let ended = yard_wire::requests::Ended { shard, subscription, why };
        session.handle.push(CONTROL, &Push::Ended(ended));
    }
}

fn read_job(disk: &dyn Disk, job: Job) -> Result<Push, ReadError> {
    let places: Vec<RecordPlace> = job.items.iter().map(|item| item.place).collect();
    let records = yard_store::read::records(disk, &places)?;
    assert_eq!(records.len(), job.items.len(), "one record a place");
    let messages = job.items.iter().zip(records).map(|(item, record)| Delivered {
        offset: item.offset,
        stored: item.place.stored,
        attempt: item.attempt,
        record,
    });
    Ok(Push::Deliver(Deliver {
        shard: job.shard,
        subscription: job.subscription,
        queue: job.queue,
        messages: messages.collect(),
    }))
}

/// A fetch request whose place in the index is known.
#[derive(Debug)]
pub(crate) struct FetchJob {
    /// The request.
    pub origin: Origin,
    /// The shard that answers.
    pub shard: ShardId,
    /// Offset of the first record read.
    pub from: QueueOffset,
    /// Oldest offset of the queue.
    pub first: QueueOffset,
    /// Offset after the newest committed message.
    pub end: QueueOffset,
    /// Bytes of records at most, but always one record.
    pub bytes_max: u32,
    /// Where they are.
    pub plan: FetchPlan,
}

/// Reads for a fetch request and answers it.
pub(crate) fn fetch(hub: &Arc<Hub>, job: FetchJob) {
    let hub_too = Arc::clone(hub);
    hub.runtime.spawn_blocking(move || {
        let Some(disk) = hub_too.disks.get(usize::from(job.shard.0)) else {
            return;
        };
        let origin = job.origin;
        let result = read_fetch(disk.as_ref(), job).map(Reply::Fetch);
        if let Err(error) = &result {
            tracing::error!(%error, "a fetch could not be read");
        }
        let result = result.map_err(|e| Refusal::new(Code::ReadFailed, e.to_string()));
        hub_too.reply(origin, result);
    });
}

fn read_fetch(disk: &dyn Disk, job: FetchJob) -> Result<Fetched, ReadError> {
    let mut places = match job.plan {
        FetchPlan::Records(places) => places,
        FetchPlan::Index(read) => yard_store::read::index(disk, &read)?,
    };
    let mut bytes = 0u64;
    let fits = places.iter().take_while(|place| {
        bytes += u64::from(place.bytes);
        bytes <= u64::from(job.bytes_max)
    });
    let count = fits.count().max(1);
    places.truncate(count);
    let records = yard_store::read::records(disk, &places)?;
    assert_eq!(records.len(), places.len(), "one record a place");
    let records = (job.from.0..).zip(places).zip(records);
    let records = records.map(|((offset, place), record)| FetchedRecord {
        offset: QueueOffset(offset),
        stored: place.stored,
        record,
    });
    Ok(Fetched { first: job.first, end: job.end, records: records.collect() })
}
