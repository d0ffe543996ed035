//! From a place that has a release to the record, and what its readers get of it.
//!
//! ```text
//!   place ──► release ──► release ──► record        each lies before the one that names it
//!             notes, queue  notes       bytes  ──► given: the record with the notes of all
//! ```
use std::borrow::Cow;

use bytes::Bytes;
use yard_wire::codec::Malformed;
use yard_wire::record::Record;
use yard_wire::release::{HEADER_BYTES, Release};
use yard_wire::{RecordPlace, Timestamp};

/// How a record is reached from a place.
#[derive(Debug)]
pub(crate) struct Way {
    /// Where the record lies.
    pub(crate) record: RecordPlace,
    /// The releases on the way, in its order.
    releases: Vec<Release>,
}

/// The first bytes of the release at a place: all of it, when it has no notes.
pub(crate) fn front(place: &RecordPlace) -> RecordPlace {
    assert!(place.released, "asked about a release");
    RecordPlace { bytes: HEADER_BYTES as u32, released: false, ..*place }
}

impl Way {
    /// Goes from a place to the record; `read` gives the bytes at a place, whatever they are, and
    /// `damaged` says what is wrong with those at a place.
    pub(crate) fn find<E>(
        place: &RecordPlace,
        mut read: impl FnMut(&RecordPlace) -> Result<Bytes, E>,
        damaged: impl Fn(&RecordPlace, Malformed) -> E,
    ) -> Result<Self, E> {
        let (mut at, mut releases) = (*place, Vec::new());
        while at.released {
            let front = front(&at);
            let mut bytes = read(&front)?;
            let length = Release::peek_length(&bytes).map_err(|why| damaged(&at, why))?;
            if length > HEADER_BYTES {
                bytes = read(&RecordPlace { bytes: length as u32, ..front })?;
            }
            let release = Release::take(&mut bytes).map_err(|why| damaged(&at, why))?;
            let target = release.target();
            let is_before = (target.segment, target.offset) < (at.segment, at.offset);
            if !is_before || release.given_bytes() != at.bytes {
                let value = target.offset.into();
                return Err(damaged(&at, Malformed::Field { what: "target of a release", value }));
            }
            releases.push(release);
            at = target.place(Timestamp(0));
        }
        Ok(Self { record: at, releases })
    }

    /// What readers of the place get of the record. It is checked where it changes.
    pub(crate) fn give<'a>(&self, record: &'a [u8]) -> Result<Cow<'a, [u8]>, Malformed> {
        let address = Record::peek_address(record)?;
        if self.releases.iter().all(|release| release.gives_as_stored(&address)) {
            return Ok(Cow::Borrowed(record));
        }
        let mut given = Bytes::copy_from_slice(record);
        for release in self.releases.iter().rev() {
            given = release.apply(given)?;
        }
        Ok(Cow::Owned(given.into()))
    }
}
