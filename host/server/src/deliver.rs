//! Reading for consumers: records by place, off the writer and, where a disk is waited for, off
//! the network's threads.
//!
//! ```text
//!   Output::Deliver ──► lane of the session (bounded) ─┬─ all in memory ──────────────┬─► stream
//!                                                      └─ read on a blocking thread ──┘ ▲
//!                                         what a policy does not want is left out there ─┘
//! ```
//!
//! Deliveries of one stream keep their order. What waits here are places, not bytes: at most one
//! frame of a lane is in memory, so a consumer that stops reading costs little, and its credit
//! bounds how many places wait. A frame is made by copying each record once, out of the bytes that
//! all readers share, so that what waits for a consumer keeps nothing else in memory.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use yard_broker::{Asking, DeliverItem, Event, Origin, Rounds, SessionId};
use yard_client::{Failures, OrderLine};
use yard_shard::{FetchPlan, Input};
use yard_store::ReadError;
use yard_wire::frame::{self, Class, HEADER_BYTES};
use yard_wire::request::{Kind, Push, Request};
use yard_wire::requests::{
    Credit, Deliver, Delivered, Fetched, FetchedRecord, Settle, SettleRange, Verdict,
};
use yard_wire::{
    Code, Correlation, QueueIndex, QueueOffset, RecordPlace, Refusal, ShardId, SubscriptionId,
    TopicId, limits,
};

use crate::bodies;
use crate::hub::{Hub, Log, Session, lock};
use crate::routes::Routes;

mod wanted;

pub(crate) use wanted::records_of;

#[cfg(test)]
mod tests;

/// Deliveries that may wait in one lane.
const LANE_JOBS_MAX: usize = limits::CREDIT_MESSAGES_MAX as usize;
/// Messages that may wait for one session. Credit bounds what is leased, not what waits here: a
/// client that reads nothing is given the same messages again when their leases end.
const SESSION_MESSAGES_MAX: usize = 16 * limits::CREDIT_MESSAGES_MAX as usize;
/// Bytes that are copied on a thread of the network: some tens of microseconds.
const COPIED_HERE_MAX: usize = 2 * limits::DELIVER_BYTES_MAX;

/// The stream of requests that the server makes in a session's name: there is none of this
/// number, so their answers go nowhere.
const NO_STREAM: u16 = u16::MAX;
/// The last error of a message that the disk did not give.
const UNREADABLE: &str = "the broker could not read the record";

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
    /// Topic of the queue.
    pub topic: TopicId,
    /// Who is asked which of them are wanted.
    pub asking: Option<Asking>,
}

/// The lanes of one session: a task for each stream that deliveries go to.
#[derive(Default)]
pub(crate) struct Lanes {
    senders: Mutex<BTreeMap<u16, mpsc::Sender<Job>>>,
    /// Which stream each queue's deliveries take.
    routes: Mutex<Routes>,
    /// Messages that wait in all lanes.
    waiting: AtomicUsize,
    /// Which queues were held, by shard.
    rounds: Mutex<BTreeMap<ShardId, Rounds>>,
    /// Order groups of which a message could not be read.
    unread: Mutex<BTreeMap<(ShardId, SubscriptionId), Failures>>,
}

impl Lanes {
    /// A consumer has settled these.
    pub(crate) fn settled(&self, of: (ShardId, SubscriptionId), ranges: &[SettleRange]) {
        lock(&self.routes).settled(of, ranges);
    }

    /// A subscription has ended.
    pub(crate) fn ended(&self, shard: ShardId, subscription: SubscriptionId) {
        lock(&self.routes).ended(shard, subscription);
        if let Some(rounds) = lock(&self.rounds).get_mut(&shard) {
            rounds.ended(subscription);
        }
        lock(&self.unread).remove(&(shard, subscription));
    }

    /// Takes out of a job what is behind a message of its order group that could not be read, as
    /// far as the broker did not know of that when it made the delivery.
    fn take_behind(&self, job: &mut Job) -> Vec<DeliverItem> {
        let mut unread = lock(&self.unread);
        let Some(failures) = unread.get_mut(&(job.shard, job.subscription)) else {
            return Vec::new();
        };
        let queue = job.queue;
        let is_behind = |item: &mut DeliverItem| {
            line_of(queue, item).is_some_and(|line| failures.gives_back(line, item.offset))
        };
        job.items.extract_if(.., is_behind).collect()
    }

    /// Remembers of which order groups messages could not be read, and what is behind those.
    fn note_unread(&self, job: &Job, read: &ReadJob) {
        for item in read.failed.iter().chain(&read.behind) {
            let Some(line) = line_of(job.queue, item) else { continue };
            let of = (job.shard, job.subscription);
            lock(&self.unread).entry(of).or_default().failed(line, item.offset);
        }
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
    if job.items.is_empty() {
        return;
    }
    // Data stream n is stream n + 1; a delivery waits for a client that has none open yet.
    let key = (job.shard, job.subscription, job.queue);
    let stream = 1 + lock(&session.lanes.routes).lane(key, session.handle.lanes_open());
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
    while let Some(mut job) = jobs.recv().await {
        let messages = job.items.len();
        let (shard, subscription, queue) = (job.shard, job.subscription, job.queue);
        let behind = session.lanes.take_behind(&mut job);
        let job = Arc::new(job);
        let Some(mut read) = read(&hub, &session, &job).await else { return };
        session.lanes.note_unread(&job, &read);
        read.behind.extend(behind);
        // Before a policy is asked: what it gives back must not come before the broker knows.
        for request in given_back(&job, &read) {
            in_their_name(&hub, &session, shard, request);
        }
        let ReadJob { portions, lost, .. } = read;
        let Some(wanted) = wanted::of(&hub, &session, &job, portions).await else { return };
        let last = wanted.last().map(Portion::last);
        // Before they are sent: their consumer may settle them at once.
        lock(&session.lanes.routes).sent((shard, subscription, queue), last);
        for portion in wanted {
            let frame = delivery(&job, portion.items.len(), portion.messages);
            if session.handle.deliver_frame(stream, frame).await.is_err() {
                return;
            }
        }
        let session_id = SessionId(session.handle.id());
        for DeliverItem { offset, .. } in lost {
            let event = Event::Unreadable { session: session_id, subscription, queue, offset };
            if let Some(inbox) = hub.inbox(shard) {
                inbox.put_after(session.tenant, Input::Event(event));
            }
        }
        session.lanes.waiting.fetch_sub(messages, Ordering::Relaxed);
    }
}

/// Messages that were read, as a delivery has them.
struct Portion {
    /// Which they are; at least one.
    items: Vec<DeliverItem>,
    /// Encoded one after another; they may be shared with other groups.
    messages: Bytes,
}

impl Portion {
    /// The last message, and which delivery of it this is.
    fn last(&self) -> (QueueOffset, u32) {
        let last = self.items.last().expect("a portion has messages");
        (last.offset, last.attempt)
    }
}

/// What came of reading a job.
#[derive(Default)]
struct ReadJob {
    portions: Vec<Portion>,
    /// Messages that the disk did not give: they come back later.
    failed: Vec<DeliverItem>,
    /// Those behind them in their order groups: they come back after them.
    behind: Vec<DeliverItem>,
    /// Messages whose bytes are not what was stored: their group goes on without them.
    lost: Vec<DeliverItem>,
}

/// The order group of a message of an ordered topic.
fn line_of(queue: QueueIndex, item: &DeliverItem) -> Option<OrderLine> {
    Some((queue, item.order?.spread()))
}

/// Reads a job, here if all of it is in memory. `None` when the process ends.
async fn read(hub: &Arc<Hub>, session: &Session, job: &Arc<Job>) -> Option<ReadJob> {
    if job.items.is_empty() {
        return Some(ReadJob::default());
    }
    let log = hub.logs.get(usize::from(job.shard.0)).expect("a shard that delivers has a log");
    if let Some(messages) = delivery_in_memory(log, &session.reads, job) {
        let portions = vec![Portion { items: job.items.clone(), messages }];
        return Some(ReadJob { portions, ..ReadJob::default() });
    }
    let turn = Arc::clone(&session.reads).acquire_owned().await.ok()?;
    let job = Arc::clone(job);
    let read = on_a_thread(turn, log.clone(), move |log| {
        let places = places_of(&job.items);
        (read_what_can_be(log, &job), places)
    });
    Some(read.await.unwrap_or_else(|_| {
        tracing::error!("a reader panicked");
        ReadJob::default()
    }))
}

/// Reads on a thread that may block. The thread reads what is likely to be wanted next before it
/// gives back its turn, but after it has told what it read.
fn on_a_thread<T: Send + 'static>(
    turn: OwnedSemaphorePermit,
    log: Log,
    read: impl FnOnce(&Log) -> (T, Vec<RecordPlace>) + Send + 'static,
) -> oneshot::Receiver<T> {
    let (to, from) = oneshot::channel();
    let readers = log.readers.clone();
    readers.spawn(move || {
        let (read, places) = read(&log);
        // Whoever asked may have gone.
        let _ = to.send(read);
        if let Some(ahead) = log.cache.ahead_of(log.disk.as_ref(), &places) {
            log.cache.read_ahead(log.disk.as_ref(), ahead);
        }
        drop(turn);
    });
    from
}

/// Has a thread read what is likely to be wanted next, where the tenant has a turn to spare.
fn read_ahead(log: &Log, reads: &Arc<Semaphore>, places: &[RecordPlace]) {
    let Ok(turn) = Arc::clone(reads).try_acquire_owned() else { return };
    if let Some(ahead) = log.cache.ahead_of(log.disk.as_ref(), places) {
        let log = log.clone();
        let readers = log.readers.clone();
        readers.spawn(move || {
            log.cache.read_ahead(log.disk.as_ref(), ahead);
            drop(turn);
        });
    }
}

/// Reads records one by one: none of those that cannot be read. `None` when the process ends.
pub(crate) async fn read_each(
    log: &Log,
    reads: Arc<Semaphore>,
    places: Vec<RecordPlace>,
) -> Option<Vec<Option<Bytes>>> {
    let turn = reads.acquire_owned().await.ok()?;
    let read = on_a_thread(turn, log.clone(), move |log| {
        let read_one = |place: &RecordPlace| {
            let mut record = None;
            let mut keep = |bytes: &[u8]| record = Some(Bytes::copy_from_slice(bytes));
            log.cache.read(log.disk.as_ref(), std::slice::from_ref(place), &mut keep).ok()?;
            record
        };
        // They lie apart: nothing is read ahead.
        (places.iter().map(read_one).collect(), Vec::new())
    });
    read.await.ok()
}

fn places_of(items: &[DeliverItem]) -> Vec<RecordPlace> {
    items.iter().map(|item| item.place).collect()
}

fn delivery_in_memory(log: &Log, reads: &Arc<Semaphore>, job: &Job) -> Option<Bytes> {
    let portion = bodies::Portion::of(&job.items);
    if let Some(messages) = portion.and_then(|portion| log.bodies.get(&portion)) {
        return Some(messages);
    }
    let places = places_of(&job.items);
    let found = log.cache.find(&places)?;
    read_ahead(log, reads, &places);
    // What is damaged in memory is read anew from the disk.
    let messages = encoded(&job.items, |each| found.each(&places, each)).ok()?;
    if let Some(portion) = portion.filter(|_| found.is_tail()) {
        log.bodies.put(portion, messages.clone());
    }
    Some(messages)
}

/// Reads a job in one go or, where that fails, message by message: an error of the disk keeps
/// back the messages that it is about, those behind them in their order groups, and no others.
fn read_what_can_be(log: &Log, job: &Job) -> ReadJob {
    match read_job(log, &job.items) {
        Ok(portion) => return ReadJob { portions: vec![portion], ..ReadJob::default() },
        Err(error) => tracing::error!(shard = job.shard.0, %error, "records could not be read"),
    }
    let (mut read, mut failures) = (ReadJob::default(), Failures::default());
    for item in &job.items {
        let (line, offset) = (line_of(job.queue, item), item.offset);
        if line.is_some_and(|line| failures.gives_back(line, offset)) {
            read.behind.push(*item);
            continue;
        }
        match read_job(log, std::slice::from_ref(item)) {
            Ok(portion) => read.portions.push(portion),
            Err(error @ ReadError::Damaged { .. }) => {
                let (shard, queue) = (job.shard.0, job.queue);
                tracing::error!(shard, %queue, %offset, %error, "a message is lost");
                read.lost.push(*item);
            }
            Err(ReadError::Disk { .. }) => {
                line.into_iter().for_each(|line| failures.failed(line, offset));
                read.failed.push(*item);
            }
        }
    }
    read
}

/// Requests in the consumer's name: what failed comes back later, what is behind that as if it had
/// not been delivered, and the credit of all that is not sent at once.
fn given_back(job: &Job, read: &ReadJob) -> Vec<Request> {
    let (shard, subscription, queue) = (job.shard, job.subscription, job.queue);
    let range = |item: &DeliverItem, verdict: Verdict| {
        let (from, to) = (item.offset, QueueOffset(item.offset.0 + 1));
        let error = (verdict == Verdict::Nack).then(|| UNREADABLE.to_owned());
        SettleRange { queue, from, to, attempt: item.attempt, verdict, delay_ms: None, error }
    };
    let settle = |ranges: Vec<SettleRange>| {
        assert!(ranges.len() <= limits::SETTLE_RANGES_MAX, "a delivery is bounded");
        Request::Settle(Settle { shard, subscription, ranges })
    };
    // What failed bars what is behind it before that is given back.
    let failed = read.failed.iter().map(|item| settle(vec![range(item, Verdict::Nack)]));
    let mut requests: Vec<Request> = failed.collect();
    if !read.behind.is_empty() {
        let ranges = read.behind.iter().map(|item| range(item, Verdict::Release));
        requests.push(settle(ranges.collect()));
    }
    let unsent = || read.failed.iter().chain(&read.behind).chain(&read.lost);
    let messages = u32::try_from(unsent().count()).expect("a delivery is bounded");
    if messages > 0 {
        let bytes = unsent().fold(0u32, |sum, item| sum.saturating_add(item.place.bytes));
        requests.push(Request::Credit(Credit { shard, subscription, messages, bytes }));
    }
    requests
}

fn read_job(log: &Log, items: &[DeliverItem]) -> Result<Portion, ReadError> {
    let places = places_of(items);
    let messages = encoded(items, |each| log.cache.read(log.disk.as_ref(), &places, each))?;
    Ok(Portion { items: items.to_vec(), messages })
}

/// The messages as a delivery has them; `fill` gives each record, in order.
fn encoded(
    items: &[DeliverItem],
    fill: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<(), ReadError>,
) -> Result<Bytes, ReadError> {
    let records: usize = items.iter().map(|item| item.place.bytes as usize).sum();
    let bytes = items.len() * Delivered::HEAD_BYTES + records;
    let mut out = Vec::with_capacity(bytes);
    let mut left = items.iter();
    fill(&mut |record| {
        let item = left.next().expect("one record an item");
        Delivered::put_with(item.offset, item.place.stored, item.attempt, record, &mut out);
    })?;
    assert_eq!(out.len(), bytes, "every record has the bytes of its place");
    Ok(out.into())
}

/// The frame of a delivery of so many messages.
fn delivery(job: &Job, count: usize, messages: Bytes) -> [Bytes; 2] {
    let mut head = Vec::with_capacity(HEADER_BYTES + Deliver::HEAD_BYTES);
    let (kind, class) = (Push::DELIVER, Class::Push);
    frame::encode_split(kind, class, Correlation(0), messages.len(), &mut head, |out| {
        Deliver::put_head((job.shard, job.subscription, job.queue), count as u32, out);
    });
    [head.into(), messages]
}

fn in_their_name(hub: &Hub, session: &Session, shard: ShardId, request: Request) {
    let Some(inbox) = hub.inbox(shard) else { return };
    let (stream, correlation) = (NO_STREAM, Correlation(0));
    let origin = Origin { session: SessionId(session.handle.id()), stream, correlation };
    let event = Event::Request { origin, tenant: session.tenant, request };
    inbox.put_after(session.tenant, Input::Event(event));
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
    let Some(log) = hub.logs.get(usize::from(job.shard.0)).cloned() else { return };
    let hub_too = Arc::clone(hub);
    hub.runtime.spawn(async move {
        if let Some(frame) = fetch_in_memory(&log, &job) {
            return session.handle.reply_frame(origin.stream, origin.correlation, frame);
        }
        match on_reader(Arc::clone(&session.reads), log, move |log| read_fetch(log, job)).await {
            Some(Ok(frame)) => {
                session.handle.reply_frame(origin.stream, origin.correlation, frame);
            }
            Some(Err(refusal)) => hub_too.reply(origin, Err(refusal)),
            None => {}
        }
    });
}

/// Reads for a request on a thread that may wait for the disk, when it is the tenant's turn.
/// `None` when the process ends.
pub(crate) async fn on_reader<T: Send + 'static>(
    reads: Arc<Semaphore>,
    log: Log,
    read: impl FnOnce(&Log) -> (Result<T, ReadError>, Vec<RecordPlace>) + Send + 'static,
) -> Option<Result<T, Refusal>> {
    let turn = reads.acquire_owned().await.ok()?;
    let refusal = match on_a_thread(turn, log, read).await {
        Ok(Ok(read)) => return Some(Ok(read)),
        Ok(Err(error @ ReadError::Damaged { .. })) => {
            Refusal::new(Code::MessageDamaged, error.to_string())
        }
        Ok(Err(error @ ReadError::Disk { .. })) => {
            Refusal::new(Code::ReadFailed, error.to_string())
        }
        Err(_) => Refusal::new(Code::Internal, "a reader panicked"),
    };
    tracing::error!(%refusal, "a request could not be read for");
    Some(Err(refusal))
}

/// How many of the places, at least one, fit so many bytes; and their bytes.
fn fitting(places: &[RecordPlace], bytes_max: u32) -> (usize, usize) {
    let mut bytes = 0u64;
    let fits = places.iter().take_while(|place| {
        bytes += u64::from(place.bytes);
        bytes <= u64::from(bytes_max)
    });
    let count = fits.count().max(1).min(places.len());
    let records = &places[..count];
    (count, records.iter().map(|place| place.bytes as usize).sum())
}

fn fetch_in_memory(log: &Log, job: &FetchJob) -> Option<Bytes> {
    let FetchPlan::Records(places) = &job.plan else { return None };
    let (count, bytes) = fitting(places, job.bytes_max);
    if bytes > COPIED_HERE_MAX {
        return None;
    }
    let places = &places[..count];
    let found = log.cache.find(places)?;
    fetched(job, places, |each| found.each(places, each)).ok()
}

/// The answer to a fetch, and what of the log it is made of.
fn read_fetch(log: &Log, job: FetchJob) -> (Result<Bytes, ReadError>, Vec<RecordPlace>) {
    let mut places = match job.plan {
        FetchPlan::Records(ref places) => places.clone(),
        FetchPlan::Index(ref read) => match yard_store::read::index(log.disk.as_ref(), read) {
            Ok(places) => places,
            Err(error) => return (Err(error), Vec::new()),
        },
    };
    places.truncate(fitting(&places, job.bytes_max).0);
    let frame = fetched(&job, &places, |each| log.cache.read(log.disk.as_ref(), &places, each));
    (frame, places)
}

/// The frame of an answer; `fill` gives each record, in order.
fn fetched(
    job: &FetchJob,
    places: &[RecordPlace],
    fill: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<(), ReadError>,
) -> Result<Bytes, ReadError> {
    let records: usize = places.iter().map(|place| place.bytes as usize).sum();
    let heads = HEADER_BYTES + Fetched::HEAD_BYTES + places.len() * FetchedRecord::HEAD_BYTES;
    let mut out = Vec::with_capacity(heads + records);
    let mut filled = Ok(());
    let kind = Kind::Fetch as u16;
    frame::encode_with(kind, Class::Reply, job.origin.correlation, &mut out, |out| {
        Fetched::put_head(job.first, job.end, places.len() as u32, out);
        let mut left = (job.from.0..).map(QueueOffset).zip(places);
        filled = fill(&mut |record| {
            let (offset, place) = left.next().expect("one record a place");
            FetchedRecord::put_with(offset, place.stored, record, out);
        });
    });
    filled?;
    assert_eq!(out.len(), heads + records, "every record has the bytes of its place");
    Ok(out.into())
}
