//! The commit log of one shard as bookkeeping: what is gathered, what is on its way to the disk,
//! what is durable.
//!
//! ```text
//!   append ──► gathered groups ──close_group──► one group in flight ──Synced──► durable
//!                                               written? synced?
//!   segments:  sealed … sealed │ active │ next: asked for while the active one fills
//! ```
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use yard_wire::release::Target;
use yard_wire::requests::Placed;
use yard_wire::{GroupNumber, LogPos, QueueIndex, QueueOffset, Timestamp, TopicId};

use crate::config::{GATHER_BYTES_MAX, StoreConfig};
use crate::derived::KeyIndex;
use crate::format::checkpoint::Checkpoint;
use crate::format::entry;
use crate::format::group::{self, GroupHeader};
use crate::format::retire::{CarriedOn, Moved};
use crate::format::segment::{self, SegmentHeader};
use crate::format::sidecar::IndexFile;
use crate::index::{Located, QueueEnd, QueueIndexes, SidecarPlace, Slot};
use crate::io::Io;
use crate::kept::Carried;
use crate::shard_state::ShardState;

mod append;
mod close;
mod done;
mod find;
mod retire;
mod save;

use retire::Retiring;

pub(crate) use append::Placing;
pub use append::Reserve;
pub(crate) use close::sidecar_header;

/// What was appended, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The group that it is in: durable when this group is.
    pub group: GroupNumber,
    /// For a batch and releases: queue by queue, in order of first use, where the records went;
    /// not those that are parked.
    pub placed: Vec<Placed>,
    /// When it is stored, the same for all of a group.
    pub stored: Timestamp,
}

/// What a finished I/O means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoneReport {
    /// Queues with newly durable records, and the offset after the last of them.
    pub committed: Vec<(TopicId, QueueIndex, QueueOffset)>,
    /// This group and all before are in the page cache.
    pub written: Option<GroupNumber>,
    /// This group and all before are durable.
    pub synced: Option<GroupNumber>,
    /// Queues that begin later than before, because segments are gone, and where.
    pub trimmed: Vec<(TopicId, QueueIndex, QueueOffset)>,
    /// Segments below this number are gone for readers: what is kept of them lies elsewhere.
    pub retired: Option<u32>,
    /// The log has just been fenced: groups that are not durable by now never will be.
    pub fenced: bool,
}

/// Whether the log takes more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogState {
    /// It does.
    Open,
    /// The disk is full: batches are refused as soon as only the reserve is left.
    Full,
    /// A write or a sync failed.
    Fenced,
}

/// Figures of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreStats {
    /// Log position after the last closed group.
    pub appended: LogPos,
    /// Log position after the last durable group.
    pub synced: LogPos,
    /// Durable groups, empty ones included.
    pub groups: u64,
    /// Durable messages.
    pub messages: u64,
    /// Segments that hold groups or may take the next one.
    pub segments: u64,
    /// Whether the log takes more.
    pub state: LogState,
}

/// A record of a gathered batch, or a release.
struct GatheredRecord {
    /// Byte offset in the group.
    offset: u32,
    /// Bytes of the record as its readers get it.
    bytes: u32,
    /// Of a release: the segment that it refers to.
    refers_to: Option<u32>,
}

/// A group that is not closed yet.
struct Gather {
    group: GroupNumber,
    stored: Timestamp,
    entries: u32,
    /// From `begin` on: room for the header, then the entries.
    bytes: Vec<u8>,
    begin: usize,
    records: Vec<GatheredRecord>,
    /// Records without a queue offset.
    parked: Vec<GatheredRecord>,
    /// The queues of the others: so many of each.
    runs: Vec<(Slot, u32)>,
    /// Copies of records, with their byte offset in the group.
    copies: Vec<Moved>,
    /// Copies of parked records, with their byte offset in the group.
    carried: Vec<CarriedOn>,
}

impl Gather {
    fn payload_bytes(&self) -> usize {
        let before = self.begin + group::HEADER_BYTES;
        assert!(self.bytes.len() >= before, "room for the header comes first");
        self.bytes.len() - before
    }

    /// Byte offset in the group of what follows the header of the next entry.
    fn payload_offset(&self) -> u32 {
        (self.bytes.len() - self.begin + entry::HEADER_BYTES) as u32
    }

    fn total_bytes(&self) -> u64 {
        group::total_bytes(self.payload_bytes()) as u64
    }
}

/// The segment that is being written.
#[derive(Clone, Copy)]
pub(crate) struct Active {
    pub(crate) header: SegmentHeader,
    /// Byte after the last closed group.
    pub(crate) tail: u64,
    /// It holds at least one group.
    pub(crate) begun: bool,
}

impl Active {
    fn room(&self) -> u64 {
        self.header.capacity - self.tail
    }

    fn position(&self) -> LogPos {
        LogPos(self.header.base.0 + self.tail)
    }
}

/// The segment after the active one.
#[derive(Clone, Copy)]
enum Next {
    /// It is being created.
    Preparing(SegmentHeader),
    /// It can be written to.
    Ready(SegmentHeader),
    /// It could not be created; `retry` asks again.
    Failed(SegmentHeader),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Writing,
    Syncing,
}

/// The group that the disk works on.
struct InFlight {
    group: GroupNumber,
    segment: u32,
    stage: Stage,
    touched: Vec<Slot>,
    /// Records that were copied into it, by their byte offset in the group. An earlier copy, or
    /// the original, is read until this one is durable.
    copies: Vec<Moved>,
    /// Byte offset in the segment, and all of its bytes.
    offset: u32,
    bytes: Bytes,
}

/// A sealed segment whose sidecar is not durable yet.
pub(crate) struct Sealing {
    pub(crate) index: IndexFile,
    pub(crate) places: Vec<SidecarPlace>,
    pub(crate) failed: bool,
}

/// The checkpoint that is under way, and when the next one is due.
struct Saving {
    /// Given by the shard, waiting for its group.
    waiting: Option<(Checkpoint, ShardState)>,
    /// Given to the disk.
    writing: bool,
    /// A segment was sealed since the last one.
    sealed: bool,
    /// Log position of the last one.
    last: LogPos,
    /// Bytes of the state of the last one.
    state_bytes: u64,
}

/// The last closed group, as what follows must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// Number of the next group.
    pub(crate) next_group: u64,
    /// Chain of the last one.
    pub(crate) chain: u64,
    /// Time of the last one.
    pub(crate) stored: Timestamp,
    /// The last one has no entries, so it proves the one before durable.
    pub(crate) empty: bool,
}

impl Cursor {
    /// Before the first group of a log.
    pub(crate) const START: Self =
        Self { next_group: 0, chain: 0, stored: Timestamp(0), empty: true };
}

/// The commit log of one shard. See the module.
pub struct Store {
    config: StoreConfig,
    fenced: bool,
    active: Active,
    next: Next,
    /// There was no room for the next segment, and it has not been prepared since: batches keep
    /// out of the reserve, also while it is tried again.
    starved: bool,
    cursor: Cursor,
    synced_groups: u64,
    synced: LogPos,
    in_flight: Option<InFlight>,
    gathers: VecDeque<Gather>,
    /// Bytes of a group, lately, with room for a little more.
    typical_bytes: usize,
    index: QueueIndexes,
    /// Parked records of closed groups that nobody has asked for yet.
    parked: Vec<Target>,
    /// The same for those that were carried on.
    carried: Vec<Carried>,
    sealing: BTreeMap<u32, Sealing>,
    keys: KeyIndex,
    saving: Saving,
    /// The first segment of the log.
    begins: u32,
    /// The segment of the group after which the state is in the log.
    snapshot: Option<u32>,
    retiring: Option<Retiring>,
}

/// What a recovery found, for [`Store::resume`].
pub(crate) struct Resumed {
    pub(crate) config: StoreConfig,
    pub(crate) active: Active,
    /// The next segment when it is there already.
    pub(crate) next: Option<SegmentHeader>,
    pub(crate) cursor: Cursor,
    pub(crate) index: QueueIndexes,
    /// Log position of the checkpoint and bytes of its state.
    pub(crate) checkpoint: (LogPos, u64),
    /// Sidecars that could not be written.
    pub(crate) unsaved: BTreeMap<u32, Sealing>,
    pub(crate) keys: KeyIndex,
    /// The first segment that was not retired, and that of the newest state in the log.
    pub(crate) places: (u32, Option<u32>),
}

impl Store {
    /// Goes on where a recovery stopped; everything found is durable.
    pub(crate) fn resume(found: Resumed, out: &mut Vec<Io>) -> Self {
        let Resumed { config, active, next, cursor, index, checkpoint, .. } = found;
        let Resumed { unsaved, keys, places: (begins, snapshot), .. } = found;
        assert!(
            active.tail >= segment::HEADER_BYTES as u64 && active.tail <= active.header.capacity
        );
        assert!(active.begun == (cursor.next_group > 0), "only an empty log has an empty segment");
        let header = next.unwrap_or_else(|| following(&config, &active.header));
        let next = match next {
            Some(header) => Next::Ready(header),
            None => Next::Preparing(header),
        };
        let (last, state_bytes) = checkpoint;
        let (waiting, writing, sealed) = (None, false, false);
        let mut store = Self {
            config,
            fenced: false,
            active,
            next,
            starved: false,
            cursor,
            synced_groups: cursor.next_group,
            synced: active.position(),
            in_flight: None,
            gathers: VecDeque::new(),
            typical_bytes: 0,
            index,
            parked: Vec::new(),
            carried: Vec::new(),
            sealing: unsaved,
            keys,
            saving: Saving { waiting, writing, sealed, last, state_bytes },
            begins,
            snapshot,
            retiring: None,
        };
        store.check();
        store.ask_for_next(out);
        store.keys.next_io(out);
        store
    }

    /// What always holds between two calls.
    fn check(&self) {
        let Active { header, tail, begun } = self.active;
        assert!(tail >= segment::HEADER_BYTES as u64 && tail <= header.capacity);
        assert!(tail.is_multiple_of(group::ALIGNMENT as u64), "groups are aligned");
        assert_eq!(begun, self.cursor.next_group > 0, "only an empty log has an empty segment");
        let open = u64::from(self.in_flight.is_some());
        assert!(self.fenced || self.synced_groups + open == self.cursor.next_group);
        assert!(self.synced_groups + open <= self.cursor.next_group, "one group at a time");
        assert!(self.synced <= self.active.position(), "what is durable was closed");
        assert!(!self.fenced || self.in_flight.is_none(), "a fenced log waits for nothing");
        let first = self.gathers.front().map_or(self.cursor.next_group, |first| first.group.0);
        assert_eq!(first, self.cursor.next_group, "the oldest gather is the next group");
        let next = match self.next {
            Next::Preparing(next) | Next::Ready(next) | Next::Failed(next) => next,
        };
        assert_eq!(next.segment, header.segment + 1, "segments are numbered");
        assert_eq!(next.base.0, header.base.0 + header.capacity, "positions have no gap");
        assert!(self.begins <= header.segment, "the active segment is there");
        assert!(self.saving.last <= self.active.position(), "a checkpoint follows a group");
    }

    fn ask_for_next(&self, out: &mut Vec<Io>) {
        if let Next::Preparing(header) = self.next {
            assert_eq!(header.segment, self.active.header.segment + 1, "segments are numbered");
            out.push(Io::PrepareSegment {
                segment: header.segment,
                header: header.encode(),
                bytes: header.capacity,
            });
        }
    }

    /// Bytes that were appended and not closed yet.
    #[must_use]
    pub fn gathered_bytes(&self) -> usize {
        self.gathers.iter().map(Gather::payload_bytes).sum()
    }

    /// Bytes of all gathered groups as they will lie in a segment.
    fn gathered_total(&self) -> u64 {
        self.gathers.iter().map(Gather::total_bytes).sum()
    }

    /// How many more bytes the shard should take in now: 0 when enough is gathered, or when there
    /// is no segment yet for what would be gathered.
    #[must_use]
    pub fn input_budget(&self) -> usize {
        if self.fenced {
            return 0;
        }
        let budget = GATHER_BYTES_MAX.saturating_sub(self.gathered_bytes());
        match self.next {
            Next::Ready(_) => budget,
            Next::Preparing(_) | Next::Failed(_) => {
                let taken = self.gathered_total() + self.config.reserve_bytes;
                let frame = (group::FRAME_BYTES + entry::HEADER_BYTES + entry::FOOTER_BYTES) as u64;
                let room = self.active.room().saturating_sub(taken + frame);
                budget.min(room as usize)
            }
        }
    }

    /// Records of a queue up to this end were durable, as is known besides the log; returns how
    /// many are lost, as the log is, that it did not know of.
    pub(crate) fn raise(&mut self, end: QueueEnd) -> u32 {
        assert!(self.active.begun, "where something was durable there is a group");
        assert!(self.gathers.is_empty() && self.in_flight.is_none(), "before the first append");
        let lost = self.index.raise(self.active.header.segment, end);
        let slot = self.index.slot(end.0, end.1);
        self.index.commit(slot);
        lost
    }

    /// Segment and byte offset at which the next group begins.
    pub(crate) fn tail(&self) -> (u32, u64) {
        (self.active.header.segment, self.active.tail)
    }

    /// Where committed records of a queue are: at most `count`, from `from` on.
    #[must_use]
    pub fn locate(
        &self,
        topic: TopicId,
        queue: QueueIndex,
        from: QueueOffset,
        count: u32,
    ) -> Located {
        self.index.locate(topic, queue, from, count)
    }

    /// Oldest offset of a queue and the offset after its newest committed record; both 0 when
    /// nothing was ever stored in it.
    #[must_use]
    pub fn queue_span(&self, topic: TopicId, queue: QueueIndex) -> (QueueOffset, QueueOffset) {
        self.index.span(topic, queue)
    }

    /// Offset that the next record appended to a queue gets.
    #[must_use]
    pub fn queue_next(&self, topic: TopicId, queue: QueueIndex) -> QueueOffset {
        self.index.next(topic, queue)
    }

    /// Every queue that ever held a record, in order: topic, queue, oldest offset, committed end.
    pub fn queues(
        &self,
    ) -> impl Iterator<Item = (TopicId, QueueIndex, QueueOffset, QueueOffset)> + '_ {
        self.index.iter()
    }

    /// When the newest group was stored: no later one is stored earlier.
    #[must_use]
    pub fn last_stored(&self) -> Timestamp {
        self.cursor.stored
    }

    /// The newest durable group.
    #[must_use]
    pub fn synced_group(&self) -> Option<GroupNumber> {
        self.synced_groups.checked_sub(1).map(GroupNumber)
    }

    /// Every durable group with entries is followed by a durable one: damage to any of them would
    /// be told from a torn tail. When not, and the shard is idle, it closes an empty group.
    #[must_use]
    pub fn tail_is_proven(&self) -> bool {
        self.cursor.empty && self.in_flight.is_none()
    }

    /// A group is being written or synced.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether the log takes more.
    #[must_use]
    pub fn state(&self) -> LogState {
        if self.fenced {
            return LogState::Fenced;
        }
        if self.starved { LogState::Full } else { LogState::Open }
    }

    /// Figures of the log.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        StoreStats {
            appended: self.active.position(),
            synced: self.synced,
            groups: self.synced_groups,
            messages: self.index.messages(),
            segments: self.segments(),
            state: self.state(),
        }
    }
}

/// The head of the segment after `before`.
pub(crate) fn following(config: &StoreConfig, before: &SegmentHeader) -> SegmentHeader {
    let segment = before.segment.checked_add(1).expect("2^32 segments outlive the disk");
    let base = LogPos(before.base.0 + before.capacity);
    new_segment(config, segment, base)
}

/// The head of a new segment.
pub(crate) fn new_segment(config: &StoreConfig, segment: u32, base: LogPos) -> SegmentHeader {
    let mut name = [0; 8];
    name[..4].copy_from_slice(&segment.to_le_bytes());
    name[4..6].copy_from_slice(&config.shard.0.to_le_bytes());
    let salt = xxhash_rust::xxh3::xxh3_64_with_seed(&name, config.salt_seed);
    SegmentHeader { shard: config.shard, segment, capacity: config.segment_bytes, base, salt }
}

fn header_of(gather: &Gather, config: &StoreConfig, cursor: &Cursor) -> GroupHeader {
    GroupHeader {
        stored: gather.stored,
        previous_chain: cursor.chain,
        payload_bytes: gather.payload_bytes() as u32,
        entries: gather.entries,
        ..GroupHeader::new(config.shard, gather.group)
    }
}
