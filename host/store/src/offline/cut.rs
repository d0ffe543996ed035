//! The end of a log whose last file was cut off: what other files know of what lay there.
use yard_wire::QueueOffset;

use super::derived::Saved;
use super::examine::Examined;
use super::survey::{Survey, Surveyed};
use super::{Damage, Span};
use crate::disk::{Disk, FileName};
use crate::format::checkpoint::Checkpoint;
use crate::recover::cut::{messages_from, parts};

impl Surveyed {
    /// Its file ends before `at`, which is known to have been in it.
    pub(super) fn lacks(&self, at: u32) -> bool {
        u64::from(at) > self.bytes()
    }
}

/// What lay behind the end of a log whose last file was cut off, as far as the checkpoint and the
/// parts of the key index know; `None` when it was not, or nothing is known. Of sealed segments
/// what is gone is told by themselves.
#[must_use]
pub fn cut_off(
    disk: &dyn Disk,
    survey: &Survey,
    examined: &[Examined],
    saved: &Saved,
) -> Option<Damage> {
    assert!(examined.len() <= survey.segments.len(), "from the first on");
    let saved = match saved {
        Saved::Whole(saved) => Some(saved),
        Saved::Nothing | Saved::Damaged => None,
    };
    let last = examined.iter().filter_map(|one| one.last).next_back();
    let ahead = saved.filter(|saved| last.is_none_or(|last| saved.group > last.group));
    let mut found: Option<Damage> = None;
    for one in examined.iter().skip(survey.active()) {
        let (segment, number) = (&one.segment, one.segment.segment());
        let is_cut = segment.is_short()
            || parts(disk, &survey.names, number).any(|part| segment.lacks(part.to));
        if !is_cut {
            continue;
        }
        let ahead = ahead.filter(|saved| saved.segment == number);
        let lost = ahead.map(|saved| ends_lost(saved, examined)).unwrap_or_default();
        // Up to there the checkpoint says which messages there were.
        let from = ahead.map_or(one.end, |saved| saved.offset.max(one.end));
        let unnamed = messages_from(disk, &survey.names, &segment.header, from);
        if lost.is_empty() && unnamed == 0 {
            continue;
        }
        let what = "messages behind the end of the file";
        let name = FileName::Segment(number);
        let damage = found.get_or_insert(Damage::new(name, segment.bytes(), 0, what));
        damage.lost.extend(lost);
        damage.unnamed += unnamed;
    }
    found
}

/// Messages that the checkpoint has seen, and that no segment has.
fn ends_lost(saved: &Checkpoint, examined: &[Examined]) -> Vec<Span> {
    let lost = |(topic, queue, to): &(_, _, QueueOffset)| {
        let held = examined.iter().flat_map(|one| one.queues.iter());
        let held = held.filter(|(of, at, _)| (of, at) == (topic, queue));
        let floors = saved.floors.iter();
        let floor = floors.filter(|floor| (floor.topic, floor.queue) == (*topic, *queue));
        let next = held.map(|(_, _, held)| held.next).chain(floor.map(|floor| floor.front)).max();
        let (topic, queue, from) = (*topic, *queue, next.unwrap_or(QueueOffset(0)));
        (from < *to).then_some(Span { topic, queue, from, to: *to })
    };
    saved.ends.iter().filter_map(lost).collect()
}
