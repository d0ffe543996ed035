//! What is not delivered again becomes a dead letter: exactly one, wherever the process ends.
use yard_wire::batch::BatchHeader;
use yard_wire::operation::GroupRm;
use yard_wire::requests::AckNodes;
use yard_wire::{QueueIndex, ShardId, TenantId, Timestamp, TopicId};

use super::script::{Script, check};
use super::world::{Out, World, call, config};
use crate::{Entry, Event, MetaChange, Outcome, Settings, Topic};

const ORDERS: &str = "topic orders 1
    > tell: topic orders [0]
    > topic 1 queues=1
    policy g 1s 2
    > tell: group g
    > group g 1s Attempts(2)
    put p1 0 10 orders/0
    sync
    > stored: 0 0..10
    sub a g orders earliest credit=4 lease=5000
    > a gets 0: 0..4
    sync
    > a subscribed: 0 0..10
    ";

#[track_caller]
fn check_orders(script: &str) {
    check(&format!("{ORDERS}{script}"));
}

#[test]
fn what_was_rejected_and_what_failed_at_last_is_read_from_the_groups_own_topic() {
    check_orders(
        "reject a 0 1..3 error=broken
        sync
        > settled 2
        at 1000
        sync
        > tell: topic $dead.g [0]
        info g
        > 0: 0..10 lag=8 held=2 waiting=0 rejected=2; a held=2 credit=0
        nack a 0 0..1
        sync
        > settled 1
        at 2000
        credit a 1
        > credited
        > a gets 0: 0..1x2
        nack a 0 0..1
        sync
        > settled 1
        at 2000
        sync
        info g
        > 0: 3..10 lag=7 held=1 waiting=0 rejected=3; a held=1 credit=0
        sub d h $dead.g earliest
        > d gets 0: 0..3
        sync
        > d subscribed: 0 0..3",
    );
}

fn after_orders() -> Script {
    let mut script = Script::new(World::new(config(0, 1)));
    let lines = ORDERS.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('>')).for_each(|line| {
        script.run(line);
    });
    // The letter is to be made with the next event.
    script.run("reject a 0 0..1");
    script
}

#[test]
fn what_is_no_dead_letter_yet_goes_with_its_group() {
    for is_made in [false, true] {
        let mut script = after_orders();
        if !is_made {
            script.run("slow");
        }
        for line in ["sync", "at 1000", "sync", "close a"] {
            script.run(line);
        }
        let group = GroupRm { name: "g".to_owned() };
        let removed = call(&mut script.world, &group).unwrap();
        // It is counted as a message that waits.
        let left = if is_made { (9, 3) } else { (10, 4) };
        assert_eq!((removed.lag, removed.waiting), left, "made: {is_made}");
        script.run("answer");
        for line in ["at 60000", "sync"] {
            script.run(line);
        }
        let entries = script.world.log.iter().map(|(entry, _)| entry);
        let letters = entries.filter(|entry| matches!(entry, Entry::Release { .. })).count();
        assert_eq!(letters, usize::from(is_made), "made: {is_made}");
        script.world.compare_with_log();
    }
}

#[test]
fn a_topic_that_is_created_meanwhile_has_a_number_of_its_own() {
    let mut script = after_orders();
    script.run("topic bills 1");
    let found = script.run("route bills orders $dead.g");
    assert_eq!(found, ["route: bills [0], orders [0], $dead.g [0]"]);
}

#[test]
fn a_topic_that_is_wanted_twice_is_made_once() {
    let mut script = after_orders();
    let (tenant, name) = (TenantId(0), "$dead.g".to_owned());
    script.world.handle(Event::EnsureTopic { tenant, name });
    script.run("sync");
    assert_eq!(script.run("route $dead.g"), ["route: $dead.g [0]"]);
}

#[test]
fn the_end_of_the_last_lease_makes_a_dead_letter_also_when_the_members_are_gone() {
    check_orders(
        "nack a 0 0..4 delay=0
        sync
        > settled 4
        at 1000
        credit a 4
        > credited
        > a gets 0: 0..4x2
        reject a 0 0..1
        sync
        > settled 1
        close a
        at 1000
        sync
        > tell: topic $dead.g [0]
        info g
        > 0: 1..10 lag=9 held=0 waiting=3 rejected=1
        sub b g orders earliest credit=3 lease=1000
        > b gets 0: 1..4x3
        sync
        > b subscribed: 0 1..10
        at 2000
        sync
        info g
        > 0: 4..10 lag=6 held=0 waiting=0 rejected=4; b held=0 credit=0",
    );
}

#[test]
fn a_topic_of_the_system_is_read_and_nothing_else() {
    check_orders(
        "reject a 0 0..1
        at 1000
        sync
        > settled 1
        > tell: topic $dead.g [0]
        put p2 0 1 $dead.g/0
        > SystemTopic: the topic \"$dead.g\" is the system's
        rm $dead.g
        > SystemTopic: the topic \"$dead.g\" is the system's
        set $dead.g 4
        > SystemTopic: the topic \"$dead.g\" is the system's
        topic $dead.x 1
        > BadName: the name \"$dead.x\" is not usable: it has the character '$'; \
         allowed are a-z A-Z 0-9 . _ -
        fetch $dead.g/0 0
        > fetch 0 from 0, 16384",
    );
}

#[test]
fn what_the_log_lost_before_it_was_buried_is_passed_over() {
    check_orders(
        "reject a 0 1..3
        sync
        > settled 2
        lose orders/0 1..2
        at 1000
        sync
        > tell: topic $dead.g [0]
        info g
        > 0: 0..10 lag=8 held=2 waiting=0 rejected=1; a held=2 credit=0",
    );
}

#[test]
fn dead_letters_are_dealt_with_once() {
    check_orders(
        "reject a 0 0..4
        sync
        > settled 4
        at 1000
        sync
        > tell: topic $dead.g [0]
        dlq ls
        > g waiting=4 done=0
        dlq waiting g 0
        > 0: 0..4
        dlq waiting g 2
        > 0: 2..4
        dlq waiting g 4
        full
        dlq done g 1 3
        > DiskFull: The disk of this broker is full; nothing was stored.
        room
        dlq done g 1 3
        > done=2 skipped=0 left=0
        dlq waiting g 0
        > 0: 0..1
        > 0: 3..4
        dlq done g 0 9
        > done=2 skipped=2 left=0
        dlq done g 4 9
        > done=0 skipped=0 left=0
        dlq ls
        > g waiting=0 done=4
        dlq done x 0 1
        > UnknownGroup: no group \"x\"
        restart
        dlq ls
        > g waiting=0 done=4",
    );
}

#[test]
fn what_is_doomed_becomes_a_dead_letter_though_its_group_was_moved() {
    check_orders(
        "slow
        reject a 0 1..3
        sync
        > settled 2
        at 1000
        sync
        > tell: topic $dead.g [0]
        move g orders 0 6
        > a ended: GroupMoved
        sync
        > moved 0: 0 to 6 of 10; 1 ended
        info g
        > 0: 1..10 lag=6 held=0 waiting=2 rejected=0
        restart
        answer
        at 3000
        answer
        sync
        info g
        > 0: 6..10 lag=4 held=0 waiting=0 rejected=2
        move g orders 0 0
        sync
        > moved 0: 6 to 0 of 10; 0 ended
        info g
        > 0: 0..10 lag=10 held=0 waiting=0 rejected=2",
    );
}

/// Dead letters in the log, and messages that were to become one.
fn counts(world: &World) -> (u64, u64) {
    let (mut dead, mut doomed) = (0, 0);
    for (entry, _) in &world.log {
        match entry {
            Entry::Release { items, .. } => dead += items.len() as u64,
            Entry::Progress { progress, .. } => {
                let of = |outcome| matches!(outcome, Outcome::Doomed { .. });
                let steps = progress.steps.iter().filter(|step| of(step.outcome));
                doomed += steps.map(|step| step.to.0 - step.from.0).sum::<u64>();
            }
            _ => {}
        }
    }
    (dead, doomed)
}

fn lag(world: &World) -> u64 {
    let queue = QueueIndex(0);
    let lags = world.broker.groups.iter().map(|(_, group)| {
        let ends = world.broker.ends_of(group.topic, queue);
        let state = group.queues.get(&queue);
        state.map_or(ends.end.0 - ends.first.0, |it| it.progress.lag(ends.first, ends.end))
    });
    lags.sum()
}

#[test]
fn wherever_the_process_ends_there_is_one_dead_letter_of_each() {
    let run = || {
        let mut script = Script::new(World::new(config(0, 1)));
        for line in ORDERS.lines().map(str::trim).filter(|line| !line.starts_with('>')) {
            if !line.is_empty() {
                script.run(line);
            }
        }
        let before = script.world.log.len();
        for line in ["reject a 0 1..3", "nack a 0 0..1 delay=0", "ack a 0 3..4", "at 1000"] {
            script.run(line);
        }
        script.run("credit a 1");
        script.run("nack a 0 0..1");
        script.run("at 1000");
        (script, before)
    };
    let (script, before) = run();
    assert_eq!((counts(&script.world), lag(&script.world)), ((3, 3), 6));
    for cut in before..=script.world.log.len() {
        let (mut script, _) = run();
        let world = &mut script.world;
        world.synced = cut;
        world.restart();
        let (_, doomed) = counts(world);
        let until = world.now.plus_ms(5_000);
        world.advance(until);
        assert_eq!(counts(world), (doomed, doomed), "cut at {cut}");
        let settled = world.log.iter().any(|(entry, _)| match entry {
            Entry::Progress { progress, .. } => {
                progress.steps.iter().any(|step| step.outcome == Outcome::Acked)
            }
            _ => false,
        });
        assert_eq!(lag(world), 10 - doomed - u64::from(settled), "cut at {cut}");
        world.compare_with_log();
    }
}

#[test]
fn a_full_disk_keeps_what_is_doomed_until_there_is_room() {
    let (mut script, queue) = (Script::new(World::new(config(0, 1))), QueueIndex(0));
    for line in ORDERS.lines().map(str::trim).filter(|line| !line.starts_with('>')) {
        if !line.is_empty() {
            script.run(line);
        }
    }
    script.run("reject a 0 0..2");
    script.run("full");
    script.run("at 4000");
    assert_eq!(counts(&script.world), (0, 2));
    script.run("room");
    script.run("at 6000");
    assert_eq!(counts(&script.world), (2, 2));
    assert_eq!(script.world.stored[&(TopicId(2), queue)], 2);
}

#[test]
fn another_shard_asks_for_the_topic_until_it_is_there() {
    let mut world = World::new(config(1, 2));
    let topic = |topic: u32, name: &str| Topic {
        topic: TopicId(topic),
        tenant: TenantId(0),
        name: name.into(),
        shards: vec![ShardId(0), ShardId(1)].into(),
        created_queues: 2,
        settings: Settings::default(),
        created: Timestamp(0),
        version: topic.into(),
    };
    world.handle(Event::Metadata(MetaChange::TopicPut(topic(1, "orders"))));
    let header = BatchHeader { shard: ShardId(1), ..BatchHeader::default() };
    let queues = [(TopicId(1), QueueIndex(1)); 3];
    world.produce(TenantId(0), AckNodes::One, 0, header, &queues);
    world.sync();
    let mut script = Script::new(world);
    script.run("sub a g orders earliest");
    script.run("reject a 1 0..2");
    let mut asked = 0;
    for at in [1_000, 2_500, 4_000] {
        script.world.advance(Timestamp(at));
        let outs = script.world.take_outs();
        asked += outs.iter().filter(|out| **out == Out::Ensure("$dead.g".to_owned())).count();
    }
    assert_eq!(asked, 4, "once a second");
    assert_eq!(counts(&script.world), (0, 2));
    script.world.handle(Event::Metadata(MetaChange::TopicPut(topic(2, "$dead.g"))));
    assert_eq!(counts(&script.world), (2, 2));
    assert_eq!(script.world.stored[&(TopicId(2), QueueIndex(1))], 2);
}
