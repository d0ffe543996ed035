//! The files of a backup as the directory of a shard: segments that end with their last group,
//! shown with the zeros behind it.
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use yard_store::FileName;
use yard_store::disk::Look;

use super::manifest::Segment;

/// A file that holds the front of a segment.
struct Copy {
    path: PathBuf,
    capacity: u64,
}

/// Segments of a backup.
pub(super) struct CopiedDisk {
    segments: BTreeMap<u32, Copy>,
}

impl CopiedDisk {
    /// The files of a shard's folder in a backup.
    pub(super) fn new(folder: &Path, segments: &[Segment]) -> Self {
        let copy = |of: &Segment| {
            let (path, capacity) = (folder.join(of.file()), of.capacity);
            (of.segment, Copy { path, capacity })
        };
        Self { segments: segments.iter().map(copy).collect() }
    }

    /// One file that holds one segment.
    pub(super) fn one(path: &Path, segment: u32, capacity: u64) -> Self {
        let copy = Copy { path: path.to_owned(), capacity };
        Self { segments: BTreeMap::from([(segment, copy)]) }
    }

    fn copy(&self, name: FileName) -> io::Result<&Copy> {
        let found = match name {
            FileName::Segment(segment) => self.segments.get(&segment),
            FileName::Index(_) | FileName::Keys { .. } | FileName::Checkpoint => None,
        };
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Look for CopiedDisk {
    fn list(&self) -> io::Result<Vec<FileName>> {
        Ok(self.segments.keys().map(|segment| FileName::Segment(*segment)).collect())
    }

    fn len(&self, name: FileName) -> io::Result<u64> {
        Ok(self.copy(name)?.capacity)
    }

    fn read_at(&self, name: FileName, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let copy = self.copy(name)?;
        let file = File::open(&copy.path)?;
        if offset + buffer.len() as u64 > copy.capacity {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let there = file.metadata()?.len().saturating_sub(offset);
        let there = there.min(buffer.len() as u64) as usize;
        file.read_exact_at(&mut buffer[..there], offset)?;
        buffer[there..].fill(0);
        Ok(())
    }
}
