//! The point at which a message counts as new, or as a duplicate.

use crate::{Config, Message, Needs};

/// Says which messages are the same: those with the same key. The broker keeps the keys, and
/// checks and sets them together with storing the message. A function
/// `fn(&Message) -> Option<String>` is one too: see [`crate::dedupe!`].
pub trait Dedupe: Sized + 'static {
    /// Makes it from its settings.
    ///
    /// # Errors
    /// A sentence for who set them.
    fn open(config: &Config) -> Result<Self, String>;

    /// What it looks at.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// For how long keys are kept, and what happens to a duplicate.
    fn policy(&self) -> Policy;

    /// Appends the key of a message to `key`, which is empty: at most 1,024 bytes
    /// ([`crate::abi::verdict::KEY_BYTES_MAX`]). What stays empty is never a duplicate.
    fn key(&self, message: &Message<'_>, key: &mut Vec<u8>);
}

/// What becomes of keys and duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// For how long a key is kept, in milliseconds.
    pub ttl_ms: u64,
    /// What happens to a message whose key is known.
    pub on_duplicate: OnDuplicate,
    /// Which keys are compared with each other. A version that makes other keys of the same
    /// messages has another number here.
    pub keyspace: u32,
}

impl Policy {
    /// Duplicates within so many hours are answered as the original was, and not stored.
    #[must_use]
    pub const fn hours(hours: u64) -> Self {
        Self { ttl_ms: hours * 3_600_000, on_duplicate: OnDuplicate::AckOriginal, keyspace: 1 }
    }
}

/// What happens to a message whose key is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDuplicate {
    /// It is acknowledged with the id and offset of the first, and not stored.
    AckOriginal,
    /// It is refused.
    Reject,
    /// It is stored, with a property that says so.
    Mark,
}
