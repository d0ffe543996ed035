//! Subscriptions with a policy: what it does not want, and what it cannot say.
use super::consuming::check_orders;

#[test]
fn what_is_not_wanted_is_settled_and_counted_and_credit_comes_back() {
    check_orders(
        "sub a g orders earliest credit=4 plugin=thirds
        > a gets 0: 0..4 in round 0
        sync
        > a subscribed: 0 0..10
        skip a 0 0..1 2..4
        > a gets 0: 4..7 in round 0
        info g
        > 0: 1..10 lag=7 held=4 waiting=0 rejected=0 filtered=3; a held=4 credit=0
        ack a 0 1..2
        sync
        > settled 1
        info g
        > 0: 4..10 lag=6 held=3 waiting=0 rejected=0 filtered=3; a held=3 credit=0
        restart
        info g
        > 0: 4..10 lag=6 held=0 waiting=0 rejected=0 filtered=3
        sub a g orders earliest plugin=thirds
        > a gets 0: 4..10 in round 0",
    );
}

#[test]
fn small_pieces_of_credit_wait_for_more_and_not_for_long() {
    check_orders(
        "sub a g orders earliest credit=8 plugin=thirds
        > a gets 0: 0..8 in round 0
        sync
        > a subscribed: 0 0..10
        skip a 0 0..1
        info g
        > 0: 1..10 lag=9 held=7 waiting=0 rejected=0 filtered=1; a held=7 credit=0
        skip a 0 2..3
        > a gets 0: 8..10 in round 0",
    );
    check_orders(
        "sub a g orders earliest credit=8 plugin=thirds
        > a gets 0: 0..8 in round 0
        sync
        > a subscribed: 0 0..10
        skip a 0 0..1
        at 1001
        at 1002
        > a gets 0: 8..9 in round 0
        skip a 0 1..2
        close a
        at 1004",
    );
}

#[test]
fn poison_becomes_a_dead_letter_at_once_with_what_it_does() {
    check_orders(
        "sub a g orders earliest credit=4 plugin=thirds
        > a gets 0: 0..4 in round 0
        sync
        > a subscribed: 0 0..10
        poison a 0 1 3
        > a gets 0: 4..6 in round 0
        history g orders 0
        > 1: 1 times, 1000..1000, trap at 1
        > 3: 1 times, 1000..1000, trap at 3
        at 1000
        sync
        > tell: topic $dead.g [0]
        info g
        > 0: 0..10 lag=8 held=4 waiting=0 rejected=2; a held=4 credit=0
        ack a 0 0..1 0 2..3
        sync
        > settled 2
        restart
        info g
        > 0: 4..10 lag=6 held=0 waiting=0 rejected=2
        sub d h $dead.g earliest
        > d gets 0: 0..2
        sync
        > d subscribed: 0 0..2",
    );
}

#[test]
fn a_verdict_about_a_message_that_is_held_no_more_says_nothing() {
    check_orders(
        "policy g 1s 9
        > tell: group g
        > group g 1s Attempts(9)
        sub a g orders earliest credit=2 plugin=thirds lease=1000
        > a gets 0: 0..2 in round 0
        sync
        > a subscribed: 0 0..10
        at 3000
        sub b g orders earliest plugin=thirds
        > b gets 0: 0..2x2 2..10 in round 0
        sync
        > b subscribed: 0 0..10
        skip a 0 0..2
        info g
        > 0: 0..10 lag=10 held=10 waiting=0 rejected=0; a held=0 credit=2; b held=10 credit=90
        skip b 0 0..1
        close b
        > a gets 0: 1..2x3 2..3x2 in round 0
        skip b 0 2..3
        info g
        > 0: 1..10 lag=9 held=2 waiting=7 rejected=0 filtered=1; a held=2 credit=0",
    );
}

#[test]
fn a_queue_that_is_held_waits_and_begins_again_in_order() {
    check_orders(
        "sub a g orders earliest credit=6 plugin=thirds
        > a gets 0: 0..6 in round 0
        sync
        > a subscribed: 0 0..10
        hold a 0 0..3 50
        info g
        > 0: 0..10 lag=10 held=3 waiting=3 rejected=0; a held=3 credit=3
        hold a 0 3..6 20
        at 1049
        at 1050
        > a gets 0: 0..6 in round 2
        ack a 0 0..6
        sync
        > settled 6
        credit a 4
        > credited
        > a gets 0: 6..10 in round 2
        info g
        > 0: 6..10 lag=4 held=4 waiting=0 rejected=0; a held=4 credit=0",
    );
}

/// Where they are must be asked for, because their segments have gone; of those behind it is known.
#[test]
fn what_is_held_back_comes_first_also_where_it_must_be_looked_for() {
    check_orders(
        "sub a g orders earliest credit=6 plugin=thirds
        > a gets 0: 0..6 in round 0
        sync
        > a subscribed: 0 0..10
        retire 7
        credit a 1
        > credited
        > a gets 0: 6..7 in round 0
        slow
        hold a 0 0..2 3..4 6..7 50
        at 1050
        answer
        > a gets 0: 0..2 3..4 6..7 in round 1
        credit a 3
        > credited
        > a gets 0: 7..10 in round 1",
    );
}

#[test]
fn what_was_delivered_before_bars_nobody_while_it_is_looked_for() {
    check_orders(
        "sub a g orders earliest credit=6
        > a gets 0: 0..6
        sync
        > a subscribed: 0 0..10
        retire 7
        credit a 1
        > credited
        > a gets 0: 6..7
        slow
        nack a 0 0..3 delay=10
        sync
        > settled 3
        at 1010
        credit a 3
        > credited
        > a gets 0: 7..10
        credit a 3
        > credited
        answer
        > a gets 0: 0..3x2",
    );
}

#[test]
fn being_held_back_is_no_attempt() {
    check_orders(
        "sub a g orders earliest credit=1 plugin=thirds
        > a gets 0: 0..1 in round 0
        sync
        > a subscribed: 0 0..10
        nack a 0 0..1 delay=10
        sync
        > settled 1
        credit a 1
        > credited
        > a gets 0: 1..2 in round 0
        hold a 0 1..2 5
        at 1005
        > a gets 0: 1..2 in round 1
        ack a 0 1..2
        sync
        > settled 1
        at 1010
        credit a 1
        > credited
        > a gets 0: 0..1x2 in round 1",
    );
}

#[test]
fn members_of_a_group_want_the_same() {
    check_orders(
        "sub a g orders latest tag=paid
        sync
        > a subscribed: 0 10..10
        sub b g orders latest tag=sent
        > OtherExpression: the group's members want \"tag paid\", this one \"tag sent\"
        sub b g orders latest
        > OtherExpression: the group's members want \"tag paid\", this one every message
        sub b g orders latest tag=paid
        sync
        > b subscribed: 0 10..10
        sub c h orders latest tag=*
        sync
        > c subscribed: 0 10..10
        sub d h orders latest
        sync
        > d subscribed: 0 10..10
        close a
        close b
        sub e g orders latest plugin=big(1)
        sync
        > e subscribed: 0 10..10
        sub f g orders latest tag=paid
        > OtherExpression: the group's members want \"plugin big(1)\", this one \"tag paid\"
        sub f i orders latest plugin=big(1
        > BadExpression: the filter expression cannot be used: \"big(1\" does not end with the ) \
         of its arguments",
    );
}
