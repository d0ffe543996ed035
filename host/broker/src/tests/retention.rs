//! Limits of topics: what may go, and who must wait.
use yard_wire::units::{AgeLimit, CountLimit, SizeLimit};
use yard_wire::{QueueIndex, QueueOffset, Timestamp};

use super::consuming::check_orders;
use crate::retention::{expired, share};
use crate::{Part, QueueParts, TopicLimits};

/// Parts of ten messages each: bytes, and when the last was stored.
fn queue(queue: u16, parts: &[(u64, u64)]) -> QueueParts {
    let part = |(at, (bytes, newest)): (u64, &(u64, u64))| Part {
        first: QueueOffset(at * 10),
        end: QueueOffset(at * 10 + 10),
        bytes: *bytes,
        newest: Timestamp(*newest),
    };
    QueueParts { queue: QueueIndex(queue), parts: (0..).zip(parts).map(part).collect() }
}

#[test]
fn parts_expire_by_age_and_by_size_oldest_first() {
    let old = [queue(0, &[(100, 10), (100, 20), (100, 30)]), queue(1, &[(50, 15), (50, 40)])];
    let check = |age: u64, bytes: Option<u64>, now: u64, expected: &[(u16, u64)]| {
        let limits = TopicLimits { retain: AgeLimit(age), ..TopicLimits::default() };
        let floors = expired(&limits, bytes, Timestamp(now), &old);
        let floors: Vec<(u16, u64)> =
            floors.into_iter().map(|(queue, floor)| (queue.0, floor.0)).collect();
        assert_eq!(floors, expected, "age {age}, bytes {bytes:?}, at {now}");
    };
    check(0, None, u64::MAX, &[]);
    // A part is as old as its newest message.
    check(5, None, 14, &[]);
    check(5, None, 15, &[(0, 10)]);
    check(5, None, 20, &[(0, 10), (1, 10)]);
    check(5, None, 1_000, &[(0, 30), (1, 20)]);
    // At least so many bytes stay, over all queues.
    check(0, Some(400), 0, &[]);
    check(0, Some(301), 0, &[]);
    check(0, Some(300), 0, &[(0, 10)]);
    check(0, Some(250), 0, &[(0, 10), (1, 10)]);
    check(0, Some(150), 0, &[(0, 20), (1, 10)]);
    check(0, Some(1), 0, &[(0, 30), (1, 10)]);
    // Either limit is enough.
    check(5, Some(250), 15, &[(0, 10), (1, 10)]);
    check(u64::MAX, Some(300), u64::MAX - 1, &[(0, 10)]);
}

#[test]
fn shards_share_a_limit_by_queues() {
    for (limit, here, all, expected) in [
        (100, 4, 4, 100),
        (100, 1, 4, 25),
        (10, 1, 3, 4),
        (1, 1, 1_024, 1),
        (7, 0, 3, 0),
        (u64::MAX, 1_024, 1_024, u64::MAX),
    ] {
        assert_eq!(share(limit, here, all), expected, "{limit} for {here} of {all}");
    }
    assert_eq!(CountLimit(0).get(), None);
    assert_eq!(SizeLimit(3).get(), Some(3));
}

#[test]
fn producers_wait_while_a_group_is_too_far_behind() {
    check_orders(
        "limit orders 12
        > tell: topic orders [0]
        sub a g orders earliest credit=20
        > a gets 0: 0..10
        sync
        > a subscribed: 0 0..10
        put p9 0 2 orders/0
        sync
        > stored: 0 10..12
        > a gets 0: 10..12
        put p9 2 1 orders/0
        > BacklogFull: topic \"orders\": a group is 12 messages behind
        put p9 0 2 orders/0
        sync
        > stored again: 0 10..12
        ack a 0 0..1
        sync
        > settled 1
        put p9 2 1 orders/0
        > BacklogFull: topic \"orders\": a group is 12 messages behind
        at 1100
        put p9 2 1 orders/0
        sync
        > stored: 0 12..13
        > a gets 0: 12..13
        limit orders 0
        > tell: topic orders [0]
        put p9 3 5 orders/0
        sync
        > stored: 0 13..18
        > a gets 0: 13..18",
    );
}

#[test]
fn a_nearly_full_disk_refuses_batches_and_nothing_else() {
    check_orders(
        "disk Refuse
        put p9 0 2 orders/0
        > DiskFull: the disk of this broker is nearly full
        sub a g orders earliest
        > a gets 0: 0..10
        sync
        > a subscribed: 0 0..10
        ack a 0 0..9
        sync
        > settled 9
        disk Expire
        put p9 0 2 orders/0
        sync
        > stored: 0 10..12
        > a gets 0: 10..12",
    );
}

#[test]
fn places_in_segments_that_are_gone_are_asked_for_again() {
    check_orders(
        "sub a g orders earliest credit=3
        > a gets 0: 0..3
        sync
        > a subscribed: 0 0..10
        nack a 0 0..1
        nack a 0 1..2 delay=500
        sync
        > settled 1
        > settled 1
        retire 7
        credit a 1
        > credited
        > a gets 0: 3..4
        at 1500
        at 12000
        credit a 8
        > credited
        > a gets 0: 4..10
        > a gets 0: 0..2x2
        close a
        retire 9
        sub a g orders earliest
        > a gets 0: 0..2x3 2..10x2",
    );
}
