//! The points besides filters: dedupe keys, interceptors, retry, transaction check.
use std::sync::Arc;

use yard_abi::manifest::{Capability, Point, SECTION};
use yard_abi::verdict::{self, Answer};
use yard_wasm::canary::{Share, Split};
use yard_wasm::{
    Action, Attempt, Batch, Binding, ColdError, Fate, Fault, FaultKind, Half, Hold, Intercepting,
    Keying, Next, Role, Rollout, Turn,
};

use crate::support::{GOOD, Host, frame, installed, manifest, plugin, typed, with_section};

pub(crate) fn attempt() -> Attempt {
    Attempt {
        count: 3,
        max: 16,
        age_ms: 1_000,
        topic: "orders".to_owned(),
        group: "billing".to_owned(),
        reason: "timeout".to_owned(),
        last_delay_ms: 500,
        properties: vec![("region".to_owned(), "eu".to_owned())],
    }
}

fn half() -> Half {
    Half {
        id: "1".to_owned(),
        topic: "orders".to_owned(),
        group: "billing".to_owned(),
        age_ms: 1_000,
        checks: 2,
        properties: Vec::new(),
        body: Some(b"body".to_vec()),
    }
}

/// A module with these functions, which counts how often it was opened at 40.
fn module(point: Point, imports: &str, functions: &str) -> String {
    let open = format!("switchyard:plugin/{}@1.0.0#open", point.name());
    let realloc = GOOD.realloc;
    format!(
        r#"(module
        {imports}
        (memory (export "memory") 16)
        (global $top (mut i32) (i32.const 4096))
        (func (export "{open}") (param $config i32) (param $settings i32) (result i32)
            (i32.store (i32.const 40) (i32.add (i32.load (i32.const 40)) (i32.const 1)))
            (i32.store (i32.const 44) (local.get $settings))
            (i64.store (i32.const 48) (i64.const 0))
            (i64.store (i32.const 56) (i64.const 0))
            (i32.const 48))
        {functions}
        (func (export "cabi_realloc")
            (param $old i32) (param $old_bytes i32) (param $align i32) (param $bytes i32)
            (result i32) {realloc}))"#
    )
}

/// A dedupe plugin: the key of a message is the length of its tag, as one byte; `x` traps.
fn dedupe() -> Vec<u8> {
    let name = "switchyard:plugin/dedupe@1.0.0";
    let functions = format!(
        r#"(func (export "{name}#keys") (param $f i32) (param $bytes i32) (param $count i32)
            (result i32)
            (local $m i32) (local $out i32) (local $i i32)
            (local.set $m (i32.add (local.get $f) (i32.const 8)))
            (local.set $out (i32.const 500000))
            (loop $next
                (if (i32.eq (i32.const 120) (i32.load8_u offset=80 (local.get $m)))
                    (then unreachable))
                (i32.store16 (local.get $out) (i32.const 1))
                (i32.store8 offset=2 (local.get $out) (i32.load16_u offset=42 (local.get $m)))
                (local.set $out (i32.add (local.get $out) (i32.const 3)))
                (local.set $m (i32.add (local.get $m) (i32.load (local.get $m))))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if $next (i32.lt_u (local.get $i) (local.get $count))))
            (i32.store (i32.const 16) (i32.const 500000))
            (i32.store (i32.const 20) (i32.sub (local.get $out) (i32.const 500000)))
            (global.set $top (i32.const 4096))
            (i32.const 16))
        (func (export "{name}#describe") (result i32)
            (i64.store (i32.const 64) (i64.const 60000))
            (i32.store8 (i32.const 72) (i32.const 2))
            (i32.store (i32.const 76) (i32.load (i32.const 44)))
            (i32.const 64))"#
    );
    let json = r#"{"name": "test", "version": "1.0.0", "points": ["dedupe"],
        "config": [{"name": "name0"}, {"name": "name1"}, {"name": "count", "kind": "integer"}]}"#;
    let module = typed(Point::Dedupe, &module(Point::Dedupe, "", &functions));
    with_section(module, SECTION, json.as_bytes())
}

#[test]
fn keys_are_one_a_message_and_poison_has_none() {
    let mut host = Host::of(&dedupe());
    let frame = frame(&["a", "abc", "x", ""]);
    let batch = Batch::new(&frame);
    let mut keying = Keying::default();
    let (ask, binding) = (host.ask(), host.binding.clone());
    while host.worker.keys(&ask, &binding, &batch, &mut keying) == Turn::More {}
    let expect: [&[u8]; 4] = [&[1], &[3], &[], &[0]];
    assert_eq!(keying.keys(), expect);
    let poison: Vec<usize> = keying.poison().iter().map(|it| it.index).collect();
    assert_eq!(poison, [2]);
}

#[test]
fn a_binding_has_an_instance_of_its_own() {
    let mut host = Host::of(&dedupe());
    let ask = host.ask();
    for settings in [0_usize, 2, 0, 2] {
        let config = (0..settings).map(|it| (format!("name{it}"), "value".to_owned()));
        let binding = Binding::new(String::new(), config.collect());
        let policy = host.worker.describe(&ask, &binding).answer.unwrap();
        assert_eq!((policy.ttl_ms, policy.on_duplicate), (60_000, Action::Mark));
        assert_eq!(policy.keyspace as usize, settings, "it was opened with its own settings");
    }
    assert_eq!(host.worker.instances(), 2);
}

/// What the host says of settings, whoever asks with them; `refused` says how a question ends.
#[track_caller]
fn check_settings(setting: (&str, &str), says: &str, refused: impl FnOnce(&Arc<Binding>) -> Fault) {
    let (name, value) = setting;
    let fault = refused(&Binding::new(String::new(), vec![(name.to_owned(), value.to_owned())]));
    assert_eq!((fault.kind, &fault.text[..]), (FaultKind::Refused, says));
}

#[test]
fn settings_that_the_manifest_does_not_declare_never_reach_the_guest() {
    let mut host = Host::of(&dedupe());
    let ask = host.ask();
    let (tags, mut keying) = (frame(&["a"]), Keying::default());
    let misspelt = "`test` has no setting `nam0`: it has `name0`, `name1`, `count`";
    check_settings(("nam0", "value"), misspelt, |binding| {
        match host.worker.describe(&ask, binding).answer {
            Err(ColdError::Fault(fault)) => fault,
            other => panic!("{other:?}"),
        }
    });
    // A plugin that has failed is asked again later.
    let mut host = Host::of(&dedupe());
    let ask = host.ask();
    check_settings(("nam0", "value"), misspelt, |binding| {
        match host.worker.keys(&ask, binding, &Batch::new(&tags), &mut keying) {
            Turn::Held { hold: Hold::Plugin(Some(fault)), .. } => fault,
            other => panic!("{other:?}"),
        }
    });
    // A plugin that has failed is asked again later.
    let mut host = Host::of(&dedupe());
    let ask = host.ask();
    check_settings(("count", "many"), "`count` must be a whole number, not `many`", |binding| {
        match host.worker.open(&ask, binding, Point::Dedupe).answer {
            Err(ColdError::Fault(fault)) => fault,
            other => panic!("{other:?}"),
        }
    });
    let mut host = Host::of(&GOOD.build(&[]));
    let ask = host.ask();
    let says = "`test` has no setting `dialect`, nor any other";
    check_settings(("dialect", "sql"), says, |binding| {
        match host.worker.needs(&ask, binding).answer {
            Err(ColdError::Fault(fault)) => fault,
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn an_interceptor_passes_and_rejects() {
    let name = "switchyard:plugin/interceptor@1.0.0";
    // The first message passes, the others are rejected for the reason `no`.
    let functions = format!(
        r#"(func (export "{name}#apply") (param $f i32) (param $bytes i32) (param $count i32)
            (result i32)
            (local $out i32) (local $i i32)
            (memory.fill (i32.const 500000) (i32.const 0) (i32.const 5))
            (local.set $out (i32.const 500005))
            (block $done (loop $next
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if $done (i32.ge_u (local.get $i) (local.get $count)))
                (i32.store8 (local.get $out) (i32.const 2))
                (i32.store offset=1 (local.get $out) (i32.const 2))
                (i32.store16 offset=5 (local.get $out) (i32.const 0x6f6e))
                (local.set $out (i32.add (local.get $out) (i32.const 7)))
                (br $next)))
            (i32.store (i32.const 16) (i32.const 500000))
            (i32.store (i32.const 20) (i32.sub (local.get $out) (i32.const 500000)))
            (global.set $top (i32.const 4096))
            (i32.const 16))"#
    );
    let wasm = plugin(Point::Interceptor, &[], &module(Point::Interceptor, "", &functions));
    let mut host = Host::of(&wasm);
    let frame = frame(&["a", "b", "c"]);
    let batch = Batch::new(&frame);
    let mut intercepting = Intercepting::default();
    let (ask, binding) = (host.ask(), host.binding.clone());
    let turn = host.worker.intercept(&ask, &binding, &batch, &mut intercepting);
    assert_eq!(turn, Turn::Done);
    let answers = intercepting.answers();
    let answers: Vec<_> =
        answers.iter().map(|it| verdict::answers(it, 1).unwrap().remove(0)).collect();
    assert_eq!(answers, [Answer::Pass, Answer::Reject("no"), Answer::Reject("no")]);
}

/// A retry plugin without its manifest: the delay is the time and its count of failures, which
/// the host keeps for a second.
pub(crate) fn retry_module() -> (Vec<u8>, [Capability; 2]) {
    let imports = r#"(import "switchyard:plugin/kv@1.0.0" "incr"
        (func $incr (param i32 i32 i64 i64) (result i64)))
        (import "switchyard:plugin/clock@1.0.0" "now-ms" (func $now (result i64)))"#;
    let functions = r#"(func (export "switchyard:plugin/retry@1.0.0#decide")
            (param i32 i32 i64 i32 i32 i32 i32 i32 i32 i64 i32 i32)
            (result i32)
            (i32.store8 (i32.const 64) (i32.const 0))
            (i64.store (i32.const 72) (i64.add (call $now)
                (call $incr (i32.const 3000) (i32.const 4) (i64.const 1) (i64.const 1000))))
            (global.set $top (i32.const 4096))
            (i32.const 64))"#;
    let wat = module(Point::Retry, imports, functions);
    (typed(Point::Retry, &wat), [Capability::Kv, Capability::Clock])
}

fn retry() -> Vec<u8> {
    let (module, capabilities) = retry_module();
    let json = manifest(Point::Retry, &capabilities);
    with_section(module, SECTION, json.as_bytes())
}

#[test]
fn a_retry_plugin_has_state_and_time_of_the_host() {
    let mut host = Host::of(&retry());
    let mut next = |now_ms: u64| {
        host.now_ms = now_ms;
        let (ask, binding) = (host.ask(), host.binding.clone());
        host.worker.decide(&ask, &binding, &attempt()).answer.unwrap()
    };
    assert_eq!(next(5_000), Next::DelayMs(5_001));
    assert_eq!(next(5_999), Next::DelayMs(6_001));
    assert_eq!(next(6_998), Next::DelayMs(7_001));
    assert_eq!(next(7_998), Next::DelayMs(7_999), "what nobody counted for a second is gone");
}

#[test]
fn state_outlives_instances_and_versions_but_not_its_plugin() {
    let mut host = Host::of(&retry());
    let ask = host.ask();
    let binding: Arc<Binding> = host.binding.clone();
    host.worker.decide(&ask, &binding, &attempt()).answer.unwrap();
    let mut other = Host::of(&retry());
    other.tenant = host.tenant;
    let answer = other.worker.decide(&ask, &binding, &attempt()).answer.unwrap();
    let Next::DelayMs(delay_ms) = answer else { panic!("a delay, not {answer:?}") };
    assert!(delay_ms > ask.now_ms + 1, "another worker's instance sees the same state");
}

/// A transaction check whose fate is the number of checks; above so many it traps.
fn checks(max: u32) -> Vec<u8> {
    let functions = format!(
        r#"(func (export "switchyard:plugin/txn-check@1.0.0#check")
            (param $id i32) (param i32 i32 i32 i32 i32 i64) (param $checks i32)
            (param i32 i32 i32 i32 i32)
            (result i32)
            (if (i32.gt_u (local.get $checks) (i32.const {max})) (then unreachable))
            (global.set $top (i32.const 4096))
            (local.get $checks))"#
    );
    plugin(Point::TxnCheck, &[], &module(Point::TxnCheck, "", &functions))
}

#[test]
fn a_canary_that_traps_harms_no_question() {
    let split = Split { share: Share::ALL, salt: 1 };
    let mut host = Host::new(Rollout {
        active: Some(installed(1, &checks(3))),
        canary: Some((installed(2, &checks(1)), split)),
        ..Rollout::default()
    });
    let (ask, binding) = (host.ask(), host.binding.clone());
    let asked = host.worker.check(&ask, &binding, &Half { checks: 1, ..half() });
    assert_eq!((asked.answer, asked.version), (Ok(Fate::Rollback), Some((2, Role::Canary))));
    assert_eq!(asked.canary_fault, None);
    let asked = host.worker.check(&ask, &binding, &Half { checks: 2, ..half() });
    assert_eq!((asked.answer, asked.version), (Ok(Fate::Unknown), Some((1, Role::Active))));
    let fault = asked.canary_fault.map(|(version, fault)| (version, fault.kind));
    assert_eq!(fault, Some((2, FaultKind::Trapped)));
}

#[test]
fn a_transaction_check_says_a_fate_and_holds_after_a_fault() {
    let mut host = Host::of(&checks(3));
    let (ask, binding) = (host.ask(), host.binding.clone());
    for (checks, fate) in [(0, Fate::Commit), (2, Fate::Unknown), (3, Fate::AskProducer)] {
        let asked = host.worker.check(&ask, &binding, &Half { checks, ..half() });
        assert_eq!((asked.answer, asked.version), (Ok(fate), Some((1, Role::Active))));
    }
    let asked = host.worker.check(&ask, &binding, &Half { checks: 4, ..half() });
    assert!(matches!(asked.answer, Err(ColdError::Fault(_))), "{:?}", asked.answer);
    let asked = host.worker.check(&ask, &binding, &half());
    assert_eq!(asked.answer, Err(ColdError::Held { until_ms: ask.now_ms + 10 }));
    host.now_ms += 10;
    let asked = host.worker.check(&host.ask(), &binding, &half());
    assert_eq!(asked.answer, Ok(Fate::Unknown));
}

#[test]
fn an_expression_says_its_needs_or_why_not() {
    let mut host = Host::of(&GOOD.build(&[]));
    let (ask, binding) = (host.ask(), host.binding.clone());
    let needs = host.worker.needs(&ask, &binding).answer.unwrap();
    assert_eq!(needs, yard_abi::View::default());
    assert!(
        host.worker.decide(&ask, &binding, &attempt()).answer.is_err(),
        "it is no retry plugin"
    );
}
