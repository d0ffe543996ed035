//! Each group on each queue: order, attempts, acknowledgements that hold, conservation.

mod acks;
mod attempts;
mod conservation;
mod expiry;
mod failures;
mod holds;
mod order;
mod overtaking;
mod removal;

use super::Options;
use crate::event::{Hold, Poll, Queue, Settle, Skip, Time};
use crate::index::{Index, NO_SEND};
use crate::verdict::Report;
use std::collections::{BTreeMap, BTreeSet};

/// A group's reading of one queue.
pub(crate) struct Subscription<'h> {
    pub(crate) group: u64,
    pub(crate) queue: Queue,
    /// All deliveries, polls in order of their invocation, inside a poll as received.
    pub(crate) seen: Vec<Seen>,
    pub(crate) settles: Vec<&'h Settle>,
    pub(crate) holds: Vec<Hold>,
    pub(crate) skips: Vec<Skip>,
    /// When an operator moved the position, ascending.
    pub(crate) resets: Vec<Time>,
}

/// A delivery with the interval of its poll.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) invoked: Time,
    pub(crate) completed: Time,
    pub(crate) offset: u64,
    pub(crate) attempt: u32,
    /// The poll's place among the subscription's.
    pub(crate) poll: u32,
    pub(crate) client: u64,
    pub(crate) order_group: Option<u64>,
    /// Number of the send, [`NO_SEND`] if it is none.
    pub(crate) send: u32,
}

type Name = (u64, Queue);

/// Judges every group on every queue that it polled, settled, or reads by its topic.
pub(crate) fn check(index: &Index, options: &Options, report: &mut Report) {
    let history = index.history;
    let mut polls: Vec<&Poll> = history.polls.iter().collect();
    polls.sort_by_key(|poll| (poll.group, poll.queue, poll.invoked, poll.completed));
    let mut settles: Vec<&Settle> = history.settles.iter().collect();
    settles.sort_by_key(|settle| (settle.group, settle.queue));
    let (mut skips, mut resets) = (BTreeMap::new(), BTreeMap::new());
    let mut holds: BTreeMap<Name, Vec<Hold>> = BTreeMap::new();
    for hold in &history.holds {
        holds.entry((hold.group, hold.queue)).or_default().push(*hold);
    }
    for skip in &history.skips {
        skips.entry((skip.group, skip.queue)).or_insert_with(Vec::new).push(*skip);
    }
    for reset in &history.resets {
        resets.entry((reset.group, reset.queue)).or_insert_with(Vec::new).push(reset.at);
    }
    let removed: BTreeMap<u64, Time> =
        history.removals.iter().map(|removal| (removal.group, removal.at)).collect();
    let (mut polls, mut settles) = (polls.as_slice(), settles.as_slice());
    for name in names(index) {
        let polled = take_run(&mut polls, |poll| (poll.group, poll.queue) == name);
        let settled = take_run(&mut settles, |settle| (settle.group, settle.queue) == name);
        let mut subscription = Subscription {
            group: name.0,
            queue: name.1,
            seen: flatten(index, polled),
            settles: settled.to_vec(),
            holds: holds.remove(&name).unwrap_or_default(),
            skips: skips.remove(&name).unwrap_or_default(),
            resets: resets.remove(&name).unwrap_or_default(),
        };
        subscription.resets.sort_unstable();
        let is_ordered = options.ordered.contains(&subscription.queue.topic);
        if !is_ordered && !options.compared.contains(&subscription.group) {
            order::check(index, &subscription, options, report);
        }
        overtaking::check(&subscription, options, report);
        failures::check(&subscription, options, report);
        attempts::check(index, &subscription, options, report);
        acks::check(index, &subscription, report);
        expiry::check(index, &subscription, report);
        holds::check(index, &subscription, report);
        match removed.get(&subscription.group) {
            Some(at) => removal::check(&subscription, *at, report),
            None => conservation::check(index, &subscription, options, report),
        }
    }
    assert!(polls.is_empty() && settles.is_empty(), "every poll and settle has a name");
}

/// Every (group, queue) of a poll or settle; and the scanned queues of every topic that the
/// group polled, since a group reads all queues of its topics.
fn names(index: &Index) -> BTreeSet<Name> {
    let history = index.history;
    let mut names: BTreeSet<Name> =
        history.polls.iter().map(|poll| (poll.group, poll.queue)).collect();
    let topics: BTreeSet<(u64, u32)> =
        names.iter().map(|(group, queue)| (*group, queue.topic)).collect();
    for (group, topic) in topics {
        let first = Queue { topic, index: 0 };
        let last = Queue { topic, index: u32::MAX };
        names.extend(index.scans.range(first..=last).map(|(queue, _)| (group, *queue)));
    }
    names.extend(history.settles.iter().map(|settle| (settle.group, settle.queue)));
    names
}

/// Splits off the leading elements that belong.
fn take_run<'a, T>(rest: &mut &'a [T], belongs: impl Fn(&T) -> bool) -> &'a [T] {
    let length = rest.iter().take_while(|item| belongs(item)).count();
    let (run, after) = rest.split_at(length);
    *rest = after;
    run
}

fn flatten(index: &Index, polls: &[&Poll]) -> Vec<Seen> {
    let mut seen = Vec::with_capacity(polls.iter().map(|poll| poll.deliveries.len()).sum());
    for (number, poll) in polls.iter().enumerate() {
        seen.extend(poll.deliveries.iter().map(|delivery| {
            let send = index.find(delivery.producer, delivery.seq);
            Seen {
                invoked: poll.invoked,
                completed: poll.completed,
                offset: delivery.offset,
                attempt: delivery.attempt,
                poll: number as u32,
                client: poll.client,
                order_group: send.and_then(|at| index.send(at).order_group),
                send: send.unwrap_or(NO_SEND),
            }
        }));
    }
    seen
}

/// Which of the stretches between `cuts` (ascending) an interval lies in; None if a cut is
/// inside it, so that it belongs to either side.
pub(crate) fn stretch(cuts: &[Time], invoked: Time, completed: Time) -> Option<usize> {
    let before = cuts.partition_point(|at| *at < invoked);
    (before == cuts.partition_point(|at| *at <= completed)).then_some(before)
}

/// The union of two ascending lists.
pub(crate) fn merged(a: &[Time], b: &[Time]) -> Vec<Time> {
    let mut times = [a, b].concat();
    times.sort_unstable();
    times
}
