//! What waits for its transaction: how much of it there may be, and in a shard that does not know
//! its topic yet.
use yard_wire::request::Request;
use yard_wire::requests::{AckNodes, AckPlace, JoinProducers, TxVerdict};
use yard_wire::{Code, Sequence, ShardId, TenantId, Timestamp, TopicId};

use super::transactions::{Cluster, FOUR, tx};
use super::world::origin;
use crate::bounds::{JOINED_GROUPS_MAX, NOTICE_RETRY_MS, PREPARED_OF_TENANT_MAX};
use crate::*;

#[test]
fn a_connection_joins_so_many_producer_groups() {
    let mut cluster = Cluster::new();
    let mut join = |number: usize| {
        let (shard, group) = (ShardId(0), format!("group{number}"));
        let request = Request::JoinProducers(JoinProducers { shard, group });
        cluster.ask(0, TenantId(0), request).map(drop).map_err(|refusal| refusal.code)
    };
    for number in 0..JOINED_GROUPS_MAX {
        assert_eq!(join(number), Ok(()));
    }
    assert_eq!(join(JOINED_GROUPS_MAX), Err(Code::LimitReached));
    assert_eq!(join(0), Ok(()), "it has joined this one");
}

#[test]
fn prepared_messages_of_a_tenant_are_bounded() {
    let mut cluster = Cluster::new();
    let (one, other) = (tx(0, 0), tx(0, 1));
    cluster.begin(one).unwrap();
    let topic = cluster.worlds[0].broker.meta.topic(TopicId(1)).unwrap();
    let queue = topic.shards.iter().position(|shard| shard.0 == 0).unwrap() as u16;
    let batch = cluster.batch(0, Some(other), &[(queue, None)]);
    let (_, record) = batch.parked().next().unwrap();
    let world = &mut cluster.worlds[0];
    world.is_large = true;
    for _ in 1..PREPARED_OF_TENANT_MAX {
        world.broker.timers.arrive(TenantId(0), &record, Timestamp(u64::MAX));
    }
    let place = |due| (queue, due);
    assert_eq!(cluster.prepare(one, &[place(None), place(None)]), Err(Code::LimitReached));
    let event = |batch| Event::Produce {
        origin: origin(1),
        tenant: TenantId(0),
        place: AckPlace::Memory,
        nodes: AckNodes::One,
        floor: Sequence(0),
        batch,
    };
    // One more has room.
    let last = cluster.batch(0, Some(one), &[place(None)]);
    cluster.worlds[0].handle(event(last));
    cluster.run();
    assert_eq!(cluster.worlds[0].broker.stats().prepared, PREPARED_OF_TENANT_MAX);
    assert_eq!(cluster.prepare(one, &[place(None)]), Err(Code::LimitReached));
}

#[test]
fn a_decision_waits_for_topics_that_a_shard_does_not_know_yet() {
    for verdict in [TxVerdict::Commit, TxVerdict::Rollback] {
        let mut cluster = Cluster::new();
        let tx = tx(0, 0);
        cluster.begin(tx).unwrap();
        cluster.prepare(tx, &FOUR).unwrap();
        // Both begin anew, and shard 1 was told of no topic when the decision comes.
        for world in &mut cluster.worlds {
            world.take_outs();
            world.restart();
        }
        cluster.decide(tx, verdict, 0).unwrap();
        cluster.advance(5 * NOTICE_RETRY_MS);
        let here = if verdict == TxVerdict::Commit { 2 } else { 0 };
        assert_eq!((cluster.visible(), cluster.left().2), (here, 2), "{verdict:?}");
        for change in cluster.worlds[0].broker.metadata() {
            cluster.worlds[1].handle(Event::Metadata(change));
        }
        cluster.advance(5 * NOTICE_RETRY_MS);
        assert_eq!((cluster.visible(), cluster.left()), (2 * here, (0, 0, 0)), "{verdict:?}");
        cluster.compare_with_log();
    }
}
