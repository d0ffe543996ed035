//! Messages are found by id, key and time, by the program, whatever happened to the index.
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use yard_client::{Client, Message, SendResult, Timestamp};
use yard_it::server::{Server, ServerOptions};
use yard_it::wait::until;
use yard_it::yard;

use super::local::create;
use super::program::{json, run};

const QUEUES: u16 = 4;
const MESSAGES: u32 = 6_000;
const KEYS: u32 = 100;

/// Every hundredth has the key that is looked for; bodies fill several segments.
async fn fill(client: &Client) -> Vec<SendResult> {
    create(client, "orders", QUEUES).await;
    let producer = client.producer("orders").build().await.unwrap();
    let mut receipts = Vec::new();
    for n in 0..MESSAGES {
        let body = format!("{n:06} {}", "x".repeat(900));
        let message = Message::new(body.into_bytes()).key(format!("key-{}", n % KEYS));
        receipts.push(producer.enqueue(message.property("n", n.to_string())).await.unwrap());
    }
    let mut sent = Vec::new();
    for receipt in receipts {
        sent.push(receipt.await.unwrap());
    }
    sent
}

/// Places of the messages in a result.
fn places(result: &Value) -> Vec<(u64, u64)> {
    let place = |m: &Value| (m["queue"].as_u64().unwrap(), m["offset"].as_u64().unwrap());
    result["messages"].as_array().unwrap().iter().map(place).collect()
}

fn sorted(mut places: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    places.sort_unstable();
    places
}

/// Everything that can be asked, against what was sent.
fn check(server: &Server, sent: &[SendResult], when: &str) {
    let place = |sent: &SendResult| (u64::from(sent.queue.0), sent.offset.unwrap().0);
    let wanted: Vec<_> = sent.iter().skip(17).step_by(KEYS as usize).map(place).collect();
    let found = json(server, "topic find orders --key key-17");
    assert_eq!(sorted(places(&found)), sorted(wanted.clone()), "{when}");
    assert!(found["covered"]["segments"].as_u64().unwrap() >= 2, "{when}: {}", found["covered"]);
    assert_eq!(found["covered"]["unreadable_bytes"], 0, "{when}");
    assert_eq!(found["next"], Value::Null, "{when}");
    // In portions, each going on where the one before ended.
    let (mut parts, mut after) = (Vec::new(), String::new());
    loop {
        let part = json(server, &format!("topic find orders --key key-17 --count 7{after}"));
        assert!(places(&part).len() <= 7, "{when}");
        parts.extend(places(&part));
        let Some(next) = part["next"].as_str() else { break };
        after = format!(" --after {next}");
    }
    assert_eq!(sorted(parts), sorted(wanted), "{when}");
    // The window of time of one message, and the time just behind it.
    let stored = found["messages"][11]["stored_ms"].as_u64().unwrap();
    let window = format!("--from {} --to {}", instant(stored), instant(stored + 1));
    let at = json(server, &format!("topic find orders --key key-17 {window}"));
    let all = found["messages"].as_array().unwrap();
    let then: Vec<&Value> = all.iter().filter(|m| m["stored_ms"] == stored).collect();
    assert_eq!(at["messages"].as_array().unwrap().iter().collect::<Vec<_>>(), then, "{when}");
    for sent in [&sent[0], &sent[1_234], &sent[MESSAGES as usize - 1]] {
        let shown = json(server, &format!("msg show {}", sent.id));
        assert_eq!(places(&shown), [place(sent)], "{when}");
        let (queue, offset) = place(sent);
        let peeked = json(server, &format!("topic peek orders --queue {queue} --offset {offset}"));
        assert_eq!(peeked, shown["messages"][0], "{when}");
        let stored = peeked["stored_ms"].as_u64().unwrap();
        check_time(server, queue, stored, offset, when);
    }
}

/// The first message of a queue that was stored at a time, by two ways.
fn check_time(server: &Server, queue: u64, stored: u64, at_most: u64, when: &str) {
    let time = instant(stored);
    let first = json(server, &format!("topic peek orders --queue {queue} --time {time}"));
    let offset = first["offset"].as_u64().unwrap();
    assert!(offset <= at_most && first["stored_ms"] == stored, "{when}: {first}");
    if offset > 0 {
        let line = format!("topic peek orders --queue {queue} --offset {}", offset - 1);
        assert!(json(server, &line)["stored_ms"].as_u64().unwrap() < stored, "{when}");
    }
    let fetched = json(server, &format!("fetch orders --queue {queue} --time {time} --count 1"));
    assert_eq!(fetched[0], first, "{when}");
}

fn instant(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap();
    format!("{:.3}", jiff::Timestamp::from_millisecond(ms).unwrap())
}

/// The files of the key index.
fn key_files(data: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![data.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap().to_string_lossy().starts_with("key-") {
                files.push(path);
            }
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_found_live_after_a_restart_and_without_the_key_index() {
    let options = ServerOptions::new(yard::locate(None).unwrap());
    let options = ServerOptions { shards: 2, segment_bytes: Some(1 << 20), ..options };
    let mut server = Server::start(options).await.unwrap();
    let client = server.client("fill").await.unwrap();
    let sent = fill(&client).await;
    client.close().await;
    check(&server, &sent, "live");
    server.kill9().unwrap();
    server.restart().await.unwrap();
    check(&server, &sent, "after a kill");
    // It is made in the background.
    let is_there = || async { (!key_files(server.data()).is_empty()).then_some(()) };
    until("a file of the key index", is_there).await.unwrap();
    server.stop().await.unwrap();
    for path in key_files(server.data()) {
        fs::remove_file(path).unwrap();
    }
    server.restart().await.unwrap();
    check(&server, &sent, "without the key index");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_found_says_why() {
    let options = ServerOptions::new(yard::locate(None).unwrap());
    let server = Server::start(options).await.unwrap();
    let client = server.client("fill").await.unwrap();
    create(&client, "orders", 1).await;
    let producer = client.producer("orders").build().await.unwrap();
    let sent = producer.send(Message::new("a\u{1b}[31mb").key("k").tag("paid")).await.unwrap();
    let show = run(&server, &format!("msg show {}", sent.id));
    let page = String::from_utf8(show.stdout).unwrap();
    for part in
        ["topic       orders\n", "tag         paid\n", "key         k\n", "  a\\u{1b}[31mb\n"]
    {
        assert!(page.contains(part), "{part:?} in {page}");
    }
    let raw = run(&server, "topic peek orders --offset 0 --raw");
    assert_eq!(raw.stdout, b"a\x1b[31mb\n");
    let none = run(&server, "topic find orders --key other");
    assert!(none.status.success() && none.stdout.is_empty());
    let covered = String::from_utf8(none.stderr).unwrap();
    assert!(covered.starts_with("looked at 1 segment, "), "{covered}");
    let check = |line: &str, expected: &str| {
        let output = run(&server, line);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}: {error}");
        assert!(output.stdout.is_empty(), "{line}");
        assert!(error.starts_with(&format!("error[{expected}")), "{line}: {error}");
    };
    let id = "018f3a5c7e9b00112233445566778899";
    check(
        &format!("msg show {id}"),
        &format!("E0214 NoSuchMessage]: no message has the id {id}: looked at 1 segment, "),
    );
    check("topic find nothing --key k", "E0201 UnknownTopic]");
    check("topic peek nothing --offset 0", "E0201 UnknownTopic]");
    check("topic peek orders --queue 1 --offset 0", "E0204 QueueOutOfRange]");
    check("topic peek orders --queue 1 --time 2h", "E0204 QueueOutOfRange]");
    check(
        "topic peek orders --offset 1",
        "E0210 OffsetOutOfRange]: no message has offset 1; queue 0 holds 0..1",
    );
    check(
        "topic peek orders --time 2999-01-01T00:00:00Z",
        "E0214 NoSuchMessage]: no message of queue 0 was stored at 2999-01-01T00:00:00.000Z or \
         later; it holds 0..1",
    );
    assert_eq!(
        client.seek("orders", sent.queue, Timestamp(0)).await.unwrap().offset,
        sent.offset.unwrap()
    );
    client.close().await;
}
