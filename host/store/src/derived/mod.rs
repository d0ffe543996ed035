//! What is derived from the log and can be thrown away: where records are by offset and time
//! ([`crate::index`]), and by id and key (here).
//!
//! ```text
//!   durable groups ──► keys ──IndexKeys──► run, in memory ──WriteKeys──► key-0000000003-…
//!                       │ kept until they are indexed
//!                       ▼
//!   KeySearch:  files of sealed and older parts │ runs │ the rest, record by record
//! ```
//!
//! The writer only notes which bytes are durable. Reading, sorting and writing are done by whoever
//! carries out [`crate::Io`]; searching is a plan that any thread carries out.
use yard_wire::{QueueIndex, QueueOffset, RecordPlace, TopicId};

mod build;
mod find;
mod keys;
mod time;
mod walk;

#[cfg(test)]
mod tests;

pub(crate) use build::KeyBuilder;
pub use build::KeyJob;
pub use find::{KeyAnswer, KeyBudget, KeyFound, KeyQuery, KeySearch};
pub(crate) use keys::KeyIndex;
pub use time::{Sought, TimeSearch};

/// A place in the log of a shard: places are ordered as the log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPlace {
    /// Number of the segment.
    pub segment: u32,
    /// Byte offset in the segment's file.
    pub offset: u32,
}

impl LogPlace {
    /// As one number that orders as the places do.
    #[must_use]
    pub fn to_u64(self) -> u64 {
        u64::from(self.segment) << 32 | u64::from(self.offset)
    }

    /// The place of a number made by [`LogPlace::to_u64`]; any number is some place.
    #[must_use]
    pub fn from_u64(number: u64) -> Self {
        Self { segment: (number >> 32) as u32, offset: number as u32 }
    }
}

/// A durable record as an index sees it.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// Topic of its queue.
    pub topic: TopicId,
    /// Its queue.
    pub queue: QueueIndex,
    /// Its offset in the queue.
    pub offset: QueueOffset,
    /// Where it lies, and when it was stored.
    pub place: RecordPlace,
    /// All of its bytes.
    pub bytes: &'a [u8],
}

impl RecordView<'_> {
    /// Where it begins.
    #[must_use]
    pub fn at(&self) -> LogPlace {
        LogPlace { segment: self.place.segment, offset: self.place.offset }
    }
}

/// An index that can be thrown away and made again from the log.
///
/// Invariant: after `apply` of every record below a place, in order, its answers depend on those
/// records only. So two ways to get there, live or made again, give equal answers.
pub trait DerivedIndex {
    /// What it is called in messages.
    const NAME: &'static str;

    /// Takes in the next record of the log, which may be one that it has seen.
    fn apply(&mut self, record: &RecordView<'_>);

    /// Records from here on are applied again after a restart.
    fn durable_to(&self) -> LogPlace;

    /// Forgets what lies at `from` or after: a torn tail, another leader. Records from
    /// [`DerivedIndex::durable_to`] on are then applied again.
    fn truncate(&mut self, from: LogPlace);
}
