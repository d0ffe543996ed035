//! A share of something: of messages that are traced.
use std::fmt;

use bytes::Bytes;

use crate::Refusal;
use crate::codec::{Malformed, Wire};
use crate::operation::{Arg, bad};
use crate::value::{ToValue, Value};

/// A share, in parts of a million: 0 to [`Share::WHOLE`]. Written as a number from 0 to 1 with at
/// most six digits behind the point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub u32);

/// Digits behind the point.
const DIGITS: usize = 6;

impl Share {
    /// All of it.
    pub const WHOLE: Self = Self(1_000_000);

    /// Whether it is nothing.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether it holds what has this hash. A larger share holds all that a smaller one does.
    #[must_use]
    pub fn holds(self, hash: u64) -> bool {
        hash % u64::from(Self::WHOLE.0) < u64::from(self.0)
    }

    fn read(text: &str) -> Option<Self> {
        let (whole, parts) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let is_well_formed = whole.len() == 1 && (1..=DIGITS).contains(&parts.len());
        if !is_well_formed || !is_number(whole) || !is_number(parts) {
            return None;
        }
        let parts: u32 = format!("{whole}{parts:0<DIGITS$}").parse().ok()?;
        (parts <= Self::WHOLE.0).then_some(Self(parts))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, parts) = (self.0 / Self::WHOLE.0, self.0 % Self::WHOLE.0);
        let text = format!("{whole}.{parts:0DIGITS$}");
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl Wire for Share {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        match u32::take(input)? {
            parts if parts <= Self::WHOLE.0 => Ok(Self(parts)),
            parts => Err(Malformed::Field { what: "share", value: parts.into() }),
        }
    }
}

impl ToValue for Share {
    fn to_value(&self) -> Value {
        Value::Text(self.to_string())
    }
}

impl Arg for Share {
    const KIND: &'static str = "SHARE";
    fn parse(name: &str, text: Option<&str>) -> Result<Self, Refusal> {
        let kind = "a SHARE from 0 to 1, like 0.01, of six decimals at most";
        text.and_then(Self::read).ok_or_else(|| bad(name, kind, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_shown_as_numbers_up_to_one() {
        let check = |text: &str, parts: u32, shown: &str| {
            let share = Share::parse("trace", Some(text)).unwrap();
            assert_eq!((share.0, share.to_string().as_str()), (parts, shown), "{text}");
        };
        check("0", 0, "0");
        check("1", 1_000_000, "1");
        check("1.000", 1_000_000, "1");
        check("0.01", 10_000, "0.01");
        check("0.000001", 1, "0.000001");
        check("0.25", 250_000, "0.25");
        for wrong in ["", "2", "1.000001", "1%", ".5", "0.", "0.0000001", "-0", "0,5", "1e0", "00"]
        {
            let refusal = Share::parse("trace", Some(wrong)).unwrap_err();
            assert!(refusal.detail.contains("trace takes a SHARE from 0 to 1"), "{refusal}");
        }
    }

    #[test]
    fn a_share_holds_as_many_hashes_as_it_says() {
        let held = |share: Share| (0..1_000_000).filter(|hash| share.holds(*hash)).count();
        assert_eq!((held(Share(0)), held(Share(250)), held(Share::WHOLE)), (0, 250, 1_000_000));
        assert!(Share::from_bytes(Share::WHOLE.to_bytes()).is_ok());
        assert!(Share::from_bytes(1_000_001u32.to_bytes()).is_err(), "more than all of it");
    }
}
