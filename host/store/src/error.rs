//! What can go wrong, as facts, and the operations that are made of them.
use std::io;

use thiserror::Error;
use yard_wire::codec::Malformed;

use crate::disk::FileName;

/// The disk is full: nothing was appended. Ask again after `Store::retry` found room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the disk is full, the next segment of the log could not be prepared")]
pub struct NoSpace;

/// A write or a sync failed: nothing is appended until the log was opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a write or a sync of the log failed, it refuses more until it is opened again")]
pub struct Fenced;

/// An entry is larger than a group can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the entry has {bytes} bytes, a group holds at most {bytes_max}")]
pub struct TooLarge {
    /// Bytes of the entry with its header.
    pub bytes: u64,
    /// Bytes that a group holds.
    pub bytes_max: u64,
}

/// A release refers to a segment that is about to go, or gone: what it is about lies elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("segment {segment} of the log, that a release refers to, is being retired")]
pub struct Leaving {
    /// Number of the segment.
    pub segment: u32,
}

/// A setting is outside its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the setting {what} cannot be {value}")]
pub struct BadConfig {
    /// The setting.
    pub what: &'static str,
    /// What it was set to.
    pub value: u64,
}

/// Bytes that were durable are not what they were. Nothing was changed or cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("segment {segment} is damaged at offset {offset}: {what}")]
pub struct Corrupt {
    /// Number of the segment.
    pub segment: u32,
    /// Byte offset of the damaged structure in its file.
    pub offset: u64,
    /// What is wrong with it.
    pub what: &'static str,
}

/// Why nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AppendError {
    /// The disk is full.
    #[error(transparent)]
    NoSpace(#[from] NoSpace),
    /// The log is fenced.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The entry is too large.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// It releases what lies in a segment that goes.
    #[error(transparent)]
    Leaving(#[from] Leaving),
}

/// Why a log could not be opened. The files are as they were, but for repairs of derived files.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A setting is outside its bounds.
    #[error(transparent)]
    Config(#[from] BadConfig),
    /// The disk refused something.
    #[error("{name}: {source}")]
    Disk {
        /// The file.
        name: FileName,
        /// What the disk said.
        source: io::Error,
    },
    /// The directory could not be listed.
    #[error("the directory of the log could not be listed: {source}")]
    List {
        /// What the disk said.
        source: io::Error,
    },
    /// Durable bytes were damaged.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// A segment that must be there is not.
    #[error("segment {segment} of the log is missing")]
    Missing {
        /// Number of the segment.
        segment: u32,
    },
    /// A file was written by another version of this program.
    #[error("{name} has format version {version}, this program reads version 1")]
    Version {
        /// The file.
        name: FileName,
        /// The version found.
        version: u16,
    },
    /// A file belongs to another shard.
    #[error("{name} belongs to shard {shard}")]
    WrongShard {
        /// The file.
        name: FileName,
        /// The shard found.
        shard: u16,
    },
    /// An entry whose checksums hold is not understood by who replays it.
    #[error("the entry in segment {segment} at offset {offset} cannot be replayed: {why}")]
    Entry {
        /// Number of the segment.
        segment: u32,
        /// Byte offset of the entry in its file.
        offset: u64,
        /// What is wrong with it.
        why: Malformed,
    },
}

/// Why records or index entries could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The disk refused to read.
    #[error("{name} at offset {offset}: {source}")]
    Disk {
        /// The file.
        name: FileName,
        /// First byte that was asked for.
        offset: u64,
        /// What the disk said.
        source: io::Error,
    },
    /// The bytes read are not what was stored.
    #[error("{name} is damaged at offset {offset}: {why}")]
    Damaged {
        /// The file.
        name: FileName,
        /// First byte of the damaged structure.
        offset: u64,
        /// What is wrong with it.
        why: Malformed,
    },
}
