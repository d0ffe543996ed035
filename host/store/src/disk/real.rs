//! The directory of a shard on a file system.
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[expect(clippy::disallowed_types, reason = "the disk serves several threads")]
use std::sync::Mutex;
use std::sync::{MutexGuard, PoisonError};

use super::{Disk, FileName};

/// Files that are kept open at most.
const OPEN_MAX: usize = 256;
/// Bytes of zeros that are written and synced at a time. The log's own syncs wait behind them:
/// with a whole segment at once their 99th percentile was 18 ms, so it is 0.3 to 0.7 ms, against
/// 0.2 ms of a log alone (64 KiB groups on ext4).
const ZERO_BYTES: usize = 256 << 10;
const LOCK: &str = "lock";

type OpenFiles = BTreeMap<FileName, Arc<File>>;

/// A directory on a file system. One process at a time: the directory is locked.
pub struct RealDisk {
    path: PathBuf,
    directory: File,
    #[expect(clippy::disallowed_types, reason = "the disk serves several threads")]
    open: Mutex<OpenFiles>,
    /// Held open for its lock.
    _lock: File,
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
        let open = Default::default();
        Ok(Self { path: path.to_path_buf(), directory, open, _lock: lock })
    }

    fn path(&self, name: FileName) -> PathBuf {
        self.path.join(name.to_string())
    }

    fn open_files(&self) -> MutexGuard<'_, OpenFiles> {
        // The map is whole even when a holder panicked: every change of it is one call.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, name: FileName) -> io::Result<Arc<File>> {
        if let Some(file) = self.open_files().get(&name) {
            return Ok(Arc::clone(file));
        }
        let file = OpenOptions::new().read(true).write(true).open(self.path(name))?;
        Ok(self.keep(name, file))
    }

    fn keep(&self, name: FileName, file: File) -> Arc<File> {
        let file = Arc::new(file);
        let mut open = self.open_files();
        if open.len() >= OPEN_MAX {
            open.pop_first();
        }
        open.insert(name, Arc::clone(&file));
        file
    }

    fn create(&self, name: FileName, bytes: u64, zero_bytes: u64) -> io::Result<File> {
        let path = self.path(name);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(path)?;
        allocate(&file, bytes)?;
        let zeros = vec![0; ZERO_BYTES];
        let mut at = 0;
        let end = zero_bytes.min(bytes);
        assert!(matches!(name, FileName::Segment(_)), "other files are replaced");
        while at < end {
            let count = (end - at).min(ZERO_BYTES as u64);
            file.write_all_at(&zeros[..count as usize], at)?;
            file.sync_data()?;
            at += count;
        }
        file.sync_all()?;
        self.directory.sync_all()?;
        Ok(file)
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
        let mut names = Vec::new();
        for item in std::fs::read_dir(&self.path)? {
            names.extend(item?.file_name().to_str().and_then(FileName::parse));
        }
        names.sort_unstable();
        Ok(names)
    }

    fn len(&self, name: FileName) -> io::Result<u64> {
        Ok(self.file(name)?.metadata()?.len())
    }

    fn read_at(&self, name: FileName, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file(name)?.read_exact_at(buffer, offset)
    }

    fn write_at(&self, name: FileName, offset: u64, bytes: &[u8]) -> io::Result<()> {
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
        self.open_files().remove(&name);
        let made = self.create(name, bytes, zero_bytes).and_then(|file| {
            file.write_all_at(header, 0)?;
            file.sync_data()?;
            Ok(file)
        });
        match made {
            Ok(file) => {
                self.keep(name, file);
                Ok(())
            }
            Err(error) => {
                // Give the space back; the first error is the one to tell.
                let _ = std::fs::remove_file(self.path(name));
                Err(error)
            }
        }
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
        self.open_files().remove(&name);
        self.directory.sync_all()
    }

    fn remove(&self, name: FileName) -> io::Result<()> {
        self.open_files().remove(&name);
        match std::fs::remove_file(self.path(name)) {
            Ok(()) => self.directory.sync_all(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}
