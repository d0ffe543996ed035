//! Random events around ordered topics and exclusive queues: what is delivered follows what is
//! settled or in the same hands, and in the end everything is settled.
use std::collections::BTreeSet;

use yard_wire::{QueueOffset, SubscriptionId, TopicId};

use super::script::Script;
use super::world::{Delivery, Out, World, config};
use super::{Play, Random};
use crate::OrderKey;

const TOPIC: TopicId = TopicId(1);
const QUEUES: u64 = 2;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

struct Run {
    random: Random,
    script: Script,
    sequence: u64,
    members: BTreeSet<&'static str>,
    is_exclusive: bool,
    is_ordered: bool,
}

impl Play for Run {
    fn script(&mut self) -> &mut Script {
        &mut self.script
    }

    fn world(&self) -> &World {
        &self.script.world
    }

    fn look(&mut self, out: &Out) {
        if let Out::Deliver(_, delivery) = out {
            self.look_at(delivery);
        }
    }
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut script = Script::new(World::new(config(0, 1)));
        let is_ordered = random.below(4) > 0;
        let after_last = ["go-on", "stop"][random.below(2) as usize];
        let made =
            if is_ordered { format!("ordered t 2 {after_last}") } else { "topic t 2".to_owned() };
        script.run(&made);
        script.run("policy g 100ms 3");
        let is_exclusive = random.below(3) == 0;
        let (sequence, members) = (0, BTreeSet::new());
        Self { random, script, sequence, members, is_exclusive, is_ordered }
    }

    /// What is delivered follows what is settled or in the same hands.
    fn look_at(&self, delivery: &Delivery) {
        let world = &self.script.world;
        let group = world.broker.groups.iter().find(|(_, it)| it.name == "g").unwrap().1;
        let Some(state) = group.queues.get(&delivery.queue) else { return };
        let Some(flight) = &state.flight else { return };
        let key = |offset: u64| {
            world.orders.get(&(TOPIC, delivery.queue, offset)).copied().unwrap_or(OrderKey::NONE)
        };
        let holder = |offset: u64| {
            let (from, to) = (QueueOffset(offset), QueueOffset(offset + 1));
            flight.leases.ranges(from, to).next().map(|(_, _, hold)| hold.subscription)
        };
        let is_over = |offset: u64| {
            let offset = QueueOffset(offset);
            let returned = state.progress.returned().get(offset);
            let is_doomed = returned.is_some_and(|it| it.doom.is_some());
            state.progress.settled_end_of(offset).is_some() || is_doomed
        };
        let named = |offset: QueueOffset| self.is_ordered.then(|| key(offset.0));
        assert!(delivery.items.iter().all(|item| item.order == named(item.offset)), "as it says");
        for item in delivery.items.iter().filter(|_| self.is_ordered) {
            let earlier = (0..item.offset.0).filter(|it| key(*it) == key(item.offset.0));
            for before in earlier.filter(|it| !is_over(*it)) {
                assert_eq!(holder(before), Some(delivery.subscription), "{before} is open");
            }
        }
        if self.is_exclusive {
            let held = flight.leases.iter().map(|(_, lease)| lease.hold.subscription);
            let holders: BTreeSet<SubscriptionId> = held.collect();
            assert!(holders.len() <= 1, "a queue is one member's");
        }
    }

    fn step(&mut self) {
        let name = NAMES[self.random.below(4) as usize];
        let queue = self.random.below(QUEUES);
        let from = self.random.below(self.sequence.max(1));
        let to = from + 1 + self.random.below(4);
        match self.random.below(16) {
            0..=2 => {
                let count = 1 + self.random.below(6);
                let (at, orders) = (self.sequence, ["a,b,c", "a", "a,-,b"][queue as usize]);
                self.sequence += count;
                self.run(&format!("put p1 {at} {count} t/{queue} orders={orders}"));
                self.run("sync");
            }
            3 if self.members.insert(name) => {
                let mode = if self.is_exclusive { " mode=exclusive" } else { "" };
                let credit = self.random.below(20);
                self.run(&format!("sub {name} g t earliest lease=1000 credit={credit}{mode}"));
                self.run("sync");
            }
            4 if self.members.remove(name) => self.run(&format!("close {name}")),
            5 | 6 if self.members.contains(name) => self.run(&format!("credit {name} 5")),
            7..=10 if self.members.contains(name) => {
                self.run(&format!("ack {name} {queue} {from}..{to}"));
            }
            11 if self.members.contains(name) => {
                self.run(&format!("nack {name} {queue} {from}..{to}"));
            }
            12 if self.members.contains(name) => {
                let verdict = ["release", "reject"][self.random.below(2) as usize];
                self.run(&format!("{verdict} {name} {queue} {from}..{to}"));
            }
            13 | 14 => {
                let at = self.script.world.now.0 + self.random.below(700);
                self.pass(at);
            }
            15 if self.random.below(4) == 0 => {
                self.run("sync");
                self.members.clear();
                self.run("restart");
            }
            _ => self.run("sync"),
        }
    }

    /// Everything is acked, whatever has stopped is buried, and nothing is left.
    fn drain(&mut self) {
        if self.members.insert("z") {
            let mode = if self.is_exclusive { " mode=exclusive" } else { "" };
            self.run(&format!("sub z g t earliest lease=1000 credit=1000{mode}"));
        }
        for _ in 0..60 {
            self.run("sync");
            for member in self.members.clone() {
                self.run(&format!("credit {member} 100"));
                for queue in 0..QUEUES {
                    self.run(&format!("ack {member} {queue} 0..{}", self.sequence + 1));
                }
            }
            self.run("sync");
            self.unblock();
            self.pass(self.script.world.now.0 + 400);
            if self.lag() == 0 {
                return;
            }
        }
        panic!("{} messages are left", self.lag());
    }

    fn unblock(&mut self) {
        for (_, queue, offset) in self.stopped() {
            let then = ["retry", "bury"][self.random.below(2) as usize];
            self.run(&format!("unblock g t {queue} {offset} {then}"));
        }
    }

    /// What is neither settled nor becomes a dead letter: those wait for their topic here.
    fn lag(&self) -> u64 {
        let broker = &self.script.world.broker;
        let groups = broker.groups.iter().filter(|(_, it)| it.name == "g");
        let queues = groups.flat_map(|(_, group)| &group.queues);
        let lags = queues.map(|(queue, state)| {
            let ends = broker.ends_of(TOPIC, *queue);
            let doomed = state.progress.returned().doomed_count() as u64;
            state.progress.lag(ends.first, ends.end) - doomed
        });
        lags.sum()
    }
}

#[test]
fn whatever_happens_order_is_kept_and_everything_settled_in_the_end() {
    for seed in 0..150 {
        let mut run = Run::new(seed);
        for _ in 0..120 {
            run.step();
        }
        run.drain();
        run.script.world.compare_with_log();
    }
}
