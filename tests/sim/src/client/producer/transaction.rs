//! What a producer does in transactions: one at a time, beside what it sends otherwise.
use std::collections::BTreeSet;

use yard_wire::request::{Reply, Request};
use yard_wire::requests::{JoinProducers, TxBegin, TxCheck, TxDecide, TxVerdict};
use yard_wire::{Code, Correlation, Epoch, ProducerId, Refusal, ShardId, TxId};

use super::Producer;
use crate::agenda::{MS, Micros};
use crate::base::{Base, Phase};
use crate::ledger::Fate;
use crate::random::Random;

/// The groups of producers.
const TX_GROUPS: [&str; 3] = ["payments", "refunds", "orders"];
/// Of 100 transactions, those that somebody of another group tries to decide.
const FOREIGN_PERCENT: u64 = 30;
/// Messages of a transaction at most.
const MESSAGES_MAX: u64 = 12;
/// An answer that does not come is asked for again after this.
const PATIENCE: Micros = 700 * MS;

/// The name of a group of producers.
#[must_use]
pub(crate) fn tx_group(number: u64) -> &'static str {
    TX_GROUPS[number as usize]
}

/// An open transaction.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) tx: TxId,
    step: Step,
    asked: Option<Correlation>,
    /// When to ask again.
    pub(super) ask_at: Option<Micros>,
    messages: u64,
    /// Messages without an answer.
    unanswered: BTreeSet<u64>,
    failed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Beginning,
    Sending,
    Deciding(TxVerdict),
}

impl Producer {
    /// Begins a transaction, now and then, instead of sending at once. Whether it did.
    pub(super) fn may_begin(&mut self, base: &mut Base) -> bool {
        let percent = self.plan.transactional;
        if percent == 0 || self.open.is_some() || !self.random.percent(percent) {
            return false;
        }
        let messages = self.random.range(1, MESSAGES_MAX).min(self.left);
        self.left -= messages;
        let coordinator = ShardId(self.random.below(u64::from(base.plan.shards)) as u16);
        let (producer, number) = (ProducerId(self.tx_producer), self.next_tx);
        self.next_tx += 1;
        let tx = TxId { coordinator, producer, epoch: Epoch(0), number };
        base.ledger.begin(tx, tx_group(self.plan.tx_group));
        self.open = Some(Open {
            tx,
            step: Step::Beginning,
            asked: None,
            ask_at: None,
            messages,
            unanswered: BTreeSet::new(),
            failed: false,
        });
        self.ask(base);
        true
    }

    /// Whoever is connected anew says that it can be asked, and asks again itself.
    pub(super) fn join(&mut self, base: &mut Base) {
        if self.plan.transactional == 0 {
            return;
        }
        for shard in (0..base.plan.shards).map(ShardId) {
            let join = JoinProducers { shard, group: tx_group(self.plan.tx_group).to_owned() };
            self.link.request(base, 0, Request::JoinProducers(join));
        }
        self.ask(base);
    }

    /// Asks for what comes next, again where there was no answer in time.
    pub(super) fn ask(&mut self, base: &mut Base) {
        let Some(open) = &mut self.open else { return };
        let group = tx_group(self.plan.tx_group).to_owned();
        let request = match open.step {
            Step::Beginning => {
                let note = format!("work {}", open.tx.number);
                Request::TxBegin(TxBegin { tx: open.tx, group, note })
            }
            Step::Sending => return,
            Step::Deciding(verdict) => {
                Request::TxDecide(TxDecide { tx: open.tx, group, verdict, check: 0 })
            }
        };
        open.asked = self.link.request(base, 1, request);
        open.ask_at = Some(base.now + PATIENCE);
    }

    /// What is due to be asked again is.
    pub(super) fn ask_again(&mut self, base: &mut Base) {
        let at = self.open.as_ref().and_then(|open| open.ask_at);
        if at.is_some_and(|at| at <= base.now) {
            self.ask(base);
        }
    }

    /// An answer to what the transaction asked; `None` where it asked nothing of the kind.
    pub(super) fn answered(
        &mut self,
        base: &mut Base,
        correlation: Correlation,
        result: &Result<Reply, Refusal>,
    ) -> Option<()> {
        let open = self.open.as_mut().filter(|open| open.asked == Some(correlation))?;
        open.asked = None;
        let codes = [Code::LogFenced, Code::DiskFull, Code::Busy];
        match result {
            Ok(Reply::TxBegin(_)) if open.step == Step::Beginning => {
                (open.step, open.ask_at) = (Step::Sending, None);
                let (tx, messages) = (open.tx, open.messages);
                self.meddle(base, tx);
                for _ in 0..messages {
                    let number = self.write(base, Some(tx));
                    let open = self.open.as_mut().expect("it is open while it sends");
                    open.unanswered.insert(number);
                }
                self.pump(base);
            }
            Ok(Reply::TxDecide(_)) if matches!(open.step, Step::Deciding(_)) => {
                self.open = None;
            }
            // What came of it nobody knows: it is asked again.
            Err(refusal) if codes.contains(&refusal.code) => {}
            other => {
                let tx = open.tx;
                base.fail(|| format!("{tx} was answered {other:?}"));
            }
        }
        Some(())
    }

    /// A message has its answer; `is_stored` says whether it is a good one.
    pub(super) fn prepared(&mut self, base: &mut Base, number: u64, is_stored: bool) {
        let Some(open) = &mut self.open else { return };
        if !open.unanswered.remove(&number) {
            return;
        }
        open.failed |= !is_stored;
        if open.unanswered.is_empty() {
            self.decide(base);
        }
    }

    /// All is sent: the local work is done, or is not, and sometimes its process with it.
    fn decide(&mut self, base: &mut Base) {
        let open = self.open.as_ref().expect("somebody decides about what is open");
        let (tx, failed) = (open.tx, open.failed);
        let may_die = base.phase == Phase::Storm;
        let chance = if failed { 99 } else { self.random.below(95) };
        let (fate, dies) = match chance {
            0..65 => (Fate::Committed(base.now), false),
            65..80 => (Fate::RolledBack, false),
            80..85 => (Fate::Committed(base.now), may_die),
            85..90 => (Fate::RolledBack, may_die),
            90..95 => (Fate::Silent, false),
            _ => (Fate::RolledBack, false),
        };
        base.ledger.record(tx, fate);
        if dies {
            base.ledger.counts.orphaned += 1;
            self.dies = true;
            return;
        }
        let open = self.open.as_mut().expect("it was open just now");
        match fate {
            Fate::Committed(_) => open.step = Step::Deciding(TxVerdict::Commit),
            Fate::RolledBack => open.step = Step::Deciding(TxVerdict::Rollback),
            Fate::Silent | Fate::Working => self.open = None,
        }
        self.ask(base);
    }

    /// Its process ends: work that was not recorded was not done.
    pub(super) fn abandon(&mut self, base: &mut Base) {
        if let Some(open) = self.open.take()
            && base.ledger.fate(open.tx) == Fate::Working
        {
            base.ledger.counts.orphaned += 1;
            base.ledger.record(open.tx, Fate::RolledBack);
        }
        self.tx_producer = self.random.word();
        self.next_tx = 0;
    }

    /// Somebody of another group tries to decide about a transaction, now and then. What else is
    /// drawn does not depend on it.
    fn meddle(&mut self, base: &mut Base, tx: TxId) {
        let groups = base.plan.tx_groups;
        let mut random = Random::new(self.tx_producer ^ tx.number << 32 ^ 0x464f_5245_4947_4e2e);
        if groups < 2 || !random.percent(FOREIGN_PERCENT) {
            return;
        }
        let other = (self.plan.tx_group + random.range(1, groups - 1)) % groups;
        let verdict = random.pick(&[TxVerdict::Commit, TxVerdict::Rollback]);
        let group = tx_group(other).to_owned();
        let request = Request::TxDecide(TxDecide { tx, group, verdict, check: 0 });
        if let Some(correlation) = self.link.request(base, 1, request) {
            self.foreign.insert(correlation, (tx, verdict));
        }
    }

    /// Nobody of another group decides: who is told that it is done says what had been decided.
    pub(super) fn meddled(
        base: &mut Base,
        (tx, verdict): (TxId, TxVerdict),
        result: &Result<Reply, Refusal>,
    ) {
        let is_so = base.ledger.verdict(tx) == verdict;
        let codes = [Code::LogFenced, Code::DiskFull, Code::Busy];
        match result {
            Ok(_) if is_so => {}
            Err(refusal) if refusal.code == Code::ForeignTransaction => {}
            // It is over, or what the broker knew of it is gone.
            Err(refusal) if refusal.code == Code::TransactionFinished && !is_so => {}
            Err(refusal) if codes.contains(&refusal.code) => {}
            other => base.fail(|| format!("{tx}, of another group, was decided: {other:?}")),
        }
    }

    /// The broker asks about a transaction of somebody of the group.
    pub(super) fn checked(&mut self, base: &mut Base, check: TxCheck) {
        let own = tx_group(self.plan.tx_group);
        if check.group != own || base.ledger.group(check.tx) != own {
            return base.fail(|| format!("a producer of {own} is asked about {check:?}"));
        }
        let verdict = base.ledger.verdict(check.tx);
        let TxCheck { tx, group, check, .. } = check;
        let decide = TxDecide { tx, group, verdict, check };
        self.link.request(base, 1, Request::TxDecide(decide));
    }
}
