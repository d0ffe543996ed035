//! What becomes of disks while nobody runs: for a moment they cannot be read, or bits have flipped
//! in what is derived from the log. Nothing may be lost by either. What flipped bits of the log
//! itself cost is another campaign's: see `damage`.
use yard_store::disk::FileName;
use yard_store::disk::lying::Fault;
use yard_store::{Disk, Repair};

use super::Host;
use crate::base::{Base, Phase};
use crate::repairs::is_of_crash;

/// Times that a disk cannot be read: a start tries three times.
const UNREADABLE_MAX: u64 = 3;
/// Bits that flip in one file.
const FLIPS_MAX: u64 = 3;

impl Host {
    /// A shard is about to be opened.
    pub(super) fn rot(&mut self, base: &Base, shard: usize) {
        let is_over = base.phase > Phase::Storm;
        if is_over || !self.random.once_in(base.plan.rots_one_in) {
            return;
        }
        let slot = &mut self.slots[shard];
        let names = slot.disk.list().unwrap_or_default();
        let (log, derived): (Vec<FileName>, Vec<FileName>) =
            names.into_iter().partition(|name| matches!(name, FileName::Segment(_)));
        if log.is_empty() {
            return;
        }
        if derived.is_empty() || self.random.percent(30) {
            for _ in 0..self.random.range(1, UNREADABLE_MAX) {
                slot.disk.fail_next(Fault::Read);
            }
            return;
        }
        slot.has_rotted = true;
        let name = self.random.pick(&derived);
        let bits = slot.disk.len(name).unwrap_or(0) * 8;
        for _ in 0..self.random.range(1, FLIPS_MAX).min(bits) {
            slot.disk.flip_bit(name, self.random.below(bits));
        }
    }

    /// Whether a start may have to put this right, by what has happened to the disk.
    pub(super) fn is_explained(&self, shard: usize, repair: &Repair) -> bool {
        let has_rotted = self.slots[shard].has_rotted;
        is_of_crash(repair) || has_rotted && matches!(repair, Repair::CheckpointIgnored)
    }
}
