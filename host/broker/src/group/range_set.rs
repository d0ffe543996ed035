//! A set of offsets as ranges: its size is that of the gaps, not of the offsets.
use std::collections::BTreeMap;

use bytes::Bytes;
use yard_wire::{Malformed, QueueOffset, Wire};

/// Offsets as ranges that neither overlap nor touch: first offset to offset after the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RangeSet {
    ranges: BTreeMap<QueueOffset, QueueOffset>,
    offsets: u64,
}

impl RangeSet {
    /// How many ranges it takes to say so.
    pub(crate) fn ranges(&self) -> usize {
        self.ranges.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (QueueOffset, QueueOffset)> {
        self.ranges.iter().map(|(from, to)| (*from, *to))
    }

    /// The end of the range that holds `offset`.
    pub(crate) fn end_of(&self, offset: QueueOffset) -> Option<QueueOffset> {
        let (_, to) = self.ranges.range(..=offset).next_back()?;
        (*to > offset).then_some(*to)
    }

    /// Where the first range that begins at `offset` or later begins.
    pub(crate) fn first_from(&self, offset: QueueOffset) -> Option<QueueOffset> {
        self.ranges.range(offset..).next().map(|(from, _)| *from)
    }

    /// Offset after the last of the set, 0 when it is empty.
    pub(crate) fn end(&self) -> QueueOffset {
        self.ranges.last_key_value().map_or(QueueOffset(0), |(_, to)| *to)
    }

    /// Adds `from..to`; returns how many offsets were not in it before.
    pub(crate) fn insert(&mut self, from: QueueOffset, to: QueueOffset) -> u64 {
        assert!(from < to, "a range holds something");
        let before = self.offsets;
        let (mut first, mut last) = (from, to);
        // The range before, when it touches; then every range that begins inside or at the end.
        if let Some((at, end)) = self.ranges.range(..=from).next_back()
            && *end >= from
        {
            if *end >= to {
                return 0;
            }
            first = *at;
        }
        while let Some((at, end)) = self.ranges.range(first..=last).next() {
            let (at, end) = (*at, *end);
            self.ranges.remove(&at);
            self.offsets -= end.0 - at.0;
            last = last.max(end);
        }
        self.ranges.insert(first, last);
        self.offsets += last.0 - first.0;
        assert!(self.offsets >= before, "inserting loses nothing");
        self.offsets - before
    }

    /// Takes the first range out when it begins at or below `offset`, and returns its end.
    pub(crate) fn take_first_up_to(&mut self, offset: QueueOffset) -> Option<QueueOffset> {
        let (from, to) = self.ranges.first_key_value().map(|(from, to)| (*from, *to))?;
        if from > offset {
            return None;
        }
        self.ranges.remove(&from);
        self.offsets -= to.0 - from.0;
        Some(to)
    }

    /// How many of its offsets are in `from..to`.
    pub(crate) fn offsets_within(&self, from: QueueOffset, to: QueueOffset) -> u64 {
        // Mostly it is all of them, and they are many.
        if self.iter().next().is_none_or(|(first, _)| first >= from) && self.end() <= to {
            return self.offsets;
        }
        let before = self.ranges.range(..=from).next_back().map_or(from, |(at, _)| *at);
        let overlap =
            |a: QueueOffset, b: QueueOffset| b.0.min(to.0).saturating_sub(a.0.max(from.0));
        self.ranges.range(before..to.max(before)).map(|(a, b)| overlap(*a, *b)).sum()
    }

    /// What of `from..to` is not in it, in order.
    pub(crate) fn gaps(
        &self,
        from: QueueOffset,
        to: QueueOffset,
    ) -> Vec<(QueueOffset, QueueOffset)> {
        assert!(from < to, "a range holds something");
        let mut gaps = Vec::new();
        let mut at = self.end_of(from).unwrap_or(from);
        while at < to {
            let next = self.ranges.range(at..to).next();
            let (begin, end) = next.map_or((to, to), |(begin, end)| (*begin, *end));
            gaps.push((at, begin));
            at = end;
        }
        gaps
    }

    pub(crate) fn check(&self) {
        let mut end = None;
        let mut sum = 0;
        for (from, to) in self.iter() {
            assert!(from < to, "a range holds something");
            assert!(end.is_none_or(|end| end < from), "ranges neither overlap nor touch");
            end = Some(to);
            sum += to.0 - from.0;
        }
        assert_eq!(sum, self.offsets, "the count is that of the ranges");
    }
}

/// `u32` count, then `u64` first offset and `u64` offset after the last of each.
impl Wire for RangeSet {
    fn put(&self, out: &mut Vec<u8>) {
        (self.ranges.len() as u32).put(out);
        for (from, to) in self.iter() {
            from.put(out);
            to.put(out);
        }
    }
    fn take(input: &mut Bytes) -> Result<Self, Malformed> {
        let mut set = Self::default();
        for (from, to) in Vec::<(QueueOffset, QueueOffset)>::take(input)? {
            let after = set.is_empty() || from > set.end();
            if from >= to || !after {
                return Err(Malformed::Field { what: "first offset of a range", value: from.0 });
            }
            set.ranges.insert(from, to);
            set.offsets += to.0 - from.0;
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_agree_with_a_plain_set() {
        let mut random = crate::tests::Random::new(7);
        for _ in 0..200 {
            let mut set = RangeSet::default();
            let mut plain = std::collections::BTreeSet::new();
            for _ in 0..30 {
                let from = random.below(60);
                let to = from + 1 + random.below(8);
                let new = (from..to).filter(|offset| plain.insert(*offset)).count() as u64;
                assert_eq!(set.insert(QueueOffset(from), QueueOffset(to)), new);
                set.check();
                assert_eq!(set.offsets, plain.len() as u64);
                let gaps = set.gaps(QueueOffset(10), QueueOffset(40));
                let gaps: Vec<u64> = gaps.iter().flat_map(|(a, b)| a.0..b.0).collect();
                let expected: Vec<u64> = (10..40).filter(|at| !plain.contains(at)).collect();
                assert_eq!(gaps, expected);
                let within = plain.range(10..40).count() as u64;
                assert_eq!(set.offsets_within(QueueOffset(10), QueueOffset(40)), within);
                for offset in 0..70 {
                    let held = set.end_of(QueueOffset(offset)).is_some();
                    assert_eq!(held, plain.contains(&offset), "{offset}");
                }
            }
            assert_eq!(RangeSet::from_bytes(set.to_bytes()), Ok(set.clone()));
        }
    }
}
