//! How far away a broker is, and so how many batches that are not full may be on their way.
//!
//! A batch costs sender and broker tens of microseconds whatever is in it: packets, wake-ups, a
//! place in a group. To a broker whose answers take a fraction of a millisecond, a sender with a
//! message every few microseconds would send eight batches of a handful each, and both ends would
//! be busy with little else. Two are enough to have one on its way while the other is being
//! synced; what comes meanwhile is the next one. To a broker that is far away, waiting for an
//! answer would add a round trip, and there batches are few.

/// A broker that answers within so many milliseconds is near.
const NEAR_MS: u64 = 2;
/// Batches that are not full, on their way to a broker that is near.
const NEAR_BATCHES: usize = 2;
/// What was seen is forgotten after one to two times so many milliseconds.
const SPAN_MS: u64 = 1_000;

/// The quickest answers seen lately. Time comes as an argument, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Distance {
    /// The quickest of the span that goes on, and of the one before it.
    quickest_ms: [Option<u64>; 2],
    span_since_ms: u64,
}

impl Distance {
    /// Notes how long a batch took.
    pub(super) fn answered(&mut self, since_ms: u64, now_ms: u64) {
        let took_ms = now_ms.saturating_sub(since_ms);
        let [current, last] = self.quickest_ms;
        if now_ms.saturating_sub(self.span_since_ms) >= SPAN_MS {
            self.quickest_ms = [Some(took_ms), current];
            self.span_since_ms = now_ms;
        } else {
            self.quickest_ms = [Some(current.map_or(took_ms, |ms| ms.min(took_ms))), last];
        }
    }

    /// Batches that are not full and may be on their way, those that are full included.
    pub(super) fn small_batches_max(&self) -> usize {
        let quickest = self.quickest_ms.iter().flatten().min();
        if quickest.is_some_and(|ms| *ms <= NEAR_MS) { NEAR_BATCHES } else { usize::MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_as_long_as_an_answer_was_quick_lately() {
        let mut distance = Distance::default();
        assert_eq!(distance.small_batches_max(), usize::MAX, "nothing is known yet");
        distance.answered(5_000, 5_050);
        assert_eq!(distance.small_batches_max(), usize::MAX);
        distance.answered(5_060, 5_062);
        assert_eq!(distance.small_batches_max(), NEAR_BATCHES);
        distance.answered(5_062, 5_200);
        assert_eq!(distance.small_batches_max(), NEAR_BATCHES, "one slow answer is no distance");
        distance.answered(6_100, 6_150);
        assert_eq!(distance.small_batches_max(), NEAR_BATCHES, "the span before still counts");
        distance.answered(7_200, 7_250);
        assert_eq!(distance.small_batches_max(), usize::MAX, "and then no more");
    }
}
