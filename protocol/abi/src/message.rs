//! One packed message: a stored record, or a record in a frame, which may have less of its body.
//!
//! ```text
//! offset size field
//!      0    4 length_bytes   the whole message, this field included
//!      4    2 header_bytes   where the tag begins: 80, more in later versions
//!      6    8 queue_offset   in a frame; 0 before the message has one
//!     14    8 born_ms        the producer's clock, milliseconds since 1970 UTC
//!     22    8 stored_ms      in a frame; 0 before the message is stored
//!     30    4 queue          index of the queue in its topic
//!     34    4 flags          in a frame, bit 0: the body is cut, bit 1: the properties are left
//!                            out; others reserved
//!     38    4 attempts       in a frame: deliveries before this one
//!     42    2 tag_bytes
//!     44    2 properties     how many
//!     46    4 body_bytes     that are here
//!     50    4 topic          id of the topic that the producer addressed
//!     54    2 version        of the record: 1
//!     56   16 id             message id
//!     72    4 header_crc     as stored, and not valid in a frame; of a cut body its whole length
//!     76    4 body_crc       as stored, of the whole body
//!     80    . tag            UTF-8
//!      .    . properties     (u16 name length, u16 value length, name, value)*, UTF-8
//!      .    . body
//! ```
//!
//! It is the layout of the stored record (`protocol/wire`, `record.rs`), so one reader serves
//! guests over frames and native code over the log.
use alloc::vec::Vec;

use crate::le::{u16_at, u32_at, u64_at};

/// Bytes of the fixed part of a message.
pub const HEADER_BYTES: usize = 80;
/// Bit of `flags` in a frame, as the other: those of a stored record are the log's own, and a frame
/// has none of them. The body was cut to what the plugin asked for.
pub const FLAG_BODY_CUT: u32 = 1;
/// Bit of `flags` in a frame: the properties were left out, because the plugin declares that it
/// reads none.
pub const FLAG_NO_PROPERTIES: u32 = 2;
/// Name of the property that carries a key of the message; it may occur several times.
pub const KEY: &str = "$key";
/// Name of the property that carries the order group.
pub const ORDER: &str = "$order";

/// Where the fields are, see the drawing above.
pub(crate) mod at {
    pub(crate) const LENGTH: usize = 0;
    pub(crate) const HEADER: usize = 4;
    pub(crate) const OFFSET: usize = 6;
    pub(crate) const BORN: usize = 14;
    pub(crate) const STORED: usize = 22;
    pub(crate) const QUEUE: usize = 30;
    pub(crate) const FLAGS: usize = 34;
    pub(crate) const ATTEMPTS: usize = 38;
    pub(crate) const TAG: usize = 42;
    pub(crate) const PROPERTIES: usize = 44;
    pub(crate) const BODY: usize = 46;
    pub(crate) const TOPIC: usize = 50;
    pub(crate) const ID: usize = 56;
    pub(crate) const WHOLE_BODY: usize = 72;
}

const PROPERTY_HEADER_BYTES: usize = 4;

const _: () = assert!(at::WHOLE_BODY + 8 == HEADER_BYTES && at::ID + 16 == at::WHOLE_BODY);

/// Why bytes are no frame, no message or no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A frame that does not begin with the magic of this version.
    Magic,
    /// More is announced than is there.
    Short,
    /// A length or count that cannot be.
    Length,
    /// Something follows where nothing may.
    Trailing,
    /// A value that has no meaning.
    Value,
}

impl core::fmt::Display for Malformed {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str(match self {
            Malformed::Magic => "this is no frame of version 1",
            Malformed::Short => "more is announced than is there",
            Malformed::Length => "a length that cannot be",
            Malformed::Trailing => "something follows where nothing may",
            Malformed::Value => "a value that has no meaning",
        })
    }
}

impl core::error::Error for Malformed {}

/// A message whose lengths were checked. It borrows its bytes and copies nothing; what it gives as
/// bytes is UTF-8 but for the body, because the broker checked it when the record came.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    tag_at: usize,
    tag_end: usize,
    body_at: usize,
}

impl<'a> Message<'a> {
    /// Takes the message at the front of `input` and gives what follows it.
    ///
    /// # Errors
    /// [`Malformed`] when its lengths do not fit each other or `input`.
    #[inline]
    pub fn take(input: &'a [u8]) -> Result<(Self, &'a [u8]), Malformed> {
        let head: &[u8; HEADER_BYTES] = input.first_chunk().ok_or(Malformed::Short)?;
        let length = u32_at(head, at::LENGTH) as usize;
        let tag_at = usize::from(u16_at(head, at::HEADER));
        let tag_end = tag_at + usize::from(u16_at(head, at::TAG));
        let body = u32_at(head, at::BODY) as usize;
        if length > input.len() {
            return Err(Malformed::Short);
        }
        // Then the tag ends before the body begins, and the body before the message ends.
        if tag_at < HEADER_BYTES || length < tag_end || length - tag_end < body {
            return Err(Malformed::Length);
        }
        let (bytes, after) = input.split_at(length);
        Ok((Self { bytes, tag_at, tag_end, body_at: length - body }, after))
    }

    /// The fixed part, which every message that was taken has.
    #[inline]
    fn head(&self) -> &'a [u8; HEADER_BYTES] {
        self.bytes.first_chunk().unwrap_or(&[0; HEADER_BYTES])
    }

    #[inline]
    fn part(&self, from: usize, to: usize) -> &'a [u8] {
        self.bytes.get(from..to).unwrap_or_default()
    }

    /// The message that fills `input`, a stored record for example.
    ///
    /// # Errors
    /// As [`Message::take`], and [`Malformed::Trailing`] when something follows.
    pub fn parse(input: &'a [u8]) -> Result<Self, Malformed> {
        match Self::take(input)? {
            (message, []) => Ok(message),
            _ => Err(Malformed::Trailing),
        }
    }

    /// Offset in its queue; 0 before it has one, as an interceptor sees it.
    #[must_use]
    pub fn offset(&self) -> u64 {
        u64_at(self.head(), at::OFFSET)
    }

    /// When it was born, by the producer's clock, in milliseconds since 1970 UTC.
    #[must_use]
    pub fn born_ms(&self) -> u64 {
        u64_at(self.head(), at::BORN)
    }

    /// When it was stored, in milliseconds since 1970 UTC; 0 before it is.
    #[must_use]
    pub fn stored_ms(&self) -> u64 {
        u64_at(self.head(), at::STORED)
    }

    /// Index of its queue in the topic.
    #[must_use]
    pub fn queue(&self) -> u32 {
        u32_at(self.head(), at::QUEUE)
    }

    /// How often it was delivered before.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        u32_at(self.head(), at::ATTEMPTS)
    }

    /// Id of the topic that the producer addressed.
    #[must_use]
    pub fn topic(&self) -> u32 {
        u32_at(self.head(), at::TOPIC)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id.copy_from_slice(&self.head()[at::ID..at::WHOLE_BODY]);
        id
    }

    /// Its tag, or nothing.
    #[inline]
    #[must_use]
    pub fn tag(&self) -> &'a [u8] {
        self.part(self.tag_at, self.tag_end)
    }

    /// Whether its properties are not here, because the plugin declares that it reads none. Then
    /// it is as if it had none.
    #[inline]
    #[must_use]
    pub fn is_without_properties(&self) -> bool {
        u32_at(self.head(), at::FLAGS) & FLAG_NO_PROPERTIES != 0
    }

    /// Its bytes up to the properties: the fixed part and the tag.
    #[inline]
    pub(crate) fn until_properties(&self) -> &'a [u8] {
        self.part(0, self.tag_end)
    }

    /// Appends the message as it is but for its properties, which are left out.
    pub fn put_without_properties(&self, out: &mut Vec<u8>) {
        let (start, head, body) = (out.len(), self.until_properties(), self.body());
        out.extend_from_slice(head);
        out.extend_from_slice(body);
        let message = &mut out[start..];
        let mut put = |at: usize, field: &[u8]| {
            message[at..at + field.len()].copy_from_slice(field);
        };
        let flags = u32_at(self.head(), at::FLAGS) | FLAG_NO_PROPERTIES;
        put(at::LENGTH, &((head.len() + body.len()) as u32).to_le_bytes());
        put(at::FLAGS, &flags.to_le_bytes());
        put(at::PROPERTIES, &0u16.to_le_bytes());
    }

    /// How many properties it has here.
    #[must_use]
    pub fn property_count(&self) -> u16 {
        u16_at(self.head(), at::PROPERTIES)
    }

    /// Its properties in order, names and values, those of the broker (`$key` and the like) too.
    #[inline]
    #[must_use]
    pub fn properties(&self) -> Properties<'a> {
        Properties { rest: self.part(self.tag_end, self.body_at) }
    }

    /// The value of its first property of this name.
    #[inline]
    #[must_use]
    pub fn property(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.find(&PropertyName::new(name))
    }

    /// The value of its first property of this name, which was prepared before.
    #[inline]
    #[must_use]
    pub fn find<N: AsRef<[u8]>>(&self, name: &PropertyName<N>) -> Option<&'a [u8]> {
        let wanted = name.name.as_ref().len();
        let mut rest = self.part(self.tag_end, self.body_at);
        while let Some((head, after)) = rest.split_first_chunk::<PROPERTY_HEADER_BYTES>() {
            let lengths = u32_at(head, 0) as usize;
            let (name_bytes, value_bytes) = (lengths & 0xFFFF, lengths >> 16 & 0xFFFF);
            if name_bytes == wanted && name.is_at_front(after) {
                return after.get(name_bytes..name_bytes + value_bytes);
            }
            rest = after.get(name_bytes + value_bytes..)?;
        }
        None
    }

    /// Its body, or as much of it as the plugin asked for.
    #[inline]
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.part(self.body_at, self.bytes.len())
    }

    /// Bytes of its whole body, however much of it is here.
    #[must_use]
    pub fn body_bytes(&self) -> u32 {
        if self.body_is_cut() {
            return u32_at(self.head(), at::WHOLE_BODY);
        }
        u32_at(self.head(), at::BODY)
    }

    /// Whether a part of its body is missing here.
    #[must_use]
    pub fn body_is_cut(&self) -> bool {
        u32_at(self.head(), at::FLAGS) & FLAG_BODY_CUT != 0
    }
}

/// The name of a property that is looked for again and again. Comparing words instead of bytes
/// is what makes looking cheap: most names differ in their first eight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropertyName<N> {
    name: N,
    word: u64,
    mask: u64,
}

impl<N: AsRef<[u8]>> PropertyName<N> {
    /// Prepares a name.
    #[inline]
    #[must_use]
    pub fn new(name: N) -> Self {
        let mut word = [0; 8];
        let mut mask = [0; 8];
        for (index, byte) in name.as_ref().iter().take(8).enumerate() {
            word[index] = *byte;
            mask[index] = u8::MAX;
        }
        Self { name, word: u64::from_le_bytes(word), mask: u64::from_le_bytes(mask) }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &N {
        &self.name
    }

    #[inline]
    fn is_at_front(&self, bytes: &[u8]) -> bool {
        let name = self.name.as_ref();
        match bytes.first_chunk::<8>() {
            Some(word) if u64::from_le_bytes(*word) & self.mask != self.word => false,
            Some(_) if name.len() <= 8 => true,
            _ => bytes.starts_with(name),
        }
    }
}

/// Whether two texts are the same. It compares words that may overlap, and so a short text with
/// two comparisons; in a guest, where nothing else does that, a loop over bytes costs ten times as
/// much.
#[inline]
#[must_use]
pub fn is_same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match a.len() {
        0 => true,
        1 => a[0] == b[0],
        2..4 => a.first_chunk::<2>() == b.first_chunk() && a.last_chunk::<2>() == b.last_chunk(),
        4..8 => a.first_chunk::<4>() == b.first_chunk() && a.last_chunk::<4>() == b.last_chunk(),
        8..=16 => a.first_chunk::<8>() == b.first_chunk() && a.last_chunk::<8>() == b.last_chunk(),
        _ => a == b,
    }
}

/// The properties of a message, names and values.
#[derive(Clone, Copy, Debug)]
pub struct Properties<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Properties<'a> {
    type Item = (&'a [u8], &'a [u8]);

    /// Ends early where the bytes are no property; those of a checked record all are.
    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.rest.split_first_chunk::<PROPERTY_HEADER_BYTES>()?;
        let (name, rest) = rest.split_at_checked(usize::from(u16_at(head, 0)))?;
        let (value, rest) = rest.split_at_checked(usize::from(u16_at(head, 2)))?;
        self.rest = rest;
        Some((name, value))
    }
}
