//! How values become bytes: little endian, lengths before contents, no padding.
//!
//! | type | bytes |
//! |---|---|
//! | integers | little endian, their own width |
//! | `bool` | one byte, 0 or 1 |
//! | `String`, boxed text | u32 length, UTF-8 |
//! | `Bytes` | u32 length, bytes |
//! | `Vec<T>`, shared items | u32 count, items |
//! | `Option<T>` | one byte, 0 or 1, then the value if 1 |
//! | structs | their fields in order |
//! | enums | one byte, then the fields of the variant |
use std::fmt;
use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::{Code, Refusal, limits};

/// Why bytes are not what they claim to be. A peer, a disk or a file caused it, never this code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A checksum does not match its bytes.
    Checksum {
        /// What was checked.
        what: &'static str,
    },
    /// A field has a value that the format does not know.
    Field {
        /// The field.
        what: &'static str,
        /// The value found.
        value: u64,
    },
    /// A length or count is outside its bounds.
    Length {
        /// What has the length.
        what: &'static str,
        /// The length found.
        found: u64,
        /// The largest allowed.
        max: u64,
    },
    /// The bytes end before the value does.
    Short {
        /// Bytes that were wanted.
        wanted: u64,
        /// Bytes that were left.
        left: u64,
    },
    /// Bytes are left after the value.
    Trailing {
        /// How many.
        left: u64,
    },
    /// A text is not UTF-8.
    Utf8,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checksum { what } => write!(f, "the checksum of the {what} does not match"),
            Self::Field { what, value } => write!(f, "{what} has the unknown value {value}"),
            Self::Length { what, found, max } => {
                write!(f, "{what} is {found}, the largest allowed is {max}")
            }
            Self::Short { wanted, left } => {
                write!(f, "{wanted} more bytes were announced, {left} are left")
            }
            Self::Trailing { left } => write!(f, "{left} bytes are left over"),
            Self::Utf8 => write!(f, "a text is not UTF-8"),
        }
    }
}

impl std::error::Error for Malformed {}

impl Malformed {
    /// The refusal that tells a peer about it: a checksum has a code of its own, everything else
    /// is `otherwise`.
    #[must_use]
    pub fn refusal(&self, otherwise: Code) -> Refusal {
        let code = match self {
            Self::Checksum { .. } => Code::BadChecksum,
            Self::Field { .. }
            | Self::Length { .. }
            | Self::Short { .. }
            | Self::Trailing { .. }
            | Self::Utf8 => otherwise,
        };
        Refusal::new(code, self.to_string())
    }
}

/// A value with one byte form.
pub trait Wire: Sized {
    /// Appends the bytes of the value.
    fn put(&self, out: &mut Vec<u8>);

    /// Takes the value off the front of `input`.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not a value of this type.
    fn take(input: &mut Bytes) -> Result<Self, Malformed>;

    /// The bytes of the value alone.
    fn to_bytes(&self) -> Bytes {
        let mut out = Vec::new();
        self.put(&mut out);
        Bytes::from(out)
    }

    /// Reads a value that must fill `input`.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not exactly one value of this type.
    fn from_bytes(mut input: Bytes) -> Result<Self, Malformed> {
        let value = Self::take(&mut input)?;
        if input.has_remaining() {
            mark!(ValueTrailing);
            return Err(Malformed::Trailing { left: input.remaining() as u64 });
        }
        Ok(value)
    }
}

/// Takes `count` bytes off the front, without copying.
///
/// # Errors
/// [`Malformed::Short`] when fewer are left.
pub fn take_bytes(input: &mut Bytes, count: usize) -> Result<Bytes, Malformed> {
    if input.len() < count {
        mark!(ValueShort);
        return Err(Malformed::Short { wanted: count as u64, left: input.len() as u64 });
    }
    Ok(input.split_to(count))
}

macro_rules! wire_integer {
    ($($int:ty),*) => { $(
        impl Wire for $int {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(input: &mut Bytes) -> Result<Self, Malformed> {
                const WIDTH: usize = size_of::<$int>();
                // Not by `take_bytes`: counting references costs more than the integer.
                let Some(raw) = input.first_chunk::<WIDTH>().copied() else {
                    mark!(ValueInteger);
return Err(Malformed::Short { wanted: WIDTH as u64, left: input.len() as u64 });
                };
                input.advance(WIDTH);
                Ok(<$int>::from_le_bytes(raw))
            }
        }
    )* };
}
wire_integer!(u8, u16, u32, u64, i64);

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        match u8::take(input)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Malformed::Field { what: "bool", value: other.into() }),
        }
    }
}

fn put_length(length: usize, out: &mut Vec<u8>) {
    let length = u32::try_from(length).expect("values are bounded far below 4 GiB");
    length.put(out);
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_length(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

fn put_items<T: Wire>(items: &[T], out: &mut Vec<u8>) {
    put_length(items.len(), out);
    for item in items {
        item.put(out);
    }
}

impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_text(self, out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let length = u32::take(input)? as usize;
        if length > limits::TEXT_BYTES_MAX {
            mark!(ValueText);
            return Err(Malformed::Length {
                what: "text",
                found: length as u64,
                max: limits::TEXT_BYTES_MAX as u64,
            });
        }
        let bytes = take_bytes(input, length)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Malformed::Utf8)
    }
}

impl Wire for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        put_length(self.len(), out);
        out.extend_from_slice(self);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let length = u32::take(input)? as usize;
        take_bytes(input, length)
    }
}

impl Wire for Box<str> {
    fn put(&self, out: &mut Vec<u8>) {
        put_text(self, out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        Ok(String::take(input)?.into())
    }
}

impl<T: Wire> Wire for Arc<[T]> {
    fn put(&self, out: &mut Vec<u8>) {
        put_items(self, out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        Ok(Vec::take(input)?.into())
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_items(self, out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let count = u32::take(input)? as usize;
        // Every item has at least one byte, so a larger count is a lie, told before it costs.
        if count > input.len() {
            mark!(ValueItems);
            return Err(Malformed::Short { wanted: count as u64, left: input.len() as u64 });
        }
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(T::take(input)?);
        }
        Ok(items)
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        Ok(if bool::take(input)? { Some(T::take(input)?) } else { None })
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        Ok((A::take(input)?, B::take(input)?))
    }
}

/// Defines structs whose byte form is their fields in order.
#[macro_export]
macro_rules! message {
    ($( $(#[$doc:meta])* pub struct $name:ident {
        $( $(#[$field_doc:meta])* pub $field:ident : $type:ty ),* $(,)?
    } )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $( $(#[$field_doc])* pub $field: $type ),* }

        impl $crate::codec::Wire for $name {
            #[allow(unused_variables, reason = "a message may have no fields")]
            fn put(&self, out: &mut Vec<u8>) {
                $( $crate::codec::Wire::put(&self.$field, out); )*
            }
            #[allow(unused_variables, reason = "a message may have no fields")]
            fn take(input: &mut bytes::Bytes) -> Result<Self, $crate::codec::Malformed> {
                Ok(Self { $( $field: $crate::codec::Wire::take(input)? ),* })
            }
        }
    )* };
}

/// Defines an enum of plain variants whose byte form is one byte.
#[macro_export]
macro_rules! word {
    ($(#[$doc:meta])* pub enum $name:ident {
        $( $(#[$variant_doc:meta])* $variant:ident = $number:literal $text:literal ),* $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $( $(#[$variant_doc])* $variant = $number ),* }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),*];

            /// The word as people write it.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $( Self::$variant => $text ),* }
            }

            /// Reads the word as people write it.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $( $text => Some(Self::$variant), )* _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.text())
            }
        }

        impl $crate::codec::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                out.push(*self as u8);
            }
            fn take(input: &mut bytes::Bytes) -> Result<Self, $crate::codec::Malformed> {
                match <u8 as $crate::codec::Wire>::take(input)? {
                    $( $number => Ok(Self::$variant), )*
                    other => Err($crate::codec::Malformed::Field {
                        what: stringify!($name),
                        value: other.into(),
                    }),
                }
            }
        }
    };
}
