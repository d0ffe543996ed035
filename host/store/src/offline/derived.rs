//! The files that follow from the log, held against it: one row for each kind.
use std::io;

use bytes::Bytes;
use yard_wire::{GroupNumber, QueueOffset, ShardId};

use super::examine::{Examined, examine_with};
use super::survey::Survey;
use super::{Damage, Span};
use crate::disk::{Disk, FileName};
use crate::error::OpenError;
use crate::format::checkpoint::Checkpoint;
use crate::format::keys::read_head;
use crate::format::sidecar::Line;
use crate::recover::{read_checkpoint, sidecars};

/// A kind of file that belongs to each sealed segment.
struct Row {
    name: fn(u32) -> FileName,
    what: &'static str,
    make: fn(&mut Examined, &[Line]) -> Option<Bytes>,
}

const ROWS: &[Row] = &[Row {
    name: FileName::Index,
    what: "the queue index does not say what the log holds",
    make: Examined::take_index,
}];

/// A derived file that is not what its segment makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived {
    /// The file.
    pub name: FileName,
    /// Number of its segment.
    pub segment: u32,
    /// What is the matter with it.
    pub wrong: Wrong,
}

/// What is the matter with a derived file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is not there.
    Missing,
    /// It is another one than the log makes.
    Differs(&'static str),
}

/// Holds the derived files of a sealed segment against it; returns those that are wrong. Those of
/// a damaged one cannot be told; what they say that it held is kept for [`super::join()`].
///
/// # Errors
/// What the disk says.
fn check_derived(disk: &dyn Disk, examined: &mut Examined) -> Result<Vec<Derived>, OpenError> {
    let segment = examined.segment.segment();
    assert!(examined.segment.is_sealed, "a segment that grows has no files that follow from it");
    if !examined.damage.is_empty() {
        examined.claims = claims(disk, examined)?;
        return Ok(Vec::new());
    }
    let lost = lost_before(disk, examined)?;
    let mut found = Vec::new();
    for row in ROWS {
        let Some(bytes) = (row.make)(examined, &lost) else { continue };
        let name = (row.name)(segment);
        let there = contents(disk, name).map_err(|source| OpenError::Disk { name, source })?;
        let wrong = match there {
            None => Wrong::Missing,
            Some(there) if there != bytes => Wrong::Differs(row.what),
            Some(_) => continue,
        };
        found.push(Derived { name, segment, wrong });
    }
    Ok(found)
}

/// Examines a segment of a survey, and holds the files that follow from it against it; returns
/// those that are wrong.
///
/// # Errors
/// What the disk says of one of them.
pub fn examine_derived(
    disk: &dyn Disk,
    survey: &Survey,
    at: usize,
    wanted: Option<GroupNumber>,
) -> Result<(Examined, Vec<Derived>), OpenError> {
    let segment = &survey.segments[at];
    let number = segment.segment();
    let (mut heads, mut wrong) = (Vec::new(), Vec::new());
    for name in &survey.names {
        let FileName::Keys { segment: of, from } = *name else { continue };
        if of != number {
            continue;
        }
        match read_head(disk, of, from).filter(|head| head.salt == segment.salt()) {
            // Of what a file has lost it is the last that knows.
            Some(head) if segment.lacks(head.to) => {}
            Some(head) if head.from < head.to => heads.push(head),
            Some(_) | None if is_there(disk, *name) => wrong.push(*name),
            // A broker puts parts together.
            Some(_) | None => {}
        }
    }
    let mut examined = examine_with(disk, segment, wanted, &heads);
    let parts = std::mem::take(&mut examined.keys);
    assert_eq!(parts.len(), heads.len(), "one for each file");
    // Of a damaged segment a part may know more than can be read now.
    if examined.damage.is_empty() && examined.keys_are_known {
        for (head, part) in heads.iter().zip(parts) {
            let name = head.name();
            let there = contents(disk, name).map_err(|source| OpenError::Disk { name, source })?;
            let is_same = there.as_ref() == Some(part.finish().bytes());
            if !is_same && read_head(disk, number, head.from).as_ref() == Some(head) {
                wrong.push(name);
            }
        }
    }
    let what = Wrong::Differs("the key index does not say what the log holds");
    let derived = |name| Derived { name, segment: number, wrong: what };
    let mut derived: Vec<Derived> = wrong.into_iter().map(derived).collect();
    if at < survey.active() {
        derived.extend(check_derived(disk, &mut examined)?);
    }
    Ok((examined, derived))
}

fn is_there(disk: &dyn Disk, name: FileName) -> bool {
    disk.len(name).is_ok()
}

/// Makes a derived file again; `None` when its segment does not allow it.
pub(super) fn make(disk: &dyn Disk, examined: &mut Examined, name: FileName) -> Option<Bytes> {
    let row = ROWS.iter().find(|row| (row.name)(examined.segment.segment()) == name)?;
    let lost = lost_before(disk, examined).ok()?;
    (row.make)(examined, &lost)
}

/// The lines of an intact sidecar for messages that were lost before its segment: nothing in the
/// segment tells of them.
fn lost_before(disk: &dyn Disk, examined: &Examined) -> Result<Vec<Line>, OpenError> {
    let found = sidecars::read(disk, &examined.segment.header)?;
    let lines = found.map(|(_, lines)| lines).unwrap_or_default();
    Ok(lines.into_iter().filter(Line::is_lost).collect())
}

/// What an intact sidecar says that its damaged segment held.
fn claims(disk: &dyn Disk, examined: &Examined) -> Result<Vec<Span>, OpenError> {
    assert!(!examined.damage.is_empty(), "a whole segment speaks for itself");
    let Some((_, lines)) = sidecars::read(disk, &examined.segment.header)? else {
        return Ok(Vec::new());
    };
    let span = |line: &Line| Span {
        topic: line.topic,
        queue: line.queue,
        from: line.first,
        to: QueueOffset(line.first.0 + u64::from(line.count)),
    };
    Ok(lines.iter().filter(|line| !line.is_lost()).map(span).collect())
}

/// The bytes of a small file; `None` when it is not there.
pub(super) fn contents(disk: &dyn Disk, name: FileName) -> io::Result<Option<Bytes>> {
    let bytes = match disk.len(name) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut found = vec![0; bytes as usize];
    disk.read_at(name, 0, &mut found)?;
    Ok(Some(Bytes::from(found)))
}

/// The checkpoint of a log, as it was before the log was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// There is none.
    Nothing,
    /// It is whole.
    Whole(Checkpoint),
    /// It is not what was written.
    Damaged,
}

/// Reads the checkpoint.
///
/// # Errors
/// [`OpenError`] when it is another shard's or of another version.
pub fn saved(disk: &dyn Disk, shard: ShardId, names: &[FileName]) -> Result<Saved, OpenError> {
    Ok(match read_checkpoint(disk, shard)? {
        Some(found) => Saved::Whole(found),
        None if names.contains(&FileName::Checkpoint) => Saved::Damaged,
        None => Saved::Nothing,
    })
}

fn is_damaged_before(examined: &[Examined], saved: &Checkpoint) -> bool {
    let of = examined.iter().find(|one| one.segment.segment() == saved.segment);
    of.is_some_and(|of| of.damage.iter().any(|damage| damage.offset < saved.offset))
}

impl Saved {
    /// What is wrong with it, once the log was examined with its group as the wanted one.
    #[must_use]
    pub fn damage(&self, examined: &[Examined]) -> Option<Damage> {
        let what = match self {
            Self::Nothing => return None,
            Self::Damaged => "the checkpoint is not what was written",
            // It may have seen what was damaged later.
            Self::Whole(saved) if is_damaged_before(examined, saved) => return None,
            Self::Whole(saved) => {
                let seen = examined.iter().find_map(|it| Some((it.segment.segment(), it.seen?)));
                match seen {
                    Some(seen) if seen == (saved.segment, (saved.offset, saved.chain)) => {
                        return None;
                    }
                    Some(_) => "the checkpoint has seen another group than the log has there",
                    None => "the checkpoint has seen a group that the log does not have",
                }
            }
        };
        Some(Damage::new(FileName::Checkpoint, 0, 0, what))
    }
}
