//! The point at which a transaction is decided whose producer fell silent.

use crate::Config;
use crate::retry::find;

/// Decides what becomes of a prepared message. A function `fn(&Half) -> Fate` is one too: see
/// [`crate::txn_check!`].
pub trait TxnCheck: Sized + 'static {
    /// Makes it from its settings.
    ///
    /// # Errors
    /// A sentence for who set them.
    fn open(config: &Config) -> Result<Self, String>;

    /// What becomes of the message.
    fn check(&self, half: &Half) -> Fate;
}

/// A prepared message without a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Half {
    /// Its id.
    pub id: String,
    /// Its topic.
    pub topic: String,
    /// The group of its producer.
    pub group: String,
    /// How long ago it was prepared, in milliseconds.
    pub age_ms: u64,
    /// How often it was checked, this time included.
    pub checks: u32,
    /// Its properties.
    pub properties: Vec<(String, String)>,
    /// Its body, where the broker gives it.
    pub body: Option<Vec<u8>>,
}

impl Half {
    /// The value of its first property of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        find(&self.properties, name)
    }
}

/// What becomes of a prepared message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is delivered.
    Commit,
    /// It is never delivered.
    Rollback,
    /// It waits for the next check.
    Unknown,
    /// The producer is asked.
    AskProducer,
}
