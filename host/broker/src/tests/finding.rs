//! Searches: what is asked of the log, and what of its findings leaves.
use super::script::{check, check_on};

/// Two tenants with a topic of the same name each, ten messages in both.
const TWO: &str = "topic orders 1
        > tell: topic orders [0]
        > topic 1 queues=1
        put p1 0 10 orders/0
        sync
        > stored: 0 0..10
        tenant acme
        > tell: tenant acme
        > tenant 1 auto=false
        as acme
        topic parcels 1
        > tell: topic parcels [0]
        > topic 2 queues=1
        put p2 0 10 parcels/0
        sync
        > stored: 0 0..10
        ";

#[track_caller]
fn check_two(script: &str) {
    check(&format!("{TWO}{script}"));
}

#[test]
fn an_id_of_another_tenant_is_found_by_nobody_else() {
    check_two(
        "id
        > tenant 1 looks: Id(MessageId([7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7])), 1024
        hits orders/0/3 parcels/0/4
        > found: parcels/0/4
        hits orders/0/3
        > found:
        as default
        hits orders/0/3 parcels/0/4
        > found: orders/0/3",
    );
}

#[test]
fn an_answer_is_bounded_and_what_is_foreign_takes_no_room_in_it() {
    check_two(
        "hits parcels/0/1 orders/0/2 parcels/0/3 parcels/0/4 count=2
        > found: parcels/0/1 parcels/0/3, next 4
        hits orders/0/1 orders/0/2 parcels/0/3 count=1 bytes=100
        > found: parcels/0/3
        hits orders/0/1 orders/0/2 orders/0/3 count=1 bytes=1
        > found:
        hits parcels/0/1 parcels/0/2 bytes=199
        > found: parcels/0/1, next 2
        hits parcels/0/1 parcels/0/2 bytes=1
        > found: parcels/0/1, next 2",
    );
}

#[test]
fn a_key_is_looked_for_in_a_topic_of_the_tenant() {
    check_two(
        "find parcels k 5 9
        > tenant 1 looks: Key { topic: TopicId(2), key: \"k\", from: Timestamp(5), \
         to: Timestamp(9) }, 1024
        find orders k 5 9
        > UnknownTopic: no topic \"orders\"
        find nowhere k 5 9
        > UnknownTopic: no topic \"nowhere\"
        find parcels k 9 9
        > BadArgument: nothing is stored from 9 on and before 9",
    );
}

#[test]
fn what_is_removed_or_not_committed_is_not_found() {
    check_two(
        "trim parcels/0 4
        hits parcels/0/3 parcels/0/4 parcels/0/9 parcels/0/10
        > found: parcels/0/4 parcels/0/9
        rm parcels
        > tell: topic removed
        > topic 2 queues=1
        hits parcels/0/5
        > found:",
    );
}

#[test]
fn a_time_is_sought_in_a_queue_that_is_here() {
    check_two(
        "seek parcels/0 77
        > seek 2/0 77
        seek parcels/1 77
        > QueueOutOfRange: queue 1 of a topic with 1 queues
        seek orders/0 77
        > UnknownTopic: no topic \"orders\"",
    );
    check_on(
        0,
        2,
        "topic orders 2
        > tell: topic orders [1, 0]
        > topic 1 queues=2
        seek orders/0 77
        > WrongShard: shard 0 does not hold this",
    );
}
