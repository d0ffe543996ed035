//! Settling: what a member says about messages that it holds.
use std::collections::BTreeMap;

use yard_wire::limits::{CREDIT_MESSAGES_MAX, RETRY_DELAY_MS_DEFAULT, SETTLE_RANGES_MAX};
use yard_wire::request::Reply;
use yard_wire::requests::{Settle, SettleRange, Settled, Verdict};
use yard_wire::{QueueIndex, QueueOffset, SubscriptionId, Timestamp};

use crate::broker::Broker;
use crate::effect::{Effect, Then};
use crate::entry::{Entry, Outcome, Progress, Step};
use crate::event::Origin;
use crate::group::Group;
use crate::group::lease::Hold;
use crate::group::range_set::RangeSet;
use crate::refusal::{BadArgument, MemberError};

/// What a settle request comes to, as far as it was read.
#[derive(Debug, Default)]
struct Settling {
    steps: Vec<Step>,
    lost: Vec<(QueueIndex, (QueueOffset, QueueOffset))>,
    done: u64,
    /// What earlier ranges of the request have said something about.
    taken: BTreeMap<QueueIndex, RangeSet>,
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
        let mut settling = Settling::default();
        for range in &request.ranges {
            settling.take(group, subscription, range, now);
        }
        let Settling { steps, lost, done, .. } = settling;
        assert_eq!(done == 0, steps.is_empty(), "what is done is recorded");
        let reply = Reply::Settle(Settled { done, lost });
        if steps.is_empty() {
            effects.push(Effect::Reply { origin, result: Ok(reply) });
            return Ok(());
        }
        let tenant = group.tenant;
        let mut wakes_at = None;
        for step in &steps {
            if let Outcome::Returned { due, .. } = step.outcome {
                wakes_at = Some(wakes_at.map_or(due, |at: Timestamp| at.min(due)));
            }
            // New messages had to wait for this.
            if group.is_full(step.queue) {
                wakes_at = Some(now);
            }
        }
        // All of it in one entry: it is recorded whole or not at all.
        effects.push(Effect::Append {
            entry: Entry::Progress { tenant, progress: Progress { group: id, steps } },
            then: vec![Then::Reply { origin, reply }],
        });
        if let Some(at) = wakes_at {
            self.wake(at);
        }
        Ok(())
    }
}

fn check_ranges(ranges: &[SettleRange]) -> Result<(), MemberError> {
    let bad = |detail: String| Err(MemberError::BadArgument(BadArgument(detail)));
    if ranges.len() > SETTLE_RANGES_MAX {
        return bad(format!("{} ranges, the limit is {SETTLE_RANGES_MAX}", ranges.len()));
    }
    let mut span = 0u64;
    for SettleRange { from, to, .. } in ranges {
        if from >= to {
            return bad(format!("the range {from}..{to} is empty"));
        }
        span = span.saturating_add(to.0 - from.0);
    }
    if span > u64::from(CREDIT_MESSAGES_MAX) {
        return bad(format!("{span} messages, the limit is {CREDIT_MESSAGES_MAX}"));
    }
    Ok(())
}

impl Settling {
    fn take(
        &mut self,
        group: &Group,
        subscription: SubscriptionId,
        range: &SettleRange,
        now: Timestamp,
    ) {
        let SettleRange { queue, from, to, .. } = *range;
        let flight = group.queues.get(&queue).and_then(|state| state.flight.as_ref());
        let taken = self.taken.entry(queue).or_default();
        let first_step = self.steps.len();
        let mut at = from;
        for (from, to, hold) in flight.iter().flat_map(|flight| flight.leases.ranges(from, to)) {
            if hold.subscription != subscription {
                continue;
            }
            let outcome = outcome_of(range, hold, now);
            for (from, to) in taken.gaps(from, to) {
                if at < from {
                    self.lost.push((queue, (at, from)));
                }
                at = to;
                self.done += to.0 - from.0;
                push_range(&mut self.steps, first_step, Step { queue, from, to, outcome });
            }
        }
        if at < to {
            self.lost.push((queue, (at, to)));
        }
        for step in &self.steps[first_step..] {
            let new = taken.insert(step.from, step.to);
            assert_eq!(new, step.to.0 - step.from.0, "a message is settled once");
        }
    }
}

/// Adds a step, to the last one where it continues it and that is not before `first`.
fn push_range(steps: &mut Vec<Step>, first: usize, step: Step) {
    match steps[first..].last_mut() {
        Some(last) if last.to == step.from && last.outcome == step.outcome => last.to = step.to,
        _ => steps.push(step),
    }
}

fn outcome_of(range: &SettleRange, hold: Hold, now: Timestamp) -> Outcome {
    assert!(hold.attempt >= 1, "what is leased was delivered");
    match range.verdict {
        Verdict::Ack => Outcome::Acked,
        Verdict::Reject => Outcome::Rejected,
        Verdict::Expire => Outcome::Expired,
        Verdict::Nack => {
            let delay_ms = range.delay_ms.unwrap_or(RETRY_DELAY_MS_DEFAULT);
            // 0 would say that the lease was taken away already.
            let due = now.plus_ms(delay_ms.into()).max(Timestamp(1));
            Outcome::Returned { attempts: hold.attempt, due }
        }
    }
}
