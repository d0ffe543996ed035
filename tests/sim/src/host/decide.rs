//! A retry policy, decided natively where the server asks a plugin: when messages that failed come
//! again. Sometimes nobody answers, and the broker's own table holds.
use yard_broker::{Decision, Event, Fate, RetryAnswer, RetryQuestion};
use yard_shard::Input;

use super::Host;
use crate::base::{Base, Phase};

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
        self.give(base, shard, Input::Event(Event::PolicyAnswered(answer)));
    }
}
