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
//! Source: Shreedhar and Varghese, "Efficient Fair Queueing using Deficit Round Robin" (1995).
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use yard_shard::Input;
use yard_wire::{Code, Refusal, TenantId};

/// Bytes that a tenant may take in one turn.
pub(crate) const QUANTUM_BYTES: usize = 64 << 10;
/// What a request costs beyond its bytes, so that many small ones are not free.
pub(crate) const REQUEST_COST_BYTES: usize = 256;

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
    closing: bool,
}

/// The queue before one shard.
pub(crate) struct Inbox {
    state: Mutex<State>,
    arrived: Condvar,
    tenant_bytes_max: usize,
}

/// What a shard's thread took out.
pub(crate) struct Taken {
    /// Inputs, in the order in which the shard takes them.
    pub inputs: Vec<Input>,
    /// The inbox was closed, and these were the last but for results of I/O.
    pub closing: bool,
}

impl Inbox {
    /// An inbox whose tenants may each queue `tenant_bytes_max` bytes.
    #[must_use]
    pub(crate) fn new(tenant_bytes_max: usize) -> Self {
        assert!(tenant_bytes_max > 0, "a tenant can queue something");
        Self { state: Mutex::default(), arrived: Condvar::new(), tenant_bytes_max }
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
        input: Input,
    ) -> Result<(), Refusal> {
        let cost = bytes + REQUEST_COST_BYTES;
        let mut state = self.lock();
        if state.closing {
            return Err(Code::ShuttingDown.into());
        }
        let queue = state.tenants.entry(tenant).or_default();
        if queue.bytes > 0 && queue.bytes + cost > self.tenant_bytes_max {
            let detail = format!("{} bytes of this tenant wait already", queue.bytes);
            return Err(Refusal::after(Code::Busy, busy_retry_ms(queue.bytes), detail));
        }
        let was_empty = queue.items.is_empty();
        queue.bytes += cost;
        queue.items.push_back((cost, input));
        if was_empty {
            state.turns.push_back(tenant);
        }
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Queues what must not wait: results of I/O and metadata. Bounded by what
    /// was let in before: every one of these answers or ends something.
    pub(crate) fn put_first(&self, input: Input) {
        self.lock().first.push_back(input);
        self.arrived.notify_one();
    }

    /// Queues what must come after everything that the tenant has queued, however much that is:
    /// the end of a connection.
    pub(crate) fn put_after(&self, tenant: TenantId, input: Input) {
        let mut state = self.lock();
        let queue = state.tenants.entry(tenant).or_default();
        let was_empty = queue.items.is_empty();
        queue.bytes += REQUEST_COST_BYTES;
        queue.items.push_back((REQUEST_COST_BYTES, input));
        if was_empty {
            state.turns.push_back(tenant);
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Refuses requests from now on and wakes the shard's thread.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.arrived.notify_one();
    }

    /// Whether requests are refused.
    pub(crate) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// Waits until there is something to take or until `wake_at`, and takes it: all of the first
    /// line, then requests of at most `budget_bytes`, or one where a single one is larger.
    pub(crate) fn take(&self, budget_bytes: usize, wake_at: Option<Instant>) -> Taken {
        let mut state = self.lock();
        loop {
            let has_requests = budget_bytes > 0 && !state.turns.is_empty();
            if !state.first.is_empty() || has_requests || state.is_over() {
                break;
            }
            let Some(at) = wake_at else {
                state = self.wait(state, Duration::from_secs(3_600));
                continue;
            };
            let Some(left) = at.checked_duration_since(Instant::now()).filter(|d| !d.is_zero())
            else {
                break;
            };
            state = self.wait(state, left);
        }
        let mut inputs: Vec<Input> = state.first.drain(..).collect();
        state.take_requests(budget_bytes, &mut inputs);
        Taken { inputs, closing: state.is_over() }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        let waited = self.arrived.wait_timeout(state, time);
        waited.unwrap_or_else(std::sync::PoisonError::into_inner).0
    }
}

impl State {
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
        taken.inputs.into_iter().map(session).collect()
    }

    const KIB: usize = 1 << 10;

    #[test]
    fn a_tenant_with_little_is_served_between_those_with_much() {
        let inbox = Inbox::new(64 << 20);
        for n in 0..100 {
            inbox.offer(TenantId(1), 60 * KIB, input(n)).unwrap();
        }
        inbox.offer(TenantId(2), KIB, input(1_000)).unwrap();
        let taken = sessions(inbox.take(1 << 20, None));
        let place = taken.iter().position(|s| *s == 1_000).expect("served in the first round");
        assert!(place <= 2, "it waited for {place} others");
    }

    #[test]
    fn a_full_queue_is_busy_for_its_tenant_only() {
        let inbox = Inbox::new(100 * KIB);
        let mut accepted = 0;
        let refusal = loop {
            match inbox.offer(TenantId(1), 10 * KIB, input(0)) {
                Ok(()) => accepted += 1,
                Err(refusal) => break refusal,
            }
        };
        assert_eq!((accepted, refusal.code), (9, Code::Busy));
        assert!(refusal.retry_after_ms > 0);
        inbox.offer(TenantId(2), 10 * KIB, input(7)).unwrap();
        assert_eq!(sessions(inbox.take(1 << 20, None)).len(), 10);
        inbox.offer(TenantId(1), 10 * KIB, input(0)).unwrap();
    }

    #[test]
    fn a_request_larger_than_quantum_and_budget_is_served_alone() {
        let inbox = Inbox::new(8 << 20);
        inbox.offer(TenantId(1), 4 << 20, input(1)).unwrap();
        inbox.offer(TenantId(1), KIB, input(2)).unwrap();
        assert_eq!(sessions(inbox.take(1 << 20, None)), [1]);
        assert_eq!(sessions(inbox.take(1 << 20, None)), [2]);
    }

    #[test]
    fn the_first_line_needs_no_budget_and_keeps_its_order() {
        let inbox = Inbox::new(8 << 20);
        inbox.offer(TenantId(1), KIB, input(1)).unwrap();
        inbox.put_first(input(2));
        inbox.put_first(input(3));
        assert_eq!(sessions(inbox.take(0, None)), [2, 3]);
        assert_eq!(sessions(inbox.take(1 << 20, None)), [1]);
    }

    #[test]
    fn closing_refuses_and_wakes() {
        let inbox = Inbox::new(8 << 20);
        inbox.close();
        assert!(inbox.take(1 << 20, None).closing);
        assert_eq!(inbox.offer(TenantId(1), 1, input(1)).unwrap_err().code, Code::ShuttingDown);
    }
}
