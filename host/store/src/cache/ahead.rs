//! Reading before it is asked for, for readers that go through a segment.
//!
//! ```text
//!   a reader is in block 7, 6 is in memory too ──► it goes on: 8, 9 … are wanted
//!     fewer of them are here than it took just now, none is coming ──► Ahead, by another thread
//!     one that is coming is waited for, not read twice
//! ```
use std::collections::BTreeSet;
use std::sync::Condvar;
use std::sync::PoisonError;

use yard_wire::RecordPlace;

use super::{BLOCK_BYTES, LogCache, State, blocks_of};
use crate::disk::{Disk, FileName};

/// Blocks that a reader finds ready, at least: what it sends in some milliseconds.
const READY_MIN: u32 = 4;
/// For one reader at most this part of the blocks in memory is read ahead.
const SHARE: usize = 4;

/// Blocks that are being read, and who waits for them.
#[derive(Default)]
pub(super) struct Coming {
    pub(super) blocks: BTreeSet<(u32, u32)>,
}

/// Blocks to be read before somebody asks; whoever has it is the one to read them.
#[derive(Debug)]
#[must_use = "others wait for what it promises"]
pub struct Ahead {
    segment: u32,
    block: u32,
    count: u32,
    end: u64,
}

/// Wakes those who wait for blocks.
#[derive(Default)]
pub(super) struct Arrived(Condvar);

/// Ends a promise however its reading ends.
struct Keeping<'a> {
    cache: &'a LogCache,
    ahead: Ahead,
}

impl Keeping<'_> {
    /// The next so many blocks are there, or will not be.
    fn keep(&mut self, count: u32) {
        let Ahead { segment, block, .. } = self.ahead;
        let mut state = self.cache.state();
        for at in block..block + count {
            state.coming.blocks.remove(&(segment, at));
        }
        drop(state);
        self.cache.arrived.0.notify_all();
        assert!(count <= self.ahead.count, "no more than was promised");
        self.ahead.block += count;
        self.ahead.count -= count;
    }
}

impl Drop for Keeping<'_> {
    fn drop(&mut self) {
        self.keep(self.ahead.count);
    }
}

impl LogCache {
    /// What should be read next for a reader that was given these places just now, if anything.
    /// To be done with [`LogCache::read_ahead`], by a thread that may block.
    #[must_use]
    pub fn ahead_of(&self, disk: &dyn Disk, places: &[RecordPlace]) -> Option<Ahead> {
        let (first, last) = (places.first()?, places.last()?);
        let (segment, block) = (last.segment, *blocks_of(last).end());
        // Queues take turns in the log: a reader of one of many goes through more of it at a time.
        let begun = if first.segment == segment { *blocks_of(first).start() } else { 0 };
        let most = (self.bytes_max / BLOCK_BYTES as usize / SHARE) as u32;
        let target = block.saturating_sub(begun).max(READY_MIN).min(most.max(1));
        let end = {
            let state = self.state();
            let is_ready = state.ready_after(segment, block, target) == target;
            if is_ready || !state.goes_on(segment, block) {
                return None;
            }
            state.written_end(segment)?
        };
        let end = if end == u64::MAX { disk.len(FileName::Segment(segment)).ok()? } else { end };
        let blocks = u32::try_from(end / u64::from(BLOCK_BYTES)).unwrap_or(u32::MAX);
        let mut state = self.state();
        let first = block + 1 + state.ready_after(segment, block, target);
        let is_wanted = |at: &u32| {
            let key = (segment, *at);
            !state.blocks.contains_key(&key) && !state.coming.blocks.contains(&key)
        };
        // More than that at a time, so that it is a few calls of several blocks.
        let end_at = block + 1 + target + self.run_max() as u32;
        assert!(first > block, "what is asked for is not ahead");
        let count = (first..blocks.min(end_at)).take_while(is_wanted).count() as u32;
        if count == 0 {
            return None;
        }
        state.coming.blocks.extend((first..first + count).map(|at| (segment, at)));
        Some(Ahead { segment, block: first, count, end })
    }

    /// Reads what was promised. An error is nobody's: whoever wants the block meets it.
    pub fn read_ahead(&self, disk: &dyn Disk, ahead: Ahead) {
        let mut keeping = Keeping { cache: self, ahead };
        let run_max = self.run_max() as u32;
        while keeping.ahead.count > 0 {
            let Ahead { segment, block, count, end } = keeping.ahead;
            let run = count.min(run_max);
            assert!(run > 0, "a call reads something");
            if self.read_blocks(disk, segment, (block, run), end).is_err() {
                return;
            }
            keeping.keep(run);
        }
    }

    /// Waits until a block is not being read by another.
    pub(super) fn await_block(&self, segment: u32, block: u32) {
        let mut state = self.state();
        while state.coming.blocks.contains(&(segment, block)) {
            let waited = self.arrived.0.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl State {
    /// Whether somebody reads a segment in order and has come to this block.
    fn goes_on(&self, segment: u32, block: u32) -> bool {
        let is_here = |at: u32| self.blocks.contains_key(&(segment, at));
        is_here(block) && block.checked_sub(1).is_none_or(is_here)
    }

    /// How many blocks after this one are in memory, `most` at most.
    fn ready_after(&self, segment: u32, block: u32, most: u32) -> u32 {
        let is_here = |at: &u32| self.blocks.contains_key(&(segment, *at));
        (block + 1..block + 1 + most).take_while(is_here).count() as u32
    }
}
