//! Leases that are extended, and messages that had expired.
use super::consuming::check_orders;

#[test]
fn an_extended_lease_ends_later_and_no_lease_is_cut_short() {
    check_orders(
        "sub a g orders earliest lease=2000 credit=4
        > a gets 0: 0..4
        sync
        > a subscribed: 0 0..10
        at 2000
        extend a 0 0..2 5000
        > extended 2 to 7000
        extend a 0 0..2 1000
        > extended 2 to 7000
        credit a 9
        > credited
        > a gets 0: 4..10
        at 2999
        info g
        > 0: 0..10 lag=10 held=10 waiting=0 rejected=0; a held=10 credit=3
        at 3000
        info g
        > 0: 0..10 lag=10 held=8 waiting=2 rejected=0; a held=8 credit=3
        at 6999
        info g
        > 0: 0..10 lag=10 held=2 waiting=8 rejected=0; a held=2 credit=3
        at 7000
        ack a 0 0..2
        > settled 0 lost 0 0..2",
    );
}

#[test]
fn only_the_delivery_that_is_held_is_extended() {
    check_orders(
        "sub a g orders earliest lease=1000 credit=4
        > a gets 0: 0..4
        sync
        > a subscribed: 0 0..10
        nack a 0 1..2 delay=100
        sync
        > settled 1
        credit a 1
        > credited
        > a gets 0: 4..5
        at 1100
        credit a 1
        > credited
        > a gets 0: 1..2x2
        extend a 0 0..4 5000 attempt=1
        > extended 3 to 6100 held 0 1..2x2
        extend a 0 1..2 5000 attempt=3
        > extended 0 to 0 held 0 1..2x2
        extend a 0 1..2 5000
        > extended 1 to 6100",
    );
}

#[test]
fn only_what_the_subscription_holds_is_extended() {
    check_orders(
        "sub a g orders earliest credit=4
        > a gets 0: 0..4
        sub b g orders earliest credit=2
        > b gets 0: 4..6
        sync
        > a subscribed: 0 0..10
        > b subscribed: 0 0..10
        ack a 0 1..2
        sync
        > settled 1
        extend a 0 0..8 60000
        > extended 3 to 61000 lost 1..2 lost 4..8
        extend b 0 0..10 60000
        > extended 2 to 61000 lost 0..4 lost 6..10
        extend a 9 0..1 60000
        > extended 0 to 0 lost 0..1
        extend a 0 3..3 60000
        > BadArgument: the range 3..3 is empty
        extend a 0 0..70000 60000
        > BadArgument: 70000 messages, the limit is 65536
        extend a 0 0..1 999
        > BadArgument: lease of 999 ms: 1000 to 43200000
        close b
        extend b 0 4..6 60000
        > UnknownSubscription",
    );
}

#[test]
fn nobody_holds_a_message_for_longer_than_twelve_hours() {
    check_orders(
        "sub a g orders earliest lease=43200000 credit=1
        > a gets 0: 0..1
        sync
        > a subscribed: 0 0..10
        at 2000
        extend a 0 0..1 43200000
        > extended 0 to 0 spent 0..1
        extend a 0 0..1 1000
        > extended 1 to 43201000
        at 43201000
        extend a 0 0..1 1000
        > extended 0 to 0 lost 0..1",
    );
}

#[test]
fn what_had_expired_is_settled_and_counted_over_a_restart() {
    check_orders(
        "sub a g orders earliest credit=4
        > a gets 0: 0..4
        sync
        > a subscribed: 0 0..10
        expire a 0 0..2
        sync
        > settled 2
        expire a 0 1..3
        sync
        > settled 1 lost 0 1..2
        restart
        counts g
        > rejected=0 expired=3",
    );
}
