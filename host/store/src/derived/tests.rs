//! What every derived index promises: the same answers whichever way it came to a place in the log.
use yard_wire::record::{KEY, RecordParts};
use yard_wire::{
    LogPos, MessageId, QueueIndex, QueueOffset, RecordPlace, ShardId, Timestamp, TopicId,
};

use super::build::KeyBuilder;
use super::{DerivedIndex, LogPlace, RecordView, Sought};
use crate::format::keys::{KeyHash, RunBytes};
use crate::format::segment::SegmentHeader;
use crate::index::{Located, QueueIndexes};

const HEADER: SegmentHeader = SegmentHeader {
    shard: ShardId(3),
    segment: 4,
    capacity: 1 << 20,
    base: LogPos(4 << 20),
    salt: 0x1122,
};
const RECORDS: u32 = 60;

/// A record in the log: bytes, view without them.
type Stored = (Vec<u8>, TopicId, QueueIndex, QueueOffset, RecordPlace);

/// Records of four queues that take turns, some with a key, one with the same twice.
fn log() -> Vec<Stored> {
    let mut offset = 512;
    let record = |n: u32| {
        let (topic, queue) = (TopicId(n % 2), QueueIndex((n / 2 % 2) as u16));
        let key = format!("key-{}", n % 7);
        let properties = [(KEY, key.as_str()), (KEY, key.as_str())];
        let id = MessageId::new(Timestamp(9), n.into());
        let properties = &properties[..n as usize % 3];
        let parts = RecordParts { topic, queue, id, properties, ..RecordParts::default() };
        let mut bytes = Vec::new();
        parts.encode(&mut bytes).expect("within limits");
        let stored = Timestamp(1_000 + u64::from(n / 4));
        let place =
            RecordPlace { segment: 4, offset, bytes: bytes.len() as u32, stored, released: false };
        offset += place.bytes;
        (bytes, topic, queue, QueueOffset(u64::from(n / 4)), place)
    };
    (0..RECORDS).map(record).collect()
}

fn view(stored: &Stored) -> RecordView<'_> {
    let (bytes, topic, queue, offset, place) = stored;
    RecordView { topic: *topic, queue: *queue, offset: *offset, place: *place, bytes }
}

/// What an index answers to everything that can be asked about the log.
trait Answers: DerivedIndex {
    fn fresh() -> Self;
    fn answers(self) -> Vec<String>;
}

impl Answers for QueueIndexes {
    fn fresh() -> Self {
        Self::default()
    }

    fn answers(mut self) -> Vec<String> {
        self.commit_all();
        let mut all = Vec::new();
        for (topic, queue) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let (topic, queue) = (TopicId(topic), QueueIndex(queue));
            for offset in 0..=u64::from(RECORDS) / 4 {
                let found = self.locate(topic, queue, QueueOffset(offset), 3);
                assert!(!matches!(found, Located::Read(_) | Located::Gap { .. }));
                let sought = self.offset_at(topic, queue, Timestamp(1_000 + offset));
                assert!(matches!(sought, Sought::At(_)));
                all.push(format!("{topic} {queue} {offset}: {found:?} {sought:?}"));
            }
        }
        all
    }
}

impl Answers for KeyBuilder {
    fn fresh() -> Self {
        Self::new(HEADER, 512)
    }

    fn answers(self) -> Vec<String> {
        let run = self.finish();
        let salt = HEADER.salt;
        let ids =
            (0..RECORDS).map(|n| KeyHash::of_id(salt, &MessageId::new(Timestamp(9), n.into())));
        let keys =
            (0..14).map(|n| KeyHash::of_key(salt, TopicId(n % 2), &format!("key-{}", n / 2)));
        let mut all = vec![format!("{:?}", run.head())];
        for hash in ids.chain(keys) {
            let mut found = RunBytes::Memory(&run).find(hash, 0).expect("in memory");
            while let Some(entry) = found.next().expect("in memory") {
                all.push(format!("{entry:?}"));
            }
        }
        all
    }
}

fn conforms<I: Answers>() {
    let log = log();
    let straight = |records: &[Stored]| {
        let mut index = I::fresh();
        records.iter().for_each(|record| index.apply(&view(record)));
        index.answers()
    };
    let whole = straight(&log);
    assert!(whole.len() >= RECORDS as usize, "{} has answers", I::NAME);
    let mut twice = I::fresh();
    for record in &log {
        twice.apply(&view(record));
        twice.apply(&view(record));
    }
    log.iter().for_each(|record| twice.apply(&view(record)));
    assert_eq!(twice.answers(), whole, "{}: applied twice", I::NAME);
    for at in 0..=log.len() {
        let mut index = I::fresh();
        log.iter().for_each(|record| index.apply(&view(record)));
        let end = log.last().map_or(0, |last| last.4.offset + last.4.bytes);
        let from = log.get(at).map_or(end, |record| record.4.offset);
        index.truncate(LogPlace { segment: 4, offset: from });
        let (before, after) = log.split_at(at);
        let again = index.durable_to();
        let seen = before.iter().filter(|record| view(record).at() >= again);
        seen.chain(after).for_each(|record| index.apply(&view(record)));
        assert_eq!(index.answers(), whole, "{}: truncated at record {at}", I::NAME);
        let mut shorter = I::fresh();
        log.iter().for_each(|record| shorter.apply(&view(record)));
        shorter.truncate(LogPlace { segment: 4, offset: from });
        assert_eq!(shorter.answers(), straight(before), "{}: cut at record {at}", I::NAME);
    }
}

#[test]
fn every_derived_index_conforms() {
    conforms::<QueueIndexes>();
    conforms::<KeyBuilder>();
}
