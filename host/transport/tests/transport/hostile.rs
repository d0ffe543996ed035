//! What a peer can do wrong, and the code that it gets for it.
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use yard_wire::batch;
use yard_wire::frame::{Class, Preamble, Role};
use yard_wire::operation::Operation;
use yard_wire::request::{Kind, Request};
use yard_wire::requests::{
    AckNodes, AckPlace, Call, Credit, Hello, Produce, Settle, SettleRange, Verdict,
};
use yard_wire::{Code, QueueIndex, QueueOffset, Sequence, ShardId, SubscriptionId, Wire, limits};

use crate::support::{Answer, Server, find_route, frame, hello, raw_frame, start, until};

/// What follows the bytes.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// The stream stays open, silent.
    Silence,
    /// The stream ends.
    Fin,
}
use Then::{Fin, Silence};

fn preamble(role: Role, lane: u8) -> Vec<u8> {
    Preamble { role, lane }.encode().to_vec()
}

fn with(mut bytes: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    bytes[at] = value;
    bytes
}

fn control_then(bytes: &[u8]) -> Vec<u8> {
    [preamble(Role::Control, 0), bytes.to_vec()].concat()
}

#[tokio::test]
async fn before_the_hello() {
    let server = start(|config| {
        config.preamble_ms = 150;
        config.handshake_ms = 2_000;
    });
    let check = async |name: &str, bytes: Vec<u8>, then: Then, code: Code| {
        let client = server.connect().await;
        let mut stream = client.open_silent().await;
        stream.raw(&bytes).await;
        if then == Fin {
            let _already_closed = stream.send.finish();
        }
        assert_eq!(client.close_code().await, Some(code), "{name}");
    };
    let good = preamble(Role::Control, 0);
    let first = frame(1, &hello());
    let too_large = Request::Hello(Hello {
        client: "x".repeat(limits::FRAME_BYTES_MAX_BEFORE_HELLO),
        library: String::new(),
        features: 0,
    });
    check("magic", with(good.clone(), 0, b'G'), Silence, Code::BadMagic).await;
    check("version", with(good.clone(), 4, 2), Silence, Code::BadVersion).await;
    check("role", with(good.clone(), 6, 2), Silence, Code::MalformedFrame).await;
    check("lane", preamble(Role::Data, 32), Silence, Code::MalformedFrame).await;
    check("data first", preamble(Role::Data, 0), Silence, Code::WrongStream).await;
    check("large", control_then(&frame(1, &too_large)), Silence, Code::FrameTooLarge).await;
    check("small", control_then(&15u32.to_le_bytes()), Silence, Code::MalformedFrame).await;
    check("frame version", control_then(&with(first.clone(), 7, 9)), Silence, Code::BadVersion)
        .await;
    check("no hello", control_then(&frame(1, &find_route("a"))), Silence, Code::HelloExpected)
        .await;
    check("not a request", control_then(&with(first.clone(), 6, 1)), Silence, Code::HelloExpected)
        .await;
    check(
        "hello's body",
        control_then(&with(first.clone(), 16, 99)),
        Silence,
        Code::MalformedFrame,
    )
    .await;
    check("end in preamble", good[..3].to_vec(), Fin, Code::MalformedFrame).await;
    check("end before hello", good.clone(), Fin, Code::HelloExpected).await;
    check("half a preamble", good[..3].to_vec(), Silence, Code::TooSlow).await;
    check("no hello ever", good.clone(), Silence, Code::TooSlow).await;
    check("half a hello", control_then(&first[..20]), Silence, Code::TooSlow).await;
    assert_eq!(server.echo.sessions.lock().unwrap().len(), 0);
    assert_eq!(server.transport.counts().panics, 0);
}

#[tokio::test]
async fn a_connection_without_a_stream_is_closed() {
    let server = start(|config| config.handshake_ms = 150);
    let client = server.connect().await;
    assert_eq!(client.close_code().await, Some(Code::TooSlow));
}

#[tokio::test]
async fn a_frame_may_be_slow_but_must_go_on() {
    const GRACE_MS: u32 = 500;
    let server = start(|config| {
        config.frame_grace_ms = GRACE_MS;
        config.frame_rate_min = 1 << 10;
    });
    let large = produce(crate::support::batch(&[1; 4 << 10]).to_vec());
    let client = server.connect().await;
    let _control = client.hello().await;
    let mut lane = client.open(Role::Data, 0).await;
    // Longer than the grace, but five times as fast as it must be.
    for piece in large.chunks(512) {
        lane.raw(piece).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(matches!(lane.answer(Kind::Produce).await, Answer::Reply(_)));
    // What came fast does not buy time for what does not come.
    lane.raw(&large[..large.len() - 1]).await;
    let begun = Instant::now();
    assert_eq!(client.close_code().await, Some(Code::TooSlow));
    assert!(begun.elapsed() < 6 * Duration::from_millis(GRACE_MS.into()));
}

/// Where bytes go, after the hello.
#[derive(Clone, Copy)]
enum To {
    Control,
    Lane,
}

async fn send_to(server: &Server, to: To, bytes: &[u8], then: Then, expect: Expect, name: &str) {
    let client = server.connect().await;
    let mut control = client.hello().await;
    let mut lane = client.open(Role::Data, 0).await;
    let stream = match to {
        To::Control => &mut control,
        To::Lane => &mut lane,
    };
    stream.raw(bytes).await;
    if then == Fin {
        let _already_closed = stream.send.finish();
    }
    match expect {
        Expect::Closed(code) => assert_eq!(client.close_code().await, Some(code), "{name}"),
        Expect::Refused(code) => {
            let answer = stream.answer(Kind::FindRoute).await;
            assert_eq!(answer, Answer::Refusal(code), "{name}");
            assert!(control.is_answered(77).await, "{name}: the connection goes on");
        }
    }
}

enum Expect {
    Closed(Code),
    Refused(Code),
}
use Expect::{Closed, Refused};

fn produce(batch: Vec<u8>) -> Vec<u8> {
    let (place, nodes, floor) = (AckPlace::Synced, AckNodes::One, Sequence(0));
    frame(5, &Request::Produce(Produce { place, nodes, floor, batch: batch.into() }))
}

fn call(operation: u16) -> Vec<u8> {
    frame(5, &Request::Call(Call { operation, args: bytes::Bytes::new() }))
}

fn credit(correlation: u64) -> Vec<u8> {
    let (shard, subscription) = (ShardId(0), SubscriptionId(1));
    frame(correlation, &Request::Credit(Credit { shard, subscription, messages: 1, bytes: 1 }))
}

#[tokio::test]
async fn refused_while_the_connection_goes_on() {
    let server = start(|_| {});
    let check = async |name: &str, to: To, bytes: Vec<u8>, code: Code| {
        send_to(&server, to, &bytes, Silence, Refused(code), name).await;
    };
    let batch = crate::support::batch(b"body").to_vec();
    let end = batch.len() - 1;
    let unknown = raw_frame(999, Class::Request, 5, &|_| {});
    let route = frame(5, &find_route("a"));
    let mut longer = batch.clone();
    longer.push(0);
    check("unknown", To::Control, unknown.clone(), Code::UnknownRequest).await;
    check("unknown on lane", To::Lane, unknown, Code::UnknownRequest).await;
    check("produce on control", To::Control, produce(batch.clone()), Code::WrongStream).await;
    check("route on lane", To::Lane, route.clone(), Code::WrongStream).await;
    check("second hello", To::Control, frame(5, &hello()), Code::WrongStream).await;
    check("count lies", To::Control, with(route.clone(), 16, 200), Code::MalformedFrame).await;
    let trailing = raw_frame(Kind::FindRoute as u16, Class::Request, 5, &|out| {
        0u32.put(out);
        out.push(1);
    });
    check("trailing", To::Control, trailing, Code::MalformedFrame).await;
    check("no operation", To::Control, call(60_000), Code::UnknownRequest).await;
    let tenants = call(Operation::TenantLs as u16);
    check("not an operator", To::Control, tenants, Code::Forbidden).await;
    check("no batch", To::Lane, produce(vec![]), Code::MalformedBatch).await;
    check("magic", To::Lane, produce(with(batch.clone(), 8, 0)), Code::MalformedBatch).await;
    check("longer", To::Lane, produce(longer), Code::MalformedBatch).await;
    check("header", To::Lane, produce(with(batch.clone(), 16, 9)), Code::BadChecksum).await;
    check("body", To::Lane, produce(with(batch.clone(), end, 9)), Code::BadChecksum).await;
    let record = batch::HEADER_BYTES + 14;
    check("record", To::Lane, produce(with(batch.clone(), record, 9)), Code::BadChecksum).await;
    assert_eq!(server.transport.counts().closed_by_code, 0);
}

#[tokio::test]
async fn closed_because_the_protocol_is_broken() {
    let server = start(|config| config.frame_grace_ms = 150);
    let check = async |name: &str, to: To, bytes: Vec<u8>, then: Then, code: Code| {
        send_to(&server, to, &bytes, then, Closed(code), name).await;
    };
    let route = frame(5, &find_route("a"));
    let reply = raw_frame(2, Class::Reply, 5, &|_| {});
    let large = (limits::FRAME_BYTES_MAX as u32 + 1).to_le_bytes().to_vec();
    let broken = Code::MalformedFrame;
    check("large", To::Control, large.clone(), Silence, Code::FrameTooLarge).await;
    check("large on lane", To::Lane, large, Silence, Code::FrameTooLarge).await;
    check("small", To::Lane, 3u32.to_le_bytes().to_vec(), Silence, broken).await;
    check("version", To::Lane, with(route.clone(), 7, 0), Silence, Code::BadVersion).await;
    check("class", To::Lane, with(route.clone(), 6, 4), Silence, broken).await;
    check("a reply", To::Control, reply, Silence, broken).await;
    check("truncated", To::Control, route[..20].to_vec(), Fin, broken).await;
    check("truncated on lane", To::Lane, route[..3].to_vec(), Fin, broken).await;
    check("slow", To::Control, route[..20].to_vec(), Silence, Code::TooSlow).await;
    check("slow on lane", To::Lane, route[..1].to_vec(), Silence, Code::TooSlow).await;
    let twice = [credit(9), credit(9)].concat();
    check("correlation twice", To::Control, twice, Silence, broken).await;
}

#[tokio::test]
async fn a_peer_that_lets_no_answer_in_does_not_stay() {
    let server = start(|config| config.preamble_ms = 150);
    let check = async |identity: Option<(String, String)>, code: Code, sessions: usize| {
        let mut settings = quinn::TransportConfig::default();
        settings.stream_receive_window(0u32.into());
        let client = server.connect_as(identity, settings).await.unwrap();
        let mut control = client.open(Role::Control, 0).await;
        control.request(1, &hello()).await;
        assert_eq!(client.close_code().await, Some(code));
        until(|| server.transport.counts().open == 0).await;
        assert_eq!(server.echo.sessions.lock().unwrap().len(), sessions, "{code:?}");
        assert_eq!(server.echo.closed.load(SeqCst), sessions, "{code:?}");
    };
    check(None, Code::NoCertificate, 0).await;
    check(Some(server.tenant("acme", false)), Code::TooSlow, 1).await;
}

#[tokio::test]
async fn streams_that_may_not_be_opened() {
    let server = start(|config| {
        config.lanes_max = 2;
        config.preamble_ms = 150;
    });
    let check = async |name: &str, bytes: &[u8], then: Then, code: Code| {
        let client = server.connect().await;
        let _control = client.hello().await;
        let mut lane = client.open(Role::Data, 0).await;
        let ranges = vec![SettleRange {
            queue: QueueIndex(0),
            from: QueueOffset(0),
            to: QueueOffset(1),
            attempt: 1,
            verdict: Verdict::Ack,
            delay_ms: None,
            error: None,
        }];
        let (shard, subscription) = (ShardId(0), SubscriptionId(1));
        lane.request(3, &Request::Settle(Settle { shard, subscription, ranges })).await;
        assert!(matches!(lane.answer(Kind::Settle).await, Answer::Reply(_)), "{name}");
        let mut other = client.open_silent().await;
        other.raw(bytes).await;
        if then == Fin {
            let _already_closed = other.send.finish();
        }
        assert_eq!(client.close_code().await, Some(code), "{name}");
    };
    check("second control", &preamble(Role::Control, 0), Silence, Code::WrongStream).await;
    check("same lane", &preamble(Role::Data, 0), Silence, Code::WrongStream).await;
    check("no such lane", &preamble(Role::Data, 2), Silence, Code::WrongStream).await;
    check("magic", b"GET / HTTP/1.1\r\n", Silence, Code::BadMagic).await;
    check("half", b"YAR", Silence, Code::TooSlow).await;
    check("ended", b"YAR", Fin, Code::MalformedFrame).await;
}
