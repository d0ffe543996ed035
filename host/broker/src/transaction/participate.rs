//! A shard with prepared messages: takes them in, asks what became of their transactions, and
//! carries the decisions out.
use yard_wire::batch::Batch;
use yard_wire::limits::TX_MESSAGES_MAX;
use yard_wire::record::{Flags, Record};
use yard_wire::release::{Notes, Release, Target};
use yard_wire::{TenantId, TxId};

use super::coordinate::entry;
use super::entry::{NoticeWhat, TxStep};
use super::prepared::TxName;
use crate::bounds::{PREPARED_MAX, PREPARED_OF_TENANT_MAX, TICK_TX_MAX};
use crate::broker::Broker;
use crate::effect::{Effect, Then};
use crate::entry::{Cancelled, Entry};
use crate::refusal::{BadArgument, LimitReached, ProduceError};
use crate::timers::{At, Delayed, Key};

impl Broker {
    /// The transaction of a prepared record, if it says one that there may be.
    pub(crate) fn check_tx_name(&self, record: &Record) -> Result<TxId, ProduceError> {
        assert!(record.flags().has(Flags::PREPARED), "others have none");
        let bad = |detail: &str| ProduceError::BadArgument(BadArgument(detail.to_owned()));
        let tx = record.transaction();
        let tx = tx.ok_or_else(|| bad("a prepared message does not say its transaction"))?;
        if tx.coordinator.0 >= self.config.shards {
            return Err(bad("the coordinator of the transaction is no shard of this broker"));
        }
        Ok(tx)
    }

    /// Checks the prepared records of a batch that was not stored before.
    pub(crate) fn check_prepared(
        &self,
        tenant: TenantId,
        batch: &Batch,
    ) -> Result<(), ProduceError> {
        let mut added: Vec<(TxId, u64)> = Vec::new();
        for (_, record) in batch.parked().filter(|(_, it)| it.flags().has(Flags::PREPARED)) {
            let tx = self.check_tx_name(&record)?;
            match added.iter_mut().find(|(other, _)| *other == tx) {
                Some((_, count)) => *count += 1,
                None => added.push((tx, 1)),
            }
        }
        let count: u64 = added.iter().map(|(_, count)| count).sum();
        for (tx, count) in &added {
            let name = (tenant, *tx);
            if self.is_unknown_here(name) {
                return Err(ProduceError::UnknownTransaction(*tx));
            }
            if self.timers.prepared.count_in_tx(name) + count > TX_MESSAGES_MAX as u64 {
                return Err(ProduceError::TransactionTooLarge(*tx));
            }
        }
        let prepared = &self.timers.prepared;
        let limits = [
            (prepared.count_of(tenant), PREPARED_OF_TENANT_MAX),
            (prepared.len() as u64, PREPARED_MAX),
        ];
        match limits.into_iter().find(|(held, max)| held + count > *max) {
            Some((_, max)) if count > 0 => {
                let what = "prepared messages that wait in a shard";
                Err(ProduceError::LimitReached(LimitReached { what, max: max as usize }))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Asks the coordinators of what has waited here for long.
    pub(super) fn ask_coordinators(&mut self, effects: &mut Vec<Effect>) {
        for _ in 0..TICK_TX_MAX {
            let Some(name) = self.timers.prepared.take_ask(self.now) else { break };
            yard_wire::mark!(TxAsksCoordinator);
            let (to, notice) = (name.1.coordinator, self.notice(name, NoticeWhat::Asked));
            effects.push(Effect::Notify { to, notice });
        }
    }

    /// A transaction is decided. Where that cannot be carried out now, it is told again.
    pub(super) fn carry_out(&mut self, name: TxName, commit: bool, effects: &mut Vec<Effect>) {
        let (to, notice) = (name.1.coordinator, self.notice(name, NoticeWhat::Settled));
        if self.timers.prepared.count_in_tx(name) == 0 {
            yard_wire::mark!(TxCarriedOutBefore);
            // Perhaps not any more, by an entry that is not durable yet.
            effects.push(Effect::Notify { to, notice });
            return;
        }
        if let Some(entry) = self.settlement(name, commit) {
            effects.push(Effect::Append { entry, then: vec![Then::Notify { to, notice }] });
            // What is delayed may be due.
            self.wake(self.now);
        }
    }

    /// The entry that carries out a decision here; `None` where nothing waits, some of it is
    /// arriving just now, or its topics are not known yet.
    pub(super) fn settlement(&self, name: TxName, commit: bool) -> Option<Entry> {
        let (tenant, tx) = name;
        let records = self.timers.prepared.of(name)?;
        if records.iter().any(|(_, it)| self.meta.topic(it.topic).is_none()) {
            yard_wire::mark!(TxTopicUnknown);
            return None;
        }
        let is_due = |(key, _): &&(Key, Delayed)| key.0 <= self.now;
        let mut due: Vec<&(Key, Delayed)> = records.iter().filter(is_due).collect();
        if !commit || due.is_empty() {
            return Some(entry(name, TxStep::Settled { commit }));
        }
        assert!(due.len() <= TX_MESSAGES_MAX, "one entry makes them visible together");
        assert!(due.iter().all(|(_, it)| it.tenant == tenant), "a transaction is one tenant's");
        // Runs of one queue; in each, the order of the log.
        due.sort_by_key(|(_, it)| (it.topic, it.queue));
        let release = |(_, it): &&(Key, Delayed)| {
            let (At { segment, offset }, bytes) = (it.lies, it.bytes);
            let target = Target { segment, offset, bytes, released: false };
            Release::new(target, (it.topic, it.queue), Notes::default())
        };
        let named = |((due, At { segment, offset }), _): &&(Key, Delayed)| Cancelled {
            due: *due,
            segment: *segment,
            offset: *offset,
        };
        let items = due.iter().map(release).collect();
        let dues = due.iter().map(named).collect();
        Some(Entry::Release { tenant, items, settle: None, dues, tx: Some(tx) })
    }
}
