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
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use yard_broker::{DeliverItem, Event, Origin, SessionId};
use yard_shard::{FetchPlan, Input};
use yard_store::{Disk, ReadError};
use yard_wire::request::{Push, Reply, Request};
use yard_wire::requests::{
    Credit, Deliver, Delivered, Fetched, FetchedRecord, Settle, SettleRange, Verdict,
};
use yard_wire::{
    Code, Correlation, QueueIndex, QueueOffset, RecordPlace, Refusal, ShardId, SubscriptionId,
    limits,
};

use crate::hub::{Hub, Session, lock};
use crate::routes::Routes;

/// Deliveries that may wait in one lane.
const LANE_JOBS_MAX: usize = limits::CREDIT_MESSAGES_MAX as usize;
/// Messages that may wait for one session. Credit bounds what is leased, not what waits here: a
/// client that reads nothing is given the same messages again when their leases end.
const SESSION_MESSAGES_MAX: usize = 16 * limits::CREDIT_MESSAGES_MAX as usize;

/// The stream of requests that the server makes in a session's name: there is none of this
/// number, so their answers go nowhere.
const NO_STREAM: u16 = u16::MAX;

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
    /// Which stream each queue's deliveries take.
    routes: Mutex<Routes>,
    /// Messages that wait in all lanes.
    waiting: AtomicUsize,
}

impl Lanes {
    /// A consumer has settled these.
    pub(crate) fn settled(&self, of: (ShardId, SubscriptionId), ranges: &[SettleRange]) {
        lock(&self.routes).settled(of, ranges);
    }

    /// A subscription has ended.
    pub(crate) fn ended(&self, shard: ShardId, subscription: SubscriptionId) {
        lock(&self.routes).ended(shard, subscription);
    }

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
    let Some(last) = job.items.last().map(|item| item.offset) else {
        return;
    };
    // Data stream n is stream n + 1; a delivery waits for a client that has none open yet.
    let key = (job.shard, job.subscription, job.queue);
    let stream = 1 + lock(&session.lanes.routes).lane(key, last, session.handle.lanes_open());
    let mut senders = lock(&session.lanes.senders);
    let sender = senders.entry(stream).or_insert_with(|| {
        let (to, from) = mpsc::channel(LANE_JOBS_MAX);
        hub.runtime.spawn(run_lane(Arc::clone(hub), Arc::clone(&session), stream, from));
        to
    });
    let messages = job.items.len();
    let waiting = session.lanes.waiting.fetch_add(messages, Ordering::Relaxed) + messages;
    if waiting > SESSION_MESSAGES_MAX || sender.try_send(job).is_err() {
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
        let messages = job.items.len();
        let read = {
            let Ok(_turn) = session.reads.acquire().await else { return };
            tokio::task::spawn_blocking(move || read_what_can_be(disk.as_ref(), job)).await
        };
        let ReadJob { pushes, damaged } = read.unwrap_or_else(|panic| {
            tracing::error!(%panic, "a reader panicked");
            ReadJob::default()
        });
        for push in pushes {
            if session.handle.deliver(stream, &push).await.is_err() {
                return;
            }
        }
        for (shard, request) in damaged {
            return_damaged(&hub, &session, shard, request);
        }
        session.lanes.waiting.fetch_sub(messages, Ordering::Relaxed);
    }
}

/// What came of a job.
#[derive(Default)]
struct ReadJob {
    pushes: Vec<Push>,
    /// Requests in the consumer's name: messages that cannot be read come back later, and their
    /// credit at once.
    damaged: Vec<(ShardId, Request)>,
}

/// Reads a job in one go or, where that fails, message by message: an error of the disk keeps
/// back the messages that it is about and no others.
fn read_what_can_be(disk: &dyn Disk, job: Job) -> ReadJob {
    match read_job(disk, &job, &job.items) {
        Ok(push) => return ReadJob { pushes: vec![push], damaged: Vec::new() },
        Err(error) => tracing::error!(shard = job.shard.0, %error, "records could not be read"),
    }
    let mut read = ReadJob::default();
    let (shard, subscription, queue) = (job.shard, job.subscription, job.queue);
    for item in &job.items {
        match read_job(disk, &job, std::slice::from_ref(item)) {
            Ok(push) => read.pushes.push(push),
            Err(_) => {
                let to = QueueOffset(item.offset.0 + 1);
                let (from, verdict, delay_ms) = (item.offset, Verdict::Nack, None);
                let ranges = vec![SettleRange { queue, from, to, verdict, delay_ms }];
                let settle = Settle { shard, subscription, ranges };
                read.damaged.push((shard, Request::Settle(settle)));
                let (messages, bytes) = (1, item.place.bytes);
                let credit = Credit { shard, subscription, messages, bytes };
                read.damaged.push((shard, Request::Credit(credit)));
            }
        }
    }
    read
}

fn return_damaged(hub: &Hub, session: &Session, shard: ShardId, request: Request) {
    let Some(inbox) = hub.inbox(shard) else { return };
    let (stream, correlation) = (NO_STREAM, Correlation(0));
    let origin = Origin { session: SessionId(session.handle.id()), stream, correlation };
    let event = Event::Request { origin, tenant: session.tenant, request };
    inbox.put_after(session.tenant, Input::Event(event));
}

fn read_job(disk: &dyn Disk, job: &Job, items: &[DeliverItem]) -> Result<Push, ReadError> {
    let places: Vec<RecordPlace> = items.iter().map(|item| item.place).collect();
    let records = yard_store::read::records(disk, &places)?;
    assert_eq!(records.len(), items.len(), "one record a place");
    let messages = items.iter().zip(records).map(|(item, record)| Delivered {
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
    let origin = job.origin;
    let Some(session) = hub.session(origin.session.0) else { return };
    let Some(disk) = hub.disks.get(usize::from(job.shard.0)).cloned() else { return };
    let hub_too = Arc::clone(hub);
    hub.runtime.spawn(async move {
        let Ok(_turn) = session.reads.acquire().await else { return };
        let read = tokio::task::spawn_blocking(move || read_fetch(disk.as_ref(), job)).await;
        let result = match read {
            Ok(Ok(fetched)) => Ok(Reply::Fetch(fetched)),
            Ok(Err(error)) => Err(Refusal::new(Code::ReadFailed, error.to_string())),
            Err(panic) => Err(Refusal::new(Code::Internal, panic.to_string())),
        };
        if let Err(refusal) = &result {
            tracing::error!(%refusal, "a fetch could not be read");
        }
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
