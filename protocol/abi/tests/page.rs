//! The examples of `ABI.md` are what the code makes. `UPDATE_EXPECT=1` writes them anew.

use std::fmt::Write;

use yard_abi::record::Parts;
use yard_abi::verdict::{Answer, AnswersBuilder, BitmapBuilder, KeysBuilder, Patch, put_counts};
use yard_abi::{Delivery, FrameBuilder, Room, Shown, View, wit};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ABI.md");

fn frame(view: View) -> Vec<u8> {
    let order = |tag: &str, region: &str, body: &str| {
        Parts {
            born_ms: 1_700_000_000_000,
            topic: 7,
            id: *b"0123456789abcdef",
            tag: tag.to_owned(),
            properties: vec![("region".to_owned(), region.to_owned())],
            body: body.into(),
        }
        .record()
    };
    let mut builder = FrameBuilder::of(view);
    let stored_ms = 1_700_000_000_005;
    let delivery = |offset| Delivery { offset, stored_ms, queue: 3, attempts: 1 };
    for (offset, record) in [(41, order("paid", "eu", "{}")), (42, order("", "us", "[1,2]"))] {
        assert_eq!(builder.push(&record, delivery(offset)), Ok(Room::Taken));
    }
    builder.bytes().to_vec()
}

fn bitmap() -> Vec<u8> {
    let mut builder = BitmapBuilder::new(10);
    for index in [0, 2, 9] {
        builder.set(index, true);
    }
    builder.into_bytes()
}

fn keys() -> Vec<u8> {
    let mut builder = KeysBuilder::default();
    for key in ["UA/1545", ""] {
        builder.push(key.as_bytes()).expect("short");
    }
    builder.into_bytes()
}

fn answers() -> Vec<u8> {
    let mut builder = AnswersBuilder::default();
    let properties = vec![("region", Some("eu")), ("card", None)];
    let patch = Patch { properties, body: Some(b"{}") };
    for answer in [Answer::Pass, Answer::Replace(patch), Answer::Reject("no region")] {
        builder.push(&answer).expect("short");
    }
    builder.into_bytes()
}

/// 16 bytes a line, with the offset before and the text behind.
fn dump(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (index, line) in bytes.chunks(16).enumerate() {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = |byte: &u8| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' };
        let text: String = line.iter().map(text).collect();
        let line = format!("{:04x}  {:<47}  {text}", index * 16, hex.join(" "));
        writeln!(out, "{}", line.trim_end()).expect("a String takes all");
    }
    out
}

fn replaced(page: &str, fence: &str, content: &str) -> String {
    let start = page.find(&format!("```{fence}\n")).expect("the page has the block");
    let start = start + fence.len() + 4;
    let end = start + page[start..].find("```").expect("the block ends");
    format!("{}{content}{}", &page[..start], &page[end..])
}

#[test]
fn the_examples_are_what_the_code_makes() {
    let page = std::fs::read_to_string(PAGE).expect("the page is there");
    let mut expected = page.clone();
    for (name, bytes) in [
        ("hex frame", frame(View { body_bytes: 4, properties: Shown::All })),
        ("hex bare", frame(View { body_bytes: 4, properties: Shown::None })),
        ("hex bitmap", bitmap()),
        ("hex keys", keys()),
        ("hex answers", answers()),
        ("hex counts", put_counts([Some(-2), None])),
    ] {
        expected = replaced(&expected, name, &dump(&bytes));
    }
    expected = replaced(&expected, "wit", wit::TEXT);
    expected = replaced(&expected, "text hash", &format!("{:#018x}\n", wit::XXH3_64));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(PAGE, &expected).expect("the page is written");
        return;
    }
    assert!(page == expected, "ABI.md is behind, UPDATE_EXPECT=1 updates it");
}
