//! The disk at work: writes and syncs one after the other, the rest beside them, each taking a
//! while; a crash in between finds them done, half done or not done.
use yard_checker::CrashKind;
use yard_shard::Input;
use yard_store::disk::FileName;
use yard_store::{Disk, Io, IoDone};

use super::{Doom, Host};
use crate::agenda::{Happening, MS, Micros};
use crate::base::Base;
use crate::planted::{self, Plant, Report};

impl Host {
    pub(super) fn begin_io(&mut self, base: &mut Base, shard: usize, io: Io) {
        let io = planted::alter_io(base, io, &mut self.slots[shard].checkpoint_before);
        if let Some(done) = planted::early_report(base, &io) {
            base.after(1, Happening::Done { shard, life: self.life, done });
        }
        match io {
            Io::WriteGroup { .. } | Io::SyncGroup { .. } => {
                let slot = &mut self.slots[shard];
                if base.has(Plant::NextGroupBeforeSync) && matches!(io, Io::WriteGroup { .. }) {
                    slot.line.push_front(io);
                } else {
                    slot.line.push_back(io);
                }
                if slot.line.len() == 1 {
                    self.begin_line(base, shard);
                }
            }
            Io::PrepareSegment { .. }
            | Io::WriteIndex { .. }
            | Io::IndexKeys { .. }
            | Io::WriteKeys { .. }
            | Io::ReadKept { .. }
            | Io::RemoveSegment { .. }
            | Io::WriteCheckpoint { .. } => {
                let slot = &mut self.slots[shard];
                slot.others_begun += 1;
                let number = slot.others_begun;
                slot.others.insert(number, io);
                let delay = self.duration(base, base.plan.io + base.plan.sync);
                base.after(delay, Happening::Perform { shard, life: self.life, number });
            }
        }
    }

    fn duration(&mut self, base: &mut Base, typical: Micros) -> Micros {
        let (factor, until) = self.slow;
        let factor = if base.now < until { factor } else { 1 };
        self.random.latency(typical) * factor
    }

    fn begin_line(&mut self, base: &mut Base, shard: usize) {
        let typical = match self.slots[shard].line.front() {
            None => return,
            Some(Io::SyncGroup { .. }) => base.plan.sync,
            Some(_) => base.plan.io,
        };
        let delay = self.duration(base, typical);
        base.after(delay, Happening::Perform { shard, life: self.life, number: 0 });
    }

    /// The disk does one I/O; its result is on its way to the shard.
    pub(crate) fn perform(&mut self, base: &mut Base, shard: usize, life: u32, number: u64) {
        if life != self.life {
            return;
        }
        let is_sync = matches!(self.slots[shard].line.front(), Some(Io::SyncGroup { .. }));
        if self.dies_at_sync && number == 0 && is_sync {
            self.doom = None;
            let (kind, outputs) = (CrashKind::Power, 0);
            return self.plan_death(base, Doom { kind, outputs, recovery: None, down: 10 * MS });
        }
        let slot = &mut self.slots[shard];
        let io = match number {
            0 => slot.line.pop_front(),
            number => slot.others.remove(&number),
        };
        let io = io.expect("an I/O is done once");
        let report = if matches!(io, Io::IndexKeys { .. } | Io::ReadKept { .. }) {
            self.read(base, shard, |base, disk| planted::perform(base, disk, shard, &io))
        } else {
            planted::perform(base, &slot.disk, shard, &io)
        };
        let slot = &mut self.slots[shard];
        base.trace.line(base.now, || format!("disk {shard}: {} -> {report:?}", brief(&io)));
        let (really, told) = match report {
            Report::Honest(done) => (done.clone(), Some(done)),
            Report::Altered { really, told } => (really, told),
        };
        slot.oracle.tried(&io);
        if !matches!(really, IoDone::Failed { .. }) {
            slot.oracle.done(&io);
        }
        let mixed = (base.now, shard as u64, number);
        base.trace.mix(&[mixed.0, mixed.1, mixed.2, code(&really)]);
        if number == 0 {
            self.begin_line(base, shard);
        }
        if let Some(done) = told {
            let delay = self.random.range(1, 20);
            base.after(delay, Happening::Done { shard, life, done });
        }
        if let Io::SyncGroup { .. } = io {
            self.release_held(base, shard);
        }
    }

    /// The result of an I/O reaches its shard.
    pub(crate) fn done(&mut self, base: &mut Base, shard: usize, life: u32, done: IoDone) {
        if life == self.life {
            self.give(base, shard, Input::Io(done));
        }
    }

    /// So many bytes more fit the disk of a shard.
    pub(crate) fn limit_disk(&mut self, shard: usize, more: u64) {
        let disk = &self.slots[shard].disk;
        let names: Vec<FileName> = disk.list().unwrap_or_default();
        let used: u64 = names.into_iter().filter_map(|name| disk.len(name).ok()).sum();
        disk.set_capacity(used + more);
    }
}

fn code(done: &IoDone) -> u64 {
    match done {
        IoDone::Written { group } => group.0 << 8,
        IoDone::Synced { group } => group.0 << 8 | 1,
        IoDone::Failed { group } => group.0 << 8 | 2,
        IoDone::Prepared { segment } => u64::from(*segment) << 8 | 3,
        IoDone::PrepareFailed { segment, .. } => u64::from(*segment) << 8 | 4,
        IoDone::IndexWritten { segment } => u64::from(*segment) << 8 | 5,
        IoDone::IndexFailed { segment } => u64::from(*segment) << 8 | 6,
        IoDone::KeptRead(found) => (found.records.len() as u64) << 8 | 9,
        IoDone::KeptFailed => 10,
        IoDone::SegmentRemoved { segment } => u64::from(*segment) << 8 | 11,
        IoDone::RemoveFailed { segment } => u64::from(*segment) << 8 | 12,
        IoDone::CheckpointWritten { .. } => 7,
        IoDone::CheckpointFailed => 8,
        IoDone::KeysIndexed { run } => xxhash_rust::xxh3::xxh3_64(run.bytes()) << 8 | 13,
        IoDone::KeysWritten { part } => part.file_bytes() << 8 | 14,
        IoDone::IndexKeysFailed => 15,
        IoDone::WriteKeysFailed => 20,
    }
}

/// An I/O in a word and its number.
pub(super) fn brief(io: &Io) -> String {
    match io {
        Io::WriteGroup { group, segment, offset, bytes } => {
            format!("write group {group} at {segment}:{offset}, {} bytes", bytes.len())
        }
        Io::SyncGroup { group, segment } => format!("sync group {group} in {segment}"),
        Io::PrepareSegment { segment, .. } => format!("prepare segment {segment}"),
        Io::WriteIndex { segment, .. } => format!("write index {segment}"),
        Io::IndexKeys { job } => format!("index keys in {}", job.segment()),
        Io::WriteKeys { runs } => format!("write keys, {} runs", runs.len()),
        Io::ReadKept { reads, .. } => format!("read what is kept, {} ranges", reads.len()),
        Io::RemoveSegment { segment } => format!("remove segment {segment}"),
        Io::WriteCheckpoint { state, .. } => {
            format!("write checkpoint, {} bytes of state", state.encode().len())
        }
    }
}
