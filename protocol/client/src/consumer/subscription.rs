//! One subscription on one connection: passes messages on, gives credit back, sends what was
//! settled.
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::error::TrySendError::{Closed, Full};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use yard_wire::request::{Push, Reply, Request};
use yard_wire::requests::{Credit, Deliver, Settle, Settled, Unsubscribe};
use yard_wire::{Code, Refusal, ShardId, SubscriptionId};

use super::delivery::Batch;
use super::settlements::{self, Settlement, Settlements};
use super::subscriber::stopped;
use crate::Error;
use crate::client::unexpected;
use crate::connection::{AskError, Connection, PushReceiver};

/// Settle requests that wait for an answer.
const SETTLING_MAX: usize = 16;
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
    /// Messages and bytes taken out of the local buffer, not yet given back as credit.
    taken: (u32, u32),
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
}

impl Subscription {
    pub(super) fn new(key: (ShardId, SubscriptionId), (messages, bytes): (u32, u32)) -> Self {
        Self {
            key,
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

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
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
            self.is_half(state.taken)
        });
        if is_half {
            self.wake.notify_one();
        }
    }

    fn take_credit(&self) -> Option<Request> {
        let (messages, bytes) = self.with(|state| {
            let is_half = self.is_half(state.taken);
            is_half.then(|| std::mem::take(&mut state.taken))
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
}

type Settling = BoxFuture<'static, (Vec<Settlement>, Result<Settled, Error>)>;

pub(super) struct Serving {
    connection: Arc<Connection>,
    subscription: Arc<Subscription>,
    pushes: PushReceiver,
    out: mpsc::Sender<Batch>,
    /// Frames for which `out` has no room yet; bounded by credit.
    buffer: VecDeque<Batch>,
    settling: FuturesUnordered<Settling>,
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
        Self { connection, subscription, pushes, out, buffer, settling, timeout }
    }

    pub(super) async fn run(
        mut self,
        stop: &mut watch::Receiver<bool>,
        closing: &mut watch::Receiver<bool>,
    ) -> End {
        let end = tokio::select! {
            end = self.serve() => end,
            () = stopped(stop, closing) => End::Stopped,
        };
        let error = match &end {
            End::Stopped => {
                if let Err(error) = self.finish().await {
                    tracing::debug!(%error, "a subscription did not end in good order");
                }
                Error::closed("consumer")
            }
            End::Lost => Error::new(Code::Disconnected, "the connection was lost meanwhile"),
            End::Ended(why) => why.clone().into(),
        };
        // A lost connection has answered them all; one that lives may need a moment.
        let rest = async {
            while let Some((settlements, result)) = self.settling.next().await {
                self.settled(settlements, result);
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
            tokio::select! {
                push = self.pushes.recv() => match push {
                    Some(Push::Deliver(deliver)) => self.receive(deliver),
                    Some(Push::Ended(ended)) => return End::Ended(ended.why),
                    None => return End::Lost,
                },
                permit = out.reserve(), if !self.buffer.is_empty() => {
                    let Ok(mut permit) = permit else { return End::Stopped };
                    while let Some(batch) = self.buffer.pop_front() {
                        permit.send(batch);
                        let Ok(next) = out.try_reserve() else { break };
                        permit = next;
                    }
                }
                () = tokio::time::sleep_until(due), if may_settle => self.send_settlements(),
                Some((settlements, result)) = self.settling.next(),
                    if !self.settling.is_empty() => self.settled(settlements, result),
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
        let settlements = self.subscription.with(|state| state.settlements.take());
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
                Err(AskError::NotSent(error) | AskError::Sent(error)) => Err(error),
            };
            (settlements, result)
        }));
    }

    fn settled(&self, settlements: Vec<Settlement>, result: Result<Settled, Error>) {
        match result {
            Ok(settled) => settlements::resolve(settlements, &settled),
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
                for settlement in settlements {
                    settlement.resolve(Err(error.clone()));
                }
            }
        }
    }

    /// Sends what was settled, then ends the subscription.
    async fn finish(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + self.timeout;
        let flush = async {
            while self.due().is_some() || !self.settling.is_empty() {
                let due = self.due().filter(|_| self.settling.len() < SETTLING_MAX);
                tokio::select! {
                    () = tokio::time::sleep_until(due.unwrap_or_else(|| Instant::now() + LONG)),
                        if due.is_some() => self.send_settlements(),
                    Some((settlements, result)) = self.settling.next(),
                        if !self.settling.is_empty() => self.settled(settlements, result),
                }
            }
        };
        let flushed = tokio::time::timeout_at(deadline, flush).await;
        let (shard, subscription) = self.subscription.key;
        let request = Request::Unsubscribe(Unsubscribe { shard, subscription });
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        match self.connection.ask(None, &request, left).await {
            Ok(_) => {}
            Err(AskError::NotSent(error) | AskError::Sent(error)) => return Err(error),
        }
        flushed.map_err(|_| Error::timed_out("settling", self.timeout))
    }
}

/// The broker did not settle, the lease is still held, and asking again may help.
fn is_worth_repeating(code: Code) -> bool {
    code.is_retryable() && code != Code::Disconnected && code != Code::TimedOut
}
