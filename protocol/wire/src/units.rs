//! Spans of time as people write them.

pub(crate) const MILLISECONDS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

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
