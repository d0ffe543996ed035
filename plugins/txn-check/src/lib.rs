//! Transaction check by rules: SQL expressions over the properties of a prepared message.
//!
//! The first rule that is true decides: `commit`, then `rollback`, then `ask`; when none is, the
//! message waits for the next check. Besides the properties an expression sees `$age_ms`, for how
//! long the message has been prepared, and `$checks`, how often it was looked at. Without settings
//! the producer is asked 15 times and then the message is rolled back, as RocketMQ does.
#![deny(missing_docs)]

use switchyard_plugin::abi;
use switchyard_plugin::prelude::*;
use yard_sql::{Dialect, Predicate};

manifest! {
    says: "Commit, roll back or ask, by rules over properties and age.",
    points: ["txn-check"],
    capabilities: ["log"],
    config: [
        { name: "commit", says: "when to commit, in SQL; never if not set" },
        { name: "rollback", says: "when to roll back, in SQL; $checks > 15 if not set" },
        { name: "ask", says: "when to ask the producer, in SQL; TRUE if not set" },
    ],
    tests: "tests/vectors.json",
}
txn_check!(type TxnRules);

/// Rules in the order in which they are tried: setting, its default, what it decides.
const RULES: [(&str, &str, Fate); 3] = [
    ("commit", "FALSE", Fate::Commit),
    ("rollback", "$checks > 15", Fate::Rollback),
    ("ask", "TRUE", Fate::AskProducer),
];

/// The rules of a topic.
#[derive(Clone, Debug)]
pub struct TxnRules {
    rules: Vec<(Predicate, Fate)>,
}

impl TxnCheck for TxnRules {
    fn open(config: &Config) -> Result<Self, String> {
        let rules = RULES.into_iter().map(|(name, default, fate)| {
            let predicate = Predicate::parse(config.get(name).unwrap_or(default), Dialect::Sql);
            Ok((predicate.map_err(|error| format!("`{name}`: {error}"))?, fate))
        });
        Ok(Self { rules: rules.collect::<Result<_, String>>()? })
    }

    fn check(&self, half: &Half) -> Fate {
        // Ours first: a property of the producer's by the same name does not count.
        let mut properties = vec![
            ("$age_ms".to_owned(), half.age_ms.to_string()),
            ("$checks".to_owned(), half.checks.to_string()),
        ];
        properties.extend_from_slice(&half.properties);
        let record = abi::record::Parts { properties, ..Default::default() }.record();
        let message = abi::Message::parse(&record).expect("a record was made");
        let rule = self.rules.iter().find(|(predicate, _)| predicate.matches(&message));
        rule.map_or(Fate::Unknown, |(_, fate)| *fate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(settings: &[(&str, &str)], half: &Half) -> Fate {
        TxnRules::open(&settings.iter().copied().collect()).expect("rules").check(half)
    }

    #[test]
    fn the_producer_is_asked_fifteen_times() {
        assert_eq!(check(&[], &Half { checks: 15, ..Half::default() }), Fate::AskProducer);
        assert_eq!(check(&[], &Half { checks: 16, ..Half::default() }), Fate::Rollback);
    }

    #[test]
    fn the_first_rule_that_is_true_decides() {
        let rules = [
            ("commit", "state = 'paid'"),
            ("rollback", "state = 'failed' OR $age_ms > 3600000"),
            ("ask", "$checks >= 2"),
        ];
        let half = |state: &str, age_ms, checks| Half {
            age_ms,
            checks,
            properties: vec![("state".to_owned(), state.to_owned())],
            ..Half::default()
        };
        assert_eq!(check(&rules, &half("paid", 9_000_000, 9)), Fate::Commit);
        assert_eq!(check(&rules, &half("failed", 1, 1)), Fate::Rollback);
        assert_eq!(check(&rules, &half("", 3_600_001, 1)), Fate::Rollback);
        assert_eq!(check(&rules, &half("", 1, 2)), Fate::AskProducer);
        assert_eq!(check(&rules, &half("", 1, 1)), Fate::Unknown);
    }

    #[test]
    fn a_producer_cannot_say_how_old_its_message_is() {
        let properties = vec![("$age_ms".to_owned(), "0".to_owned())];
        let half = Half { age_ms: 5_000, checks: 1, properties, ..Half::default() };
        assert_eq!(check(&[("commit", "$age_ms >= 5000")], &half), Fate::Commit);
    }

    #[test]
    fn a_rule_that_does_not_parse_is_named() {
        let config = [("ask", "state =")].into_iter().collect();
        let error = TxnRules::open(&config).expect_err("half a comparison");
        assert!(error.starts_with("`ask`: line 1, column 8: expected"), "{error}");
    }
}
