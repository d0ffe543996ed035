//! Whether a shard that is opened on what a cut has left keeps what was promised before the cut.
use std::collections::{BTreeMap, BTreeSet};

use yard_wire::request::Reply;
use yard_wire::requests::AckPlace;
use yard_wire::{QueueIndex, QueueOffset, TopicId};

use super::bench::{Bench, list_queue};
use super::image::Files;
use super::script::{Acked, Contents, Recording, SEGMENT_BYTES};
use crate::repairs::is_of_crash;

/// How long it takes until the machine is up again, in milliseconds.
const DOWN_MS: u64 = 5_000;

/// What was lost with the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Nothing that was written: the process was killed.
    Nothing,
    /// A part of what was not synced.
    Unsynced,
}

/// What one state has to keep, counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Judged {
    /// Batches whose acknowledgement holds in this state.
    pub(super) promised: u64,
    /// Batches that wait for their acknowledgement.
    pub(super) unanswered: u64,
}

/// Opens what is left after `at` steps and compares it with what was promised until then.
///
/// # Errors
/// The first promise that is broken.
pub(super) fn judge(
    recording: &Recording,
    contents: &Contents,
    files: &Files,
    (at, cut): (usize, Cut),
) -> Result<Judged, String> {
    let disk = files.disk();
    let now = recording.ended.plus_ms(DOWN_MS);
    let opened = Bench::open(&disk, SEGMENT_BYTES, now);
    let (mut bench, repairs) = opened.map_err(|error| format!("refused to start: {error}"))?;
    if let Some(repair) = repairs.iter().find(|repair| !is_of_crash(repair)) {
        return Err(format!("a cut was taken for damage: {repair:?}"));
    }
    let found = found_batches(&bench, contents)?;
    let mut judged = Judged::default();
    for (number, sent) in recording.sent.iter().enumerate() {
        let level = match cut {
            Cut::Nothing => AckPlace::Written,
            Cut::Unsynced => AckPlace::Synced,
        };
        match sent.answered {
            Some(answered) if answered <= at => {
                let counts = sent.place >= level;
                judged.promised += u64::from(counts);
                if counts && number >= found {
                    return Err(format!(
                        "lost: batch {number}, {:?}; {found} are there",
                        sent.place
                    ));
                }
            }
            Some(_) | None => judged.unanswered += u64::from(sent.asked_at <= at),
        }
    }
    if judge_progress(&mut bench, recording, contents, (at, found))? {
        judge_numbering(&mut bench, recording, found)?;
    }
    Ok(judged)
}

/// How many batches are there: a prefix of all, each whole, with the bytes that were sent.
fn found_batches(bench: &Bench<'_>, contents: &Contents) -> Result<usize, String> {
    let store = bench.shard.store();
    let mut counts: BTreeMap<(TopicId, QueueIndex), usize> = BTreeMap::new();
    for (topic, queue, first, end) in store.queues() {
        if first != QueueOffset(0) {
            return Err(format!("lost: {topic}.{queue} begins at {first}"));
        }
        if end == first {
            continue;
        }
        let name = (topic, queue);
        let records = list_queue(store, bench.disk, name)?;
        let expected = contents.queues.get(&name).map_or(&[][..], Vec::as_slice);
        if records.len() > expected.len() {
            return Err(format!("phantoms: {} in {topic}.{queue}", records.len()));
        }
        if let Some(at) = records.iter().zip(expected).position(|(it, wanted)| it != wanted) {
            return Err(format!("wrong bytes: {topic}.{queue} at {at}"));
        }
        counts.insert(name, records.len());
    }
    let found = contents.counts.iter().position(|after| *after == counts);
    found.ok_or_else(|| format!("a batch is there in parts: {counts:?}"))
}

/// What was acknowledged by consumers is not delivered again, everything else is, and topics
/// whose creation was answered are there. False when there is a topic whose creation was not
/// answered, and is not there.
fn judge_progress(
    bench: &mut Bench<'_>,
    recording: &Recording,
    contents: &Contents,
    (at, found): (usize, usize),
) -> Result<bool, String> {
    let mut all_there = true;
    for topic in &recording.topics {
        let asked = bench.subscribe(&topic.name);
        bench.settle();
        let is_there = matches!(bench.reply(asked), Some(Ok(_)));
        if topic.answered <= at && !is_there {
            return Err(format!("lost: {}: {:?}", topic.name, bench.reply(asked)));
        }
        all_there &= is_there;
    }
    let name = |acked: &Acked| (acked.given.topic, acked.given.queue, acked.given.offset);
    let asked: BTreeSet<_> = recording.acked.iter().map(name).collect();
    let durable = recording.acked.iter().filter(|acked| acked.answered.is_some_and(|it| it <= at));
    let durable: BTreeSet<_> = durable.map(name).collect();
    let given = bench.given.iter().map(|given| (given.topic, given.queue, given.offset));
    let given: BTreeSet<_> = given.collect();
    if given.len() != bench.given.len() {
        return Err("a message is delivered twice at once".to_owned());
    }
    if let Some(again) = given.intersection(&durable).next() {
        return Err(format!("delivered again after its acknowledgement: {again:?}"));
    }
    for ((topic, queue), count) in &contents.counts[found] {
        for offset in 0..*count as u64 {
            let message = (*topic, *queue, QueueOffset(offset));
            if !given.contains(&message) && !asked.contains(&message) {
                return Err(format!("never delivered: {message:?}"));
            }
        }
    }
    Ok(all_there)
}

/// A batch that is there is recognised when it is sent again; the first that is not is taken, and
/// gets its place.
fn judge_numbering(
    bench: &mut Bench<'_>,
    recording: &Recording,
    found: usize,
) -> Result<(), String> {
    let again = recording.sent[..found].last();
    let fresh = recording.sent.get(found);
    for (sent, is_known) in
        again.map(|it| (it, true)).into_iter().chain(fresh.map(|it| (it, false)))
    {
        let asked = bench.produce(&sent.batch, AckPlace::Synced, sent.floor);
        bench.settle();
        let produced = match bench.reply(asked) {
            Some(Ok(Reply::Produce(produced))) => produced,
            other => return Err(format!("sent again, a batch is answered {other:?}")),
        };
        let placed = sent.answered.is_none() || produced.placed == sent.placed;
        if produced.duplicate != is_known || !placed {
            return Err(format!("numbering: {produced:?}, known {is_known}, {:?}", sent.placed));
        }
    }
    Ok(())
}
