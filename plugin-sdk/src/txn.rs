//! The point at which a transaction is decided whose producer fell silent.

use crate::Config;
use crate::retry::find;

/// Decides what becomes of a transaction. A function `fn(&Half) -> Fate` is one too: see
/// [`crate::txn_check!`].
pub trait TxnCheck: Sized + 'static {
    /// Makes it from its settings.
    ///
    /// # Errors
    /// A sentence for who set them.
    fn open(config: &Config) -> Result<Self, String>;

    /// What becomes of the transaction.
    fn check(&self, half: &Half) -> Fate;
}

/// A transaction without a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Half {
    /// Its name.
    pub id: String,
    /// The topic of its first message.
    pub topic: String,
    /// The group of its producer.
    pub group: String,
    /// How long ago it began, in milliseconds.
    pub age_ms: u64,
    /// How often it was checked, this time included.
    pub checks: u32,
    /// The properties of its messages, one after another: the first 64, at most 64 KiB.
    pub properties: Vec<(String, String)>,
    /// The body of its message, where the broker gives it: ours does not.
    pub body: Option<Vec<u8>>,
}

impl Half {
    /// The value of its first property of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        find(&self.properties, name)
    }
}

/// What becomes of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its messages are delivered.
    Commit,
    /// They never are.
    Rollback,
    /// It waits for the next check.
    Unknown,
    /// The producer is asked.
    AskProducer,
}
