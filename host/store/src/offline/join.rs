//! What the segments say together: seams, queues that go on from one to the next.
use std::collections::BTreeMap;

use yard_wire::{QueueIndex, QueueOffset, TopicId};

use super::examine::Examined;
use super::survey::Survey;
use super::{Counts, Damage, Link, Span};
use crate::disk::FileName;
use crate::format::segment::HEADER_BYTES;

/// A log as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// What was found whole.
    pub counts: Counts,
    /// What was not, by place.
    pub damage: Vec<Damage>,
    /// Queues that hold messages, or held them.
    pub queues: u64,
    /// The last whole group.
    pub last: Option<Link>,
    /// Segment that it is in, and the byte after it there.
    pub end: (u32, u64),
    /// Bytes behind it that are not zero: being written, or torn.
    pub loose: u64,
}

impl Joined {
    /// Messages that damage has taken.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let spans = self.damage.iter().flat_map(|damage| &damage.lost);
        let unnamed: u64 = self.damage.iter().map(|damage| damage.unnamed).sum();
        spans.map(|span| span.to.0 - span.from.0).sum::<u64>() + unnamed
    }
}

/// Joins what was found in the segments of a survey, from the first on.
#[must_use]
pub fn join(survey: &Survey, examined: &[Examined]) -> Joined {
    assert!(!examined.is_empty() && examined.len() <= survey.segments.len(), "from the first on");
    let mut joining = Joining {
        damage: survey.damage.clone(),
        counts: Counts::default(),
        seam: Seam::default(),
        next: BTreeMap::new(),
        begins_late: examined[0].segment.segment() > 0,
    };
    joining.seam.end = (examined[0].segment.segment(), HEADER_BYTES as u64);
    // What says that the first segments are gone may lie behind what was looked at.
    let is_whole = examined.len() == survey.segments.len();
    let retired = retired_below(examined);
    let before = if is_whole { retired..examined[0].segment.segment() } else { 0..0 };
    let mut missing = before.chain(survey.missing.iter().copied()).peekable();
    for one in examined {
        while let Some(gone) = missing.next_if(|gone| *gone < one.segment.segment()) {
            let what = "the segment is missing";
            joining.damage.push(Damage::new(FileName::Segment(gone), 0, 0, what));
            joining.seam.is_broken = true;
        }
        joining.take(one);
    }
    let Joining { mut damage, counts, seam, next, .. } = joining;
    let Seam { last, end, loose, .. } = seam;
    damage.sort();
    Joined { counts, damage, queues: next.len() as u64, last, end, loose }
}

/// The segments below this one are gone because they were retired.
pub(super) fn retired_below(examined: &[Examined]) -> u32 {
    examined.iter().map(|one| one.retired).max().unwrap_or(0)
}

/// Where the next segment has to go on: what is known of those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seam {
    /// The last whole group.
    last: Option<Link>,
    /// Segment that it is in, and the byte after it there.
    end: (u32, u64),
    /// Bytes behind it that are not zero.
    loose: u64,
    /// Something before the next segment is missing, so the chain cannot hold.
    is_broken: bool,
}

impl Seam {
    /// What is wrong between those before and this segment, and is no damage of either.
    #[must_use]
    pub fn before(&self, one: &Examined) -> Vec<Damage> {
        let (Some(last), Some(first)) = (self.last, one.first) else { return Vec::new() };
        if self.is_broken || one.is_broken_before() {
            return Vec::new();
        }
        let (segment, (before, end)) = (one.segment.segment(), self.end);
        assert!(before < segment, "a seam is between two segments");
        let name = FileName::Segment(before);
        if first.group.0 > last.group.0 + 1 {
            let what = "a group that later ones follow";
            return vec![Damage::new(name, end, self.loose, what)];
        }
        let mut found = Vec::new();
        if self.loose > 0 {
            let what = "bytes behind the last group of a sealed segment";
            found.push(Damage::new(name, end, self.loose, what));
        }
        let follows = first.group.0 == last.group.0 + 1 && first.chain == last.chain;
        if !follows || first.stored < last.stored {
            let what = "the first group does not follow the last one of the segment before";
            let at = HEADER_BYTES as u64;
            found.push(Damage::new(FileName::Segment(segment), at, 0, what));
        }
        found
    }

    /// Goes on behind this segment.
    pub fn pass(&mut self, one: &Examined) {
        let segment = one.segment.segment();
        assert!(self.end.0 <= segment, "segments are joined in order");
        let is_empty = one.first.is_none() && one.damage.is_empty();
        self.is_broken = if is_empty { self.is_broken } else { one.is_broken_after() };
        if one.last.is_some() || self.last.is_none() {
            (self.last, self.end, self.loose) = (one.last, (segment, one.end), one.loose);
        } else if one.loose > 0 && self.loose == 0 {
            (self.end, self.loose) = ((segment, one.end), one.loose);
        }
    }

    /// Goes on behind a whole segment that was examined at another time: its last group, and the
    /// byte after it.
    pub fn pass_whole(&mut self, segment: u32, end: u64, last: Link) {
        assert!(self.end.0 <= segment, "segments are joined in order");
        *self = Self { last: Some(last), end: (segment, end), loose: 0, is_broken: false };
    }
}

struct Joining {
    damage: Vec<Damage>,
    counts: Counts,
    seam: Seam,
    next: BTreeMap<(TopicId, QueueIndex), QueueOffset>,
    /// The first segments are gone: a queue may begin at any offset.
    begins_late: bool,
}

impl Joining {
    fn take(&mut self, one: &Examined) {
        assert!(one.proven_end <= one.end, "what is proven is whole");
        self.counts.add(&one.counts);
        self.damage.extend(self.seam.before(one));
        let own = self.damage.len();
        self.damage.extend(one.damage.iter().cloned());
        self.take_queues(one, own);
        self.seam.pass(one);
    }

    /// Holds the queues of a segment, whose damage begins at `own`, against those before.
    fn take_queues(&mut self, one: &Examined, own: usize) {
        assert!(own <= self.damage.len(), "its own damage is the newest");
        for (topic, queue, held) in one.queues.iter() {
            self.go_on(Span { topic, queue, from: held.first, to: held.next }, own);
        }
        for claim in &one.claims {
            let Span { topic, queue, from, to } = *claim;
            let unless_known = if self.begins_late { from } else { QueueOffset(0) };
            let next = self.next.entry((topic, queue)).or_insert(unless_known);
            let from = from.max(*next);
            if from < to {
                *next = to;
                self.lose(Span { topic, queue, from, to }, own);
            }
        }
    }

    fn go_on(&mut self, held: Span, own: usize) {
        let Span { topic, queue, from, to } = held;
        assert!(from <= to, "a queue goes forward");
        let unless_known = if self.begins_late { from } else { QueueOffset(0) };
        let next = self.next.entry((topic, queue)).or_insert(unless_known);
        let expected = std::mem::replace(next, to);
        if expected < from {
            self.lose(Span { topic, queue, from: expected, to: from }, own);
        }
    }

    fn lose(&mut self, lost: Span, own: usize) {
        assert!(lost.from < lost.to, "a loss takes a message");
        let at = if own < self.damage.len() { own } else { own.saturating_sub(1) };
        if let Some(damage) = self.damage.get_mut(at) {
            damage.lost.push(lost);
            return;
        }
        let what = "messages before this segment are missing";
        let (segment, end) = self.seam.end;
        let name = FileName::Segment(segment);
        self.damage.push(Damage { lost: vec![lost], ..Damage::new(name, end, 0, what) });
    }
}
