//! What becomes of a delivered message: nack, reject, leases, members that go away.
use std::time::{Duration, Instant};

use yard_client::wire::record::Record;
use yard_client::wire::{QueueIndex, QueueOffset};
use yard_client::{Code, Message, Start};
use yard_it::wait::{PATIENCE, until};

use super::local::*;

/// The broker's clock has milliseconds; this one has not.
const CLOCK_STEP: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_nack_brings_a_message_back_after_its_delay() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 1).await;
    send_all(&client, "orders", vec!["a".into(), "b".into()]).await;
    let mut orders = consumer(&client, "orders", "g").await;
    let delay = Duration::from_millis(300);
    let mut delivery = next(&mut orders).await;
    for attempt in 1..=3 {
        assert_eq!((text(&delivery), delivery.attempt()), ("a".to_owned(), attempt));
        let began = Instant::now();
        delivery.nack(delay).await.unwrap();
        if attempt == 1 {
            // What is behind it does not wait for it.
            assert_eq!(texts(&take(&mut orders, 1).await), ["b"]);
        }
        delivery = next(&mut orders).await;
        assert!(began.elapsed() + CLOCK_STEP >= delay, "it came back early");
    }
    delivery.nack(Duration::ZERO).await.unwrap();
    let last = next(&mut orders).await;
    assert_eq!(last.attempt(), 5);
    last.ack().await.unwrap();
    settled(&client, "g").await;
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_fails_is_tried_so_often_as_the_group_says() {
    let broker = Broker::with_shards(2).await;
    let client = broker.client().await;
    create(&client, "orders", 4).await;
    set_retry(&client, "g", &[20, 60], 3).await;
    send_all(&client, "orders", numbered(4)).await;
    let mut orders = consumer(&client, "orders", "g").await;
    let mut failed = std::collections::BTreeMap::new();
    for _ in 0..12 {
        let delivery = next(&mut orders).await;
        let attempt = failed.entry(text(&delivery)).or_insert(0);
        *attempt += 1;
        assert_eq!(delivery.attempt(), *attempt);
        delivery.nack_because(None, "no such account").await.unwrap();
    }
    assert!(failed.len() == 4 && failed.values().all(|attempts| *attempts == 3), "{failed:?}");
    let report = settled(&client, "g").await;
    assert_eq!(report.queues.iter().map(|row| row.rejected).sum::<u64>(), 4);
    assert_eq!((report.retry.to_string(), report.max_attempts.0), ("20ms,60ms".to_owned(), 3));
    let mut bodies = Vec::new();
    for queue in 0..client.route("$dead.g").await.unwrap().shards.len() {
        let queue = QueueIndex(queue as u16);
        let fetched = client.fetch("$dead.g", queue, QueueOffset(0), 100).await.unwrap();
        for found in fetched.records {
            let record = Record::parse(found.record).unwrap();
            let said = |name: &str| record.property(name).unwrap_or("-").to_owned();
            assert_eq!([said("$dead.group"), said("$dead.topic")], ["g", "orders"]);
            assert_eq!([said("$dead.reason"), said("$dead.attempts")], ["failed", "3"]);
            assert_eq!(said("$dead.error"), "no such account");
            let time = |name: &str| said(name).parse::<u64>().unwrap();
            assert!(time("$dead.first_ms") + 80 <= time("$dead.last_ms"), "two delays lie between");
            bodies.push(String::from_utf8(record.body().to_vec()).unwrap());
        }
    }
    bodies.sort_unstable();
    assert_eq!(bodies, failed.into_keys().collect::<Vec<_>>(), "each once");
    let refused_send = client.producer("$dead.g").build().await.unwrap();
    refused(refused_send.send(Message::new("mine")).await, Code::SystemTopic);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_message_is_counted_and_does_not_come_back() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 1).await;
    send_all(&client, "orders", numbered(3)).await;
    let mut orders = consumer(&client, "orders", "g").await;
    let first = next(&mut orders).await;
    first.reject().await.unwrap();
    refused(first.ack().await, Code::AlreadySettled);
    take(&mut orders, 2).await;
    let report = settled(&client, "g").await;
    assert_eq!(report.queues[0].rejected, 1);
    orders.close().await.unwrap();
    // A new member gets what comes next, not what was rejected.
    let mut orders = consumer(&client, "orders", "g").await;
    send_all(&client, "orders", vec!["next".into()]).await;
    assert_eq!(text(&next(&mut orders).await), "next");
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ends_brings_the_message_to_another_member() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 1).await;
    send_all(&client, "orders", vec!["a".into()]).await;
    set_retry(&client, "g", &[300], 0).await;
    // Whoever gets it again has so long to say so.
    let lease = Duration::from_secs(4);
    let began = Instant::now();
    let builder = client.consumer("orders", "g").start(Start::Earliest).lease(lease);
    let mut holder = builder.build().await.unwrap();
    let held = next(&mut holder).await;
    let other_client = broker.client().await;
    let mut other = consumer(&other_client, "orders", "g").await;
    let again = tokio::select! {
        again = next(&mut other) => again,
        again = next(&mut holder) => again,
    };
    let delay = Duration::from_millis(300);
    assert!(began.elapsed() + CLOCK_STEP >= lease + delay, "it came back early");
    assert_eq!((text(&again), again.attempt()), ("a".to_owned(), 2));
    again.ack().await.unwrap();
    refused(held.ack().await, Code::LeaseLost);
    settled(&client, "g").await;
    client.close().await;
    other_client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_holds_when_it_goes_is_delivered_to_others_at_once() {
    let broker = Broker::with_shards(2).await;
    let client = broker.client().await;
    create(&client, "orders", 4).await;
    send_all(&client, "orders", numbered(40)).await;
    let leaving = broker.client().await;
    // These come because the holder has gone, not by the end of their lease.
    let builder = leaving.consumer("orders", "g").start(Start::Earliest);
    let mut holder = builder.lease(10 * PATIENCE).build().await.unwrap();
    let _held = next(&mut holder).await;
    until("everything is on its way to the holder", || async {
        let report = group(&client, "g").await;
        (report.queues.iter().map(|row| row.in_flight).sum::<u64>() == 40).then_some(())
    })
    .await
    .unwrap();
    let mut other = consumer(&client, "orders", "g").await;
    leaving.close().await;
    assert_eq!(take(&mut other, 40).await.len(), 40);
    settled(&client, "g").await;
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_bounds_what_is_under_way() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 1).await;
    send_all(&client, "orders", numbered(50)).await;
    let builder = client.consumer("orders", "g").start(Start::Earliest).credit(10, 1 << 20);
    let mut orders = builder.build().await.unwrap();
    until("the credit is used up", || async {
        let found = group(&client, "g").await.queues[0].in_flight;
        assert!(found <= 10, "{found} with a credit of 10");
        (found == 10).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(take(&mut orders, 50).await.len(), 50);
    settled(&client, "g").await;
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_the_broker_does_not_know_is_refused() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 1).await;
    let builder = client.consumer("orders", "g").expression("xpath", "a > 1");
    refused(builder.build().await, Code::UnsupportedExpression);
    refused(client.consumer("orders", "a/b").build().await, Code::BadName);
    refused(client.consumer("other", "g").build().await, Code::UnknownTopic);
    let missing = client.producer("other").build().await;
    refused(missing.map(|_| ()), Code::UnknownTopic);
    client.close().await;
}
