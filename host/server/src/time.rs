//! The one place where the broker's process asks what time it is.
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use yard_wire::Timestamp;

/// Wall time now.
#[must_use]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The time of one shard: wall time when it was opened, and from there on the time that passes.
/// Nobody who sets the machine's clock makes leases or delays stand still, or end together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    began: Instant,
    began_at: Timestamp,
}

impl Clock {
    /// A clock that shows the wall's time, but `at_least` what the shard has seen.
    pub(crate) fn start(at_least: Timestamp) -> Self {
        Self { began: Instant::now(), began_at: now().max(at_least) }
    }

    /// Time now.
    pub(crate) fn now(&self) -> Timestamp {
        let passed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.began_at.plus_ms(passed)
    }

    /// When this clock will show `at`, or now where it has.
    pub(crate) fn instant(&self, at: Timestamp) -> Instant {
        let ms = at.0.saturating_sub(self.began_at.0);
        self.began + std::time::Duration::from_millis(ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_goes_on_from_what_was_seen_also_where_that_is_in_the_future() {
        let hour = 60 * 60 * 1_000;
        let seen = now().plus_ms(hour);
        let clock = Clock::start(seen);
        assert!(clock.now() >= seen);
        let soon = clock.now().plus_ms(50);
        let wait = clock.instant(soon).saturating_duration_since(Instant::now());
        assert!(wait.as_millis() <= 50, "{wait:?}");
    }
}
