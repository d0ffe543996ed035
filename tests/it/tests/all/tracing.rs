//! The life of a message by the program: what was noted, over a kill; and the spans of the client.
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::process::Output;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use yard_client::wire::operation::TopicSet;
use yard_client::wire::share::Share;
use yard_client::wire::{QueueIndex, QueueOffset};
use yard_client::{Client, Message};
use yard_it::server::{Server, ServerOptions};
use yard_it::wait::until;
use yard_it::yard;

use super::local::{Broker, consumer, create, next, set_retry};

/// The program as a user has it, with this command line.
fn run(server: &Server, line: &str) -> Output {
    let program = yard::locate(None).unwrap();
    yard::command(&program, &server.context_path()).args(line.split(' ')).output().unwrap()
}

/// The rows of a life: event, group, attempt, text.
fn life(server: &Server, id: &str) -> Vec<(String, String, u64, String)> {
    let output = run(server, &format!("msg trace {id} -o json"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let row = |row: &Value| {
        let attempt = row["attempt"].as_u64().unwrap();
        (text(row, "event"), text(row, "group"), attempt, text(row, "detail"))
    };
    let rows = rows.as_array().unwrap();
    let times: Vec<u64> = rows.iter().map(|row| row["at_ms"].as_u64().unwrap()).collect();
    // When it was sent is by the sender's clock, all else by the broker's.
    let noted = times.get(1..).unwrap_or_default();
    assert!(noted.is_sorted(), "in order: {times:?}");
    rows.iter().map(row).collect()
}

async fn trace_all(client: &Client, name: &str) {
    let (name, trace) = (name.to_owned(), Some(Share::WHOLE));
    client.admin().call(TopicSet { name, trace, ..TopicSet::default() }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_fails_is_followed_over_a_kill() {
    let options = ServerOptions { shards: 2, ..ServerOptions::new(yard::locate(None).unwrap()) };
    let mut server = Server::start(options).await.unwrap();
    let client = server.client("test").await.unwrap();
    create(&client, "orders", 4).await;
    trace_all(&client, "orders").await;
    // It comes again after the kill, not before: then it would have come twice.
    set_retry(&client, "billing", &[4_000, 10], 3).await;
    let producer = client.producer("orders").build().await.unwrap();
    let id = producer.send(Message::new("bad").queue(1)).await.unwrap().id.to_string();
    let mut orders = consumer(&client, "orders", "billing").await;
    next(&mut orders).await.nack_because(None, "no such account").await.unwrap();
    server.kill9().unwrap();
    server.restart().await.unwrap();
    // The same client goes on by itself.
    next(&mut orders).await.nack_because(None, "still none").await.unwrap();
    next(&mut orders).await.reject_because("given up on it").await.unwrap();
    let is_dead = || async {
        let rows = life(&server, &id);
        rows.iter().any(|row| row.0 == "dead-lettered").then_some(rows)
    };
    let rows = until("the message is a dead letter", is_dead).await.unwrap();
    let shown = |(event, group, attempt, detail): &(String, String, u64, String)| {
        let detail = detail.split("; ").next().unwrap_or_default();
        format!("{event} {group} {attempt} {detail}").trim_end().to_owned()
    };
    let told: Vec<String> = rows.iter().map(shown).collect();
    let expected = [
        "sent  0 3 bytes",
        "stored  0",
        "delivered billing 1 to test",
        "nacked billing 1 no such account",
        "delivered billing 2 to test",
        "nacked billing 2 still none",
        "delivered billing 3 to test",
        "rejected billing 3 given up on it",
        "given-up billing 3 rejected",
        "dead-lettered billing 3 rejected: given up on it",
        "now billing 0 settled",
    ];
    assert_eq!(told, expected);
    client.close().await;
    let unknown = run(&server, "msg trace 0197f3a2b4c5d6e7f8091a2b3c4d5e6f");
    let error = String::from_utf8_lossy(&unknown.stderr);
    assert!(unknown.status.code() == Some(1) && error.contains("E1101"), "{error}");
}

/// The fields of the spans of the client, in the order in which they began.
#[derive(Default)]
struct Spans(Mutex<Vec<BTreeMap<String, String>>>);

struct Fields<'a>(&'a mut BTreeMap<String, String>);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target().starts_with("yard_client")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut spans = self.0.lock().unwrap();
        let mut fields = BTreeMap::new();
        span.record(&mut Fields(&mut fields));
        spans.push(fields);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut spans = self.0.lock().unwrap();
        values.record(&mut Fields(&mut spans[span.into_u64() as usize - 1]));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Spans {
    /// Those of this name; every one belongs to the system.
    fn named(&self, name: &str) -> Vec<BTreeMap<String, String>> {
        let spans = self.0.lock().unwrap();
        let found = spans.iter().filter(|span| span["otel.name"] == name);
        found.inspect(|span| assert_eq!(span["messaging.system"], "switchyard")).cloned().collect()
    }
}

#[track_caller]
fn check(span: &BTreeMap<String, String>, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(span.get(*name).map(String::as_str), Some(*value), "{name} of {span:?}");
    }
}

#[tokio::test]
async fn the_client_makes_spans_by_the_conventions_of_opentelemetry() {
    let spans = Arc::new(Spans::default());
    let _listening = tracing::subscriber::set_default(spans.clone());
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 1).await;
    let producer = client.producer("orders").build().await.unwrap();
    let sent = producer.send(Message::new("first")).await.unwrap();
    producer.send(Message::new("bad tag").tag("a|b")).await.unwrap_err();
    let id = sent.id.to_string();
    let found = spans.named("send orders");
    let general = [("otel.kind", "producer"), ("messaging.operation.type", "send")];
    check(&found[0], &general);
    check(
        &found[0],
        &[
            ("messaging.operation.name", "send"),
            ("messaging.destination.name", "orders"),
            ("messaging.destination.partition.id", "0"),
            ("messaging.message.id", &id),
            ("messaging.switchyard.message.offset", "0"),
        ],
    );
    check(&found[1], &general);
    check(&found[1], &[("error.type", "E0226")]);

    let mut orders = consumer(&client, "orders", "g").await;
    let first = next(&mut orders).await;
    first.nack(std::time::Duration::ZERO).await.unwrap();
    first.ack().await.unwrap_err();
    let of_group = [
        ("messaging.destination.name", "orders"),
        ("messaging.consumer.group.name", "g"),
        ("messaging.destination.partition.id", "0"),
    ];
    let received = &spans.named("receive orders")[0];
    check(received, &of_group);
    check(received, &[("otel.kind", "consumer"), ("messaging.operation.type", "receive")]);
    check(received, &[("messaging.batch.message_count", "1"), ("messaging.message.id", &id)]);
    let nacked = &spans.named("nack orders")[0];
    check(nacked, &of_group);
    check(nacked, &[("otel.kind", "client"), ("messaging.operation.type", "settle")]);
    check(nacked, &[("messaging.operation.name", "nack")]);
    check(&spans.named("ack orders")[0], &[("error.type", "E0607")]);

    let running = orders.run(1, |_| async { Err::<(), &str>("no such account") });
    let handled = async {
        let is_processed = || async { (!spans.named("nack orders")[1..].is_empty()).then_some(()) };
        until("a handler has failed", is_processed).await.unwrap();
    };
    tokio::select! {
        ended = running => panic!("it ended: {ended:?}"),
        () = handled => {}
    }
    let processed = &spans.named("process orders")[0];
    check(processed, &of_group);
    check(processed, &[("otel.kind", "consumer"), ("messaging.operation.type", "process")]);
    check(processed, &[("messaging.message.id", &id), ("messaging.message.body.size", "5")]);
    check(processed, &[("messaging.switchyard.message.attempt", "2"), ("error.type", "_OTHER")]);
    client.close().await;
}

#[tokio::test]
async fn whoever_does_not_wait_has_spans_too() {
    let spans = Arc::new(Spans::default());
    let _listening = tracing::subscriber::set_default(spans.clone());
    let broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 1).await;
    let producer = client.producer("orders").build().await.unwrap();
    let receipt = producer.enqueue(Message::new("first")).await.unwrap();
    let has_id = || spans.named("send orders")[0].contains_key("messaging.message.id");
    assert!(!has_id(), "nobody has asked what became of it");
    let first = receipt.await.unwrap().id.to_string();
    producer.enqueue(Message::new("bad").tag("a|b")).await.unwrap_err();
    let second = producer.send_one_way(Message::new("second")).unwrap().to_string();
    producer.send_one_way(Message::new("bad").tag("a|b")).unwrap_err();
    producer.flush().await.unwrap();
    let sent = spans.named("send orders");
    assert_eq!(sent.len(), 4, "one each: {sent:?}");
    check(&sent[0], &[("messaging.message.id", &first)]);
    check(&sent[0], &[("messaging.switchyard.message.offset", "0")]);
    check(&sent[1], &[("error.type", "E0226")]);
    check(&sent[2], &[("messaging.message.id", &second)]);
    check(&sent[3], &[("error.type", "E0226")]);

    let mut reader = client.reader("orders");
    reader.assign(&[QueueIndex(0)]).await.unwrap();
    assert_eq!(reader.read(1).await.unwrap().len(), 1);
    reader.seek(QueueIndex(0), QueueOffset(9)).unwrap();
    assert_eq!(reader.read(1).await.unwrap().len(), 0);
    let [read, nothing] = &spans.named("receive orders")[..] else { panic!("one a call") };
    check(read, &[("otel.kind", "consumer"), ("messaging.operation.type", "receive")]);
    check(read, &[("messaging.batch.message_count", "1"), ("messaging.message.id", &first)]);
    assert!(!read.contains_key("messaging.consumer.group.name"), "{read:?}");
    check(nothing, &[("messaging.batch.message_count", "0")]);
    client.close().await;
}
