//! Bounds: what is idle costs nothing, what is large is cut, what is many is forgotten.
use yard_wire::batch::BatchHeader;
use yard_wire::limits::{CREDIT_BYTES_MAX, CREDIT_MESSAGES_MAX, DELIVER_RECORDS_MAX};
use yard_wire::operation::{Operate, TopicCreate, TopicRm};
use yard_wire::request::Request;
use yard_wire::requests::{AckNodes, Call, Placed, Settle, SettleRange, Start, Subscribe, Verdict};
use yard_wire::{
    Code, Epoch, Lane, ProducerId, QueueIndex, QueueOffset, Sequence, ShardId, SubscriptionId,
    TenantId, Timestamp, TopicId, Wire,
};

use super::world::{Out, World, config};
use crate::bounds::TICK_QUEUES_MAX;
use crate::producer::{Numbering, Producers};
use crate::{Entry, GroupCreated, GroupId};

const TENANT: TenantId = TenantId(0);

fn with_topic(queues: u16) -> World {
    let mut world = World::new(config(0, 1));
    let arguments = TopicCreate { name: "orders".to_owned(), queues, ..TopicCreate::default() };
    let call = Call { operation: TopicCreate::OPERATION as u16, args: arguments.to_bytes() };
    world.request(0, TENANT, Request::Call(call));
    world.sync();
    world
}

fn put(world: &mut World, sequence: u64, count: usize) {
    let header = BatchHeader { sequence: Sequence(sequence), ..BatchHeader::default() };
    let queues = vec![(TopicId(1), QueueIndex(0)); count];
    world.produce(TENANT, AckNodes::One, 0, header, &queues);
    world.sync();
}

fn subscribe(world: &mut World, session: u64, group: &str) -> SubscriptionId {
    let id = world.broker.next_subscription;
    let request = Subscribe {
        shard: ShardId(0),
        group: group.to_owned(),
        topic: "orders".to_owned(),
        member: String::new(),
        start: Start::Earliest,
        expression: None,
        exclusive: false,
        lease_ms: 30_000,
        messages: CREDIT_MESSAGES_MAX,
        bytes: CREDIT_BYTES_MAX,
    };
    world.request(session, TENANT, Request::Subscribe(request));
    world.advance(world.now);
    id
}

#[test]
fn a_delivery_is_cut_to_its_bounds() {
    let mut world = with_topic(1);
    put(&mut world, 0, 5_000);
    subscribe(&mut world, 1, "g");
    assert_eq!(world.broker.stats().leased, 5_000);
    world.handle(crate::Event::SessionClosed(crate::SessionId(1)));
    // One entry for all of them: they came back in one run.
    let Some((Entry::Progress { progress, .. }, _)) = world.log.last() else { panic!() };
    assert_eq!(progress.steps.len(), 1);
    subscribe(&mut world, 2, "g");
    assert_eq!(world.broker.stats().leased, 5_000);
    assert!(world.largest_delivery <= DELIVER_RECORDS_MAX, "{}", world.largest_delivery);
}

#[test]
fn a_settle_of_everything_is_one_step() {
    let mut world = with_topic(1);
    put(&mut world, 0, 3_000);
    let subscription = subscribe(&mut world, 1, "g");
    let range = SettleRange {
        queue: QueueIndex(0),
        from: QueueOffset(0),
        to: QueueOffset(60_000),
        attempt: 1,
        verdict: Verdict::Ack,
        delay_ms: None,
        error: None,
    };
    let settle = Settle { shard: ShardId(0), subscription, ranges: vec![range] };
    world.request(1, TENANT, Request::Settle(settle));
    let Some((Entry::Progress { progress, .. }, _)) = world.log.last() else { panic!() };
    assert_eq!(progress.steps.len(), 1);
    assert_eq!(world.broker.dues.len(), 0, "no lease is left to end");
}

#[test]
fn subscriptions_of_a_connection_are_bounded() {
    let mut world = with_topic(1);
    let max = yard_wire::limits::SUBSCRIPTIONS_MAX as u64;
    for _ in 0..max {
        subscribe(&mut world, 1, "g");
    }
    world.take_outs();
    subscribe(&mut world, 1, "g");
    let Some(Out::Reply(_, Err(refusal))) = world.outs.last() else { panic!() };
    assert_eq!(refusal.code, Code::LimitReached);
    assert_eq!(world.broker.stats().subscriptions, max);
}

#[test]
fn idle_groups_are_not_looked_at() {
    let mut world = with_topic(1);
    for number in 0..100_000 {
        let created = GroupCreated {
            group: GroupId(number),
            topic: TopicId(1),
            name: format!("group{number}"),
            floors: vec![(QueueIndex(0), QueueOffset(0))],
        };
        let entry = Entry::Group { tenant: TENANT, created };
        world.broker.apply(&entry, &crate::Applied::default());
    }
    assert_eq!(world.broker.stats().groups, 100_000);
    assert!(world.broker.dues.is_empty() && world.broker.to_pump.is_empty());
    // A hundred thousand events in the time of a test: none of them scans the groups.
    let mut effects = Vec::new();
    for tick in 0..100_000 {
        world.broker.handle(Timestamp(2_000 + tick), crate::Event::Tick, &mut effects);
        // The check of debug builds is not what is measured.
        world.broker.events = 1;
    }
    assert!(effects.is_empty());
}

#[test]
fn producers_are_forgotten_where_there_are_most() {
    let header = |producer: u64, sequence: u64| BatchHeader {
        producer: ProducerId(producer),
        epoch: Epoch(0),
        lane: Lane(0),
        shard: ShardId(0),
        sequence: Sequence(sequence),
    };
    let placed =
        [Placed { topic: TopicId(1), queue: QueueIndex(0), first: QueueOffset(0), count: 1 }];
    let answer = (&placed[..], &[][..]);
    let is_known = |numbering| match numbering {
        Numbering::Duplicate(known) => known.placed == placed && known.originals.is_empty(),
        _ => false,
    };
    let (small, large) = (TenantId(1), TenantId(2));
    let mut producers = Producers::bounded(10, 1_000);
    producers.apply(small, &header(1, 0), 1, answer);
    for producer in 0..50 {
        producers.apply(large, &header(producer, 0), 1, answer);
        producers.check();
    }
    assert_eq!(producers.len(), 10);
    let judge = |tenant, producer| producers.judge(tenant, &header(producer, 0), 1, Sequence(0));
    assert!(is_known(judge(small, 1)));
    assert_eq!(judge(large, 0), Numbering::Next, "the longest silent is forgotten");
    assert!(is_known(judge(large, 49)));
    // Answers are bounded as well: those of the last batches of a lane, and all together.
    let mut producers = Producers::bounded(10, 100);
    for batch in 0..200 {
        producers.apply(small, &header(1, batch), 1, answer);
        producers.check();
    }
    for batch in 0..200 {
        producers.apply(small, &header(2, batch), 1, answer);
        producers.check();
    }
    assert_eq!(producers.len(), 1, "the silent one made room");
    let judge = |batch| producers.judge(small, &header(2, batch), 1, Sequence(0));
    assert!(is_known(judge(136)));
    assert_eq!(judge(135), Numbering::Stale { expected: Sequence(200) });
}

#[test]
fn broken_snapshots_and_entries_are_refused() {
    let mut world = with_topic(2);
    put(&mut world, 0, 10);
    subscribe(&mut world, 1, "g");
    world.handle(crate::Event::SessionClosed(crate::SessionId(1)));
    let good = world.broker.snapshot().encode();
    for end in 0..good.len() {
        assert!(crate::Broker::restore(world.config, good.slice(..end)).is_err(), "{end}");
    }
    // A flipped bit is refused or gives a state that holds together; it never panics.
    for bit in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        if let Ok(broker) = crate::Broker::restore(world.config, bad.into()) {
            assert_eq!(broker.snapshot().encode().len(), broker.snapshot().encode().len());
        }
    }
    for (entry, _) in &world.log {
        let good = entry.encode_payload();
        for end in 0..good.len() {
            let decoded = Entry::decode(entry.kind(), entry.tenant(), good.slice(..end));
            assert!(decoded.is_err(), "{entry:?} {end}");
        }
        assert!(Entry::decode(99, entry.tenant(), good).is_err());
    }
}

#[test]
fn what_is_sent_back_does_not_make_the_broker_remember_a_backlog() {
    let mut world = with_topic(1);
    world.is_large = true;
    let max = crate::bounds::UNSETTLED_MAX as u64;
    let batch = yard_wire::limits::BATCH_RECORDS_MAX as u64;
    for sequence in (0..max + batch).step_by(batch as usize) {
        put(&mut world, sequence, batch as usize);
    }
    let settle = |world: &mut World, subscription, from: u64, attempt, verdict| {
        let (from, to) = (QueueOffset(from), QueueOffset(from + 65_536));
        let delay_ms = Some(u32::MAX);
        let (queue, error) = (QueueIndex(0), None);
        let range = SettleRange { queue, from, to, attempt, verdict, delay_ms, error };
        let settle = Settle { shard: ShardId(0), subscription, ranges: vec![range] };
        world.request(1, TENANT, Request::Settle(settle));
        world.advance(world.now);
    };
    for turn in 0..max / 65_536 {
        let subscription = subscribe(&mut world, 1, "g");
        settle(&mut world, subscription, turn * 65_536, 1, Verdict::Nack);
    }
    let last = subscribe(&mut world, 1, "g");
    assert_eq!(world.broker.stats().leased, 0, "there is no room for more");
    // When all of them have come back, what is acknowledged makes room.
    world.advance(world.now.plus_ms(u64::from(u32::MAX)));
    assert_eq!(world.broker.stats().leased, 65_536);
    settle(&mut world, last, 0, 2, Verdict::Ack);
    let more = subscribe(&mut world, 1, "g");
    assert_eq!(world.broker.stats().leased, 65_536);
    settle(&mut world, more, 65_536, 2, Verdict::Ack);
    world.broker.check();
    world.compare_with_log();
}

#[test]
fn a_full_window_opens_when_something_is_settled() {
    let mut world = with_topic(1);
    world.is_large = true;
    let max = crate::bounds::UNSETTLED_MAX as u64;
    let batch = yard_wire::limits::BATCH_RECORDS_MAX as u64;
    for sequence in (0..max + batch).step_by(batch as usize) {
        put(&mut world, sequence, batch as usize);
    }
    let count = max / 65_536;
    let holders: Vec<SubscriptionId> =
        (0..count).map(|session| subscribe(&mut world, 1 + session, "g")).collect();
    subscribe(&mut world, 100, "g");
    assert_eq!(world.broker.stats().leased, max, "the window is full");
    let range = SettleRange {
        queue: QueueIndex(0),
        from: QueueOffset(0),
        to: QueueOffset(10),
        attempt: 1,
        verdict: Verdict::Ack,
        delay_ms: None,
        error: None,
    };
    let settle = Settle { shard: ShardId(0), subscription: holders[0], ranges: vec![range] };
    world.request(1, TENANT, Request::Settle(settle));
    world.advance(world.now);
    assert_eq!(world.broker.stats().leased, max, "ten went, ten came");
    world.broker.check();
}

#[test]
fn what_retention_took_is_recorded() {
    let mut world = with_topic(1);
    put(&mut world, 0, 10);
    subscribe(&mut world, 1, "g");
    let before = world.log.len();
    world.trim(TopicId(1), QueueIndex(0), 4);
    assert_eq!(world.log.len(), before + 1);
    let group = world.broker.groups.get(GroupId(0)).unwrap();
    let progress = &group.queues[&QueueIndex(0)].progress;
    assert_eq!(progress.settled_below(), QueueOffset(4));
    // A group that is further says nothing.
    world.trim(TopicId(1), QueueIndex(0), 4);
    assert_eq!(world.log.len(), before + 1);
}

#[test]
fn a_removed_topic_leaves_nothing_behind() {
    let mut world = with_topic(1);
    put(&mut world, 0, 10);
    let header = BatchHeader { sequence: Sequence(10), ..BatchHeader::default() };
    world.produce(TENANT, AckNodes::One, 0, header, &[(TopicId(1), QueueIndex(0))]);
    let arguments = TopicRm { name: "orders".to_owned() };
    let call = Call { operation: TopicRm::OPERATION as u16, args: arguments.to_bytes() };
    world.request(0, TENANT, Request::Call(call));
    world.sync();
    assert!(world.broker.ends.is_empty(), "messages on their way do not bring it back");
}

#[test]
fn a_tick_ends_the_leases_of_so_many_queues() {
    const QUEUES: usize = 64;
    let (mut world, queues) = (with_topic(QUEUES as u16), 0..QUEUES as u16);
    let groups = TICK_QUEUES_MAX / QUEUES + 1;
    world.is_large = true;
    let places: Vec<_> = queues.map(|queue| (TopicId(1), QueueIndex(queue))).collect();
    world.produce(TENANT, AckNodes::One, 0, BatchHeader::default(), &places);
    world.sync();
    for group in 0..groups {
        subscribe(&mut world, group as u64, &format!("g{group}"));
    }
    let all = (groups * QUEUES) as u64;
    assert_eq!(world.broker.stats().leased, all, "each group has one message of each queue");
    let ends = world.now.plus_ms(30_000);
    world.now = ends;
    world.handle(crate::Event::Tick);
    assert_eq!(world.broker.stats().leased, all - TICK_QUEUES_MAX as u64);
    world.advance(ends.plus_ms(1));
    assert_eq!(world.broker.stats().leased, 0);
    world.broker.check();
}
