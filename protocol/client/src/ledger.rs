//! Effects exactly once: a handler notes in the transaction of its effect that the message is done,
//! so that a message that comes again finds out.
//!
//! ```text
//!   delivery ──► transaction: noted already? ──yes──► nothing ──► ack
//!                   └─no──► effect, note ──► commit ─────────────► ack
//!                                              ▲            ▲
//!         dies before: neither effect nor note │            │ dies between: both, it comes again
//! ```
//!
//! The broker delivers at least once; only the store that holds the effect can make it exactly
//! once. The ledger therefore lives there, in a table of its own.
use std::fmt;

use yard_wire::{MessageId, Timestamp};

use crate::{Delivery, Error};

/// What a ledger notes of a message. The id stays the same however often a message is delivered,
/// also where it was sent again by its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerEntry {
    /// Id of the message.
    pub id: MessageId,
    /// When the broker stored it: entries that are older than any message that can still come
    /// again may be forgotten, see [`Ledger::forget`].
    pub stored: Timestamp,
}

impl From<&Delivery> for LedgerEntry {
    fn from(delivery: &Delivery) -> Self {
        Self { id: delivery.id(), stored: delivery.stored() }
    }
}

/// What became of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Once<T> {
    /// It was done now, and noted.
    Now(T),
    /// It had been done before; nothing was done now.
    Before,
}

/// A list of the messages that were handled, in the same store as the effects of handling them.
///
/// An implementation keeps these rules:
/// - [`Ledger::once`] is one transaction: the entry and all that `effect` does through it become
///   durable together or not at all, and are durable when it returns.
/// - Two calls with the same id, at the same time or in two processes, do not both get as far as
///   `effect` and commit: the id is a unique key.
pub trait Ledger {
    /// A transaction of the store.
    type Transaction<'t>;
    /// What can go wrong in the store.
    type Error: fmt::Display;

    /// Notes the message and does `effect` in one transaction; nothing if it is noted already, and
    /// neither where one of them fails.
    ///
    /// # Errors
    /// What the store or `effect` fails with. Then the message is to be nacked.
    fn once<T>(
        &mut self,
        entry: LedgerEntry,
        effect: impl FnOnce(&mut Self::Transaction<'_>) -> Result<T, Self::Error>,
    ) -> Result<Once<T>, Self::Error>;

    /// Forgets entries of messages that were stored before an instant. A message must not come
    /// again after it was forgotten: leave as much time as messages are kept and retried, all
    /// attempts together.
    ///
    /// # Errors
    /// What the store fails with.
    fn forget(&mut self, stored_before: Timestamp) -> Result<u64, Self::Error>;
}

/// Handles a delivery by a ledger and settles it: acked once the transaction is durable, or was
/// before; nacked where it failed.
///
/// # Errors
/// [`HandleError::Effect`] where the store or the effect failed: the message comes again.
/// [`HandleError::Settle`] where the message could not be settled: it may come again, and is then
/// found in the ledger.
pub async fn handle<L: Ledger, T>(
    ledger: &mut L,
    delivery: &Delivery,
    effect: impl FnOnce(&mut L::Transaction<'_>) -> Result<T, L::Error>,
) -> Result<Once<T>, HandleError<L::Error>> {
    let once = match ledger.once(delivery.into(), effect) {
        Ok(once) => once,
        Err(error) => {
            delivery.nack(None).await.map_err(HandleError::Settle)?;
            return Err(HandleError::Effect(error));
        }
    };
    delivery.ack().await.map_err(HandleError::Settle)?;
    Ok(once)
}

/// Why a delivery was not handled, or not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandleError<E> {
    /// The store or the effect failed; nothing was done.
    Effect(E),
    /// The effect is done, now or before, or was nacked; the broker has not heard of it.
    Settle(Error),
}

impl<E: fmt::Display> fmt::Display for HandleError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Effect(error) => write!(f, "the effect failed: {error}"),
            Self::Settle(error) => write!(f, "it could not be settled: {error}"),
        }
    }
}

impl<E: fmt::Display + fmt::Debug> std::error::Error for HandleError<E> {}
