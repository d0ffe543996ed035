//! What makes two messages the same: the dedupe key.
use std::fmt;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::codec::{Malformed, Wire, take_bytes};
use crate::limits::{DEDUPE_KEY_BYTES_MAX, DEDUPE_WINDOW_MS_MAX, DEDUPE_WINDOW_MS_MIN};
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
    let detail = format!("a dedupe window of {window_ms} ms: 1s to 7d may be");
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
    fn windows_have_bounds() {
        for (ms, fits) in [(999, false), (1_000, true), (604_800_000, true), (604_800_001, false)] {
            assert_eq!(check_window(ms).is_ok(), fits, "{ms}");
        }
    }
}
