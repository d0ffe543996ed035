//! Authors of plugins, through the real program: from nothing to a filter that decides, as the
//! guide says it, and the plugins of the examples on real topics.
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use yard_client::wire::operation::{PluginPush, TopicInfo, TopicSet};
use yard_client::wire::plugin::Blob;
use yard_client::wire::plugin_use::{PluginChoice, PluginUse};
use yard_client::wire::units::AgeLimit;
use yard_client::{Client, Code, Error, Message, Start};
use yard_it::{Scratch, Server, ServerOptions, yard};

use super::local::*;

const DAY_MS: u64 = 86_400_000;

async fn server() -> (Server, Client) {
    let server = Server::start(ServerOptions::new(yard::locate(None).unwrap())).await.unwrap();
    let client = server.client("author").await.unwrap();
    create(&client, "orders", 1).await;
    (server, client)
}

/// The plugin of an example; none where it was not built.
fn example(name: &str) -> Option<Vec<u8>> {
    let path = yard::plugin(&yard::locate(None).unwrap(), &format!("examples/{name}"));
    let file = std::fs::read(&path);
    file.inspect_err(|_| eprintln!("skipped: {name}: there is no {}", path.display())).ok()
}

async fn push(client: &Client, wasm: Vec<u8>) {
    let push = PluginPush { wasm: Blob(wasm.into()), ..PluginPush::default() };
    assert_eq!(client.admin().call(push).await.unwrap().active, 1);
}

/// What a filter lets through of large and small, paid and open, European and other orders, in a
/// topic of its own: the bodies, in order.
async fn filtered(client: &Client, name: &str) -> Vec<String> {
    let topic = format!("for-{name}");
    create(client, &topic, 1).await;
    let order = |tag: &str, region: &str, amount: u32| {
        let body = format!("{tag} {region} {amount}");
        Message::new(body)
            .tag(tag)
            .property("region", region)
            .property("amount", amount.to_string())
    };
    let messages = vec![
        order("paid", "eu", 150),
        order("paid", "eu", 50),
        order("paid", "us", 150),
        order("open", "eu", 150),
        Message::new("none"),
        order("paid", "eu", 101),
    ];
    let count = messages.len() as u64;
    send_all(client, &topic, messages).await;
    let builder = client.consumer(&topic, name).start(Start::Earliest);
    let mut orders = builder.expression("plugin", name).build().await.unwrap();
    let mut found = Vec::new();
    // The last is wanted, so that everything before it was judged by then.
    while found.last().is_none_or(|last| last != "paid eu 101") {
        let delivery = next(&mut orders).await;
        found.push(text(&delivery));
        delivery.ack().await.unwrap();
    }
    let report = settled(client, name).await;
    assert_eq!(report.queues[0].filtered, count - found.len() as u64);
    orders.close().await.unwrap();
    found
}

/// Runs a command to its end; what it said, where it failed.
fn run(mut command: Command) -> Result<Output, String> {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(output) } else { Err(format!("{command:?}: {said}")) }
}

/// Follows the guide: a new project, its tests, its file; `None` where there is no compiler.
fn made(program: &Path, context: &Path, folder: &Path) -> Option<PathBuf> {
    // Kept, so that only the first run compiles the SDK.
    let built = yard::plugin(program, "author").with_extension("target");
    let yard = |folder: &Path, words: &[&str]| {
        let mut command = yard::command(program, context);
        command.args(words).current_dir(folder).env("CARGO_TARGET_DIR", &built);
        command.env_remove("CARGO_MANIFEST_DIR");
        run(command)
    };
    yard(folder, &["plugin", "new", "big-orders"]).unwrap();
    let project = folder.join("big-orders");
    // What this workspace has been built with, so that nothing is looked for in a registry.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
    std::fs::copy(lock, project.join("Cargo.lock")).unwrap();
    let mut test = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    test.args(["test", "--quiet"]).current_dir(&project).env("CARGO_TARGET_DIR", &built);
    test.env_remove("CARGO_MANIFEST_DIR");
    run(test).unwrap();
    match yard(&project, &["plugin", "build"]) {
        Ok(_) => Some(built.join("wasm32-unknown-unknown/release/big_orders.wasm")),
        Err(why) if why.contains("can't find crate for `core`") => {
            eprintln!("skipped: a new plugin: {why}");
            None
        }
        Err(why) => panic!("{why}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_filter_is_three_commands_away_from_deciding() {
    let (server, client) = server().await;
    let (program, context) = (yard::locate(None).unwrap(), server.context_path());
    let scratch = Scratch::new("author").unwrap();
    let folder = scratch.path().to_owned();
    let pushed = tokio::task::spawn_blocking(move || {
        let file = made(&program, &context, &folder)?;
        let mut push = yard::command(&program, &context);
        push.args(["plugin", "push"]).arg(file);
        Some(run(push).unwrap())
    });
    if pushed.await.unwrap().is_none() {
        return;
    }
    // The project of `yard plugin new` does not look at the tag.
    let expect = ["paid eu 150", "open eu 150", "paid eu 101"];
    assert_eq!(filtered(&client, "big-orders").await, expect);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filters_of_the_examples_say_the_same_in_rust_and_in_c() {
    let (_server, client) = server().await;
    for name in ["filter-rust", "filter-c"] {
        let Some(wasm) = example(name) else { continue };
        push(&client, wasm).await;
        let found = filtered(&client, name).await;
        assert_eq!(found, ["paid eu 150", "paid eu 101"], "{name}");
    }
    client.close().await;
}

async fn dedupe(client: &Client, used: &str) -> Result<(), Error> {
    let dedupe_plugin = Some(PluginChoice(Some(PluginUse::read(used).unwrap())));
    let set = TopicSet { name: "orders".to_owned(), dedupe_plugin, ..TopicSet::default() };
    client.admin().call(set).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dedupe_plugin_of_the_examples_knows_a_flight_however_it_is_written() {
    let Some(wasm) = example("dedupe-rust") else { return };
    let (mut server, client) = server().await;
    push(&client, wasm).await;
    let error = refused(dedupe(&client, "dedupe-rust(days=40)").await, Code::BadPluginUse);
    assert!(error.to_string().contains("40 days: expected 1 to 30"), "{error}");
    dedupe(&client, "dedupe-rust(days=3)").await.unwrap();
    let info = client.admin().call(TopicInfo { name: "orders".into() }).await.unwrap();
    assert_eq!(info.dedupe_window, AgeLimit(3 * DAY_MS), "as the plugin wants it");
    let flight = |carrier: &str, flight: &str, hour: u32| {
        let hour = format!("2013-01-01T{hour:02}:00:00Z");
        let message = Message::new(format!("{carrier} {flight}")).property("carrier", carrier);
        let message = message.property("flight", flight).property("time_hour", hour);
        message.property("origin", "EWR")
    };
    let duplicates = async |client: &Client, flights: Vec<Message>| {
        let producer = client.producer("orders").build().await.unwrap();
        let mut found = Vec::new();
        for flight in flights {
            found.push(producer.send(flight).await.unwrap().duplicate);
        }
        producer.close().await.unwrap();
        found
    };
    let flights = vec![
        flight("UA", "15", 10),
        flight("ua", "0015", 10),
        flight("UA", "16", 10),
        flight("UA", "15", 11),
        Message::new("no flight").property("carrier", "UA"),
        Message::new("no flight").property("carrier", "UA"),
    ];
    let expect = [false, true, false, false, false, false];
    assert_eq!(duplicates(&client, flights).await, expect);
    client.close().await;
    server.kill9().unwrap();
    server.restart().await.unwrap();
    let client = server.client("again").await.unwrap();
    let flights = vec![flight("uA", "015", 10), flight("UA", "17", 10)];
    assert_eq!(duplicates(&client, flights).await, [true, false], "keys are in the log");
    client.close().await;
}
