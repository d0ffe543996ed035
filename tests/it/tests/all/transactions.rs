//! Transactions through the client: over topics and shards, over a restart, asked about and decided
//! by operators.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use yard_client::wire::operation::{TxCommit, TxInfo, TxList, TxLs, TxRollback, TxSet};
use yard_client::wire::transaction::CheckSpan;
use yard_client::{Client, Code, Message, Transaction, Transactions, TxVerdict};
use yard_it::wait::until;

use super::local::{Broker, consumer, create, fetch_all, refused, take, text, texts};

/// Begins one with this note, and messages in all queues of two topics.
async fn prepare(group: &Transactions, note: &str) -> Transaction {
    let tx = group.begin(note).await.unwrap();
    for queue in 0..4 {
        let message = Message::new(format!("{note} {queue}")).queue(queue);
        let sent = tx.send("orders", message).await.unwrap();
        assert_eq!(sent.offset, None, "it has no place yet");
    }
    // Several at a time.
    let (one, other) = (Message::new(format!("{note} 4")), Message::new(format!("{note} 5")));
    let (one, other) = tokio::join!(tx.send("bills", one), tx.send("bills", other));
    one.and(other).unwrap();
    tx
}

/// What of it is visible.
async fn visible(client: &Client, note: &str) -> usize {
    let mut count = 0;
    for topic in ["orders", "bills"] {
        let bodies = fetch_all(client, topic).await;
        count += bodies.iter().filter(|body| body.starts_with(note)).count();
    }
    count
}

async fn comes(client: &Client, note: &str) {
    let all = || async { (visible(client, note).await == 6).then_some(()) };
    until("all of a transaction is visible", all).await.unwrap();
}

async fn list(client: &Client) -> TxList {
    client.admin().call(TxLs { limit: 100, ..TxLs::default() }).await.unwrap()
}

async fn set_checks(client: &Client, group: &str, checks: u16) {
    let (first, every) = (Some(CheckSpan(200)), Some(CheckSpan(200)));
    let set = TxSet { group: group.into(), first, every, checks: Some(checks), check: None };
    client.admin().call(set).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_hold_over_a_restart_and_their_group_is_asked() {
    let mut broker = Broker::with_shards(3).await;
    let client = broker.client().await;
    create(&client, "orders", 4).await;
    create(&client, "bills", 2).await;
    set_checks(&client, "payments", 1_000).await;
    let group = client.transactions("payments").build().await.unwrap();
    let first = prepare(&group, "first").await;
    let second = prepare(&group, "second").await;
    let left = prepare(&group, "left").await;
    let gone = prepare(&group, "gone").await;
    let due = SystemTime::now() + Duration::from_millis(300);
    first.send("orders", Message::new("late").deliver_at(due)).await.unwrap();
    assert_eq!((visible(&client, "").await, list(&client).await.open), (0, 4));
    let first_id = first.id();
    first.commit().await.unwrap();
    second.rollback().await.unwrap();
    comes(&client, "first").await;
    let refusal = refused(client.admin().call(TxRollback { id: first_id }).await, {
        Code::TransactionFinished
    });
    assert!(refusal.detail.contains("committed"), "{refusal}");
    // The programs that began the other two die with the broker.
    let (left_id, gone_id) = (left.id(), gone.id());
    drop((left, gone, group));
    client.close().await;
    broker.restart().await;

    let client = broker.client().await;
    assert_eq!((visible(&client, "second").await, visible(&client, "left").await), (0, 0));
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let answer = client.transactions("payments").check(move |pending| {
        counted.fetch_add(1, Ordering::AcqRel);
        async move {
            // What its local work has recorded; at first it is not known.
            match (&pending.note[..], pending.check) {
                ("left", 2..) => TxVerdict::Commit,
                ("gone", 2..) => TxVerdict::Rollback,
                _ => TxVerdict::Unknown,
            }
        }
    });
    let _group = answer.build().await.unwrap();
    comes(&client, "left").await;
    let none_open = || async { (list(&client).await.open == 0).then_some(()) };
    until("both are decided", none_open).await.unwrap();
    assert!(asked.load(Ordering::Acquire) >= 4, "each was asked about twice");
    assert_eq!(visible(&client, "gone").await, 0);
    refused(client.admin().call(TxCommit { id: gone_id }).await, Code::TransactionFinished);
    assert!(client.admin().call(TxCommit { id: left_id }).await.unwrap().committed);
    let mut orders = consumer(&client, "orders", "g").await;
    let taken = take(&mut orders, 9).await;
    let notes = ["first 0", "first 1", "first 2", "first 3", "late"];
    let notes = notes.into_iter().chain(["left 0", "left 1", "left 2", "left 3"]);
    let mut expected: Vec<&str> = notes.collect();
    expected.sort_unstable();
    assert_eq!(texts(&taken), expected);
    let due_ms = due.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
    let late = taken.iter().find(|delivery| text(delivery) == "late").unwrap();
    assert!(late.stored().0 >= due_ms, "never early");
    orders.close().await.unwrap();
    client.close().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_decides_is_listed_and_an_operator_does() {
    let mut broker = Broker::with_shards(2).await;
    let client = broker.client().await;
    create(&client, "orders", 4).await;
    create(&client, "bills", 2).await;
    set_checks(&client, "payments", 2).await;
    let silent = |_| async { TxVerdict::Unknown };
    let group = client.transactions("payments").check(silent).build().await.unwrap();
    let (one, other) = (prepare(&group, "one").await, prepare(&group, "other").await);
    let both = || async { (list(&client).await.undecided == 2).then_some(()) };
    until("both wait for an operator", both).await.unwrap();
    let listed = list(&client).await;
    assert!(listed.rows.iter().all(|row| row.state == "undecided" && row.checks == 2));
    let report = client.admin().call(TxInfo { id: one.id() }).await.unwrap();
    assert_eq!((&report.note[..], report.messages.len()), ("one", 6), "of all shards");
    broker.restart().await;
    assert_eq!((list(&client).await.undecided, visible(&client, "").await), (2, 0));
    assert!(client.admin().call(TxCommit { id: one.id() }).await.unwrap().committed);
    comes(&client, "one").await;
    // Its producer may still decide, as long as nobody has.
    refused(one.rollback().await, Code::TransactionFinished);
    other.commit().await.unwrap();
    comes(&client, "other").await;
    let none_open = || async { (list(&client).await.open == 0).then_some(()) };
    until("nothing is open", none_open).await.unwrap();
    client.close().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_not_committed() {
    let mut broker = Broker::start().await;
    let client = broker.client().await;
    create(&client, "orders", 4).await;
    create(&client, "bills", 2).await;
    let group = client.transactions("payments").build().await.unwrap();
    let tx = prepare(&group, "half").await;
    refused(tx.send("missing", Message::new("x")).await, Code::UnknownTopic);
    refused(tx.commit().await, Code::UnknownTopic);
    let none_open = || async { (list(&client).await.open == 0).then_some(()) };
    until("it is rolled back", none_open).await.unwrap();
    assert_eq!(visible(&client, "half").await, 0);
    refused(group.begin("n".repeat(256)).await, Code::BadArgument);
    refused(client.transactions("no group").build().await, Code::BadName);
    client.close().await;
    broker.stop().await;
}
