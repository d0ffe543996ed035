//! How a run is told to end: one flag that the engine looks at, one token that waits look at.
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Ends the run that is on; there is one at a time, and every clone is the same.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// What the engine reads at each operation.
    is_set: AtomicBool,
    token: Mutex<CancellationToken>,
}

impl Stop {
    /// A run begins: what was stopped before does not concern it.
    pub(crate) fn begin(&self) {
        let mut token = self.0.token.lock().unwrap_or_else(PoisonError::into_inner);
        *token = CancellationToken::new();
        self.0.is_set.store(false, Ordering::SeqCst);
    }

    /// Ends the run that is on; it says so within one operation, or one wait.
    pub fn stop(&self) {
        let token = self.0.token.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.is_set.store(true, Ordering::SeqCst);
        token.cancel();
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.is_set.load(Ordering::Relaxed)
    }

    pub(crate) fn token(&self) -> CancellationToken {
        self.0.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
