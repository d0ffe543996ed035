//! The point at which a produced message is changed, or refused, before it is stored.

use crate::{Config, Message, Needs};

/// Decides what is stored of a produced message. A function `fn(&Message) -> Answer` is one too:
/// see [`crate::interceptor!`].
pub trait Interceptor: Sized + 'static {
    /// Makes it from its settings.
    ///
    /// # Errors
    /// A sentence for who set them.
    fn open(config: &Config) -> Result<Self, String>;

    /// What it looks at.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// What is stored of the message.
    fn apply(&self, message: &Message<'_>) -> Answer;
}

/// What is stored of a produced message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The message as it is.
    Pass,
    /// The message with these changes.
    Replace(Patch),
    /// Nothing, for this reason: at most 1,024 bytes are kept
    /// ([`crate::abi::verdict::REASON_BYTES_MAX`]).
    Reject(String),
}

/// Changes to a message. What it does not name stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    properties: Vec<(String, Option<String>)>,
    body: Option<Vec<u8>>,
}

impl Patch {
    /// Sets a property; others of its name go. Names that begin with `$` are the broker's.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), Some(value.into())));
        self
    }

    /// Removes every property of a name.
    #[must_use]
    pub fn remove(mut self, name: impl Into<String>) -> Self {
        self.properties.push((name.into(), None));
        self
    }

    /// Replaces the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.properties.is_empty() && self.body.is_none()
    }

    pub(crate) fn packed(&self) -> yard_abi::verdict::Patch<'_> {
        let properties = self.properties.iter();
        yard_abi::verdict::Patch {
            properties: properties.map(|(a, b)| (a.as_str(), b.as_deref())).collect(),
            body: self.body.as_deref(),
        }
    }
}
