//! What outlives a restart: everything.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use yard_client::wire::Code;
use yard_client::wire::operation::{DelayCancel, DelayLs, TenantLs, TopicLs};
use yard_client::{Ack, Message};
use yard_it::raw::{Raw, RawWindows};
use yard_it::wait::{until, within};
use yard_it::{Server, ServerOptions, tenant, yard};

use super::local::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_everything() {
    for shards in [1, 2] {
        let mut broker = Broker::with_shards(shards).await;
        let client = broker.client().await;
        let acme = tenant::add(&client, &broker.context(), "acme", true).await.unwrap();
        let created = create(&client, "orders", 4).await;
        create(&client, "empty", 1).await;
        send_all(&client, "orders", numbered(100)).await;
        let mut orders = consumer(&client, "orders", "g").await;
        let mut done = take(&mut orders, 60).await;
        // Two that failed, and one that was hopeless.
        for _ in 0..2 {
            next(&mut orders).await.nack(Duration::from_millis(1)).await.unwrap();
        }
        let rejected = next(&mut orders).await;
        rejected.reject().await.unwrap();
        orders.close().await.unwrap();
        let before = client.admin().call(TopicLs {}).await.unwrap();
        client.close().await;
        for _ in 0..2 {
            broker.restart().await;
        }
        let client = broker.client().await;
        assert_eq!(client.admin().call(TopicLs {}).await.unwrap(), before);
        assert_eq!(client.admin().call(TenantLs {}).await.unwrap().len(), 2);
        assert_eq!(client.route("orders").await.unwrap().topic, created.id);
        let expected: Vec<String> = (0..100).map(|n| format!("{n:06}")).collect();
        assert_eq!(fetch_all(&client, "orders").await, expected);
        let report = group(&client, "g").await;
        let rejected_count: u64 = report.queues.iter().map(|row| row.rejected).sum();
        assert_eq!((report.lag, rejected_count), (39, 1), "{shards} shards");
        let mut orders = consumer(&client, "orders", "g").await;
        let rest = take(&mut orders, 39).await;
        // What was delivered before counts: nacked twice, or returned unsettled at the end.
        let again = rest.iter().filter(|delivery| delivery.attempt() > 1).count();
        assert!(again >= 2, "{again} came again");
        done.extend(rest);
        done.push(rejected);
        assert_eq!(texts(&done), expected);
        settled(&client, "g").await;
        // A tenant's certificate is good after the restart, and offsets go on.
        let acme = client_of(acme).await;
        send_all(&acme, "orders", vec!["of acme".into()]).await;
        let producer = client.producer("orders").build().await.unwrap();
        let sent = producer.send(Message::new("more").queue(0)).await.unwrap();
        assert_eq!(
            sent.offset.unwrap().0 + 1,
            fetch_queue(&client, "orders", 0).await.len() as u64
        );
        acme.close().await;
        client.close().await;
    }
}

/// Delayed messages wait over a restart, are never early, and can be listed and taken back.
#[tokio::test(flavor = "multi_thread")]
async fn delayed_messages_outlive_a_restart() {
    for shards in [1, 2] {
        let mut broker = Broker::with_shards(shards).await;
        let client = broker.client().await;
        create(&client, "orders", 4).await;
        let producer = client.producer("orders").build().await.unwrap();
        let due = SystemTime::now() + Duration::from_secs(2);
        let mut sent = Vec::new();
        for number in 0..20 {
            let message = Message::new(format!("{number:06}")).deliver_at(due);
            sent.push(producer.send(message).await.unwrap());
        }
        assert!(sent.iter().all(|sent| sent.offset.is_none()), "they have no place yet");
        let far = Duration::from_secs(390 * 24 * 3_600);
        let far = producer.send(Message::new("far").deliver_after(far)).await.unwrap();
        let too_far = Duration::from_secs(401 * 24 * 3_600);
        let refused = producer.send(Message::new("too far").deliver_after(too_far)).await;
        assert_eq!(refused.unwrap_err().code, Code::DelayTooLong);
        client.close().await;
        broker.restart().await;
        let client = broker.client().await;
        let mut orders = consumer(&client, "orders", "g").await;
        let taken = take(&mut orders, 20).await;
        assert!(SystemTime::now() >= due, "never early");
        let due_ms = due.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
        assert!(taken.iter().all(|delivery| delivery.stored().0 >= due_ms), "never early");
        let expected: Vec<String> = (0..20).map(|n| format!("{n:06}")).collect();
        assert_eq!(texts(&taken), expected);
        let list = DelayLs { topic: Some("orders".into()), limit: 10, after: None };
        let left = client.admin().call(list.clone()).await.unwrap();
        assert_eq!((left.waiting, left.rows.len(), &left.next[..]), (1, 1, ""));
        assert_eq!(left.rows[0].id, far.id.to_string());
        for is_first in [true, false] {
            let came = client.admin().call(DelayCancel { id: far.id }).await.unwrap();
            assert_eq!(came.cancelled, is_first, "it says whether it waited");
        }
        assert_eq!(client.admin().call(list).await.unwrap().waiting, 0);
        let gone = client.admin().call(DelayCancel { id: sent[0].id }).await.unwrap();
        assert!(!gone.cancelled, "it was delivered");
        orders.close().await.unwrap();
        client.close().await;
    }
}

/// The broker is stopped and started while a producer and a consumer run; both go on by
/// themselves.
#[tokio::test(flavor = "multi_thread")]
async fn producers_and_consumers_go_on_after_a_restart_and_nothing_is_twice() {
    const COUNT: usize = 20_000;
    let mut broker = Broker::with_shards(2).await;
    let client = broker.client().await;
    create(&client, "orders", 8).await;
    let stored = Arc::new(AtomicUsize::new(0));
    let sending = {
        let (client, stored) = (broker.client().await, stored.clone());
        tokio::spawn(async move {
            let producer = client.producer("orders").ack(Ack::Synced).build().await.unwrap();
            let mut receipts = std::collections::VecDeque::new();
            for message in numbered(COUNT) {
                // Slow enough to be there when the broker goes, however fast it is.
                if receipts.len() == 200 {
                    let receipt: yard_client::Receipt = receipts.pop_front().unwrap();
                    within("a receipt", receipt).await.unwrap().unwrap();
                    stored.fetch_add(1, Ordering::Relaxed);
                }
                receipts.push_back(producer.enqueue(message).await.unwrap());
            }
            for receipt in receipts {
                within("a receipt", receipt).await.unwrap().unwrap();
            }
            client.close().await;
        })
    };
    let receiving = {
        let client = broker.client().await;
        let mut orders = consumer(&client, "orders", "g").await;
        tokio::spawn(async move {
            let mut bodies = std::collections::BTreeSet::new();
            while bodies.len() < COUNT {
                let delivery = next(&mut orders).await;
                delivery.ack_later();
                bodies.insert(text(&delivery));
            }
            client.close().await;
        })
    };
    for percent in [20, 50, 80] {
        until("the producer gets so far", || async {
            (stored.load(Ordering::Relaxed) >= COUNT * percent / 100).then_some(())
        })
        .await
        .unwrap();
        broker.restart().await;
    }
    sending.await.unwrap();
    receiving.await.unwrap();
    let expected: Vec<String> = (0..COUNT).map(|n| format!("{n:06}")).collect();
    assert_eq!(fetch_all(&client, "orders").await, expected, "each once");
    settled(&client, "g").await;
    client.close().await;
}

/// A peer that does nothing about silence by itself: only the broker can tell it.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_that_came_back_tells_its_old_peers() {
    let options = ServerOptions::new(yard::locate(None).unwrap());
    let mut server = Server::start(options).await.unwrap();
    let raw = Raw::connect(&server.context().unwrap(), RawWindows::default()).await.unwrap();
    let (_control, _data, _) = raw.welcomed().await.unwrap();
    server.kill9().unwrap();
    server.restart().await.unwrap();
    let end = within("the end of the connection", raw.connection.closed()).await.unwrap();
    assert_eq!(end, quinn::ConnectionError::Reset, "timed out: it was not told");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_brokers_on_one_folder_and_another_number_of_shards_are_refused() {
    let mut broker = Broker::with_shards(2).await;
    let second = yard_server::start(broker.settings.clone()).await;
    let Err(error) = second else { panic!("two brokers on {}", broker.data().display()) };
    assert!(error.to_string().contains("another broker runs on"), "{error}");
    broker.stop().await;
    let mut other = broker.settings.clone();
    other.shards = Some(3);
    let Err(error) = yard_server::start(other).await else { panic!("3 shards instead of 2") };
    assert!(error.to_string().contains("2 shards since its first start"), "{error}");
    broker.start_again().await;
}
