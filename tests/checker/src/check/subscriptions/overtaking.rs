//! Ordered topics: a message is delivered when those before it in its order group are settled, or
//! in the hands of the consumer that gets it and not failed there. Messages without an order group
//! are one order group in each queue.

use super::{Options, Seen, Subscription};
use crate::anomaly::Kind;
use crate::event::{Outcome, Settle, SettleVerdict, Time};
use crate::verdict::Report;
use std::collections::BTreeMap;

/// Messages before one in its order group that are looked at.
const BEFORE_MAX: usize = 64;

/// The deliveries of each message of an order group, by offset.
type Line<'a> = Vec<(u64, Vec<&'a Seen>)>;

/// What became of messages, by offset.
#[derive(Default)]
pub(super) struct Fates<'h> {
    /// When each can first have been settled for good.
    pub(super) settled: BTreeMap<u64, Time>,
    /// Failures that the broker has confirmed.
    pub(super) failed: BTreeMap<u64, Vec<&'h Settle>>,
}

pub(crate) fn check(subscription: &Subscription, options: &Options, report: &mut Report) {
    // After a reset a group begins anew, with what it has settled before.
    if !options.ordered.contains(&subscription.queue.topic) || !subscription.resets.is_empty() {
        return;
    }
    let mut lines: BTreeMap<Option<u64>, BTreeMap<u64, Vec<&Seen>>> = BTreeMap::new();
    for seen in &subscription.seen {
        let line = lines.entry(seen.order_group).or_default();
        line.entry(seen.offset).or_default().push(seen);
    }
    let fates = fates(subscription);
    for line in lines.into_values() {
        check_line(subscription, &line.into_iter().collect(), &fates, options, report);
    }
}

pub(super) fn fates<'h>(subscription: &Subscription<'h>) -> Fates<'h> {
    let mut fates = Fates::default();
    // When they were is not written down: the broker has the benefit.
    let skipped = subscription.skips.iter().flat_map(|skip| skip.from..skip.to);
    fates.settled.extend(skipped.map(|offset| (offset, 0)));
    for settle in subscription.settles.iter().filter(|it| it.outcome != Outcome::Refused) {
        for offset in settle.from..settle.to {
            if settle.is_final() {
                let first = fates.settled.entry(offset).or_insert(settle.invoked);
                *first = settle.invoked.min(*first);
            } else if settle.is_confirmed() && settle.verdict == SettleVerdict::Nack {
                fates.failed.entry(offset).or_default().push(settle);
            }
        }
    }
    fates
}

fn check_line(
    subscription: &Subscription,
    line: &Line,
    fates: &Fates,
    options: &Options,
    report: &mut Report,
) {
    for (at, (_, deliveries)) in line.iter().enumerate() {
        for (before, theirs) in &line[at.saturating_sub(BEFORE_MAX)..at] {
            for seen in deliveries {
                let is_settled = fates.settled.get(before).is_some_and(|at| *at <= seen.completed);
                if !is_settled && !may_follow(seen, theirs, fates.failed.get(before), options) {
                    add(subscription, *before, seen, report);
                }
            }
        }
    }
}

/// Whether a message can have been delivered while one before it was open, which was delivered so.
fn may_follow(
    seen: &Seen,
    theirs: &[&Seen],
    failed: Option<&Vec<&Settle>>,
    options: &Options,
) -> bool {
    let was_before = |it: &&&Seen| it.invoked <= seen.completed;
    // The latest that began of those that had ended: whatever had ended before it is superseded.
    let ended = theirs.iter().filter(|it| it.completed <= seen.invoked);
    let latest = ended.map(|it| it.invoked).max();
    let is_superseded = |it: &Seen| latest.is_some_and(|began| it.completed < began);
    let has_failed = |it: &Seen| {
        failed.into_iter().flatten().any(|settle| {
            let is_known = settle.completed.is_some_and(|at| at <= seen.invoked);
            settle.client == it.client && it.completed <= settle.invoked && is_known
        })
    };
    // Nobody may have written down its last delivery, and nothing tells of the end of that lease.
    let is_gone = options.limited && !theirs.iter().any(|it| it.invoked > seen.completed);
    let mut last = theirs.iter().filter(was_before).filter(|it| !is_superseded(it));
    is_gone || last.any(|it| it.client == seen.client && !has_failed(it))
}

fn add(subscription: &Subscription, before: u64, seen: &Seen, report: &mut Report) {
    report.add(Kind::Overtaken, subscription.queue, Some(subscription.group), || {
        format!(
            "client {} got offset {} by {}, and offset {before} was open",
            seen.client, seen.offset, seen.completed,
        )
    });
}
