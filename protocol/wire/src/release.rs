//! The release: what gives a stored record its place in a queue, or a second place in another one,
//! without writing its body again.
//!
//! ```text
//! offset size field
//!      0    4 length_bytes    the whole release, this field included
//!      4    4 crc             CRC32C of bytes 0..4 and 8..length
//!      8    4 segment         of the log, that holds the target
//!     12    4 offset          of the target in that segment's file
//!     16    4 bytes           of the target as its readers get it; the highest bit: the target is
//!                             a release itself
//!     20    4 topic           where the record becomes visible
//!     24    2 queue
//!     26    2 notes           how many
//!     28    . notes           (u16 name length, u16 value length, name, value)*, UTF-8
//! ```
//!
//! An entry of releases in the log is their count (u32), the releases one after another, and
//! whatever the broker adds. A reader of a place that has a release goes on to the target. What it
//! gives is the target, byte for byte, when the release has no notes and the target's own topic
//! and queue; else the target with the release's topic and queue and with the notes before its own
//! properties: the same id and body. Targets lie before their releases, so chains end.
use bytes::Bytes;

use crate::codec::Malformed;
use crate::limits::{BATCH_BYTES_MAX, NOTES_BYTES_MAX, RELEASES_MAX};
use crate::record::{self, Address, PROPERTY_HEADER_BYTES, Record, property_header};
use crate::{QueueIndex, RecordPlace, Timestamp, TopicId};

/// Bytes before the notes.
pub const HEADER_BYTES: usize = 28;
/// Bytes before the first release of an entry.
pub const COUNT_BYTES: usize = 4;
/// Set in the bytes of a place that has a release.
pub const RELEASED_BIT: u32 = 1 << 31;
const CRC_AT: usize = 4;

const _: () = assert!(BATCH_BYTES_MAX < RELEASED_BIT as usize);
const _: () = assert!(record::HEADER_BYTES > HEADER_BYTES);

/// Where something lies in the log of its shard: a record, or a release of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Number of the log's segment.
    pub segment: u32,
    /// Byte offset in the segment's file.
    pub offset: u32,
    /// Bytes of the record as its readers get it.
    pub bytes: u32,
    /// What lies there is a release of the record.
    pub released: bool,
}

impl Target {
    /// The target as a place, stored then.
    #[must_use]
    pub fn place(self, stored: Timestamp) -> RecordPlace {
        let Self { segment, offset, bytes, released } = self;
        RecordPlace { segment, offset, bytes, stored, released }
    }
}

impl From<RecordPlace> for Target {
    fn from(place: RecordPlace) -> Self {
        let RecordPlace { segment, offset, bytes, released, stored: _ } = place;
        Self { segment, offset, bytes, released }
    }
}

/// A stored record and the queue in which it becomes visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    target: Target,
    topic: TopicId,
    queue: QueueIndex,
    notes: Notes,
}

/// Properties that are added to a record, encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    count: u16,
    bytes: Bytes,
}

impl Notes {
    /// Notes of these names and values, in order.
    ///
    /// # Panics
    /// When they have more than [`NOTES_BYTES_MAX`] bytes, lengths included: whoever makes notes
    /// bounds them.
    #[must_use]
    pub fn new<'a>(notes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let (mut bytes, mut count) = (Vec::new(), 0);
        for (name, value) in notes {
            let added = PROPERTY_HEADER_BYTES + name.len() + value.len();
            assert!(bytes.len() + added <= NOTES_BYTES_MAX, "notes are bounded");
            bytes.extend_from_slice(&property_header(name, value));
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(value.as_bytes());
            count += 1;
        }
        Self { count, bytes: bytes.into() }
    }
}

impl Release {
    /// A release of what lies at `target`.
    ///
    /// # Panics
    /// When the target with the notes would be larger than a record can be.
    #[must_use]
    pub fn new(target: Target, (topic, queue): (TopicId, QueueIndex), notes: Notes) -> Self {
        let release = Self { target, topic, queue, notes };
        let given = release.given_bytes() as usize;
        assert!((record::HEADER_BYTES..=BATCH_BYTES_MAX).contains(&given), "a record is bounded");
        release
    }

    /// What it gives a place to.
    #[must_use]
    pub fn target(&self) -> Target {
        self.target
    }

    /// Topic of the queue in which the record becomes visible.
    #[must_use]
    pub fn topic(&self) -> TopicId {
        self.topic
    }

    /// The queue in which the record becomes visible.
    #[must_use]
    pub fn queue(&self) -> QueueIndex {
        self.queue
    }

    /// The properties that it adds, in order.
    pub fn notes(&self) -> impl Iterator<Item = (&str, &str)> {
        record::split_properties(&self.notes.bytes)
    }

    /// Bytes of the record as readers of the new place get it.
    #[must_use]
    pub fn given_bytes(&self) -> u32 {
        self.target.bytes + self.notes.bytes.len() as u32
    }

    /// Bytes of the release itself.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        HEADER_BYTES + self.notes.bytes.len()
    }

    /// Appends its bytes to `out`.
    pub fn put(&self, out: &mut Vec<u8>) {
        let at = out.len();
        let Self { target, topic, queue, notes } = self;
        assert!(target.bytes < RELEASED_BIT, "a record is bounded");
        let bytes = target.bytes | if target.released { RELEASED_BIT } else { 0 };
        out.extend_from_slice(&(self.encoded_bytes() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&target.segment.to_le_bytes());
        out.extend_from_slice(&target.offset.to_le_bytes());
        out.extend_from_slice(&bytes.to_le_bytes());
        out.extend_from_slice(&topic.0.to_le_bytes());
        out.extend_from_slice(&queue.0.to_le_bytes());
        out.extend_from_slice(&notes.count.to_le_bytes());
        out.extend_from_slice(&notes.bytes);
        let crc = crc(&out[at..]);
        out[at + CRC_AT..at + CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    }

    /// The announced length of the release at the front of `input`, of which the header must be
    /// there.
    ///
    /// # Errors
    /// [`Malformed`] when there is no header, or the length cannot be that of a release.
    pub fn peek_length(input: &[u8]) -> Result<usize, Malformed> {
        let Some(length) = input.get(..HEADER_BYTES).map(|head| u32_at(head, 0) as usize) else {
            mark!(ReleaseShort);
            let (wanted, left) = (HEADER_BYTES as u64, input.len() as u64);
            return Err(Malformed::Short { wanted, left });
        };
        let max = HEADER_BYTES + NOTES_BYTES_MAX;
        if !(HEADER_BYTES..=max).contains(&length) {
            mark!(ReleaseLength);
            let (found, max) = (length as u64, max as u64);
            return Err(Malformed::Length { what: "length of a release", found, max });
        }
        Ok(length)
    }

    /// Takes one release off the front of `input`, and checks it.
    ///
    /// # Errors
    /// [`Malformed`] with what is wrong; `input` is then unchanged.
    pub fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let length = Self::peek_length(input)?;
        if length > input.len() {
            mark!(ReleaseCut);
            let (wanted, left) = (length as u64, input.len() as u64);
            return Err(Malformed::Short { wanted, left });
        }
        let bytes = &input[..length];
        if crc(bytes) != u32_at(bytes, CRC_AT) {
            mark!(ReleaseChecksum);
            return Err(Malformed::Checksum { what: "release" });
        }
        let target = Target {
            segment: u32_at(bytes, 8),
            offset: u32_at(bytes, 12),
            bytes: u32_at(bytes, 16) & !RELEASED_BIT,
            released: u32_at(bytes, 16) & RELEASED_BIT != 0,
        };
        let (topic, queue) = (TopicId(u32_at(bytes, 20)), QueueIndex(u16_at(bytes, 24)));
        let count = u16_at(bytes, 26);
        record::check_properties(&bytes[HEADER_BYTES..], count.into())?;
        let given = target.bytes as usize + length - HEADER_BYTES;
        if !(record::HEADER_BYTES..=BATCH_BYTES_MAX).contains(&given) {
            mark!(ReleaseTarget);
            let (found, max) = (given as u64, BATCH_BYTES_MAX as u64);
            return Err(Malformed::Length { what: "target of a release", found, max });
        }
        let notes = Notes { count, bytes: input.split_to(length).slice(HEADER_BYTES..) };
        Ok(Self { target, topic, queue, notes })
    }

    /// Whether readers of this release get a record with this address byte for byte.
    #[must_use]
    pub fn gives_as_stored(&self, address: &Address) -> bool {
        let is_its = (address.topic, address.queue) == (self.topic, self.queue);
        is_its && self.notes.count == 0 && address.bytes == self.target.bytes
    }

    /// What readers of this release get of `inner`, which is what readers of the target get.
    ///
    /// # Errors
    /// [`Malformed`] when `inner` is not a whole record of the length that the release says.
    pub fn apply(&self, inner: Bytes) -> Result<Bytes, Malformed> {
        let record = Record::parse(inner)?;
        let found = record.bytes().len() as u64;
        if found != u64::from(self.target.bytes) {
            mark!(ReleaseOther);
            let max = self.target.bytes.into();
            return Err(Malformed::Length { what: "released record", found, max });
        }
        if self.gives_as_stored(&Record::peek_address(record.bytes())?) {
            return Ok(record.bytes().clone());
        }
        let rebuilt = record.noted(self.topic, self.queue, self.notes.count, &self.notes.bytes)?;
        assert_eq!(rebuilt.len(), self.given_bytes() as usize, "notes are all that is added");
        Ok(rebuilt)
    }
}

/// The count and the releases as an entry of the log begins with them.
///
/// # Panics
/// When they are none or more than [`RELEASES_MAX`].
pub fn put_all(releases: &[Release], out: &mut Vec<u8>) {
    assert!((1..=RELEASES_MAX).contains(&releases.len()), "an entry releases something, bounded");
    out.extend_from_slice(&(releases.len() as u32).to_le_bytes());
    releases.iter().for_each(|release| release.put(out));
}

/// Takes the releases off the front of an entry's payload; what is left is the broker's.
///
/// # Errors
/// [`Malformed`] with the first thing that is wrong.
pub fn take_all(payload: &mut Bytes) -> Result<Vec<Release>, Malformed> {
    if payload.len() < COUNT_BYTES {
        mark!(ReleasesShort);
        let (wanted, left) = (COUNT_BYTES as u64, payload.len() as u64);
        return Err(Malformed::Short { wanted, left });
    }
    let count = u32_at(payload, 0) as usize;
    if !(1..=RELEASES_MAX).contains(&count) {
        mark!(ReleasesCount);
        let (found, max) = (count as u64, RELEASES_MAX as u64);
        return Err(Malformed::Length { what: "number of releases", found, max });
    }
    let mut rest = payload.slice(COUNT_BYTES..);
    let mut releases = Vec::with_capacity(count.min(rest.len() / HEADER_BYTES));
    for _ in 0..count {
        releases.push(Release::take(&mut rest)?);
    }
    *payload = rest;
    Ok(releases)
}

fn crc(release: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&release[..CRC_AT]), &release[CRC_AT + 4..])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MessageId;
    use crate::record::{DUE, Flags, RecordParts};

    const PLACE: (TopicId, QueueIndex) = (TopicId(4), QueueIndex(2));

    fn record() -> Bytes {
        let (topic, queue) = PLACE;
        let (id, flags, tag) = (MessageId([7; 16]), Flags::DELAYED, "t");
        let properties = &[(DUE, "5")];
        let parts = RecordParts { topic, queue, id, flags, tag, properties, ..Default::default() };
        let parts = RecordParts { body: b"the body", ..parts };
        let mut out = Vec::new();
        parts.encode(&mut out).expect("within limits");
        out.into()
    }

    fn target(record: &Bytes, released: bool) -> Target {
        Target { segment: 3, offset: 4_096, bytes: record.len() as u32, released }
    }

    #[test]
    fn without_notes_the_record_comes_as_it_was_stored() {
        let record = record();
        let release = Release::new(target(&record, false), PLACE, Notes::default());
        assert_eq!(release.apply(record.clone()), Ok(record.clone()));
        assert_eq!(release.given_bytes() as usize, record.len());
        let longer = Target { bytes: record.len() as u32 + 1, ..target(&record, false) };
        Release::new(longer, PLACE, Notes::default()).apply(record).unwrap_err();
    }

    #[test]
    fn notes_and_another_queue_make_the_same_message_anew() {
        let record = record();
        let notes = Notes::new([("$dead.group", "g"), ("$dead.reason", "")]);
        let to = (TopicId(9), QueueIndex(0));
        let release = Release::new(target(&record, false), to, notes);
        let given = release.apply(record.clone()).expect("a whole record");
        assert_eq!(given.len(), release.given_bytes() as usize);
        let given = Record::parse(given).expect("whole");
        let old = Record::parse(record).expect("whole");
        assert_eq!((given.topic(), given.queue()), to);
        assert_eq!((given.id(), given.tag(), given.flags()), (old.id(), "t", Flags::DELAYED));
        assert_eq!(given.body(), old.body());
        let properties: Vec<_> = given.properties().collect();
        assert_eq!(properties, [("$dead.group", "g"), ("$dead.reason", ""), (DUE, "5")]);
        // A release of a release: what is newest is found first.
        let again = Notes::new([("$dead.group", "h")]);
        let release = Release::new(target(given.bytes(), true), PLACE, again);
        let given = Record::parse(release.apply(given.bytes().clone()).unwrap()).unwrap();
        assert_eq!(given.property("$dead.group"), Some("h"));
        assert_eq!((given.topic(), given.queue()), PLACE);
    }

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_is_noticed() {
        let record = record();
        let releases = [
            Release::new(target(&record, false), PLACE, Notes::default()),
            Release::new(target(&record, true), PLACE, Notes::new([("a", "b")])),
        ];
        let mut bytes = Vec::new();
        put_all(&releases, &mut bytes);
        assert_eq!(bytes.len(), COUNT_BYTES + 2 * HEADER_BYTES + 6);
        bytes.extend_from_slice(b"rest");
        let mut input = Bytes::from(bytes.clone());
        assert_eq!(take_all(&mut input).unwrap(), releases);
        assert_eq!(input, "rest");
        for bit in COUNT_BYTES * 8..(bytes.len() - 4) * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(take_all(&mut Bytes::from(bad)).is_err(), "bit {bit}");
        }
        for end in 0..bytes.len() - 4 {
            assert!(take_all(&mut Bytes::copy_from_slice(&bytes[..end])).is_err(), "prefix {end}");
        }
    }

    #[test]
    fn what_is_released_is_as_large_as_a_record_may_be() {
        let check = |notes: Notes, bytes: usize, is_one: bool| {
            let given = (bytes + notes.bytes.len()) as u64;
            let target = Target { bytes: bytes as u32, ..target(&record(), false) };
            let (topic, queue) = PLACE;
            let release = Release { target, topic, queue, notes };
            let mut input = Vec::new();
            release.put(&mut input);
            let (what, max) = ("target of a release", BATCH_BYTES_MAX as u64);
            let wrong = Malformed::Length { what, found: given, max };
            let expected = if is_one { Ok(release) } else { Err(wrong) };
            assert_eq!(Release::take(&mut input.into()), expected, "{bytes} bytes");
        };
        for (bytes, is_one) in [
            (0, false),
            (record::HEADER_BYTES - 1, false),
            (record::HEADER_BYTES, true),
            (BATCH_BYTES_MAX, true),
            (BATCH_BYTES_MAX + 1, false),
        ] {
            check(Notes::default(), bytes, is_one);
        }
        // What it adds counts.
        let notes = || Notes::new([("a", "b")]);
        let added = notes().bytes.len();
        check(notes(), BATCH_BYTES_MAX - added, true);
        check(notes(), BATCH_BYTES_MAX - added + 1, false);
    }

    #[test]
    fn an_entry_releases_something_and_not_too_much() {
        let mut bytes = Vec::new();
        let one = Release::new(target(&record(), false), PLACE, Notes::default());
        put_all(&vec![one; RELEASES_MAX], &mut bytes);
        for count in [1, RELEASES_MAX] {
            bytes[..COUNT_BYTES].copy_from_slice(&(count as u32).to_le_bytes());
            let mut input = Bytes::copy_from_slice(&bytes);
            let found = take_all(&mut input).expect("so many may be");
            assert_eq!(found.len(), count);
        }
        for count in [0, RELEASES_MAX as u32 + 1, u32::MAX] {
            bytes[..COUNT_BYTES].copy_from_slice(&count.to_le_bytes());
            let (what, max) = ("number of releases", RELEASES_MAX as u64);
            let wrong = Malformed::Length { what, found: count.into(), max };
            assert_eq!(take_all(&mut Bytes::copy_from_slice(&bytes)), Err(wrong));
        }
    }
}
