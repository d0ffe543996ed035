//! Code of its own for an expression in SQL: it takes over while messages flow, and where it
//! cannot tell, the plugin does; every message is delivered or settled once, as the expression
//! says.
use std::time::Instant;

use yard_client::wire::operation::PluginLogs;
use yard_client::wire::plugin::PluginLogRow;
use yard_client::{Client, Code, Message, Start};
use yard_it::wait::{PATIENCE, within};
use yard_it::{Scratch, Server, ServerOptions, yard};

use super::local::*;

/// Of what is sent one in three has the kind that is wanted, and half of that a number above 50.
const EXPRESSION: &str = "kind = 'b' AND n > 50";
/// Messages that are sent before it is looked whether code judges yet.
const ROUND: usize = 300;

fn message(number: usize, n: &str) -> Message {
    let kind = ["a", "b", "c"][number % 3];
    Message::new(format!("{number:06}").into_bytes()).property("kind", kind).property("n", n)
}

/// The number that a message has: at some it takes more than code to see what it is.
fn number(at: usize, hard: bool) -> String {
    match (at % 2, hard) {
        (0, _) => "7".to_owned(),
        (_, false) => "77.5".to_owned(),
        (_, true) => "7.75e1".to_owned(),
    }
}

fn is_wanted(at: usize) -> bool {
    at % 3 == 1 && at % 2 == 1
}

/// A broker that makes code for an expression that has judged so many messages.
pub(crate) async fn making_code_after(messages: u64) -> (Server, Scratch) {
    let scratch = Scratch::new("code").unwrap();
    let path = scratch.path().join("yard.toml");
    std::fs::write(&path, format!("sql_code_after = \"{messages}\"\n")).unwrap();
    let mut options = ServerOptions::new(yard::locate(None).unwrap());
    options.flags = vec!["--config".to_owned(), path.display().to_string()];
    (Server::start(options).await.unwrap(), scratch)
}

/// What became of the code of expressions.
pub(crate) async fn told(client: &Client) -> Vec<PluginLogRow> {
    let logs = client.admin().call(PluginLogs { name: "filter-sql".into() }).await;
    logs.unwrap_or_default()
}

/// How many messages a group's expression has judged by code.
pub(crate) async fn by_code(client: &Client, name: &str) -> u64 {
    let members = group(client, name).await.members;
    let counts = members.iter().filter_map(|row| row.filter.split_once("  -- "));
    let first = |(_, counts): (&str, &str)| counts.split(' ').next()?.parse::<u64>().ok();
    counts.filter_map(first).max().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn code_takes_over_under_load_and_gives_way_where_it_cannot_tell() {
    let (server, _scratch) = making_code_after(1_000).await;
    let client = server.client("code").await.unwrap();
    create(&client, "orders", 2).await;
    let builder = client.consumer("orders", "g").start(Start::Earliest);
    let mut orders = match builder.expression("sql", EXPRESSION).build().await {
        Err(error) if error.code == Code::BuiltWithoutPlugins => {
            eprintln!("skipped: the program has no plugins in it");
            return;
        }
        orders => orders.unwrap(),
    };
    let producer = client.producer("orders").build().await.unwrap();
    let (mut sent, mut got) = (0, Vec::new());
    // Numbers that code reads, until it judges; then such as it does not, until it is gone.
    for hard in [false, true] {
        let began = Instant::now();
        loop {
            for _ in 0..ROUND {
                let receipt = producer.enqueue(message(sent, &number(sent, hard))).await;
                drop(receipt.unwrap());
                sent += 1;
            }
            while got.len() < (0..sent).filter(|at| is_wanted(*at)).count() {
                let delivery = next(&mut orders).await;
                got.push(text(&delivery));
                delivery.ack_later();
            }
            let is_over = match hard {
                false => by_code(&client, "g").await > 0,
                true => told(&client).await.iter().any(|row| row.text.contains("is gone")),
            };
            if is_over {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{:?}", told(&client).await);
        }
    }
    within("all is sent", producer.close()).await.unwrap().unwrap();
    let wanted: Vec<String> =
        (0..sent).filter(|at| is_wanted(*at)).map(|at| format!("{at:06}")).collect();
    got.sort_unstable();
    assert_eq!(got, wanted, "each once");
    let report = settled(&client, "g").await;
    let filtered: u64 = report.queues.iter().map(|row| row.filtered).sum();
    assert_eq!(filtered as usize, sent - wanted.len());
    assert_eq!(report.queues.iter().map(|row| row.rejected).sum::<u64>(), 0, "nothing is poison");
    client.close().await;
}
