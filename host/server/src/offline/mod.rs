//! Data folders without a broker, or beside one: verify, dump, repair, back up, restore.
//!
//! ```text
//!   place: which shards are there, who has them open
//!     ├─► verify ──► repair (needs the lock)
//!     ├─► dump
//!     └─► backup ──► files and manifest ──► restore ──► a data folder
//! ```
//!
//! Invariants:
//! - What is wrong with the place itself (no data folder, a foreign file, another's lock) is told
//!   before anything is read or written.
//! - Verifying and dumping create, lock exclusively and write nothing.
//! - A backup is what its manifest names, and the manifest is written last.
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use yard_wire::Code;

use crate::boot::StartError;

mod backup;
mod copied;
mod dump;
mod manifest;
mod place;
mod repair;
mod restore;
#[cfg(test)]
mod tests;
mod verify;

pub use backup::{BackupReport, backup};
pub use dump::{DumpOptions, Dumped, dump};
pub use repair::{RepairReport, repair};
pub use restore::{RestoreReport, restore};
pub use verify::{ShardReport, VerifyReport, verify};
pub use yard_store::offline::{Damage, Span, Step, Wrong};

/// Why a tool did nothing.
#[derive(Debug, Error)]
pub enum OfflineError {
    /// There is nothing of a broker here.
    #[error("{} is not a data folder: {why}", path.display())]
    NotData {
        /// The folder.
        path: PathBuf,
        /// What it has not.
        why: String,
    },
    /// A file that no broker has put there.
    #[error("{} is not a file of a log: move it away first", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The folder's own file cannot be used.
    #[error(transparent)]
    Folder(#[from] StartError),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// A log is of no use.
    #[error("{}: {source}", path.display())]
    Log {
        /// The folder of the shard.
        path: PathBuf,
        /// What is wrong.
        source: yard_store::OpenError,
    },
    /// Somebody else has the folder open.
    #[error("a broker or another tool has {} open", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// No log here has such a segment.
    #[error("{} has no segment {segment}: {held}", path.display())]
    NoSegment {
        /// The folder.
        path: PathBuf,
        /// What was asked for.
        segment: u32,
        /// Which there are.
        held: String,
    },
    /// Something is gone for good, and nobody said that this is known.
    #[error("{what}; bring it back from a backup, or accept the loss with --accept-loss")]
    Loss {
        /// What is gone.
        what: String,
    },
    /// There is something where a new folder should be.
    #[error("{} is not empty{why}", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
        /// What to do.
        why: &'static str,
    },
    /// A backup cannot be used, or not for this.
    #[error("{}: {why}", path.display())]
    Backup {
        /// The backup, or its file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl OfflineError {
    /// The code of the page that says what to do, where there is one.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Folder(error) => error.code(),
            Self::NotData { .. }
            | Self::Foreign { .. }
            | Self::File { .. }
            | Self::Log { .. }
            | Self::InUse { .. }
            | Self::NoSegment { .. }
            | Self::Loss { .. }
            | Self::NotEmpty { .. }
            | Self::Backup { .. } => None,
        }
    }
}

type Result<T> = std::result::Result<T, OfflineError>;

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> OfflineError {
    let path = path.to_owned();
    move |source| OfflineError::File { path, source }
}

fn log_error(path: &Path) -> impl FnOnce(yard_store::OpenError) -> OfflineError {
    let path = path.to_owned();
    move |source| OfflineError::Log { path, source }
}
