//! Holding messages for longer than their lease, and holding none for a while.
use std::time::Duration;

use yard_client::{Code, Start};
use yard_it::wait::{PATIENCE, until};

use super::local::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_extended_as_long_as_it_is_held_and_for_twelve_hours_at_most() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 1).await;
    send_all(&client, "orders", numbered(2)).await;
    let mut orders = consumer(&client, "orders", "g").await;
    let (first, second) = (next(&mut orders).await, next(&mut orders).await);
    let hour = Duration::from_secs(3_600);
    let until = first.extend(hour).await.unwrap();
    assert!(until.0 >= first.stored().0 + 3_600_000, "{until}");
    // No lease becomes shorter by it.
    assert_eq!(first.extend(Duration::from_secs(1)).await.unwrap(), until);
    refused(first.extend(12 * hour).await, Code::HeldTooLong);
    refused(first.extend(13 * hour).await, Code::BadArgument);
    refused(first.extend(Duration::from_millis(999)).await, Code::BadArgument);
    first.ack().await.unwrap();
    refused(first.extend(hour).await, Code::LeaseLost);
    second.ack().await.unwrap();
    refused(second.ack().await, Code::AlreadySettled);
    settled(&client, "g").await;
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_may_take_longer_than_the_lease_of_its_message() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 1).await;
    send_all(&client, "orders", vec!["slow".into()]).await;
    // Extended after 5 s: only a machine that stands still for 10 s would lose it.
    let lease = Duration::from_secs(15);
    let builder = client.consumer("orders", "g").start(Start::Earliest).lease(lease);
    let mut orders = builder.build().await.unwrap();
    let other_client = broker.client().await;
    let handle = |delivery: yard_client::Delivery| async move {
        tokio::time::sleep(lease + Duration::from_secs(2)).await;
        if delivery.attempt() == 1 { Ok(()) } else { Err("it came again") }
    };
    let mut other = None;
    let watching = async {
        until("the message is held", || async {
            (group(&client, "g").await.queues[0].in_flight == 1).then_some(())
        })
        .await
        .unwrap();
        other = Some(consumer(&other_client, "orders", "g").await);
        settled(&client, "g").await;
    };
    tokio::select! {
        ended = orders.run(1, handle) => panic!("it ended: {ended:?}"),
        () = watching => {}
        () = tokio::time::sleep(PATIENCE) => panic!("the handler does not end"),
    }
    // Whoever waits for it meanwhile gets what comes next, and nothing else.
    drop(orders);
    send_all(&client, "orders", vec!["next".into()]).await;
    let mut other = other.unwrap();
    let delivery = next(&mut other).await;
    assert_eq!((text(&delivery), delivery.attempt()), ("next".to_owned(), 1));
    client.close().await;
    other_client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_paused_leaves_the_messages_to_others() {
    let broker = Broker::with_shards(2).await;
    let client = broker.client().await;
    create(&client, "orders", 4).await;
    send_all(&client, "orders", numbered(40)).await;
    let mut orders = consumer(&client, "orders", "g").await;
    let held = next(&mut orders).await;
    held.ack().await.unwrap();
    let members = |count: usize| {
        let client = client.clone();
        let looking = move || {
            let client = client.clone();
            async move { (group(&client, "g").await.members.len() == count).then_some(()) }
        };
        async move { until("members come and go", looking).await.unwrap() }
    };
    orders.pause();
    assert!(orders.is_paused());
    members(0).await;
    let mut other = consumer(&client, "orders", "g").await;
    assert_eq!(take(&mut other, 39).await.len(), 39, "what the paused one held, too");
    other.close().await.unwrap();
    send_all(&client, "orders", vec!["later".into()]).await;
    orders.resume();
    members(2).await;
    assert_eq!(texts(&take(&mut orders, 1).await), ["later"], "nothing from before");
    settled(&client, "g").await;
    // Closing one that is paused does not wait for anything.
    orders.pause();
    members(0).await;
    orders.close().await.unwrap();
    client.close().await;
}
