//! Ordered topics: order groups one after another, their failures, what stops them.
use super::script::check;

/// One queue, messages 0.. of the order groups a, b in turns.
const TURNS: &str = "ordered flights 1 go-on
        > tell: topic flights [0]
        > topic 1 queues=1 ordered
        put p1 0 8 flights/0 orders=a,b
        sync
        > stored: 0 0..8
        ";

/// As [`TURNS`], and an order group stops.
const STOPS: &str = "ordered flights 1 stop
        > tell: topic flights [0]
        > topic 1 queues=1 ordered
        policy g 5s 2
        > tell: group g
        > group g 5s Attempts(2)
        put p1 0 8 flights/0 orders=a,b
        sync
        > stored: 0 0..8
        ";

#[track_caller]
fn check_turns(script: &str) {
    check(&format!("{TURNS}{script}"));
}

#[track_caller]
fn check_stops(script: &str) {
    check(&format!("{STOPS}{script}"));
}

#[test]
fn one_member_gets_everything_in_order_and_several_at_once() {
    check_turns(
        "sub a g flights earliest
        > a gets 0: 0..8
        sync
        > a subscribed: 0 0..8
        ack a 0 0..3
        sync
        > settled 3
        info g
        > 0: 3..8 lag=5 held=5 waiting=0 rejected=0; a held=5 credit=92",
    );
}

#[test]
fn an_order_group_is_one_members_until_nothing_of_it_is_in_its_hands() {
    check_turns(
        "sub a g flights earliest credit=2
        > a gets 0: 0..2
        sub b g flights earliest
        ack a 0 0..1
        sync
        > a subscribed: 0 0..8
        > b subscribed: 0 0..8
        > settled 1
        at 1000
        > b gets 0: 2..3 4..5 6..7
        ack a 0 1..2
        sync
        > settled 1
        at 1000
        > b gets 0: 3..4 5..6 7..8",
    );
}

#[test]
fn members_share_the_order_groups() {
    check_turns(
        "sub a g flights latest credit=0
        sub b g flights latest credit=0
        put p1 8 8 flights/0 orders=c,d
        credit a 100
        > credited
        credit b 100
        > credited
        sync
        > a subscribed: 0 8..8
        > b subscribed: 0 8..8
        > stored: 0 8..16
        > a gets 0: 8..9 10..11 12..13 14..15
        > b gets 0: 9..10 11..12 13..14 15..16",
    );
}

#[test]
fn a_failed_message_holds_back_its_order_group_only() {
    check_turns(
        "sub a g flights earliest credit=4
        > a gets 0: 0..4
        sync
        > a subscribed: 0 0..8
        nack a 0 0..1
        release a 0 2..3
        > settled 1
        credit a 4
        > credited
        > a gets 0: 5..6 7..8
        sync
        > settled 1
        info g
        > 0: 0..8 lag=8 held=4 waiting=1 rejected=0; a held=4 credit=2
        at 1999
        at 2000
        > a gets 0: 0..1x2 2..3
        ack a 0 0..3
        sync
        > settled 3
        credit a 9
        > credited
        > a gets 0: 4..5 6..7",
    );
}

#[test]
fn what_is_behind_a_failure_in_somebodys_hands_comes_to_its_end_first() {
    check_turns(
        "sub a g flights earliest credit=4 lease=5000
        > a gets 0: 0..4
        sub b g flights earliest
        sync
        > a subscribed: 0 0..8
        > b subscribed: 0 0..8
        nack a 0 0..1 delay=10
        sync
        > settled 1
        at 3000
        ack a 0 3..4
        sync
        > settled 1
        ack a 0 2..3
        sync
        > settled 1
        at 3000
        > b gets 0: 0..1x2 4..5 6..7",
    );
}

#[test]
fn an_ack_ahead_holds_and_nothing_behind_what_is_open_goes_to_others() {
    check_turns(
        "sub a g flights earliest credit=4
        > a gets 0: 0..4
        sub b g flights earliest
        sync
        > a subscribed: 0 0..8
        > b subscribed: 0 0..8
        ack a 0 2..3
        sync
        > settled 1
        at 1000
        close a
        > b gets 0: 0..2x2 3..4x2 4..8",
    );
}

#[test]
fn of_leases_that_end_only_the_first_of_an_order_group_has_failed() {
    check_turns(
        "policy g 5s 2
        > tell: group g
        > group g 5s Attempts(2)
        sub a g flights earliest lease=1000
        > a gets 0: 0..8
        sync
        > a subscribed: 0 0..8
        at 2000
        info g
        > 0: 0..8 lag=8 held=0 waiting=2 rejected=0; a held=0 credit=92
        at 3000
        > a gets 0: 0..2x2 2..8",
    );
}

#[test]
fn messages_without_an_order_group_are_one_in_each_queue() {
    check(
        "ordered flights 1 go-on
        > tell: topic flights [0]
        > topic 1 queues=1 ordered
        put p1 0 3 flights/0
        sync
        > stored: 0 0..3
        sub a g flights earliest credit=1
        > a gets 0: 0..1
        sub b g flights earliest
        sync
        > a subscribed: 0 0..3
        > b subscribed: 0 0..3
        ack a 0 0..1
        sync
        > settled 1
        at 1000
        > b gets 0: 1..3",
    );
}

#[test]
fn after_its_last_attempt_a_dead_letter_follows_and_the_next_message() {
    check_turns(
        "policy g 5s 1
        > tell: group g
        > group g 5s Attempts(1)
        sub a g flights earliest credit=3
        > a gets 0: 0..3
        sync
        > a subscribed: 0 0..8
        nack a 0 0..1
        release a 0 2..3
        > settled 1
        sync
        > settled 1
        > tell: topic $dead.g [0]
        credit a 2
        > credited
        > a gets 0: 2..4",
    );
}

#[test]
fn an_order_group_stops_until_it_is_unblocked_also_over_a_restart() {
    check_stops(
        "sub a g flights earliest credit=3
        > a gets 0: 0..3
        sync
        > a subscribed: 0 0..8
        nack a 0 0..1 delay=1
        release a 0 2..3
        > settled 1
        sync
        > settled 1
        at 1001
        credit a 20
        > credited
        > a gets 0: 0..1x2 2..8
        nack a 0 0..1
        release a 0 2..3 0 4..5 0 6..7
        > settled 3
        sync
        > settled 1
        ack a 0 1..2 0 3..4 0 5..6 0 7..8
        sync
        > settled 4
        stopped g
        > flights/0/0 x2 failed \"\"
        restart
        stopped g
        > flights/0/0 x2 failed \"\"
        info g
        > 0: 0..8 lag=4 held=0 waiting=1 rejected=0
        sub a g flights earliest
        sync
        > a subscribed: 0 0..8
        unblock g flights 0 2 retry
        > NotStopped: offset 2 of queue 0 stops no order group
        unblock g flights 0 0 retry
        > unblocked retry true
        > a gets 0: 0..1x3 2..3 4..5 6..7
        nack a 0 0..1
        release a 0 2..3 0 4..5 0 6..7
        > settled 3
        sync
        > settled 1
        unblock g flights 0 0 bury
        > unblocked bury true
        > a gets 0: 2..3 4..5 6..7
        unblock g flights 0 0 bury
        > NotStopped: offset 0 of queue 0 stops no order group
        > tell: topic $dead.g [0]",
    );
}

#[test]
fn what_is_rejected_stops_its_order_group_too_and_bad_names_are_refused() {
    check_stops(
        "sub a g flights earliest credit=1
        > a gets 0: 0..1
        sync
        > a subscribed: 0 0..8
        reject a 0 0..1 error=why
        sync
        > settled 1
        stopped g
        > flights/0/0 x1 rejected \"why\"
        stopped h
        > UnknownGroup: no group \"h\"
        unblock h flights 0 0 retry
        > UnknownGroup: no group \"h\"
        unblock g trains 0 0 retry
        > UnknownTopic: no topic \"trains\"
        unblock g flights 3 0 retry
        > QueueOutOfRange: queue 3 of a topic with 1 queues
        credit a 9
        > credited
        > a gets 0: 1..2 3..4 5..6 7..8",
    );
}

#[test]
fn a_type_belongs_to_a_topic_for_good() {
    check_turns(
        "topic flights 1
        > TopicExists: topic \"flights\" has 1 queues and is ordered
        ordered flights 1 stop
        > TopicExists: topic \"flights\" has 1 queues and is ordered
        ordered flights 1 go-on
        > topic 1 queues=1 ordered",
    );
}

#[test]
fn exclusive_queues_go_to_another_member_when_nothing_of_them_is_held() {
    check(
        "topic orders 3
        > tell: topic orders [0, 0, 0]
        > topic 1 queues=3
        put p1 0 2 orders/0
        put p1 2 2 orders/1
        put p1 4 2 orders/2
        sync
        > stored: 0 0..2
        > stored: 1 0..2
        > stored: 2 0..2
        sub a g orders earliest mode=exclusive credit=5
        > a gets 2: 0..2
        > a gets 1: 0..2
        > a gets 0: 0..1
        sub c g orders earliest
        > OtherMode: the group's members have queues of their own, this one would share them
        sub b g orders earliest mode=exclusive
        put p1 6 1 orders/2
        sync
        > a subscribed: 0 0..2, 1 0..2, 2 0..2
        > b subscribed: 0 0..2, 1 0..2, 2 0..2
        > stored: 2 2..3
        ack a 2 0..1
        sync
        > settled 1
        at 1000
        ack a 2 1..2
        sync
        > settled 1
        at 1000
        > b gets 2: 2..3",
    );
}

#[test]
fn what_is_given_back_and_not_recorded_comes_again_before_what_is_behind_it() {
    check_turns(
        "sub a g flights earliest
        > a gets 0: 0..8
        sync
        > a subscribed: 0 0..8
        full
        nack a 0 2..3 unanswered=yes
        > DiskFull: The disk of this broker is full; nothing was stored.
        release a 0 4..5 0 6..7 unanswered=yes
        > settled 2
        info g
        > 0: 0..8 lag=8 held=5 waiting=0 rejected=0; a held=5 credit=92
        room
        at 1099
        at 1100
        > a gets 0: 2..3 4..5 6..7
        full
        nack a 0 2..3
        > DiskFull: The disk of this broker is full; nothing was stored.
        info g
        > 0: 0..8 lag=8 held=8 waiting=0 rejected=0; a held=8 credit=89",
    );
}
