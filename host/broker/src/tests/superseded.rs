//! What is said of a delivery counts for that one only: a message that was delivered again is held
//! by the later one.
use super::consuming::check_orders;

#[test]
fn what_is_said_of_an_earlier_delivery_changes_nothing() {
    check_orders(
        "policy g 1ms unlimited
        > tell: group g
        > group g 1ms Attempts(0)
        sub a g orders earliest credit=20 lease=1000
        > a gets 0: 0..10
        sync
        > a subscribed: 0 0..10
        ack a 0 5..10
        sync
        > settled 5
        at 2000
        at 2001
        > a gets 0: 0..5x2
        ack a 0 0..3 attempt=1
        > settled 0 held 0 0..3x2
        nack a 0 0..1 attempt=1 delay=0
        > settled 0 held 0 0..1x2
        reject a 0 1..2 attempt=1
        > settled 0 held 0 1..2x2
        release a 0 2..3 attempt=1
        > settled 0 held 0 2..3x2
        info g
        > 0: 0..10 lag=5 held=5 waiting=0 rejected=0; a held=5 credit=5
        ack a 0 0..7 attempt=2
        sync
        > settled 5 lost 0 5..7
        info g
        > 0: 10..10 lag=0 held=0 waiting=0 rejected=0; a held=0 credit=5",
    );
}

#[test]
fn a_number_that_was_never_given_counts_for_nothing() {
    check_orders(
        "sub a g orders earliest credit=2
        > a gets 0: 0..2
        sync
        > a subscribed: 0 0..10
        ack a 0 0..1 attempt=2
        > settled 0 held 0 0..1x1
        ack a 0 0..1 attempt=0
        > settled 0 held 0 0..1x1
        ack a 0 0..3 attempt=4294967295
        > settled 0 lost 0 2..3 held 0 0..2x1
        ack a 0 0..2
        sync
        > settled 2",
    );
}

#[test]
fn the_rest_of_a_range_is_settled() {
    check_orders(
        "sub a g orders earliest credit=4
        > a gets 0: 0..4
        sync
        > a subscribed: 0 0..10
        nack a 0 1..2 delay=100
        sync
        > settled 1
        at 1100
        credit a 1
        > credited
        > a gets 0: 1..2x2
        ack a 0 0..6 attempt=1
        sync
        > settled 3 lost 0 4..6 held 0 1..2x2
        ack a 0 1..2 attempt=2
        sync
        > settled 1
        ack a 0 1..2 attempt=1
        > settled 0 lost 0 1..2",
    );
}

#[test]
fn both_deliveries_of_a_message_may_be_in_one_request() {
    check_orders(
        "policy g 1ms unlimited
        > tell: group g
        > group g 1ms Attempts(0)
        sub a g orders earliest credit=3 lease=1000
        > a gets 0: 0..3
        sync
        > a subscribed: 0 0..10
        at 2000
        credit a 3
        > credited
        > a gets 0: 3..6
        at 2001
        credit a 9
        > credited
        > a gets 0: 0..3x2 6..10
        ack a 0 0..10
        sync
        > settled 10
        ack a 0 0..3 attempt=1
        > settled 0 lost 0 0..3",
    );
}
