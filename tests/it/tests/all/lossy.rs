//! Bad lines: nothing is lost, nothing overtakes, no connection ends, and streams follow the loss.
//!
//! No test here depends on how fast anything is: the line is short, so that runs are.
use std::collections::BTreeMap;

use tokio::task::JoinSet;
use yard_client::transport::{Controller, TransportOptions};
use yard_client::{Client, ClientBuilder, Message, PathReport, Producer, Start};
use yard_it::server::patient;
use yard_it::wait::within;
use yard_relay::{Relay, Weather};

use crate::local::{Broker, create};

const QUEUES: u16 = 16;
/// Rounds of messages that are sent at most until streams have grown.
const ROUNDS_MAX: usize = 400;
/// Messages of one round.
const ROUND: usize = 16 * 8;

/// 10 ms of round trip, so that losses hold something up.
const LINE: Weather = Weather {
    lost_of_10_000: 0,
    late_of_10_000: 0,
    late_us: 8_000,
    delay_us: 5_000,
    rate_bits: 0,
    queue_packets: 0,
};

struct Line {
    broker: Broker,
    relay: Relay,
}

impl Line {
    async fn start(weather: Weather, seed: u64) -> Self {
        let mut relay = None;
        let broker = Broker::with(|settings| {
            let started = Relay::start(settings.listen, weather, seed).unwrap();
            settings.advertise = Some(started.address().to_string());
            settings.controller = Controller::Bbr;
            relay = Some(started);
        });
        Self { broker: broker.await, relay: relay.unwrap() }
    }

    fn builder(&self) -> ClientBuilder {
        let mut context = self.broker.context();
        context.addresses = vec![self.relay.address().to_string()];
        context.controller = Controller::Bbr;
        patient(context).name("lossy")
    }
}

fn path(client: &Client) -> PathReport {
    client.paths()[0]
}

/// Sends so many messages to the queues in turn, without waiting for each; the bodies count on.
async fn send(producer: &Producer, numbers: std::ops::Range<usize>) {
    let mut receipts = Vec::new();
    for number in numbers {
        let message = Message::new(number.to_string()).queue(number as u16 % QUEUES);
        receipts.push(producer.enqueue(message).await.unwrap());
    }
    for receipt in receipts {
        assert!(!within("an answer", receipt).await.unwrap().unwrap().topic.is_empty());
    }
}

/// Takes so many messages; every queue's come in order, each once.
async fn receive(client: &Client, count: usize) {
    let consumer = client.consumer("orders", "readers").start(Start::Earliest);
    let mut consumer = consumer.build().await.unwrap();
    let mut next = BTreeMap::<u16, usize>::new();
    let mut acks = JoinSet::new();
    for _ in 0..count {
        let delivery = within("a delivery", consumer.recv()).await.unwrap().unwrap();
        let queue = delivery.queue().0;
        let number: usize =
            std::str::from_utf8(&delivery.body().unwrap()).unwrap().parse().unwrap();
        let expected = next.entry(queue).or_insert(queue.into());
        assert_eq!(number, *expected, "queue {queue}");
        *expected += usize::from(QUEUES);
        acks.spawn(async move { delivery.ack().await });
    }
    while let Some(acked) = within("an ack", acks.join_next()).await.unwrap() {
        acked.unwrap().unwrap();
    }
    consumer.close().await.unwrap();
}

/// Sends until there are more streams, and on after that; then reads everything back.
async fn check(weather: Weather, seed: u64) {
    let line = Line::start(weather, seed).await;
    let client = line.builder().connect().await.unwrap();
    create(&client, "orders", QUEUES).await;
    let producer = client.producer("orders").build().await.unwrap();
    let (mut sent, mut rounds_after) = (0, 0);
    while rounds_after < 10 {
        assert!(sent < ROUNDS_MAX * ROUND, "no growth: {:?}", path(&client));
        send(&producer, sent..sent + ROUND).await;
        sent += ROUND;
        rounds_after += usize::from(path(&client).streams > 1);
    }
    producer.close().await.unwrap();
    assert!(line.relay.counts().lost > 0, "the line was bad");
    receive(&client, sent).await;
    assert_eq!(path(&client).connections, 1, "no connection ends");
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order_and_numbering_hold_at_1_percent() {
    check(LINE.losing_percent(1), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order_and_numbering_hold_at_5_percent() {
    check(LINE.losing_percent(5), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order_and_numbering_hold_at_20_percent() {
    check(LINE.losing_percent(20), 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order_and_numbering_hold_where_packets_overtake_each_other() {
    check(Weather { late_of_10_000: 2_000, ..LINE.losing_percent(5) }, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_loses_nothing_has_one_stream_and_a_number_that_is_set_stays() {
    let line = Line::start(LINE, 5).await;
    let client = line.builder().connect().await.unwrap();
    create(&client, "orders", QUEUES).await;
    let producer = client.producer("orders").build().await.unwrap();
    for round in 0..40 {
        send(&producer, round * ROUND..(round + 1) * ROUND).await;
    }
    let PathReport { streams, lost, .. } = path(&client);
    assert!(streams == 1 || lost > 0, "{streams} streams, {lost} lost");
    client.close().await;
    line.relay.change(LINE.losing_percent(20));
    let fixed = line.builder().streams(3).connect().await.unwrap();
    let producer = fixed.producer("orders").build().await.unwrap();
    for round in 40..80 {
        send(&producer, round * ROUND..(round + 1) * ROUND).await;
    }
    assert!(path(&fixed).lost > 0, "the line was bad");
    assert_eq!(path(&fixed).streams, 3);
    fixed.close().await;
}

/// quinn closes a connection when what has arrived of a stream lies in more than 1,024 pieces. Here
/// are as many tiny packets on one stream as a client sends at all, half of them lost or late.
#[tokio::test(flavor = "multi_thread")]
async fn tiny_packets_on_one_bad_stream_end_no_connection() {
    let weather = Weather {
        late_of_10_000: 2_500,
        late_us: 60_000,
        delay_us: 25_000,
        ..LINE.losing_percent(25)
    };
    let line = Line::start(Weather::default(), 6).await;
    let client = line.builder().streams(1).connect().await.unwrap();
    create(&client, "orders", QUEUES).await;
    let mut producers = Vec::new();
    for _ in 0..32 {
        let builder = client.producer("orders").batch_records(1).in_flight(64);
        producers.push(builder.build().await.unwrap());
    }
    line.relay.change(weather);
    let mut tasks = Vec::new();
    for producer in producers {
        tasks.push(tokio::spawn(async move { send(&producer, 0..256).await }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let PathReport { connections, streams, lost, .. } = path(&client);
    assert!(lost > 0, "the line was bad");
    assert_eq!((connections, streams), (1, 1));
    client.close().await;
}

/// Ten packets of 8,952 bytes do not fit what the system takes at once: then sends fail, and the
/// path is taken for one that carries 1,200 bytes. So above 6,500 bytes each is sent by itself.
#[tokio::test(flavor = "multi_thread")]
async fn jumbo_packets_are_found_and_kept() {
    for mtu_bytes_max in [6_500, 8_952] {
        let broker = Broker::with(|settings| settings.mtu_bytes_max = mtu_bytes_max).await;
        let options = TransportOptions { mtu_bytes_max, ..TransportOptions::default() };
        let builder = patient(broker.context()).transport(options);
        let client = builder.connect().await.unwrap();
        create(&client, "orders", QUEUES).await;
        let producer = client.producer("orders").build().await.unwrap();
        let mut sent = 0;
        while path(&client).mtu_bytes < mtu_bytes_max - 20 {
            assert!(sent < ROUNDS_MAX * ROUND, "not found: {:?}", path(&client));
            send(&producer, sent..sent + ROUND).await;
            sent += ROUND;
        }
        let body = vec![7; 1 << 20];
        for _ in 0..16 {
            producer.send(Message::new(body.clone())).await.unwrap();
        }
        assert!(path(&client).mtu_bytes >= mtu_bytes_max - 20, "{:?}", path(&client));
        client.close().await;
    }
}

/// A lost first packet waits for the timer of an unknown round trip; many at once lose more where
/// the buffers are small. All of them get in, and nobody's session is made twice.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_handshakes_at_once_get_in() {
    let broker = Broker::start().await;
    let (mut tasks, mut closing) = (Vec::new(), JoinSet::new());
    for _ in 0..200 {
        tasks.push(tokio::spawn(patient(broker.context()).connect()));
    }
    for task in tasks {
        let client = within("a handshake", task).await.unwrap().unwrap().unwrap();
        assert_eq!(path(&client).connections, 1);
        closing.spawn(async move { client.close().await });
    }
    closing.join_all().await;
}
