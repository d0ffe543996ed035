//! The queue before a shard: one byte-bounded queue a tenant, served by deficit round robin, and
//! a line for what must never wait behind requests.
//!
//! ```text
//!   tenant 0  ▮▮▮▮▮▮▮▮        each turn a tenant may take QUANTUM_BYTES more;
//!   tenant 7  ▮               what it does not use up is lost when its queue is empty
//!   results of I/O, metadata ─► always first
//! ```
//!
//! Invariants: a tenant's queue never holds more bytes than its bound (one request excepted); a
//! tenant with few requests waits for at most one quantum of each other tenant.
//!
//! Waking the shard's thread costs more than a small request does. So it is woken once, and not
//! for what it would let lie: requests while it may take none, and messages to be synced while
//! the disk works on the group before theirs.
//!
//! Source: Shreedhar and Varghese, "Efficient Fair Queueing using Deficit Round Robin" (1995).
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use yard_shard::Input;
use yard_wire::{Code, Refusal, TenantId};

/// Bytes that a tenant may take in one turn.
pub(crate) const QUANTUM_BYTES: usize = 64 << 10;
/// What a request costs beyond its bytes, so that many small ones are not free.
pub(crate) const REQUEST_COST_BYTES: usize = 256;
/// So much is taken in while the disk works: to copy it then takes longer than to wake up.
const PATIENT_BYTES: usize = 64 << 10;

#[derive(Default)]
struct TenantQueue {
    items: VecDeque<(usize, Input)>,
    bytes: usize,
    deficit: usize,
}

#[derive(Default)]
struct State {
    first: VecDeque<Input>,
    tenants: BTreeMap<TenantId, TenantQueue>,
    /// Tenants with requests, the next to be served in front.
    turns: VecDeque<TenantId>,
    /// Bytes of all tenants.
    bytes: usize,
    /// Somebody has put in what is urgent since all requests were taken.
    urgent: bool,
    /// What the shard's thread sleeps for; `None`: it does not sleep, or was woken.
    sleeps: Option<Wanted>,
    closing: bool,
}

/// What is worth waking a shard's thread for, besides results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Any request.
    Requests,
    /// Requests that somebody waits for before the next sync, or many.
    Urgent,
    /// None: there is no room.
    Nothing,
}

/// Whether a request can wait for the sync that is under way: the answer to it has to, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hurry {
    /// It is answered sooner.
    Urgent,
    /// It is answered after the next sync.
    AfterSync,
}

/// The queue before one shard.
pub(crate) struct Inbox {
    state: Mutex<State>,
    arrived: Condvar,
    /// The same, for a task.
    heard: Notify,
    /// Something was put in since the shard's thread looked last; for looking without the lock.
    stirred: AtomicBool,
    tenant_bytes_max: usize,
}

/// What a shard's thread took out.
pub(crate) struct Taken {
    /// What must not wait.
    pub first: Vec<Input>,
    /// Requests, in the order in which the shard takes them, after the others.
    pub requests: Vec<Input>,
    /// The inbox was closed, and these were the last but for results of I/O.
    pub closing: bool,
}

impl Inbox {
    /// An inbox whose tenants may each queue `tenant_bytes_max` bytes.
    #[must_use]
    pub(crate) fn new(tenant_bytes_max: usize) -> Self {
        assert!(tenant_bytes_max > 0, "a tenant can queue something");
        let (state, stirred) = (Mutex::default(), AtomicBool::new(false));
        let (arrived, heard) = (Condvar::new(), Notify::new());
        Self { state, arrived, heard, stirred, tenant_bytes_max }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; if one did, the queue is still whole.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Queues a request of `bytes` bytes.
    ///
    /// # Errors
    /// `Busy` with a retry-after where the tenant's queue is full, `ShuttingDown` at the end.
    pub(crate) fn offer(
        &self,
        tenant: TenantId,
        bytes: usize,
        hurry: Hurry,
        input: Input,
    ) -> Result<(), Refusal> {
        let cost = bytes + REQUEST_COST_BYTES;
        let mut state = self.lock();
        if state.closing {
            return Err(Code::ShuttingDown.into());
        }
        let waiting = state.tenants.get(&tenant).map_or(0, |queue| queue.bytes);
        if waiting > 0 && waiting + cost > self.tenant_bytes_max {
            let detail = format!("{waiting} bytes of this tenant wait already");
            return Err(Refusal::after(Code::Busy, busy_retry_ms(waiting), detail));
        }
        state.push(tenant, cost, hurry, input);
        self.wake(state);
        Ok(())
    }

    /// Wakes the shard's thread if it sleeps and wants what is there.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        self.stirred.store(true, Ordering::Release);
        if state.sleeps.is_some_and(|wanted| state.has(wanted)) {
            state.sleeps = None;
            drop(state);
            self.arrived.notify_one();
            self.heard.notify_one();
        }
    }

    /// Queues what must not wait: results of I/O and metadata. Bounded by what
    /// was let in before: every one of these answers or ends something.
    pub(crate) fn put_first(&self, input: Input) {
        self.put_all_first([input]);
    }

    /// The same for several, in their order.
    pub(crate) fn put_all_first(&self, inputs: impl IntoIterator<Item = Input>) {
        let mut state = self.lock();
        state.first.extend(inputs);
        self.wake(state);
    }

    /// Queues what must come after everything that the tenant has queued, however much that is:
    /// the end of a connection.
    pub(crate) fn put_after(&self, tenant: TenantId, input: Input) {
        let mut state = self.lock();
        state.push(tenant, REQUEST_COST_BYTES, Hurry::Urgent, input);
        self.wake(state);
    }

    /// Refuses requests from now on and wakes the shard's thread.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        self.wake(state);
    }

    /// Whether requests are refused.
    pub(crate) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// Waits until there is something to take or until `wake_at`, and takes it: all of the first
    /// line, then requests of at most `budget_bytes`, or one where a single one is larger. While
    /// the disk works, `is_patient` lets what waits for it wait a little more. Before it sleeps it
    /// looks for as long as `watch` says.
    pub(crate) fn take(
        &self,
        budget_bytes: usize,
        is_patient: bool,
        wake_at: Option<Instant>,
        watch: &mut Watch,
    ) -> Taken {
        let wanted = Wanted::of(budget_bytes, is_patient);
        let mut state = self.lock();
        let began = (!state.has(wanted)).then(Instant::now);
        if let Some(look) = began.and(watch.look()) {
            drop(state);
            self.look(wanted, wake_at, look);
            state = self.lock();
        }
        while !state.has(wanted) {
            let left = match wake_at {
                None => Duration::from_secs(3_600),
                Some(at) => at.saturating_duration_since(Instant::now()),
            };
            if left.is_zero() {
                break;
            }
            state.sleeps = Some(wanted);
            state = self.wait(state, left);
            state.sleeps = None;
        }
        watch.waited(began.map_or(Duration::ZERO, |began| began.elapsed()));
        state.take(budget_bytes)
    }

    /// As [`Inbox::take`], for a shard that is run by a task: it lets others run meanwhile.
    pub(crate) async fn taken(
        &self,
        budget_bytes: usize,
        is_patient: bool,
        wake_at: Option<tokio::time::Instant>,
    ) -> Taken {
        let wanted = Wanted::of(budget_bytes, is_patient);
        loop {
            // One that was rung before is kept, so nothing is missed between looking and waiting.
            let heard = self.heard.notified();
            {
                let mut state = self.lock();
                if state.has(wanted) {
                    return state.take(budget_bytes);
                }
                state.sleeps = Some(wanted);
            }
            match wake_at {
                None => heard.await,
                Some(at) if tokio::time::timeout_at(at, heard).await.is_ok() => {}
                Some(_) => return self.lock().take(budget_bytes),
            }
        }
    }

    /// Looks, without sleeping, until there is something to take, for so long at most.
    fn look(&self, wanted: Wanted, wake_at: Option<Instant>, time: Duration) {
        let end = Instant::now() + time;
        let end = wake_at.map_or(end, |at| at.min(end));
        while Instant::now() < end {
            if self.stirred.swap(false, Ordering::Acquire) && self.lock().has(wanted) {
                return;
            }
            std::hint::spin_loop();
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        let waited = self.arrived.wait_timeout(state, time);
        waited.unwrap_or_else(std::sync::PoisonError::into_inner).0
    }
}

/// Whether the shard's thread looks for requests before it sleeps.
///
/// Falling asleep and being woken costs a message some 40 us at each end where processors sleep,
/// as long as half a sync: one sender that waits for each answer sends the next request some 150
/// us after it. So after a run of requests that came soon the thread looks a little longer than
/// that, and it stops as soon as one does not come.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Waits in a row that were short.
    short: u32,
}

/// A wait that looking covers.
const LOOK: Duration = Duration::from_micros(250);
/// So many short waits in a row make another one likely.
const SHORT_MIN: u32 = 16;

impl Watch {
    fn look(&self) -> Option<Duration> {
        (self.short >= SHORT_MIN).then_some(LOOK)
    }

    fn waited(&mut self, time: Duration) {
        self.short = if time <= LOOK { self.short.saturating_add(1) } else { 0 };
    }
}

impl Wanted {
    fn of(budget_bytes: usize, is_patient: bool) -> Self {
        match (budget_bytes, is_patient) {
            (0, _) => Self::Nothing,
            (_, true) => Self::Urgent,
            (_, false) => Self::Requests,
        }
    }
}

impl State {
    /// Takes out all of the first line, and requests of so many bytes.
    fn take(&mut self, budget_bytes: usize) -> Taken {
        self.sleeps = None;
        let first: Vec<Input> = self.first.drain(..).collect();
        let mut requests = Vec::new();
        self.take_requests(budget_bytes, &mut requests);
        self.urgent &= !self.turns.is_empty();
        Taken { first, requests, closing: self.is_over() }
    }

    /// Whether there is something to wake up for.
    fn has(&self, wanted: Wanted) -> bool {
        let has_requests = !self.turns.is_empty();
        let requests = match wanted {
            Wanted::Requests => has_requests,
            Wanted::Urgent => has_requests && (self.urgent || self.bytes >= PATIENT_BYTES),
            Wanted::Nothing => false,
        };
        requests || !self.first.is_empty() || self.is_over()
    }

    fn push(&mut self, tenant: TenantId, cost: usize, hurry: Hurry, input: Input) {
        self.urgent |= hurry == Hurry::Urgent;
        let queue = self.tenants.entry(tenant).or_default();
        if queue.items.is_empty() {
            self.turns.push_back(tenant);
        }
        queue.bytes += cost;
        self.bytes += cost;
        queue.items.push_back((cost, input));
    }

    /// Nothing will come any more but results of I/O.
    fn is_over(&self) -> bool {
        self.closing && self.turns.is_empty()
    }

    fn take_requests(&mut self, budget_bytes: usize, inputs: &mut Vec<Input>) {
        let mut left = budget_bytes;
        let mut took = false;
        while let Some(tenant) = self.turns.front().copied().filter(|_| left > 0) {
            let queue = self.tenants.get_mut(&tenant).expect("a tenant with a turn has a queue");
            queue.deficit += QUANTUM_BYTES;
            while let Some((cost, _)) = queue.items.front() {
                let cost = *cost;
                let fits = cost <= left || !took;
                if cost > queue.deficit || !fits {
                    break;
                }
                let (_, input) = queue.items.pop_front().expect("looked at just now");
                queue.deficit -= cost;
                queue.bytes -= cost;
                self.bytes -= cost;
                left = left.saturating_sub(cost);
                took = true;
                inputs.push(input);
            }
            // What the budget kept it from taking is not saved up for another time.
            queue.deficit = queue.deficit.min(queue.items.front().map_or(0, |(cost, _)| *cost));
            self.turns.pop_front();
            if queue.items.is_empty() {
                assert_eq!(queue.bytes, 0, "an empty queue holds no bytes");
                self.tenants.remove(&tenant);
            } else {
                self.turns.push_back(tenant);
                let (cost, _) = queue.items.front().expect("not empty");
                if took && *cost > left {
                    break;
                }
            }
        }
    }
}

/// How long a full queue takes to empty, roughly: at 100 MB/s, at least 5 ms.
fn busy_retry_ms(bytes: usize) -> u32 {
    let ms = bytes / 100_000;
    u32::try_from(ms).unwrap_or(u32::MAX).clamp(5, 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_broker::{Event, SessionId};

    fn input(session: u64) -> Input {
        Input::Event(Event::SessionClosed(SessionId(session)))
    }

    fn sessions(taken: Taken) -> Vec<u64> {
        let session = |input| match input {
            Input::Event(Event::SessionClosed(session)) => session.0,
            other => unreachable!("only these are offered: {other:?}"),
        };
        taken.first.into_iter().chain(taken.requests).map(session).collect()
    }

    const KIB: usize = 1 << 10;

    #[test]
    fn a_tenant_with_little_is_served_between_those_with_much() {
        let inbox = Inbox::new(64 << 20);
        for n in 0..100 {
            inbox.offer(TenantId(1), 60 * KIB, Hurry::Urgent, input(n)).unwrap();
        }
        inbox.offer(TenantId(2), KIB, Hurry::Urgent, input(1_000)).unwrap();
        let taken = sessions(inbox.take(1 << 20, false, None, &mut Watch::default()));
        let place = taken.iter().position(|s| *s == 1_000).expect("served in the first round");
        assert!(place <= 2, "it waited for {place} others");
    }

    #[test]
    fn the_thread_looks_for_requests_after_many_that_came_soon() {
        let mut watch = Watch::default();
        for _ in 0..SHORT_MIN {
            assert_eq!(watch.look(), None);
            watch.waited(LOOK / 2);
        }
        assert_eq!(watch.look(), Some(LOOK));
        watch.waited(2 * LOOK);
        assert_eq!(watch.look(), None, "one that does not come ends it");
    }

    #[test]
    fn what_comes_while_the_thread_looks_is_taken() {
        let inbox = Inbox::new(1 << 20);
        let mut watch = Watch { short: SHORT_MIN };
        std::thread::scope(|scope| {
            scope.spawn(|| inbox.put_first(input(7)));
            assert_eq!(sessions(inbox.take(1 << 20, false, None, &mut watch)), [7]);
        });
        inbox.close();
        assert!(inbox.take(1 << 20, false, None, &mut watch).closing);
    }

    #[test]
    fn a_full_queue_is_busy_for_its_tenant_only() {
        let inbox = Inbox::new(100 * KIB);
        let mut accepted = 0;
        let refusal = loop {
            match inbox.offer(TenantId(1), 10 * KIB, Hurry::Urgent, input(0)) {
                Ok(()) => accepted += 1,
                Err(refusal) => break refusal,
            }
        };
        assert_eq!((accepted, refusal.code), (9, Code::Busy));
        assert!(refusal.retry_after_ms > 0);
        inbox.offer(TenantId(2), 10 * KIB, Hurry::Urgent, input(7)).unwrap();
        assert_eq!(sessions(inbox.take(1 << 20, false, None, &mut Watch::default())).len(), 10);
        inbox.offer(TenantId(1), 10 * KIB, Hurry::Urgent, input(0)).unwrap();
    }

    #[test]
    fn a_request_larger_than_quantum_and_budget_is_served_alone() {
        let inbox = Inbox::new(8 << 20);
        inbox.offer(TenantId(1), 4 << 20, Hurry::Urgent, input(1)).unwrap();
        inbox.offer(TenantId(1), KIB, Hurry::Urgent, input(2)).unwrap();
        assert_eq!(sessions(inbox.take(1 << 20, false, None, &mut Watch::default())), [1]);
        assert_eq!(sessions(inbox.take(1 << 20, false, None, &mut Watch::default())), [2]);
    }

    #[test]
    fn the_first_line_needs_no_budget_and_keeps_its_order() {
        let inbox = Inbox::new(8 << 20);
        inbox.offer(TenantId(1), KIB, Hurry::Urgent, input(1)).unwrap();
        inbox.put_first(input(2));
        inbox.put_first(input(3));
        assert_eq!(sessions(inbox.take(0, false, None, &mut Watch::default())), [2, 3]);
        assert_eq!(sessions(inbox.take(1 << 20, false, None, &mut Watch::default())), [1]);
    }

    #[test]
    fn closing_refuses_and_wakes() {
        let inbox = Inbox::new(8 << 20);
        inbox.close();
        assert!(inbox.take(1 << 20, false, None, &mut Watch::default()).closing);
        assert_eq!(
            inbox.offer(TenantId(1), 1, Hurry::Urgent, input(1)).unwrap_err().code,
            Code::ShuttingDown
        );
    }

    #[test]
    fn a_patient_thread_takes_what_is_urgent_or_much_and_lets_the_rest_lie() {
        let soon = || Some(Instant::now() + Duration::from_millis(1));
        let inbox = Inbox::new(8 << 20);
        let offer = |bytes, hurry, n| inbox.offer(TenantId(1), bytes, hurry, input(n)).unwrap();
        let waits =
            |patient| !inbox.lock().has(if patient { Wanted::Urgent } else { Wanted::Requests });
        offer(KIB, Hurry::AfterSync, 1);
        assert!(waits(true) && !waits(false));
        // A result wakes it, and then everything comes along.
        inbox.put_first(input(2));
        assert_eq!(sessions(inbox.take(1 << 20, true, None, &mut Watch::default())), [2, 1]);
        let taken = sessions(inbox.take(1 << 20, true, soon(), &mut Watch::default()));
        assert_eq!(taken, [0u64; 0]);
        offer(KIB, Hurry::AfterSync, 3);
        offer(KIB, Hurry::Urgent, 4);
        assert_eq!(sessions(inbox.take(1 << 20, true, None, &mut Watch::default())), [3, 4]);
        offer(KIB, Hurry::AfterSync, 5);
        assert!(waits(true), "what was urgent has been taken");
        offer(PATIENT_BYTES, Hurry::AfterSync, 6);
        assert_eq!(sessions(inbox.take(1 << 20, true, None, &mut Watch::default())), [5, 6]);
        offer(KIB, Hurry::AfterSync, 7);
        inbox.close();
        assert_eq!(sessions(inbox.take(1 << 20, false, None, &mut Watch::default())), [7]);
    }

    #[test]
    fn a_sleeping_thread_is_woken_by_what_it_wants() {
        let inbox = Inbox::new(8 << 20);
        let asleep = |wanted| {
            while inbox.lock().sleeps != Some(wanted) {
                std::thread::yield_now();
            }
        };
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| {
                let patient = sessions(inbox.take(1 << 20, true, None, &mut Watch::default()));
                let full = sessions(inbox.take(0, false, None, &mut Watch::default()));
                (patient, full, sessions(inbox.take(1 << 20, false, None, &mut Watch::default())))
            });
            asleep(Wanted::Urgent);
            inbox.offer(TenantId(1), KIB, Hurry::AfterSync, input(1)).unwrap();
            assert!(inbox.lock().sleeps.is_some(), "it sleeps on");
            inbox.offer(TenantId(1), KIB, Hurry::Urgent, input(2)).unwrap();
            asleep(Wanted::Nothing);
            inbox.offer(TenantId(1), KIB, Hurry::Urgent, input(3)).unwrap();
            assert!(inbox.lock().sleeps.is_some(), "it sleeps on");
            inbox.put_first(input(4));
            let (patient, full, rest) = taker.join().unwrap();
            assert_eq!((patient, full, rest), (vec![1, 2], vec![4], vec![3]));
        });
    }
}
