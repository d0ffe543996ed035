//! A dedupe key: the first message with it is stored, every later one is told which that was.
use todc_utils::Specification;

use crate::Did;

/// What is answered to a message, which asks by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is stored.
    Stored,
    /// This one is, in its place.
    Original(u128),
}

/// The specification: the message that is stored.
#[derive(Debug)]
pub struct Key;

impl Specification for Key {
    type State = Option<u128>;
    type Operation = Did<u128, Answer>;

    fn init() -> Option<u128> {
        None
    }

    fn apply(did: &Did<u128, Answer>, state: &Option<u128>) -> (bool, Option<u128>) {
        match *state {
            None => (did.says(&Answer::Stored), Some(did.ask)),
            Some(first) => (did.says(&Answer::Original(first)), Some(first)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::is_right;

    #[test]
    fn one_message_is_stored() {
        use Answer::*;
        let right = |calls: &[(u64, u64, u128, Option<Answer>)]| is_right::<Key, _, _>(calls);
        assert!(right(&[(0, 3, 1, Some(Original(2))), (0, 3, 2, Some(Stored))]));
        assert!(right(&[(0, 0, 1, None), (5, 6, 2, Some(Original(1)))]));
        assert!(right(&[(0, 0, 1, None), (5, 6, 2, Some(Stored))]));
        // The exchange is lost: both believe that they were first.
        assert!(!right(&[(0, 3, 1, Some(Stored)), (0, 3, 2, Some(Stored))]));
        // Told of one that had not been sent.
        assert!(!right(&[(0, 1, 1, Some(Original(2))), (2, 3, 2, Some(Stored))]));
        // Told of different ones.
        assert!(!right(&[
            (0, 0, 1, None),
            (0, 0, 2, None),
            (5, 6, 3, Some(Original(1))),
            (7, 8, 4, Some(Original(2))),
        ]));
    }
}
