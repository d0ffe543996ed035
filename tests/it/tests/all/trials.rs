//! Versions on trial, through the real program: a canary gets its share and is taken back by itself
//! when it fails, without a message lost; a shadow says exactly where it differs.
use std::collections::{BTreeMap, BTreeSet};

use yard_client::wire::operation::{
    PluginCanary, PluginDifferences, PluginInfo, PluginLogs, PluginPush, PluginShadow, TopicInfo,
    TopicSet,
};
use yard_client::wire::plugin::{Blob, PluginDifferenceRow, PluginReport, PluginRunRow};
use yard_client::wire::plugin_use::{PluginChoice, PluginUse};
use yard_client::wire::property::UNCHECKED;
use yard_client::{Client, Consumer, Message, Start};
use yard_it::guests;
use yard_it::wait::until;
use yard_it::{Server, ServerOptions, yard};

use super::local::*;

const NAME: &str = "letters";

async fn server(queues: u16) -> (Server, Client) {
    let server = Server::start(ServerOptions::new(yard::locate(None).unwrap())).await.unwrap();
    let client = server.client("trials").await.unwrap();
    create(&client, "orders", queues).await;
    (server, client)
}

/// Pushes two versions, of which the first decides.
async fn push(client: &Client, first: Vec<u8>, second: Vec<u8>) {
    for (wasm, inactive) in [(first, false), (second, true)] {
        let push = PluginPush { wasm: Blob(wasm.into()), inactive, ..PluginPush::default() };
        client.admin().call(push).await.unwrap();
    }
}

async fn canary(client: &Client, share: u16) {
    let name = NAME.to_owned();
    let canary = PluginCanary { name, version: Some(2), share, ..PluginCanary::default() };
    assert_eq!(client.admin().call(canary).await.unwrap().trial, 2);
}

async fn consume(client: &Client, group: &str) -> Consumer {
    let builder = client.consumer("orders", group).start(Start::Earliest);
    builder.expression("plugin", NAME).build().await.unwrap()
}

async fn info(client: &Client) -> PluginReport {
    client.admin().call(PluginInfo { name: NAME.to_owned() }).await.unwrap()
}

fn run(report: &PluginReport, version: u32) -> Option<&PluginRunRow> {
    report.runs.iter().find(|run| run.version == version)
}

async fn taken_back(client: &Client) -> PluginReport {
    let ended = until("the canary is taken back", || async {
        let report = info(client).await;
        (report.plugin.trial == 0).then_some(report)
    });
    let report = ended.await.unwrap();
    assert_eq!(report.plugin.active, 1);
    let lines = client.admin().call(PluginLogs { name: NAME.to_owned() }).await.unwrap();
    let says = |line: &str| line.contains("taken back") && line.contains("ended in a fault");
    assert!(lines.iter().any(|line| says(&line.text)), "{lines:?}");
    report
}

/// Sends messages in groups of their own, without waiting for each; numbers are their bodies.
async fn send_grouped(client: &Client, count: usize, groups: usize, tag: impl Fn(usize) -> String) {
    let producer = client.producer("orders").build().await.unwrap();
    let mut receipts = Vec::new();
    for n in 0..count {
        let group = format!("g{}", n % groups);
        let message = Message::new(n.to_string()).tag(tag(n)).order_group(group);
        receipts.push(producer.enqueue(message).await.unwrap());
    }
    for receipt in receipts {
        receipt.await.unwrap();
    }
    producer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_traps_at_one_in_a_hundred_is_taken_back_and_nothing_is_lost() {
    let (_server, client) = server(1).await;
    // What one traps at the other delivers.
    let version = |label, trap| guests::filter_that_traps(NAME, label, 'a', trap);
    push(&client, version("1.0.0", '!'), version("2.0.0", 'x')).await;
    canary(&client, 30).await;
    let mut orders = consume(&client, "g").await;
    let tag = |n| if n % 100 == 50 { "ax" } else { "a" }.to_owned();
    send_grouped(&client, 3_000, 47, tag).await;
    for n in 0..3_000 {
        let delivery = next(&mut orders).await;
        assert_eq!(text(&delivery), n.to_string(), "in the order of the queue");
        delivery.ack_later();
    }
    let report = settled(&client, "g").await;
    let (rejected, filtered) = (report.queues[0].rejected, report.queues[0].filtered);
    assert_eq!((rejected, filtered), (0, 0), "the version in use judged what the other failed at");
    let report = taken_back(&client).await;
    assert!(run(&report, 2).is_some_and(|run| run.faults > 0), "{report:?}");
    assert!(run(&report, 1).is_some_and(|run| run.faults == 0), "{report:?}");
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_queues_are_few_a_canary_gets_whole_order_groups() {
    let (_server, client) = server(1).await;
    let version = |label, letter| guests::filter_that_traps(NAME, label, letter, '!');
    push(&client, version("1.0.0", 'a'), version("2.0.0", 'b')).await;
    canary(&client, 50).await;
    let mut orders = consume(&client, "g").await;
    // Each group has six messages that one version wants, and six for the other. They are too few
    // for their time to be judged.
    let (groups, each) = (60, 12);
    let tag = |n| if n / groups % 2 == 0 { "a" } else { "b" }.to_owned();
    send_grouped(&client, groups * each, groups, tag).await;
    let (mut found, mut last) = (BTreeMap::<String, Vec<String>>::new(), None);
    for _ in 0..groups * each / 2 {
        let delivery = next(&mut orders).await;
        let number: usize = text(&delivery).parse().unwrap();
        assert!(last < Some(number), "{number} after {last:?}");
        last = Some(number);
        let group = delivery.order_group().unwrap().to_owned();
        found.entry(group).or_default().push(delivery.tag().to_owned());
        delivery.ack_later();
    }
    let report = settled(&client, "g").await;
    assert_eq!(report.queues[0].filtered, (groups * each / 2) as u64);
    let mut judged_by = BTreeMap::<&str, usize>::new();
    for (group, tags) in &found {
        assert_eq!(tags.len(), each / 2, "{group}: {tags:?}");
        assert!(tags.iter().all(|tag| *tag == tags[0]), "one version judges {group}: {tags:?}");
        *judged_by.entry(&tags[0]).or_default() += 1;
    }
    assert_eq!(found.len(), groups);
    let canarys = judged_by.get("b").copied().unwrap_or_default();
    assert!((15..=45).contains(&canarys), "half of the groups, about: {judged_by:?}");
    let report = info(&client).await;
    let judged = |version| run(&report, version).map_or(0, |run| run.messages);
    assert_eq!(judged(2), (canarys * each) as u64);
    assert_eq!(judged(1) + judged(2), (groups * each) as u64, "each was judged once");
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_queues_a_canary_gets_exactly_its_share() {
    let (_server, client) = server(8).await;
    let version = |label, letter| guests::filter_that_traps(NAME, label, letter, '!');
    push(&client, version("1.0.0", 'a'), version("2.0.0", 'b')).await;
    canary(&client, 25).await;
    let mut orders = consume(&client, "g").await;
    let pair = |n: u16| [("a", n), ("b", n)];
    let messages = (0..8).flat_map(pair).map(|(tag, n)| Message::new("m").tag(tag).queue(n));
    send_all(&client, "orders", messages.collect()).await;
    let mut by_canary = BTreeSet::new();
    for _ in 0..8 {
        let delivery = next(&mut orders).await;
        if delivery.tag() == "b" {
            by_canary.insert(delivery.queue());
        }
        delivery.ack_later();
    }
    settled(&client, "g").await;
    assert_eq!(by_canary.len(), 2, "{by_canary:?}");
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_before_a_topic_is_taken_back_as_well() {
    let (_server, client) = server(1).await;
    let version = |label, trap| guests::dedupe(NAME, label, 1, trap);
    push(&client, version("1.0.0", '!'), version("2.0.0", 'x')).await;
    let dedupe_plugin = Some(PluginChoice(Some(PluginUse::read(NAME).unwrap())));
    let set = TopicSet { name: "orders".to_owned(), dedupe_plugin, ..TopicSet::default() };
    client.admin().call(set).await.unwrap();
    canary(&client, 50).await;
    // Each key once more behind all others, in its order group.
    let tag = |n: usize| format!("{}{}", if n % 100 == 50 { 'x' } else { 'k' }, n % 1_000);
    send_grouped(&client, 2_000, 50, tag).await;
    let stored = client.admin().call(TopicInfo { name: "orders".into() }).await.unwrap().messages;
    assert_eq!(stored, 1_000, "the version in use made the keys that the other could not");
    let mut orders = consumer(&client, "orders", "g").await;
    for n in 0..1_000 {
        let delivery = next(&mut orders).await;
        let found = (text(&delivery), delivery.property(UNCHECKED));
        assert_eq!(found, (n.to_string(), None));
        delivery.ack_later();
    }
    let report = taken_back(&client).await;
    assert!(run(&report, 2).is_some_and(|run| run.faults > 0), "{report:?}");
    client.close().await;
}

/// Offset, id and what the version in shadow says, of the rows of one group.
fn of_group<'a>(rows: &'a [PluginDifferenceRow], group: &str) -> Vec<(u64, String, &'a str)> {
    let rows = rows.iter().filter(|row| row.group == group);
    rows.map(|row| (row.offset.0, row.id.to_string(), &*row.says)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_lists_exactly_the_messages_that_differ() {
    let (_server, client) = server(1).await;
    let version = |label, letter| guests::filter_that_traps(NAME, label, letter, '!');
    push(&client, version("1.0.0", 'a'), version("2.0.0", 'b')).await;
    let name = || NAME.to_owned();
    let none = client.admin().call(PluginDifferences { name: name() }).await.unwrap();
    assert_eq!(none, []);
    let shadow = PluginShadow { name: name(), version: Some(2), share: 100 };
    assert_eq!(client.admin().call(shadow).await.unwrap().trial, 2);
    let mut orders = [consume(&client, "g").await, consume(&client, "h").await];
    let producer = client.producer("orders").build().await.unwrap();
    let mut expect = Vec::new();
    for n in 0..300 {
        let tag = ["a", "b", "c", "d"][n % 4];
        let sent = producer.send(Message::new(n.to_string()).tag(tag)).await.unwrap();
        let says = match tag {
            "a" => Some("skip"),
            "b" => Some("deliver"),
            _ => None,
        };
        expect.extend(says.map(|says| (n as u64, sent.id.to_string(), says)));
    }
    producer.close().await.unwrap();
    for orders in &mut orders {
        for n in (0..300).step_by(4) {
            let delivery = next(orders).await;
            assert_eq!(text(&delivery), n.to_string(), "the version in use decides alone");
            // It is compared again when it comes again, and listed once.
            if n == 296 {
                delivery.nack(Some(std::time::Duration::ZERO)).await.unwrap();
            } else {
                delivery.ack().await.unwrap();
            }
        }
        let again = next(orders).await;
        assert_eq!((text(&again), again.attempt()), ("296".to_owned(), 2));
        again.ack().await.unwrap();
    }
    for group in ["g", "h"] {
        settled(&client, group).await;
        let rows = client.admin().call(PluginDifferences { name: name() }).await.unwrap();
        assert_eq!(of_group(&rows, group), expect);
        let whole = |row: &PluginDifferenceRow| {
            (row.topic == "orders", row.queue.0, row.version, row.against) == (true, 0, 2, 1)
        };
        assert!(rows.iter().all(whole) && rows.len() == 2 * expect.len());
    }
    let report = info(&client).await;
    let seen = run(&report, 2).map(|run| (run.compared, run.differing, run.faults));
    assert_eq!(seen, Some((602, 302, 0)));
    client.close().await;
}
