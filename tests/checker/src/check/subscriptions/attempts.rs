//! The attempt counter: each delivery of a message to a group has a higher one than those before,
//! two deliveries never share one, and the retry policy's limit holds. A settlement counts for the
//! delivery that it is about: none counts once its consumer had the message by a later one.

use super::{Options, Seen, Subscription, merged, stretch};
use crate::anomaly::Kind;
use crate::index::Index;
use crate::sweep::{Span, disorder};
use crate::verdict::Report;
use std::collections::BTreeMap;

pub(crate) fn check(
    index: &Index,
    subscription: &Subscription,
    options: &Options,
    report: &mut Report,
) {
    let (queue, group) = (subscription.queue, Some(subscription.group));
    let max = options.attempts_max.unwrap_or(u32::MAX);
    for seen in subscription.seen.iter().filter(|seen| seen.attempt > max || seen.attempt == 0) {
        report.add(Kind::AttemptsExceeded, queue, group, || {
            format!("offset {} was delivered as attempt {}", seen.offset, seen.attempt)
        });
    }
    let crashes = if options.attempts_survive_crashes { &[] } else { index.crashes.all() };
    let cuts = merged(crashes, &subscription.resets);
    // By message and stretch, in each by attempt.
    let mut order: Vec<(u64, usize, u32, u32)> = Vec::new();
    for (number, seen) in subscription.seen.iter().enumerate() {
        if let Some(stretch) = stretch(&cuts, seen.invoked, seen.completed) {
            order.push((seen.offset, stretch, seen.attempt, number as u32));
        }
    }
    order.sort_unstable();
    for message in order.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)).filter(|run| run.len() > 1) {
        let may_repeat = options.ordered.contains(&queue.topic);
        check_message(subscription, message, may_repeat, report);
    }
    check_settles(index, subscription, report);
}

fn check_settles(index: &Index, subscription: &Subscription, report: &mut Report) {
    // After a crash or a reset attempts may have been counted again.
    let cuts = merged(index.crashes.all(), &subscription.resets);
    let mut again: BTreeMap<u64, Vec<&Seen>> = BTreeMap::new();
    for seen in subscription.seen.iter().filter(|seen| seen.attempt > 1) {
        again.entry(seen.offset).or_default().push(seen);
    }
    let settles = subscription.settles.iter().filter(|it| it.is_confirmed() && it.attempt > 0);
    for settle in settles {
        let completed = settle.completed.unwrap_or(u64::MAX);
        for (offset, seen) in again.range(settle.from..settle.to) {
            let is_later = |it: &&&Seen| {
                let is_its = it.client == settle.client && it.attempt > settle.attempt;
                let is_before = it.completed < settle.invoked;
                is_its && is_before && stretch(&cuts, it.invoked, completed).is_some()
            };
            let Some(later) = seen.iter().find(is_later) else { continue };
            let (queue, group) = (subscription.queue, Some(subscription.group));
            report.add(Kind::LateSettle, queue, group, || {
                format!(
                    "client {} had offset {offset} as attempt {} by {}, and attempt {} was settled \
                     at {}..{completed}",
                    later.client, later.attempt, later.completed, settle.attempt, settle.invoked,
                )
            });
        }
    }
}

fn check_message(
    subscription: &Subscription,
    deliveries: &[(u64, usize, u32, u32)],
    may_repeat: bool,
    report: &mut Report,
) {
    let seen = |number: u32| &subscription.seen[number as usize];
    let mut add = |a: &Seen, b: &Seen| {
        report.add(Kind::NonmonotonicAttempt, subscription.queue, Some(subscription.group), || {
            format!(
                "offset {} was attempt {} by {}, then attempt {} by {}",
                a.offset, a.attempt, a.completed, b.attempt, b.completed,
            )
        });
    };
    let is_repeated = |pair: &&[(u64, usize, u32, u32)]| pair[0].2 == pair[1].2 && !may_repeat;
    for pair in deliveries.windows(2).filter(is_repeated) {
        add(seen(pair[0].3), seen(pair[1].3));
    }
    let span = |&(_, _, attempt, number): &(u64, usize, u32, u32)| Span {
        start: seen(number).invoked,
        end: seen(number).completed,
        value: u64::from(attempt),
        item: number,
    };
    let mut spans: Vec<Span> = deliveries.iter().map(span).collect();
    disorder(&mut spans, |a, b| add(seen(a.item), seen(b.item)));
}
