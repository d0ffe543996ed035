//! The dedupe keys that are remembered: of each topic the newest, in the order of the log.
//!
//! ```text
//!   topic ─► oldest │ row │ row │ … │ row │ newest      row: key, id, queue, offset, stored
//!                              ▲
//!            key ─► number ────┘
//! ```
//!
//! Entries of the log say which keys are new and how many of the oldest are forgotten, so that all
//! of it follows from the log alone: neither the settings of topics nor the time are needed to read
//! it again. A row that a later one replaced, or whose message was cancelled, stays in its place
//! without counting until it is the oldest.
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use yard_wire::{
    DedupeKey, Malformed, MessageId, QueueIndex, QueueOffset, TenantId, Timestamp, TopicId, Wire,
};

use crate::bounds::{FORGOTTEN_MAX, SWEEP_MS, SWEEP_TOPICS_MAX};

/// The message that was stored with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) key: DedupeKey,
    pub(crate) id: MessageId,
    pub(crate) queue: QueueIndex,
    /// `None`: it is delayed.
    pub(crate) offset: Option<QueueOffset>,
    /// When it was stored.
    pub(crate) stored: Timestamp,
    /// Its key is not this message's any more.
    is_void: bool,
}

impl Row {
    pub(crate) fn new(
        (key, id): (DedupeKey, MessageId),
        queue: QueueIndex,
        offset: Option<QueueOffset>,
        stored: Timestamp,
    ) -> Self {
        Self { key, id, queue, offset, stored, is_void: false }
    }
}

/// What is remembered of a topic.
#[derive(Debug, Default)]
struct Window {
    tenant: TenantId,
    rows: VecDeque<Row>,
    /// Number of the oldest row; they are numbered upwards.
    first: u64,
    /// Number of the row of each key.
    by_key: BTreeMap<DedupeKey, u64>,
    /// Rows of delayed messages.
    delayed: usize,
}

impl Window {
    fn push(&mut self, row: Row) {
        let number = self.first + self.rows.len() as u64;
        if !row.is_void
            && let Some(before) = self.by_key.insert(row.key, number)
        {
            self.rows[(before - self.first) as usize].is_void = true;
        }
        self.delayed += usize::from(row.offset.is_none());
        self.rows.push_back(row);
    }

    fn pop(&mut self) {
        let row = self.rows.pop_front().expect("what is forgotten was remembered");
        if !row.is_void {
            let listed = self.by_key.remove(&row.key);
            assert_eq!(listed, Some(self.first), "a key that counts is listed");
        }
        self.delayed -= usize::from(row.offset.is_none());
        self.first += 1;
    }
}

/// Every dedupe key that a shard remembers.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    topics: BTreeMap<TopicId, Window>,
    /// Rows of each tenant that has any.
    tenants: BTreeMap<TenantId, usize>,
    len: usize,
    /// When to look for keys that were remembered long enough.
    sweep_at: Option<Timestamp>,
    /// The topic that is looked at next.
    sweep_from: TopicId,
}

impl Windows {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn count_of(&self, tenant: TenantId) -> usize {
        self.tenants.get(&tenant).copied().unwrap_or(0)
    }

    /// How many are remembered of a topic.
    pub(crate) fn count_in(&self, topic: TopicId) -> usize {
        self.topics.get(&topic).map_or(0, |window| window.rows.len())
    }

    /// The message of a topic that was stored with this key.
    pub(crate) fn find(&self, topic: TopicId, key: &DedupeKey) -> Option<&Row> {
        let window = self.topics.get(&topic)?;
        let number = window.by_key.get(key)?;
        let row = &window.rows[(number - window.first) as usize];
        assert!(row.key == *key && !row.is_void, "keys are listed where they are");
        Some(row)
    }

    /// Remembers a key that was not, or whose time had passed.
    pub(crate) fn remember(&mut self, tenant: TenantId, topic: TopicId, row: Row) {
        let window = self.topics.entry(topic).or_default();
        assert!(window.rows.is_empty() || window.tenant == tenant, "a topic is one tenant's");
        window.tenant = tenant;
        window.push(row);
        *self.tenants.entry(tenant).or_default() += 1;
        self.len += 1;
    }

    /// Forgets so many of the oldest of a topic, as far as there are so many: its topic may have
    /// been removed meanwhile.
    pub(crate) fn forget(&mut self, topic: TopicId, count: u32) {
        let Some(window) = self.topics.get_mut(&topic) else { return };
        let count = window.rows.len().min(count as usize);
        (0..count).for_each(|_| window.pop());
        let (tenant, is_empty) = (window.tenant, window.rows.is_empty());
        if is_empty {
            self.topics.remove(&topic);
        }
        self.discount(tenant, count);
    }

    fn discount(&mut self, tenant: TenantId, count: usize) {
        let left = self.tenants.get_mut(&tenant).expect("who has keys is counted");
        assert!(*left >= count && self.len >= count, "what is counted is there");
        *left -= count;
        self.len -= count;
        if *left == 0 {
            self.tenants.remove(&tenant);
        }
    }

    /// A delayed message was taken back: its key may be used again.
    pub(crate) fn cancelled(&mut self, topic: TopicId, id: MessageId) {
        let Some(window) = self.topics.get_mut(&topic).filter(|it| it.delayed > 0) else { return };
        let is_it = |row: &&mut Row| row.id == id && row.offset.is_none() && !row.is_void;
        if let Some(row) = window.rows.iter_mut().find(is_it) {
            row.is_void = true;
            let listed = window.by_key.remove(&row.key);
            assert!(listed.is_some(), "a key that counts is listed");
        }
    }

    /// A topic was removed.
    pub(crate) fn drop_topic(&mut self, topic: TopicId) {
        if let Some(window) = self.topics.remove(&topic) {
            self.discount(window.tenant, window.rows.len());
        }
    }

    /// When to call [`Windows::sweep`], if ever.
    pub(crate) fn sweep_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.topics.is_empty() {
            self.sweep_at = None;
            return None;
        }
        Some(*self.sweep_at.get_or_insert(now.plus_ms(SWEEP_MS)))
    }

    /// Looks for keys that were stored longer ago than `window_ms` says of their topic; of each
    /// topic how many of the oldest.
    pub(crate) fn sweep(
        &mut self,
        now: Timestamp,
        window_ms: impl Fn(TopicId) -> Option<u64>,
    ) -> Vec<(TopicId, u32)> {
        if self.sweep_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let (mut forgotten, mut room, mut looked_at) = (Vec::new(), FORGOTTEN_MAX, 0);
        let mut next = TopicId(0);
        for (topic, window) in self.topics.range(self.sweep_from..) {
            if looked_at == SWEEP_TOPICS_MAX || room == 0 {
                next = *topic;
                break;
            }
            looked_at += 1;
            // A topic that is not known yet at the start of a shard will be, or is gone.
            let Some(window_ms) = window_ms(*topic) else { continue };
            let is_old = |row: &&Row| row.stored.plus_ms(window_ms) <= now;
            let old = window.rows.iter().take(room).take_while(is_old).count();
            room -= old;
            if old > 0 {
                forgotten.push((*topic, old as u32));
            }
        }
        self.sweep_from = next;
        let goes_on = next != TopicId(0);
        self.sweep_at = Some(now.plus_ms(if goes_on { 1 } else { SWEEP_MS }));
        assert!(forgotten.len() <= SWEEP_TOPICS_MAX, "a sweep is bounded");
        forgotten
    }

    pub(crate) fn check(&self) {
        let rows: usize = self.topics.values().map(|window| window.rows.len()).sum();
        assert_eq!(rows, self.len, "rows are counted");
        assert_eq!(self.tenants.values().sum::<usize>(), self.len, "each is a tenant's");
        for window in self.topics.values() {
            assert!(!window.rows.is_empty(), "a topic without keys is not remembered");
            let counting = window.rows.iter().filter(|row| !row.is_void).count();
            assert_eq!(counting, window.by_key.len(), "keys that count are listed");
            let delayed = window.rows.iter().filter(|row| row.offset.is_none()).count();
            assert_eq!(delayed, window.delayed, "delayed messages are counted");
            assert!(window.rows.iter().is_sorted_by_key(|row| row.stored), "in order of time");
        }
    }
}

/// `u32` count of topics, then of each: `u32` topic, `u32` tenant, `u32` count, then of each row,
/// the oldest first: 16 key, 16 id, `u16` queue, offset if it has one, `u64` stored, whether it
/// is void.
impl Wire for Windows {
    fn put(&self, out: &mut Vec<u8>) {
        (self.topics.len() as u32).put(out);
        for (topic, window) in &self.topics {
            topic.put(out);
            window.tenant.put(out);
            u32::try_from(window.rows.len()).expect("they are bounded").put(out);
            for row in &window.rows {
                row.key.put(out);
                row.id.put(out);
                row.queue.put(out);
                row.offset.put(out);
                row.stored.put(out);
                row.is_void.put(out);
            }
        }
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let mut windows = Self::default();
        for _ in 0..u32::take(input)? {
            let (topic, tenant) = (TopicId::take(input)?, TenantId::take(input)?);
            if windows.topics.contains_key(&topic) {
                return Err(Malformed::Field { what: "topic of keys", value: topic.0.into() });
            }
            for _ in 0..u32::take(input)? {
                let of = (DedupeKey::take(input)?, MessageId::take(input)?);
                let queue = QueueIndex::take(input)?;
                let offset = <Option<QueueOffset> as Wire>::take(input)?;
                let mut row = Row::new(of, queue, offset, Timestamp::take(input)?);
                row.is_void = bool::take(input)?;
                windows.remember(tenant, topic, row);
            }
        }
        Ok(windows)
    }
}
