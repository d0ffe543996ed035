//! What can be put right without touching the log: files that follow from it, and, if that is
//! accepted, the place of a segment that is gone.
use std::io;

use bytes::Bytes;
use yard_wire::LogPos;

use super::Damage;
use super::derived::{Derived, Wrong, make};
use super::examine::{Examined, examine};
use super::join::retired_below;
use super::survey::{Survey, is_capacity};
use crate::disk::{Disk, FileName};
use crate::error::OpenError;
use crate::format::segment::{HEADER_BYTES, SegmentHeader};
use crate::recover::sidecars;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write a file that follows from the log.
    Write {
        /// The file.
        name: FileName,
        /// Number of the segment that it follows from.
        segment: u32,
        /// What is the matter with the one that is there.
        why: &'static str,
    },
    /// Remove a file that does not belong to the log.
    Remove {
        /// The file.
        name: FileName,
        /// What is the matter with it.
        why: &'static str,
    },
    /// Put an empty segment in the place of one that is gone.
    Replace {
        /// Its number.
        segment: u32,
        /// Its header.
        header: Bytes,
        /// Bytes of the file.
        bytes: u64,
    },
}

/// What would be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes, in order.
    pub steps: Vec<Step>,
    /// Why it must not be done unless the loss is accepted: one sentence each.
    pub losses: Vec<String>,
}

/// Decides what to put right. `salt_seed` is randomness for the salt of segments that are put in
/// the place of missing ones.
///
/// # Errors
/// [`OpenError`] when the disk refuses to read.
pub fn plan(
    disk: &dyn Disk,
    survey: &Survey,
    examined: &[Examined],
    derived: &[Derived],
    checkpoint: Option<&Damage>,
    salt_seed: u64,
) -> Result<Plan, OpenError> {
    let mut plan = Plan::default();
    replace_missing(survey, examined, salt_seed, &mut plan)?;
    for file in derived {
        let why = match file.wrong {
            Wrong::Missing => "it is missing",
            Wrong::Differs(why) => why,
        };
        let (name, segment) = (file.name, file.segment);
        plan.steps.push(match name {
            // The broker makes it again in the background, in parts as it finds fit.
            FileName::Keys { .. } => Step::Remove { name, why },
            _ => Step::Write { name, segment, why },
        });
    }
    remove_strays(disk, survey, examined, &mut plan)?;
    if let Some(damage) = checkpoint {
        let ahead = "the checkpoint has seen a group that the log does not have";
        if damage.what == ahead {
            plan.losses.push(format!("{ahead}: the end of the log is gone"));
        }
        plan.steps.push(Step::Remove { name: FileName::Checkpoint, why: damage.what });
    }
    Ok(plan)
}

/// An index of a segment that is not sealed, or not there.
fn remove_strays(
    disk: &dyn Disk,
    survey: &Survey,
    examined: &[Examined],
    plan: &mut Plan,
) -> Result<(), OpenError> {
    let sealed = &survey.segments[..survey.active()];
    let last = examined.iter().rev().find_map(|one| one.last);
    for name in &survey.names {
        let FileName::Index(segment) = *name else { continue };
        if sealed.iter().any(|it| it.segment() == segment) {
            continue;
        }
        let of = survey.segments.iter().find(|it| it.segment() == segment);
        let said = match of {
            Some(of) => sidecars::read_header(disk, &of.header)?,
            None => None,
        };
        let ahead =
            said.is_some_and(|(said, _)| last.is_none_or(|last| said.last_group > last.group));
        let is_replaced = |step: &Step| match step {
            Step::Replace { segment: replaced, .. } => *replaced == segment,
            Step::Write { .. } | Step::Remove { .. } => false,
        };
        let gone = of.is_none() && !plan.steps.iter().any(is_replaced);
        if ahead || gone {
            plan.losses.push(format!("{name} says that segment {segment} held more than is there"));
        }
        plan.steps.push(Step::Remove { name: *name, why: "its segment is not sealed, or gone" });
    }
    Ok(())
}

/// Empty segments in the place of those that are gone, of the sizes that the positions leave.
fn replace_missing(
    survey: &Survey,
    examined: &[Examined],
    salt_seed: u64,
    plan: &mut Plan,
) -> Result<(), OpenError> {
    let front = &survey.segments[0];
    let begins = retired_below(examined).min(front.segment());
    let missing: Vec<u32> =
        (begins..front.segment()).chain(survey.missing.iter().copied()).collect();
    for segment in missing {
        let before = survey.segments.iter().rfind(|it| it.segment() < segment);
        let after = survey.segments.iter().find(|it| it.segment() > segment);
        let after = after.expect("a missing segment lies before one that is there");
        let first = before.map_or(begins, |it| it.segment() + 1);
        let count = u64::from(after.segment() - first);
        let from = match before {
            Some(before) => before.end.0,
            None if begins == 0 => 0,
            // Where the first one began, nothing says: they had the size of the next.
            None => after.base().0.saturating_sub(count * (after.end.0 - after.base().0)),
        };
        let room = after.base().0.saturating_sub(from);
        let each = room / count / HEADER_BYTES as u64 * HEADER_BYTES as u64;
        let at = u64::from(segment - first);
        // The last of several takes what does not divide.
        let bytes = if at + 1 == count { room - each * at } else { each };
        assert!(at < count, "it lies between the two");
        if !is_capacity(bytes) {
            return Err(OpenError::Missing { segment });
        }
        plan.losses.push(format!("segment {segment} of the log is missing"));
        let salt = salt_seed.rotate_left(segment);
        let base = LogPos(from + at * each);
        let header = SegmentHeader { shard: survey.shard, segment, capacity: bytes, base, salt };
        plan.steps.push(Step::Replace { segment, header: header.encode(), bytes });
    }
    Ok(())
}

/// Does one step, durably.
///
/// # Errors
/// What the disk says; `InvalidData` when the segment of a file has changed since it was examined.
pub fn apply(disk: &dyn Disk, survey: &Survey, step: &Step) -> io::Result<()> {
    match step {
        Step::Write { name, segment, .. } => {
            assert!(!matches!(name, FileName::Segment(_)), "the log is not written to");
            let of = survey.segments.iter().find(|it| it.segment() == *segment);
            let made = of.and_then(|of| make(disk, &mut examine(disk, of, None), *name));
            let bytes = made.ok_or(io::ErrorKind::InvalidData)?;
            disk.replace(*name, &bytes)
        }
        Step::Remove { name, .. } => {
            assert!(!matches!(name, FileName::Segment(_)), "the log is not removed");
            disk.remove(*name)
        }
        Step::Replace { segment, header, bytes } => {
            disk.create_segment(FileName::Segment(*segment), header, *bytes, 0)
        }
    }
}
