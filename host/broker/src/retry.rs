//! What becomes of a message whose delivery failed: pure, by the settings of its group.
//!
//! ```text
//!   delivery 1 ── nack, end of lease ──► delay 1 ──► delivery 2 ── … ──► the last delivery
//!                                                                             │ failed
//!   a consumer's own delay goes before the policy's; attempts count all the same   ▼
//!   the end of a subscription gives back at once and is never the last            dead
//! ```
//!
//! Every delivery counts as an attempt, also one that the end of a subscription cut short, so that
//! a number is never given twice. Only what failed uses the attempts up: consumers that come and
//! go make no dead letters of messages that they never looked at.
use yard_wire::order::{AfterLast, TopicType};
use yard_wire::retry::{Exponential, FACTOR_PARTS, RETRY_LEVELS_MS, RetryPolicy};
use yard_wire::{QueueIndex, QueueOffset, Timestamp};

use crate::meta::{GroupSettings, TopicOrder};

/// What comes of a failed delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is delivered again, not before this instant.
    At(Timestamp),
    /// It was the last.
    Dead,
    /// It was the last, and its order group stops.
    Stop,
}

/// Which message it is about: jitter differs from one to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    pub(crate) queue: QueueIndex,
    pub(crate) offset: QueueOffset,
    /// 1 for the first delivery.
    pub(crate) attempt: u32,
}

/// The rules of one group at one instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    pub(crate) settings: &'a GroupSettings,
    /// What the topic promises about order.
    pub(crate) order: TopicOrder,
    pub(crate) now: Timestamp,
    /// Randomness of the process: what is due is recorded, so it need not be drawn twice.
    pub(crate) seed: u64,
}

impl Rules<'_> {
    /// What comes of a failed delivery; `asked_ms` is the delay that the consumer wants.
    pub(crate) fn after(&self, failed: Failed, asked_ms: Option<u32>) -> Next {
        assert!(failed.attempt >= 1, "what failed was delivered");
        if self.settings.attempts.are_used_up(failed.attempt) {
            return self.after_last();
        }
        let delay_ms = match asked_ms {
            Some(asked_ms) => asked_ms,
            None if self.order.r#type == TopicType::Ordered => self.order.retry.0,
            None => delay_ms(&self.settings.retry, failed.attempt, self.mixed(failed)),
        };
        // 0 would say that the lease was taken away already.
        Next::At(self.now.plus_ms(delay_ms.into()).max(Timestamp(1)))
    }

    /// What comes of a message that is not delivered again.
    pub(crate) fn after_last(&self) -> Next {
        let TopicOrder { r#type, after_last, .. } = self.order;
        let stops = r#type == TopicType::Ordered && after_last == AfterLast::Stop;
        if stops { Next::Stop } else { Next::Dead }
    }

    /// Whether messages that failed at the same attempt come again at different instants.
    pub(crate) fn spreads(&self) -> bool {
        matches!(&self.settings.retry, RetryPolicy::Exponential(it) if it.jitter_percent > 0)
    }

    /// Whether a plugin is asked about what comes again. In an ordered topic the topic says.
    pub(crate) fn asks(&self) -> bool {
        let is_free = self.order.r#type == TopicType::Normal;
        is_free && matches!(self.settings.retry, RetryPolicy::Plugin(_))
    }

    fn mixed(&self, failed: Failed) -> u64 {
        let Failed { queue, offset, attempt } = failed;
        mix(self.seed ^ mix(offset.0 ^ (u64::from(queue.0) << 48)) ^ u64::from(attempt))
    }
}

/// Spreads a number over all 64 bits. Source: the finalizer of splitmix64.
pub(crate) fn mix(word: u64) -> u64 {
    let mut mixed = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The delay after the `attempt`-th delivery; `random` decides about jitter.
fn delay_ms(policy: &RetryPolicy, attempt: u32, random: u64) -> u32 {
    match policy {
        // Until the plugin has said otherwise, and where it does not.
        RetryPolicy::Levels | RetryPolicy::Plugin(_) => nth(&RETRY_LEVELS_MS, attempt),
        RetryPolicy::List(delays) => nth(delays, attempt),
        RetryPolicy::Exponential(exponential) => growing_ms(exponential, attempt, random),
    }
}

/// The delay of an attempt in a list, the last for all after it.
fn nth(delays: &[u32], attempt: u32) -> u32 {
    assert!(!delays.is_empty(), "a list of delays was checked");
    delays[(attempt as usize - 1).min(delays.len() - 1)]
}

fn growing_ms(exponential: &Exponential, attempt: u32, random: u64) -> u32 {
    let Exponential { first_ms, factor_parts, max_ms, jitter_percent } = *exponential;
    let (mut delay, max) = (u64::from(first_ms), u64::from(max_ms));
    for _ in 1..attempt {
        let next = (delay * u64::from(factor_parts) / u64::from(FACTOR_PARTS)).min(max);
        // Where it no longer grows, it never will.
        if next == delay {
            break;
        }
        delay = next;
    }
    let span = delay * u64::from(jitter_percent) / 100;
    let delay = delay - random % (span + 1);
    assert!(delay <= max, "jitter only shortens");
    u32::try_from(delay).expect("the longest delay has 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_wire::TenantId;
    use yard_wire::retry::Attempts;

    fn settings(retry: RetryPolicy, attempts: u32) -> GroupSettings {
        let attempts = Attempts(attempts);
        GroupSettings { retry, attempts, ..GroupSettings::default_for(TenantId(0), "g") }
    }

    fn rules(settings: &GroupSettings, now: u64, seed: u64) -> Rules<'_> {
        Rules { settings, order: TopicOrder::default(), now: Timestamp(now), seed }
    }

    fn failed(offset: u64, attempt: u32) -> Failed {
        Failed { queue: QueueIndex(3), offset: QueueOffset(offset), attempt }
    }

    /// Delays in milliseconds of deliveries that fail one after another, until the last.
    fn delays(retry: RetryPolicy, attempts: u32, count: u32) -> Vec<u64> {
        let settings = settings(retry, attempts);
        let rules = rules(&settings, 1_000, 9);
        let next = |attempt| match rules.after(failed(7, attempt), None) {
            Next::At(due) => Some(due.0 - 1_000),
            Next::Dead | Next::Stop => None,
        };
        (1..=count).map_while(next).collect()
    }

    #[test]
    fn the_sixteen_retries_take_four_hours_forty_five_minutes_and_forty_seconds() {
        let seconds: Vec<u64> =
            delays(RetryPolicy::Levels, 17, 100).into_iter().map(|ms| ms / 1_000).collect();
        let minutes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 60, 120].map(|m| m * 60);
        assert_eq!(seconds[..2], [10, 30]);
        assert_eq!(seconds[2..], minutes);
        assert_eq!(seconds.iter().sum::<u64>(), 4 * 3_600 + 45 * 60 + 40);
        assert_eq!(GroupSettings::default_for(TenantId(0), "g").attempts, Attempts(17));
    }

    #[test]
    fn the_last_delay_serves_all_after_it() {
        assert_eq!(delays(RetryPolicy::List(vec![5, 9]), 0, 4), [5, 9, 9, 9]);
        assert_eq!(delays(RetryPolicy::Levels, 0, 20)[15..], [7_200_000; 5]);
        assert_eq!(delays(RetryPolicy::List(vec![5]), 1, 4), [0; 0]);
    }

    #[test]
    fn growing_delays_stay_within_their_bounds() {
        let plain = Exponential { jitter_percent: 0, ..Exponential::default() };
        let grown = delays(RetryPolicy::Exponential(plain.clone()), 0, 14);
        assert_eq!(grown[..4], [5_000, 10_000, 20_000, 40_000]);
        assert_eq!(grown[11..], [7_200_000; 3]);
        let slow = Exponential { factor_parts: 150, first_ms: 1, ..plain.clone() };
        assert_eq!(delays(RetryPolicy::Exponential(slow), 0, 3), [1, 1, 1]);
        let same = Exponential { factor_parts: 100, ..plain.clone() };
        let last = delay_ms(&RetryPolicy::Exponential(same), u32::MAX, 0);
        assert_eq!(last, 5_000);
        let jitter = RetryPolicy::Exponential(Exponential { jitter_percent: 40, ..plain });
        let drawn: Vec<u32> = (0..500).map(|at| delay_ms(&jitter, 2, mix(at))).collect();
        assert!(drawn.iter().all(|ms| (6_000..=10_000).contains(ms)), "{drawn:?}");
        let (least, most) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
        assert!(*least < 6_200 && *most > 9_800, "{least}..{most}");
    }

    #[test]
    fn jitter_is_drawn_from_the_seed_and_differs_from_message_to_message() {
        let settings = settings(RetryPolicy::Exponential(Exponential::default()), 0);
        let draw = |seed, offset| rules(&settings, 0, seed).after(failed(offset, 1), None);
        assert_eq!(draw(1, 5), draw(1, 5));
        let offsets: std::collections::BTreeSet<String> =
            (0..50).map(|offset| format!("{:?}", draw(1, offset))).collect();
        assert!(offsets.len() > 30, "{offsets:?}");
        assert!((0..50).any(|offset| draw(1, offset) != draw(2, offset)));
    }

    #[test]
    fn a_consumers_own_delay_goes_first_and_attempts_count_all_the_same() {
        let settings = settings(RetryPolicy::Levels, 3);
        let rules = rules(&settings, 100, 1);
        assert_eq!(rules.after(failed(1, 1), Some(7)), Next::At(Timestamp(107)));
        assert_eq!(rules.after(failed(1, 2), Some(0)), Next::At(Timestamp(100)));
        assert_eq!(rules.after(failed(1, 3), Some(7)), Next::Dead);
    }
}
