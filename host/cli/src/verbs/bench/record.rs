//! What happened, as text that the checker of histories judges: one event a line.
//!
//! The format is that of `tests/checker/src/text.rs`. Producers are numbered over all rounds, a
//! topic is its round, times are nanoseconds since the program began to record.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use flate2::Crc;
use yard_client::{Ack, Client, Delivery, QueueIndex, QueueOffset, SendResult};

use super::load::{Bodies, Stamp};
use crate::failure::Failure;

/// Messages asked for at once by the last scan.
const SCAN_MESSAGES: u32 = 4_096;
/// Producers of a round.
const PRODUCERS: u64 = 1 << 20;

/// Writes a history.
pub(crate) struct Recorder {
    out: Mutex<BufWriter<File>>,
    epoch: Instant,
    round: AtomicU64,
    failed: Mutex<Option<io::Error>>,
}

/// One consumer of a group, as the history names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) group: u64,
    pub(crate) client: u64,
}

/// What one consumer was given, by queue.
pub(crate) type Given = BTreeMap<QueueIndex, Vec<(QueueOffset, u32)>>;

/// The hash by which a body is recognised.
pub(crate) fn hash(body: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(body);
    crc.sum()
}

impl Recorder {
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|why| {
            Failure::local(format!("{} cannot be written: {why}", path.display()))
        })?;
        let (out, round) = (Mutex::new(BufWriter::new(file)), AtomicU64::new(0));
        Ok(Self { out, epoch: Instant::now(), round, failed: Mutex::new(None) })
    }

    /// What comes now belongs to the next topic.
    pub(crate) fn next_topic(&self) {
        self.round.fetch_add(1, Ordering::AcqRel);
    }

    fn topic(&self) -> u64 {
        self.round.load(Ordering::Acquire)
    }

    fn ns(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_nanos() as u64
    }

    fn line(&self, line: &str) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(why) = writeln!(out, "{line}") {
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        }
    }

    /// Producer and sequence of a message of this topic.
    fn name(&self, stamp: Stamp) -> (u64, u64) {
        (self.topic() * PRODUCERS + stamp.line(), stamp.sequence())
    }

    /// A message was stored.
    pub(crate) fn sent(
        &self,
        stamp: Stamp,
        hash: u32,
        (invoked, completed): (Instant, Instant),
        result: &SendResult,
    ) {
        let (producer, sequence) = self.name(stamp);
        let level = match result.place {
            Ack::Synced => String::new(),
            other => format!(" level={}", other.text()),
        };
        let SendResult { queue, offset, .. } = result;
        let offset = offset.expect("what a load sends is not delayed");
        self.line(&format!(
            "send q={}/{queue} p={producer} s={sequence} h={hash:x}{level} at={}..{} ok@{offset}",
            self.topic(),
            self.ns(invoked),
            self.ns(completed)
        ));
    }

    /// Messages were received; `given` learns of them.
    pub(crate) fn polled(
        &self,
        member: Member,
        (invoked, completed): (Instant, Instant),
        deliveries: &[Delivery],
        given: &mut Given,
    ) {
        let mut by_queue: BTreeMap<QueueIndex, String> = BTreeMap::new();
        for delivery in deliveries {
            let (body, offset) = (delivery.record().body(), delivery.offset());
            let stamp = Bodies::stamp(&body).unwrap_or_default();
            let (producer, sequence) = self.name(stamp);
            let (hash, attempt) = (hash(&body), delivery.attempt());
            let word = format!(" {offset}={producer}.{sequence}:{hash:x}:{attempt}");
            by_queue.entry(delivery.queue()).or_default().push_str(&word);
            given.entry(delivery.queue()).or_default().push((offset, attempt));
        }
        let (topic, Member { group, client }) = (self.topic(), member);
        let (from, to) = (self.ns(invoked), self.ns(completed));
        for (queue, words) in by_queue {
            self.line(&format!(
                "poll q={topic}/{queue} g={group} c={client} at={from}..{to}{words}"
            ));
        }
    }

    /// All that a consumer was given was acknowledged, and is durable at `completed`. A message
    /// that came again had lost its lease: whether the first acknowledgement counted is not known.
    pub(crate) fn acknowledged(
        &self,
        member: Member,
        (invoked, completed): (Instant, Instant),
        given: Given,
    ) {
        let (topic, Member { group, client }) = (self.topic(), member);
        let (begun, done) = (self.ns(invoked), self.ns(completed));
        for (queue, mut offsets) in given {
            offsets.sort_unstable();
            let is_certain = offsets.iter().all(|(_, attempt)| *attempt == 1);
            let outcome = if is_certain { "ok" } else { "unknown" };
            for (from, to) in ranges(offsets.iter().map(|(offset, _)| offset.0)) {
                self.line(&format!(
                    "settle q={topic}/{queue} g={group} c={client} at={begun}..{done} \
                     ack {from}..{to} {outcome}"
                ));
            }
        }
    }

    /// Reads every queue from its beginning to its end: what is stored.
    pub(crate) async fn scan(
        &self,
        client: &Client,
        topic: &str,
        queues: u16,
    ) -> Result<(), Failure> {
        for queue in 0..queues {
            let (mut from, mut first, mut words) = (QueueOffset(0), None, String::new());
            let begun = Instant::now();
            loop {
                let fetched = client.fetch(topic, QueueIndex(queue), from, SCAN_MESSAGES).await?;
                let Some(last) = fetched.records.last() else { break };
                from = QueueOffset(last.offset.0 + 1);
                for fetched in fetched.records {
                    first.get_or_insert(fetched.offset);
                    let record = yard_client::Record::parse(fetched.record)?;
                    let stamp = Bodies::stamp(&record.body()).unwrap_or_default();
                    let (producer, sequence) = self.name(stamp);
                    let hash = hash(&record.body());
                    words.push_str(&format!(" {}={producer}.{sequence}:{hash:x}", fetched.offset));
                }
            }
            let (at, start) = (self.ns(begun), first.map_or(0, |offset| offset.0));
            self.line(&format!("scan q={}/{queue} at={at} from={start}{words}", self.topic()));
        }
        Ok(())
    }

    /// Everything is in the file, or why not.
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        let flushed = self.out.lock().unwrap_or_else(PoisonError::into_inner).flush();
        let first = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let written = first.map_or(flushed, Err);
        written.map_err(|why| Failure::local(format!("the history cannot be written: {why}")))
    }
}

/// Numbers in order, as ranges without gaps.
fn ranges(numbers: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, to)) if *to == number => *to += 1,
            // The same message may have come twice.
            Some((_, to)) if *to == number + 1 => {}
            Some(_) | None => ranges.push((number, number + 1)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_ranges() {
        let check = |numbers: &[u64], expected: &[(u64, u64)]| {
            assert_eq!(ranges(numbers.iter().copied()), expected);
        };
        check(&[], &[]);
        check(&[3], &[(3, 4)]);
        check(&[0, 1, 2, 5, 6, 9], &[(0, 3), (5, 7), (9, 10)]);
        check(&[1, 1, 2], &[(1, 3)]);
    }
}
