//! Turns that seldom come.
use yard_store::FileName;
use yard_wire::record::RecordParts;
use yard_wire::requests::AckPlace;
use yard_wire::{Code, ShardId, Timestamp};

use super::Bench;
use crate::{OpenError, Shard, ShardConfig};

#[test]
fn fetch_goes_on_behind_what_was_lost() {
    let mut bench = Bench::new();
    let topic = bench.topic().id;
    bench.lose_what_was_settled(topic);
    bench.produce(topic, 100, AckPlace::Synced);
    bench.perform();
    for (from, count) in [(0, "2"), (2, "1"), (3, "1")] {
        assert_eq!(bench.fetch(from, 10), count, "records from {from} on");
    }
}

#[test]
fn a_batch_that_no_segment_holds_is_refused() {
    let mut bench = Bench::new();
    let topic = bench.topic().id;
    let mut put = |bytes: usize, sequence: u64| {
        let body = vec![7; bytes];
        let parts = RecordParts { topic, body: &body, ..RecordParts::default() };
        let correlation = bench.produce_records(&[parts], sequence, AckPlace::Synced);
        bench.perform();
        bench.reply(correlation).expect("it is answered").map(drop).map_err(|it| it.code)
    };
    assert_eq!(put(64 << 10, 0), Err(Code::BodyTooLarge));
    assert_eq!(put(60 << 10, 0), Ok(()), "its number is free, and the log goes on");
}

#[test]
fn a_state_that_is_not_understood_is_not_taken() {
    let mut bench = Bench::new();
    let topic = bench.topic().id;
    bench.fill(topic, 200);
    let mut bytes = bench.disk.contents(FileName::Checkpoint).expect("a segment was sealed");
    let state = u64::from_le_bytes(bytes[48..56].try_into().unwrap()) as usize;
    let begin = bytes.len() - state;
    bytes[begin..].fill(0xff);
    let body = crc32c::crc32c(&bytes[80..]);
    bytes[68..72].copy_from_slice(&body.to_le_bytes());
    let head = crc32c::crc32c(&bytes[..76]);
    bytes[76..80].copy_from_slice(&head.to_le_bytes());
    bench.disk.put(FileName::Checkpoint, bytes);
    let (shard, shards, seed) = (ShardId(0), 1, 1);
    let config = ShardConfig { shard, shards, segment_bytes: 64 << 10, seed, retention_hour: None };
    let opened = Shard::open(&bench.disk, config, Timestamp(9_000_000));
    assert!(matches!(opened.map(drop), Err(OpenError::State(_))));
}
