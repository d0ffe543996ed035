//! The plugin points besides filters, through the real program with its own plugins: when what
//! failed comes again, and what becomes of a message before it is stored.
use std::time::{Duration, Instant};

use yard_client::wire::operation::{GroupSet, PluginDisable, PluginPush, TopicInfo, TopicSet};
use yard_client::wire::plugin::Blob;
use yard_client::wire::plugin_use::{PluginChoice, PluginUse};
use yard_client::wire::property::REPLACED;
use yard_client::wire::record::Record;
use yard_client::wire::retry::{Attempts, RetryPolicy};
use yard_client::wire::{QueueIndex, QueueOffset};
use yard_client::{Client, Code, Error, Message};
use yard_it::guests;
use yard_it::wait::{until, within};
use yard_it::{Server, ServerOptions, yard};

use super::local::*;

/// A broker of its own, with a client and a topic; none where the program has no plugins in it.
async fn server(test: &str) -> Option<(Server, Client)> {
    let server = Server::start(ServerOptions::new(yard::locate(None).unwrap())).await.unwrap();
    let client = server.client(test).await.unwrap();
    create(&client, "orders", 1).await;
    // The first who asks waits for the plugin to be compiled: longer than for an answer, perhaps.
    let probed = until("the plugins are there", || async {
        let probed = group_set(&client, "probe", "retry-ladder", 3).await;
        (!probed.as_ref().is_err_and(|error| error.code == Code::TimedOut)).then_some(probed)
    });
    match probed.await.unwrap() {
        Ok(()) => Some((server, client)),
        Err(error) if error.code == Code::BuiltWithoutPlugins => {
            eprintln!("skipped: {test}: the program has no plugins in it");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

async fn group_set(client: &Client, name: &str, used: &str, attempts: u32) -> Result<(), Error> {
    let retry = Some(RetryPolicy::Plugin(PluginUse::read(used).unwrap()));
    let max_attempts = Some(Attempts(attempts));
    let set = GroupSet { name: name.to_owned(), retry, max_attempts, ..GroupSet::default() };
    client.admin().call(set).await.map(drop)
}

async fn intercept(client: &Client, used: Option<&str>) -> Result<(), Error> {
    let interceptor = Some(PluginChoice(used.map(|used| PluginUse::read(used).unwrap())));
    let set = TopicSet { name: "orders".to_owned(), interceptor, ..TopicSet::default() };
    client.admin().call(set).await.map(drop)
}

/// The dead letters of a group, when there are so many: body, reason, text.
async fn letters(client: &Client, group: &str, count: usize) -> Vec<[String; 3]> {
    let topic = format!("$dead.{group}");
    let found = until("the dead letters", || async {
        let fetched = client.fetch(&topic, QueueIndex(0), QueueOffset(0), 100).await.ok()?;
        (fetched.records.len() >= count).then_some(fetched.records)
    });
    let letter = |record: &Record| {
        let property = |name: &str| record.property(name).unwrap_or_default().to_owned();
        let body = String::from_utf8(record.body().to_vec()).unwrap();
        [body, property("$dead.reason"), property("$dead.error")]
    };
    let found = found.await.unwrap();
    found.iter().map(|it| letter(&Record::parse(it.record.clone()).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_plugin_says_when_what_failed_comes_again() {
    let Some((mut server, client)) = server("retry").await else { return };
    let ladder = "retry-ladder(steps=200ms 300ms & errors=invalid: dead-letter)";
    group_set(&client, "g", ladder, 9).await.unwrap();
    send_all(&client, "orders", vec!["slow".into(), "invalid".into(), "lost".into()]).await;
    let mut orders = consumer(&client, "orders", "g").await;
    let (mut deliveries, mut began) = (0, Instant::now());
    for _ in 0..3 {
        let delivery = next(&mut orders).await;
        let body = text(&delivery);
        if body == "slow" {
            began = Instant::now();
        }
        if body == "lost" {
            delivery.ack().await.unwrap();
        } else {
            delivery.nack_because(None, &body).await.unwrap();
        }
    }
    let [letter] = &letters(&client, "g", 1).await[..] else { panic!("one letter") };
    let why = "delivered 1 time, last failure: invalid";
    assert_eq!(letter, &["invalid", "policy", why].map(str::to_owned));
    // Not after the 10 s of the broker's own table.
    for delay_ms in [200, 300] {
        let delivery = next(&mut orders).await;
        let waited = began.elapsed();
        deliveries += 1;
        assert_eq!((text(&delivery), delivery.attempt()), ("slow".to_owned(), deliveries + 1));
        assert!(waited + Duration::from_millis(5) >= Duration::from_millis(delay_ms), "{waited:?}");
        assert!(waited < Duration::from_secs(10), "the table's delay, not the plugin's");
        began = Instant::now();
        delivery.nack_because(None, "busy").await.unwrap();
    }
    let all = letters(&client, "g", 2).await;
    assert_eq!(all[1][2], "delivered 3 times, last failure: busy", "the ladder has ended: {all:?}");
    settled(&client, "g").await;
    // It is in the metadata.
    client.close().await;
    server.kill9().unwrap();
    server.restart().await.unwrap();
    let client = server.client("again").await.unwrap();
    let shown = group(&client, "g").await.retry.to_string();
    assert_eq!(shown, format!("plugin:{ladder}"));
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interceptor_changes_and_refuses_what_is_stored() {
    let Some((mut server, client)) = server("redact").await else { return };
    let used = "redact(remove=card & mask=name, iban & body-digits=12)";
    let set = until("the interceptor is compiled", || async {
        let set = intercept(&client, Some(used)).await;
        (!set.as_ref().is_err_and(|error| error.code == Code::TimedOut)).then_some(set)
    });
    set.await.unwrap().unwrap();
    let info = client.admin().call(TopicInfo { name: "orders".into() }).await.unwrap();
    assert_eq!(info.interceptor.0.map(|used| used.to_string()).as_deref(), Some(used));
    let card = Message::new("pay with 4111111111111111 please").key("k1").tag("paid");
    let secret = card.property("card", "4111").property("name", "somebody").property("n", "1");
    let plain = Message::new("nothing to hide").property("n", "2");
    send_all(&client, "orders", vec![secret, plain]).await;
    let mut orders = consumer(&client, "orders", "g").await;
    let taken = take(&mut orders, 2).await;
    assert_eq!(text(&taken[0]), "pay with ************1111 please");
    let properties: Vec<_> = taken[0].record().properties().collect();
    assert_eq!(properties, [("$key", "k1"), ("name", "***"), ("n", "1"), (REPLACED, "redact/1")]);
    assert_eq!((taken[0].key(), taken[0].tag()), (Some("k1"), "paid"));
    assert_eq!(text(&taken[1]), "nothing to hide");
    assert_eq!(taken[1].property(REPLACED), None, "stored as it arrived");

    // A body that it cannot see whole is refused, and nothing else of its batch is.
    let producer = client.producer("orders").build().await.unwrap();
    let mut receipts = Vec::new();
    for n in 0..40 {
        let body = if n == 17 { "x".repeat((1 << 20) + 1) } else { format!("{n:02}") };
        receipts.push(producer.enqueue(Message::new(body)).await.unwrap());
    }
    for (n, receipt) in receipts.into_iter().enumerate() {
        let result = within("an answer", receipt).await.unwrap();
        if n == 17 {
            let error = refused(result, Code::MessageRefused);
            let text = error.to_string();
            assert!(text.contains("a body of 1048577 bytes cannot be redacted"), "{text}");
        } else {
            result.unwrap();
        }
    }
    let texts: Vec<String> = take(&mut orders, 39).await.iter().map(text).collect();
    let expect: Vec<String> = (0..40).filter(|n| *n != 17).map(|n| format!("{n:02}")).collect();
    assert_eq!(texts, expect, "in order, and all but the one");
    producer.close().await.unwrap();
    client.close().await;

    // It is in the metadata, and can be taken away.
    server.kill9().unwrap();
    server.restart().await.unwrap();
    let client = server.client("again").await.unwrap();
    let mut orders = consumer(&client, "orders", "g").await;
    let digits = || vec![Message::new("123456789012")];
    send_all(&client, "orders", digits()).await;
    assert_eq!(text(&next(&mut orders).await), "********9012");
    intercept(&client, None).await.unwrap();
    send_all(&client, "orders", digits()).await;
    assert_eq!(text(&next(&mut orders).await), "123456789012");
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_plugin_of_a_topic_or_a_group_has_its_code() {
    let Some((_server, client)) = server("bad").await else { return };
    refused(group_set(&client, "g", "nobody", 3).await, Code::UnknownPlugin);
    refused(intercept(&client, Some("nobody")).await, Code::UnknownPlugin);
    let compiled = until("the interceptor is compiled", || async {
        let set = group_set(&client, "g", "redact(mask=a)", 3).await;
        set.err().filter(|error| error.code != Code::TimedOut)
    });
    assert_eq!(compiled.await.unwrap().code, Code::PluginExports);
    refused(intercept(&client, Some("retry-ladder")).await, Code::PluginExports);
    let error = refused(intercept(&client, Some("redact")).await, Code::BadPluginUse);
    assert!(error.to_string().contains("nothing is redacted"), "the plugin's words: {error}");
    let steps = group_set(&client, "g", "retry-ladder(steps=soon)", 3).await;
    refused(steps, Code::BadPluginUse);
    let wasm = Blob(guests::filter("letters", "1.0.0", 'a', None).into());
    client.admin().call(PluginPush { wasm, ..PluginPush::default() }).await.unwrap();
    let loaded = until("it is loaded", || async {
        intercept(&client, Some("letters")).await.err().filter(|it| it.code == Code::PluginExports)
    });
    loaded.await.unwrap();
    client.admin().call(PluginDisable { name: "letters".into() }).await.unwrap();
    let disabled = until("nothing of it runs", || async {
        intercept(&client, Some("letters")).await.err().filter(|it| it.code != Code::PluginExports)
    });
    assert_eq!(disabled.await.unwrap().code, Code::PluginNotRunning);
    // Nothing of it was set.
    let info = client.admin().call(TopicInfo { name: "orders".into() }).await.unwrap();
    assert_eq!(info.interceptor, PluginChoice(None));
    client.close().await;
}
