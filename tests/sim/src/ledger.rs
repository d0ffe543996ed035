//! What the applications of a run have recorded of their own work: what becomes of each
//! transaction follows from it, whoever is asked, and the history is judged by it.
use std::collections::BTreeMap;

use yard_checker::{Event, History, Outcome, Sent};
use yard_wire::TxId;
use yard_wire::requests::TxVerdict;

use crate::agenda::Micros;

/// What an application has recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its work goes on.
    Working,
    /// It was recorded at this time.
    Committed(Micros),
    /// It was given up.
    RolledBack,
    /// Nobody will ever say: an operator must.
    Silent,
}

/// How many transactions came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxCounts {
    /// Committed, by whoever.
    pub committed: u64,
    /// Rolled back, by whoever.
    pub rolled_back: u64,
    /// Of these, decided by an operator who found them in a list.
    pub by_operator: u64,
    /// Of these, decided by a plugin alone: nobody else would have.
    pub by_plugin: u64,
    /// Of these, left alone by a producer that died.
    pub orphaned: u64,
}

impl TxCounts {
    /// Adds those of another run.
    pub(crate) fn add(&mut self, other: Self) {
        self.committed += other.committed;
        self.rolled_back += other.rolled_back;
        self.by_operator += other.by_operator;
        self.by_plugin += other.by_plugin;
        self.orphaned += other.orphaned;
    }
}

/// What all applications have recorded.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    works: BTreeMap<TxId, Fate>,
    /// Whose they are.
    groups: BTreeMap<TxId, &'static str>,
    /// Messages of transactions, as they were sent.
    sent: Vec<(TxId, Sent)>,
    pub(crate) counts: TxCounts,
}

impl Ledger {
    /// A transaction of a group begins.
    pub(crate) fn begin(&mut self, tx: TxId, group: &'static str) {
        self.groups.insert(tx, group);
        let before = self.works.insert(tx, Fate::Working);
        assert!(before.is_none(), "a number is used once");
    }

    /// The work of a transaction comes to its end.
    pub(crate) fn record(&mut self, tx: TxId, fate: Fate) {
        let work = self.works.get_mut(&tx).expect("what ends has begun");
        let may_be = matches!(work, Fate::Working | Fate::Silent);
        assert!(may_be && fate != Fate::Working, "{tx}: {work:?}, {fate:?}");
        *work = fate;
        match fate {
            Fate::Committed(_) => self.counts.committed += 1,
            Fate::RolledBack => self.counts.rolled_back += 1,
            Fate::Working | Fate::Silent => {}
        }
    }

    /// Whose a transaction is.
    pub(crate) fn group(&self, tx: TxId) -> &'static str {
        self.groups.get(&tx).copied().unwrap_or_default()
    }

    /// What is recorded of a transaction.
    pub(crate) fn fate(&self, tx: TxId) -> Fate {
        *self.works.get(&tx).expect("only what has begun is asked about")
    }

    /// What an application answers that is asked.
    pub(crate) fn verdict(&self, tx: TxId) -> TxVerdict {
        match self.fate(tx) {
            Fate::Working | Fate::Silent => TxVerdict::Unknown,
            Fate::Committed(_) => TxVerdict::Commit,
            Fate::RolledBack => TxVerdict::Rollback,
        }
    }

    /// A message of a transaction, for the history.
    pub(crate) fn keep(&mut self, tx: TxId, sent: Sent) {
        self.sent.push((tx, sent));
    }

    /// Writes the messages down: those of what was rolled back must never be seen, the others not
    /// before the work was recorded, and then for certain.
    ///
    /// # Errors
    /// What nobody has decided.
    pub(crate) fn finish(&mut self, history: &mut History) -> Result<(), String> {
        for (tx, mut sent) in std::mem::take(&mut self.sent) {
            match self.fate(tx) {
                Fate::Committed(at) => {
                    if !matches!(sent.outcome, Outcome::Ok { .. }) {
                        return Err(format!("{tx} was committed with {:?}", sent.outcome));
                    }
                    sent.due = Some(sent.due.map_or(at, |due| due.max(at)));
                }
                Fate::RolledBack => sent.outcome = Outcome::Refused,
                Fate::Working | Fate::Silent => return Err(format!("{tx} was never decided")),
            }
            history.push(Event::Send(sent));
        }
        Ok(())
    }
}
