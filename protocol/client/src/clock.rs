//! How far the broker's clock is ahead of this machine's: what expires does so by the broker's.
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use yard_wire::Timestamp;

use crate::Surroundings;

/// The broker's clock, as it was told when the last connection began. Too late by the way of that
/// answer at most, so nothing expires before its time.
#[derive(Debug)]
pub(crate) struct BrokerClock {
    ahead_ms: AtomicI64,
    /// Whose wall it is, where that is not the machine's.
    surroundings: Option<Arc<dyn Surroundings>>,
}

impl BrokerClock {
    /// A clock that has heard nothing yet.
    pub(crate) fn new(surroundings: Option<Arc<dyn Surroundings>>) -> Self {
        Self { ahead_ms: AtomicI64::new(0), surroundings }
    }

    /// The clock on the wall here.
    pub(crate) fn wall(&self) -> Timestamp {
        if let Some(surroundings) = &self.surroundings {
            return surroundings.wall();
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(since.as_millis() as u64)
    }

    /// The broker said that it is `theirs` when it was `ours` here. A broker that has no clock
    /// says 0.
    pub(crate) fn heard(&self, theirs: Timestamp, ours: Timestamp) {
        let ahead = i128::from(theirs.0) - i128::from(ours.0);
        let known = i64::try_from(ahead).ok().filter(|_| theirs.0 > 0);
        self.ahead_ms.store(known.unwrap_or(0), Ordering::Relaxed);
    }

    /// What the broker's clock shows now, as far as it is known here.
    pub(crate) fn now(&self) -> Timestamp {
        self.at(self.wall())
    }

    /// What the broker's clock shows when that of this machine shows `ours`.
    pub(crate) fn at(&self, ours: Timestamp) -> Timestamp {
        Timestamp(ours.0.saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_clock_is_this_ones_moved() {
        let clock = BrokerClock::new(None);
        assert_eq!(clock.at(Timestamp(5_000)), Timestamp(5_000), "nothing was heard");
        clock.heard(Timestamp(1_000), Timestamp(4_000));
        assert_eq!(clock.at(Timestamp(5_000)), Timestamp(2_000));
        assert_eq!(clock.at(Timestamp(1_000)), Timestamp(0), "and never before all time");
        clock.heard(Timestamp(9_000), Timestamp(4_000));
        assert_eq!(clock.at(Timestamp(5_000)), Timestamp(10_000));
        clock.heard(Timestamp(0), Timestamp(4_000));
        assert_eq!(clock.at(Timestamp(5_000)), Timestamp(5_000), "it has none");
    }
}
