//! A set of offsets as disjoint ranges: cumulative acknowledgements cost one range, not many.

use std::collections::BTreeMap;

/// Disjoint, non-adjacent half-open ranges, by their start.
#[derive(Debug, Clone, Default)]
pub(crate) struct Intervals {
    ranges: BTreeMap<u64, u64>,
}

impl Intervals {
    /// Adds `from..to`, merging what it touches. Amortised O(log n): a merged range is gone.
    pub(crate) fn insert(&mut self, mut from: u64, mut to: u64) {
        if from >= to {
            return;
        }
        if let Some((&start, &end)) = self.ranges.range(..=from).next_back() {
            if end >= to {
                return;
            }
            if end >= from {
                from = start;
            }
        }
        while let Some((&start, &end)) = self.ranges.range(from..=to).next() {
            to = to.max(end);
            self.ranges.remove(&start);
        }
        self.ranges.insert(from, to);
    }

    /// Whether all of `from..to` is in the set; so for an empty range.
    pub(crate) fn covers(&self, from: u64, to: u64) -> bool {
        from >= to || self.ranges.range(..=from).next_back().is_some_and(|(_, end)| *end >= to)
    }

    pub(crate) fn contains(&self, offset: u64) -> bool {
        self.ranges.range(..=offset).next_back().is_some_and(|(_, end)| offset < *end)
    }

    pub(crate) fn clear(&mut self) {
        self.ranges.clear();
    }

    /// The ranges, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(from, to)| (*from, *to))
    }
}

#[cfg(test)]
mod tests {
    use super::Intervals;

    #[test]
    fn a_set_of_ranges_is_the_set_of_their_offsets() {
        let mut random = 1u64;
        for _ in 0..500 {
            let (mut set, mut plain) = (Intervals::default(), [false; 40]);
            for _ in 0..12 {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let (from, length) = ((random >> 33) % 32, (random >> 50) % 9);
                set.insert(from, from + length);
                plain[from as usize..(from + length) as usize].fill(true);
            }
            for at in 0..40 {
                assert_eq!(set.contains(at), plain[at as usize], "{set:?} at {at}");
                for to in at..40 {
                    let all = plain[at as usize..to as usize].iter().all(|set| *set);
                    assert_eq!(set.covers(at, to), all, "{set:?} {at}..{to}");
                }
            }
            let joined: Vec<_> = set.iter().collect();
            assert!(joined.windows(2).all(|pair| pair[0].1 < pair[1].0), "{joined:?} touch");
        }
    }
}
