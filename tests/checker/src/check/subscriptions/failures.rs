//! Ordered topics: who has failed a message, or given it back, acknowledges nothing of its order
//! group that arrives afterwards, until that message was delivered again or is settled.

use super::overtaking::{Fates, fates};
use super::{Options, Seen, Subscription};
use crate::anomaly::Kind;
use crate::event::{Settle, SettleVerdict, Time};
use crate::verdict::Report;
use std::collections::BTreeMap;

/// Failures of an order group that are looked at for an acknowledgement, the latest ones.
const FAILURES_MAX: usize = 64;

/// A consumer and an order group.
type Line = (u64, Option<u64>);

struct Found<'a, 'h> {
    subscription: &'a Subscription<'h>,
    fates: Fates<'h>,
    /// The deliveries of each message.
    seen: BTreeMap<u64, Vec<&'a Seen>>,
    /// Which message failed when, as its consumer has it, in order of time.
    failures: BTreeMap<Line, Vec<(Time, u64)>>,
}

pub(crate) fn check(subscription: &Subscription, options: &Options, report: &mut Report) {
    // After a reset a group begins anew, with what it has settled before.
    if !options.ordered.contains(&subscription.queue.topic) || !subscription.resets.is_empty() {
        return;
    }
    let mut seen: BTreeMap<u64, Vec<&Seen>> = BTreeMap::new();
    for delivery in &subscription.seen {
        seen.entry(delivery.offset).or_default().push(delivery);
    }
    let (fates, failures) = (fates(subscription), BTreeMap::new());
    let mut found = Found { subscription, fates, seen, failures };
    found.list_failures();
    let is_ack = |it: &&&Settle| it.verdict == SettleVerdict::Ack && it.is_confirmed();
    for ack in subscription.settles.iter().filter(is_ack) {
        for offset in ack.from..ack.to {
            found.check_ack(ack, offset, options, report);
        }
    }
}

impl<'a> Found<'a, '_> {
    fn list_failures(&mut self) {
        for (offset, settles) in &self.fates.failed {
            for settle in settles {
                let Some(seen) = self.seen.get(offset).and_then(|seen| seen.first()) else {
                    continue;
                };
                let line = (settle.client, seen.order_group);
                self.failures.entry(line).or_default().push((settle.invoked, *offset));
            }
        }
        self.failures.values_mut().for_each(|failures| failures.sort_unstable());
    }

    fn check_ack(&self, ack: &Settle, offset: u64, options: &Options, report: &mut Report) {
        let Some(given) = self.given(ack, offset) else { return };
        let Some(failures) = self.failures.get(&(ack.client, given.order_group)) else { return };
        let before = failures.partition_point(|(at, _)| *at < given.completed);
        let failures = &failures[before.saturating_sub(FAILURES_MAX)..before];
        let is_open = |&&(at, failed): &&(Time, u64)| {
            failed < offset && !self.is_over(failed, at, ack.invoked, options)
        };
        if let Some((at, failed)) = failures.iter().find(is_open) {
            let subscription = self.subscription;
            report.add(Kind::AckedAhead, subscription.queue, Some(subscription.group), || {
                format!(
                    "client {} failed offset {failed} at {at}, got offset {offset} by {} and \
                     acknowledged it at {}",
                    ack.client, given.completed, ack.invoked,
                )
            });
        }
    }

    /// The delivery that is acknowledged.
    fn given(&self, ack: &Settle, offset: u64) -> Option<&'a Seen> {
        let theirs = self.seen.get(&offset)?.iter();
        let theirs = theirs.filter(|it| it.client == ack.client && it.completed <= ack.invoked);
        theirs.max_by_key(|it| it.completed).copied()
    }

    /// Whether a message that failed can have been delivered again or settled at a time.
    fn is_over(&self, offset: u64, failed: Time, at: Time, options: &Options) -> bool {
        let is_settled = self.fates.settled.get(&offset).is_some_and(|settled| *settled <= at);
        let seen = self.seen.get(&offset).map_or(&[][..], |seen| seen);
        let comes_again = seen.iter().any(|it| it.completed > failed && it.invoked <= at);
        // Nobody may have written down its last delivery, and nothing tells of that lease's end.
        let is_gone = options.limited && !seen.iter().any(|it| it.invoked > at);
        is_settled || comes_again || is_gone
    }
}
