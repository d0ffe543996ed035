//! Old messages go: the disk stays bounded, who is at the end notices nothing, and who asks for
//! what is gone is told where the queue begins.
use std::fs;
use std::path::Path;

use yard_client::wire::operation::{TopicCreate, TopicInfo, TopicReport};
use yard_client::wire::units::SizeLimit;
use yard_client::wire::{QueueIndex, QueueOffset};
use yard_client::{Client, Code, Message};
use yard_it::wait::until;
use yard_it::{Server, ServerOptions, yard};

use super::local::*;

const SEGMENT_BYTES: u64 = 1 << 20;
const RETAIN_BYTES: u64 = 2 << 20;
/// What is kept, a segment of which a part is kept, the active one, the next, and one that has not
/// been removed yet.
const DISK_BYTES_MAX: u64 = RETAIN_BYTES + 4 * SEGMENT_BYTES;
const BODY_BYTES: usize = 16 << 10;
const MESSAGES: usize = 1_024;
/// Messages that are sent before one waits for them: what is written at once. A segment that the
/// next does not fit into stays as full as it is, and the limit counts messages, not files: so
/// these are small, and no segment is less than seven eighths full.
const AT_ONCE: usize = 8;
const _: () = assert!(AT_ONCE * BODY_BYTES <= SEGMENT_BYTES as usize / 8);

fn bytes_of(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).unwrap();
    files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
}

async fn report(client: &Client) -> TopicReport {
    client.admin().call(TopicInfo { name: "orders".into() }).await.unwrap()
}

/// Sends messages and settles each; the consumer has seen all when it returns.
async fn pass(client: &Client, count: usize) {
    let mut orders = consumer(client, "orders", "g").await;
    let body = vec![7; BODY_BYTES];
    for _ in 0..count / AT_ONCE {
        let messages = (0..AT_ONCE).map(|_| Message::new(body.clone())).collect();
        send_all(client, "orders", messages).await;
        take(&mut orders, AT_ONCE).await;
    }
    settled(client, "g").await;
    orders.close().await.unwrap();
}

async fn bounded(shard: &Path) {
    let what = "old segments to be removed";
    until(what, async || (bytes_of(shard) <= DISK_BYTES_MAX).then_some(())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_stays_bounded_and_readers_are_told_where_a_queue_begins() {
    let scratch = yard_it::Scratch::new("retention").unwrap();
    let data = scratch.path().join("data");
    let mut options = ServerOptions::new(yard::locate(None).unwrap());
    (options.data, options.segment_bytes) = (Some(data.clone()), Some(SEGMENT_BYTES));
    let mut server = Server::start(options).await.unwrap();
    let client = server.client("retention").await.unwrap();
    let (name, retain_bytes) = ("orders".to_owned(), SizeLimit(RETAIN_BYTES));
    let topic = TopicCreate { name, queues: 1, retain_bytes, ..TopicCreate::default() };
    client.admin().call(topic).await.unwrap();
    let shard = data.join("shard-0");
    pass(&client, MESSAGES).await;
    bounded(&shard).await;
    let before = report(&client).await;
    let row = &before.queues[0];
    assert_eq!(row.end.0, MESSAGES as u64);
    assert!(row.bytes >= RETAIN_BYTES && row.bytes <= DISK_BYTES_MAX, "{row:?}");
    assert!(row.first.0 > 0 && row.oldest_ms.0 > 0 && row.oldest_ms <= row.newest_ms, "{row:?}");
    // More may go between the two.
    until("readers to be told where the queue begins", async || {
        let first = report(&client).await.queues[0].first;
        let gone = client.fetch("orders", QueueIndex(0), QueueOffset(0), 1).await;
        let error = refused(gone, Code::OffsetOutOfRange);
        error.to_string().contains(&format!("has {first}")).then_some(())
    })
    .await
    .unwrap();
    client.close().await;

    server.kill9().unwrap();
    server.restart().await.unwrap();
    let client = server.client("after").await.unwrap();
    let after = report(&client).await;
    assert!(after.queues[0].first >= before.queues[0].first, "{after:?}");
    assert_eq!(after.queues[0].end, before.queues[0].end);
    assert_eq!(group(&client, "g").await.lag, 0);
    pass(&client, MESSAGES).await;
    bounded(&shard).await;
    assert_eq!(report(&client).await.queues[0].end.0, 2 * MESSAGES as u64);
}
