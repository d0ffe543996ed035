//! Code of its own for an expression: it says what the expression says, and where it cannot, the
//! plugin in whose place it is does.
use std::sync::Arc;

use yard_abi::record::Parts;
use yard_abi::{Delivery, FrameBuilder, Message, Room};
use yard_sql::{Dialect, Predicate};
use yard_wasm::{
    Batch, Binding, CompileError, Compiled, FaultKind, Installed, Judging, Limits, LoadError,
    Rollout, Source, Turn,
};

use crate::support::{CACHE, ENGINE, GOOD, Host, PLUGIN, compiler, installed};

/// Messages that one predicate judges.
const MESSAGES: usize = 2_560;
/// Predicates of the test, and of the one that takes its time.
const PREDICATES: usize = 40;
const PREDICATES_MANY: usize = 400;
const _: () = assert!(MESSAGES * PREDICATES >= 100_000 && MESSAGES * PREDICATES_MANY >= 1_000_000);

/// Random numbers. Source: SplitMix64, as in Java's library.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % end as u64) as usize
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

/// Names of which some are as long as others, begin as others, or are longer than a word.
const NAMES: &[&str] = &[
    "a",
    "b",
    "ab",
    "abcd",
    "abce",
    "abcde",
    "abcdefgh",
    "abcdefgi",
    "abcdefghi",
    "a_rather_long_name_of_a_property",
    "a_rather_long_name_of_a_propertx",
    "$order",
    "ö",
];
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "+1",
    "7",
    "10",
    "99",
    "100",
    "-100",
    "12345678",
    "99999999",
    "123456789",
    "-12345678",
    "999999999999999999",
    "1.0",
    "1.5",
    "-1.5",
    ".5",
    "5.",
    "0.1",
    "-0.0",
    "-0",
    "100.25",
    "0.123456789",
    "007",
    "12345678.25",
];
const TEXTS: &[&str] = &[
    "",
    "x",
    "xy",
    "yx",
    "xyx",
    "xyxyxy",
    "eu",
    "us",
    "gold",
    "platinum",
    "true",
    "ö",
    "öx",
    "xö",
    "-",
    "+",
    ".",
    "1.2.3",
    "2013-01-01",
    "9E",
    "e",
    "1x",
    "x1",
    "--1",
    "+-1",
    "12345678x",
    "1 ",
    "eight by",
    "nine byte",
    "sixteen bytes ...",
    "sixteen bytes ,..",
    "a%b",
    "a_b",
    "100%",
];
/// In these code does not find out what they are.
const HARD: &[&str] = &[
    "1e3",
    "1E-400",
    "1e400",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "0.1234567890123456",
    "1234567890123456789",
    "e5",
    "1.5e+3",
];
const ORDERS: &[&str] = &["=", "<>", "<", "<=", ">", ">="];

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A number as an expression may have it.
fn constant(random: &mut Random) -> &'static str {
    loop {
        let text = random.pick(NUMBERS);
        // These are numbers in messages only.
        if !text.starts_with('+') && !text.starts_with("007") {
            return text;
        }
    }
}

fn list(random: &mut Random, item: impl Fn(&mut Random) -> String) -> String {
    let most = if random.below(4) == 0 { 40 } else { 4 };
    let mut items: Vec<String> = (0..=random.below(most)).map(|_| item(random)).collect();
    if random.below(5) == 0 {
        items.push("NULL".to_owned());
    }
    items.join(", ")
}

/// A pattern: a text with some of its characters gone for wildcards.
fn pattern(random: &mut Random) -> String {
    let text = random.pick(TEXTS);
    let mut pattern = String::new();
    for character in text.chars() {
        match random.below(5) {
            0 => pattern.push('_'),
            1 => pattern.push('%'),
            _ => pattern.push(character),
        }
    }
    if random.below(3) == 0 { format!("%{pattern}%") } else { pattern }
}

fn test_of(random: &mut Random) -> String {
    let name = match random.below(8) {
        0 => "TAGS".to_owned(),
        _ => format!("\"{}\"", random.pick(NAMES)),
    };
    let not = if random.below(3) == 0 { "NOT " } else { "" };
    match random.below(11) {
        0 | 1 => format!("{name} {} {}", random.pick(ORDERS), constant(random)),
        2 => format!("{name} {} {}", random.pick(ORDERS), quoted(random.pick(TEXTS))),
        3 => format!("{name} = {}", quoted(random.pick(TEXTS))),
        4 => format!("{name} {not}BETWEEN {} AND {}", constant(random), constant(random)),
        5 => format!("{name} {not}IN ({})", list(random, |it| constant(it).to_owned())),
        6 => format!("{name} {not}IN ({})", list(random, |it| quoted(it.pick(TEXTS)))),
        7 => format!("{name} {not}LIKE {}", quoted(&pattern(random))),
        8 => {
            let how = random.pick(&["CONTAINS", "STARTSWITH", "ENDSWITH"]);
            format!("{name} {not}{how} {}", quoted(random.pick(TEXTS)))
        }
        _ if name == "TAGS" => "TAGS = 'eu'".to_owned(),
        _ => format!("{name} IS {not}NULL"),
    }
}

fn predicate(random: &mut Random, depth: usize) -> String {
    if depth == 0 {
        return test_of(random);
    }
    let child = |random: &mut Random| {
        let below = random.below(depth);
        format!("({})", predicate(random, below))
    };
    match random.below(5) {
        0 => format!("NOT {}", child(random)),
        kind => {
            let word = if kind % 2 == 0 { " AND " } else { " OR " };
            (0..2 + random.below(3)).map(|_| child(random)).collect::<Vec<_>>().join(word)
        }
    }
}

/// A message in which anything may be missing, be there twice, and be no number.
fn message(random: &mut Random, others: &[&str]) -> Vec<u8> {
    let mut properties = Vec::new();
    for _ in 0..random.below(12) {
        let of = [NUMBERS, TEXTS, others][random.below(3)];
        properties.push((random.pick(NAMES).to_owned(), random.pick(of).to_owned()));
    }
    let body = vec![b'='; random.below(20)];
    Parts { tag: random.pick(TEXTS).to_owned(), properties, body, ..Parts::default() }.record()
}

fn code(expression: &str) -> Result<Compiled, LoadError> {
    let source = Source::new(expression);
    let accepted = source.accepted(&Limits::DEFAULT);
    let made = Compiled::prepare(&ENGINE, &CACHE, &compiler(), &accepted, source.bytes());
    made.map(|(compiled, _)| compiled)
}

/// A host that has code for an expression and nothing else.
fn host(expression: &str) -> Host {
    let compiled = code(expression).unwrap_or_else(|error| panic!("{error}: {expression}"));
    let active = Some(Installed::new(PLUGIN, 1, compiled));
    let mut host = Host::new(Rollout { active, ..Rollout::default() });
    // A broker sends the dialect along with every expression.
    let dialect = ("dialect".to_owned(), "sql".to_owned());
    host.binding = Binding::new(expression.to_owned(), vec![dialect]);
    host.limit(Limits { fuel_per_s: Limits::MAX.fuel_per_s, ..Limits::DEFAULT });
    host
}

impl Host {
    fn ends(&mut self, frame: &FrameBuilder) -> Judging {
        let (batch, mut judging) = (Batch::new(frame), Judging::default());
        // Long after the last, so that no share of time is used up.
        self.now_ms += 1_000;
        let (ask, binding) = (self.ask(), Arc::clone(&self.binding));
        for _ in 0..1_000 {
            match self.worker.judge(&ask, &binding, &batch, &mut judging) {
                Turn::More => {}
                Turn::Done => return judging,
                turn => panic!("{turn:?} for {}", binding.expression()),
            }
        }
        panic!("a batch ends");
    }
}

/// Frames of random messages, each of them with what an expression says of it.
fn agree(predicates: usize) {
    let mut delivered = 0;
    for seed in 0..predicates as u64 {
        let mut random = Random(seed);
        let depth = random.below(4);
        let text = loop {
            let text = predicate(&mut random, depth);
            if text.len() <= 4_096 {
                break text;
            }
        };
        let expect = Predicate::parse(&text, Dialect::Sql);
        let expect = expect.unwrap_or_else(|error| panic!("{error}: {text}"));
        let mut host = host(&text);
        let mut left = MESSAGES;
        while left > 0 {
            let mut frame = FrameBuilder::new(random.below(20) as u32);
            let mut records = Vec::new();
            for _ in 0..left.min(1 + random.below(256)) {
                records.push(message(&mut random, &["8"]));
                let room = frame
                    .push(records.last().expect("one was pushed just now"), Delivery::default());
                assert_eq!(room, Ok(Room::Taken));
            }
            left -= records.len();
            let judging = host.ends(&frame);
            assert_eq!(judging.poison(), [], "{text}");
            for (at, record) in records.iter().enumerate() {
                let message = Message::parse(record).expect("a record");
                let (found, expect) = (judging.delivered().has(at), expect.matches(&message));
                assert_eq!(found, expect, "seed {seed}, message {at}: {text}\n{record:?}");
                delivered += usize::from(expect);
            }
        }
    }
    let all = predicates * MESSAGES;
    println!("{predicates} predicates, {all} verdicts, {delivered} of them to deliver");
    assert!((all / 20..all * 19 / 20).contains(&delivered), "{delivered} of {all}");
}

#[test]
fn code_says_what_its_expression_says() {
    agree(PREDICATES);
}

#[test]
#[ignore = "a million verdicts: some minutes"]
fn code_says_what_its_expression_says_a_million_times() {
    agree(PREDICATES_MANY);
}

/// One frame for a plugin that wants tags that begin with `a`, and for code in its place.
#[test]
fn where_code_cannot_tell_its_plugin_judges_the_whole_batch() {
    let expression = "n > 1";
    let mut host = Host::of(&GOOD.build(&[]));
    host.binding = Binding::new(expression.to_owned(), Vec::new());
    let active = installed(1, &GOOD.build(&[]));
    let made = Installed::generated(PLUGIN, 1, code(expression).unwrap(), &host.binding);
    let key = (host.tenant, Arc::clone(&host.binding));
    host.publish(Rollout { active: Some(active), ..Rollout::default() });
    host.directory.publish(|table| drop(table.generated.insert(key.clone(), made)));
    let frame = |number: &str| {
        let mut frame = FrameBuilder::new(0);
        for (tag, n) in [("a", "1"), ("b", "2"), ("a", number)] {
            let properties = vec![("n".to_owned(), n.to_owned())];
            let record = Parts { tag: tag.to_owned(), properties, ..Parts::default() }.record();
            assert_eq!(frame.push(&record, Delivery::default()), Ok(Room::Taken));
        }
        frame
    };
    let wanted = |judging: &Judging| judging.delivered().iter().collect::<Vec<_>>();
    let judging = host.ends(&frame("3"));
    assert_eq!((wanted(&judging), judging.is_generated()), (vec![1, 2], true));
    assert_eq!(host.worker.instances(), 1);
    for hard in HARD {
        let judging = host.ends(&frame(hard));
        assert_eq!((wanted(&judging), judging.is_generated()), (vec![0, 2], false), "{hard}");
        let fault = judging.generated_fault().unwrap();
        assert_eq!((fault.kind, judging.poison()), (FaultKind::Trapped, &[][..]));
    }
    // Other expressions, other tenants, other versions have nothing to do with it.
    let of_code = Arc::clone(&host.binding);
    host.binding = Binding::new("n > 2".to_owned(), Vec::new());
    assert_eq!(wanted(&host.ends(&frame("3"))), [0, 2]);
    host.binding = of_code;
    assert_eq!(wanted(&host.ends(&frame("3"))), [1, 2]);
    assert_eq!(host.worker.instances(), 2);
    host.publish(Rollout { active: Some(installed(2, &GOOD.build(&[]))), ..Rollout::default() });
    assert_eq!(wanted(&host.ends(&frame("3"))), [0, 2]);
    host.directory.publish(|table| drop(table.generated.remove(&key)));
    assert_eq!(wanted(&host.ends(&frame("3"))), [0, 2]);
    assert_eq!(host.worker.instances(), 1, "the instances of what is gone are gone");
}

/// Batches go on while code comes and goes: each is judged by the one or the other.
#[test]
fn code_comes_and_goes_between_batches() {
    let mut host = Host::of(&GOOD.build(&[]));
    let binding = Arc::clone(&host.binding);
    let made = code("TAGS = 'b'").unwrap();
    let key = (host.tenant, Arc::clone(&binding));
    // A plugin's text and the code's are the same to a host; only the guest knows better.
    let key_of_code = Binding::new("TAGS = 'b'".to_owned(), Vec::new());
    host.binding = Arc::clone(&key_of_code);
    let made = Installed::generated(PLUGIN, 1, made, &key_of_code);
    for round in 0..200 {
        let is_there = round % 2 == 0;
        host.directory.publish(|table| {
            let key = (key.0, Arc::clone(&key_of_code));
            match is_there {
                true => drop(table.generated.insert(key, Arc::clone(&made))),
                false => drop(table.generated.remove(&key)),
            }
        });
        let (turn, judging, _) = host.judge(&["a", "b", "a", "b"]);
        let expect = if is_there { vec![1, 3] } else { vec![0, 2] };
        assert_eq!((turn, judging.is_generated()), (Turn::Done, is_there));
        assert_eq!(judging.delivered().iter().collect::<Vec<_>>(), expect);
    }
}

fn refused(expression: &str, why: &str) {
    match code(expression) {
        Err(LoadError::Compile(CompileError::Refused(says))) => {
            assert!(says.contains(why), "{says} for {}", &expression[..expression.len().min(60)]);
        }
        other => panic!("{other:?} for {}", &expression[..expression.len().min(60)]),
    }
}

#[test]
fn what_is_no_work_for_code_is_refused() {
    let other = "it compares more than";
    for text in ["a = b", "a + 1 > 2", "(a = 1) = TRUE", "a", "KEYS = 'k'", "RECONSUME_TIME > 1"] {
        refused(text, other);
    }
    refused("a >", "expected");
    refused(&format!("a IN ({})", vec!["'some text'"; 400].join(", ")), "4096 at most");
    let many: Vec<String> = (0..300).map(|it| format!("a = {it}")).collect();
    refused(&many.join(" OR "), "300 tests");
    refused(&format!("{}a = 1{}", "(".repeat(100), ")".repeat(100)), "nested deeper");
}

#[test]
fn an_expression_of_the_largest_kind_is_code() {
    let items: Vec<String> = (0..500).map(|it| format!("{}", it * 3)).collect();
    let text = format!("a IN ({})", items.join(","));
    let mut host = host(&text);
    let mut frame = FrameBuilder::new(0);
    for number in 0..256 {
        let properties = vec![("a".to_owned(), number.to_string())];
        let record = Parts { properties, ..Parts::default() }.record();
        assert_eq!(frame.push(&record, Delivery::default()), Ok(Room::Taken));
    }
    let found: Vec<usize> = host.ends(&frame).delivered().iter().collect();
    assert_eq!(found, (0..256).step_by(3).collect::<Vec<_>>());
    let many: Vec<String> = (0..256).map(|it| format!("a={}", it * 2)).collect();
    let mut host = self::host(&many.join(" OR "));
    let found: Vec<usize> = host.ends(&frame).delivered().iter().collect();
    assert_eq!(found, (0..256).step_by(2).collect::<Vec<_>>());
}

#[test]
fn a_message_larger_than_a_frame_has_room() {
    let mut host = host("big STARTSWITH 'x' AND small = 1");
    let mut frame = FrameBuilder::new(1 << 20);
    let properties =
        vec![("big".to_owned(), "x".repeat(60_000)), ("small".to_owned(), "1".to_owned())];
    let parts = Parts { properties, body: vec![0; 900_000], ..Parts::default() };
    assert_eq!(frame.push(&parts.record(), Delivery::default()), Ok(Room::Taken));
    for _ in 0..3 {
        assert_eq!(host.ends(&frame).delivered().count(), 1);
    }
}
