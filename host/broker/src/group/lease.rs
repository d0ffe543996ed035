//! Leases: which subscription holds which messages, until when.
//!
//! ```text
//!   runs   41..297  subscription, since, until, attempt, places      what one delivery leased
//!          300..301 …
//!   ends   until ─ how many leases still end then ─ the ranges that were delivered with it
//! ```
//!
//! A delivery leases a run of offsets until the same instant, so run and instant cost one entry
//! each, not one for each message. What is settled is taken off its run.
use std::collections::{BTreeMap, VecDeque};

use yard_wire::limits::DELIVER_RECORDS_MAX;
use yard_wire::{QueueOffset, RecordPlace, SubscriptionId, Timestamp};

/// Messages of a run at most: taking one out of the middle copies the places after it.
const RUN_MAX: usize = DELIVER_RECORDS_MAX;

/// What the messages of a run have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) subscription: SubscriptionId,
    /// When they were delivered.
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
    /// 1 for the first delivery to the group.
    pub(crate) attempt: u32,
}

/// One message in somebody's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) hold: Hold,
    pub(crate) place: RecordPlace,
}

/// Consecutive messages in the same hands.
#[derive(Clone, Debug)]
struct Run {
    hold: Hold,
    /// Of each message.
    places: VecDeque<RecordPlace>,
}

#[derive(Debug, Default)]
struct End {
    leases: u32,
    ranges: Vec<(QueueOffset, QueueOffset)>,
}

/// The leases of a group in one queue.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    /// By the first offset.
    runs: BTreeMap<QueueOffset, Run>,
    ends: BTreeMap<Timestamp, End>,
    messages: usize,
    /// What was taken out and nobody has looked at, where somebody does.
    noted: Option<Vec<(QueueOffset, QueueOffset)>>,
}

fn after(from: QueueOffset, count: usize) -> QueueOffset {
    QueueOffset(from.0 + count as u64)
}

impl Leases {
    /// Messages that are leased.
    pub(crate) fn len(&self) -> usize {
        self.messages
    }

    /// Whether what is taken out from now on is kept for [`Leases::take_noted`].
    pub(crate) fn note_ends(&mut self, is_wanted: bool) {
        self.noted = is_wanted.then(Vec::new);
    }

    /// The ranges in which something was taken out since this was asked for last.
    pub(crate) fn take_noted(&mut self) -> Vec<(QueueOffset, QueueOffset)> {
        self.noted.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn first_end(&self) -> Option<Timestamp> {
        self.ends.first_key_value().map(|(until, _)| *until)
    }

    pub(crate) fn holds(&self, offset: QueueOffset) -> bool {
        let run = self.runs.range(..=offset).next_back();
        run.is_some_and(|(from, run)| offset < after(*from, run.places.len()))
    }

    /// Where a leased message is.
    pub(crate) fn place(&self, offset: QueueOffset) -> Option<RecordPlace> {
        let (from, run) = self.runs.range(..=offset).next_back()?;
        run.places.get((offset.0 - from.0) as usize).copied()
    }

    /// What is leased of `from..to`, in order: ranges in the same hands.
    pub(crate) fn ranges(
        &self,
        from: QueueOffset,
        to: QueueOffset,
    ) -> impl Iterator<Item = (QueueOffset, QueueOffset, Hold)> {
        assert!(from <= to, "a range does not end before it begins");
        let first = self.runs.range(..=from).next_back().map_or(from, |(first, _)| *first);
        let runs = self.runs.range(first..to.max(first));
        let clipped = runs.map(move |(at, run)| {
            let end = after(*at, run.places.len());
            (from.max(*at), to.min(end), run.hold)
        });
        clipped.filter(|(from, to, _)| from < to)
    }

    pub(crate) fn insert(&mut self, offset: QueueOffset, lease: Lease) {
        self.insert_run(offset, lease.hold, std::iter::once(lease.place));
    }

    /// Leases consecutive messages from `from` on.
    pub(crate) fn insert_run(
        &mut self,
        from: QueueOffset,
        hold: Hold,
        places: impl Iterator<Item = RecordPlace>,
    ) {
        let last = self.runs.range_mut(..=from).next_back();
        let joined = last.filter(|(at, run)| {
            let is_next = after(**at, run.places.len()) == from;
            is_next && run.hold == hold && run.places.len() < RUN_MAX
        });
        let count = match joined {
            Some((_, run)) => {
                let before = run.places.len();
                run.places.extend(places);
                run.places.len() - before
            }
            None => {
                assert!(!self.holds(from), "a message is in one hand at a time");
                let run = Run { hold, places: places.collect() };
                let count = run.places.len();
                self.runs.insert(from, run);
                count
            }
        };
        let to = after(from, count);
        assert!(count > 0, "a run holds something");
        let next = self.runs.range(QueueOffset(from.0 + 1)..).next();
        assert!(next.is_none_or(|(at, _)| to <= *at), "a message is in one hand at a time");
        let end = self.ends.entry(hold.until).or_default();
        end.leases += count as u32;
        match end.ranges.last_mut() {
            Some((_, end)) if *end == from => *end = to,
            _ => end.ranges.push((from, to)),
        }
        self.messages += count;
    }

    /// Takes out what is leased of `from..to` and `wanted`, and gives it to `taken` in order.
    fn take(
        &mut self,
        from: QueueOffset,
        to: QueueOffset,
        wanted: impl Fn(&Hold) -> bool,
        mut taken: impl FnMut(QueueOffset, &Hold, VecDeque<RecordPlace>),
    ) {
        let mut at = from;
        loop {
            let found = self.ranges(at, to).find(|(_, _, hold)| wanted(hold));
            let Some((begin, end, hold)) = found else { return };
            let (first, run) = self.runs.range_mut(..=begin).next_back().expect("found just now");
            let first = *first;
            let mut middle = run.places.split_off((begin.0 - first.0) as usize);
            let rest = middle.split_off((end.0 - begin.0) as usize);
            if run.places.is_empty() {
                self.runs.remove(&first);
            }
            if !rest.is_empty() {
                self.runs.insert(end, Run { hold, places: rest });
            }
            self.messages -= middle.len();
            let listed = self.ends.get_mut(&hold.until).expect("every lease has its end listed");
            assert!(listed.leases >= middle.len() as u32, "an end is listed while a lease has it");
            listed.leases -= middle.len() as u32;
            if listed.leases == 0 {
                self.ends.remove(&hold.until);
            }
            if let Some(noted) = &mut self.noted {
                noted.push((begin, end));
            }
            taken(begin, &hold, middle);
            at = end;
        }
    }

    fn take_each(
        &mut self,
        from: QueueOffset,
        to: QueueOffset,
        wanted: impl Fn(&Hold) -> bool,
        out: &mut Vec<(QueueOffset, Lease)>,
    ) {
        self.take(from, to, wanted, |from, hold, places| {
            let offsets = (from.0..).map(QueueOffset);
            out.extend(offsets.zip(places).map(|(at, place)| (at, Lease { hold: *hold, place })));
        });
    }

    /// Moves the end of the leases of `from..to` that have this hold.
    pub(crate) fn extend(
        &mut self,
        from: QueueOffset,
        to: QueueOffset,
        hold: Hold,
        until: Timestamp,
    ) {
        assert!(hold.until < until, "a lease is extended, not cut short");
        let mut moved = Vec::new();
        self.take(from, to, |it| *it == hold, |at, _, places| moved.push((at, places)));
        for (at, places) in moved {
            self.insert_run(at, Hold { until, ..hold }, places.into_iter());
        }
    }

    /// Takes out the leases that ended at `now` or before, by their ends.
    pub(crate) fn take_ended(&mut self, now: Timestamp) -> Vec<(QueueOffset, Lease)> {
        let mut ended = Vec::new();
        while let Some(mut entry) = self.ends.first_entry().filter(|entry| *entry.key() <= now) {
            let (until, before) = (*entry.key(), ended.len());
            let leases = entry.get().leases as usize;
            // The same range may meanwhile hold later leases of the same messages.
            for (from, to) in std::mem::take(&mut entry.get_mut().ranges) {
                self.take_each(from, to, |hold| hold.until == until, &mut ended);
            }
            assert_eq!(ended.len() - before, leases, "the count is that of the leases");
            assert!(!self.ends.contains_key(&until), "an end goes with its last lease");
        }
        ended
    }

    /// Takes out the leases in `from..to`: whose they were, and how many.
    pub(crate) fn take_range(
        &mut self,
        from: QueueOffset,
        to: QueueOffset,
        mut taken: impl FnMut(SubscriptionId, u32),
    ) {
        let all = |_: &Hold| true;
        self.take(from, to, all, |_, hold, places| taken(hold.subscription, places.len() as u32));
    }

    /// Takes out the leases of this attempt in `from..to`, in order.
    pub(crate) fn take_attempt(
        &mut self,
        from: QueueOffset,
        to: QueueOffset,
        attempt: u32,
    ) -> Vec<(QueueOffset, Lease)> {
        let mut taken = Vec::new();
        self.take_each(from, to, |hold| hold.attempt == attempt, &mut taken);
        taken
    }

    /// Takes out the leases of one subscription in `from..to`, in order.
    pub(crate) fn take_held(
        &mut self,
        from: QueueOffset,
        to: QueueOffset,
        subscription: SubscriptionId,
    ) -> Vec<(QueueOffset, Lease)> {
        let mut taken = Vec::new();
        self.take_each(from, to, |hold| hold.subscription == subscription, &mut taken);
        taken
    }

    /// Takes out the leases of one subscription, in order.
    pub(crate) fn take_of(&mut self, subscription: SubscriptionId) -> Vec<(QueueOffset, Lease)> {
        self.take_held(QueueOffset(0), QueueOffset(u64::MAX), subscription)
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (QueueOffset, Lease)> {
        self.runs.iter().flat_map(|(from, run)| {
            let offsets = (from.0..).map(QueueOffset);
            let lease = |place: &RecordPlace| Lease { hold: run.hold, place: *place };
            offsets.zip(run.places.iter().map(lease))
        })
    }

    pub(crate) fn check(&self) {
        let listed: u64 = self.ends.values().map(|end| u64::from(end.leases)).sum();
        assert_eq!(listed, self.messages as u64, "every lease has its end listed");
        let mut end = QueueOffset(0);
        let mut messages = 0;
        for (from, run) in &self.runs {
            assert!(*from >= end, "a message is in one hand at a time");
            assert!(!run.places.is_empty(), "a run holds something");
            end = after(*from, run.places.len());
            messages += run.places.len();
        }
        assert_eq!(messages, self.messages, "the count is that of the runs");
        for (until, end) in &self.ends {
            assert!(end.leases >= 1, "an end without leases is not listed");
            let mut found = 0;
            for (from, to) in &end.ranges {
                let ranges = self.ranges(*from, *to).filter(|(_, _, it)| it.until == *until);
                found += ranges.map(|(from, to, _)| to.0 - from.0).sum::<u64>();
            }
            assert!(found >= end.leases.into(), "an ended lease is found by its end");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u64) -> RecordPlace {
        let (offset, stored) = (offset as u32 * 100, Timestamp(offset));
        RecordPlace { segment: 1, offset, bytes: 100, stored, released: false }
    }

    type Plain = BTreeMap<QueueOffset, Lease>;

    fn taken_from(plain: &mut Plain, wanted: impl Fn(QueueOffset, &Lease) -> bool) -> Plain {
        plain.extract_if(.., |offset, lease| wanted(*offset, lease)).collect()
    }

    #[test]
    fn runs_agree_with_leases_one_by_one() {
        let mut random = crate::tests::Random::new(11);
        for _ in 0..300 {
            let (mut leases, mut plain) = (Leases::default(), Plain::new());
            for step in 0..60 {
                let from = QueueOffset(random.below(80));
                let to = QueueOffset(from.0 + 1 + random.below(20));
                let (subscription, attempt) = (SubscriptionId(random.below(2)), 1);
                let attempt = attempt + random.below(2) as u32;
                let until = Timestamp(1 + random.below(4));
                let hold = Hold { subscription, since: Timestamp(0), until, attempt };
                match random.below(9) {
                    8 => {
                        let longer = Timestamp(until.0 + 1 + random.below(3));
                        let wanted = |at: QueueOffset, it: &Lease| {
                            (from..to).contains(&at) && it.hold.until < longer
                        };
                        let held: Vec<_> = leases.ranges(from, to).collect();
                        for (from, to, hold) in held {
                            if hold.until < longer {
                                leases.extend(from, to, hold, longer);
                            }
                        }
                        for (at, lease) in &mut plain {
                            if wanted(*at, lease) {
                                lease.hold.until = longer;
                            }
                        }
                    }
                    0 => {
                        let ended = leases.take_ended(Timestamp(1)).into_iter().collect::<Plain>();
                        let expect = taken_from(&mut plain, |_, it| it.hold.until.0 <= 1);
                        assert_eq!(ended, expect);
                    }
                    1 if step % 8 == 0 => {
                        let taken = leases.take_of(subscription).into_iter().collect::<Plain>();
                        let expect =
                            taken_from(&mut plain, |_, it| it.hold.subscription == subscription);
                        assert_eq!(taken, expect);
                    }
                    2 => {
                        let taken = leases.take_attempt(from, to, attempt);
                        let expect = taken_from(&mut plain, |at, it| {
                            (from..to).contains(&at) && it.hold.attempt == attempt
                        });
                        assert_eq!(taken.into_iter().collect::<Plain>(), expect);
                    }
                    3 | 4 => {
                        let mut count = 0;
                        leases.take_range(from, to, |_, messages| count += messages as usize);
                        let expect = taken_from(&mut plain, |at, _| (from..to).contains(&at));
                        assert_eq!(count, expect.len());
                    }
                    _ => {
                        // As much as is free from here on.
                        let free = |at: &u64| !plain.contains_key(&QueueOffset(*at));
                        let places: Vec<_> = (from.0..to.0).take_while(free).map(place).collect();
                        if !places.is_empty() {
                            leases.insert_run(from, hold, places.iter().copied());
                        }
                        for (at, place) in (from.0..).map(QueueOffset).zip(places) {
                            plain.insert(at, Lease { hold, place });
                        }
                    }
                }
                leases.check();
                assert_eq!(leases.len(), plain.len());
                assert_eq!(leases.iter().collect::<Plain>(), plain);
                let ranges: Vec<u64> = leases.ranges(from, to).flat_map(|r| r.0.0..r.1.0).collect();
                let expect: Vec<u64> = plain.range(from..to).map(|(at, _)| at.0).collect();
                assert_eq!(ranges, expect);
                assert_eq!(leases.holds(from), plain.contains_key(&from));
                assert_eq!(leases.place(from), plain.get(&from).map(|lease| lease.place));
                let first = plain.values().map(|lease| lease.hold.until).min();
                assert_eq!(leases.first_end(), first);
            }
        }
    }
}
