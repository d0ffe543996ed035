//! What is done about a transaction that nobody has decided: pure, by the settings of its group.
//!
//! ```text
//!   begun ─ first ─► asked ─ every ─► asked ─ … ─ max times, and once more `every` ─► parked
//! ```
//!
//! Only what a producer was asked counts: while none of its group is there, a transaction waits for
//! one and does not use its checks up. What is said here is recorded once, so another policy may
//! stand in its place.
use yard_wire::Timestamp;
use yard_wire::transaction::Checks;

/// A transaction whose check is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) now: Timestamp,
    /// How often a producer was asked by now.
    pub(crate) checks: u16,
    /// A producer of its group is there.
    pub(crate) has_producer: bool,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A producer is asked; it is looked at again then.
    Ask { next: Timestamp },
    /// It is looked at again then, or when a producer comes.
    Wait { next: Timestamp },
    /// It waits for an operator.
    Park,
}

/// When a transaction that begins now is looked at first; 0: never.
pub(crate) fn first(checks: &Checks, now: Timestamp) -> Timestamp {
    if checks.max == 0 { Timestamp(0) } else { now.plus_ms(checks.first.0.into()) }
}

/// What is done about a transaction whose check is due.
pub(crate) fn decide(checks: &Checks, question: Question) -> Fate {
    let next = question.now.plus_ms(checks.every.0.into());
    assert!(next > question.now, "time passes between two checks");
    if question.checks >= checks.max {
        return Fate::Park;
    }
    if question.has_producer { Fate::Ask { next } } else { Fate::Wait { next } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_are_asked_so_often_and_then_an_operator_is() {
        let (settings, mut now) = (Checks::default(), Timestamp(1_000));
        now = first(&settings, now);
        assert_eq!(now, Timestamp(7_000));
        for checks in 0..15 {
            let ask = decide(&settings, Question { now, checks, has_producer: true });
            let wait = decide(&settings, Question { now, checks, has_producer: false });
            let next = now.plus_ms(60_000);
            assert_eq!((ask, wait), (Fate::Ask { next }, Fate::Wait { next }));
            now = next;
        }
        let last = Question { now, checks: 15, has_producer: true };
        assert_eq!(decide(&settings, last), Fate::Park);
        let never = Checks { max: 0, ..settings };
        assert_eq!(first(&never, now), Timestamp(0));
    }
}
