//! The bytes of every file, each drawn above the type that has them. FORMAT.md shows how they fit
//! together.
pub mod checkpoint;
pub mod entry;
#[cfg(test)]
mod golden;
pub mod group;
pub mod keys;
pub mod retire;
pub mod segment;
pub mod sidecar;

/// The version of every structure that this code writes.
pub const VERSION: u16 = 1;

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Why a structure at the head of a file is not usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadError {
    /// It is not what was written.
    Damaged,
    /// It is whole, of another version.
    Version(u16),
}
