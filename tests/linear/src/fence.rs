//! The epoch of a producer: once something was stored under one, nothing is under an earlier one.
use todc_utils::Specification;

use crate::Did;

/// What is answered to a batch, which asks by its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is stored.
    Stored,
    /// There is a newer epoch. Of a batch that was sent twice this says nothing: the other copy may
    /// have been stored before the newer epoch was, so that whoever records it leaves it open.
    Fenced,
}

/// The specification: the newest epoch.
#[derive(Debug)]
pub struct Fence;

impl Specification for Fence {
    type State = u32;
    type Operation = Did<u32, Answer>;

    fn init() -> u32 {
        0
    }

    fn apply(did: &Did<u32, Answer>, state: &u32) -> (bool, u32) {
        if did.may_be_early(&[Answer::Fenced]) {
            (true, *state)
        } else if did.ask >= *state {
            (did.says(&Answer::Stored), did.ask)
        } else {
            (did.says(&Answer::Fenced), *state)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::is_right;

    #[test]
    fn an_earlier_epoch_stores_nothing() {
        use Answer::*;
        let right = |calls: &[(u64, u64, u32, Option<Answer>)]| is_right::<Fence, _, _>(calls);
        assert!(right(&[
            (0, 1, 2, Some(Stored)),
            (0, 3, 1, Some(Fenced)),
            (4, 5, 2, Some(Stored))
        ]));
        assert!(right(&[(0, 0, 2, None), (4, 5, 1, Some(Stored)), (6, 7, 1, Some(Fenced))]));
        // A stale one is accepted.
        assert!(!right(&[(0, 1, 2, Some(Stored)), (2, 3, 1, Some(Stored))]));
        // The newer one was never sent.
        assert!(!right(&[(0, 1, 1, Some(Stored)), (2, 3, 1, Some(Fenced))]));
        // What was sent twice may be stored, and refused when it comes again: that is no answer.
        let twice = |answer| {
            right(&[(0, 9, 17, answer), (2, 3, 10, Some(Fenced)), (5, 6, 34, Some(Stored))])
        };
        assert!(twice(None) && !twice(Some(Fenced)));
        // A refusal may tell of a newer one that is lost, and of nothing else.
        assert!(right(&[(0, 0, 2, None), (4, 5, 1, Some(Fenced)), (6, 7, 1, Some(Stored))]));
        assert!(!right(&[(6, 7, 2, None), (4, 5, 1, Some(Fenced))]));
    }
}
