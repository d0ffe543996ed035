//! What a plugin answers to a frame, one verdict a message and in its order.
//!
//! ```text
//! bitmap       filter        bit i of byte i / 8, the lowest first; bits left over are 0
//! key list     dedupe, kv    (u16 length, key)*
//! answer list  interceptor   (u8 kind, u32 length, bytes)*
//!                            kind 0 pass: nothing; 1 replace: a patch; 2 reject: the reason, UTF-8
//! patch                      u16 changes, (u8 change, u16 name length, u16 value length,
//!                            name, value)*, u8 has body, body
//!                            change 0 sets a property, 1 removes it and has no value
//! count list   kv.get-many   (u8 present, s64 value)*
//! ```
//!
//! The host reads what it did not write: each reader checks every length, and that the list is as
//! long as the frame.
use alloc::vec::Vec;

use crate::frame::FRAME_MESSAGES_MAX;
use crate::le::{u16_at, u32_at, u64_at};
use crate::message::Malformed;

/// Bytes of a dedupe key or of a key of `kv`.
pub const KEY_BYTES_MAX: usize = 1_024;
/// Bytes of the reason of a rejection.
pub const REASON_BYTES_MAX: usize = 1_024;
/// Bytes of a patch: a whole body and all properties fit.
pub const PATCH_BYTES_MAX: usize = crate::frame::BODY_BYTES_MAX + (128 << 10);

/// Bytes of a bitmap for so many messages.
#[must_use]
pub const fn bitmap_bytes(count: u32) -> usize {
    count.div_ceil(8) as usize
}

/// Makes a bitmap; a bit that nobody set is 0.
#[derive(Clone, Debug)]
pub struct BitmapBuilder {
    bytes: Vec<u8>,
}

impl BitmapBuilder {
    /// A bitmap of `count` zeros.
    #[must_use]
    pub fn new(count: u32) -> Self {
        Self { bytes: alloc::vec![0; bitmap_bytes(count)] }
    }

    /// Sets bit `index` to `value` when it is 0 so far.
    ///
    /// # Panics
    /// When the bitmap is shorter.
    #[inline]
    pub fn set(&mut self, index: usize, value: bool) {
        self.bytes[index / 8] |= u8::from(value) << (index % 8);
    }

    /// Its bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// A bitmap that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bitmap<'a> {
    bytes: &'a [u8],
    count: u32,
}

impl<'a> Bitmap<'a> {
    /// The verdicts on `count` messages.
    ///
    /// # Errors
    /// [`Malformed`] when it is shorter or longer, or a bit is set that stands for no message.
    pub fn parse(bytes: &'a [u8], count: u32) -> Result<Self, Malformed> {
        if bytes.len() < bitmap_bytes(count) {
            return Err(Malformed::Short);
        }
        if bytes.len() > bitmap_bytes(count) {
            return Err(Malformed::Trailing);
        }
        let over = count % 8;
        if over != 0 && bytes.last().is_some_and(|last| last >> over != 0) {
            return Err(Malformed::Value);
        }
        Ok(Self { bytes, count })
    }

    /// The verdict on message `index`; `false` behind the last.
    #[must_use]
    pub fn get(&self, index: usize) -> bool {
        self.bytes.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    }

    /// The verdicts in order.
    pub fn iter(&self) -> impl Iterator<Item = bool> + 'a {
        let bitmap = *self;
        (0..self.count as usize).map(move |index| bitmap.get(index))
    }

    /// How many are set.
    #[must_use]
    pub fn ones(&self) -> u32 {
        self.bytes.iter().map(|byte| byte.count_ones()).sum()
    }
}

/// Makes a key list.
#[derive(Clone, Debug, Default)]
pub struct KeysBuilder {
    bytes: Vec<u8>,
}

impl KeysBuilder {
    /// Adds a key, empty for a message that is never a duplicate.
    ///
    /// # Errors
    /// [`Malformed::Length`] when it has more than [`KEY_BYTES_MAX`] bytes; nothing is added then.
    pub fn push(&mut self, key: &[u8]) -> Result<(), Malformed> {
        if key.len() > KEY_BYTES_MAX {
            return Err(Malformed::Length);
        }
        self.bytes.extend_from_slice(&(key.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(key);
        Ok(())
    }

    /// The list.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads a key list, which must have as many keys as its frame has messages.
///
/// # Errors
/// [`Malformed`] when it has fewer or more, or one is longer than [`KEY_BYTES_MAX`].
pub fn keys(bytes: &[u8], count: u32) -> Result<Vec<&[u8]>, Malformed> {
    list(bytes, count, |rest| {
        let (head, rest) = rest.split_first_chunk::<2>().ok_or(Malformed::Short)?;
        let length = usize::from(u16_at(head, 0));
        if length > KEY_BYTES_MAX {
            return Err(Malformed::Length);
        }
        rest.split_at_checked(length).ok_or(Malformed::Short)
    })
}

/// What an interceptor says of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// As it is.
    Pass,
    /// With these changes.
    Replace(Patch<'a>),
    /// Not at all, for this reason.
    Reject(&'a str),
}

/// Changes to a message. What it does not name stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch<'a> {
    /// Properties by name: a new value, or none to remove every property of the name.
    pub properties: Vec<(&'a str, Option<&'a str>)>,
    /// A new body.
    pub body: Option<&'a [u8]>,
}

const PASS: u8 = 0;
const REPLACE: u8 = 1;
const REJECT: u8 = 2;

/// Makes an answer list.
#[derive(Clone, Debug, Default)]
pub struct AnswersBuilder {
    bytes: Vec<u8>,
}

impl AnswersBuilder {
    /// Adds the answer to the next message.
    ///
    /// # Errors
    /// [`Malformed::Length`] when the patch or the reason is longer than [`PATCH_BYTES_MAX`] or
    /// [`REASON_BYTES_MAX`], or a name or a value has more bytes than 16 bits count; nothing is
    /// added then.
    pub fn push(&mut self, answer: &Answer<'_>) -> Result<(), Malformed> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 5]);
        let (kind, most) = match answer {
            Answer::Pass => (PASS, 0),
            Answer::Reject(reason) => {
                self.bytes.extend_from_slice(reason.as_bytes());
                (REJECT, REASON_BYTES_MAX)
            }
            Answer::Replace(patch) => {
                if patch.put(&mut self.bytes).is_none() {
                    self.bytes.truncate(start);
                    return Err(Malformed::Length);
                }
                (REPLACE, PATCH_BYTES_MAX)
            }
        };
        let length = self.bytes.len() - start - 5;
        if length > most {
            self.bytes.truncate(start);
            return Err(Malformed::Length);
        }
        self.bytes[start] = kind;
        self.bytes[start + 1..start + 5].copy_from_slice(&(length as u32).to_le_bytes());
        Ok(())
    }

    /// The list.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl<'a> Patch<'a> {
    fn put(&self, out: &mut Vec<u8>) -> Option<()> {
        out.extend_from_slice(&u16::try_from(self.properties.len()).ok()?.to_le_bytes());
        for (name, value) in &self.properties {
            out.push(u8::from(value.is_none()));
            let value = value.unwrap_or_default();
            out.extend_from_slice(&u16::try_from(name.len()).ok()?.to_le_bytes());
            out.extend_from_slice(&u16::try_from(value.len()).ok()?.to_le_bytes());
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value.as_bytes());
        }
        out.push(u8::from(self.body.is_some()));
        out.extend_from_slice(self.body.unwrap_or_default());
        Some(())
    }

    fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (head, mut rest) = bytes.split_first_chunk::<2>().ok_or(Malformed::Short)?;
        let mut properties = Vec::new();
        for _ in 0..u16_at(head, 0) {
            let (head, after) = rest.split_first_chunk::<5>().ok_or(Malformed::Short)?;
            let name = after.split_at_checked(usize::from(u16_at(head, 1)));
            let (name, after) = name.ok_or(Malformed::Short)?;
            let value = after.split_at_checked(usize::from(u16_at(head, 3)));
            let (value, after) = value.ok_or(Malformed::Short)?;
            let value = match (head[0], value) {
                (0, value) => Some(text(value)?),
                (1, []) => None,
                _ => return Err(Malformed::Value),
            };
            properties.push((text(name)?, value));
            rest = after;
        }
        let body = match rest {
            [0] => None,
            [1, body @ ..] => Some(body),
            [] => return Err(Malformed::Short),
            [0, ..] => return Err(Malformed::Trailing),
            [_, ..] => return Err(Malformed::Value),
        };
        Ok(Self { properties, body })
    }
}

/// Reads an answer list, which must have as many answers as its frame has messages.
///
/// # Errors
/// [`Malformed`] when it has fewer or more, one is too long, or a text is not UTF-8.
pub fn answers(bytes: &[u8], count: u32) -> Result<Vec<Answer<'_>>, Malformed> {
    list(bytes, count, |rest| {
        let (head, rest) = rest.split_first_chunk::<5>().ok_or(Malformed::Short)?;
        let length = u32_at(head, 1) as usize;
        let (bytes, rest) = rest.split_at_checked(length).ok_or(Malformed::Short)?;
        let answer = match head[0] {
            PASS if length == 0 => Answer::Pass,
            REPLACE if length <= PATCH_BYTES_MAX => Answer::Replace(Patch::parse(bytes)?),
            REJECT if length <= REASON_BYTES_MAX => Answer::Reject(text(bytes)?),
            PASS | REPLACE | REJECT => return Err(Malformed::Length),
            _ => return Err(Malformed::Value),
        };
        Ok((answer, rest))
    })
}

/// Makes a count list: for each key its value, or none where it is absent. A key that was put
/// without a count has the value 0.
#[must_use]
pub fn put_counts(values: impl IntoIterator<Item = Option<i64>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in values {
        bytes.push(u8::from(value.is_some()));
        bytes.extend_from_slice(&value.unwrap_or(0).to_le_bytes());
    }
    bytes
}

/// Reads a count list.
///
/// # Errors
/// [`Malformed`] when it has fewer or more than `count` values.
pub fn counts(bytes: &[u8], count: u32) -> Result<Vec<Option<i64>>, Malformed> {
    list(bytes, count, |rest| {
        let (head, rest) = rest.split_first_chunk::<9>().ok_or(Malformed::Short)?;
        let value = u64_at(head, 1).cast_signed();
        match head[0] {
            0 => Ok((None, rest)),
            1 => Ok((Some(value), rest)),
            _ => Err(Malformed::Value),
        }
    })
}

fn list<'a, T>(
    bytes: &'a [u8],
    count: u32,
    take: impl Fn(&'a [u8]) -> Result<(T, &'a [u8]), Malformed>,
) -> Result<Vec<T>, Malformed> {
    // A list of keys of `kv` belongs to no frame, and keeps the same bound.
    if count as usize > FRAME_MESSAGES_MAX {
        return Err(Malformed::Length);
    }
    let mut rest = bytes;
    let mut out = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let (item, after) = take(rest)?;
        out.push(item);
        rest = after;
    }
    if rest.is_empty() { Ok(out) } else { Err(Malformed::Trailing) }
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    core::str::from_utf8(bytes).map_err(|_| Malformed::Value)
}
