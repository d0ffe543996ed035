//! Compiled plugins on disk, each under what it was made of and for which engine.
//!
//! ```text
//!   DIR/key                            32 random bytes, made with the folder
//!   DIR/HASH-ENGINE.cwasm              artefact, then 40 bytes:
//!     offset from the end  size field
//!                      40    32 tag    HMAC-SHA256 by the key, of name, length and artefact
//!                       8     8 magic  "SYCWASM1"
//! ```
//!
//! An artefact is machine code, and the engine believes it. So only what this folder's key has
//! made is ever loaded: damaged or foreign files count as missing and are made again. Files are
//! written whole, under another name first, and never changed.
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, DirEntry, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::{hmac, rand};

use crate::signature::PluginHash;

const MAGIC: &[u8; 8] = b"SYCWASM1";
const TAG_BYTES: usize = 32;
const TRAILER_BYTES: usize = TAG_BYTES + MAGIC.len();
const KEY_BYTES: usize = 32;
const SUFFIX: &str = ".cwasm";
const READ_BYTES: usize = 256 << 10;
/// A file that was written to this long ago, and has no name of an artefact, was left by a crash.
const LEFT_AFTER: Duration = Duration::from_secs(3_600);

/// What an artefact was made of, and for which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArtefactName {
    /// SHA-256 of the plugin.
    pub hash: PluginHash,
    /// Hash of the engine: its version, its settings, the processor.
    pub engine: u64,
}

impl ArtefactName {
    fn file_name(&self) -> String {
        format!("{}-{:016x}{SUFFIX}", self.hash, self.engine)
    }
}

/// Files that this process has begun to write: each has a name of its own, whoever else writes into
/// the folder.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// A folder of artefacts. Several processes may share one.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    key: hmac::Key,
}

impl Cache {
    /// Opens a folder, and makes it with a key of its own when it is not there.
    ///
    /// # Errors
    /// When it cannot be made or read, or its key is not one.
    pub fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let path = folder.join("key");
        let key = match fs::read(&path) {
            Ok(key) => key,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = [0; KEY_BYTES];
                rand::fill(&mut key).map_err(|_| io::Error::other("no randomness for a key"))?;
                let new = new_file(folder);
                write_synced(&new, &[&key])?;
                // Of several that make one at once the first has made it.
                let made = fs::hard_link(&new, &path);
                fs::remove_file(&new)?;
                made.or_else(|error| match error.kind() {
                    io::ErrorKind::AlreadyExists => Ok(()),
                    _ => Err(error),
                })?;
                File::open(folder)?.sync_all()?;
                fs::read(&path)?
            }
            Err(error) => return Err(error),
        };
        if key.len() != KEY_BYTES {
            let says = format!("{} has {} bytes, not {KEY_BYTES}", path.display(), key.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, says));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        Ok(Self { folder: folder.to_path_buf(), key })
    }

    /// Keeps an artefact, from now on and also after a crash.
    ///
    /// # Errors
    /// When the file cannot be written; what was there before stays.
    pub fn put(&self, name: &ArtefactName, artefact: &[u8]) -> io::Result<()> {
        let mut context = self.context(name, artefact.len() as u64);
        context.update(artefact);
        let tag = context.sign();
        let new = new_file(&self.folder);
        let path = self.folder.join(name.file_name());
        write_whole(&path, &new, &[artefact, tag.as_ref(), MAGIC])
    }

    /// Opens an artefact that this folder's key has made; `None` where there is no such file, or
    /// it is damaged or foreign.
    ///
    /// # Errors
    /// When a file that is there cannot be read.
    pub(crate) fn get(&self, name: &ArtefactName) -> io::Result<Option<File>> {
        let mut file = match File::open(self.folder.join(name.file_name())) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(length) = file.metadata()?.len().checked_sub(TRAILER_BYTES as u64) else {
            return Ok(None);
        };
        let mut context = self.context(name, length);
        let mut buffer = vec![0; READ_BYTES.min(length as usize)];
        let mut left = length;
        while left > 0 {
            let part = &mut buffer[..READ_BYTES.min(left as usize)];
            file.read_exact(part)?;
            context.update(part);
            left -= part.len() as u64;
        }
        let mut trailer = [0; TRAILER_BYTES];
        file.read_exact(&mut trailer)?;
        file.seek(SeekFrom::Start(0))?;
        let (tag, magic) = trailer.split_at(TAG_BYTES);
        let is_ours = magic == MAGIC && constant_time_equal(context.sign().as_ref(), tag);
        Ok(is_ours.then_some(file))
    }

    /// Removes what is of none of these plugins: artefacts, and what a crash left behind.
    /// Returns how many files went.
    ///
    /// # Errors
    /// When the folder cannot be read or a file not removed.
    pub fn keep_only(&self, plugins: &BTreeSet<PluginHash>) -> io::Result<usize> {
        let kept: BTreeSet<String> = plugins.iter().map(PluginHash::to_string).collect();
        let mut removed = 0;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let plugin = name.strip_suffix(SUFFIX).and_then(|it| it.split_once('-'));
            let is_old = plugin.is_some_and(|(hash, _)| !kept.contains(hash));
            if is_old || (name.ends_with(".new") && is_left(&entry)) {
                match fs::remove_file(entry.path()) {
                    Ok(()) => removed += 1,
                    // Another process that shares the folder was first.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(removed)
    }

    /// Removes the oldest artefacts, so that so many stay. Returns how many files went.
    ///
    /// # Errors
    /// When the folder cannot be read or a file not removed.
    pub fn keep_newest(&self, count: usize) -> io::Result<usize> {
        let mut artefacts = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().ends_with(SUFFIX) {
                artefacts.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        artefacts.sort_unstable();
        let old = artefacts.len().saturating_sub(count);
        for (_, path) in &artefacts[..old] {
            fs::remove_file(path)?;
        }
        Ok(old)
    }

    fn context(&self, name: &ArtefactName, length: u64) -> hmac::Context {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(MAGIC);
        context.update(&name.hash.0);
        context.update(&name.engine.to_le_bytes());
        context.update(&length.to_le_bytes());
        context
    }
}

fn constant_time_equal(one: &[u8], two: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one, two).is_ok()
}

/// Whether nobody can be writing to a file any more.
fn is_left(entry: &DirEntry) -> bool {
    let written = entry.metadata().and_then(|metadata| metadata.modified());
    written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > LEFT_AFTER))
}

fn new_file(folder: &Path) -> PathBuf {
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    folder.join(format!("{}-{number}.new", std::process::id()))
}

fn write_synced(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
}

fn write_whole(path: &Path, new: &Path, parts: &[&[u8]]) -> io::Result<()> {
    write_synced(new, parts)?;
    fs::rename(new, path)?;
    let folder = path.parent().expect("a file of the cache is in its folder");
    File::open(folder)?.sync_all()
}
