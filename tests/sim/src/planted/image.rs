//! What some bugs do to the files of a shard, by the layouts in the store's FORMAT.md.
use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;
use yard_store::Disk;
use yard_store::disk::FileName;
use yard_store::disk::lying::LyingDisk;
use yard_wire::MessageId;
use yard_wire::batch::{self, Batch};
use yard_wire::record::{DUE, Flags, Record, RecordParts};

const SEGMENT_HEADER_BYTES: usize = 512;
const SALT_AT: usize = 32;
const GROUP_HEADER_BYTES: usize = 64;
const NUMBER_AT: usize = 24;
const STORED_AT: usize = 32;
const TRAILER_BYTES: usize = 32;
const BODY_BYTES_AT: usize = 46;
const HEADER_CRC_AT: usize = 72;
const BODY_CRC_AT: usize = 76;
const CHECKPOINT_HEADER_BYTES: usize = 80;
const FLOORS_AT: usize = 64;
const FLOOR_BYTES: usize = 22;
const ENDS_AT: usize = 72;
const END_BYTES: usize = 14;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// A group in the bytes of a segment.
#[derive(Clone, Copy)]
struct Group {
    at: usize,
    payload_bytes: usize,
    entries: u32,
}

impl Group {
    fn payload_end(&self) -> usize {
        self.at + GROUP_HEADER_BYTES + self.payload_bytes
    }

    fn end(&self) -> usize {
        (self.payload_end() + TRAILER_BYTES).next_multiple_of(64)
    }

    /// A group whose header is whole.
    fn read(segment: &[u8], at: usize) -> Option<Self> {
        let header = segment.get(at..at + GROUP_HEADER_BYTES)?;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..4]), &header[16..]);
        let salt = &segment[SALT_AT..SALT_AT + 8];
        if &header[..4] != b"YGRP" || u32_at(header, 4) != crc || &header[8..16] != salt {
            return None;
        }
        let payload_bytes = u32_at(header, 48) as usize;
        let group = Self { at, payload_bytes, entries: u32_at(header, 52) };
        (group.end() <= segment.len()).then_some(group)
    }

    fn chain(&self, segment: &[u8]) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(&segment[self.at + 16..self.payload_end()]);
        hash.digest()
    }

    /// Gives the group the trailer that its header and entries ask for.
    fn seal(&self, segment: &mut [u8]) {
        let chain = self.chain(segment);
        let mut trailer = [0; TRAILER_BYTES];
        put(&mut trailer, 0, b"YEND");
        put(&mut trailer, 4, &self.entries.to_le_bytes());
        trailer[8..16].copy_from_slice(&segment[self.at + NUMBER_AT..self.at + STORED_AT]);
        put(&mut trailer, 16, &chain.to_le_bytes());
        let crc = crc32c::crc32c(&trailer[..28]);
        put(&mut trailer, 28, &crc.to_le_bytes());
        put(segment, self.payload_end(), &trailer);
    }

    fn is_whole(&self, segment: &[u8]) -> bool {
        let trailer = &segment[self.payload_end()..self.payload_end() + TRAILER_BYTES];
        &trailer[..4] == b"YEND" && trailer[16..24] == self.chain(segment).to_le_bytes()
    }
}

/// The whole groups of a segment.
fn groups(segment: &[u8]) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut at = SEGMENT_HEADER_BYTES;
    while let Some(group) = Group::read(segment, at).filter(|group| group.is_whole(segment)) {
        at = group.end();
        groups.push(group);
    }
    groups
}

/// Where each whole group of a segment ends, its padding not counted.
pub(crate) fn group_ends(segment: &[u8]) -> Vec<usize> {
    let ends = groups(segment).into_iter().map(|group| group.payload_end() + TRAILER_BYTES);
    ends.collect()
}

/// The segments of a log, oldest first, with their whole groups and where these end.
fn segments(disk: &LyingDisk) -> Vec<(FileName, Vec<u8>, Vec<Group>, usize)> {
    let names = disk.list().unwrap_or_default();
    let segments = names.into_iter().filter(|name| matches!(name, FileName::Segment(_)));
    let read = segments.filter_map(|name| {
        let bytes = disk.contents(name)?;
        let groups = groups(&bytes);
        let end = groups.last().map_or(SEGMENT_HEADER_BYTES, Group::end);
        Some((name, bytes, groups, end))
    });
    read.collect()
}

/// Recovery stops one group early: the last one that says something is not seen.
pub(super) fn drop_last_group(disk: &LyingDisk) {
    for (name, mut bytes, groups, end) in segments(disk).into_iter().rev() {
        if groups.is_empty() {
            continue;
        }
        if let Some(last) = groups.iter().rfind(|group| group.entries > 0) {
            bytes[last.at..end].fill(0);
            disk.put(name, bytes);
        }
        return;
    }
}

/// Recovery appends the last group that says something once more.
pub(super) fn repeat_last_group(disk: &LyingDisk) {
    for (name, mut bytes, groups, end) in segments(disk).into_iter().rev() {
        let Some(last) = groups.last() else { continue };
        let Some(repeated) = groups.iter().rfind(|group| group.entries > 0) else { return };
        let length = repeated.end() - repeated.at;
        if end + length > bytes.len() {
            return;
        }
        let chain = last.chain(&bytes);
        let number = u64::from(u32_at(&bytes, last.at + NUMBER_AT)) + 1;
        bytes.copy_within(repeated.at..repeated.end(), end);
        put(&mut bytes, end + NUMBER_AT, &number.to_le_bytes());
        // No group is older than the one before it.
        bytes.copy_within(last.at + STORED_AT..last.at + STORED_AT + 8, end + STORED_AT);
        put(&mut bytes, end + STORED_AT + 8, &chain.to_le_bytes());
        let copy = Group { at: end, ..*repeated };
        let header = &bytes[copy.at..copy.at + GROUP_HEADER_BYTES];
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..4]), &header[16..]);
        put(&mut bytes, end + 4, &crc.to_le_bytes());
        copy.seal(&mut bytes);
        disk.put(name, bytes);
        return;
    }
}

/// Recovery believes a header: the group behind the last whole one gets a valid end.
pub(super) fn seal_torn_group(disk: &LyingDisk) {
    for (name, mut bytes, _, end) in segments(disk) {
        let Some(torn) = Group::read(&bytes, end) else { continue };
        torn.seal(&mut bytes);
        disk.put(name, bytes);
    }
}

/// The directory was never synced: the segments that were created last are gone.
pub(super) fn remove_newest(disk: &LyingDisk) {
    let names = disk.list().unwrap_or_default();
    let segments: Vec<_> =
        names.into_iter().filter(|name| matches!(name, FileName::Segment(1..))).collect();
    for name in segments.iter().rev().take(2) {
        // The disk of a simulation that nobody has told to fail removes what it is told to.
        let _ = disk.remove(*name);
    }
}

/// Where the ends of queues and the state begin in a checkpoint.
fn checkpoint_parts(bytes: &[u8]) -> (usize, usize) {
    let ends_at = CHECKPOINT_HEADER_BYTES + u32_at(bytes, FLOORS_AT) as usize * FLOOR_BYTES;
    (ends_at, ends_at + u32_at(bytes, ENDS_AT) as usize * END_BYTES)
}

/// A checkpoint that does not say where queues end.
pub(super) fn forget_ends(bytes: &mut Vec<u8>) {
    let (ends_at, state_at) = checkpoint_parts(bytes);
    bytes.drain(ends_at..state_at);
    put(bytes, ENDS_AT, &[0; 4]);
    seal_checkpoint(bytes);
}

/// Gives a checkpoint the checksums that fit it.
fn seal_checkpoint(bytes: &mut [u8]) {
    let body_crc = crc32c::crc32c(&bytes[CHECKPOINT_HEADER_BYTES..]);
    put(bytes, 68, &body_crc.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..76]);
    put(bytes, 76, &crc.to_le_bytes());
}

/// A damaged body gets the checksum that fits it, and the header of its record too.
pub(super) fn excuse_body(record: &mut [u8]) {
    let body = record.len().saturating_sub(u32_at(record, BODY_BYTES_AT) as usize);
    let crc = crc32c::crc32c(&record[body..]);
    put(record, BODY_CRC_AT, &crc.to_le_bytes());
    let crc = crc32c::crc32c(&record[..HEADER_CRC_AT]);
    let crc = crc32c::crc32c_append(crc, &record[BODY_CRC_AT..body]);
    put(record, HEADER_CRC_AT, &crc.to_le_bytes());
}

/// A batch whose delayed messages are due a fifth of a second earlier.
pub(super) fn bring_forward(bytes: &Bytes) -> Bytes {
    let Ok(batch) = Batch::parse(bytes.clone()) else { return bytes.clone() };
    let mut records = Vec::new();
    for record in batch.records() {
        let due = record.due().map(|due| due.0.saturating_sub(200).to_string());
        let earlier = |(name, value)| match &due {
            Some(due) if name == DUE => (name, &due[..]),
            _ => (name, value),
        };
        let properties: Vec<(&str, &str)> = record.properties().map(earlier).collect();
        encode_again(&record, (record.id(), record.flags()), &properties, &mut records);
    }
    batch::encode(batch.header(), batch.count(), &records)
}

/// A batch whose messages have no dedupe keys.
pub(super) fn drop_keys(bytes: &Bytes) -> Bytes {
    let Ok(batch) = Batch::parse(bytes.clone()) else { return bytes.clone() };
    let mut records = Vec::new();
    for record in batch.records() {
        let is_delayed = record.flags().has(Flags::DELAYED);
        let flags = if is_delayed { Flags::DELAYED } else { Flags::NONE };
        let properties: Vec<(&str, &str)> = record.properties().collect();
        encode_again(&record, (record.id(), flags), &properties, &mut records);
    }
    batch::encode(batch.header(), batch.count(), &records)
}

/// The same message with another value of a property, or without it.
pub(super) fn alter_property(bytes: &mut Bytes, name: &str, altered: Option<&str>) {
    let Ok(record) = Record::parse(bytes.clone()) else { return };
    if record.property(name).is_none() {
        return;
    }
    let properties = record.properties().filter_map(|(of, value)| {
        if of == name { altered.map(|altered| (of, altered)) } else { Some((of, value)) }
    });
    let properties: Vec<(&str, &str)> = properties.collect();
    let mut out = Vec::new();
    encode_again(&record, (record.id(), record.flags()), &properties, &mut out);
    *bytes = out.into();
}

/// The same message under another id.
pub(super) fn renew_id(bytes: &mut Bytes) {
    let Ok(record) = Record::parse(bytes.clone()) else { return };
    let mut id = record.id();
    id.0[15] ^= 1;
    let properties: Vec<(&str, &str)> = record.properties().collect();
    let mut out = Vec::new();
    encode_again(&record, (id, record.flags()), &properties, &mut out);
    *bytes = out.into();
}

fn encode_again(
    record: &Record,
    (id, flags): (MessageId, Flags),
    properties: &[(&str, &str)],
    out: &mut Vec<u8>,
) {
    let body = record.body();
    let parts = RecordParts {
        topic: record.topic(),
        queue: record.queue(),
        id,
        born: record.born(),
        flags,
        tag: record.tag(),
        properties,
        body: &body,
    };
    parts.encode(out).expect("it was within the limits before");
}
