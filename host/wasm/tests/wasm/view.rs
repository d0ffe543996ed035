//! What plugins see of a message: each version what its manifest declares, whatever the frame was
//! made for.
use std::sync::Arc;

use yard_abi::manifest::{Point, SECTION};
use yard_abi::{FrameBuilder, Shown, View};
use yard_wasm::canary::{Share, Split};
use yard_wasm::{
    Batch, Bits, ColdError, Contender, FaultKind, Installed, Judging, Limits, Replay, Role,
    Rollout, Sample, Turn, early,
};
use yard_wire::TenantId;

use crate::support::{
    ENGINE, Filter, GOOD, Host, PLUGIN, compiled, frame_of, manifest, typed, with_section,
};

/// Delivers the messages that have properties; traps at tags that begin with `x`.
const SEES: Filter<'static> = Filter {
    verdict: r#"
        (if (i32.load16_u offset=42 (local.get $m)) (then
            (if (i32.eq (i32.const 120)
                    (i32.load8_u (i32.add (local.get $m) (i32.load16_u offset=4 (local.get $m)))))
                (then (unreachable)))))
        (i32.ne (i32.load16_u offset=44 (local.get $m)) (i32.const 0))"#,
    ..GOOD
};

/// Of bodies, what a version wants that asks for them.
const BODY_BYTES: u32 = 5;

/// The plugin, or one that traps, as one that reads these properties.
fn wasm(filter: &Filter<'_>, reads: Shown) -> Vec<u8> {
    let properties = match reads {
        Shown::None => r#""properties": "none", "points""#,
        Shown::All => r#""points""#,
    };
    let json = manifest(Point::Filter, &[]).replace(r#""points""#, properties);
    with_section(typed(Point::Filter, &filter.wat()), SECTION, json.as_bytes())
}

fn version(number: u32, reads: Shown) -> Arc<Installed> {
    Installed::new(PLUGIN, number, compiled(&wasm(&SEES, reads)))
}

fn made(tags: &[&str], properties: Shown) -> FrameBuilder {
    frame_of(View { body_bytes: 0, properties }, tags)
}

fn judge(host: &mut Host, frame: &FrameBuilder) -> (Turn, Judging) {
    let (ask, binding, mut judging) = (host.ask(), host.binding.clone(), Judging::default());
    loop {
        match host.worker.judge(&ask, &binding, &Batch::new(frame), &mut judging) {
            Turn::More => {}
            turn => return (turn, judging),
        }
    }
}

fn active(reads: Shown) -> Rollout {
    Rollout { active: Some(version(1, reads)), ..Rollout::default() }
}

#[test]
fn a_version_sees_what_it_declares_whatever_the_frame_has() {
    for (reads, has, sees) in
        [(Shown::All, Shown::All, 3), (Shown::None, Shown::None, 0), (Shown::None, Shown::All, 0)]
    {
        let mut host = Host::new(active(reads));
        let (turn, judging) = judge(&mut host, &made(&["a", "", "c"], has));
        assert_eq!(turn, Turn::Done);
        assert_eq!(judging.delivered().count(), sees, "reads {reads:?}, the frame has {has:?}");
        let (ask, binding) = (host.ask(), host.binding.clone());
        let wants = host.worker.needs(&ask, &binding).answer.expect("it says what it wants");
        assert_eq!(wants, View { body_bytes: 0, properties: reads });
    }
}

#[test]
fn no_version_judges_what_it_cannot_see() {
    let mut host = Host::new(active(Shown::All));
    let (turn, mut judging) = judge(&mut host, &made(&["a", "b"], Shown::None));
    assert_eq!((turn, judging.version()), (Turn::Blind, Some((1, Role::Active))));
    assert_eq!((judging.usage().calls, judging.take_events().len()), (0, 0), "nobody was asked");
    let (turn, judging) = judge(&mut host, &made(&["a", "b"], Shown::All));
    assert_eq!((turn, judging.delivered().count()), (Turn::Done, 2));
}

#[test]
fn parts_of_a_batch_are_as_the_whole() {
    let mut host = Host::new(active(Shown::None));
    let mut tags = vec!["a"; 64];
    tags[40] = "x";
    for has in [Shown::None, Shown::All] {
        let (turn, judging) = judge(&mut host, &made(&tags, has));
        let poison: Vec<usize> = judging.poison().iter().map(|it| it.index).collect();
        assert_eq!((turn, poison), (Turn::Done, vec![40]));
        assert_eq!(judging.delivered(), Bits::default(), "made with {has:?}");
    }
}

#[test]
fn versions_that_judge_one_batch_see_each_its_own() {
    let split = Split { share: Share::ALL, salt: 1 };
    let (none, all) = (Shown::None, Shown::All);
    for (first, second) in [(none, all), (all, none)] {
        let seen = |reads| if reads == Shown::All { 2 } else { 0 };
        let mut host = Host::new(Rollout {
            shadow: Some((version(2, second), Sample { per_mille: 1_000 })),
            ..active(first)
        });
        let (_, judging) = judge(&mut host, &made(&["a", "b"], Shown::All));
        assert_eq!(judging.delivered().count(), seen(first));
        let shadowed = judging.shadowed().expect("it looks at all");
        assert_eq!(
            shadowed.verdicts.as_ref().map(|bits| bits.map(|it| it.count())),
            Ok(Some(seen(second)))
        );
        assert_eq!(shadowed.view.properties, second);

        let canary = Some((version(2, second), split));
        host.publish(Rollout { canary, ..active(first) });
        let (_, judging) = judge(&mut host, &made(&["a", "b"], Shown::All));
        assert_eq!(judging.version(), Some((2, Role::Canary)));
        assert_eq!(judging.delivered().count(), seen(second));

        let traps = compiled(&wasm(&Filter { verdict: "unreachable", ..GOOD }, second));
        let canary = Some((Installed::new(PLUGIN, 3, traps), split));
        host.publish(Rollout { canary, ..active(first) });
        let (_, judging) = judge(&mut host, &made(&["a", "b"], Shown::All));
        assert!(judging.canary_fault().is_some(), "it traps");
        assert_eq!(judging.version(), Some((1, Role::Active)));
        assert_eq!(judging.delivered().count(), seen(first));
    }
}

#[test]
fn a_shadow_that_sees_too_little_says_what_it_wants_and_no_more() {
    let needs = format!(
        "(i32.store (i32.const 48) (i32.const {BODY_BYTES}))
         (i64.store (i32.const 52) (i64.const 0)) (i32.const 48)"
    );
    let wants = compiled(&wasm(&Filter { needs: &needs, ..SEES }, Shown::All));
    let shadow = Installed::new(PLUGIN, 2, wants);
    let mut host = Host::new(Rollout {
        shadow: Some((shadow, Sample { per_mille: 1_000 })),
        ..active(Shown::None)
    });
    for _ in 0..3 {
        let (turn, mut judging) = judge(&mut host, &made(&["a", "b"], Shown::None));
        assert_eq!((turn, judging.take_events().len()), (Turn::Done, 0));
        let shadowed = judging.shadowed().expect("it says what it wants");
        assert_eq!(shadowed.verdicts, Ok(None), "a guess about these messages is none");
        assert_eq!(shadowed.view, View { body_bytes: BODY_BYTES, properties: Shown::All });
    }
}

#[test]
fn a_plugin_cannot_ask_for_properties_that_its_manifest_disclaims() {
    // One column, `amount`.
    let needs = r#"
        (i32.store (i32.const 48) (i32.const 0))
        (i32.store (i32.const 52) (i32.const 60)) (i32.store (i32.const 56) (i32.const 1))
        (i32.store (i32.const 60) (i32.const 68)) (i32.store (i32.const 64) (i32.const 6))
        (i64.store (i32.const 68) (i64.const 0x746e756f6d61)) (i32.const 48)"#;
    for reads in [Shown::None, Shown::All] {
        let asks = compiled(&wasm(&Filter { needs, ..SEES }, reads));
        let active = Some(Installed::new(PLUGIN, 1, asks));
        let mut host = Host::new(Rollout { active, ..Rollout::default() });
        let (ask, binding) = (host.ask(), host.binding.clone());
        let answer = host.worker.needs(&ask, &binding).answer;
        match (reads, answer) {
            (Shown::All, answer) => assert_eq!(answer, Ok(View::default())),
            (Shown::None, Err(ColdError::Fault(fault))) => {
                assert_eq!(fault.kind, FaultKind::BadAnswer);
                assert!(fault.text.contains("`amount`"), "{fault}");
            }
            (Shown::None, answer) => panic!("it contradicts its manifest: {answer:?}"),
        }
    }
}

#[test]
fn a_replay_shows_each_side_its_own() {
    let contender = |reads| Contender {
        compiled: compiled(&wasm(&SEES, reads)),
        binding: yard_wasm::Binding::new(String::new(), Vec::new()),
    };
    let (none, all) = (contender(Shown::None), contender(Shown::All));
    let replay = |tenant, candidate, against: Option<&Contender>| {
        Replay::<usize>::new(&ENGINE, TenantId(tenant), &Limits::DEFAULT, candidate, against)
    };
    assert_eq!(replay(1_000_101, &none, None).properties(), Shown::None);
    assert_eq!(replay(1_000_102, &none, Some(&none)).properties(), Shown::None);
    let mut both = replay(1_000_103, &none, Some(&all));
    assert_eq!(both.properties(), Shown::All);
    both.batch(&Batch::new(&made(&["a", "b"], both.properties())), |index| index);
    assert_eq!(both.candidate().delivered, 0);
    assert_eq!(both.against().map(|it| it.delivered), Some(2));
    assert_eq!(both.comparison().listed.len(), 2);
}

#[test]
fn items_that_are_asked_for_early_come_in_their_order() {
    for count in [0, 1, 8, 9, 100] {
        let records: Vec<Vec<u8>> = (0..count).map(|at| vec![at as u8; at * 7]).collect();
        for properties in [Shown::None, Shown::All] {
            let view = View { body_bytes: 0, properties };
            let items = early(records.iter().enumerate(), view, |(_, record)| record);
            assert!(items.eq(records.iter().enumerate()), "{count} items");
        }
    }
}
