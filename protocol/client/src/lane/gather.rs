//! Batches to be: records are encoded where they will be sent from.
use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use yard_wire::batch::{self, BatchHeader};
use yard_wire::{Code, QueueIndex, Refusal, TopicId};

use super::{Completion, LaneCore, LaneOptions, LaneRecord};

/// Batches that are kept for their memory when they were answered, while the lane is busy.
const USED_MAX: usize = 4;
/// Bytes of all of them.
const USED_BYTES_MAX: usize = 8 << 20;
/// Smaller ones are not worth it.
const USED_BYTES_MIN: usize = 4 << 10;

/// One record of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gathered {
    pub(super) topic: TopicId,
    pub(super) queue: QueueIndex,
    pub(super) parked: bool,
    /// Where it ends in the batch.
    pub(super) end: u32,
    pushed_ms: u64,
}

/// A batch to be, with at least one record but for the moment in which it is made.
#[derive(Debug)]
pub(super) struct Gathering {
    /// Ticket of the first record.
    first: u64,
    /// Room for the header, then the records.
    bytes: BytesMut,
    records: Vec<Gathered>,
}

impl Gathering {
    /// An empty one in `bytes`' memory, with room for so many records.
    pub(super) fn new(first: u64, mut bytes: BytesMut, records: usize) -> Self {
        bytes.clear();
        bytes.resize(batch::HEADER_BYTES, 0);
        Self { first, bytes, records: Vec::with_capacity(records) }
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// When the first record was pushed.
    pub(super) fn pushed_ms(&self) -> u64 {
        self.records.first().expect("a batch has at least one record").pushed_ms
    }

    pub(super) fn is_full(&self, options: &LaneOptions) -> bool {
        self.records.len() >= options.batch_records_max
            || self.bytes.len() >= options.batch_bytes_max
    }

    pub(super) fn has_room(&self, record: &LaneRecord, options: &LaneOptions) -> bool {
        self.records.len() < options.batch_records_max
            && self.bytes.len() + record.bytes <= options.batch_bytes_max
    }

    pub(super) fn push(
        &mut self,
        record: &LaneRecord,
        now_ms: u64,
        encode: impl FnOnce(&mut BytesMut),
    ) {
        let end = self.bytes.len() + record.bytes;
        encode(&mut self.bytes);
        assert_eq!(self.bytes.len(), end, "a record is as long as was announced");
        let LaneRecord { topic, queue, parked, bytes: _ } = *record;
        let end = u32::try_from(end).expect("a batch fits a frame");
        self.records.push(Gathered { topic, queue, parked, end, pushed_ms: now_ms });
    }

    pub(super) fn finish(mut self, header: &BatchHeader) -> (Vec<Gathered>, Bytes) {
        batch::finish(header, self.records.len(), &mut self.bytes);
        (self.records, self.bytes.freeze())
    }
}

impl LaneCore {
    /// Memory for a batch that begins with a record of so many bytes.
    pub(super) fn buffer(&mut self, record_bytes: usize) -> BytesMut {
        // The transport lets go of a batch when the last of its packets is acknowledged, which
        // may be after the answer.
        if let Some(used) = self.used.pop_front() {
            match used.try_into_mut() {
                Ok(buffer) => return buffer,
                Err(used) => self.used.push_back(used),
            }
        }
        let like_the_last = self.formed_bytes.min(self.options.batch_bytes_max);
        BytesMut::with_capacity(like_the_last.max(batch::HEADER_BYTES + record_bytes))
    }

    /// Keeps an answered batch for its memory.
    pub(super) fn keep(&mut self, batch: Bytes) {
        if batch.len() < USED_BYTES_MIN {
            return;
        }
        self.used.push_back(batch);
        let bytes = |used: &VecDeque<Bytes>| used.iter().map(Bytes::len).sum::<usize>();
        while self.used.len() > USED_MAX || bytes(&self.used) > USED_BYTES_MAX {
            self.used.pop_front();
        }
    }

    /// Gives up what is too old and was never sent.
    pub(super) fn give_up_unsent(&mut self, now_ms: u64) {
        let delivery_ms = self.options.delivery_ms;
        let is_old = |pushed_ms: u64| now_ms >= pushed_ms.saturating_add(delivery_ms);
        while let Some(mut front) = self.gathering.pop_front_if(|f| is_old(f.pushed_ms())) {
            let old = front.records.partition_point(|record| is_old(record.pushed_ms));
            yard_wire::mark!(LaneUnsent);
            let held_up = self.held_up.clone().filter(|_| self.connected);
            let refusal = held_up.unwrap_or_else(|| {
                let detail = "the message could not be sent in time: it is not stored";
                Refusal::new(Code::TimedOut, detail)
            });
            self.give_up(&mut front, old, &refusal);
            if !front.records.is_empty() {
                self.gathering.push_front(front);
            }
        }
    }

    /// Completes the first records of a batch to be, and takes them out of it.
    pub(super) fn give_up(&mut self, batch: &mut Gathering, count: usize, refusal: &Refusal) {
        let count = count.min(batch.records.len());
        assert!(count > 0, "a batch has at least one record");
        let end = batch.records[count - 1].end as usize;
        let bytes = end - batch::HEADER_BYTES;
        let tickets = batch.first..batch.first + count as u64;
        self.completions.push_back(Completion { tickets, bytes, result: Err(refusal.clone()) });
        batch.first += count as u64;
        batch.records.drain(..count);
        batch.records.iter_mut().for_each(|record| record.end -= bytes as u32);
        let records = batch.bytes.split_off(end);
        batch.bytes.truncate(batch::HEADER_BYTES);
        batch.bytes.extend_from_slice(&records);
    }
}
