//! The bytes of version 1, as a reader of another program would find them.
use std::sync::Arc;

use bytes::Bytes;
use yard_wire::release::{self, Notes, Release, Target};
use yard_wire::{
    GroupNumber, LogPos, QueueIndex, QueueOffset, ShardId, TenantId, Timestamp, TopicId,
};

use super::checkpoint::Checkpoint;
use super::entry::PlacedRun;
use super::group::GroupHeader;
use super::segment::SegmentHeader;
use super::sidecar::{IndexEntries, IndexEntry, IndexFile, Line, LineKind, SidecarHeader, Sums};
use super::{entry, group};
use crate::index::Floor;

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check(bytes: &[u8], hash: u64) {
    let found = xxhash_rust::xxh3::xxh3_64(bytes);
    assert!(found == hash, "hash {found:#x}, bytes {}", hexadecimal(bytes));
}

#[test]
fn the_head_of_a_segment() {
    let (shard, base) = (ShardId(3), LogPos(7 << 16));
    let head = SegmentHeader { shard, segment: 7, capacity: 1 << 16, base, salt: 0x1122 };
    let bytes = head.encode();
    check(&bytes, 0x2ef1_cef6_c960_9f27);
    assert_eq!(SegmentHeader::decode(bytes[..].try_into().unwrap()), Ok(head));
}

#[test]
fn a_batch_with_its_placements() {
    let (topic, queue) = (TopicId(7), QueueIndex(2));
    let runs = [(queue, 30, 2), (QueueIndex(3), 1 << 40, 1)];
    let runs = runs.map(|(queue, first, count)| {
        let first = Some(QueueOffset(first));
        PlacedRun { topic, queue, first, count }
    });
    let mut bytes = Vec::new();
    let of = (entry::BATCH, TenantId(5));
    entry::put_placed(of, runs.iter().copied(), (b"", b"the batch"), &mut bytes);
    check(&bytes, 0xfea0_c5dc_9f8b_2acc);
    let mut rest = Bytes::from(bytes);
    let found = entry::take_entry(&mut rest).unwrap();
    assert!(rest.is_empty() && found.placements.iter().eq(runs));
    assert_eq!((found.kind, found.payload_at()), (entry::BATCH, 24 + 36));
    assert_eq!(found.payload, "the batch");
}

#[test]
fn releases_with_their_placements() {
    let (topic, queue) = (TopicId(7), QueueIndex(2));
    let target = Target { segment: 1, offset: 2_048, bytes: 100, released: false };
    let notes = Notes::new([("$dead.group", "g")]);
    let releases = [
        Release::new(target, (topic, queue), Notes::default()),
        Release::new(Target { released: true, ..target }, (topic, queue), notes),
    ];
    let mut payload = Vec::new();
    release::put_all(&releases, &mut payload);
    payload.extend_from_slice(b"the broker's");
    let runs = [PlacedRun { topic, queue, first: Some(QueueOffset(30)), count: 2 }];
    let mut bytes = Vec::new();
    let of = (entry::RELEASE, TenantId(5));
    entry::put_placed(of, runs.iter().copied(), (b"", &payload), &mut bytes);
    check(&bytes, 0xa25b_b706_f70f_c52d);
    let found = entry::take_entry(&mut Bytes::from(bytes)).unwrap();
    let mut records = Vec::new();
    found.each_record(|record| records.push(record)).unwrap();
    let offsets: Vec<_> = records.iter().map(|record| (record.offset, record.bytes)).collect();
    assert_eq!(offsets, [(4, 100), (32, 116)]);
    assert!(records.iter().all(|record| record.refers_to == Some(1)));
    assert_eq!(records[1].queue_offset, Some(QueueOffset(31)));
}

#[test]
fn what_is_parked_is_in_the_placements_without_an_offset() {
    let (topic, queue) = (TopicId(7), QueueIndex(2));
    let run = |first, count| PlacedRun { topic, queue, first, count };
    let runs = [run(Some(QueueOffset(4)), 1), run(None, 2)];
    let mut bytes = Vec::new();
    entry::put_placed((entry::BATCH, TenantId(5)), runs.iter().copied(), (b"", b"b"), &mut bytes);
    let found = entry::take_entry(&mut Bytes::from(bytes)).unwrap();
    assert!(found.placements.iter().eq(runs));
}

#[test]
fn a_group() {
    let mut bytes = vec![0; group::HEADER_BYTES];
    entry::put_entry(2, TenantId(5), b"payload", &mut bytes);
    let header = GroupHeader {
        stored: Timestamp(9),
        previous_chain: 8,
        payload_bytes: 35,
        entries: 1,
        ..GroupHeader::new(ShardId(3), GroupNumber(4))
    };
    let chain = header.seal(0x1122, &mut bytes, 0);
    check(&bytes, 0xbc61_6f77_6964_c56f);
    assert_eq!(GroupHeader::decode(&bytes), Some((header, 0x1122)));
    assert_eq!(header.verify(&bytes), Some(chain));
    let mut other = [&[7; 5][..], &bytes[..group::HEADER_BYTES + 35]].concat();
    assert_eq!(header.seal(0x3344, &mut other, 5), chain, "the chain does not know the salt");
    let other = other.split_off(5);
    assert!(other[..8] == bytes[..8] && other[16..] == bytes[16..], "nor do the checksums");
}

#[test]
fn a_sidecar() {
    let header = SidecarHeader {
        shard: ShardId(3),
        segment: 7,
        salt: 0x1122,
        last_group: GroupNumber(4),
        chain: 8,
        last_stored: Timestamp(10),
        stored_base: Timestamp(9),
        end: 4_096,
        refers_from: Some(3),
    };
    let (topic, queue, first) = (TopicId(1), QueueIndex(2), QueueOffset(30));
    let (stored_base, kind) = (Timestamp(9), LineKind::Appended);
    let sums = Sums { bytes: 60_000, oldest_ms: 0, newest_ms: 599 };
    let line = Line { topic, queue, first, file_offset: 0, count: 600, kind, stored_base, sums };
    let (kind, sums) = (LineKind::Lost, Sums::default());
    let lost = Line { first: QueueOffset(630), count: 5, kind, sums, ..line };
    let mut entries = IndexEntries::default();
    for at in 0..600 {
        assert_eq!(entries.len(), at as usize);
        let offset = 512 + at * 100;
        entries.push(IndexEntry::new(100, at == 7, offset, at / 300));
    }
    for first in [0, 1, 511, 512, 513, 599] {
        let offsets: Vec<_> = entries.from(first).map(|entry| entry.offset).collect();
        let expected: Vec<_> = (first as u32..600).map(|at| 512 + at * 100).collect();
        assert_eq!(offsets, expected, "from {first}");
    }
    let (file, offsets) =
        IndexFile::new(header, vec![(line, Arc::new(entries)), (lost, Arc::default())]);
    let bytes = file.encode();
    assert_eq!(offsets, [256, 256 + 600 * 12 + 8]);
    check(&bytes, 0x86b9_ad0e_095f_ed7e);
}

#[test]
fn a_checkpoint() {
    let saved = Checkpoint {
        shard: ShardId(3),
        segment: 7,
        offset: 4_096,
        group: GroupNumber(4),
        chain: 8,
        stored: Timestamp(9),
        begins: 2,
        snapshot: Some(5),
        floors: vec![Floor {
            topic: TopicId(7),
            queue: QueueIndex(2),
            first: QueueOffset(30),
            front: QueueOffset(40),
        }],
        ends: vec![(TopicId(7), QueueIndex(3), QueueOffset(50))],
        is_from_log: false,
        state: Bytes::from_static(b"state"),
    };
    let bytes = saved.encode();
    check(&bytes, 0xb093_c9c5_0a39_2a67);
    assert_eq!(Checkpoint::decode(&bytes), Ok(saved));
}
