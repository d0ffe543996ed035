//! The messages of a crash run: each says who sent it and what it must hold.
//!
//! ```text
//! offset size field
//!      0    8 producer  number of the producer
//!      8    8 seq       number of the message in the producer
//!     16    . filler    random bytes
//! ```
use xxhash_rust::xxh3::Xxh3;
use yard_client::Message;
use yard_client::wire::record::Record;

use crate::Seeded;

const NAME_BYTES: usize = 16;
/// Bytes of filler of most messages, at most.
const FILLER_BYTES_MAX: u64 = 1_500;
/// One message in so many is large …
const LARGE_ONCE_IN: u64 = 100;
/// … with so many bytes of filler at most.
const LARGE_BYTES_MAX: u64 = 96 << 10;

/// A message of a producer, and the hash of what must arrive.
pub(super) fn make(
    producer: u64,
    seq: u64,
    order_group: Option<u64>,
    random: &mut Seeded,
) -> (Message, u64) {
    let max = if random.once_in(LARGE_ONCE_IN) { LARGE_BYTES_MAX } else { FILLER_BYTES_MAX };
    let filler = random.within(0..max) as usize;
    let mut body = Vec::with_capacity(NAME_BYTES + filler + 8);
    body.extend_from_slice(&producer.to_le_bytes());
    body.extend_from_slice(&seq.to_le_bytes());
    while body.len() < NAME_BYTES + filler {
        body.extend_from_slice(&random.next_u64().to_le_bytes());
    }
    body.truncate(NAME_BYTES + filler);
    let tag = format!("tag-{}", seq % 7);
    let key = format!("key-{producer}-{}", seq % 50);
    let order = order_group.map(|group| format!("{producer}-{group}")).unwrap_or_default();
    let hash = hash_of(&body, &tag, &key, &order);
    let message = Message::new(body).tag(tag).key(key).property("of", "crash");
    let message = if order.is_empty() { message } else { message.order_group(order) };
    (message, hash)
}

/// Producer and number of a message; one that no producer made is of producer 0.
pub(super) fn name(record: &Record) -> (u64, u64) {
    let body = record.body();
    let word = |at: usize| {
        let bytes = body.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    };
    (word(0), word(8))
}

/// The hash of what arrived.
pub(super) fn hash(record: &Record) -> u64 {
    let key = record.keys().next().unwrap_or_default();
    hash_of(&record.body(), record.tag(), key, record.order_group().unwrap_or_default())
}

fn hash_of(body: &[u8], tag: &str, key: &str, order: &str) -> u64 {
    let mut hash = Xxh3::new();
    for part in [body, tag.as_bytes(), key.as_bytes(), order.as_bytes()] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.digest()
}
