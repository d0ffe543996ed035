//! What a power cut leaves: of what was synced everything, of the rest any part.
//!
//! ```text
//!   in order    all steps up to one, of the next write the first sectors
//!   reordered   of each file each sector that is not synced, or not, or torn at any byte;
//!               of the changes of the folder that are not synced the first few
//! ```
//!
//! Changes of the folder stay in order, as in the journal of ext4 and XFS; data does not wait for
//! them, nor they for data.
use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::Xxh3;
use yard_store::disk::FileName;
use yard_store::disk::lying::LyingDisk;

use super::device::{Inode, Step};
use crate::random::Random;

/// Bytes that a disk writes at once or not at all; most do.
pub(crate) const SECTOR_BYTES: usize = 512;

#[derive(Clone, Default)]
struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: BTreeSet<usize>,
}

impl File {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[offset..end].copy_from_slice(bytes);
        self.unsynced.extend(offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
    }

    fn sync(&mut self) {
        self.durable.resize(self.now.len(), 0);
        for sector in std::mem::take(&mut self.unsynced) {
            let (begin, end) = bounds(sector, self.now.len());
            self.durable[begin..end].copy_from_slice(&self.now[begin..end]);
        }
    }

    /// What is left of it: sectors are kept `percent` of 100 times, one in some torn.
    fn lose(&self, percent: u64, torn_one_in: u64, random: &mut Random) -> Vec<u8> {
        let mut left = self.durable.clone();
        let grown = self.now.len() != left.len();
        if grown && !random.percent(percent) {
            return left;
        }
        left.resize(self.now.len(), 0);
        for sector in &self.unsynced {
            if !random.percent(percent) {
                continue;
            }
            let (begin, mut end) = bounds(*sector, self.now.len());
            if begin < end && random.once_in(torn_one_in) {
                end = begin + random.below((end - begin) as u64) as usize;
            }
            if begin < end {
                left[begin..end].copy_from_slice(&self.now[begin..end]);
            }
        }
        left
    }
}

fn bounds(sector: usize, length: usize) -> (usize, usize) {
    let begin = (sector * SECTOR_BYTES).min(length);
    (begin, (begin + SECTOR_BYTES).min(length))
}

/// The files that one finds, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files(pub(crate) BTreeMap<FileName, Vec<u8>>);

impl Files {
    /// Names states: equal files have equal hashes.
    pub(crate) fn hash(&self) -> u64 {
        let mut hash = Xxh3::new();
        for (name, bytes) in &self.0 {
            hash.update(name.to_string().as_bytes());
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        hash.digest()
    }

    /// A disk that holds them.
    pub(crate) fn disk(&self) -> LyingDisk {
        let disk = LyingDisk::new(1);
        for (name, bytes) in &self.0 {
            disk.put(*name, bytes.clone());
        }
        disk
    }
}

/// A disk after some steps: what is durable, and what is not yet.
#[derive(Clone, Default)]
pub(crate) struct Image {
    files: BTreeMap<Inode, File>,
    folder: BTreeMap<FileName, Inode>,
    durable_folder: BTreeMap<FileName, Inode>,
    /// Changes of the folder that are not synced.
    unsynced: Vec<Step>,
}

fn change(folder: &mut BTreeMap<FileName, Inode>, step: &Step) {
    match step {
        Step::Link { name, inode } => {
            folder.insert(*name, *inode);
        }
        Step::Unlink { name } => {
            folder.remove(name);
        }
        Step::Length { .. } | Step::Write { .. } | Step::SyncFile { .. } | Step::SyncFolder => {
            unreachable!("it is no change of the folder")
        }
    }
}

impl Image {
    /// Takes a step.
    pub(crate) fn take(&mut self, step: &Step) {
        match step {
            Step::Link { .. } | Step::Unlink { .. } => {
                change(&mut self.folder, step);
                self.unsynced.push(step.clone());
            }
            Step::SyncFolder => {
                self.durable_folder = self.folder.clone();
                self.unsynced.clear();
            }
            Step::Length { inode, bytes } => {
                self.files.entry(*inode).or_default().now.resize(*bytes, 0);
            }
            Step::Write { inode, offset, bytes } => {
                self.files.entry(*inode).or_default().write(*offset, bytes);
            }
            Step::SyncFile { inode } => self.files.entry(*inode).or_default().sync(),
        }
    }

    /// Whether a cut could lose anything.
    pub(crate) fn is_pending(&self) -> bool {
        let linked = self.folder.values().filter_map(|inode| self.files.get(inode));
        let lengths = |file: &File| file.now.len() != file.durable.len();
        !self.unsynced.is_empty()
            || linked.into_iter().any(|file| !file.unsynced.is_empty() || lengths(file))
    }

    /// Everything that was written.
    pub(crate) fn in_order(&self) -> Files {
        let bytes = |inode: &Inode| self.files.get(inode).map(|file| file.now.clone());
        let files = self.folder.iter();
        Files(files.map(|(name, inode)| (*name, bytes(inode).unwrap_or_default())).collect())
    }

    /// Everything that was written, and the first sectors of one more write; calls `each` for
    /// every number of sectors but all of them.
    pub(crate) fn torn(&self, next: &Step, each: &mut dyn FnMut(Files)) {
        let Step::Write { inode, offset, bytes } = next else { return };
        let Some((name, _)) = self.folder.iter().find(|(_, linked)| *linked == inode) else {
            return;
        };
        let mut files = self.in_order();
        let mut done = 0;
        loop {
            let sector_end = (offset + done) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES;
            let count = (sector_end - offset).min(bytes.len());
            if count == bytes.len() {
                return;
            }
            let file = files.0.get_mut(name).expect("the folder has the name");
            let end = offset + count;
            if file.len() < end {
                file.resize(end, 0);
            }
            file[offset + done..end].copy_from_slice(&bytes[done..count]);
            done = count;
            each(files.clone());
        }
    }

    /// Any part of what is not durable is lost, by the numbers of `random`.
    pub(crate) fn reordered(&self, random: &mut Random) -> Files {
        let percent = random.pick(&[10, 50, 50, 50, 90]);
        let torn_one_in = random.pick(&[0, 0, 8, 2]);
        let mut folder = self.durable_folder.clone();
        let kept = random.below(self.unsynced.len() as u64 + 1) as usize;
        for step in &self.unsynced[..kept] {
            change(&mut folder, step);
        }
        let none = File::default();
        let mut left = |inode: &Inode| {
            let file = self.files.get(inode).unwrap_or(&none);
            file.lose(percent, torn_one_in, random)
        };
        Files(folder.into_iter().map(|(name, inode)| (name, left(&inode))).collect())
    }
}
