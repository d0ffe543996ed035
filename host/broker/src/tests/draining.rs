//! Backlogs that are passed on to a wider topic: in order, once, wherever the process ends.
use std::collections::{BTreeMap, BTreeSet};

use yard_wire::batch::BatchHeader;
use yard_wire::requests::AckNodes;
use yard_wire::{QueueIndex, QueueOffset, ShardId, SubscriptionId, TenantId, Timestamp, TopicId};

use super::script::{Script, check};
use super::world::{Delivery, Out, World, config};
use super::{Play, Random};
use crate::{Entry, Event, MetaChange, OrderKey, Settings, Topic};

const OWN: TopicId = TopicId(1);
const WIDE: TopicId = TopicId(2);
const QUEUES: u64 = 2;
const WIDE_QUEUES: u64 = 4;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A message by its place in its own topic.
type Message = (QueueIndex, u64);
type Place = (TopicId, QueueIndex, u64);

/// Which message lies where in the wide topic, by what the log says.
fn passed_on(world: &World) -> BTreeMap<Place, Message> {
    let mut places = BTreeMap::new();
    for (entry, applied) in &world.log {
        let Entry::Release { items, settle: Some(settle), .. } = entry else { continue };
        if !settle.is_forwarded() {
            continue;
        }
        let mut next: BTreeMap<QueueIndex, u64> = BTreeMap::new();
        for placed in &applied.placed {
            next.entry(placed.queue).or_insert(placed.first.0);
        }
        for item in items {
            let target = item.target();
            let message = (QueueIndex(target.segment as u16), u64::from(target.offset));
            let offset = next.get_mut(&item.queue()).unwrap();
            places.insert((item.topic(), item.queue(), *offset), message);
            *offset += 1;
        }
    }
    places
}

struct Run {
    random: Random,
    script: Script,
    sequence: u64,
    members: BTreeSet<&'static str>,
    is_exclusive: bool,
    is_ordered: bool,
    moved: usize,
    drained: usize,
}

/// How a message stands with the group.
enum Stand {
    Over,
    Held(SubscriptionId),
    Open,
}

impl Play for Run {
    fn script(&mut self) -> &mut Script {
        &mut self.script
    }

    fn world(&self) -> &World {
        &self.script.world
    }

    fn look(&mut self, out: &Out) {
        match out {
            Out::Deliver(_, delivery) => self.look_at(delivery),
            Out::Ended(_, subscription, _) => {
                let name = self.script.name_of(*subscription).to_owned();
                self.members.retain(|member| *member != name);
            }
            _ => {}
        }
    }
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut script = Script::new(World::new(config(0, 1)));
        let is_ordered = random.below(4) > 0;
        let after_last = ["go-on", "stop"][random.below(2) as usize];
        for (name, queues) in [("t", QUEUES), ("w", WIDE_QUEUES)] {
            let made = if is_ordered {
                format!("ordered {name} {queues} {after_last}")
            } else {
                format!("topic {name} {queues}")
            };
            script.run(&made);
        }
        script.run("policy g 100ms 3");
        let is_exclusive = random.below(3) == 0;
        let (sequence, members) = (0, BTreeSet::new());
        let (moved, drained) = (0, 0);
        Self { random, script, sequence, members, is_exclusive, is_ordered, moved, drained }
    }

    fn stand(&self, place: Place) -> Stand {
        let (topic, queue, offset) = place;
        let broker = &self.script.world.broker;
        let mut groups = broker.groups.iter().map(|(_, group)| group);
        let group = groups.find(|group| group.name == "g" && group.topic == topic);
        let Some(state) = group.and_then(|group| group.queues.get(&queue)) else {
            return Stand::Open;
        };
        let returned = state.progress.returned().get(QueueOffset(offset));
        let is_doomed = returned.is_some_and(|it| it.doom.is_some());
        if is_doomed || state.progress.settled_end_of(QueueOffset(offset)).is_some() {
            return Stand::Over;
        }
        let (from, to) = (QueueOffset(offset), QueueOffset(offset + 1));
        let leases = state.flight.as_ref().map(|flight| &flight.leases);
        let held = leases.and_then(|leases| leases.ranges(from, to).next());
        held.map_or(Stand::Open, |(_, _, hold)| Stand::Held(hold.subscription))
    }

    /// What is delivered follows what is over or in the same hands, whichever topic it lies in.
    fn look_at(&mut self, delivery: &Delivery) {
        let world = &self.script.world;
        let places = passed_on(world);
        let there: BTreeMap<Message, Place> = places.iter().map(|(to, of)| (*of, *to)).collect();
        assert_eq!(there.len(), places.len(), "nothing is passed on twice");
        let key = |(queue, offset): Message| {
            world.orders.get(&(OWN, queue, offset)).copied().unwrap_or(OrderKey::NONE)
        };
        for item in &delivery.items {
            let place = (delivery.topic, delivery.queue, item.offset.0);
            let message = match delivery.topic {
                OWN => (delivery.queue, item.offset.0),
                _ => places[&place],
            };
            assert!(delivery.topic == WIDE || !there.contains_key(&message), "it was passed on");
            let earlier = (0..message.1).map(|offset| (message.0, offset));
            for before in earlier.filter(|it| self.is_ordered && key(*it) == key(message)) {
                let place = there.get(&before).copied().unwrap_or((OWN, before.0, before.1));
                match self.stand(place) {
                    Stand::Over => {}
                    Stand::Held(by) => assert_eq!(by, delivery.subscription, "{before:?}"),
                    Stand::Open => panic!("{before:?} is open before {message:?}"),
                }
            }
        }
    }

    fn mode(&self) -> &'static str {
        if self.is_exclusive { " mode=exclusive" } else { "" }
    }

    fn step(&mut self) {
        let name = NAMES[self.random.below(4) as usize];
        let queue = self.random.below(WIDE_QUEUES);
        let from = self.random.below(self.sequence.max(1));
        let to = from + 1 + self.random.below(4);
        match self.random.below(19) {
            0..=2 => {
                let count = 1 + self.random.below(6);
                let queue = queue % QUEUES;
                let (at, orders) = (self.sequence, ["a,b,c", "a,-,b,d"][queue as usize]);
                self.sequence += count;
                self.run(&format!("put p1 {at} {count} t/{queue} orders={orders}"));
                self.run("sync");
            }
            3 | 4 if self.members.insert(name) => {
                let (mode, credit) = (self.mode(), self.random.below(20));
                self.run(&format!("sub {name} g t earliest lease=1000 credit={credit}{mode}"));
                self.run("sync");
            }
            5 if self.members.remove(name) => self.run(&format!("close {name}")),
            6 if self.members.contains(name) => self.run(&format!("credit {name} 5")),
            7..=10 if self.members.contains(name) => {
                self.run(&format!("ack {name} {queue} {from}..{to}"));
            }
            11 | 12 if self.members.contains(name) => {
                let verdict = ["nack", "release", "reject"][self.random.below(3) as usize];
                self.run(&format!("{verdict} {name} {queue} {from}..{to}"));
            }
            13 | 14 => {
                let at = self.script.world.now.0 + self.random.below(700);
                self.pass(at);
            }
            15 => {
                self.drained += 1;
                self.run("drain g t w");
            }
            16 => self.run("return g t"),
            17 if self.random.below(4) == 0 => {
                if self.random.below(2) == 0 {
                    self.run("sync");
                }
                self.members.clear();
                self.run("restart");
            }
            18 if self.random.below(3) == 0 => {
                self.run("full");
                self.pass(self.script.world.now.0 + 300);
                self.run("room");
            }
            _ => self.run("sync"),
        }
    }

    /// Everything is acked, and nothing is left, wherever it is; the group returns or stays.
    fn drain(&mut self) {
        let returns = self.random.below(2) == 0;
        for _ in 0..90 {
            if returns {
                self.run("return g t");
            }
            if self.members.insert("z") {
                let mode = self.mode();
                self.run(&format!("sub z g t earliest lease=1000 credit=1000{mode}"));
            }
            self.run("sync");
            for member in self.members.clone() {
                self.run(&format!("credit {member} 100"));
                for queue in 0..WIDE_QUEUES {
                    if self.members.contains(member) {
                        self.run(&format!("ack {member} {queue} 0..{}", self.sequence + 1));
                    }
                }
            }
            self.run("sync");
            self.unblock();
            self.pass(self.script.world.now.0 + 400);
            if self.lag() == 0 && (!returns || self.is_back()) {
                self.moved = passed_on(&self.script.world).len();
                return;
            }
        }
        panic!("{} messages are left", self.lag());
    }

    fn is_back(&self) -> bool {
        self.script.world.broker.groups.drained().next().is_none()
    }

    fn unblock(&mut self) {
        for (topic, queue, offset) in self.stopped() {
            let topic = if topic == OWN { "t" } else { "w" };
            let then = ["retry", "bury"][self.random.below(2) as usize];
            self.run(&format!("unblock g {topic} {queue} {offset} {then}"));
        }
    }

    fn lag(&self) -> u64 {
        let broker = &self.script.world.broker;
        let groups = broker.groups.iter().filter(|(_, it)| it.name == "g");
        let queues = groups.flat_map(|(_, group)| {
            group.queues.iter().map(|(queue, state)| (group.topic, *queue, state))
        });
        let lags = queues.map(|(topic, queue, state)| {
            let ends = broker.ends_of(topic, queue);
            state.progress.lag(ends.first, ends.end)
        });
        lags.sum()
    }
}

#[test]
fn whatever_happens_order_is_kept_on_the_way_there_and_back() {
    let (mut moved, mut drained) = (0, 0);
    for seed in 0..100 {
        let mut run = Run::new(seed);
        for _ in 0..120 {
            run.step();
        }
        run.drain();
        run.script.world.compare_with_log();
        (moved, drained) = (moved + run.moved, drained + run.drained);
    }
    assert!(moved > 1_000 && drained > 300, "{moved} moved, {drained} drains");
}

/// Two order groups in one queue, a member that holds the first message of each.
const BACKLOG: &str = "ordered t 1 go-on
    > tell: topic t [0]
    > topic 1 queues=1 ordered
    ordered w 3 go-on
    > tell: topic w [0, 0, 0]
    > topic 2 queues=3 ordered
    put p1 0 6 t/0 orders=a,b,-
    sync
    > stored: 0 0..6
    sub a g t earliest credit=2 lease=5000
    > a gets 0: 0..2
    sync
    > a subscribed: 0 0..6
    ";

#[track_caller]
fn check_backlog(script: &str) {
    check(&format!("{BACKLOG}{script}"));
}

#[test]
fn a_group_is_handed_over_when_nothing_is_held_and_returns_when_all_is_settled() {
    check_backlog(
        "drain g t w
        > g t to w draining: backlog=6 held=2 moved=0 lag=0
        drained
        > g t to w draining: backlog=6 held=2 moved=0 lag=0
        ack a 0 0..1
        sync
        > settled 1
        ack a 0 1..2
        sync
        > settled 1
        at 1000
        > a ended: GroupMoved
        sync
        drained
        > g t to w forwarding: backlog=0 held=0 moved=4 lag=4
        sub a g t earliest
        > a gets 1: 0..1
        > a gets 0: 0..3
        sync
        > a subscribed: 0 0..3, 1 0..1, 2 0..0
        put p1 6 1 t/0 orders=a
        sync
        > stored: 0 6..7
        at 1000
        sync
        > a gets 0: 3..4
        return g t
        > g t to w returning: backlog=0 held=0 moved=5 lag=5
        put p1 7 1 t/0 orders=a
        sync
        > stored: 0 7..8
        drained
        > g t to w returning: backlog=1 held=0 moved=5 lag=5
        ack a 0 0..9
        ack a 1 0..9
        ack a 2 0..9
        > settled 0 lost 2 0..9
        sync
        > settled 4 lost 0 4..9
        > settled 1 lost 1 1..9
        at 1200
        > a ended: GroupMoved
        sync
        drained
        sub a g t earliest
        > a gets 0: 7..8
        sync
        > a subscribed: 0 7..8",
    );
}

#[test]
fn what_came_back_goes_along_with_its_attempts() {
    check_backlog(
        "nack a 0 0..1 delay=3000 error=late
        sync
        > settled 1
        drain g t w
        > g t to w draining: backlog=6 held=1 moved=0 lag=0
        release a 0 1..2
        > settled 1
        > a ended: GroupMoved
        at 1000
        sync
        history g w 0
        > 0: 1 times, 1000..1000, late
        sub a g t earliest
        > a gets 1: 0..2
        > a gets 0: 1..2 3..4
        sync
        > a subscribed: 0 0..4, 1 0..2, 2 0..0
        restart
        sub b g t earliest
        > b gets 1: 0..2
        > b gets 0: 1..2 3..4
        sync
        > b subscribed: 0 0..4, 1 0..2, 2 0..0
        at 4100
        > b gets 0: 0..1x2 2..3",
    );
}

#[test]
fn a_drain_is_refused_where_it_could_not_keep_its_promises() {
    check_backlog(
        "drain g t t
        > BadDrainTarget: topic \"t\": it is the group's own topic
        drain g t nowhere
        > UnknownTopic: no topic \"nowhere\"
        drain h t w
        > UnknownGroup: no group \"h\"
        return g t
        > NotDrained: group \"g\" consumes topic \"t\" itself
        topic n 3
        > tell: topic n [0, 0, 0]
        > topic 3 queues=3
        drain g t n
        > BadDrainTarget: topic \"n\": it is normal, and t is ordered
        drain g t w
        > g t to w draining: backlog=6 held=2 moved=0 lag=0
        drain g t w
        > g t to w draining: backlog=6 held=2 moved=0 lag=0
        ordered x 3 go-on
        > tell: topic x [0, 0, 0]
        > topic 4 queues=3 ordered
        drain g t x
        > GroupDrained: group \"g\" passes its messages on to \"w\"
        move g t 0 0
        > GroupDrained: group \"g\" passes its messages on to \"w\"
        rm w
        > GroupDrained: group \"g\" passes its messages on to \"w\"
        drain g w x
        > BadDrainTarget: topic \"x\": the group gets another topic's messages already",
    );
}

#[test]
fn a_drain_waits_for_topics_that_a_shard_does_not_know_yet() {
    let topic = |topic: TopicId, name: &str, queues: u16| Topic {
        topic,
        tenant: TenantId(0),
        name: name.into(),
        shards: (0..queues).map(|queue| ShardId(queue % 2)).collect(),
        created_queues: queues,
        settings: Settings::default(),
        created: Timestamp(0),
        version: topic.0.into(),
    };
    let tell = |script: &mut Script, it: Topic| {
        script.world.handle(Event::Metadata(MetaChange::TopicPut(it)));
    };
    let (own, wide) = (|| topic(OWN, "t", 2), || topic(WIDE, "w", 4));
    let mut script = Script::new(World::new(config(1, 2)));
    tell(&mut script, own());
    tell(&mut script, wide());
    let header = BatchHeader { shard: ShardId(1), ..BatchHeader::default() };
    script.world.produce(TenantId(0), AckNodes::One, 0, header, &[(OWN, QueueIndex(1)); 3]);
    script.world.sync();
    script.run("sub a g t earliest credit=0");
    for line in ["sync", "close a", "sync", "slow"] {
        script.run(line);
    }
    let begun = script.run("drain g t w");
    assert_eq!(begun, ["g t to w draining: backlog=3 held=0 moved=0 lag=0"]);
    script.world.slow_index = false;
    let passed_on = |script: &Script| passed_on(&script.world).len();
    // It begins anew, and learns of the one topic long before the other.
    script.run("restart");
    script.run("at 10000");
    assert_eq!(passed_on(&script), 0);
    tell(&mut script, own());
    script.run("at 20000");
    assert_eq!(passed_on(&script), 0);
    let moving = "GroupMoved: the group goes on in a topic that this shard does not know yet";
    assert_eq!(script.run("sub a g t earliest"), [moving]);
    tell(&mut script, wide());
    script.run("at 30000");
    assert_eq!(passed_on(&script), 3);
    script.run("sync");
    let lines = script.run("sub a g t earliest");
    assert!(lines.iter().any(|line| line.starts_with("a gets ")), "{lines:?}");
}
