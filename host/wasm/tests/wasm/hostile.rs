//! Plugins made to hurt: each call ends within its limits, by a fault of the right kind, and the
//! thread goes on. No clock is asked: what ends a call is fuel, or the epoch, or another limit.
use rustix::time::{ClockId, clock_gettime};
use yard_abi::manifest::{Capability, Point};
use yard_wasm::{FaultKind, Hold, Level, Limits, Turn};

use crate::points::attempt;
use crate::support::{Filter, GOOD, Host, plugin};

use FaultKind::{BadAnswer, OutOfFuel, OutOfMemory, Refused, StackOverflow, TimedOut, Trapped};

/// What ends endless work depends on the machine: what it is bounded by does not.
const WORK: &[FaultKind] = &[OutOfFuel, TimedOut];

const LOG: &str = r#"(import "switchyard:plugin/log@1.0.0" "write"
    (func $log (param i32 i32 i32)))"#;
const METRICS: &str = r#"(import "switchyard:plugin/metrics@1.0.0" "add"
    (func $add (param i32 i32 i64)))"#;

/// Text of the guest that the guest may use, at 3000.
const TEXT: &str = r#"(data (i32.const 3000) "panicked at src/lib.rs:7: index out of bounds")"#;

/// A batch ends with a fault of one of these kinds, and another tenant's plugin is as it was.
fn check(name: &str, filter: &Filter<'_>, capabilities: &[Capability], kinds: &[FaultKind]) {
    let mut host = Host::of(&filter.build(capabilities));
    let started = clock_gettime(ClockId::ThreadCPUTime);
    let (turn, judging, turns) = host.judge(&["a", "a", "a"]);
    let ended = clock_gettime(ClockId::ThreadCPUTime);
    let Turn::Held { hold: Hold::Plugin(Some(fault)), .. } = turn else {
        panic!("{name}: held, not {turn:?}");
    };
    assert!(kinds.contains(&fault.kind), "{name}: {fault}, not {kinds:?}");
    assert!(judging.poison().is_empty(), "{name}: no message is to blame");
    // For who looks: `cargo test -p yard-wasm hostile -- --nocapture`. A turn is what others wait
    // for; this is its processor time, frame and new instances included.
    let spent_us =
        (ended.tv_sec - started.tv_sec) * 1_000_000 + (ended.tv_nsec - started.tv_nsec) / 1_000;
    println!("{name}: {}, {turns} turns of {} us", fault.kind.name(), spent_us / turns as i64);
    let limits = Limits::DEFAULT;
    let most = (limits.fuel(3) + limits.open_fuel) * 2 * turns as u64;
    assert!(judging.usage().fuel <= most, "{name}: {:?}", judging.usage());
    assert!(judging.usage().memory_bytes <= limits.memory_bytes_max as u64, "{name}");
    let mut well = Host::of(&GOOD.build(&[]));
    assert_eq!(well.judge(&["a", "b"]).1.delivered().count(), 1, "{name}: others go on");
}

fn judges(name: &str, verdict: &str, kinds: &[FaultKind]) {
    check(name, &Filter { verdict, ..GOOD }, &[], kinds);
}

fn evaluates(name: &str, evaluate: &str, kinds: &[FaultKind]) {
    check(name, &Filter { evaluate, ..GOOD }, &[], kinds);
}

fn compiles(name: &str, compile: &str, kinds: &[FaultKind]) {
    check(name, &Filter { compile, ..GOOD }, &[], kinds);
}

#[test]
fn endless_work_is_stopped() {
    judges("endless loop", "(loop $l (br $l)) (i32.const 0)", WORK);
    judges(
        "endless recursion by tail",
        "(local $i i64) (loop $l
            (local.set $i (i64.div_u (i64.const -1) (i64.add (local.get $i) (i64.const 3))))
            (br $l)) (i32.const 0)",
        WORK,
    );
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
    check("pointer chase over all its memory", &chase, &[], WORK);
    let copy = Filter {
        memory: r#"(memory (export "memory") 64)"#,
        verdict: "(loop $l
            (memory.copy (i32.const 0) (i32.const 1048576) (i32.const 3145728)) (br $l))
            (i32.const 0)",
        ..GOOD
    };
    check("bulk copy", &copy, &[], WORK);
    let fill = Filter {
        memory: r#"(memory (export "memory") 64)"#,
        verdict: "(loop $l
            (memory.fill (i32.const 0) (i32.const 1) (i32.const 4194304)) (br $l))
            (i32.const 0)",
        ..GOOD
    };
    check("bulk fill", &fill, &[], WORK);
    compiles("endless compiling of an expression", "(loop $l (br $l)) (i32.const 0)", WORK);
    let realloc = Filter { realloc: "(loop $l (br $l)) (i32.const 0)", ..GOOD };
    check("endless allocation", &realloc, &[], WORK);
    let start = Filter { extra: "(func $start (loop $l (br $l))) (start $start)", ..GOOD };
    check("endless start", &start, &[], WORK);
}

#[test]
fn memory_and_stack_are_bounded() {
    let grow = "(drop (memory.grow (i32.const 1000))) (i32.const 0)";
    judges("memory at once", grow, &[OutOfMemory]);
    let page = "(loop $l (drop (memory.grow (i32.const 1))) (br $l)) (i32.const 0)";
    judges("memory page by page", page, &[OutOfMemory]);
    let table = Filter {
        extra: "(table $t 1 funcref)",
        verdict: "(drop (table.grow $t (ref.null func) (i32.const 10000))) (i32.const 0)",
        ..GOOD
    };
    check("a table", &table, &[], &[OutOfMemory]);
    let deep = Filter {
        extra: "(func $deep (param i32) (result i32)
            (i32.add (i32.const 1) (call $deep (i32.add (local.get 0) (i32.const 1)))))",
        verdict: "(call $deep (i32.const 0))",
        ..GOOD
    };
    check("deep recursion", &deep, &[], &[StackOverflow]);
    let start = Filter { memory: r#"(memory (export "memory") 65)"#, ..GOOD };
    check("more memory from the start", &start, &[], &[OutOfMemory]);
}

#[test]
fn what_the_processor_forbids_is_a_trap() {
    judges("unreachable", "unreachable", &[Trapped]);
    judges("division by zero", "(i32.div_u (i32.const 1) (i32.const 0))", &[Trapped]);
    judges("overflow", "(i32.trunc_f64_s (f64.const 1e300))", &[Trapped]);
    judges("a load behind the end", "(i32.load (i32.const -4))", &[Trapped]);
    judges(
        "a store behind the end",
        "(i32.store (i32.const -1) (i32.const 0)) (i32.const 0)",
        &[Trapped],
    );
    let indirect = Filter {
        extra: "(table $t 1 funcref)",
        verdict: "(call_indirect $t (result i32) (i32.const 0))",
        ..GOOD
    };
    check("a call of nothing", &indirect, &[], &[Trapped]);
    let other = Filter {
        extra: "(table $t funcref (elem $nothing)) (func $nothing)",
        verdict: "(call_indirect $t (result i32) (i32.const 0))",
        ..GOOD
    };
    check("a call with another type", &other, &[], &[Trapped]);
    let start = Filter { extra: "(func $start unreachable) (start $start)", ..GOOD };
    check("a trap in start", &start, &[], &[Trapped]);
    compiles("a trap in compile", "unreachable", &[Trapped]);
}

#[test]
fn answers_are_checked() {
    let answer = |pointer: i64, length: i64| {
        format!(
            "(i32.store (i32.const 16) (i32.const {pointer}))
             (i32.store (i32.const 20) (i32.const {length})) (i32.const 16)"
        )
    };
    evaluates("a pointer behind the end", &answer(-8, 1), &[BadAnswer]);
    evaluates("a length behind the end", &answer(64, -1), &[BadAnswer]);
    evaluates("all of its memory", &answer(0, 262_144), &[BadAnswer]);
    evaluates("no verdicts", &answer(64, 0), &[BadAnswer]);
    evaluates("too many verdicts", &answer(64, 2), &[BadAnswer]);
    let behind = format!("(i32.store8 (i32.const 64) (i32.const 0xff)) {}", answer(64, 1));
    evaluates("a verdict behind the last", &behind, &[BadAnswer]);
    evaluates("an answer behind the end", "(i32.const -4)", &[BadAnswer]);
    evaluates("an answer that is not aligned", "(i32.const 17)", &[BadAnswer]);
    let realloc = Filter { realloc: "(i32.const -16)", ..GOOD };
    check("memory from behind the end", &realloc, &[], &[BadAnswer, Trapped]);
    compiles(
        "a handle that it does not have",
        "(i32.store8 (i32.const 32) (i32.const 0)) (i32.store (i32.const 36) (i32.const 77))
         (i32.const 32)",
        &[BadAnswer, Trapped],
    );
    let no_result = "(i32.store8 (i32.const 32) (i32.const 9)) (i32.const 32)";
    compiles("neither result nor error", no_result, &[BadAnswer, Trapped]);
    let error = |pointer: i64, length: i64| {
        format!(
            "(i32.store8 (i32.const 32) (i32.const 1))
             (i32.store (i32.const 36) (i32.const {pointer}))
             (i32.store (i32.const 40) (i32.const {length})) (i32.const 32)"
        )
    };
    compiles("a refusal", &error(3_000, 45), &[Refused]);
    compiles(
        "a refusal that is not text",
        &format!("(i32.store8 (i32.const 3000) (i32.const 0xff)) {}", error(3_000, 1)),
        &[BadAnswer],
    );
    let long = Filter {
        memory: r#"(memory (export "memory") 64)"#,
        compile: &error(0, 4_194_304),
        ..GOOD
    };
    check("a refusal of four megabytes", &long, &[], &[BadAnswer]);
}

#[test]
fn the_text_of_a_panic_reaches_the_author() {
    let panics = Filter {
        imports: LOG,
        extra: TEXT,
        verdict: "(call $log (i32.const 3) (i32.const 3000) (i32.const 45)) unreachable",
        ..GOOD
    };
    let mut host = Host::of(&panics.build(&[Capability::Log]));
    let (_, judging, _) = host.judge(&["a"]);
    let says = "panicked at src/lib.rs:7: index out of bounds";
    assert_eq!(judging.poison()[0].fault.text, says);
    let lines = host.worker.take_lines();
    let line = &lines.values().next().expect("a line").lines[0];
    assert_eq!((line.level, &*line.text, line.at_ms), (Level::Error, says, host.now_ms));
    assert!(host.worker.take_lines().is_empty(), "lines are taken once");
}

#[test]
fn floods_of_the_host_end() {
    let log = Filter {
        imports: LOG,
        verdict: "(loop $l (call $log (i32.const 1) (i32.const 131072) (i32.const 120000)) (br $l))
            (i32.const 0)",
        ..GOOD
    };
    let mut host = Host::of(&log.build(&[Capability::Log]));
    let (turn, ..) = host.judge(&["a", "a"]);
    let Turn::Held { hold: Hold::Plugin(Some(fault)), .. } = turn else { panic!("{turn:?}") };
    assert!(WORK.contains(&fault.kind), "{fault}");
    let lines = host.worker.take_lines();
    let lines = lines.values().next().expect("some lines are kept");
    assert!(lines.lines.len() <= 3 * Limits::DEFAULT.log_lines_per_s_max as usize);
    let longest = lines.lines.iter().map(|line| line.text.len()).max();
    assert_eq!(longest, Some(Limits::DEFAULT.log_line_bytes_max));
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
    check("a flood of metrics", &metrics, &[Capability::Metrics], WORK);
    let handles = Filter {
        verdict: "(loop $l (drop (call $new (i32.const 1))) (br $l)) (i32.const 0)",
        ..GOOD
    };
    check("a flood of handles", &handles, &[], &[OutOfFuel, TimedOut, BadAnswer, Trapped]);
}

/// A retry plugin with this body of `decide(attempt) -> i32`.
fn retry(imports: &str, decide: &str) -> String {
    let name = "switchyard:plugin/retry@1.0.0";
    let realloc = GOOD.realloc;
    format!(
        r#"(module
        {imports}
        (memory (export "memory") 4)
        (global $top (mut i32) (i32.const 65536))
        (func (export "{name}#open") (param i32 i32) (result i32)
            (i32.store8 (i32.const 32) (i32.const 0)) (i32.const 32))
        (func (export "{name}#decide")
            (param i32 i32 i64 i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32) {decide})
        (func (export "cabi_realloc")
            (param $old i32) (param $old_bytes i32) (param $align i32) (param $bytes i32)
            (result i32) {realloc}))"#
    )
}

#[test]
fn capabilities_of_cold_points_are_bounded_too() {
    let kv = r#"(import "switchyard:plugin/kv@1.0.0" "incr"
        (func $incr (param i32 i32 i64 i64) (result i64)))"#;
    let flood = "(local $i i32) (loop $l
        (i32.store (i32.const 3000) (local.get $i))
        (drop (call $incr (i32.const 3000) (i32.const 4) (i64.const 1) (i64.const 1000)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $l)) (i32.const 0)";
    let clock = r#"(import "switchyard:plugin/clock@1.0.0" "now-ms" (func $now (result i64)))"#;
    let clocks = "(loop $l (drop (call $now)) (br $l)) (i32.const 0)";
    for (name, imports, body, capability) in [
        ("a flood of keys", kv, flood, Capability::Kv),
        ("a flood of looks at the clock", clock, clocks, Capability::Clock),
    ] {
        let wasm = plugin(Point::Retry, &[capability], &retry(imports, body));
        let mut host = Host::of(&wasm);
        let (ask, binding) = (host.ask(), host.binding.clone());
        let asked = host.worker.decide(&ask, &binding, &attempt());
        let Err(yard_wasm::ColdError::Fault(fault)) = asked.answer else {
            panic!("{name}: a fault, not {:?}", asked.answer);
        };
        assert!(WORK.contains(&fault.kind), "{name}: {fault}");
        let most = Limits::DEFAULT.fuel(1) + Limits::DEFAULT.open_fuel;
        assert!(asked.usage.fuel <= most, "{name}");
    }
}

#[test]
fn a_bad_answer_of_a_cold_point_is_a_fault() {
    for (name, body) in [
        ("no such choice", "(i64.store (i32.const 48) (i64.const 99)) (i32.const 48)"),
        ("an answer behind the end", "(i32.const -8)"),
    ] {
        let mut host = Host::of(&plugin(Point::Retry, &[], &retry("", body)));
        let (ask, binding) = (host.ask(), host.binding.clone());
        let asked = host.worker.decide(&ask, &binding, &attempt());
        let fault = match asked.answer {
            Err(yard_wasm::ColdError::Fault(fault)) => fault,
            other => panic!("{name}: a fault, not {other:?}"),
        };
        assert!([BadAnswer, Trapped].contains(&fault.kind), "{name}: {fault}");
    }
}
