//! The clock of the epoch: one tick a millisecond while somebody calls plugins, none otherwise.
//!
//! ```text
//!   caller: calls + 1; idle? wake        thread: sleep 1 ms, tick, any calls? no: count
//!                                                quiet for long: idle := true, calls? no: park
//! ```
//!
//! Both sides write before they read what the other writes, in one order for all (`SeqCst`): so
//! either the caller sees `idle`, or the thread sees the call, and no call runs without ticks.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Milliseconds of a tick.
pub(crate) const TICK_MS: u64 = 1;
/// After so many ticks without a call the thread sleeps.
const QUIET_TICKS: u32 = 1_000;

#[derive(Debug, Default)]
struct Shared {
    /// Calls that have begun and not ended.
    calls: AtomicU32,
    /// Whether one began since the last tick.
    busy: AtomicBool,
    idle: AtomicBool,
    stop: AtomicBool,
}

/// The thread that ticks; it ends with this value.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts to tick; `begin` runs first, on the thread that will.
    pub(crate) fn start(
        begin: impl FnOnce() + Send + 'static,
        tick: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let builder = thread::Builder::new().name("plugin-ticker".to_owned());
        let thread = builder.spawn(move || {
            begin();
            run(&of_thread, &tick);
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A call begins: there are ticks until what is returned is dropped.
    pub(crate) fn begin_call(&self) -> Ticking<'_> {
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        if !self.shared.busy.load(Ordering::SeqCst) {
            self.shared.busy.store(true, Ordering::SeqCst);
        }
        if self.shared.idle.load(Ordering::SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Ticking(&self.shared)
    }
}

/// A call that lasts.
#[derive(Debug)]
pub(crate) struct Ticking<'a>(&'a Shared);

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        let calls = self.0.calls.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(calls > 0, "only a call that began ends");
    }
}

impl Shared {
    fn is_wanted(&self) -> bool {
        self.busy.load(Ordering::SeqCst) || self.calls.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // Whatever it died of was printed when it did.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, tick: &impl Fn()) {
    let mut quiet = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(TICK_MS));
        tick();
        let was_wanted = shared.is_wanted();
        shared.busy.store(false, Ordering::SeqCst);
        quiet = if was_wanted { 0 } else { quiet + 1 };
        if quiet < QUIET_TICKS {
            continue;
        }
        shared.idle.store(true, Ordering::SeqCst);
        while !shared.is_wanted() && !shared.stop.load(Ordering::SeqCst) {
            thread::park();
        }
        shared.idle.store(false, Ordering::SeqCst);
        quiet = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn it_rests_when_nobody_calls_and_ticks_again_for_a_call() {
        let (ticked, ticks) = mpsc::sync_channel(0);
        // Each tick is a meeting, so the test goes on tick by tick and no clock is asked.
        let tick = move || {
            // Nobody listens once the test has ended.
            let _ = ticked.send(());
        };
        let ticker = Ticker::start(|| {}, tick).unwrap();
        for _ in 0..QUIET_TICKS {
            ticks.recv().unwrap();
        }
        while !ticker.shared.idle.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        assert!(ticks.try_recv().is_err(), "it ticks while nobody calls");
        let call = ticker.begin_call();
        // A call that lasts is never without ticks.
        for _ in 0..2 * QUIET_TICKS {
            ticks.recv().unwrap();
        }
        drop(call);
        drop(ticks);
    }
}
