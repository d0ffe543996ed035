//! Groups with a business key: what was acked is not delivered under another id, what is in
//! somebody's hands is waited for, and everything is settled.
use std::collections::BTreeSet;

use yard_wire::record::Record;
use yard_wire::{DedupeKey, QueueIndex, QueueOffset, TopicId};

use super::script::{Script, check};
use super::world::{Delivery, Out, PROPERTY, World, config};
use super::{Play, Random};
use crate::bounds::SWEEP_MS;
use crate::*;

const TOPIC: TopicId = TopicId(1);

/// A topic of one queue, and a group that compares its messages.
const KEYED: &str = "topic t 1
        > tell: topic t [0]
        > topic 1 queues=1
        key g k 1m 3
        > tell: group g
        ";

#[track_caller]
fn check_keyed(script: &str) {
    check(&format!("{KEYED}{script}"));
}

#[test]
fn what_has_a_key_that_was_acked_is_settled_without_being_delivered() {
    check_keyed(
        "put p1 0 4 t/0 keys=x,y,x,-
        sync
        > stored: 0 0..4
        sub a g t earliest
        > a gets 0: 0..2 3..4
        sync
        > a subscribed: 0 0..4
        ack a 0 0..1
        sync
        > settled 1
        at 1000
        keys g
        > keys=1 duplicates=1 lag=2
        ack a 0 1..2 0 3..4
        sync
        > settled 2
        keys g
        > keys=2 duplicates=1 lag=0
        restart
        put p1 4 3 t/0 keys=y,z,x
        sub a g t earliest
        sync
        > stored: 0 4..7
        > a subscribed: 0 4..4
        > a gets 0: 5..6
        keys g
        > keys=2 duplicates=3 lag=1",
    );
}

#[test]
fn a_key_is_in_one_hand_at_a_time() {
    check(
        "topic t 2
        > tell: topic t [0, 0]
        > topic 1 queues=2
        key g k 1m
        > tell: group g
        put p1 0 2 t/0 keys=x,y
        put p1 2 2 t/1 keys=y,x
        sync
        > stored: 0 0..2
        > stored: 1 0..2
        sub a g t earliest lease=2000 credit=2
        > a gets 1: 0..2
        sync
        > a subscribed: 0 0..2, 1 0..2
        sub b g t earliest
        sync
        > b subscribed: 0 0..2, 1 0..2
        nack a 1 0..1 delay=5000
        sync
        > settled 1
        at 1000
        > b gets 0: 1..2
        at 3000
        > b gets 0: 0..1
        ack b 0 0..2
        sync
        > settled 2
        keys g
        > keys=2 duplicates=0 lag=2
        at 6000
        keys g
        > keys=2 duplicates=1 lag=1
        at 14000
        keys g
        > keys=2 duplicates=2 lag=0",
    );
}

#[test]
fn a_lost_member_frees_its_keys_at_once() {
    check_keyed(
        "put p1 0 2 t/0 keys=x,x
        sync
        > stored: 0 0..2
        sub a g t earliest
        > a gets 0: 0..1
        sub b g t earliest
        sync
        > a subscribed: 0 0..2
        > b subscribed: 0 0..2
        close a
        > b gets 0: 0..1x2
        release b 0 0..1
        > settled 1
        > b gets 0: 0..1x2",
    );
}

#[test]
fn the_newest_keys_are_remembered_and_for_the_window_only() {
    check_keyed(
        "put p1 0 4 t/0 keys=a,b,c,d
        sync
        > stored: 0 0..4
        sub c g t earliest
        > c gets 0: 0..4
        ack c 0 0..4
        sync
        > c subscribed: 0 0..4
        > settled 4
        keys g
        > keys=3 duplicates=0 lag=0
        put p1 4 2 t/0 keys=a,b
        sync
        > stored: 0 4..6
        > c gets 0: 4..5
        at 1000
        keys g
        > keys=3 duplicates=1 lag=1
        ack c 0 4..5
        sync
        > settled 1
        at 61000
        put p1 6 1 t/0 keys=d
        sync
        > stored: 0 6..7
        > c gets 0: 6..7",
    );
}

#[test]
fn keys_that_have_passed_are_forgotten_by_an_entry() {
    let mut script = Script::new(World::new(config(0, 1)));
    for line in ["topic t 1", "key g k 5s", "put p1 0 2 t/0 keys=a,b", "sync"] {
        script.run(line);
    }
    for line in ["sub c g t earliest", "ack c 0 0..2", "sync"] {
        script.run(line);
    }
    let keys = |script: &Script| script.world.broker.settled_keys.len();
    assert_eq!(keys(&script), 2);
    // A group that compares otherwise keeps what it has acked for its time.
    script.run("key g none");
    script.run(&format!("at {}", 1_000 + SWEEP_MS - 1));
    assert_eq!(keys(&script), 2);
    script.run(&format!("at {}", 1_000 + 2 * SWEEP_MS));
    assert_eq!(keys(&script), 0);
    let kinds: BTreeSet<u16> = script.world.log.iter().map(|(entry, _)| entry.kind()).collect();
    assert!(kinds.contains(&Entry::SETTLED) && kinds.contains(&Entry::FORGET_SETTLED), "{kinds:?}");
    script.world.compare_with_log();
}

#[test]
fn what_failed_or_was_given_up_leaves_no_key() {
    check_keyed(
        "policy g 5s 2
        > tell: group g
        > group g 5s Attempts(2)
        put p1 0 4 t/0 keys=x,x,x,x
        sync
        > stored: 0 0..4
        sub a g t earliest
        > a gets 0: 0..1
        expire a 0 0..1
        sync
        > a subscribed: 0 0..4
        > settled 1
        at 1000
        > a gets 0: 1..2
        reject a 0 1..2
        sync
        > settled 1
        at 1000
        > a gets 0: 2..3
        nack a 0 2..3 delay=1000
        sync
        > tell: topic $dead.g [0]
        > settled 1
        > a gets 0: 3..4
        ack a 0 3..4
        sync
        > settled 1
        at 2000
        keys g
        > keys=1 duplicates=1 lag=0",
    );
}

#[test]
fn a_group_that_is_moved_back_gets_its_messages_again() {
    check_keyed(
        "put p1 0 4 t/0 keys=x,y,x,y
        sync
        > stored: 0 0..4
        sub a g t earliest
        > a gets 0: 0..2
        ack a 0 0..2
        sync
        > a subscribed: 0 0..4
        > settled 2
        at 1000
        keys g
        > keys=2 duplicates=2 lag=0
        move g t 0 1
        > a ended: GroupMoved
        sync
        > moved 0: 4 to 1 of 4; 1 ended
        keys g
        > keys=1 duplicates=2 lag=3
        sub a g t earliest
        > a gets 0: 1..2
        ack a 0 1..2
        sync
        > a subscribed: 0 1..4
        > settled 1
        at 1000
        keys g
        > keys=2 duplicates=4 lag=0
        restart
        keys g
        > keys=2 duplicates=4 lag=0",
    );
}

#[test]
fn the_property_can_be_changed_while_messages_are_under_way() {
    check_keyed(
        "put p1 0 3 t/0 keys=x,x,x
        sync
        > stored: 0 0..3
        sub a g t earliest
        > a gets 0: 0..1
        sync
        > a subscribed: 0 0..3
        key g none
        > tell: group g
        > a gets 0: 1..3
        key g k
        > tell: group g
        put p1 3 1 t/0 keys=x
        sync
        > stored: 0 3..4
        > a gets 0: 3..4
        ack a 0 0..3
        sync
        > settled 3
        keys g
        > keys=0 duplicates=0 lag=1
        ack a 0 3..4
        sync
        > settled 1
        keys g
        > keys=1 duplicates=0 lag=0",
    );
}

#[test]
fn an_answer_about_another_property_is_asked_for_again() {
    check_keyed(
        "slow
        put p1 0 2 t/0 keys=x,x
        sync
        > stored: 0 0..2
        sub a g t earliest
        sync
        > a subscribed: 0 0..2
        key g other
        > tell: group g
        answer
        at 1000
        answer
        > a gets 0: 0..2",
    );
}

#[test]
fn duplicates_that_cannot_be_recorded_are_looked_at_again() {
    check_keyed(
        "put p1 0 1 t/0 keys=x
        sync
        > stored: 0 0..1
        sub a g t earliest
        > a gets 0: 0..1
        ack a 0 0..1
        sync
        > a subscribed: 0 0..1
        > settled 1
        put p1 1 2 t/0 keys=x,x
        full
        sync
        > stored: 0 1..3
        at 1050
        room
        keys g
        > keys=1 duplicates=0 lag=2
        at 1100
        keys g
        > keys=1 duplicates=2 lag=0",
    );
}

#[test]
fn order_groups_wait_for_keys_and_not_for_each_other() {
    check(
        "ordered t 1 go-on
        > tell: topic t [0]
        > topic 1 queues=1 ordered
        key g k
        > tell: group g
        put p1 0 6 t/0 orders=a,a,b,b,c,c keys=x,y,y,x,z,-
        sync
        > stored: 0 0..6
        sub a g t earliest
        > a gets 0: 0..2 4..6
        sync
        > a subscribed: 0 0..6
        nack a 0 0..1
        sync
        > settled 1
        release a 0 1..2
        > settled 1
        > a gets 0: 2..4
        ack a 0 2..3
        sync
        > settled 1
        at 1000
        ack a 0 3..6
        sync
        > settled 3
        at 1000
        keys g
        > keys=3 duplicates=0 lag=2
        at 2000
        keys g
        > keys=3 duplicates=2 lag=0",
    );
}

/// What may happen to a group that compares messages, and what must hold after each of it.
struct Run {
    random: Random,
    script: Script,
    sequence: u64,
    members: BTreeSet<&'static str>,
    /// The property is changed now and then: what somebody has then keeps no key.
    changes: bool,
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
        let topic = ["topic t 2", "ordered t 2 go-on", "ordered t 2 stop"];
        script.run(topic[random.below(3) as usize]);
        script.run("policy g 100ms 3");
        script.run("key g k 1h");
        let changes = seed.is_multiple_of(4);
        Self { random, script, sequence: 0, members: BTreeSet::new(), changes }
    }

    fn value_of(&self, queue: QueueIndex, offset: u64) -> Option<&str> {
        let record = self.script.world.compared.get(&(TOPIC, queue, offset))?;
        Record::peek_property(record, PROPERTY).unwrap()
    }

    /// What is delivered has a key that nobody has in hands and that was never acked.
    fn look_at(&self, delivery: &Delivery) {
        let world = &self.script.world;
        let group = world.broker.groups.iter().find(|(_, it)| it.name == "g").unwrap().1;
        for item in delivery.items.iter().filter(|_| !self.changes) {
            let Some(value) = self.value_of(delivery.queue, item.offset.0) else { continue };
            let alike = world.compared.keys().filter(|(_, queue, offset)| {
                let is_other = (*queue, *offset) != (delivery.queue, item.offset.0);
                is_other && self.value_of(*queue, *offset) == Some(value)
            });
            let is_held = |queue: QueueIndex, offset: u64| {
                let flight = group.queues.get(&queue).and_then(|it| it.flight.as_ref());
                flight.is_some_and(|flight| flight.leases.holds(QueueOffset(offset)))
            };
            let held: Vec<_> =
                alike.filter(|(_, queue, offset)| is_held(*queue, *offset)).collect();
            assert_eq!(held, Vec::<&(TopicId, QueueIndex, u64)>::new(), "{item:?}");
            let acked = world.log.iter().filter_map(|(entry, _)| match entry {
                Entry::Settled { settled, .. } => Some(&settled.keys),
                _ => None,
            });
            let key = DedupeKey::of_property(PROPERTY, value).unwrap();
            let was_acked = acked.flatten().any(|acked| acked.key == key);
            assert!(!was_acked, "{item:?} has a key that was acked");
        }
    }

    fn step(&mut self) {
        let name = ["a", "b", "c"][self.random.below(3) as usize];
        let queue = self.random.below(2);
        let from = self.random.below(self.sequence.max(1));
        let to = from + 1 + self.random.below(4);
        match self.random.below(20) {
            0..=3 if !self.script.world.full => {
                let (at, count) = (self.sequence, 1 + self.random.below(6));
                self.sequence += count;
                let keys = ["u,v,-,w", "v", "w,x,u", "-,y,y,z"][self.random.below(4) as usize];
                let orders = ["i,j,k", "i", "i,-,j"][queue as usize];
                self.run(&format!("put p1 {at} {count} t/{queue} orders={orders} keys={keys}"));
                self.run("sync");
            }
            4 if self.members.insert(name) => {
                let credit = self.random.below(20);
                self.run(&format!("sub {name} g t earliest lease=1000 credit={credit}"));
                self.run("sync");
            }
            5 if self.members.remove(name) => self.run(&format!("close {name}")),
            6 | 7 if self.members.contains(name) => self.run(&format!("credit {name} 5")),
            8..=10 if self.members.contains(name) => {
                self.run(&format!("ack {name} {queue} {from}..{to}"));
            }
            11 | 12 if self.members.contains(name) => {
                let verdict = ["nack", "release", "reject", "expire"];
                let verdict = verdict[self.random.below(4) as usize];
                self.run(&format!("{verdict} {name} {queue} {from}..{to}"));
            }
            13 | 14 => {
                let at = self.script.world.now.0 + self.random.below(700);
                self.pass(at);
            }
            15 if self.random.below(3) == 0 => {
                self.run("sync");
                self.members.clear();
                self.run("restart");
            }
            16 => self.run(if self.script.world.full { "room" } else { "full" }),
            17 if self.changes => self.run(["key g none", "key g k"][queue as usize]),
            18 => {
                let slow = self.random.below(2) == 0;
                self.script.world.slow_index = slow;
                self.run("answer");
            }
            19 => self.run("answer"),
            _ => self.run("sync"),
        }
    }

    /// Everything is acked, and nothing is left but what has stopped its order group.
    fn drain(&mut self) {
        self.script.world.slow_index = false;
        while !self.script.world.asked.is_empty() {
            self.run("answer");
        }
        self.run("room");
        if self.members.insert("z") {
            self.run("sub z g t earliest lease=1000 credit=1000");
        }
        for _ in 0..80 {
            self.run("sync");
            for member in self.members.clone() {
                self.run(&format!("credit {member} 100"));
                for queue in 0..2 {
                    self.run(&format!("ack {member} {queue} 0..{}", self.sequence + 1));
                }
            }
            self.run("sync");
            for (_, queue, offset) in self.stopped() {
                self.run(&format!("unblock g t {queue} {offset} retry"));
            }
            self.pass(self.script.world.now.0 + 400);
        }
    }

    /// Each message came to one end.
    fn check_accounts(&self) {
        let world = &self.script.world;
        let of_topic = world.stored.iter().filter(|((topic, _), _)| *topic == TOPIC);
        let stored: u64 = of_topic.map(|(_, count)| count).sum();
        let counted = |wanted: &[Outcome]| {
            let steps = world.log.iter().flat_map(|(entry, _)| match entry {
                Entry::Progress { progress, .. } => &progress.steps[..],
                Entry::Settled { settled, .. } => &settled.progress.steps[..],
                _ => &[],
            });
            let ends = steps.filter(|step| wanted.contains(&step.outcome));
            ends.map(|step| step.to.0 - step.from.0).sum::<u64>()
        };
        let duplicates = counted(&[Outcome::Duplicate]);
        let settled = counted(&[Outcome::Acked, Outcome::Expired]);
        let group = world.broker.groups.iter().find(|(_, it)| it.name == "g").unwrap().1;
        let progress = || group.queues.values().map(|state| &state.progress);
        let dead: u64 = progress().map(|it| it.dead_count()).sum();
        assert_eq!(settled + duplicates + dead, stored, "each message has one end");
        let reported: u64 = progress().map(|it| it.duplicate_count()).sum();
        assert_eq!(reported, duplicates, "duplicates are counted");
    }
}

#[test]
fn whatever_happens_a_key_is_acked_once_and_everything_settled_in_the_end() {
    let mut duplicates = 0;
    for seed in 0..100 {
        let mut run = Run::new(seed);
        for _ in 0..120 {
            run.step();
        }
        run.drain();
        run.check_accounts();
        run.script.world.compare_with_log();
        let groups = run.script.world.broker.groups.iter();
        let queues = groups.flat_map(|(_, group)| group.queues.values());
        duplicates += queues.map(|state| state.progress.duplicate_count()).sum::<u64>();
    }
    assert!(duplicates > 500, "{duplicates}");
}

#[test]
fn keys_of_a_group_are_remembered_for_a_time_that_ends() {
    check_keyed(
        "key g k none
        > BadArgument: a key window has an end: 1s to 7d may be; --key none stops comparing
        put p1 0 2 t/0 keys=a,a
        sync
        > stored: 0 0..2
        sub c g t earliest
        > c gets 0: 0..1
        sync
        > c subscribed: 0 0..2",
    );
}
