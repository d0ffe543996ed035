//! Whatever a peer sends: an exact code, a broker that goes on, and nothing stored.
use bytes::Bytes;
use yard_client::wire::batch::{self, BatchHeader};
use yard_client::wire::frame::{self, Class, Preamble, Role};
use yard_client::wire::operation::{Operation, TopicCreate};
use yard_client::wire::record::RecordParts;
use yard_client::wire::request::Request;
use yard_client::wire::requests::{
    AckNodes, AckPlace, Call, Fetch, FindRoute, Hello, Produce, Settle, Start, Subscribe,
};
use yard_client::wire::{
    Correlation, ProducerId, QueueIndex, QueueOffset, Sequence, ShardId, SubscriptionId, TopicId,
    Wire, limits,
};
use yard_client::{Client, Code, Context};
use yard_it::raw::{Answer, Raw, RawStream, RawWindows, produce, record, request_bytes};
use yard_it::tenant;

use super::local::*;

/// Where the bytes of a case go.
enum To {
    /// On the first stream of a connection, from its first byte on.
    First,
    /// On the control stream, after the hello.
    Control,
    /// On a data stream, after its preamble.
    Data,
    /// On a second stream, from its first byte on.
    Second,
}

struct Case {
    name: &'static str,
    to: To,
    bytes: Vec<u8>,
    /// Whether the stream ends after the bytes.
    finish: bool,
    code: Code,
}

fn case(name: &'static str, to: To, bytes: Vec<u8>, code: Code) -> Case {
    Case { name, to, bytes, finish: false, code }
}

fn ended(name: &'static str, to: To, bytes: Vec<u8>, code: Code) -> Case {
    Case { name, to, bytes, finish: true, code }
}

const CONTROL: Preamble = Preamble { role: Role::Control, lane: 0 };

/// A frame with these contents.
fn frame(kind: u16, class: Class, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::encode_with(kind, class, Correlation(5), &mut out, |out| out.extend_from_slice(body));
    out
}

fn changed(mut bytes: Vec<u8>, at: usize, to: u8) -> Vec<u8> {
    assert_ne!(bytes[at], to, "nothing would be changed");
    bytes[at] = to;
    bytes
}

fn after(preamble: Preamble, rest: &[u8]) -> Vec<u8> {
    [&preamble.encode()[..], rest].concat()
}

fn hello(client: &str) -> Vec<u8> {
    let (client, library) = (client.to_owned(), String::new());
    request_bytes(1, &Request::Hello(Hello { client, library, features: 0 }))
}

fn before_the_hello() -> Vec<Case> {
    use Code::*;
    let preamble = |at, to| changed(CONTROL.encode().to_vec(), at, to);
    let route = request_bytes(1, &Request::FindRoute(FindRoute { topics: Vec::new() }));
    let large = 5_000u32.to_le_bytes();
    let data = Preamble { role: Role::Data, lane: 0 };
    vec![
        case("another protocol", To::First, b"GET / HTTP/1.1\r\n\r\n".to_vec(), BadMagic),
        case("wrong magic", To::First, preamble(3, b'X'), BadMagic),
        case("wrong version", To::First, preamble(4, 2), BadVersion),
        case("unknown role", To::First, preamble(6, 7), MalformedFrame),
        case("lane out of bounds", To::First, preamble(7, 32), MalformedFrame),
        ended("half a preamble", To::First, CONTROL.encode()[..5].to_vec(), MalformedFrame),
        case("a data stream first", To::First, after(data, &[]), WrongStream),
        case("no hello first", To::First, after(CONTROL, &route), HelloExpected),
        ended("nothing after the preamble", To::First, after(CONTROL, &[]), HelloExpected),
        case("a frame before the hello", To::First, after(CONTROL, &large), FrameTooLarge),
        case("a frame version", To::First, after(CONTROL, &changed(hello("x"), 7, 9)), BadVersion),
        case(
            "a hello with more in it",
            To::First,
            after(CONTROL, &frame(1, Class::Request, &[0xff; 40])),
            MalformedFrame,
        ),
        case("a long name", To::First, after(CONTROL, &hello(&"x".repeat(128))), BadArgument),
    ]
}

fn frames() -> Vec<Case> {
    use Code::*;
    let fetch = |topic: &str| {
        let topic = topic.to_owned();
        let (shard, queue, from) = (ShardId(0), QueueIndex(0), QueueOffset(0));
        let fetch = Fetch { shard, topic, queue, from, records_max: 1, bytes_max: 1 };
        request_bytes(5, &Request::Fetch(fetch))
    };
    let good = fetch("orders");
    let too_large = (limits::FRAME_BYTES_MAX as u32 + 1).to_le_bytes().to_vec();
    let mut lying = good.clone();
    lying[..4].copy_from_slice(&(good.len() as u32 + 9).to_le_bytes());
    let mut text_lies = good.clone();
    // The length of the topic's name, after header and shard.
    let at = frame::HEADER_BYTES + 2;
    text_lies[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let trailing = {
        let body = &good[frame::HEADER_BYTES..];
        frame(18, Class::Request, &[body, b"more"].concat())
    };
    vec![
        case("a frame larger than allowed", To::Data, too_large.clone(), FrameTooLarge),
        case("the same on the control stream", To::Control, too_large, FrameTooLarge),
        case("a frame of 2 GiB", To::Data, vec![0xff, 0xff, 0xff, 0x7f], FrameTooLarge),
        case("less than its header", To::Data, 15u32.to_le_bytes().to_vec(), MalformedFrame),
        ended("a length that lies", To::Data, lying, MalformedFrame),
        ended("half a frame", To::Data, good[..good.len() / 2].to_vec(), MalformedFrame),
        ended("half a header", To::Data, good[..3].to_vec(), MalformedFrame),
        case("a text that lies", To::Data, text_lies, MalformedFrame),
        case("bytes behind the request", To::Data, trailing, MalformedFrame),
        case("wrong frame version", To::Data, changed(good.clone(), 7, 2), BadVersion),
        case("unknown class", To::Data, changed(good.clone(), 6, 9), MalformedFrame),
        case("a reply from a client", To::Data, changed(good.clone(), 6, 1), MalformedFrame),
        case("unknown request", To::Data, frame(999, Class::Request, b""), UnknownRequest),
        case("on the wrong stream", To::Control, good, WrongStream),
        case("hello again", To::Control, hello("again"), WrongStream),
        case("a second control stream", To::Second, after(CONTROL, &[]), WrongStream),
        case(
            "a lane opened twice",
            To::Second,
            after(Preamble { role: Role::Data, lane: 0 }, &[]),
            WrongStream,
        ),
        case("unknown topic", To::Data, fetch("others"), UnknownTopic),
        case("a topic's name with /", To::Data, fetch("../orders"), UnknownTopic),
    ]
}

fn names() -> Vec<Case> {
    use Code::*;
    let call =
        |operation: u16, args: Bytes| request_bytes(5, &Request::Call(Call { operation, args }));
    let topic = |name: &str| {
        let create = TopicCreate { name: name.to_owned(), queues: 1, ..TopicCreate::default() };
        call(Operation::TopicCreate as u16, create.to_bytes())
    };
    let subscribe = |group: &str, lease_ms: u32| {
        request_bytes(
            5,
            &Request::Subscribe(Subscribe {
                shard: ShardId(0),
                group: group.to_owned(),
                topic: "orders".to_owned(),
                member: "m".to_owned(),
                start: Start::Earliest,
                expression: None,
                exclusive: false,
                lease_ms,
                messages: 1,
                bytes: 1,
            }),
        )
    };
    let settle = request_bytes(
        5,
        &Request::Settle(Settle {
            shard: ShardId(0),
            subscription: SubscriptionId(77),
            ranges: Vec::new(),
        }),
    );
    let route = FindRoute { topics: vec![String::new(); limits::ROUTE_TOPICS_MAX + 1] };
    vec![
        case("a name with /", To::Control, topic("a/b"), BadName),
        case("a name with a control character", To::Control, topic("a\u{1b}[2J"), BadName),
        case("a name with a zero", To::Control, topic("a\0"), BadName),
        case("an empty name", To::Control, topic(""), BadName),
        case(
            "arguments cut short",
            To::Control,
            call(Operation::TopicCreate as u16, Bytes::from_static(b"\x05")),
            MalformedFrame,
        ),
        case("unknown operation", To::Control, call(999, Bytes::new()), UnknownRequest),
        case("a group's name with /", To::Control, subscribe("a/b", 30_000), BadName),
        case("a group's name with a line end", To::Control, subscribe("a\n", 30_000), BadName),
        case("a lease too short", To::Control, subscribe("g", 999), BadArgument),
        case("a lease too long", To::Control, subscribe("g", u32::MAX), BadArgument),
        case("somebody's subscription", To::Data, settle, UnknownSubscription),
        case(
            "too many routes",
            To::Control,
            request_bytes(5, &Request::FindRoute(route)),
            BadArgument,
        ),
    ]
}

/// A batch of one lane of one producer.
fn batch(shard: u16, count: usize, records: &[u8]) -> Bytes {
    let header = BatchHeader {
        producer: ProducerId(4_711),
        shard: ShardId(shard),
        ..BatchHeader::default()
    };
    batch::encode(&header, count, records)
}

/// A record whose limits nobody checks: of these property values and this body.
fn unchecked(topic: TopicId, values: &[&str], body: &[u8]) -> Vec<u8> {
    let mut out = record(topic, 0, b"").unwrap();
    for value in values {
        out.extend_from_slice(&1u16.to_le_bytes());
        out.extend_from_slice(&(value.len() as u16).to_le_bytes());
        out.push(b'p');
        out.extend_from_slice(value.as_bytes());
    }
    let body_at = out.len();
    out.extend_from_slice(body);
    let length = out.len() as u32;
    out[..4].copy_from_slice(&length.to_le_bytes());
    out[44..46].copy_from_slice(&(values.len() as u16).to_le_bytes());
    out[46..50].copy_from_slice(&(body.len() as u32).to_le_bytes());
    out[76..80].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out[..72]), &out[76..body_at]);
    out[72..76].copy_from_slice(&crc.to_le_bytes());
    out
}

fn batches(own: TopicId, foreign: TopicId) -> Vec<Case> {
    use Code::*;
    let sent = |batch: Bytes| request_bytes(5, &produce(batch));
    let one = |topic, queue| batch(0, 1, &record(topic, queue, b"body").unwrap());
    let good = one(own, 0).to_vec();
    let flipped = |at: usize| sent(changed(good.clone(), at, good[at] ^ 1).into());
    let nodes = |nodes| {
        let (place, floor) = (AckPlace::Memory, Sequence(0));
        request_bytes(5, &Request::Produce(Produce { place, nodes, floor, batch: one(own, 0) }))
    };
    let worded = |tag: &str, properties: &[(&str, &str)]| {
        let mut out = Vec::new();
        let parts = RecordParts { topic: own, tag, properties, ..RecordParts::default() };
        parts.encode(&mut out).unwrap();
        batch(0, 1, &out)
    };
    let long = "x".repeat(40_000);
    let body = vec![7; limits::BODY_BYTES_MAX + 1];
    let two = record(own, 0, b"a").unwrap();
    vec![
        case("a flipped bit in the batch's header", To::Data, flipped(20), BadChecksum),
        case("a flipped bit in a record's header", To::Data, flipped(48 + 60), BadChecksum),
        case("a flipped bit in a body", To::Data, flipped(good.len() - 1), BadChecksum),
        case("no batch at all", To::Data, sent(Bytes::from_static(b"batch")), MalformedBatch),
        case("an empty batch", To::Data, sent(Bytes::new()), MalformedBatch),
        case("wrong batch magic", To::Data, flipped(8), MalformedBatch),
        case("wrong batch version", To::Data, flipped(10), MalformedBatch),
        case(
            "half a batch",
            To::Data,
            sent(good[..good.len() / 2].to_vec().into()),
            MalformedBatch,
        ),
        case("a count that lies", To::Data, sent(batch(0, 2, &two)), MalformedBatch),
        case(
            "records behind the count",
            To::Data,
            sent(batch(0, 1, &[two.clone(), two.clone()].concat())),
            MalformedBatch,
        ),
        case("unknown topic id", To::Data, sent(one(TopicId(9_999), 0)), UnknownTopic),
        case("a foreign tenant's topic id", To::Data, sent(one(foreign, 0)), UnknownTopic),
        case("queue out of range", To::Data, sent(one(own, 1)), QueueOutOfRange),
        case(
            "a shard that is not there",
            To::Data,
            sent(batch(9, 1, &record(own, 0, b"").unwrap())),
            WrongShard,
        ),
        case(
            "a good record before a bad one",
            To::Data,
            sent(batch(0, 2, &[two.clone(), record(own, 7, b"").unwrap()].concat())),
            QueueOutOfRange,
        ),
        case(
            "a body over 4 MiB",
            To::Data,
            sent(batch(0, 1, &unchecked(own, &[], &body))),
            BodyTooLarge,
        ),
        case(
            "properties over 64 KiB",
            To::Data,
            sent(batch(0, 1, &unchecked(own, &[&long, &long], b""))),
            PropertiesTooLarge,
        ),
        case(
            "a name of the system's",
            To::Data,
            sent(worded("", &[("$dead.reason", "x")])),
            ReservedProperty,
        ),
        case(
            "a mark of the broker",
            To::Data,
            sent(worded("", &[("$replaced", "p/1")])),
            ReservedProperty,
        ),
        case("a tag with a bar", To::Data, sent(worded("a|b", &[])), BadTag),
        case("a blank tag", To::Data, sent(worded(" ", &[])), BadTag),
        case("quorum on a single node", To::Data, nodes(AckNodes::Quorum), AckUnavailable),
        case("all of a single node", To::Data, nodes(AckNodes::All), AckUnavailable),
    ]
}

/// The code of the refusal, or of the connection's end.
async fn outcome(what: &str, raw: &Raw, stream: &mut RawStream) -> Option<Code> {
    match stream.answer().await.unwrap() {
        Answer::Refused(refusal) => Some(refusal.code),
        Answer::Closed(code) => code,
        Answer::Finished => raw.closed().await.unwrap(),
        other => panic!("{what}: it was accepted: {other:?}"),
    }
}

async fn check(context: &Context, case: &Case) {
    let raw = Raw::connect(context, RawWindows::default()).await.unwrap();
    let found = if let To::First = case.to {
        let mut stream = raw.open(&case.bytes).await.unwrap();
        if case.finish {
            stream.finish();
        }
        outcome(case.name, &raw, &mut stream).await
    } else {
        let (mut control, mut data, _) = raw.welcomed().await.unwrap();
        let mut second;
        let stream = match case.to {
            To::Control => &mut control,
            To::Data => &mut data,
            To::Second | To::First => {
                // The lane must be open at the broker before it can be opened twice.
                let route = Request::FindRoute(FindRoute { topics: Vec::new() });
                assert!(data.ask(1, &route).await.unwrap().code() == Some(Code::WrongStream));
                second = raw.open(&[]).await.unwrap();
                &mut second
            }
        };
        stream.send(&case.bytes).await;
        if case.finish {
            stream.finish();
        }
        outcome(case.name, &raw, stream).await
    };
    assert_eq!(found, Some(case.code), "{}", case.name);
    raw.close();
}

async fn stored(client: &Client) -> usize {
    fetch_all(client, "orders").await.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_gets_its_code_and_changes_nothing() {
    let broker = Broker::start().await;
    let operator = broker.client().await;
    let own = create(&operator, "orders", 1).await.id;
    let acme = tenant::add(&operator, &broker.context(), "acme", false).await.unwrap();
    let acme = client_of(acme).await;
    let foreign = create(&acme, "orders", 1).await.id;
    let cases =
        [before_the_hello(), frames(), names(), batches(own, foreign)].into_iter().flatten();
    for case in cases {
        check(&broker.context(), &case).await;
        // The broker is alive, and nothing was stored, in whoever's topic.
        assert_eq!((stored(&operator).await, stored(&acme).await), (0, 0), "{}", case.name);
    }
    // What is good is stored after all of it.
    send_all(&operator, "orders", vec!["good".into()]).await;
    assert_eq!((stored(&operator).await, stored(&acme).await), (1, 0));
    acme.close().await;
    operator.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_with_nonsense_leave_the_broker_well() {
    let broker = Broker::start().await;
    let operator = broker.client().await;
    create(&operator, "orders", 1).await;
    let mut random = yard_it::Seeded::new(7);
    for _ in 0..100 {
        let raw = Raw::connect(&broker.context(), RawWindows::default()).await.unwrap();
        let (_control, mut data, _) = raw.welcomed().await.unwrap();
        let mut bytes: Vec<u8> =
            (0..random.within(1..2_000)).map(|_| random.next_u64() as u8).collect();
        if random.once_in(2) && bytes.len() >= frame::HEADER_BYTES {
            // A header that is right, so that what is behind it is looked at.
            let length = bytes.len() as u32;
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            bytes[4..8].copy_from_slice(&[random.within(16..19) as u8, 0, 0, 1]);
        }
        data.send(&bytes).await;
        data.finish();
        assert!(outcome("nonsense", &raw, &mut data).await.is_some(), "a code for each");
        raw.close();
    }
    assert_eq!(stored(&operator).await, 0);
    operator.close().await;
}
