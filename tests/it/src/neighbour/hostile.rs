//! A tenant that means harm: it pushes plugins made to hurt, subscribes with each of them, and
//! sends messages for them to judge. The plugins are those of the host's own tests.
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use wasm_encoder::{CustomSection, Section};
use yard_client::wire::operation::PluginPush;
use yard_client::wire::plugin::Blob;
use yard_client::{Client, Message, Start};

use super::TOPIC;
use super::noise::Counts;
use crate::Failed;

#[allow(dead_code, reason = "the host's tests use the rest")]
#[path = "../../../../host/wasm/tests/wasm/corpus.rs"]
mod corpus;
#[allow(dead_code, reason = "the host's tests use the rest")]
#[path = "../../../../host/wasm/tests/wasm/text.rs"]
mod text;

use corpus::Hostile;

/// So many messages are sent at a time,
const FED: usize = 20;
/// and so long waited after them.
const FED_EVERY: Duration = Duration::from_millis(10);
/// For so long a subscription is listened to.
const LISTENED: Duration = Duration::from_millis(100);
/// Nobody is asked again sooner.
const BREATH: Duration = Duration::from_millis(1);

/// The plugins.
pub(super) fn corpus() -> Arc<[Hostile]> {
    corpus::corpus().into()
}

/// Pushes each of them once, and says so line by line: compiling them takes their limits each.
pub(super) async fn prepare(client: &Client, corpus: &[Hostile]) {
    for hostile in corpus {
        push(client, hostile, 0).await;
        println!("pushed");
    }
}

async fn push(client: &Client, hostile: &Hostile, round: u64) {
    let mut wasm = hostile.file.clone();
    let number = round.to_le_bytes();
    CustomSection { name: "round".into(), data: number[..].into() }.append_to(&mut wasm);
    // Some are refused, which costs the broker as much.
    let push = PluginPush { wasm: Blob(wasm.into()), ..PluginPush::default() };
    let _ = client.admin().call(push).await;
}

/// One connection's part: the first feeds, the second pushes, the others subscribe.
pub(super) async fn hurt(
    client: &Client,
    (number, corpus): (usize, Arc<[Hostile]>),
    mut going: watch::Receiver<bool>,
    counts: &Counts,
) -> Result<(), Failed> {
    let producer = client.producer(TOPIC).build().await?;
    let mut round = 0;
    loop {
        going.wait_for(|going| *going).await.map_err(|_| Failed("no more noise".to_owned()))?;
        counts.under_way.fetch_add(1, Ordering::Relaxed);
        round += 1;
        match number {
            0 => {
                for _ in 0..FED {
                    let _ = producer.send_one_way(Message::new("harm").tag("a"));
                }
                tokio::time::sleep(FED_EVERY).await;
            }
            1 => push(client, &corpus[round as usize % corpus.len()], round).await,
            _ => {
                let name = corpus[number % corpus.len()].name.replace(' ', "-");
                let group = format!("g{number}");
                // A subscription with a plugin that rests is tried for as long as anybody waits.
                let mut over = going.clone();
                tokio::select! {
                    () = listen(client, &name, &group) => {}
                    _ = over.wait_for(|going| !*going) => {}
                }
                tokio::time::sleep(BREATH).await;
            }
        }
        counts.done.fetch_add(1, Ordering::Relaxed);
        counts.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Subscribes with a plugin, and waits a while for what it says. That it fails is what it is for.
async fn listen(client: &Client, name: &str, group: &str) {
    let builder = client.consumer(TOPIC, group).start(Start::Earliest);
    let Ok(mut consumer) = builder.expression("plugin", name).build().await else { return };
    let until = tokio::time::Instant::now() + LISTENED;
    while let Ok(Ok(delivery)) = tokio::time::timeout_at(until, consumer.recv()).await {
        delivery.ack_later();
    }
    let _ = consumer.close().await;
}
