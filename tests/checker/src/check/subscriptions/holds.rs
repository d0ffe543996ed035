//! Who was told that it holds a message until a time has it alone until then.

use super::Subscription;
use crate::anomaly::Kind;
use crate::event::{Hold, Time};
use crate::index::{Index, any_within};
use crate::verdict::Report;
use std::collections::BTreeMap;

pub(crate) fn check(index: &Index, subscription: &Subscription, report: &mut Report) {
    if subscription.holds.is_empty() {
        return;
    }
    let mut holds: BTreeMap<u64, Vec<&Hold>> = BTreeMap::new();
    for hold in &subscription.holds {
        (hold.from..hold.to).for_each(|offset| holds.entry(offset).or_default().push(hold));
    }
    let undone = |from: Time, to: Time| {
        any_within(index.crashes.all(), from, to) || any_within(&subscription.resets, from, to)
    };
    for seen in &subscription.seen {
        let (offset, begun, ended) = (seen.offset, seen.invoked, seen.completed);
        let Some(holds) = holds.get(&offset) else { continue };
        let is_broken = |hold: &&&Hold| {
            hold.at < begun
                && ended < hold.until
                && !undone(hold.asked, ended)
                && !is_settled(subscription, hold, offset, ended)
        };
        if let Some(hold) = holds.iter().find(is_broken) {
            let (queue, group) = (subscription.queue, Some(subscription.group));
            report.add(Kind::HeldElsewhere, queue, group, || {
                format!(
                    "client {} was told at {} that it holds offset {offset} until {}, client {} \
                     got it at {begun}..{ended}",
                    hold.client, hold.at, hold.until, seen.client,
                )
            });
        }
    }
}

/// Whether whoever holds a message may have settled it by a time.
fn is_settled(subscription: &Subscription, hold: &Hold, offset: u64, by: Time) -> bool {
    subscription.settles.iter().any(|settle| {
        let is_its = settle.client == hold.client && (settle.from..settle.to).contains(&offset);
        is_its && settle.invoked <= by
    })
}
