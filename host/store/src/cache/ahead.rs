//! Reading before it is asked for, for readers that go through a segment, and each block by one
//! thread at a time.
//!
//! ```text
//!   a reader is in block 7, 6 is in memory too ──► it goes on: 8, 9 … are wanted
//!     fewer of them are here than it took just now, none is planned ──► Ahead, by another thread
//!
//!   planned ──► being read ──► in memory
//!               a reader waits only here: for a thread that is in a call of the disk
//! ```
//!
//! A plan is nobody's promise: whoever wants the block before the plan's thread has come to it
//! reads it, and a plan that is dropped holds up nobody. So readers may wait on all threads that
//! there are, plans behind them, and go on.
use std::ops::Range;
use std::sync::{MutexGuard, PoisonError};

use yard_wire::RecordPlace;

use super::{BLOCK_BYTES, LogCache, State, blocks_of};
use crate::disk::{Disk, FileName};

/// Blocks that a reader finds ready, at least: what it sends in some milliseconds.
const READY_MIN: u32 = 4;
/// For one reader at most this part of the blocks in memory is read ahead.
const SHARE: usize = 4;

/// Blocks to be read before somebody asks.
#[derive(Debug)]
#[must_use = "these blocks are not planned a second time until somebody has read them"]
pub struct Ahead {
    segment: u32,
    blocks: Range<u32>,
    end: u64,
}

/// Blocks that one thread is reading and no other does; ends however the reading ends.
pub(super) struct Claim<'a> {
    cache: &'a LogCache,
    pub(super) segment: u32,
    pub(super) blocks: Range<u32>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.cache.state();
        for at in self.blocks.clone() {
            let was_claimed = state.reading.remove(&(self.segment, at));
            debug_assert!(was_claimed, "nobody else ends a claim");
        }
        drop(state);
        self.cache.was_read.notify_all();
    }
}

/// The plan of one [`Ahead`]; ends however its reading ends.
struct Planned<'a>(&'a LogCache, u32, Range<u32>);

impl Drop for Planned<'_> {
    fn drop(&mut self) {
        let Self(cache, segment, blocks) = self;
        let mut state = cache.state();
        for at in blocks {
            state.planned.remove(&(*segment, at));
        }
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
        let is_wanted =
            |at: &u32| state.is_missing(segment, *at) && !state.planned.contains(&(segment, *at));
        // More than that at a time, so that it is a few calls of several blocks.
        let end_at = block + 1 + target + self.run_max() as u32;
        assert!(first > block, "what is asked for is not ahead");
        let count = (first..blocks.min(end_at)).take_while(is_wanted).count() as u32;
        if count == 0 {
            return None;
        }
        let blocks = first..first + count;
        state.planned.extend(blocks.clone().map(|at| (segment, at)));
        Some(Ahead { segment, blocks, end })
    }

    /// Reads what was planned, but for what is there or being read meanwhile. An error is
    /// nobody's: whoever wants the block meets it.
    pub fn read_ahead(&self, disk: &dyn Disk, ahead: Ahead) {
        let Ahead { segment, mut blocks, end } = ahead;
        assert!(!blocks.is_empty(), "a plan is about some blocks");
        let _planned = Planned(self, segment, blocks.clone());
        while let Some(claim) = self.claim_missing(segment, &mut blocks) {
            if self.read_blocks(disk, claim, end).is_err() {
                return;
            }
        }
    }

    /// Claims what one call reads of these blocks, and leaves those after it.
    fn claim_missing(&self, segment: u32, blocks: &mut Range<u32>) -> Option<Claim<'_>> {
        let mut state = self.state();
        let first = blocks.find(|at| state.is_missing(segment, *at))?;
        let most = blocks.end.min(first + self.run_max() as u32);
        let count = (first..most).take_while(|at| state.is_missing(segment, *at)).count() as u32;
        assert!(first + count <= blocks.end, "no more than was planned");
        blocks.start = first + count;
        Some(self.claim(&mut state, segment, first..first + count))
    }

    /// The right to read blocks that nobody else reads.
    pub(super) fn claim(&self, state: &mut State, segment: u32, blocks: Range<u32>) -> Claim<'_> {
        assert!(!blocks.is_empty(), "a call reads something");
        for at in blocks.clone() {
            let is_first = state.reading.insert((segment, at));
            assert!(is_first, "a block is read by one thread at a time");
        }
        Claim { cache: self, segment, blocks }
    }

    /// Waits until no thread is reading a block.
    pub(super) fn unread(&self, segment: u32, block: u32) -> MutexGuard<'_, State> {
        let is_being_read = |state: &mut State| state.reading.contains(&(segment, block));
        let waited = self.was_read.wait_while(self.state(), is_being_read);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.take_in();
        state
    }
}

impl State {
    /// Whether a block is neither in memory nor on its way.
    pub(super) fn is_missing(&self, segment: u32, block: u32) -> bool {
        let key = (segment, block);
        !self.blocks.contains_key(&key) && !self.reading.contains(&key)
    }

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
