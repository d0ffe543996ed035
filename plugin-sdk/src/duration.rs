//! Durations as operators write them: `250ms`, `10s`, `5m`, `2h`, `7d`.

use std::time::Duration;

const UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a whole number with its unit.
///
/// # Errors
/// A sentence when it is something else, or too long for 64 bits of milliseconds.
pub fn parse(text: &str) -> Result<Duration, String> {
    let trimmed = text.trim();
    let unit_at = trimmed.find(|it: char| !it.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(unit_at);
    let unit = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, ms)| *ms);
    let millis = number.parse().ok().zip(unit).and_then(|(it, ms): (u64, u64)| it.checked_mul(ms));
    let millis = millis.map(Duration::from_millis);
    millis.ok_or_else(|| format!("`{text}` is no duration: a number with ms, s, m, h or d"))
}

/// Its milliseconds, of which 64 bits have room for every duration that [`parse`] gives.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, expect) in
            [("250ms", 250), ("10s", 10_000), (" 5m ", 300_000), ("2h", 7_200_000), ("0s", 0)]
        {
            assert_eq!(parse(text).map(millis), Ok(expect), "{text}");
        }
        for text in ["", "s", "1", "1.5s", "-1s", "1 s", "1w", "99999999999999999999d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
