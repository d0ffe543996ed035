//! A run of the key index: ids and keys of the records in a part of a segment, sorted by hash. The
//! last bytes of a part are a file, `key-…`; those of the active segment may be in memory.
//!
//! ```text
//! offset size field
//!      0    8 magic        "YARDKEY\n"
//!      8    2 version      1
//!     10    2 shard
//!     12    4 segment
//!     16    8 salt         of the segment
//!     24    4 from         first byte of the segment's file that it is about
//!     28    4 to           byte after the last: both lie between groups
//!     32    8 first_ms     when the oldest of its records was stored; 2^64 - 1 without any
//!     40    8 last_ms      when the newest was; 0 without any
//!     48    4 entries
//!     52    4 table_bits   b: the table has 2^b prefixes
//!     56   68 reserved     0
//!    124    4 crc          CRC32C of bytes 0..124
//!    128    . table        pages of up to 1,022 prefixes:
//!      0    . 4   first    how many entries have a smaller prefix; one more than prefixes
//!      .    4     crc      CRC32C of (salt: u64, from, number of the page: u32) and the page
//!      .    . blocks       of up to 186 entries, by hash and place:
//!      0    .   6 hash     upper 48 bits of XXH3-64, seeded with the salt, of
//!                          (0, id: 16 bytes) or (1, topic: u32, key)
//!      6    .   4 place    of the record or its release: byte offset in the segment
//!     10    .   6 offset   of the record in its queue; the highest bit: a release lies there
//!     16    .   6 stored   milliseconds since 1970 UTC
//!      .    4     crc      CRC32C of (salt: u64, from, number of the block + 2^31: u32) and
//!                          the block
//! ```
//!
//! The seed is drawn with the segment, so nobody can choose keys whose hashes meet. What is found
//! is compared with the record all the same.
use std::io;

use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};
use yard_wire::{MessageId, QueueOffset, ShardId, Timestamp, TopicId};

use super::{VERSION, put, u16_at, u32_at, u64_at};
use crate::disk::{Disk, FileName};

/// Bytes before the table.
pub const HEADER_BYTES: usize = 128;
/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 22;
/// Entries of a full block: with its checksum it has the size of a page of memory.
pub const BLOCK_ENTRIES: usize = 186;
/// Prefixes of a full page of the table.
pub const PAGE_PREFIXES: usize = 1_022;
/// A prefix has so many entries at most, when hashes are spread evenly.
const PREFIX_ENTRIES: u32 = 128;
/// More prefixes than entries that fit a segment.
const TABLE_BITS_MAX: u32 = 26;
const HASH_BITS: u32 = 48;
const RELEASED_BIT: u64 = 1 << 47;
/// Runs are merged in so many slices of the hashes.
const MERGE_SLICES: u64 = 64;
const PIECE_BYTES: usize = 4 << 10;
const MAGIC: &[u8; 8] = b"YARDKEY\n";
const CRC_AT: usize = 124;

const _: () = assert!(CRC_AT + 4 == HEADER_BYTES);
const _: () = assert!(BLOCK_ENTRIES * ENTRY_BYTES + 4 == PIECE_BYTES);
const _: () = assert!((PAGE_PREFIXES + 1) * 4 + 4 == PIECE_BYTES);
const _: () = assert!(TABLE_BITS_MAX < HASH_BITS && MERGE_SLICES.is_power_of_two());

/// The hash of an id or a key in one segment: 48 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyHash(u64);

impl KeyHash {
    pub(crate) fn of_id(salt: u64, id: &MessageId) -> Self {
        let mut bytes = [0; 17];
        put(&mut bytes, 1, &id.0);
        Self(xxh3_64_with_seed(&bytes, salt) >> (64 - HASH_BITS))
    }

    pub(crate) fn of_key(salt: u64, topic: TopicId, key: &str) -> Self {
        let mut head = [1; 5];
        put(&mut head, 1, &topic.0.to_le_bytes());
        let mut short = [0; 64];
        let bytes = head.len() + key.len();
        let hash = if bytes <= short.len() {
            put(&mut short, 0, &head);
            put(&mut short, head.len(), key.as_bytes());
            xxh3_64_with_seed(&short[..bytes], salt)
        } else {
            let mut state = Xxh3::with_seed(salt);
            state.update(&head);
            state.update(key.as_bytes());
            state.digest()
        };
        Self(hash >> (64 - HASH_BITS))
    }

    fn prefix(self, bits: u32) -> usize {
        (self.0 >> (HASH_BITS - bits)) as usize
    }
}

/// One id or key of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyEntry {
    pub(crate) hash: KeyHash,
    /// Byte offset of the record in the segment.
    pub(crate) place: u32,
    pub(crate) offset: QueueOffset,
    pub(crate) stored: Timestamp,
    /// What lies there is a release of the record.
    pub(crate) released: bool,
}

impl KeyEntry {
    fn put(&self, out: &mut Vec<u8>) {
        let widest = self.hash.0 | self.offset.0 | self.stored.0;
        debug_assert!(widest < 1 << HASH_BITS, "48 bits outlast queues and calendars");
        debug_assert!(self.offset.0 < RELEASED_BIT, "47 bits outlast queues");
        let offset = self.offset.0 | if self.released { RELEASED_BIT } else { 0 };
        // Each field overwrites the empty upper bytes of the one before.
        let mut bytes = [0; ENTRY_BYTES + 2];
        put(&mut bytes, 0, &self.hash.0.to_le_bytes());
        put(&mut bytes, 6, &self.place.to_le_bytes());
        put(&mut bytes, 10, &offset.to_le_bytes());
        put(&mut bytes, 16, &self.stored.0.to_le_bytes());
        out.extend_from_slice(&bytes[..ENTRY_BYTES]);
    }

    fn read(bytes: &[u8]) -> Self {
        let u48_at =
            |at: usize| u64::from(u32_at(bytes, at)) | u64::from(u16_at(bytes, at + 4)) << 32;
        Self {
            hash: KeyHash(u48_at(0)),
            place: u32_at(bytes, 6),
            offset: QueueOffset(u48_at(10) & !RELEASED_BIT),
            stored: Timestamp(u48_at(16)),
            released: u48_at(10) & RELEASED_BIT != 0,
        }
    }
}

/// What a run says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHead {
    pub(crate) shard: ShardId,
    pub(crate) segment: u32,
    pub(crate) salt: u64,
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// Oldest and newest stored time of its records.
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) entries: u32,
    bits: u32,
}

/// Bytes of so many full pieces of `row` bytes, and of one with the rest.
fn pieces_bytes(rows: u64, of_piece: usize, row: usize, extra: usize) -> u64 {
    let pieces = rows.div_ceil(of_piece as u64);
    rows * row as u64 + pieces * extra as u64
}

impl KeyHead {
    /// The head of a run without records.
    pub(crate) fn empty(shard: ShardId, segment: u32, salt: u64, from: u32) -> Self {
        let (first, last) = (Timestamp(u64::MAX), Timestamp(0));
        Self { shard, segment, salt, from, to: from, first, last, entries: 0, bits: 0 }
    }

    /// The file that it makes, or is part of.
    #[must_use]
    pub fn name(&self) -> FileName {
        FileName::Keys { segment: self.segment, from: self.from }
    }

    fn prefixes(&self) -> u64 {
        1 << self.bits
    }

    fn blocks_at(&self) -> u64 {
        HEADER_BYTES as u64 + pieces_bytes(self.prefixes(), PAGE_PREFIXES, 4, 8)
    }

    /// Bytes of the whole run.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.blocks_at() + pieces_bytes(self.entries.into(), BLOCK_ENTRIES, ENTRY_BYTES, 4)
    }

    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        put(&mut out, 0, MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 10, &self.shard.0.to_le_bytes());
        put(&mut out, 12, &self.segment.to_le_bytes());
        put(&mut out, 16, &self.salt.to_le_bytes());
        put(&mut out, 24, &self.from.to_le_bytes());
        put(&mut out, 28, &self.to.to_le_bytes());
        put(&mut out, 32, &self.first.0.to_le_bytes());
        put(&mut out, 40, &self.last.0.to_le_bytes());
        put(&mut out, 48, &self.entries.to_le_bytes());
        put(&mut out, 52, &self.bits.to_le_bytes());
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        put(&mut out, CRC_AT, &crc.to_le_bytes());
        out
    }

    /// Reads a head; `None` for anything that this version does not write.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let crc = crc32c::crc32c(&bytes[..CRC_AT]);
        if &bytes[..8] != MAGIC || u32_at(bytes, CRC_AT) != crc || u16_at(bytes, 8) != VERSION {
            return None;
        }
        let head = Self {
            shard: ShardId(u16_at(bytes, 10)),
            segment: u32_at(bytes, 12),
            salt: u64_at(bytes, 16),
            from: u32_at(bytes, 24),
            to: u32_at(bytes, 28),
            first: Timestamp(u64_at(bytes, 32)),
            last: Timestamp(u64_at(bytes, 40)),
            entries: u32_at(bytes, 48),
            bits: u32_at(bytes, 52),
        };
        (head.bits <= TABLE_BITS_MAX && head.from <= head.to).then_some(head)
    }

    fn crc(&self, piece: u32, bytes: &[u8]) -> u32 {
        let mut identity = [0; 16];
        put(&mut identity, 0, &self.salt.to_le_bytes());
        put(&mut identity, 8, &self.from.to_le_bytes());
        put(&mut identity, 12, &piece.to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c(&identity), bytes)
    }
}

/// The number of a block among the pieces of a run.
fn block_piece(block: u64) -> u32 {
    1 << 31 | block as u32
}

/// A run in memory, as it would lie in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRun {
    head: KeyHead,
    bytes: Bytes,
}

impl KeyRun {
    /// Makes a run of entries that come sorted; `head` says how many, and gets its table.
    pub(crate) fn new(mut head: KeyHead, entries: impl Iterator<Item = KeyEntry>) -> Self {
        let wanted = (head.entries / PREFIX_ENTRIES).next_power_of_two().trailing_zeros();
        head.bits = wanted.min(TABLE_BITS_MAX);
        let blocks_at = head.blocks_at() as usize;
        let mut out = Vec::with_capacity(head.file_bytes() as usize);
        out.resize(blocks_at, 0);
        let mut counts = vec![0u32; head.prefixes() as usize + 1];
        let (mut block_at, mut blocks, mut count, mut last) = (out.len(), 0, 0, None);
        for entry in entries {
            debug_assert!(last.is_none_or(|last| last < entry), "entries come sorted");
            last = Some(entry);
            counts[entry.hash.prefix(head.bits) + 1] += 1;
            entry.put(&mut out);
            count += 1;
            if out.len() - block_at == BLOCK_ENTRIES * ENTRY_BYTES {
                end_piece(&head, block_piece(blocks), block_at, &mut out);
                (block_at, blocks) = (out.len(), blocks + 1);
            }
        }
        assert_eq!(count, head.entries, "the head counts the entries");
        if out.len() > block_at {
            end_piece(&head, block_piece(blocks), block_at, &mut out);
        }
        put(&mut out, 0, &head.encode());
        put_table(&head, &mut counts, &mut out[HEADER_BYTES..blocks_at]);
        assert_eq!(out.len() as u64, head.file_bytes(), "the pieces are where they are looked for");
        Self { head, bytes: Bytes::from(out) }
    }

    /// One run of several that follow each other in a segment.
    pub(crate) fn merged(runs: &[Self]) -> Self {
        let first = runs.first().expect("there is a run").head;
        let mut head = KeyHead::empty(first.shard, first.segment, first.salt, first.from);
        for run in runs {
            assert_eq!((head.to, head.salt), (run.head.from, run.head.salt), "runs have no gap");
            head.to = run.head.to;
            head.first = head.first.min(run.head.first);
            head.last = head.last.max(run.head.last);
            head.entries += run.head.entries;
        }
        let mut rows: Vec<_> = runs.iter().map(|run| run.entries().peekable()).collect();
        // Slice by slice, so that what is sorted stays near the processor.
        let entries = (1..=MERGE_SLICES).flat_map(move |slice| {
            let end = slice << (HASH_BITS - MERGE_SLICES.ilog2());
            let mut entries = Vec::new();
            for row in &mut rows {
                entries.extend(std::iter::from_fn(|| row.next_if(|entry| entry.hash.0 < end)));
            }
            // Made of sorted pieces, which this sort makes use of.
            entries.sort();
            entries
        });
        Self::new(head, entries)
    }

    pub(crate) fn head(&self) -> &KeyHead {
        &self.head
    }

    /// The bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    fn entries(&self) -> impl Iterator<Item = KeyEntry> + '_ {
        let blocks = self.bytes[self.head.blocks_at() as usize..].chunks(PIECE_BYTES);
        blocks
            .flat_map(|block| block[..block.len() - 4].chunks_exact(ENTRY_BYTES))
            .map(KeyEntry::read)
    }
}

fn end_piece(head: &KeyHead, piece: u32, begin: usize, out: &mut Vec<u8>) {
    let crc = head.crc(piece, &out[begin..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// Writes the table from how many entries each prefix has, the first at index 1.
fn put_table(head: &KeyHead, counts: &mut [u32], out: &mut [u8]) {
    for at in 1..counts.len() {
        counts[at] += counts[at - 1];
    }
    assert_eq!(counts.last(), Some(&head.entries), "every entry has a prefix");
    let prefixes = counts.len() - 1;
    for (page, out) in out.chunks_mut(PIECE_BYTES).enumerate() {
        let begin = page * PAGE_PREFIXES;
        let end = (begin + PAGE_PREFIXES).min(prefixes);
        for (at, count) in counts[begin..=end].iter().enumerate() {
            put(out, at * 4, &count.to_le_bytes());
        }
        let crc_at = out.len() - 4;
        assert_eq!(crc_at, (end - begin + 1) * 4, "a page has one count more than prefixes");
        let crc = head.crc(page as u32, &out[..crc_at]);
        put(out, crc_at, &crc.to_le_bytes());
    }
}

/// A run is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unusable;

/// Where the bytes of a run are.
#[derive(Clone, Copy)]
pub(crate) enum RunBytes<'a> {
    Memory(&'a KeyRun),
    File(&'a dyn Disk, &'a KeyHead),
}

impl<'a> RunBytes<'a> {
    pub(crate) fn head(&self) -> &KeyHead {
        match self {
            Self::Memory(run) => &run.head,
            Self::File(_, head) => head,
        }
    }

    /// One piece without its checksum, which holds.
    fn piece(&self, piece: u32, at: u64, bytes: usize) -> Result<Bytes, Unusable> {
        match self {
            Self::Memory(run) => Ok(run.bytes.slice(at as usize..at as usize + bytes)),
            Self::File(disk, head) => {
                let mut buffer = vec![0; bytes + 4];
                disk.read_at(head.name(), at, &mut buffer).map_err(|_| Unusable)?;
                let crc = u32_at(&buffer, bytes);
                buffer.truncate(bytes);
                (head.crc(piece, &buffer) == crc).then(|| buffer.into()).ok_or(Unusable)
            }
        }
    }

    /// The entries with a prefix: first, and the one after the last.
    fn range(&self, prefix: usize) -> Result<(u32, u32), Unusable> {
        let head = self.head();
        let (page, slot) = (prefix / PAGE_PREFIXES, prefix % PAGE_PREFIXES);
        let prefixes = (head.prefixes() as usize - page * PAGE_PREFIXES).min(PAGE_PREFIXES);
        let at = (HEADER_BYTES + page * PIECE_BYTES) as u64;
        let page = self.piece(page as u32, at, (prefixes + 1) * 4)?;
        let (begin, end) = (u32_at(&page, slot * 4), u32_at(&page, slot * 4 + 4));
        if begin <= end && end <= head.entries { Ok((begin, end)) } else { Err(Unusable) }
    }

    fn block(&self, block: u64) -> Result<Bytes, Unusable> {
        let head = self.head();
        let first = block * BLOCK_ENTRIES as u64;
        let count = (u64::from(head.entries) - first).min(BLOCK_ENTRIES as u64) as usize;
        let at = head.blocks_at() + block * PIECE_BYTES as u64;
        self.piece(block_piece(block), at, count * ENTRY_BYTES)
    }

    /// Where the records lie that the run has entries of, a place once for each; those of blocks
    /// that are damaged are left out.
    pub(crate) fn places(self) -> impl Iterator<Item = u32> + 'a {
        let blocks = u64::from(self.head().entries).div_ceil(BLOCK_ENTRIES as u64);
        (0..blocks).flat_map(move |number| {
            let block = self.block(number).unwrap_or_default();
            let places = block.chunks_exact(ENTRY_BYTES).map(|row| KeyEntry::read(row).place);
            places.collect::<Vec<_>>()
        })
    }

    /// The entries with this hash from `place` on, in their order in the log, block by block.
    pub(crate) fn find(self, hash: KeyHash, place: u32) -> Result<KeyMatches<'a>, Unusable> {
        let (begin, end) = self.range(hash.prefix(self.head().bits))?;
        let mut matches = KeyMatches { bytes: self, hash, place, at: begin, end, block: None };
        if begin < end {
            matches.skip_blocks()?;
        }
        Ok(matches)
    }
}

/// The entries of a run with one hash.
pub(crate) struct KeyMatches<'a> {
    bytes: RunBytes<'a>,
    hash: KeyHash,
    place: u32,
    /// Next entry to look at.
    at: u32,
    end: u32,
    block: Option<(u64, Bytes)>,
}

impl KeyMatches<'_> {
    /// Bytes that were read for a match, roughly.
    pub(crate) const READ_BYTES: u64 = 2 * PIECE_BYTES as u64;

    /// Moves on to the block that holds the first match, if there is one: a prefix has more than
    /// two blocks only where one key has very many records.
    fn skip_blocks(&mut self) -> Result<(), Unusable> {
        let per_block = BLOCK_ENTRIES as u32;
        let (mut low, mut high) = (self.at / per_block, (self.end - 1) / per_block);
        while low < high {
            let middle = low.midpoint(high);
            let block = self.bytes.block(middle.into())?;
            let last = KeyEntry::read(&block[block.len() - ENTRY_BYTES..]);
            if (last.hash, last.place) < (self.hash, self.place) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.at = self.at.max(low * per_block);
        Ok(())
    }

    pub(crate) fn next(&mut self) -> Result<Option<KeyEntry>, Unusable> {
        while self.at < self.end {
            let number = u64::from(self.at) / BLOCK_ENTRIES as u64;
            let block = match self.block.take() {
                Some((held, block)) if held == number => block,
                _ => self.bytes.block(number)?,
            };
            let begin = (u64::from(self.at) % BLOCK_ENTRIES as u64) as usize * ENTRY_BYTES;
            let entry = KeyEntry::read(&block[begin..begin + ENTRY_BYTES]);
            self.block = Some((number, block));
            self.at += 1;
            if entry.hash > self.hash {
                self.at = self.end;
            } else if (entry.hash, entry.place) >= (self.hash, self.place) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

/// Reads the head of a file of the key index; `None` when it is not there, damaged, not as long
/// as it says or not what its name says.
pub(crate) fn read_head(disk: &dyn Disk, segment: u32, from: u32) -> Option<KeyHead> {
    let name = FileName::Keys { segment, from };
    let read = || -> io::Result<Option<KeyHead>> {
        if disk.len(name)? < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let mut bytes = [0; HEADER_BYTES];
        disk.read_at(name, 0, &mut bytes)?;
        let head = KeyHead::decode(&bytes);
        let fits = |head: &KeyHead| (head.segment, head.from) == (segment, from);
        let Some(head) = head.filter(fits) else { return Ok(None) };
        Ok((disk.len(name)? == head.file_bytes()).then_some(head))
    };
    read().unwrap_or(None)
}
