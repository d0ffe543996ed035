//! Bytes of the log in memory, shared by everybody who reads it: the newest groups as they were
//! appended, and pieces of the files as they were read.
//!
//! ```text
//!   put_group ──► groups  the same bytes that are written, newest kept   ──┐
//!   read ───────► blocks  256 KiB of a segment, used last kept           ──┴─► Found ──► frames
//! ```
//!
//! Queues share one log, so the records of one queue lie apart: a block that was read for one
//! queue serves the others, and other groups. Places come from the queue index, which knows only
//! what is committed; so what was appended and is not durable is here and cannot be asked for.
//!
//! Nothing that leaves keeps a block or a group alive for long: a [`Found`] is copied from and
//! dropped. What waits for a slow consumer is therefore its own bytes and no others.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::IoSliceMut;
#[expect(clippy::disallowed_types, reason = "writer and readers share the cache")]
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Condvar, MutexGuard, PoisonError, TryLockError};

use bytes::{Buf, Bytes, BytesMut};
use yard_wire::record::Record;
use yard_wire::{Malformed, RecordPlace};

use crate::disk::{Disk, FileName, MEMORY_ALIGNMENT};
use crate::error::ReadError;
use crate::read::{damaged, read_bytes};
use crate::released::{Way, front};

mod ahead;

pub use ahead::Ahead;
use ahead::Claim;

/// Bytes of a block: one call of some tens of microseconds, and few enough that a tenth of it
/// being of use pays.
const BLOCK_BYTES: u32 = 256 << 10;
/// A block is read whole when at least one byte in so many of it is wanted; else the records are
/// read one by one.
const WANTED_OF_BLOCK: u64 = 16;
/// Or when something is wanted of one in so many of its pages: each would be a call of its own, and
/// sixteen of those take several times as long as one of a block. So it is with small records that
/// lie apart, and with releases, of which only the front is read.
const PAGES_OF_BLOCK: u64 = 4;
/// What the disk reads at least.
const PAGE_BYTES: u64 = MEMORY_ALIGNMENT as u64;
/// Blocks that are read by one call for a reader that goes on: each call costs two wake-ups and a
/// notice to the disk, as much as copying some hundred KiB.
const RUN_MAX: usize = 4;
/// But no more than one in so many of those that are kept.
const RUN_OF_CACHE: usize = 8;
/// Buffers of blocks that left, kept for the next: a fresh one costs as much as reading into it.
const SPARE_MAX: usize = 2 * RUN_MAX;
/// How often somebody who must not wait looks whether the cache is free: for some microseconds,
/// many times as long as others have it.
const LOOKS_MAX: usize = 200;
/// Least bytes that a cache holds: it must hold what one delivery reads.
pub const CACHE_BYTES_MIN: usize = 2 << 20;

/// The newest groups and the blocks read last of one log.
///
/// The writer waits for no reader: a thread that runs behind others may lose its processor while it
/// looks at the cache, for milliseconds, and the log would stand still so long.
pub struct LogCache {
    #[expect(clippy::disallowed_types, reason = "writer and readers share the cache")]
    state: Mutex<State>,
    /// Groups on their way into the state.
    appended: Sender<Extent>,
    /// Blocks are no longer being read.
    was_read: Condvar,
    /// Bytes of groups, and again of blocks.
    bytes_max: usize,
}

struct State {
    /// Groups that were appended and are not among `groups` yet.
    appended: Receiver<Extent>,
    /// In the order of the log, without gaps.
    groups: VecDeque<Extent>,
    group_bytes: usize,
    blocks: BTreeMap<(u32, u32), Block>,
    block_bytes: usize,
    /// Blocks that a thread is reading: others wait for it.
    reading: BTreeSet<(u32, u32)>,
    /// Blocks that are to be read ahead, so that they are not planned twice.
    planned: BTreeSet<(u32, u32)>,
    spare: Vec<BytesMut>,
    uses: u64,
}

struct Block {
    bytes: Bytes,
    used: u64,
}

/// What is wanted of a block.
#[derive(Default)]
struct Wanted {
    bytes: u64,
    pages: u64,
    /// The last of them, counted from 1.
    last_page: u64,
}

impl Wanted {
    /// Adds these bytes of the segment, which are not none.
    fn add(&mut self, begin: u64, end: u64) {
        assert!(begin < end, "a record has bytes");
        self.bytes += end - begin;
        let (first, last) = (begin / PAGE_BYTES + 1, end.div_ceil(PAGE_BYTES));
        self.pages += last + 1 - first - u64::from(first == self.last_page);
        self.last_page = last;
    }

    fn is_worthwhile(&self) -> bool {
        let block = u64::from(BLOCK_BYTES);
        assert!(self.pages > 0 || self.bytes == 0, "bytes lie on pages");
        self.bytes >= block / WANTED_OF_BLOCK || self.pages >= block / PAGE_BYTES / PAGES_OF_BLOCK
    }
}

/// Consecutive bytes of a segment.
#[derive(Clone, Debug)]
struct Extent {
    segment: u32,
    offset: u32,
    bytes: Bytes,
    /// The checksums of its records hold.
    is_checked: bool,
}

impl Extent {
    fn holds(&self, place: &RecordPlace) -> bool {
        let end = u64::from(self.offset) + self.bytes.len() as u64;
        let (wanted, wanted_end) = bounds(place);
        self.segment == place.segment && u64::from(self.offset) <= wanted && wanted_end <= end
    }

    /// What lies at a place in here.
    fn slice(&self, place: &RecordPlace) -> Bytes {
        let begin = (place.offset - self.offset) as usize;
        self.bytes.slice(begin..begin + place.bytes as usize)
    }

    fn check(&self, record: &[u8]) -> Result<(), Malformed> {
        if self.is_checked { Ok(()) } else { Record::check(record) }
    }
}

/// Records that are in memory.
#[derive(Debug, Default)]
pub struct Found {
    extents: Vec<Extent>,
    /// Of each record: its extent, its first byte in there, its bytes.
    records: Vec<(u32, u32, u32)>,
    /// Those that were reached over a release.
    ways: BTreeMap<usize, Way>,
}

impl Found {
    /// How many records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether all of them were appended just now, so that others are likely to want them too.
    #[must_use]
    pub fn is_tail(&self) -> bool {
        self.extents.iter().all(|extent| extent.is_checked)
    }

    /// Gives each record to `each`, in the order in which they were asked for, and checks it.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] for one whose checksums do not hold; what was given is then not to
    /// be used.
    pub fn each(
        &self,
        places: &[RecordPlace],
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), ReadError> {
        assert_eq!(self.records.len(), places.len(), "one record a place");
        for (at, ((extent, begin, bytes), place)) in self.records.iter().zip(places).enumerate() {
            let extent = &self.extents[*extent as usize];
            let record = &extent.bytes[*begin as usize..*begin as usize + *bytes as usize];
            // Before it is checked: copying streams what is far away, checksums would wait for it.
            give(self.ways.get(&at), place, record, &mut each)?;
            extent.check(record).map_err(|why| damaged(place, why))?;
        }
        Ok(())
    }

    fn add(&mut self, place: &RecordPlace) {
        let extent = self.extents.last().expect("the caller pushed the record's extent");
        debug_assert!(extent.holds(place), "the last extent holds the record");
        let begin = place.offset - extent.offset;
        self.records.push((self.extents.len() as u32 - 1, begin, place.bytes));
    }
}

impl LogCache {
    /// An empty cache for at most `bytes_max` bytes of groups and blocks together, but at least
    /// [`CACHE_BYTES_MIN`]; one group more while it is the newest, however large.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let (appended, arriving) = mpsc::channel();
        let (state, was_read) = (State::new(arriving).into(), Condvar::new());
        let bytes_max = bytes_max.max(CACHE_BYTES_MIN) / 2;
        Self { state, appended, was_read, bytes_max }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way, so a poisoned state is a whole one.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.take_in();
        state
    }

    /// The state, unless somebody has it for longer than a look takes: who has it may be waiting
    /// for a processor.
    fn state_soon(&self) -> Option<MutexGuard<'_, State>> {
        for _ in 0..LOOKS_MAX {
            let mut state = match self.state.try_lock() {
                Ok(state) => state,
                Err(TryLockError::Poisoned(state)) => state.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    std::hint::spin_loop();
                    continue;
                }
            };
            state.take_in();
            return Some(state);
        }
        None
    }

    /// Takes in a group that is about to be written at `offset` of a segment. Groups come in the
    /// order of the log.
    pub fn put_group(&self, segment: u32, offset: u32, bytes: Bytes) {
        assert!(!bytes.is_empty(), "a group has a header");
        let group = Extent { segment, offset, bytes, is_checked: true };
        assert!(self.appended.send(group).is_ok(), "the state keeps the other end");
        // Else whoever has it takes the group in, and what is too old leaves next time.
        let Some(mut state) = self.state_soon() else { return };
        let mut left = Vec::new();
        while state.group_bytes > self.bytes_max && state.groups.len() > 1 {
            let oldest = state.groups.pop_front().expect("there are two");
            state.group_bytes -= oldest.bytes.len();
            left.push(oldest);
        }
        // Giving memory back is nobody else's business.
        drop(state);
        drop(left);
    }

    /// The records at these places if all of them are in memory, and nobody is at the cache just
    /// then. Does not block: it may be called where others wait.
    #[must_use]
    pub fn find(&self, places: &[RecordPlace]) -> Option<Found> {
        self.state_soon()?.find(places)
    }

    /// Gives each record at these places to `each`, in their order, read where it is not in
    /// memory, and checks it. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// [`ReadError`] for the first that cannot be read or is damaged; what was given is then not
    /// to be used. It concerns this call only: nothing that failed is kept.
    pub fn read(
        &self,
        disk: &dyn Disk,
        places: &[RecordPlace],
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), ReadError> {
        let ways = self.ways(disk, places)?;
        let stored_at = |at: usize| ways.get(&at).map_or(places[at], |way| way.record);
        let stored: Vec<RecordPlace> = (0..places.len()).map(stored_at).collect();
        let blocks = self.worthwhile_blocks(&stored);
        let mut last: Option<Extent> = None;
        for (at, place) in stored.iter().enumerate() {
            let extent = match last.take().filter(|last| last.holds(place)) {
                Some(last) => last,
                None => self.extent(disk, place, &blocks)?,
            };
            let record = &extent.slice(place)[..];
            // As in `Found::each`.
            let given = give(ways.get(&at), &places[at], record, &mut each)
                .and_then(|()| extent.check(record).map_err(|why| damaged(place, why)));
            if let Err(error) = given {
                // It may be the copy in memory that is damaged: whoever asks next reads anew.
                self.state().forget(place);
                return Err(error);
            }
            last = Some(extent);
        }
        Ok(())
    }

    /// The ways to the records of those places that have a release.
    fn ways(
        &self,
        disk: &dyn Disk,
        places: &[RecordPlace],
    ) -> Result<BTreeMap<usize, Way>, ReadError> {
        let released = || places.iter().enumerate().filter(|(_, place)| place.released);
        let fronts: Vec<RecordPlace> = released().map(|(_, place)| front(place)).collect();
        let blocks = self.worthwhile_blocks(&fronts);
        let read = |place: &RecordPlace| {
            let extent = self.extent(disk, place, &blocks)?;
            Ok(extent.slice(place))
        };
        let wrong = |place: &RecordPlace, why| {
            // As in `read`.
            self.state().forget(place);
            damaged(place, why)
        };
        let way = |(at, place)| Ok((at, Way::find(place, read, wrong)?));
        released().map(way).collect()
    }

    /// Bytes that hold a record, from memory or from the disk.
    fn extent(
        &self,
        disk: &dyn Disk,
        place: &RecordPlace,
        blocks: &BTreeMap<(u32, u32), u64>,
    ) -> Result<Extent, ReadError> {
        if let Some(extent) = self.state().extent(place) {
            return Ok(extent);
        }
        let mut is_read = false;
        for block in blocks_of(place) {
            let Some(end) = blocks.get(&(place.segment, block)) else { continue };
            // An error is told where it meets a record that is wanted.
            is_read |= self.read_block(disk, place.segment, block, *end).is_ok();
        }
        let found = if is_read { self.state().extent(place) } else { None };
        if let Some(extent) = found {
            return Ok(extent);
        }
        let bytes = read_bytes(disk, place)?;
        Ok(Extent { segment: place.segment, offset: place.offset, bytes, is_checked: false })
    }

    /// The blocks that are not in memory and that enough is wanted of, with the end of what is
    /// known to be written in their segment.
    fn worthwhile_blocks(&self, places: &[RecordPlace]) -> BTreeMap<(u32, u32), u64> {
        let mut wanted: BTreeMap<(u32, u32), Wanted> = BTreeMap::new();
        let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
        for place in places {
            let (begin, end) = bounds(place);
            let known = ends.entry(place.segment).or_default();
            *known = end.max(*known);
            for block in blocks_of(place) {
                let block_begin = u64::from(block) * u64::from(BLOCK_BYTES);
                let block_end = block_begin + u64::from(BLOCK_BYTES);
                let of_block = wanted.entry((place.segment, block)).or_default();
                of_block.add(begin.max(block_begin), end.min(block_end));
            }
        }
        // All of a segment before the one that is written was written; in that one, what lies
        // before a group that is known here, or before a record that is committed.
        let state = self.state();
        for (segment, end) in &mut ends {
            *end = state.written_end(*segment).unwrap_or(0).max(*end);
        }
        let worthwhile = wanted.into_iter().filter(|(_, wanted)| wanted.is_worthwhile());
        worthwhile.map(|(key, _)| (key, ends[&key.0])).collect()
    }

    /// Reads a block and, where its reader seems to go on, the next ones by the same call; or
    /// waits for another reader that is at it.
    fn read_block(
        &self,
        disk: &dyn Disk,
        segment: u32,
        block: u32,
        end: u64,
    ) -> Result<(), ReadError> {
        let name = FileName::Segment(segment);
        let offset = u64::from(block) * u64::from(BLOCK_BYTES);
        let failed = |source| ReadError::Disk { name, offset, source };
        let end = if end == u64::MAX { disk.len(name).map_err(failed)? } else { end };
        let there = end.saturating_sub(offset);
        let whole = (there / u64::from(BLOCK_BYTES)).min(self.run_max()) as u32;
        let mut state = self.unread(segment, block);
        // One that was read while it was being filled has less.
        let wanted = there.min(u64::from(BLOCK_BYTES)) as usize;
        let held = state.blocks.get(&(segment, block));
        if held.is_some_and(|held| held.bytes.len() >= wanted) {
            return Ok(());
        }
        let count = state.missing_in_row(segment, block, whole).max(1);
        let claim = self.claim(&mut state, segment, block..block + count);
        drop(state);
        self.read_blocks(disk, claim, end)
    }

    /// Reads the blocks that were claimed; they are more than one only where all are whole.
    fn read_blocks(&self, disk: &dyn Disk, claim: Claim<'_>, end: u64) -> Result<(), ReadError> {
        let (segment, count) = (claim.segment, claim.blocks.len());
        let name = FileName::Segment(segment);
        let offset = u64::from(claim.blocks.start) * u64::from(BLOCK_BYTES);
        let failed = |source| ReadError::Disk { name, offset, source };
        let there = end.saturating_sub(offset);
        let mut state = self.state();
        let mut buffers: Vec<BytesMut> =
            (0..count).map(|_| state.spare.pop().unwrap_or_else(aligned_buffer)).collect();
        drop(state);
        let bytes = there.min(u64::from(BLOCK_BYTES)) as usize;
        assert!(count == 1 || bytes == BLOCK_BYTES as usize, "whole blocks are read ahead");
        buffers.iter_mut().for_each(|buffer| buffer.resize(bytes, 0));
        let mut pieces: Vec<_> = buffers.iter_mut().map(|it| IoSliceMut::new(it)).collect();
        if let Err(error) = disk.read_pieces_at(name, offset, &mut pieces) {
            if count == 1 {
                return Err(failed(error));
            }
            // What is wrong may be with those that nobody has asked for.
            buffers.truncate(1);
            disk.read_at(name, offset, &mut buffers[0]).map_err(failed)?;
        }
        let mut state = self.state();
        for (buffer, block) in buffers.into_iter().zip(claim.blocks.clone()) {
            state.put_block((segment, block), buffer.freeze(), self.bytes_max);
        }
        // The claim ends only now: who waits finds the blocks.
        drop(state);
        drop(claim);
        Ok(())
    }

    /// Blocks of one call: few enough that what was read for others stays.
    fn run_max(&self) -> u64 {
        (self.bytes_max / (RUN_OF_CACHE * BLOCK_BYTES as usize)).clamp(1, RUN_MAX) as u64
    }

    /// Bytes of groups and of blocks in memory.
    #[must_use]
    pub fn bytes(&self) -> (usize, usize) {
        let state = self.state();
        (state.group_bytes, state.block_bytes)
    }
}

impl State {
    fn new(appended: Receiver<Extent>) -> Self {
        let (groups, group_bytes) = (VecDeque::new(), 0);
        let (blocks, block_bytes) = (BTreeMap::new(), 0);
        let (reading, planned, spare) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        Self {
            appended,
            groups,
            group_bytes,
            blocks,
            block_bytes,
            reading,
            planned,
            spare,
            uses: 0,
        }
    }

    /// Takes in the groups that were appended.
    fn take_in(&mut self) {
        for group in self.appended.try_iter() {
            let last = self.groups.back();
            assert!(
                last.is_none_or(|last| (last.segment, last.offset) < (group.segment, group.offset)),
                "groups come in the order of the log"
            );
            self.group_bytes += group.bytes.len();
            self.groups.push_back(group);
        }
    }

    fn find(&mut self, places: &[RecordPlace]) -> Option<Found> {
        let mut found = Found { records: Vec::with_capacity(places.len()), ..Found::default() };
        for (at, place) in places.iter().enumerate() {
            let mut stored = *place;
            if place.released {
                let way = self.way(place)?;
                stored = way.record;
                found.ways.insert(at, way);
            }
            if !found.extents.last().is_some_and(|last| last.holds(&stored)) {
                found.extents.push(self.extent(&stored)?);
            }
            found.add(&stored);
        }
        Some(found)
    }

    /// The way from a release to its record, where all of it is in memory and whole.
    fn way(&mut self, place: &RecordPlace) -> Option<Way> {
        let read = |place: &RecordPlace| {
            let extent = self.extent(place).ok_or(())?;
            Ok(extent.slice(place))
        };
        Way::find(place, read, |_, _| ()).ok()
    }

    /// Before which byte all of a segment was written, as far as is known here: everything of a
    /// segment before the one that is written; in that one, what lies before a group in memory.
    fn written_end(&self, segment: u32) -> Option<u64> {
        if self.groups.back().is_some_and(|newest| segment < newest.segment) {
            return Some(u64::MAX);
        }
        let group = self.groups.iter().find(|group| group.segment == segment);
        group.map(|group| group.offset.into())
    }

    /// Bytes in memory that hold a record, if there are any.
    fn extent(&mut self, place: &RecordPlace) -> Option<Extent> {
        let key = (place.segment, place.offset);
        let after = self.groups.partition_point(|group| (group.segment, group.offset) <= key);
        if let Some(group) = after.checked_sub(1).map(|at| &self.groups[at])
            && group.holds(place)
        {
            return Some(group.clone());
        }
        let blocks = blocks_of(place);
        let first = self.block(place.segment, *blocks.start())?;
        if first.holds(place) {
            return Some(first);
        }
        let (wanted, wanted_end) = bounds(place);
        let mut bytes = Vec::with_capacity(place.bytes as usize);
        for block in blocks {
            let part = self.block(place.segment, block)?;
            let begin = wanted.saturating_sub(part.offset.into()) as usize;
            let end = (wanted_end - u64::from(part.offset)).min(BLOCK_BYTES.into()) as usize;
            bytes.extend_from_slice(part.bytes.get(begin..end)?);
        }
        assert_eq!(bytes.len(), place.bytes as usize, "the blocks of a record hold it");
        let (segment, offset) = key;
        Some(Extent { segment, offset, bytes: bytes.into(), is_checked: false })
    }

    fn block(&mut self, segment: u32, block: u32) -> Option<Extent> {
        self.uses += 1;
        let held = self.blocks.get_mut(&(segment, block))?;
        held.used = self.uses;
        let (offset, bytes) = (block * BLOCK_BYTES, held.bytes.clone());
        Some(Extent { segment, offset, bytes, is_checked: false })
    }

    /// How many blocks from this one on, at most `max`, a reader that goes on will want: none when
    /// the one before was not wanted either.
    fn missing_in_row(&self, segment: u32, block: u32, max: u32) -> u32 {
        let goes_on = |before| self.blocks.contains_key(&(segment, before));
        if !block.checked_sub(1).is_none_or(goes_on) {
            return 0;
        }
        (block..block + max).take_while(|at| self.is_missing(segment, *at)).count() as u32
    }

    fn put_block(&mut self, key: (u32, u32), bytes: Bytes, bytes_max: usize) {
        assert!(bytes.len() <= BLOCK_BYTES as usize, "a block is not longer than others");
        self.block_bytes += bytes.len();
        self.planned.remove(&key);
        self.uses += 1;
        let used = self.uses;
        if let Some(old) = self.blocks.insert(key, Block { bytes, used }) {
            self.keep_buffer(old);
        }
        while self.block_bytes > bytes_max {
            let oldest = self.blocks.iter().min_by_key(|(_, block)| block.used);
            let oldest = *oldest.expect("bytes are those of blocks").0;
            let left = self.blocks.remove(&oldest).expect("found just now");
            self.keep_buffer(left);
        }
    }

    fn keep_buffer(&mut self, block: Block) {
        self.block_bytes -= block.bytes.len();
        // One that is being read is freed by its reader.
        if let Ok(buffer) = block.bytes.try_into_mut()
            && buffer.capacity() >= BLOCK_BYTES as usize
            && self.spare.len() < SPARE_MAX
        {
            self.spare.push(buffer);
        }
    }

    fn forget(&mut self, place: &RecordPlace) {
        for block in blocks_of(place) {
            if let Some(block) = self.blocks.remove(&(place.segment, block)) {
                self.block_bytes -= block.bytes.len();
            }
        }
    }
}

/// Room for a block that the disk can fill without a copy.
fn aligned_buffer() -> BytesMut {
    let mut buffer = BytesMut::with_capacity(BLOCK_BYTES as usize + MEMORY_ALIGNMENT);
    let before = buffer.as_ptr().align_offset(MEMORY_ALIGNMENT);
    buffer.resize(before, 0);
    buffer.advance(before);
    assert!(buffer.capacity() >= BLOCK_BYTES as usize, "an aligned address is that near");
    buffer
}

/// Gives what the readers of a place get of the record that lies there, or that the way leads to.
fn give(
    way: Option<&Way>,
    place: &RecordPlace,
    record: &[u8],
    each: &mut impl FnMut(&[u8]),
) -> Result<(), ReadError> {
    match way {
        None => each(record),
        Some(way) => each(&way.give(record).map_err(|why| damaged(place, why))?),
    }
    Ok(())
}

/// First byte of what lies at a place, and the byte after its last.
fn bounds(place: &RecordPlace) -> (u64, u64) {
    let place = if place.released { front(place) } else { *place };
    (place.offset.into(), u64::from(place.offset) + u64::from(place.bytes))
}

/// The blocks that hold a record.
fn blocks_of(place: &RecordPlace) -> std::ops::RangeInclusive<u32> {
    let (_, end) = bounds(place);
    let last = end.saturating_sub(1) / u64::from(BLOCK_BYTES);
    place.offset / BLOCK_BYTES..=last as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_wire::Timestamp;

    #[test]
    fn who_appends_waits_for_no_reader_and_nothing_of_it_is_missing() {
        let cache = LogCache::new(CACHE_BYTES_MIN);
        let place = |offset| RecordPlace {
            segment: 0,
            offset,
            bytes: 4,
            stored: Timestamp(1),
            released: false,
        };
        let is_there = |offset| cache.find(&[place(offset)]).is_some();
        cache.put_group(0, 512, Bytes::from_static(b"first"));
        assert!(is_there(512));
        // Who has the state keeps it: whoever waited for it here would wait for ever.
        let looking = cache.state();
        cache.put_group(0, 1_024, Bytes::from_static(b"second"));
        cache.put_group(0, 2_048, vec![0; CACHE_BYTES_MIN].into());
        assert!(!is_there(512) && !is_there(1_024), "nobody knows while somebody looks");
        drop(looking);
        assert!(is_there(1_024) && is_there(2_048));
        cache.put_group(0, 4 << 20, Bytes::from_static(b"third"));
        assert!(is_there(4 << 20) && !is_there(1_024), "what is too old leaves as ever");
    }
}
