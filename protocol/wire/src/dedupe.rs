//! What makes two messages the same: their dedupe key where they are stored, the business key of a
//! group where they are delivered to it.
use std::fmt;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::codec::{Malformed, Wire, take_bytes};
use crate::limits::{
    DEDUPE_KEY_BYTES_MAX, DEDUPE_WINDOW_MS_MAX, DEDUPE_WINDOW_MS_MIN, NAME_BYTES_MAX,
};
use crate::operation::Arg;
use crate::record::{DEDUPE, KEY};
use crate::units::{MILLISECONDS, in_unit};
use crate::value::{ToValue, Value};
use crate::{Code, Refusal};

/// Bytes of a dedupe key as the broker keeps it.
pub const DEDUPE_HASH_BYTES: usize = 16;

/// The dedupe key of a message as the broker compares it: the first 16 bytes of the SHA-256 of its
/// text. A hash that cannot be forged, because a message whose key only looks like another's
/// would be lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DedupeKey(pub [u8; DEDUPE_HASH_BYTES]);

impl DedupeKey {
    /// The key of this text.
    ///
    /// # Errors
    /// [`Code::BadDedupeKey`] when it is empty or longer than [`DEDUPE_KEY_BYTES_MAX`] bytes.
    pub fn of(text: &str) -> Result<Self, Refusal> {
        if text.is_empty() || text.len() > DEDUPE_KEY_BYTES_MAX {
            mark!(DedupeKey);
            let detail =
                format!("a dedupe key of {} bytes: 1 to {DEDUPE_KEY_BYTES_MAX} may be", text.len());
            return Err(Refusal::new(Code::BadDedupeKey, detail));
        }
        Ok(Self::short(Sha256::new().chain_update(text.as_bytes())))
    }

    /// A key that a plugin has made, in a keyspace of its own choice. It equals no key of
    /// [`DedupeKey::of`]: 0xff is in no text.
    ///
    /// # Panics
    /// When it is empty: such a message has no key.
    #[must_use]
    pub fn of_plugin(keyspace: u32, key: &[u8]) -> Self {
        assert!(!key.is_empty(), "an empty key is none");
        let space = Sha256::new().chain_update([0xff_u8]).chain_update(keyspace.to_le_bytes());
        Self::short(space.chain_update(key))
    }

    fn short(hash: Sha256) -> Self {
        let hash = hash.finalize();
        Self(*hash.first_chunk().expect("the hash has 32 bytes"))
    }

    /// The key of a message whose property `name` has this value: equal values of two properties
    /// are two keys. `None` where the value is empty; it may be as long as a property may.
    #[must_use]
    pub fn of_property(name: &str, value: &str) -> Option<Self> {
        assert!(name.len() <= NAME_BYTES_MAX, "the name of a business key was checked");
        if value.is_empty() {
            return None;
        }
        let mut hash = Sha256::new();
        hash.update([name.len() as u8]);
        hash.update(name);
        hash.update(value);
        Some(Self(*hash.finalize().first_chunk().expect("the hash has 32 bytes")))
    }
}

/// What is written where messages are not compared.
const NONE: &str = "none";

/// The business key of a group: the name of the property by which it compares messages, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BusinessKey(pub Option<String>);

impl BusinessKey {
    /// The property, if messages are compared.
    #[must_use]
    pub fn property(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Checks that messages may have such a property: 1 to [`NAME_BYTES_MAX`] bytes, and of those
    /// of the system `$key` (the first key of a message) and `$dedupe` only.
    ///
    /// # Errors
    /// [`Code::BadBusinessKey`].
    pub fn check(&self) -> Result<(), Refusal> {
        let Some(name) = self.property() else { return Ok(()) };
        let bad = |why: String| Err(Refusal::new(Code::BadBusinessKey, why));
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            mark!(DedupePropertyLength);
            let bytes = name.len();
            return bad(format!("a property of {bytes} bytes: 1 to {NAME_BYTES_MAX} may be"));
        }
        if name.starts_with('$') && ![KEY, DEDUPE].contains(&name) {
            mark!(DedupePropertySystem);
            return bad(format!("{name:?} is the system's: {KEY} and {DEDUPE} may be"));
        }
        Ok(())
    }
}

impl Wire for BusinessKey {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        <Option<String> as Wire>::take(input).map(Self)
    }
}

impl Arg for BusinessKey {
    const KIND: &'static str = "PROPERTY|none";
    fn parse(name: &str, text: Option<&str>) -> Result<Self, Refusal> {
        let key = match text {
            Some(NONE) => Self(None),
            Some(text) => Self(Some(text.to_owned())),
            None => return Err(crate::operation::bad(name, Self::KIND, text)),
        };
        key.check().map(|()| key)
    }
}

impl ToValue for BusinessKey {
    fn to_value(&self) -> Value {
        self.0.clone().map_or(Value::Null, Value::Text)
    }
}

impl fmt::Display for DedupeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Wire for DedupeKey {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let bytes = take_bytes(input, DEDUPE_HASH_BYTES)?;
        Ok(Self(*bytes.first_chunk().expect("as many bytes as were taken")))
    }
}

/// Checks for how long keys are to be remembered, in milliseconds.
///
/// # Errors
/// [`Code::BadArgument`] outside a second to a week.
pub fn check_window(window_ms: u64) -> Result<(), Refusal> {
    if (DEDUPE_WINDOW_MS_MIN..=DEDUPE_WINDOW_MS_MAX).contains(&window_ms) {
        return Ok(());
    }
    mark!(DedupeWindow);
    let window = in_unit(window_ms, MILLISECONDS);
    let detail = format!("a dedupe window of {window}: 1s to 7d may be");
    Err(Refusal::new(Code::BadArgument, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_beginning_of_the_hash() {
        // Source of the hash: FIPS 180-2, appendix B.1.
        let key = DedupeKey::of("abc").expect("within bounds");
        assert_eq!(key.to_string(), "ba7816bf8f01cfea414140de5dae2223");
        assert_eq!(DedupeKey::from_bytes(key.to_bytes()), Ok(key));
        assert!(DedupeKey::of(&"x".repeat(DEDUPE_KEY_BYTES_MAX)).is_ok());
        for bad in [String::new(), "x".repeat(DEDUPE_KEY_BYTES_MAX + 1)] {
            assert_eq!(DedupeKey::of(&bad).unwrap_err().code, Code::BadDedupeKey);
        }
    }

    #[test]
    fn keys_of_plugins_are_in_spaces_of_their_own() {
        let key = DedupeKey::of_plugin(1, b"abc");
        assert_eq!(key, DedupeKey::of_plugin(1, b"abc"));
        assert_ne!(key, DedupeKey::of_plugin(2, b"abc"));
        assert_ne!(key, DedupeKey::of_plugin(1, b"abd"));
        assert_ne!(Ok(key), DedupeKey::of("abc"));
    }

    #[test]
    fn keys_of_properties_are_told_apart_by_name_and_value() {
        let key = |name: &str, value: &str| DedupeKey::of_property(name, value);
        assert_eq!(key("invoice", "1042"), key("invoice", "1042"));
        let others = [key("invoice", "1043"), key("order", "1042"), key("invoice1", "042"), None];
        assert!(others.iter().all(|other| *other != key("invoice", "1042")));
        assert_eq!(key("invoice", ""), None);
        assert!(key("invoice", &"x".repeat(60_000)).is_some());
    }

    #[test]
    fn business_keys_are_properties_that_messages_may_have() {
        let parse = |text: &str| BusinessKey::parse("key", Some(text));
        for (text, property) in [
            ("invoice", Some("invoice")),
            ("$key", Some(KEY)),
            ("$dedupe", Some(DEDUPE)),
            (NONE, None),
        ] {
            let key = parse(text).expect("it may be");
            assert_eq!(key.property(), property);
            assert_eq!(BusinessKey::from_bytes(key.to_bytes()), Ok(key));
        }
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for bad in ["", "$order", "$", &long] {
            assert_eq!(parse(bad).unwrap_err().code, Code::BadBusinessKey, "{bad:?}");
        }
        assert_eq!(BusinessKey::parse("key", None).unwrap_err().code, Code::BadArgument);
        assert_eq!(BusinessKey::default().to_value(), Value::Null);
    }

    #[test]
    fn windows_have_bounds() {
        for (ms, fits) in [(999, false), (1_000, true), (604_800_000, true), (604_800_001, false)] {
            assert_eq!(check_window(ms).is_ok(), fits, "{ms}");
        }
    }
}
