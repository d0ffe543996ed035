//! A message before it is sent.
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;
use yard_wire::record::{DUE, Flags, KEY, ORDER, RecordHead};
use yard_wire::{Code, MessageId, QueueIndex, Timestamp, TopicId};

use crate::Error;

/// A message to send: a body, and what helps to find, filter, order and route it.
///
/// Bounds: body 4 MiB, tag 255 bytes, properties 64 KiB and 1,024 with keys and order group
/// among them. They are checked when the message is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    body: Bytes,
    tag: String,
    order_group: Option<String>,
    keys: Vec<String>,
    properties: Vec<(String, String)>,
    queue: Option<u16>,
    due: Option<Due>,
}

/// How long messages of RocketMQ's delay levels wait, level 1 first. Source: RocketMQ's default
/// `messageDelayLevel`, "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h".
pub const DELAY_LEVELS: [Duration; 18] = {
    const fn m(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }
    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
    [
        s(1),
        s(5),
        s(10),
        s(30),
        m(1),
        m(2),
        m(3),
        m(4),
        m(5),
        m(6),
        m(7),
        m(8),
        m(9),
        m(10),
        m(20),
        m(30),
        m(60),
        m(120),
    ]
};

/// When a message is to be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Due {
    After(Duration),
    /// In milliseconds since 1970, as the record has it.
    At(String),
}

impl Message {
    /// A message with this body, possibly empty.
    #[must_use]
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// Adds a key by which the message can be found. Messages with the same first key go to the
    /// same queue, unless an order group or a queue is named.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Adds several keys.
    #[must_use]
    pub fn keys<K: Into<String>>(mut self, keys: impl IntoIterator<Item = K>) -> Self {
        self.keys.extend(keys.into_iter().map(Into::into));
        self
    }

    /// Sets the tag, at most 255 bytes.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = tag.into();
        self
    }

    /// Sets the order group: messages of a group go to the same queue, in the order of the calls.
    #[must_use]
    pub fn order_group(mut self, order_group: impl Into<String>) -> Self {
        self.order_group = Some(order_group.into());
        self
    }

    /// Adds a property. Names that begin with `$` are the broker's own and are refused with
    /// [`Code::BadArgument`] when the message is sent.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Names the queue; refused with [`Code::QueueOutOfRange`] where the topic has no such queue.
    #[must_use]
    pub fn queue(mut self, queue: u16) -> Self {
        self.queue = Some(queue);
        self
    }

    /// Delivers the message at this instant and not before, by the broker's clock; at once where
    /// it has passed. At most 400 days away: the broker refuses others with
    /// [`Code::DelayTooLong`]. Consumers get it after those that were visible before.
    #[must_use]
    pub fn deliver_at(mut self, instant: SystemTime) -> Self {
        let since = instant.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // Rounded up: never early.
        let due_ms = since.as_nanos().div_ceil(1_000_000);
        self.due = Some(Due::At(due_ms.to_string()));
        self
    }

    /// Delivers the message so long after it is given to the producer, by this machine's clock;
    /// see [`Message::deliver_at`].
    #[must_use]
    pub fn deliver_after(mut self, delay: Duration) -> Self {
        self.due = Some(Due::After(delay));
        self
    }

    /// The message was given to the producer at this instant: from now on it is known when it is
    /// due.
    pub(crate) fn fix_due(&mut self, born: Timestamp) {
        if let Some(Due::After(delay)) = self.due {
            let delay_ms = delay.as_nanos().div_ceil(1_000_000);
            self.due = Some(Due::At((u128::from(born.0) + delay_ms).to_string()));
        }
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Which of `queues` queues the message goes to; `turn` decides where nothing else does.
    pub(crate) fn choose_queue(&self, queues: usize, turn: u64) -> Result<QueueIndex, Error> {
        assert!(queues > 0, "a topic has at least one queue");
        let by_hash = |text: &str| xxh3_64(text.as_bytes()) % queues as u64;
        let chosen = match (self.queue, &self.order_group, self.keys.first()) {
            (Some(queue), _, _) if usize::from(queue) < queues => u64::from(queue),
            (Some(queue), _, _) => {
                let detail = format!("queue {queue} of a topic that has {queues}");
                return Err(Error::new(Code::QueueOutOfRange, detail));
            }
            (None, Some(order_group), _) => by_hash(order_group),
            (None, None, Some(key)) => by_hash(key),
            (None, None, None) => turn % queues as u64,
        };
        Ok(QueueIndex(chosen as u16))
    }

    /// What the record of the message says, but for its properties.
    pub(crate) fn head(
        &self,
        (topic, queue): (TopicId, QueueIndex),
        id: MessageId,
        born: Timestamp,
    ) -> RecordHead<'_> {
        let flags = if self.due.is_some() { Flags::DELAYED } else { Flags::NONE };
        RecordHead { topic, queue, id, born, flags, tag: &self.tag, body: &self.body }
    }

    /// The properties of the record: keys, order group, when it is due, then the message's own.
    pub(crate) fn properties(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        let keys = self.keys.iter().map(|key| (KEY, key.as_str()));
        let order = self.order_group.iter().map(|group| (ORDER, group.as_str()));
        let own = self.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let due = self.due.iter().map(|due| match due {
            Due::At(due_ms) => (DUE, due_ms.as_str()),
            Due::After(_) => unreachable!("a message that is sent knows when it is due"),
        });
        keys.chain(order).chain(due).chain(own)
    }

    /// Refuses names that are not the application's to use.
    pub(crate) fn check_names(&self) -> Result<(), Error> {
        match self.properties.iter().find(|(name, _)| name.starts_with('$')) {
            None => Ok(()),
            Some((name, _)) => {
                let detail = format!("the property {name:?}: names that begin with $ are reserved");
                Err(Error::new(Code::BadArgument, detail))
            }
        }
    }
}

impl From<&str> for Message {
    fn from(body: &str) -> Self {
        Self::new(body.as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_wire::record::Record;

    fn encode(message: &Message, id: MessageId) -> Result<Vec<u8>, Error> {
        message.check_names()?;
        let head = message.head((TopicId(4), QueueIndex(3)), id, Timestamp(1));
        let sized = head.check(message.properties())?;
        let mut out = Vec::new();
        head.encode(&sized, &mut out);
        assert_eq!(out.len(), sized.bytes());
        Ok(out)
    }

    #[test]
    fn queues_are_chosen_by_name_then_order_group_then_key_then_turn() {
        let check = |message: Message, turn: u64, expect: Option<u16>| {
            let found = message.choose_queue(8, turn).ok().map(|q| q.0);
            assert_eq!(found, expect, "{message:?}");
        };
        let hash = |text: &str| (xxh3_64(text.as_bytes()) % 8) as u16;
        check(Message::new("x").queue(7).order_group("o").key("k"), 0, Some(7));
        check(Message::new("x").queue(8), 0, None);
        check(Message::new("x").order_group("o").key("k"), 5, Some(hash("o")));
        check(Message::new("x").key("k").key("l"), 5, Some(hash("k")));
        check(Message::new("x"), 13, Some(5));
    }

    #[test]
    fn keys_and_order_group_travel_as_properties() {
        let message = Message::new("body").keys(["a", "b"]).order_group("o").property("c", "d");
        let id = MessageId::new(Timestamp(1), 2);
        let bytes = encode(&message.tag("t"), id).unwrap();
        let record = Record::parse(bytes.into()).unwrap();
        assert_eq!(record.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((record.order_group(), record.property("c")), (Some("o"), Some("d")));
        assert_eq!((record.tag(), record.id()), ("t", id));
    }

    #[test]
    fn a_delayed_message_says_when_it_is_due() {
        let due = |mut message: Message| {
            message.fix_due(Timestamp(1_000));
            let bytes = encode(&message, MessageId::default()).unwrap();
            let record = Record::parse(bytes.into()).unwrap();
            (record.flags().is_parked(), record.due().map(|due| due.0))
        };
        assert_eq!(due(Message::new("x")), (false, None));
        let after = |delay| Message::new("x").deliver_after(delay);
        assert_eq!(due(after(Duration::from_secs(5))), (true, Some(6_000)));
        assert_eq!(due(after(Duration::from_nanos(1))), (true, Some(1_001)), "never early");
        let at = |since| Message::new("x").deliver_at(SystemTime::UNIX_EPOCH + since);
        assert_eq!(due(at(Duration::from_millis(7))), (true, Some(7)));
        assert_eq!(due(at(Duration::from_micros(7_001))), (true, Some(8)), "never early");
    }

    #[test]
    fn what_breaks_the_rules_is_refused_before_it_is_sent() {
        let check = |message: Message, code: Code| {
            assert_eq!(encode(&message, MessageId::default()).unwrap_err().code, code);
        };
        check(Message::new("").property("$key", "k"), Code::BadArgument);
        check(Message::new(vec![0; (4 << 20) + 1]), Code::BodyTooLarge);
        check(Message::new("").tag("t".repeat(256)), Code::PropertiesTooLarge);
    }
}
