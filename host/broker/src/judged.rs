//! What a policy said about messages that were on their way to a subscription. Whoever asks it is
//! outside; here it is recorded, or the messages wait.
//!
//! ```text
//!   Deliver(items, filter, turn) ──► asked ─┬─ wanted ──────► the consumer
//!                                           ├─ not wanted ──► Judged: settled as filtered
//!                                           ├─ poison ──────► Judged: a dead letter, at once
//!                                           └─ no answer ───► Held: back to the queue, which waits
//! ```
//!
//! A queue that waits is begun again in the order of its offsets. What was leased with it and not
//! asked about yet comes back as well: its turn is an old one, and who asks holds that too, so that
//! no message overtakes another.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use yard_wire::expression::Filter;
use yard_wire::limits::{DELIVER_RECORDS_MAX, ERROR_TEXT_BYTES_MAX};
use yard_wire::requests::Expression;
use yard_wire::{QueueIndex, QueueOffset, SubscriptionId, Timestamp};

use crate::bounds::CREDIT_WAIT_MS;
use crate::broker::Broker;
use crate::effect::Effect;
use crate::entry::{Doom, Entry, GroupId, Outcome, Progress, Step};
use crate::event::{Held, Judged, SessionId};
use crate::group::member::Live;
use crate::meta::Topic;
use crate::refusal::SubscribeError;

/// What a subscription wants, where that is not everything: read, so that what means the same is
/// the same.
pub(crate) fn read(expression: Option<&Expression>) -> Result<Option<Expression>, SubscribeError> {
    match Filter::read(expression).map_err(SubscribeError::Expression)? {
        Filter::All => Ok(None),
        Filter::Tags(_) | Filter::Plugin(_) => Ok(expression.cloned()),
    }
}

/// An expression as people see it: dialect and text; nothing: every message.
pub(crate) fn shown(expression: Option<&Expression>) -> String {
    expression.map_or_else(String::new, |e| format!("{} {}", e.dialect, e.text))
}

impl Broker {
    /// Whether somebody who wants these messages may join the group.
    pub(crate) fn check_same(
        &self,
        id: GroupId,
        wanted: Option<&Expression>,
        is_exclusive: bool,
    ) -> Result<(), SubscribeError> {
        let group = self.groups.get(id).expect("the caller found the group");
        if let Some(live) = group.live.as_ref().filter(|it| it.owners.is_some() != is_exclusive) {
            let is_theirs_exclusive = live.owners.is_some();
            return Err(SubscribeError::OtherMode { is_theirs_exclusive });
        }
        let theirs = group.live.as_ref().map(|live| live.filter.as_deref());
        match theirs {
            Some(theirs) if theirs != wanted => {
                Err(SubscribeError::OtherExpression { theirs: shown(theirs), ours: shown(wanted) })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The group that a message of the server is about, while the subscription is there.
    fn group_of(&self, session: SessionId, subscription: SubscriptionId) -> Option<GroupId> {
        let (whose, group) = self.subscriptions.get(&subscription)?;
        (*whose == session).then_some(*group)
    }

    /// Messages that the group does not want are settled, those that are poison become dead
    /// letters, and what they took of the credit is given back. A lease that has ended meanwhile is
    /// somebody else's: the message is asked about anew.
    pub(crate) fn judged(&mut self, judged: &Judged, effects: &mut Vec<Effect>) {
        let Judged { session, subscription, queue, ref skipped, ref poison, bytes } = *judged;
        let Some(id) = self.group_of(session, subscription) else {
            yard_wire::mark!(JudgedForNobody);
            return;
        };
        let group = self.groups.get_mut(id).expect("a subscription's group exists");
        let is_in_the_way = group.is_in_the_way(queue);
        let flight = group.queues.get(&queue).and_then(|state| state.flight.as_ref());
        let (mut steps, mut messages) = (Vec::new(), 0);
        for (from, to) in skipped {
            assert!(from < to, "a range has messages");
            messages += to.0 - from.0;
            let leased = flight.iter().flat_map(|flight| flight.leases.ranges(*from, *to));
            for (from, to, _) in leased.filter(|(_, _, hold)| hold.subscription == subscription) {
                steps.push(Step { queue, from, to, outcome: Outcome::Filtered });
            }
        }
        let mut errors = Vec::new();
        for (offset, text) in poison {
            assert!(text.len() <= ERROR_TEXT_BYTES_MAX, "whoever asked has cut the text");
            messages += 1;
            let end = QueueOffset(offset.0 + 1);
            let leased = flight.iter().flat_map(|flight| flight.leases.ranges(*offset, end));
            for (_, _, hold) in leased.filter(|(_, _, hold)| hold.subscription == subscription) {
                yard_wire::mark!(JudgedPoison);
                errors.push(text.clone());
                let error = u32::try_from(errors.len()).expect("a delivery is bounded");
                let (attempts, delivered, reason) = (hold.attempt, hold.since, Doom::Poisoned);
                let outcome = Outcome::Doomed { attempts, delivered, reason, error };
                steps.push(Step::of_one(queue, *offset, outcome));
            }
        }
        assert!(steps.len() <= DELIVER_RECORDS_MAX, "a delivery is bounded");
        let live = group.live.as_mut().expect("a group with a member is live");
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if live.take_back(subscription, messages, bytes) {
            yard_wire::mark!(CreditWithheld);
            self.withheld.insert((self.now.plus_ms(CREDIT_WAIT_MS), subscription));
        }
        self.to_pump.insert(id);
        if is_in_the_way || !errors.is_empty() {
            // New messages had to wait for this, or it is to be buried.
            self.wake(self.now);
        }
        if !steps.is_empty() {
            let tenant = self.groups.get(id).expect("a subscription's group exists").tenant;
            let progress = Progress { group: id, steps, errors };
            let entry = Entry::Progress { tenant, progress };
            effects.push(Effect::Append { entry, then: Vec::new() });
        }
    }

    /// Credit that has waited for more long enough counts.
    pub(crate) fn give_withheld(&mut self) {
        while let Some((_, subscription)) = self.withheld.first().filter(|(at, _)| *at <= self.now)
        {
            let subscription = *subscription;
            self.withheld.pop_first();
            // A subscription that has ended needs none.
            let Some((_, id)) = self.subscriptions.get(&subscription).copied() else { continue };
            let group = self.groups.get_mut(id).expect("a subscription's group exists");
            group.live.as_mut().expect("a group with a member is live").give_withheld(subscription);
            self.to_pump.insert(id);
        }
    }

    /// Messages about which nobody could say anything go back as if they had not been delivered,
    /// and the queue waits.
    pub(crate) fn hold_back(&mut self, held: &Held) {
        let Held { session, subscription, queue, ref ranges, bytes, wait_ms } = *held;
        let Some(id) = self.group_of(session, subscription) else {
            yard_wire::mark!(HeldForNobody);
            return;
        };
        let until = self.now.plus_ms(u64::from(wait_ms.max(1)));
        let group = self.groups.get_mut(id).expect("a subscription's group exists");
        let live = group.live.as_mut().expect("a group with a member is live");
        assert!(ranges.iter().all(|(from, to)| from < to), "a range has messages");
        let messages = ranges.iter().map(|(from, to)| to.0 - from.0).sum();
        give_back(live, subscription, messages, bytes);
        live.next_round(subscription, queue);
        let flight = group.queues.get_mut(&queue).and_then(|state| state.flight.as_mut());
        let Some(flight) = flight else { return };
        for (from, to) in ranges {
            yard_wire::mark!(HeldBack);
            let taken = flight.hold_back(*from, *to, subscription, until);
            live.leases_ended(subscription, taken);
        }
        self.list_due(id, queue);
        self.to_pump.insert(id);
    }

    /// The log had no room for what was settled. Messages that the group does not want, those that
    /// are poison and duplicates are nobody's then: they go back as if they had not been delivered,
    /// and are looked at again. So does what was settled by somebody who hears no answer. What
    /// waits since its lease ended does so until the instant that was to be recorded. Whoever
    /// settled others was refused, and has them still.
    pub(crate) fn not_recorded(&mut self, progress: &Progress, unanswered: bool, wait_ms: u32) {
        let until = self.now.plus_ms(u64::from(wait_ms.max(1)));
        let id = progress.group;
        let Some(group) = self.groups.get_mut(id) else { return };
        let Some(live) = group.live.as_mut() else {
            yard_wire::mark!(UnrecordedForNobody);
            return;
        };
        let is_nobodys = |step: &&Step| match step.outcome {
            Outcome::Duplicate
            | Outcome::Filtered
            | Outcome::Doomed { reason: Doom::Poisoned, .. } => true,
            Outcome::Acked
            | Outcome::Dead
            | Outcome::Doomed { .. }
            | Outcome::Dropped
            | Outcome::Expired
            | Outcome::Forwarded
            | Outcome::Returned { .. }
            | Outcome::Stopped { .. }
            | Outcome::Trimmed => false,
        };
        let filtered = progress.steps.iter().filter(|step| unanswered || is_nobodys(step));
        let mut queues = BTreeSet::new();
        for step in &progress.steps {
            let Outcome::Returned { attempts, due, .. } = step.outcome else { continue };
            let flight = group.queues.get_mut(&step.queue).and_then(|state| state.flight.as_mut());
            let Some(flight) = flight.filter(|_| due > Timestamp(0)) else { continue };
            flight.wait_otherwise((step.from, step.to), attempts, due);
            queues.insert(step.queue);
        }
        for step in filtered {
            let flight = group.queues.get_mut(&step.queue).and_then(|state| state.flight.as_mut());
            let Some(flight) = flight else { continue };
            yard_wire::mark!(UnrecordedTriedAgain);
            flight.try_again(step.from, step.to, until);
            let held: Vec<_> = flight.leases.ranges(step.from, step.to).collect();
            for (from, to, hold) in held {
                let taken = flight.hold_back(from, to, hold.subscription, until);
                assert_eq!(u64::from(taken), to.0 - from.0, "a run of leases is one holder's");
                live.leases_ended(hold.subscription, taken);
            }
            queues.insert(step.queue);
        }
        for queue in queues {
            self.list_due(id, queue);
        }
        self.to_pump.insert(id);
    }
}

fn give_back(live: &mut Live, subscription: SubscriptionId, messages: u64, bytes: u64) {
    let messages = u32::try_from(messages).unwrap_or(u32::MAX);
    live.add_credit(subscription, messages, u32::try_from(bytes).unwrap_or(u32::MAX));
}

/// Who decides about the messages of a delivery before they are sent, and the round in which they
/// were given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asking {
    /// What the subscription wants.
    pub filter: Arc<Expression>,
    /// How often messages of the queue were held back from the subscription before. A message of
    /// an earlier round must be held back too.
    pub round: u32,
    /// What the messages are of.
    pub about: Arc<About>,
}

/// What a delivery is of, for who shares out the traffic of a topic and says something of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Name of the group.
    pub group: String,
    /// Name of the topic.
    pub topic: String,
    /// Queues of the topic.
    pub queues: u16,
}

/// What whoever asks remembers of the queues that it held: which deliveries the broker made before
/// it knew of that.
///
/// ```text
///   round of a delivery < times held ──► hold it too: what was held must come first
/// ```
#[derive(Debug, Default)]
pub struct Rounds(BTreeMap<(SubscriptionId, QueueIndex), u32>);

impl Rounds {
    /// Whether a delivery was made before the queue was held last.
    #[must_use]
    pub fn is_old(&self, id: SubscriptionId, queue: QueueIndex, asking: &Asking) -> bool {
        // Of a subscription that has ended nothing is remembered, and nothing is old.
        let held = self.0.get(&(id, queue)).copied().unwrap_or(0);
        asking.round < held
    }

    /// A delivery is held; its [`Held`] must reach the broker, in the order of these calls.
    pub fn hold(&mut self, id: SubscriptionId, queue: QueueIndex) {
        *self.0.entry((id, queue)).or_default() += 1;
    }

    /// A subscription has ended.
    pub fn ended(&mut self, id: SubscriptionId) {
        self.0.retain(|(of, _), _| *of != id);
    }
}

/// Consecutive offsets: the first, and the one after the last.
pub type Range = (QueueOffset, QueueOffset);

/// A queue of a subscription whose messages are asked about.
pub(crate) fn asking(
    live: &mut Live,
    (id, queue): (SubscriptionId, QueueIndex),
    group: &str,
    topic: Option<&Topic>,
) -> Option<Asking> {
    let filter = Arc::clone(live.filter.as_ref()?);
    let round = live.round(id, queue);
    // A topic that was removed delivers what its groups have been given by then.
    let (name, queues) = topic.map_or(("", 1), |topic| (&*topic.name, topic.queues()));
    let known = live.about.take().filter(|it| (&*it.topic, it.queues) == (name, queues));
    let about = known.unwrap_or_else(|| {
        Arc::new(About { group: group.to_owned(), topic: name.to_owned(), queues })
    });
    assert_eq!(about.group, group, "a group has its name for good");
    live.about = Some(Arc::clone(&about));
    Some(Asking { filter, round, about })
}
