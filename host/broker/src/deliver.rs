//! Delivering: committed messages to members with credit, in turns.
//!
//! ```text
//!   while a member has credit and a queue may have something:
//!       queue  = whose next is the oldest   member = the next in turns
//!       lease  = its fair share             nothing placed: ask the index, pass the queue over
//! ```
use std::sync::Arc;

use yard_wire::RecordPlace;
use yard_wire::limits::{DELIVER_BYTES_MAX, DELIVER_RECORDS_MAX};
use yard_wire::{QueueIndex, QueueOffset, SubscriptionId, Timestamp};

use crate::bounds::{DEAD_RETRY_MS, TICK_QUEUES_MAX};
use crate::broker::Broker;
use crate::effect::{Effect, Reads};
use crate::entry::{Doom, GroupId, Outcome, Step};
use crate::event::{QueueTail, SessionId, Ticket};
use crate::group::claims::Gate;
use crate::group::flight::{Budget, Holder};
use crate::group::label::Label;
use crate::group::lease::Hold;
use crate::group::member::Live;
use crate::group::queue::{GroupQueue, push_step};
use crate::judged::asking;
use crate::policy::Failure;
use crate::retry::{Failed, Next, Rules};

impl Broker {
    /// Messages became visible.
    pub(crate) fn committed(&mut self, tails: &[QueueTail]) {
        for QueueTail { topic, queue, end } in tails {
            // A topic that was removed meanwhile has no queues any more.
            if self.meta.topic(*topic).is_none() {
                continue;
            }
            let ends = self.ends.entry((*topic, *queue));
            assert!(ends.first <= ends.end, "a queue does not end before it begins");
            ends.end = ends.end.max(*end);
            let live: Vec<GroupId> = self.groups.live_of_topic(*topic).collect();
            for id in live {
                self.take_off(id, *topic, *queue);
                self.to_pump.insert(id);
            }
            let drained: Vec<GroupId> = self.groups.drained_of_topic(*topic).collect();
            drained.into_iter().for_each(|id| self.list_drain(id, *queue));
        }
    }

    /// The index answered.
    pub(crate) fn located(
        &mut self,
        ticket: Ticket,
        places: &[RecordPlace],
        labels: &[Label],
        effects: &mut Vec<Effect>,
    ) {
        if self.located_doomed(ticket, places, effects)
            || self.located_drained(ticket, places, labels, effects)
        {
            return;
        }
        // A group whose members left meanwhile does not wait for it any more.
        let Some((id, queue)) = self.tickets.remove(&ticket) else {
            yard_wire::mark!(PlacesForNobody);
            return;
        };
        let now = self.now;
        let group = self.groups.get_mut(id).expect("a group that asks exists");
        let state = group.queues.get_mut(&queue).expect("a queue that asks exists");
        let flight = state.flight.as_mut().expect("a queue that asks delivers");
        assert_eq!(flight.asked.map(|asked| asked.ticket), Some(ticket), "one question at a time");
        flight.answered(&state.progress, places, labels, now);
        group.live.as_mut().expect("a group that asks is live").make_available(queue);
        self.to_pump.insert(id);
        self.list_due(id, queue);
    }

    /// The index answered that the log does not hold the messages: the group goes on behind them.
    pub(crate) fn met_gap(
        &mut self,
        ticket: Ticket,
        until: QueueOffset,
        effects: &mut Vec<Effect>,
    ) {
        if self.lost_errand(ticket, until, effects) {
            return;
        }
        let Some((id, queue)) = self.tickets.remove(&ticket) else {
            return;
        };
        let now = self.now;
        let group = self.groups.get_mut(id).expect("a group that asks exists");
        let state = group.queues.get_mut(&queue).expect("a queue that asks exists");
        let flight = state.flight.as_mut().expect("a queue that asks delivers");
        assert_eq!(flight.asked.map(|asked| asked.ticket), Some(ticket), "one question at a time");
        yard_wire::mark!(GapTrimmed);
        // Where the step cannot be recorded, the index is asked again later.
        let from = flight.met_gap(now);
        assert!(from < until, "a gap begins where it was asked for");
        self.list_due(id, queue);
        let outcome = Outcome::Trimmed;
        self.append_steps(id, &[Step { queue, from, to: until, outcome }], effects);
        self.wake(now);
    }

    /// A message is damaged on the disk: the group goes on without it.
    pub(crate) fn unreadable(
        &mut self,
        (session, subscription): (SessionId, SubscriptionId),
        queue: QueueIndex,
        offset: QueueOffset,
        effects: &mut Vec<Effect>,
    ) {
        // It ended meanwhile: whoever gets the message next meets the damage again.
        let Some((_, id)) =
            self.subscriptions.get(&subscription).filter(|(whose, _)| *whose == session)
        else {
            yard_wire::mark!(UnreadableForNobody);
            return;
        };
        yard_wire::mark!(UnreadableTrimmed);
        let (id, to) = (*id, QueueOffset(offset.0 + 1));
        let step = Step { queue, from: offset, to, outcome: Outcome::Trimmed };
        self.append_steps(id, &[step], effects);
        self.wake(self.now);
    }

    /// Delivers what can be delivered to a group's members.
    pub(crate) fn pump(&mut self, id: GroupId, effects: &mut Vec<Effect>) {
        let now = self.now;
        let window_ms = self.key_window_ms(id);
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        if group.drain.is_some() {
            return self.hand_over(id, effects);
        }
        let Some(live) = &mut group.live else { return };
        let (topic, owner) = (group.topic, group.source.unwrap_or(id));
        let (mut touched, mut duplicates) = (Vec::new(), Vec::new());
        while live.takers() > 0 {
            let front = |queue| group.queues.get(&queue)?.flight.as_ref()?.front();
            let Some(queue) = live.next_queue(front) else {
                break;
            };
            let state = group.queues.get_mut(&queue).expect("an available queue exists");
            touched.push(queue);
            let gate = group.claims.as_deref_mut().map(|claims| Gate {
                claims,
                settled: &self.settled_keys,
                owner,
                queue,
                now,
                window_ms,
                duplicates: &mut duplicates,
            });
            let delivery = deliver_some(live, (queue, state), now, gate);
            if let Some((session, subscription, items)) = delivery {
                live.make_available(queue);
                let of = self.meta.topic(topic);
                let asking = asking(live, (subscription, queue), &group.name, of);
                effects.push(Effect::Deliver {
                    session,
                    subscription,
                    topic,
                    queue,
                    items,
                    asking,
                });
                continue;
            }
            live.exhausted(queue);
            let end = self.ends.get(&(topic, queue)).map(|ends| ends.end).unwrap_or_default();
            let flight = state.flight.as_mut().expect("an available queue delivers");
            if let Some((from, count)) = flight.wants(&state.progress, end) {
                let ticket = self.next_ticket;
                self.next_ticket.0 += 1;
                flight.ask(ticket, from, count);
                self.tickets.insert(ticket, (id, queue));
                let property = group.claims.as_ref().map(|claims| Arc::clone(claims.by()));
                let is_read = flight.orders().is_some() || property.is_some();
                let reads = is_read.then_some(Reads { property, keys: false });
                effects.push(Effect::Locate { ticket, topic, queue, from, count, reads });
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for queue in touched {
            self.list_due(id, queue);
        }
        self.settle_duplicates(id, &duplicates, effects);
    }

    /// Keeps what follows from a queue's flight in step with it: when it is due, which business
    /// keys are free.
    pub(crate) fn list_due(&mut self, id: GroupId, queue: QueueIndex) {
        let group = self.groups.get_mut(id).expect("the caller has the group");
        if group.free_keys(queue) {
            self.to_pump.insert(id);
        }
        let Some(state) = group.queues.get_mut(&queue) else {
            return;
        };
        let Some(flight) = &mut state.flight else {
            return;
        };
        let next = flight.next_due();
        if next == flight.listed_due {
            return;
        }
        if let Some(old) = flight.listed_due {
            let was = self.dues.remove(&(old, id, queue));
            assert!(was, "what is due is listed");
        }
        flight.listed_due = next;
        if let Some(next) = next {
            self.dues.insert((next, id, queue));
        }
    }

    /// Ends leases and waits whose time has come.
    pub(crate) fn tick(&mut self, effects: &mut Vec<Effect>) {
        self.woken();
        let now = self.now;
        let due = |(at, id, queue): &(Timestamp, GroupId, QueueIndex)| (*at <= now, *id, *queue);
        let listed = self.dues.iter().take(TICK_QUEUES_MAX + 1).map(due);
        let mut queues: Vec<(GroupId, QueueIndex)> =
            listed.take_while(|(due, ..)| *due).map(|(_, id, queue)| (id, queue)).collect();
        if queues.len() > TICK_QUEUES_MAX {
            yard_wire::mark!(TickOverfull);
            queues.truncate(TICK_QUEUES_MAX);
            self.wake(now.plus_ms(1));
        }
        queues.sort_unstable();
        let mut steps: Vec<Step> = Vec::new();
        for (at, (id, queue)) in queues.iter().enumerate() {
            let failures = self.tick_queue(*id, *queue, &mut steps);
            self.ask_retry(*id, *queue, &failures, effects);
            if queues.get(at + 1).is_none_or(|(next, _)| next != id) {
                self.append_steps(*id, &steps, effects);
                steps.clear();
            }
        }
        assert!(steps.is_empty(), "what came back was recorded");
    }

    /// Ends what is due in a queue; what has failed by it and comes again.
    fn tick_queue(
        &mut self,
        id: GroupId,
        queue: QueueIndex,
        steps: &mut Vec<Step>,
    ) -> Vec<Failure> {
        let now = self.now;
        let group = self.groups.get_mut(id).expect("a group with something due exists");
        let live = group.live.as_mut().expect("a group with something due is live");
        let state = group.queues.get_mut(&queue).expect("a queue with something due exists");
        let flight = state.flight.as_mut().expect("a queue with something due delivers");
        let settings = self.meta.group(group.tenant, &group.name);
        let order = self.meta.topic(group.topic).map(|topic| topic.settings.order);
        let order = order.unwrap_or_default();
        let rules = Rules { settings: &settings, order, now, seed: self.config.seed };
        let (first_step, mut dies, mut failures) = (steps.len(), false, Vec::new());
        for (offset, lease) in flight.tick(now) {
            let Hold { subscription, since: delivered, attempt, .. } = lease.hold;
            live.leases_ended(subscription, 1);
            if flight.orders().is_some_and(|orders| orders.is_behind(offset)) {
                yard_wire::mark!(LeaseEndedBehind);
                flight.was_not_begun(offset, &lease);
                continue;
            }
            // Until the step is recorded, also where the disk has no room for it, it waits.
            let (due, outcome) = match rules.after(Failed { queue, offset, attempt }, None) {
                Next::At(due) => {
                    yard_wire::mark!(LeaseEndedReturns);
                    let attempts = attempt;
                    if rules.asks() {
                        failures.push(Failure {
                            offset,
                            attempt,
                            place: lease.place,
                            last_delay_ms: state.progress.returned().delay_ms(offset),
                            reason: Doom::LeaseEnded.to_string(),
                        });
                    }
                    (due, Outcome::Returned { attempts, due, delivered, error: 0 })
                }
                Next::Dead => {
                    let (attempts, reason) = (attempt, Doom::LeaseEnded);
                    yard_wire::mark!(LeaseEndedDies);
                    dies = true;
                    let outcome = Outcome::Doomed { attempts, delivered, reason, error: 0 };
                    (now.plus_ms(DEAD_RETRY_MS), outcome)
                }
                Next::Stop => {
                    yard_wire::mark!(LeaseEndedStops);
                    let (attempts, reason) = (attempt, Doom::LeaseEnded);
                    let outcome = Outcome::Stopped { attempts, delivered, reason, error: 0 };
                    (now.plus_ms(DEAD_RETRY_MS), outcome)
                }
            };
            flight.come_again(offset, &lease, due);
            push_step(steps, first_step, Step::of_one(queue, offset, outcome));
        }
        live.make_available(queue);
        self.to_pump.insert(id);
        self.list_due(id, queue);
        if dies {
            // What is doomed is buried when the step was applied.
            self.wake(now);
        }
        failures.sort_unstable_by_key(|failure| failure.offset);
        failures
    }
}

type Delivery = (crate::event::SessionId, yard_wire::SubscriptionId, Vec<crate::DeliverItem>);

/// Leases a fair share of a queue to the member whose turn it is; `None` when the queue has
/// nothing whose place is known.
fn deliver_some(
    live: &mut Live,
    (queue, state): (QueueIndex, &mut GroupQueue),
    now: Timestamp,
    mut gate: Option<Gate<'_>>,
) -> Option<Delivery> {
    let flight = state.flight.as_mut().expect("an available queue delivers");
    let deliverable = flight.deliverable();
    if deliverable == 0 {
        return None;
    }
    let owner = match &mut live.owners {
        Some(owners) => Some(owners.taker(queue, flight.leases.len() == 0)?),
        None => None,
    };
    let takers = if owner.is_some() { 1 } else { live.takers() };
    // Order groups are shared out, not their messages.
    let sharers = if flight.orders().is_some() { 1 } else { takers };
    let share = deliverable.div_ceil(sharers).min(DELIVER_RECORDS_MAX) as u32;
    let (subscription, items) = loop {
        let has_for = |id| flight.orders().is_none_or(|orders| orders.has_for(id, takers));
        let may = |id| owner.is_none_or(|owner| owner == id) && has_for(id);
        let subscription = live.next_turn(may)?;
        let member = &live.members[&subscription];
        let budget = Budget {
            messages: share.min(member.messages),
            credit_bytes: member.bytes,
            frame_bytes: DELIVER_BYTES_MAX,
        };
        let until = now.plus_ms(member.lease_ms.into());
        let holder = Holder { subscription, since: now, until };
        let items = flight.lease(&state.progress, holder, budget, takers, gate.as_mut());
        if !items.is_empty() {
            break (subscription, items);
        }
        // It had more order groups than its share, and gets no more of those for now.
        if flight.orders().is_none_or(|orders| orders.has_for(subscription, takers)) {
            return None;
        }
    };
    assert!(items.len() <= DELIVER_RECORDS_MAX, "a delivery is bounded");
    let bytes = items.iter().map(|item| u64::from(item.place.bytes)).sum();
    let member = live.members.get_mut(&subscription).expect("who has a turn is a member");
    member.spend(items.len() as u32, bytes);
    let session = member.session;
    live.end_turn(subscription);
    Some((session, subscription, items))
}
