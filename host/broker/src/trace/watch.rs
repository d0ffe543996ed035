//! What the effects of an event do to sampled messages.
use std::collections::BTreeMap;

use yard_wire::batch::Batch;
use yard_wire::record::Flags;
use yard_wire::request::Request;
use yard_wire::requests::Placed;
use yard_wire::{MessageId, QueueIndex, QueueOffset, SubscriptionId, TenantId, Timestamp, TopicId};

use super::Place;
use super::note::Note;
use crate::bounds::TRACE_RANGE_MAX;
use crate::broker::Broker;
use crate::effect::{DeliverItem, Effect};
use crate::entry::{Cancelled, Doom, Entry, GroupId, Outcome, Progress, Step};
use crate::event::{Applied, Event};
use crate::judged::shown;
use crate::policy::{PolicyQuestion, RetryQuestion};
use crate::timers::{At, Known};
use crate::transaction::prepared::TxName;
use crate::transaction::{TxEntry, TxStep};

/// Why messages come back: what the event is, as far as that matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Cause {
    #[default]
    Other,
    /// A consumer has said something.
    Consumer,
    /// Time has passed.
    Time,
    /// A retry plugin has decided.
    Plugin,
    /// A subscription has ended.
    Leaving,
    /// An operator has decided.
    Operator,
}

impl Cause {
    pub(super) fn of(event: &Event) -> Self {
        match event {
            Event::Request { request: Request::Settle(_), .. } => Self::Consumer,
            Event::Request { request: Request::Call(_), .. } => Self::Operator,
            Event::Request { request: Request::Unsubscribe(_) | Request::MoveGroup(_), .. }
            | Event::SessionClosed(_) => Self::Leaving,
            Event::Tick => Self::Time,
            Event::PolicyAnswered(_) => Self::Plugin,
            _ => Self::Other,
        }
    }

    /// The event of a message that comes again.
    fn returned(self) -> &'static str {
        match self {
            Self::Consumer => "nacked",
            Self::Time => "lease-ended",
            Self::Plugin => "retry-decided",
            Self::Operator => "unblocked",
            Self::Leaving | Self::Other => "given-back",
        }
    }
}

/// What happened to messages, and which delivery it is about.
struct Told {
    event: &'static str,
    attempt: u32,
    detail: String,
}

impl Told {
    fn of(event: &'static str, attempt: u32, detail: impl Into<String>) -> Self {
        Self { event, attempt, detail: detail.into() }
    }
}

/// Gives the records of a batch their offsets, as the log gave them.
#[derive(Default)]
struct Counting(BTreeMap<(TopicId, QueueIndex), u64>);

impl Counting {
    fn next(&mut self, placed: &[Placed], of: (TopicId, QueueIndex)) -> Option<QueueOffset> {
        let its = placed.iter().find(|it| (it.topic, it.queue) == of)?;
        let nth = self.0.entry(of).or_default();
        *nth += 1;
        (*nth <= u64::from(its.count)).then(|| QueueOffset(its.first.0 + *nth - 1))
    }
}

impl Broker {
    pub(super) fn watch(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Deliver { subscription, topic, queue, items, asking, .. } => {
                    let wants = asking.as_ref().map(|asking| shown(Some(&*asking.filter)));
                    self.watch_delivery(*subscription, (*topic, *queue), items, wants);
                }
                Effect::Append { entry, .. } => self.watch_entry(entry),
                Effect::AskPolicy(question) => match &**question {
                    PolicyQuestion::Retry(question) => self.watch_question(question),
                    // It is about a transaction, not about messages.
                    PolicyQuestion::Check(_) => {}
                },
                _ => {}
            }
        }
    }

    fn watch_entry(&mut self, entry: &Entry) {
        match entry {
            Entry::Progress { progress, .. } => self.watch_progress(progress),
            Entry::Settled { settled, .. } => self.watch_progress(&settled.progress),
            Entry::Release { settle: Some(progress), .. } => self.watch_progress(progress),
            Entry::Cancel { tenant, cancelled } => self.watch_cancel(*tenant, cancelled),
            Entry::Tx {
                tenant,
                entry: TxEntry { tx, step: TxStep::Settled { commit: false } },
            } => {
                self.watch_rollback((*tenant, *tx));
            }
            _ => {}
        }
    }

    /// Messages are on their way to a member of a group.
    fn watch_delivery(
        &mut self,
        subscription: SubscriptionId,
        (topic, queue): (TopicId, QueueIndex),
        items: &[DeliverItem],
        wants: Option<String>,
    ) {
        assert!(!items.is_empty(), "a delivery delivers something");
        let Some((_, id)) = self.subscriptions.get(&subscription) else { return };
        if !self.traces.is_traced(topic) {
            return;
        }
        let group = self.groups.get(*id).expect("a subscription's group exists");
        let live = group.live.as_ref().expect("a group with a member is live");
        let name = &live.members[&subscription].name;
        let (event, detail) = match wants {
            Some(wants) => ("offered", format!("to {name}, if {wants} wants it")),
            None => ("delivered", format!("to {name}")),
        };
        let (id, tenant) = (*id, group.tenant);
        for DeliverItem { offset, attempt, .. } in items {
            let told = Told::of(event, *attempt, detail.as_str());
            self.tell_range((tenant, topic, Some(id)), queue, (*offset, *offset), &told);
        }
    }

    /// Messages were settled, or come back.
    fn watch_progress(&mut self, progress: &Progress) {
        let Some(group) = self.groups.get(progress.group) else { return };
        let of = (group.tenant, group.topic, Some(progress.group));
        if !self.traces.is_traced(group.topic) {
            return;
        }
        let filter = group.live.as_ref().and_then(|live| live.filter.clone());
        let wants = shown(filter.as_deref());
        for Step { queue, from, to, outcome } in &progress.steps {
            assert!(from < to, "a step is about messages");
            let last = QueueOffset(to.0 - 1);
            for told in self.told(*outcome, &progress.errors, &wants) {
                self.tell_range(of, *queue, (*from, last), &told);
            }
        }
    }

    /// A plugin is asked about messages that failed.
    fn watch_question(&mut self, question: &RetryQuestion) {
        let RetryQuestion { tenant, group, topic, queue, policy, failures, .. } = question;
        assert!(!failures.is_empty(), "somebody is asked about something");
        for failure in failures {
            let told = Told::of("retry-asked", failure.attempt, format!("of {policy}"));
            let of = (*tenant, *topic, Some(*group));
            self.tell_range(of, *queue, (failure.offset, failure.offset), &told);
        }
    }

    /// A delayed message is taken back.
    fn watch_cancel(&mut self, tenant: TenantId, cancelled: &Cancelled) {
        if let Some(delayed) = self.timers.at((cancelled.due, At::from(cancelled))) {
            let (topic, queue, id) = (delayed.topic, delayed.queue, delayed.id);
            let told = Told::of("cancelled", 0, "before it was due");
            self.tell_id(tenant, (topic, queue), id, &told);
        }
    }

    /// Prepared messages are dropped.
    fn watch_rollback(&mut self, name: TxName) {
        for (_, delayed) in self.timers.prepared.of(name).unwrap_or_default() {
            let told = Told::of("rolled-back", 0, format!("with transaction {}", name.1));
            self.tell_id(name.0, (delayed.topic, delayed.queue), delayed.id, &told);
        }
    }

    /// Notes something of the sampled messages of a range, its last included.
    fn tell_range(
        &mut self,
        (tenant, topic, group): (TenantId, TopicId, Option<GroupId>),
        queue: QueueIndex,
        (from, last): (QueueOffset, QueueOffset),
        told: &Told,
    ) {
        assert!(from <= last, "a range has messages");
        assert!(from <= last, "a range has messages");
        if last.0 - from.0 >= TRACE_RANGE_MAX {
            return;
        }
        for offset in (from.0..=last.0).map(QueueOffset) {
            if self.traces.holds((topic, queue, offset)) {
                self.tell(tenant, (topic, queue), (Some(offset), None, group), told);
            }
        }
    }

    /// Notes something of a message that has no place, if it is sampled.
    fn tell_id(&mut self, tenant: TenantId, of: (TopicId, QueueIndex), id: MessageId, told: &Told) {
        if self.traces.holds_id(of.0, id) {
            self.tell(tenant, of, (None, Some(id), None), told);
        }
    }

    fn tell(
        &mut self,
        tenant: TenantId,
        (topic, queue): (TopicId, QueueIndex),
        (offset, id, group): (Option<QueueOffset>, Option<MessageId>, Option<GroupId>),
        told: &Told,
    ) {
        let group = group.and_then(|id| self.groups.get(id));
        let note = Note {
            at: self.now,
            event: told.event,
            topic,
            topic_name: self.topic_name(topic),
            queue,
            offset,
            id,
            group: group.map_or_else(String::new, |group| group.name.clone()),
            attempt: told.attempt,
            detail: told.detail.clone(),
        };
        self.traces.note(tenant, note);
    }

    /// What becomes of messages by a step, as events. A dead letter says itself that it is one.
    fn told(&self, outcome: Outcome, errors: &[String], wants: &str) -> Vec<Told> {
        let text = |error: u32| {
            let at = (error as usize).checked_sub(1);
            at.and_then(|at| errors.get(at)).map_or("", String::as_str)
        };
        let cause = self.traces.cause;
        match outcome {
            Outcome::Acked => vec![Told::of("acked", 0, "")],
            Outcome::Duplicate => vec![Told::of("duplicate", 0, "the group has acked its like")],
            Outcome::Dead => Vec::new(),
            Outcome::Forwarded => {
                vec![Told::of("forwarded", 0, "to the topic that the group drains to")]
            }
            Outcome::Expired => vec![Told::of("expired", 0, "before anybody handled it")],
            Outcome::Dropped => vec![Told::of("dropped", 0, "by the retry plugin")],
            Outcome::Trimmed => vec![Told::of("lost", 0, "the log does not hold it any more")],
            Outcome::Filtered => vec![Told::of("filtered", 0, format!("by {wants}"))],
            Outcome::Returned { attempts, due, error, .. } => {
                let again = format!("{}; {}", text(error), self.again(due));
                let detail = again.trim_start_matches("; ");
                vec![Told::of(cause.returned(), attempts, detail)]
            }
            Outcome::Doomed { attempts, reason, error, .. } => {
                given_up(("given-up", cause), (attempts, reason), text(error))
            }
            Outcome::Stopped { attempts, reason, error, .. } => {
                given_up(("stopped", cause), (attempts, reason), text(error))
            }
        }
    }

    /// When a message comes again, for people.
    pub(super) fn again(&self, due: Timestamp) -> String {
        match due.0.saturating_sub(self.now.0) {
            0 => "comes again at once".to_owned(),
            ms => format!("comes again in {ms} ms"),
        }
    }

    /// Records of a batch were stored, or wait for something. What the log says when it is read
    /// again was noted then.
    pub(crate) fn note_stored(&mut self, tenant: TenantId, batch: &Batch, applied: &Applied) {
        let is_read_again = self.events == 0;
        if self.traces.shares.is_empty() || is_read_again {
            return;
        }
        if !batch.runs().iter().any(|run| self.traces.is_traced(run.topic)) {
            return;
        }
        let mut counting = Counting::default();
        let producer = batch.header().producer;
        for record in batch.records() {
            let (topic, queue, id) = (record.topic(), record.queue(), record.id());
            if record.flags().is_parked() {
                let is_prepared = record.flags().has(Flags::PREPARED);
                let event = if is_prepared { "prepared" } else { "waiting" };
                let told = Told::of(event, 0, format!("from producer {producer}"));
                self.tell_id(tenant, (topic, queue), id, &told);
                continue;
            }
            let Some(offset) = counting.next(&applied.placed, (topic, queue)) else { continue };
            let place: Place = (topic, queue, offset);
            if self.traces.holds(place) {
                let told = Told::of("accepted", 0, format!("from producer {producer}"));
                self.tell(tenant, (topic, queue), (Some(offset), Some(id), None), &told);
            }
        }
    }

    /// A message that waits for its instant, or for its transaction: where, and for what.
    pub(super) fn parked(
        &self,
        tenant: TenantId,
        id: MessageId,
    ) -> Option<(TopicId, QueueIndex, &'static str, String)> {
        let now = self.now;
        let held = || {
            let all = self.timers.prepared.iter().take(crate::bounds::TX_SCAN_MAX);
            let mut its = all.filter(|(.., it)| it.id == id && it.tenant == tenant);
            its.next().map(|(_, tx, it)| {
                (it.topic, it.queue, "prepared", format!("transaction {tx} is open"))
            })
        };
        match self.timers.find(tenant, id) {
            Some(Known::Waiting((due, _), it)) => {
                let ms = due.0.saturating_sub(now.0);
                Some((it.topic, it.queue, "waiting", format!("due in {ms} ms")))
            }
            // It is told of when its group of the log is closed.
            Some(Known::Arriving) | None => held(),
        }
    }
}

/// A message does not come again by itself. The last thing that a consumer said of it is one event,
/// what follows from it another.
fn given_up(
    (event, cause): (&'static str, Cause),
    (attempts, reason): (u32, Doom),
    text: &str,
) -> Vec<Told> {
    let mut told = Vec::new();
    match (reason, cause) {
        (Doom::Failed, Cause::Consumer) => told.push(Told::of("nacked", attempts, text)),
        (Doom::Rejected, Cause::Consumer) => told.push(Told::of("rejected", attempts, text)),
        (Doom::LeaseEnded, Cause::Time) => told.push(Told::of("lease-ended", attempts, "")),
        (..) => {
            let why =
                if text.is_empty() { reason.to_string() } else { format!("{reason}: {text}") };
            return vec![Told::of(event, attempts, why)];
        }
    }
    told.push(Told::of(event, attempts, reason.to_string()));
    told
}
