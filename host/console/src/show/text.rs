//! What of other people's texts a terminal sees, and times as people write them.
use std::borrow::Cow;
use std::fmt::Write as _;

use yard_client::wire::units::read_duration_ms;
use yard_client::{Covered, Timestamp};

/// Reads a time (RFC 3339, with its zone) or an age before `now`.
pub fn read_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(age_ms) = read_duration_ms(text) {
        return Some(Timestamp(now.0.saturating_sub(age_ms)));
    }
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok().map(Timestamp)
}

/// A text with nothing in it that could move a cursor, turn a direction or end a line.
pub fn visible(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_hidden) { Cow::Owned(escaped(text, is_hidden)) } else { text.into() }
}

/// The same, but lines stay lines.
pub fn visible_lines(text: &str) -> Cow<'_, str> {
    let hidden = |c: char| c != '\n' && is_hidden(c);
    if text.chars().any(hidden) { Cow::Owned(escaped(text, hidden)) } else { text.into() }
}

fn escaped(text: &str, hidden: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' if hidden(c) => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if hidden(c) => {
                write!(out, "\\u{{{:x}}}", u32::from(c)).expect("a string can be written to");
            }
            c => out.push(c),
        }
    }
    out
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// An instant as RFC 3339 in UTC, to the millisecond.
pub fn instant(at: Timestamp) -> String {
    let ms = i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    match ms {
        Some(instant) => format!("{instant:.3}"),
        // A clock that far off is shown as it is.
        None => format!("{} ms", at.0),
    }
}

/// A number of bytes in the unit that people would choose.
pub fn bytes(bytes: u64) -> String {
    let unit =
        [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)].into_iter().find(|(_, u)| bytes as f64 >= *u);
    match unit {
        Some((name, unit)) if bytes as f64 >= 10.0 * unit => {
            format!("{:.0} {name}", bytes as f64 / unit)
        }
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / unit),
        None => format!("{bytes} B"),
    }
}

/// What a search has looked at.
pub fn covered(covered: &Covered) -> String {
    let Covered { segments, from, to, unreadable_bytes } = *covered;
    let mut out = match segments {
        0 => "nothing of that time is stored".to_owned(),
        _ => {
            let plural = if segments == 1 { "" } else { "s" };
            let (from, to) = (instant(from), instant(to));
            format!("looked at {segments} segment{plural}, {from}..{to}")
        }
    };
    if unreadable_bytes > 0 {
        out.push_str(&format!(
            "; {} of it cannot be read, see the broker's log",
            bytes(unreadable_bytes)
        ));
    }
    out
}

/// Bytes in base64, RFC 4648 section 4.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            out.push(if digit <= group.len() { char::from(DIGITS[index as usize]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_sees() {
        let cases = [
            ("plain ü", "plain ü"),
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("\u{202e}gpj", "\\u{202e}gpj"),
        ];
        for (text, expected) in cases {
            assert_eq!(visible(text), expected);
        }
        assert_eq!(visible_lines("a\nb\u{7}"), "a\nb\\u{7}");
        assert_eq!(instant(Timestamp(1_357_034_400_000)), "2013-01-01T10:00:00.000Z");
        assert_eq!(instant(Timestamp(u64::MAX)), "18446744073709551615 ms");
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes(101_191_266), "101 MB");
        assert_eq!(bytes(1_500), "1.5 kB");
        assert_eq!(bytes(7), "7 B");
    }

    #[test]
    fn base64_of_any_length() {
        let base64s =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (text, expected) in base64s {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }
}
