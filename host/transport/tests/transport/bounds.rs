//! What a client costs that asks and does not listen.
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use yard_transport::TransportConfig;
use yard_wire::frame::Role;
use yard_wire::request::{Kind, Push, Reply, Request};
use yard_wire::requests::{
    AckNodes, AckPlace, Credit, Ended, Fetch, Produce, Start, Subscribe, Unsubscribe,
};
use yard_wire::{Code, QueueIndex, QueueOffset, Refusal, Sequence, ShardId, SubscriptionId};

use crate::support::{Answer, DELIVERY_BYTES, batch, frame, start, until, within};

/// quinn's default for what a client lets the broker send ahead on one stream.
const CLIENT_WINDOW_BYTES: usize = 1_250_000;

fn subscribe() -> Request {
    Request::Subscribe(Subscribe {
        shard: ShardId(0),
        group: "g".into(),
        topic: "t".into(),
        member: "m".into(),
        start: Start::Earliest,
        expression: None,
        exclusive: false,
        lease_ms: 30_000,
        messages: 1,
        bytes: 1,
    })
}

fn credit() -> Request {
    let (shard, subscription) = (ShardId(0), SubscriptionId(1));
    Request::Credit(Credit { shard, subscription, messages: 1, bytes: 1 })
}

fn fetch(bytes_max: u32) -> Request {
    let (shard, topic, queue) = (ShardId(0), "t".into(), QueueIndex(0));
    Request::Fetch(Fetch { shard, topic, queue, from: QueueOffset(0), records_max: 1, bytes_max })
}

#[tokio::test]
async fn a_consumer_that_does_not_read_costs_its_window_and_the_queue() {
    let server = start(|_| {});
    let config = TransportConfig::default();
    let client = server.connect().await;
    let mut control = client.hello().await;
    let session = server.echo.last_session();
    control.request(2, &subscribe()).await;
    assert!(matches!(control.answer(Kind::Subscribe).await, Answer::Reply(_)));
    assert_eq!(session.lanes_open(), 0);
    assert_eq!(server.echo.delivered.load(SeqCst), 0, "it waits for lane 0");
    let mut lane = client.open(Role::Data, 0).await;

    // Stalled: the queue is full, and nothing has moved for a while.
    let queue = config.lane_queue_bytes_max as usize;
    let delivered = || server.echo.delivered.load(SeqCst);
    until(|| session.queued_bytes() + DELIVERY_BYTES > queue).await;
    let mut before = usize::MAX;
    while before != delivered() {
        before = delivered();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(session.queued_bytes() <= queue);
    }
    assert_eq!(session.lanes_open(), 1);
    let stalled = delivered();
    let most = CLIENT_WINDOW_BYTES + queue + DELIVERY_BYTES;
    assert!(stalled * DELIVERY_BYTES <= most, "{stalled} deliveries");

    // It reads again and gets on.
    while delivered() < stalled + 10 {
        assert!(matches!(lane.answer(Kind::Fetch).await, Answer::Deliver(_)));
    }
    // It goes, and whoever delivers to it learns so.
    client.connection.close(0u32.into(), b"");
    until(|| server.echo.deliveries_ended.load(SeqCst) == 1).await;
    until(|| server.echo.closed.load(SeqCst) == 1).await;
    assert_eq!(session.queued_bytes(), 0);
    assert_eq!(session.lanes_open(), 0);
}

#[tokio::test]
async fn unanswered_requests_are_bounded() {
    let server = start(|config| config.requests_in_flight_max = 4);
    let client = server.connect().await;
    let mut control = client.hello().await;
    for correlation in 1..=10 {
        control.request(correlation, &credit()).await;
    }
    for round in [4, 4, 2] {
        until(|| server.echo.held() == round).await;
        server.echo.answer_held();
        for _ in 0..round {
            let answer = control.answer(Kind::Credit).await;
            assert!(matches!(answer, Answer::Reply(Reply::Credit(_))));
        }
    }
    assert_eq!(server.echo.held_most.load(SeqCst), 4);
    assert_eq!(server.echo.asked.load(SeqCst), 10, "the right is asked once a request");
}

#[tokio::test]
async fn a_request_without_a_correlation_gets_no_answer_but_counts() {
    let server = start(|config| config.requests_in_flight_max = 2);
    let client = server.connect().await;
    let mut control = client.hello().await;
    for _ in 0..2 {
        control.request(0, &credit()).await;
    }
    let (shard, subscription) = (ShardId(0), SubscriptionId(1));
    control.request(7, &Request::Unsubscribe(Unsubscribe { shard, subscription })).await;
    until(|| server.echo.held() == 2).await;
    assert_eq!(server.echo.requests.load(SeqCst), 2, "the third waits for a slot");
    server.echo.answer_held();
    assert!(matches!(control.answer(Kind::Unsubscribe).await, Answer::Reply(_)));
}

#[tokio::test]
async fn answers_that_are_not_read_are_bounded() {
    const ASKED: usize = 64;
    const BYTES: u32 = 1 << 20;
    let server = start(|_| {});
    let client = server.connect().await;
    let _control = client.hello().await;
    let mut lane = client.open(Role::Data, 0).await;
    for correlation in 1..=ASKED {
        lane.request(correlation as u64, &fetch(BYTES)).await;
    }
    let served = || server.echo.requests.load(SeqCst);
    let budget = (TransportConfig::default().in_flight_bytes_max / BYTES) as usize;
    until(|| served() >= budget).await;
    // What was written into the client's window no longer counts.
    assert!(served() <= budget + CLIENT_WINDOW_BYTES / BYTES as usize + 1, "{}", served());
    for _ in 0..ASKED {
        assert!(matches!(lane.answer(Kind::Fetch).await, Answer::Reply(Reply::Fetch(_))));
    }
    assert_eq!(served(), ASKED);
}

#[tokio::test]
async fn pushes_that_are_not_read_end_the_connection() {
    let server = start(|config| config.lane_queue_bytes_max = 4 << 10);
    let client = server.connect().await;
    let _control = client.hello().await;
    let session = server.echo.last_session();
    let (shard, subscription) = (ShardId(0), SubscriptionId(1));
    let why = Refusal::new(Code::ShuttingDown, "x".repeat(1_000));
    let push = Push::Ended(Ended { shard, subscription, why });
    // More than window and queue hold, without giving the writer a turn.
    for _ in 0..8 {
        session.push(0, &push);
    }
    assert_eq!(client.close_code().await, Some(Code::TooSlow));
}

#[tokio::test]
async fn large_batches_on_many_lanes_do_not_keep_each_other_out() {
    let server = start(|config| config.in_flight_bytes_max = 6 << 20);
    let client = server.connect().await;
    let _control = client.hello().await;
    let batch = batch(&vec![3; 4 << 20]);
    let (place, nodes, floor) = (AckPlace::Memory, AckNodes::One, Sequence(0));
    let mut tasks = Vec::new();
    for lane in 0..16 {
        let mut stream = client.open(Role::Data, lane).await;
        let produce = Request::Produce(Produce { place, nodes, floor, batch: batch.clone() });
        tasks.push(tokio::spawn(async move {
            for correlation in 1..=2 {
                stream.request(correlation, &produce).await;
                assert!(matches!(stream.answer(Kind::Produce).await, Answer::Reply(_)));
            }
        }));
    }
    for task in tasks {
        within(task).await.unwrap();
    }
    assert_eq!(server.echo.requests.load(SeqCst), 32);
}

#[tokio::test]
async fn a_limited_window_holds_for_a_few_lanes() {
    let check = async |limit: u32, lanes: u8, expected: std::ops::Range<u64>| {
        let server = start(|config| config.requests_in_flight_max = 1);
        server.echo.window_limit.store(limit, SeqCst);
        let client = server.connect().await;
        let mut control = client.hello().await;
        let mut streams = Vec::new();
        for lane in 0..lanes {
            streams.push(client.open(Role::Data, lane).await);
        }
        let session = server.echo.last_session();
        until(|| session.lanes_open() == u16::from(lanes)).await;
        // The first is not answered, so the rest is not read.
        let requests: Vec<u8> = (0..60_000).flat_map(|_| frame(0, &credit())).collect();
        let writing = tokio::spawn(async move { control.send.write_all(&requests).await });
        let sent = || client.connection.stats().udp_tx.bytes;
        let mut before = 0;
        while before != sent() {
            before = sent();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(expected.contains(&before), "{limit}, {lanes} lanes: {before} bytes");
        writing.abort();
    };
    let stream = 1_200_000..2_000_000;
    check(0, 1, stream.clone()).await;
    check(100_000, 1, 90_000..300_000).await;
    check(100_000, 3, 90_000..300_000).await;
    check(100_000, 4, stream).await;
}

#[tokio::test]
async fn a_frame_may_take_long_while_another_stream_is_not_read() {
    let server = start(|config| {
        config.requests_in_flight_max = 1;
        config.frame_grace_ms = 100;
    });
    let client = server.connect().await;
    let mut control = client.hello().await;
    let mut lane = client.open(Role::Data, 0).await;
    for _ in 0..2 {
        control.request(0, &credit()).await;
    }
    until(|| server.echo.held() == 1).await;
    let fetch = frame(7, &fetch(1));
    lane.raw(&fetch[..20]).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    lane.raw(&fetch[20..]).await;
    assert!(matches!(lane.answer(Kind::Fetch).await, Answer::Reply(Reply::Fetch(_))));
    lane.raw(&fetch[..20]).await;
    server.echo.answer_held();
    until(|| server.echo.held() == 1).await;
    server.echo.answer_held();
    assert_eq!(client.close_code().await, Some(Code::TooSlow));
}
