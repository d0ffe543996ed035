//! Replays and self-tests: what a plugin would decide, before it decides anything.
use yard_abi::manifest::{Capability, Point, SECTION};
use yard_wasm::{Batch, Binding, Contender, FaultKind, Limits, Replay, SelfTestError, self_test};

use crate::points;
use crate::support::{ENGINE, Filter, GOOD, compiled, frame, manifest, typed, with_section};

fn contender(wasm: &[u8]) -> Contender {
    Contender { compiled: compiled(wasm), binding: Binding::new(String::new(), Vec::new()) }
}

#[test]
fn a_replay_counts_and_lists_and_changes_nothing() {
    let verdict = GOOD.verdict.replace("i32.const 97", "i32.const 98");
    let other = Filter { verdict: &verdict, ..GOOD }.build(&[]);
    let (candidate, against) = (contender(&other), contender(&GOOD.build(&[])));
    let tenant = yard_wire::TenantId(1_000_001);
    let mut replay = Replay::new(&ENGINE, tenant, &Limits::DEFAULT, &candidate, Some(&against));
    for (number, tags) in [&["a", "b", "c"][..], &["x", "a"], &["c", "c"]].iter().enumerate() {
        let frame = frame(tags);
        replay.batch(&Batch::new(&frame), |index| (number, index));
    }
    assert_eq!(replay.messages(), 7);
    let candidate = replay.candidate();
    assert_eq!((candidate.judged, candidate.delivered, candidate.poisoned), (6, 1, 1));
    assert_eq!(candidate.poison[0].0, (1, 0));
    assert_eq!(candidate.poison[0].1.kind, FaultKind::Trapped);
    assert!(candidate.usage.fuel > 0 && candidate.usage.memory_bytes > 0);
    assert_eq!(replay.against().map(|it| (it.judged, it.delivered)), Some((6, 2)));
    let listed = replay.comparison().listed.iter().map(|it| (it.id, it.candidate));
    let expect = [((0, 0), false), ((0, 1), true), ((1, 1), false)];
    assert_eq!(listed.collect::<Vec<_>>(), expect);
}

#[test]
fn a_replay_goes_on_after_batches_in_which_everything_fails() {
    let candidate = contender(&Filter { verdict: "unreachable", ..GOOD }.build(&[]));
    let tenant = yard_wire::TenantId(1_000_002);
    let mut replay = Replay::new(&ENGINE, tenant, &Limits::DEFAULT, &candidate, None);
    for _ in 0..30 {
        let frame = frame(&["a", "b"]);
        replay.batch(&Batch::new(&frame), |index| index);
    }
    let side = replay.candidate();
    assert_eq!((side.judged, side.failed, side.poisoned), (0, 60, 0));
    assert_eq!(side.last_failure.as_ref().map(|it| it.kind), Some(FaultKind::Trapped));
    assert!(replay.against().is_none());
}

fn with_tests(module: Vec<u8>, point: Point, capabilities: &[Capability], tests: &str) -> Vec<u8> {
    let json = manifest(point, capabilities);
    let json = json.replace(r#""points""#, &format!(r#""tests": [{tests}], "points""#));
    with_section(module, SECTION, json.as_bytes())
}

#[test]
fn the_vectors_of_a_manifest_are_tried() {
    let module = || typed(Point::Filter, &GOOD.wat());
    let good = r#"{"point": "filter", "message": {"tag": "apple"}, "expect": "deliver"},
        {"point": "filter", "message": {"tag": "bear"}, "expect": "skip"}"#;
    let wasm = with_tests(module(), Point::Filter, &[], good);
    let passed = self_test(&ENGINE, &compiled(&wasm), &Limits::DEFAULT).unwrap();
    assert_eq!(passed.vectors, 2);
    assert!(passed.usage.fuel > 0);
    let bad = good.replace("bear", "apple");
    let wasm = with_tests(module(), Point::Filter, &[], &bad);
    let error = self_test(&ENGINE, &compiled(&wasm), &Limits::DEFAULT).unwrap_err();
    let expect =
        SelfTestError { number: 2, expected: "skip".to_owned(), found: "deliver".to_owned() };
    assert_eq!(error, expect);
    let poison = r#"{"point": "filter", "message": {"tag": "x"}, "expect": "deliver"}"#;
    let wasm = with_tests(module(), Point::Filter, &[], poison);
    let error = self_test(&ENGINE, &compiled(&wasm), &Limits::DEFAULT).unwrap_err();
    assert!(error.found.starts_with("trapped: "), "{}", error.found);
}

#[test]
fn cold_points_have_vectors_too() {
    let (module, capabilities) = points::retry_module();
    let tests = r#"{"point": "retry", "facts": {"count": "3"},
        "message": {"stored_ms": 400}, "expect": "delay-ms 401"}"#;
    let wasm = with_tests(module.clone(), Point::Retry, &capabilities, tests);
    assert!(self_test(&ENGINE, &compiled(&wasm), &Limits::DEFAULT).is_ok());
    let tests = tests.replace("\"3\"", "\"three\"");
    let wasm = with_tests(module, Point::Retry, &capabilities, &tests);
    let error = self_test(&ENGINE, &compiled(&wasm), &Limits::DEFAULT).unwrap_err();
    assert_eq!(error.found, "`three` is no number for `count`");
}
