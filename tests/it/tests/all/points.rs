//! The plugin points besides filters, through the real program with its own plugins: when what
//! failed comes again, what becomes of a message before it is stored, which messages are the same,
//! and what becomes of transactions that nobody decides.
use std::time::{Duration, Instant};

use yard_client::wire::operation::{
    Arg, GroupSet, PluginDisable, PluginInfo, PluginPromote, PluginPush, TopicInfo, TopicReport,
    TopicSet, TxLs, TxSet,
};
use yard_client::wire::plugin::Blob;
use yard_client::wire::plugin_use::{PluginChoice, PluginUse};
use yard_client::wire::property::{REPLACED, UNCHECKED};
use yard_client::wire::record::Record;
use yard_client::wire::retry::{Attempts, RetryPolicy};
use yard_client::wire::transaction::{CheckPolicy, CheckSpan};
use yard_client::wire::units::AgeLimit;
use yard_client::wire::{QueueIndex, QueueOffset};
use yard_client::{Client, Code, Error, Message, SendResult, TxVerdict};
use yard_it::guests;
use yard_it::wait::{until, within};
use yard_it::{Server, ServerOptions, yard};

use super::local::*;

/// A broker of its own, with a client and a topic; none where the program has no plugins in it.
async fn server(test: &str) -> Option<(Server, Client)> {
    server_with(test, 1).await
}

async fn server_with(test: &str, shards: u16) -> Option<(Server, Client)> {
    let options = ServerOptions::new(yard::locate(None).unwrap());
    let server = Server::start(ServerOptions { shards, ..options }).await.unwrap();
    let client = server.client(test).await.unwrap();
    create(&client, "orders", 1).await;
    // The first who asks waits for the plugin to be compiled: longer than for an answer, perhaps.
    let probed = until("the plugins are there", || async {
        let probed = group_set(&client, "probe", "retry-ladder", 3).await;
        (!probed.as_ref().is_err_and(is_late)).then_some(probed)
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

/// Whether a plugin was still being compiled when the client gave up.
fn is_late(error: &Error) -> bool {
    matches!(error.code, Code::PluginCompiling | Code::TimedOut)
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
    let (mut deliveries, mut began, mut all) = (0, Instant::now(), Duration::ZERO);
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
    for delay_ms in [200, 300] {
        let delivery = next(&mut orders).await;
        let waited = began.elapsed();
        deliveries += 1;
        assert_eq!((text(&delivery), delivery.attempt()), ("slow".to_owned(), deliveries + 1));
        assert!(waited + Duration::from_millis(5) >= Duration::from_millis(delay_ms), "{waited:?}");
        all += waited;
        began = Instant::now();
        delivery.nack_because(None, "busy").await.unwrap();
    }
    // The broker's own table has 10 s, then 30.
    assert!(all < Duration::from_secs(40), "the table's delays, not the plugin's: {all:?}");
    let dead = letters(&client, "g", 2).await;
    let last = &dead[1][2];
    assert_eq!(last, "delivered 3 times, last failure: busy", "the ladder has ended: {dead:?}");
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

    // Those of a transaction and those that wait as well, whose records the log has marked.
    let digits = || Message::new("123456789012").property("name", "n");
    send_all(&client, "orders", vec![digits().deliver_after(Duration::from_millis(1))]).await;
    assert_eq!(text(&take(&mut orders, 1).await[0]), "********9012", "a delayed one");
    let group = client.transactions("payments").build().await.unwrap();
    let tx = group.begin("").await.unwrap();
    tx.send("orders", digits()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(text(&take(&mut orders, 1).await[0]), "********9012", "one of a transaction");

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
        set.err().filter(|error| !is_late(error))
    });
    assert_eq!(compiled.await.unwrap().code, Code::PluginExports);
    refused(intercept(&client, Some("retry-ladder")).await, Code::PluginExports);
    let error = refused(intercept(&client, Some("redact")).await, Code::BadPluginUse);
    assert!(error.to_string().contains("nothing is redacted"), "the plugin's words: {error}");
    let misspelt = intercept(&client, Some("redact(remov=card & body-digits=12)")).await;
    let error = refused(misspelt, Code::BadPluginUse).to_string();
    assert!(
        error.contains("no setting `remov`: it has `remove`, `mask`, `body-digits`"),
        "{error}"
    );
    let digits = intercept(&client, Some("redact(remove=card & body-digits=many)")).await;
    let error = refused(digits, Code::BadPluginUse).to_string();
    assert!(error.contains("`body-digits` must be a whole number, not `many`"), "{error}");
    let steps = group_set(&client, "g", "retry-ladder(stps=1s 10s)", 3).await;
    let error = refused(steps, Code::BadPluginUse).to_string();
    assert!(error.contains("no setting `stps`: it has `steps`, `errors`, `jitter`"), "{error}");
    let steps = group_set(&client, "g", "retry-ladder(steps=soon)", 3).await;
    refused(steps, Code::BadPluginUse);
    let wasm = Blob(guests::filter("letters", "1.0.0", 'a', None).into());
    client.admin().call(PluginPush { wasm, ..PluginPush::default() }).await.unwrap();
    // What is answered is so: the version decides, and no longer when it was disabled.
    refused(intercept(&client, Some("letters")).await, Code::PluginExports);
    client.admin().call(PluginDisable { name: "letters".into() }).await.unwrap();
    refused(intercept(&client, Some("letters")).await, Code::PluginNotRunning);
    refused(dedupe(&client, Some("nobody"), None).await, Code::UnknownPlugin);
    refused(check(&client, "plugin:nobody").await, Code::UnknownPlugin);
    let compiled = until("the plugins are compiled", || async {
        let set = [
            dedupe(&client, Some("redact(mask=a)"), None).await,
            dedupe(&client, Some("dedupe-window"), None).await,
            check(&client, "plugin:txn-check").await,
        ];
        (!set.iter().any(|it| it.as_ref().is_err_and(is_late))).then_some(())
    });
    compiled.await.unwrap();
    refused(dedupe(&client, Some("redact(mask=a)"), None).await, Code::PluginExports);
    refused(check(&client, "plugin:dedupe-window").await, Code::PluginExports);
    for (wrong, says) in [
        (
            "dedupe-window(fields=carrier & windw=5m)",
            "no setting `windw`: it has `fields`, `window`, `on-duplicate`, `keyspace`",
        ),
        ("dedupe-window(fields=@body)", "expected @id or @tag"),
        ("dedupe-window(on-duplicate=reject)", "answered as the original"),
        ("dedupe-window(window=30d)", "what the dedupe plugin wants"),
    ] {
        let error = refused(dedupe(&client, Some(wrong), None).await, Code::BadPluginUse);
        assert!(error.to_string().contains(says), "{error}");
    }
    let rules = check(&client, "plugin:txn-check(comit=paid = 1)").await;
    let error = refused(rules, Code::BadPluginUse).to_string();
    assert!(error.contains("no setting `comit`: it has `commit`, `rollback`, `ask`"), "{error}");
    let rules = check(&client, "plugin:txn-check(commit=paid =)").await;
    let error = refused(rules, Code::BadPluginUse);
    assert!(error.to_string().contains("`commit`: line 1"), "the plugin's words: {error}");
    check(&client, "native").await.unwrap();
    dedupe(&client, None, None).await.unwrap();
    // Nothing of it was set.
    let info = client.admin().call(TopicInfo { name: "orders".into() }).await.unwrap();
    assert_eq!(info.interceptor, PluginChoice(None));
    client.close().await;
}

async fn dedupe(client: &Client, used: Option<&str>, strict: Option<bool>) -> Result<(), Error> {
    let plugin = Some(PluginChoice(used.map(|used| PluginUse::read(used).unwrap())));
    let name = "orders".to_owned();
    let set =
        TopicSet { name, dedupe_plugin: plugin, dedupe_strict: strict, ..TopicSet::default() };
    client.admin().call(set).await.map(drop)
}

/// The same, for a plugin that has to be compiled first.
async fn dedupe_compiled(client: &Client, used: &str) {
    let set = until("the dedupe plugin is compiled", || async {
        let set = dedupe(client, Some(used), None).await;
        (!set.as_ref().is_err_and(|error| error.code == Code::TimedOut)).then_some(set)
    });
    set.await.unwrap().unwrap();
}

async fn orders(client: &Client) -> TopicReport {
    client.admin().call(TopicInfo { name: "orders".into() }).await.unwrap()
}

/// Sends these messages, all in flight at once; what became of each.
async fn enqueue(client: &Client, messages: Vec<Message>) -> Vec<Result<SendResult, Error>> {
    let producer = client.producer("orders").build().await.unwrap();
    let mut receipts = Vec::new();
    for message in messages {
        receipts.push(producer.enqueue(message).await.unwrap());
    }
    let mut sent = Vec::new();
    for receipt in receipts {
        sent.push(within("an answer", receipt).await.unwrap());
    }
    producer.close().await.unwrap();
    sent
}

fn flight(n: usize) -> Message {
    flight_of("UA", n)
}

fn flight_of(carrier: &str, n: usize) -> Message {
    let message = Message::new(format!("{n:06}")).property("carrier", carrier);
    message.property("flight", (n % 10).to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dedupe_plugin_says_which_messages_are_the_same() {
    let Some((mut server, client)) = server("same").await else { return };
    let used = "dedupe-window(fields=carrier, flight & window=2h)";
    dedupe_compiled(&client, used).await;
    let report = orders(&client).await;
    assert_eq!(report.dedupe_plugin.0.map(|it| it.to_string()).as_deref(), Some(used));
    assert_eq!(report.dedupe_window, AgeLimit(7_200_000), "as the plugin wants it");
    let sent = enqueue(&client, (0..300).map(flight).collect()).await;
    let sent: Vec<SendResult> = sent.into_iter().map(Result::unwrap).collect();
    for (n, result) in sent.iter().enumerate() {
        let first = &sent[n % 10];
        assert_eq!((result.id, result.offset), (first.id, first.offset), "{n}");
        assert_eq!(result.duplicate, n >= 10, "{n}");
    }
    // A sender's own key does not count: the plugin says that these differ,
    let own = (20..30).map(|n| flight_of("LH", n % 2).dedupe("own"));
    let own = enqueue(&client, own.collect()).await;
    let new = own.iter().filter(|it| !it.as_ref().unwrap().duplicate).count();
    assert_eq!(new, 2, "two flights of another carrier");
    // and that these are never the same.
    let others = enqueue(&client, vec![Message::new("a").dedupe("k"); 3]).await;
    assert!(others.iter().all(|it| !it.as_ref().unwrap().duplicate));
    // What a transaction stores is not compared.
    let group = client.transactions("payments").build().await.unwrap();
    let tx = group.begin("one").await.unwrap();
    tx.send("orders", flight(3)).await.unwrap();
    tx.commit().await.unwrap();
    let visible = until("it is visible", || async {
        let count = fetch_all(&client, "orders").await.len();
        // Ten flights, two of another carrier, three without a key, and this one.
        (count >= 16).then_some(count)
    });
    assert_eq!(visible.await.unwrap(), 16);
    drop(group);
    client.close().await;
    // Keys and plugin are in the log.
    server.kill9().unwrap();
    server.restart().await.unwrap();
    let client = server.client("again").await.unwrap();
    let again = enqueue(&client, (40..60).map(flight).collect()).await;
    for (n, result) in again.into_iter().map(Result::unwrap).enumerate() {
        assert_eq!((result.id, result.duplicate), (sent[n % 10].id, true), "{n}");
    }
    assert_eq!(orders(&client).await.messages, 16);
    // Without it a sender's key counts again.
    dedupe(&client, None, None).await.unwrap();
    let own = enqueue(&client, vec![flight(1).dedupe("k"), flight(2).dedupe("k")]).await;
    let duplicates: Vec<bool> = own.into_iter().map(|it| it.unwrap().duplicate).collect();
    assert_eq!(duplicates, [false, true]);
    client.close().await;
}

fn tagged(tags: &[&str]) -> Vec<Message> {
    let number = |(n, tag): (usize, &&str)| Message::new(format!("{n:02}")).tag(*tag);
    tags.iter().enumerate().map(number).collect()
}

fn duplicates(sent: &[Result<SendResult, Error>]) -> Vec<bool> {
    sent.iter().map(|it| it.as_ref().unwrap().duplicate).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dedupe_plugin_says_nothing_about_is_marked_or_refused() {
    let server = Server::start(ServerOptions::new(yard::locate(None).unwrap())).await.unwrap();
    let client = server.client("fails").await.unwrap();
    create(&client, "orders", 1).await;
    let push = async |version: &str, keyspace| {
        let wasm = Blob(guests::dedupe("tags", version, keyspace, 'x').into());
        client.admin().call(PluginPush { wasm, ..PluginPush::default() }).await.unwrap().active
    };
    assert_eq!(push("1.0.0", 1).await, 1);
    dedupe(&client, Some("tags"), None).await.unwrap();
    // It fails at two messages; the others are compared all the same.
    let sent = enqueue(&client, tagged(&["a", "x1", "b", "a", "x1", "b"])).await;
    assert_eq!(duplicates(&sent), [false, false, false, true, false, true]);
    let mut consumer = consumer(&client, "orders", "g").await;
    let taken = take(&mut consumer, 4).await;
    let marked: Vec<_> = taken.iter().map(|it| (text(it), it.property(UNCHECKED))).collect();
    let expect = [("00", None), ("01", Some("tags")), ("02", None), ("04", Some("tags"))];
    assert_eq!(marked, expect.map(|(text, mark)| (text.to_owned(), mark)));
    // Where it fails the key of the sender counts, if there is one. At a batch that fails as a
    // whole it is the plugin that failed, not the messages.
    let own = tagged(&["x2", "x2"]).into_iter().map(|it| it.dedupe("own"));
    assert_eq!(duplicates(&enqueue(&client, own.collect()).await), [false, true]);
    assert_eq!(next(&mut consumer).await.property(UNCHECKED), None);
    // What it counts is shown, and what it failed at.
    let info = until("its metrics are collected", || async {
        let info = client.admin().call(PluginInfo { name: "tags".into() }).await.ok()?;
        let seen = info.metrics.iter().find(|it| it.name == "seen")?.added;
        (seen >= 6).then_some(info)
    });
    let info = info.await.unwrap();
    let row = info.runs.iter().find(|row| row.version == 1).unwrap();
    // Of a batch that fails as a whole neither messages nor failures are counted, and which batches
    // the client made of what has keys of its own depends on when it sent them.
    assert_eq!((row.unchecked, row.messages - row.poisoned), (2, 4), "{info:?}");
    assert!(row.poisoned >= 2, "{info:?}");

    // A topic that wants nothing unchecked refuses those, and nothing else of their batches.
    // A plugin at which batches failed as a whole rests for a moment.
    let rested = until("the plugin has rested", || async {
        match dedupe(&client, Some("tags"), Some(true)).await {
            Err(error) if error.code == Code::PluginNotRunning => None,
            other => Some(other),
        }
    });
    rested.await.unwrap().unwrap();
    let tags = ["c", "x3", "d", "c", "x4", "e"];
    let sent = enqueue(&client, tagged(&tags)).await;
    for (tag, sent) in tags.iter().zip(&sent) {
        match sent {
            Ok(_) => assert!(!tag.starts_with('x'), "{tag}"),
            Err(error) => assert_eq!((error.code, &tag[..1]), (Code::NotComparable, "x")),
        }
    }
    assert!(sent[3].as_ref().unwrap().duplicate);

    // Keys of another keyspace are others.
    assert_eq!(push("2.0.0", 2).await, 2);
    let sent = enqueue(&client, tagged(&["a", "a"])).await;
    assert_eq!(duplicates(&sent), [false, true]);

    // Without a version that runs nobody can say.
    client.admin().call(PluginDisable { name: "tags".into() }).await.unwrap();
    dedupe(&client, None, Some(false)).await.unwrap();
    refused(dedupe(&client, Some("tags"), None).await, Code::PluginNotRunning);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_dedupe_plugin_stores_unchecked_until_it_runs_again() {
    let server = Server::start(ServerOptions::new(yard::locate(None).unwrap())).await.unwrap();
    let client = server.client("disabled").await.unwrap();
    create(&client, "orders", 1).await;
    let wasm = Blob(guests::dedupe("tags", "1.0.0", 1, 'x').into());
    client.admin().call(PluginPush { wasm, ..PluginPush::default() }).await.unwrap();
    dedupe(&client, Some("tags"), None).await.unwrap();
    assert_eq!(duplicates(&enqueue(&client, tagged(&["a", "a"])).await), [false, true]);
    client.admin().call(PluginDisable { name: "tags".into() }).await.unwrap();
    assert_eq!(duplicates(&enqueue(&client, tagged(&["a", "a"])).await), [false, false]);
    let promote = PluginPromote { name: "tags".into(), version: None };
    client.admin().call(promote).await.unwrap();
    assert_eq!(duplicates(&enqueue(&client, tagged(&["a", "b"])).await), [true, false]);
    let mut consumer = consumer(&client, "orders", "g").await;
    let taken = take(&mut consumer, 4).await;
    let marks: Vec<_> = taken.iter().map(|it| it.property(UNCHECKED)).collect();
    assert_eq!(marks, [None, Some("tags"), Some("tags"), None]);
    let info = client.admin().call(PluginInfo { name: "tags".into() }).await.unwrap();
    let unchecked: u64 = info.runs.iter().map(|row| row.unchecked).sum();
    assert_eq!(unchecked, 2, "{info:?}");
    client.close().await;
}

async fn check(client: &Client, policy: &str) -> Result<(), Error> {
    let check = Some(<CheckPolicy as Arg>::parse("check", Some(policy)).unwrap());
    let (first, every) = (Some(CheckSpan(200)), Some(CheckSpan(200)));
    let (group, checks) = ("payments".to_owned(), Some(1_000));
    client.admin().call(TxSet { group, first, every, checks, check }).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_plugin_decides_before_producers_are_asked() {
    let Some((mut server, client)) = server_with("check", 2).await else { return };
    create(&client, "bills", 4).await;
    let rules = "txn-check(commit=state = 'paid' & rollback=state = 'failed' OR $checks > 900 & \
                 ask=state IS NULL)";
    let set = until("the plugin is compiled", || async {
        let set = check(&client, &format!("plugin:{rules}")).await;
        (!set.as_ref().is_err_and(|error| error.code == Code::TimedOut)).then_some(set)
    });
    set.await.unwrap().unwrap();
    let group = client.transactions("payments").build().await.unwrap();
    // Messages in both shards; the state is a property of the last.
    let begin = async |state: &str| {
        let tx = group.begin(state).await.unwrap();
        for queue in 0..4 {
            let message = Message::new(format!("{state} {queue}")).queue(queue);
            let last = queue == 3 && !state.is_empty();
            let message = if last { message.property("state", state) } else { message };
            tx.send("bills", message).await.unwrap();
        }
        tx
    };
    // Nobody of the group answers checks, and nobody decides: the plugin does.
    let paid = begin("paid").await;
    let failed = begin("failed").await;
    let later = begin("later").await;
    let open = || async { client.admin().call(TxLs { limit: 9, ..TxLs::default() }).await.ok() };
    let one_left =
        until("two are decided", || async { open().await.filter(|list| list.open == 1) });
    assert_eq!(one_left.await.unwrap().rows[0].id, later.id());
    let bodies = until("what was paid is visible", || async {
        Some(fetch_all(&client, "bills").await).filter(|all| all.len() == 4)
    });
    assert!(bodies.await.unwrap().iter().all(|body| body.starts_with("paid")));
    // It waits, and that is counted; over a restart too.
    let waits = until("it was looked at again", || async {
        open().await.filter(|list| list.rows[0].checks >= 2)
    });
    waits.await.unwrap();
    drop((paid, failed, later, group));
    client.close().await;
    server.kill9().unwrap();
    server.restart().await.unwrap();
    let client = server.client("again").await.unwrap();
    // What it does not want to decide itself a producer is asked.
    let answers = client.transactions("payments").check(|pending| async move {
        if pending.note.is_empty() { TxVerdict::Commit } else { TxVerdict::Unknown }
    });
    let group = answers.build().await.unwrap();
    let asked = group.begin("").await.unwrap();
    asked.send("bills", Message::new("asked")).await.unwrap();
    drop(asked);
    let bodies = until("its producer has decided", || async {
        Some(fetch_all(&client, "bills").await).filter(|all| all.len() == 5)
    });
    assert!(bodies.await.unwrap().contains(&"asked".to_owned()));
    // And without a plugin producers are asked about what it has left alone.
    let list = client.admin().call(TxLs { limit: 9, ..TxLs::default() }).await.unwrap();
    assert_eq!((list.open, &list.rows[0].note[..]), (1, "later"));
    client.close().await;
}
