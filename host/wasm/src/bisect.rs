//! Which messages of a batch a plugin cannot bear: halves, and halves of halves.
//!
//! ```text
//!   0..256 ✗ ─► 0..128 ✓, 128..256 ✗ ─► 128..192 ✗ … ─► 173..174 ✗: message 173
//! ```
//!
//! One poisonous message of 256 takes 8 halvings: 17 calls at most, 9 of them with a fault. The
//! calls are shared out over turns, so that a batch that hurts does not hold up other tenants.
use std::ops::Range;

/// More messages in a row that all trap, and none that does not: it is the plugin.
pub(crate) const POISON_IN_A_ROW_MAX: usize = 8;

/// The search in one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bisect {
    /// What to ask next; empty when there is nothing left.
    next: Range<usize>,
    /// What else was not judged yet, the next part last.
    pending: Vec<Range<usize>>,
    count: usize,
    any_passed: bool,
    /// Poison since something last passed, in batches before this one too.
    poisoned_in_a_row: usize,
}

/// What a fault says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is one of several messages.
    Suspects,
    /// It is this message.
    Poison(usize),
    /// Whatever it is asked, it traps.
    Hopeless,
}

impl Bisect {
    /// A batch of so many messages, after so many in a row that were poison.
    pub(crate) fn new(count: usize, poisoned_in_a_row: usize) -> Self {
        Self { next: 0..count, pending: Vec::new(), count, any_passed: false, poisoned_in_a_row }
    }

    /// Messages of the batch.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whether any part of the batch was answered.
    pub(crate) fn any_passed(&self) -> bool {
        self.any_passed
    }

    /// What to ask next; `None` when every message is judged or found to be poison.
    pub(crate) fn next(&self) -> Option<Range<usize>> {
        (!self.next.is_empty()).then(|| self.next.clone())
    }

    /// What was asked was answered.
    pub(crate) fn passed(&mut self) {
        let range = self.take();
        assert!(!range.is_empty(), "only what was asked is answered");
        self.any_passed = true;
    }

    /// What was asked ended in a fault.
    pub(crate) fn failed(&mut self) -> Found {
        let range = self.take();
        assert!(!range.is_empty(), "only what was asked ends in a fault");
        if range.len() == 1 {
            self.poisoned_in_a_row += 1;
            // A small batch says it when nothing of it passed.
            let all = self.next.is_empty() && self.count > 1;
            let too_many = self.poisoned_in_a_row > POISON_IN_A_ROW_MAX;
            if !self.any_passed && (all || too_many) {
                return Found::Hopeless;
            }
            return Found::Poison(range.start);
        }
        let middle = range.start + range.len() / 2;
        if !self.next.is_empty() {
            self.pending.push(self.next.clone());
        }
        self.pending.push(middle..range.end);
        self.next = range.start..middle;
        Found::Suspects
    }

    /// Takes what was asked away; what comes after it is next.
    fn take(&mut self) -> Range<usize> {
        let after = self.pending.pop().unwrap_or(0..0);
        std::mem::replace(&mut self.next, after)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    struct Ran {
        passed: BTreeSet<usize>,
        poison: BTreeSet<usize>,
        calls: usize,
        is_hopeless: bool,
    }

    fn run(count: usize, poison: &BTreeSet<usize>) -> Ran {
        let mut bisect = Bisect::new(count, 0);
        let mut ran =
            Ran { passed: BTreeSet::new(), poison: BTreeSet::new(), calls: 0, is_hopeless: false };
        while let Some(range) = bisect.next() {
            ran.calls += 1;
            if poison.range(range.clone()).next().is_none() {
                bisect.passed();
                ran.passed.extend(range);
                continue;
            }
            match bisect.failed() {
                Found::Suspects => {}
                Found::Poison(index) => drop(ran.poison.insert(index)),
                Found::Hopeless => {
                    ran.is_hopeless = true;
                    break;
                }
            }
        }
        ran
    }

    #[test]
    fn one_message_of_256_takes_17_calls() {
        for index in 0..256 {
            let ran = run(256, &BTreeSet::from([index]));
            assert_eq!((ran.calls, ran.poison.len()), (17, 1), "message {index}");
        }
        assert_eq!(run(256, &BTreeSet::new()).calls, 1);
        assert_eq!(run(0, &BTreeSet::new()).calls, 0);
    }

    #[test]
    fn a_plugin_that_always_traps_is_known_early() {
        for count in 2..=256 {
            let ran = run(count, &(0..count).collect());
            assert!(ran.is_hopeless && ran.calls <= 25, "{count}: {} calls", ran.calls);
        }
    }

    #[test]
    fn of_single_messages_the_plugin_is_suspected_after_some() {
        let mut one = Bisect::new(1, POISON_IN_A_ROW_MAX - 1);
        assert_eq!(one.failed(), Found::Poison(0));
        let mut one = Bisect::new(1, POISON_IN_A_ROW_MAX);
        assert_eq!(one.failed(), Found::Hopeless);
    }

    proptest! {
        #[test]
        fn exactly_the_poison_is_found(
            count in 1_usize..=256,
            poison in prop::collection::btree_set(0_usize..256, 0..6),
        ) {
            let poison: BTreeSet<usize> = poison.into_iter().filter(|it| *it < count).collect();
            let ran = run(count, &poison);
            if ran.is_hopeless {
                prop_assert_eq!(poison.len(), count, "some message would have passed");
                return Ok(());
            }
            prop_assert_eq!(&ran.poison, &poison);
            let passed: BTreeSet<usize> = (0..count).filter(|it| !poison.contains(it)).collect();
            prop_assert_eq!(ran.passed, passed);
            prop_assert!(ran.calls <= 1 + 16 * poison.len(), "{} calls", ran.calls);
        }
    }
}
