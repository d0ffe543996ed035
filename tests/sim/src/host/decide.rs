//! Policies, decided natively where the server asks a plugin: when messages that failed come again,
//! and what becomes of transactions. Sometimes nobody answers, and the broker's own rules hold.
use yard_broker::{
    CheckAnswer, CheckFate, CheckQuestion, Decision, Event, Fate, PolicyAnswer, RetryAnswer,
    RetryQuestion,
};
use yard_shard::Input;

use super::Host;
use crate::base::{Base, Phase};
use crate::ledger;
use crate::planted;

/// Once in so many questions nobody answers.
const SILENT_ONE_IN: u64 = 12;
/// The table waits for long after many attempts: of those somebody always answers.
const SILENT_ATTEMPTS_MAX: u32 = 2;

impl Host {
    /// Answers a question about messages that failed.
    pub(super) fn decide(&mut self, base: &mut Base, shard: usize, question: &RetryQuestion) {
        let is_early = |attempt: u32| attempt <= SILENT_ATTEMPTS_MAX;
        let may_be_silent = question.failures.iter().all(|failure| is_early(failure.attempt));
        let is_silent = base.phase < Phase::Drain && self.random.once_in(SILENT_ONE_IN);
        if may_be_silent && is_silent {
            return;
        }
        let decisions = question.failures.iter().map(|failure| {
            let fate = Fate::Again { delay_ms: self.random.range(1, 300) as u32 };
            Decision { offset: failure.offset, attempt: failure.attempt, fate }
        });
        let decisions: Vec<Decision> = decisions.collect();
        let (group, queue, asked) = (question.group, question.queue, question.asked);
        base.trace.mix(&[asked.0, decisions.len() as u64]);
        let answer = RetryAnswer { group, queue, asked, decisions };
        let answer = PolicyAnswer::Retry(answer);
        self.give(base, shard, Input::Event(Event::PolicyAnswered(answer)));
    }

    /// Answers a question about a transaction: by what its application has recorded, and in place
    /// of one that will never record anything.
    pub(super) fn check(&mut self, base: &mut Base, shard: usize, question: &CheckQuestion) {
        let CheckQuestion { tenant, tx, asked, .. } = *question;
        let is_silent = self.random.once_in(SILENT_ONE_IN);
        let would_wait = self.random.percent(50);
        let fate = match base.ledger.fate(tx) {
            _ if is_silent => match planted::guess(base) {
                Some(guessed) => guessed,
                None => return,
            },
            ledger::Fate::Committed(_) => CheckFate::Commit,
            ledger::Fate::RolledBack => CheckFate::Rollback,
            ledger::Fate::Working if would_wait => CheckFate::Wait,
            ledger::Fate::Working => CheckFate::Ask,
            ledger::Fate::Silent => {
                let commits = self.random.percent(50);
                let committed = ledger::Fate::Committed(base.now);
                let fate = if commits { committed } else { ledger::Fate::RolledBack };
                base.ledger.record(tx, fate);
                base.ledger.counts.by_plugin += 1;
                if commits { CheckFate::Commit } else { CheckFate::Rollback }
            }
        };
        base.trace.mix(&[asked.0, tx.number, fate as u64]);
        let answer = PolicyAnswer::Check(CheckAnswer { tenant, tx, asked, fate });
        self.give(base, shard, Input::Event(Event::PolicyAnswered(answer)));
    }
}
