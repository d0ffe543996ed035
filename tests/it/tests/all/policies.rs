//! Filters of subscriptions, through the real program: what is wanted arrives, what is not is
//! settled; plugins are pushed, swapped, tried and refused.
use std::collections::BTreeMap;

use yard_client::wire::operation::{
    PluginCanary, PluginDisable, PluginInfo, PluginLogs, PluginPromote, PluginPush, PluginRm,
    PluginRollback, PluginTrust, TenantSet, TopicInfo,
};
use yard_client::wire::plugin::{Blob, Digest, PluginRow};
use yard_client::wire::record::Record;
use yard_client::wire::{QueueIndex, QueueOffset};
use yard_client::{Client, Code, Consumer, Error, Message, Start};
use yard_it::guests;
use yard_it::swaps::{self, Swaps};
use yard_it::wait::{until, within};
use yard_it::{Server, ServerOptions, yard};

use super::local::*;
use super::sql_code::{by_code, making_code_after, told};

async fn server() -> Server {
    Server::start(ServerOptions::new(yard::locate(None).unwrap())).await.unwrap()
}

async fn push(client: &Client, wasm: Vec<u8>) -> Result<PluginRow, Error> {
    let push = PluginPush { wasm: Blob(wasm.into()), ..PluginPush::default() };
    client.admin().call(push).await
}

async fn filtered(
    client: &Client,
    group: &str,
    dialect: &str,
    text: &str,
) -> Result<Consumer, Error> {
    let builder = client.consumer("orders", group).start(Start::Earliest);
    builder.expression(dialect, text).build().await
}

fn tagged(count: usize, tag: impl Fn(usize) -> &'static str) -> Vec<Message> {
    let message = |n: usize| Message::new(format!("{n:06}").into_bytes()).tag(tag(n));
    (0..count).map(message).collect()
}

/// What a group has not been given.
async fn filtered_out(client: &Client, name: &str) -> u64 {
    settled(client, name).await.queues.iter().map(|row| row.filtered).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_expression_delivers_its_tags_and_settles_the_others() {
    let mut server = server().await;
    let client = server.client("tags").await.unwrap();
    create(&client, "orders", 1).await;
    let tags = ["paid", "sent", "Aa", "BB"];
    send_all(&client, "orders", tagged(40, |n| tags[n % 4])).await;
    let mut orders = filtered(&client, "g", "tag", "paid || Aa").await.unwrap();
    let got: Vec<String> = take(&mut orders, 20).await.iter().map(text).collect();
    let expect: Vec<String> = (0..40).step_by(2).map(|n| format!("{n:06}")).collect();
    assert_eq!(got, expect, "in order, and exactly these");
    assert_eq!(filtered_out(&client, "g").await, 20);
    let other = filtered(&client, "g", "tag", "sent").await;
    let error = refused(other, Code::OtherExpression);
    let both = error.to_string();
    assert!(both.contains("paid || Aa") && both.contains("tag sent"), "{both}");
    refused(filtered(&client, "h", "tag", "paid ||").await, Code::BadExpression);
    refused(filtered(&client, "h", "xpath", "a").await, Code::UnsupportedExpression);
    refused(filtered(&client, "h", "plugin", "nobody").await, Code::UnknownPlugin);
    client.close().await;
    // It is not forgotten by a crash.
    server.kill9().unwrap();
    server.restart().await.unwrap();
    let client = server.client("after").await.unwrap();
    assert_eq!(filtered_out(&client, "g").await, 20);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_filter_decides_and_its_versions_change_hands() {
    let mut server = server().await;
    let client = server.client("push").await.unwrap();
    create(&client, "orders", 2).await;
    let row = push(&client, guests::filter("letters", "1.0.0", 'a', None)).await.unwrap();
    assert_eq!((row.name.as_str(), row.active, row.versions), ("letters", 1, 1));
    send_all(&client, "orders", tagged(30, |n| ["a", "b", "c"][n % 3])).await;
    let mut orders = filtered(&client, "g", "plugin", "letters").await.unwrap();
    let got = texts(&take(&mut orders, 10).await);
    assert_eq!(got, (0..30).step_by(3).map(|n| format!("{n:06}")).collect::<Vec<_>>());
    assert_eq!(filtered_out(&client, "g").await, 20);
    // The same file is the version that it is; another is the next.
    let same = push(&client, guests::filter("letters", "1.0.0", 'a', None)).await.unwrap();
    assert_eq!((same.active, same.versions), (1, 1));
    let row = push(&client, guests::filter("letters", "2.0.0", 'b', None)).await.unwrap();
    assert_eq!((row.active, row.versions), (2, 2));
    let name = || "letters".to_owned();
    decides(&client, &mut orders, 'b').await;
    let row = client.admin().call(PluginRollback { name: name() }).await.unwrap();
    assert_eq!(row.active, 1);
    decides(&client, &mut orders, 'a').await;
    let info = client.admin().call(PluginInfo { name: name() }).await.unwrap();
    let runs: BTreeMap<u32, u64> = info.runs.iter().map(|run| (run.version, run.faults)).collect();
    assert_eq!(runs, BTreeMap::from([(1, 0), (2, 0)]), "{info:?}");
    let in_use = client.admin().call(PluginRm { name: name(), version: Some(2) }).await;
    refused(in_use, Code::PluginState);
    client.close().await;

    // Files and bindings are in the log of the metadata.
    server.kill9().unwrap();
    server.restart().await.unwrap();
    let client = server.client("again").await.unwrap();
    let mut orders = filtered(&client, "g", "plugin", "letters").await.unwrap();
    decides(&client, &mut orders, 'a').await;
    let promote = PluginPromote { name: name(), version: Some(2) };
    assert_eq!(client.admin().call(promote).await.unwrap().active, 2);
    decides(&client, &mut orders, 'b').await;

    // Without a version that runs nothing is delivered, and nothing skipped.
    client.admin().call(PluginDisable { name: name() }).await.unwrap();
    let none = until("nothing of it runs", || async {
        filtered(&client, "h", "plugin", "letters").await.err()
    });
    assert_eq!(none.await.unwrap().code, Code::PluginNotRunning);
    client.admin().call(PluginPromote { name: name(), version: Some(1) }).await.unwrap();
    decides(&client, &mut orders, 'a').await;
    client.close().await;
}

/// Sends messages of both letters until one of them is what arrives and the other is what does
/// not: a version decides from the next batch on, and nobody says which that is.
async fn decides(client: &Client, orders: &mut Consumer, letter: char) {
    let what = format!("the version for {letter} decides");
    let (wanted, other) = if letter == 'a' { ("a", "b") } else { ("b", "a") };
    let tries = async {
        loop {
            send_all(client, "orders", tagged(2, |n| [other, wanted][n])).await;
            // Exactly one of the two arrives, whoever decides.
            let first = next(orders).await;
            let tag = first.tag().to_owned();
            first.ack().await.unwrap();
            if tag == wanted {
                return;
            }
        }
    };
    within(&what, tries).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_see_what_they_declare_though_others_declare_something_else() {
    let server = server().await;
    let client = server.client("sight").await.unwrap();
    create(&client, "orders", 1).await;
    push(&client, guests::filter_by_sight("sight", "1.0.0", false)).await.unwrap();
    let mut orders = filtered(&client, "g", "plugin", "sight").await.unwrap();
    // The version that reads properties is published after frames were made without; then that
    // which reads none gets its turn when frames are made with.
    for (turn, reads) in [false, true, false].into_iter().enumerate() {
        if turn == 1 {
            let second = guests::filter_by_sight("sight", "2.0.0", true);
            assert_eq!(push(&client, second).await.unwrap().active, 2);
        }
        if turn == 2 {
            let back = PluginRollback { name: "sight".into() };
            assert_eq!(client.admin().call(back).await.unwrap().active, 1);
        }
        let tries = async {
            loop {
                let message = |tag: &str| Message::new(b"body".to_vec()).tag(tag);
                let pair = vec![message("bare"), message("with").property("region", "eu")];
                send_all(&client, "orders", pair).await;
                let first = take(&mut orders, 1).await.remove(0).tag().to_owned();
                if first == "bare" {
                    assert_eq!(take(&mut orders, 1).await[0].tag(), "with", "both want it");
                }
                if (first == "with") == reads {
                    return;
                }
            }
        };
        within("the version decides", tries).await.unwrap();
    }
    let info = client.admin().call(PluginInfo { name: "sight".into() }).await.unwrap();
    let runs: BTreeMap<u32, u64> = info.runs.iter().map(|run| (run.version, run.faults)).collect();
    assert_eq!(runs, BTreeMap::from([(1, 0), (2, 0)]), "{info:?}");
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_a_dead_letter_at_once_and_the_rest_of_its_batch_goes_on() {
    let server = server().await;
    let client = server.client("poison").await.unwrap();
    create(&client, "orders", 1).await;
    push(&client, guests::filter("letters", "1.0.0", 'a', None)).await.unwrap();
    let tag = |n: usize| if n == 77 { "x" } else { ["a", "b"][n % 2] };
    send_all(&client, "orders", tagged(200, tag)).await;
    let mut orders = filtered(&client, "g", "plugin", "letters").await.unwrap();
    let got: Vec<String> = take(&mut orders, 100).await.iter().map(text).collect();
    let expect: Vec<String> = (0..200).step_by(2).map(|n| format!("{n:06}")).collect();
    assert_eq!(got, expect);
    let report = settled(&client, "g").await;
    let counts: (u64, u64) = (report.queues[0].filtered, report.queues[0].rejected);
    assert_eq!(counts, (99, 1), "all but the poison, which is a dead letter");
    let letters = until("the dead letter", || async {
        let fetched = client.fetch("$dead.g", QueueIndex(0), QueueOffset(0), 10).await.ok()?;
        (!fetched.records.is_empty()).then_some(fetched.records)
    });
    let letters = letters.await.unwrap();
    let [letter] = &letters[..] else { panic!("one letter: {letters:?}") };
    let letter = Record::parse(letter.record.clone()).unwrap();
    assert_eq!(letter.body(), &b"000077"[..]);
    assert_eq!(letter.property("$dead.reason"), Some("poisoned"));
    let why = letter.property("$dead.error").unwrap();
    assert!(why.contains("unreachable"), "the trap's own text: {why}");
    let info = client.admin().call(PluginInfo { name: "letters".into() }).await.unwrap();
    assert!(info.runs[0].poisoned >= 1 && !info.runs[0].last_fault.is_empty(), "{info:?}");
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_swapped_under_load_and_no_message_is_lost_or_repeated() {
    let server = server().await;
    let found = swaps::run(&server, Swaps { messages: 20_000, swaps: 60 }).await.unwrap();
    assert!(found.is_good() && found.swaps >= 60, "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_traps_is_taken_back_and_nothing_is_lost() {
    let server = server().await;
    let client = server.client("canary").await.unwrap();
    create(&client, "orders", 4).await;
    let name = || "letters".to_owned();
    push(&client, guests::filter("letters", "1.0.0", 'a', None)).await.unwrap();
    let inactive = PluginPush {
        wasm: Blob(guests::filter("letters", "2.0.0", 'a', None).into()),
        inactive: true,
        ..PluginPush::default()
    };
    client.admin().call(inactive).await.unwrap();
    let canary =
        PluginCanary { name: name(), version: Some(2), share: 100, ..PluginCanary::default() };
    assert_eq!(client.admin().call(canary).await.unwrap().trial, 2);
    let mut orders = filtered(&client, "g", "plugin", "letters").await.unwrap();
    until("the canary decides", || async {
        send_all(&client, "orders", tagged(1, |_| "b")).await;
        let info = client.admin().call(PluginInfo { name: name() }).await.unwrap();
        info.runs.iter().any(|run| run.version == 2).then_some(())
    })
    .await
    .unwrap();
    send_all(&client, "orders", tagged(100, |n| if n == 50 { "x" } else { "a" })).await;
    let taken = texts(&take(&mut orders, 99).await);
    let expect = (0..100).filter(|n| *n != 50).map(|n| format!("{n:06}"));
    assert_eq!(taken, expect.collect::<Vec<_>>());
    let ended = until("the canary is taken back", || async {
        let info = client.admin().call(PluginInfo { name: name() }).await.unwrap();
        (info.plugin.trial == 0).then_some(info)
    });
    assert_eq!(ended.await.unwrap().plugin.active, 1);
    let lines = client.admin().call(PluginLogs { name: name() }).await.unwrap();
    assert!(lines.iter().any(|line| line.text.contains("taken back")), "{lines:?}");
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_is_wrong_with_a_plugin_has_its_code() {
    let server = server().await;
    let client = server.client("bad").await.unwrap();
    let manifest = |text: &str| guests::filter("letters", "1.0.0", 'a', Some(text));
    let asks = r#"{"name":"letters","version":"1.0.0","points":["filter"],
        "limits":{"memory_bytes":1073741824}}"#;
    let dedupes = r#"{"name":"letters","version":"1.0.0","points":["dedupe"]}"#;
    let few = r#"{"name":"letters","version":"1.0.0","points":["filter"],"properties":"few"}"#;
    let fails = r#"{"name":"letters","version":"1.0.0","points":["filter"],
        "tests":[{"point":"filter","message":{"tag":"b"},"expect":"deliver"}]}"#;
    for (wasm, code) in [
        (b"not a plugin".to_vec(), Code::NotWasm),
        (guests::untyped(), Code::NoComponentType),
        (guests::curious("letters"), Code::PluginImports),
        (manifest("{"), Code::PluginManifest),
        (manifest(few), Code::PluginManifest),
        (manifest(asks), Code::PluginCapability),
        (manifest(dedupes), Code::PluginExports),
        (manifest(fails), Code::PluginSelfTest),
        (vec![0; (4 << 20) + 1], Code::PluginTooLarge),
    ] {
        refused(push(&client, wasm).await, code);
    }
    let none = client.admin().call(PluginInfo { name: "letters".into() }).await;
    refused(none, Code::UnknownPlugin);

    let signed =
        TenantSet { name: "default".into(), require_signed: Some(true), ..TenantSet::default() };
    assert!(client.admin().call(signed).await.unwrap().require_signed);
    let unsigned = until("signatures are required", || async {
        let pushed = push(&client, guests::filter("letters", "1.0.0", 'a', None)).await;
        pushed.err()
    });
    assert_eq!(unsigned.await.unwrap().code, Code::PluginSignature);
    let key = PluginTrust { key: Digest([7; 32]), note: "nobody's".into() };
    client.admin().call(key).await.unwrap();
    let wrong = PluginPush {
        wasm: Blob(guests::filter("letters", "1.0.0", 'a', None).into()),
        sign: Some(Blob(vec![0; 64].into())),
        inactive: false,
    };
    refused(client.admin().call(wrong).await, Code::PluginSignature);
    client.close().await;
}

/// What SQL says of the flights; source: `data/README.md` beside them.
const FLIGHTS: [(&str, &str, u64); 5] = [
    ("sql", "carrier = 'UA'", 58_665),
    ("sql", "dep_delay > 60", 26_581),
    ("sql", "dep_delay IS NULL", 8_255),
    ("sql", "dep_delay > 60 AND origin IN ('JFK','EWR')", 19_341),
    ("sql", "dep_delay BETWEEN 15 AND 30 AND NOT (carrier = 'UA')", 19_585),
];

/// Messages that an expression judges before code is made of it.
const CODE_AFTER: u64 = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn sql_over_the_flights_gives_the_counts_of_sql() {
    let path = super::flights::file();
    if !path.is_file() {
        eprintln!("skipped: sql_over_the_flights: there is no {}", path.display());
        return;
    }
    let (server, _scratch) = making_code_after(CODE_AFTER).await;
    let client = server.client("flights").await.unwrap();
    create(&client, "orders", 8).await;
    let probe = filtered(&client, "probe", "sql", "carrier = ").await;
    match probe {
        Err(error) if error.code == Code::BuiltWithoutPlugins => {
            eprintln!("skipped: sql_over_the_flights: the program has no plugins in it");
            return;
        }
        probe => drop(refused(probe, Code::BadExpression)),
    }
    let program = yard::locate(None).unwrap();
    let mut command = yard::command(&program, &server.context_path());
    command.args(["pub", "orders", "--from"]).arg(&path);
    command.args(["--tag", ".carrier", "--order", ".tailnum", "--props", "all"]);
    let sent = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let all = client.admin().call(TopicInfo { name: "orders".into() }).await.unwrap().messages;
    assert_eq!(all, 336_776);
    // The plugin judges, and in the end code of the expression's own; then code from the first
    // message on, where none of these expressions meets a value that is too much for it.
    for by in ["plugin", "code"] {
        for (number, (dialect, text, count)) in FLIGHTS.into_iter().enumerate() {
            let group = format!("{by}{number}");
            let mut orders = filtered(&client, &group, dialect, text).await.unwrap();
            for _ in 0..count {
                next(&mut orders).await.ack_later();
            }
            let report = settled(&client, &group).await;
            let filtered: u64 = report.queues.iter().map(|row| row.filtered).sum();
            assert_eq!(filtered, all - count, "{text}");
            let code = by_code(&client, &group).await;
            orders.close().await.unwrap();
            if by == "code" {
                // Counts are of the expression, whoever asks.
                assert!(code >= all, "{code} by code of {all}: {text}");
                continue;
            }
            assert!(code <= all - CODE_AFTER, "{code} by code: {text}");
            let is_told = format!("code for `{text}` judges from now on");
            let made = until("code is made", async || {
                let told = told(&client).await;
                told.iter().any(|row| row.text == is_told).then_some(())
            });
            made.await.unwrap();
        }
    }
    client.close().await;
}
