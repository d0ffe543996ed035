//! A disk that notes each step that a real one takes, so that the power can be cut after any.
//!
//! The steps are those of the store's disk on a file system: what it writes, and which syncs and
//! changes of the folder lie between. What a cut leaves of them is [`super::image`]'s matter.
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use yard_store::Disk;
use yard_store::disk::FileName;
use yard_store::disk::lying::LyingDisk;

use crate::planted::Plant;

/// Bytes of zeros that are written at a time.
const ZERO_BYTES: usize = 256 << 10;
/// Bytes that are written where a segment's header goes.
const BLOCK_BYTES: usize = 4 << 10;

/// A file, whatever its name.
pub(crate) type Inode = u32;

/// One step of a disk.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A name leads to a file, in place of any other.
    Link { name: FileName, inode: Inode },
    /// A name leads nowhere.
    Unlink { name: FileName },
    /// The file gets this length.
    Length { inode: Inode, bytes: usize },
    /// Bytes are written; the file grows where needed.
    Write { inode: Inode, offset: usize, bytes: Bytes },
    /// The file is durable.
    SyncFile { inode: Inode },
    /// All names are durable.
    SyncFolder,
}

#[derive(Default)]
struct Noted {
    names: BTreeMap<FileName, Inode>,
    files: Inode,
    steps: Vec<Step>,
    /// Steps of another thread, which mix with the others later.
    aside: VecDeque<Step>,
    is_aside: bool,
}

impl Noted {
    fn note(&mut self, step: Step) {
        if self.is_aside {
            self.aside.push_back(step);
        } else {
            self.steps.push(step);
        }
    }

    fn fresh(&mut self) -> Inode {
        self.files += 1;
        self.files
    }

    fn link(&mut self, name: FileName, inode: Inode) {
        self.names.insert(name, inode);
        self.note(Step::Link { name, inode });
    }
}

/// The disk. See the module.
pub(crate) struct Device {
    live: LyingDisk,
    noted: Mutex<Noted>,
    plant: Option<Plant>,
}

impl Device {
    pub(crate) fn new(seed: u64, plant: Option<Plant>) -> Self {
        Self { live: LyingDisk::new(seed), noted: Mutex::default(), plant }
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inode(&self, name: FileName) -> io::Result<Inode> {
        self.noted().names.get(&name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Steps taken so far.
    pub(crate) fn steps_taken(&self) -> usize {
        self.noted().steps.len()
    }

    /// Does something as another thread would: its steps wait for [`Device::mix_in`].
    pub(crate) fn aside<T>(&self, work: impl FnOnce() -> T) -> T {
        assert!(self.noted().aside.is_empty(), "there is one other thread");
        self.noted().is_aside = true;
        let done = work();
        self.noted().is_aside = false;
        done
    }

    /// The other thread takes a step. False when it has none left to take.
    pub(crate) fn mix_in(&self) -> bool {
        let mut noted = self.noted();
        let step = noted.aside.pop_front();
        noted.steps.extend(step);
        !noted.aside.is_empty()
    }

    /// Everything that was noted.
    pub(crate) fn into_steps(self) -> Vec<Step> {
        self.noted.into_inner().unwrap_or_else(PoisonError::into_inner).steps
    }
}

impl Disk for Device {
    fn list(&self) -> io::Result<Vec<FileName>> {
        self.live.list()
    }

    fn len(&self, name: FileName) -> io::Result<u64> {
        self.live.len(name)
    }

    fn read_at(&self, name: FileName, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.live.read_at(name, offset, buffer)
    }

    fn write_at(&self, name: FileName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.live.write_at(name, offset, bytes)?;
        let (inode, bytes) = (self.inode(name)?, Bytes::copy_from_slice(bytes));
        self.noted().note(Step::Write { inode, offset: offset as usize, bytes });
        Ok(())
    }

    fn sync(&self, name: FileName) -> io::Result<()> {
        self.live.sync(name)?;
        let inode = self.inode(name)?;
        let mut noted = self.noted();
        let buffers = self.plant == Some(Plant::FlushAfterSync) && !noted.is_aside;
        let is_its =
            |step: &mut Step| matches!(step, Step::Write { inode: of, .. } if *of == inode);
        let late = if buffers { noted.steps.pop_if(is_its) } else { None };
        noted.note(Step::SyncFile { inode });
        late.into_iter().for_each(|write| noted.note(write));
        Ok(())
    }

    fn create_segment(
        &self,
        name: FileName,
        header: &[u8],
        bytes: u64,
        zero_bytes: u64,
    ) -> io::Result<()> {
        self.live.create_segment(name, header, bytes, zero_bytes)?;
        let mut noted = self.noted();
        let inode = noted.fresh();
        let length = bytes as usize;
        let mut block = header.to_vec();
        block.resize(BLOCK_BYTES.min(length), 0);
        let header = Step::Write { inode, offset: 0, bytes: block.into() };
        noted.link(name, inode);
        noted.note(Step::Length { inode, bytes: length });
        let zeros = (zero_bytes as usize).min(length);
        for offset in (0..zeros).step_by(ZERO_BYTES) {
            let bytes = Bytes::from(vec![0; ZERO_BYTES.min(zeros - offset)]);
            noted.note(Step::Write { inode, offset, bytes });
        }
        noted.note(Step::SyncFile { inode });
        noted.note(Step::SyncFolder);
        noted.note(header);
        noted.note(Step::SyncFile { inode });
        Ok(())
    }

    fn replace(&self, name: FileName, bytes: &[u8]) -> io::Result<()> {
        self.live.replace(name, bytes)?;
        let mut noted = self.noted();
        let inode = noted.fresh();
        noted.note(Step::Write { inode, offset: 0, bytes: Bytes::copy_from_slice(bytes) });
        if self.plant == Some(Plant::RenameBeforeSync) {
            noted.link(name, inode);
            noted.note(Step::SyncFolder);
            noted.note(Step::SyncFile { inode });
        } else {
            noted.note(Step::SyncFile { inode });
            noted.link(name, inode);
            noted.note(Step::SyncFolder);
        }
        Ok(())
    }

    fn remove(&self, name: FileName) -> io::Result<()> {
        self.live.remove(name)?;
        let mut noted = self.noted();
        if noted.names.remove(&name).is_some() {
            noted.note(Step::Unlink { name });
            noted.note(Step::SyncFolder);
        }
        Ok(())
    }
}
