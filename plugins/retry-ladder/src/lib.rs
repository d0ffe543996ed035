//! Retry by a ladder of delays: the n-th failure waits for the n-th step, then the message is dead.
//!
//! ```text
//! steps    10s 30s 1m 2m …        RocketMQ's 16 levels when nothing is set
//!          exponential 5s 2h 2    from 5 s, twice as long each time, at most 2 h, while allowed
//!          dead-letter            at once
//! errors   timeout: 1s 5s; invalid: dead-letter     a ladder for reasons that begin so
//! jitter   20                     up to so many percent more, so that not all come back at once
//! ```
#![deny(missing_docs)]

use switchyard_plugin::duration;
use switchyard_plugin::prelude::*;

manifest! {
    says: "Delays by a table, exponentially, or by the reason of the failure.",
    points: ["retry"],
    capabilities: ["log"],
    config: [
        { name: "steps", says: "delays, or exponential FIRST MOST FACTOR; RocketMQ 16 if not set" },
        { name: "errors", says: "REASON: STEPS; REASON: STEPS, for reasons that begin so" },
        { name: "jitter", kind: "integer", says: "percent that delays may be longer; 0 if unset" },
    ],
    tests: "tests/vectors.json",
}
retry!(type RetryLadder);

/// RocketMQ's delays between the deliveries of a message, which make 17 of them.
/// Source: levels 3 to 18 of its `messageDelayLevel`.
pub const ROCKETMQ_STEPS: &str = "10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h";
/// Steps of one ladder.
pub const STEPS_MAX: usize = 256;
/// Reasons with a ladder of their own.
pub const ERRORS_MAX: usize = 64;
/// Percent by which a delay may be longer.
pub const JITTER_MAX: u64 = 100;

/// The ladders of a group.
#[derive(Clone, Debug)]
pub struct RetryLadder {
    steps: Steps,
    errors: Vec<(String, Steps)>,
    jitter_percent: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Steps {
    Table(Vec<u64>),
    Exponential { first_ms: u64, most_ms: u64, factor: u64 },
}

impl Retry for RetryLadder {
    fn open(config: &Config) -> Result<Self, String> {
        let steps = steps(config.get("steps").unwrap_or(ROCKETMQ_STEPS))?;
        let errors = config.get("errors").unwrap_or_default().split(';').map(str::trim);
        let errors = errors.filter(|it| !it.is_empty()).map(|entry| {
            let (reason, ladder) = entry
                .split_once(':')
                .ok_or_else(|| format!("`{entry}`: expected REASON: STEPS"))?;
            Ok((reason.trim().to_owned(), self::steps(ladder)?))
        });
        let errors: Vec<_> = errors.collect::<Result<_, String>>()?;
        if errors.len() > ERRORS_MAX {
            return Err(format!("{} reasons, the limit is {ERRORS_MAX}", errors.len()));
        }
        let jitter_percent = config.parse("jitter")?.unwrap_or(0);
        if jitter_percent > JITTER_MAX {
            return Err(format!("a jitter of {jitter_percent} %, the limit is {JITTER_MAX}"));
        }
        Ok(Self { steps, errors, jitter_percent })
    }

    fn decide(&self, attempt: &Attempt) -> Next {
        let of_reason = self.errors.iter().find(|(reason, _)| attempt.reason.starts_with(reason));
        let steps = of_reason.map_or(&self.steps, |(_, steps)| steps);
        let failures = attempt.count.max(1);
        if attempt.max > 0 && failures >= attempt.max {
            return dead(attempt, failures);
        }
        let delay_ms = match steps {
            Steps::Table(delays) => match delays.get(failures as usize - 1) {
                Some(delay_ms) => *delay_ms,
                None => return dead(attempt, failures),
            },
            Steps::Exponential { first_ms, most_ms, factor } => {
                let grown = factor.saturating_pow(failures - 1).saturating_mul(*first_ms);
                grown.min(*most_ms)
            }
        };
        Next::DelayMs(delay_ms.saturating_add(self.jitter_ms(delay_ms, attempt)))
    }
}

impl RetryLadder {
    /// Drawn from the message itself, so that the same question has the same answer.
    fn jitter_ms(&self, delay_ms: u64, attempt: &Attempt) -> u64 {
        let most = delay_ms.saturating_mul(self.jitter_percent) / 100;
        let numbers = [attempt.age_ms, u64::from(attempt.count)].map(u64::to_le_bytes).concat();
        let texts = attempt.properties.iter().flat_map(|(name, value)| [name, value]);
        let texts = texts.flat_map(|text| text.as_bytes());
        // FNV-1a: short, and even enough to spread delays.
        let hash = numbers.iter().chain(texts).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        hash % (most + 1)
    }
}

fn dead(attempt: &Attempt, failures: u32) -> Next {
    let times = if failures == 1 { "time" } else { "times" };
    Next::DeadLetter(format!("delivered {failures} {times}, last failure: {}", attempt.reason))
}

fn steps(text: &str) -> Result<Steps, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        [] => Err("a ladder without steps: expected delays, or dead-letter".to_owned()),
        ["dead-letter"] => Ok(Steps::Table(Vec::new())),
        ["exponential", first, most, factor] => {
            let (first, most) = (duration::parse(first)?, duration::parse(most)?);
            let factor = factor.parse().ok().filter(|it| (1..=100).contains(it));
            let factor = factor.ok_or("expected a factor from 1 to 100")?;
            let (first_ms, most_ms) = (duration::millis(first), duration::millis(most));
            Ok(Steps::Exponential { first_ms, most_ms, factor })
        }
        ["exponential", ..] => Err("expected exponential FIRST MOST FACTOR".to_owned()),
        _ if words.len() > STEPS_MAX => {
            Err(format!("{} steps, the limit is {STEPS_MAX}", words.len()))
        }
        _ => {
            let delays = words.iter().map(|word| duration::parse(word).map(duration::millis));
            Ok(Steps::Table(delays.collect::<Result<_, _>>()?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(settings: &[(&str, &str)]) -> Result<RetryLadder, String> {
        RetryLadder::open(&settings.iter().copied().collect())
    }

    fn failed(count: u32, reason: &str) -> Attempt {
        Attempt { count, reason: reason.to_owned(), ..Attempt::default() }
    }

    #[test]
    fn rocketmqs_sixteen_levels_are_the_default() {
        let ladder = open(&[]).expect("nothing is needed");
        let delays = (1..=16).map(|count| match ladder.decide(&failed(count, "")) {
            Next::DelayMs(delay) => delay,
            other => panic!("{other:?} after {count}"),
        });
        let delays: Vec<u64> = delays.collect();
        assert_eq!((delays[0], delays[15]), (10_000, 7_200_000));
        // 4 h 45 min 40 s, as RocketMQ documents it.
        assert_eq!(delays.iter().sum::<u64>(), 17_140_000);
        assert!(matches!(ladder.decide(&failed(17, "x")), Next::DeadLetter(_)));
    }

    #[test]
    fn the_groups_own_limit_holds_before_the_ladder_ends() {
        let ladder = open(&[]).expect("nothing is needed");
        let last = Attempt { max: 3, ..failed(3, "x") };
        let reason = "delivered 3 times, last failure: x".to_owned();
        assert_eq!(ladder.decide(&last), Next::DeadLetter(reason));
        assert_eq!(ladder.decide(&Attempt { max: 3, ..failed(2, "") }), Next::DelayMs(30_000));
    }

    #[test]
    fn exponential_delays_grow_to_their_most() {
        let ladder = open(&[("steps", "exponential 5s 2h 2")]).expect("a ladder");
        for (count, delay) in [(1, 5_000), (2, 10_000), (11, 5_120_000), (12, 7_200_000)] {
            assert_eq!(ladder.decide(&failed(count, "")), Next::DelayMs(delay));
        }
        assert_eq!(ladder.decide(&failed(u32::MAX, "")), Next::DelayMs(7_200_000));
    }

    #[test]
    fn a_reason_has_its_own_ladder() {
        let errors = "timeout: 1s 5s; invalid: dead-letter;";
        let ladder = open(&[("steps", "1m"), ("errors", errors)]).expect("ladders");
        assert_eq!(ladder.decide(&failed(2, "timeout of shop")), Next::DelayMs(5_000));
        assert!(matches!(ladder.decide(&failed(1, "invalid")), Next::DeadLetter(_)));
        assert_eq!(ladder.decide(&failed(1, "else")), Next::DelayMs(60_000));
    }

    #[test]
    fn jitter_stays_within_its_percent_and_spreads() {
        let ladder = open(&[("steps", "10s"), ("jitter", "20")]).expect("a ladder");
        let mut seen = std::collections::BTreeSet::new();
        for age_ms in 0..1_000 {
            let attempt = Attempt { age_ms, ..failed(1, "") };
            assert_eq!(ladder.decide(&attempt), ladder.decide(&attempt));
            let Next::DelayMs(delay) = ladder.decide(&attempt) else { panic!("a delay") };
            assert!((10_000..=12_000).contains(&delay), "{delay}");
            seen.insert(delay / 200);
        }
        assert!(seen.len() >= 10, "delays are spread over their range: {seen:?}");
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        for (name, value, why) in [
            ("steps", "", "without steps"),
            ("steps", "10", "no duration"),
            ("steps", "exponential 5s", "FIRST MOST FACTOR"),
            ("steps", "exponential 5s 1h 0", "factor"),
            ("errors", "timeout", "expected REASON: STEPS"),
            ("jitter", "101", "the limit is 100"),
        ] {
            let error = open(&[(name, value)]).expect_err(why);
            assert!(error.contains(why), "`{error}` does not say `{why}`");
        }
    }
}
