//! Plugins made to hurt: each call ends within its limits, by a fault of the right kind, and the
//! thread goes on. No clock is asked: what ends a call is fuel, or the epoch, or another limit.
use std::collections::BTreeSet;

use rustix::time::{ClockId, clock_gettime};
use yard_abi::manifest::{Capability, Point};
use yard_wasm::{Hold, Level, Limits, Turn};

use crate::corpus::{Hostile, LOG, WORK, corpus};
use crate::points::attempt;
use crate::support::{Filter, GOOD, Host, plugin};

/// Text of the guest that the guest may use, at 3000.
const TEXT: &str = r#"(data (i32.const 3000) "panicked at src/lib.rs:7: index out of bounds")"#;

/// A batch ends with a fault of one of its kinds, and another tenant's plugin is as it was.
fn check(hostile: &Hostile) {
    let Hostile { name, file, kinds } = hostile;
    let mut host = Host::of(file);
    let started = clock_gettime(ClockId::ThreadCPUTime);
    let (turn, judging, turns) = host.judge(&["a", "a", "a"]);
    let ended = clock_gettime(ClockId::ThreadCPUTime);
    let Turn::Held { hold: Hold::Plugin(Some(fault)), .. } = turn else {
        panic!("{name}: held, not {turn:?}");
    };
    assert!(kinds.contains(&fault.kind.name()), "{name}: {fault}, not {kinds:?}");
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

#[test]
fn each_of_the_corpus_ends_within_its_limits() {
    let corpus = corpus();
    let names: BTreeSet<&str> = corpus.iter().map(|it| it.name).collect();
    assert!(names.len() == corpus.len() && corpus.len() >= 30, "{names:?}");
    corpus.iter().for_each(check);
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
fn a_flood_of_lines_is_kept_short() {
    let flood = corpus().into_iter().find(|it| it.name == "a flood of lines").expect("it is there");
    let mut host = Host::of(&flood.file);
    let (turn, ..) = host.judge(&["a", "a"]);
    let Turn::Held { hold: Hold::Plugin(Some(fault)), .. } = turn else { panic!("{turn:?}") };
    assert!(WORK.contains(&fault.kind.name()), "{fault}");
    let lines = host.worker.take_lines();
    let lines = lines.values().next().expect("some lines are kept");
    assert!(lines.lines.len() <= 3 * Limits::DEFAULT.log_lines_per_s_max as usize);
    let longest = lines.lines.iter().map(|line| line.text.len()).max();
    assert_eq!(longest, Some(Limits::DEFAULT.log_line_bytes_max));
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
        assert!(WORK.contains(&fault.kind.name()), "{name}: {fault}");
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
        assert!(["bad-answer", "trapped"].contains(&fault.kind.name()), "{name}: {fault}");
    }
}
