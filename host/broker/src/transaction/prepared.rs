//! Prepared messages of one shard, by their transactions: parked until those are decided.
//!
//! ```text
//!   batch applied ──► arriving ──► group closed: where they lie ──► held, by transaction
//!                                                                     │ decided
//!             Entry::Release, Entry::Tx: Settled ◄── coordinator ◄────┴──► asked now and then
//! ```
//!
//! A part of the table of parked records (`timers.rs`), with the same names for them. Which
//! transactions are decided is not known here: their coordinators are asked.
use std::collections::{BTreeMap, BTreeSet};

use yard_wire::{TenantId, Timestamp, TopicId, TxId};

use crate::bounds::{ASK_AGAIN_MS, ORPHAN_ASK_MS};
use crate::timers::{Delayed, Key, count, discount};

/// A transaction; names of other tenants are other transactions.
pub(crate) type TxName = (TenantId, TxId);

/// What is held of one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    keys: BTreeSet<Key>,
    /// Messages whose place is not known yet.
    arriving: u32,
    /// Volatile: when its coordinator is asked.
    ask_at: Timestamp,
    /// Volatile: its coordinator does not know it.
    is_orphan: bool,
}

/// The prepared messages of a shard.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    records: BTreeMap<Key, (TxId, Delayed)>,
    held: BTreeMap<TxName, Held>,
    asks: BTreeSet<(Timestamp, TxName)>,
    /// How many there are, and how many of each, arriving ones included.
    len: usize,
    tenants: BTreeMap<TenantId, u64>,
    topics: BTreeMap<TopicId, u64>,
}

impl Prepared {
    /// One was appended.
    pub(crate) fn arrive(&mut self, (tenant, tx): TxName, topic: TopicId, ask_at: Timestamp) {
        self.len += 1;
        count(&mut self.tenants, tenant);
        count(&mut self.topics, topic);
        let name = (tenant, tx);
        let held = self.held.entry(name).or_insert_with(|| {
            self.asks.insert((ask_at, name));
            Held { ask_at, ..Held::default() }
        });
        held.arriving += 1;
        assert!(self.asks.contains(&(held.ask_at, name)), "its coordinator is asked some time");
    }

    /// One that had arrived lies there now.
    pub(crate) fn lie(&mut self, tx: TxId, key: Key, delayed: Delayed) {
        let held = self.held.get_mut(&(delayed.tenant, tx)).expect("what lies somewhere arrived");
        assert!(held.arriving > 0, "what lies somewhere arrived");
        held.arriving -= 1;
        let is_new = held.keys.insert(key);
        let before = self.records.insert(key, (tx, delayed));
        assert!(is_new && before.is_none(), "a place has one record");
    }

    /// One that had arrived is gone: its topic was removed.
    pub(crate) fn drop_arriving(&mut self, tx: TxId, delayed: &Delayed) {
        let name = (delayed.tenant, tx);
        let held = self.held.get_mut(&name).expect("it arrived");
        assert!(held.arriving > 0, "it arrived");
        held.arriving -= 1;
        self.discount(delayed);
        self.forget_if_empty(name);
    }

    fn discount(&mut self, delayed: &Delayed) {
        assert!(self.len > 0, "what is taken away was counted");
        self.len -= 1;
        discount(&mut self.tenants, delayed.tenant);
        discount(&mut self.topics, delayed.topic);
    }

    fn forget_if_empty(&mut self, name: TxName) {
        if self.held.get(&name).is_some_and(|held| held.keys.is_empty() && held.arriving == 0) {
            let held = self.held.remove(&name).expect("it was there just now");
            let was_listed = self.asks.remove(&(held.ask_at, name));
            assert!(was_listed, "its coordinator was asked some time");
        }
    }

    /// Takes one away.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Delayed> {
        let (tx, delayed) = self.records.remove(&key)?;
        let name = (delayed.tenant, tx);
        let held = self.held.get_mut(&name).expect("what is prepared is held");
        let was_held = held.keys.remove(&key);
        assert!(was_held, "what is prepared is held by its transaction");
        self.discount(&delayed);
        self.forget_if_empty(name);
        Some(delayed)
    }

    /// Takes all of a transaction away, in the order of their names.
    pub(crate) fn take_all(&mut self, name: TxName) -> Vec<(Key, Delayed)> {
        let keys = self.held.get(&name).map(|held| held.keys.clone()).unwrap_or_default();
        let taken = keys.into_iter().map(|key| (key, self.remove(key).expect("it is held")));
        let taken: Vec<(Key, Delayed)> = taken.collect();
        assert!(taken.is_sorted_by_key(|(key, _)| *key), "in the order of their names");
        taken
    }

    /// The one of this name, for carrying it elsewhere.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Delayed> {
        self.records.get_mut(&key).map(|(_, delayed)| delayed)
    }

    /// All of a transaction, in the order of their names; `None` where nothing is held of it, or
    /// some of it is arriving just now.
    pub(crate) fn of(&self, name: TxName) -> Option<Vec<(Key, Delayed)>> {
        let held = self.held.get(&name).filter(|held| held.arriving == 0)?;
        assert!(!held.keys.is_empty(), "something of it is held");
        Some(held.keys.iter().map(|key| (*key, self.records[key].1)).collect())
    }

    /// How many of a transaction are held.
    pub(crate) fn count_in_tx(&self, name: TxName) -> u64 {
        self.held.get(&name).map_or(0, |held| held.keys.len() as u64 + u64::from(held.arriving))
    }

    pub(crate) fn count_of(&self, tenant: TenantId) -> u64 {
        self.tenants.get(&tenant).copied().unwrap_or(0)
    }

    pub(crate) fn topics(&self) -> impl Iterator<Item = TopicId> {
        self.topics.keys().copied()
    }

    pub(crate) fn has_topic(&self, topic: TopicId) -> bool {
        self.topics.contains_key(&topic)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, TxId, &Delayed)> {
        self.records.iter().map(|(key, (tx, delayed))| (*key, *tx, delayed))
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Those whose place is known.
    pub(crate) fn lying(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn next_ask(&self) -> Option<Timestamp> {
        self.asks.first().map(|(at, _)| *at)
    }

    /// A transaction whose coordinator is to be asked now, and not again for a while.
    pub(crate) fn take_ask(&mut self, now: Timestamp) -> Option<TxName> {
        let (at, name) = self.asks.first().filter(|(at, _)| *at <= now).copied()?;
        let held = self.held.get_mut(&name).expect("what is asked about is held");
        assert_eq!(held.ask_at, at, "it is listed by when it is asked about");
        let again_ms = if held.is_orphan { ORPHAN_ASK_MS } else { ASK_AGAIN_MS };
        let again = now.plus_ms(again_ms);
        held.ask_at = again;
        self.asks.remove(&(at, name));
        self.asks.insert((again, name));
        Some(name)
    }

    /// The coordinator of a transaction does not know it.
    pub(crate) fn is_orphan_now(&mut self, name: TxName) {
        if let Some(held) = self.held.get_mut(&name) {
            held.is_orphan = true;
        }
    }

    pub(crate) fn is_orphan(&self, name: TxName) -> bool {
        self.held.get(&name).is_some_and(|held| held.is_orphan)
    }

    /// The orphans of a tenant behind a name.
    pub(crate) fn orphans(&self, from: TxName) -> impl Iterator<Item = TxId> {
        let of_tenant = self.held.range(from..).take_while(move |((it, _), _)| *it == from.0);
        of_tenant.filter(|(_, held)| held.is_orphan).map(|((_, tx), _)| *tx)
    }

    pub(crate) fn check(&self) {
        assert_eq!(self.tenants.values().sum::<u64>(), self.len() as u64, "each is counted");
        assert_eq!(self.topics.values().sum::<u64>(), self.len() as u64, "each is counted");
        let held: usize = self.held.values().map(|held| held.keys.len()).sum();
        assert_eq!(held, self.records.len(), "each is held by its transaction");
        let arriving: usize = self.held.values().map(|held| held.arriving as usize).sum();
        assert_eq!(held + arriving, self.len, "each is counted");
        assert_eq!(self.asks.len(), self.held.len(), "each transaction is asked about");
        for (name, held) in &self.held {
            assert!(self.asks.contains(&(held.ask_at, *name)), "each is asked about");
        }
    }
}
