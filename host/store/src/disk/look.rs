//! The directory of a shard, only looked at: nothing is created, locked or written.
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[expect(clippy::disallowed_types, reason = "the disk serves several threads")]
use std::sync::Mutex;
use std::sync::PoisonError;

use super::direct::{self, Aligned};
use super::{FileName, Look, list};

/// Files that are kept open at most.
const OPEN_MAX: usize = 64;

/// An open file, and whether it is open past the page cache.
type OpenFile = (Arc<File>, bool);

/// A directory that is only looked at, by any number of processes, also while a broker writes to
/// it.
///
/// Segments are read past the page cache wherever the broker's would be: a page that is read while
/// the broker writes past it would stay as it was, and the broker itself would read it later.
#[expect(clippy::disallowed_types, reason = "the disk serves several threads")]
pub struct LookingDisk {
    path: PathBuf,
    open: Mutex<BTreeMap<FileName, OpenFile>>,
}

impl LookingDisk {
    /// A directory that is there.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf(), open: Default::default() }
    }

    fn file(&self, name: FileName) -> io::Result<OpenFile> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((file, is_direct)) = open.get(&name) {
            return Ok((Arc::clone(file), *is_direct));
        }
        let path = self.path.join(name.to_string());
        let direct = match name {
            FileName::Segment(_) => direct::open_to_read(&path)?,
            FileName::Index(_) | FileName::Keys { .. } | FileName::Checkpoint => None,
        };
        let is_direct = direct.is_some();
        let file = Arc::new(direct.map_or_else(|| File::open(&path), Ok)?);
        if open.len() >= OPEN_MAX {
            open.pop_first();
        }
        open.insert(name, (Arc::clone(&file), is_direct));
        Ok((file, is_direct))
    }
}

impl Look for LookingDisk {
    fn list(&self) -> io::Result<Vec<FileName>> {
        list(&self.path)
    }

    fn len(&self, name: FileName) -> io::Result<u64> {
        // One that was replaced has another length than the one that was open.
        Ok(std::fs::metadata(self.path.join(name.to_string()))?.len())
    }

    fn read_at(&self, name: FileName, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let (file, is_direct) = self.file(name)?;
        if !is_direct {
            return file.read_exact_at(buffer, offset);
        }
        let done = if direct::is_whole(offset, buffer) {
            direct::read_whole(&file, offset, buffer)
        } else {
            direct::read(&file, offset, buffer, &mut Aligned::zeros(buffer.len()))
        };
        match done {
            Err(error) if direct::is_unaligned(&error) => {
                File::open(self.path.join(name.to_string()))?.read_exact_at(buffer, offset)
            }
            done => done,
        }
    }
}
