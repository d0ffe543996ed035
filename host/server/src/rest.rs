//! What a busy time needed goes back to the system when the broker rests.
//!
//! Indexes of segments that were sealed, encoded states and the like are freed in small pieces and
//! large ones, and the allocator keeps them for the next time. While there is one that costs
//! nothing; a broker at rest would hold several times what its queues need.
use std::sync::Weak;
use std::time::Duration;

use tokio::time::Instant;

use crate::hub::Hub;
use crate::os;

/// How often somebody looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// With less processor time than this in between the broker rests: two hundredths.
const REST_US_MAX: u64 = LOOK_EVERY.as_micros() as u64 / 50;

/// What is known of how busy the broker is.
#[derive(Debug)]
struct Watch {
    /// Processor time up to the last look, in microseconds.
    spent_us: u64,
    was_busy: bool,
}

impl Watch {
    /// A start is a busy time: a log was read and indexes were made.
    fn begin(spent_us: u64) -> Self {
        Self { spent_us, was_busy: true }
    }

    /// Whether the broker rests now and was busy before.
    fn comes_to_rest(&mut self, spent_us: u64) -> bool {
        let is_busy = spent_us.saturating_sub(self.spent_us) > REST_US_MAX;
        let comes_to_rest = self.was_busy && !is_busy;
        *self = Self { spent_us, was_busy: is_busy };
        comes_to_rest
    }
}

/// Looks for as long as the broker runs.
pub(crate) async fn run(hub: Weak<Hub>) {
    let mut watch = Watch::begin(os::cpu_us());
    let mut turns = tokio::time::interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
    loop {
        turns.tick().await;
        let Some(hub) = hub.upgrade() else { return };
        if watch.comes_to_rest(os::cpu_us()) {
            // It takes milliseconds, in which a thread of the network should do something else.
            drop(hub.runtime.spawn_blocking(os::give_back_memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_after_each_busy_time() {
        let mut watch = Watch::begin(900_000);
        let mut spent = 900_000;
        let mut look = |us: u64| {
            spent += us;
            watch.comes_to_rest(spent)
        };
        let busy = REST_US_MAX + 1;
        let seen = [0, 9, REST_US_MAX, busy, 4_000_000, 0, 7, busy, 0].map(&mut look);
        assert_eq!(seen, [true, false, false, false, false, true, false, false, true]);
    }
}
