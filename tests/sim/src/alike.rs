//! Groups that compare messages by a property, and what must hold of them: once a message with a
//! value was acked durably, no other message with that value is delivered to the group by that
//! shard, and all of them are settled in the end.
use std::collections::{BTreeMap, BTreeSet};

use yard_checker::{Event, Outcome, Skip};
use yard_wire::{QueueIndex, QueueOffset, ShardId, TopicId};

use crate::agenda::Micros;
use crate::base::{Base, Found, queue_name};

/// The property.
pub(crate) const ALIKE: &str = "alike";

/// A message of a topic.
pub(crate) type Spot = (TopicId, QueueIndex, QueueOffset);

/// Where a value counts: group, topic (its own, if it goes on in a wide one), shard, and the value.
type Scope = (u64, TopicId, ShardId, u64);

/// What is known of the values.
#[derive(Debug, Default)]
pub(crate) struct Alike {
    /// Of the messages that have one, by producer and number.
    sent: BTreeMap<(u64, u64), u64>,
    /// Of the messages that groups were given.
    given: BTreeMap<(u64, Spot), u64>,
    /// The message that was acked, and since when that is certain.
    acked: BTreeMap<Scope, (Spot, Micros)>,
    /// The messages that were acked, perhaps.
    tried: BTreeMap<Scope, BTreeSet<Spot>>,
}

impl Alike {
    /// A message is sent with a value.
    pub(crate) fn sent(&mut self, message: (u64, u64), value: u64) {
        self.sent.insert(message, value);
    }
}

fn scope(base: &Base, group: u64, (topic, queue, _): Spot, value: u64) -> Scope {
    let route = base.route(topic).expect("what is consumed has a route");
    let is_wide = base.wide_routes.iter().any(|wide| wide.topic == topic);
    let own = if is_wide { base.routes[0].topic } else { topic };
    (group, own, route.shards[usize::from(queue.0)], value)
}

/// Somebody was given a message that the broker sent at this time.
pub(crate) fn given(base: &mut Base, group: u64, spot: Spot, found: &Found, decided: Micros) {
    let value = base.alike.sent.get(&(found.producer, found.seq)).copied();
    let Some(value) = value.filter(|_| base.plan.compares(group)) else { return };
    base.alike.given.insert((group, spot), value);
    let acked = base.alike.acked.get(&scope(base, group, spot, value)).copied();
    if let Some((first, since)) = acked.filter(|(first, since)| *first != spot && *since < decided)
    {
        base.fail(|| {
            let like = format!("{first:?} with the same value {value} was acked by {since}");
            format!("{spot:?} was delivered to group {group} at {decided}, and {like}")
        });
    }
}

/// Somebody acked a message: it is certain, or nobody knows.
pub(crate) fn acked(base: &mut Base, group: u64, spot: Spot, outcome: Outcome) {
    let Some(value) = base.alike.given.get(&(group, spot)).copied() else { return };
    let scope = scope(base, group, spot, value);
    match outcome {
        Outcome::Refused => return,
        Outcome::Unknown => {}
        Outcome::Ok { .. } => {
            base.alike.acked.entry(scope).or_insert((spot, base.now));
        }
    }
    base.alike.tried.entry(scope).or_default().insert(spot);
}

/// Everything was read: what another message may have made a duplicate is settled without having
/// been acked. What else is not settled is lost.
pub(crate) fn finish(base: &mut Base) {
    let mut all: BTreeMap<(u64, Spot), u64> = base.alike.given.clone();
    let mut groups = base.called();
    groups.retain(|group| base.plan.compares(*group));
    for scan in &base.history.scans {
        let topic = TopicId(scan.queue.topic);
        if !base.routes.iter().any(|route| route.topic == topic) {
            continue;
        }
        let queue = QueueIndex(scan.queue.index as u16);
        for stored in &scan.messages {
            let Some(value) = base.alike.sent.get(&(stored.producer, stored.seq)) else { continue };
            let spot = (topic, queue, QueueOffset(stored.offset));
            all.extend(groups.iter().map(|group| ((*group, spot), *value)));
        }
    }
    for ((group, spot), value) in all {
        let tried = base.alike.tried.get(&scope(base, group, spot, value));
        let others = tried.into_iter().flatten().filter(|other| **other != spot);
        if others.count() > 0 {
            let (topic, queue, QueueOffset(from)) = spot;
            let queue = queue_name(topic, queue);
            base.history.push(Event::Skip(Skip { group, queue, from, to: from + 1 }));
        }
    }
}
