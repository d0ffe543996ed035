//! Holding messages for longer: the ends of leases move, nothing is recorded.
use std::collections::BTreeSet;

use yard_wire::limits::{CREDIT_MESSAGES_MAX, LEASE_MS_MAX, LEASE_MS_MIN, SETTLE_RANGES_MAX};
use yard_wire::request::Reply;
use yard_wire::requests::{Extend, Extended, HeldRange};
use yard_wire::{QueueIndex, QueueOffset, SubscriptionId, Timestamp};

use crate::broker::Broker;
use crate::effect::Effect;
use crate::event::Origin;
use crate::group::Group;
use crate::refusal::{BadArgument, MemberError};

/// An extend request on its way to its answer.
#[derive(Debug)]
struct Extending {
    subscription: SubscriptionId,
    /// When the leases shall end.
    wanted: Timestamp,
    answer: Extended,
    touched: BTreeSet<QueueIndex>,
}

impl Broker {
    pub(crate) fn extend(
        &mut self,
        origin: Origin,
        request: &Extend,
        effects: &mut Vec<Effect>,
    ) -> Result<(), MemberError> {
        let subscription = request.subscription;
        let id = self.own_subscription(origin, request.shard, subscription)?;
        check(request)?;
        let (done, until) = (0, Timestamp(0));
        let (spent, lost, other) = Default::default();
        let mut extending = Extending {
            subscription,
            wanted: self.now.plus_ms(request.lease_ms.into()),
            answer: Extended { done, until, spent, lost, other },
            touched: BTreeSet::new(),
        };
        let group = self.groups.get_mut(id).expect("a member's group exists");
        for range in &request.ranges {
            extending.take(group, range);
        }
        let Extending { answer, touched, .. } = extending;
        for queue in touched {
            self.list_due(id, queue);
        }
        effects.push(Effect::Reply { origin, result: Ok(Reply::Extend(answer)) });
        Ok(())
    }
}

fn check(request: &Extend) -> Result<(), MemberError> {
    let bad = |detail: String| Err(MemberError::BadArgument(BadArgument(detail)));
    let (lease_ms, ranges) = (request.lease_ms, &request.ranges);
    if !(LEASE_MS_MIN..=LEASE_MS_MAX).contains(&lease_ms) {
        return bad(format!("lease of {lease_ms} ms: {LEASE_MS_MIN} to {LEASE_MS_MAX}"));
    }
    if ranges.len() > SETTLE_RANGES_MAX {
        return bad(format!("{} ranges, the limit is {SETTLE_RANGES_MAX}", ranges.len()));
    }
    if let Some(HeldRange { from, to, .. }) = ranges.iter().find(|range| range.from >= range.to) {
        return bad(format!("the range {from}..{to} is empty"));
    }
    let spans = ranges.iter().map(|range| range.to.0 - range.from.0);
    let span = spans.fold(0u64, u64::saturating_add);
    if span > u64::from(CREDIT_MESSAGES_MAX) {
        return bad(format!("{span} messages, the limit is {CREDIT_MESSAGES_MAX}"));
    }
    Ok(())
}

impl Extending {
    fn take(&mut self, group: &mut Group, range: &HeldRange) {
        let HeldRange { queue, from, to, attempt } = *range;
        let held = |from: QueueOffset, to: QueueOffset| HeldRange { queue, from, to, attempt };
        let flight = group.queues.get_mut(&queue).and_then(|state| state.flight.as_mut());
        let mut at = from;
        if let Some(flight) = flight {
            let holds: Vec<_> = flight.leases.ranges(from, to).collect();
            let own = holds.into_iter().filter(|(.., it)| it.subscription == self.subscription);
            for (from, to, hold) in own {
                if at < from {
                    self.answer.lost.push(held(at, from));
                }
                at = to;
                if hold.attempt != attempt {
                    yard_wire::mark!(ExtendOther);
                    let attempt = hold.attempt;
                    self.answer.other.push(HeldRange { queue, from, to, attempt });
                    continue;
                }
                let longest = hold.since.plus_ms(LEASE_MS_MAX.into());
                let until = self.wanted.min(longest).max(hold.until);
                if until > hold.until {
                    flight.leases.extend(from, to, hold, until);
                    self.touched.insert(queue);
                }
                if until < self.wanted {
                    yard_wire::mark!(ExtendSpent);
                    self.answer.spent.push(held(from, to));
                    continue;
                }
                self.answer.done += to.0 - from.0;
                let earliest = self.answer.until;
                let is_first = earliest == Timestamp(0);
                self.answer.until = if is_first { until } else { until.min(earliest) };
            }
        }
        if at < to {
            yard_wire::mark!(ExtendLost);
            self.answer.lost.push(held(at, to));
        }
        assert!(at <= to, "what is answered was asked for");
    }
}
