//! The bodies that producers send: they say who sent them, so that any reader can tell.
//!
//! ```text
//! offset size field
//!      0    8 producer   number of the producer in the history
//!      8    8 seq        its number in the producer
//!     16    . filler     follows from the two
//! ```
use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};
use yard_wire::property::{ENCODING, EXPIRES, PRIORITY};
use yard_wire::record::{DEDUPE, DUE, Flags, ORDER, Record, RecordParts, TX};
use yard_wire::{MessageId, QueueIndex, Timestamp, TopicId, TxId};

use yard_client::compress::plain_body;
use yard_client::{Compression, Message};

use crate::alike::ALIKE;
use crate::base::Found;
use crate::random::Random;

/// Properties that say how consumers are to take a message.
const MARKS: [&str; 3] = [EXPIRES, PRIORITY, ENCODING];
/// Of so many words of a body that is packed, one is another than the one before.
const REPEATED: u64 = 6;
/// Bytes before the filler.
pub(crate) const BODY_BYTES_MIN: u64 = 16;

/// What a producer says about a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Letter {
    /// The topic.
    pub topic: TopicId,
    /// The queue.
    pub queue: QueueIndex,
    /// The producer.
    pub producer: u64,
    /// Its number in the producer.
    pub seq: u64,
    /// Its order group.
    pub order_group: Option<u64>,
    /// Its dedupe key.
    pub dedupe: Option<u64>,
    /// It is for a plugin to find; else its sender says it.
    pub is_for_plugin: bool,
    /// The value that groups may compare it by.
    pub alike: Option<u64>,
    /// How its body is packed, if that makes it smaller.
    pub packed: Option<Compression>,
    /// Bytes of its body.
    pub body_bytes: u64,
    /// When it is sent.
    pub born: Timestamp,
    /// When it is to be delivered, if not at once, by the broker's clock.
    pub due: Option<Timestamp>,
    /// From when on nobody wants it any more, by the broker's clock.
    pub expires: Option<Timestamp>,
    /// Its priority, by which its queue was chosen.
    pub priority: Option<u8>,
    /// Its transaction, if it has one.
    pub tx: Option<TxId>,
}

/// The record of a message, its id, and the hash of its body, its id and [`MARKS`].
#[must_use]
pub(crate) fn encode(letter: &Letter) -> (Bytes, MessageId, u64) {
    let mut body = Vec::with_capacity(letter.body_bytes as usize + 8);
    body.extend_from_slice(&letter.producer.to_le_bytes());
    body.extend_from_slice(&letter.seq.to_le_bytes());
    let mut filler = Random::new(letter.producer << 32 ^ letter.seq);
    let mut word = 0;
    while (body.len() as u64) < letter.body_bytes {
        if letter.packed.is_none() || filler.once_in(REPEATED) {
            word = filler.word();
        }
        body.extend_from_slice(&word.to_le_bytes());
    }
    body.truncate(letter.body_bytes.max(BODY_BYTES_MIN) as usize);
    let packed = letter.packed.and_then(|compression| pack(&body, &compression));
    let (sent, encoding) = packed.map_or((None, None), |(sent, how)| (Some(sent), Some(how)));
    let order = letter.order_group.map(|group| group.to_string());
    let due = letter.due.map(|due| due.to_string());
    let tx = letter.tx.map(|tx| tx.to_string());
    let order = order.iter().map(|group| (ORDER, &group[..]));
    let waits = due.iter().map(|due| (DUE, &due[..])).chain(tx.iter().map(|tx| (TX, &tx[..])));
    let flag = |is_set: bool, flag| if is_set { flag } else { Flags::NONE };
    let parked = flag(due.is_some(), Flags::DELAYED).and(flag(tx.is_some(), Flags::PREPARED));
    let dedupe = letter.dedupe.map(|key| key.to_string());
    let keys = dedupe.iter().map(|key| (DEDUPE, &key[..]));
    let alike = letter.alike.map(|value| value.to_string());
    let keys = keys.chain(alike.iter().map(|value| (ALIKE, &value[..])));
    let expires = letter.expires.map(|expires| expires.to_string());
    let marks = expires.iter().map(|expires| (EXPIRES, &expires[..]));
    let priority = letter.priority.map(|priority| priority.to_string());
    let marks = marks.chain(priority.iter().map(|priority| (PRIORITY, &priority[..])));
    let marks = marks.chain(encoding.iter().map(|encoding| (ENCODING, &encoding[..])));
    let properties: Vec<(&str, &str)> = order.chain(keys).chain(waits).chain(marks).collect();
    let parts = RecordParts {
        topic: letter.topic,
        queue: letter.queue,
        id: MessageId::new(letter.born, u128::from(filler.word())),
        born: letter.born,
        flags: parked.and(flag(dedupe.is_some() && !letter.is_for_plugin, Flags::DEDUPE)),
        tag: "",
        properties: &properties,
        body: sent.as_deref().unwrap_or(&body),
    };
    let mut bytes = Vec::with_capacity(parts.encoded_bytes());
    parts.encode(&mut bytes).expect("the plan stays within the limits of a message");
    let hash = hash(&body, parts.id, properties.iter().copied());
    (Bytes::from(bytes), parts.id, hash)
}

/// Of all that must arrive as it was sent: the body, the id, and the marks among the properties.
fn hash<'a>(
    body: &[u8],
    id: MessageId,
    properties: impl Iterator<Item = (&'a str, &'a str)>,
) -> u64 {
    let own = xxh3_64_with_seed(body, xxh3_64(&id.0));
    let marks = properties.filter(|(name, _)| MARKS.contains(name));
    marks.fold(own, |hash, (name, value)| {
        xxh3_64_with_seed(value.as_bytes(), xxh3_64_with_seed(name.as_bytes(), hash))
    })
}

/// A packed body and what is said of it, where that is smaller.
fn pack(body: &[u8], compression: &Compression) -> Option<(Bytes, String)> {
    let message = Message::new(Bytes::copy_from_slice(body));
    let place = (TopicId(1), (1, 1));
    let packed =
        message.into_record(place, MessageId([1; 16]), Timestamp(0), Some(compression), |_| 0);
    let packed = packed.expect("the plan stays within the limits of a message");
    let encoding = packed.property(ENCODING)?.to_owned();
    Some((packed.body(), encoding))
}

/// When somebody has no use for a message any more, if that was said.
pub(crate) fn expiry(record: &Record) -> Option<Timestamp> {
    record.property(EXPIRES)?.parse().ok().map(Timestamp)
}

/// Reads what some reader got. The record's own checks are done here as a client does them.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn decode(record: &Bytes) -> Result<(Record, Found), String> {
    let record = Record::parse(record.clone()).map_err(|error| error.to_string())?;
    let body = plain_body(&record).map_err(|error| error.to_string())?;
    let word = |at: usize| {
        let bytes = body.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u64::from_le_bytes).ok_or_else(|| "the body is too short".to_owned())
    };
    let hash = hash(&body, record.id(), record.properties());
    let found = Found { producer: word(0)?, seq: word(8)?, hash };
    Ok((record, found))
}
