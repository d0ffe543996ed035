//! A segment in large pieces, each of whole blocks, so that the disk reads to where it is wanted.
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Aligned, BLOCK_BYTES, Disk, FileName};

/// Bytes of the first piece, unless more are asked for at once: a start wants no more than the
/// first header of each sealed segment, of which there may be thousands.
const FIRST_BYTES: u64 = BLOCK_BYTES as u64;
/// How much larger each piece is than the one before.
const GROWTH: u64 = 16;
/// Bytes of the largest.
const CHUNK_BYTES: u64 = 4 << 20;

const _: () = assert!(CHUNK_BYTES.is_multiple_of(BLOCK_BYTES as u64));
const _: () = assert!(FIRST_BYTES < CHUNK_BYTES && GROWTH > 1);

/// Memory that whoever has bytes of a piece holds on to.
struct Held(Arc<Aligned>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The bytes of one file, from the front on. Where it has lost its end, that reads as zeros.
pub(super) struct Chunks<'a> {
    disk: &'a dyn Disk,
    name: FileName,
    /// Bytes that the file should have.
    end: u64,
    at: u64,
    bytes: Bytes,
    /// Bytes of the next piece.
    next_bytes: u64,
    memory: Arc<Aligned>,
    /// The memory of the piece before, used again when nobody holds it.
    spare: Arc<Aligned>,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(disk: &'a dyn Disk, name: FileName, end: u64) -> Self {
        let (memory, spare) = (Arc::new(Aligned::zeros(0)), Arc::new(Aligned::zeros(0)));
        let (bytes, next_bytes) = (Bytes::new(), FIRST_BYTES);
        Self { disk, name, end, at: 0, bytes, next_bytes, memory, spare }
    }

    /// `count` bytes from `offset` on; `None` when the file ends before.
    pub(super) fn bytes(&mut self, offset: u64, count: usize) -> io::Result<Option<Bytes>> {
        if self.end.checked_sub(offset).is_none_or(|rest| rest < count as u64) {
            return Ok(None);
        }
        let held = self.at + self.bytes.len() as u64;
        if offset < self.at || offset + count as u64 > held {
            self.fill(offset, count as u64)?;
        }
        assert!(offset >= self.at, "the piece holds what was asked for");
        let begin = (offset - self.at) as usize;
        Ok(Some(self.bytes.slice(begin..begin + count)))
    }

    /// Reads the piece that begins with the block of `offset`; what is there already is moved.
    fn fill(&mut self, offset: u64, count: u64) -> io::Result<()> {
        assert!(offset + count <= self.end, "the file holds what is asked for");
        let block = BLOCK_BYTES as u64;
        let at = offset - offset % block;
        let wanted = (offset - at + count).max(self.next_bytes).next_multiple_of(block);
        self.next_bytes = (self.next_bytes * GROWTH).min(CHUNK_BYTES);
        let wanted = wanted.min(self.end - at) as usize;
        let held = self.at + self.bytes.len() as u64;
        let known =
            if (self.at..held).contains(&at) { (at - self.at) as usize } else { self.bytes.len() };
        std::mem::swap(&mut self.memory, &mut self.spare);
        let kept = self.bytes.slice(known..);
        self.bytes = Bytes::new();
        if Arc::get_mut(&mut self.memory).is_none_or(|memory| memory.len() < wanted) {
            self.memory = Arc::new(Aligned::zeros(wanted));
        }
        let memory = Arc::get_mut(&mut self.memory).expect("nobody else has it yet");
        memory[..kept.len()].copy_from_slice(&kept);
        let from = at + kept.len() as u64;
        let there = self.disk.len(self.name)?.saturating_sub(from);
        let there = there.min((wanted - kept.len()) as u64) as usize;
        let (found, gone) = memory[kept.len()..wanted].split_at_mut(there);
        if !found.is_empty() {
            self.disk.read_at(self.name, from, found)?;
        }
        gone.fill(0);
        self.at = at;
        self.bytes = Bytes::from_owner(Held(Arc::clone(&self.memory))).slice(..wanted);
        assert!(self.bytes.len() as u64 + at >= offset + count, "what was asked for is there");
        Ok(())
    }
}
