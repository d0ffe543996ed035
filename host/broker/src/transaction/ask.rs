//! Asking a plugin what becomes of a transaction that nobody has decided.
//!
//! ```text
//!   due ──► AskPolicy ──► PolicyAnswered: commit, roll back ──► Decided
//!              │                          wait ───────────────► Checked, looked at again
//!              │                          ask ────────────────► as without a plugin
//!              └── no answer in 5 s ──────────────────────────► as without a plugin
//! ```
//!
//! An answer counts once: what follows from it is recorded, and a question that was not answered
//! before a restart is asked anew after it. Whoever decides meanwhile is first.
use yard_wire::Timestamp;

use super::policy::{CheckAnswer, CheckFate, CheckQuestion};
use super::prepared::TxName;
use crate::bounds::{NOTICE_RETRY_MS, POLICY_ANSWER_MS_MAX};
use crate::broker::Broker;
use crate::effect::Effect;
use crate::policy::PolicyQuestion;

impl Broker {
    /// Finds out what becomes of a transaction whose time has come.
    pub(super) fn look_at_open(&mut self, name: TxName, effects: &mut Vec<Effect>) {
        let (tenant, id) = name;
        let tx = self.transactions.open.get_mut(&name).expect("the caller has it");
        assert!(tx.decided.is_none(), "nobody asks about what is decided");
        let plugin = self.meta.check_plugin(tenant, &tx.group);
        let (asked, until) = (tx.asked, tx.asked.plus_ms(POLICY_ANSWER_MS_MAX));
        let (Some(policy), Timestamp(0)) = (plugin, asked) else {
            if asked > Timestamp(0) && self.now < until {
                self.transactions.schedule(name, Some(until));
                return;
            }
            if asked > Timestamp(0) {
                yard_wire::mark!(TxUnanswered);
            }
            tx.asked = Timestamp(0);
            self.check_producer(name, effects);
            return;
        };
        tx.asked = self.now;
        let question = PolicyQuestion::Check(CheckQuestion {
            tenant,
            tx: id,
            group: tx.group.to_string(),
            note: tx.note.to_string(),
            begun: tx.begun,
            checks: tx.checks,
            policy: policy.clone(),
            asked: self.now,
        });
        effects.push(Effect::AskPolicy(Box::new(question)));
        let until = self.now.plus_ms(POLICY_ANSWER_MS_MAX);
        self.transactions.schedule(name, Some(until));
    }

    /// A plugin has decided. What it says too late, or of what was decided meanwhile, is not heard.
    pub(crate) fn check_answered(&mut self, answer: &CheckAnswer, effects: &mut Vec<Effect>) {
        let CheckAnswer { tenant, tx: id, asked, fate } = *answer;
        let name: TxName = (tenant, id);
        let Some(tx) = self.transactions.open.get_mut(&name) else {
            yard_wire::mark!(TxAnsweredDone);
            return;
        };
        let is_late = asked.plus_ms(POLICY_ANSWER_MS_MAX) < self.now;
        if tx.decided.is_some() || tx.asked != asked || asked == Timestamp(0) || is_late {
            yard_wire::mark!(TxAnsweredLate);
            return;
        }
        tx.asked = Timestamp(0);
        let (checks, group) = (tx.checks, tx.group.clone());
        // Also where what follows cannot be recorded.
        let again = self.now.plus_ms(NOTICE_RETRY_MS);
        self.transactions.schedule(name, Some(again));
        match fate {
            CheckFate::Commit => self.append_decision(name, true, None, effects),
            CheckFate::Rollback => self.append_decision(name, false, None, effects),
            CheckFate::Ask => self.check_producer(name, effects),
            CheckFate::Wait => {
                let settings = self.meta.checks(tenant, &group);
                let is_over = checks >= settings.max;
                let next = self.now.plus_ms(settings.every.0.into());
                let next = if is_over { Timestamp(0) } else { next };
                let checks = if is_over { checks } else { checks + 1 };
                Self::append_checked(name, checks, next, effects);
                if !is_over {
                    self.wake(next);
                }
            }
        }
    }
}
