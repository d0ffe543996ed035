//! Sending, receiving, reading: what an application does on its first day.
use std::collections::BTreeMap;

use yard_client::wire::record::Record;
use yard_client::wire::{QueueIndex, QueueOffset};
use yard_client::{Ack, AckNodes, Code, Message, Start};

use super::local::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_arrives_as_it_was_sent_and_once() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 4).await;
    let producer = client.producer("orders").build().await.unwrap();
    let message = Message::new("hello").key("k1").key("k2").tag("paid").order_group("o");
    let sent = producer.send(message.property("colour", "red")).await.unwrap();
    assert_eq!(
        (sent.offset, sent.place, sent.duplicate),
        (Some(QueueOffset(0)), Ack::Synced, false)
    );
    let mut orders = consumer(&client, "orders", "billing").await;
    let delivery = next(&mut orders).await;
    assert_eq!((text(&delivery), delivery.attempt()), ("hello".to_owned(), 1));
    assert_eq!((delivery.queue(), Some(delivery.offset())), (sent.queue, sent.offset));
    assert_eq!(delivery.id(), sent.id);
    assert_eq!(delivery.keys().collect::<Vec<_>>(), ["k1", "k2"]);
    assert_eq!((delivery.tag(), delivery.order_group()), ("paid", Some("o")));
    assert_eq!(delivery.properties().collect::<Vec<_>>(), [("colour", "red")]);
    assert!(delivery.stored().0 > 0 && delivery.born().0 > 0);
    delivery.ack().await.unwrap();
    refused(delivery.ack().await, Code::AlreadySettled);
    let report = settled(&client, "billing").await;
    assert_eq!(report.queues.iter().map(|row| row.in_flight).sum::<u64>(), 0);
    // What comes next is the next message, so the first did not come again.
    producer.send("second".into()).await.unwrap();
    assert_eq!(text(&next(&mut orders).await), "second");
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_group_sees_everything_and_members_share() {
    for shards in [1, 2] {
        let broker = Broker::with_shards(shards).await;
        let client = broker.client().await;
        create(&client, "orders", 8).await;
        send_all(&client, "orders", numbered(200)).await;
        let expected: Vec<String> = (0..200).map(|n| format!("{n:06}")).collect();
        let mut alone = consumer(&client, "orders", "alone").await;
        assert_eq!(texts(&take(&mut alone, 200).await), expected, "{shards} shards");
        let second = broker.client().await;
        let mut one = consumer(&client, "orders", "shared").await;
        let mut other = consumer(&second, "orders", "shared").await;
        let mut shared = Vec::new();
        while shared.len() < 200 {
            let delivery = tokio::select! {
                delivery = next(&mut one) => delivery,
                delivery = next(&mut other) => delivery,
            };
            delivery.ack().await.unwrap();
            shared.push(delivery);
        }
        assert_eq!(texts(&shared), expected, "{shards} shards");
        for name in ["alone", "shared"] {
            assert_eq!(settled(&client, name).await.lag, 0);
        }
        assert_eq!(fetch_all(&client, "orders").await, expected);
        client.close().await;
        second.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_key_keep_their_order() {
    let broker = Broker::with_shards(2).await;
    let client = broker.client().await;
    create(&client, "orders", 8).await;
    let producer = client.producer("orders").build().await.unwrap();
    let mut receipts = Vec::new();
    for n in 0..3_000u32 {
        let key = format!("key-{}", n % 50);
        let message = Message::new(format!("{n:06}").into_bytes());
        let message = if n % 2 == 0 { message.key(key) } else { message.order_group(key) };
        receipts.push(producer.enqueue(message).await.unwrap());
    }
    for receipt in receipts {
        receipt.await.unwrap();
    }
    let mut orders = consumer(&client, "orders", "g").await;
    let mut latest: BTreeMap<String, String> = BTreeMap::new();
    for _ in 0..3_000 {
        let delivery = next(&mut orders).await;
        delivery.ack_later();
        let key = delivery.key().or(delivery.order_group()).unwrap().to_owned();
        let body = text(&delivery);
        let before = latest.insert(key, body.clone());
        assert!(before.is_none_or(|before| before < body), "{body} came too late");
    }
    settled(&client, "g").await;
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_begins_where_it_says() {
    let broker = Broker::with_shards(2).await;
    let client = broker.client().await;
    create(&client, "orders", 2).await;
    for n in 0..10 {
        for queue in [0, 1] {
            let message = Message::new(format!("{queue}-{n}").into_bytes()).queue(queue);
            send_all(&client, "orders", vec![message]).await;
        }
    }
    let stored = async |queue: u16, offset: u64| {
        let (queue, offset) = (QueueIndex(queue), QueueOffset(offset));
        client.fetch("orders", queue, offset, 1).await.unwrap().records[0].stored
    };
    // The first messages of the queues that were stored at that time or later.
    let time = stored(0, 5).await;
    let mut since = [0u64; 2];
    for queue in [0, 1] {
        while stored(queue, since[usize::from(queue)]).await < time {
            since[usize::from(queue)] += 1;
        }
    }
    let offsets = vec![(QueueIndex(0), QueueOffset(8)), (QueueIndex(1), QueueOffset(9))];
    let check = async |name: &str, start: Start, first: [u64; 2]| {
        let mut orders = client.consumer("orders", name).start(start).build().await.unwrap();
        let expected: Vec<String> = (0..2)
            .flat_map(|queue| (first[queue]..10).map(move |n| format!("{queue}-{n}")))
            .collect();
        assert_eq!(texts(&take(&mut orders, expected.len()).await), expected, "{name}");
        assert_eq!(settled(&client, name).await.lag, 0, "{name}");
        orders.close().await.unwrap();
    };
    check("earliest", Start::Earliest, [0, 0]).await;
    check("latest", Start::Latest, [10, 10]).await;
    check("offset", Start::Offset(QueueOffset(7)), [7, 7]).await;
    check("offsets", Start::Offsets(offsets), [8, 9]).await;
    check("past", Start::Offset(QueueOffset(1_000)), [10, 10]).await;
    check("time", Start::Time(time), since).await;
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fetching_reads_from_any_offset_without_a_group() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 1).await;
    send_all(&client, "orders", numbered(30)).await;
    let check = async |from: u64, count: u32, expect: std::ops::Range<usize>| {
        let fetched =
            client.fetch("orders", QueueIndex(0), QueueOffset(from), count).await.unwrap();
        assert_eq!((fetched.first, fetched.end), (QueueOffset(0), QueueOffset(30)));
        let bodies: Vec<String> = fetched
            .records
            .into_iter()
            .map(|found| {
                let record = Record::parse(found.record).unwrap();
                String::from_utf8(record.body().to_vec()).unwrap()
            })
            .collect();
        let expected: Vec<String> = expect.map(|n| format!("{n:06}")).collect();
        assert_eq!(bodies, expected, "{count} from {from}");
    };
    check(0, 1, 0..1).await;
    check(0, 1_000, 0..30).await;
    check(25, 3, 25..28).await;
    check(29, 10, 29..30).await;
    check(30, 10, 30..30).await;
    check(5_000, 10, 30..30).await;
    let queue = client.fetch("orders", QueueIndex(1), QueueOffset(0), 1).await;
    refused(queue, Code::QueueOutOfRange);
    refused(client.fetch("other", QueueIndex(0), QueueOffset(0), 1).await, Code::UnknownTopic);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_says_where_and_on_how_many_nodes() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 1).await;
    for place in [Ack::Memory, Ack::Written, Ack::Synced] {
        let producer = client.producer("orders").ack(place).build().await.unwrap();
        let sent = producer.send("kept".into()).await.unwrap();
        assert!(sent.place >= place && sent.nodes == AckNodes::One, "{sent:?}");
        for nodes in [AckNodes::Quorum, AckNodes::All] {
            let producer = client.producer("orders").ack(place).nodes(nodes).build().await.unwrap();
            refused(producer.send("not kept".into()).await, Code::AckUnavailable);
            // Refused for good, not only once.
            refused(producer.send("not kept".into()).await, Code::AckUnavailable);
        }
    }
    assert_eq!(fetch_all(&client, "orders").await, ["kept"; 3]);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_before_it_is_sent() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 1).await;
    let producer = client.producer("orders").build().await.unwrap();
    let long = "x".repeat(33_000);
    for (message, code) in [
        (Message::new(vec![0; (4 << 20) + 1]), Code::BodyTooLarge),
        (Message::new("").property("a", &long).property("b", &long), Code::PropertiesTooLarge),
        (Message::new("").tag("t".repeat(256)), Code::PropertiesTooLarge),
        (Message::new("").property("$key", "k"), Code::ReservedProperty),
        (Message::new("").queue(1), Code::QueueOutOfRange),
    ] {
        refused(producer.send(message).await, code);
    }
    let largest = producer.send(Message::new(vec![7; 4 << 20])).await.unwrap();
    assert_eq!(largest.offset, Some(QueueOffset(0)));
    let mut orders = consumer(&client, "orders", "g").await;
    assert_eq!(next(&mut orders).await.body().unwrap(), vec![7; 4 << 20]);
    client.close().await;
}
