//! Numbers: whole ones of 64 bits, and floating ones.

use std::cmp::Ordering;

use crate::ast::Arithmetic;

/// A number; a floating one is never NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A whole one.
    Int(i64),
    /// A floating one.
    Float(f64),
}

/// Digits of which every number fits 64 bits with a sign.
const INT_DIGITS: usize = 18;
/// Digits of which every number is exact in a double.
const EXACT_DIGITS: usize = 15;
/// The powers of ten that are exact in a double and that so many digits can need.
const POWERS: [f64; EXACT_DIGITS + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

impl Number {
    /// The number that a text is: a sign, digits with a point among them, an exponent. Nothing
    /// else, no blanks, no `inf`.
    #[inline]
    pub(crate) fn parse(text: &[u8]) -> Option<Number> {
        let (negative, digits) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let (mut value, mut count, mut point) = (0i64, 0, None);
        let mut rest = digits;
        while let [byte, after @ ..] = rest {
            let digit = byte.wrapping_sub(b'0');
            if digit < 10 && count < INT_DIGITS {
                value = value * 10 + i64::from(digit);
                count += 1;
            } else if *byte == b'.' && point.is_none() {
                point = Some(count);
            } else {
                return parse_slowly(text);
            }
            rest = after;
        }
        if count == 0 {
            return None;
        }
        let value = if negative { -value } else { value };
        match point {
            None => Some(Number::Int(value)),
            // Both are exact, so their quotient is rounded once, as it should be.
            Some(at) if count <= EXACT_DIGITS => {
                Some(Number::Float(signed(value as f64 / POWERS[count - at], negative)))
            }
            Some(_) => parse_slowly(text),
        }
    }

    #[inline]
    pub(crate) fn compare(self, other: Number) -> Ordering {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => a.cmp(&b),
            (Number::Float(a), Number::Float(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (Number::Int(a), Number::Float(b)) => compare_mixed(a, b),
            (Number::Float(a), Number::Int(b)) => compare_mixed(b, a).reverse(),
        }
    }

    pub(crate) fn negate(self) -> Number {
        match self {
            Number::Int(value) => match value.checked_neg() {
                Some(negated) => Number::Int(negated),
                None => Number::Float(-(value as f64)),
            },
            Number::Float(value) => Number::Float(-value),
        }
    }

    /// None where there is no result: a division by zero, or infinities that take each other away.
    /// What does not fit 64 bits becomes floating.
    pub(crate) fn calculate(self, operator: Arithmetic, other: Number) -> Option<Number> {
        use Arithmetic::{Add, Divide, Multiply, Remainder, Subtract};
        if let (Number::Int(a), Number::Int(b)) = (self, other) {
            let whole = match operator {
                Add => a.checked_add(b),
                Subtract => a.checked_sub(b),
                Multiply => a.checked_mul(b),
                Divide | Remainder if b == 0 => return None,
                Divide => a.checked_div(b),
                Remainder => Some(a.wrapping_rem(b)),
            };
            if let Some(whole) = whole {
                return Some(Number::Int(whole));
            }
        }
        let (a, b) = (self.float(), other.float());
        let value = match operator {
            Add => a + b,
            Subtract => a - b,
            Multiply => a * b,
            Divide if b == 0.0 => return None,
            Divide => a / b,
            // SQLite's rule: the remainder of what is before the points.
            Remainder => match b as i64 {
                0 => return None,
                whole => (a as i64).wrapping_rem(whole) as f64,
            },
        };
        (!value.is_nan()).then_some(Number::Float(value))
    }

    fn float(self) -> f64 {
        match self {
            Number::Int(value) => value as f64,
            Number::Float(value) => value,
        }
    }
}

/// The sign of a zero is lost in a whole number.
fn signed(value: f64, negative: bool) -> f64 {
    if negative && value == 0.0 { -0.0 } else { value }
}

/// Exact: a double has no room for all whole numbers of 64 bits.
fn compare_mixed(whole: i64, float: f64) -> Ordering {
    const PAST_THE_LAST: f64 = 9_223_372_036_854_775_808.0;
    if float >= PAST_THE_LAST {
        return Ordering::Less;
    }
    if float < -PAST_THE_LAST {
        return Ordering::Greater;
    }
    let truncated = float as i64;
    let rest = float - truncated as f64;
    whole.cmp(&truncated).then(0.0.partial_cmp(&rest).unwrap_or(Ordering::Equal))
}

#[cold]
fn parse_slowly(text: &[u8]) -> Option<Number> {
    let is_numeric = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    if !text.iter().all(is_numeric) {
        return None;
    }
    let text = str::from_utf8(text).ok()?;
    if let Ok(whole) = text.parse() {
        return Some(Number::Int(whole));
    }
    text.parse().ok().map(Number::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<Number>) {
        let found = Number::parse(text.as_bytes());
        assert_eq!(found, expect, "{text}");
        if let (Some(Number::Float(a)), Some(Number::Float(b))) = (found, expect) {
            assert_eq!(a.to_bits(), b.to_bits(), "{text}");
        }
    }

    #[test]
    fn texts_that_are_numbers() {
        let int = |value| Some(Number::Int(value));
        let float = |value| Some(Number::Float(value));
        check("0", int(0));
        check("-7", int(-7));
        check("+12", int(12));
        check("007", int(7));
        check("999999999999999999", int(999_999_999_999_999_999));
        check("9223372036854775807", int(i64::MAX));
        check("-9223372036854775808", int(i64::MIN));
        check("9223372036854775808", float(9_223_372_036_854_775_808.0));
        check("1.5", float(1.5));
        check("-.5", float(-0.5));
        check("5.", float(5.0));
        check("-0.0", float(-0.0));
        check("0.1234567890123456789", float(0.123_456_789_012_345_68));
        check("1e3", float(1000.0));
        check("1E-400", float(0.0));
        check("1e400", float(f64::INFINITY));
        for text in
            ["", "-", ".", "+.", "1 ", " 1", "1.2.3", "inf", "NaN", "0x1", "1e", "--1", "1_0"]
        {
            check(text, None);
        }
    }

    #[test]
    fn every_short_decimal_is_the_double_that_the_standard_library_reads() {
        for whole in (-2_000..2_000).step_by(7) {
            for thousandths in (0..1_000).step_by(13) {
                let text = format!("{whole}.{thousandths:03}");
                check(&text, Some(Number::Float(text.parse().expect("a number"))));
            }
        }
    }

    #[test]
    fn whole_and_floating_numbers_compare_exactly() {
        let big = (1i64 << 53) + 1;
        let float = (1u64 << 53) as f64;
        assert_eq!(Number::Int(big).compare(Number::Float(float)), Ordering::Greater);
        assert_eq!(Number::Float(float).compare(Number::Int(big)), Ordering::Less);
        assert_eq!(Number::Int(i64::MAX).compare(Number::Float(f64::INFINITY)), Ordering::Less);
        assert_eq!(Number::Int(3).compare(Number::Float(3.5)), Ordering::Less);
        assert_eq!(Number::Int(-3).compare(Number::Float(-3.5)), Ordering::Greater);
        assert_eq!(Number::Int(0).compare(Number::Float(-0.0)), Ordering::Equal);
        assert_eq!(Number::Int(i64::MIN).compare(Number::Float(-1e300)), Ordering::Greater);
    }

    #[test]
    fn arithmetic_has_no_errors() {
        use Arithmetic::{Add, Divide, Remainder, Subtract};
        let int = Number::Int;
        assert_eq!(int(7).calculate(Divide, int(2)), Some(int(3)));
        assert_eq!(int(-7).calculate(Remainder, int(2)), Some(int(-1)));
        assert_eq!(int(7).calculate(Divide, int(0)), None);
        assert_eq!(int(7).calculate(Remainder, int(0)), None);
        assert_eq!(int(i64::MIN).calculate(Remainder, int(-1)), Some(int(0)));
        let past = Number::Float(9_223_372_036_854_775_808.0);
        assert_eq!(int(i64::MIN).calculate(Divide, int(-1)), Some(past));
        assert_eq!(int(i64::MAX).calculate(Add, int(1)), Some(past));
        let infinite = Number::Float(f64::INFINITY);
        assert_eq!(infinite.calculate(Subtract, infinite), None);
        assert_eq!(Number::Float(1.0).calculate(Divide, Number::Float(0.0)), None);
        assert_eq!(int(i64::MIN).negate(), past);
    }
}
