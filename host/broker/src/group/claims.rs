//! In whose hands the business keys of a group are, and which messages wait for them. Volatile: a
//! key is in somebody's hands while a message with it is leased.
//!
//! ```text
//!   ready ─┬─ its key was acked in the window ─► behind, until its step as duplicate is recorded
//!          ├─ its key is in somebody's hands ──► behind ──(that lease ends)──► ready
//!          └─ else ────────────────────────────► leased: now its key is
//! ```
//!
//! Only leases are waited for, and every lease ends; a message that waits for its key holds none.
//! So nobody waits in a circle, in whatever order groups the messages are.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use yard_wire::{DedupeKey, Malformed, QueueIndex, QueueOffset, Timestamp, Wire};

use crate::entry::{GroupId, Outcome, Step};
use crate::group::queue::push_step;
use crate::windows::{Message, Windows};

/// Where a message of a topic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spot {
    pub(crate) queue: QueueIndex,
    pub(crate) offset: QueueOffset,
}

/// `u16` queue, `u64` offset.
impl Wire for Spot {
    fn put(&self, out: &mut Vec<u8>) {
        self.queue.put(out);
        self.offset.put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        Ok(Self { queue: QueueIndex::take(input)?, offset: QueueOffset::take(input)? })
    }
}

/// A message that a group has acked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acked {
    pub(crate) spot: Spot,
    /// It was in the topic that the group's messages were passed on to.
    pub(crate) is_wide: bool,
}

/// Its place, then one byte: 1 if it was in the wide topic.
impl Wire for Acked {
    fn put(&self, out: &mut Vec<u8>) {
        self.spot.put(out);
        self.is_wide.put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        Ok(Self { spot: Spot::take(input)?, is_wide: bool::take(input)? })
    }
}

impl Message for Acked {
    /// What was delivered was due.
    fn is_delayed(&self) -> bool {
        false
    }
}

/// The keys of what groups have acked, each with the message that was. Of a group whose messages
/// are passed on, what it has acked in either topic.
pub(crate) type SettledKeys = Windows<GroupId, Acked>;

/// The keys of a group that somebody has in hands.
#[derive(Debug)]
pub(crate) struct Claims {
    /// The property that messages are compared by.
    by: Arc<str>,
    held: BTreeMap<DedupeKey, Spot>,
    /// The same by message.
    keys: BTreeMap<Spot, DedupeKey>,
    /// Messages that wait for a key. Some may be settled meanwhile.
    behind: BTreeMap<DedupeKey, BTreeSet<Spot>>,
}

impl Claims {
    pub(crate) fn new(by: Arc<str>) -> Self {
        let (held, keys, behind) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { by, held, keys, behind }
    }

    /// The property that messages are compared by.
    pub(crate) fn by(&self) -> &Arc<str> {
        &self.by
    }

    /// Whether anything waits for a key.
    pub(crate) fn has_waiters(&self) -> bool {
        !self.behind.is_empty()
    }

    /// Messages of a queue that somebody has, in `from..to`, with their keys.
    pub(crate) fn within(
        &self,
        queue: QueueIndex,
        from: QueueOffset,
        to: QueueOffset,
    ) -> impl Iterator<Item = (Spot, DedupeKey)> {
        let (from, to) = (Spot { queue, offset: from }, Spot { queue, offset: to });
        self.keys.range(from..to).map(|(spot, key)| (*spot, *key))
    }

    /// The lease of a message has ended: its key is free, and those that waited for it are told.
    pub(crate) fn free(&mut self, spot: Spot) -> BTreeSet<Spot> {
        let key = self.keys.remove(&spot).expect("whoever has a message has its key");
        let held = self.held.remove(&key);
        assert_eq!(held, Some(spot), "a key is in one hand at a time");
        self.behind.remove(&key).unwrap_or_default()
    }

    /// Checks itself; `is_leased` says whether somebody has a message.
    pub(crate) fn check(&self, is_leased: impl Fn(Spot) -> bool) {
        assert_eq!(self.held.len(), self.keys.len(), "a key is in one hand at a time");
        for (key, spot) in &self.held {
            assert_eq!(self.keys.get(spot), Some(key), "whoever has a message has its key");
            assert!(is_leased(*spot), "a key is in somebody's hands as long as its lease");
        }
        for (key, spots) in &self.behind {
            assert!(self.held.contains_key(key), "what waits for a key waits for somebody");
            assert!(!spots.is_empty(), "somebody waits");
        }
    }
}

/// Decides which messages of a queue are delivered now, where the group has a business key.
#[derive(Debug)]
pub(crate) struct Gate<'a> {
    pub(crate) claims: &'a mut Claims,
    pub(crate) settled: &'a SettledKeys,
    /// Under whose name the group's keys are remembered.
    pub(crate) owner: GroupId,
    pub(crate) queue: QueueIndex,
    pub(crate) now: Timestamp,
    /// For how long a settled key counts.
    pub(crate) window_ms: u64,
    /// What is found to be settled.
    pub(crate) duplicates: &'a mut Vec<Step>,
}

impl Gate<'_> {
    /// Whether a message with this key may be delivered. Otherwise it is to be settled as a
    /// duplicate, or waits until the key is free.
    pub(crate) fn admits(&mut self, offset: QueueOffset, key: DedupeKey) -> bool {
        let spot = Spot { queue: self.queue, offset };
        let row = self.settled.find(self.owner, &key);
        if row.is_some_and(|row| self.now < row.stored.plus_ms(self.window_ms)) {
            push_step(self.duplicates, 0, Step::of_one(self.queue, offset, Outcome::Duplicate));
            return false;
        }
        if self.claims.held.contains_key(&key) {
            self.claims.behind.entry(key).or_default().insert(spot);
            return false;
        }
        true
    }

    /// A message with this key is leased.
    pub(crate) fn claim(&mut self, offset: QueueOffset, key: DedupeKey) {
        let spot = Spot { queue: self.queue, offset };
        let other = self.claims.held.insert(key, spot);
        assert_eq!(other, None, "a key is in one hand at a time");
        self.claims.keys.insert(spot, key);
    }
}
