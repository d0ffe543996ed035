//! Laws that hold for every predicate and every message, over more than a million messages.

use proptest::prelude::*;
use switchyard_plugin::abi;
use switchyard_plugin::prelude::*;
use yard_sql::{Dialect, Predicate};

use crate::generate::{Columns, Random, predicate};

const COLUMNS: Columns = Columns {
    numbers: &[("a", &[-3, 0, 1, 2, 7]), ("b", &[-1, 0, 2, 5]), ("long_name", &[0, 1, 1_000])],
    texts: &[("s", &["", "x", "xy", "yx", "zzz"]), ("t", &["x", "X", "ö", "y"])],
};
/// Predicates, and messages that each of them judges.
const PREDICATES: usize = 2_100;
const MESSAGES: usize = 500;
const SEED: u64 = 20_260_821;

/// A message in which anything may be missing, and anything may be no number.
fn message(random: &mut Random) -> Vec<u8> {
    let mut properties = Vec::new();
    let mut put = |random: &mut Random, name: &str, values: &[&str]| {
        if !random.one_in(4) {
            properties.push((name.to_owned(), (*random.pick(values)).to_owned()));
        }
    };
    let numbers = ["-3", "0", "1", "1.0", "1.5", "2", "7", "+2", "", "x", "1e3", "-0"];
    put(random, "a", &numbers);
    put(random, "other", &["1"]);
    put(random, "b", &numbers);
    put(random, "s", &["", "x", "xy", "yx", "xyx", "zzz", "true", "1"]);
    put(random, "t", &["x", "X", "ö", "y", "2"]);
    put(random, "long_name", &numbers);
    abi::record::Parts { properties, ..Default::default() }.record()
}

fn parse(text: &str) -> Predicate {
    match Predicate::parse(text, Dialect::Sql) {
        Ok(predicate) => predicate,
        Err(error) => panic!("{error} in {text}"),
    }
}

/// Two predicates and what is made of them; each pair must agree on every message.
fn pairs(p: &str, q: &str) -> Vec<(Predicate, Predicate)> {
    let pairs = [
        // The walk without recursion, and three-valued logic itself.
        (p.to_owned(), format!("({p}) = TRUE")),
        (format!("NOT ({p})"), format!("({p}) = FALSE")),
        (format!("NOT (NOT ({p}))"), p.to_owned()),
        (format!("NOT (({p}) AND ({q}))"), format!("NOT ({p}) OR NOT ({q})")),
        (format!("NOT (({p}) OR ({q}))"), format!("NOT ({p}) AND NOT ({q})")),
        (format!("({p}) AND ({q})"), format!("({q}) AND ({p})")),
        (format!("({p}) OR ({q})"), format!("({q}) OR ({p})")),
        (format!("({p}) AND (({p}) OR ({q}))"), p.to_owned()),
        (format!("({p}) IS NULL"), format!("NOT (({p}) IS NOT NULL)")),
    ];
    pairs.iter().map(|(left, right)| (parse(left), parse(right))).collect()
}

#[test]
fn logic_has_three_values() {
    let mut random = Random(SEED);
    let mut seen = [0u64; 3];
    for _ in 0..PREDICATES {
        let depth = random.below(4);
        let p = predicate(&mut random, &COLUMNS, depth);
        let q = predicate(&mut random, &COLUMNS, 1);
        let pairs = pairs(&p, &q);
        let ways = [parse(&p), parse(&format!("NOT ({p})")), parse(&format!("({p}) IS NULL"))];
        for _ in 0..MESSAGES {
            let record = message(&mut random);
            let message = abi::Message::parse(&record).expect("a record");
            for (law, (left, right)) in pairs.iter().enumerate() {
                let (left, right) = (left.matches(&message), right.matches(&message));
                assert_eq!(left, right, "law {law} for {p} and {q} of {message:?}");
            }
            let found: Vec<usize> = (0..3).filter(|way| ways[*way].matches(&message)).collect();
            assert_eq!(found.len(), 1, "TRUE, FALSE or NULL: {p} of {message:?}");
            seen[found[0]] += 1;
        }
    }
    assert_eq!(seen.iter().sum::<u64>(), (PREDICATES * MESSAGES) as u64);
    println!("messages: TRUE {}, FALSE {}, NULL {}", seen[0], seen[1], seen[2]);
    assert!(seen.iter().all(|count| *count > 100_000), "all three are seen often: {seen:?}");
}

/// Short forms, and what they are short for.
const SHORT: &[(&str, &str)] = &[
    ("a BETWEEN 0 AND 2", "a >= 0 AND a <= 2"),
    ("a NOT BETWEEN 0 AND b", "a < 0 OR a > b"),
    ("a IN (1, 2, 7)", "a = 1 OR a = 2 OR a = 7"),
    ("a NOT IN (1, 2)", "a <> 1 AND a <> 2"),
    ("a IN (1, NULL)", "a = 1 OR a = b AND 1 = 2 OR a IS NOT NULL AND a = 1"),
    ("s IN ('x', 'xy')", "s = 'x' OR s = 'xy'"),
    ("s NOT IN ('x', 'xy')", "NOT (s = 'x' OR s = 'xy')"),
    ("s STARTSWITH 'x'", "s LIKE 'x%'"),
    ("s ENDSWITH 'x'", "s LIKE '%x'"),
    ("s CONTAINS 'y'", "s LIKE '%y%'"),
    ("s NOT CONTAINS 'y'", "NOT (s CONTAINS 'y')"),
    ("a <> b", "NOT (a = b)"),
    ("a != 2", "a <> 2"),
    ("a > b", "b < a"),
    ("a * 2 > b", "a + a > +b"),
    ("-a < 0", "a > 0"),
    ("a % 2 = 1 AND a > 0", "0 < a AND +a % 2 = 3 - 2"),
    ("a = 1 -- a comment\n AND /* another */ b = 2", "a=1 and b=2"),
    ("\"a\" = 1", "a = 1.0"),
];

#[test]
fn short_forms_are_what_they_are_short_for() {
    let mut random = Random(SEED + 1);
    let pairs: Vec<_> = SHORT.iter().map(|(a, b)| (parse(a), parse(b))).collect();
    let mut matched = vec![0; pairs.len()];
    for _ in 0..20_000 {
        let record = message(&mut random);
        let message = abi::Message::parse(&record).expect("a record");
        for (index, (short, long)) in pairs.iter().enumerate() {
            let verdict = short.matches(&message);
            assert_eq!(verdict, long.matches(&message), "{:?} of {message:?}", SHORT[index]);
            matched[index] += u32::from(verdict);
        }
    }
    assert!(matched.iter().all(|count| *count > 0), "each is true of something: {matched:?}");
}

/// Where nothing is missing and everything is what it is compared with, the dialects agree.
#[test]
fn dialects_agree_where_nothing_is_odd() {
    let texts = [
        "a > 1 AND b <= 2",
        "NOT (a BETWEEN 0 AND 2) OR s IN ('x', 'xy')",
        "s NOT IN ('x') AND (a = 1 OR b <> 0)",
        "s CONTAINS 'y' OR s STARTSWITH 'x' AND a IS NOT NULL",
        "missing IS NULL AND a >= -1",
    ];
    let mut random = Random(SEED + 2);
    for text in texts {
        let sql = parse(text);
        let rocketmq = Predicate::parse(text, Dialect::RocketMq).expect("the same words");
        let mut matched = 0;
        for _ in 0..5_000 {
            let message = Message::builder()
                .property("a", *random.pick(&[-3, 0, 1, 2, 7]))
                .property("b", *random.pick(&[-1, 0, 2, 5]))
                .property("s", *random.pick(&["x", "xy", "z"]))
                .build();
            let verdict = sql.matches(&message.packed());
            assert_eq!(verdict, rocketmq.matches(&message.packed()), "{text}");
            matched += u32::from(verdict);
        }
        assert!((1..5_000).contains(&matched), "{text} is true of some: {matched}");
    }
}

/// Characters of the language in any order, and words of it in any order.
const TEXTS: &str = concat!(
    "[a-c0-9'\"%()<>=.,+*/_ -]{0,40}|",
    "(AND|OR|NOT|IN|IS|NULL|LIKE|BETWEEN| |a|1|'x'|[(]|[)]|=){0,20}",
);

proptest! {
    #[test]
    fn any_text_is_an_expression_or_an_error_with_its_place(
        text in TEXTS,
        ours in any::<bool>(),
    ) {
        let dialect = if ours { Dialect::Sql } else { Dialect::RocketMq };
        match Predicate::parse(&text, dialect) {
            Ok(predicate) => {
                let message = Message::builder().property("a", 1).build();
                let _ = predicate.matches(&message.packed());
            }
            Err(error) => {
                prop_assert!(error.line == 1 && error.column <= text.chars().count() + 1);
                prop_assert!(!error.says.is_empty());
            }
        }
    }
}
