//! Two versions side by side: what both said of the same messages, counted and listed.
use crate::bits::Bits;

/// Differing messages that are listed; more are only counted.
pub const LISTED_MAX: usize = 10_000;

/// A message of which two versions said different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference<Id> {
    /// The message.
    pub id: Id,
    /// What the candidate said; the other said the opposite.
    pub candidate: bool,
}

/// What shadow, canary and replay found by comparing a candidate with the version in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison<Id> {
    /// Messages that both judged.
    pub messages: u64,
    /// Of them, those for which the version in use said yes.
    pub current: u64,
    /// Of them, those for which the candidate said yes.
    pub candidate: u64,
    /// Of them, those of which they said different things.
    pub differing: u64,
    /// The first of those, in the order of comparing, at most [`LISTED_MAX`].
    pub listed: Vec<Difference<Id>>,
}

impl<Id> Default for Comparison<Id> {
    fn default() -> Self {
        Self { messages: 0, current: 0, candidate: 0, differing: 0, listed: Vec::new() }
    }
}

impl<Id> Comparison<Id> {
    /// Adds the messages of a batch that are in `judged`.
    pub fn add(
        &mut self,
        judged: Bits,
        current: Bits,
        candidate: Bits,
        mut id: impl FnMut(usize) -> Id,
    ) {
        let (current, candidate) = (current.and(judged), candidate.and(judged));
        let differing = current.differing(candidate);
        self.messages += judged.count() as u64;
        self.current += current.count() as u64;
        self.candidate += candidate.count() as u64;
        self.differing += differing.count() as u64;
        for index in differing.iter() {
            if self.listed.len() == LISTED_MAX {
                break;
            }
            self.listed.push(Difference { id: id(index), candidate: candidate.has(index) });
        }
        assert!(self.differing <= self.messages, "only what was compared can differ");
    }
}

/// Which batches a shadow looks at: a share of them, spread evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Of a thousand batches; more than a thousand is all.
    pub per_mille: u16,
}

impl Sample {
    /// Whether batch `number`, counted by the worker from 0, is looked at.
    #[must_use]
    pub fn takes(self, number: u64) -> bool {
        let share = u64::from(self.per_mille.min(1_000));
        // A batch is taken where the line of slope `share` passes a whole number.
        let (number, before) = (number % 1_000, number % 1_000 * share / 1_000);
        (number + 1) * share / 1_000 > before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(indices: &[usize]) -> Bits {
        let mut bits = Bits::default();
        indices.iter().for_each(|index| bits.add(*index));
        bits
    }

    #[test]
    fn a_comparison_lists_exactly_what_differs() {
        let mut comparison = Comparison::default();
        comparison.add(Bits::first(4), bits(&[0, 1]), bits(&[1, 2, 7]), |index| index + 100);
        let listed =
            [Difference { id: 100, candidate: false }, Difference { id: 102, candidate: true }];
        assert_eq!(comparison.listed, listed);
        assert_eq!((comparison.messages, comparison.differing), (4, 2));
        assert_eq!((comparison.current, comparison.candidate), (2, 2));
    }

    #[test]
    fn the_list_is_bounded_and_the_count_goes_on() {
        let mut comparison = Comparison::default();
        for batch in 0..50 {
            comparison.add(Bits::first(256), Bits::default(), Bits::first(256), |it| (batch, it));
        }
        assert_eq!(comparison.listed.len(), LISTED_MAX);
        assert_eq!(comparison.differing, 50 * 256);
    }

    #[test]
    fn a_sample_takes_its_share() {
        for per_mille in [0, 1, 10, 333, 999, 1_000] {
            let sample = Sample { per_mille };
            let taken = (0..3_000).filter(|number| sample.takes(*number)).count();
            assert_eq!(taken, 3 * usize::from(per_mille), "{per_mille}");
        }
    }
}
