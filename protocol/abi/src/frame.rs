//! The batch of packed messages that a plugin judges with one call.
//!
//! ```text
//! offset size field
//!      0    3 magic      "SYF"
//!      3    1 version    1
//!      4    4 count      messages, 1 to 256; the argument `count` of the call says the same
//!      8    . messages   back to back, each as message.rs draws it
//! ```
//!
//! A message is copied from the log as it is stored; offset, stored time, queue and attempts are
//! filled in, a body that is longer than the plugin asked for is cut, and the properties are left
//! out where the plugin declares that it reads none.
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::le::u32_at;
use crate::message::{self, FLAG_BODY_CUT, FLAG_NO_PROPERTIES, Malformed, Message, at};

/// What a frame begins with: `SYF` and the version.
pub const MAGIC: [u8; 4] = *b"SYF\x01";
/// Bytes before the first message.
pub const HEADER_BYTES: usize = 8;
/// Messages of one frame. Source: measured, from 64 on a larger batch gains nothing.
pub const FRAME_MESSAGES_MAX: usize = 256;
/// Bytes of one frame, unless a single message is larger.
pub const FRAME_BYTES_MAX: usize = 64 << 10;
/// Bytes of a body that a plugin may ask for. A longer body is cut, and says so.
pub const BODY_BYTES_MAX: usize = 1 << 20;

const COUNT_AT: usize = 4;
/// A fixed part with a short tag: a copy of so many bytes, known beforehand, is a few instructions.
const SHORT_HEAD_BYTES: usize = 96;

const _: () = assert!(MAGIC.len() == COUNT_AT && COUNT_AT + 4 == HEADER_BYTES);

/// What the broker knows of a message and its record does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Offset in its queue; 0 before it has one.
    pub offset: u64,
    /// When it was stored, in milliseconds since 1970 UTC; 0 before it is.
    pub stored_ms: u64,
    /// Index of its queue in the topic.
    pub queue: u32,
    /// How often it was delivered before.
    pub attempts: u32,
}

/// Which properties the messages of a frame have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    /// None, not even those of the broker such as keys and order group.
    None,
    /// All.
    #[default]
    All,
}

/// What a frame has of each message besides the fixed part and the tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Bytes of its body, at most; more than [`BODY_BYTES_MAX`] is taken for that.
    pub body_bytes: u32,
    /// Its properties.
    pub properties: Shown,
}

impl View {
    /// Whether who wants `other` sees enough.
    #[must_use]
    pub fn covers(self, other: View) -> bool {
        self.body_bytes >= other.body_bytes && self.properties >= other.properties
    }

    /// The same with all properties.
    #[must_use]
    pub fn with_properties(self) -> View {
        View { properties: Shown::All, ..self }
    }

    /// The least that covers both.
    #[must_use]
    pub fn and(self, other: View) -> View {
        let body_bytes = self.body_bytes.max(other.body_bytes);
        View { body_bytes, properties: self.properties.max(other.properties) }
    }
}

/// Whether a message went into a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Room {
    /// It is in the frame.
    Taken,
    /// It is not: the frame is full without it.
    Full,
}

/// Makes frames, one after the other in the same memory.
#[derive(Clone, Debug)]
pub struct FrameBuilder {
    bytes: Vec<u8>,
    count: u32,
    view: View,
}

impl FrameBuilder {
    /// A builder whose messages have all properties and at most `body_bytes` of their bodies;
    /// more than [`BODY_BYTES_MAX`] is taken for that.
    #[must_use]
    pub fn new(body_bytes: u32) -> Self {
        Self::of(View { body_bytes, properties: Shown::All })
    }

    /// A builder whose messages have what a plugin wants to see of them.
    #[must_use]
    pub fn of(view: View) -> Self {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[0; HEADER_BYTES - MAGIC.len()]);
        Self { bytes, count: 0, view }
    }

    /// What its messages have.
    #[must_use]
    pub fn view(&self) -> View {
        self.view
    }

    /// Begins the next frame, in the memory of the last.
    pub fn clear(&mut self) {
        self.bytes.truncate(HEADER_BYTES);
        self.bytes[COUNT_AT..HEADER_BYTES].fill(0);
        self.count = 0;
    }

    /// Adds a message: one copy of its stored record up to where its body is cut, or one up to
    /// its properties and one of its body. The first of a frame is taken whatever its size.
    ///
    /// # Errors
    /// [`Malformed`] when `record` is not one whole record; the frame is then unchanged.
    pub fn push(&mut self, record: &[u8], delivery: Delivery) -> Result<Room, Malformed> {
        let parsed = Message::parse(record)?;
        let body = parsed.body().len();
        let cut = body.saturating_sub(BODY_BYTES_MAX.min(self.view.body_bytes as usize));
        let (head, rest) = match self.view.properties {
            Shown::All => (&record[..record.len() - cut], &[][..]),
            Shown::None => (parsed.until_properties(), &parsed.body()[..body - cut]),
        };
        let length = head.len() + rest.len();
        let is_full = self.count as usize == FRAME_MESSAGES_MAX
            || self.bytes.len() + length > FRAME_BYTES_MAX;
        if self.count > 0 && is_full {
            return Ok(Room::Full);
        }
        let start = self.bytes.len();
        match record.first_chunk::<SHORT_HEAD_BYTES>() {
            Some(short) if head.len() <= short.len() => {
                self.bytes.extend_from_slice(short);
                self.bytes.truncate(start + head.len());
            }
            _ => self.bytes.extend_from_slice(head),
        }
        if !rest.is_empty() {
            self.bytes.extend_from_slice(rest);
        }
        let message = self.bytes[start..].first_chunk_mut::<{ message::HEADER_BYTES }>();
        let message = message.expect("a message that was parsed has its fixed part");
        let mut put = |at: usize, field: &[u8]| {
            message[at..at + field.len()].copy_from_slice(field);
        };
        put(at::OFFSET, &delivery.offset.to_le_bytes());
        put(at::STORED, &delivery.stored_ms.to_le_bytes());
        put(at::QUEUE, &delivery.queue.to_le_bytes());
        put(at::ATTEMPTS, &delivery.attempts.to_le_bytes());
        let mut flags = 0;
        if self.view.properties == Shown::None {
            flags |= FLAG_NO_PROPERTIES;
            put(at::PROPERTIES, &0u16.to_le_bytes());
        }
        if cut > 0 {
            flags |= FLAG_BODY_CUT;
            put(at::BODY, &((body - cut) as u32).to_le_bytes());
            put(at::WHOLE_BODY, &(body as u32).to_le_bytes());
        }
        // What the stored flags say is the log's own, by other bits.
        put(at::FLAGS, &flags.to_le_bytes());
        put(at::LENGTH, &(length as u32).to_le_bytes());
        self.count += 1;
        self.bytes[COUNT_AT..HEADER_BYTES].copy_from_slice(&self.count.to_le_bytes());
        Ok(Room::Taken)
    }

    /// Messages so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The frame. It is one as soon as it has a message. It is a vector because that is what the
    /// functions take that hosts generate from the WIT.
    #[must_use]
    pub fn bytes(&self) -> &Vec<u8> {
        &self.bytes
    }
}

/// A frame whose header was read.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    messages: &'a [u8],
    count: u32,
}

impl<'a> Frame<'a> {
    /// Reads the header of a frame that fills `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] when it is none of this version, or has no message or too many.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (head, messages) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(Malformed::Short)?;
        if !head.starts_with(&MAGIC) {
            return Err(Malformed::Magic);
        }
        let count = u32_at(head, COUNT_AT);
        if count == 0 || count as usize > FRAME_MESSAGES_MAX {
            return Err(Malformed::Length);
        }
        Ok(Self { messages, count })
    }

    /// How many messages it announces, 1 to [`FRAME_MESSAGES_MAX`].
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Its messages in order, as many as it announces; after an error there are no more.
    #[must_use]
    pub fn messages(&self) -> Messages<'a> {
        Messages { rest: self.messages, left: self.count }
    }
}

/// The messages of a frame.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        match Message::take(self.rest) {
            Ok((_, after)) if self.left == 0 && !after.is_empty() => Some(Err(Malformed::Trailing)),
            Ok((message, after)) => {
                self.rest = after;
                Some(Ok(message))
            }
            Err(error) => {
                self.left = 0;
                Some(Err(error))
            }
        }
    }
}
