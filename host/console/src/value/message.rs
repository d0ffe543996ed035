//! A message that was read.
use std::fmt;
use std::sync::Arc;

use rhai::{Array, Dynamic};
use serde_json::Value as Json;
use yard_client::{FetchedRecord, FoundMessage, QueueIndex, QueueOffset, Record, Timestamp};

use super::row::Row;
use super::value_of;
use crate::book::{Kind, nearest};
use crate::fault::{Fault, Result};
use crate::now;
use crate::show::message::own_properties;
use crate::show::{Received, page, text};
use yard_client::Code;

/// Characters of a body that a row of a table shows.
const BODY_CHARS_MAX: usize = 60;

/// A message with its place; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Message(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    topic: Arc<str>,
    queue: QueueIndex,
    offset: QueueOffset,
    stored: Timestamp,
    record: Record,
}

impl Message {
    pub(crate) fn fetched(topic: &Arc<str>, queue: QueueIndex, it: FetchedRecord) -> Result<Self> {
        Self::new(topic.clone(), queue, it.offset, it.stored, it.record)
    }

    pub(crate) fn found(found: FoundMessage) -> Result<Self> {
        let FoundMessage { topic, queue, offset, stored, record } = found;
        Self::new(topic.into(), queue, offset, stored, record)
    }

    fn new(
        topic: Arc<str>,
        queue: QueueIndex,
        offset: QueueOffset,
        stored: Timestamp,
        record: bytes::Bytes,
    ) -> Result<Self> {
        let record = Record::parse(record).map_err(|why| {
            Fault::new(Code::BadReply, format!("a message cannot be read: {why}"))
        })?;
        Ok(Self(Arc::new(Inner { topic, queue, offset, stored, record })))
    }

    pub(crate) fn record(&self) -> &Record {
        &self.0.record
    }

    pub(crate) fn topic(&self) -> &str {
        &self.0.topic
    }

    pub(crate) fn queue(&self) -> QueueIndex {
        self.0.queue
    }

    pub(crate) fn offset(&self) -> QueueOffset {
        self.0.offset
    }

    pub(crate) fn stored(&self) -> Timestamp {
        self.0.stored
    }

    /// Bytes that it holds in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let tag_and_properties: usize =
            self.record().properties().map(|(name, value)| name.len() + value.len()).sum();
        128 + self.record().body().len() + tag_and_properties
    }

    pub(crate) fn received(&self) -> Received<'_> {
        let Inner { topic, queue, offset, stored, record } = &*self.0;
        let (queue, offset, stored) = (*queue, *offset, *stored);
        Received { topic, queue, offset, stored, attempt: None, record }
    }

    /// The message on a page.
    pub(crate) fn page(&self) -> String {
        page::text_of(&self.received(), "`.body` is all of it")
    }

    /// All of it.
    pub(crate) fn json(&self) -> Json {
        serde_json::to_value(self.received()).expect("texts, numbers and lists are JSON")
    }

    /// What a row of a table shows of it.
    pub(crate) fn summary(&self) -> Json {
        let record = self.record();
        let body = record.body();
        let shown = String::from_utf8_lossy(&body[..body.len().min(4 * BODY_CHARS_MAX)]);
        let mut cut: String = shown.chars().take(BODY_CHARS_MAX).collect();
        if cut.len() < body.len() {
            cut.push('…');
        }
        serde_json::json!({
            "queue": self.queue().0,
            "offset": self.offset().0,
            "stored_ms": self.stored().0,
            "tag": record.tag(),
            "key": record.keys().next(),
            "body": cut,
        })
    }

    /// The body as a text.
    pub(crate) fn body(&self) -> Result<String> {
        let body = self.record().body();
        str::from_utf8(&body).map(str::to_owned).map_err(|_| {
            let id = self.record().id();
            Fault::argument(format!("the body of {id} is no text; `.save` writes it as base64"))
                .into()
        })
    }
}

/// A property of messages: name, what it is, its page, and where it comes from.
pub(crate) struct Property {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
    pub(crate) example: &'static str,
    pub(crate) look: fn(&Message) -> Result<Dynamic>,
}

const fn is(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    example: &'static str,
    look: fn(&Message) -> Result<Dynamic>,
) -> Property {
    Property { name, kind, help, example, look }
}

fn number(number: u64) -> Dynamic {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

/// The properties that scripts see.
pub(crate) const PROPERTIES: &[Property] = &[
    is(
        "topic",
        Kind::Text,
        "Name of its topic.",
        r#"topic("orders").all().count_by("topic")"#,
        |m| Ok(m.topic().into()),
    ),
    is("queue", Kind::Number, "Its queue.", r#"topic("orders").all().count_by("queue")"#, |m| {
        Ok(i64::from(m.queue().0).into())
    }),
    is(
        "offset",
        Kind::Number,
        "Its place in the queue.",
        r#"topic("orders").all().filter(|m| m.offset < 10)"#,
        |m| Ok(number(m.offset().0)),
    ),
    is(
        "id",
        Kind::Text,
        "Its id: 32 hexadecimal digits.",
        r#"topic("orders").all().map(|m| m.id)"#,
        |m| Ok(m.record().id().to_string().into()),
    ),
    is(
        "time",
        Kind::Text,
        "When the broker stored it.",
        r#"topic("orders").all().map(|m| m.time)"#,
        |m| Ok(text::instant(m.stored()).into()),
    ),
    is(
        "stored_ms",
        Kind::Number,
        "When the broker stored it, in milliseconds since 1970.",
        r#"topic("orders").all().sort_by("-stored_ms")"#,
        |m| Ok(number(m.stored().0)),
    ),
    is(
        "born_ms",
        Kind::Number,
        "When it was made, by its producer's clock, in milliseconds since 1970.",
        r#"topic("orders").all().filter(|m| m.stored_ms - m.born_ms > 1.minutes)"#,
        |m| Ok(number(m.record().born().0)),
    ),
    is(
        "age",
        Kind::Number,
        "Milliseconds since it was stored.",
        r#"topic("orders").all().filter(|m| m.age < 6.hours)"#,
        |m| Ok(number(now().0.saturating_sub(m.stored().0))),
    ),
    is(
        "tag",
        Kind::Text,
        "Its tag, empty where it has none.",
        r#"topic("orders").all().count_by("tag")"#,
        |m| Ok(m.record().tag().to_owned().into()),
    ),
    is(
        "key",
        Kind::Text,
        "Its first key; nothing where it has none.",
        r#"topic("orders").sample(1_000).count_by("key").top(10)"#,
        |m| Ok(m.record().keys().next().map_or(Dynamic::UNIT, |key| key.to_owned().into())),
    ),
    is(
        "keys",
        Kind::Array,
        "All its keys.",
        r#"topic("orders").all().filter(|m| "order-17" in m.keys)"#,
        |m| Ok(m.record().keys().map(|key| key.to_owned().into()).collect::<Array>().into()),
    ),
    is(
        "order",
        Kind::Text,
        "Its order group; nothing where it has none.",
        r#"topic("orders").all().count_by("order")"#,
        |m| Ok(m.record().order_group().map_or(Dynamic::UNIT, |group| group.to_owned().into())),
    ),
    is(
        "properties",
        Kind::Row,
        "Its own properties.",
        r#"topic("orders").all().map(|m| m.properties)"#,
        |m| {
            let field = |(name, value): (&str, &str)| (name.into(), value.to_owned().into());
            Ok(Dynamic::from(Row::new(own_properties(m.record()).map(field))))
        },
    ),
    is("size", Kind::Number, "Bytes of its body.", r#"topic("orders").all().sum("size")"#, |m| {
        Ok(number(m.record().body().len() as u64))
    }),
    is(
        "body",
        Kind::Text,
        "Its body as a text; an error where it is none.",
        r#"topic("orders").all().filter(|m| m.body.contains("timeout"))"#,
        |m| m.body().map(Into::into),
    ),
    is(
        "json",
        Kind::Any,
        "Its body read as JSON; an error where it is none.",
        r#"topic("orders").all().filter(|m| m.json.amount > 1_000)"#,
        |m| {
            serde_json::from_slice(&m.record().body()).map(value_of).map_err(|why| {
                let id = m.record().id();
                Fault::argument(format!("the body of {id} is no JSON: {why}")).into()
            })
        },
    ),
];

impl Message {
    /// A property by its name.
    pub(crate) fn get(&self, name: &str) -> Result<Dynamic> {
        match PROPERTIES.iter().find(|property| property.name == name) {
            Some(property) => (property.look)(self),
            None => {
                let near = nearest(name, PROPERTIES.iter().map(|property| property.name));
                let near = near.map_or(String::new(), |near| format!("; the nearest is {near}"));
                Err(Fault::argument(format!("a message has no property {name}{near}")).into())
            }
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.received().line())
    }
}
