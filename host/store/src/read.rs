//! Reading records and index entries, by whichever thread: nothing of the store is needed.
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use yard_wire::codec::Malformed;
use yard_wire::record::Record;
use yard_wire::release::{HEADER_BYTES, Release};
use yard_wire::{QueueOffset, RecordPlace, Timestamp};

use crate::disk::{Disk, FileName, is_of_medium};
use crate::error::ReadError;
use crate::format::entry::PlacedRun;
use crate::format::retire::{MOVED, Moved, decode_copies};
use crate::format::segment::SegmentHeader;
use crate::format::sidecar::IndexRead;
use crate::format::{entry, group, segment};
use crate::recover::scan::SegmentReader;
use crate::released::Way;

/// Bytes between two records that are read along rather than by another call.
const GAP_BYTES_MAX: u32 = 16 << 10;
/// Bytes of one call, unless a single record is larger.
const CALL_BYTES_MAX: u32 = 1 << 20;

/// Reads the records at these places, in their order, and checks each one.
///
/// # Errors
/// [`ReadError`] for the first that cannot be read or is damaged.
pub fn records(disk: &dyn Disk, places: &[RecordPlace]) -> Result<Vec<Bytes>, ReadError> {
    let way = |place: &RecordPlace| Way::find(place, |place| read_bytes(disk, place), damaged);
    let ways = places.iter().map(way).collect::<Result<Vec<Way>, ReadError>>()?;
    let stored: Vec<RecordPlace> = ways.iter().map(|way| way.record).collect();
    given(places, &ways, read_stored(disk, &stored)?)
}

/// The records of releases at these places, in their order, where `at_hand` has the bytes of the
/// releases; what they refer to is read in the order in which it lies.
///
/// # Errors
/// [`ReadError`] when one cannot be read or is damaged.
pub(crate) fn released(
    disk: &dyn Disk,
    places: &[RecordPlace],
    at_hand: impl Fn(&RecordPlace) -> Option<Bytes>,
) -> Result<Vec<Bytes>, ReadError> {
    let read = |place: &RecordPlace| at_hand(place).map_or_else(|| read_bytes(disk, place), Ok);
    let way = |place: &RecordPlace| Way::find(place, read, damaged);
    let ways = places.iter().map(way).collect::<Result<Vec<Way>, ReadError>>()?;
    let mut order: Vec<usize> = (0..ways.len()).collect();
    order.sort_by_key(|at| (ways[*at].record.segment, ways[*at].record.offset));
    let stored: Vec<RecordPlace> = order.iter().map(|at| ways[*at].record).collect();
    assert!(stored.iter().all(|place| !place.released), "a way ends at a record");
    let mut records = vec![Bytes::new(); ways.len()];
    for (at, record) in order.into_iter().zip(read_stored(disk, &stored)?) {
        records[at] = record;
    }
    given(places, &ways, records)
}

/// Reads records where they lie, near ones by one call.
fn read_stored(disk: &dyn Disk, stored: &[RecordPlace]) -> Result<Vec<Bytes>, ReadError> {
    let mut records = Vec::with_capacity(stored.len());
    let mut rest = stored;
    while !rest.is_empty() {
        let (run, after) = rest.split_at(run_length(rest));
        read_run(disk, run, &mut records)?;
        rest = after;
    }
    assert_eq!(records.len(), stored.len(), "one record for each place");
    Ok(records)
}

/// What readers of the places get of the records that lie at the ends of the ways.
fn given(
    places: &[RecordPlace],
    ways: &[Way],
    mut records: Vec<Bytes>,
) -> Result<Vec<Bytes>, ReadError> {
    assert_eq!(records.len(), places.len(), "one record for each place");
    for ((record, way), place) in records.iter_mut().zip(ways).zip(places) {
        let given = match way.give(record).map_err(|why| damaged(place, why))? {
            Cow::Owned(given) => given,
            Cow::Borrowed(_) => continue,
        };
        *record = Bytes::from(given);
    }
    Ok(records)
}

/// Gives the records at these places to `each`, in their order.
///
/// # Errors
/// As [`records`]; nothing was given then.
pub fn each(
    disk: &dyn Disk,
    places: &[RecordPlace],
    each: &mut dyn FnMut(&[u8]),
) -> Result<(), ReadError> {
    records(disk, places)?.iter().for_each(|record| each(record));
    Ok(())
}

/// What readers get of a release of which only the place is known.
pub(crate) fn release_at(disk: &dyn Disk, segment: u32, offset: u32) -> Result<Record, ReadError> {
    let (bytes, stored) = (HEADER_BYTES as u32, Timestamp(0));
    let front = RecordPlace { segment, offset, bytes, stored, released: false };
    let wrong = |why| damaged(&front, why);
    let length = Release::peek_length(&read_bytes(disk, &front)?).map_err(wrong)?;
    let mut whole = read_bytes(disk, &RecordPlace { bytes: length as u32, ..front })?;
    let bytes = Release::take(&mut whole).map_err(wrong)?.given_bytes();
    let place = RecordPlace { bytes, released: true, ..front };
    let record = records(disk, &[place])?.pop().expect("one record for each place");
    Record::parse(record).map_err(wrong)
}

/// The bytes at a place, whatever they are.
pub(crate) fn read_bytes(disk: &dyn Disk, place: &RecordPlace) -> Result<Bytes, ReadError> {
    assert!(!place.released, "a release is read as what it is");
    let mut bytes = vec![0; place.bytes as usize];
    let (name, offset) = (FileName::Segment(place.segment), place.offset.into());
    disk.read_at(name, offset, &mut bytes).map_err(|source| ReadError::Disk {
        name,
        offset,
        source,
    })?;
    Ok(Bytes::from(bytes))
}

/// Something is wrong with the bytes at a place.
pub(crate) fn damaged(place: &RecordPlace, why: Malformed) -> ReadError {
    yard_wire::mark!(ReadDamaged);
    let (name, offset) = (FileName::Segment(place.segment), place.offset.into());
    ReadError::Damaged { name, offset, why }
}

/// How many of the places, at least one, are read by one call.
fn run_length(places: &[RecordPlace]) -> usize {
    assert!(!places.is_empty(), "a run has a first place");
    let first = places[0];
    let mut end = u64::from(first.offset) + u64::from(first.bytes);
    let mut count = 1;
    for place in &places[1..] {
        let offset = u64::from(place.offset);
        let reach = offset + u64::from(place.bytes);
        // Places need not be in order: what is delivered again may lie before what is new.
        let gap = offset.checked_sub(end).filter(|_| place.segment == first.segment);
        let near = gap.is_some_and(|gap| gap <= u64::from(GAP_BYTES_MAX));
        if !near || reach - u64::from(first.offset) > u64::from(CALL_BYTES_MAX) {
            break;
        }
        end = reach;
        count += 1;
    }
    count
}

fn read_run(
    disk: &dyn Disk,
    run: &[RecordPlace],
    records: &mut Vec<Bytes>,
) -> Result<(), ReadError> {
    let (first, last) = (run[0], run[run.len() - 1]);
    assert!(first.offset <= last.offset, "a run goes forward");
    let bytes = last.offset - first.offset + last.bytes;
    let buffer = read_bytes(disk, &RecordPlace { bytes, ..first })?;
    for place in run {
        let begin = (place.offset - first.offset) as usize;
        let bytes = buffer.slice(begin..begin + place.bytes as usize);
        let record = Record::parse(bytes).map_err(|why| damaged(place, why))?;
        records.push(record.bytes().clone());
    }
    Ok(())
}

/// Reads entries of the queue index of a sealed segment. When its sidecar is damaged or gone, the
/// segment itself is searched, which takes as long as reading it; a damaged sidecar is removed, so
/// that it is made again when the log is opened.
///
/// # Errors
/// [`ReadError`] when neither can be read.
pub fn index(disk: &dyn Disk, read: &IndexRead) -> Result<Vec<RecordPlace>, ReadError> {
    match sidecar(disk, read)? {
        Some(places) => Ok(places),
        None => {
            yard_wire::mark!(ReadIndexSearched);
            search(disk, read)
        }
    }
}

/// As [`index`], but from the sidecar only; `None` when it is gone, cannot be read, or is damaged
/// and now removed.
pub(crate) fn sidecar(
    disk: &dyn Disk,
    read: &IndexRead,
) -> Result<Option<Vec<RecordPlace>>, ReadError> {
    let name = FileName::Index(read.segment);
    let offset = read.file_offset;
    let failed = |source| ReadError::Disk { name, offset, source };
    let mut buffer = vec![0; read.bytes as usize];
    match disk.read_at(name, offset, &mut buffer) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // The segment says the same, if it can be read.
        Err(error) if is_of_medium(&error) => {
            yard_wire::mark!(ReadIndexUnreadable);
            return Ok(None);
        }
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => buffer.clear(),
        Err(source) => return Err(failed(source)),
    }
    let Ok(places) = read.parse(&buffer) else {
        yard_wire::mark!(ReadIndexDamaged);
        disk.remove(name).map_err(failed)?;
        return Ok(None);
    };
    Ok(Some(places))
}

/// The header of a segment.
pub(crate) fn segment_header(disk: &dyn Disk, segment: u32) -> Result<SegmentHeader, ReadError> {
    let name = FileName::Segment(segment);
    let mut head = [0; segment::HEADER_BYTES];
    disk.read_at(name, 0, &mut head).map_err(|source| ReadError::Disk {
        name,
        offset: 0,
        source,
    })?;
    SegmentHeader::decode(&head).map_err(|_| {
        let why = Malformed::Checksum { what: "header of a segment" };
        ReadError::Damaged { name, offset: 0, why }
    })
}

/// Finds the entries in the segment. There may be a release in it, and behind that a copy of what
/// it releases, made because the record itself was about to go: then it is the copy that counts.
fn search(disk: &dyn Disk, read: &IndexRead) -> Result<Vec<RecordPlace>, ReadError> {
    let name = FileName::Segment(read.segment);
    let failed = |offset| move |source| ReadError::Disk { name, offset, source };
    let damaged = |offset, why| ReadError::Damaged { name, offset, why };
    let head = segment_header(disk, read.segment)?;
    let (topic, queue, wanted) = read.wanted();
    let count = (wanted.end - wanted.start) as usize;
    let mut places: BTreeMap<u64, RecordPlace> = BTreeMap::new();
    let mut reader = SegmentReader::new(disk, head);
    let mut offset = segment::HEADER_BYTES as u64;
    while places.len() < count || places.values().any(|place| place.released) {
        let group = match reader.any_group(offset).map_err(failed(offset))? {
            Some(group) => group,
            None if places.len() == count => break,
            None => return Err(damaged(offset, Malformed::Checksum { what: "group" })),
        };
        let mut rest = group.payload.clone();
        while !rest.is_empty() {
            let at = offset + (group::HEADER_BYTES + group.payload.len() - rest.len()) as u64;
            let entry = entry::take_entry(&mut rest).map_err(|why| damaged(at, why))?;
            if entry.kind == MOVED {
                let copies: Vec<Moved> =
                    decode_copies(&entry.payload).map_err(|why| damaged(at, why))?;
                let payload_at = at as u32 + entry.payload_at() as u32;
                let is_wanted = |copy: &Moved| {
                    (copy.topic, copy.queue) == (topic, queue) && wanted.contains(&copy.offset.0)
                };
                places.extend(copies.into_iter().filter(is_wanted).map(|copy| {
                    let Moved { at, bytes, stored, .. } = copy;
                    let (segment, offset) = (read.segment, payload_at + at);
                    let place = RecordPlace { segment, offset, bytes, stored, released: false };
                    (copy.offset.0, place)
                }));
                continue;
            }
            let is_wanted = |run: PlacedRun| {
                let holds = run.first.is_some_and(|first| {
                    first.0 < wanted.end && wanted.start < first.0 + u64::from(run.count)
                });
                holds && (run.topic, run.queue) == (topic, queue)
            };
            if !entry.placements.iter().any(is_wanted) {
                continue;
            }
            let records = entry.each_record(|record| {
                let is_its = (record.topic, record.queue) == (topic, queue);
                let its = record.queue_offset.filter(|at| is_its && wanted.contains(&at.0));
                if let Some(QueueOffset(number)) = its {
                    places.entry(number).or_insert(RecordPlace {
                        segment: read.segment,
                        offset: (at as usize + entry.payload_at()) as u32 + record.offset,
                        bytes: record.bytes,
                        stored: group.header.stored,
                        released: record.refers_to.is_some(),
                    });
                }
            });
            records.map_err(|why| damaged(at, why))?;
        }
        offset += group.header.total_bytes() as u64;
    }
    assert_eq!(places.len(), count, "every entry was found");
    Ok(places.into_values().collect())
}
