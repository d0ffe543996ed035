//! The record: one message as the producer made it, as the log holds it, as the consumer gets it.
//!
//! ```text
//! offset size field
//!      0    4 length_bytes   the whole record, this field included
//!      4    2 header_bytes   where the tag begins: 80 in version 1
//!      6    8 queue_offset   0 as stored; the host fills it in a plugin's copy
//!     14    8 born_ms        the producer's clock, milliseconds since 1970 UTC
//!     22    8 stored_ms      0 as stored; the host fills it in a plugin's copy
//!     30    4 queue          index of the queue in its topic
//!     34    4 flags          bit 0: delayed, bit 1: prepared, bit 2: has a dedupe key; others 0
//!     38    4 attempts       0 as stored; the host fills it in a plugin's copy
//!     42    2 tag_bytes
//!     44    2 properties     how many
//!     46    4 body_bytes
//!     50    4 topic          id of the topic
//!     54    2 version        1
//!     56   16 id             message id
//!     72    4 header_crc     CRC32C of bytes 0..72 and 76..body
//!     76    4 body_crc       CRC32C of the body
//!     80    . tag            UTF-8
//!      .    . properties     (u16 name length, u16 value length, name, value)*, UTF-8
//!      .    . body
//! ```
//!
//! The first 50 bytes are the packed layout that plugins see, so a plugin's batch is one copy a
//! message with three fields filled in. What the broker itself attaches a meaning to travels as
//! properties whose names begin with `$`, which applications may not use: `$key` (repeated, the
//! keys of the message), `$order` (its order group) and `$due` (of a delayed message: when it is
//! to be delivered, milliseconds since 1970 UTC in decimal), `$tx` (of a prepared message: its
//! transaction, see [`crate::transaction`]), `$dedupe` (its dedupe key).
//!
//! A record that is delayed or prepared is parked: it is stored as it arrived and gets a place in
//! its queue by a release later, see [`crate::release`].
use bytes::{BufMut, Bytes};

use crate::codec::Malformed;
use crate::limits;
use crate::{Code, MessageId, QueueIndex, Refusal, Timestamp, TopicId};

mod flags;
mod properties;
#[cfg(test)]
mod tests;

pub use flags::Flags;
pub(crate) use properties::{
    PROPERTY_HEADER_BYTES, check_properties, property_header, split_names, split_properties,
};

/// Bytes of the fixed part of a record of version 1.
pub const HEADER_BYTES: usize = 80;
/// The version that this code writes.
pub const VERSION: u16 = 1;
/// Name of the property that carries a key; it may occur several times.
pub const KEY: &str = "$key";
/// Name of the property that carries the order group.
pub const ORDER: &str = "$order";
/// Name of the property that says when a delayed message is to be delivered, in milliseconds
/// since 1970 UTC, decimal.
pub const DUE: &str = "$due";
/// Name of the property that carries the dedupe key: 1 to
/// [`limits::DEDUPE_KEY_BYTES_MAX`] bytes. It counts only with [`Flags::DEDUPE`].
pub const DEDUPE: &str = "$dedupe";

/// Name of the property that says to which transaction a prepared message belongs, as
/// [`TxId`] writes it.
pub const TX: &str = "$tx";

const FLAGS_AT: usize = 34;
const HEADER_CRC_AT: usize = 72;

const _: () = assert!(HEADER_CRC_AT + 8 == HEADER_BYTES);

/// Everything that a producer says about one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordParts<'a> {
    /// Topic of the message.
    pub topic: TopicId,
    /// Queue of the message.
    pub queue: QueueIndex,
    /// Id of the message.
    pub id: MessageId,
    /// When it was born, by the producer's clock.
    pub born: Timestamp,
    /// Whether it waits, and for what.
    pub flags: Flags,
    /// Tag, or empty.
    pub tag: &'a str,
    /// Properties in order, system ones (`$key`, `$order`) among them.
    pub properties: &'a [(&'a str, &'a str)],
    /// Body, possibly empty.
    pub body: &'a [u8],
}

impl RecordParts<'_> {
    fn head(&self) -> RecordHead<'_> {
        let Self { topic, queue, id, born, flags, tag, body, .. } = *self;
        RecordHead { topic, queue, id, born, flags, tag, body }
    }

    fn sized(&self) -> SizedRecord<impl Iterator<Item = (&str, &str)> + Clone> {
        SizedRecord::new(&self.head(), self.properties.iter().copied())
    }

    /// Bytes that the record will have.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        self.sized().bytes
    }

    /// Checks the parts against the limits.
    ///
    /// # Errors
    /// [`Code::BodyTooLarge`] or [`Code::PropertiesTooLarge`], with the sizes.
    pub fn check(&self) -> Result<(), Refusal> {
        self.head().check(self.properties.iter().copied()).map(|_| ())
    }

    /// Appends the record to `out`.
    ///
    /// # Errors
    /// As [`RecordParts::check`]; nothing is appended then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let checked = self.head().check(self.properties.iter().copied())?;
        self.head().encode(&checked, out);
        Ok(())
    }
}

/// What a producer says about one message, its properties aside: for those who have them in no
/// list. [`RecordHead::check`] and then [`RecordHead::encode`] make of it what
/// [`RecordParts::encode`] makes of the same parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead<'a> {
    /// Topic of the message.
    pub topic: TopicId,
    /// Queue of the message.
    pub queue: QueueIndex,
    /// Id of the message.
    pub id: MessageId,
    /// When it was born, by the producer's clock.
    pub born: Timestamp,
    /// Whether it waits, and for what.
    pub flags: Flags,
    /// Tag, or empty.
    pub tag: &'a str,
    /// Body, possibly empty.
    pub body: &'a [u8],
}

/// The properties of a record that was checked against the limits, and how long it will be.
#[derive(Clone, Copy, Debug)]
pub struct SizedRecord<P> {
    properties: P,
    count: usize,
    properties_bytes: usize,
    bytes: usize,
}

impl<'p, P: Iterator<Item = (&'p str, &'p str)> + Clone> SizedRecord<P> {
    fn new(head: &RecordHead<'_>, properties: P) -> Self {
        let (mut count, mut properties_bytes) = (0, 0);
        for (name, value) in properties.clone() {
            count += 1;
            properties_bytes += PROPERTY_HEADER_BYTES + name.len() + value.len();
        }
        let bytes = HEADER_BYTES + head.tag.len() + properties_bytes + head.body.len();
        Self { properties, count, properties_bytes, bytes }
    }
}

impl<P> SizedRecord<P> {
    /// Bytes that the record will have.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl RecordHead<'_> {
    /// Checks the parts, with these properties (system ones among them), against the limits.
    ///
    /// # Errors
    /// [`Code::BodyTooLarge`] or [`Code::PropertiesTooLarge`], with the sizes.
    pub fn check<'p, P>(&self, properties: P) -> Result<SizedRecord<P>, Refusal>
    where
        P: Iterator<Item = (&'p str, &'p str)> + Clone,
    {
        let sized = SizedRecord::new(self, properties);
        check_sizes(self.body.len(), self.tag.len(), sized.count, sized.properties_bytes)?;
        Ok(sized)
    }

    /// Computes the checksums: all that is left then is to copy.
    ///
    /// # Panics
    /// [`SealedRecord::put`] does when `sized` is of other parts.
    #[must_use]
    pub fn seal<'a, 'p, P>(&'a self, sized: &'a SizedRecord<P>) -> SealedRecord<'a, P>
    where
        P: Iterator<Item = (&'p str, &'p str)> + Clone,
    {
        SealedRecord { fixed: self.fixed(sized), head: self, sized }
    }

    /// Appends the record to `out`; every byte is written once.
    ///
    /// # Panics
    /// When `sized` is of other parts.
    pub fn encode<'p, P>(&self, sized: &SizedRecord<P>, out: &mut impl BufMut)
    where
        P: Iterator<Item = (&'p str, &'p str)> + Clone,
    {
        self.seal(sized).put(out);
    }

    /// The fixed part, with both checksums.
    fn fixed<'p, P>(&self, sized: &SizedRecord<P>) -> [u8; HEADER_BYTES]
    where
        P: Iterator<Item = (&'p str, &'p str)> + Clone,
    {
        let mut out = [0; HEADER_BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &(sized.bytes as u32).to_le_bytes());
        put(4, &(HEADER_BYTES as u16).to_le_bytes());
        put(14, &self.born.0.to_le_bytes());
        put(30, &u32::from(self.queue.0).to_le_bytes());
        put(FLAGS_AT, &self.flags.0.to_le_bytes());
        put(42, &(self.tag.len() as u16).to_le_bytes());
        put(44, &(sized.count as u16).to_le_bytes());
        put(46, &(self.body.len() as u32).to_le_bytes());
        put(50, &self.topic.0.to_le_bytes());
        put(54, &VERSION.to_le_bytes());
        put(56, &self.id.0);
        put(76, &crc32c::crc32c(self.body).to_le_bytes());
        let mut crc = crc32c::crc32c(&out[..HEADER_CRC_AT]);
        crc = crc32c::crc32c_append(crc, &out[HEADER_CRC_AT + 4..]);
        if !self.tag.is_empty() {
            crc = crc32c::crc32c_append(crc, self.tag.as_bytes());
        }
        for (name, value) in sized.properties.clone() {
            crc = crc32c::crc32c_append(crc, &property_header(name, value));
            crc = crc32c::crc32c_append(crc, name.as_bytes());
            crc = crc32c::crc32c_append(crc, value.as_bytes());
        }
        out[HEADER_CRC_AT..HEADER_CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        out
    }
}

/// A record that is ready to be written.
#[derive(Clone, Copy, Debug)]
pub struct SealedRecord<'a, P> {
    fixed: [u8; HEADER_BYTES],
    head: &'a RecordHead<'a>,
    sized: &'a SizedRecord<P>,
}

impl<'p, P: Iterator<Item = (&'p str, &'p str)> + Clone> SealedRecord<'_, P> {
    /// What it says, but for its properties.
    #[must_use]
    pub fn head(&self) -> &RecordHead<'_> {
        self.head
    }

    /// Bytes of the record.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.sized.bytes
    }

    /// Appends the record to `out`; every byte is written once.
    ///
    /// # Panics
    /// When the sizes are those of other parts.
    pub fn put(&self, out: &mut impl BufMut) {
        let mut left = self.sized.bytes;
        let mut put = |bytes: &[u8]| {
            left = left.checked_sub(bytes.len()).expect("the announced length is the written one");
            out.put_slice(bytes);
        };
        put(&self.fixed);
        put(self.head.tag.as_bytes());
        for (name, value) in self.sized.properties.clone() {
            put(&property_header(name, value));
            put(name.as_bytes());
            put(value.as_bytes());
        }
        put(self.head.body);
        assert_eq!(left, 0, "the announced length is the written one");
    }
}

fn check_sizes(body: usize, tag: usize, count: usize, bytes: usize) -> Result<(), Refusal> {
    if body > limits::BODY_BYTES_MAX {
        let max = limits::BODY_BYTES_MAX;
        let detail = format!("the body has {body} bytes, the limit is {max}");
        mark!(RecordBodyTooLarge);
        return Err(Refusal::new(Code::BodyTooLarge, detail));
    }
    let over = |what: &str, found: usize, max: usize| {
        let detail = format!("{what}: {found}, the limit is {max}");
        mark!(RecordPropertiesTooLarge);
        Err(Refusal::new(Code::PropertiesTooLarge, detail))
    };
    if tag > limits::TAG_BYTES_MAX {
        return over("bytes of the tag", tag, limits::TAG_BYTES_MAX);
    }
    if count > limits::PROPERTIES_MAX {
        return over("number of properties", count, limits::PROPERTIES_MAX);
    }
    if bytes > limits::PROPERTIES_BYTES_MAX {
        return over("bytes of the properties", bytes, limits::PROPERTIES_BYTES_MAX);
    }
    Ok(())
}

/// CRC of everything before the body except the CRC itself.
fn header_crc(before_body: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&before_body[..HEADER_CRC_AT]);
    crc32c::crc32c_append(crc, &before_body[HEADER_CRC_AT + 4..])
}

/// A record whose lengths were checked; it borrows nothing and copies nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    bytes: Bytes,
    body_at: usize,
}

/// Where a record wants to go, whether at once, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Topic that the producer addressed.
    pub topic: TopicId,
    /// Queue that the producer addressed.
    pub queue: QueueIndex,
    /// Whether it waits, and for what.
    pub flags: Flags,
    /// Bytes of the whole record.
    pub bytes: u32,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

impl Record {
    /// Takes one record off the front of `input`, checks every length and both checksums.
    ///
    /// # Errors
    /// [`Malformed`] with what is wrong; `input` is then unchanged.
    pub fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let length = Self::peek_length(input)?;
        let body_at = Self::check_structure(&input[..length])?;
        Ok(Self { bytes: input.split_to(length), body_at })
    }

    /// A record whose bytes were checked by [`Record::check_front`].
    pub(crate) fn checked(bytes: Bytes) -> Self {
        let body_at = bytes.len() - u32_at(&bytes, 46) as usize;
        Self { bytes, body_at }
    }

    /// The address of the record at the front of `input`, of which every length and both
    /// checksums hold; and whether it keeps the limits of a message, see
    /// [`Record::check_limits`].
    ///
    /// # Errors
    /// [`Malformed`] with what is wrong.
    pub(crate) fn check_front(input: &[u8]) -> Result<(Address, Result<(), Refusal>), Malformed> {
        let length = Self::peek_length(input)?;
        let bytes = &input[..length];
        let body_at = Self::check_structure(bytes)?;
        let limits = limits_of(bytes, body_at);
        Ok((Self::peek_address(bytes)?, limits))
    }

    /// Reads a record that must fill `input`.
    ///
    /// # Errors
    /// [`Malformed`] with what is wrong.
    pub fn parse(mut input: Bytes) -> Result<Self, Malformed> {
        let record = Self::take(&mut input)?;
        if !input.is_empty() {
            mark!(RecordTrailing);
            return Err(Malformed::Trailing { left: input.len() as u64 });
        }
        Ok(record)
    }

    /// The announced length of the record at the front of `input`, checked against what is there.
    ///
    /// # Errors
    /// [`Malformed`] when the announced length cannot be that of a record or is not there.
    pub fn peek_length(input: &[u8]) -> Result<usize, Malformed> {
        let length = Self::announced_length(input)?;
        if length > input.len() {
            mark!(RecordCut);
            return Err(Malformed::Short { wanted: length as u64, left: input.len() as u64 });
        }
        Ok(length)
    }

    /// The announced length of the record at the front of `input`, which holds its fixed part at
    /// least: how much to read.
    ///
    /// # Errors
    /// [`Malformed`] when it cannot be that of a record.
    pub fn announced_length(input: &[u8]) -> Result<usize, Malformed> {
        if input.len() < HEADER_BYTES {
            let left = input.len() as u64;
            mark!(RecordShort);
            return Err(Malformed::Short { wanted: HEADER_BYTES as u64, left });
        }
        let length = u32_at(input, 0) as usize;
        if !(HEADER_BYTES..=limits::BATCH_BYTES_MAX).contains(&length) {
            mark!(RecordLength);
            return Err(Malformed::Length {
                what: "length of a record",
                found: length as u64,
                max: limits::BATCH_BYTES_MAX as u64,
            });
        }
        Ok(length)
    }

    /// Id and keys of the record that fills `record`; its checksums are not looked at.
    ///
    /// # Errors
    /// [`Malformed`] when the parts do not fit the record. Keys behind a property that does not
    /// fit are not given.
    pub fn peek_keys(record: &[u8]) -> Result<(MessageId, impl Iterator<Item = &str>), Malformed> {
        let properties = Self::peek_properties(record)?;
        let mut id = [0; 16];
        id.copy_from_slice(&record[56..72]);
        let keys = properties.filter(|(name, _)| *name == KEY).map(|(_, value)| value);
        Ok((MessageId(id), keys))
    }

    /// The order group of the record that fills `record`; its checksums are not looked at.
    ///
    /// # Errors
    /// [`Malformed`] when the parts do not fit the record.
    pub fn peek_order_group(record: &[u8]) -> Result<Option<&str>, Malformed> {
        Self::peek_property(record, ORDER)
    }

    /// The first property of this name of the record that fills `record`; its checksums are not
    /// looked at.
    ///
    /// # Errors
    /// [`Malformed`] when the parts do not fit the record.
    pub fn peek_property<'r>(record: &'r [u8], name: &str) -> Result<Option<&'r str>, Malformed> {
        let mut properties = Self::peek_properties(record)?;
        Ok(properties.find(|(found, _)| *found == name).map(|(_, value)| value))
    }

    /// Tag and names of the properties of a record that was checked.
    pub(crate) fn peek_words(record: &[u8]) -> (&str, impl Iterator<Item = &str>) {
        let tag_end = HEADER_BYTES + usize::from(u16_at(record, 42));
        let body_at = record.len() - u32_at(record, 46) as usize;
        let tag = str::from_utf8(&record[HEADER_BYTES..tag_end]);
        let names = split_names(&record[tag_end..body_at]);
        (tag.expect("checked when the record was taken"), names)
    }

    fn peek_properties(record: &[u8]) -> Result<impl Iterator<Item = (&str, &str)>, Malformed> {
        let length = Self::peek_length(record)?;
        let tag_end = HEADER_BYTES + usize::from(u16_at(record, 42));
        let body = u32_at(record, 46) as usize;
        let Some(rest) = length.checked_sub(body).and_then(|end| record.get(tag_end..end)) else {
            let wanted = (tag_end + body) as u64;
            return Err(Malformed::Short { wanted, left: length as u64 });
        };
        Ok(split_properties(rest))
    }

    /// The address of the record at the front of `input`; its checksums are not looked at.
    ///
    /// # Errors
    /// As [`Record::peek_length`], or [`Malformed::Field`] when queue or flags are out of range.
    pub fn peek_address(input: &[u8]) -> Result<Address, Malformed> {
        let bytes = Self::peek_length(input)?;
        let queue = u32_at(input, 30);
        let queue = u16::try_from(queue)
            .map_err(|_| Malformed::Field { what: "queue of a record", value: queue.into() })?;
        Ok(Address {
            topic: TopicId(u32_at(input, 50)),
            queue: QueueIndex(queue),
            flags: flags_of(input)?,
            bytes: bytes as u32,
        })
    }

    /// Whether `bytes` are exactly one record, every length and both checksums included.
    ///
    /// # Errors
    /// [`Malformed`] with what is wrong.
    pub fn check(bytes: &[u8]) -> Result<(), Malformed> {
        let length = Self::peek_length(bytes)?;
        if length < bytes.len() {
            mark!(RecordSurplus);
            return Err(Malformed::Trailing { left: (bytes.len() - length) as u64 });
        }
        Self::check_structure(bytes).map(drop)
    }

    /// The address of the record at the front of `input`, of which everything but the body is
    /// checked: for finding the records of a batch whose bytes are damaged.
    ///
    /// # Errors
    /// [`Malformed`] with what is wrong.
    pub fn check_header(input: &[u8]) -> Result<Address, Malformed> {
        let length = Self::peek_length(input)?;
        Self::check_before_body(&input[..length])?;
        Self::peek_address(input)
    }

    /// Checks what the bytes of one record say; returns where the body begins.
    fn check_structure(bytes: &[u8]) -> Result<usize, Malformed> {
        let body_at = Self::check_before_body(bytes)?;
        if crc32c::crc32c(&bytes[body_at..]) != u32_at(bytes, 76) {
            mark!(RecordBodyChecksum);
            return Err(Malformed::Checksum { what: "body of a record" });
        }
        Ok(body_at)
    }

    /// As [`Self::check_structure`] for everything but the body.
    fn check_before_body(bytes: &[u8]) -> Result<usize, Malformed> {
        let field = |what, value: u64| Err(Malformed::Field { what, value });
        if u16_at(bytes, 54) != VERSION {
            mark!(RecordVersion);
            return field("version of a record", u16_at(bytes, 54).into());
        }
        if usize::from(u16_at(bytes, 4)) != HEADER_BYTES {
            mark!(RecordHeaderLength);
            return field("header length of a record", u16_at(bytes, 4).into());
        }
        let tag = usize::from(u16_at(bytes, 42));
        let count = usize::from(u16_at(bytes, 44));
        let body = u32_at(bytes, 46) as usize;
        // In 64 bits none of these sums can overflow.
        let fixed = HEADER_BYTES + tag + body;
        if fixed > bytes.len() {
            mark!(RecordParts);
            return Err(Malformed::Short { wanted: fixed as u64, left: bytes.len() as u64 });
        }
        let body_at = bytes.len() - body;
        let crc = header_crc(&bytes[..body_at]);
        if crc != u32_at(bytes, HEADER_CRC_AT) {
            mark!(RecordHeaderChecksum);
            return Err(Malformed::Checksum { what: "header of a record" });
        }
        for (what, at) in [("queue offset", 6), ("stored time", 22)] {
            if u64_at(bytes, at) != 0 {
                mark!(RecordPlaced);
                return field(what, u64_at(bytes, at));
            }
        }
        if u32_at(bytes, 38) != 0 {
            mark!(RecordAttempts);
            return field("attempts", u32_at(bytes, 38).into());
        }
        flags_of(bytes)?;
        if u32_at(bytes, 30) > u32::from(u16::MAX) {
            return field("queue of a record", u32_at(bytes, 30).into());
        }
        check_variable(&bytes[HEADER_BYTES..body_at], tag, count)?;
        Ok(body_at)
    }

    /// All bytes of the record.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Topic that the producer addressed.
    #[must_use]
    pub fn topic(&self) -> TopicId {
        TopicId(u32_at(&self.bytes, 50))
    }

    /// Queue that the producer addressed.
    #[must_use]
    pub fn queue(&self) -> QueueIndex {
        QueueIndex(u16_at(&self.bytes, 30))
    }

    /// Id of the message.
    #[must_use]
    pub fn id(&self) -> MessageId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.bytes[56..72]);
        MessageId(id)
    }

    /// Whether the message waited, and for what.
    #[must_use]
    pub fn flags(&self) -> Flags {
        flags_of(&self.bytes).expect("checked when the record was taken")
    }

    /// When the message was born, by the producer's clock.
    #[must_use]
    pub fn born(&self) -> Timestamp {
        Timestamp(u64_at(&self.bytes, 14))
    }

    /// Tag, or empty.
    #[must_use]
    pub fn tag(&self) -> &str {
        let tag = usize::from(u16_at(&self.bytes, 42));
        str::from_utf8(&self.bytes[HEADER_BYTES..HEADER_BYTES + tag])
            .expect("checked when the record was taken")
    }

    /// Body, sharing the record's memory.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.bytes.slice(self.body_at..)
    }

    /// Bytes of the body.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.bytes.len() - self.body_at
    }

    /// Bytes of all properties, with their lengths.
    #[must_use]
    pub fn properties_bytes(&self) -> usize {
        self.body_at - HEADER_BYTES - usize::from(u16_at(&self.bytes, 42))
    }

    /// Properties in order, system ones among them.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        let tag = usize::from(u16_at(&self.bytes, 42));
        split_properties(&self.bytes[HEADER_BYTES + tag..self.body_at])
    }

    /// The same message in another queue, with `count` more properties, encoded, before its own.
    pub(crate) fn noted(
        &self,
        topic: TopicId,
        queue: QueueIndex,
        count: u16,
        notes: &[u8],
    ) -> Result<Bytes, Malformed> {
        let properties_at = HEADER_BYTES + usize::from(u16_at(&self.bytes, 42));
        let counted = u16_at(&self.bytes, 44).checked_add(count).ok_or(Malformed::Length {
            what: "number of properties",
            found: u64::from(count),
            max: u16::MAX.into(),
        })?;
        let length = self.bytes.len() + notes.len();
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(&self.bytes[..properties_at]);
        out.extend_from_slice(notes);
        out.extend_from_slice(&self.bytes[properties_at..]);
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &(length as u32).to_le_bytes());
        put(30, &u32::from(queue.0).to_le_bytes());
        put(44, &counted.to_le_bytes());
        put(50, &topic.0.to_le_bytes());
        let crc = header_crc(&out[..self.body_at + notes.len()]);
        out[HEADER_CRC_AT..HEADER_CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        Ok(Bytes::from(out))
    }

    /// The first property of this name.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The keys of the message, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.properties().filter(|(name, _)| *name == KEY).map(|(_, value)| value)
    }

    /// The order group of the message, if it has one.
    #[must_use]
    pub fn order_group(&self) -> Option<&str> {
        self.property(ORDER)
    }

    /// Checks the record against the limits of a message.
    ///
    /// # Errors
    /// [`Code::BodyTooLarge`] or [`Code::PropertiesTooLarge`], with the sizes.
    pub fn check_limits(&self) -> Result<(), Refusal> {
        limits_of(&self.bytes, self.body_at)
    }
}

fn flags_of(record: &[u8]) -> Result<Flags, Malformed> {
    let bits = u32_at(record, FLAGS_AT);
    Flags::from_bits(bits).ok_or(Malformed::Field { what: "flags", value: bits.into() })
}

fn limits_of(record: &[u8], body_at: usize) -> Result<(), Refusal> {
    let count = usize::from(u16_at(record, 44));
    let tag = usize::from(u16_at(record, 42));
    check_sizes(record.len() - body_at, tag, count, body_at - HEADER_BYTES - tag)
}

fn check_variable(bytes: &[u8], tag: usize, count: usize) -> Result<(), Malformed> {
    str::from_utf8(&bytes[..tag]).map_err(|_| Malformed::Utf8)?;
    check_properties(&bytes[tag..], count)
}
