//! A disk in memory that keeps its promises and not one more, for tests and the simulator.
//!
//! ```text
//!   write_at ──► now ──sync──► durable
//!                 │ crash(Process): now stays
//!                 └ crash(Power):   each unsynced sector of 512 bytes is kept or lost, at random
//! ```
//!
//! After a failed sync the written sectors count as lost though they can still be read, as on
//! ext4 and XFS (Rebello et al., ATC '20). Equal calls with equal seeds give equal bytes.
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
#[expect(clippy::disallowed_types, reason = "the disk serves several threads")]
use std::sync::Mutex;
use std::sync::{MutexGuard, PoisonError};

use super::{Disk, FileName};

const SECTOR_BYTES: usize = 512;

/// What a crash takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies: everything written stays.
    Process,
    /// The power goes: any part of what was not synced is lost, sector by sector.
    Power,
}

/// A failure that happens once, at the next call that it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `sync` fails with EIO, and what it should have made durable is lost.
    Sync,
    /// `write_at` fails with EIO after a part of the bytes.
    Write,
    /// `replace` fails with EIO; the old file stays.
    Replace,
    /// `create_segment` fails with EIO, as if the machine had stopped in the middle: a file with
    /// zeros in some of its sectors is left behind, and no header.
    Create,
    /// `read_at` fails with EIO.
    Read,
}

#[derive(Clone, Default)]
struct MemoryFile {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors in which `now` may differ from `durable`, and a crash may keep either.
    unsynced: BTreeSet<usize>,
    /// Sectors that a failed sync has lost: a crash keeps `durable`.
    lost: BTreeSet<usize>,
    /// Sectors that cannot be read until they are written.
    bad: BTreeSet<usize>,
}

impl MemoryFile {
    fn whole(bytes: Vec<u8>) -> Self {
        Self { durable: bytes.clone(), now: bytes, ..Self::default() }
    }

    fn copy_sector(from: &[u8], to: &mut [u8], sector: usize) {
        let begin = sector * SECTOR_BYTES;
        let end = (begin + SECTOR_BYTES).min(from.len());
        assert_eq!(from.len(), to.len(), "files do not change their length");
        to[begin..end].copy_from_slice(&from[begin..end]);
    }

    fn sync(&mut self) {
        for sector in std::mem::take(&mut self.unsynced) {
            Self::copy_sector(&self.now, &mut self.durable, sector);
        }
    }

    fn lose_power(&mut self, random: &mut Random) {
        for sector in std::mem::take(&mut self.unsynced) {
            if random.next() & 1 == 0 {
                Self::copy_sector(&self.now, &mut self.durable, sector);
            } else {
                Self::copy_sector(&self.durable, &mut self.now, sector);
            }
        }
        for sector in std::mem::take(&mut self.lost) {
            Self::copy_sector(&self.durable, &mut self.now, sector);
        }
    }
}

#[derive(Clone)]
struct Random(u64);

impl Random {
    /// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (splitmix64).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[derive(Clone)]
struct State {
    files: BTreeMap<FileName, MemoryFile>,
    faults: Vec<Fault>,
    capacity_bytes: u64,
    random: Random,
    syncs: u64,
    /// No read succeeds.
    is_dead: bool,
}

impl State {
    fn file(&mut self, name: FileName) -> io::Result<&mut MemoryFile> {
        self.files.get_mut(&name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Makes a file as long as this, at once and for good: that is what recovery makes of one that
    /// was cut off, and it finds out again if it has to.
    fn lengthen(&mut self, name: FileName, bytes: u64) -> io::Result<()> {
        let length = usize::try_from(bytes).map_err(|_| io::ErrorKind::StorageFull)?;
        if length <= self.file(name)?.now.len() {
            return Ok(());
        }
        self.check_space(name, bytes)?;
        let file = self.file(name)?;
        file.now.resize(length, 0);
        file.durable.resize(length, 0);
        Ok(())
    }

    fn strikes(&mut self, fault: Fault) -> bool {
        let at = self.faults.iter().position(|armed| *armed == fault);
        at.map(|at| self.faults.remove(at)).is_some()
    }

    fn check_space(&self, name: FileName, bytes: u64) -> io::Result<()> {
        let others = self.files.iter().filter(|(other, _)| **other != name);
        let used: u64 = others.map(|(_, file)| file.now.len() as u64).sum();
        if used + bytes > self.capacity_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

fn input_output_error() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

/// A disk in memory. See the module.
pub struct LyingDisk {
    #[expect(clippy::disallowed_types, reason = "the disk serves several threads")]
    state: Mutex<State>,
}

impl LyingDisk {
    /// An empty disk without an end. The seed decides what a fault leaves behind.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::holding(State {
            files: BTreeMap::new(),
            faults: Vec::new(),
            capacity_bytes: u64::MAX,
            random: Random(seed),
            syncs: 0,
            is_dead: false,
        })
    }

    fn holding(state: State) -> Self {
        Self { state: state.into() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Tests go on after a panic; the bytes are as good as those of any crash.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of the disk as it is, with what is not synced: to try several crashes of one run.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::holding(self.state().clone())
    }

    /// The process or the machine stops. Armed faults are forgotten.
    pub fn crash(&self, seed: u64, kind: Crash) {
        let mut state = self.state();
        state.faults.clear();
        match kind {
            // What a failed sync has lost stays in the page cache, and no later sync writes it.
            Crash::Process => {}
            Crash::Power => {
                let mut random = Random(seed);
                state.files.values_mut().for_each(|file| file.lose_power(&mut random));
            }
        }
    }

    /// Arms a failure.
    pub fn fail_next(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Forgets what was armed of a failure and has struck nothing.
    pub fn disarm(&self, fault: Fault) {
        self.state().faults.retain(|armed| *armed != fault);
    }

    /// From now on reads that touch one of these bytes fail with EIO, until their sector is
    /// written.
    pub fn spoil(&self, name: FileName, bytes: Range<u64>) {
        let sectors = bytes.start as usize / SECTOR_BYTES..bytes.end.div_ceil(512) as usize;
        if let Ok(file) = self.state().file(name) {
            file.bad.extend(sectors);
        }
    }

    /// From now on every read fails with EIO, or none any more by this.
    pub fn set_dead(&self, is_dead: bool) {
        self.state().is_dead = is_dead;
    }

    /// From now on the files together hold at most so many bytes; more is `StorageFull`.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity_bytes = bytes;
    }

    /// Flips one bit of a file, durably. False when the file is shorter.
    pub fn flip_bit(&self, name: FileName, bit: u64) -> bool {
        let mut state = self.state();
        let Some(file) = state.files.get_mut(&name) else {
            return false;
        };
        let (at, mask) = ((bit / 8) as usize, 1 << (bit % 8));
        let Some(byte) = file.now.get_mut(at) else {
            return false;
        };
        *byte ^= mask;
        file.durable[at] ^= mask;
        true
    }

    /// The bytes of a file as a reader sees them now.
    #[must_use]
    pub fn contents(&self, name: FileName) -> Option<Vec<u8>> {
        self.state().files.get(&name).map(|file| file.now.clone())
    }

    /// Puts a file there, durably, in place of any of its name.
    pub fn put(&self, name: FileName, bytes: Vec<u8>) {
        self.state().files.insert(name, MemoryFile::whole(bytes));
    }

    /// How many syncs have succeeded.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }
}

impl Disk for LyingDisk {
    fn list(&self) -> io::Result<Vec<FileName>> {
        Ok(self.state().files.keys().copied().collect())
    }

    fn len(&self, name: FileName) -> io::Result<u64> {
        Ok(self.state().file(name)?.now.len() as u64)
    }

    fn read_at(&self, name: FileName, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        if state.strikes(Fault::Read) || state.is_dead {
            return Err(input_output_error());
        }
        let file = state.file(name)?;
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = offset.saturating_add(buffer.len());
        let sectors = offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES);
        if file.bad.range(sectors).next().is_some() {
            return Err(input_output_error());
        }
        let bytes = file.now.get(offset..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, name: FileName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let torn = state.strikes(Fault::Write);
        let reach = offset.checked_add(bytes.len() as u64).ok_or(io::ErrorKind::InvalidInput)?;
        state.lengthen(name, reach)?;
        let count =
            if torn { state.random.next() as usize % (bytes.len() + 1) } else { bytes.len() };
        let file = state.file(name)?;
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let end = offset + count;
        file.now[offset..end].copy_from_slice(&bytes[..count]);
        for sector in offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            file.lost.remove(&sector);
            file.bad.remove(&sector);
            file.unsynced.insert(sector);
        }
        if torn { Err(input_output_error()) } else { Ok(()) }
    }

    fn sync(&self, name: FileName) -> io::Result<()> {
        let mut state = self.state();
        let fails = state.strikes(Fault::Sync);
        let file = state.file(name)?;
        if fails {
            let lost = std::mem::take(&mut file.unsynced);
            file.lost.extend(lost);
            return Err(input_output_error());
        }
        file.sync();
        state.syncs += 1;
        Ok(())
    }

    fn create_segment(
        &self,
        name: FileName,
        header: &[u8],
        bytes: u64,
        _zero_bytes: u64,
    ) -> io::Result<()> {
        let mut state = self.state();
        state.files.remove(&name);
        state.check_space(name, bytes)?;
        let length = usize::try_from(bytes).map_err(|_| io::ErrorKind::StorageFull)?;
        if state.strikes(Fault::Create) {
            let length = state.random.next() as usize % (length + 1);
            state.files.insert(name, MemoryFile::whole(vec![0; length]));
            return Err(input_output_error());
        }
        let mut now = vec![0; length];
        now[..header.len()].copy_from_slice(header);
        state.files.insert(name, MemoryFile::whole(now));
        Ok(())
    }

    fn replace(&self, name: FileName, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        if state.strikes(Fault::Replace) {
            return Err(input_output_error());
        }
        state.check_space(name, bytes.len() as u64)?;
        state.files.insert(name, MemoryFile::whole(bytes.to_vec()));
        Ok(())
    }

    fn remove(&self, name: FileName) -> io::Result<()> {
        self.state().files.remove(&name);
        Ok(())
    }
}
