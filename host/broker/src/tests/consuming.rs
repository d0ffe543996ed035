//! Subscriptions, deliveries, what becomes of them.
use super::script::check;

const ORDERS: &str = "topic orders 1
        > tell: topic orders [0]
        > topic 1 queues=1
        put p1 0 10 orders/0
        sync
        > stored: 0 0..10
        ";

#[track_caller]
pub(crate) fn check_orders(script: &str) {
    check(&format!("{ORDERS}{script}"));
}

#[test]
fn credit_bounds_what_is_delivered() {
    check_orders(
        "sub a g orders earliest credit=3
        > a gets 0: 0..3
        sync
        > a subscribed: 0 0..10
        credit a 2
        > credited
        > a gets 0: 3..5
        ack a 0 0..5
        sync
        > settled 5
        info g
        > 0: 5..10 lag=5 held=0 waiting=0 rejected=0; a held=0 credit=0
        credit a 100
        > credited
        > a gets 0: 5..10
        info g
        > 0: 5..10 lag=5 held=5 waiting=0 rejected=0; a held=5 credit=95",
    );
}

#[test]
fn bytes_of_credit_let_the_last_message_be_larger() {
    check_orders(
        "sub a g orders earliest bytes=150
        > a gets 0: 0..2
        sub b h orders earliest bytes=1
        > b gets 0: 0..1",
    );
}

#[test]
fn a_group_begins_where_the_first_subscription_says() {
    check_orders(
        "sub a g latest latest
        > UnknownTopic: no topic \"latest\"
        sub a g orders latest
        sync
        > a subscribed: 0 10..10
        sub b h orders 7
        > b gets 0: 7..10
        sync
        > b subscribed: 0 7..10
        sub c i orders 70
        sync
        > c subscribed: 0 10..10
        sub d g orders earliest
        sync
        > d subscribed: 0 10..10
        put p1 10 2 orders/0
        sync
        > stored: 0 10..12
        > c gets 0: 10..12
        > b gets 0: 10..12
        > a gets 0: 10..11
        > d gets 0: 11..12",
    );
}

#[test]
fn a_group_goes_on_in_queues_that_are_added_and_latest_means_the_end_of_all() {
    check_orders(
        "sub a g orders latest
        sync
        > a subscribed: 0 10..10
        set orders 3
        > tell: topic orders [0, 0, 0]
        > topic 1 queues=3
        put p1 10 2 orders/1
        put p1 12 4 orders/2
        sync
        > stored: 1 0..2
        > stored: 2 0..4
        > a gets 2: 0..4
        > a gets 1: 0..2
        trim orders/2 1
        restart
        sub b h orders latest
        sync
        > b subscribed: 0 10..10, 1 2..2, 2 4..4",
    );
}

#[test]
fn bounds_of_a_subscription_are_checked() {
    check_orders(
        "sub a g orders earliest lease=999
        > BadArgument: lease of 999 ms: 1000 to 43200000
        sub a .g orders earliest
        > BadName: the name \".g\" is not usable: it begins with a dot
        full
        sub a g orders earliest
        > DiskFull: The disk of this broker is full; nothing was stored.
        room
        info g
        > UnknownGroup: no group \"g\"
        sub a g orders earliest credit=1
        > a gets 0: 0..1",
    );
}

#[test]
fn messages_are_shared_in_turns() {
    check_orders(
        "sub a g orders latest
        sub b g orders latest
        sub c g orders latest credit=1
        sync
        > a subscribed: 0 10..10
        > b subscribed: 0 10..10
        > c subscribed: 0 10..10
        put p1 10 6 orders/0
        sync
        > stored: 0 10..16
        > a gets 0: 10..12
        > b gets 0: 12..14
        > c gets 0: 14..15
        > a gets 0: 15..16
        put p1 16 1 orders/0
        sync
        > stored: 0 16..17
        > b gets 0: 16..17",
    );
}

#[test]
fn nothing_is_delivered_before_it_is_committed() {
    check_orders(
        "sub a g orders latest
        sync
        > a subscribed: 0 10..10
        put p1 10 2 orders/0
        credit a 1
        > credited
        sync
        > stored: 0 10..12
        > a gets 0: 10..12",
    );
}

#[test]
fn settling_says_what_was_held() {
    check_orders(
        "sub a g orders earliest credit=6
        > a gets 0: 0..6
        sub b g orders earliest credit=2
        > b gets 0: 6..8
        sync
        > a subscribed: 0 0..10
        > b subscribed: 0 0..10
        ack a 0 4..8
        sync
        > settled 2 lost 0 6..8
        ack a 0 4..6
        > settled 0 lost 0 4..6
        ack a 0 3..5 0 0..2 0 1..4
        sync
        > settled 4 lost 0 4..5 lost 0 1..2 lost 0 3..4
        info g
        > 0: 6..10 lag=4 held=2 waiting=0 rejected=0; a held=0 credit=0; b held=2 credit=0
        ack a 0 3..3
        > BadArgument: the range 3..3 is empty
        ack a 0 0..9999999
        > BadArgument: 9999999 messages, the limit is 65536
        ack a 7 0..1
        > settled 0 lost 7 0..1
        full
        ack b 0 6..8
        > DiskFull: The disk of this broker is full; nothing was stored.
        room
        ack b 0 6..8
        sync
        > settled 2",
    );
}

#[test]
fn a_nack_comes_back_after_its_delay() {
    check_orders(
        "sub a g orders earliest credit=3
        > a gets 0: 0..3
        sync
        > a subscribed: 0 0..10
        nack a 0 0..1 delay=500
        sync
        > settled 1
        nack a 0 1..2
        sync
        > settled 1
        credit a 4
        > credited
        > a gets 0: 3..7
        credit a 1
        > credited
        > a gets 0: 7..8
        at 1499
        info g
        > 0: 0..10 lag=10 held=6 waiting=2 rejected=0; a held=6 credit=0
        at 1500
        credit a 2
        > credited
        > a gets 0: 0..1x2 8..9
        at 11000
        credit a 5
        > credited
        > a gets 0: 1..2x2 9..10
        nack a 0 0..1 delay=0
        sync
        > settled 1
        at 11000
        > a gets 0: 0..1x3",
    );
}

#[test]
fn waits_and_attempts_survive_a_restart() {
    check_orders(
        "sub a g orders earliest credit=4
        > a gets 0: 0..4
        sync
        > a subscribed: 0 0..10
        nack a 0 1..2 delay=5000
        ack a 0 0..1
        ack a 0 3..4
        sync
        > settled 1
        > settled 1
        > settled 1
        restart
        sub a g orders latest
        > a gets 0: 2..3 4..10
        sync
        > a subscribed: 0 1..10
        at 6000
        > a gets 0: 1..2x2
        restart
        at 6001
        sub a g orders latest
        > a gets 0: 1..2x2 2..3 4..10",
    );
}

#[test]
fn rejects_are_settled_and_counted() {
    check_orders(
        "sub a g orders earliest credit=4
        > a gets 0: 0..4
        sync
        > a subscribed: 0 0..10
        reject a 0 1..3
        ack a 0 0..1
        at 1000
        sync
        > settled 2
        > settled 1
        > tell: topic $dead.g [0]
        info g
        > 0: 3..10 lag=7 held=1 waiting=0 rejected=2; a held=1 credit=0
        ls
        > g orders members=1 lag=7 held=1 rejected=2",
    );
}

#[test]
fn a_lease_that_ends_is_somebody_elses_by_the_policy() {
    check_orders(
        "policy g 1ms,4s unlimited
        > tell: group g
        > group g 1ms,4s Attempts(0)
        sub a g orders earliest credit=2 lease=1000
        > a gets 0: 0..2
        sub b g orders earliest credit=10 lease=5000
        > b gets 0: 2..10
        sync
        > a subscribed: 0 0..10
        > b subscribed: 0 0..10
        at 2000
        info g
        > 0: 0..10 lag=10 held=8 waiting=2 rejected=0; a held=0 credit=0; b held=8 credit=2
        at 2001
        > b gets 0: 0..2x2
        ack a 0 0..2
        > settled 0 lost 0 0..2
        ack b 0 0..2
        sync
        > settled 2
        at 6001
        credit a 9
        > credited
        > a gets 0: 2..10x2",
    );
}

#[test]
fn what_a_lost_connection_held_comes_back() {
    check_orders(
        "sub a g orders earliest credit=4
        > a gets 0: 0..4
        sync
        > a subscribed: 0 0..10
        close a
        close a
        ack a 0 0..4
        > UnknownSubscription
        info g
        > 0: 0..10 lag=10 held=0 waiting=4 rejected=0
        sub b g orders earliest credit=3
        > b gets 0: 0..3x2
        sync
        > b subscribed: 0 0..10
        sub c g orders earliest
        > c gets 0: 3..4x2 4..10
        unsub b
        > unsubscribed
        > c gets 0: 0..3x3
        unsub b
        > UnknownSubscription
        sync
        > c subscribed: 0 0..10
        restart
        sub d g orders earliest credit=4
        > d gets 0: 0..3x3 3..4x2",
    );
}

#[test]
fn a_full_disk_does_not_keep_messages_from_others() {
    check_orders(
        "sub a g orders earliest credit=4 lease=1000
        > a gets 0: 0..4
        sync
        > a subscribed: 0 0..10
        sub b g orders earliest credit=10
        > b gets 0: 4..10
        sync
        > b subscribed: 0 0..10
        full
        at 11999
        at 12000
        > b gets 0: 0..4x2
        room
        close b
        close a
        sub c g orders earliest
        > c gets 0: 0..4x3 4..10x2",
    );
}

#[test]
fn one_index_question_at_a_time_and_again_when_it_could_not_be_read() {
    check_orders(
        "slow
        sub a g orders earliest credit=5
        sync
        > a subscribed: 0 0..10
        credit a 1
        > credited
        unreadable
        answer
        at 1999
        answer
        at 2000
        answer
        > a gets 0: 0..6
        close a
        answer
        sync
        restart
        sub a g orders earliest credit=7
        put p1 10 2 orders/0
        answer
        > a gets 0: 0..6x2 6..7
        close a
        sync
        > a subscribed: 0 0..10
        > stored: 0 10..12",
    );
}

#[test]
fn a_group_goes_on_behind_what_was_damaged() {
    check_orders(
        "lose orders/0 3..5
        sub a g orders earliest
        > a gets 0: 0..3
        > a gets 0: 5..10
        sync
        > a subscribed: 0 0..10
        info g
        > 0: 0..10 lag=8 held=8 waiting=0 rejected=0; a held=8 credit=92
        nack a 0 1..2
        ack a 0 2..10
        sync
        > settled 1
        > settled 6 lost 0 3..5
        restart
        sub a g orders earliest
        > a gets 0: 0..1",
    );
}

#[test]
fn a_group_goes_on_without_a_message_that_rots() {
    check_orders(
        "sub a g orders earliest credit=3
        > a gets 0: 0..3
        sync
        > a subscribed: 0 0..10
        rot a 0 1
        rot a 0 1
        info g
        > 0: 0..10 lag=9 held=2 waiting=0 rejected=0; a held=2 credit=0
        ack a 0 0..3
        sync
        > settled 2 lost 0 1..2
        restart
        sub a g orders earliest credit=1
        > a gets 0: 3..4",
    );
}

#[test]
fn a_gap_that_cannot_be_recorded_is_met_again() {
    check_orders(
        "lose orders/0 0..9
        slow
        sub a g orders earliest
        sync
        > a subscribed: 0 0..10
        full
        answer
        at 1999
        answer
        room
        at 2000
        answer
        at 2001
        answer
        > a gets 0: 9..10
        info g
        > 0: 9..10 lag=1 held=1 waiting=0 rejected=0; a held=1 credit=99",
    );
}

#[test]
fn retention_passes_over_what_is_gone() {
    check_orders(
        "sub a g orders earliest credit=4
        > a gets 0: 0..4
        sync
        > a subscribed: 0 0..10
        nack a 0 3..4
        sync
        > settled 1
        trim orders/0 6
        ack a 0 0..3
        > settled 0 lost 0 0..3
        info g
        > 0: 6..10 lag=4 held=0 waiting=0 rejected=0; a held=0 credit=0
        credit a 2
        > credited
        > a gets 0: 6..8
        full
        trim orders/0 9
        info g
        > 0: 9..10 lag=1 held=0 waiting=0 rejected=0; a held=0 credit=0
        room
        credit a 2
        > credited
        > a gets 0: 9..10
        restart
        sub a g orders earliest
        > a gets 0: 9..10
        sync
        > a subscribed: 0 9..10",
    );
}

#[test]
fn new_queues_reach_groups_that_consume_already() {
    check_orders(
        "sub a g orders latest
        sync
        > a subscribed: 0 10..10
        set orders 2
        > tell: topic orders [0, 0]
        > topic 1 queues=2
        put p1 10 2 orders/1
        sync
        > stored: 1 0..2
        > a gets 1: 0..2
        ack a 1 0..2
        sync
        > settled 2
        info g
        > 0: 10..10 lag=0 held=0 waiting=0 rejected=0, \
         1: 2..2 lag=0 held=0 waiting=0 rejected=0; a held=0 credit=98",
    );
}

#[test]
fn the_sixteen_retries_take_their_time_and_the_seventeenth_delivery_is_the_last() {
    let delays =
        [10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200];
    let mut script = "topic t 1
        > tell: topic t [0]
        > topic 1 queues=1
        put p1 0 1 t/0
        sync
        > stored: 0 0..1
        sub a g t earliest
        > a gets 0: 0..1
        sync
        > a subscribed: 0 0..1\n"
        .to_owned();
    let mut at = 1_000;
    for (delay, attempt) in delays.into_iter().zip(2..) {
        let before = at + delay * 1_000 - 1;
        at = before + 1;
        script += &format!(
            "nack a 0 0..1
            sync
            > settled 1
            at {before}
            at {at}
            > a gets 0: 0..1x{attempt}\n"
        );
    }
    assert_eq!(at - 1_000, (4 * 3_600 + 45 * 60 + 40) * 1_000);
    script += "nack a 0 0..1
        at 17141000
        sync
        > settled 1
        > tell: topic $dead.g [0]
        info g
        > 0: 1..1 lag=0 held=0 waiting=0 rejected=1; a held=0 credit=83
        at 99999999999";
    check(&script);
}

#[test]
fn attempts_are_used_up_by_failures_and_never_by_the_end_of_a_subscription() {
    check_orders(
        "policy g 1s 2
        > tell: group g
        > group g 1s Attempts(2)
        sub a g orders earliest credit=1 lease=1000
        > a gets 0: 0..1
        close a
        sub b g orders earliest credit=1
        > b gets 0: 0..1x2
        close b
        sub c g orders earliest credit=3 lease=5000
        > c gets 0: 0..1x3 1..3
        sync
        > a subscribed: 0 0..10
        > b subscribed: 0 0..10
        > c subscribed: 0 0..10
        nack c 0 0..3 delay=10
        sync
        > settled 3
        at 1010
        sync
        > tell: topic $dead.g [0]
        info g
        > 0: 1..10 lag=9 held=0 waiting=2 rejected=1; c held=0 credit=0
        credit c 2
        > credited
        > c gets 0: 1..3x2
        at 6010
        info g
        > 0: 3..10 lag=7 held=0 waiting=0 rejected=3; c held=0 credit=0",
    );
}

#[test]
fn a_message_that_came_back_keeps_its_times_and_its_last_error() {
    check_orders(
        "policy g 1s,2s unlimited
        > tell: group g
        > group g 1s,2s Attempts(0)
        sub a g orders earliest credit=3 lease=5000
        > a gets 0: 0..3
        sync
        > a subscribed: 0 0..10
        nack a 0 0..2 error=first
        sync
        > settled 2
        credit a 2
        > credited
        > a gets 0: 3..5
        ack a 0 2..5
        sync
        > settled 3
        credit a 2
        > credited
        > a gets 0: 5..7
        ack a 0 5..7
        sync
        > settled 2
        at 2000
        credit a 2
        > credited
        > a gets 0: 0..2x2
        history g orders 0
        > 0: 1 times, 1000..1000, first
        > 1: 1 times, 1000..1000, first
        nack a 0 1..2 error=second
        sync
        > settled 1
        at 7000
        history g orders 0
        > 0: 2 times, 1000..2000, first
        > 1: 2 times, 1000..2000, second
        sync
        restart
        history g orders 0
        > 0: 2 times, 1000..2000, first
        > 1: 2 times, 1000..2000, second",
    );
}

#[test]
fn an_error_text_is_bounded() {
    let long = "x".repeat(1_025);
    check_orders(&format!(
        "sub a g orders earliest credit=1
        > a gets 0: 0..1
        sync
        > a subscribed: 0 0..10
        nack a 0 0..1 error={long}
        > ErrorTextTooLarge: an error text of 1025 bytes, the limit is 1024
        nack a 0 0..1 error={}
        sync
        > settled 1",
        "x".repeat(1_024)
    ));
}

#[test]
fn damage_that_is_told_to_nobody_is_met_by_whoever_comes_next() {
    check_orders(
        "sub a g orders earliest credit=3
        > a gets 0: 0..3
        sync
        > a subscribed: 0 0..10
        unsub a
        > unsubscribed
        rot a 0 1
        info g
        > 0: 0..10 lag=10 held=0 waiting=3 rejected=0
        sub b g orders earliest credit=2
        > b gets 0: 0..2x2
        sync
        > b subscribed: 0 0..10
        rot a 0 1
        rot b 0 1
        info g
        > 0: 0..10 lag=9 held=1 waiting=1 rejected=0; b held=1 credit=0",
    );
}
