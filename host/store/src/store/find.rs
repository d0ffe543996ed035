//! Finding messages by id, key and time: plans, to be carried out elsewhere.
use yard_wire::{QueueIndex, Timestamp, TopicId};

use super::Store;
use crate::derived::{KeyQuery, KeySearch, LogPlace, Sought};

impl Store {
    /// A plan that finds the messages of a query that are durable now, in the order of the log
    /// from `from` on ([`LogPlace::default`] for all), and were stored from `oldest` to `newest`,
    /// both included.
    #[must_use]
    pub fn key_search(
        &self,
        query: KeyQuery,
        (oldest, newest): (Timestamp, Timestamp),
        from: LogPlace,
    ) -> KeySearch {
        self.keys.search(query, (oldest, newest), from)
    }

    /// When the first group of a segment was stored; `None` where the segment has none.
    #[must_use]
    pub fn began(&self, segment: u32) -> Option<Timestamp> {
        self.index.stored_base(segment)
    }

    /// The offset of the oldest committed message of a queue that was stored at `time` or later.
    #[must_use]
    pub fn offset_at(&self, topic: TopicId, queue: QueueIndex, time: Timestamp) -> Sought {
        self.index.offset_at(topic, queue, time)
    }
}
