//! The point at which a subscription gets a message, or does not.

use crate::{Config, Message, Needs};

/// Decides which messages a subscription gets. A function `fn(&Message) -> bool` is one too, where
/// there is neither an expression nor settings: see [`crate::filter!`].
pub trait Filter: Sized + 'static {
    /// Makes the filter of one subscription from its expression, once.
    ///
    /// # Errors
    /// A sentence for who wrote the expression.
    fn compile(expression: &str, config: &Config) -> Result<Self, String>;

    /// What it looks at.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Whether the subscription gets the message.
    fn keep(&self, message: &Message<'_>) -> bool;
}
