//! A consumer that stops reading costs a bounded amount of memory, and nobody else notices.
use std::time::Duration;

use yard_client::wire::ShardId;
use yard_client::wire::limits::{CREDIT_BYTES_MAX, CREDIT_MESSAGES_MAX};
use yard_client::wire::request::{Reply, Request};
use yard_client::wire::requests::{Start, Subscribe};
use yard_client::{Client, Message};
use yard_it::raw::{Answer, Raw, RawWindows};
use yard_it::wait::until;
use yard_it::{Server, ServerOptions, yard};

use super::local::*;

const MESSAGES: usize = 12_800;
const BODY_BYTES: usize = 16 << 10;
const MIB: u64 = 1 << 20;
/// What the broker may have for the silent consumer: 8 MiB that QUIC has sent and the peer has
/// not confirmed, and the pieces of the record frames that these keep whole (256 KiB at most);
/// 1 MiB that waits for its streams; one frame that is being read. Beside that 4,096 leases with
/// their places, some 200 bytes each, and what the allocator keeps of the work of reading.
/// Its credit is 64 MiB: a broker that read ahead by credit would be far beyond this.
const GROWTH_BYTES_MAX: u64 = (8 + 1 + 1 + 1 + 5) * MIB;

async fn read_all(client: &Client, group: &str) {
    let builder = client.consumer("orders", group).start(yard_client::Start::Earliest);
    let mut orders = builder.credit(2_000, 8 << 20).build().await.unwrap();
    for _ in 0..MESSAGES {
        next(&mut orders).await.ack_later();
    }
    settled(client, group).await;
    orders.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_does_not_read_costs_its_windows() {
    let server = Server::start(ServerOptions::new(yard::locate(None).unwrap())).await.unwrap();
    let client = server.client("owner").await.unwrap();
    create(&client, "orders", 4).await;
    let producer = client.producer("orders").build().await.unwrap();
    let mut last = None;
    for n in 0..MESSAGES {
        let mut body = vec![n as u8; BODY_BYTES];
        body[..8].copy_from_slice(&(n as u64).to_le_bytes());
        last = Some(producer.enqueue(Message::new(body)).await.unwrap());
    }
    last.unwrap().await.unwrap();
    producer.flush().await.unwrap();
    // What a reader leaves behind in the process is not the silent one's: two before it.
    for group in ["before-1", "before-2"] {
        read_all(&client, group).await;
    }
    let before = server.rss_anon().unwrap();

    // The unread streams do not fill the connection, so that the control stream goes on.
    let windows = RawWindows { stream_bytes: 64 << 10, connection_bytes: 8 << 20 };
    let raw = Raw::connect(&server.context().unwrap(), windows).await.unwrap();
    let (mut control, _first, _) = raw.welcomed().await.unwrap();
    let mut unread = Vec::new();
    for lane in 1..4 {
        unread.push(raw.data(lane).await.unwrap());
    }
    let subscribe = Request::Subscribe(Subscribe {
        shard: ShardId(0),
        group: "silent".to_owned(),
        topic: "orders".to_owned(),
        member: "silent".to_owned(),
        start: Start::Earliest,
        expression: None,
        exclusive: false,
        lease_ms: 600_000,
        messages: CREDIT_MESSAGES_MAX,
        bytes: CREDIT_BYTES_MAX,
    });
    let answer = control.ask(2, &subscribe).await.unwrap();
    assert!(matches!(answer, Answer::Reply(Reply::Subscribe(_))), "{answer:?}");
    until("the whole credit is leased", || async {
        let report = group(&client, "silent").await;
        let leased: u64 = report.queues.iter().map(|row| row.in_flight).sum();
        (leased * BODY_BYTES as u64 > u64::from(CREDIT_BYTES_MAX) * 9 / 10).then_some(())
    })
    .await
    .unwrap();
    // Others go on meanwhile, at any credit; the memory is looked at while they do.
    let mut highest = 0;
    let mut reading = std::pin::pin!(read_all(&client, "healthy"));
    loop {
        highest = highest.max(server.rss_anon().unwrap());
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
            () = &mut reading => break,
        }
    }
    let after = server.rss_anon().unwrap();
    let growth = |now: u64| now.saturating_sub(before) as f64 / MIB as f64;
    eprintln!(
        "RssAnon: {:.1} MiB before; {:+.1} MiB at most, {:+.1} MiB at the end",
        before as f64 / MIB as f64,
        growth(highest),
        growth(after),
    );
    assert!(after.saturating_sub(before) <= GROWTH_BYTES_MAX, "{:.1} MiB", growth(after));
    assert!(raw.connection.close_reason().is_none(), "the silent one is still there");
    let silent = group(&client, "silent").await;
    assert_eq!(silent.members.len(), 1, "and so is its subscription");
    raw.close();
    client.close().await;
}
