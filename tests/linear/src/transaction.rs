//! A transaction: begun once, decided once, whoever decides and however often.
use todc_utils::Specification;

use crate::Did;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Begin it.
    Begin,
    /// Commit it.
    Commit,
    /// Roll it back.
    Rollback,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is so.
    Done,
    /// It was decided otherwise.
    Finished,
    /// There is no such transaction.
    Unknown,
}

/// What has become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It was never begun.
    Absent,
    /// It is open.
    Open,
    /// It was decided.
    Decided {
        /// By a commit.
        commits: bool,
    },
}

/// The specification.
#[derive(Debug)]
pub struct Transaction;

impl Specification for Transaction {
    type State = State;
    type Operation = Did<Ask, Answer>;

    fn init() -> State {
        State::Absent
    }

    fn apply(did: &Did<Ask, Answer>, state: &State) -> (bool, State) {
        if did.may_be_early(&[Answer::Finished, Answer::Unknown]) {
            return (true, *state);
        }
        let commits = did.ask == Ask::Commit;
        let (answer, next) = match (did.ask, *state) {
            (Ask::Begin, State::Absent | State::Open) => (Answer::Done, State::Open),
            (Ask::Begin, decided) => (Answer::Finished, decided),
            (_, State::Absent) => (Answer::Unknown, State::Absent),
            (_, State::Open) => (Answer::Done, State::Decided { commits }),
            (_, State::Decided { commits: before }) if before == commits => (Answer::Done, *state),
            (_, decided) => (Answer::Finished, decided),
        };
        (did.says(&answer), next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::is_right;

    #[test]
    fn one_decision_holds() {
        use {Answer::*, Ask::*};
        let right =
            |calls: &[(u64, u64, Ask, Option<Answer>)]| is_right::<Transaction, _, _>(calls);
        let begun = (0, 1, Begin, Some(Done));
        assert!(right(&[begun, (2, 5, Commit, Some(Done)), (2, 6, Rollback, Some(Finished))]));
        assert!(right(&[begun, (2, 9, Commit, None), (3, 4, Rollback, Some(Finished))]));
        assert!(right(&[begun, (2, 9, Commit, None), (3, 4, Rollback, Some(Done))]));
        assert!(right(&[(2, 4, Commit, Some(Unknown)), (0, 0, Begin, None)]));
        // Both decisions hold.
        assert!(!right(&[begun, (2, 5, Commit, Some(Done)), (2, 6, Rollback, Some(Done))]));
        // A refusal may tell of a commit that is lost; where there is none it is wrong.
        let refused = (3, 4, Rollback, Some(Finished));
        let rolled_back = (5, 6, Rollback, Some(Done));
        assert!(right(&[begun, (2, 9, Commit, None), refused, rolled_back]));
        assert!(!right(&[begun, refused, rolled_back]));
        assert!(!right(&[begun, (5, 9, Commit, None), refused, rolled_back]));
        // It is forgotten.
        assert!(!right(&[begun, (2, 3, Commit, Some(Done)), (4, 5, Commit, Some(Unknown))]));
    }
}
