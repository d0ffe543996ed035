//! The directory of a shard on a file system.
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[expect(clippy::disallowed_types, reason = "the disk serves several threads")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{MutexGuard, PoisonError};

use super::direct::{self, Aligned, Appender, BLOCK_BYTES};
use super::{Disk, FileName};

/// Files that are kept open at most.
const OPEN_MAX: usize = 256;
/// Bytes of zeros that are written at a time. The log's own syncs wait behind them: with a whole
/// segment at once their 99th percentile was 18 ms, so it is 0.3 to 0.7 ms, against 0.2 ms of a log
/// alone (64 KiB groups on ext4).
const ZERO_BYTES: usize = 256 << 10;
const LOCK: &str = "lock";

/// Stages of direct reads that are kept.
const STAGES_MAX: usize = 4;
/// The largest that is kept.
const STAGE_BYTES_MAX: usize = 1 << 20;
/// Reads of a sealed segment from so many bytes on go past the page cache too: what is read once
/// and in large pieces costs several times as much through it.
const PAST_CACHE_BYTES_MIN: usize = 64 << 10;

/// How a file is open: through the page cache, or past it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Cached,
    Direct,
}

type OpenFiles = BTreeMap<(FileName, Way), Arc<File>>;

/// A directory on a file system. One process at a time: the directory is locked.
///
/// Segments that may still be written to are read and written past the page cache, where the file
/// system offers that: a page cache costs a copy, a page for each 4 KiB and its writing back,
/// together several times what the write itself costs. Nobody reads such a segment through the
/// page cache, so that no page there is older than the file. Of the others large pieces are read
/// past it too.
#[expect(clippy::disallowed_types, reason = "the disk serves several threads")]
pub struct RealDisk {
    path: PathBuf,
    directory: File,
    open: Mutex<OpenFiles>,
    appender: Mutex<Option<Appender>>,
    stages: Mutex<Vec<Aligned>>,
    /// Segments from this number on may still be written to.
    live_from: AtomicU32,
    /// The file system has direct access.
    is_direct: AtomicBool,
    /// Held open for its lock.
    _lock: File,
}

/// A lock whose holders do not panic half-way; were one to, what it guards is still whole.
#[expect(clippy::disallowed_types, reason = "the disk serves several threads")]
fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RealDisk {
    /// Opens the directory, creating it when it is not there.
    ///
    /// # Errors
    /// What the operating system says; `WouldBlock` when another process holds the directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let fresh = !path.try_exists()?;
        std::fs::create_dir_all(path)?;
        let lock = File::create(path.join(LOCK))?;
        lock.try_lock()?;
        let directory = File::open(path)?;
        if let Some(parent) = path.parent()
            && fresh
            && !parent.as_os_str().is_empty()
        {
            File::open(parent)?.sync_all()?;
        }
        let disk = Self {
            path: path.to_path_buf(),
            directory,
            open: Default::default(),
            appender: Default::default(),
            stages: Default::default(),
            live_from: AtomicU32::new(0),
            is_direct: AtomicBool::new(true),
            _lock: lock,
        };
        // The last is prepared, the one before is written to; recovery says when it is otherwise.
        let segment = |name: FileName| match name {
            FileName::Segment(segment) => Some(segment),
            FileName::Index(_) | FileName::Keys { .. } | FileName::Checkpoint => None,
        };
        let last = disk.list()?.into_iter().filter_map(segment).max();
        disk.live_from.store(last.unwrap_or_default().saturating_sub(1), Ordering::Relaxed);
        Ok(disk)
    }

    fn path(&self, name: FileName) -> PathBuf {
        self.path.join(name.to_string())
    }

    /// The file through the page cache.
    fn file(&self, name: FileName) -> io::Result<Arc<File>> {
        if let Some(file) = hold(&self.open).get(&(name, Way::Cached)) {
            return Ok(Arc::clone(file));
        }
        let file = OpenOptions::new().read(true).write(true).open(self.path(name))?;
        Ok(self.keep((name, Way::Cached), file))
    }

    /// The file past the page cache; `None` where that cannot be.
    fn direct(&self, name: FileName) -> io::Result<Option<Arc<File>>> {
        if !self.is_direct.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if let Some(file) = hold(&self.open).get(&(name, Way::Direct)) {
            return Ok(Some(Arc::clone(file)));
        }
        let Some(file) = direct::open(&self.path(name))? else {
            self.is_direct.store(false, Ordering::Relaxed);
            return Ok(None);
        };
        Ok(Some(self.keep((name, Way::Direct), file)))
    }

    fn keep(&self, key: (FileName, Way), file: File) -> Arc<File> {
        let file = Arc::new(file);
        let mut open = hold(&self.open);
        if open.len() >= OPEN_MAX {
            open.pop_first();
        }
        open.insert(key, Arc::clone(&file));
        file
    }

    fn forget(&self, name: FileName) {
        let mut open = hold(&self.open);
        open.remove(&(name, Way::Cached));
        open.remove(&(name, Way::Direct));
        drop(open);
        let mut appender = hold(&self.appender);
        if appender.as_ref().is_some_and(|it| FileName::Segment(it.segment) == name) {
            *appender = None;
        }
    }

    /// Creates a segment: all of it and its name durable before its header is.
    fn create(&self, name: FileName, header: &[u8], bytes: u64, zero_bytes: u64) -> io::Result<()> {
        assert!(matches!(name, FileName::Segment(_)), "other files are replaced");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let cached = options.open(self.path(name))?;
        allocate(&cached, bytes)?;
        let blocks = bytes.is_multiple_of(BLOCK_BYTES as u64);
        let direct = self.direct(name)?.filter(|_| blocks);
        let file = direct.as_deref().unwrap_or(&cached);
        let mut zeros = Aligned::zeros(ZERO_BYTES);
        let mut at = 0;
        let end = zero_bytes.next_multiple_of(BLOCK_BYTES as u64).min(bytes);
        while at < end {
            let count = (end - at).min(ZERO_BYTES as u64);
            file.write_all_at(&zeros[..count as usize], at)?;
            // In the page cache zeros pile up, and the log's next sync waits for all of them. Past
            // it a sync would only empty the disk's cache once more, before the log's own.
            if direct.is_none() {
                file.sync_data()?;
            }
            at += count;
        }
        cached.sync_all()?;
        self.directory.sync_all()?;
        zeros[..header.len()].copy_from_slice(header);
        let first = BLOCK_BYTES.min(bytes as usize);
        file.write_all_at(&zeros[..first], 0)?;
        file.sync_data()
    }

    /// Reads past the page cache; false where that cannot be.
    fn read_direct(&self, name: FileName, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
        let Some(file) = self.direct(name)? else {
            return Ok(false);
        };
        if direct::is_whole(offset, buffer) {
            return match direct::read_whole(&file, offset, buffer) {
                Err(error) if direct::is_unaligned(&error) => Ok(false),
                done => done.map(|()| true),
            };
        }
        let stage = hold(&self.stages).pop();
        let mut stage = stage.unwrap_or_else(|| Aligned::zeros(buffer.len() + BLOCK_BYTES));
        let done = direct::read(&file, offset, buffer, &mut stage);
        let mut stages = hold(&self.stages);
        if stages.len() < STAGES_MAX && stage.len() <= STAGE_BYTES_MAX {
            stages.push(stage);
        }
        drop(stages);
        match done {
            Err(error) if direct::is_unaligned(&error) => Ok(false),
            done => done.map(|()| true),
        }
    }

    /// Fills pieces of whole blocks by one call; false where that cannot be, or not all at once.
    fn read_pieces(
        &self,
        name: FileName,
        offset: u64,
        pieces: &mut [IoSliceMut<'_>],
    ) -> io::Result<bool> {
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let are_whole = pieces.iter().all(|piece| direct::is_whole(offset, piece));
        if !are_whole || total < PAST_CACHE_BYTES_MIN {
            return Ok(false);
        }
        let Some(file) = self.direct(name)? else {
            return Ok(false);
        };
        // What is wrong is told by whoever then reads piece by piece.
        Ok(rustix::io::preadv(&*file, pieces, offset).is_ok_and(|count| count == total))
    }

    fn append_direct(&self, segment: u32, offset: u64, bytes: &[u8]) -> io::Result<bool> {
        let mut appender = hold(&self.appender);
        if appender.as_ref().is_none_or(|appender| appender.segment != segment) {
            let Some(file) = self.direct(FileName::Segment(segment))? else {
                return Ok(false);
            };
            *appender = Some(Appender::new(segment, file)?);
            // Everything before is sealed.
            self.live_from.store(segment, Ordering::Release);
        }
        let appender = appender.as_mut().expect("it was there or made just now");
        match appender.write(offset, bytes) {
            Err(error) if direct::is_unaligned(&error) => {
                self.is_direct.store(false, Ordering::Relaxed);
                Ok(false)
            }
            written => written.map(|()| true),
        }
    }
}

/// Takes the space of a file, which then reads as zeros.
#[expect(unsafe_code, reason = "std has no fallocate")]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    let length = libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and the call touches no
    // memory of this process.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // A file system without it: the space is then taken by the zeros that follow.
    if error.raw_os_error() == Some(libc::EOPNOTSUPP) { file.set_len(bytes) } else { Err(error) }
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<FileName>> {
        super::list(&self.path)
    }

    fn len(&self, name: FileName) -> io::Result<u64> {
        Ok(self.file(name)?.metadata()?.len())
    }

    fn read_at(&self, name: FileName, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if let FileName::Segment(segment) = name
            && (buffer.len() >= PAST_CACHE_BYTES_MIN
                || segment >= self.live_from.load(Ordering::Acquire))
            && self.read_direct(name, offset, buffer)?
        {
            return Ok(());
        }
        self.file(name)?.read_exact_at(buffer, offset)
    }

    fn read_pieces_at(
        &self,
        name: FileName,
        offset: u64,
        pieces: &mut [IoSliceMut<'_>],
    ) -> io::Result<()> {
        if matches!(name, FileName::Segment(_)) && self.read_pieces(name, offset, pieces)? {
            return Ok(());
        }
        let mut at = offset;
        for piece in pieces {
            self.read_at(name, at, piece)?;
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn write_at(&self, name: FileName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let FileName::Segment(segment) = name {
            self.live_from.fetch_min(segment, Ordering::Release);
            // What it knows of the file may not be so any more.
            *hold(&self.appender) = None;
        }
        self.file(name)?.write_all_at(bytes, offset)
    }

    fn append_at(&self, name: FileName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let FileName::Segment(segment) = name
            && self.append_direct(segment, offset, bytes)?
        {
            return Ok(());
        }
        self.file(name)?.write_all_at(bytes, offset)
    }

    fn sync(&self, name: FileName) -> io::Result<()> {
        self.file(name)?.sync_data()
    }

    fn create_segment(
        &self,
        name: FileName,
        header: &[u8],
        bytes: u64,
        zero_bytes: u64,
    ) -> io::Result<()> {
        assert!(header.len() as u64 <= bytes, "a segment begins with its header");
        self.forget(name);
        let made = self.create(name, header, bytes, zero_bytes);
        if made.is_err() {
            // Give the space back; the first error is the one to tell.
            self.forget(name);
            let _ = std::fs::remove_file(self.path(name));
        }
        made
    }

    fn replace(&self, name: FileName, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        let fresh = path.with_extension("new");
        let write = || {
            let file = File::create(&fresh)?;
            file.write_all_at(bytes, 0)?;
            file.sync_all()?;
            std::fs::rename(&fresh, &path)
        };
        if let Err(error) = write() {
            let _ = std::fs::remove_file(&fresh);
            return Err(error);
        }
        self.forget(name);
        self.directory.sync_all()
    }

    fn remove(&self, name: FileName) -> io::Result<()> {
        self.forget(name);
        match std::fs::remove_file(self.path(name)) {
            Ok(()) => self.directory.sync_all(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder whose changes cannot be made durable: what ought to ask for that says so.
    fn broken(path: &Path) -> RealDisk {
        let mut disk = RealDisk::open(path).unwrap();
        let (pipe, _) = io::pipe().unwrap();
        disk.directory = File::from(std::os::fd::OwnedFd::from(pipe));
        assert!(disk.directory.sync_all().is_err(), "a pipe has no disk");
        disk
    }

    #[test]
    fn names_count_as_durable_only_when_their_folder_was_synced() {
        let name = format!("yard-store-{}-folder", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        let (segment, bytes) = (FileName::Segment(0), 64 << 10);
        let disk = RealDisk::open(&path).unwrap();
        disk.create_segment(segment, &[1; 512], bytes, 4_096).unwrap();
        disk.replace(FileName::Checkpoint, &[2; 100]).unwrap();
        disk.remove(segment).unwrap();
        drop(disk);
        let disk = broken(&path);
        assert!(disk.create_segment(segment, &[1; 512], bytes, 4_096).is_err());
        assert_eq!(disk.list().unwrap(), [FileName::Checkpoint], "a header is written last");
        assert!(disk.replace(FileName::Checkpoint, &[3; 100]).is_err());
        assert!(disk.remove(FileName::Checkpoint).is_err());
        drop(disk);
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn the_space_of_a_segment_is_taken_before_it_is_used() {
        use std::os::unix::fs::MetadataExt;
        let name = format!("yard-store-{}-space", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        let disk = RealDisk::open(&path).unwrap();
        let (segment, bytes) = (FileName::Segment(0), 1 << 20);
        disk.create_segment(segment, &[1; 512], bytes, bytes).unwrap();
        let file = std::fs::metadata(disk.path(segment)).unwrap();
        assert!(file.len() == bytes && file.blocks() * 512 >= bytes, "{} blocks", file.blocks());
        drop(disk);
        std::fs::remove_dir_all(&path).unwrap();
    }
}
