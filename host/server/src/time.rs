//! The one place where the broker's process asks what time it is.
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use yard_wire::Timestamp;

use crate::runner::Runner;
use crate::within::Surroundings;

/// Wall time now.
#[must_use]
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Whose clock on the wall the process goes by.
#[derive(Clone)]
pub(crate) enum Wall {
    /// The machine's.
    Machine,
    /// That of a world from outside.
    Within(Arc<dyn Surroundings>),
}

impl Wall {
    /// Who does the work of a broker that goes by it.
    pub(crate) fn runner(&self) -> Runner {
        match self {
            Self::Machine => Runner::Threads,
            Self::Within(_) => Runner::Tasks,
        }
    }

    /// Wall time now.
    pub(crate) fn now(&self) -> Timestamp {
        match self {
            Self::Machine => now(),
            Self::Within(surroundings) => surroundings.wall(),
        }
    }
}

/// The time of one shard: wall time when it was opened, and from there on the time that passes.
/// Nobody who sets the machine's clock makes leases or delays stand still, or end together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    began: Instant,
    began_at: Timestamp,
}

impl Clock {
    /// A clock that shows the time of a wall, but `at_least` what the shard has seen.
    pub(crate) fn start(wall: Timestamp, at_least: Timestamp) -> Self {
        Self { began: Instant::now(), began_at: wall.max(at_least) }
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
        let clock = Clock::start(now(), seen);
        assert!(clock.now() >= seen);
        let soon = clock.now().plus_ms(50);
        let wait = clock.instant(soon).saturating_duration_since(Instant::now());
        assert!(wait.as_millis() <= 50, "{wait:?}");
    }
}
