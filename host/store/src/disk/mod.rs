//! The only door to the world: one flat directory of a shard, whose files have names from
//! [`FileName`].
//!
//! [`real::RealDisk`] is the directory, [`look::LookingDisk`] the same for who only looks at it;
//! [`lying::LyingDisk`] is memory that forgets what was not synced.
use std::fmt;
use std::io::{self, IoSliceMut};
use std::path::Path;

mod direct;
pub mod look;
pub mod lying;
mod patient;
pub mod real;

pub(crate) use direct::IN_PLACE_BYTES_MIN;
pub use direct::MEMORY_ALIGNMENT;
pub(crate) use direct::{Aligned, BLOCK_BYTES};
pub(crate) use patient::{PatientDisk, Unreadable, is_of_medium};

/// The name of a file in the directory of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileName {
    /// `log-0000000000`: a segment of the commit log.
    Segment(u32),
    /// `idx-0000000000`: the queue index of a sealed segment.
    Index(u32),
    /// `key-0000000000-0000000512`: ids and keys of a part of a segment.
    Keys {
        /// Number of the segment.
        segment: u32,
        /// First byte of the part.
        from: u32,
    },
    /// `checkpoint`: state up to a group.
    Checkpoint,
}

impl FileName {
    /// The segment that the file is, or is derived from.
    #[must_use]
    pub fn segment(self) -> Option<u32> {
        match self {
            Self::Segment(segment) | Self::Index(segment) | Self::Keys { segment, .. } => {
                Some(segment)
            }
            Self::Checkpoint => None,
        }
    }

    /// Reads a name; `None` for a file that is not the store's.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |digits: &str| {
            let plain = digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
            if plain { digits.parse().ok() } else { None }
        };
        if text == "checkpoint" {
            return Some(Self::Checkpoint);
        }
        if let Some(digits) = text.strip_prefix("log-") {
            return number(digits).map(Self::Segment);
        }
        if let Some((segment, from)) = text.strip_prefix("key-").and_then(|it| it.split_once('-')) {
            return Some(Self::Keys { segment: number(segment)?, from: number(from)? });
        }
        number(text.strip_prefix("idx-")?).map(Self::Index)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(number) => write!(f, "log-{number:010}"),
            Self::Index(number) => write!(f, "idx-{number:010}"),
            Self::Keys { segment, from } => write!(f, "key-{segment:010}-{from:010}"),
            Self::Checkpoint => write!(f, "checkpoint"),
        }
    }
}

/// The store's files in a directory, in order.
fn list(path: &Path) -> io::Result<Vec<FileName>> {
    let mut names = Vec::new();
    for item in std::fs::read_dir(path)? {
        names.extend(item?.file_name().to_str().and_then(FileName::parse));
    }
    names.sort_unstable();
    Ok(names)
}

/// The directory of one shard. Every call blocks; several threads may call at once.
pub trait Disk: Send + Sync {
    /// The store's files, in order.
    ///
    /// # Errors
    /// What the operating system says; this holds for every method.
    fn list(&self) -> io::Result<Vec<FileName>>;

    /// Bytes of a file; `NotFound` when it is not there.
    ///
    /// # Errors
    /// See [`Disk::list`].
    fn len(&self, name: FileName) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on; `UnexpectedEof` when the file ends before.
    ///
    /// # Errors
    /// See [`Disk::list`].
    fn read_at(&self, name: FileName, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Fills the pieces one after the other from `offset` on; on an error they hold anything.
    fn read_pieces_at(
        &self,
        name: FileName,
        offset: u64,
        pieces: &mut [IoSliceMut<'_>],
    ) -> io::Result<()> {
        let mut at = offset;
        for piece in pieces {
            self.read_at(name, at, piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Writes all of `bytes` into a file that is there.
    ///
    /// # Errors
    /// See [`Disk::list`].
    fn write_at(&self, name: FileName, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Writes a group into a file that is there and has nothing but zeros from `offset` on. A disk
    /// may write whole blocks, the first with the bytes that it holds already. It may be quicker
    /// when the address of `bytes` and `offset` differ by a multiple of [`MEMORY_ALIGNMENT`].
    ///
    /// # Errors
    /// See [`Disk::list`].
    fn append_at(&self, name: FileName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(name, offset, bytes)
    }

    /// Makes what was written to the file durable.
    ///
    /// # Errors
    /// See [`Disk::list`]. After an error, nobody knows what is durable.
    fn sync(&self, name: FileName) -> io::Result<()>;

    /// Creates a file of `bytes` bytes anew: space taken, the first `zero_bytes` written with
    /// zeros, the rest reads as zeros; all of it and its name durable; and only then `header` at
    /// its front, durable too. So a header that can be read proves that the file is whole.
    ///
    /// # Errors
    /// See [`Disk::list`]; `StorageFull` leaves nothing behind.
    fn create_segment(
        &self,
        name: FileName,
        header: &[u8],
        bytes: u64,
        zero_bytes: u64,
    ) -> io::Result<()>;

    /// Replaces the file by one with these bytes, durably; after a crash the old or the new one
    /// is there.
    ///
    /// # Errors
    /// See [`Disk::list`].
    fn replace(&self, name: FileName, bytes: &[u8]) -> io::Result<()>;

    /// Removes a file, durably. One that is not there is no error.
    ///
    /// # Errors
    /// See [`Disk::list`].
    fn remove(&self, name: FileName) -> io::Result<()>;
}

/// Where the files of a log can be looked at, and nothing more: whoever is this is a [`Disk`] that
/// refuses every write.
pub trait Look: Send + Sync {
    /// As [`Disk::list`].
    ///
    /// # Errors
    /// What the operating system says; this holds for every method.
    fn list(&self) -> io::Result<Vec<FileName>>;

    /// As [`Disk::len`].
    ///
    /// # Errors
    /// See [`Look::list`].
    fn len(&self, name: FileName) -> io::Result<u64>;

    /// As [`Disk::read_at`].
    ///
    /// # Errors
    /// See [`Look::list`].
    fn read_at(&self, name: FileName, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl<T: Look> Disk for T {
    fn list(&self) -> io::Result<Vec<FileName>> {
        Look::list(self)
    }

    fn len(&self, name: FileName) -> io::Result<u64> {
        Look::len(self, name)
    }

    fn read_at(&self, name: FileName, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        Look::read_at(self, name, offset, buffer)
    }

    fn write_at(&self, _: FileName, _: u64, _: &[u8]) -> io::Result<()> {
        refused()
    }

    fn sync(&self, _: FileName) -> io::Result<()> {
        refused()
    }

    fn create_segment(&self, _: FileName, _: &[u8], _: u64, _: u64) -> io::Result<()> {
        refused()
    }

    fn replace(&self, _: FileName, _: &[u8]) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: FileName) -> io::Result<()> {
        refused()
    }
}
