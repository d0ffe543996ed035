//! The sidecar of a sealed segment: its queue index, derived from it and so rebuilt when damaged.
//!
//! ```text
//! offset size field
//!      0    8 magic           "YARDIDX\n"
//!      8    2 version         1
//!     10    2 shard
//!     12    4 segment
//!     16    8 salt            of the segment
//!     24    8 last_group      of the segment
//!     32    8 chain           of that group
//!     40    8 last_stored_ms  of that group
//!     48    8 stored_base_ms  of the first group
//!     56    8 end             byte after the last group
//!     64    8 file_bytes
//!     72    4 queues          lines of the directory
//!     76    4 directory_crc   CRC32C of the directory
//!     80    4 refers_from     1 + the lowest segment that releases in this one refer to; 0: none
//!     84   40 reserved        0
//!    124    4 crc             CRC32C of bytes 0..124
//!    128    . directory       lines by topic, queue and offset:
//!      0    4   topic
//!      4    4   queue
//!      8    8   first         offset of the first of these records in the queue
//!     16    8   file_offset   of its first block
//!     24    4   count         records
//!     28    4   kind          0: they were appended here; 1: they were lost by damage and have no
//!                             blocks; 2: they are copies of records of older segments
//!     32    8   stored_base   in ms; that of the segment unless they are copies
//!     40    8   bytes         of the records
//!     48    4   oldest_ms     of the first record, since stored_base
//!     52    4   newest_ms     of the last record, since stored_base
//!     56    8   reserved      0
//!      .    . blocks          of each queue in turn, 512 entries but for the last of a queue:
//!      0    .   entries       one for a record:
//!      0    4     offset      of the record in the segment
//!      4    4     bytes       of the record as readers get it; the highest bit: a release of it
//!                             lies there
//!      8    4     stored_ms   since stored_base of the line
//!      .    4   crc           CRC32C of (segment, topic, queue: u32; first of the block: u64;
//!                             stored_base: u64) and the entries
//! ```
use std::sync::Arc;

use bytes::Bytes;
use yard_wire::codec::Malformed;
use yard_wire::release::RELEASED_BIT;
use yard_wire::{GroupNumber, QueueIndex, QueueOffset, RecordPlace, ShardId, Timestamp, TopicId};

use super::{HeadError, VERSION, put, u16_at, u32_at, u64_at};
use crate::index::QueueEnd;

/// Bytes before the directory.
pub const HEADER_BYTES: usize = 128;
/// Bytes of a line of the directory.
pub const LINE_BYTES: usize = 64;
/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 12;
/// Entries of a full block.
pub const BLOCK_ENTRIES: usize = 512;
const BLOCK_BYTES: usize = BLOCK_ENTRIES * ENTRY_BYTES + 4;
const MAGIC: &[u8; 8] = b"YARDIDX\n";
const CRC_AT: usize = 124;

const _: () = assert!(CRC_AT + 4 == HEADER_BYTES);
const _: () = assert!(HEADER_BYTES.is_multiple_of(LINE_BYTES));

/// How long after the base a record was stored, if 32 bits can say it.
pub(crate) fn delta_ms(base: Timestamp, stored: Timestamp) -> Option<u32> {
    stored.0.checked_sub(base.0).and_then(|delta| u32::try_from(delta).ok())
}

/// Where one record, or its release, lies in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) offset: u32,
    /// The highest bit is that of a release.
    bytes: u32,
    stored_delta_ms: u32,
}

impl IndexEntry {
    pub(crate) fn new(bytes: u32, released: bool, offset: u32, stored_delta_ms: u32) -> Self {
        assert!(bytes < RELEASED_BIT, "a record is bounded");
        let bytes = bytes | if released { RELEASED_BIT } else { 0 };
        Self { offset, bytes, stored_delta_ms }
    }

    /// What it says, in a segment that begins with a group of this time.
    pub(crate) fn place(&self, segment: u32, stored_base: Timestamp) -> RecordPlace {
        let Self { offset, bytes, stored_delta_ms } = *self;
        RecordPlace {
            segment,
            offset,
            bytes: bytes & !RELEASED_BIT,
            stored: stored_base.plus_ms(stored_delta_ms.into()),
            released: bytes & RELEASED_BIT != 0,
        }
    }
}

/// Entries of one queue in one segment, block by block: growing never moves those that are there,
/// which would hold up the log for milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexEntries {
    /// All but the last are full.
    blocks: Vec<Vec<IndexEntry>>,
}

impl IndexEntries {
    pub(crate) fn len(&self) -> usize {
        let last = self.blocks.last().map_or(BLOCK_ENTRIES, Vec::len);
        (self.blocks.len() * BLOCK_ENTRIES + last).saturating_sub(BLOCK_ENTRIES)
    }

    pub(crate) fn push(&mut self, entry: IndexEntry) {
        match self.blocks.last_mut() {
            Some(block) if block.len() < BLOCK_ENTRIES => block.push(entry),
            Some(_) => {
                let mut block = Vec::with_capacity(BLOCK_ENTRIES);
                block.push(entry);
                self.blocks.push(block);
            }
            // Most queues of a segment may have a few only.
            None => {
                self.blocks.reserve_exact(1);
                self.blocks.push(vec![entry]);
            }
        }
    }

    /// Forgets the entries of records that lie at `offset` or after.
    pub(crate) fn truncate(&mut self, offset: u32) {
        let whole =
            self.blocks.partition_point(|it| it.first().is_some_and(|it| it.offset < offset));
        self.blocks.truncate(whole);
        if let Some(last) = self.blocks.last_mut() {
            last.retain(|entry| entry.offset < offset);
        }
    }

    /// How many entries come before the first that was stored so long after the base, or later.
    pub(crate) fn stored_before(&self, delta_ms: u32) -> usize {
        let is_before = |entry: &IndexEntry| entry.stored_delta_ms < delta_ms;
        let whole = self.blocks.partition_point(|block| block.last().is_some_and(is_before));
        let part = self.blocks.get(whole).map_or(0, |block| block.partition_point(is_before));
        whole * BLOCK_ENTRIES + part
    }

    /// The entries from `first` on.
    pub(crate) fn from(&self, first: usize) -> impl Iterator<Item = &IndexEntry> {
        let (block, within) = (first / BLOCK_ENTRIES, first % BLOCK_ENTRIES);
        self.blocks.iter().skip(block).flatten().skip(within)
    }
}

/// What a sidecar says about its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SidecarHeader {
    pub(crate) shard: ShardId,
    pub(crate) segment: u32,
    pub(crate) salt: u64,
    pub(crate) last_group: GroupNumber,
    pub(crate) chain: u64,
    pub(crate) last_stored: Timestamp,
    pub(crate) stored_base: Timestamp,
    pub(crate) end: u64,
    /// The lowest segment that releases in this one refer to.
    pub(crate) refers_from: Option<u32>,
}

/// Records of one queue in a segment that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueIndex,
    pub(crate) first: QueueOffset,
    pub(crate) file_offset: u64,
    pub(crate) count: u32,
    pub(crate) kind: LineKind,
    /// The times of its entries count from here.
    pub(crate) stored_base: Timestamp,
    pub(crate) sums: Sums,
}

/// What the records of a line are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineKind {
    /// They were appended to this segment.
    Appended = 0,
    /// They were lost by damage: there are no blocks.
    Lost = 1,
    /// They are copies of records that were appended to an older segment.
    Copies = 2,
}

/// Records of a segment added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// At most those of the segment.
    pub(crate) bytes: u32,
    /// Of the first record, since the base.
    pub(crate) oldest_ms: u32,
    /// Of the last one.
    pub(crate) newest_ms: u32,
}

impl Sums {
    /// Of all of these.
    pub(crate) fn of(entries: &IndexEntries) -> Self {
        let mut sums = Self::default();
        entries.from(0).for_each(|entry| sums.add(entry));
        sums
    }

    /// Adds the record that comes after the others.
    pub(crate) fn add(&mut self, entry: &IndexEntry) {
        if self.bytes == 0 {
            self.oldest_ms = entry.stored_delta_ms;
        }
        let bytes = self.bytes.checked_add(entry.bytes & !RELEASED_BIT);
        self.bytes = bytes.expect("records of a segment have as many bytes at most");
        self.newest_ms = entry.stored_delta_ms;
        assert!(self.oldest_ms <= self.newest_ms, "time does not decrease along a queue");
    }
}

impl Line {
    pub(crate) fn is_lost(&self) -> bool {
        self.kind == LineKind::Lost
    }

    /// The queue with records up to here, unless the line is of copies.
    pub(crate) fn end(&self) -> Option<QueueEnd> {
        let end = QueueOffset(self.first.0.saturating_add(self.count.into()));
        (self.kind != LineKind::Copies).then_some((self.topic, self.queue, end))
    }

    /// Bytes of its blocks.
    fn blocks_bytes(&self) -> u64 {
        if self.is_lost() { 0 } else { blocks_bytes(self.count.into()) }
    }
}

/// Bytes of the blocks of a queue with so many entries.
fn blocks_bytes(count: u64) -> u64 {
    debug_assert!(count <= u64::from(u32::MAX), "a line counts in 32 bits");
    count * ENTRY_BYTES as u64 + count.div_ceil(BLOCK_ENTRIES as u64) * 4
}

/// The queue index of a sealed segment as values: whoever writes it encodes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFile {
    header: SidecarHeader,
    /// By topic and queue. Shared: there may be a hundred thousand.
    queues: Arc<[(Line, Arc<IndexEntries>)]>,
}

impl IndexFile {
    /// Of queues that come by topic and queue; their lines are given the file offsets, which are
    /// returned as well.
    pub(crate) fn new(
        header: SidecarHeader,
        mut queues: Vec<(Line, Arc<IndexEntries>)>,
    ) -> (Self, Vec<u64>) {
        let mut file_offset = (HEADER_BYTES + queues.len() * LINE_BYTES) as u64;
        let mut offsets = Vec::with_capacity(queues.len());
        for (line, entries) in &mut queues {
            let held = if line.is_lost() { 0 } else { line.count as usize };
            assert_eq!(held, entries.len(), "the directory counts the entries");
            line.file_offset = file_offset;
            offsets.push(file_offset);
            file_offset += line.blocks_bytes();
        }
        (Self { header, queues: queues.into() }, offsets)
    }

    /// The bytes of the file.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = vec![0; HEADER_BYTES];
        for (line, _) in self.queues.iter() {
            let mut bytes = [0; LINE_BYTES];
            put(&mut bytes, 0, &line.topic.0.to_le_bytes());
            put(&mut bytes, 4, &u32::from(line.queue.0).to_le_bytes());
            put(&mut bytes, 8, &line.first.0.to_le_bytes());
            put(&mut bytes, 16, &line.file_offset.to_le_bytes());
            put(&mut bytes, 24, &line.count.to_le_bytes());
            put(&mut bytes, 28, &(line.kind as u32).to_le_bytes());
            put(&mut bytes, 32, &line.stored_base.0.to_le_bytes());
            put(&mut bytes, 40, &u64::from(line.sums.bytes).to_le_bytes());
            put(&mut bytes, 48, &line.sums.oldest_ms.to_le_bytes());
            put(&mut bytes, 52, &line.sums.newest_ms.to_le_bytes());
            out.extend_from_slice(&bytes);
        }
        let directory_crc = crc32c::crc32c(&out[HEADER_BYTES..]);
        let blocks: u64 = self.queues.iter().map(|(line, _)| line.blocks_bytes()).sum();
        out.reserve_exact(blocks as usize);
        for (line, entries) in self.queues.iter() {
            assert_eq!(out.len() as u64, line.file_offset, "the blocks are where the lines say");
            put_blocks(&self.header, line, entries, &mut out);
        }
        let (file_bytes, queues) = (out.len() as u64, self.queues.len() as u32);
        let header = &self.header;
        put(&mut out, 0, MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 10, &header.shard.0.to_le_bytes());
        put(&mut out, 12, &header.segment.to_le_bytes());
        put(&mut out, 16, &header.salt.to_le_bytes());
        put(&mut out, 24, &header.last_group.0.to_le_bytes());
        put(&mut out, 32, &header.chain.to_le_bytes());
        put(&mut out, 40, &header.last_stored.0.to_le_bytes());
        put(&mut out, 48, &header.stored_base.0.to_le_bytes());
        put(&mut out, 56, &header.end.to_le_bytes());
        put(&mut out, 64, &file_bytes.to_le_bytes());
        put(&mut out, 72, &queues.to_le_bytes());
        put(&mut out, 76, &directory_crc.to_le_bytes());
        put(&mut out, 80, &header.refers_from.map_or(0, |segment| segment + 1).to_le_bytes());
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        put(&mut out, CRC_AT, &crc.to_le_bytes());
        Bytes::from(out)
    }
}

fn put_blocks(header: &SidecarHeader, line: &Line, entries: &IndexEntries, out: &mut Vec<u8>) {
    assert!(line.count > 0, "a line is for a queue with records");
    let held = if line.is_lost() { 0 } else { line.count as usize };
    assert_eq!(held, entries.len(), "the directory counts the entries");
    let mut first = line.first.0;
    for block in &entries.blocks {
        let start = out.len();
        for entry in block {
            out.extend_from_slice(&entry.offset.to_le_bytes());
            out.extend_from_slice(&entry.bytes.to_le_bytes());
            out.extend_from_slice(&entry.stored_delta_ms.to_le_bytes());
        }
        let identity = BlockIdentity {
            segment: header.segment,
            topic: line.topic,
            queue: line.queue,
            first: QueueOffset(first),
            stored_base: line.stored_base,
        };
        let crc = identity.crc(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
        first += block.len() as u64;
    }
}

/// What a block is about; its checksum covers this too, so a block read from the wrong place is
/// noticed.
struct BlockIdentity {
    segment: u32,
    topic: TopicId,
    queue: QueueIndex,
    first: QueueOffset,
    stored_base: Timestamp,
}

impl BlockIdentity {
    fn crc(&self, entries: &[u8]) -> u32 {
        debug_assert!(entries.len().is_multiple_of(ENTRY_BYTES), "whole entries");
        let mut bytes = [0; 28];
        put(&mut bytes, 0, &self.segment.to_le_bytes());
        put(&mut bytes, 4, &self.topic.0.to_le_bytes());
        put(&mut bytes, 8, &u32::from(self.queue.0).to_le_bytes());
        put(&mut bytes, 12, &self.first.0.to_le_bytes());
        put(&mut bytes, 20, &self.stored_base.0.to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c(&bytes), entries)
    }
}

/// Reads the head of a sidecar; returns it with the bytes of the directory and of the file.
pub(crate) fn decode_header(
    bytes: &[u8; HEADER_BYTES],
) -> Result<(SidecarHeader, DirectorySpan), HeadError> {
    if &bytes[..8] != MAGIC || u32_at(bytes, CRC_AT) != crc32c::crc32c(&bytes[..CRC_AT]) {
        return Err(HeadError::Damaged);
    }
    if u16_at(bytes, 8) != VERSION {
        return Err(HeadError::Version(u16_at(bytes, 8)));
    }
    if u64_at(bytes, 24) == u64::MAX {
        // No log comes to this group: the number after it could not be said.
        return Err(HeadError::Damaged);
    }
    let header = SidecarHeader {
        shard: ShardId(u16_at(bytes, 10)),
        segment: u32_at(bytes, 12),
        salt: u64_at(bytes, 16),
        last_group: GroupNumber(u64_at(bytes, 24)),
        chain: u64_at(bytes, 32),
        last_stored: Timestamp(u64_at(bytes, 40)),
        stored_base: Timestamp(u64_at(bytes, 48)),
        end: u64_at(bytes, 56),
        refers_from: u32_at(bytes, 80).checked_sub(1),
    };
    let span = DirectorySpan {
        file_bytes: u64_at(bytes, 64),
        lines: u32_at(bytes, 72) as usize,
        crc: u32_at(bytes, 76),
    };
    Ok((header, span))
}

/// Size and checksum of a directory.
pub(crate) struct DirectorySpan {
    pub(crate) file_bytes: u64,
    pub(crate) lines: usize,
    crc: u32,
}

impl DirectorySpan {
    /// Reads the lines of the directory; `None` when they are damaged.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Option<Vec<Line>> {
        if bytes.len() != self.lines * LINE_BYTES || crc32c::crc32c(bytes) != self.crc {
            return None;
        }
        let line = |bytes: &[u8]| {
            let queue = u16::try_from(u32_at(bytes, 4)).ok()?;
            Some(Line {
                topic: TopicId(u32_at(bytes, 0)),
                queue: QueueIndex(queue),
                first: QueueOffset(u64_at(bytes, 8)),
                file_offset: u64_at(bytes, 16),
                count: u32_at(bytes, 24),
                kind: match u32_at(bytes, 28) {
                    0 => LineKind::Appended,
                    1 => LineKind::Lost,
                    2 => LineKind::Copies,
                    _ => return None,
                },
                stored_base: Timestamp(u64_at(bytes, 32)),
                sums: Sums {
                    bytes: u32::try_from(u64_at(bytes, 40)).ok()?,
                    oldest_ms: u32_at(bytes, 48),
                    newest_ms: u32_at(bytes, 52),
                },
            })
        };
        bytes.chunks_exact(LINE_BYTES).map(line).collect()
    }
}

/// Index entries to be read from a sidecar: whole blocks that hold the wanted ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexRead {
    /// The sealed segment.
    pub segment: u32,
    /// Where to begin reading in the sidecar.
    pub file_offset: u64,
    /// How many bytes to read.
    pub bytes: u32,
    topic: TopicId,
    queue: QueueIndex,
    stored_base: Timestamp,
    /// Queue offset of the first entry of the first block.
    first: QueueOffset,
    /// Entries in the blocks.
    entries: u32,
    /// Entries before the first wanted one.
    skip: u32,
    /// Entries wanted.
    count: u32,
}

impl IndexRead {
    /// Which blocks hold the entries `from` and the `count` - 1 after it, as far as the line
    /// of the directory reaches.
    pub(crate) fn plan(segment: u32, line: &Line, from: QueueOffset, count: u32) -> Self {
        assert!(from >= line.first && count > 0, "the queue's span holds the offset");
        let skip = u32::try_from(from.0 - line.first.0).expect("a span counts in 32 bits");
        assert!(skip < line.count && !line.is_lost(), "the queue's span holds the offset");
        let count = count.min(line.count - skip);
        let block = BLOCK_ENTRIES as u32;
        let begin = skip / block * block;
        let end = (skip + count).next_multiple_of(block).min(line.count);
        let at = u64::from(begin / block) * BLOCK_BYTES as u64;
        let bytes = blocks_bytes(u64::from(end - begin));
        Self {
            segment,
            file_offset: line.file_offset + at,
            bytes: u32::try_from(bytes).expect("a span of index entries is below 4 GiB"),
            topic: line.topic,
            queue: line.queue,
            stored_base: line.stored_base,
            first: QueueOffset(line.first.0 + u64::from(begin)),
            entries: end - begin,
            skip: skip - begin,
            count,
        }
    }

    /// Reads the places out of the bytes that were read.
    ///
    /// # Errors
    /// [`Malformed`] when a block is damaged or not the one that was wanted.
    pub fn parse(&self, bytes: &[u8]) -> Result<Vec<RecordPlace>, Malformed> {
        if bytes.len() != self.bytes as usize {
            let (wanted, left) = (self.bytes.into(), bytes.len() as u64);
            return Err(Malformed::Short { wanted, left });
        }
        let mut places = Vec::with_capacity(self.count as usize);
        let (mut first, mut left, mut skip) = (self.first.0, self.entries, self.skip as usize);
        for block in bytes.chunks(BLOCK_BYTES) {
            let count = left.min(BLOCK_ENTRIES as u32);
            let (entries, crc) = block.split_at(count as usize * ENTRY_BYTES);
            let identity = BlockIdentity {
                segment: self.segment,
                topic: self.topic,
                queue: self.queue,
                first: QueueOffset(first),
                stored_base: self.stored_base,
            };
            if identity.crc(entries) != u32_at(crc, 0) {
                return Err(Malformed::Checksum { what: "block of the queue index" });
            }
            let wanted = self.count as usize - places.len();
            let wanted = entries.chunks_exact(ENTRY_BYTES).skip(skip).take(wanted);
            places.extend(wanted.map(|entry| self.place(entry)));
            skip = 0;
            first += u64::from(count);
            left -= count;
        }
        assert_eq!((places.len(), left), (self.count as usize, 0), "the plan counted the entries");
        Ok(places)
    }

    /// The queue, and which of its offsets are wanted: for a search in the segment itself.
    pub(crate) fn wanted(&self) -> (TopicId, QueueIndex, std::ops::Range<u64>) {
        assert!(self.skip + self.count <= self.entries, "the blocks hold what is wanted");
        let begin = self.first.0 + u64::from(self.skip);
        (self.topic, self.queue, begin..begin + u64::from(self.count))
    }

    fn place(&self, entry: &[u8]) -> RecordPlace {
        debug_assert_eq!(entry.len(), ENTRY_BYTES, "one entry");
        let (offset, bytes) = (u32_at(entry, 0), u32_at(entry, 4));
        let entry = IndexEntry { offset, bytes, stored_delta_ms: u32_at(entry, 8) };
        entry.place(self.segment, self.stored_base)
    }
}
