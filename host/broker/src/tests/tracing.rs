//! What is noted of messages that are traced: of a share, by place, beside what it is about.
use std::collections::BTreeSet;

use yard_wire::batch::BatchHeader;
use yard_wire::name::TRACE_TOPIC;
use yard_wire::operation::{MsgTrace, Operate, TopicSet};
use yard_wire::record::Record;
use yard_wire::request::Request;
use yard_wire::requests::{AckNodes, Call};
use yard_wire::share::Share;
use yard_wire::{ProducerId, QueueIndex, ShardId, TenantId, TopicId, Wire};

use super::script::Script;
use super::world::{Out, World, config, id};
use crate::bounds::TRACES_ASKED_MAX;
use crate::{Entry, SessionId};

const TENANT: TenantId = TenantId(0);
const NOTING: ProducerId = ProducerId(u64::MAX);

/// A topic `orders` of one queue, of which this share is traced, in a group with two attempts.
fn traced(share: Share) -> Script {
    let mut script = Script::new(World::new(config(0, 1)));
    for line in ["topic orders 1", "policy g 1s 2", "sync"] {
        script.run(line);
    }
    let (name, trace) = ("orders".to_owned(), Some(share));
    let args = TopicSet { name, trace, ..TopicSet::default() }.to_bytes();
    let call = Call { operation: TopicSet::OPERATION as u16, args };
    script.world.request(0, TENANT, Request::Call(call));
    script.world.sync();
    script.world.take_outs();
    script
}

fn run(script: &mut Script, lines: &[&str]) {
    for line in lines {
        script.run(line);
        script.run("sync");
    }
}

/// The records of the notes, in the order of the log.
fn records(world: &World) -> Vec<Record> {
    let batches = world.log.iter().filter_map(|(entry, _)| match entry {
        Entry::Batch { batch, .. } if batch.header().producer == NOTING => Some(batch),
        _ => None,
    });
    batches.flat_map(|batch| batch.records().collect::<Vec<_>>()).collect()
}

/// What was noted of a message of `orders`: event, attempt, text.
fn noted(world: &World, offset: u64) -> Vec<String> {
    let key = format!("1/0/{offset}");
    let of_it = records(world).into_iter().filter(|record| record.keys().any(|it| it == key));
    let shown = of_it.map(|record| {
        let attempt = record.property("attempt").unwrap_or("-");
        let text = String::from_utf8(record.body().to_vec()).unwrap();
        format!("{} {attempt} {text}", record.tag()).trim_end().to_owned()
    });
    shown.collect()
}

#[test]
fn a_failing_message_is_followed_to_its_end() {
    let mut script = traced(Share::WHOLE);
    run(
        &mut script,
        &[
            "put p1 0 3 orders/0",
            "sub a g orders earliest credit=3 lease=60000",
            "nack a 0 1..2 error=once",
            "ack a 0 0..1",
            "at 2000",
            "credit a 1",
            "nack a 0 1..2 error=twice",
            "at 3000",
            "reject a 0 2..3",
        ],
    );
    let producer = ProducerId(1);
    assert_eq!(
        noted(&script.world, 1),
        [
            &format!("accepted - from producer {producer}"),
            "delivered 1 to a",
            "nacked 1 once; comes again in 1000 ms",
            "delivered 2 to a",
            "nacked 2 twice",
            "given-up 2 failed",
        ]
    );
    assert_eq!(noted(&script.world, 0)[1..], ["delivered 1 to a", "acked -"]);
    let rejected = ["delivered 1 to a", "rejected 1", "given-up 1 rejected"];
    assert_eq!(noted(&script.world, 2)[1..], rejected);
    script.world.compare_with_log();
}

#[test]
fn what_ends_a_delivery_is_told_apart() {
    let mut script = traced(Share::WHOLE);
    run(
        &mut script,
        &[
            "put p1 0 2 orders/0",
            "sub a g orders earliest credit=1 lease=1000",
            "at 2000",
            "sub b g orders earliest credit=1 lease=60000",
            "close b",
        ],
    );
    assert_eq!(
        noted(&script.world, 0)[1..3],
        ["delivered 1 to a", "lease-ended 1 comes again in 1000 ms"]
    );
    let last = noted(&script.world, 1);
    assert_eq!(last[1..], ["delivered 1 to b", "given-back 1 comes again at once"]);
}

#[test]
fn a_share_is_the_same_messages_for_whoever_notes_something() {
    let mut script = traced(Share(250_000));
    run(
        &mut script,
        &[
            "put p1 0 1000 orders/0",
            "sub a g orders earliest credit=1000 lease=60000",
            "ack a 0 0..1000",
        ],
    );
    let of = |event: &str| -> BTreeSet<String> {
        let records = records(&script.world).into_iter().filter(|record| record.tag() == event);
        records.map(|record| record.property("offset").unwrap().to_owned()).collect()
    };
    let (accepted, delivered, acked) = (of("accepted"), of("delivered"), of("acked"));
    assert!((200..300).contains(&accepted.len()), "{} of 1000", accepted.len());
    assert_eq!((&delivered, &acked), (&accepted, &accepted));
}

#[test]
fn of_a_topic_that_is_not_traced_nothing_is_noted() {
    let mut script = traced(Share(0));
    let lines = ["put p1 0 9 orders/0", "sub a g orders earliest credit=9", "ack a 0 0..9"];
    run(&mut script, &lines);
    assert!(records(&script.world).is_empty());
    assert!(script.world.broker.meta.topic_named(TENANT, TRACE_TOPIC).is_none());
    // Neither are the notes themselves, where there are some.
    let mut script = traced(Share::WHOLE);
    run(&mut script, &lines);
    let notes = records(&script.world).len();
    run(&mut script, &["sub n h $trace earliest credit=100", "sync"]);
    assert_eq!(records(&script.world).len(), notes);
}

#[test]
fn a_restart_notes_nothing_again_and_goes_on() {
    let mut script = traced(Share::WHOLE);
    run(&mut script, &["put p1 0 2 orders/0", "sub a g orders earliest credit=1 lease=60000"]);
    run(&mut script, &["nack a 0 0..1 error=once"]);
    let before = records(&script.world).len();
    script.world.restart();
    assert_eq!(records(&script.world).len(), before);
    run(&mut script, &["at 3000", "sub b g orders earliest credit=1 lease=60000", "ack b 0 0..1"]);
    let expected = ["nacked 1 once; comes again in 1000 ms", "delivered 2 to b", "acked -"];
    assert_eq!(noted(&script.world, 0)[2..], expected);
}

#[test]
fn on_a_full_disk_nothing_is_noted_and_nothing_else_is_lost() {
    let mut script = traced(Share::WHOLE);
    run(&mut script, &["put p1 0 2 orders/0", "sub a g orders earliest credit=2 lease=60000"]);
    let before = records(&script.world).len();
    script.world.full = true;
    run(&mut script, &["nack a 0 0..1 error=once"]);
    script.world.full = false;
    run(&mut script, &["ack a 0 0..2"]);
    let events: Vec<String> = noted(&script.world, 0)[2..].to_vec();
    assert_eq!(events, ["acked -"], "{before} notes before");
    script.world.compare_with_log();
}

#[test]
fn nobody_else_writes_in_the_name_of_the_notes() {
    let mut script = traced(Share::WHOLE);
    let header = BatchHeader { producer: NOTING, shard: ShardId(0), ..BatchHeader::default() };
    let queue = (TopicId(1), QueueIndex(0));
    script.world.produce(TENANT, AckNodes::One, 0, header, &[queue]);
    let outs = script.world.take_outs();
    let [.., Out::Reply(_, Err(refusal))] = &outs[..] else { panic!("{outs:?}") };
    assert_eq!(refusal.code, yard_wire::Code::BadArgument);
    assert!(records(&script.world).is_empty());
}

#[test]
fn whoever_waits_longest_for_a_life_is_sent_away_where_too_many_ask() {
    let mut script = traced(Share::WHOLE);
    let args = MsgTrace { id: id(1) }.to_bytes();
    let mut refused = Vec::new();
    for session in 0..TRACES_ASKED_MAX as u64 + 2 {
        let call = Call { operation: MsgTrace::OPERATION as u16, args: args.clone() };
        script.world.request(session, TENANT, Request::Call(call));
        refused.extend(script.world.take_outs().into_iter().filter_map(|out| match out {
            Out::Reply(origin, result) => Some((session, origin.session, result.unwrap_err().code)),
            _ => None,
        }));
    }
    let (first, max) = (TRACES_ASKED_MAX as u64, TRACES_ASKED_MAX as u64 + 1);
    let busy = yard_wire::Code::Busy;
    assert_eq!(refused, [(first, SessionId(0), busy), (max, SessionId(1), busy)]);
}
