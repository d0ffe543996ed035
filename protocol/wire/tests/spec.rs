//! The tables of `WIRE.md` are those of the registries. `UPDATE_EXPECT=1` writes them anew.
#![allow(clippy::unwrap_used, reason = "a test may give up")]

use std::fmt::Write;
use std::path::PathBuf;

use yard_wire::code::RetryClass;
use yard_wire::operation::Operation;
use yard_wire::request::{Kind, Push, Replay};
use yard_wire::{Code, frame, limits};

fn requests() -> String {
    let mut table = String::from(
        "| kind | request | stream | right | in early data | what it does |\n\
         |--:|---|---|---|---|---|\n",
    );
    for kind in Kind::ALL {
        let replay = match kind.replay() {
            Replay::Harmless => "harmless",
            Replay::NeedsDedupe => "harmless where numbered",
            Replay::Refused => "refused",
        };
        let (number, name, role) = (*kind as u16, kind.name(), kind.role());
        let (right, sentence) = (kind.right(), kind.sentence());
        writeln!(table, "| {number} | `{name}` | {role} | {right} | {replay} | {sentence} |")
            .unwrap();
    }
    table
}

fn pushes() -> String {
    let rows = [
        (Push::DELIVER, "Deliver", "data", "Messages for a subscription."),
        (Push::ENDED, "Ended", "control", "The broker ended a subscription."),
        (Push::TX_CHECK, "TxCheck", "control", "What is to become of a transaction?"),
    ];
    let mut table = String::from("| kind | push | stream | what it says |\n|--:|---|---|---|\n");
    for (number, name, role, sentence) in rows {
        writeln!(table, "| {number} | `{name}` | {role} | {sentence} |").unwrap();
    }
    table
}

fn operations() -> String {
    let mut table = String::from(
        "| number | operation | right | arguments, in order | what it does |\n\
         |--:|---|---|---|---|\n",
    );
    for operation in Operation::ALL {
        let fields: Vec<String> = operation
            .fields()
            .iter()
            .map(|field| format!("`{}` {}", field.name, field.kind.replace('|', " or ")))
            .collect();
        let (number, words) = (*operation as u16, operation.words().join(" "));
        let (right, fields, help) = (operation.right(), fields.join(", "), operation.help());
        writeln!(table, "| {number} | `{words}` | {right} | {fields} | {help} |").unwrap();
    }
    table
}

fn codes() -> String {
    let mut table =
        String::from("| code | name | send again | what happened |\n|---|---|---|---|\n");
    for code in Code::ALL {
        let retry = match code.retry() {
            RetryClass::Never => "no",
            RetryClass::SamePlace => "same broker",
            RetryClass::Elsewhere => "elsewhere",
        };
        let (label, name, sentence) = (code.label(), code.name(), code.sentence());
        writeln!(table, "| [{label}](errors/{label}.md) | {name} | {retry} | {sentence} |")
            .unwrap();
    }
    table
}

fn bounds() -> String {
    let rows: &[(&str, u64)] = &[
        ("Bytes of a preamble", frame::PREAMBLE_BYTES as u64),
        ("Bytes of a frame's header", frame::HEADER_BYTES as u64),
        ("Bytes of a frame before the hello", limits::FRAME_BYTES_MAX_BEFORE_HELLO as u64),
        ("Bytes of a frame", limits::FRAME_BYTES_MAX as u64),
        ("Bytes of a batch", limits::BATCH_BYTES_MAX as u64),
        ("Records of a batch", limits::BATCH_RECORDS_MAX as u64),
        ("Bytes of a body", limits::BODY_BYTES_MAX as u64),
        ("Bytes of all properties", limits::PROPERTIES_BYTES_MAX as u64),
        ("Properties", limits::PROPERTIES_MAX as u64),
        ("Bytes of a tag", limits::TAG_BYTES_MAX as u64),
        ("Bytes of a name", limits::NAME_BYTES_MAX as u64),
        ("Bytes of any other text", limits::TEXT_BYTES_MAX as u64),
        ("Bytes of a filter expression", limits::EXPRESSION_BYTES_MAX as u64),
        ("Bytes of the note of a transaction", limits::TX_NOTE_BYTES_MAX as u64),
        ("Messages of a transaction in a shard", limits::TX_MESSAGES_MAX as u64),
        ("Bytes of a plugin", limits::PLUGIN_BYTES_MAX as u64),
        ("Lanes of a connection", limits::LANES_MAX.into()),
        ("Batches in flight of a lane", limits::LANE_BATCHES_IN_FLIGHT_MAX as u64),
        ("Subscriptions of a connection in a shard", limits::SUBSCRIPTIONS_MAX as u64),
        ("Messages of credit", limits::CREDIT_MESSAGES_MAX.into()),
        ("Bytes of credit", limits::CREDIT_BYTES_MAX.into()),
        ("Records of a deliver push", limits::DELIVER_RECORDS_MAX as u64),
        ("Bytes of a deliver push, unless one record is larger", limits::DELIVER_BYTES_MAX as u64),
        ("Ranges of a settle request", limits::SETTLE_RANGES_MAX as u64),
        ("Bytes of an error text", limits::ERROR_TEXT_BYTES_MAX as u64),
        ("Bytes of the error texts of a settle request", limits::SETTLE_ERRORS_BYTES_MAX as u64),
        ("Records of a fetch reply", limits::FETCH_RECORDS_MAX.into()),
        ("Bytes of a fetch reply, unless one record is larger", limits::FETCH_BYTES_MAX.into()),
        ("Records of an answer to a search", limits::FIND_RECORDS_MAX.into()),
        (
            "Bytes of an answer to a search, unless one record is larger",
            limits::FIND_BYTES_MAX.into(),
        ),
        ("Topics of a route request", limits::ROUTE_TOPICS_MAX as u64),
        ("Queues of a topic", limits::QUEUES_MAX.into()),
        ("Shortest lease, ms", limits::LEASE_MS_MIN.into()),
        ("Longest lease, ms", limits::LEASE_MS_MAX.into()),
    ];
    let mut table = String::from("| bound | value |\n|---|--:|\n");
    for (bound, value) in rows {
        writeln!(table, "| {bound} | {} |", grouped(*value)).unwrap();
    }
    table
}

/// Digits in groups of three.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The text with what stands between the marks of `name` replaced.
fn with_section(text: &str, name: &str, table: &str) -> String {
    let begin = format!("<!-- generated: {name} -->\n");
    let end = "<!-- end -->\n";
    let (before, rest) = text.split_once(&begin).expect("WIRE.md has the mark of every table");
    let (_, after) = rest.split_once(end).expect("every mark has its end");
    format!("{before}{begin}\n{table}\n{end}{after}")
}

#[test]
fn the_tables_of_the_specification_are_those_of_the_registries() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../WIRE.md");
    let found = std::fs::read_to_string(&path).unwrap();
    let mut expected = found.clone();
    for (name, table) in [
        ("requests", requests()),
        ("pushes", pushes()),
        ("operations", operations()),
        ("codes", codes()),
        ("limits", bounds()),
    ] {
        expected = with_section(&expected, name, &table);
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &expected).unwrap();
        return;
    }
    let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(found == expected, "WIRE.md is behind, UPDATE_EXPECT=1 updates it: {differs:?}");
}

#[test]
fn the_examples_of_the_specification_are_right() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../WIRE.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let hex = |name: &str| -> Vec<u8> {
        let (_, rest) = text.split_once(&format!("```hex {name}\n")).expect("the example is there");
        let (block, _) = rest.split_once("```").expect("the example ends");
        let bytes = block.lines().flat_map(|line| line.split('|').next().unwrap_or("").split(' '));
        let bytes = bytes.filter(|byte| !byte.is_empty());
        bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    };
    let control = frame::Preamble { role: frame::Role::Control, lane: 0 };
    assert_eq!(hex("preamble"), control.encode());
    let request = yard_wire::request::Request::FindRoute(yard_wire::requests::FindRoute {
        topics: vec!["orders".into()],
    });
    let mut bytes = Vec::new();
    let correlation = yard_wire::Correlation(7);
    let (kind, class) = (request.kind() as u16, frame::Class::Request);
    frame::encode_with(kind, class, correlation, &mut bytes, |out| request.put_body(out));
    assert_eq!(hex("request"), bytes);
    let parts = yard_wire::record::RecordParts { body: b"hi", ..Default::default() };
    let mut record = Vec::new();
    parts.encode(&mut record).unwrap();
    let header =
        yard_wire::batch::BatchHeader { producer: yard_wire::ProducerId(1), ..Default::default() };
    let batch = yard_wire::batch::encode(&header, 1, &record);
    assert_eq!(hex("batch"), batch);
}
