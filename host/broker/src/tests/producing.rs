//! Storing, numbering, reading.
use super::script::{check, check_on};

#[test]
fn a_batch_is_stored_once() {
    check(
        "topic orders 2
        > tell: topic orders [0, 0]
        > topic 1 queues=2
        put p1 0 3 orders/0
        put p1 3 2 orders/1
        sync
        > stored: 0 0..3
        > stored: 1 0..2
        put p1 0 3 orders/0
        put p1 3 2 orders/1
        sync
        > stored again: 0 0..3
        > stored again: 1 0..2
        put p1 3 1 orders/1
        > StaleSequence: expected was 5
        put p1 6 1 orders/1
        > OutOfSequence: expected was 5
        put p1 5 1 orders/1
        put p1 6 1 orders/1
        sync
        > stored: 1 2..3
        > stored: 1 3..4",
    );
}

#[test]
fn lanes_producers_and_tenants_are_numbered_apart() {
    check(
        "topic orders 1
        > tell: topic orders [0]
        > topic 1 queues=1
        put p1 0 1 orders/0 lane=0
        put p1 0 1 orders/0 lane=31
        put p2 0 1 orders/0
        put p1 0 1 orders/0 lane=32
        > BadArgument: lane 32; there are 32
        sync
        > stored: 0 0..1
        > stored: 0 1..2
        > stored: 0 2..3
        tenant acme
        > tell: tenant acme
        > tenant 1 auto=false
        as acme
        topic mine 1
        > tell: topic mine [0]
        > topic 2 queues=1
        put p1 0 1 mine/0
        sync
        > stored: 0 0..1",
    );
}

#[test]
fn a_refusal_does_not_come_before_what_it_speaks_of_is_durable() {
    check(
        "topic orders 1
        > tell: topic orders [0]
        > topic 1 queues=1
        put p1 0 1 orders/0 epoch=2
        put p1 0 1 orders/0 epoch=1
        restart
        put p1 0 1 orders/0 epoch=1
        sync
        > stored: 0 0..1",
    );
}

#[test]
fn a_floor_passes_over_what_was_lost_and_an_epoch_fences() {
    check(
        "topic orders 1
        > tell: topic orders [0]
        > topic 1 queues=1
        put p1 7 1 orders/0
        > OutOfSequence: expected was 0
        put p1 7 1 orders/0 floor=7
        put p1 9 1 orders/0 floor=7
        > OutOfSequence: expected was 8
        put p1 9 1 orders/0 floor=9
        put p1 4 1 orders/0 floor=9
        > StaleSequence: expected was 10
        put p1 0 1 orders/0 epoch=2
        put p1 10 1 orders/0 epoch=1
        sync
        > stored: 0 0..1
        > stored: 0 1..2
        > stored: 0 2..3
        > ProducerFenced: epoch 2 of this producer is newer
        put p1 10 1 orders/0 epoch=1
        > ProducerFenced: epoch 2 of this producer is newer
        restart
        put p1 1 1 orders/0 epoch=2
        put p1 0 1 orders/0 epoch=2
        sync
        > stored: 0 3..4
        > stored again: 0 2..3",
    );
}

#[test]
fn an_incarnation_fences_those_before_it_and_goes_on_where_they_were() {
    check(
        "topic orders 2
        > tell: topic orders [0, 0]
        > topic 1 queues=2
        put p1 0 3 orders/0
        put p1 0 2 orders/1 lane=3
        open p1
        sync
        > stored: 0 0..3
        > stored: 1 0..2
        > opened 1 0: 3 3: 2
        put p1 3 1 orders/0
        > ProducerFenced: epoch 1 of this producer is newer
        put p1 0 2 orders/1 lane=3
        > ProducerFenced: epoch 1 of this producer is newer
        put p1 2 1 orders/0 epoch=1
        > StaleSequence: expected was 3
        put p1 3 1 orders/0 epoch=1
        put p1 0 1 orders/1 epoch=1 lane=4
        open p1
        sync
        > stored: 0 3..4
        > stored: 1 2..3
        > opened 2 0: 4 3: 2 4: 1
        restart
        put p1 4 1 orders/0 epoch=1
        > ProducerFenced: epoch 2 of this producer is newer
        put p1 4 1 orders/0 epoch=2
        sync
        > stored: 0 4..5",
    );
}

#[test]
fn an_incarnation_of_nobody_is_newer_than_all_that_were_forgotten() {
    check(
        "topic orders 1
        > tell: topic orders [0]
        > topic 1 queues=1
        at 90000
        open p1
        sync
        > opened 90
        put p1 0 1 orders/0 epoch=89
        > ProducerFenced: epoch 90 of this producer is newer
        open p1
        sync
        > opened 91
        at 200000
        open p1
        sync
        > opened 200
        put p1 0 1 orders/0 epoch=4294967295
        open p1
        sync
        > stored: 0 0..1
        > ProducerFenced: epoch 4294967295 of this producer is newer
        open p18446744073709551615
        > BadArgument: the producer 18446744073709551615 is the broker itself",
    );
}

#[test]
fn an_incarnation_that_could_not_be_appended_fences_nobody() {
    check(
        "topic orders 1
        > tell: topic orders [0]
        > topic 1 queues=1
        put p1 0 1 orders/0
        sync
        > stored: 0 0..1
        full
        open p1
        > DiskFull: The disk of this broker is full; nothing was stored.
        room
        put p1 1 1 orders/0
        sync
        > stored: 0 1..2",
    );
}

#[test]
fn the_first_thing_wrong_refuses_the_whole_batch() {
    check_on(
        0,
        2,
        "topic orders 2
        > tell: topic orders [1, 0]
        > topic 1 queues=2
        put p1 0 1 orders/1 nodes=quorum
        > AckUnavailable: this broker is alone; it cannot acknowledge for quorum
        put p1 0 1 orders/0
        > WrongShard: shard 0 does not hold this
        put p1 0 1 orders/1 shard=1
        > WrongShard: shard 0 does not hold this
        put p1 0 1 orders/2
        > QueueOutOfRange: queue 2 of a topic with 2 queues
        put p1 0 1 other/0
        > UnknownTopic: no topic with the id 97
        put p1 0 1 orders/1
        sync
        > stored: 1 0..1",
    );
}

#[test]
fn what_could_not_be_appended_was_not_stored() {
    check(
        "topic orders 1
        > tell: topic orders [0]
        > topic 1 queues=1
        full
        put p1 0 1 orders/0
        > DiskFull: The disk of this broker is full; nothing was stored.
        room
        put p1 0 1 orders/0
        sync
        > stored: 0 0..1",
    );
}

#[test]
fn reading_stays_inside_the_queue() {
    check(
        "topic orders 1
        > tell: topic orders [0]
        > topic 1 queues=1
        put p1 0 9 orders/0
        fetch orders/0 0
        > fetch 0 from 0, 16384
        sync
        > stored: 0 0..9
        trim orders/0 4
        fetch orders/0 3
        > OffsetOutOfRange: offset 3; the oldest message has 4
        fetch orders/0 50
        > fetch 0 from 50, 16384
        fetch orders/1 0
        > QueueOutOfRange: queue 1 of a topic with 1 queues
        fetch nothing/0 0
        > UnknownTopic: no topic \"nothing\"",
    );
}
