//! One clock and one history for all parts of a run.
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use yard_checker::{Event, History, Time};

/// Refusals that are kept; one is enough to look into.
const REFUSALS_MAX: usize = 20;

#[derive(Debug, Default)]
struct State {
    history: History,
    resent: u64,
    refusals: Vec<String>,
}

/// Writes down what happens.
#[derive(Debug)]
pub(super) struct Recorder {
    started: Instant,
    state: Mutex<State>,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), state: Mutex::default() }
    }

    /// Microseconds since the run began.
    pub(super) fn now(&self) -> Time {
        self.started.elapsed().as_micros() as Time
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics half-way through a change of the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, event: Event) {
        self.lock().history.push(event);
    }

    pub(super) fn note_resent(&self) {
        self.lock().resent += 1;
    }

    pub(super) fn note_refusal(&self, refusal: String) {
        let mut state = self.lock();
        if state.refusals.len() < REFUSALS_MAX {
            state.refusals.push(refusal);
        }
    }

    pub(super) fn sends(&self) -> usize {
        self.lock().history.sends.len()
    }

    pub(super) fn polls(&self) -> usize {
        self.lock().history.polls.len()
    }

    pub(super) fn take(&self) -> (History, u64, Vec<String>) {
        let state = std::mem::take(&mut *self.lock());
        (state.history, state.resent, state.refusals)
    }
}
