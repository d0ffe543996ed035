//! One message with its place: as a line for people, and as JSON.
use bytes::Bytes;
use serde::ser::{Serialize, SerializeMap, Serializer};
use yard_client::compress::plain_body;
use yard_client::wire::record::{KEY, ORDER};
use yard_client::{Delivery, QueueIndex, QueueOffset, Record, Timestamp};

use super::text;

/// A message with its place.
pub struct Received<'m> {
    pub topic: &'m str,
    pub queue: QueueIndex,
    pub offset: QueueOffset,
    pub stored: Timestamp,
    /// 1 for the first delivery; `None` where it was read without a group.
    pub attempt: Option<u32>,
    pub record: &'m Record,
}

impl<'m> Received<'m> {
    pub fn of(topic: &'m str, delivery: &'m Delivery) -> Self {
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
    pub fn body(&self) -> (Bytes, Option<yard_client::Error>) {
        match plain_body(self.record) {
            Ok(body) => (body, None),
            Err(error) => (self.record.body(), Some(error)),
        }
    }

    /// `queue offset time tag key body`, without a line feed.
    pub fn line(&self) -> String {
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
