//! The limit of the disk: writes and syncs of the same size, in the same folder, into a file whose
//! space is there and zeroed, as the log's is.
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::figures::{Belongs, Tally, Times, Window};

/// What a disk writes at least.
pub(crate) const BLOCK_BYTES: usize = 4 << 10;
/// Bytes of the file; it is written round and round.
const FILE_BYTES: u64 = 64 << 20;
/// Zeros written at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Writes and syncs of one size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct DiskFigures {
    pub(crate) bytes: usize,
    pub(crate) bytes_per_second: f64,
    /// Of one write and one sync, in microseconds.
    pub(crate) sync_us: Option<Times>,
}

/// A file of zeros, on the disk.
pub(crate) fn zeroed(path: &Path, bytes: u64) -> io::Result<File> {
    let file = File::options().create(true).truncate(true).read(true).write(true).open(path)?;
    let zeros = vec![0; PIECE_BYTES];
    let mut at = 0;
    while at < bytes {
        file.write_all_at(&zeros, at)?;
        at += zeros.len() as u64;
    }
    file.sync_all()?;
    Ok(file)
}

/// Writes and syncs groups of each size for `each`.
pub(crate) fn measure(
    path: &Path,
    sizes: &[usize],
    each: Duration,
) -> io::Result<Vec<DiskFigures>> {
    let file = zeroed(path, FILE_BYTES)?;
    sizes.iter().map(|bytes| one_size(&file, *bytes, each)).collect()
}

fn one_size(file: &File, bytes: usize, each: Duration) -> io::Result<DiskFigures> {
    let bytes = bytes.next_multiple_of(BLOCK_BYTES).min(FILE_BYTES as usize);
    let group: Vec<u8> = (0..bytes).map(|at| at as u8).collect();
    let window = Window::new(Instant::now(), Duration::ZERO, each);
    let mut tally = Tally::new(window, Belongs::Due);
    let (mut at, mut due) = (0, Instant::now());
    while due < window.end {
        if at + bytes as u64 > FILE_BYTES {
            at = 0;
        }
        file.write_all_at(&group, at)?;
        file.sync_data()?;
        at += bytes as u64;
        let done = Instant::now();
        tally.add(due, done);
        due = done;
    }
    let bytes_per_second = (tally.messages() * bytes as u64) as f64 / window.seconds();
    Ok(DiskFigures { bytes, bytes_per_second, sync_us: tally.times() })
}
