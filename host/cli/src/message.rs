//! One received message, as a line for people, as JSON, or as its body alone.
use std::io::{self, Write};

pub(crate) use yard_console::show::Received;

use crate::args::bad_argument;
use crate::failure::Failure;
use crate::output::Format;

/// How to see all of a body that a page cuts.
pub(crate) const WHOLE: &str = "--raw prints all of it";

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
        write_one(message, self.style, out)
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

/// Writes a message, and a line feed unless it is one of an array.
fn write_one(message: &Received, style: Style, out: &mut impl Write) -> io::Result<()> {
    match style {
        Style::Raw => out.write_all(&message.body().0)?,
        Style::Json | Style::Ndjson => {
            serde_json::to_writer(&mut *out, message).map_err(io::Error::from)?;
        }
        Style::Line { columns } => {
            let line = message.line();
            let cut = columns.and_then(|columns| line.char_indices().nth(columns));
            out.write_all(cut.map_or(&line[..], |(at, _)| &line[..at]).as_bytes())?;
        }
    }
    match style {
        Style::Json => Ok(()),
        Style::Line { .. } | Style::Ndjson | Style::Raw => out.write_all(b"\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_client::Record;
    use yard_client::wire::record::{Flags, KEY, ORDER, RecordParts};
    use yard_client::wire::{MessageId, QueueIndex, QueueOffset, Timestamp, TopicId};

    #[track_caller]
    fn check(tag: &str, body: &[u8], style: Style, expected: &[u8]) {
        let mut out = Vec::new();
        with_message(tag, body, |message| {
            write_one(message, style, &mut out).expect("a vector");
        });
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
