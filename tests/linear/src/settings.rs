//! Two settings of a group: who changes one is told both, so that no change may undo another.
use todc_utils::Specification;

use crate::Did;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Another number of attempts.
    Attempts(u32),
    /// Another number of keys that are remembered.
    Keys(u64),
}

/// Both settings, as far as anybody was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct State {
    /// The attempts.
    pub attempts: Option<u32>,
    /// The keys.
    pub keys: Option<u64>,
}

/// The specification. What settings are before anybody changes them is not said.
#[derive(Debug)]
pub struct Settings;

impl Specification for Settings {
    type State = State;
    type Operation = Did<Ask, (u32, u64)>;

    fn init() -> State {
        State::default()
    }

    fn apply(did: &Did<Ask, (u32, u64)>, state: &State) -> (bool, State) {
        let mut next = *state;
        match did.ask {
            Ask::Attempts(attempts) => next.attempts = Some(attempts),
            Ask::Keys(keys) => next.keys = Some(keys),
        }
        let Some((attempts, keys)) = did.answer else { return (true, next) };
        let is_so = next.attempts.is_none_or(|known| known == attempts)
            && next.keys.is_none_or(|known| known == keys);
        (is_so, State { attempts: Some(attempts), keys: Some(keys) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::is_right;

    /// From when, until when, what, and what was told.
    type Asked = (u64, u64, Ask, Option<(u32, u64)>);

    #[test]
    fn no_change_undoes_another() {
        use Ask::*;
        let right = |calls: &[Asked]| is_right::<Settings, _, _>(calls);
        let first = (0, 1, Attempts(5), Some((5, 100)));
        assert!(right(&[
            first,
            (2, 5, Keys(7), Some((6, 7))),
            (2, 6, Attempts(6), Some((6, 100)))
        ]));
        assert!(right(&[first, (2, 9, Keys(7), None), (3, 4, Attempts(6), Some((6, 7)))]));
        // The second one has begun with what there was before the first.
        assert!(!right(&[
            first,
            (2, 3, Keys(7), Some((5, 7))),
            (4, 5, Attempts(6), Some((6, 100))),
        ]));
        // Each is told of its own alone.
        assert!(!right(&[
            first,
            (2, 6, Keys(7), Some((5, 7))),
            (2, 6, Attempts(6), Some((6, 100))),
        ]));
    }
}
