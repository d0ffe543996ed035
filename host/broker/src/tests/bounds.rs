//! What one tenant may have, and what a question of one tenant may cost the others.
use yard_wire::limits::{QUEUES_DEFAULT, QUEUES_MAX};
use yard_wire::operation::{
    GroupInfo, GroupLs, GroupRm, GroupSet, Operate, TopicCreate, TopicRm, TopicSet,
};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{Call, FindRoute, Start, Subscribe};
use yard_wire::{Code, QueueIndex, QueueOffset, ShardId, TenantId, TopicId, Wire};

use super::world::{Out, World, config};
use crate::bounds::{GROUP_QUEUES_MAX, REPORT_QUEUES_MAX, TOPIC_QUEUES_MAX};
use crate::{Applied, Entry, Event, GroupCreated, GroupId, MetaChange, SessionId};

const TENANT: TenantId = TenantId(0);
const WIDE: usize = QUEUES_MAX as usize;

fn large_world() -> World {
    let mut world = World::new(config(0, 1));
    world.is_large = true;
    world
}

/// The code of the refusal, if it is one.
fn outcome(world: &mut World) -> Option<Code> {
    world.sync();
    let outs = world.take_outs();
    let Some(Out::Reply(_, result)) = outs.last() else { panic!("{outs:?}") };
    result.as_ref().err().map(|refusal| refusal.code)
}

fn call<O: Operate>(world: &mut World, arguments: &O) -> Option<Code> {
    let call = Call { operation: O::OPERATION as u16, args: arguments.to_bytes() };
    world.request(0, TENANT, Request::Call(call));
    outcome(world)
}

fn create(world: &mut World, name: &str, queues: usize) -> Option<Code> {
    let queues = queues as u16;
    call(world, &TopicCreate { name: name.to_owned(), queues, ..TopicCreate::default() })
}

fn grow(world: &mut World, name: &str, queues: u16) -> Option<Code> {
    call(world, &TopicSet { name: name.to_owned(), queues: Some(queues), ..TopicSet::default() })
}

fn remove(world: &mut World, name: &str) -> Option<Code> {
    call(world, &TopicRm { name: name.to_owned() })
}

fn subscribe(world: &mut World, group: &str, topic: &str, start: Start) -> Option<Code> {
    let request = Subscribe {
        shard: ShardId(0),
        group: group.to_owned(),
        topic: topic.to_owned(),
        member: String::new(),
        start,
        expression: None,
        exclusive: false,
        lease_ms: 30_000,
        messages: 0,
        bytes: 0,
    };
    world.request(1, TENANT, Request::Subscribe(request));
    outcome(world)
}

/// Groups on a topic as the log tells of them, numbered from `first` on.
fn add_groups(world: &mut World, topic: u32, first: usize, count: usize) {
    for number in first..first + count {
        let created = GroupCreated {
            group: GroupId(number as u32),
            topic: TopicId(topic),
            name: format!("group{number}"),
            floors: Vec::new(),
        };
        let entry = Entry::Group { tenant: TENANT, created };
        world.broker.apply(&entry, &Applied::default());
        world.log.push((entry, Applied::default()));
    }
}

#[test]
fn an_idle_group_remembers_only_where_it_got_on() {
    let mut world = large_world();
    create(&mut world, "orders", WIDE);
    let queues = [(TopicId(1), QueueIndex(3)), (TopicId(1), QueueIndex(3))];
    let header = yard_wire::batch::BatchHeader::default();
    world.produce(TENANT, yard_wire::requests::AckNodes::One, 0, header, &queues);
    world.sync();
    for (number, start) in [Start::Earliest, Start::Latest].into_iter().enumerate() {
        assert_eq!(subscribe(&mut world, &format!("g{number}"), "orders", start), None);
    }
    world.handle(Event::SessionClosed(SessionId(1)));
    let held = |number| {
        let group = world.broker.groups.get(GroupId(number)).unwrap();
        group.queues.iter().map(|(queue, it)| (queue.0, it.progress.settled_below())).collect()
    };
    let (earliest, latest): (Vec<_>, Vec<_>) = (held(0), held(1));
    assert_eq!((earliest, latest), (vec![], vec![(3, QueueOffset(2))]));
    let floors = world.log.iter().filter_map(|(entry, _)| match entry {
        Entry::Group { created, .. } => Some(created.floors.len()),
        Entry::Batch { .. }
        | Entry::Deduped { .. }
        | Entry::Forget { .. }
        | Entry::ForgetSettled { .. }
        | Entry::Settled { .. }
        | Entry::Progress { .. }
        | Entry::Move { .. }
        | Entry::Drain { .. }
        | Entry::Release { .. }
        | Entry::Cancel { .. }
        | Entry::Tx { .. }
        | Entry::Incarnation { .. }
        | Entry::Meta { .. } => None,
    });
    assert_eq!(floors.collect::<Vec<_>>(), [0, 1]);
    world.compare_with_log();
}

#[test]
fn queues_of_topics_are_bounded() {
    let mut world = large_world();
    for number in 0..TOPIC_QUEUES_MAX / WIDE {
        assert_eq!(create(&mut world, &format!("topic{number}"), WIDE), None);
    }
    let left = TOPIC_QUEUES_MAX % WIDE;
    assert_eq!(create(&mut world, "more", left + 1), Some(Code::LimitReached));
    assert_eq!(create(&mut world, "more", left), None);
    assert_eq!(grow(&mut world, "more", left as u16 + 1), Some(Code::LimitReached));
    // Topics that are created on first use count as well.
    let mut tenant = world.broker.meta.tenant(TENANT).unwrap().clone();
    tenant.auto_create_topics = true;
    let entry = Entry::Meta { changes: vec![MetaChange::TenantPut(tenant)] };
    world.broker.apply(&entry, &Applied::default());
    let mut created = |room: usize| {
        remove(&mut world, "more");
        create(&mut world, "more", left - room);
        let topics = ["a", "b", "c"].map(str::to_owned).to_vec();
        world.request(0, TENANT, Request::FindRoute(FindRoute { topics }));
        world.sync();
        let outs = world.take_outs();
        let Some(Out::Reply(_, Ok(Reply::FindRoute(route)))) = outs.last() else { panic!() };
        route.topics.iter().flatten().count()
    };
    let default = usize::from(QUEUES_DEFAULT);
    assert_eq!([created(default - 1), created(2 * default)], [0, 2]);
    world.broker.check();
}

#[test]
fn queues_of_groups_are_bounded() {
    let mut world = large_world();
    create(&mut world, "wide", WIDE);
    create(&mut world, "narrow", 1);
    let (wide, narrow) = (GROUP_QUEUES_MAX / WIDE, GROUP_QUEUES_MAX % WIDE);
    add_groups(&mut world, 1, 0, wide);
    assert_eq!(subscribe(&mut world, "g", "wide", Start::Earliest), Some(Code::LimitReached));
    add_groups(&mut world, 2, wide, narrow - 1);
    assert_eq!(subscribe(&mut world, "g", "narrow", Start::Earliest), None);
    assert_eq!(subscribe(&mut world, "h", "narrow", Start::Earliest), Some(Code::LimitReached));
    // A group that exists goes on, but its topic does not grow.
    assert_eq!(subscribe(&mut world, "group0", "wide", Start::Earliest), None);
    assert_eq!(grow(&mut world, "narrow", 2), Some(Code::LimitReached));
    let counted = world.broker.groups.queue_count_of(TENANT);
    let restored = crate::Broker::restore(world.config, world.broker.snapshot().encode()).unwrap();
    assert_eq!(restored.groups.queue_count_of(TENANT), counted);
    // Room comes back with the topic's end, and is used by growth.
    assert_eq!(remove(&mut world, "wide"), None);
    assert_eq!(world.broker.groups.queue_count_of(TENANT), narrow);
    assert_eq!(grow(&mut world, "narrow", 2), None);
    assert_eq!(world.broker.groups.queue_count_of(TENANT), 2 * narrow);
    world.broker.check();
    world.compare_with_log();
}

#[test]
fn a_list_of_groups_looks_at_so_many_queues() {
    let mut world = large_world();
    create(&mut world, "wide", WIDE);
    let count = REPORT_QUEUES_MAX / WIDE;
    add_groups(&mut world, 1, 0, count);
    assert_eq!(call(&mut world, &GroupLs {}), None);
    add_groups(&mut world, 1, count, 1);
    assert_eq!(call(&mut world, &GroupLs {}), Some(Code::LimitReached));
    let info = GroupInfo { name: "group0".to_owned() };
    assert_eq!(call(&mut world, &info), None, "one of them is few");
}

#[test]
fn a_report_of_a_group_fits_a_frame() {
    let mut world = large_world();
    // Rows of so many bytes: four megabytes come before the bound of queues.
    let name = |number: usize| format!("{number:0>127}");
    for number in 0..30 {
        create(&mut world, &name(number), WIDE);
    }
    let info = GroupInfo { name: "g".to_owned() };
    let mut fitting = 0;
    for number in 0..30 {
        assert_eq!(subscribe(&mut world, "g", &name(number), Start::Latest), None);
        match call(&mut world, &info) {
            None => fitting = number + 1,
            Some(code) => assert_eq!(code, Code::LimitReached),
        }
    }
    assert!((15..30).contains(&fitting), "{fitting}");
}

#[test]
fn a_removed_group_gives_back_all_that_its_tenant_had_for_it() {
    let mut world = World::new(config(0, 1));
    assert_eq!(create(&mut world, "orders", 3), None);
    assert_eq!(create(&mut world, "refunds", 2), None);
    for (group, topic) in [("g", "orders"), ("g", "refunds"), ("h", "orders")] {
        assert_eq!(subscribe(&mut world, group, topic, Start::Earliest), None);
    }
    let set = GroupSet { name: "g".into(), max_attempts: None, ..GroupSet::default() };
    let key = Some(yard_wire::BusinessKey(Some("order".to_owned())));
    assert_eq!(call(&mut world, &GroupSet { key, ..set }), None);
    let rm = |world: &mut World, name: &str| call(world, &GroupRm { name: name.to_owned() });
    assert_eq!(rm(&mut world, "g"), Some(Code::GroupHasMembers));
    world.handle(Event::SessionClosed(SessionId(1)));
    assert_eq!(world.broker.groups.queue_count_of(TENANT), 3 + 2 + 3);
    assert_eq!(rm(&mut world, "g"), None);
    assert_eq!(rm(&mut world, "g"), Some(Code::UnknownGroup));
    assert_eq!(world.broker.meta.group_count_of(TENANT), 0, "its settings are gone");
    assert_eq!(world.broker.groups.count_of(TENANT), 1);
    assert_eq!(world.broker.groups.queue_count_of(TENANT), 3, "the other one's queues");
    world.compare_with_log();
    world.restart();
    assert_eq!(call(&mut world, &GroupInfo { name: "g".into() }), Some(Code::UnknownGroup));
    assert_eq!(call(&mut world, &GroupInfo { name: "h".into() }), None);
    assert_eq!(subscribe(&mut world, "g", "orders", Start::Earliest), None);
    assert_eq!(rm(&mut world, "h"), None);
    world.compare_with_log();
}

#[test]
fn that_a_group_is_gone_is_said_when_its_removal_is_durable() {
    let mut world = World::new(config(0, 1));
    let set = GroupSet { name: "g".into(), max_attempts: None, ..GroupSet::default() };
    let key = Some(yard_wire::BusinessKey(Some("order".to_owned())));
    assert_eq!(call(&mut world, &GroupSet { key, ..set }), None);
    let args = GroupRm { name: "g".to_owned() }.to_bytes();
    for _ in 0..2 {
        let call = Call { operation: GroupRm::OPERATION as u16, args: args.clone() };
        world.request(0, TENANT, Request::Call(call));
    }
    let replies = |world: &mut World| {
        let outs = world.take_outs().into_iter().filter_map(|out| match out {
            Out::Reply(_, result) => Some(result.err().map(|refusal| refusal.code)),
            _ => None,
        });
        outs.collect::<Vec<_>>()
    };
    assert_eq!(replies(&mut world), [], "a crash would bring it back");
    world.sync();
    assert_eq!(replies(&mut world), [None, Some(Code::UnknownGroup)]);
}
