//! A file of the log that has lost its end: what other files know of what lay there.
//!
//! ```text
//!   log-3        ██████████░░░░░░░░░░ cut off        ░ was there, and is gone
//!   key-3-512    ▀▀▀▀▀                               parts of the key index are of durable groups
//!   key-3-…           ▀▀▀▀▀▀▀▀▀                      only: each message that they name was there
//! ```
use crate::disk::{Disk, FileName};
use crate::format::keys::{KeyHead, RunBytes, read_head};
use crate::format::segment::{self, SegmentHeader};

/// The parts of the key index that are there of a segment.
pub(crate) fn parts<'a>(
    disk: &'a dyn Disk,
    names: &'a [FileName],
    segment: u32,
) -> impl Iterator<Item = KeyHead> + 'a {
    names.iter().filter_map(move |name| match *name {
        FileName::Keys { segment: of, from } if of == segment => read_head(disk, of, from),
        _ => None,
    })
}

/// The salt of a segment of which neither header nor groups are left, if it is known that there
/// were groups.
pub(crate) fn salt(disk: &dyn Disk, names: &[FileName], segment: u32) -> Option<u64> {
    parts(disk, names, segment).find(|part| part.from < part.to).map(|part| part.salt)
}

/// How many messages, or releases of such, lay in a segment from `from` on, as far as its key
/// index is in files. Of which queues they were, it does not say.
pub(crate) fn messages_from(
    disk: &dyn Disk,
    names: &[FileName],
    header: &SegmentHeader,
    from: u64,
) -> u64 {
    assert!(from >= segment::HEADER_BYTES as u64, "groups lie behind the header");
    let whose = (header.shard, header.salt);
    let its = parts(disk, names, header.segment);
    let its = its.filter(|part| (part.shard, part.salt) == whose && u64::from(part.to) > from);
    let count = |part: KeyHead| {
        assert!(part.from <= part.to, "a part goes forward");
        let places = RunBytes::File(disk, &part).places().filter(|at| u64::from(*at) >= from);
        let mut places: Vec<u32> = places.collect();
        places.sort_unstable();
        // One with keys has several entries.
        places.dedup();
        places.len() as u64
    };
    its.map(count).sum()
}
