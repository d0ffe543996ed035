//! Dedupe keys by the client and by the program: stored once, over a restart and a kill.
use serde_json::Value;
use yard_client::wire::operation::{TopicCreate, TopicInfo, TopicSet};
use yard_client::wire::units::{AgeLimit, CountLimit};
use yard_client::{Client, Code, Message, SendResult};
use yard_it::server::{Server, ServerOptions};
use yard_it::yard;

use super::local::*;
use super::program::{fed, fed_json, json};

async fn send(client: &Client, message: Message) -> SendResult {
    let producer = client.producer("orders").build().await.unwrap();
    let sent = producer.send(message).await.unwrap();
    producer.close().await.unwrap();
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_stored_once_whoever_sends_it_and_over_restarts() {
    for shards in [1, 2] {
        let mut broker = Broker::with_shards(shards).await;
        let client = broker.client().await;
        create(&client, "orders", 4).await;
        let message = |n: u64| Message::new(format!("{n:06}")).dedupe(format!("k{}", n % 10));
        // Of one producer, all in flight at once.
        let producer = client.producer("orders").build().await.unwrap();
        let receipts: Vec<_> = (0..30).map(|n| producer.enqueue(message(n))).collect();
        let mut sent = Vec::new();
        for receipt in receipts {
            sent.push(receipt.await.unwrap().await.unwrap());
        }
        for (n, result) in sent.iter().enumerate() {
            let SendResult { id, queue, offset, .. } = sent[n % 10].clone();
            assert_eq!((result.id, result.queue, result.offset), (id, queue, offset), "{n}");
            assert_eq!(result.duplicate, n >= 10, "{n}");
        }
        let expected: Vec<String> = (0..10).map(|n| format!("{n:06}")).collect();
        assert_eq!(fetch_all(&client, "orders").await, expected);
        client.close().await;
        broker.restart().await;
        let client = broker.client().await;
        for n in [13, 21] {
            let again = send(&client, message(n)).await;
            let first = &sent[n as usize % 10];
            assert_eq!((again.id, again.offset, again.duplicate), (first.id, first.offset, true));
        }
        // Queues that are added take no keys: those that are remembered stay where they are.
        let set = TopicSet { name: "orders".into(), queues: Some(16), ..TopicSet::default() };
        client.admin().call(set).await.unwrap();
        for n in 10..20 {
            assert!(send(&client, message(n)).await.duplicate, "{n}");
        }
        assert!(!send(&client, Message::new("other").dedupe("other")).await.duplicate);
        let report = client.admin().call(TopicInfo { name: "orders".into() }).await.unwrap();
        assert_eq!((report.dedupe_keys, report.messages), (11, 11), "{shards} shards");
        client.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_compared_is_refused_with_its_code() {
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 4).await;
    let producer = client.producer("orders").build().await.unwrap();
    let refused = async |message: Message| producer.send(message).await.unwrap_err().code;
    let message = || Message::new("x").dedupe("k");
    assert_eq!(refused(Message::new("x").dedupe("")).await, Code::BadDedupeKey);
    assert_eq!(refused(Message::new("x").dedupe("k".repeat(257))).await, Code::BadDedupeKey);
    assert_eq!(refused(message().queue(0)).await, Code::BadDedupeKey);
    assert_eq!(refused(message().priority(3)).await, Code::BadDedupeKey);
    let (name, none) = ("orders".to_owned(), Some(AgeLimit(0)));
    let set = TopicSet { name, dedupe_window: none, ..TopicSet::default() };
    client.admin().call(set).await.unwrap();
    assert_eq!(refused(message()).await, Code::NoDedupeWindow);
    producer.send(Message::new("x")).await.unwrap();
    let (name, count) = ("other".to_owned(), Some(CountLimit(1_000_001)));
    let create = TopicCreate { name, queues: 1, dedupe_count: count, ..TopicCreate::default() };
    let refusal = client.admin().call(create).await.unwrap_err();
    assert_eq!(refusal.code, Code::BadArgument);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_sends_a_file_twice_and_it_is_stored_once() {
    let options = ServerOptions::new(yard::locate(None).unwrap());
    let mut server = Server::start(ServerOptions { shards: 2, ..options }).await.unwrap();
    let created =
        json(&server, "topic create orders --queues 4 --dedupe-window 10m --dedupe-count 500");
    assert_eq!((&created["dedupe_window"], &created["dedupe_count"]), (&"10m".into(), &500.into()));
    // Twenty different pairs in forty lines.
    let line = |n: usize| format!("{{\"day\":{},\"van\":\"v{}\",\"n\":{n}}}\n", n % 4, n % 5);
    let lines: String = (0..40).map(line).collect();
    let count = |found: &Value| {
        let number = |name: &str| found[name].as_u64().unwrap();
        (number("sent"), number("duplicates"), number("failed"))
    };
    let first = fed_json(&server, "pub orders --dedupe .day,.van", &lines);
    assert_eq!(count(&first), (40, 20, 0));
    server.kill9().unwrap();
    server.restart().await.unwrap();
    let again = fed_json(&server, "pub orders --dedupe .day,.van", &lines);
    assert_eq!(count(&again), (40, 40, 0));
    let report = json(&server, "topic info orders");
    assert_eq!((&report["messages"], &report["dedupe_keys"]), (&20.into(), &20.into()));
    let lacking = fed(&server, "pub orders --dedupe .day,.crew -o json", &line(1));
    assert!(!lacking.status.success());
    let said = String::from_utf8_lossy(&lacking.stderr).into_owned();
    assert!(said.contains("it has no .crew"), "{said}");
}
