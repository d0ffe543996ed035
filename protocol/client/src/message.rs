//! A message before it is sent.
use std::ops::Range;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;
use yard_wire::limits::PRIORITY_MAX;
use yard_wire::property::{
    CORRELATION, ENCODING, EXPIRES, FAILED, PRIORITY, REPLY_TO, TRACE_PARENT, TRACE_STATE,
    check_own_name, check_tag,
};
use yard_wire::record::{DEDUPE, DUE, Flags, KEY, ORDER, Record, RecordHead, TX};
use yard_wire::{Code, DedupeKey, MessageId, QueueIndex, Timestamp, TopicId, TxId};

use crate::compress::Compression;
use crate::{Error, TraceContext};

/// A message to send: a body, and what helps to find, filter, order and route it.
///
/// Bounds: body 4 MiB, tag 255 bytes, properties 64 KiB and 1,024 with keys and order group
/// among them. They are checked when the message is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    body: Bytes,
    tag: String,
    order_group: Option<String>,
    dedupe: Option<String>,
    keys: Vec<String>,
    properties: Vec<(String, String)>,
    queue: Option<u16>,
    due: Option<Due>,
    priority: Option<u8>,
    expires: Option<Expiry>,
    /// It is prepared: its transaction.
    transaction: Option<TxId>,
    /// Properties of the system that are known when they are set.
    system: Vec<(&'static str, String)>,
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

/// From when on nobody wants a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    /// So many milliseconds after it was given to the producer.
    After(u64),
    At(Timestamp),
}

/// The queues of a topic that messages of a priority go to: the queues are split into ten bands, or
/// as many as there are queues, and the highest priority has the last of them.
///
/// ```text
///   16 queues   0   1 2   3   4 5   6 7   8   9 10   11   12 13   14 15
///   priority    0   1     2   3     4     5   6      7    8       9
/// ```
///
/// Consumers that shall be busy with the highest priorities only read those queues.
///
/// # Panics
/// When there are no queues, or for a priority above 9.
#[must_use]
pub fn priority_queues(priority: u8, queues: u16) -> Range<u16> {
    assert!(queues > 0, "a topic has at least one queue");
    assert!(priority <= PRIORITY_MAX, "priorities are checked before");
    let levels = u32::from(PRIORITY_MAX) + 1;
    let (queues, priority) = (u32::from(queues), u32::from(priority));
    let bands = queues.min(levels);
    let band = priority * bands / levels;
    let (from, to) = (band * queues / bands, (band + 1) * queues / bands);
    from as u16..to as u16
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

    /// Sets the dedupe key, 1 to 256 bytes: of the messages of a topic with the same key only the
    /// first is stored as long as the topic remembers it, see the settings of the topic; the others
    /// get the result of the first, whoever sent it and however long ago. It chooses the queue,
    /// unless there is an order group: then messages with the same key must have the same order
    /// group, or they are not compared.
    ///
    /// With a queue or a priority, and with a key of another length, the message is refused with
    /// [`Code::BadDedupeKey`] when it is sent.
    #[must_use]
    pub fn dedupe(mut self, key: impl Into<String>) -> Self {
        self.dedupe = Some(key.into());
        self
    }

    /// A message like one that was stored, to be sent anew: its body, packed where it is packed
    /// there; tag, keys, order group and priority; where its reply is wanted; the properties of
    /// its application. It is a message of its own: it has not the dedupe key of the other, as
    /// whose duplicate it would count, nor its expiry, and belongs to no transaction. It is due at
    /// once, and what brokers have written on the other is left out.
    #[must_use]
    pub fn like(record: &Record) -> Self {
        let mut like = Self::new(record.body()).tag(record.tag()).keys(record.keys());
        like.order_group = record.order_group().map(str::to_owned);
        for (name, value) in record.properties() {
            let kept = [ENCODING, REPLY_TO, CORRELATION, FAILED].into_iter().find(|it| *it == name);
            if let Some(kept) = kept {
                like.system.push((kept, value.to_owned()));
            } else if name == PRIORITY {
                like.priority = value.parse().ok().filter(|priority| *priority <= PRIORITY_MAX);
            } else if !name.starts_with('$') {
                like.properties.push((name.to_owned(), value.to_owned()));
            }
        }
        like
    }

    /// Adds a property. Names that begin with `$` are the system's own and are refused with
    /// [`Code::ReservedProperty`] when the message is sent.
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

    /// Sets the priority, 0 to 9: the message goes to one of the queues of its band, see
    /// [`priority_queues`], by its key or in turns. A queue that is named goes before that. With an
    /// order group or above 9 the message is refused with [`Code::BadArgument`] when it is sent:
    /// what has an order cannot overtake.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Nobody wants the message any more when so much time has passed since it was given to the
    /// producer, by the broker's clock: consumers that would get it later pass it over, and the
    /// broker counts it as expired.
    #[must_use]
    pub fn expires_after(mut self, time: Duration) -> Self {
        let ms = u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        self.expires = Some(Expiry::After(ms));
        self
    }

    /// Nobody wants the message any more from this instant on; as [`Message::expires_after`].
    #[must_use]
    pub fn expires_at(mut self, instant: SystemTime) -> Self {
        let since = instant.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let ms = u64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        self.expires = Some(Expiry::At(Timestamp(ms)));
        self
    }

    /// As [`Message::expires_after`], unless that was said already.
    pub(crate) fn or_expires_after(self, time: Duration) -> Self {
        if self.expires.is_some() { self } else { self.expires_after(time) }
    }

    /// The message belongs to this trace. Without, it is that of the span in which it is sent,
    /// where the client has a [`crate::TracePropagator`].
    #[must_use]
    pub fn trace(self, context: TraceContext) -> Self {
        self.system(TRACE_PARENT, context.to_string())
    }

    /// What systems that trace add to the trace of [`Message::trace`]: W3C `tracestate`, passed on
    /// as it is. Receivers see none where it breaks the rules of [`crate::Delivery::trace_state`].
    #[must_use]
    pub fn trace_state(self, state: impl Into<String>) -> Self {
        self.system(TRACE_STATE, state.into())
    }

    /// Whether it says which trace it belongs to.
    pub(crate) fn has_trace(&self) -> bool {
        let own = self.properties.iter().map(|(name, _)| name.as_str());
        self.system.iter().map(|(name, _)| *name).chain(own).any(|name| name == TRACE_PARENT)
    }

    /// A reply is wanted in the queue of this inbox.
    pub(crate) fn wants_reply(self, inbox: &str, correlation: MessageId) -> Self {
        self.system(REPLY_TO, format!("{inbox} 0")).system(CORRELATION, correlation.to_string())
    }

    /// It is the reply to a request.
    pub(crate) fn answers(self, correlation: &str) -> Self {
        self.system(CORRELATION, correlation.to_owned())
    }

    /// The request failed.
    pub(crate) fn failed(self) -> Self {
        self.system(FAILED, "true".to_owned())
    }

    fn system(mut self, name: &'static str, value: String) -> Self {
        self.system.push((name, value));
        self
    }

    /// It is visible once the transaction is committed. [`crate::Transaction::send`] says so of
    /// what it sends; this is for those who bring messages to a broker by other ways, as
    /// [`Message::into_record`].
    #[must_use]
    pub fn prepared(mut self, tx: TxId) -> Self {
        self.transaction = Some(tx);
        self.system(TX, tx.to_string())
    }

    /// Whether it says itself which queue it goes to: by its number, or by its dedupe key.
    pub(crate) fn names_queue(&self) -> bool {
        self.queue.is_some() || self.dedupe.is_some()
    }

    /// Refuses what breaks the rules, and fixes what is known only now: by the broker's clock it is
    /// `now`, and the body is packed if that is wanted and makes it smaller.
    pub(crate) fn prepare(
        &mut self,
        now: Timestamp,
        compression: Option<&Compression>,
    ) -> Result<(), Error> {
        self.check_words()?;
        if let Some(priority) = self.priority {
            self.system.push((PRIORITY, priority.to_string()));
        }
        if let Some(expires) = self.expires {
            let at = match expires {
                Expiry::After(ms) => now.plus_ms(ms),
                Expiry::At(at) => at,
            };
            self.system.push((EXPIRES, at.to_string()));
        }
        let is_packed = self.system.iter().any(|(name, _)| *name == ENCODING);
        let compression = compression.filter(|_| !is_packed);
        if let Some((packed, encoding)) = compression.and_then(|it| it.pack(&self.body)) {
            self.body = packed;
            self.system.push((ENCODING, encoding));
        }
        Ok(())
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Which of `queues` queues the message goes to, of which the topic was created with the first
    /// `created_queues`; `pick` chooses one of a range where nothing else does. Order groups and
    /// keys go to the queues that the topic was created with, so that they stay where they are
    /// when queues are added: their order is that of a queue.
    pub(crate) fn choose_queue(
        &self,
        (queues, created_queues): (u16, u16),
        pick: impl FnOnce(Range<u16>) -> u16,
    ) -> Result<QueueIndex, Error> {
        assert!(queues > 0, "a topic has at least one queue");
        let is_kept = self.order_group.is_some() || !self.keys.is_empty();
        let among = if is_kept { created_queues.clamp(1, queues) } else { queues };
        let range = self.priority.map_or(0..among, |priority| priority_queues(priority, among));
        let by_hash = |text: &str| {
            let place = xxh3_64(text.as_bytes()) % u64::from(range.end - range.start);
            range.start + place as u16
        };
        if let (None, None, Some(key)) = (self.queue, &self.order_group, &self.dedupe) {
            let among = u64::from(created_queues.clamp(1, queues));
            return Ok(QueueIndex((xxh3_64(key.as_bytes()) % among) as u16));
        }
        let chosen = match (self.queue, &self.order_group, self.keys.first()) {
            (Some(queue), _, _) if queue < queues => queue,
            (Some(queue), _, _) => {
                let detail = format!("queue {queue} of a topic that has {queues}");
                return Err(Error::new(Code::QueueOutOfRange, detail));
            }
            (None, Some(order_group), _) => by_hash(order_group),
            (None, None, Some(key)) => by_hash(key),
            (None, None, None) => pick(range),
        };
        Ok(QueueIndex(chosen))
    }

    /// The record that a producer would send of the message: checked, packed by `compression`, and
    /// for one of the topic's queues: so many it has, with so many it was created. For those who
    /// bring messages to a broker by other ways than a [`crate::Producer`], a simulator for one.
    /// `now` is when it was made, by a clock that is the broker's too; `pick` chooses one of a
    /// range of queues where nothing else does.
    ///
    /// # Errors
    /// As [`crate::Producer::enqueue`].
    ///
    /// # Panics
    /// When the topic has no queues.
    pub fn into_record(
        mut self,
        (topic, queues): (TopicId, (u16, u16)),
        id: MessageId,
        now: Timestamp,
        compression: Option<&Compression>,
        pick: impl FnOnce(Range<u16>) -> u16,
    ) -> Result<Record, Error> {
        self.fix_due(now);
        self.prepare(now, compression)?;
        let queue = self.choose_queue(queues, pick)?;
        let head = self.head((topic, queue), id, now);
        let sized = head.check(self.properties())?;
        let mut bytes = Vec::with_capacity(sized.bytes());
        head.encode(&sized, &mut bytes);
        Ok(Record::parse(bytes.into()).expect("it was encoded just now"))
    }

    /// What the record of the message says, but for its properties.
    pub(crate) fn head(
        &self,
        (topic, queue): (TopicId, QueueIndex),
        id: MessageId,
        born: Timestamp,
    ) -> RecordHead<'_> {
        let flag = |is_set: bool, flag| if is_set { flag } else { Flags::NONE };
        let delayed = flag(self.due.is_some(), Flags::DELAYED);
        let parked = delayed.and(flag(self.transaction.is_some(), Flags::PREPARED));
        let flags = parked.and(flag(self.dedupe.is_some(), Flags::DEDUPE));
        RecordHead { topic, queue, id, born, flags, tag: &self.tag, body: &self.body }
    }

    /// The properties of the record: keys, order group, dedupe key, when it is due, what else is
    /// the system's, then the message's own.
    pub(crate) fn properties(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        let keys = self.keys.iter().map(|key| (KEY, key.as_str()));
        let order = self.order_group.iter().map(|group| (ORDER, group.as_str()));
        let dedupe = self.dedupe.iter().map(|key| (DEDUPE, key.as_str()));
        let system = self.system.iter().map(|(name, value)| (*name, value.as_str()));
        let own = self.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let due = self.due.iter().map(|due| match due {
            Due::At(due_ms) => (DUE, due_ms.as_str()),
            Due::After(_) => unreachable!("a message that is sent knows when it is due"),
        });
        keys.chain(order).chain(dedupe).chain(due).chain(system).chain(own)
    }

    /// Refuses names that are not the application's to use, tags that nobody could ask for, and
    /// priorities that there are not.
    fn check_words(&self) -> Result<(), Error> {
        self.properties.iter().try_for_each(|(name, _)| check_own_name(name))?;
        check_tag(&self.tag)?;
        if let Some(key) = &self.dedupe {
            DedupeKey::of(key)?;
            if self.queue.is_some() || self.priority.is_some() {
                let detail = "a message with a dedupe key has neither queue nor priority: the key \
                              chooses the queue";
                return Err(Error::new(Code::BadDedupeKey, detail));
            }
        }
        let bad = |detail: String| Err(Error::new(Code::BadArgument, detail));
        match self.priority {
            Some(priority) if priority > PRIORITY_MAX => {
                bad(format!("priority {priority}; 0 to {PRIORITY_MAX} may be"))
            }
            Some(_) if self.order_group.is_some() => {
                bad("a message with an order group has no priority: it could not overtake".into())
            }
            Some(_) | None => Ok(()),
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
    use yard_wire::record::RecordParts;

    use super::*;
    use crate::compress::{Algorithm, plain_body};

    fn encode(message: &Message, id: MessageId) -> Result<Vec<u8>, Error> {
        let mut message = message.clone();
        message.prepare(Timestamp(1_000), None)?;
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
            let pick = |range: Range<u16>| {
                range.start + (turn % u64::from(range.end - range.start)) as u16
            };
            let found = message.choose_queue((8, 8), pick).ok().map(|q| q.0);
            assert_eq!(found, expect, "{message:?}");
        };
        let hash = |text: &str| (xxh3_64(text.as_bytes()) % 8) as u16;
        check(Message::new("x").dedupe("d").key("k"), 0, Some(hash("d")));
        check(Message::new("x").dedupe("d").order_group("o"), 0, Some(hash("o")));
        check(Message::new("x").queue(7).order_group("o").key("k"), 0, Some(7));
        check(Message::new("x").queue(8), 0, None);
        check(Message::new("x").order_group("o").key("k"), 5, Some(hash("o")));
        check(Message::new("x").key("k").key("l"), 5, Some(hash("k")));
        check(Message::new("x"), 13, Some(5));
    }

    #[test]
    fn keys_stay_in_their_queues_when_queues_are_added() {
        let last = |range: Range<u16>| range.end - 1;
        let of = |message: &Message, queues| message.choose_queue((queues, 8), last).unwrap().0;
        for number in 0..200 {
            let name = format!("k{number}");
            let keyed = [
                Message::new("x").key(&*name),
                Message::new("x").order_group(&*name),
                Message::new("x").dedupe(&*name),
                Message::new("x").key(&*name).priority(number % 10),
            ];
            for message in &keyed {
                let found = [8, 9, 80, 160].map(|queues| of(message, queues));
                assert_eq!(found, [found[0]; 4], "{message:?}");
            }
        }
        // The others take them at once.
        let free = Message::new("x");
        assert_eq!([8, 9, 80].map(|queues| of(&free, queues)), [7, 8, 79]);
        assert_eq!(of(&Message::new("x").priority(9), 80), 79);
    }

    #[test]
    fn a_message_like_a_stored_one_says_the_same_and_is_another() {
        let body = "again and again ".repeat(1_000);
        let packing = Compression::new(Algorithm::Zstd);
        let (place, id) = ((TopicId(4), (8, 8)), MessageId::new(Timestamp(1), 2));
        let first = |range: Range<u16>| range.start;
        let stored = |message: Message, compression| {
            message.into_record(place, id, Timestamp(1_000), compression, first).unwrap()
        };
        let message = || Message::new(body.clone()).tag("t").key("k").property("colour", "red");
        let asking = message().priority(3).wants_reply("yard-inbox.a", id);
        let record = stored(asking.expires_after(Duration::from_secs(1)), Some(&packing));
        assert!(record.body().len() < body.len(), "it is packed");
        for compression in [None, Some(&packing)] {
            let again = stored(Message::like(&record), compression);
            assert_eq!(plain_body(&again).unwrap(), body.as_bytes());
            assert_eq!((again.tag(), again.keys().collect::<Vec<_>>()), ("t", vec!["k"]));
            let kept = ["colour", ENCODING, PRIORITY, REPLY_TO, CORRELATION];
            for name in kept {
                assert_eq!(again.property(name), record.property(name), "{name}");
            }
            assert_eq!(again.property(EXPIRES), None);
            assert_eq!(again.properties().count(), kept.len() + 1, "and the key");
        }
        let due = Timestamp(5_000).to_string();
        let properties = [("$dead.reason", "failed"), (DUE, &*due), (DEDUPE, "d"), (ORDER, "o")];
        let parts = RecordParts { properties: &properties, body: b"x", ..RecordParts::default() };
        let mut bytes = Vec::new();
        RecordParts { flags: Flags::DELAYED.and(Flags::DEDUPE), ..parts }
            .encode(&mut bytes)
            .unwrap();
        let record = Record::parse(bytes.into()).unwrap();
        assert_eq!(Message::like(&record), Message::new("x").order_group("o"));
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
        check(Message::new("").property("$key", "k"), Code::ReservedProperty);
        for tag in ["a|b", "|", " ", "a\nb", "\u{7f}"] {
            check(Message::new("").tag(tag), Code::BadTag);
        }
        check(Message::new("").priority(10), Code::BadArgument);
        check(Message::new("").priority(1).order_group("o"), Code::BadArgument);
        check(Message::new(vec![0; (4 << 20) + 1]), Code::BodyTooLarge);
        check(Message::new("").tag("t".repeat(256)), Code::PropertiesTooLarge);
    }

    #[test]
    fn priorities_have_bands_that_leave_out_no_queue() {
        for queues in [1u16, 2, 7, 8, 9, 10, 11, 16, 64, 1_000, 1_024] {
            let mut covered = 0;
            for priority in 0..=9 {
                let band = priority_queues(priority, queues);
                assert!(band.start < band.end && band.end <= queues, "{queues}: {band:?}");
                assert!(band.start <= covered, "{queues}: a queue below {band:?} has none");
                covered = covered.max(band.end);
            }
            assert_eq!(covered, queues);
            assert_eq!(priority_queues(0, queues).start, 0);
        }
        let bands: Vec<Range<u16>> =
            (0..=9).map(|priority| priority_queues(priority, 16)).collect();
        assert_eq!((bands[0].clone(), bands[9].clone()), (0..1, 14..16));
        assert!(bands.windows(2).all(|two| two[0].end == two[1].start), "{bands:?}");
        let of = |message: Message| message.choose_queue((16, 16), |range| range.start).unwrap().0;
        assert_eq!(of(Message::new("x").priority(9)), 14);
        assert!((14..16).contains(&of(Message::new("x").priority(9).key("k"))));
        assert_eq!(of(Message::new("x").priority(9).queue(3)), 3);
    }

    #[test]
    fn what_the_system_knows_travels_as_properties() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let message = Message::new("body")
            .priority(4)
            .expires_after(Duration::from_micros(1_500))
            .trace(TraceContext::parse(trace).unwrap());
        assert!(message.has_trace() && !Message::new("").has_trace());
        let bytes = encode(&message, MessageId::default()).unwrap();
        let record = Record::parse(bytes.into()).unwrap();
        assert_eq!(record.property(PRIORITY), Some("4"));
        assert_eq!(record.property(EXPIRES), Some("1002"), "rounded up, never early");
        assert_eq!(record.property(TRACE_PARENT), Some(trace));
        let at = Message::new("").expires_at(SystemTime::UNIX_EPOCH + Duration::from_millis(7));
        let at = at.or_expires_after(Duration::from_secs(1));
        let record = Record::parse(encode(&at, MessageId::default()).unwrap().into()).unwrap();
        assert_eq!(record.property(EXPIRES), Some("7"));
    }
}
