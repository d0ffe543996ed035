//! Producers that go on after a restart of their process: fenced, counted, and each message once.
use yard_client::wire::QueueIndex;
use yard_client::wire::operation::TopicSet;
use yard_client::wire::units::AgeLimit;
use yard_client::{Ack, Client, Code, Message, Producer, Receipt};
use yard_it::server::{Server, ServerOptions};
use yard_it::wait::within;
use yard_it::yard;

use super::local::*;

async fn named(client: &Client, topic: &str, name: &str) -> Producer {
    client.producer(topic).identity(name).build().await.unwrap()
}

fn message(number: u64, queue: u16) -> Message {
    Message::new(format!("{number:06}")).queue(queue)
}

fn lines(count: u64) -> Vec<String> {
    (0..count).map(|number| format!("{number:06}")).collect()
}

async fn send_range(producer: &Producer, range: std::ops::Range<u64>, queue: u16) {
    for number in range {
        within("a send", producer.send(message(number, queue))).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newer_one_goes_on_and_the_older_one_is_refused() {
    for shards in [1, 2] {
        let mut broker = Broker::with_shards(shards).await;
        let client = broker.client().await;
        create(&client, "orders", 4).await;
        create(&client, "other", 1).await;
        let old = named(&client, "orders", "import").await;
        let counts =
            |producer: &Producer| [0, 1, 2, 3, 4].map(|q| producer.sent_before(QueueIndex(q)));
        assert_eq!(counts(&old), [0; 5]);
        for queue in 0..3 {
            send_range(&old, 0..u64::from(queue) + 1, queue).await;
        }
        // Names are a topic's own, and a producer without one is somebody new.
        let elsewhere = named(&client, "other", "import").await;
        let nobody = client.producer("orders").build().await.unwrap();
        assert_eq!((elsewhere.sent_before(QueueIndex(0)), counts(&nobody)), (0, [0; 5]));
        send_range(&old, 3..4, 2).await;
        let new = named(&broker.client().await, "orders", "import").await;
        assert_eq!(counts(&new), [1, 2, 4, 0, 0], "{shards} shards");
        // Before the newer one has sent anything, and also where neither has sent before.
        for queue in 0..4 {
            let error = old.send(message(0, queue)).await.unwrap_err();
            assert_eq!(error.code, Code::ProducerFenced, "{error}");
        }
        for queue in 0..4 {
            send_range(&new, new.sent_before(QueueIndex(queue))..9, queue).await;
        }
        broker.restart().await;
        refused(old.send(message(9, 0)).await, Code::ProducerFenced);
        let client = broker.client().await;
        let newest = named(&client, "orders", "import").await;
        assert_eq!(counts(&newest), [9, 9, 9, 9, 0], "{shards} shards");
        refused(new.send(message(9, 0)).await, Code::ProducerFenced);
        for queue in 0..4 {
            send_range(&newest, 9..10, queue).await;
            assert_eq!(fetch_queue(&client, "orders", queue).await, lines(10));
        }
        client.close().await;
    }
}

/// Sends all that is not stored yet without waiting, and waits for so many.
async fn begin(producer: &Producer, count: u64, wait: usize) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    for number in producer.sent_before(QueueIndex(0))..count {
        let enqueued = within("room", producer.enqueue(message(number, 0)));
        receipts.push(enqueued.await.unwrap().unwrap());
    }
    for receipt in &mut receipts[..wait] {
        within("a receipt", receipt).await.unwrap().unwrap();
    }
    receipts
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_on_its_way_is_counted_or_refused() {
    const COUNT: u64 = 10_000;
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 1).await;
    let old = named(&client, "orders", "import").await;
    let receipts = begin(&old, COUNT, 500).await;
    let new = named(&broker.client().await, "orders", "import").await;
    let before = new.sent_before(QueueIndex(0));
    assert!((500..=COUNT).contains(&before), "{before}");
    send_range(&new, before..before + 1, 0).await;
    for (number, receipt) in (0..).zip(receipts) {
        let told = within("a receipt", receipt).await.unwrap();
        assert_eq!(told.is_ok(), number < before, "{number} of {before}: {told:?}");
        assert!(told.is_ok_and(|sent| sent.offset.unwrap().0 == number) || number >= before);
    }
    let newest = named(&client, "orders", "import").await;
    begin(&newest, COUNT, 0).await;
    newest.flush().await.unwrap();
    assert_eq!(fetch_queue(&client, "orders", 0).await, lines(COUNT.max(before + 1)));
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_count_holds_when_both_sides_are_killed() {
    const COUNT: u64 = 5_000;
    let options = ServerOptions::new(yard::locate(None).unwrap());
    let mut server = Server::start(options).await.unwrap();
    let (mut before, mut older) = (0, Vec::new());
    for round in 0..4 {
        let client = client_of(server.context().unwrap()).await;
        if round == 0 {
            create(&client, "orders", 1).await;
        }
        let producer = client.producer("orders").ack(Ack::Synced).identity("import").build();
        let producer = within("a producer", producer).await.unwrap().unwrap();
        let counted = producer.sent_before(QueueIndex(0));
        assert!(counted >= before, "{before} were acknowledged, {counted} are counted");
        let receipts = begin(&producer, COUNT, 0).await;
        let acknowledged = receipts.len().min(1_000);
        for receipt in receipts.into_iter().take(acknowledged) {
            within("a receipt", receipt).await.unwrap().unwrap();
        }
        before = counted + acknowledged as u64;
        // It stays: what it has not sent yet, it sends to the next broker.
        older.push(client);
        server.kill9().unwrap();
        server.restart().await.unwrap();
    }
    let client = client_of(server.context().unwrap()).await;
    let last = named(&client, "orders", "import").await;
    begin(&last, COUNT, 0).await;
    last.flush().await.unwrap();
    assert_eq!(fetch_queue(&client, "orders", 0).await, lines(COUNT));
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_stored_behind_a_message_that_failed() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 1).await;
    let (name, none) = ("orders".to_owned(), Some(AgeLimit(0)));
    let set = TopicSet { name, dedupe_window: none, ..TopicSet::default() };
    client.admin().call(set).await.unwrap();
    let producer = named(&client, "orders", "import").await;
    send_range(&producer, 0..1, 0).await;
    let keyed = producer.enqueue(Message::new("x").dedupe("k"));
    let behind = producer.enqueue(message(1, 0));
    refused(keyed.await.unwrap().await, Code::NoDedupeWindow);
    refused(behind.await.unwrap().await, Code::NoDedupeWindow);
    refused(producer.send(message(2, 0)).await, Code::NoDedupeWindow);
    let again = named(&client, "orders", "import").await;
    assert_eq!(again.sent_before(QueueIndex(0)), 1);
    send_range(&again, 1..3, 0).await;
    assert_eq!(fetch_queue(&client, "orders", 0).await, lines(3));
    for bad in ["", ".import", "im port"] {
        refused(client.producer("orders").identity(bad).build().await, Code::BadName);
    }
    client.close().await;
}
