//! The point at which a message that failed comes back, or does not.

use crate::Config;

/// Decides what becomes of a message that was given back. A function `fn(&Attempt) -> Next` is one
/// too: see [`crate::retry!`].
pub trait Retry: Sized + 'static {
    /// Makes it from its settings.
    ///
    /// # Errors
    /// A sentence for who set them.
    fn open(config: &Config) -> Result<Self, String>;

    /// What becomes of the message.
    fn decide(&self, attempt: &Attempt) -> Next;
}

/// A message that was given back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// How often it was delivered, this time included: 1 at the first.
    pub count: u32,
    /// How often the group wants it delivered at most.
    pub max: u32,
    /// How long ago it was stored, in milliseconds.
    pub age_ms: u64,
    /// Its topic.
    pub topic: String,
    /// The group that gave it back.
    pub group: String,
    /// Why, as the consumer said; possibly empty.
    pub reason: String,
    /// The delay before this delivery, in milliseconds; 0 at the first.
    pub last_delay_ms: u64,
    /// Its properties.
    pub properties: Vec<(String, String)>,
}

impl Attempt {
    /// The value of its first property of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        find(&self.properties, name)
    }
}

pub(crate) fn find<'p>(properties: &'p [(String, String)], name: &str) -> Option<&'p str> {
    properties.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

/// What becomes of a message that was given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It comes back after so many milliseconds.
    DelayMs(u64),
    /// It goes to this topic of the tenant.
    ToTopic(String),
    /// It goes to the group's dead-letter topic, for this reason.
    DeadLetter(String),
    /// It counts as consumed.
    Drop,
}
