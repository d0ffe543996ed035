//! What peers are told about bytes that are not what they claim, and the small questions that a
//! decoded value answers.
#![allow(clippy::unwrap_used, reason = "a test may give up")]
use bytes::Bytes;
use yard_wire::operation::{
    BrokerInfo, BrokerReport, Operate, Operation, TopicReport, TopicRm, TopicRow,
};
use yard_wire::order::{AfterLast, OrderRetry, TopicType};
use yard_wire::plugin_use::PluginChoice;
use yard_wire::record::{Record, RecordParts};
use yard_wire::requests::{AckPlace, Verdict};
use yard_wire::share::Share;
use yard_wire::units::{AgeLimit, CountLimit, SizeLimit};
use yard_wire::value::Value;
use yard_wire::{
    Code, LogPos, Malformed, MessageId, QueueIndex, Refusal, Timestamp, TopicId, Wire, limits,
};

#[test]
fn every_kind_of_damage_has_a_sentence_and_a_code() {
    let check = |malformed: Malformed, code: Code, sentence: &str| {
        let refusal = malformed.refusal(Code::MalformedBatch);
        assert_eq!((refusal.code, refusal.detail.as_str()), (code, sentence));
    };
    let what = "thing";
    let otherwise = Code::MalformedBatch;
    let sum = "the checksum of the thing does not match";
    check(Malformed::Checksum { what }, Code::BadChecksum, sum);
    check(Malformed::Field { what, value: 9 }, otherwise, "thing has the unknown value 9");
    let long = "thing is 9, the largest allowed is 3";
    check(Malformed::Length { what, found: 9, max: 3 }, otherwise, long);
    let short = "9 more bytes were announced, 3 are left";
    check(Malformed::Short { wanted: 9, left: 3 }, otherwise, short);
    check(Malformed::Trailing { left: 3 }, otherwise, "3 bytes are left over");
    check(Malformed::Utf8, otherwise, "a text is not UTF-8");
}

#[test]
fn codes_are_written_as_their_pages_are_named() {
    assert_eq!(Code::Busy.label(), "E0301");
    assert_eq!(Refusal::new(Code::Busy, "later").to_string(), "E0301 Busy: later");
    assert!(Code::Busy.is_retryable() && !Code::UnknownTopic.is_retryable());
    for code in Code::ALL {
        assert_eq!(Code::from_number(*code as u16), Some(*code));
        assert!(code.sentence().ends_with('.'), "{code}");
    }
    assert_eq!(Code::from_number(1), None);
}

#[test]
fn words_are_read_as_they_are_written() {
    for place in AckPlace::ALL {
        assert_eq!(AckPlace::parse(&place.to_string()), Some(*place));
    }
    assert_eq!(AckPlace::parse("soon"), None);
    assert_eq!(Verdict::Nack.to_string(), "nack");
    assert_eq!(LogPos(7).to_string(), "7");
    assert_eq!(Timestamp(u64::MAX).plus_ms(1), Timestamp(u64::MAX));
}

#[test]
fn a_record_tells_where_it_goes_and_how_large_it_is() {
    let id = MessageId::new(Timestamp(3), 4);
    let (topic, queue) = (TopicId(5), QueueIndex(6));
    let parts = RecordParts { topic, queue, id, body: b"body", ..RecordParts::default() };
    let mut bytes = Vec::new();
    parts.encode(&mut bytes).unwrap();
    let address = Record::peek_address(&bytes).unwrap();
    assert_eq!((address.topic, address.queue), (topic, queue));
    let record = Record::parse(bytes.clone().into()).unwrap();
    assert_eq!((record.id(), record.body_bytes()), (id, 4));
    assert_eq!(record.check_limits(), Ok(()));
    bytes.push(0);
    assert_eq!(Record::parse(bytes.into()), Err(Malformed::Trailing { left: 1 }));
    let many = vec![("a", ""); limits::PROPERTIES_MAX + 1];
    let parts = RecordParts { properties: &many, ..RecordParts::default() };
    assert_eq!(parts.check().unwrap_err().code, Code::PropertiesTooLarge);
}

#[test]
fn results_are_shown_by_the_names_of_their_fields() {
    let report = TopicReport {
        name: "orders".into(),
        id: TopicId(3),
        note: String::new(),
        retain: AgeLimit(86_400_000),
        retain_bytes: SizeLimit(0),
        discard_unconsumed: false,
        backlog_max: CountLimit(0),
        interceptor: PluginChoice(None),
        dedupe_window: AgeLimit(3_600_000),
        dedupe_count: CountLimit(100_000),
        dedupe_plugin: PluginChoice(None),
        dedupe_strict: false,
        trace: Share(0),
        created_ms: Timestamp(9),
        dedupe_keys: 5,
        messages: 2,
        r#type: TopicType::Ordered,
        order_retry: OrderRetry(1_000),
        after_last: AfterLast::GoOn,
        queues: Vec::new(),
    };
    let shown = Operation::TopicInfo.decode_result(report.to_bytes()).unwrap();
    let Value::Record(fields) = shown else { panic!("a report is a record") };
    assert_eq!(fields[0], ("name", Value::Text("orders".into())));
    let field = |name: &str| fields.iter().find(|field| field.0 == name).unwrap().1.clone();
    assert_eq!(field("retain"), Value::Text("1d".into()));
    assert_eq!(field("retain_bytes"), Value::Null);
    assert_eq!(field("dedupe_window"), Value::Text("1h".into()));
    assert_eq!(field("messages"), Value::Number(2));
    assert_eq!(field("type"), Value::Text("ordered".into()));
    assert_eq!(field("order_retry"), Value::Text("1s".into()));
    assert_eq!(fields.last().unwrap(), &("queues", Value::List(Vec::new())));
    let cut = Bytes::from_static(&[1]);
    assert!(Operation::TopicInfo.decode_result(cut).is_err());
    assert_eq!(<TopicRm as Operate>::OPERATION, Operation::TopicRm);
    let rows: Vec<TopicRow> = Vec::new();
    let shown = Operation::TopicLs.decode_result(rows.to_bytes()).unwrap();
    assert_eq!(shown, Value::List(Vec::new()));
    let report = BrokerReport {
        broker: "b".into(),
        started_ms: Timestamp(1),
        connections: 1,
        cpu_us: 2,
        rss_anon_bytes: 3,
        shards: Vec::new(),
    };
    assert!(BrokerInfo::OPERATION.decode_result(report.to_bytes()).is_ok());
}
