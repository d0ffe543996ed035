//! Ten million operations in at most sixty seconds on one core, with `--ignored`; a hundredth of
//! it always, which catches a quadratic path.

use std::time::{Duration, Instant};
use yard_checker::{
    AckLevel, Delivery, Event, History, Options, Outcome, Poll, Queue, Scan, Sent, Settle,
    SettleVerdict, Stored, check,
};

/// Sends, and for each a poll with one delivery and a cumulative acknowledgement, over 16 queues
/// and 64 producers with sixteen sends in flight.
fn long_history(operations: u64) -> History {
    let mut history = History::new();
    let mut scans = vec![Vec::new(); 16];
    for number in 0..operations / 3 {
        let (producer, seq) = (number % 64, number / 64);
        let queue = Queue { topic: 0, index: (producer % 16) as u32 };
        let messages: &mut Vec<Stored> = &mut scans[queue.index as usize];
        let (offset, at) = (messages.len() as u64, number * 10);
        let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        messages.push(Stored { offset, producer, seq, hash });
        let client = producer;
        history.push(Event::Send(Sent {
            client,
            tenant: 0,
            queue,
            producer,
            seq,
            order_group: Some(number % 1024),
            hash,
            due: None,
            invoked: at.saturating_sub(160),
            completed: Some(at),
            outcome: Outcome::Ok { offset: Some(offset) },
            level: AckLevel::Synced,
        }));
        let deliveries = vec![Delivery { offset, producer, seq, hash, attempt: 1 }];
        history.push(Event::Poll(Poll {
            client,
            tenant: 0,
            group: 1,
            queue,
            invoked: at + 1,
            completed: at + 2,
            deliveries,
        }));
        history.push(Event::Settle(acknowledge_until(client, queue, offset + 1, at + 3)));
    }
    for (index, messages) in (0..).zip(scans) {
        let (queue, at) = (Queue { topic: 0, index }, operations * 10);
        history.push(Event::Scan(Scan { queue, at, start: 0, messages }));
    }
    history
}

/// A cumulative acknowledgement.
fn acknowledge_until(client: u64, queue: Queue, to: u64, invoked: u64) -> Settle {
    Settle {
        client,
        group: 1,
        queue,
        from: 0,
        to,
        verdict: SettleVerdict::Ack,
        invoked,
        completed: Some(invoked + 1),
        outcome: Outcome::Ok { offset: None },
        level: AckLevel::Synced,
    }
}

fn measure(operations: u64, limit: Duration) {
    let history = long_history(operations);
    let began = Instant::now();
    let verdict = check(&history, &Options::drained());
    let taken = began.elapsed();
    println!("{operations} operations in {taken:?}");
    assert!(verdict.is_clean(), "{verdict}");
    assert!(taken < limit, "{operations} operations took {taken:?}");
}

#[test]
fn a_hundred_thousand_operations_take_no_time() {
    measure(100_000, Duration::from_secs(5));
}

#[test]
#[ignore = "needs 4 GiB of memory"]
fn ten_million_operations_take_less_than_a_minute() {
    measure(10_000_000, Duration::from_secs(60));
}
