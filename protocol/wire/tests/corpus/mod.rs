//! One well-formed frame, or more, of everything that travels.
use bytes::Bytes;
use yard_wire::batch::{self, BatchHeader};
use yard_wire::frame::{Class, encode_with};
use yard_wire::operation::{Operate, Operation, PluginPush, Presence, TopicRm, TopicRow};
use yard_wire::order::{AfterLast, OrderRetry, TopicType};
use yard_wire::plugin::{Blob, SIGNATURE_BYTES};
use yard_wire::plugin_use::{PluginChoice, PluginUse};
use yard_wire::record::{Flags, KEY, ORDER, RecordParts};
use yard_wire::request::{Kind, Push, Reply, Request};
use yard_wire::requests::*;
use yard_wire::share::Share;
use yard_wire::units::{AgeLimit, CountLimit, SizeLimit};
use yard_wire::{
    Code, Correlation, Epoch, Lane, MessageId, ProducerId, QueueIndex, QueueOffset, Refusal,
    Sequence, ShardId, SubscriptionId, TenantId, Timestamp, TopicId, TxId, Wire,
};

/// Where the batch begins in the body of a produce request.
pub(crate) const BATCH_AT: usize = 1 + 1 + 8 + 4;

const SHARD: ShardId = ShardId(3);
const QUEUE: QueueIndex = QueueIndex(5);
const SUBSCRIPTION: SubscriptionId = SubscriptionId(77);
const STORED: Timestamp = Timestamp(1_700_000_000_123);
const TRANSACTION: TxId =
    TxId { coordinator: SHARD, producer: ProducerId(0x8f14), epoch: Epoch(1), number: 42 };

/// Every frame, encoded.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for request in requests() {
        let kind = request.kind() as u16;
        frames.push(frame(kind, Class::Request, |out| request.put_body(out)));
    }
    for reply in replies() {
        frames.push(frame(reply.kind() as u16, Class::Reply, |out| reply.put_body(out)));
    }
    for push in pushes() {
        frames.push(frame(push.number(), Class::Push, |out| push.put_body(out)));
    }
    let refusal = Refusal::after(Code::Busy, 50, "the queue of this tenant is full");
    frames.push(frame(16, Class::Refusal, |out| refusal.put(out)));
    let kinds: Vec<Kind> = requests().iter().map(Request::kind).collect();
    assert!(Kind::ALL.iter().all(|kind| kinds.contains(kind)), "every request is in the corpus");
    let kinds: Vec<Kind> = replies().iter().map(Reply::kind).collect();
    assert!(Kind::ALL.iter().all(|kind| kinds.contains(kind)), "every reply is in the corpus");
    frames
}

fn frame(kind: u16, class: Class, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode_with(kind, class, Correlation(0x0102_0304), &mut out, body);
    out
}

fn record(tag: &str, properties: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let parts = RecordParts {
        topic: TopicId(9),
        queue: QUEUE,
        id: MessageId::new(STORED, 0x1234_5678_9abc),
        born: STORED,
        flags: Flags::NONE,
        tag,
        properties,
        body,
    };
    let mut out = Vec::new();
    parts.encode(&mut out).unwrap();
    out
}

fn batch(records: &[Vec<u8>]) -> Bytes {
    let header = BatchHeader {
        producer: ProducerId(0x1122_3344_5566_7788),
        epoch: Epoch(2),
        lane: Lane(4),
        shard: SHARD,
        sequence: Sequence(1_000),
    };
    batch::encode(&header, records.len(), &records.concat())
}

fn produce(records: &[Vec<u8>]) -> Request {
    let (place, nodes, floor) = (AckPlace::Synced, AckNodes::One, Sequence(990));
    let request = Produce { place, nodes, floor, batch: batch(records) };
    assert_eq!(&request.to_bytes()[BATCH_AT..], &request.batch[..]);
    Request::Produce(request)
}

const KEY_TEXT: &str = "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29";

fn push() -> PluginPush {
    let wasm = Blob(Bytes::from_static(b"\0asm\x0d\0\x01\0"));
    let sign = Some(Blob(Bytes::from(vec![7; SIGNATURE_BYTES])));
    PluginPush { wasm, sign, inactive: true }
}

/// A call of each operation, with arguments of the kinds that it takes.
fn calls() -> impl Iterator<Item = Request> {
    Operation::ALL.iter().map(|operation| {
        let written = |name: &str| {
            let field = operation.fields().iter().find(|field| field.name == name)?;
            let text = match field.kind {
                "NUMBER" | "NUMBER|none" | "NUMBER|unlimited" => "12",
                "DURATION|none" => "12h",
                "SIZE|none" => "12MiB",
                "levels|exponential|DELAYS|plugin:NAME" => "1s,1m",
                "PLUGIN|none" => "redact(remove=card)",
                "native|plugin:NAME" => "plugin:txn-check(ask=TRUE)",
                "DURATION" => "12s",
                "normal|ordered" => "ordered",
                "go-on|stop" => "stop",
                "retry|bury" => "bury",
                "true|false" => "true",
                "ID" => "0197f3a2b4c5d6e7f8091a2b3c4d5e6f",
                "TRANSACTION" => "0001-8f14e45fceea167a-00000000-000000000000002a",
                "SHARE" => "0.01",
                "64 HEX DIGITS" => KEY_TEXT,
                _ => "some-text",
            };
            (field.presence != Presence::Switch).then(|| text.to_owned())
        };
        let args = match operation {
            // Its file is not written as a text.
            Operation::PluginPush => push().to_bytes(),
            operation => operation.encode_args(&written).unwrap(),
        };
        Request::Call(Call { operation: *operation as u16, args })
    })
}

fn requests() -> Vec<Request> {
    let expression = |text: &str| Some(Expression { dialect: "tag".into(), text: text.into() });
    let subscribe = |start, expression| {
        Request::Subscribe(Subscribe {
            shard: SHARD,
            group: "billing".into(),
            topic: "orders".into(),
            member: "worker-1".into(),
            start,
            expression,
            exclusive: false,
            lease_ms: 30_000,
            messages: 1_000,
            bytes: 1 << 20,
        })
    };
    let range = |from, to, verdict, delay_ms| SettleRange {
        queue: QUEUE,
        from: QueueOffset(from),
        to: QueueOffset(to),
        attempt: 1 + from as u32 / 12,
        verdict,
        delay_ms,
        error: (verdict != Verdict::Ack).then(|| "no such account".to_owned()),
    };
    let ranges = vec![
        range(0, 10, Verdict::Ack, None),
        range(10, 11, Verdict::Nack, Some(5_000)),
        range(12, 13, Verdict::Reject, None),
        range(13, 14, Verdict::Expire, None),
        range(14, 15, Verdict::Release, None),
    ];
    let full = record("vip", &[(KEY, "order-1"), (ORDER, "7"), ("colour", "grün")], &[0xab; 90]);
    let (shard, subscription) = (SHARD, SUBSCRIPTION);
    let find = |wanted, after| {
        Request::Find(Find { shard, wanted, after, records_max: 10, bytes_max: 65_536 })
    };
    let by_key = Wanted::Key {
        topic: "orders".into(),
        key: "order-1".into(),
        from: STORED,
        to: Timestamp(u64::MAX),
    };
    let mut requests = vec![
        Request::Hello(Hello {
            client: "van-17".into(),
            library: "yard-client/0.1".into(),
            features: 0,
        }),
        Request::FindRoute(FindRoute { topics: vec!["orders".into(), "payments".into()] }),
        subscribe(Start::Earliest, None),
        subscribe(Start::Latest, expression("a || b")),
        subscribe(Start::Offsets(vec![(QUEUE, QueueOffset(8))]), expression("")),
        Request::Credit(Credit { shard, subscription, messages: 10, bytes: 10_000 }),
        Request::Unsubscribe(Unsubscribe { shard, subscription }),
        produce(&[record("", &[], b"")]),
        produce(&[full.clone(), record("", &[("a", "")], b"two"), full]),
        Request::Settle(Settle { shard, subscription, ranges }),
        Request::Fetch(Fetch {
            shard,
            topic: "orders".into(),
            queue: QUEUE,
            from: QueueOffset(100),
            records_max: 10,
            bytes_max: 65_536,
        }),
        find(Wanted::Id(MessageId::new(STORED, 7)), None),
        find(by_key, Some(FindCursor { segment: 4, offset: 8_192 })),
        Request::Seek(Seek { shard, topic: "orders".into(), queue: QUEUE, time: STORED }),
        Request::OpenProducer(OpenProducer { shard, producer: ProducerId(0x8f14) }),
        Request::Extend(Extend { shard, subscription, lease_ms: 30_000, ranges: vec![held(3, 9)] }),
        Request::MoveGroup(MoveGroup {
            shard,
            group: "billing".into(),
            topic: "orders".into(),
            to: vec![(QUEUE, QueueOffset(8))],
        }),
        Request::JoinProducers(JoinProducers { shard, group: "payments".into() }),
        Request::TxBegin(TxBegin {
            tx: TRANSACTION,
            group: "payments".into(),
            note: "order 4711".into(),
        }),
        Request::TxDecide(TxDecide {
            tx: TRANSACTION,
            group: "payments".into(),
            verdict: TxVerdict::Commit,
            check: 2,
        }),
    ];
    requests.extend(calls());
    requests
}

fn held(from: u64, to: u64) -> HeldRange {
    HeldRange { queue: QUEUE, from: QueueOffset(from), to: QueueOffset(to), attempt: 2 }
}

fn replies() -> Vec<Reply> {
    let node = Node { node: 1, addresses: vec!["broker:7420".into()], shards: vec![SHARD] };
    let topic = TopicRoute {
        name: "orders".into(),
        topic: TopicId(9),
        shards: vec![SHARD, SHARD],
        created_queues: 1,
        version: 4,
    };
    let placed = Placed { topic: TopicId(9), queue: QUEUE, first: QueueOffset(40), count: 3 };
    let start = QueueStart { queue: QUEUE, settled_below: QueueOffset(3), end: QueueOffset(9) };
    let record = Bytes::from(record("t", &[], b"body"));
    let found = FoundMessage {
        topic: "orders".into(),
        queue: QUEUE,
        offset: QueueOffset(41),
        stored: STORED,
        record: record.clone(),
    };
    let fetched = FetchedRecord { offset: QueueOffset(41), stored: STORED, record };
    let row = TopicRow {
        name: "orders".into(),
        id: TopicId(9),
        queues: 8,
        note: String::new(),
        retain: AgeLimit(86_400_000),
        retain_bytes: SizeLimit(0),
        discard_unconsumed: true,
        backlog_max: CountLimit(7),
        interceptor: PluginChoice(PluginUse::read("redact(mask=name)").ok()),
        dedupe_window: AgeLimit(3_600_000),
        dedupe_count: CountLimit(9),
        dedupe_plugin: PluginChoice(PluginUse::read("dedupe-window(fields=a)").ok()),
        dedupe_strict: true,
        trace: Share(10_000),
        created_ms: STORED,
        r#type: TopicType::Ordered,
        order_retry: OrderRetry(500),
        after_last: AfterLast::Stop,
    };
    assert_eq!(TopicRm::OPERATION, Operation::TopicRm, "its result is a TopicRow");
    vec![
        Reply::Hello(Welcome {
            broker: "switchyard/0.1".into(),
            session: 12,
            tenant: TenantId(1),
            tenant_name: "acme".into(),
            frame_bytes_max: 5 << 20,
            lanes_max: 32,
            now: STORED,
            features: 0,
        }),
        Reply::FindRoute(Route { nodes: vec![node], topics: vec![None, Some(topic), None] }),
        Reply::Call(Called { result: row.to_bytes() }),
        Reply::Subscribe(Subscribed {
            subscription: SUBSCRIPTION,
            queues: vec![start],
            r#type: TopicType::Ordered,
        }),
        Reply::Credit(Credited {}),
        Reply::Unsubscribe(Unsubscribed {}),
        Reply::Produce(Produced {
            shard: SHARD,
            place: AckPlace::Synced,
            nodes: AckNodes::One,
            duplicate: true,
            placed: vec![placed.clone(), placed],
            originals: vec![
                Original { record: 2, id: MessageId([7; 16]), queue: QUEUE, offset: None },
                Original {
                    record: 5,
                    id: MessageId([8; 16]),
                    queue: QUEUE,
                    offset: Some(QueueOffset(9)),
                },
            ],
        }),
        Reply::Settle(Settled {
            done: 11,
            lost: vec![(QUEUE, (QueueOffset(12), QueueOffset(13)))],
            other: vec![held(13, 14)],
        }),
        Reply::Fetch(Fetched {
            first: QueueOffset(0),
            end: QueueOffset(50),
            records: vec![fetched.clone(), fetched],
        }),
        Reply::Find(Found {
            messages: vec![found.clone(), found],
            covered: Covered { segments: 3, from: Timestamp(1), to: STORED, unreadable_bytes: 9 },
            next: Some(FindCursor { segment: 2, offset: 64 }),
        }),
        Reply::Find(Found { messages: vec![], covered: Covered::default(), next: None }),
        Reply::Seek(Sought {
            first: QueueOffset(0),
            end: QueueOffset(50),
            offset: QueueOffset(41),
        }),
        Reply::OpenProducer(ProducerOpened {
            epoch: Epoch(4),
            lanes: vec![(Lane(0), Sequence(17)), (Lane(3), Sequence(1))],
        }),
        Reply::Extend(Extended {
            done: 5,
            until: STORED,
            spent: vec![held(3, 4)],
            lost: vec![held(5, 6), held(8, 9)],
            other: vec![held(9, 12)],
        }),
        Reply::MoveGroup(GroupMoved {
            queues: vec![MovedQueue {
                queue: QUEUE,
                before: QueueOffset(8),
                after: QueueOffset(2),
                end: QueueOffset(9),
            }],
            ended: 2,
        }),
        Reply::JoinProducers(JoinedProducers {}),
        Reply::TxBegin(TxBegun {}),
        Reply::TxDecide(TxDecided { verdict: TxVerdict::Unknown }),
    ]
}

fn pushes() -> Vec<Push> {
    let record = Bytes::from(record("t", &[(KEY, "k")], b"body"));
    let delivered = Delivered { offset: QueueOffset(41), stored: STORED, attempt: 1, record };
    vec![
        Push::Deliver(Deliver {
            shard: SHARD,
            subscription: SUBSCRIPTION,
            queue: QUEUE,
            messages: vec![delivered.clone(), delivered],
        }),
        Push::Ended(Ended {
            shard: SHARD,
            subscription: SUBSCRIPTION,
            why: Refusal::new(Code::UnknownTopic, "the topic was removed"),
        }),
        Push::TxCheck(TxCheck {
            tx: TRANSACTION,
            group: "payments".into(),
            check: 2,
            begun: STORED,
            note: "order 4711".into(),
        }),
    ]
}
