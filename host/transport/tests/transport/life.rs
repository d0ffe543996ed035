//! How connections live and end.
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use yard_wire::frame::Role;
use yard_wire::request::{Kind, Reply, Request};
use yard_wire::requests::{AckNodes, AckPlace, Produce, Settle};
use yard_wire::{Code, Refusal, Sequence, ShardId, SubscriptionId};

use crate::support::{Answer, PANIC, SLOW, batch, find_route, start, until, within};

#[tokio::test]
async fn requests_are_answered_on_their_stream() {
    let server = start(|_| {});
    let client = server.connect().await;
    let mut control = client.hello().await;
    let session = server.echo.last_session();
    assert!(session.round_trip_us() > 0);
    let mut lanes = Vec::new();
    for lane in 0..3u8 {
        let mut stream = client.open(Role::Data, lane).await;
        let (place, nodes, floor) = (AckPlace::Written, AckNodes::One, Sequence(0));
        let produce = Produce { place, nodes, floor, batch: batch(b"body") };
        stream.request(40, &Request::Produce(produce)).await;
        let Answer::Reply(Reply::Produce(produced)) = stream.answer(Kind::Produce).await else {
            panic!("refused")
        };
        assert_eq!(produced.place, place);
        assert_eq!(session.lanes_open(), u16::from(lane) + 1);
        lanes.push(stream);
    }
    // The client has sent all on lane 1: the lane ends, and deliveries keep to lane 0.
    lanes[1].send.finish().unwrap();
    assert_eq!(lanes[1].frame().await, None);
    assert_eq!(session.lanes_open(), 1);
    assert!(control.is_answered(41).await);
    // The control stream's end is the connection's.
    control.send.finish().unwrap();
    assert_eq!(client.close_code().await, None, "an ordered end has code 0");
    until(|| server.echo.closed.load(SeqCst) == 1).await;
}

#[tokio::test]
async fn lanes_count_from_the_first() {
    let server = start(|_| {});
    let client = server.connect().await;
    let _control = client.hello().await;
    let session = server.echo.last_session();
    let mut second = client.open(Role::Data, 1).await;
    let settle = Settle { shard: ShardId(0), subscription: SubscriptionId(1), ranges: vec![] };
    second.request(2, &Request::Settle(settle)).await;
    assert!(matches!(second.answer(Kind::Settle).await, Answer::Reply(_)));
    assert_eq!(session.lanes_open(), 0);
    let _first = client.open(Role::Data, 0).await;
    until(|| session.lanes_open() == 2).await;
}

#[tokio::test]
async fn a_panic_ends_one_connection() {
    let server = start(|_| {});
    let (one, other) = (server.connect().await, server.connect().await);
    let (mut bad, mut good) = (one.hello().await, other.hello().await);
    bad.request(2, &find_route(PANIC)).await;
    assert_eq!(one.close_code().await, Some(Code::Internal));
    until(|| server.echo.closed.load(SeqCst) == 1).await;
    assert!(good.is_answered(3).await);
    assert_eq!(server.transport.counts().panics, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_farewell_comes_after_the_last_request() {
    let server = start(|_| {});
    let client = server.connect().await;
    let mut control = client.hello().await;
    control.request(2, &find_route(SLOW)).await;
    until(|| server.echo.requests.load(SeqCst) == 1).await;
    client.connection.close(0u32.into(), b"");
    until(|| server.echo.slow.load(SeqCst) == 1 && server.echo.closed.load(SeqCst) == 1).await;
    assert_eq!(server.echo.closed_before_slow.load(SeqCst), 0);
}

#[tokio::test]
async fn a_session_can_be_closed_with_a_code() {
    let server = start(|_| {});
    let client = server.connect().await;
    let _control = client.hello().await;
    server.echo.last_session().close(&Refusal::from(Code::UnknownTenant));
    assert_eq!(client.close_code().await, Some(Code::UnknownTenant));
    until(|| server.echo.closed.load(SeqCst) == 1).await;
}

#[tokio::test]
async fn a_shutdown_tells_everybody_and_takes_no_longer_than_it_says() {
    let server = start(|_| {});
    let mut clients = Vec::new();
    for _ in 0..5 {
        let client = server.connect().await;
        let control = client.hello().await;
        clients.push((client, control));
    }
    let silent = server.connect().await;
    let begun = Instant::now();
    server.transport.shutdown(&Refusal::from(Code::ShuttingDown)).await;
    assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
    for (client, _) in &clients {
        assert_eq!(client.close_code().await, Some(Code::ShuttingDown));
    }
    // Without a hello its handshake may still have been under way, where QUIC carries no code.
    within(silent.connection.closed()).await;
    assert_eq!(server.echo.closed.load(SeqCst), clients.len(), "each session, by then");
}

#[tokio::test]
async fn there_is_room_for_so_many_connections() {
    let server = start(|config| config.connections_max = 2);
    let clients = [server.connect().await, server.connect().await];
    let third = server.connect_with(Some(server.tenant("acme", false))).await;
    assert!(matches!(third, Err(quinn::ConnectionError::ConnectionClosed(_))));
    assert_eq!(server.transport.counts().refused, 1);
    clients[0].connection.close(0u32.into(), b"");
    until(|| server.transport.counts().open < 2).await;
    let _fourth = server.connect().await;
}

#[tokio::test]
async fn under_a_flood_addresses_prove_themselves_first() {
    let server = start(|config| config.handshakes_before_retry = 0);
    let client = server.connect().await;
    assert!(client.hello().await.is_answered(2).await);
    let counts = server.transport.counts();
    assert_eq!((counts.retried, counts.accepted), (1, 1));
}

#[tokio::test]
async fn a_connection_survives_a_change_of_address() {
    let server = start(|_| {});
    let client = server.connect().await;
    let mut control = client.hello().await;
    let session = server.echo.last_session();
    let before = session.address();
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let after = socket.local_addr().unwrap();
    client.endpoint.rebind(socket).unwrap();
    assert!(control.is_answered(2).await);
    assert_ne!(before, after);
    until(|| session.address() == after).await;
}
