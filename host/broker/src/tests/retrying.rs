//! A group whose plugin says when what failed comes again: what it is asked, and what its answer
//! changes.
use super::script::check;

#[track_caller]
fn check_orders(attempts: &str, script: &str) {
    check(&format!(
        "topic orders 1
        > tell: topic orders [0]
        > topic 1 queues=1
        policy g plugin:ladder {attempts}
        > tell: group g
        > group g plugin:ladder Attempts({attempts})
        put p1 0 10 orders/0
        sync
        > stored: 0 0..10
        sub a g orders earliest credit=4 lease=5000
        > a gets 0: 0..4
        sync
        > a subscribed: 0 0..10
        {script}"
    ));
}

#[test]
fn a_plugin_delays_gives_up_and_drops() {
    check_orders(
        "3",
        "nack a 0 0..3 error=busy
        > asks ladder of g at 1000: 0x1 after 0 \"busy\" 1x1 after 0 \"busy\" 2x1 after 0 \"busy\"
        sync
        > settled 3
        at 1020
        decide g orders 0 1000 0x1:50 1x1:dead 2x1:drop
        history g orders 0
        > 0: 1 times, 1000..1000, busy
        > 1: 1 times, 1000..1000, no use
        at 1020
        sync
        > tell: topic $dead.g [0]
        info g
        > 0: 0..10 lag=8 held=1 waiting=1 rejected=1; a held=1 credit=0
        at 1049
        credit a 1
        > credited
        > a gets 0: 4..5
        credit a 1
        > credited
        > a gets 0: 5..6
        at 1050
        credit a 1
        > credited
        > a gets 0: 0..1x2
        restart
        info g
        > 0: 0..10 lag=8 held=0 waiting=1 rejected=1",
    );
}

#[test]
fn a_decision_is_taken_once_and_holds_after_a_restart() {
    check_orders(
        "3",
        "nack a 0 0..2
        > asks ladder of g at 1000: 0x1 after 0 \"\" 1x1 after 0 \"\"
        decide g orders 0 1000 0x1:70 1x1:30000
        sync
        > settled 2
        restart
        at 1069
        sub b g orders earliest credit=8
        > b gets 0: 2..10
        sync
        > b subscribed: 0 0..10
        credit b 5
        > credited
        at 1070
        > b gets 0: 0..1x2
        at 30999
        at 31000
        > b gets 0: 1..2x2",
    );
}

#[test]
fn without_an_answer_and_with_one_that_is_late_the_table_holds() {
    check_orders(
        "3",
        "nack a 0 0..2
        > asks ladder of g at 1000: 0x1 after 0 \"\" 1x1 after 0 \"\"
        sync
        > settled 2
        restart
        at 6001
        decide g orders 0 1000 0x1:5001
        sub a g orders earliest credit=8
        > a gets 0: 2..10
        sync
        > a subscribed: 0 0..10
        credit a 2
        > credited
        at 10999
        at 11000
        > a gets 0: 0..2x2
        nack a 0 0..1
        > asks ladder of g at 11000: 0x2 after 10000 \"\"
        sync
        > settled 1
        decide g orders 0 11000 0x1:dead 0x2:0
        credit a 1
        > credited
        at 11000
        > a gets 0: 0..1x3
        nack a 0 0..1
        sync
        > settled 1",
    );
}

#[test]
fn a_plugin_moves_messages_to_another_topic() {
    check_orders(
        "3",
        "topic parked 2
        > tell: topic parked [0, 0]
        > topic 2 queues=2
        ordered later 1 go-on
        > tell: topic later [0]
        > topic 3 queues=1 ordered
        nack a 0 0..4 error=busy
        > asks ladder of g at 1000: 0x1 after 0 \"busy\" 1x1 after 0 \"busy\" 2x1 after 0 \
         \"busy\" 3x1 after 0 \"busy\"
        sync
        > settled 4
        decide g orders 0 1000 0x1:to-parked 1x1:to-nobody 2x1:to-parked 3x1:to-later
        history g orders 0
        > 1: 1 times, 1000..1000, cannot be moved to topic nobody
        > 3: 1 times, 1000..1000, cannot be moved to topic later
        decide g orders 0 1000 0x1:to-parked
        sync
        > tell: topic $dead.g [0]
        restart
        sub b g parked earliest credit=9
        > b gets 0: 0..2
        sync
        > b subscribed: 0 0..2, 1 0..0
        info g
        > 0: 4..10 lag=6 held=0 waiting=0 rejected=2, 0: 0..2 lag=2 held=2 waiting=0 rejected=0, \
         1: 0..0 lag=0 held=0 waiting=0 rejected=0; b held=2 credit=7",
    );
}

#[test]
fn a_full_disk_leaves_the_plugin_its_say() {
    check_orders(
        "3",
        "full
        at 6000
        > asks ladder of g at 6000: 0x1 after 0 \"lease-ended\" 1x1 after 0 \"lease-ended\" \
         2x1 after 0 \"lease-ended\" 3x1 after 0 \"lease-ended\"
        decide g orders 0 6000 0x1:300 1x1:drop
        credit a 1
        > credited
        > a gets 0: 4..5
        credit a 9
        > credited
        > a gets 0: 5..10
        at 6299
        at 6300
        > a gets 0: 0..1x2
        room
        decide g orders 0 6000 1x1:500 2x1:dead 3x1:drop 0x1:700
        history g orders 0
        > 1: 1 times, 1000..1000, -
        > 2: 1 times, 1000..1000, no use
        at 6301
        sync
        > tell: topic $dead.g [0]
        at 6499
        at 6500
        > a gets 0: 1..2x2
        info g
        > 0: 0..10 lag=8 held=8 waiting=0 rejected=1; a held=8 credit=2",
    );
}

#[test]
fn the_end_of_a_lease_is_asked_about_and_a_delay_of_the_consumer_is_not() {
    check_orders(
        "9",
        "nack a 0 0..1 delay=30000
        sync
        > settled 1
        at 6000
        > asks ladder of g at 6000: 1x1 after 0 \"lease-ended\" 2x1 after 0 \"lease-ended\" \
         3x1 after 0 \"lease-ended\"
        decide g orders 0 6000 1x1:1 2x1:dead 9x1:dead
        credit a 9
        > credited
        > a gets 0: 4..10
        at 6001
        > a gets 0: 1..2x2
        sync
        > tell: topic $dead.g [0]
        decide g orders 0 6000 1x1:dead 3x1:4000
        close a
        decide g orders 0 6000 3x1:4500
        sub b g orders earliest lease=9000
        > b gets 0: 1..2x3 4..10x2
        sync
        > b subscribed: 0 0..10
        at 10499
        at 10500
        > b gets 0: 3..4x2
        info g
        > 0: 0..10 lag=9 held=8 waiting=1 rejected=1; b held=8 credit=92",
    );
}
