//! What a folder is, what lies in it, and who has it open.
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use yard_store::disk::look::LookingDisk;
use yard_store::disk::real::RealDisk;
use yard_store::{Disk, FileName};
use yard_wire::ShardId;

use super::copied::CopiedDisk;
use super::manifest::{self, Manifest};
use super::{OfflineError, Result, file_error};
use crate::boot::StartError;
use crate::folder::{self, Folder};

/// Name of the file that is locked, in a data folder and in that of a shard.
const LOCK: &str = "lock";
/// End of the names of files that were not finished; the store ignores them.
const UNFINISHED: &str = "new";

/// A folder with logs.
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) shards: Vec<ShardPlace>,
    pub(super) is: Is,
}

/// What kind of folder it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Is {
    Data,
    Shard,
    Backup,
}

/// The folder of one shard.
pub(super) struct ShardPlace {
    pub(super) path: PathBuf,
    /// Which shard it is, where the folder says so.
    pub(super) shard: Option<ShardId>,
    pub(super) disk: Box<dyn Disk>,
    /// Files that were not finished.
    pub(super) unfinished: Vec<PathBuf>,
}

/// Locks of who only looks, held until this is dropped: no broker starts meanwhile.
pub(super) struct Locks(#[expect(dead_code, reason = "held open for their locks")] Vec<File>);

impl Place {
    /// Finds out what a folder is; refuses what is none of ours.
    pub(super) fn find(path: &Path) -> Result<Self> {
        let not = |why: &str| OfflineError::NotData { path: path.to_owned(), why: why.to_owned() };
        if !fs::metadata(path).map_err(file_error(path))?.is_dir() {
            return Err(not("it is not a folder"));
        }
        if let Some(manifest) = manifest::read(path)? {
            return Ok(Self::of_backup(path, &manifest));
        }
        if let Some(shards) = folder::shards_of(path)? {
            return Self::of_data(path, shards);
        }
        let named = |name: &str| FileName::parse(name).is_some();
        if !names(path)?.iter().any(|name| named(name)) {
            return Err(not("it has neither broker.toml nor segments of a log"));
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let shard = name.strip_prefix("shard-").and_then(|text| text.parse().ok()).map(ShardId);
        let shards = vec![ShardPlace::find(path.to_owned(), shard)?];
        Ok(Self { path: path.to_owned(), shards, is: Is::Shard })
    }

    fn of_data(path: &Path, shards: u16) -> Result<Self> {
        let mut found = Vec::with_capacity(shards.into());
        for number in 0..shards {
            let folder = folder::shard_folder(path, number);
            if !folder.is_dir() {
                let why = format!("it has {shards} shards, and shard-{number} is missing");
                return Err(OfflineError::NotData { path: path.to_owned(), why });
            }
            found.push(ShardPlace::find(folder, Some(ShardId(number)))?);
        }
        Ok(Self { path: path.to_owned(), shards: found, is: Is::Data })
    }

    fn of_backup(path: &Path, manifest: &Manifest) -> Self {
        let shard = |of: &manifest::Shard| ShardPlace {
            path: of.folder(path),
            shard: Some(ShardId(of.shard)),
            disk: Box::new(CopiedDisk::new(&of.folder(path), &of.segments)),
            unfinished: Vec::new(),
        };
        // A shard that has never stored anything has no log to look at.
        let shards = manifest.shards.iter().filter(|of| !of.segments.is_empty()).map(shard);
        Self { path: path.to_owned(), shards: shards.collect(), is: Is::Backup }
    }

    /// Locks the folder and those of its shards; `None` when a broker has one open.
    pub(super) fn lock(&self) -> Result<Option<Locks>> {
        let mut locks = Vec::new();
        if self.is == Is::Backup {
            return Ok(Some(Locks(locks)));
        }
        let own = (self.is == Is::Data).then_some(&self.path);
        for folder in own.into_iter().chain(self.shards.iter().map(|shard| &shard.path)) {
            let path = folder.join(LOCK);
            let file = match File::open(&path) {
                Ok(file) => file,
                // Who only looks makes no files. Nobody can have it open.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(file_error(&path)(error)),
            };
            match file.try_lock_shared() {
                Ok(()) => locks.push(file),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(source)) => return Err(file_error(&path)(source)),
            }
        }
        Ok(Some(Locks(locks)))
    }

    /// Opens the logs for one who changes them, and nobody else.
    pub(super) fn open_to_write(&mut self) -> Result<Option<Folder>> {
        let in_use = |path: &Path| OfflineError::InUse { path: path.to_owned() };
        let folder = match self.is {
            Is::Data => Some(Folder::open(&self.path).map_err(|error| match error {
                StartError::InUse { path } => in_use(&path),
                other => other.into(),
            })?),
            Is::Shard | Is::Backup => None,
        };
        for shard in &mut self.shards {
            let disk = RealDisk::open(&shard.path).map_err(|error| match error.kind() {
                ErrorKind::WouldBlock => in_use(&shard.path),
                _ => file_error(&shard.path)(error),
            })?;
            shard.disk = Box::new(disk);
        }
        Ok(folder)
    }
}

impl ShardPlace {
    /// The folder of a shard, with nothing in it but what the store has put there.
    fn find(path: PathBuf, shard: Option<ShardId>) -> Result<Self> {
        let mut unfinished = Vec::new();
        for name in names(&path)? {
            let at = path.join(&name);
            let stem = name.strip_suffix(&format!(".{UNFINISHED}"));
            match (FileName::parse(&name), stem.and_then(FileName::parse)) {
                (Some(_), _) => {}
                (None, Some(_)) => unfinished.push(at),
                (None, None) if name == LOCK => {}
                (None, None) => return Err(OfflineError::Foreign { path: at }),
            }
        }
        let disk = Box::new(LookingDisk::new(&path));
        Ok(Self { path, shard, disk, unfinished })
    }
}

/// The names in a folder, in order.
pub(super) fn names(path: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for item in fs::read_dir(path).map_err(file_error(path))? {
        let item = item.map_err(file_error(path))?;
        found.push(item.file_name().to_string_lossy().into_owned());
    }
    found.sort();
    Ok(found)
}
