//! Swaps, canaries, shadows and returns to a previous version.
use yard_wasm::canary::{Share, Split};
use yard_wasm::health::HealthState;
use yard_wasm::{Comparison, FaultKind, Judging, Role, Rollout, Sample, Turn};

use crate::support::{Filter, GOOD, Host, installed};

/// Delivers what begins with `b`; at `x` it traps, as the other.
fn other() -> Vec<u8> {
    let verdict = GOOD.verdict.replace("i32.const 97", "i32.const 98");
    Filter { verdict: &verdict, ..GOOD }.build(&[])
}

fn all() -> Split {
    Split { share: Share::ALL, salt: 1 }
}

#[test]
fn a_swap_takes_place_between_batches() {
    let mut host = Host::of(&GOOD.build(&[]));
    let (one, two) = (installed(1, &GOOD.build(&[])), installed(2, &other()));
    for round in 0..1_000_u32 {
        let (version, active) = if round % 2 == 0 { (2, &two) } else { (1, &one) };
        host.publish(Rollout { active: Some(active.clone()), ..Rollout::default() });
        let (turn, judging, _) = host.judge(&["a", "b", "b"]);
        assert_eq!((turn, judging.version()), (Turn::Done, Some((version, Role::Active))));
        assert_eq!(judging.delivered().count(), if version == 1 { 1 } else { 2 });
        assert_eq!(host.worker.instances(), 1, "the old version's instance is gone");
    }
    assert_eq!(host.worker.generation(), host.directory.generation());
}

#[test]
fn a_batch_that_began_ends_with_its_version() {
    let mut host = Host::of(&GOOD.build(&[]));
    let mut tags = vec!["a"; 64];
    tags[40] = "x";
    let frame = crate::support::frame(&tags);
    let batch = yard_wasm::Batch::new(&frame);
    let (ask, binding) = (host.ask(), host.binding.clone());
    let mut judging = Judging::default();
    assert_eq!(host.worker.judge(&ask, &binding, &batch, &mut judging), Turn::More);
    host.publish(Rollout { active: Some(installed(2, &other())), ..Rollout::default() });
    while host.worker.judge(&ask, &binding, &batch, &mut judging) == Turn::More {}
    assert_eq!(judging.version(), Some((1, Role::Active)));
    assert_eq!((judging.delivered().count(), judging.poison().len()), (63, 1));
    let (_, judging, _) = host.judge(&["a"]);
    assert_eq!(judging.version(), Some((2, Role::Active)));
}

#[test]
fn a_canary_that_traps_harms_no_message() {
    let bad = Filter { verdict: "unreachable", ..GOOD }.build(&[]);
    let mut host = Host::of(&GOOD.build(&[]));
    host.publish(Rollout {
        active: Some(installed(1, &GOOD.build(&[]))),
        canary: Some((installed(2, &bad), all())),
        ..Rollout::default()
    });
    let (turn, judging, _) = host.judge(&["a", "b", "a"]);
    assert_eq!((turn, judging.version()), (Turn::Done, Some((1, Role::Active))));
    assert_eq!((judging.delivered().count(), judging.poison().len()), (2, 0));
    let fault = judging.canary_fault().map(|(version, fault)| (*version, fault.kind));
    assert_eq!(fault, Some((2, FaultKind::Trapped)));
    // It rests for a moment, then has another chance.
    let (_, judging, _) = host.judge(&["a"]);
    assert_eq!((judging.version(), judging.canary_fault()), (Some((1, Role::Active)), None));
    host.now_ms += 10;
    assert!(host.judge(&["a"]).1.canary_fault().is_some());
}

#[test]
fn a_canary_judges_its_share() {
    let mut host = Host::of(&GOOD.build(&[]));
    host.publish(Rollout {
        active: Some(installed(1, &GOOD.build(&[]))),
        canary: Some((installed(2, &other()), all())),
        ..Rollout::default()
    });
    let (_, judging, _) = host.judge(&["a", "b", "b"]);
    assert_eq!(judging.version(), Some((2, Role::Canary)));
    assert_eq!(judging.delivered().count(), 2);
}

#[test]
fn an_expression_that_only_a_canary_refuses_is_its_fault() {
    let refuses = Filter {
        compile: "(i32.store8 (i32.const 32) (i32.const 1))
            (i32.store (i32.const 36) (i32.const 3000))
            (i32.store (i32.const 40) (i32.const 0)) (i32.const 32)",
        ..GOOD
    };
    for (active, is_fault) in [(GOOD, true), (refuses, false)] {
        let mut host = Host::new(Rollout {
            active: Some(installed(1, &active.build(&[]))),
            canary: Some((installed(2, &refuses.build(&[])), all())),
            ..Rollout::default()
        });
        let (ask, binding) = (host.ask(), host.binding.clone());
        let asked = host.worker.needs(&ask, &binding);
        assert_eq!(asked.answer.is_ok(), is_fault, "the version in use has the last word");
        let fault = asked.canary_fault.map(|(version, fault)| (version, fault.kind));
        assert_eq!(fault, is_fault.then_some((2, FaultKind::Refused)));
    }
}

#[test]
fn a_shadow_is_asked_and_decides_nothing() {
    let mut host = Host::of(&GOOD.build(&[]));
    host.publish(Rollout {
        active: Some(installed(1, &GOOD.build(&[]))),
        shadow: Some((installed(2, &other()), Sample { per_mille: 1_000 })),
        ..Rollout::default()
    });
    let tags = ["a", "b", "c", "a"];
    let (_, judging, _) = host.judge(&tags);
    assert_eq!(judging.delivered().iter().collect::<Vec<_>>(), [0, 3]);
    let shadowed = judging.shadowed().expect("all batches are looked at");
    assert_eq!(shadowed.version, 2);
    let candidate = shadowed.verdicts.as_ref().expect("it judged").expect("it saw all");
    let mut comparison = Comparison::default();
    let judged = yard_wasm::Bits::first(tags.len());
    comparison.add(judged, judging.delivered(), candidate, |index| index);
    let listed: Vec<_> = comparison.listed.iter().map(|it| (it.id, it.candidate)).collect();
    assert_eq!(listed, [(0, false), (1, true), (3, false)]);
    let (turn, judging, _) = host.judge(&["x", "a"]);
    assert_eq!((turn, judging.poison().len()), (Turn::Done, 1));
    assert!(judging.shadowed().is_some_and(|it| it.verdicts.is_err()), "its trap is its own");
    assert!(host.judge(&["a"]).1.shadowed().is_none(), "a shadow that failed rests");
    host.now_ms += 10;
    assert!(host.judge(&["a"]).1.shadowed().is_some());
}

#[test]
fn quarantine_returns_to_the_previous_version() {
    let mut host = Host::of(&GOOD.build(&[]));
    let (good, bad) = (installed(1, &other()), installed(2, &GOOD.build(&[])));
    host.publish(Rollout { active: Some(bad.clone()), previous: Some(good), ..Rollout::default() });
    let tags: Vec<&str> = (0..64).map(|it| if it % 6 == 0 { "x" } else { "a" }).collect();
    let (_, mut judging, _) = host.judge(&tags);
    assert_eq!(judging.poison().len(), 11);
    let events = judging.take_events();
    assert_eq!(
        events.iter().map(|it| it.change.to).collect::<Vec<_>>(),
        [HealthState::Quarantined]
    );
    assert_eq!(bad.health(host.tenant), HealthState::Quarantined);
    let (_, judging, _) = host.judge(&["a", "b"]);
    assert_eq!(judging.version(), Some((1, Role::Previous)));
    assert_eq!(judging.delivered().iter().collect::<Vec<_>>(), [1]);
    host.now_ms += 1_000;
    let (_, mut judging, _) = host.judge(&["a", "b"]);
    assert_eq!(judging.version(), Some((2, Role::Active)), "the probe");
    assert_eq!(judging.take_events()[0].change.to, HealthState::Degraded);
}

#[test]
fn without_a_version_nobody_judges() {
    let mut host = Host::new(Rollout::default());
    assert_eq!(host.judge(&["a"]).0, Turn::Absent);
}
