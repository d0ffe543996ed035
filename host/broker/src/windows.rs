//! The keys that are remembered: dedupe keys of topics, business keys of groups. Of each owner the
//! newest, in the order of the log.
//!
//! ```text
//!   owner ─► oldest │ row │ row │ … │ row │ newest      row: key, message, stored
//!                              ▲
//!            key ─► number ────┘
//! ```
//!
//! Entries of the log say which keys are new and how many of the oldest are forgotten, so that all
//! of it follows from the log alone: neither settings nor the time are needed to read it again. A
//! row that a later one replaced, or whose message was taken back, stays in its place without
//! counting until it is the oldest.
use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};

use bytes::Bytes;
use imbl::Vector;
use yard_wire::{
    DedupeKey, Malformed, MessageId, QueueIndex, QueueOffset, TenantId, Timestamp, Wire,
};

use crate::bounds::{FORGOTTEN_MAX, SWEEP_MS, SWEEP_OWNERS_MAX};
use crate::saving::Snapshot;

/// The message of a key.
pub(crate) trait Message: Copy + Wire + Send + Sync + 'static {
    /// Whether it waits to be delivered, and may be taken back until then.
    fn is_delayed(&self) -> bool;
}

/// The message that was stored with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct First {
    pub(crate) id: MessageId,
    pub(crate) queue: QueueIndex,
    /// `None`: it is delayed.
    pub(crate) offset: Option<QueueOffset>,
}

/// `16` id, `u16` queue, offset if it has one.
impl Wire for First {
    fn put(&self, out: &mut Vec<u8>) {
        self.id.put(out);
        self.queue.put(out);
        self.offset.put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let (id, queue) = (MessageId::take(input)?, QueueIndex::take(input)?);
        Ok(Self { id, queue, offset: <Option<QueueOffset> as Wire>::take(input)? })
    }
}

impl Message for First {
    fn is_delayed(&self) -> bool {
        self.offset.is_none()
    }
}

/// A key and its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row<M> {
    pub(crate) key: DedupeKey,
    pub(crate) message: M,
    /// When the key was taken in.
    pub(crate) stored: Timestamp,
    /// Its key is not this message's any more.
    is_void: bool,
}

impl<M> Row<M> {
    pub(crate) fn new(key: DedupeKey, message: M, stored: Timestamp) -> Self {
        Self { key, message, stored, is_void: false }
    }
}

/// What is remembered of a topic, or of a group.
#[derive(Debug)]
struct Window<M> {
    tenant: TenantId,
    rows: Vector<Row<M>>,
    /// Number of the oldest row; they are numbered upwards.
    first: u64,
    /// Number of the row of each key.
    by_key: BTreeMap<DedupeKey, u64>,
    /// Rows of delayed messages.
    delayed: usize,
}

impl<M: Message> Window<M> {
    fn new(tenant: TenantId) -> Self {
        let (rows, by_key) = (Vector::new(), BTreeMap::new());
        Self { tenant, rows, first: 0, by_key, delayed: 0 }
    }

    fn push(&mut self, row: Row<M>) {
        let number = self.first + self.rows.len() as u64;
        if !row.is_void
            && let Some(before) = self.by_key.insert(row.key, number)
        {
            self.rows[(before - self.first) as usize].is_void = true;
        }
        self.delayed += usize::from(row.message.is_delayed());
        self.rows.push_back(row);
    }

    fn pop(&mut self) {
        let row = self.rows.pop_front().expect("what is forgotten was remembered");
        if !row.is_void {
            let listed = self.by_key.remove(&row.key);
            assert_eq!(listed, Some(self.first), "a key that counts is listed");
        }
        self.delayed -= usize::from(row.message.is_delayed());
        self.first += 1;
    }
}

/// Every key that a shard remembers of its topics, or of its groups.
#[derive(Debug)]
pub(crate) struct Windows<O, M> {
    owners: BTreeMap<O, Window<M>>,
    /// Rows of each tenant that has any.
    tenants: BTreeMap<TenantId, usize>,
    len: usize,
    /// When to look for keys that were remembered long enough.
    sweep_at: Option<Timestamp>,
    /// The owner that is looked at next.
    sweep_from: Option<O>,
}

impl<O: Ord, M> Default for Windows<O, M> {
    fn default() -> Self {
        let (owners, tenants) = (BTreeMap::new(), BTreeMap::new());
        Self { owners, tenants, len: 0, sweep_at: None, sweep_from: None }
    }
}

impl<O: Copy + Ord, M: Message> Windows<O, M> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn count_of(&self, tenant: TenantId) -> usize {
        self.tenants.get(&tenant).copied().unwrap_or(0)
    }

    /// How many are remembered of an owner.
    pub(crate) fn count_in(&self, owner: O) -> usize {
        self.owners.get(&owner).map_or(0, |window| window.rows.len())
    }

    /// How many of them count.
    pub(crate) fn counting_in(&self, owner: O) -> usize {
        self.owners.get(&owner).map_or(0, |window| window.by_key.len())
    }

    /// The message that has this key.
    pub(crate) fn find(&self, owner: O, key: &DedupeKey) -> Option<&Row<M>> {
        let window = self.owners.get(&owner)?;
        let number = window.by_key.get(key)?;
        let row = &window.rows[(number - window.first) as usize];
        assert!(row.key == *key && !row.is_void, "keys are listed where they are");
        Some(row)
    }

    /// Remembers a key that was not, or whose time had passed.
    pub(crate) fn remember(&mut self, tenant: TenantId, owner: O, row: Row<M>) {
        let window = self.owners.entry(owner).or_insert_with(|| Window::new(tenant));
        assert_eq!(window.tenant, tenant, "an owner is one tenant's");
        window.push(row);
        *self.tenants.entry(tenant).or_default() += 1;
        self.len += 1;
    }

    /// Forgets so many of the oldest of an owner, as far as there are so many: it may have been
    /// removed meanwhile.
    pub(crate) fn forget(&mut self, owner: O, count: u32) {
        let Some(window) = self.owners.get_mut(&owner) else { return };
        let count = window.rows.len().min(count as usize);
        (0..count).for_each(|_| window.pop());
        let (tenant, is_empty) = (window.tenant, window.rows.is_empty());
        if is_empty {
            self.owners.remove(&owner);
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

    /// Messages were taken back: their keys may be used again.
    pub(crate) fn take_back(&mut self, owner: O, is_it: impl Fn(&M) -> bool) {
        let Some(window) = self.owners.get_mut(&owner) else { return };
        let rows = window.rows.iter().zip(0..);
        let taken = rows.filter(|(row, _)| !row.is_void && is_it(&row.message));
        let taken: Vec<usize> = taken.map(|(_, at)| at).collect();
        for at in taken {
            let row = &mut window.rows[at];
            row.is_void = true;
            let listed = window.by_key.remove(&row.key);
            assert!(listed.is_some(), "a key that counts is listed");
        }
    }

    /// A delayed message was taken back.
    pub(crate) fn cancelled(&mut self, owner: O, is_it: impl Fn(&M) -> bool) {
        if self.owners.get(&owner).is_some_and(|window| window.delayed > 0) {
            self.take_back(owner, |message| message.is_delayed() && is_it(message));
        }
    }

    /// The owner was removed.
    pub(crate) fn drop_owner(&mut self, owner: O) {
        if let Some(window) = self.owners.remove(&owner) {
            self.discount(window.tenant, window.rows.len());
        }
    }

    /// When to call [`Windows::sweep`], if ever.
    pub(crate) fn sweep_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        if self.owners.is_empty() {
            self.sweep_at = None;
            return None;
        }
        Some(*self.sweep_at.get_or_insert(now.plus_ms(SWEEP_MS)))
    }

    /// Looks for keys that were taken in longer ago than `window_ms` says of their owner; of each
    /// how many of the oldest.
    pub(crate) fn sweep(
        &mut self,
        now: Timestamp,
        window_ms: impl Fn(O) -> Option<u64>,
    ) -> Vec<(O, u32)> {
        if self.sweep_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let (mut forgotten, mut room, mut looked_at) = (Vec::new(), FORGOTTEN_MAX, 0);
        let mut next = None;
        let from = self.sweep_from.map_or(Unbounded, Included);
        for (owner, window) in self.owners.range((from, Unbounded)) {
            if looked_at == SWEEP_OWNERS_MAX || room == 0 {
                next = Some(*owner);
                break;
            }
            looked_at += 1;
            // One that is not known yet at the start of a shard will be, or is gone.
            let Some(window_ms) = window_ms(*owner) else { continue };
            let is_old = |row: &&Row<M>| row.stored.plus_ms(window_ms) <= now;
            let old = window.rows.iter().take(room).take_while(is_old).count();
            room -= old;
            if old > 0 {
                forgotten.push((*owner, old as u32));
            }
        }
        self.sweep_from = next;
        self.sweep_at = Some(now.plus_ms(if next.is_some() { 1 } else { SWEEP_MS }));
        assert!(forgotten.len() <= SWEEP_OWNERS_MAX, "a sweep is bounded");
        forgotten
    }

    pub(crate) fn check(&self) {
        let rows: usize = self.owners.values().map(|window| window.rows.len()).sum();
        assert_eq!(rows, self.len, "rows are counted");
        assert_eq!(self.tenants.values().sum::<usize>(), self.len, "each is a tenant's");
        for window in self.owners.values() {
            assert!(!window.rows.is_empty(), "an owner without keys is not remembered");
            let counting = window.rows.iter().filter(|row| !row.is_void).count();
            assert_eq!(counting, window.by_key.len(), "keys that count are listed");
            let delayed = window.rows.iter().filter(|row| row.message.is_delayed()).count();
            assert_eq!(delayed, window.delayed, "delayed messages are counted");
            assert!(window.rows.iter().is_sorted_by_key(|row| row.stored), "in order of time");
        }
    }
}

/// `u32` count of owners, then of each: `u32` owner, `u32` tenant, `u32` count, then of each row,
/// the oldest first: 16 key, message, `u64` stored, whether it is void.
impl<O: Copy + Ord + Wire, M: Message> Windows<O, M> {
    pub(crate) fn save(&self, out: &mut Snapshot) {
        (self.owners.len() as u32).put(out.now());
        for (owner, window) in &self.owners {
            assert!(!window.rows.is_empty(), "an owner without keys is not remembered");
            owner.put(out.now());
            window.tenant.put(out.now());
            u32::try_from(window.rows.len()).expect("they are bounded").put(out.now());
            out.share(window.rows.len(), &window.rows, put_rows);
        }
    }

    pub(crate) fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let mut windows = Self::default();
        for _ in 0..u32::take(input)? {
            let (owner, tenant) = (O::take(input)?, TenantId::take(input)?);
            if windows.owners.contains_key(&owner) {
                return Err(Malformed::Field { what: "owner of keys", value: tenant.0.into() });
            }
            for _ in 0..u32::take(input)? {
                let (key, message) = (DedupeKey::take(input)?, M::take(input)?);
                let mut row = Row::new(key, message, Timestamp::take(input)?);
                row.is_void = bool::take(input)?;
                windows.remember(tenant, owner, row);
            }
        }
        Ok(windows)
    }
}

fn put_rows<M: Message>(rows: &Vector<Row<M>>, out: &mut Vec<u8>) {
    for row in rows {
        row.key.put(out);
        row.message.put(out);
        row.stored.put(out);
        row.is_void.put(out);
    }
}
