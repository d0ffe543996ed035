//! Appending: entries are gathered into groups in memory, records get their queue offsets.
use bytes::Bytes;
use yard_wire::batch::Batch;
use yard_wire::release::{self, Release, Target};
use yard_wire::requests::Placed;
use yard_wire::{GroupNumber, QueueIndex, QueueOffset, TenantId, Timestamp, TopicId};

use super::{Appended, Gather, GatheredRecord, Store};
use crate::config::NOTES_BYTES_MAX;
use crate::disk::MEMORY_ALIGNMENT;
use crate::error::{AppendError, Fenced, Leaving, NoSpace, TooLarge};
use crate::format::entry::{self, BATCH, PlacedRun, RELEASE};
use crate::format::group;
use crate::index::{QueueIndexes, Slot};
use crate::kept::Carried;

/// What may use the reserve of a full disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// This may not.
    Keep,
    /// This may.
    Use,
}

impl Store {
    /// Appends a batch: gives its records their queue offsets and gathers it. Those that are
    /// parked get none; where they are, [`Store::take_parked`] tells when the group is closed.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended then.
    pub fn append_batch(
        &mut self,
        now: Timestamp,
        tenant: TenantId,
        batch: &Batch,
    ) -> Result<Appended, AppendError> {
        self.append_noted(now, tenant, batch, &[])
    }

    /// As [`Store::append_batch`], with at most [`NOTES_BYTES_MAX`] bytes beside the batch that are
    /// given back with it.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended then.
    pub fn append_noted(
        &mut self,
        now: Timestamp,
        tenant: TenantId,
        batch: &Batch,
        notes: &[u8],
    ) -> Result<Appended, AppendError> {
        assert!(notes.len() <= NOTES_BYTES_MAX, "notes are bounded");
        let before_batch = batch.runs().len() * entry::PLACEMENT_BYTES + notes.len();
        let payload_bytes = before_batch + batch.bytes().len();
        let gather = self.gather_for(now, payload_bytes, Reserve::Keep)?;
        let batch_at = gather.payload_offset() + before_batch as u32;
        let mut places = batch.places();
        for run in batch.runs() {
            for (offset, bytes) in places.by_ref().take(run.count as usize) {
                let record = GatheredRecord { offset: batch_at + offset, bytes, refers_to: None };
                let list = if run.parked { &mut gather.parked } else { &mut gather.records };
                list.push(record);
            }
        }
        assert!(places.next().is_none(), "every record is of a run");
        let runs = batch.runs().iter().map(|run| (run.topic, run.queue, run.count, run.parked));
        Ok(self.put_placed((BATCH, tenant), runs, (notes, batch.bytes())))
    }

    /// Appends releases: gives the records that they name their offsets in the queues that they
    /// name. `payload` begins with them, see [`yard_wire::release::put_all`]; what follows is
    /// given back as it is.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended then.
    ///
    /// # Panics
    /// When `payload` does not begin with releases, or one refers to what does not lie before it.
    pub fn append_releases(
        &mut self,
        now: Timestamp,
        tenant: TenantId,
        payload: &Bytes,
        reserve: Reserve,
    ) -> Result<Appended, AppendError> {
        let releases = release::take_all(&mut payload.clone()).expect("the payload has releases");
        self.check_referable(&releases)?;
        let mut runs: Vec<(TopicId, QueueIndex, u32, bool)> = Vec::new();
        for release in &releases {
            let (topic, queue) = (release.topic(), release.queue());
            match runs.last_mut().filter(|run| (run.0, run.1) == (topic, queue)) {
                Some((.., count, _)) => *count += 1,
                None => runs.push((topic, queue, 1, false)),
            }
        }
        let placements_bytes = runs.len() * entry::PLACEMENT_BYTES;
        let tail = self.active.tail;
        let active = self.active.header.segment;
        let gather = self.gather_for(now, placements_bytes + payload.len(), reserve)?;
        let mut at = gather.payload_offset() + (placements_bytes + release::COUNT_BYTES) as u32;
        for release in &releases {
            let target = release.target();
            let is_before = (target.segment, u64::from(target.offset)) < (active, tail);
            assert!(is_before, "what is released is in a closed group");
            let (bytes, refers_to) = (release.given_bytes(), Some(target.segment));
            gather.records.push(GatheredRecord { offset: at, bytes, refers_to });
            at += release.encoded_bytes() as u32;
        }
        Ok(self.put_placed((RELEASE, tenant), runs.into_iter(), (&[], payload)))
    }

    /// What is released stays at least as long as its release.
    fn check_referable(&self, releases: &[Release]) -> Result<(), Leaving> {
        let (stays_from, is_closing) = self.stays_from();
        // Over a release it may come to what goes, or what has gone since its place was asked for.
        let is_over = |it: &Target| {
            it.released && (is_closing || self.index.is_release_copied(it.segment, it.offset))
        };
        let leaves = |it: &Target| it.segment < stays_from || is_over(it);
        match releases.iter().map(Release::target).find(leaves) {
            Some(Target { segment, .. }) => {
                yard_wire::mark!(AppendLeaving);
                Err(Leaving { segment })
            }
            None => Ok(()),
        }
    }

    /// Gathers an entry with these runs of records, so many each and parked or not, whose records
    /// were gathered just now.
    fn put_placed(
        &mut self,
        of: (u16, TenantId),
        runs: impl Iterator<Item = (TopicId, QueueIndex, u32, bool)>,
        bytes: (&[u8], &[u8]),
    ) -> Appended {
        let gather = self.gathers.back_mut().expect("one was there or begun");
        let mut placing = Placing::begin(&mut self.index);
        let placements = runs.map(|(topic, queue, count, parked)| {
            if parked {
                return PlacedRun { topic, queue, first: None, count };
            }
            let (slot, first) = placing.place(&mut self.index, topic, queue, count);
            match gather.runs.last_mut().filter(|(last, _)| *last == slot) {
                Some((_, counted)) => *counted += count,
                None => gather.runs.push((slot, count)),
            }
            PlacedRun { topic, queue, first: Some(first), count }
        });
        entry::put_placed(of, placements, bytes, &mut gather.bytes);
        gather.entries += 1;
        Appended { group: gather.group, placed: placing.placed, stored: gather.stored }
    }

    /// Where the parked records of the groups that were closed since the last call lie, in the
    /// order in which they were appended.
    pub fn take_parked(&mut self) -> Vec<Target> {
        std::mem::take(&mut self.parked)
    }

    /// Where parked records lie from now on that were carried on in the groups that were closed
    /// since the last call.
    pub fn take_carried(&mut self) -> Vec<Carried> {
        std::mem::take(&mut self.carried)
    }

    /// Appends an entry of another kind. Its bytes are given back as they are.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended then.
    ///
    /// # Panics
    /// When `kind` is that of a batch or of releases.
    pub fn append(
        &mut self,
        now: Timestamp,
        kind: u16,
        tenant: TenantId,
        payload: &[u8],
        reserve: Reserve,
    ) -> Result<Appended, AppendError> {
        assert!(!entry::has_placements(kind), "what has records is appended otherwise");
        let gather = self.gather_for(now, payload.len(), reserve)?;
        entry::put_entry(kind, tenant, payload, &mut gather.bytes);
        gather.entries += 1;
        let (group, stored) = (gather.group, gather.stored);
        Ok(Appended { group, placed: Vec::new(), stored })
    }

    /// The gather that an entry with this payload goes to.
    pub(super) fn gather_for(
        &mut self,
        now: Timestamp,
        payload_bytes: usize,
        reserve: Reserve,
    ) -> Result<&mut Gather, AppendError> {
        if self.fenced {
            yard_wire::mark!(AppendFenced);
            return Err(Fenced.into());
        }
        let bytes = entry::HEADER_BYTES + payload_bytes + entry::FOOTER_BYTES;
        let bytes_max = self.config.payload_bytes_max();
        if bytes > bytes_max {
            yard_wire::mark!(AppendTooLarge);
            let (bytes, bytes_max) = (bytes as u64, bytes_max as u64);
            return Err(TooLarge { bytes, bytes_max }.into());
        }
        let last = self.gathers.back().map(Gather::payload_bytes);
        let fresh = last.is_none_or(|last| last + bytes > bytes_max);
        self.check_space(if fresh { None } else { last }, bytes, reserve)?;
        if fresh {
            let gather = self.begin_gather(now);
            self.gathers.push_back(gather);
        }
        Ok(self.gathers.back_mut().expect("one was there or pushed"))
    }

    /// On a full disk: whether an entry that joins a gather of `last` bytes, or begins one, has a
    /// place in the active segment.
    fn check_space(
        &self,
        last: Option<usize>,
        bytes: usize,
        reserve: Reserve,
    ) -> Result<(), NoSpace> {
        if !self.starved {
            return Ok(());
        }
        let joined = group::total_bytes(last.unwrap_or(0) + bytes) as u64;
        let before = last.map_or(0, |last| group::total_bytes(last) as u64);
        let kept = match reserve {
            Reserve::Keep => self.config.reserve_bytes,
            Reserve::Use => 0,
        };
        let taken = self.gathered_total() - before + joined;
        if taken + kept > self.active.room() {
            match reserve {
                Reserve::Keep => yard_wire::mark!(AppendFull),
                Reserve::Use => yard_wire::mark!(AppendReserveFull),
            }
            return Err(NoSpace);
        }
        if taken + self.config.reserve_bytes > self.active.room() {
            yard_wire::mark!(AppendReserve);
        }
        Ok(())
    }

    /// A gather for the group after all that are closed or gathered.
    pub(super) fn begin_gather(&self, now: Timestamp) -> Gather {
        assert!(!self.fenced, "a fenced log gathers nothing");
        let (group, last) = match self.gathers.back() {
            Some(gather) => (gather.group.0 + 1, gather.stored),
            None => (self.cursor.next_group, self.cursor.stored),
        };
        // As large as the last ones: a buffer that grows is copied each time. And in memory as it
        // will lie in the file, unless the segment changes before: a disk can then do without a
        // copy.
        let mut bytes: Vec<u8> = Vec::with_capacity(self.typical_bytes + MEMORY_ALIGNMENT);
        let offset = self.active.tail as usize % MEMORY_ALIGNMENT;
        let address = bytes.as_ptr().addr() % MEMORY_ALIGNMENT;
        let begin = (MEMORY_ALIGNMENT + offset - address) % MEMORY_ALIGNMENT;
        bytes.resize(begin + group::HEADER_BYTES, 0);
        Gather {
            group: GroupNumber(group),
            stored: now.max(last),
            entries: 0,
            bytes,
            begin,
            records: Vec::new(),
            parked: Vec::new(),
            runs: Vec::new(),
            copies: Vec::new(),
            carried: Vec::new(),
        }
    }
}

/// Gives the records of one batch their offsets, and remembers them queue by queue.
pub(crate) struct Placing {
    pub(crate) placed: Vec<Placed>,
}

impl Placing {
    pub(crate) fn begin(index: &mut QueueIndexes) -> Self {
        index.begin_walk();
        Self { placed: Vec::new() }
    }

    pub(crate) fn place(
        &mut self,
        index: &mut QueueIndexes,
        topic: TopicId,
        queue: QueueIndex,
        count: u32,
    ) -> (Slot, QueueOffset) {
        let slot = index.slot(topic, queue);
        let first = index.assign(slot, count);
        self.note(index, slot, Placed { topic, queue, first, count });
        (slot, first)
    }

    /// Notes a run of the batch whose records have their offsets.
    pub(crate) fn note(&mut self, index: &mut QueueIndexes, slot: Slot, run: Placed) {
        let fresh = u16::try_from(self.placed.len()).expect("the records of a batch are bounded");
        match index.note(slot, fresh) {
            Some(at) => {
                let placed = &mut self.placed[usize::from(at)];
                let next = placed.first.0 + u64::from(placed.count);
                assert_eq!(next, run.first.0, "the runs of a queue follow each other");
                placed.count += run.count;
            }
            None => self.placed.push(run),
        }
    }
}
