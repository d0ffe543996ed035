//! The disk of a start: what a medium cannot read counts as damaged and is no reason to give up.
//!
//! ```text
//!   read ──► fails, and again, and once more ──► block by block, each three times
//!              an answer to any of them:           │ a block that fails: is any other place read?
//!              nothing was wrong                   ├─ yes: it is filled with 0xff and noted
//!                                                  └─ no:  the device fails as a whole: an error
//! ```
//!
//! So a start gives up on a device that answers nothing, before it has changed anything, and may
//! be tried again; of one that has lost a block it serves the rest. Not zeros: those would be what
//! nobody has written yet.
use std::io;
#[expect(clippy::disallowed_types, reason = "a disk is shared; no other thread has this one")]
use std::sync::Mutex;
use std::sync::PoisonError;

use super::{BLOCK_BYTES, Disk, FileName};

/// Reads of the same bytes, one after another, before they count as damaged.
const READS_MAX: u32 = 3;
/// What bytes are that cannot be read.
const UNREADABLE: u8 = 0xff;

/// Blocks of a file that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) name: FileName,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// See the module. It hands on every call but reads.
pub(crate) struct PatientDisk<'a> {
    disk: &'a dyn Disk,
    #[expect(clippy::disallowed_types, reason = "as above")]
    noted: Mutex<Vec<Unreadable>>,
}

/// Whether the medium could not give the bytes, as Linux tells it.
pub(crate) fn is_of_medium(error: &io::Error) -> bool {
    let codes = [libc::EIO, libc::ENODATA, libc::EILSEQ, libc::EREMOTEIO, libc::EBADMSG];
    error.raw_os_error().is_some_and(|code| codes.contains(&code) || code == libc::EUCLEAN)
}

impl<'a> PatientDisk<'a> {
    pub(crate) fn new(disk: &'a dyn Disk) -> Self {
        Self { disk, noted: Vec::new().into() }
    }

    /// What could not be read, in the order in which it was met, each place once.
    pub(crate) fn unreadable(&self) -> Vec<Unreadable> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether some of these bytes could not be read.
    pub(crate) fn lacks(&self, name: FileName, from: u64, to: u64) -> bool {
        assert!(from <= to, "a range does not end before it begins");
        let meets =
            |it: &Unreadable| it.name == name && it.offset < to && from < it.offset + it.bytes;
        self.unreadable().iter().any(meets)
    }

    /// Reads what must be as it is on the disk, or not at all.
    pub(crate) fn read_exactly(
        &self,
        name: FileName,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let mut tried = self.disk.read_at(name, offset, buffer);
        for _ in 1..READS_MAX {
            match &tried {
                Err(error) if is_of_medium(error) => {}
                Ok(()) | Err(_) => return tried,
            }
            tried = self.disk.read_at(name, offset, buffer);
        }
        tried
    }

    fn note(&self, found: Unreadable) {
        assert!(found.bytes > 0, "a block has bytes");
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let end = |it: &Unreadable| it.offset + it.bytes;
        let covers = |it: &Unreadable| {
            it.name == found.name && it.offset <= found.offset && end(&found) <= end(it)
        };
        if noted.iter().any(covers) {
            return;
        }
        match noted.last_mut().filter(|it| it.name == found.name && end(it) == found.offset) {
            Some(last) => last.bytes += found.bytes,
            None => noted.push(found),
        }
    }

    /// A block that could not be read once is the same to every read.
    fn cover(&self, name: FileName, offset: u64, buffer: &mut [u8]) {
        let end = offset + buffer.len() as u64;
        for found in self.unreadable().iter().filter(|it| it.name == name) {
            assert!(found.offset.is_multiple_of(BLOCK_BYTES as u64), "whole blocks are noted");
            let (from, to) = (found.offset.max(offset), (found.offset + found.bytes).min(end));
            if from < to {
                buffer[(from - offset) as usize..(to - offset) as usize].fill(UNREADABLE);
            }
        }
    }

    /// Whether the device reads anything but the block of a file at this offset.
    fn answers(&self, name: FileName, offset: u64) -> bool {
        let first_of = |other: FileName, at: u64| {
            let there = self.disk.len(other).unwrap_or(0).saturating_sub(at);
            let mut bytes = [0; BLOCK_BYTES];
            let bytes = &mut bytes[..there.min(BLOCK_BYTES as u64) as usize];
            !bytes.is_empty() && self.disk.read_at(other, at, bytes).is_ok()
        };
        let names = self.disk.list().unwrap_or_default();
        let mut others = names.into_iter().filter(|other| *other != name);
        let block = BLOCK_BYTES as u64;
        let next = offset - offset % block + block;
        assert!(next > offset, "the block ends behind what it holds");
        others.any(|other| first_of(other, 0))
            || (offset >= block && first_of(name, 0))
            || first_of(name, next)
    }
}

impl Disk for PatientDisk<'_> {
    fn list(&self) -> io::Result<Vec<FileName>> {
        self.disk.list()
    }

    fn len(&self, name: FileName) -> io::Result<u64> {
        self.disk.len(name)
    }

    fn read_at(&self, name: FileName, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self.read_exactly(name, offset, buffer) {
            Err(error) if is_of_medium(&error) => {}
            Ok(()) => {
                self.cover(name, offset, buffer);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let (mut at, end) = (offset, offset + buffer.len() as u64);
        let mut rest = buffer;
        while !rest.is_empty() {
            let block = BLOCK_BYTES as u64;
            let bytes = (block - at % block).min(rest.len() as u64);
            let (piece, after) = rest.split_at_mut(bytes as usize);
            match self.read_exactly(name, at, piece) {
                Err(error) if is_of_medium(&error) => {
                    if !self.answers(name, at) {
                        return Err(error);
                    }
                    piece.fill(UNREADABLE);
                    self.note(Unreadable { name, offset: at - at % block, bytes: block });
                }
                Err(error) => return Err(error),
                Ok(()) => {}
            }
            rest = after;
            at += bytes;
        }
        assert_eq!(at, end, "every byte was asked for");
        Ok(())
    }

    fn write_at(&self, name: FileName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write_at(name, offset, bytes)
    }

    fn sync(&self, name: FileName) -> io::Result<()> {
        self.disk.sync(name)
    }

    fn create_segment(
        &self,
        name: FileName,
        header: &[u8],
        bytes: u64,
        zero_bytes: u64,
    ) -> io::Result<()> {
        self.disk.create_segment(name, header, bytes, zero_bytes)
    }

    fn replace(&self, name: FileName, bytes: &[u8]) -> io::Result<()> {
        self.disk.replace(name, bytes)
    }

    fn remove(&self, name: FileName) -> io::Result<()> {
        self.disk.remove(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::lying::LyingDisk;

    #[test]
    fn blocks_in_a_row_are_one_place_and_others_are_their_own() {
        let (first, second) = (FileName::Segment(0), FileName::Segment(1));
        let block = BLOCK_BYTES as u64;
        let disk = LyingDisk::new(1);
        for name in [first, second] {
            disk.put(name, vec![7; 8 * BLOCK_BYTES]);
        }
        disk.spoil(first, block..3 * block);
        disk.spoil(first, 5 * block..6 * block);
        disk.spoil(second, 6 * block..7 * block);
        let patient = PatientDisk::new(&disk);
        for name in [first, second, first] {
            let mut bytes = vec![0; 8 * BLOCK_BYTES];
            patient.read_at(name, 0, &mut bytes).unwrap();
            for (at, piece) in bytes.chunks(BLOCK_BYTES).enumerate() {
                let at = at as u64 * block;
                let expected = if patient.lacks(name, at, at + block) { UNREADABLE } else { 7 };
                assert!(piece.iter().all(|byte| *byte == expected), "{name:?} at {at}");
            }
        }
        let place = |name, from: u64, blocks: u64| Unreadable {
            name,
            offset: from * block,
            bytes: blocks * block,
        };
        let expected = [place(first, 1, 2), place(first, 5, 1), place(second, 6, 1)];
        assert_eq!(patient.unreadable(), expected);
    }
}
