//! What host and plugin agree on: the worlds, the packed batch, the answers to it, the manifest.
//!
//! ```text
//!   frame     = "SYF" version, count, message*               (frame.rs)     host  -> guest
//!   message   = a stored record, possibly with less of its body, or without
//!               its properties                                              (message.rs)
//!   record    = what a test has instead of the log          (record.rs)
//!   verdicts  = bitmap | key list | answer list              (verdict.rs)   guest -> host
//!   manifest  = JSON in a custom section of the wasm         (manifest.rs)  guest -> host, once
//! ```
//!
//! Invariants:
//! - Knows nothing of ours and nothing of the system: no `std`, no I/O, no clock, no unsafe.
//! - Reading any bytes never panics, and never believes a length that it has not checked.
//! - What a builder makes, a reader reads as it was.
//!
//! `protocol/ABI.md` draws the bytes for those who write guests in other languages. Start reading
//! at [`frame`].
#![no_std]
#![deny(missing_docs)]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod frame;
pub mod manifest;
pub mod message;
pub mod record;
pub mod verdict;
pub mod wit;

pub use frame::{Delivery, Frame, FrameBuilder, Room, Shown, View};
pub use message::{Malformed, Message, PropertyName};

/// The integers of this ABI, little endian, where `bytes` is known to hold them.
mod le {
    pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
        u16::from_le_bytes([bytes[at], bytes[at + 1]])
    }

    pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    }

    pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
    }
}
