//! Messages that failed on their way through a retry plugin: one question, one call a turn.
//!
//! ```text
//!   AskPolicy ──► records are read ──► Retrying: a call a turn ──► PolicyAnswered
//!                     (readers)          (policy workers)            (writer)
//! ```
//!
//! What is not answered is left out of the answer, and goes by the broker's own table: a message
//! that cannot be read, a plugin that is missing, rests or fails, a tenant with too many questions.
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use yard_abi::Message;
use yard_broker::{Decision, Event, Failure, Fate, PolicyAnswer, RetryAnswer, RetryQuestion};
use yard_shard::Input;
use yard_wasm::{Ask, Attempt, ColdError, Next as Said};
use yard_wire::ShardId;
use yard_wire::limits::{ERROR_TEXT_BYTES_MAX, RETRY_DELAY_MS_MAX};

use super::PolicyWorker;
use super::ask::Asked;
use super::journal::Journal;
use super::pool::{Job, Next};
use super::sides::{QueueOf, Sides};
use crate::deliver;
use crate::hub::Hub;

/// Nobody waits for an answer longer: the broker does not take it any more.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Asks about messages that failed, and gives the shard the answer.
pub(crate) fn ask(hub: &Arc<Hub>, shard: ShardId, question: RetryQuestion) {
    let hub_too = Arc::clone(hub);
    hub.runtime.spawn(async move {
        let (tenant, group, queue) = (question.tenant, question.group, question.queue);
        let asked = question.asked;
        let answered = tokio::time::timeout(PATIENCE, answer(&hub_too, shard, question)).await;
        let decisions = answered.ok().flatten().unwrap_or_default();
        if let Some(inbox) = hub_too.inbox(shard).filter(|_| !decisions.is_empty()) {
            let answer = RetryAnswer { group, queue, asked, decisions };
            let event = Event::PolicyAnswered(PolicyAnswer::Retry(answer));
            inbox.put_after(tenant, Input::Event(event));
        }
    });
}

async fn answer(hub: &Hub, shard: ShardId, question: RetryQuestion) -> Option<Vec<Decision>> {
    let policies = &hub.policies;
    let _turn = policies.retry_turn(question.tenant)?;
    let asked = policies.resolve_use(question.tenant, &question.policy).await.ok()?;
    let log = hub.logs.get(usize::from(shard.0))?;
    let places = question.failures.iter().map(|failure| failure.place).collect();
    let records = deliver::read_each(log, hub.reads(question.tenant), places).await?;
    let found = question.failures.iter().cloned().zip(records);
    let left: VecDeque<_> = found.filter_map(|(it, record)| Some((it, record?))).collect();
    let (to, from) = oneshot::channel();
    let (journal, decisions) = (Arc::clone(&policies.journal), Vec::new());
    let job = Retrying { asked, question, left, journal, decisions, to: Some(to) };
    policies.pool.put(job.question.tenant, Box::new(job));
    from.await.ok()
}

/// A question on a worker.
struct Retrying {
    asked: Asked,
    question: RetryQuestion,
    /// Messages that were not asked about yet, with their records.
    left: VecDeque<(Failure, Bytes)>,
    journal: Arc<Journal>,
    decisions: Vec<Decision>,
    to: Option<oneshot::Sender<Vec<Decision>>>,
}

impl Retrying {
    /// What the plugin is told of the next message.
    fn attempt(&self, failure: &Failure, record: &[u8]) -> Option<Attempt> {
        let message = Message::parse(record).ok()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let properties = message.properties().map(|(name, value)| (text(name), text(value)));
        let age_ms = self.question.asked.0.saturating_sub(failure.place.stored.0);
        Some(Attempt {
            count: failure.attempt,
            max: self.question.attempts_max,
            age_ms,
            topic: self.question.topic_name.clone(),
            group: self.question.group_name.clone(),
            reason: failure.reason.clone(),
            last_delay_ms: failure.last_delay_ms,
            properties: properties.collect(),
        })
    }

    fn fate(said: Said, failure: &Failure) -> Fate {
        match said {
            Said::DelayMs(ms) => {
                let most = u64::from(RETRY_DELAY_MS_MAX);
                let delay_ms = u32::try_from(ms.min(most)).expect("the longest delay has 32 bits");
                Fate::Again { delay_ms }
            }
            Said::DeadLetter(mut reason) => {
                reason.truncate(reason.floor_char_boundary(ERROR_TEXT_BYTES_MAX));
                Fate::Dead { reason }
            }
            Said::Drop => Fate::Dropped,
            Said::ToTopic(topic) => Fate::Moved { topic, place: failure.place },
        }
    }

    fn finish(&mut self) -> Next {
        if let Some(to) = self.to.take() {
            // Whoever asked may have gone.
            let _ = to.send(std::mem::take(&mut self.decisions));
        }
        Next::Done
    }

    /// Asks about one message; whether to go on with the others.
    fn decide(
        &mut self,
        worker: &mut PolicyWorker,
        (failure, record): (&Failure, &[u8]),
        attempt: &Attempt,
    ) -> bool {
        let now = crate::time::now();
        let RetryQuestion { tenant, topic, queue, queues, .. } = self.question;
        let plugin = self.asked.plugin;
        let sides = Sides::of(&mut worker.plugins, plugin);
        let traffic = sides.traffic(QueueOf { topic, queue: queue.0, queues }, record);
        let ask = Ask { tenant, plugin, traffic, now_ms: now.0 };
        let asked = worker.plugins.decide(&ask, &self.asked.binding, attempt);
        let by = self.asked.heard(worker, &self.journal, &asked, 1);
        let fault = match &asked.answer {
            Ok(_) => None,
            Err(ColdError::Fault(fault)) => Some(fault.to_string()),
            Err(ColdError::Absent | ColdError::Held { .. }) => return false,
        };
        if let Some(version) = by {
            let spent_ns = asked.usage.spent_ns;
            self.journal.called(&self.asked.whose, version, spent_ns, fault.as_deref());
        }
        if let Ok(said) = asked.answer {
            let (offset, attempt, fate) =
                (failure.offset, failure.attempt, Self::fate(said, failure));
            self.decisions.push(Decision { offset, attempt, fate });
        }
        true
    }
}

impl Job<PolicyWorker> for Retrying {
    fn step(&mut self, worker: &mut PolicyWorker) -> Next {
        if self.to.as_ref().is_none_or(oneshot::Sender::is_closed) {
            return self.finish();
        }
        let Some((failure, record)) = self.left.pop_front() else { return self.finish() };
        let attempt = self.attempt(&failure, &record);
        let goes_on =
            attempt.is_none_or(|attempt| self.decide(worker, (&failure, &record), &attempt));
        if goes_on && !self.left.is_empty() { Next::Again } else { self.finish() }
    }
}
