//! The name of a topic: at most one topic has it at a time.
use todc_utils::Specification;

use crate::Did;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Create a topic with this name, with so many queues.
    Create(u16),
    /// Remove it.
    Remove,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is so, of the topic with this id.
    Is(u32),
    /// There is one with other settings.
    Exists,
    /// There is none.
    Unknown,
}

/// The topic that has the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Topic {
    /// Its id, once anybody was told.
    pub id: Option<u32>,
    /// Its queues.
    pub queues: u16,
}

/// The specification.
#[derive(Debug)]
pub struct Name;

impl Specification for Name {
    type State = Option<Topic>;
    type Operation = Did<Ask, Answer>;

    fn init() -> Option<Topic> {
        None
    }

    fn apply(did: &Did<Ask, Answer>, state: &Option<Topic>) -> (bool, Option<Topic>) {
        if did.may_be_early(&[Answer::Exists, Answer::Unknown]) {
            return (true, *state);
        }
        let told = match did.answer {
            Some(Answer::Is(id)) => Some(id),
            Some(Answer::Exists | Answer::Unknown) | None => None,
        };
        let is_told = told.is_some() || did.answer.is_none();
        let is_it =
            |topic: Topic| is_told && told.is_none_or(|id| topic.id.is_none_or(|it| it == id));
        match (did.ask, *state) {
            (Ask::Create(queues), None) => (is_told, Some(Topic { id: told, queues })),
            (Ask::Create(queues), Some(topic)) if topic.queues == queues => {
                (is_it(topic), Some(Topic { id: topic.id.or(told), queues }))
            }
            (Ask::Create(_), Some(topic)) => (did.says(&Answer::Exists), Some(topic)),
            (Ask::Remove, None) => (did.says(&Answer::Unknown), None),
            (Ask::Remove, Some(topic)) => (is_it(topic), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::is_right;

    #[test]
    fn one_topic_has_the_name() {
        use {Answer::*, Ask::*};
        let right = |calls: &[(u64, u64, Ask, Option<Answer>)]| is_right::<Name, _, _>(calls);
        let first = (0, 1, Create(1), Some(Is(5)));
        assert!(right(&[first, (2, 3, Create(1), Some(Is(5))), (2, 3, Create(2), Some(Exists))]));
        assert!(right(&[first, (2, 9, Remove, None), (3, 4, Create(2), Some(Is(6)))]));
        assert!(right(&[(0, 0, Create(1), None), (2, 3, Create(2), Some(Exists))]));
        assert!(right(&[(0, 0, Create(1), None), (2, 3, Remove, Some(Unknown))]));
        // Two topics have it.
        assert!(!right(&[first, (2, 3, Create(2), Some(Is(6)))]));
        assert!(!right(&[first, (2, 3, Create(1), Some(Is(6)))]));
        // It is gone, and nobody removed it.
        assert!(!right(&[first, (2, 3, Remove, Some(Unknown))]));
        // It was removed twice.
        assert!(!right(&[first, (2, 3, Remove, Some(Is(5))), (4, 5, Remove, Some(Is(5)))]));
    }
}
