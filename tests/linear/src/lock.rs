//! A queue that is somebody's own: a member of an exclusive group holds it while it has messages of
//! it that are not settled, and nobody else gets any.
use todc_utils::Specification;

use crate::Did;

/// What happens, each to a member by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// It has got a message.
    Hold(u64),
    /// It settles, ends its subscription, or is gone.
    LetGo(u64),
}

/// The specification: who holds the queue.
#[derive(Debug)]
pub struct Lock;

impl Specification for Lock {
    type State = Option<u64>;
    type Operation = Did<Ask, ()>;

    fn init() -> Option<u64> {
        None
    }

    fn apply(did: &Did<Ask, ()>, state: &Option<u64>) -> (bool, Option<u64>) {
        match did.ask {
            Ask::Hold(member) => (state.is_none_or(|holder| holder == member), Some(member)),
            Ask::LetGo(member) => (true, state.filter(|holder| *holder != member)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::is_right;

    #[test]
    fn one_member_holds_it() {
        use Ask::*;
        let right = |calls: &[(u64, u64, Ask, Option<()>)]| is_right::<Lock, _, _>(calls);
        let done = Some(());
        let first = (0, 2, Hold(1), done);
        assert!(right(&[first, (3, 6, LetGo(1), done), (0, 5, Hold(2), done)]));
        assert!(right(&[first, (1, 0, LetGo(1), None), (0, 5, Hold(2), done)]));
        assert!(right(&[first, (0, 5, Hold(1), done), (6, 7, LetGo(1), done)]));
        // Two owners.
        assert!(!right(&[first, (0, 5, Hold(2), done)]));
        assert!(!right(&[first, (8, 9, LetGo(1), done), (3, 5, Hold(2), done)]));
        // What somebody else lets go is not let go.
        assert!(!right(&[first, (3, 4, LetGo(3), done), (5, 6, Hold(2), done)]));
    }
}
