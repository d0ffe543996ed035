//! What was passed on to a wide topic is the group's own topic's all the same: in the history it
//! is written down as if it had been delivered and settled there. So every rule of order, of
//! settling and of attempts holds through a drain and back.
//!
//! ```text
//!   wide queue 5, offset 17 ─► message 3.41 ─► own queue 2, offset 9
//!        deliveries, settlements, skips: of the own queue; scans: left out, each message is there
//!        once
//! ```
use std::collections::{BTreeMap, BTreeSet};

use yard_checker::{AckLevel, Outcome, Poll, Queue, Scan, Settle, Skip};

use crate::base::Base;

/// Producer, and number in it.
type Name = (u64, u64);
type Place = (Queue, u64);

/// Consumers get messages of a queue in its order from each wide queue, not from all of them.
const CLIENTS_APART: u64 = 1_000_000_000;

#[derive(Default)]
struct Folding {
    /// What lies in wide topics.
    names: BTreeMap<Place, Name>,
    /// Where messages lie in their own topics, as far as that is known.
    places: BTreeMap<Name, Place>,
    /// Topics in which order is that of order groups alone.
    ordered: BTreeSet<u32>,
}

/// Writes the history of the wide topics down as that of the own ones.
pub(crate) fn fold(base: &mut Base) {
    let wide: BTreeSet<u32> = base.wide_routes.iter().map(|route| route.topic.0).collect();
    let own: BTreeSet<u32> = base.routes.iter().map(|route| route.topic.0).collect();
    if wide.is_empty() {
        return;
    }
    let mut folding = Folding::default();
    let routes = base.routes.iter().zip(&base.plan.ordered);
    let ordered = routes.filter(|(_, ordered)| ordered.is_some());
    folding.ordered.extend(ordered.map(|(route, _)| route.topic.0));
    for send in &base.history.sends {
        if let (Outcome::Ok { offset: Some(offset) }, AckLevel::Synced) = (send.outcome, send.level)
        {
            folding.places.insert((send.producer, send.seq), (send.queue, offset));
        }
    }
    let mut twice = None;
    let mut seen: BTreeSet<(u32, Name)> = BTreeSet::new();
    for Scan { queue, messages, .. } in &base.history.scans {
        for stored in messages {
            let name = (stored.producer, stored.seq);
            if wide.contains(&queue.topic) {
                folding.names.insert((*queue, stored.offset), name);
                if !seen.insert((queue.topic, name)) {
                    twice = Some((*queue, stored.offset));
                }
            } else if own.contains(&queue.topic) {
                folding.places.insert(name, (*queue, stored.offset));
            }
        }
    }
    for poll in base.history.polls.iter().filter(|poll| own.contains(&poll.queue.topic)) {
        for delivery in &poll.deliveries {
            let name = (delivery.producer, delivery.seq);
            folding.places.insert(name, (poll.queue, delivery.offset));
        }
    }
    if let Some((queue, offset)) = twice {
        base.fail(|| format!("what lies in queue {queue} at {offset} was passed on twice"));
    }
    let history = &mut base.history;
    history.scans.retain(|scan| !wide.contains(&scan.queue.topic));
    let polls = std::mem::take(&mut history.polls).into_iter();
    history.polls = polls.flat_map(|poll| folding.poll(&wide, poll)).collect();
    let settles = std::mem::take(&mut history.settles).into_iter();
    history.settles = settles.flat_map(|settle| folding.settle(&wide, settle)).collect();
    let skips = std::mem::take(&mut history.skips).into_iter();
    history.skips = skips.flat_map(|skip| folding.skip(&wide, skip)).collect();
}

impl Folding {
    /// Where the messages of a range of a wide queue lie.
    fn own(&self, queue: Queue, from: u64, to: u64) -> impl Iterator<Item = Place> {
        let names = self.names.range((queue, from)..(queue, to));
        names.filter_map(|(_, name)| self.places.get(name).copied())
    }

    fn client(&self, client: u64, wide: Queue, own: Queue) -> u64 {
        if self.ordered.contains(&own.topic) {
            return client;
        }
        client + (u64::from(wide.index) + 1) * CLIENTS_APART
    }

    fn poll(&self, wide: &BTreeSet<u32>, poll: Poll) -> Vec<Poll> {
        if !wide.contains(&poll.queue.topic) {
            return vec![poll];
        }
        let mut polls: BTreeMap<Queue, Poll> = BTreeMap::new();
        for delivery in &poll.deliveries {
            // What retention has removed, and nobody was told the place of, is not judged.
            let place = self.places.get(&(delivery.producer, delivery.seq));
            let Some((queue, offset)) = place.copied() else { continue };
            let of_queue = polls.entry(queue).or_insert_with(|| {
                let client = self.client(poll.client, poll.queue, queue);
                Poll { client, queue, deliveries: Vec::new(), ..poll.clone() }
            });
            let mut delivery = *delivery;
            delivery.offset = offset;
            of_queue.deliveries.push(delivery);
        }
        polls.into_values().collect()
    }

    fn settle(&self, wide: &BTreeSet<u32>, settle: Settle) -> Vec<Settle> {
        if !wide.contains(&settle.queue.topic) {
            return vec![settle];
        }
        let own = self.own(settle.queue, settle.from, settle.to);
        let settled = own.map(|(queue, from)| {
            let client = self.client(settle.client, settle.queue, queue);
            Settle { client, queue, from, to: from + 1, ..settle }
        });
        settled.collect()
    }

    fn skip(&self, wide: &BTreeSet<u32>, skip: Skip) -> Vec<Skip> {
        if !wide.contains(&skip.queue.topic) {
            return vec![skip];
        }
        let own = self.own(skip.queue, skip.from, skip.to);
        own.map(|(queue, from)| Skip { queue, from, to: from + 1, ..skip }).collect()
    }
}
