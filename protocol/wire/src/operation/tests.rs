//! Tests of the catalogue of operations.
use super::*;

#[test]
fn arguments_are_read_from_text_with_defaults() {
    let written = |name: &str| (name == "name").then(|| "orders".to_owned());
    let args = Operation::TopicCreate.encode_args(&written).expect("complete");
    let expected =
        TopicCreate { name: "orders".into(), queues: 8, ..TopicCreate::default() }.to_bytes();
    assert_eq!(args, expected);
    let refusal = Operation::TopicCreate.encode_args(&|_| None).unwrap_err();
    assert_eq!(refusal.code, Code::BadArgument);
    let wrong = |name: &str| Some(if name == "queues" { "many" } else { "x" }.to_owned());
    let refusal = Operation::TopicCreate.encode_args(&wrong).unwrap_err();
    assert!(refusal.detail.contains("queues takes NUMBER, not \"many\""), "{refusal}");
}

#[test]
fn numbers_and_words_are_unique() {
    for (at, one) in Operation::ALL.iter().enumerate() {
        assert_eq!(Operation::from_number(*one as u16), Some(*one));
        assert!(Operation::ALL[at + 1..].iter().all(|other| other.words() != one.words()));
    }
}
