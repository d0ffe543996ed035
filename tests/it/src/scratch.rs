//! A folder of its own for each run.
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

use crate::Failed;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A new folder under the system's temporary one, removed when this is dropped, unless it is
/// kept. A run that panics keeps its folder, so that one can look.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    /// Makes a folder whose name begins with `yard-` and `name`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new(name: &str) -> Result<Self, Failed> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("yard-{name}-{}-{number}", process::id()));
        match fs::remove_dir_all(&path) {
            // Left behind by an earlier process of the same id.
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failed::file(&path)(error)),
        }
        fs::create_dir_all(&path).map_err(Failed::file(&path))?;
        Ok(Self { path, keep: false })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the folder where it is; returns its path.
    pub fn keep(&mut self) -> &Path {
        self.keep = true;
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep || std::thread::panicking() {
            eprintln!("kept: {}", self.path.display());
        } else {
            // What cannot be removed is the system's to clean up.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
