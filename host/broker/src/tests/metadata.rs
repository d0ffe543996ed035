//! Topics, tenants, routes; and the shards that are told of them.
use super::script::{check, check_on};
use super::world::{Out, World, config};
use crate::{Event, MetaChange};
use yard_wire::request::Request;
use yard_wire::requests::{Credit, Find, FindRoute, Wanted};
use yard_wire::{Code, MessageId, ShardId, SubscriptionId, TenantId, TopicId};

#[test]
fn topics_are_created_grown_and_removed() {
    check_on(
        0,
        4,
        "topic orders 3
        > tell: topic orders [1, 2, 3]
        > topic 1 queues=3
        topic orders 3
        > topic 1 queues=3
        topic orders 4
        > TopicExists: topic \"orders\" has 3 queues and is normal
        topic .orders 4
        > BadName: the name \".orders\" is not usable: it begins with a dot
        topic many 1025
        > BadArgument: 1025 queues: 1 to 1024
        topic none 0
        > BadArgument: 0 queues: 1 to 1024
        topic small 1
        > tell: topic small [2]
        > topic 2 queues=1
        set orders 6
        > tell: topic orders [1, 2, 3, 0, 1, 2]
        > topic 1 queues=6
        set orders 5
        > BadArgument: 5 queues; it has 6 already
        set orders 6
        > topic 1 queues=6
        rm orders
        > tell: topic removed
        > topic 1 queues=6
        rm orders
        > UnknownTopic: no topic \"orders\"
        topic orders 1
        > tell: topic orders [3]
        > topic 3 queues=1
        restart
        topic next 1
        > tell: topic next [0]
        > topic 4 queues=1",
    );
}

#[test]
fn a_foreign_name_is_answered_as_one_that_does_not_exist() {
    check(
        "topic secret 1
        > tell: topic secret [0]
        > topic 1 queues=1
        tenant acme
        > tell: tenant acme
        > tenant 1 auto=false
        tenant acme
        > TenantExists: tenant \"acme\" exists
        as acme
        put p1 0 1 secret/0
        > UnknownTopic: no topic with the id 1
        put p1 0 1 nothing/0
        > UnknownTopic: no topic with the id 99
        sub a g secret earliest
        > UnknownTopic: no topic \"secret\"
        sub a g nothing earliest
        > UnknownTopic: no topic \"nothing\"
        fetch secret/0 0
        > UnknownTopic: no topic \"secret\"
        rm secret
        > UnknownTopic: no topic \"secret\"
        set secret 2
        > UnknownTopic: no topic \"secret\"
        route secret nothing
        > route: none, none
        topic secret 2
        > tell: topic secret [0, 0]
        > topic 2 queues=2
        ls
        as default
        sub a g secret earliest
        sync
        > a subscribed: 0 0..0
        as acme
        info g
        > UnknownGroup: no group \"g\"
        ls",
    );
}

#[test]
fn routes_create_topics_for_tenants_that_want_it() {
    check(
        "route a
        > route: none
        tenant acme auto
        > tell: tenant acme
        > tenant 1 auto=true
        as acme
        route a b a .bad
        > tell: topic a [0, 0, 0, 0, 0, 0, 0, 0]
        > tell: topic b [0, 0, 0, 0, 0, 0, 0, 0]
        > route: a [0, 0, 0, 0, 0, 0, 0, 0], b [0, 0, 0, 0, 0, 0, 0, 0], \
         a [0, 0, 0, 0, 0, 0, 0, 0], none
        route b
        > route: b [0, 0, 0, 0, 0, 0, 0, 0]
        full
        route c
        > DiskFull: The disk of this broker is full; nothing was stored.
        room
        as default
        route a
        > route: none",
    );
}

#[test]
fn removing_a_topic_ends_its_subscriptions_and_forgets_its_groups() {
    check(
        "topic orders 1
        > tell: topic orders [0]
        > topic 1 queues=1
        put p1 0 3 orders/0
        sync
        > stored: 0 0..3
        sub a g orders earliest
        > a gets 0: 0..3
        sync
        > a subscribed: 0 0..3
        rm orders
        > tell: topic removed
        > topic 1 queues=1
        > a ended: UnknownTopic
        credit a 1
        > UnknownSubscription
        info g
        > UnknownGroup: no group \"g\"",
    );
}

#[test]
fn a_shard_without_the_log_of_metadata_is_told() {
    let mut owner = World::new(config(0, 2));
    let mut other = World::new(config(1, 2));
    for change in owner.broker.metadata() {
        other.handle(Event::Metadata(change));
    }
    let topic = crate::Topic {
        topic: TopicId(1),
        tenant: yard_wire::TenantId(0),
        name: "orders".into(),
        shards: [yard_wire::ShardId(1)].into(),
        created_queues: 1,
        settings: crate::Settings::default(),
        created: yard_wire::Timestamp(5),
        version: 1,
    };
    owner.broker.apply(
        &crate::Entry::Meta { changes: vec![MetaChange::TopicPut(topic.clone())] },
        &crate::Applied::default(),
    );
    for change in owner.broker.metadata() {
        other.handle(Event::Metadata(change.clone()));
        other.handle(Event::Metadata(change));
    }
    assert_eq!(other.broker.metadata(), owner.broker.metadata());
    let subscribe = yard_wire::requests::Subscribe {
        shard: yard_wire::ShardId(1),
        group: "g".to_owned(),
        topic: "orders".to_owned(),
        member: "a".to_owned(),
        start: yard_wire::requests::Start::Earliest,
        expression: None,
        exclusive: false,
        lease_ms: 1_000,
        messages: 1,
        bytes: 1,
    };
    let request = yard_wire::request::Request::Subscribe(subscribe);
    other.request(1, yard_wire::TenantId(0), request);
    assert_eq!(other.broker.stats().subscriptions, 1);
    assert_eq!(other.log.len(), 1);
    other.compare_with_log();
    // The removal is recorded here too, because the group was.
    other.handle(Event::Metadata(MetaChange::TopicRemoved { topic: TopicId(1), version: 2 }));
    assert_eq!((other.broker.stats().groups, other.log.len()), (0, 2));
    assert!(matches!(other.outs.last(), Some(super::world::Out::Ended(..))));
    other.compare_with_log();
}

/// A topic with its first queue in shard 0 and one that was added later in shard 1.
#[test]
fn latest_loses_nothing_in_a_shard_that_the_topic_grew_into() {
    let mut world = World::new(config(1, 2));
    let topic = crate::Topic {
        topic: TopicId(1),
        tenant: yard_wire::TenantId(0),
        name: "orders".into(),
        shards: [yard_wire::ShardId(0), yard_wire::ShardId(1)].into(),
        created_queues: 1,
        settings: crate::Settings::default(),
        created: yard_wire::Timestamp(5),
        version: 2,
    };
    world.handle(Event::Metadata(MetaChange::TopicPut(topic)));
    let queue = yard_wire::QueueIndex(1);
    let header =
        yard_wire::batch::BatchHeader { shard: yard_wire::ShardId(1), ..Default::default() };
    let one = yard_wire::requests::AckNodes::One;
    world.produce(yard_wire::TenantId(0), one, 0, header, &[(TopicId(1), queue)]);
    world.sync();
    world.take_outs();
    let subscribe = yard_wire::requests::Subscribe {
        shard: yard_wire::ShardId(1),
        group: "g".to_owned(),
        topic: "orders".to_owned(),
        member: "a".to_owned(),
        start: yard_wire::requests::Start::Latest,
        expression: None,
        exclusive: false,
        lease_ms: 1_000,
        messages: 10,
        bytes: 1 << 20,
    };
    let request = yard_wire::request::Request::Subscribe(subscribe);
    world.request(1, yard_wire::TenantId(0), request);
    world.sync();
    let starts = world.take_outs().into_iter().find_map(|out| match out {
        super::world::Out::Reply(_, Ok(yard_wire::request::Reply::Subscribe(it))) => {
            Some(it.queues)
        }
        _ => None,
    });
    let start = starts.expect("subscribed").remove(0);
    assert_eq!((start.settled_below.0, start.end.0), (0, 1), "what was produced is not behind it");
}

#[test]
fn settings_of_a_group_are_the_tenants_and_outlive_a_restart() {
    check(
        "policy g 10s,1m 3
        > tell: group g
        > group g 10s,1m Attempts(3)
        policy g 10s,1m 3
        > group g 10s,1m Attempts(3)
        tenant acme
        > tell: tenant acme
        > tenant 1 auto=false
        as acme
        info g
        > UnknownGroup: no group \"g\"
        policy g 1h,2h unlimited
        > tell: group g
        > group g 1h,2h Attempts(0)
        as default
        restart
        policy g 10s,1m 3
        > group g 10s,1m Attempts(3)",
    );
}

#[test]
fn what_another_shard_has_is_refused() {
    let mut world = World::new(config(1, 2));
    let (shard, topics) = (ShardId(0), Vec::new());
    let (subscription, messages, bytes) = (SubscriptionId(1), 1, 1);
    let (wanted, after) = (Wanted::Id(MessageId([7; 16])), None);
    let find = Find { shard, wanted, after, records_max: 1, bytes_max: 1 };
    for request in [
        Request::FindRoute(FindRoute { topics }),
        Request::Credit(Credit { shard, subscription, messages, bytes }),
        Request::Find(find),
    ] {
        world.request(1, TenantId(0), request.clone());
        let outs = world.take_outs();
        let [Out::Reply(_, Err(refusal))] = &outs[..] else { panic!("{request:?}: {outs:?}") };
        assert_eq!(refusal.code, Code::WrongShard, "{request:?}");
    }
}
