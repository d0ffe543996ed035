//! Which ways to send on are well, as a value: how quickly each has answered, and which are left
//! out for a while. Time is an argument, in milliseconds of any clock that does not run backwards.
//!
//! ```text
//!             slower than the others by a class ──┐
//!   well ──► failed ──► left out, twice as long each time in a row ──► one message tries it
//!    ▲                                                                   │ answered   │ failed
//!    └───────────────────────────────────────────────────────────────────┘            └─► left out
//! ```
//!
//! RocketMQ's fault strategy leaves a broker out by the latency of its last answer alone, for a
//! fixed time, and sends to it blindly afterwards. Here a way counts as slow only beside others
//! that are quicker, so that a slow disk everywhere leaves nothing out; failures in a row count
//! more than one; and after its time one message tries the way while the others wait for what
//! becomes of it. There is always a way: where none is well, it is the one that will be first.
use std::collections::BTreeMap;

use yard_wire::{Code, ShardId};

/// Latency from which on a way is left out, and for how long, in milliseconds: the classes of
/// RocketMQ's `latencyMax` and `notAvailableDuration` that leave anything out.
const CLASSES: [(u64, u64); 5] =
    [(550, 2_000), (1_800, 5_000), (3_000, 6_000), (5_000, 10_000), (15_000, 30_000)];
/// It is slow only if it takes so many times as long as the quickest other.
const SLOWER_TIMES: u64 = 4;
/// After the first failure a way is left out for this long, in milliseconds.
const FAILED_MS: u64 = 1_000;
/// And at most for this long.
const FAILED_MS_MAX: u64 = 30_000;
/// A message that tries a way has so long to tell, in milliseconds.
const TRY_MS: u64 = 3_000;
/// What an answer counts beside all before it: an eighth. Source: RFC 6298 for round trips.
const SMOOTHING: u64 = 8;
/// An estimate that is older than this, in milliseconds, is none.
const STALE_MS: u64 = 60_000;

/// What is known of one way.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    /// Smoothed, in milliseconds times [`SMOOTHING`], and when it was told last.
    latency: Option<(u64, u64)>,
    /// Failures since the last answer.
    failures: u32,
    /// Left out until then; 0: it is well.
    out_until_ms: u64,
    /// A message tries it, until then.
    tried_until_ms: u64,
}

impl Way {
    fn latency_ms(&self, now_ms: u64) -> Option<u64> {
        let (scaled, told_ms) = self.latency?;
        (now_ms.saturating_sub(told_ms) <= STALE_MS).then_some(scaled / SMOOTHING)
    }

    fn is_well(&self, now_ms: u64) -> bool {
        self.out_until_ms == 0 || now_ms >= self.out_until_ms && now_ms >= self.tried_until_ms
    }

    /// When it may be chosen again.
    fn well_at_ms(&self) -> u64 {
        self.out_until_ms.max(self.tried_until_ms)
    }
}

/// What is known of the ways to send on: a way is a shard, and so the node that leads it.
#[derive(Clone, Debug, Default)]
pub struct Health {
    ways: BTreeMap<ShardId, Way>,
}

impl Health {
    /// Nothing is known: every way is well.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A batch that was sent then was answered now, with this refusal if it was refused.
    pub fn heard(&mut self, way: ShardId, (sent_ms, now_ms): (u64, u64), why: Option<Code>) {
        match why {
            None => self.answered(way, now_ms.saturating_sub(sent_ms), now_ms),
            // These are about the message, its topic or its lane, not about the shard.
            Some(Code::OutOfSequence | Code::WrongShard | Code::BacklogFull | Code::DedupeFull) => {
            }
            Some(code) if code.is_retryable() => self.failed(way, now_ms),
            Some(_) => {}
        }
    }

    /// A way has answered after `took_ms`.
    pub fn answered(&mut self, way: ShardId, took_ms: u64, now_ms: u64) {
        let others = self.ways.iter().filter(|(other, it)| **other != way && it.is_well(now_ms));
        let quickest = others.filter_map(|(_, it)| it.latency_ms(now_ms)).min();
        let it = self.ways.entry(way).or_default();
        let scaled = match it.latency_ms(now_ms).and(it.latency) {
            Some((scaled, _)) => scaled - scaled / SMOOTHING + took_ms,
            None => took_ms.saturating_mul(SMOOTHING),
        };
        it.latency = Some((scaled, now_ms));
        (it.failures, it.out_until_ms, it.tried_until_ms) = (0, 0, 0);
        // One answer that took long is a hiccup, unless it says more than the estimate.
        let typical_ms = (scaled / SMOOTHING).min(took_ms);
        let class = CLASSES.iter().rev().find(|(from, _)| typical_ms >= *from);
        if let (Some((_, out_ms)), Some(quickest)) = (class, quickest)
            && typical_ms >= quickest.max(1).saturating_mul(SLOWER_TIMES)
        {
            it.out_until_ms = now_ms.saturating_add(*out_ms);
        }
    }

    /// A way has failed: no answer, no connection, or a refusal that is about the broker and not
    /// about the message.
    pub fn failed(&mut self, way: ShardId, now_ms: u64) {
        let it = self.ways.entry(way).or_default();
        // What was on its way when it was left out tells nothing new.
        if now_ms < it.out_until_ms {
            return;
        }
        let out_ms = (FAILED_MS << it.failures.min(10)).min(FAILED_MS_MAX);
        it.failures = it.failures.saturating_add(1);
        it.out_until_ms = now_ms.saturating_add(out_ms);
        it.tried_until_ms = 0;
    }

    /// Whether a way may be chosen.
    #[must_use]
    pub fn is_well(&self, way: ShardId, now_ms: u64) -> bool {
        self.ways.get(&way).is_none_or(|it| it.is_well(now_ms))
    }

    /// Chooses one of `ways`, by its place in the list: the first from `turn` on that is well;
    /// where none is, the one that will be first. A way that was left out is chosen once, and then
    /// not before that message was heard of, or 3 s have passed.
    ///
    /// # Panics
    /// When there are no ways.
    pub fn choose(&mut self, ways: &[ShardId], turn: u64, now_ms: u64) -> usize {
        assert!(!ways.is_empty(), "there is a way");
        let count = ways.len() as u64;
        let mut places = (0..count).map(|step| ((turn % count + step) % count) as usize);
        let well = places.find(|at| self.is_well(ways[*at], now_ms));
        let chosen = well.unwrap_or_else(|| {
            let well_at = |at: &usize| self.ways.get(&ways[*at]).map_or(0, Way::well_at_ms);
            (0..ways.len()).min_by_key(well_at).expect("there is a way")
        });
        if let Some(it) = self.ways.get_mut(&ways[chosen]).filter(|it| it.out_until_ms > 0) {
            it.tried_until_ms = now_ms.saturating_add(TRY_MS);
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BinaryHeap;

    /// What a simulated broker does with a message that comes at an instant.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Mood {
        Answers(u64),
        /// Fails after so many milliseconds.
        Fails(u64),
    }

    /// Brokers, each with its moods from given instants on.
    struct Brokers(Vec<Vec<(u64, Mood)>>);

    #[derive(Debug, Default)]
    struct Outcome {
        /// Messages that went to each broker, and those of them that failed.
        sent: Vec<u64>,
        failed: Vec<u64>,
        /// Messages that took longer than 100 ms or failed, by the second in which they were sent.
        bad_by_second: BTreeMap<u64, u64>,
    }

    impl Brokers {
        fn mood(&self, broker: usize, at_ms: u64) -> Mood {
            let moods = self.0[broker].iter();
            moods.rev().find(|(from, _)| *from <= at_ms).expect("a mood from the start").1
        }

        /// Sends a message each 5 ms for `seconds`, and hears of each when it is over.
        fn run(&self, seconds: u64, avoids: bool) -> Outcome {
            let ways: Vec<ShardId> = (0..self.0.len() as u16).map(ShardId).collect();
            let mut health = Health::new();
            let mut outcome = Outcome {
                sent: vec![0; ways.len()],
                failed: vec![0; ways.len()],
                ..Outcome::default()
            };
            // By when it is over, the earliest on top.
            let mut under_way = BinaryHeap::new();
            for turn in 0..seconds * 200 {
                let now = turn * 5;
                while let Some(std::cmp::Reverse((over, sent, at, is_good))) =
                    under_way.pop_if_over(now)
                {
                    if is_good {
                        health.answered(ways[at], over - sent, over);
                    } else {
                        health.failed(ways[at], over);
                    }
                }
                let at = match avoids {
                    true => health.choose(&ways, turn, now),
                    false => (turn % ways.len() as u64) as usize,
                };
                outcome.sent[at] += 1;
                let (took, is_good) = match self.mood(at, now) {
                    Mood::Answers(ms) => (ms, true),
                    Mood::Fails(ms) => (ms, false),
                };
                outcome.failed[at] += u64::from(!is_good);
                if !is_good || took > 100 {
                    *outcome.bad_by_second.entry(now / 1_000).or_default() += 1;
                }
                under_way.push(std::cmp::Reverse((now + took, now, at, is_good)));
            }
            outcome
        }
    }

    trait PopIfOver<T> {
        fn pop_if_over(&mut self, now: u64) -> Option<T>;
    }

    type Event = std::cmp::Reverse<(u64, u64, usize, bool)>;

    impl PopIfOver<Event> for BinaryHeap<Event> {
        fn pop_if_over(&mut self, now: u64) -> Option<Event> {
            let is_over = self.peek().is_some_and(|event| event.0.0 <= now);
            if is_over { self.pop() } else { None }
        }
    }

    const GOOD: Mood = Mood::Answers(4);

    #[test]
    fn while_all_are_well_each_has_its_turn() {
        let brokers = Brokers(vec![vec![(0, GOOD)]; 4]);
        let outcome = brokers.run(10, true);
        assert_eq!(outcome.sent, [500; 4]);
    }

    #[test]
    fn a_broker_that_fails_is_tried_seldom_and_used_again_when_it_is_back() {
        let down = vec![(0, GOOD), (10_000, Mood::Fails(50)), (70_000, GOOD)];
        let brokers = Brokers(vec![vec![(0, GOOD)], down, vec![(0, GOOD)]]);
        let (avoids, blind) = (brokers.run(140, true), brokers.run(140, false));
        assert!(blind.failed[1] >= 3_900, "{blind:?}");
        // What was on its way when it broke, then 1, 2, 4 … 30 s later one each.
        assert!(avoids.failed[1] <= 12, "{avoids:?}");
        let last = avoids.bad_by_second.keys().max().copied();
        assert!(last.is_some_and(|second| second < 71), "{avoids:?}");
        // Back within its longest pause, so it has most of its third of the last 40 s.
        assert!(avoids.sent[1] >= 600 + 39 * 66, "{avoids:?}");
    }

    #[test]
    fn a_broker_that_is_slow_beside_others_is_left_out() {
        let slow = vec![(0, GOOD), (5_000, Mood::Answers(2_000)), (45_000, GOOD)];
        let brokers = Brokers(vec![vec![(0, GOOD)], slow]);
        let (avoids, blind) = (brokers.run(80, true), brokers.run(80, false));
        let bad = |outcome: &Outcome| outcome.bad_by_second.values().sum::<u64>();
        assert!(bad(&blind) >= 3_900, "{blind:?}");
        // Two seconds of messages are on their way before the first answer tells.
        assert!(bad(&avoids) <= bad(&blind) / 8, "{avoids:?}");
        assert!(avoids.sent[1] >= 500 + 25 * 100, "and it is back: {avoids:?}");
    }

    #[test]
    fn where_all_are_slow_or_fail_nobody_is_left_out_for_good() {
        let slow = Brokers(vec![vec![(0, Mood::Answers(2_000))]; 3]);
        let outcome = slow.run(60, true);
        assert!(outcome.sent.iter().all(|sent| *sent >= 3_900), "{outcome:?}");
        let down = Brokers(vec![vec![(0, Mood::Fails(10)), (30_000, GOOD)]; 3]);
        let outcome = down.run(70, true);
        assert_eq!(outcome.sent.iter().sum::<u64>(), 14_000, "there is always a way");
        let last = outcome.bad_by_second.keys().max().copied();
        assert!(last.is_some_and(|second| second <= 30), "{outcome:?}");
        assert!(outcome.sent.iter().all(|sent| *sent >= 1_500), "all are back: {outcome:?}");
    }

    #[test]
    fn a_hiccup_is_forgiven_and_one_message_tries_a_way() {
        let (a, b) = (ShardId(0), ShardId(1));
        let mut health = Health::new();
        for at in 0..20 {
            health.answered(a, 4, at);
            health.answered(b, 4, at);
        }
        health.answered(b, 2_000, 20);
        assert!(health.is_well(b, 21), "the estimate says otherwise");
        health.failed(b, 30);
        assert!(!health.is_well(b, 1_029) && health.is_well(b, 1_030));
        assert_eq!(health.choose(&[a, b], 1, 1_029), 0);
        assert_eq!(health.choose(&[a, b], 1, 1_030), 1, "one tries it");
        assert_eq!(health.choose(&[a, b], 1, 1_031), 0, "others wait");
        health.failed(b, 1_040);
        assert!(!health.is_well(b, 3_039) && health.is_well(b, 3_040), "twice as long");
        assert_eq!(health.choose(&[a, b], 1, 3_040), 1);
        health.answered(b, 4, 3_050);
        assert_eq!(health.choose(&[a, b], 1, 3_051), 1, "it is well");
    }
}
