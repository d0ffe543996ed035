//! The threads on which plugins run: neither the writer's nor the network's.
//!
//! ```text
//!   lanes, requests ──► turns (a queue a tenant) ──► worker 0, 1 …   each with its own instances
//!                            ▲ jobs that go on ◄──────┘
//! ```
//!
//! A job runs one call at a time and then gives way, so a tenant holds up another for no longer
//! than one call may take. What waits is bounded by who asks: each waits for its answer.
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use yard_wire::TenantId;

use super::turns::Turns;
use crate::hub::lock;
use crate::os::{self, Priority};

/// Whether a job wants another turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It has answered.
    Done,
    /// It goes on when it is its tenant's turn.
    Again,
}

/// Something that a worker does, call by call.
pub(crate) trait Job<W>: Send {
    /// Makes one call at most.
    fn step(&mut self, worker: &mut W) -> Next;
}

/// What a worker does when nobody wants anything of it.
pub(crate) trait Idle {
    /// When there is something to do, if nobody comes before.
    fn rests_in(&self) -> Option<Duration>;

    /// Does it.
    fn rest(&mut self);
}

struct State<W> {
    turns: Turns<Box<dyn Job<W>>>,
    is_closing: bool,
}

/// The policy workers.
pub(crate) struct Pool<W> {
    state: Mutex<State<W>>,
    wake: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<W: Idle + 'static> Pool<W> {
    /// Starts as many threads as there are workers.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(
        workers: impl IntoIterator<Item = impl FnOnce() -> W + Send + 'static>,
    ) -> std::io::Result<Arc<Self>> {
        let state = State { turns: Turns::default(), is_closing: false };
        let (wake, threads) = (Condvar::new(), Mutex::default());
        let pool = Arc::new(Self { state: Mutex::new(state), wake, threads });
        for (number, make) in workers.into_iter().enumerate() {
            let of_thread = Arc::clone(&pool);
            let run = move || of_thread.run(make());
            let thread = os::spawn(format!("policy-{number}"), Priority::Policy, run)?;
            lock(&pool.threads).push(thread);
        }
        assert!(!lock(&pool.threads).is_empty(), "somebody works");
        Ok(pool)
    }

    /// Lets a job wait for its turn. One that is put after the end is dropped: who waits for its
    /// answer sees that.
    pub(crate) fn put(&self, tenant: TenantId, job: Box<dyn Job<W>>) {
        let mut state = lock(&self.state);
        if !state.is_closing {
            state.turns.put(tenant, job);
            drop(state);
            self.wake.notify_one();
        }
    }

    fn run(&self, mut worker: W) {
        let mut state = lock(&self.state);
        loop {
            if state.is_closing {
                return;
            }
            let Some((tenant, mut job)) = state.turns.take() else {
                state = match worker.rests_in() {
                    None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                    Some(Duration::ZERO) => {
                        drop(state);
                        worker.rest();
                        lock(&self.state)
                    }
                    Some(left) => {
                        let waited = self.wake.wait_timeout(state, left);
                        waited.unwrap_or_else(PoisonError::into_inner).0
                    }
                };
                continue;
            };
            drop(state);
            let began = Instant::now();
            let next = job.step(&mut worker);
            let ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
            state = lock(&self.state);
            state.turns.charge(tenant, ns);
            if next == Next::Again {
                state.turns.put_back(tenant, job);
            }
        }
    }

    /// Ends the threads after the calls that they make now. What waits is dropped.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closing = true;
        let left = std::mem::take(&mut state.turns);
        drop(state);
        drop(left);
        self.wake.notify_all();
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            if thread.join().is_err() {
                tracing::error!("a policy worker panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Count {
        left: u32,
        done: mpsc::Sender<(&'static str, u32)>,
        name: &'static str,
    }

    impl Idle for u32 {
        fn rests_in(&self) -> Option<Duration> {
            (*self > 0 && self.is_multiple_of(2)).then_some(Duration::ZERO)
        }

        fn rest(&mut self) {
            *self += 1;
        }
    }

    impl Job<u32> for Count {
        fn step(&mut self, worker: &mut u32) -> Next {
            *worker += 1;
            self.left -= 1;
            if self.left > 0 {
                return Next::Again;
            }
            self.done.send((self.name, *worker)).unwrap();
            Next::Done
        }
    }

    #[test]
    fn jobs_go_on_until_they_have_answered() {
        let pool = Pool::start([|| 0u32]).unwrap();
        let (to, from) = mpsc::channel();
        let job =
            |name, left, done: &mpsc::Sender<_>| Box::new(Count { left, done: done.clone(), name });
        pool.put(TenantId(1), job("long", 50, &to));
        pool.put(TenantId(2), job("short", 1, &to));
        let mut done: Vec<_> = (0..2).map(|_| from.recv().unwrap()).collect();
        done.sort_unstable();
        assert_eq!(done.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["long", "short"]);
        assert_eq!(done.iter().map(|(_, calls)| *calls).max(), Some(51), "one worker made all");
        pool.close();
        // Nobody answers any more, and nobody waits for it for ever.
        pool.put(TenantId(1), job("late", 1, &to));
        drop(to);
        assert!(from.recv().is_err());
    }
}
