//! The properties of a record, encoded: `(u16 name length, u16 value length, name, value)*`.
use super::{DEDUPE, DUE, Flags, Record, TX, u16_at};
use crate::codec::Malformed;
use crate::{DedupeKey, Refusal, Timestamp, TxId};

pub(crate) const PROPERTY_HEADER_BYTES: usize = 4;

pub(crate) fn property_header(name: &str, value: &str) -> [u8; PROPERTY_HEADER_BYTES] {
    let [a, b] = (name.len() as u16).to_le_bytes();
    let [c, d] = (value.len() as u16).to_le_bytes();
    [a, b, c, d]
}

fn split_property(rest: &[u8]) -> Result<(&str, &str, &[u8]), Malformed> {
    let short = |wanted: usize| Malformed::Short { wanted: wanted as u64, left: rest.len() as u64 };
    if rest.len() < PROPERTY_HEADER_BYTES {
        return Err(short(PROPERTY_HEADER_BYTES));
    }
    let name_end = PROPERTY_HEADER_BYTES + usize::from(u16_at(rest, 0));
    let end = name_end + usize::from(u16_at(rest, 2));
    if rest.len() < end {
        return Err(short(end));
    }
    let text = |bytes| str::from_utf8(bytes).map_err(|_| Malformed::Utf8);
    Ok((text(&rest[PROPERTY_HEADER_BYTES..name_end])?, text(&rest[name_end..end])?, &rest[end..]))
}

/// Properties that were checked, in order.
pub(crate) fn split_properties(mut rest: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (name, value, after) = split_property(rest).ok()?;
        rest = after;
        Some((name, value))
    })
}

/// The names of properties that were checked, in order. Values are passed over unread.
pub(crate) fn split_names(mut rest: &[u8]) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let name_end = PROPERTY_HEADER_BYTES + usize::from(u16_at(rest, 0));
        let end = name_end + usize::from(u16_at(rest, 2));
        let name = &rest[PROPERTY_HEADER_BYTES..name_end];
        rest = &rest[end..];
        Some(str::from_utf8(name).expect("checked when the record was taken"))
    })
}

/// Whether `rest` are so many properties and nothing else.
pub(crate) fn check_properties(mut rest: &[u8], count: usize) -> Result<(), Malformed> {
    for _ in 0..count {
        (_, _, rest) = split_property(rest)?;
    }
    if rest.is_empty() { Ok(()) } else { Err(Malformed::Trailing { left: rest.len() as u64 }) }
}

/// What the system's own properties say.
impl Record {
    /// When a delayed message is to be delivered; `None` where that is not said, or not so that
    /// it can be read.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        self.property(DUE).and_then(|text| text.parse().ok()).map(Timestamp)
    }

    /// The transaction of a prepared message; `None` where that is not said, or not so that it
    /// can be read.
    #[must_use]
    pub fn transaction(&self) -> Option<TxId> {
        self.property(TX).and_then(TxId::parse)
    }

    /// Its dedupe key; `None` where it has none.
    ///
    /// # Errors
    /// [`crate::Code::BadDedupeKey`] when it is missing, empty or too long.
    pub fn dedupe_key(&self) -> Option<Result<DedupeKey, Refusal>> {
        let text = || self.property(DEDUPE).unwrap_or_default();
        self.flags().has(Flags::DEDUPE).then(|| DedupeKey::of(text()))
    }
}
