//! Transactions that nobody has decided on their way through a plugin: one question, one call.
//!
//! ```text
//!   AskPolicy ──► every shard: which messages ──► their records are read ──► Checking: one call
//!                                                     (readers)               (policy workers)
//!        shard of the transaction ◄── PolicyAnswered: commit, roll back, ask, wait ◄──┘
//! ```
//!
//! A plugin that is missing, rests or fails says nothing, and neither is it asked where a message
//! of the transaction cannot be read: then its producer is asked.
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use yard_abi::Message;
use yard_broker::{CheckAnswer, CheckFate, CheckQuestion, Event, PolicyAnswer};
use yard_shard::Input;
use yard_wasm::canary::Traffic;
use yard_wasm::{Ask, ColdError, Fate, Half};
use yard_wire::operation::{Arguments, TxInfo, TxMessageRow, TxReport};
use yard_wire::{RecordPlace, ShardId, Timestamp, Wire};

use super::PolicyWorker;
use super::ask::Asked;
use super::journal::Journal;
use super::pool::{Job, Next};
use super::retry::PATIENCE;
use crate::deliver;
use crate::hub::Hub;

/// Messages of a transaction that a plugin is told of: the first.
const MESSAGES_MAX: usize = 64;
/// Bytes of their properties, names included.
const PROPERTIES_BYTES_MAX: usize = 64 << 10;

/// Asks about a transaction, and gives its shard the answer.
pub(crate) fn ask(hub: &Arc<Hub>, shard: ShardId, question: CheckQuestion) {
    let hub_too = Arc::clone(hub);
    hub.runtime.spawn(async move {
        let (tenant, tx, asked) = (question.tenant, question.tx, question.asked);
        let answered = tokio::time::timeout(PATIENCE, answer(&hub_too, question)).await;
        if let (Ok(Some(fate)), Some(inbox)) = (answered, hub_too.inbox(shard)) {
            let answer = PolicyAnswer::Check(CheckAnswer { tenant, tx, asked, fate });
            inbox.put_after(tenant, Input::Event(Event::PolicyAnswered(answer)));
        }
    });
}

async fn answer(hub: &Arc<Hub>, question: CheckQuestion) -> Option<CheckFate> {
    let (policies, tenant) = (&hub.policies, question.tenant);
    let _turn = policies.check_turn(tenant).await?;
    let asked = policies.resolve_use(tenant, &question.policy).await.ok()?;
    let half = half(hub, &question).await?;
    let (to, from) = oneshot::channel();
    let journal = Arc::clone(&policies.journal);
    let job = Checking { asked, question, half, journal, to: Some(to) };
    policies.pool.put(tenant, Box::new(job));
    from.await.ok().flatten()
}

/// What the plugin is told: of all messages that are stored by now, in the order of their ids.
async fn half(hub: &Arc<Hub>, question: &CheckQuestion) -> Option<Half> {
    let CheckQuestion { tenant, tx, group, begun, checks, asked, .. } = question;
    let report = hub.ask_shards(*tenant, Arguments::TxInfo(TxInfo { id: *tx })).await.ok()?;
    let TxReport { mut messages, .. } = TxReport::from_bytes(report).ok()?;
    messages.sort_by(|one, other| one.id.cmp(&other.id));
    messages.truncate(MESSAGES_MAX);
    let records = read(hub, question, &messages).await?;
    let mut properties: Vec<(String, String)> = Vec::new();
    let mut room = PROPERTIES_BYTES_MAX;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for record in &records {
        let message = Message::parse(record).ok()?;
        for (name, value) in message.properties() {
            let Some(left) = room.checked_sub(name.len() + value.len()) else { break };
            room = left;
            properties.push((text(name), text(value)));
        }
    }
    Some(Half {
        id: tx.to_string(),
        topic: messages.first().map_or_else(String::new, |first| first.topic.clone()),
        group: group.clone(),
        age_ms: asked.0.saturating_sub(begun.0),
        checks: u32::from(*checks) + 1,
        properties,
        body: None,
    })
}

/// The records of messages, in their order; `None` where one cannot be read.
async fn read(
    hub: &Hub,
    question: &CheckQuestion,
    messages: &[TxMessageRow],
) -> Option<Vec<Bytes>> {
    let mut by_shard: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
    for (number, message) in messages.iter().enumerate() {
        by_shard.entry(message.shard).or_default().push(number);
    }
    let mut found: Vec<Option<Bytes>> = vec![None; messages.len()];
    for (shard, numbers) in by_shard {
        let log = hub.logs.get(usize::from(shard.0))?;
        let place = |number: &usize| {
            let TxMessageRow { segment, at: offset, bytes, .. } = messages[*number];
            RecordPlace { segment, offset, bytes, stored: Timestamp(0), released: false }
        };
        let places = numbers.iter().map(place).collect();
        let records = deliver::read_each(log, hub.reads(question.tenant), places).await?;
        for (number, record) in numbers.into_iter().zip(records) {
            found[number] = record;
        }
    }
    found.into_iter().collect()
}

/// A question on a worker.
struct Checking {
    asked: Asked,
    question: CheckQuestion,
    half: Half,
    journal: Arc<Journal>,
    to: Option<oneshot::Sender<Option<CheckFate>>>,
}

impl Checking {
    fn check(&self, worker: &mut PolicyWorker) -> Option<CheckFate> {
        let now_ms = crate::time::now().0;
        let (tenant, plugin) = (self.question.tenant, self.asked.plugin);
        // A transaction is decided by itself.
        let traffic = Traffic::order_group(0, &self.half.id);
        let ask = Ask { tenant, plugin, traffic, now_ms };
        let asked = worker.plugins.check(&ask, &self.asked.binding, &self.half);
        let by = self.asked.heard(worker, &self.journal, &asked, 1);
        let fault = match &asked.answer {
            Ok(_) => None,
            Err(ColdError::Fault(fault)) => Some(fault.to_string()),
            Err(ColdError::Absent | ColdError::Held { .. }) => return None,
        };
        if let Some(version) = by {
            let spent_ns = asked.usage.spent_ns;
            self.journal.called(&self.asked.whose, version, spent_ns, fault.as_deref());
        }
        asked.answer.ok().map(|fate| match fate {
            Fate::Commit => CheckFate::Commit,
            Fate::Rollback => CheckFate::Rollback,
            Fate::AskProducer => CheckFate::Ask,
            Fate::Unknown => CheckFate::Wait,
        })
    }
}

impl Job<PolicyWorker> for Checking {
    fn step(&mut self, worker: &mut PolicyWorker) -> Next {
        let is_waited_for = self.to.as_ref().is_some_and(|to| !to.is_closed());
        let fate = if is_waited_for { self.check(worker) } else { None };
        if let Some(to) = self.to.take() {
            // Whoever asked may have gone.
            let _ = to.send(fate);
        }
        Next::Done
    }
}
