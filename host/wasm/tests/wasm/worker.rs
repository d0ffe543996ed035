//! Batches through a filter: verdicts, poison, budgets, what is dropped and what stays.
use yard_wasm::health::HealthState;
use yard_wasm::{FaultKind, Hold, Limits, Role, Turn};

use crate::support::{Filter, GOOD, Host, installed};

fn indices(tags: &[&str], delivered: &yard_wasm::Bits) -> Vec<usize> {
    (0..tags.len()).filter(|index| delivered.has(*index)).collect()
}

#[test]
fn a_filter_judges_batches_of_any_size() {
    let mut host = Host::of(&GOOD.build(&[]));
    for count in [1, 7, 8, 9, 64, 255, 256] {
        let tags: Vec<&str> =
            (0..count).map(|it| if it % 3 == 0 { "apple" } else { "b" }).collect();
        let (turn, judging, turns) = host.judge(&tags);
        assert_eq!((turn, turns), (Turn::Done, 1));
        let expect: Vec<usize> = (0..count).filter(|it| it % 3 == 0).collect();
        assert_eq!(indices(&tags, &judging.delivered()), expect);
        assert_eq!(judging.version(), Some((1, Role::Active)));
        assert!(judging.usage().fuel > 0, "fuel is counted");
    }
    assert_eq!(host.worker.instances(), 1, "one instance serves all batches");
}

#[test]
fn poison_is_found_and_the_rest_goes_on() {
    let mut host = Host::of(&GOOD.build(&[]));
    let mut tags = vec!["a"; 256];
    tags[173] = "x";
    tags[200] = "b";
    let (turn, mut judging, turns) = host.judge(&tags);
    assert_eq!(turn, Turn::Done);
    assert!(turns > 1, "a batch that hurts gives others their turn");
    let poison: Vec<_> = judging.poison().iter().map(|it| (it.index, it.fault.kind)).collect();
    assert_eq!(poison, [(173, FaultKind::Trapped)]);
    let says = "wasm trap: wasm `unreachable` instruction executed";
    assert_eq!(judging.poison()[0].fault.text, says);
    assert_eq!(judging.delivered().count(), 254);
    assert!(!judging.delivered().has(173) && !judging.delivered().has(200));
    // Nine parts with the message, each with a fault; eight without.
    assert_eq!(judging.take_events(), []);
    let (_, judging, _) = host.judge(&["a"; 256]);
    assert_eq!(judging.delivered().count(), 256, "a new instance goes on");
}

#[test]
fn three_poisonous_messages_degrade_and_events_say_so() {
    let mut host = Host::of(&GOOD.build(&[]));
    let mut tags = vec!["a"; 100];
    for index in [3, 50, 99] {
        tags[index] = "x";
    }
    let (turn, mut judging, _) = host.judge(&tags);
    assert_eq!((turn, judging.poison().len()), (Turn::Done, 3));
    let events = judging.take_events();
    let [event] = &events[..] else { panic!("one event, not {events:?}") };
    assert_eq!((event.version, event.tenant), (1, host.tenant));
    assert_eq!((event.change.from, event.change.to), (HealthState::Healthy, HealthState::Degraded));
    assert_eq!(event.fault.as_ref().map(|it| it.kind), Some(FaultKind::Trapped));
    host.now_ms += 60_000;
    let (_, mut judging, _) = host.judge(&["a"]);
    let events = judging.take_events();
    assert_eq!(events.iter().map(|it| it.change.to).collect::<Vec<_>>(), [HealthState::Healthy]);
}

#[test]
fn a_plugin_that_traps_at_everything_holds_the_queue() {
    let broken = Filter { verdict: "unreachable", ..GOOD };
    let mut host = Host::of(&broken.build(&[]));
    let mut waits = Vec::new();
    for _ in 0..13 {
        let (turn, judging, turns) = host.judge(&["a"; 256]);
        let Turn::Held { until_ms, hold: Hold::Plugin(fault) } = turn else {
            panic!("held, not {turn:?}");
        };
        assert!(fault.is_some() && judging.poison().is_empty(), "no message is to blame");
        assert!(turns <= 13, "it is known early, not after {turns} turns");
        waits.push(until_ms - host.now_ms);
        let (turn, ..) = host.judge(&["a"]);
        let again = Turn::Held { until_ms, hold: Hold::Plugin(None) };
        assert_eq!(turn, again, "nothing is asked before that time");
        host.now_ms = until_ms;
    }
    let expect = [10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 5_120, 10_000, 1_000, 2_000];
    assert_eq!(waits, expect);
}

#[test]
fn single_messages_are_not_all_poison() {
    let broken = Filter { verdict: "unreachable", ..GOOD };
    let mut host = Host::of(&broken.build(&[]));
    let poisoned = (0..100).take_while(|_| host.judge(&["a"]).0 == Turn::Done).count();
    assert_eq!(poisoned, 8, "after some in a row it is the plugin");
}

#[test]
fn a_trap_at_each_third_call_harms_no_message() {
    let third = Filter {
        extra: "(global $calls (mut i32) (i32.const 0))",
        verdict: "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (if (i32.eq (global.get $calls) (i32.const 3)) (then unreachable))
            (i32.const 1)",
        ..GOOD
    };
    let mut host = Host::of(&third.build(&[]));
    let (turn, judging, _) = host.judge(&["a"; 8]);
    assert_eq!((turn, judging.poison().len()), (Turn::Done, 0));
    assert_eq!(judging.delivered().count(), 8);
}

#[test]
fn a_tenant_over_its_share_waits() {
    let mut host = Host::of(&GOOD.build(&[]));
    host.limit(Limits { fuel_per_s: 10_000, ..Limits::DEFAULT });
    let (turn, judging, _) = host.judge(&["a"; 256]);
    assert_eq!(turn, Turn::Done);
    let over = judging.usage().fuel - 1_000;
    let (turn, ..) = host.judge(&["a"]);
    let Turn::Held { until_ms, hold: Hold::Budget } = turn else { panic!("held, not {turn:?}") };
    assert_eq!(until_ms - host.now_ms, over.div_ceil(10), "what it burnt beyond its share");
    host.now_ms = until_ms;
    assert_eq!(host.judge(&["a"]).0, Turn::Done);
}

#[test]
fn instances_are_bounded_by_tenant() {
    let mut host = Host::of(&GOOD.build(&[]));
    host.limit(Limits { instances_max: 1, ..Limits::DEFAULT });
    host.judge(&["a"]);
    let wasm = Filter { extra: r#"(data (i32.const 2048) "two")"#, ..GOOD }.build(&[]);
    let rollout = yard_wasm::Rollout {
        active: Some(installed(2, &wasm)),
        previous: Some(installed(1, &GOOD.build(&[]))),
        ..yard_wasm::Rollout::default()
    };
    host.publish(rollout);
    assert_eq!(host.judge(&["a"]).0, Turn::Done);
    assert_eq!(host.worker.instances(), 1);
}

#[test]
fn expressions_share_an_instance_and_are_forgotten() {
    let mut host = Host::of(&GOOD.build(&[]));
    let ask = host.ask();
    for text in ["one", "two", "three"] {
        host.binding = yard_wasm::Binding::new(text.to_owned(), Vec::new());
        assert_eq!(host.judge(&["a"]).0, Turn::Done);
    }
    assert_eq!(host.worker.instances(), 1);
    let fuel = |host: &mut Host| host.judge(&["a"]).1.usage().calls;
    assert_eq!(fuel(&mut host), 1);
    let binding = host.binding.clone();
    host.worker.forget(&ask, &binding);
    assert_eq!(fuel(&mut host), 2, "it is compiled again");
}
