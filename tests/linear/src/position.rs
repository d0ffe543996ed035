//! Where a group goes on in a queue: who moves it is told where it was, so every move sees the one
//! before it.
use todc_utils::Specification;

use crate::Did;

/// What is answered to a move, which asks by the offset to go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was moved.
    Moved {
        /// From here.
        before: u64,
        /// To here.
        after: u64,
    },
    /// The queue does not reach as far.
    BeyondEnd,
}

/// The specification: the offset.
#[derive(Debug)]
pub struct Position;

impl Specification for Position {
    type State = u64;
    type Operation = Did<u64, Answer>;

    fn init() -> u64 {
        0
    }

    fn apply(did: &Did<u64, Answer>, state: &u64) -> (bool, u64) {
        match did.answer {
            // Where the queue ends is no part of the object.
            Some(Answer::BeyondEnd) => (true, *state),
            Some(Answer::Moved { before, after }) => {
                (before == *state && after == did.ask, did.ask)
            }
            None => (true, did.ask),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::is_right;

    #[test]
    fn every_move_sees_the_one_before() {
        let right = |calls: &[(u64, u64, u64, Option<Answer>)]| is_right::<Position, _, _>(calls);
        let moved = |before, after| Some(Answer::Moved { before, after });
        assert!(right(&[(0, 5, 3, moved(2, 3)), (0, 5, 2, moved(0, 2))]));
        assert!(right(&[(0, 0, 3, None), (4, 5, 2, moved(3, 2)), (6, 7, 1, moved(2, 1))]));
        assert!(right(&[(0, 0, 3, None), (4, 5, 2, moved(0, 2)), (6, 7, 1, moved(2, 1))]));
        assert!(right(&[(0, 1, 9, Some(Answer::BeyondEnd)), (2, 3, 1, moved(0, 1))]));
        // Both saw the same: one of them is lost.
        assert!(!right(&[(0, 5, 3, moved(0, 3)), (0, 5, 2, moved(0, 2))]));
        // The move before is gone, though it was answered.
        assert!(!right(&[(0, 1, 3, moved(0, 3)), (2, 3, 1, moved(0, 1))]));
    }
}
