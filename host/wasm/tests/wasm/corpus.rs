//! Plugins made to hurt, each with the kinds of fault that end it: the corpus that the host's tests
//! run one by one, and that a tenant runs all at once beside another.
use yard_abi::manifest::Capability;

use super::text::{Filter, GOOD};

/// One of them.
pub(crate) struct Hostile {
    pub(crate) name: &'static str,
    pub(crate) file: Vec<u8>,
    /// Names of the faults that may end a call of it.
    pub(crate) kinds: &'static [&'static str],
}

/// What ends endless work depends on the machine: what it is bounded by does not.
pub(crate) const WORK: &[&str] = &["out-of-fuel", "timed-out"];
const TRAPPED: &[&str] = &["trapped"];
const MEMORY: &[&str] = &["out-of-memory"];
const ANSWER: &[&str] = &["bad-answer"];
const ANSWER_OR_TRAP: &[&str] = &["bad-answer", "trapped"];

pub(crate) const LOG: &str = r#"(import "switchyard:plugin/log@1.0.0" "write"
    (func $log (param i32 i32 i32)))"#;
const METRICS: &str = r#"(import "switchyard:plugin/metrics@1.0.0" "add"
    (func $add (param i32 i32 i64)))"#;

/// All of them.
pub(crate) fn corpus() -> Vec<Hostile> {
    let mut list = Vec::new();
    for add in [endless, large, traps, answers, refusals, floods] {
        add(&mut list);
    }
    list
}

fn of(
    name: &'static str,
    filter: &Filter<'_>,
    capabilities: &[Capability],
    kinds: &'static [&'static str],
) -> Hostile {
    Hostile { name, file: filter.build_as(&name.replace(' ', "-"), capabilities), kinds }
}

fn judges(name: &'static str, verdict: &str, kinds: &'static [&'static str]) -> Hostile {
    of(name, &Filter { verdict, ..GOOD }, &[], kinds)
}

fn evaluates(name: &'static str, evaluate: &str) -> Hostile {
    of(name, &Filter { evaluate, ..GOOD }, &[], ANSWER)
}

fn compiles(name: &'static str, compile: &str, kinds: &'static [&'static str]) -> Hostile {
    of(name, &Filter { compile, ..GOOD }, &[], kinds)
}

/// Work without an end.
fn endless(list: &mut Vec<Hostile>) {
    list.push(judges("endless loop", "(loop $l (br $l)) (i32.const 0)", WORK));
    list.push(judges(
        "endless recursion by tail",
        "(local $i i64) (loop $l
            (local.set $i (i64.div_u (i64.const -1) (i64.add (local.get $i) (i64.const 3))))
            (br $l)) (i32.const 0)",
        WORK,
    ));
    let chase = Filter {
        memory: r#"(memory (export "memory") 64)"#,
        verdict: "(local $p i32) (loop $l
            (local.set $p (i32.and (i32.const 4194300) (i32.add (i32.const 2654435)
                (i32.mul (i32.const 1664525)
                    (i32.xor (local.get $p) (i32.load (local.get $p)))))))
            (i32.store (local.get $p) (i32.add (local.get $p) (i32.const 1)))
            (br $l)) (i32.const 0)",
        ..GOOD
    };
    list.push(of("pointer chase over all its memory", &chase, &[], WORK));
    let copy = Filter {
        memory: r#"(memory (export "memory") 64)"#,
        verdict: "(loop $l
            (memory.copy (i32.const 0) (i32.const 1048576) (i32.const 3145728)) (br $l))
            (i32.const 0)",
        ..GOOD
    };
    list.push(of("bulk copy", &copy, &[], WORK));
    let fill = Filter {
        memory: r#"(memory (export "memory") 64)"#,
        verdict: "(loop $l
            (memory.fill (i32.const 0) (i32.const 1) (i32.const 4194304)) (br $l))
            (i32.const 0)",
        ..GOOD
    };
    list.push(of("bulk fill", &fill, &[], WORK));
    let endless = "(loop $l (br $l)) (i32.const 0)";
    list.push(compiles("endless compiling of an expression", endless, WORK));
    let realloc = Filter { realloc: "(loop $l (br $l)) (i32.const 0)", ..GOOD };
    list.push(of("endless allocation", &realloc, &[], WORK));
    let start = Filter { extra: "(func $start (loop $l (br $l))) (start $start)", ..GOOD };
    list.push(of("endless start", &start, &[], WORK));
}

/// More memory than there is.
fn large(list: &mut Vec<Hostile>) {
    let grow = "(drop (memory.grow (i32.const 1000))) (i32.const 0)";
    list.push(judges("memory at once", grow, MEMORY));
    let page = "(loop $l (drop (memory.grow (i32.const 1))) (br $l)) (i32.const 0)";
    list.push(judges("memory page by page", page, MEMORY));
    let table = Filter {
        extra: "(table $t 1 funcref)",
        verdict: "(drop (table.grow $t (ref.null func) (i32.const 10000))) (i32.const 0)",
        ..GOOD
    };
    list.push(of("a table", &table, &[], MEMORY));
    let deep = Filter {
        extra: "(func $deep (param i32) (result i32)
            (i32.add (i32.const 1) (call $deep (i32.add (local.get 0) (i32.const 1)))))",
        verdict: "(call $deep (i32.const 0))",
        ..GOOD
    };
    list.push(of("deep recursion", &deep, &[], &["stack-overflow"]));
    let start = Filter { memory: r#"(memory (export "memory") 65)"#, ..GOOD };
    list.push(of("more memory from the start", &start, &[], MEMORY));
}

/// What the processor forbids.
fn traps(list: &mut Vec<Hostile>) {
    list.push(judges("unreachable", "unreachable", TRAPPED));
    list.push(judges("division by zero", "(i32.div_u (i32.const 1) (i32.const 0))", TRAPPED));
    list.push(judges("overflow", "(i32.trunc_f64_s (f64.const 1e300))", TRAPPED));
    list.push(judges("a load behind the end", "(i32.load (i32.const -4))", TRAPPED));
    list.push(judges(
        "a store behind the end",
        "(i32.store (i32.const -1) (i32.const 0)) (i32.const 0)",
        TRAPPED,
    ));
    let indirect = Filter {
        extra: "(table $t 1 funcref)",
        verdict: "(call_indirect $t (result i32) (i32.const 0))",
        ..GOOD
    };
    list.push(of("a call of nothing", &indirect, &[], TRAPPED));
    let other = Filter {
        extra: "(table $t funcref (elem $nothing)) (func $nothing)",
        verdict: "(call_indirect $t (result i32) (i32.const 0))",
        ..GOOD
    };
    list.push(of("a call with another type", &other, &[], TRAPPED));
    let start = Filter { extra: "(func $start unreachable) (start $start)", ..GOOD };
    list.push(of("a trap in start", &start, &[], TRAPPED));
    list.push(compiles("a trap in compile", "unreachable", TRAPPED));
}

/// Answers that are none.
fn answers(list: &mut Vec<Hostile>) {
    let answer = |pointer: i64, length: i64| {
        format!(
            "(i32.store (i32.const 16) (i32.const {pointer}))
             (i32.store (i32.const 20) (i32.const {length})) (i32.const 16)"
        )
    };
    list.push(evaluates("a pointer behind the end", &answer(-8, 1)));
    list.push(evaluates("a length behind the end", &answer(64, -1)));
    list.push(evaluates("all of its memory", &answer(0, 262_144)));
    list.push(evaluates("no verdicts", &answer(64, 0)));
    list.push(evaluates("too many verdicts", &answer(64, 2)));
    let behind = format!("(i32.store8 (i32.const 64) (i32.const 0xff)) {}", answer(64, 1));
    list.push(evaluates("a verdict behind the last", &behind));
    list.push(evaluates("an answer behind the end", "(i32.const -4)"));
    list.push(evaluates("an answer that is not aligned", "(i32.const 17)"));
}

/// Expressions that are compiled to nothing.
fn refusals(list: &mut Vec<Hostile>) {
    let realloc = Filter { realloc: "(i32.const -16)", ..GOOD };
    list.push(of("memory from behind the end", &realloc, &[], ANSWER_OR_TRAP));
    list.push(compiles(
        "a handle that it does not have",
        "(i32.store8 (i32.const 32) (i32.const 0)) (i32.store (i32.const 36) (i32.const 77))
         (i32.const 32)",
        ANSWER_OR_TRAP,
    ));
    let no_result = "(i32.store8 (i32.const 32) (i32.const 9)) (i32.const 32)";
    list.push(compiles("neither result nor error", no_result, ANSWER_OR_TRAP));
    let error = |pointer: i64, length: i64| {
        format!(
            "(i32.store8 (i32.const 32) (i32.const 1))
             (i32.store (i32.const 36) (i32.const {pointer}))
             (i32.store (i32.const 40) (i32.const {length})) (i32.const 32)"
        )
    };
    list.push(compiles("a refusal", &error(3_000, 45), &["refused"]));
    list.push(compiles(
        "a refusal that is not text",
        &format!("(i32.store8 (i32.const 3000) (i32.const 0xff)) {}", error(3_000, 1)),
        ANSWER,
    ));
    let long = Filter {
        memory: r#"(memory (export "memory") 64)"#,
        compile: &error(0, 4_194_304),
        ..GOOD
    };
    list.push(of("a refusal of four megabytes", &long, &[], ANSWER));
}

/// Floods of what the host gives.
fn floods(list: &mut Vec<Hostile>) {
    let log = Filter {
        imports: LOG,
        verdict: "(loop $l (call $log (i32.const 1) (i32.const 131072) (i32.const 120000)) (br $l))
            (i32.const 0)",
        ..GOOD
    };
    list.push(of("a flood of lines", &log, &[Capability::Log], WORK));
    let metrics = Filter {
        imports: METRICS,
        verdict: "(local $i i32) (loop $l
            (i32.store (i32.const 3000) (i32.or (i32.const 0x20202020) (local.get $i)))
            (call $add (i32.const 3000) (i32.const 4) (i64.const 1))
            (local.set $i (i32.and (i32.const 0x0f0f0f0f)
                (i32.add (local.get $i) (i32.const 0x01010101))))
            (br $l)) (i32.const 0)",
        ..GOOD
    };
    list.push(of("a flood of metrics", &metrics, &[Capability::Metrics], WORK));
    let handles = Filter {
        verdict: "(loop $l (drop (call $new (i32.const 1))) (br $l)) (i32.const 0)",
        ..GOOD
    };
    let kinds = &["out-of-fuel", "timed-out", "bad-answer", "trapped"];
    list.push(of("a flood of handles", &handles, &[], kinds));
}
