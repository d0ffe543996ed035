//! The manifest of a backup: which file holds which segment. What it does not name is not part of
//! the backup.
//!
//! ```text
//!   BACKUP/manifest.toml                      written last, and replaced whole
//!   BACKUP/shard-0/log-0000000000.SALT.GROUP  a segment up to the group with this number
//!   BACKUP/shard-0/log-….SALT.GROUP.CRC       one that was damaged already
//! ```
//!
//! A file's name says what is in it, so that no file of an earlier backup is ever written to.
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use yard_store::offline::Link;
use yard_wire::{GroupNumber, Timestamp};

use super::{OfflineError, Result, file_error};
use crate::folder::write_private;

/// Name of the file.
pub(super) const NAME: &str = "manifest.toml";
const FORMAT: u32 = 1;
/// Begins the first line; the checksum of all that follows comes after it.
const CHECKSUM: &str = "# crc32c ";

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    /// When it was taken, in milliseconds since 1970.
    pub(super) taken_ms: u64,
    pub(super) shards: Vec<Shard>,
}

/// The log of a shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Shard {
    pub(super) shard: u16,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) segments: Vec<Segment>,
}

impl Shard {
    /// Where its files are.
    pub(super) fn folder(&self, backup: &Path) -> PathBuf {
        backup.join(format!("shard-{}", self.shard))
    }
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Segment {
    pub(super) segment: u32,
    /// No group was or will be added.
    pub(super) sealed: bool,
    /// Bytes of the file, and of the segment, whose rest is zeros.
    pub(super) bytes: u64,
    pub(super) capacity: u64,
    pub(super) crc: u32,
    pub(super) salt: Hex,
    /// `None`: not one of its groups can be read.
    #[serde(flatten)]
    pub(super) groups: Option<Groups>,
    /// Places that were damaged in the log already.
    pub(super) damage: u64,
}

/// The whole groups of a segment, from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Groups {
    first_group: u64,
    previous_chain: Hex,
    last_group: u64,
    chain: Hex,
    stored_ms: u64,
}

impl Groups {
    pub(super) fn new(first: Link, last: Link) -> Self {
        assert!(first.group <= last.group, "groups are in order");
        Self {
            first_group: first.group.0,
            previous_chain: Hex(first.chain),
            last_group: last.group.0,
            chain: Hex(last.chain),
            stored_ms: last.stored.0,
        }
    }

    /// The last one.
    pub(super) fn last(&self) -> Link {
        let (group, stored) = (GroupNumber(self.last_group), Timestamp(self.stored_ms));
        Link { group, chain: self.chain.0, stored }
    }
}

impl Segment {
    /// Name of its file.
    pub(super) fn file(&self) -> String {
        let last = self.groups.map_or(0, |groups| groups.last_group);
        let name = format!("log-{:010}.{:016x}.{last}", self.segment, self.salt.0);
        // What is damaged today may be damaged more tomorrow.
        if self.is_whole() { name } else { format!("{name}.{:08x}", self.crc) }
    }

    /// It holds groups, and nothing in it was damaged.
    pub(super) fn is_whole(&self) -> bool {
        self.damage == 0 && self.groups.is_some()
    }
}

/// A number of 64 bits as text: TOML's have 63.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Hex(pub(super) u64);

impl From<Hex> for String {
    fn from(hex: Hex) -> Self {
        format!("{:016x}", hex.0)
    }
}

impl TryFrom<String> for Hex {
    type Error = std::num::ParseIntError;
    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        u64::from_str_radix(&text, 16).map(Self)
    }
}

impl Manifest {
    pub(super) fn new(taken_ms: u64, shards: Vec<Shard>) -> Self {
        Self { format: FORMAT, taken_ms, shards }
    }

    /// Puts it in the place of the one before, durably.
    pub(super) fn write(&self, backup: &Path) -> Result<()> {
        let text = toml::to_string(self).expect("numbers and texts are TOML");
        let crc = crc32c::crc32c(text.as_bytes());
        let text = format!("{CHECKSUM}{crc:08x}\n{text}");
        Ok(write_private(&backup.join(NAME), text.as_bytes())?)
    }
}

/// Reads the manifest of a backup; `None` when there is none.
pub(super) fn read(backup: &Path) -> Result<Option<Manifest>> {
    let path = backup.join(NAME);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error(&path)(error)),
    };
    let wrong = |why: String| OfflineError::Backup { path: path.clone(), why };
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let crc = first.strip_prefix(CHECKSUM).and_then(|crc| u32::from_str_radix(crc, 16).ok());
    if crc != Some(crc32c::crc32c(rest.as_bytes())) {
        return Err(wrong("it is damaged: its checksum does not hold".into()));
    }
    let manifest: Manifest = toml::from_str(rest).map_err(|error| wrong(error.to_string()))?;
    if manifest.format != FORMAT {
        let format = manifest.format;
        return Err(wrong(format!("it has format {format}; this program reads format {FORMAT}")));
    }
    Ok(Some(manifest))
}
