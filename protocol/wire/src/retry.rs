//! When a message that failed comes again, and how often: the settings of a group, as data. What
//! they come to is computed by the broker.
use std::fmt;

use bytes::Bytes;

use crate::codec::{Malformed, Wire};
use crate::limits::{ATTEMPTS_DEFAULT, RETRY_DELAY_MS_MAX, RETRY_DELAYS_MAX};
use crate::operation::Arg;
use crate::plugin_use::PluginUse;
use crate::units::{MILLISECONDS, in_unit, read_duration_ms};
use crate::value::{ToValue, Value};
use crate::{Code, Refusal};

/// The delays of [`RetryPolicy::Levels`], in milliseconds: together 4 h 45 m 40 s. Source:
/// RocketMQ, levels 3 to 18 of `messageDelayLevel`, which its retries go through.
pub const RETRY_LEVELS_MS: [u32; 16] = {
    const S: u32 = 1_000;
    const M: u32 = 60 * S;
    [
        10 * S,
        30 * S,
        M,
        2 * M,
        3 * M,
        4 * M,
        5 * M,
        6 * M,
        7 * M,
        8 * M,
        9 * M,
        10 * M,
        20 * M,
        30 * M,
        60 * M,
        120 * M,
    ]
};

/// The factor of [`Exponential`] is counted in this part of one.
pub const FACTOR_PARTS: u32 = 100;
/// The largest factor: 10.
const FACTOR_PARTS_MAX: u32 = 10 * FACTOR_PARTS;

/// How long a message that failed waits until it comes again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RetryPolicy {
    /// By [`RETRY_LEVELS_MS`], one delay after another; the last for all after them.
    #[default]
    Levels,
    /// Each delay a multiple of the one before.
    Exponential(Exponential),
    /// These delays in milliseconds, one after another; the last for all after them. 1 to
    /// [`RETRY_DELAYS_MAX`] of 1 to [`RETRY_DELAY_MS_MAX`].
    List(Vec<u32>),
    /// As a plugin says; by [`RETRY_LEVELS_MS`] where it does not.
    Plugin(PluginUse),
}

message! {
    /// Delays that grow by a factor. Its default is RocketMQ's (`ExponentialRetryPolicy`), with
    /// jitter.
    pub struct Exponential {
        /// The first delay in milliseconds: 1 to [`RETRY_DELAY_MS_MAX`].
        pub first_ms: u32,
        /// By what each delay is multiplied, in hundredths: 100 to 1,000.
        pub factor_parts: u32,
        /// The longest delay in milliseconds: at least the first, at most [`RETRY_DELAY_MS_MAX`].
        pub max_ms: u32,
        /// By how much of itself each delay may be shortened, in percent: 0 to 100. Messages that
        /// failed together then do not come again together.
        pub jitter_percent: u32,
    }
}

impl Default for Exponential {
    fn default() -> Self {
        let (first_ms, max_ms) = (5_000, 2 * 60 * 60 * 1_000);
        Self { first_ms, factor_parts: 2 * FACTOR_PARTS, max_ms, jitter_percent: 10 }
    }
}

/// How often a message is delivered at most, the first delivery included; 0: without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts(pub u32);

impl Default for Attempts {
    fn default() -> Self {
        Self(ATTEMPTS_DEFAULT)
    }
}

impl Attempts {
    /// Whether a message that was delivered so often is not delivered again.
    #[must_use]
    pub fn are_used_up(self, attempts: u32) -> bool {
        self.0 > 0 && attempts >= self.0
    }
}

fn bad(detail: String) -> Refusal {
    Refusal::new(Code::BadRetryPolicy, detail)
}

fn check_delay(delay_ms: u32) -> Result<(), Refusal> {
    if (1..=RETRY_DELAY_MS_MAX).contains(&delay_ms) {
        return Ok(());
    }
    let max = in_unit(RETRY_DELAY_MS_MAX.into(), MILLISECONDS);
    mark!(RetryDelay);
    Err(bad(format!("a delay of {delay_ms} ms: 1ms to {max}")))
}

impl RetryPolicy {
    /// Whether every part is within its bounds.
    ///
    /// # Errors
    /// [`Code::BadRetryPolicy`] for the first that is not.
    pub fn check(&self) -> Result<(), Refusal> {
        match self {
            Self::Levels | Self::Plugin(_) => Ok(()),
            Self::Exponential(exponential) => exponential.check(),
            Self::List(delays) => {
                if !(1..=RETRY_DELAYS_MAX).contains(&delays.len()) {
                    let count = delays.len();
                    mark!(RetryDelays);
                    return Err(bad(format!("{count} delays: 1 to {RETRY_DELAYS_MAX}")));
                }
                delays.iter().try_for_each(|delay_ms| check_delay(*delay_ms))
            }
        }
    }

    fn read(text: &str) -> Result<Self, Refusal> {
        let policy = match text.split_once(':') {
            None if text == "levels" => Self::Levels,
            None if text == "exponential" => Self::Exponential(Exponential::default()),
            Some(("exponential", parts)) => Self::Exponential(Exponential::read(parts)?),
            Some(("plugin", used)) => Self::Plugin(PluginUse::read(used)?),
            Some(_) => return Err(unknown(text)),
            None => {
                let delays = text.split(',').map(|delay| read_delay(delay).ok_or(()));
                Self::List(delays.collect::<Result<_, ()>>().map_err(|()| unknown(text))?)
            }
        };
        policy.check().map(|()| policy)
    }
}

fn unknown(text: &str) -> Refusal {
    let short: String = text.chars().take(80).collect();
    bad(format!(
        "{short:?} is none of levels, exponential:first=5s,factor=2,max=2h,jitter=10% (each part \
         may be left out), delays like 10s,1m,1h and plugin:NAME(SETTING=VALUE)"
    ))
}

fn read_delay(text: &str) -> Option<u32> {
    read_duration_ms(text).ok().and_then(|ms| u32::try_from(ms).ok())
}

impl Exponential {
    fn check(&self) -> Result<(), Refusal> {
        check_delay(self.first_ms)?;
        check_delay(self.max_ms)?;
        if self.max_ms < self.first_ms {
            mark!(RetryLongest);
            return Err(bad("the longest delay is shorter than the first".to_owned()));
        }
        if !(FACTOR_PARTS..=FACTOR_PARTS_MAX).contains(&self.factor_parts) {
            mark!(RetryFactor);
            return Err(bad(format!("a factor of {}: 1 to 10", self.factor())));
        }
        if self.jitter_percent > 100 {
            mark!(RetryJitter);
            return Err(bad(format!("a jitter of {}%: 0% to 100%", self.jitter_percent)));
        }
        Ok(())
    }

    fn read(parts: &str) -> Result<Self, Refusal> {
        let mut exponential = Self::default();
        for part in parts.split(',') {
            let read = match part.split_once('=') {
                Some(("first", text)) => read_delay(text).map(|ms| exponential.first_ms = ms),
                Some(("max", text)) => read_delay(text).map(|ms| exponential.max_ms = ms),
                Some(("factor", text)) => {
                    read_factor(text).map(|parts| exponential.factor_parts = parts)
                }
                Some(("jitter", text)) => {
                    let percent = text.strip_suffix('%').and_then(|text| text.parse().ok());
                    percent.map(|percent| exponential.jitter_percent = percent)
                }
                Some(_) | None => None,
            };
            read.ok_or_else(|| unknown(&format!("exponential:{parts}")))?;
        }
        Ok(exponential)
    }

    fn factor(&self) -> f64 {
        f64::from(self.factor_parts) / f64::from(FACTOR_PARTS)
    }
}

/// A decimal number with at most two places, in hundredths.
fn read_factor(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 2 {
        return None;
    }
    let part: u32 = format!("{part:0<2}").parse().ok()?;
    whole.parse::<u32>().ok()?.checked_mul(FACTOR_PARTS)?.checked_add(part)
}

impl fmt::Display for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let delay = |ms: u32| in_unit(ms.into(), MILLISECONDS);
        match self {
            Self::Levels => f.write_str("levels"),
            Self::Exponential(it) => {
                let (first, max) = (delay(it.first_ms), delay(it.max_ms));
                let (factor, jitter) = (it.factor(), it.jitter_percent);
                write!(f, "exponential:first={first},factor={factor},max={max},jitter={jitter}%")
            }
            Self::List(delays) => {
                let delays: Vec<String> = delays.iter().map(|ms| delay(*ms)).collect();
                f.write_str(&delays.join(","))
            }
            Self::Plugin(used) => write!(f, "plugin:{used}"),
        }
    }
}

impl Wire for RetryPolicy {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Levels => out.push(0),
            Self::Exponential(exponential) => {
                out.push(1);
                exponential.put(out);
            }
            Self::List(delays) => {
                out.push(2);
                delays.put(out);
            }
            Self::Plugin(used) => {
                out.push(3);
                used.put(out);
            }
        }
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        match u8::take(input)? {
            0 => Ok(Self::Levels),
            1 => Ok(Self::Exponential(Exponential::take(input)?)),
            2 => Ok(Self::List(Vec::take(input)?)),
            3 => Ok(Self::Plugin(PluginUse::take(input)?)),
            other => Err(Malformed::Field { what: "retry policy", value: other.into() }),
        }
    }
}

impl Arg for RetryPolicy {
    const KIND: &'static str = "levels|exponential|DELAYS|plugin:NAME";
    fn parse(_: &str, text: Option<&str>) -> Result<Self, Refusal> {
        Self::read(text.unwrap_or_default())
    }
}

impl ToValue for RetryPolicy {
    fn to_value(&self) -> Value {
        Value::Text(self.to_string())
    }
}

impl Wire for Attempts {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        u32::take(input).map(Self)
    }
}

/// What is written for deliveries without end.
const UNLIMITED: &str = "unlimited";

impl Arg for Attempts {
    const KIND: &'static str = "NUMBER|unlimited";
    fn parse(name: &str, text: Option<&str>) -> Result<Self, Refusal> {
        let attempts = match text {
            Some(UNLIMITED) => Some(0),
            Some(text) => text.parse().ok().filter(|attempts| *attempts > 0),
            None => None,
        };
        attempts.map(Self).ok_or_else(|| crate::operation::bad(name, Self::KIND, text))
    }
}

impl ToValue for Attempts {
    fn to_value(&self) -> Value {
        match self.0 {
            0 => Value::Text(UNLIMITED.to_owned()),
            attempts => Value::Number(attempts.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, shown: Result<&str, &str>) {
        let read = RetryPolicy::read(text);
        match (&read, shown) {
            (Ok(policy), Ok(shown)) => {
                assert_eq!(policy.to_string(), shown, "{text}");
                assert_eq!(RetryPolicy::read(shown).as_ref(), Ok(policy), "{text}");
                assert_eq!(RetryPolicy::from_bytes(policy.to_bytes()).as_ref(), Ok(policy));
            }
            (Err(refusal), Err(part)) => {
                assert_eq!(refusal.code, Code::BadRetryPolicy, "{text}");
                assert!(refusal.detail.contains(part), "{text}: {refusal}");
            }
            _ => panic!("{text}: {read:?}, expected {shown:?}"),
        }
    }

    #[test]
    fn policies_are_read_and_shown() {
        let all = "exponential:first=5s,factor=2,max=2h,jitter=10%";
        check("levels", Ok("levels"));
        check("exponential", Ok(all));
        check(all, Ok(all));
        let some = "exponential:first=100ms,factor=1.5,max=2h,jitter=0%";
        check("exponential:factor=1.50,first=100ms,jitter=0%", Ok(some));
        check("10s", Ok("10s"));
        check("1000ms,60s,1h,400h", Ok("1s,1m,1h,400h"));
        check("plugin: retry-ladder", Ok("plugin:retry-ladder"));
        check("plugin:l(steps=1s 5s&jitter=9)", Ok("plugin:l(steps=1s 5s & jitter=9)"));
        let nameless = RetryPolicy::read("plugin:").expect_err("no name");
        assert_eq!(nameless.code, Code::BadPluginUse);
        check("", Err("none of"));
        check("level", Err("none of"));
        check("10", Err("none of"));
        check("10s,,1m", Err("none of"));
        check("exponential:", Err("none of"));
        check("exponential:first", Err("none of"));
        check("exponential:second=1s", Err("none of"));
        check("exponential:factor=1.005", Err("none of"));
        check("exponential:factor=99999999999", Err("none of"));
        check("linear:first=1s", Err("none of"));
        check("0s", Err("a delay of 0 ms"));
        check("10s,31d", Err("1ms to 30d"));
        check("100d", Err("none of"));
        check(&["1s"; 65].join(","), Err("65 delays: 1 to 64"));
        check("exponential:first=1h,max=1m", Err("shorter than the first"));
        check("exponential:factor=0.9", Err("a factor of 0.9: 1 to 10"));
        check("exponential:factor=10.01", Err("a factor of 10.01"));
        check("exponential:jitter=101%", Err("a jitter of 101%"));
    }

    #[test]
    fn attempts_are_read_and_shown() {
        let read = |text: &str| Attempts::parse("attempts", Some(text)).ok();
        assert_eq!(
            read("unlimited").map(|it| it.to_value()),
            Some(Value::Text("unlimited".into()))
        );
        assert_eq!(read("1").map(|it| it.to_value()), Some(Value::Number(1)));
        assert_eq!([read("0"), read("-1"), read("none"), read("")], [None; 4]);
        assert!(Attempts(2).are_used_up(2) && !Attempts(2).are_used_up(1));
        assert!(!Attempts(0).are_used_up(u32::MAX));
    }
}
