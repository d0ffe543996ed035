//! Reading and writing past the page cache.
//!
//! ```text
//!                      offset                     offset + bytes
//!   file   │ block     ┊      │ block  │ …  │ block ┊   │
//!   stage  │ as it was ┊ the bytes                 ┊ 0 │   ──► one write of whole blocks
//! ```
//!
//! The system moves whole blocks between file and memory, both aligned. So the first block of a
//! write is written again with what it holds before `offset`, as the page cache would do, and the
//! last is filled with the zeros that lie there anyway. The blocks between are written from where
//! they are, when the bytes lie in memory as they will in the file: see [`MEMORY_ALIGNMENT`].
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// What offsets, lengths and addresses are multiples of: the largest block of the usual devices.
pub(crate) const BLOCK_BYTES: usize = 4 << 10;
/// Bytes for `append_at` need no copy when their address and their offset in the file differ by a
/// multiple of this.
pub const MEMORY_ALIGNMENT: usize = BLOCK_BYTES;
/// From so many bytes on, three pieces cost less than a copy: fewer are copied wherever they lie.
pub(crate) const IN_PLACE_BYTES_MIN: usize = 16 << 10;
/// A stage that a large group has made larger is given back.
const STAGE_BYTES_MAX: usize = 4 << 20;

/// Memory that begins at a multiple of [`BLOCK_BYTES`].
pub(crate) struct Aligned {
    memory: Vec<u8>,
    begin: usize,
    bytes: usize,
}

impl Aligned {
    /// So many zeros, rounded up to whole blocks.
    pub(crate) fn zeros(bytes: usize) -> Self {
        let bytes = bytes.next_multiple_of(BLOCK_BYTES);
        if bytes == 0 {
            return Self { memory: Vec::new(), begin: 0, bytes };
        }
        let memory = vec![0; bytes + BLOCK_BYTES];
        let begin = memory.as_ptr().align_offset(BLOCK_BYTES);
        assert!(begin + bytes <= memory.len(), "an aligned address is less than a block away");
        Self { memory, begin, bytes }
    }
}

impl Deref for Aligned {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[self.begin..self.begin + self.bytes]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.begin..self.begin + self.bytes]
    }
}

/// Opens a file for whole blocks; `None` where the file system does not offer that.
pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    open_with(path, OpenOptions::new().read(true).write(true))
}

/// As [`open`], for who only reads.
pub(super) fn open_to_read(path: &Path) -> io::Result<Option<File>> {
    open_with(path, OpenOptions::new().read(true))
}

fn open_with(path: &Path, options: &mut OpenOptions) -> io::Result<Option<File>> {
    match options.custom_flags(libc::O_DIRECT).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if is_unaligned(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the system answers where it has no direct access, or wants larger blocks.
pub(super) fn is_unaligned(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}

/// Whether whole blocks can be read to where they are wanted.
pub(super) fn is_whole(offset: u64, buffer: &[u8]) -> bool {
    let of_blocks = |number: usize| number.is_multiple_of(BLOCK_BYTES);
    offset.is_multiple_of(BLOCK_BYTES as u64)
        && of_blocks(buffer.len())
        && of_blocks(buffer.as_ptr().addr())
}

/// Fills `buffer` from `offset` on; both are of whole blocks, see [`is_whole`].
pub(super) fn read_whole(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    assert!(is_whole(offset, buffer), "the system would refuse it");
    let wanted = buffer.len();
    read_blocks(file, offset, buffer, wanted)
}

/// Fills `buffer` from `offset` on, through `stage`.
pub(super) fn read(
    file: &File,
    offset: u64,
    buffer: &mut [u8],
    stage: &mut Aligned,
) -> io::Result<()> {
    let head = (offset % BLOCK_BYTES as u64) as usize;
    let wanted = head + buffer.len();
    if stage.len() < wanted {
        *stage = Aligned::zeros(wanted);
    }
    let end = wanted.next_multiple_of(BLOCK_BYTES);
    read_blocks(file, offset - head as u64, &mut stage[..end], wanted)?;
    buffer.copy_from_slice(&stage[head..wanted]);
    Ok(())
}

/// Fills at least the first `wanted` bytes of blocks.
fn read_blocks(file: &File, offset: u64, blocks: &mut [u8], wanted: usize) -> io::Result<()> {
    assert!(wanted <= blocks.len(), "what is wanted lies in the blocks");
    let mut filled = 0;
    while filled < wanted {
        // Only the end of the file cuts a read off inside a block.
        if !filled.is_multiple_of(BLOCK_BYTES) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match file.read_at(&mut blocks[filled..], offset + filled as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes one segment from wherever it was left to its end.
pub(super) struct Appender {
    pub(super) segment: u32,
    file: Arc<File>,
    file_bytes: u64,
    /// Byte after the last write; the stage begins with what its block holds before it. `None`:
    /// not known.
    end: Option<u64>,
    stage: Aligned,
}

impl Appender {
    pub(super) fn new(segment: u32, file: Arc<File>) -> io::Result<Self> {
        let file_bytes = file.metadata()?.len();
        Ok(Self { segment, file, file_bytes, end: None, stage: Aligned::zeros(64 << 10) })
    }

    /// Writes `bytes` at `offset`, behind which the file has nothing but zeros.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        if end > self.file_bytes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let head = (offset % BLOCK_BYTES as u64) as usize;
        let begin = offset - head as u64;
        let total = head + bytes.len();
        let is_aligned = bytes.as_ptr().addr() % MEMORY_ALIGNMENT == head;
        self.make_room(head, if is_aligned { 2 * BLOCK_BYTES } else { total });
        if self.end != Some(offset) && head > 0 {
            let mut before = Aligned::zeros(BLOCK_BYTES);
            read(&self.file, begin, &mut self.stage[..head], &mut before)?;
        }
        // What fails half-way is not continued from the stage.
        self.end = None;
        if self.write_pieces(begin, head, bytes)? {
            self.end = Some(end);
            return Ok(());
        }
        self.make_room(head, total);
        let padded = total.next_multiple_of(BLOCK_BYTES).min((self.file_bytes - begin) as usize);
        self.stage[head..total].copy_from_slice(bytes);
        self.stage[total..padded].fill(0);
        self.file.write_all_at(&self.stage[..padded], begin)?;
        let last = total - total % BLOCK_BYTES;
        self.stage.copy_within(last..total, 0);
        self.end = Some(end);
        Ok(())
    }

    /// Writes whole blocks from where they are, and through the stage only what is before and after
    /// them; false when that does not go, or not all at once.
    fn write_pieces(&mut self, begin: u64, head: usize, bytes: &[u8]) -> io::Result<bool> {
        let is_aligned = bytes.as_ptr().addr() % MEMORY_ALIGNMENT == head;
        if !is_aligned || bytes.len() < IN_PLACE_BYTES_MIN {
            return Ok(false);
        }
        let (first, rest) = bytes.split_at((BLOCK_BYTES - head) % BLOCK_BYTES);
        let (blocks, last) = rest.split_at(rest.len() - rest.len() % BLOCK_BYTES);
        let (front, back) = self.stage.split_at_mut(BLOCK_BYTES);
        front[head..head + first.len()].copy_from_slice(first);
        back[..last.len()].copy_from_slice(last);
        back[last.len()..BLOCK_BYTES].fill(0);
        let front_bytes = if first.is_empty() { 0 } else { BLOCK_BYTES };
        let back_at = begin + (front_bytes + blocks.len()) as u64;
        let left = (self.file_bytes - back_at).min(BLOCK_BYTES as u64) as usize;
        let back_bytes = if last.is_empty() { 0 } else { left };
        let pieces = [&front[..front_bytes], blocks, &back[..back_bytes]];
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let slices = pieces.map(IoSlice::new);
        let used = &slices[usize::from(front_bytes == 0)..3 - usize::from(back_bytes == 0)];
        let is_done = match rustix::io::pwritev(&*self.file, used, begin) {
            Ok(count) => count == total,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::INVAL) => false,
            Err(error) => return Err(error.into()),
        };
        if is_done {
            front[..last.len()].copy_from_slice(&back[..last.len()]);
        }
        Ok(is_done)
    }

    /// Makes the stage hold `total` bytes, and keeps its first `head`.
    fn make_room(&mut self, head: usize, total: usize) {
        let is_large = self.stage.len() > STAGE_BYTES_MAX && total <= STAGE_BYTES_MAX;
        if self.stage.len() >= total && !is_large {
            return;
        }
        let bytes = total.next_power_of_two().max(BLOCK_BYTES);
        let before = std::mem::replace(&mut self.stage, Aligned::zeros(bytes));
        self.stage[..head].copy_from_slice(&before[..head]);
    }
}
