//! One subscription on one connection: passes messages on, gives credit back, sends what was
//! settled.
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::error::TrySendError::{Closed, Full};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use yard_wire::request::{Push, Reply, Request};
use yard_wire::requests::{
    Credit, Deliver, Extend, Extended, HeldRange, Settle, Settled, Unsubscribe, Verdict,
};
use yard_wire::{Code, QueueIndex, QueueOffset, Refusal, ShardId, SubscriptionId, Timestamp};

use super::delivery::Batch;
use super::failures::{Failures, Given, OrderLine, Turn};
use super::keeping::{Keeping, Place};
use super::settlements::{self, Settlement, Settlements};
use super::subscriber::stopped;
use crate::Error;
use crate::client::unexpected;
use crate::clock::BrokerClock;
use crate::connection::{Connection, PushReceiver};
use crate::spans::Source;

/// Settle requests that wait for an answer.
const SETTLING_MAX: usize = 16;
/// Extend requests that wait for an answer.
const EXTENDING_MAX: usize = 4;
/// How long to sleep when nothing is to be done at any time.
const LONG: Duration = Duration::from_secs(3_600);
/// How long the last settle requests have when a subscription ends.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// The wait after a refusal that names none, in milliseconds.
const HOLD_MS: u64 = 50;

#[derive(Debug, Default)]
struct State {
    /// Why the subscription is over; nothing can be settled any more.
    over: Option<Error>,
    settlements: Settlements,
    /// Order groups that have failed here.
    failures: Failures,
    /// What somebody works on.
    keeping: Keeping,
    /// What is given back when the failure of a message is answered, by that message.
    waiting: BTreeMap<(QueueIndex, QueueOffset), Vec<Waiting>>,
    /// Messages and bytes taken out of the local buffer, not yet given back as credit.
    taken: (u32, u32),
    /// Those of them that wait: a backlog stays at the broker until they do not.
    waiting_size: (u32, u32),
}

/// A message behind one whose failure is not answered.
#[derive(Debug)]
struct Waiting {
    settlement: Settlement,
    /// Of its record, where its credit is not given back before.
    bytes: Option<u32>,
}

impl State {
    fn wait(&mut self, failed: (QueueIndex, QueueOffset), it: Waiting) {
        if let Some(bytes) = it.bytes {
            let (messages, sum) = &mut self.waiting_size;
            (*messages, *sum) = (*messages + 1, sum.saturating_add(bytes));
        }
        self.waiting.entry(failed).or_default().push(it);
    }

    /// The failures of these messages are not said again: what has waited for that is given back.
    fn answered(&mut self, queue: QueueIndex, (from, to): (QueueOffset, QueueOffset), now_ms: u64) {
        self.failures.answered(queue, from, to);
        while let Some((failed, _)) = self.waiting.range((queue, from)..(queue, to)).next() {
            let failed = *failed;
            for Waiting { settlement, bytes } in self.waiting.remove(&failed).unwrap_or_default() {
                if let Some(bytes) = bytes {
                    let (messages, sum) = &mut self.waiting_size;
                    (*messages, *sum) = (*messages - 1, sum.saturating_sub(bytes));
                }
                self.settlements.add(settlement, || now_ms);
            }
        }
    }

    /// Messages and bytes that may be given back as credit.
    fn credit(&self) -> (u32, u32) {
        let ((messages, bytes), waiting) = (self.taken, self.waiting_size);
        (messages.saturating_sub(waiting.0), bytes.saturating_sub(waiting.1))
    }
}

/// What deliveries share with the task that serves them.
#[derive(Debug)]
pub(crate) struct Subscription {
    key: (ShardId, SubscriptionId),
    /// Credit is given back when half of it was taken.
    half: (u32, u32),
    state: Mutex<State>,
    /// Nothing can be settled any more; as in the state, to be seen without its lock.
    is_over: AtomicBool,
    wake: Notify,
    started: Instant,
    /// Not kept open by what the application still holds.
    connection: Weak<Connection>,
    /// How long a request may take.
    timeout: Duration,
    lease_ms: u32,
    clock: Arc<BrokerClock>,
    /// For spans.
    source: Arc<Source>,
    is_ordered: bool,
}

impl Subscription {
    pub(super) fn new(
        key: (ShardId, SubscriptionId),
        (messages, bytes): (u32, u32),
        lease_ms: u32,
        (connection, timeout): (&Arc<Connection>, Duration),
        clock: Arc<BrokerClock>,
        (source, is_ordered): (Arc<Source>, bool),
    ) -> Self {
        Self {
            key,
            source,
            connection: Arc::downgrade(connection),
            timeout,
            lease_ms,
            clock,
            is_ordered,
            half: ((messages / 2).max(1), (bytes / 2).max(1)),
            state: Mutex::default(),
            is_over: AtomicBool::new(false),
            wake: Notify::new(),
            started: Instant::now(),
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // Nothing in here panics half-way, so a poisoned state is a whole one.
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// The broker's clock, as far as it is known here.
    pub(super) fn broker_now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Extends the lease of a message until it is released again.
    pub(super) fn keep(&self, place: Place, received_ms: u64) {
        let lease_ms = u64::from(self.lease_ms);
        if self.with(|state| state.keeping.keep(place, received_ms, lease_ms)) {
            self.wake.notify_one();
        }
    }

    pub(super) fn release(&self, place: Place) {
        self.with(|state| state.keeping.release(place));
    }

    /// Asks for longer leases of these messages.
    pub(super) async fn extend(
        &self,
        ranges: Vec<HeldRange>,
        lease_ms: u32,
    ) -> Result<Extended, Error> {
        let over = self.with(|state| state.over.clone());
        if let Some(error) = over {
            return Err(error);
        }
        let lane = ranges.first().map(|range| range.queue.0);
        let (shard, subscription) = self.key;
        let request = Request::Extend(Extend { shard, subscription, lease_ms, ranges });
        let Some(connection) = self.connection.upgrade() else {
            return Err(Error::new(Code::Disconnected, "the connection is gone"));
        };
        match connection.ask(lane, &request, self.timeout).await {
            Ok(Reply::Extend(extended)) => Ok(extended),
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Err(error.into()),
        }
    }

    /// Extends what is due, and takes in what the broker says.
    async fn extend_due(self: Arc<Self>, ranges: Vec<HeldRange>) {
        match self.extend(ranges, self.lease_ms).await {
            Ok(extended) => {
                let gone = self.with(|state| state.keeping.answered(&extended));
                if gone > 0 {
                    tracing::debug!(messages = gone, "leases that cannot be extended any more");
                }
            }
            // It is asked for again before the leases end.
            Err(error) => tracing::debug!(%error, "leases were not extended"),
        }
    }

    pub(super) fn settle(&self, settlement: Settlement) {
        let is_news = self.with(|state| match &state.over {
            Some(error) => {
                settlement.resolve(Err(error.clone()));
                false
            }
            None => state.settlements.add(settlement, || self.now_ms()),
        });
        if is_news {
            self.wake.notify_one();
        }
    }

    /// Whether the topic keeps an order.
    pub(super) fn is_ordered(&self) -> bool {
        self.is_ordered
    }

    /// A message of an order group has failed.
    pub(super) fn failed(&self, line: OrderLine, offset: QueueOffset) {
        self.with(|state| state.failures.failed_unanswered(line, offset));
    }

    /// Gives a message back, at once or when the broker has answered, where one before it in its
    /// order group has failed. `bytes` are those of its record where it was not handed out yet.
    /// Whether it does.
    pub(super) fn gives_back(
        &self,
        line: OrderLine,
        offset: QueueOffset,
        bytes: Option<u32>,
        release: impl FnOnce() -> Settlement,
    ) -> bool {
        let (gives_back, is_news) = self.with(|state| match state.failures.turn(line, offset) {
            Turn::Comes => (false, false),
            _ if state.over.is_some() => (true, false),
            Turn::GoesBack => (true, state.settlements.add(release(), || self.now_ms())),
            Turn::Waits(failed) => {
                state.wait((line.0, failed), Waiting { settlement: release(), bytes });
                (true, false)
            }
        });
        if is_news {
            self.wake.notify_one();
        }
        gives_back
    }

    /// Whether the leases of this subscription are gone.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Whether so many messages or bytes are enough to give credit back.
    pub(super) fn is_half(&self, (messages, bytes): (u32, u32)) -> bool {
        messages >= self.half.0 || bytes >= self.half.1
    }

    /// So many messages and bytes were taken out of the local buffer.
    pub(super) fn taken(&self, (messages, bytes): (u32, u32)) {
        let is_half = self.with(|state| {
            let (all, sum) = &mut state.taken;
            *all += messages;
            *sum = sum.saturating_add(bytes);
            self.is_half(state.credit())
        });
        if is_half {
            self.wake.notify_one();
        }
    }

    fn take_credit(&self) -> Option<Request> {
        let (messages, bytes) = self.with(|state| {
            let credit = state.credit();
            let is_half = self.is_half(credit);
            is_half.then(|| state.taken = (state.taken.0 - credit.0, state.taken.1 - credit.1));
            is_half.then_some(credit)
        })?;
        let (shard, subscription) = self.key;
        Some(Request::Credit(Credit { shard, subscription, messages, bytes }))
    }

    fn end(&self, error: &Error) {
        let left = self.with(|state| {
            state.over.get_or_insert_with(|| error.clone());
            self.is_over.store(true, Ordering::Release);
            std::mem::take(&mut state.settlements)
        });
        let mut left = left;
        loop {
            let settlements = left.take();
            if settlements.is_empty() {
                return;
            }
            for settlement in settlements {
                settlement.resolve(Err(error.clone()));
            }
        }
    }
}

/// How a subscription ended.
pub(super) enum End {
    /// As the consumer or the client wanted.
    Stopped,
    /// With its connection.
    Lost,
    /// As the broker wanted.
    Ended(Refusal),
    /// Until the consumer goes on.
    Paused,
}

type Settling = BoxFuture<'static, (Vec<Settlement>, Given, Result<Settled, Error>)>;

pub(super) struct Serving {
    connection: Arc<Connection>,
    subscription: Arc<Subscription>,
    pushes: PushReceiver,
    out: mpsc::Sender<Batch>,
    /// Frames for which `out` has no room yet; bounded by credit.
    buffer: VecDeque<Batch>,
    settling: FuturesUnordered<Settling>,
    extending: FuturesUnordered<BoxFuture<'static, ()>>,
    timeout: Duration,
}

impl Serving {
    pub(super) fn new(
        connection: Arc<Connection>,
        subscription: Arc<Subscription>,
        pushes: PushReceiver,
        out: mpsc::Sender<Batch>,
        timeout: Duration,
    ) -> Self {
        let (buffer, settling) = (VecDeque::new(), FuturesUnordered::new());
        let extending = FuturesUnordered::new();
        Self { connection, subscription, pushes, out, buffer, settling, extending, timeout }
    }

    pub(super) async fn run(
        mut self,
        stop: &mut watch::Receiver<bool>,
        closing: &mut watch::Receiver<bool>,
        pause: &mut watch::Receiver<bool>,
    ) -> End {
        let end = tokio::select! {
            biased;
            () = stopped(stop, closing) => End::Stopped,
            Ok(_) = pause.wait_for(|pause| *pause) => End::Paused,
            end = self.serve() => end,
        };
        if let End::Stopped | End::Paused = &end
            && let Err(error) = self.finish().await
        {
            tracing::debug!(%error, "a subscription did not end in good order");
        }
        let error = match &end {
            End::Stopped => Error::closed("consumer"),
            End::Paused => Error::new(Code::LeaseLost, "the consumer was paused meanwhile"),
            End::Lost => Error::new(Code::Disconnected, "the connection was lost meanwhile"),
            End::Ended(why) => why.clone().into(),
        };
        // A lost connection has answered them all; one that lives may need a moment.
        let rest = async {
            while let Some(answered) = self.settling.next().await {
                self.settled(answered);
            }
        };
        let _ = tokio::time::timeout(LAST_ANSWERS, rest).await;
        self.subscription.end(&error);
        self.connection.pushes().forget(self.subscription.key);
        end
    }

    async fn serve(&mut self) -> End {
        let out = self.out.clone();
        loop {
            let due = self.due();
            let may_settle = due.is_some() && self.settling.len() < SETTLING_MAX;
            let due = due.unwrap_or_else(|| Instant::now() + LONG);
            let extend_at = self.extend_at();
            let may_extend = extend_at.is_some() && self.extending.len() < EXTENDING_MAX;
            let extend_at = extend_at.unwrap_or_else(|| Instant::now() + LONG);
            // Each is bounded by one further down, but for the last, whose turn comes for certain:
            // pushes by credit, answers by what was asked, what is due by the time.
            tokio::select! {
                biased;
                push = self.pushes.recv() => match push {
                    Some(Push::Deliver(deliver)) => self.receive(deliver),
                    Some(Push::Ended(ended)) => return End::Ended(ended.why),
                    Some(Push::TxCheck(_)) => unreachable!("a check is no subscription's"),
                    None => return End::Lost,
                },
                Some(answered) = self.settling.next(),
                    if !self.settling.is_empty() => self.settled(answered),
                Some(()) = self.extending.next(), if !self.extending.is_empty() => {}
                () = tokio::time::sleep_until(due), if may_settle => self.send_settlements(),
                () = tokio::time::sleep_until(extend_at), if may_extend => self.extend(),
                permit = out.reserve(), if !self.buffer.is_empty() => {
                    let Ok(mut permit) = permit else { return End::Stopped };
                    while let Some(batch) = self.buffer.pop_front() {
                        permit.send(batch);
                        let Ok(next) = out.try_reserve() else { break };
                        permit = next;
                    }
                }
                () = self.subscription.wake.notified() => {
                    if let Some(credit) = self.subscription.take_credit() {
                        let Ok(permit) = self.connection.reserve(None).await else {
                            return End::Lost;
                        };
                        permit.send_quietly(&credit);
                    }
                }
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        let is_one_on_its_way = !self.settling.is_empty();
        let due_ms = self.subscription.with(|state| state.settlements.due_ms(is_one_on_its_way));
        due_ms.map(|ms| self.subscription.started + Duration::from_millis(ms))
    }

    fn extend_at(&self) -> Option<Instant> {
        let due_ms = self.subscription.with(|state| state.keeping.due_ms());
        due_ms.map(|ms| self.subscription.started + Duration::from_millis(ms))
    }

    fn extend(&mut self) {
        let now_ms = self.subscription.now_ms();
        let lease_ms = u64::from(self.subscription.lease_ms);
        let due = self.subscription.with(|state| state.keeping.take_due(now_ms, lease_ms));
        if !due.is_empty() {
            self.extending.push(Box::pin(self.subscription.clone().extend_due(due)));
        }
    }

    fn receive(&mut self, deliver: Deliver) {
        let batch = Batch::new(deliver.queue, deliver.messages, self.subscription.clone());
        // The usual way; what waits already goes first.
        let left = if self.buffer.is_empty() { self.out.try_send(batch) } else { Err(Full(batch)) };
        match left {
            Ok(()) => {}
            // A closed one is noticed by whoever waits for room.
            Err(Full(batch) | Closed(batch)) => self.buffer.push_back(batch),
        }
    }

    fn send_settlements(&mut self) {
        let (settlements, given) =
            self.subscription.with(|state| (state.settlements.take(), state.failures.given()));
        let ranges = settlements::ranges(&settlements);
        let Some(lane) = ranges.first().map(|range| range.queue.0) else {
            return;
        };
        let (shard, subscription) = self.subscription.key;
        let request = Request::Settle(Settle { shard, subscription, ranges });
        let connection = self.connection.clone();
        let timeout = self.timeout;
        // Sending waits for the stream, so it must not hold up what this task does else.
        self.settling.push(Box::pin(async move {
            let result = match connection.ask(Some(lane), &request, timeout).await {
                Ok(Reply::Settle(settled)) => Ok(settled),
                Ok(other) => Err(unexpected(&other)),
                Err(error) => Err(error.into()),
            };
            (settlements, given, result)
        }));
    }

    fn settled(
        &self,
        (settlements, given, result): (Vec<Settlement>, Given, Result<Settled, Error>),
    ) {
        match result {
            Ok(settled) => {
                self.answered(&settlements, given);
                settlements::resolve(settlements, &settled);
            }
            Err(error) if is_worth_repeating(error.code) => {
                let now_ms = self.subscription.now_ms();
                let wait_ms = error.retry_after.map_or(HOLD_MS, |d| d.as_millis() as u64);
                self.subscription.with(|state| {
                    for settlement in settlements {
                        state.settlements.add(settlement, || now_ms);
                    }
                    state.settlements.hold(now_ms + wait_ms);
                });
            }
            Err(error) => {
                self.answered(&settlements, given);
                for settlement in settlements {
                    settlement.resolve(Err(error.clone()));
                }
            }
        }
    }

    /// Notes that these are not said again.
    fn answered(&self, settlements: &[Settlement], given: Given) {
        let now_ms = self.subscription.now_ms();
        let has_credit = self.subscription.with(|state| {
            for Settlement { queue, from, to, verdict, .. } in settlements {
                match verdict {
                    Verdict::Nack | Verdict::Reject => {
                        state.answered(*queue, (*from, *to), now_ms);
                    }
                    Verdict::Release => state.failures.returned(*queue, (*from, *to), given),
                    Verdict::Ack | Verdict::Expire => {}
                }
            }
            self.subscription.is_half(state.credit())
        });
        if has_credit {
            self.subscription.wake.notify_one();
        }
    }

    /// Sends what was settled, then ends the subscription.
    async fn finish(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + self.timeout;
        let flush = async {
            while self.due().is_some() || !self.settling.is_empty() {
                let due = self.due().filter(|_| self.settling.len() < SETTLING_MAX);
                tokio::select! {
                    biased;
                    Some(answered) = self.settling.next(),
                        if !self.settling.is_empty() => self.settled(answered),
                    () = tokio::time::sleep_until(due.unwrap_or_else(|| Instant::now() + LONG)),
                        if due.is_some() => self.send_settlements(),
                }
            }
        };
        let flushed = tokio::time::timeout_at(deadline, flush).await;
        let (shard, subscription) = self.subscription.key;
        let request = Request::Unsubscribe(Unsubscribe { shard, subscription });
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        match self.connection.ask(None, &request, left).await {
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        flushed.map_err(|_| Error::timed_out("settling", self.timeout))
    }
}

/// The broker did not settle, the lease is still held, and asking again may help.
fn is_worth_repeating(code: Code) -> bool {
    code.is_retryable() && code != Code::Disconnected && code != Code::TimedOut
}
