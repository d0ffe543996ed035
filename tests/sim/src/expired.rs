//! What groups report of messages that had expired before anybody handled them: as many as their
//! members have passed over, for certain or perhaps.
use std::collections::{BTreeMap, BTreeSet};

use yard_checker::{Outcome, Queue, SettleVerdict};

use crate::base::Base;

/// What the shards have reported last, by group.
pub(crate) type Reported = BTreeMap<u64, u64>;

/// A message of a queue.
type Spot = (Queue, u64);

/// Holds the reports against the history.
pub(crate) fn check(base: &mut Base, reported: &Reported) {
    // In a wide topic they are counted anew.
    if base.plan.wide_queues > 0 {
        return;
    }
    for (group, told) in reported {
        let called = base.removals.called(*group);
        let (mut sure, mut perhaps): (BTreeSet<Spot>, BTreeSet<Spot>) = Default::default();
        for settle in &base.history.settles {
            if settle.verdict != SettleVerdict::Expire || settle.group != called {
                continue;
            }
            let spots = (settle.from..settle.to).map(|offset| (settle.queue, offset));
            match settle.outcome {
                Outcome::Ok { .. } => sure.extend(spots),
                Outcome::Unknown => perhaps.extend(spots),
                Outcome::Refused => {}
            }
        }
        perhaps.extend(sure.iter().copied());
        let (least, most) = (sure.len() as u64, perhaps.len() as u64);
        if !(least..=most).contains(told) {
            base.fail(|| {
                let passed = format!("its members have passed over {least} to {most}");
                format!("group {group} reports {told} messages as expired, {passed}")
            });
        }
    }
}
