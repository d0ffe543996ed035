//! A dead letter, and which of them are meant.
use yard_client::wire::{QueueIndex, QueueOffset, Timestamp};
use yard_client::{Message, Record};

use crate::args::Written;
use crate::failure::Failure;

/// Why a message became a dead letter, as the broker notes it.
const REASONS: [&str; 5] = ["rejected", "failed", "lease-ended", "poisoned", "policy"];

/// A dead letter with its place.
pub(super) struct Letter {
    pub(super) queue: QueueIndex,
    pub(super) offset: QueueOffset,
    /// When it became one.
    pub(super) stored: Timestamp,
    pub(super) record: Record,
}

impl Letter {
    /// The message that it was before, to be sent anew: without what the system had added.
    pub(super) fn message(&self) -> Message {
        Message::like(&self.record)
    }
}

/// Which dead letters are meant: those to which all of it applies.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Predicate {
    tag: Option<String>,
    key: Option<String>,
    reason: Option<String>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

impl Predicate {
    pub(super) fn read(written: &Written) -> Result<Self, Failure> {
        let text = |name: &str| written.text(name).map(str::to_owned);
        let reason = written.read("reason", |text| {
            let known = REASONS.contains(&text).then(|| text.to_owned());
            known.ok_or_else(|| format!("takes {}, not {text:?}", REASONS.join(", ")))
        })?;
        let (from, to) = (super::super::time(written, "from")?, super::super::time(written, "to")?);
        Ok(Self { tag: text("tag"), key: text("key"), reason, from, to })
    }

    pub(super) fn matches(&self, letter: &Letter) -> bool {
        let record = &letter.record;
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        is(&self.tag, Some(record.tag()))
            && self.key.as_deref().is_none_or(|key| record.keys().any(|found| found == key))
            && is(&self.reason, record.property("$dead.reason"))
            && self.from.is_none_or(|from| letter.stored >= from)
            && self.to.is_none_or(|to| letter.stored < to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_client::wire::record::{DUE, Flags, KEY, ORDER, RecordParts};

    fn letter() -> Letter {
        let properties =
            &[("$dead.reason", "failed"), (KEY, "k"), (ORDER, "o"), (DUE, "5"), ("colour", "red")];
        let parts = RecordParts { tag: "t", properties, body: b"body", ..RecordParts::default() };
        let mut bytes = Vec::new();
        RecordParts { flags: Flags::DELAYED, ..parts }.encode(&mut bytes).unwrap();
        let record = Record::parse(bytes.into()).unwrap();
        let (queue, offset, stored) = (QueueIndex(0), QueueOffset(3), Timestamp(100));
        Letter { queue, offset, stored, record }
    }

    #[test]
    fn all_of_a_predicate_applies() {
        let check = |predicate: Predicate, expected: bool| {
            assert_eq!(predicate.matches(&letter()), expected, "{predicate:?}");
        };
        let text = |text: &str| Some(text.to_owned());
        check(Predicate::default(), true);
        check(Predicate { tag: text("t"), key: text("k"), ..Predicate::default() }, true);
        check(Predicate { tag: text("u"), key: text("k"), ..Predicate::default() }, false);
        check(Predicate { key: text("o"), ..Predicate::default() }, false);
        check(Predicate { reason: text("failed"), ..Predicate::default() }, true);
        check(Predicate { reason: text("rejected"), ..Predicate::default() }, false);
        let time = |ms| Some(Timestamp(ms));
        check(Predicate { from: time(100), to: time(101), ..Predicate::default() }, true);
        check(Predicate { from: time(101), ..Predicate::default() }, false);
        check(Predicate { to: time(100), ..Predicate::default() }, false);
    }

    #[test]
    fn what_is_sent_again_is_the_message_as_it_was() {
        let expected = Message::new("body").tag("t").key("k").order_group("o");
        assert_eq!(letter().message(), expected.property("colour", "red"));
    }
}
