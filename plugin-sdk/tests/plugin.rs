//! A plugin of each kind, made by the macros of functions, run natively.

use switchyard_plugin::prelude::*;
use switchyard_plugin::{abi, clock, kv, log, metrics, run, testing};

manifest! {
    says: "One function for \"each\" point.",
    points: ["filter", "dedupe", "retry", "txn-check", "interceptor"],
    capabilities: ["log", "metrics", "clock", "kv"],
    limits: { memory_bytes: 1048576, call_ms: 2 },
    config: [
        { name: "least", kind: "number", required: true, says: "least amount" },
        { name: "strict", kind: "boolean" },
    ],
    tests: "tests/vectors.json",
}
filter!(big_orders);
dedupe!(order_id, Policy::hours(24));
retry!(patient);
txn_check!(by_age);
interceptor!(without_card);

fn big_orders(m: &Message) -> bool {
    m.tag() == "paid" && m.get("region") == Some("eu") && m.number("amount") > Some(100.0)
}

fn order_id(m: &Message) -> Option<String> {
    Some(format!("{}/{}", m.get("shop")?, m.get("order")?))
}

fn patient(attempt: &Attempt) -> Next {
    match attempt.reason.as_str() {
        "gone" => Next::Drop,
        "wrong" => Next::DeadLetter("it is wrong".to_owned()),
        "theirs" => Next::ToTopic("theirs".to_owned()),
        _ => Next::DelayMs(1_000 << attempt.count.min(16)),
    }
}

fn by_age(half: &Half) -> Fate {
    match half.get("paid") {
        Some("yes") => Fate::Commit,
        Some("no") => Fate::Rollback,
        _ if half.age_ms > 60_000 => Fate::AskProducer,
        _ => Fate::Unknown,
    }
}

fn without_card(m: &Message) -> Answer {
    match m.get("card") {
        None => Answer::Pass,
        Some("") => Answer::Reject("an empty card".to_owned()),
        Some(_) => Answer::Replace(Patch::default().remove("card").set("card-seen", "yes")),
    }
}

fn order(amount: i32) -> MessageBuilder {
    Message::builder().tag("paid").property("region", "eu").property("amount", amount)
}

fn frame(messages: &[MessageBuilder]) -> Vec<u8> {
    let mut builder = abi::FrameBuilder::new(u32::MAX);
    for message in messages {
        let (record, delivery) = message.record();
        assert_eq!(builder.push(&record, delivery), Ok(abi::Room::Taken));
    }
    builder.bytes().to_vec()
}

#[test]
fn a_function_is_a_filter() {
    assert!(big_orders(&order(150).build()));
    assert!(!big_orders(&order(50).build()));
    let filter = FilterPoint::compile("", &Config::default()).expect("no expression");
    let bits = run::filter(&filter, &frame(&[order(150), order(50), order(101)]), 3);
    assert_eq!(bits, [0b101]);
    let error = FilterPoint::compile("a = 1", &Config::default()).expect_err("an expression");
    assert!(error.contains("takes no expression"), "{error}");
}

#[test]
fn a_function_makes_keys() {
    let dedupe = DedupePoint::open(&Config::default()).expect("no settings");
    assert_eq!(dedupe.policy().ttl_ms, 86_400_000);
    let known = Message::builder().property("shop", 7).property("order", 9);
    let keys = run::dedupe(&dedupe, &frame(&[known, order(1)]), 2);
    let keys = abi::verdict::keys(&keys, 2).expect("a key list");
    assert_eq!(keys, [b"7/9".as_slice(), b""]);
}

#[test]
fn a_function_changes_messages() {
    let interceptor = InterceptorPoint::open(&Config::default()).expect("no settings");
    assert_eq!(interceptor.needs().body_bytes as usize, abi::frame::BODY_BYTES_MAX);
    let with = |card: &str| order(1).property("card", card);
    let answers = run::interceptor(&interceptor, &frame(&[order(1), with("4711"), with("")]), 3);
    let properties = vec![("card", None), ("card-seen", Some("yes"))];
    let replace = abi::verdict::Patch { properties, body: None };
    assert_eq!(
        abi::verdict::answers(&answers, 3).expect("an answer list"),
        [
            abi::verdict::Answer::Pass,
            abi::verdict::Answer::Replace(replace),
            abi::verdict::Answer::Reject("an empty card"),
        ]
    );
}

/// An interceptor that makes too much of a message.
struct Inflate;

impl Interceptor for Inflate {
    fn open(_: &Config) -> Result<Self, String> {
        Ok(Self)
    }

    fn apply(&self, _: &Message<'_>) -> Answer {
        Answer::Replace(Patch::default().body(vec![0; 2 << 20]))
    }
}

#[test]
#[should_panic(expected = "a patch is larger than a message may be")]
fn a_patch_that_is_too_large_is_a_trap_with_a_text() {
    let _ = run::interceptor(&Inflate, &frame(&[order(1)]), 1);
}

#[test]
#[should_panic(expected = "the host counts what it gives")]
fn a_count_that_is_not_the_frames_is_a_trap() {
    let filter = FilterPoint::compile("", &Config::default()).expect("no expression");
    let _ = run::filter(&filter, &frame(&[order(1)]), 2);
}

#[test]
fn the_hosts_functions_have_stand_ins() {
    testing::set_now_ms(1_000);
    assert_eq!(clock::now_ms(), 1_000);
    assert_eq!(kv::put_if_absent_many(&["a", "b"], 500), [true, true]);
    assert_eq!(kv::incr(b"b", 3, 5_000), 3);
    assert_eq!(kv::put_if_absent_many(&["a", "c"], 500), [false, true]);
    assert_eq!(kv::get_many(&["a", "b", "d"]), [Some(0), Some(3), None]);
    testing::set_now_ms(1_500);
    assert_eq!(kv::get_many(&["a", "b"]), [None, Some(3)]);
    log::warn("look");
    assert_eq!(testing::logged(), [(log::Level::Warn, "look".to_owned())]);
    assert_eq!(testing::logged(), []);
    metrics::add("seen", 2);
    metrics::add("seen", 3);
    metrics::observe("size", 1.5);
    assert_eq!((testing::counted("seen"), testing::observed("size")), (5, vec![1.5]));
}

#[test]
fn the_manifest_says_what_the_macro_was_told() {
    let manifest = testing::read_manifest(&MANIFEST);
    assert_eq!(manifest.name, "switchyard-plugin");
    assert_eq!(manifest.says, "One function for \"each\" point.");
    assert_eq!(manifest.points.len(), 5);
    assert_eq!(manifest.capabilities.len(), 4);
    assert_eq!(manifest.limits.memory_bytes, Some(1 << 20));
    assert!(manifest.config[0].required && !manifest.config[1].required);
    assert!(manifest.tests.len() >= 10);
}

#[test]
#[should_panic(expected = "vector 0: `skip`, expected `deliver`")]
fn a_vector_that_does_not_come_out_is_told() {
    let json = r#"{"name":"a","version":"1.0.0","points":["filter"],
        "tests":[{"point":"filter","expect":"deliver"}]}"#;
    testing::filter::<FilterPoint>(&switchyard_plugin::ManifestText { json, vectors: None });
}
