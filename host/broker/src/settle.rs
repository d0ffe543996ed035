//! Settling: what a member says about messages that it holds.
use std::collections::BTreeMap;

use yard_wire::limits::{
    CREDIT_MESSAGES_MAX, ERROR_TEXT_BYTES_MAX, SETTLE_ERRORS_BYTES_MAX, SETTLE_RANGES_MAX,
};
use yard_wire::request::Reply;
use yard_wire::requests::{HeldRange, Settle, SettleRange, Settled, Verdict};
use yard_wire::{QueueIndex, QueueOffset, SubscriptionId, Timestamp};

use crate::broker::Broker;
use crate::effect::{Effect, Then};
use crate::entry::{Doom, GroupId, Outcome, Progress, Step};
use crate::event::Origin;
use crate::group::Group;
use crate::group::lease::Hold;
use crate::group::queue::push_step;
use crate::group::range_set::RangeSet;
use crate::policy::Failure;
use crate::refusal::{BadArgument, MemberError};
use crate::retry::{Failed, Next, Rules};

/// What a settle request comes to, as far as it was read.
#[derive(Debug)]
struct Settling<'a> {
    rules: Rules<'a>,
    steps: Vec<Step>,
    /// The error texts that steps name.
    errors: Vec<String>,
    lost: Vec<(QueueIndex, (QueueOffset, QueueOffset))>,
    /// What the subscription holds by another delivery.
    other: Vec<HeldRange>,
    /// What is given back as it came.
    released: Vec<(QueueIndex, (QueueOffset, QueueOffset))>,
    done: u64,
    /// What earlier ranges of the request have said something about.
    taken: BTreeMap<QueueIndex, RangeSet>,
    /// What the plugin of the group is asked about, by queue.
    failures: BTreeMap<QueueIndex, Vec<Failure>>,
}

impl Broker {
    pub(crate) fn settle(
        &mut self,
        origin: Origin,
        request: &Settle,
        effects: &mut Vec<Effect>,
    ) -> Result<(), MemberError> {
        let subscription = request.subscription;
        let id = self.own_subscription(origin, request.shard, subscription)?;
        check_ranges(&request.ranges)?;
        let now = self.now;
        let group = self.groups.get(id).expect("a member's group exists");
        let settings = self.meta.group(group.tenant, &group.name);
        let order = self.meta.topic(group.topic).map(|topic| topic.settings.order);
        let (order, seed) = (order.unwrap_or_default(), self.config.seed);
        let mut settling = Settling::new(Rules { settings: &settings, order, now, seed });
        for range in &request.ranges {
            settling.take(group, subscription, range);
        }
        let Settling { steps, errors, lost, other, released, done, failures, .. } = settling;
        let is_nothing = steps.is_empty() && released.is_empty();
        assert_eq!(done == 0, is_nothing, "what is done is recorded or given back");
        let reply = Reply::Settle(Settled { done, lost, other });
        self.release(id, subscription, &released);
        let group = self.groups.get(id).expect("a member's group exists");
        if steps.is_empty() {
            self.to_pump.insert(id);
            effects.push(Effect::Reply { origin, result: Ok(reply) });
            return Ok(());
        }
        let tenant = group.tenant;
        // A group may return by it.
        let is_awaited = group.source.is_some_and(|source| self.returning.contains(&source));
        let mut wakes_at = is_awaited.then_some(now);
        for step in &steps {
            if let Outcome::Returned { due, .. } = step.outcome {
                wakes_at = Some(wakes_at.map_or(due, |at: Timestamp| at.min(due)));
            }
            // New messages had to wait for this, or it is to be buried.
            if group.is_in_the_way(step.queue) || matches!(step.outcome, Outcome::Doomed { .. }) {
                wakes_at = Some(now);
            }
        }
        // All of it in one entry: it is recorded whole or not at all.
        let entry = self.settled_entry(tenant, Progress { group: id, steps, errors });
        effects.push(Effect::Append { entry, then: vec![Then::Reply { origin, reply }] });
        for (queue, mut failures) in failures {
            failures.sort_unstable_by_key(|failure| failure.offset);
            self.ask_retry(id, queue, &failures, effects);
        }
        if let Some(at) = wakes_at {
            self.wake(at);
        }
        Ok(())
    }
}

impl Broker {
    /// Messages that a member gives back as they came are ready for whoever is next. Nothing is
    /// recorded: after a restart they would be delivered again all the same. What failed with them
    /// bars them when it is applied, so nobody is given any before.
    fn release(
        &mut self,
        id: GroupId,
        subscription: SubscriptionId,
        released: &[(QueueIndex, (QueueOffset, QueueOffset))],
    ) {
        for (queue, (from, to)) in released {
            let group = self.groups.get_mut(id).expect("a member's group exists");
            let state = group.queues.get_mut(queue).expect("what is given back was leased");
            let flight = state.flight.as_mut().expect("what is given back was leased");
            let taken = flight.release(*from, *to, subscription);
            assert_eq!(u64::from(taken), to.0 - from.0, "what is given back was leased");
            let live = group.live.as_mut().expect("a group with a member is live");
            live.leases_ended(subscription, taken);
            live.make_available(*queue);
            self.list_due(id, *queue);
        }
    }
}

fn check_ranges(ranges: &[SettleRange]) -> Result<(), MemberError> {
    let bad = |detail: String| Err(MemberError::BadArgument(BadArgument(detail)));
    if ranges.len() > SETTLE_RANGES_MAX {
        return bad(format!("{} ranges, the limit is {SETTLE_RANGES_MAX}", ranges.len()));
    }
    let (mut span, mut errors) = (0u64, 0);
    for SettleRange { from, to, error, .. } in ranges {
        if from >= to {
            return bad(format!("the range {from}..{to} is empty"));
        }
        span = span.saturating_add(to.0 - from.0);
        let bytes = error.as_ref().map_or(0, String::len);
        if bytes > ERROR_TEXT_BYTES_MAX {
            return Err(MemberError::LongError { bytes, max: ERROR_TEXT_BYTES_MAX });
        }
        errors += bytes;
    }
    if errors > SETTLE_ERRORS_BYTES_MAX {
        return Err(MemberError::LongError { bytes: errors, max: SETTLE_ERRORS_BYTES_MAX });
    }
    if span > u64::from(CREDIT_MESSAGES_MAX) {
        return bad(format!("{span} messages, the limit is {CREDIT_MESSAGES_MAX}"));
    }
    Ok(())
}

impl<'a> Settling<'a> {
    fn new(rules: Rules<'a>) -> Self {
        let (steps, errors, lost, other, released) = Default::default();
        let (taken, failures) = (BTreeMap::new(), BTreeMap::new());
        Self { rules, steps, errors, lost, other, released, done: 0, taken, failures }
    }

    fn take(&mut self, group: &Group, subscription: SubscriptionId, range: &SettleRange) {
        let SettleRange { queue, from, to, attempt, .. } = *range;
        let flight = group.queues.get(&queue).and_then(|state| state.flight.as_ref());
        let mut taken = self.taken.remove(&queue).unwrap_or_default();
        let (first_step, first_released) = (self.steps.len(), self.released.len());
        let mut at = from;
        for (from, to, hold) in flight.iter().flat_map(|flight| flight.leases.ranges(from, to)) {
            if hold.subscription != subscription {
                continue;
            }
            if hold.attempt != attempt {
                yard_wire::mark!(SettleOther);
                if at < from {
                    self.lost.push((queue, (at, from)));
                }
                at = to;
                self.other.push(HeldRange { queue, from, to, attempt: hold.attempt });
                continue;
            }
            for (from, to) in taken.gaps(from, to) {
                if at < from {
                    self.lost.push((queue, (at, from)));
                }
                at = to;
                self.done += to.0 - from.0;
                if range.verdict == Verdict::Release {
                    yard_wire::mark!(SettleReleased);
                    self.released.push((queue, (from, to)));
                } else {
                    self.push(range, hold, (from, to), first_step);
                    self.note_failures(group, range, hold, (from, to));
                }
            }
        }
        if at < to {
            yard_wire::mark!(SettleLost);
            self.lost.push((queue, (at, to)));
        }
        let settled = self.steps[first_step..].iter().map(|step| (step.from, step.to));
        let released = self.released[first_released..].iter().map(|(_, range)| *range);
        for (from, to) in settled.chain(released) {
            let new = taken.insert(from, to);
            assert_eq!(new, to.0 - from.0, "a message is settled once");
        }
        self.taken.insert(queue, taken);
    }

    /// Adds what becomes of messages in the same hands.
    fn push(
        &mut self,
        range: &SettleRange,
        hold: Hold,
        (from, to): (QueueOffset, QueueOffset),
        first_step: usize,
    ) {
        let own = range.verdict == Verdict::Nack && range.delay_ms.is_none();
        let piece = if own && self.rules.spreads() { 1 } else { to.0 - from.0 };
        let mut at = from;
        while at < to {
            let end = QueueOffset(at.0 + piece);
            let outcome = self.outcome_of(range, hold, at);
            let step = Step { queue: range.queue, from: at, to: end, outcome };
            push_step(&mut self.steps, first_step, step);
            at = end;
        }
    }

    /// What the group's plugin is to decide about, where it has one and the consumer did not.
    fn note_failures(
        &mut self,
        group: &Group,
        range: &SettleRange,
        hold: Hold,
        (from, to): (QueueOffset, QueueOffset),
    ) {
        let Rules { settings, .. } = self.rules;
        let is_left = range.verdict == Verdict::Nack && range.delay_ms.is_none();
        if !self.rules.asks() || !is_left || settings.attempts.are_used_up(hold.attempt) {
            return;
        }
        let state = group.queues.get(&range.queue).expect("a queue with leases is known");
        let reason = range.error.clone().unwrap_or_default();
        let failures = (from.0..to.0).filter_map(|offset| {
            let offset = QueueOffset(offset);
            let place = state.flight.as_ref()?.leases.place(offset)?;
            Some(Failure {
                offset,
                attempt: hold.attempt,
                place,
                last_delay_ms: state.progress.returned().delay_ms(offset),
                reason: reason.clone(),
            })
        });
        self.failures.entry(range.queue).or_default().extend(failures);
    }

    fn outcome_of(&mut self, range: &SettleRange, hold: Hold, offset: QueueOffset) -> Outcome {
        let Hold { attempt, since: delivered, .. } = hold;
        match range.verdict {
            Verdict::Ack => Outcome::Acked,
            Verdict::Expire => Outcome::Expired,
            Verdict::Release => unreachable!("what is given back is not recorded"),
            Verdict::Reject => self.given_up(range, hold, Doom::Rejected),
            Verdict::Nack => {
                let failed = Failed { queue: range.queue, offset, attempt };
                match self.rules.after(failed, range.delay_ms) {
                    Next::At(due) => {
                        let error = self.number_of(range.error.as_ref());
                        Outcome::Returned { attempts: attempt, due, delivered, error }
                    }
                    Next::Dead | Next::Stop => self.given_up(range, hold, Doom::Failed),
                }
            }
        }
    }

    /// What becomes of messages that are not delivered again, unless somebody says otherwise.
    fn given_up(&mut self, range: &SettleRange, hold: Hold, reason: Doom) -> Outcome {
        let Hold { attempt: attempts, since: delivered, .. } = hold;
        let error = self.number_of(range.error.as_ref());
        match self.rules.after_last() {
            Next::Stop => {
                yard_wire::mark!(SettleStops);
                Outcome::Stopped { attempts, delivered, reason, error }
            }
            Next::Dead | Next::At(_) => {
                yard_wire::mark!(SettleDooms);
                Outcome::Doomed { attempts, delivered, reason, error }
            }
        }
    }

    /// The number of an error text among those of the entry: the last is asked for again and again.
    fn number_of(&mut self, error: Option<&String>) -> u32 {
        let Some(error) = error.filter(|error| !error.is_empty()) else {
            return 0;
        };
        if self.errors.last() != Some(error) {
            self.errors.push(error.clone());
        }
        u32::try_from(self.errors.len()).expect("a request has few ranges")
    }
}
