//! The language by examples: what expressions are true of a message, in each dialect, and what
//! the error says for what is none.

use yard_abi::Message;
use yard_abi::record::Parts;
use yard_sql::{DEPTH_MAX, Dialect, EXPRESSION_BYTES_MAX, Predicate};

/// What the expressions below are asked of.
fn record() -> Vec<u8> {
    let properties = [
        ("n", "5"),
        ("neg", "-2"),
        ("f", "1.5"),
        ("big", "9223372036854775807"),
        ("s", "abc"),
        ("quoted", "it's"),
        ("empty", ""),
        ("yes", "TRUE"),
        ("no", "false"),
        ("ü", "x"),
        ("with-dash", "1"),
        ("percent", "100%"),
        ("spaced", " 5 "),
        ("inf", "Infinity"),
        ("n", "6"),
        ("$key", "k1"),
        ("$key", "k2"),
        ("$order", "o"),
    ];
    let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let tag = "paid".to_owned();
    Parts { tag, born_ms: 17, properties: properties.to_vec(), ..Parts::default() }.record()
}

fn judge(text: &str, dialect: Dialect) -> bool {
    let predicate = Predicate::parse(text, dialect);
    let predicate = predicate.unwrap_or_else(|error| panic!("{error} in {text}"));
    predicate.matches(&Message::parse(&record()).expect("a record"))
}

/// Whether the expression is TRUE in SQL and in RocketMQ's dialect.
fn check(text: &str, sql: bool, rocketmq: bool) {
    assert_eq!(judge(text, Dialect::Sql), sql, "sql: {text}");
    assert_eq!(judge(text, Dialect::RocketMq), rocketmq, "sql-rocketmq: {text}");
}

fn both(text: &str, expect: bool) {
    check(text, expect, expect);
}

fn sql(text: &str, expect: bool) {
    assert_eq!(judge(text, Dialect::Sql), expect, "{text}");
}

#[test]
fn what_both_dialects_have() {
    both("n = 5", true);
    both("n > 4 AND n < 6 AND n >= 5 AND n <= 5 AND n <> 4", true);
    both("N = 5", false);
    both("s = 'abc'", true);
    both("quoted = 'it''s'", true);
    both("s IN ('x', 'abc')", true);
    both("s NOT IN ('x')", true);
    both("missing IN ('x') OR missing NOT IN ('x')", false);
    both("n BETWEEN 5 AND 6 and n not between 6 and 7", true);
    both("missing IS NULL AND s IS NOT NULL", true);
    both("missing > 1 OR n = 5", true);
    both("missing = 1 OR NOT (missing = 1)", false);
    both("s CONTAINS 'b' AND s STARTSWITH 'a' AND s ENDSWITH 'c'", true);
    both("s NOT CONTAINS 'x'", true);
    both("neg < -1 AND neg > - 3 AND n = +5", true);
    both("f = 1.5 AND f < 2. AND f > .5 AND f = 15e-1", true);
    both("n = 5L /* long */ -- and a comment\n", true);
    both("TRUE AND NOT FALSE", true);
    both("yes = TRUE AND no = FALSE", true);
    both("TAGS = 'paid' AND KEYS = 'k1 k2' AND __SHARDINGKEY = 'o' AND $order = 'o'", true);
    both("BORN_TIMESTAMP = 17 AND RECONSUME_TIME = 0", true);
    both("a = 1 OR n = 5 AND s = 'abc'", true);
    both("(a = 1 OR n = 5) AND s = 'x'", false);
}

#[test]
fn where_the_dialects_differ() {
    // NOT takes a comparison in SQL, and what is next to it in RocketMQ.
    check("NOT n = 6", true, false);
    // What cannot be converted is NULL here, and ends the judging there.
    check("s > 1 OR n = 5", true, false);
    check("n = 5 OR s > 1", true, true);
    check("NOT (s > 1)", false, false);
    // A text becomes what it is compared with: Java's int is no 1.5.
    check("f > 1", true, false);
    check("f > 1.0", true, true);
    check("spaced = 5.0", false, true);
    check("inf > 1.0", false, true);
    check("big > 5", true, false);
    check("big > 5000000000", true, true);
    // What is missing.
    check("missing = other", false, true);
    check("s = missing", false, false);
    check("NOT (s = missing)", false, true);
    check("s <> missing", false, true);
    check("missing <> s", false, false);
    check("missing NOT CONTAINS 'x'", false, false);
    check("s CONTAINS ''", true, false);
    check("s NOT CONTAINS ''", false, false);
    // A property by itself.
    check("yes", true, false);
    check("NOT no", true, true);
    check("s = s AND f > neg", true, true);
}

#[test]
fn what_only_sql_has() {
    sql("n + 2 * 3 = 11 AND (n + 2) * 3 = 21 AND 7 / 2 = 3 AND 7 % 4 = 3 AND n - 1 - 1 = 3", true);
    sql("n / 0 IS NULL AND n % 0 IS NULL AND s + 1 IS NULL", true);
    sql("n / 2.0 = 2.5", true);
    sql("big + 1 > 9.2E18", true);
    sql("s LIKE 'a%' AND s LIKE '_b_' AND s NOT LIKE 'A%'", true);
    sql("percent LIKE '100!%' ESCAPE '!' AND percent LIKE '100%'", true);
    sql("n IN (1, 5, 9) AND f IN (1.5) AND neg NOT IN (2)", true);
    sql("n IN (1, NULL)", false);
    sql("n NOT IN (1, NULL)", false);
    sql("n IN (5, NULL)", true);
    sql("s < 'abd' AND s > 'ABC' AND 'abc' = s", true);
    sql("s BETWEEN 'abb' AND 'abd'", true);
    sql("n BETWEEN 6 AND 4", false);
    sql("\"with-dash\" = 1", true);
    sql("\"ü\" = 'x'", true);
    sql("(n = 5) = (s = 'abc') AND (missing = 1) IS NULL", true);
    sql("n != 4", true);
    sql("-n = -5 AND - -n = 5", true);
    sql("empty = '' AND empty IS NOT NULL AND (empty > 0) IS NULL", true);
}

fn refused(dialect: Dialect, text: &str, expect: &str) {
    let error = Predicate::parse(text, dialect).expect_err(text).to_string();
    assert_eq!(error, expect, "{text}");
}

#[test]
fn errors_say_where_and_what() {
    const VALUE: &str = "a name, a number, a text, TRUE, FALSE, NULL, a sign, NOT or `(`";
    let sql = |text: &str, expect: &str| refused(Dialect::Sql, text, expect);
    sql("", &format!("line 1, column 1: expected {VALUE}, found the end"));
    sql("a =", &format!("line 1, column 4: expected {VALUE}, found the end"));
    sql("a = = 1", &format!("line 1, column 5: expected {VALUE}, found `=`"));
    sql("a = 1 b", "line 1, column 7: expected AND, OR, an operator or the end, found `b`");
    sql("(a = 1", "line 1, column 7: expected `)`, AND, OR or an operator, found the end");
    sql("a = 1\n  AND b ~ 2", "line 2, column 9: `~` means nothing here");
    sql("a = 'x", "line 1, column 5: expected a closing ' for this one");
    sql("a = NULL", "line 1, column 5: nothing compares with NULL: expected IS NULL");
    sql("a IS 5", "line 1, column 6: expected NULL, found `5`");
    sql("a BETWEEN 1 OR 2", "line 1, column 13: expected AND and the upper bound, found `OR`");
    sql("a IN 1", "line 1, column 6: expected `(`, found `1`");
    sql("a IN ()", &format!("line 1, column 7: expected {VALUE}, found `)`"));
    sql("a IN (1, 'x')", "line 1, column 10: a list has numbers or texts, not both");
    sql("a IN (b)", "line 1, column 7: expected a number, a text or NULL");
    sql("a LIKE b", "line 1, column 8: expected a text in single quotes, found `b`");
    sql(
        "a LIKE '!x' ESCAPE '!'",
        "line 1, column 8: the escape character stands before %, _ or itself",
    );
    sql(
        "a NOT 5",
        "line 1, column 7: expected BETWEEN, IN, LIKE, CONTAINS, STARTSWITH or ENDSWITH, found `5`",
    );
    sql("1 = 'x'", "line 1, column 5: a number is compared with a text");
    sql("a AND 5", "line 1, column 7: expected something TRUE or FALSE, found a number");
    sql("5", "line 1, column 1: expected something TRUE or FALSE, found a number");
    sql("a + 'x' = 1", "line 1, column 5: expected a number, found a text");
    sql("(a = 1) < 2", "line 1, column 2: a condition is neither larger nor smaller");
    sql(
        "a = 99999999999999999999",
        "line 1, column 5: a whole number has at most 64 bits with its sign",
    );
    sql("a = 1e999", "line 1, column 5: this number is too large for a double");
    sql("a = 1x", "line 1, column 5: expected a blank behind this number");
    sql("/* a", "line 1, column 1: this comment has no end: expected `*/`");
    sql("ü = 1", "line 1, column 1: `ü` means nothing here");
}

#[test]
fn errors_of_rocketmqs_dialect() {
    let rocketmq = |text: &str, expect: &str| refused(Dialect::RocketMq, text, expect);
    rocketmq("a + 1 = 2", "line 1, column 3: expected no arithmetic: RocketMQ has none, found `+`");
    rocketmq("a != 1", "line 1, column 3: expected `<>`, as RocketMQ writes it, found `!=`");
    rocketmq("a IN (1)", "line 1, column 7: expected a text");
    rocketmq("'x' IN ('x')", "line 1, column 1: expected a property before IN");
    rocketmq("a > 'x'", "line 1, column 5: a text is neither larger nor smaller");
    rocketmq("a BETWEEN 5 AND 1", "line 1, column 1: the lower bound is above the upper one");
    rocketmq("a = 0.0", "line 1, column 5: RocketMQ takes no floating zero; 0 means the same");
    rocketmq("a = 007", "line 1, column 5: in RocketMQ a whole number does not begin with 0");
    rocketmq("\"a\" = 1", "line 1, column 1: `\"` means nothing here");
    rocketmq(
        "a LIKE 'x'",
        "line 1, column 3: expected AND, OR, an operator or the end, found `LIKE`",
    );
}

#[test]
fn length_and_depth_are_bounded() {
    let parse = |text: &str| Predicate::parse(text, Dialect::Sql);
    let long = format!("a = '{}'", "x".repeat(EXPRESSION_BYTES_MAX));
    assert!(parse(&long).expect_err("too long").says.contains("at most 16384 bytes"));
    let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(parse(&nested(DEPTH_MAX - 1)).is_ok());
    assert!(parse(&nested(DEPTH_MAX)).expect_err("too deep").says.contains("deeper than 64"));
    for piece in ["NOT ", "- ", "a + ", "a = "] {
        let text = format!("{}a IS NULL", piece.repeat(DEPTH_MAX + 1));
        assert!(parse(&text).expect_err(piece).says.contains("deeper than 64"), "{piece}");
    }
    // A chain of AND is not deep.
    let chain = vec!["a = 1"; 1_500].join(" AND ");
    assert!(parse(&chain).is_ok());
}

#[test]
fn names_are_asked_for_once() {
    let predicate = Predicate::parse("a = b AND a > 1 OR __SHARDINGKEY = 'x'", Dialect::Sql);
    let predicate = predicate.expect("an expression");
    assert_eq!(predicate.names().collect::<Vec<_>>(), ["a", "b", "$order"]);
}
