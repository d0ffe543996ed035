//! What a correct broker can do is clean, whatever its clients see of it.

use crate::model;
use proptest::prelude::*;
use yard_checker::{Options, check};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_correct_broker_is_clean(actions in prop::collection::vec(any::<u64>(), 0..300)) {
        let verdict = check(&model::run(&actions, None), &Options::drained());
        prop_assert!(verdict.is_clean(), "{verdict}");
    }
}

/// The property above is worth something only if the histories have everything in them.
#[test]
fn the_model_does_all_that_is_judged() {
    let history = model::run(&model::actions(1, 20_000), None);
    let verdict = check(&history, &Options::drained());
    assert!(verdict.is_clean(), "{verdict}");
    let counts = verdict.counts;
    for (what, count, least) in [
        ("acked", counts.acked, 3_000),
        ("refused", counts.refused, 500),
        ("unknown", counts.unknown, 500),
        ("unknown and visible", counts.unknown_visible, 300),
        ("redelivered", counts.redelivered, 500),
        ("settles", counts.settles, 1_000),
        ("crashes", counts.crashes, 300),
        ("losses excused", counts.losses_excused, 100),
        ("stored", counts.stored, 3_000),
        ("skips", history.skips.len() as u64, 100),
        ("resets", history.resets.len() as u64, 100),
    ] {
        assert!(count >= least, "{what}: {count} of at least {least}\n{verdict}");
    }
    assert_eq!((counts.queues_scanned, counts.queues_not_scanned), (4, 0));
}
