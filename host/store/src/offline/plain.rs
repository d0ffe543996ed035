//! What reading a segment and one checksum over it cost: the measure of [`super::examine()`].
use std::io;

use super::survey::Surveyed;
use crate::disk::{Aligned, Disk, FileName};

/// Bytes of one read.
const CHUNK_BYTES: usize = 4 << 20;

/// Reads all of a segment and returns the CRC32C of its bytes.
///
/// # Errors
/// What the disk says.
pub fn read_through(disk: &dyn Disk, segment: &Surveyed) -> io::Result<u32> {
    let mut buffer = Aligned::zeros(CHUNK_BYTES);
    let (mut at, mut crc) = (0, 0);
    while at < segment.bytes() {
        let count = (segment.bytes() - at).min(CHUNK_BYTES as u64) as usize;
        disk.read_at(FileName::Segment(segment.segment()), at, &mut buffer[..count])?;
        crc = crc32c::crc32c_append(crc, &buffer[..count]);
        at += count as u64;
    }
    assert_eq!(at, segment.bytes(), "all of it was read");
    Ok(crc)
}
