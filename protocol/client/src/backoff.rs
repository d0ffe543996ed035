//! How long to wait before the next attempt: exponential, with jitter, as a value.
use std::time::Duration;

/// First wait, in milliseconds.
pub(crate) const WAIT_MS_MIN: u64 = 50;
/// Longest wait, in milliseconds.
pub(crate) const WAIT_MS_MAX: u64 = 2_000;

/// Doubles from [`WAIT_MS_MIN`] to [`WAIT_MS_MAX`]; each wait is drawn from its upper half, so
/// that clients that lost the same broker do not come back in step.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    step: u32,
    state: u64,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self { step: 0, state: seed | 1 }
    }

    /// The next wait, in milliseconds.
    pub(crate) fn next_ms(&mut self) -> u64 {
        let full = (WAIT_MS_MIN << self.step.min(10)).min(WAIT_MS_MAX);
        self.step = self.step.saturating_add(1);
        // Marsaglia's xorshift64: jitter needs no better source.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let wait = full / 2 + self.state % (full / 2 + 1);
        assert!(wait <= WAIT_MS_MAX, "a wait is bounded");
        wait
    }

    pub(crate) fn next(&mut self) -> Duration {
        Duration::from_millis(self.next_ms())
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        self.step = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_within_bounds() {
        for seed in 0..100 {
            let mut backoff = Backoff::new(seed);
            let waits: Vec<u64> = (0..40).map(|_| backoff.next_ms()).collect();
            assert!((25..=50).contains(&waits[0]), "seed {seed}: {waits:?}");
            assert!(waits[10..].iter().all(|w| (1_000..=2_000).contains(w)), "{waits:?}");
            backoff.reset();
            assert!(backoff.next_ms() <= WAIT_MS_MIN);
        }
    }
}
