//! One message on a page: everything that it says about itself, and the beginning of its body.
use std::fmt::Write as _;

use super::message::{Received, own_properties};
use super::text;

/// Characters of a body that a page shows.
const BODY_CHARS_MAX: usize = 2_000;
/// Columns of the names.
const NAME_COLUMNS: usize = 12;

/// A message for people; `whole` says how to see all of a body that is cut.
pub fn text_of(message: &Received, whole: &str) -> String {
    let record = message.record;
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let (name, value) = (text::visible(name), text::visible(value));
            writeln!(out, "{name:<NAME_COLUMNS$}{value}").expect("a string can be written to");
        }
    };
    line("topic", message.topic);
    line("queue", &message.queue.to_string());
    line("offset", &message.offset.to_string());
    line("id", &record.id().to_string());
    line("stored", &text::instant(message.stored));
    line("born", &text::instant(record.born()));
    line("tag", record.tag());
    for key in record.keys() {
        line("key", key);
    }
    line("order", record.order_group().unwrap_or(""));
    for (name, value) in own_properties(record) {
        line("property", &format!("{name} = {value}"));
    }
    let (body, problem) = message.body();
    if let Some(error) = problem {
        line("body", &format!("as it is stored: {error}"));
    }
    line("body", &format!("{} bytes", body.len()));
    out.push_str(&preview(&body, whole));
    out
}

/// The beginning of a body, its lines indented and nothing in it that a terminal would obey.
fn preview(body: &[u8], whole: &str) -> String {
    // No character has more than four bytes, so what is cut off here would not be shown.
    let shown = &body[..body.len().min(4 * BODY_CHARS_MAX)];
    let text = String::from_utf8_lossy(shown);
    let cut = text.char_indices().nth(BODY_CHARS_MAX).map_or(text.len(), |(at, _)| at);
    let mut out = String::new();
    for line in text::visible_lines(&text[..cut]).lines() {
        writeln!(out, "  {line}").expect("a string can be written to");
    }
    if cut < text.len() || shown.len() < body.len() {
        writeln!(out, "  … {whole}").expect("a string can be written to");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_client::Record;
    use yard_client::wire::record::{KEY, ORDER, RecordParts};
    use yard_client::wire::{MessageId, QueueIndex, QueueOffset, Timestamp, TopicId};

    const WHOLE: &str = "--raw prints all of it";

    #[track_caller]
    fn check(tag: &str, properties: &[(&str, &str)], body: &[u8], expected: &str) {
        let parts = RecordParts {
            topic: TopicId(1),
            queue: QueueIndex(3),
            id: MessageId::new(Timestamp(1), 2),
            born: Timestamp(1),
            flags: yard_client::wire::record::Flags::NONE,
            tag,
            properties,
            body,
        };
        let mut bytes = Vec::new();
        parts.encode(&mut bytes).expect("within the limits");
        let record = Record::parse(bytes.into()).expect("a record");
        let received = Received {
            topic: "orders",
            queue: QueueIndex(3),
            offset: QueueOffset(17),
            stored: Timestamp(1_357_034_400_000),
            attempt: None,
            record: &record,
        };
        assert_eq!(text_of(&received, WHOLE), expected);
    }

    const HEAD: &str = "topic       orders\nqueue       3\noffset      17\n\
        id          00000000000100000000000000000002\n\
        stored      2013-01-01T10:00:00.000Z\nborn        1970-01-01T00:00:00.001Z\n";

    #[test]
    fn everything_that_a_message_says() {
        check("", &[], b"", &format!("{HEAD}body        0 bytes\n"));
        check(
            "paid",
            &[(KEY, "k1"), (KEY, "k2"), (ORDER, "o"), ("colour", "gr\u{1b}n")],
            b"first\n\x1b[31msecond\n",
            &format!(
                "{HEAD}tag         paid\nkey         k1\nkey         k2\norder       o\n\
                 property    colour = gr\\u{{1b}}n\nbody        18 bytes\n  first\n  \
                 \\u{{1b}}[31msecond\n"
            ),
        );
    }

    #[test]
    fn a_long_body_is_cut_and_says_so() {
        let short = "ü".repeat(BODY_CHARS_MAX);
        assert_eq!(preview(short.as_bytes(), WHOLE), format!("  {short}\n"));
        let long = "ü".repeat(BODY_CHARS_MAX + 1);
        assert_eq!(preview(long.as_bytes(), WHOLE), format!("  {short}\n  … {WHOLE}\n"));
        let four = "😀".repeat(BODY_CHARS_MAX + 1);
        assert!(preview(four.as_bytes(), WHOLE).ends_with("--raw prints all of it\n"));
        assert_eq!(preview(&[0xff, 0xfe], WHOLE), "  \u{fffd}\u{fffd}\n");
    }
}
