//! Groups that are moved to other offsets.
use super::consuming::check_orders;
use super::script::check_on;

#[test]
fn a_group_without_members_goes_on_where_it_was_moved_to() {
    check_orders(
        "sub a g orders earliest credit=6
        > a gets 0: 0..6
        sync
        > a subscribed: 0 0..10
        ack a 0 0..3 0 4..5
        sync
        > settled 4
        close a
        move g orders 0 2
        sync
        > moved 0: 3 to 2 of 10; 0 ended
        info g
        > 0: 2..10 lag=8 held=0 waiting=0 rejected=0
        restart
        sub b g orders latest
        > b gets 0: 2..10
        sync
        > b subscribed: 0 2..10
        close b
        move g orders 0 10
        sync
        > moved 0: 2 to 10 of 10; 0 ended
        info g
        > 0: 10..10 lag=0 held=0 waiting=0 rejected=0",
    );
}

#[test]
fn the_subscriptions_of_a_group_that_is_moved_end_and_their_leases_with_them() {
    check_orders(
        "sub a g orders earliest credit=3
        > a gets 0: 0..3
        sub b g orders earliest credit=2
        > b gets 0: 3..5
        sub c other orders earliest credit=1
        > c gets 0: 0..1
        sync
        > a subscribed: 0 0..10
        > b subscribed: 0 0..10
        > c subscribed: 0 0..10
        move g orders 0 4
        > a ended: GroupMoved
        > b ended: GroupMoved
        ack a 0 0..3
        > UnknownSubscription
        sync
        > moved 0: 0 to 4 of 10; 2 ended
        sub a g orders earliest credit=3
        > a gets 0: 4..7
        sync
        > a subscribed: 0 4..10
        ack c 0 0..1
        sync
        > settled 1",
    );
}

#[test]
fn a_group_that_is_not_there_is_created_where_it_is_moved_to() {
    check_orders(
        "trim orders/0 3
        move new orders 0 7
        sync
        > moved 0: 3 to 7 of 10; 0 ended
        move old orders 0 1
        sync
        > moved 0: 3 to 3 of 10; 0 ended
        restart
        sub a new orders earliest
        > a gets 0: 7..10
        sub b old orders latest
        > b gets 0: 3..10
        sync
        > a subscribed: 0 7..10
        > b subscribed: 0 3..10",
    );
}

#[test]
fn what_cannot_be_is_refused_and_moves_nothing() {
    check_orders(
        "sub a g orders earliest credit=3
        > a gets 0: 0..3
        sync
        > a subscribed: 0 0..10
        move g orders 0 11
        > SeekBeyondEnd: offset 11 of queue 0, which ends at 10
        move g orders 1 0
        > QueueOutOfRange: queue 1 of a topic with 1 queues
        move g orders 0 1 0 2
        > BadArgument: queue 0 is named twice
        move g orders
        > BadArgument: offsets of 0 queues: 1 to 1024
        move g none 0 1
        > UnknownTopic: no topic \"none\"
        move .g orders 0 1
        > BadName: the name \".g\" is not usable: it begins with a dot
        ack a 0 0..3
        sync
        > settled 3",
    );
}

#[test]
fn queues_of_other_shards_are_refused() {
    check_on(
        0,
        2,
        "topic orders 2
        > tell: topic orders [1, 0]
        > topic 1 queues=2
        move g orders 0 0
        > WrongShard: shard 0 does not hold this
        move g orders 1 0
        sync
        > moved 1: 0 to 0 of 0; 0 ended",
    );
}
