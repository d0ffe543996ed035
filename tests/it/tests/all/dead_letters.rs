//! Dead letters and delayed messages by the program: shown, sent again, dropped, taken back, over a
//! kill.
use serde_json::Value;
use yard_client::{Client, Message};
use yard_it::server::{Server, ServerOptions};
use yard_it::wait::until;
use yard_it::yard;

use super::local::{consumer, create, next, send_all, set_retry, text};
use super::program::{json, run};

fn counts(found: &Value) -> [u64; 4] {
    ["matched", "done", "skipped", "failed"].map(|name| found[name].as_u64().unwrap())
}

/// Bodies of the messages of a list, sorted.
fn bodies(found: &Value) -> Vec<String> {
    let of = |message: &Value| message["body"].as_str().unwrap().to_owned();
    let mut bodies: Vec<String> = found.as_array().unwrap().iter().map(of).collect();
    bodies.sort_unstable();
    bodies
}

/// Twelve messages, of which four are rejected, four fail three times, four are acknowledged.
async fn fill(client: &Client) {
    create(client, "orders", 4).await;
    set_retry(client, "billing", &[10, 20], 3).await;
    let message = |n: usize| {
        let tag = ["a", "b", "c"][n % 3];
        Message::new(format!("{n:02}")).tag(tag).key(format!("k{n}")).property("n", n.to_string())
    };
    send_all(client, "orders", (0..12).map(message).collect()).await;
    let mut orders = consumer(client, "orders", "billing").await;
    for _ in 0..4 + 4 * 3 + 4 {
        let delivery = next(&mut orders).await;
        match delivery.tag() {
            "a" => delivery.reject_because("not ours").await.unwrap(),
            "b" => delivery.nack_because(None, "no such account").await.unwrap(),
            _ => delivery.ack().await.unwrap(),
        }
    }
    orders.close().await.unwrap();
}

fn waiting(server: &Server) -> (u64, u64) {
    let rows = json(server, "dlq ls");
    let row = rows.as_array().unwrap().iter().find(|row| row["group"] == "billing");
    row.map_or((0, 0), |row| (row["waiting"].as_u64().unwrap(), row["done"].as_u64().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_shown_sent_again_and_dropped_with_exact_counts() {
    let options = ServerOptions::new(yard::locate(None).unwrap());
    let mut server = Server::start(ServerOptions { shards: 2, ..options }).await.unwrap();
    let client = server.client("test").await.unwrap();
    fill(&client).await;
    let all_dead = || async { (waiting(&server) == (8, 0)).then_some(()) };
    until("eight dead letters", all_dead).await.unwrap();
    let failed = json(&server, "dlq peek billing --reason failed");
    assert_eq!(bodies(&failed), ["01", "04", "07", "10"]);
    let properties = &failed[0]["properties"];
    assert_eq!(properties["$dead.error"], "no such account");
    assert_eq!(properties["$dead.attempts"], "3");
    assert_eq!(properties["$dead.topic"], "orders");
    assert_eq!(bodies(&json(&server, "dlq peek billing --key k3")), ["03"]);
    assert_eq!(json(&server, "dlq peek billing --count 3").as_array().unwrap().len(), 3);
    assert_eq!(bodies(&json(&server, "dlq peek billing --to 1h")), [] as [&str; 0]);
    // Without --apply it is a plan.
    let plan = json(&server, "dlq resend billing --reason failed");
    assert_eq!(counts(&plan), [4, 0, 4, 0]);
    assert_eq!(waiting(&server), (8, 0));
    let done = json(&server, "dlq resend billing --reason failed --apply");
    assert_eq!(counts(&done), [4, 4, 0, 0]);
    assert_eq!(waiting(&server), (4, 4));
    let again = json(&server, "dlq resend billing --reason failed --apply");
    assert_eq!(counts(&again), [0, 0, 0, 0]);
    let mut orders = consumer(&client, "orders", "billing").await;
    let mut arrived = Vec::new();
    for _ in 0..4 {
        let delivery = next(&mut orders).await;
        assert_eq!((delivery.tag(), delivery.attempt()), ("b", 1));
        let properties: Vec<_> = delivery.record().properties().map(|(name, _)| name).collect();
        assert_eq!(properties, ["$key", "n"], "what the system had added is gone");
        arrived.push(text(&delivery));
        delivery.ack().await.unwrap();
    }
    arrived.sort_unstable();
    assert_eq!(arrived, ["01", "04", "07", "10"]);
    client.close().await;
    server.kill9().unwrap();
    server.restart().await.unwrap();
    assert_eq!(waiting(&server), (4, 4), "after a kill");
    let dropped = json(&server, "dlq drop billing --key k6 --apply");
    assert_eq!(counts(&dropped), [1, 1, 0, 0]);
    assert_eq!(bodies(&json(&server, "dlq peek billing")), ["00", "03", "09"]);
    let nowhere = run(&server, "dlq resend billing --topic nothing --apply -o json");
    assert_eq!(nowhere.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&nowhere.stdout).unwrap();
    assert_eq!(counts(&found), [3, 0, 0, 3]);
    assert_eq!(waiting(&server), (3, 5));
    let unknown = run(&server, "dlq peek nobody");
    let error = String::from_utf8(unknown.stderr).unwrap();
    assert!(error.starts_with("error[E0209 UnknownGroup]"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn delayed_messages_are_sent_listed_and_taken_back_by_the_program() {
    let options = ServerOptions::new(yard::locate(None).unwrap());
    let mut server = Server::start(ServerOptions { shards: 2, ..options }).await.unwrap();
    let client = server.client("test").await.unwrap();
    create(&client, "orders", 4).await;
    for delay in ["--delay 2h", "--delay level:18", "--at 2999-01-01T00:00:00Z"] {
        let sent = run(&server, &format!("pub orders --message {} {delay}", delay.len()));
        let is_far = delay.contains("2999");
        assert_eq!(sent.status.success(), !is_far, "{delay}");
        let error = String::from_utf8(sent.stderr).unwrap();
        assert!(!is_far || error.contains("E0215"), "{error}");
    }
    let list = json(&server, "delay ls --topic orders");
    assert_eq!(list["waiting"], 2);
    client.close().await;
    server.kill9().unwrap();
    server.restart().await.unwrap();
    let again = json(&server, "delay ls --topic orders");
    assert_eq!(again, list, "after a kill");
    let id = list["rows"][0]["id"].as_str().unwrap();
    for is_first in [true, false] {
        let came = json(&server, &format!("delay cancel {id}"));
        assert_eq!(came["cancelled"], is_first);
    }
    assert_eq!(json(&server, "delay ls --topic orders")["waiting"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_group_that_is_not_there_the_error_says_it_all() {
    let options = ServerOptions::new(yard::locate(None).unwrap());
    let server = Server::start(options).await.unwrap();
    for line in ["dlq drop nobody --apply", "dlq resend nobody", "dlq drop nobody -o json"] {
        let output = run(&server, line);
        let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, error) = (told(&output.stdout), told(&output.stderr));
        assert!(!output.status.success() && error.contains("E0209"), "{line}: {error}");
        assert_eq!(out, "", "{line}: nothing was looked at, so nothing was counted");
    }
}
