//! The batch: records of one lane, one shard and one moment, sent, stored and answered as one.
//!
//! ```text
//! offset size field
//!      0    4 length_bytes   the whole batch, this field included
//!      4    4 header_crc     CRC32C of bytes 0..4 and 8..48
//!      8    2 magic          0x4259
//!     10    2 version        1
//!     12    4 count          records: 1 to BATCH_RECORDS_MAX
//!     16    8 producer
//!     24    4 epoch
//!     28    2 lane
//!     30    2 shard          the shard that holds every queue of the batch
//!     32    8 sequence       of the first record; the others follow without gap
//!     40    8 reserved       0
//!     48    . records
//! ```
//!
//! The records carry their own checksums, so every byte is covered. A batch is stored as it
//! arrived; its numbering in the log is what makes a resend after a crash harmless.
use bytes::Bytes;

use crate::codec::Malformed;
use crate::record::{Address, Flags, Record};
use crate::{DedupeKey, Epoch, Lane, ProducerId, QueueIndex, Refusal, Sequence, ShardId, TopicId};
use crate::{limits, property};

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 48;
/// The version that this code writes.
pub const VERSION: u16 = 1;
const MAGIC: u16 = 0x4259;

/// Who sent a batch and which place it has in its lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchHeader {
    /// The idempotent producer.
    pub producer: ProducerId,
    /// Its incarnation.
    pub epoch: Epoch,
    /// Its lane; numbering is by (producer, epoch, shard, lane).
    pub lane: Lane,
    /// The shard that holds every queue of the batch.
    pub shard: ShardId,
    /// Number of the first record.
    pub sequence: Sequence,
}

/// Encodes a batch from records that are already encoded, one after another.
///
/// # Panics
/// When `count` or the size break the limits: the caller gathers within them.
#[must_use]
pub fn encode(header: &BatchHeader, count: usize, records: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(HEADER_BYTES + records.len());
    out.extend_from_slice(&[0; HEADER_BYTES]);
    out.extend_from_slice(records);
    finish(header, count, &mut out);
    Bytes::from(out)
}

/// Makes a batch of [`HEADER_BYTES`] of room and the records after it, in place.
///
/// # Panics
/// When there is no such room, or `count` or the size break the limits: the caller gathers
/// within them.
pub fn finish(header: &BatchHeader, count: usize, batch: &mut [u8]) {
    let length = batch.len();
    assert!((1..=limits::BATCH_RECORDS_MAX).contains(&count), "a batch has 1 to 16,384 records");
    assert!(length <= limits::BATCH_BYTES_MAX, "a batch fits a frame");
    let out = batch.first_chunk_mut::<HEADER_BYTES>().expect("there is room for the header");
    *out = [0; HEADER_BYTES];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &(length as u32).to_le_bytes());
    put(8, &MAGIC.to_le_bytes());
    put(10, &VERSION.to_le_bytes());
    put(12, &(count as u32).to_le_bytes());
    put(16, &header.producer.0.to_le_bytes());
    put(24, &header.epoch.0.to_le_bytes());
    put(28, &header.lane.0.to_le_bytes());
    put(30, &header.shard.0.to_le_bytes());
    put(32, &header.sequence.0.to_le_bytes());
    let crc = header_crc(out);
    out[4..8].copy_from_slice(&crc.to_le_bytes());
}

fn header_crc(header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..4]), &header[8..HEADER_BYTES])
}

/// Records of one queue that follow each other in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Topic of the queue.
    pub topic: TopicId,
    /// The queue.
    pub queue: QueueIndex,
    /// How many records, at least one.
    pub count: u32,
    /// They wait for a release: they get no place in the queue yet.
    pub parked: bool,
}

impl Run {
    fn goes_on_with(&self, next: &Self) -> bool {
        let of = |run: &Self| (run.topic, run.queue, run.parked);
        of(self) == of(next)
    }
}

/// A batch whose every byte was checked, with a table of its records: whoever has it need not look
/// at the bytes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
    runs: Vec<Run>,
    /// Offset in the batch of the byte after each record.
    ends: Vec<u32>,
    /// The dedupe keys of its records: which one, counted from 0, and its key; in order.
    dedupe_keys: Vec<(u32, DedupeKey)>,
    /// The first record that breaks the limits of a message.
    over: Option<Refusal>,
}

impl Batch {
    /// Reads a batch that must fill `bytes`: lengths, count, checksums of header, record headers
    /// and bodies. Whether topics and queues exist is not known here.
    ///
    /// # Errors
    /// [`Malformed`] with the first thing that is wrong.
    pub fn parse(bytes: Bytes) -> Result<Self, Malformed> {
        let (header, count) = parse_header(&bytes)?;
        let mut at = HEADER_BYTES;
        let room = count.min((bytes.len() - at) / crate::record::HEADER_BYTES);
        let mut ends = Vec::with_capacity(room);
        let mut runs: Vec<Run> = Vec::with_capacity(1);
        let mut dedupe_keys = Vec::new();
        let mut over = None;
        for number in 0..count {
            let (Address { topic, queue, flags, bytes: length }, limits) =
                Record::check_front(&bytes[at..])?;
            over = over.or(limits.err());
            let run = Run { topic, queue, count: 1, parked: flags.is_parked() };
            match runs.last_mut().filter(|last| last.goes_on_with(&run)) {
                Some(last) => last.count += 1,
                None => runs.push(run),
            }
            let end = at + length as usize;
            if flags.has(Flags::DEDUPE) {
                match Record::checked(bytes.slice(at..end)).dedupe_key() {
                    Some(Ok(key)) => dedupe_keys.push((number as u32, key)),
                    Some(Err(refusal)) => over = over.or(Some(refusal)),
                    None => {}
                }
            }
            at = end;
            ends.push(at as u32);
        }
        if at < bytes.len() {
            mark!(BatchTrailing);
            return Err(Malformed::Trailing { left: (bytes.len() - at) as u64 });
        }
        if over.is_some() {
            mark!(BatchOverLimits);
        }
        Ok(Self { header, bytes, runs, ends, dedupe_keys, over })
    }

    /// Sender and place in the lane.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All bytes of the batch, as they arrived.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many records; at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// The records, in order, as the queues in which they go: at least one run.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Where the records lie in the batch, in order: offset and length in bytes.
    pub fn places(&self) -> impl ExactSizeIterator<Item = (u32, u32)> {
        let mut at = HEADER_BYTES as u32;
        self.ends.iter().map(move |end| {
            let place = (at, end - at);
            at = *end;
            place
        })
    }

    /// The records, in order, sharing the memory of the batch; at least one.
    pub fn records(&self) -> impl ExactSizeIterator<Item = Record> {
        self.places().map(|(at, bytes)| {
            let (at, bytes) = (at as usize, bytes as usize);
            Record::checked(self.bytes.slice(at..at + bytes))
        })
    }

    /// The records that wait for a release, in order, each with its offset in the batch.
    pub fn parked(&self) -> impl Iterator<Item = (u32, Record)> {
        let is_parked = self.runs.iter().any(|run| run.parked);
        let places = is_parked.then(|| self.places().zip(self.records()));
        let all = places.into_iter().flatten().map(|((at, _), record)| (at, record));
        all.filter(|(_, record)| record.flags().is_parked())
    }

    /// The dedupe keys of its records: which record, counted from 0, and its key; in order.
    #[must_use]
    pub fn dedupe_keys(&self) -> &[(u32, DedupeKey)] {
        &self.dedupe_keys
    }

    /// Gives records the dedupe keys that somebody has computed for them, in place of their own.
    ///
    /// # Panics
    /// When they are not in the order of the records, or of records that there are not.
    pub fn set_dedupe_keys(&mut self, keys: Vec<(u32, DedupeKey)>) {
        assert!(keys.is_sorted_by(|one, next| one.0 < next.0), "in order, one a record");
        assert!(keys.last().is_none_or(|(last, _)| (*last as usize) < self.count()));
        self.dedupe_keys = keys;
    }

    /// The batch without these of its records, counted from 0 and in order, under the same number;
    /// `None` where none is left. The records that stay are copied.
    #[must_use]
    pub fn without(&self, left_out: &[u32]) -> Option<Self> {
        assert!(left_out.is_sorted_by(|one, next| one < next), "each is left out once");
        let mut out = Vec::with_capacity(self.bytes.len());
        out.resize(HEADER_BYTES, 0);
        let mut count = 0;
        let mut left_out = left_out.iter().peekable();
        for (number, (at, bytes)) in (0u32..).zip(self.places()) {
            if left_out.next_if_eq(&&number).is_none() {
                out.extend_from_slice(&self.bytes[at as usize..(at + bytes) as usize]);
                count += 1;
            }
        }
        assert!(left_out.next().is_none(), "only what is there is left out");
        if count == 0 {
            return None;
        }
        finish(&self.header, count, &mut out);
        Some(Self::parse(out.into()).expect("records that hold are a batch that holds"))
    }

    /// Checks every record against the limits of a message.
    ///
    /// # Errors
    /// As [`Record::check_limits`], for the first record that breaks them.
    pub fn check_limits(&self) -> Result<(), Refusal> {
        self.over.clone().map_or(Ok(()), Err)
    }

    /// Checks the words of every record: tags, and names of properties. It is for batches that come
    /// from producers; one that a broker has worked on may say more.
    ///
    /// # Errors
    /// As [`property::check_tag`] and [`property::check_sent_name`], for the first record that has
    /// a word that may not be.
    pub fn check_words(&self) -> Result<(), Refusal> {
        self.places().try_for_each(|(at, bytes)| {
            let (at, bytes) = (at as usize, bytes as usize);
            let (tag, mut names) = Record::peek_words(&self.bytes[at..at + bytes]);
            property::check_tag(tag)?;
            names.try_for_each(property::check_sent_name)
        })
    }

    /// Number after the last record's.
    #[must_use]
    pub fn next_sequence(&self) -> Sequence {
        Sequence(self.header.sequence.0 + self.count() as u64)
    }
}

/// Reads and checks the fixed part; returns it with the number of records.
///
/// # Errors
/// [`Malformed`] with the first thing that is wrong.
pub fn parse_header(bytes: &[u8]) -> Result<(BatchHeader, usize), Malformed> {
    if bytes.len() < HEADER_BYTES {
        mark!(BatchShort);
        return Err(Malformed::Short { wanted: HEADER_BYTES as u64, left: bytes.len() as u64 });
    }
    let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    if u16_at(8) != MAGIC {
        mark!(BatchMagic);
        return Err(Malformed::Field { what: "magic of a batch", value: u16_at(8).into() });
    }
    if u16_at(10) != VERSION {
        mark!(BatchVersion);
        return Err(Malformed::Field { what: "version of a batch", value: u16_at(10).into() });
    }
    if header_crc(&bytes[..HEADER_BYTES]) != u32_at(4) {
        mark!(BatchHeaderChecksum);
        return Err(Malformed::Checksum { what: "header of a batch" });
    }
    let length = u32_at(0) as usize;
    if length != bytes.len() {
        mark!(BatchLength);
        return Err(Malformed::Length {
            what: "length of a batch",
            found: length as u64,
            max: bytes.len() as u64,
        });
    }
    let count = u32_at(12) as usize;
    if count == 0 || count > limits::BATCH_RECORDS_MAX {
        mark!(BatchCount);
        return Err(Malformed::Length {
            what: "number of records",
            found: count as u64,
            max: limits::BATCH_RECORDS_MAX as u64,
        });
    }
    if u64_at(40) != 0 {
        mark!(BatchReserved);
        return Err(Malformed::Field { what: "reserved field of a batch", value: u64_at(40) });
    }
    let header = BatchHeader {
        producer: ProducerId(u64_at(16)),
        epoch: Epoch(u32_at(24)),
        lane: Lane(u16_at(28)),
        shard: ShardId(u16_at(30)),
        sequence: Sequence(u64_at(32)),
    };
    // So that the number after the last record's cannot overflow.
    if header.sequence.0 > u64::MAX / 2 {
        mark!(BatchSequence);
        return Err(Malformed::Field { what: "sequence", value: header.sequence.0 });
    }
    Ok((header, count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{DEDUPE, RecordParts};

    fn sample() -> Bytes {
        let mut records = Vec::new();
        for body in [&b"one"[..], b"two", b""] {
            let parts = RecordParts { body, ..RecordParts::default() };
            parts.encode(&mut records).expect("within limits");
        }
        let header = BatchHeader {
            producer: ProducerId(11),
            epoch: Epoch(2),
            lane: Lane(3),
            shard: ShardId(1),
            sequence: Sequence(40),
        };
        encode(&header, 3, &records)
    }

    #[test]
    fn what_is_written_is_read() {
        let batch = Batch::parse(sample()).expect("well-formed");
        assert_eq!(batch.header().sequence, Sequence(40));
        assert_eq!(batch.next_sequence(), Sequence(43));
        assert_eq!(batch.records().len(), 3);
        let bodies: Vec<Bytes> = batch.records().map(|record| record.body()).collect();
        assert_eq!(bodies, [&b"one"[..], b"two", b""]);
        assert_eq!(
            batch.places().map(|(_, bytes)| bytes).sum::<u32>() as usize,
            sample().len() - 48
        );
        let (topic, queue) = (TopicId(0), QueueIndex(0));
        assert_eq!(batch.runs(), [Run { topic, queue, count: 3, parked: false }]);
        assert_eq!(batch.bytes(), &sample());
    }

    #[test]
    fn runs_and_limits_of_mixed_records() {
        let mut records = Vec::new();
        let queues = [1, 1, 2, 1];
        for queue in queues {
            let tag = "t".repeat(limits::TAG_BYTES_MAX);
            let parts = RecordParts { queue: QueueIndex(queue), tag: &tag, ..Default::default() };
            parts.encode(&mut records).expect("within limits");
        }
        let batch = Batch::parse(encode(&BatchHeader::default(), 4, &records)).expect("whole");
        let runs: Vec<_> = batch.runs().iter().map(|run| (run.queue.0, run.count)).collect();
        assert_eq!(runs, [(1, 2), (2, 1), (1, 1)]);
        let found: Vec<_> = batch.records().map(|record| record.queue().0).collect();
        assert_eq!(found, queues);
        assert_eq!(batch.check_limits(), Ok(()));
        assert_eq!(batch.parked().count(), 0);
    }

    #[test]
    fn what_waits_is_in_runs_of_its_own() {
        let mut records = Vec::new();
        let flags = [Flags::NONE, Flags::DELAYED, Flags::PREPARED, Flags::NONE];
        for flags in flags {
            let parts = RecordParts { flags, ..Default::default() };
            parts.encode(&mut records).expect("within limits");
        }
        let batch = Batch::parse(encode(&BatchHeader::default(), 4, &records)).expect("whole");
        let runs: Vec<_> = batch.runs().iter().map(|run| (run.parked, run.count)).collect();
        assert_eq!(runs, [(false, 1), (true, 2), (false, 1)]);
        let parked: Vec<_> = batch.parked().map(|(at, record)| (at, record.flags())).collect();
        assert_eq!(parked, [(48 + 80, Flags::DELAYED), (48 + 160, Flags::PREPARED)]);
    }

    #[test]
    fn dedupe_keys_are_found_and_records_left_out() {
        let mut records = Vec::new();
        let long = "x".repeat(limits::DEDUPE_KEY_BYTES_MAX + 1);
        let keys = [Some("a"), None, Some("b"), Some("a"), None];
        let put = |key: Option<&str>, flags: Flags, records: &mut Vec<u8>| {
            let properties: Vec<_> = key.iter().map(|key| (DEDUPE, *key)).collect();
            let parts = RecordParts { flags, properties: &properties, ..Default::default() };
            parts.encode(records).expect("within limits");
        };
        for key in keys {
            let flags = if key.is_some() { Flags::DEDUPE } else { Flags::NONE };
            put(key, flags, &mut records);
        }
        let header = BatchHeader { sequence: Sequence(40), ..BatchHeader::default() };
        let batch = Batch::parse(encode(&header, 5, &records)).expect("whole");
        let [a, b] = ["a", "b"].map(|key| DedupeKey::of(key).expect("within limits"));
        assert_eq!(batch.dedupe_keys(), [(0, a), (2, b), (3, a)]);
        let left = batch.without(&[0, 4]).expect("three are left");
        assert_eq!((left.count(), left.header()), (3, batch.header()));
        assert_eq!(left.dedupe_keys(), [(1, b), (2, a)]);
        assert!(left.records().eq(batch.records().skip(1).take(3)));
        assert_eq!(batch.without(&[0, 1, 2, 3, 4]), None);
        for bad in ["", &long] {
            let mut records = Vec::new();
            put(Some(bad), Flags::DEDUPE, &mut records);
            let batch = Batch::parse(encode(&header, 1, &records)).expect("whole");
            let refusal = batch.check_limits().expect_err("no key");
            assert_eq!(refusal.code, crate::Code::BadDedupeKey);
        }
        // Without the flag the property is only a property.
        let mut records = Vec::new();
        put(Some("a"), Flags::NONE, &mut records);
        let batch = Batch::parse(encode(&header, 1, &records)).expect("whole");
        assert!(batch.dedupe_keys().is_empty() && batch.check_limits().is_ok());
    }

    #[test]
    fn every_flipped_bit_and_every_prefix_is_refused() {
        let good = sample();
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Batch::parse(bad.into()).is_err(), "bit {bit}");
        }
        for end in 0..good.len() {
            assert!(Batch::parse(good.slice(..end)).is_err(), "prefix {end}");
        }
    }
}
