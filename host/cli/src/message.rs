//! One received message, as a line for people, as JSON, or as its body alone.
use std::io::{self, Write};

use bytes::Bytes;
use serde::ser::{Serialize, SerializeMap, Serializer};
use yard_client::Delivery;
use yard_client::compress::plain_body;
use yard_client::wire::record::{KEY, ORDER, Record};
use yard_client::wire::{QueueIndex, QueueOffset, Timestamp};

use crate::args::bad_argument;
use crate::failure::Failure;
use crate::output::Format;
use crate::text;

/// How messages are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `queue offset time tag key body`, cut to so many columns where there is a terminal.
    Line {
        /// Columns of the terminal.
        columns: Option<usize>,
    },
    /// An object a line.
    Ndjson,
    /// One array of objects.
    Json,
    /// The body exactly, and a line feed.
    Raw,
}

impl Style {
    pub(crate) fn new(format: Format, raw: bool) -> Result<Self, Failure> {
        match (raw, format) {
            (true, Format::Table) => Ok(Self::Raw),
            (true, Format::Json | Format::Ndjson) => {
                Err(bad_argument("raw", "bodies as they are cannot be JSON; leave out -o or --raw"))
            }
            (false, Format::Table) => Ok(Self::Line { columns: crate::terminal::width() }),
            (false, Format::Json) => Ok(Self::Json),
            (false, Format::Ndjson) => Ok(Self::Ndjson),
        }
    }
}

/// Writes messages one after the other, and what stands around them.
#[derive(Debug)]
pub(crate) struct Printer {
    style: Style,
    is_first: bool,
}

impl Printer {
    pub(crate) fn new(style: Style) -> Self {
        Self { style, is_first: true }
    }

    pub(crate) fn print(&mut self, message: &Received, out: &mut impl Write) -> io::Result<()> {
        let is_first = std::mem::replace(&mut self.is_first, false);
        match self.style {
            Style::Json => out.write_all(if is_first { b"[\n" } else { b",\n" })?,
            Style::Line { .. } | Style::Ndjson | Style::Raw => {}
        }
        message.write(self.style, out)
    }

    /// There is no other message.
    pub(crate) fn finish(self, out: &mut impl Write) -> io::Result<()> {
        match self.style {
            Style::Json => out.write_all(if self.is_first { b"[]\n" } else { b"\n]\n" })?,
            Style::Line { .. } | Style::Ndjson | Style::Raw => {}
        }
        out.flush()
    }
}

/// A message with its place.
pub(crate) struct Received<'m> {
    pub(crate) topic: &'m str,
    pub(crate) queue: QueueIndex,
    pub(crate) offset: QueueOffset,
    pub(crate) stored: Timestamp,
    /// 1 for the first delivery; `None` where it was read without a group.
    pub(crate) attempt: Option<u32>,
    pub(crate) record: &'m Record,
}

impl<'m> Received<'m> {
    pub(crate) fn of(topic: &'m str, delivery: &'m Delivery) -> Self {
        Self {
            topic,
            queue: delivery.queue(),
            offset: delivery.offset(),
            stored: delivery.stored(),
            attempt: Some(delivery.attempt()),
            record: delivery.record(),
        }
    }

    /// The body as it was sent; as it is stored, and why, where it cannot be unpacked.
    pub(crate) fn body(&self) -> (Bytes, Option<yard_client::Error>) {
        match plain_body(self.record) {
            Ok(body) => (body, None),
            Err(error) => (self.record.body(), Some(error)),
        }
    }

    /// Writes the message, and a line feed unless it is one of an array.
    fn write(&self, style: Style, out: &mut impl Write) -> io::Result<()> {
        match style {
            Style::Raw => out.write_all(&self.body().0)?,
            Style::Json | Style::Ndjson => {
                serde_json::to_writer(&mut *out, self).map_err(io::Error::from)?;
            }
            Style::Line { columns } => {
                let line = self.line();
                let cut = columns.and_then(|columns| line.char_indices().nth(columns));
                out.write_all(cut.map_or(&line[..], |(at, _)| &line[..at]).as_bytes())?;
            }
        }
        match style {
            Style::Json => Ok(()),
            Style::Line { .. } | Style::Ndjson | Style::Raw => out.write_all(b"\n"),
        }
    }

    fn line(&self) -> String {
        let or_dash = |text: &str| match text {
            "" => "-".to_owned(),
            text => text::visible(text).into_owned(),
        };
        let (body, problem) = self.body();
        let problem = problem.map_or(String::new(), |error| format!("[{}] ", error.code));
        format!(
            "{:>3} {:>8} {} {:<6} {:<8} {problem}{}",
            self.queue.0,
            self.offset.0,
            text::instant(self.stored),
            or_dash(self.record.tag()),
            or_dash(self.record.keys().next().unwrap_or("")),
            text::visible(&String::from_utf8_lossy(&body)),
        )
    }
}

impl Serialize for Received<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = self.record;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", self.topic)?;
        map.serialize_entry("queue", &self.queue.0)?;
        map.serialize_entry("offset", &self.offset.0)?;
        map.serialize_entry("id", &record.id().to_string())?;
        map.serialize_entry("born_ms", &record.born().0)?;
        map.serialize_entry("stored_ms", &self.stored.0)?;
        if let Some(attempt) = self.attempt {
            map.serialize_entry("attempt", &attempt)?;
        }
        let tag = Some(record.tag()).filter(|tag| !tag.is_empty());
        map.serialize_entry("tag", &tag)?;
        map.serialize_entry("keys", &record.keys().collect::<Vec<_>>())?;
        map.serialize_entry("order", &record.order_group())?;
        map.serialize_entry("properties", &Properties(record))?;
        let (body, problem) = self.body();
        if let Some(error) = problem {
            map.serialize_entry("body_error", &error.to_string())?;
        }
        match str::from_utf8(&body) {
            Ok(text) => map.serialize_entry("body", text)?,
            Err(_) => map.serialize_entry("body_base64", &text::base64(&body))?,
        }
        map.end()
    }
}

/// The application's own properties; keys and order group have fields of their own.
pub(crate) fn own_properties(record: &Record) -> impl Iterator<Item = (&str, &str)> {
    record.properties().filter(|(name, _)| *name != KEY && *name != ORDER)
}

struct Properties<'m>(&'m Record);

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(own_properties(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_client::wire::record::{Flags, RecordParts};
    use yard_client::wire::{MessageId, TopicId};

    #[track_caller]
    fn check(tag: &str, body: &[u8], style: Style, expected: &[u8]) {
        let mut out = Vec::new();
        with_message(tag, body, |message| message.write(style, &mut out).expect("a vector"));
        assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    fn with_message(tag: &str, body: &[u8], show: impl FnOnce(&Received)) {
        let parts = RecordParts {
            topic: TopicId(1),
            queue: QueueIndex(3),
            id: MessageId::new(Timestamp(1), 2),
            born: Timestamp(1),
            flags: Flags::NONE,
            tag,
            properties: &[(KEY, "k"), (ORDER, "o"), ("a", "b")],
            body,
        };
        let mut bytes = Vec::new();
        parts.encode(&mut bytes).expect("within the limits");
        let record = Record::parse(bytes.into()).expect("a record");
        let received = Received {
            topic: "t",
            queue: QueueIndex(3),
            offset: QueueOffset(17),
            stored: Timestamp(1_357_034_400_000),
            attempt: Some(1),
            record: &record,
        };
        show(&received);
    }

    #[test]
    fn one_array_of_all_messages() {
        for count in 0..3 {
            let (mut out, mut printer) = (Vec::new(), Printer::new(Style::Json));
            for _ in 0..count {
                with_message("t", b"x", |m| printer.print(m, &mut out).expect("a vector"));
            }
            printer.finish(&mut out).expect("a vector");
            let array: Vec<serde_json::Value> = serde_json::from_slice(&out).expect("JSON");
            assert_eq!((array.len(), out.last()), (count, Some(&b'\n')));
        }
        assert!(Style::new(Format::Json, true).is_err() && Style::new(Format::Table, true).is_ok());
    }

    #[test]
    fn messages() {
        let wide = Style::Line { columns: None };
        let start = "  3       17 2013-01-01T10:00:00.000Z UA     k        ";
        check("UA", b"a\nb\x1b", wide, format!("{start}a\\nb\\u{{1b}}\n").as_bytes());
        check(
            "UA",
            "aüüüb".as_bytes(),
            Style::Line { columns: Some(start.len() + 3) },
            format!("{start}aüü\n").as_bytes(),
        );
        check("", b"x\r\xff", Style::Raw, b"x\r\xff\n");
        check(
            "",
            b"x\"",
            Style::Ndjson,
            b"{\"topic\":\"t\",\"queue\":3,\"offset\":17,\
            \"id\":\"00000000000100000000000000000002\",\"born_ms\":1,\
            \"stored_ms\":1357034400000,\"attempt\":1,\"tag\":null,\"keys\":[\"k\"],\
            \"order\":\"o\",\"properties\":{\"a\":\"b\"},\"body\":\"x\\\"\"}\n",
        );
        check(
            "t",
            b"\xff",
            Style::Ndjson,
            b"{\"topic\":\"t\",\"queue\":3,\"offset\":17,\
            \"id\":\"00000000000100000000000000000002\",\"born_ms\":1,\
            \"stored_ms\":1357034400000,\"attempt\":1,\"tag\":\"t\",\"keys\":[\"k\"],\
            \"order\":\"o\",\"properties\":{\"a\":\"b\"},\"body_base64\":\"/w==\"}\n",
        );
    }
}
