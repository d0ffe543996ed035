//! Sizes, spans of time and counts as people write them, and limits made of them.
use bytes::Bytes;

use crate::Refusal;
use crate::codec::{Malformed, Wire};
use crate::operation::{Arg, bad};
use crate::value::{ToValue, Value};

/// What is written where there is no limit.
const NONE: &str = "none";
const BYTES: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("kB", 1_000),
    ("B", 1),
    ("", 1),
];
/// Those that sizes are shown in.
const WHOLE_BYTES: &[(&str, u64)] =
    &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
pub(crate) const MILLISECONDS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a size in bytes: a number, or one with a unit of `B KB MB GB TB KiB MiB GiB TiB`.
///
/// # Errors
/// A sentence that says what may be written.
pub fn read_bytes(text: &str) -> Result<u64, String> {
    number_with_unit(text, BYTES).ok_or_else(|| format!("it takes a size like 64MiB, not {text:?}"))
}

/// Reads a duration in milliseconds: a number with a unit of `ms s m h d`.
///
/// # Errors
/// A sentence that says what may be written.
pub fn read_duration_ms(text: &str) -> Result<u64, String> {
    number_with_unit(text, MILLISECONDS)
        .ok_or_else(|| format!("it takes a duration like 30s, not {text:?}"))
}

/// A number before the first unit of the list that the text ends with.
fn number_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|number| (number, *factor)))?;
    let number = number.trim_end();
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// The amount in the largest of its units that says it exactly.
pub(crate) fn in_unit(amount: u64, units: &[(&str, u64)]) -> String {
    let whole = units.iter().filter(|(_, factor)| amount.is_multiple_of(*factor));
    let (unit, factor) = whole.max_by_key(|(_, factor)| *factor).expect("one unit is one");
    format!("{}{unit}", amount / factor)
}

macro_rules! limits {
    ($( $(#[$doc:meta])* $name:ident, $kind:literal, $read:expr, $show:expr; )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl $name {
            /// The limit, where there is one.
            #[must_use]
            pub fn get(self) -> Option<u64> {
                (self.0 > 0).then_some(self.0)
            }
        }

        impl Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }
            fn take(input: &mut Bytes) -> Result<Self, Malformed> {
                u64::take(input).map(Self)
            }
        }

        impl ToValue for $name {
            fn to_value(&self) -> Value {
                let show: fn(u64) -> Value = $show;
                self.get().map_or(Value::Null, show)
            }
        }

        impl Arg for $name {
            const KIND: &'static str = $kind;
            fn parse(name: &str, text: Option<&str>) -> Result<Self, Refusal> {
                let read: fn(&str) -> Option<u64> = $read;
                let limit = match text {
                    Some(NONE) => Some(0),
                    // A limit of nothing would be none: that is written as such.
                    Some(text) => read(text).filter(|limit| *limit > 0),
                    None => None,
                };
                limit.map(Self).ok_or_else(|| bad(name, Self::KIND, text))
            }
        }
    )* };
}

limits! {
    /// A limit of age, in milliseconds; 0: none.
    AgeLimit, "DURATION|none", |text| read_duration_ms(text).ok(),
        |ms| Value::Text(in_unit(ms, MILLISECONDS));
    /// A limit of size, in bytes; 0: none.
    SizeLimit, "SIZE|none", |text| read_bytes(text).ok(),
        |bytes| Value::Text(in_unit(bytes, WHOLE_BYTES));
    /// A limit of messages; 0: none.
    CountLimit, "NUMBER|none", |text| text.parse().ok(), Value::Number;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: Arg + ToValue>(text: &str, expected: Option<Value>) {
        let read = T::parse("limit", Some(text)).ok();
        assert_eq!(read.map(|limit| limit.to_value()), expected, "{text}");
    }

    #[test]
    fn limits_are_read_and_shown_in_the_largest_whole_unit() {
        let text = |text: &str| Some(Value::Text(text.into()));
        check::<AgeLimit>("3d", text("3d"));
        check::<AgeLimit>("72h", text("3d"));
        check::<AgeLimit>("90s", text("90s"));
        check::<AgeLimit>("none", Some(Value::Null));
        check::<AgeLimit>("0s", None);
        check::<AgeLimit>("3", None);
        check::<SizeLimit>("10GiB", text("10GiB"));
        check::<SizeLimit>("1536KiB", text("1536KiB"));
        check::<SizeLimit>("1000", text("1000B"));
        check::<SizeLimit>("ten", None);
        check::<CountLimit>("1000000", Some(Value::Number(1_000_000)));
        check::<CountLimit>("none", Some(Value::Null));
        check::<CountLimit>("0", None);
        check::<CountLimit>("-1", None);
    }
}
