//! Retiring segments: the oldest go as a whole, once what outlives them lies elsewhere.
//!
//! ```text
//!   retire ──► read what is kept ──► MOVED ──► … ──► SNAPSHOT ──► RETIRED ──► synced ──► removed
//!              └──────── piece by piece ─────┘       where the last one would go too
//! ```
//!
//! Until RETIRED is durable the log is what it was. From then on it begins later, whether files
//! are still there or not.
//!
//! What releases in segments that stay refer to goes along: of such a record there is a copy as its
//! readers get it, and from then on they read that. So a body is written once more at most, when
//! its segment goes before its release does.
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use yard_wire::{GroupNumber, QueueIndex, QueueOffset, Timestamp, TopicId};

use super::Store;
use super::append::Reserve;
use crate::config::{MOVED_BYTES_MAX, MOVED_RANGES_MAX, MOVED_RECORDS_MAX};
use crate::error::AppendError;
use crate::format::entry;
use crate::format::retire::{
    CARRIED, CarriedOn, CarriedRecord, KeptRecord, MOVED, Moved, RETIRED, Row, SNAPSHOT,
    decode_copies, encode_carried, encode_moved, encode_retired, encode_snapshot,
};
use crate::index::{Floor, KeptRange, Located, Part};
use crate::io::Io;
use crate::kept::{KeptAt, KeptFound, KeptRead, Waiting};
use crate::shard_state::ShardState;

/// Cuts a list into pieces of so many bytes at most, unless one of them has more.
fn pieces<T>(list: &[T], bytes_max: usize, bytes_of: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut pieces, mut rest) = (Vec::new(), list);
    while !rest.is_empty() {
        let mut bytes = 4;
        let fits = rest.iter().take_while(|one| {
            bytes += bytes_of(one);
            bytes <= bytes_max
        });
        let (piece, after) = rest.split_at(fits.count().max(1));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// A retirement under way.
pub(super) struct Retiring {
    /// The first segment that stays.
    until: u32,
    floors: Vec<Floor>,
    /// What must still be copied.
    left: VecDeque<KeptRange>,
    /// Parked records that must still be copied.
    waiting: VecDeque<Waiting>,
    /// Sealed segments that stay, and of whose releases there are copies in the end.
    copied: BTreeSet<u32>,
    /// Newer ones of whose releases there are copies as well, of those before such places in their
    /// files.
    newest: BTreeMap<u32, u64>,
    pass: Pass,
    stage: RetireStage,
}

/// What is released meanwhile may refer to what goes: so the newest segments are looked at last,
/// when nothing is released any more that does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// What lies in sealed segments.
    Sealed,
    /// Everything that was appended until now is made durable.
    Closing,
    /// What was appended since.
    Newest,
}

enum RetireStage {
    /// The disk reads these.
    Reading(Vec<KeptRange>, Vec<Waiting>),
    /// A piece is in this group.
    Copied(GroupNumber),
    /// The shard is asked for its state.
    WantsState,
    /// The log says in this group that the segments are gone; the state is in the log after a
    /// group of that segment.
    Recorded(GroupNumber, Option<u32>),
    /// Nothing needs the files any more; the next to go.
    Removable { next: u32, under_way: bool, failed: bool },
}

impl Store {
    /// What the log holds of a queue, in order.
    #[must_use]
    pub fn parts(&self, topic: TopicId, queue: QueueIndex) -> Vec<Part> {
        self.index.parts(topic, queue)
    }

    /// Bytes of the records that each of the oldest `count` segments holds above the floors, with
    /// the bytes of its file; fewer where the active segment begins, or where a segment cannot go
    /// yet.
    #[must_use]
    pub fn kept_of_oldest(
        &self,
        count: u32,
        keep_from: &dyn Fn(TopicId, QueueIndex) -> QueueOffset,
    ) -> Vec<(u64, u64)> {
        let unsaved = self.sealing.first_key_value().map_or(u32::MAX, |(segment, _)| *segment);
        let end = self.begins.saturating_add(count).min(self.active.header.segment).min(unsaved);
        let kept = self.index.kept_bytes(self.begins..end, keep_from);
        kept.into_iter().map(|bytes| (bytes, self.config.segment_bytes)).collect()
    }

    /// The queues of a topic that ever held a record.
    pub fn queues_of(&self, topic: TopicId) -> impl Iterator<Item = QueueIndex> + '_ {
        self.index.queues_of(topic)
    }

    /// Segments that hold groups or may take the next one.
    #[must_use]
    pub fn segments(&self) -> u64 {
        u64::from(self.active.header.segment - self.begins) + 1
    }

    /// The first segment of the log.
    #[must_use]
    pub fn first_segment(&self) -> u32 {
        self.begins
    }

    /// Whether a retirement is under way.
    #[must_use]
    pub fn is_retiring(&self) -> bool {
        self.retiring.is_some()
    }

    /// Where queues begin once the retirement under way is recorded, if it comes to that; nothing
    /// when it was, or when none is under way.
    pub fn going(&self) -> impl Iterator<Item = (TopicId, QueueIndex, QueueOffset)> + '_ {
        let is_open =
            |retiring: &&Retiring| !matches!(retiring.stage, RetireStage::Removable { .. });
        let floors = self.retiring.as_ref().filter(is_open).map(|retiring| &retiring.floors);
        floors.into_iter().flatten().map(|floor| (floor.topic, floor.queue, floor.first))
    }

    /// The first segment that will be there as long as what is appended now, and whether those
    /// before it are about to go.
    pub(super) fn stays_from(&self) -> (u32, bool) {
        let closing = self.retiring.as_ref().filter(|retiring| retiring.pass != Pass::Sealed);
        closing.map_or((self.begins, false), |retiring| {
            let is_gone = matches!(retiring.stage, RetireStage::Removable { .. });
            (retiring.until, !is_gone)
        })
    }

    /// Releases in `until` and later segments refer to segments before.
    #[must_use]
    pub fn is_referred_below(&self, until: u32) -> bool {
        self.index.referring_below(until).next().is_some()
    }

    /// Begins to retire the segments below `until`. Of each queue the records from its floor on
    /// are kept, and the parked records that `waiting` names: all that wait there. What cannot be
    /// done comes to nothing: the log stays as it is, and it may be asked again.
    ///
    /// # Panics
    /// When a retirement is under way, or a segment cannot go: see [`Store::kept_of_oldest`].
    pub fn retire(
        &mut self,
        until: u32,
        keep_from: &dyn Fn(TopicId, QueueIndex) -> QueueOffset,
        waiting: Vec<Waiting>,
        out: &mut Vec<Io>,
    ) {
        assert!(waiting.iter().all(|it| it.target.segment < until), "others stay where they are");
        assert!(self.retiring.is_none(), "one retirement at a time");
        assert!(until > self.begins && until <= self.active.header.segment, "sealed segments go");
        assert!(self.sealing.keys().all(|segment| *segment >= until), "their indexes are durable");
        if self.fenced {
            return;
        }
        let (floors, mut kept) = self.index.plan_retirement(until, keep_from);
        let active = self.active.header.segment;
        let referring = self.index.referring_below(until);
        let copied: BTreeSet<u32> = referring.filter(|segment| *segment < active).collect();
        kept.extend(self.index.plan_references(&copied));
        let (left, waiting, pass) = (kept.into(), waiting.into(), Pass::Sealed);
        let stage = RetireStage::Reading(Vec::new(), Vec::new());
        let newest = BTreeMap::new();
        self.retiring =
            Some(Retiring { until, floors, left, waiting, copied, newest, pass, stage });
        self.copy_more(out);
    }

    /// Asks for the next records to be copied; goes on when there are none.
    fn copy_more(&mut self, out: &mut Vec<Io>) {
        let Some(mut retiring) = self.retiring.take() else { return };
        let most = retiring.waiting.len().min(MOVED_RECORDS_MAX as usize);
        let waiting: Vec<Waiting> = retiring.waiting.drain(..most).collect();
        let (mut reads, mut ranges, mut records) = (Vec::new(), Vec::new(), most as u64);
        while reads.len() < MOVED_RANGES_MAX && records < MOVED_RECORDS_MAX {
            let Some(mut range) = retiring.left.pop_front() else { break };
            let KeptRange { topic, queue, from, to, released_only } = range;
            let count = (to.0 - from.0).min(MOVED_RECORDS_MAX - records) as u32;
            let at = match self.index.locate(topic, queue, from, count) {
                Located::Places(places) => KeptAt::Places(places),
                Located::Read(read) => KeptAt::Index(read),
                Located::Gap { until, .. } if until < to => {
                    yard_wire::mark!(RetireGap);
                    range.from = until;
                    retiring.left.push_front(range);
                    continue;
                }
                Located::Gap { .. } | Located::End => continue,
            };
            records += u64::from(count);
            reads.push(KeptRead { topic, queue, from, at, released_only });
            ranges.push(range);
        }
        let is_done = reads.is_empty() && waiting.is_empty();
        if !is_done {
            retiring.stage = RetireStage::Reading(ranges, waiting.clone());
            out.push(Io::ReadKept { reads, waiting });
        }
        let until = retiring.until;
        self.retiring = Some(retiring);
        if is_done && !self.is_last_pass(out) {
            return;
        }
        if is_done && self.snapshot.is_some_and(|segment| segment >= until) {
            self.record(None);
        } else if is_done && let Some(retiring) = &mut self.retiring {
            retiring.stage = RetireStage::WantsState;
        }
    }

    /// Nothing is left to be copied; false where there is more after all.
    fn is_last_pass(&mut self, out: &mut Vec<Io>) -> bool {
        let newest = match (self.gathers.back(), &self.in_flight) {
            (Some(gather), _) => Some(gather.group),
            (None, in_flight) => in_flight.as_ref().map(|it| it.group),
        };
        let retiring = self.retiring.as_mut().expect("it is under way");
        match (retiring.pass, newest) {
            (Pass::Newest, _) => return true,
            (Pass::Sealed, Some(group)) => {
                yard_wire::mark!(RetireWaitsForGroup);
                retiring.pass = Pass::Closing;
                retiring.stage = RetireStage::Copied(group);
                return false;
            }
            (Pass::Sealed, None) | (Pass::Closing, _) => retiring.pass = Pass::Newest,
        }
        let referring = self.index.referring_below(retiring.until);
        let newest: BTreeSet<u32> =
            referring.filter(|segment| !retiring.copied.contains(segment)).collect();
        // Nothing that goes is released any more: what comes later needs no copy.
        let (active, tail) = (self.active.header.segment, self.active.tail);
        let before = |segment: &u32| (*segment, if *segment == active { tail } else { u64::MAX });
        retiring.newest = newest.iter().map(before).collect();
        retiring.left = self.index.plan_references(&newest).into();
        if retiring.left.is_empty() {
            yard_wire::mark!(RetireNothingNew);
            return true;
        }
        self.copy_more(out);
        false
    }

    pub(super) fn kept_read(&mut self, found: KeptFound, out: &mut Vec<Io>) {
        let Some(retiring) = &mut self.retiring else { return };
        let RetireStage::Reading(ranges, waiting) = &mut retiring.stage else {
            panic!("records were read and not asked for")
        };
        let (ranges, waiting) = (std::mem::take(ranges), std::mem::take(waiting));
        for again in waiting.into_iter().skip(found.waiting.len()).rev() {
            yard_wire::mark!(RetireWaitingAgain);
            retiring.waiting.push_front(again);
        }
        assert!(found.done.len() <= ranges.len(), "what was asked for was read");
        for (at, mut range) in ranges.into_iter().enumerate().rev() {
            range.from = found.done.get(at).copied().unwrap_or(range.from);
            if range.from < range.to {
                retiring.left.push_front(range);
            }
        }
        match self.append_copies(&found) {
            Ok(Some(group)) => {
                yard_wire::mark!(RetireCopied);
                let retiring = self.retiring.as_mut().expect("it is under way");
                retiring.stage = RetireStage::Copied(group);
            }
            Ok(None) => self.copy_more(out),
            // Copies without the rest do no harm, and need not be made again.
            Err(_) => {
                yard_wire::mark!(RetireCopiesRefused);
                self.retiring = None;
            }
        }
    }

    /// Bytes of a payload of the store's own.
    fn own_payload_max(&self) -> usize {
        MOVED_BYTES_MAX.min(self.config.payload_bytes_max() - entry::HEADER_BYTES)
    }

    fn append_copies(&mut self, found: &KeptFound) -> Result<Option<GroupNumber>, AppendError> {
        let bytes_max = self.own_payload_max();
        let mut last = None;
        let carried_bytes = |it: &CarriedRecord| CarriedOn::BYTES + it.1.len();
        for piece in pieces(&found.waiting, bytes_max, carried_bytes) {
            last = Some(self.append_own(CARRIED, &encode_carried(piece))?);
        }
        for piece in pieces(&found.records, bytes_max, KeptRecord::entry_bytes) {
            last = Some(self.append_own(MOVED, &encode_moved(piece))?);
        }
        Ok(last)
    }

    /// Appends an entry of the store's own.
    fn append_own(&mut self, kind: u16, payload: &[u8]) -> Result<GroupNumber, AppendError> {
        // Nobody's time has passed: it is that of the group before.
        let gather = self.gather_for(Timestamp(0), payload.len(), Reserve::Use)?;
        let payload_at = (gather.bytes.len() - gather.begin + entry::HEADER_BYTES) as u32;
        entry::put_entry(kind, entry::NOBODY, payload, &mut gather.bytes);
        gather.entries += 1;
        if kind == MOVED {
            let copies: Vec<Moved> = decode_copies(payload).expect("it was encoded just now");
            let placed = |copy: Moved| Moved { at: payload_at + copy.at, ..copy };
            gather.copies.extend(copies.into_iter().map(placed));
        }
        if kind == CARRIED {
            let carried: Vec<CarriedOn> = decode_copies(payload).expect("it was encoded just now");
            let placed = |copy: CarriedOn| CarriedOn { at: payload_at + copy.at, ..copy };
            gather.carried.extend(carried.into_iter().map(placed));
        }
        Ok(gather.group)
    }

    /// A retirement waits for the state of the shard, and nothing is gathered: now is the time.
    #[must_use]
    pub fn wants_state(&self) -> bool {
        let waits = |retiring: &Retiring| matches!(retiring.stage, RetireStage::WantsState);
        !self.fenced && self.gathers.is_empty() && self.retiring.as_ref().is_some_and(waits)
    }

    /// Takes the state of the shard after the last closed group into the log.
    ///
    /// # Panics
    /// When [`Store::wants_state`] does not say so.
    pub fn put_state(&mut self, state: impl Into<ShardState>) {
        assert!(self.wants_state(), "the state was asked for");
        assert!(self.cursor.next_group > 0, "a sealed segment holds groups");
        let segment = self.active.header.segment;
        let saved = self.checkpoint_of(Some(segment));
        let bytes = saved.encode_with(&state.into().encode());
        for piece in encode_snapshot(saved.group, &bytes, self.own_payload_max()) {
            if self.append_own(SNAPSHOT, &piece).is_err() {
                yard_wire::mark!(RetireStateRefused);
                self.retiring = None;
                return;
            }
        }
        yard_wire::mark!(RetireStateKept);
        self.record(Some(segment));
    }

    /// Says in the log that the segments are gone: twice, because without it a log whose first
    /// segments are not there is not whole. It is the same said once or twice: where a full disk
    /// takes it once, the next start would find it, so it holds.
    fn record(&mut self, snapshot: Option<u32>) {
        let retiring = self.retiring.as_ref().expect("it is under way");
        assert!(retiring.left.is_empty(), "what is kept was copied");
        let pieces = encode_retired(retiring.until, &retiring.floors, self.own_payload_max());
        let mut say = || {
            let mut said = pieces.iter().map(|piece| self.append_own(RETIRED, piece));
            said.try_fold(None, |_, group| group.map(Some))
        };
        let Ok(mut group) = say() else {
            yard_wire::mark!(RetireRecordRefused);
            self.retiring = None;
            return;
        };
        match say() {
            Ok(again) => group = again,
            Err(_) => yard_wire::mark!(RetireRecordedOnce),
        }
        let group = group.expect("there is a piece");
        let retiring = self.retiring.as_mut().expect("it is under way");
        retiring.stage = RetireStage::Recorded(group, snapshot);
    }

    /// A group is durable: goes on if it was waited for.
    pub(super) fn go_on_retiring(
        &mut self,
        trimmed: &mut Vec<(TopicId, QueueIndex, QueueOffset)>,
        out: &mut Vec<Io>,
    ) {
        let synced = self.synced_groups;
        let Some(retiring) = &mut self.retiring else { return };
        match retiring.stage {
            RetireStage::Copied(group) if group.0 < synced => self.copy_more(out),
            RetireStage::Recorded(group, snapshot) if group.0 < synced => {
                let until = retiring.until;
                let next = self.begins;
                assert!(next < until && until <= self.active.header.segment, "sealed ones go");
                retiring.stage = RetireStage::Removable { next, under_way: false, failed: false };
                yard_wire::mark!(RetireRecorded);
                trimmed.extend(self.index.retire(until, &retiring.floors));
                self.index.references_copied(&retiring.copied, &retiring.newest);
                self.begins = until;
                self.snapshot = snapshot.or(self.snapshot);
            }
            RetireStage::Reading(..)
            | RetireStage::Copied(_)
            | RetireStage::WantsState
            | RetireStage::Recorded(..)
            | RetireStage::Removable { .. } => {}
        }
    }

    /// Files of retired segments are there that nobody needs. Whoever has located records before
    /// may still read them, so the shard waits a little.
    #[must_use]
    pub fn has_removable(&self) -> bool {
        let is_waiting = |retiring: &Retiring| {
            matches!(retiring.stage, RetireStage::Removable { under_way: false, .. })
        };
        self.retiring.as_ref().is_some_and(is_waiting)
    }

    /// Removes the files of retired segments, one after the other.
    pub fn remove_retired(&mut self, out: &mut Vec<Io>) {
        let Some(Retiring { stage, .. }) = &mut self.retiring else { return };
        if let RetireStage::Removable { next, under_way, failed } = stage
            && !*under_way
        {
            (*under_way, *failed) = (true, false);
            out.push(Io::RemoveSegment { segment: *next });
        }
    }

    pub(super) fn segment_removed(&mut self, segment: u32, out: &mut Vec<Io>) {
        let retiring = self.retiring.as_mut().expect("a segment was to be removed");
        let RetireStage::Removable { next, under_way, .. } = &mut retiring.stage else {
            panic!("segment {segment} was removed and not asked for")
        };
        assert_eq!(*next, segment, "segments go oldest first");
        (*next, *under_way) = (segment + 1, false);
        if *next < retiring.until {
            self.remove_retired(out);
        } else {
            self.retiring = None;
        }
    }

    pub(super) fn remove_failed(&mut self, segment: u32) {
        let retiring = self.retiring.as_mut().expect("a segment was to be removed");
        let RetireStage::Removable { next, under_way, failed } = &mut retiring.stage else {
            panic!("segment {segment} was to be removed and not asked for")
        };
        assert_eq!(*next, segment, "segments go oldest first");
        yard_wire::mark!(RetireRemoveFailed);
        (*under_way, *failed) = (false, true);
    }

    pub(super) fn removal_failed(&self) -> bool {
        let failed = |retiring: &Retiring| {
            matches!(retiring.stage, RetireStage::Removable { failed: true, .. })
        };
        self.retiring.as_ref().is_some_and(failed)
    }

    pub(super) fn retry_removal(&mut self, out: &mut Vec<Io>) {
        if self.removal_failed() {
            yard_wire::mark!(RetireRemoveAgain);
            self.remove_retired(out);
        }
    }
}
