//! Small state of a plugin, kept by the host for its tenant. Everything expires. Capability `kv`.
//!
//! A call costs more than a message does, so ask for many keys at once: at most 256 a call, of at
//! most 1,024 bytes each.

use yard_abi::verdict::{Bitmap, KeysBuilder, counts};

use crate::host;

/// The values of keys; none where a key is absent or has expired. A key that was put without a
/// count has 0.
///
/// # Panics
/// When a key is too long, or there are too many.
#[must_use]
pub fn get_many<K: AsRef<[u8]>>(keys: &[K]) -> Vec<Option<i64>> {
    let answer = host::get_many(&list(keys));
    counts(&answer, keys.len() as u32).expect("the host answers every key")
}

/// Puts those keys that are absent, for so many milliseconds, and says which they were.
///
/// # Panics
/// When a key is too long, or there are too many.
pub fn put_if_absent_many<K: AsRef<[u8]>>(keys: &[K], ttl_ms: u64) -> Vec<bool> {
    let answer = host::put_if_absent_many(&list(keys), ttl_ms);
    let bitmap = Bitmap::parse(&answer, keys.len() as u32);
    bitmap.expect("the host answers every key").iter().collect()
}

/// Adds to the count of a key, which then lives for so many milliseconds more, and gives the sum.
/// An absent key counts from 0; a sum that does not fit stays at the end of the range.
pub fn incr(key: &[u8], by: i64, ttl_ms: u64) -> i64 {
    host::incr(key, by, ttl_ms)
}

fn list<K: AsRef<[u8]>>(keys: &[K]) -> Vec<u8> {
    let mut builder = KeysBuilder::default();
    for key in keys {
        builder.push(key.as_ref()).expect("a key has at most 1,024 bytes");
    }
    builder.into_bytes()
}
