//! Conservation: what is stored is delivered, what is delivered is settled, nothing in between is
//! passed over.

use super::expiry::has_expired;
use super::{Options, Subscription};
use crate::anomaly::Kind;
use crate::event::{DeadLetter, Outcome, Queue};
use crate::index::{Index, NO_SEND};
use crate::intervals::Intervals;
use crate::verdict::Report;
use std::collections::BTreeSet;

pub(crate) fn check(
    index: &Index,
    subscription: &Subscription,
    options: &Options,
    report: &mut Report,
) {
    let mut skipped = Intervals::default();
    for skip in &subscription.skips {
        skipped.insert(skip.from, skip.to);
    }
    // What may have been settled counts as settled here: the broker has the benefit.
    let mut done = skipped.clone();
    for settle in &subscription.settles {
        if settle.is_final() && settle.outcome != Outcome::Refused {
            done.insert(settle.from, settle.to);
        }
    }
    for offset in dead(index, subscription) {
        done.insert(offset, offset + 1);
        // Each of its leases may have ended before it arrived.
        skipped.insert(offset, offset + 1);
    }
    for offset in expired(index, subscription, options) {
        done.insert(offset, offset + 1);
        skipped.insert(offset, offset + 1);
    }
    let mut delivered: Vec<u64> = subscription.seen.iter().map(|seen| seen.offset).collect();
    delivered.sort_unstable();
    delivered.dedup();
    match index.scans.get(&subscription.queue) {
        Some(scan) => {
            let stored = scan.messages.iter().map(|(offset, _)| *offset);
            let ends = delivered.first().copied().zip(delivered.last().copied());
            let mut delivered = delivered.iter().copied().peekable();
            for offset in stored {
                while delivered.next_if(|other| *other < offset).is_some() {}
                if delivered.peek() == Some(&offset) {
                    continue;
                }
                // A cumulative acknowledgement covers what the broker skipped: it excuses no gap.
                let gap = ends.is_some_and(|(first, last)| first < offset && offset < last);
                if gap && !skipped.contains(offset) {
                    add(subscription, Kind::PollSkip, offset, report);
                } else if !gap && options.expect_all_delivered && !done.contains(offset) {
                    add(subscription, Kind::NotDelivered, offset, report);
                }
            }
        }
        None => {
            for pair in delivered.windows(2) {
                if !skipped.covers(pair[0] + 1, pair[1]) {
                    add(subscription, Kind::PollSkip, pair[0] + 1, report);
                }
            }
        }
    }
    if options.expect_all_settled {
        check_settled(subscription, &done, options, report);
    }
}

/// Offsets of stored messages that nobody wants any more: they may be withheld from a group.
fn expired(index: &Index, subscription: &Subscription, options: &Options) -> Vec<u64> {
    let Some(scan) = index.scans.get(&subscription.queue).filter(|_| !options.expired_come) else {
        return Vec::new();
    };
    let is_over = |at: u32| at != NO_SEND && has_expired(index.send(at).expires, scan.at);
    scan.messages.iter().filter(|(_, at)| is_over(*at)).map(|(offset, _)| *offset).collect()
}

/// Offsets of the messages that are in the group's dead-letter topic.
fn dead(index: &Index, subscription: &Subscription) -> BTreeSet<u64> {
    let source = |dead: &&DeadLetter| {
        dead.group == subscription.group && dead.source == subscription.queue.topic
    };
    let topics = index.history.dead_letters.iter().filter(source);
    let copies: BTreeSet<u32> = topics
        .flat_map(|dead| {
            let first = Queue { topic: dead.topic, index: 0 };
            let last = Queue { topic: dead.topic, index: u32::MAX };
            index.dead_scans.range(first..=last).flat_map(|(_, scan)| &scan.messages)
        })
        .map(|(_, at)| *at)
        .filter(|at| *at != NO_SEND)
        .collect();
    let stored = index.scans.get(&subscription.queue).into_iter().flat_map(|scan| &scan.messages);
    // What retention has removed is known by its deliveries only.
    let seen = subscription.seen.iter().map(|seen| (seen.offset, seen.send));
    let all = stored.copied().chain(seen);
    all.filter(|(_, at)| copies.contains(at)).map(|(offset, _)| offset).collect()
}

fn check_settled(
    subscription: &Subscription,
    done: &Intervals,
    options: &Options,
    report: &mut Report,
) {
    let mut last: Vec<(u64, u32)> =
        subscription.seen.iter().map(|seen| (seen.offset, seen.attempt)).collect();
    last.sort_unstable();
    for message in last.chunk_by(|a, b| a.0 == b.0) {
        let (offset, attempt) = message[message.len() - 1];
        let exhausted = options.attempts_max.is_some_and(|max| attempt >= max);
        if !exhausted && !done.contains(offset) {
            add(subscription, Kind::UnackedLost, offset, report);
        }
    }
}

fn add(subscription: &Subscription, kind: Kind, offset: u64, report: &mut Report) {
    report.add(kind, subscription.queue, Some(subscription.group), || format!("offset {offset}"));
}
