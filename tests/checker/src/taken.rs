//! What bounds when a delivery was asked for. A consumer gives credit, and does not ask for
//! messages one by one.
use std::collections::BTreeMap;

use crate::event::Time;

/// When the messages of a subscription were taken, by shard.
#[derive(Debug)]
pub struct Taken {
    since: Time,
    times: BTreeMap<u16, Vec<Time>>,
}

impl Taken {
    /// Of a subscription that began then at the earliest.
    #[must_use]
    pub fn new(since: Time) -> Self {
        Self { since, times: BTreeMap::new() }
    }

    /// When the next delivery of a shard, which is taken now, can first have been asked for. So
    /// many messages came for nothing, by the credit that subscriptions begin with; beyond them
    /// each was paid for by one that was taken.
    ///
    /// # Panics
    /// When none came for nothing.
    pub fn asked(&mut self, shard: u16, free: u64, now: Time) -> Time {
        assert!(free > 0, "nothing comes before there is credit");
        let times = self.times.entry(shard).or_default();
        let paid = times.len().checked_sub(free as usize);
        let asked = paid.map_or(self.since, |at| times[at]);
        times.push(now);
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_free_was_paid_for_by_what_was_taken() {
        let mut taken = Taken::new(5);
        let asked: Vec<Time> = [10, 20, 30, 40].map(|now| taken.asked(0, 2, now)).to_vec();
        assert_eq!(asked, [5, 5, 10, 20]);
        assert_eq!(taken.asked(1, 2, 50), 5, "each shard has its own");
    }
}
