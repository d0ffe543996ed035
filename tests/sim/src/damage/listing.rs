//! What a shard over damaged files still has, and what it says about the rest.
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use yard_store::disk::FileName;
use yard_store::disk::lying::LyingDisk;
use yard_store::{Located, Lost, ReadError, Repair, Store};
use yard_wire::batch::{self, Batch, BatchHeader};
use yard_wire::request::Reply;
use yard_wire::requests::AckPlace;
use yard_wire::{ProducerId, QueueIndex, QueueOffset, RecordPlace, Sequence, ShardId, TopicId};

use super::survey::{Name, Survey};
use crate::message::{Letter, encode};
use crate::planted::{self, Plant};
use crate::powercut::bench::Bench;
use crate::powercut::script::SEGMENT_BYTES;

/// A producer that the log does not know.
const NEW_PRODUCER: u64 = 1 << 40;

/// Records that were read, and those that the log says are lost.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) records: BTreeMap<Name, Bytes>,
    pub(super) reported: BTreeSet<Name>,
}

/// Opens a shard and lists every queue.
///
/// # Errors
/// When it refuses to start, or when a queue cannot be walked to its end.
pub(super) fn list(
    disk: &LyingDisk,
    survey: &Survey,
    plant: Option<Plant>,
    damaged: FileName,
) -> Result<Listing, String> {
    let opened = Bench::open(disk, SEGMENT_BYTES, survey.now);
    let (mut bench, repairs) = opened.map_err(|error| format!("refused to start: {error}"))?;
    bench.settle();
    let mut listing = Listing::default();
    if plant != Some(Plant::DamageUnreported) {
        repairs.iter().for_each(|repair| report(repair, &mut listing.reported));
    }
    let store = bench.shard.store();
    for (topic, queue, first, end) in store.queues() {
        let mut at = first;
        while at < end {
            at = walk(store, disk, (topic, queue, at), (plant, damaged), &mut listing)?;
        }
    }
    if plant == Some(Plant::OffsetsSlide) {
        listing = slide(listing, survey);
    }
    Ok(listing)
}

/// What is sent to each queue after a damage is delivered.
///
/// # Errors
/// When one is refused, or stored and not delivered.
pub(super) fn deliver_new(disk: &LyingDisk, survey: &Survey) -> Result<(), String> {
    let now = survey.now.plus_ms(1_000);
    let opened = Bench::open(disk, SEGMENT_BYTES, now);
    let (mut bench, _) = opened.map_err(|error| format!("refused to start: {error}"))?;
    bench.settle();
    let mut stored = Vec::new();
    for (number, (topic, queue)) in (0..).zip(survey.queues.keys().copied()) {
        let letter = Letter {
            topic,
            queue,
            producer: NEW_PRODUCER,
            seq: number,
            order_group: None,
            dedupe: None,
            is_for_plugin: false,
            alike: None,
            packed: None,
            body_bytes: 100,
            born: now,
            due: None,
            expires: None,
            priority: None,
            tx: None,
        };
        let (shard, sequence) = (ShardId(0), Sequence(number));
        let producer = ProducerId(NEW_PRODUCER);
        let header = BatchHeader { producer, shard, sequence, ..BatchHeader::default() };
        let batch = batch::encode(&header, 1, &encode(&letter).0);
        let batch = Batch::parse(batch).map_err(|error| error.to_string())?;
        let asked = bench.produce(&batch, AckPlace::Synced, sequence);
        bench.settle();
        match bench.reply(asked) {
            Some(Ok(Reply::Produce(produced))) => {
                stored.push((topic, queue, produced.placed[0].first));
            }
            other => return Err(format!("new to {topic}.{queue}: {other:?}")),
        }
    }
    for name in &survey.topics {
        bench.subscribe(name);
    }
    bench.settle();
    let is_given = |(topic, queue, offset): &(TopicId, QueueIndex, QueueOffset)| {
        let mut given = bench.given.iter();
        given.any(|it| (it.topic, it.queue, it.offset) == (*topic, *queue, *offset))
    };
    match stored.iter().find(|place| !is_given(place)) {
        Some((topic, queue, at)) => Err(format!("new and not delivered: {topic}.{queue} at {at}")),
        None => Ok(()),
    }
}

/// What a repair says is lost.
fn report(repair: &Repair, reported: &mut BTreeSet<Name>) {
    let Repair::Quarantined { lost, .. } = repair else { return };
    for Lost { topic, queue, from, to } in lost {
        reported.extend((from.0..to.0).map(|offset| (*topic, *queue, offset)));
    }
}

/// Takes the records from an offset on, and says where to go on.
fn walk(
    store: &Store,
    disk: &LyingDisk,
    (topic, queue, at): (TopicId, QueueIndex, QueueOffset),
    (plant, damaged): (Option<Plant>, FileName),
    listing: &mut Listing,
) -> Result<QueueOffset, String> {
    let stuck = |what: &str| Err(format!("{topic}.{queue} at {at}: {what}"));
    let places = match store.locate(topic, queue, at, 1_000) {
        Located::Places(places) => places,
        Located::Read(read) => {
            let mut places =
                yard_store::read::index(disk, &read).map_err(|error| error.to_string())?;
            planted::alter_trusted(plant, damaged, &mut places);
            places
        }
        Located::Gap { until, .. } if until > at => return Ok(until),
        other => return stuck(&format!("{other:?}")),
    };
    if places.is_empty() {
        return stuck("no place");
    }
    for (offset, place) in (at.0..).zip(&places) {
        let name = (topic, queue, offset);
        match read_one(disk, place) {
            Ok(record) => {
                listing.records.insert(name, record);
            }
            Err(ReadError::Damaged { .. }) if plant != Some(Plant::DamageUnreported) => {
                listing.reported.insert(name);
            }
            Err(ReadError::Damaged { .. }) => {}
            Err(error) => return stuck(&error.to_string()),
        }
    }
    Ok(QueueOffset(at.0 + places.len() as u64))
}

fn read_one(disk: &LyingDisk, place: &RecordPlace) -> Result<Bytes, ReadError> {
    let mut records = yard_store::read::records(disk, std::slice::from_ref(place))?;
    Ok(records.pop().expect("one record a place"))
}

/// Planted: what follows a lost record takes its offset.
fn slide(listing: Listing, survey: &Survey) -> Listing {
    let mut slid = Listing { reported: listing.reported, ..Listing::default() };
    for ((topic, queue), records) in &survey.queues {
        let there = (0..records.len() as u64)
            .filter_map(|offset| listing.records.get(&(*topic, *queue, offset)).cloned());
        let numbered = (0..).zip(there).map(|(offset, it)| ((*topic, *queue, offset), it));
        slid.records.extend(numbered);
    }
    slid
}
