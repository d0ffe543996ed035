//! What is done about a transaction that nobody has decided: pure, by the settings of its group.
//!
//! ```text
//!   begun ─ first ─► asked ─ every ─► asked ─ … ─ max times, and once more `every` ─► parked
//! ```
//!
//! Only what a producer was asked counts: while none of its group is there, a transaction waits for
//! one and does not use its checks up. What is said here is recorded once, so another policy may
//! stand in its place: a plugin of the group is asked first, and what it says in 5 seconds holds
//! instead. It wants to wait at most as often as producers are asked.
use yard_wire::plugin_use::PluginUse;
use yard_wire::transaction::Checks;
use yard_wire::{TenantId, Timestamp, TxId};

/// A transaction that nobody has decided, for a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckQuestion {
    /// Whose it is.
    pub tenant: TenantId,
    /// The transaction.
    pub tx: TxId,
    /// The group of its producer.
    pub group: String,
    /// What its producer said when it began.
    pub note: String,
    /// When it began.
    pub begun: Timestamp,
    /// How often it was looked at before, without a decision.
    pub checks: u16,
    /// The plugin.
    pub policy: PluginUse,
    /// When it is asked.
    pub asked: Timestamp,
}

/// What a plugin decided about a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckAnswer {
    /// See [`CheckQuestion::tenant`].
    pub tenant: TenantId,
    /// See [`CheckQuestion::tx`].
    pub tx: TxId,
    /// See [`CheckQuestion::asked`].
    pub asked: Timestamp,
    /// What becomes of it.
    pub fate: CheckFate,
}

/// What becomes of a transaction that nobody has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckFate {
    /// Its messages become visible.
    Commit,
    /// Its messages are dropped.
    Rollback,
    /// A producer of its group is asked.
    Ask,
    /// It is looked at again when its group says.
    Wait,
}

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

/// When a transaction that begins now is looked at first; 0: never. A plugin has a look at each.
pub(crate) fn first(checks: &Checks, has_plugin: bool, now: Timestamp) -> Timestamp {
    let is_looked_at = checks.max > 0 || has_plugin;
    if is_looked_at { now.plus_ms(checks.first.0.into()) } else { Timestamp(0) }
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
        now = first(&settings, false, now);
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
        assert_eq!(first(&never, false, now), Timestamp(0));
        assert_eq!(first(&never, true, now), now.plus_ms(6_000));
    }
}
