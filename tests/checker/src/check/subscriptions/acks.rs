//! An acknowledgement holds: what was settled for good before a delivery was asked for is not in
//! it, unless a crash that its level does not survive, or an operator, undid it.

use super::Subscription;
use crate::anomaly::Kind;
use crate::event::{AckLevel, Time};
use crate::index::{Index, any_within};
use crate::intervals::Intervals;
use crate::verdict::Report;

/// In order of time; at equal times the delivery comes first, since it may have been first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Delivered { seen: u32 },
    Settled { settle: u32 },
    Undone { level: AckLevel },
}

pub(crate) fn check(index: &Index, subscription: &Subscription, report: &mut Report) {
    if subscription.settles.is_empty() {
        return;
    }
    let undone = |level: AckLevel, from: Time, to: Time| {
        index.crashes.may_lose(level, from, to) || any_within(&subscription.resets, from, to)
    };
    let mut settled: [Intervals; 3] = Default::default();
    for (_, moment) in moments(index, subscription) {
        match moment {
            Moment::Undone { level } => settled[level as usize].clear(),
            Moment::Settled { settle } => {
                let settle = subscription.settles[settle as usize];
                if !undone(settle.level, settle.invoked, settle.completed.unwrap_or(Time::MAX)) {
                    settled[settle.level as usize].insert(settle.from, settle.to);
                }
            }
            Moment::Delivered { seen } => {
                let seen = &subscription.seen[seen as usize];
                let broken = AckLevel::ALL.into_iter().find(|level| {
                    settled[*level as usize].contains(seen.offset)
                        && !undone(*level, seen.invoked, seen.completed)
                });
                if let Some(level) = broken {
                    let (queue, group) = (subscription.queue, Some(subscription.group));
                    report.add(Kind::AckedRedelivered, queue, group, || {
                        format!(
                            "offset {} was settled ({level:?}), then delivered at {}..{}",
                            seen.offset, seen.invoked, seen.completed,
                        )
                    });
                }
            }
        }
    }
}

fn moments(index: &Index, subscription: &Subscription) -> Vec<(Time, Moment)> {
    let mut moments: Vec<(Time, Moment)> = Vec::new();
    for (number, settle) in subscription.settles.iter().enumerate() {
        if let Some(completed) = settle.completed
            && settle.is_final()
            && settle.is_confirmed()
        {
            moments.push((completed, Moment::Settled { settle: number as u32 }));
        }
    }
    for (number, seen) in subscription.seen.iter().enumerate() {
        moments.push((seen.invoked, Moment::Delivered { seen: number as u32 }));
    }
    for level in AckLevel::ALL {
        let undone = index.crashes.losing(level).iter().chain(&subscription.resets);
        moments.extend(undone.map(|at| (*at, Moment::Undone { level })));
    }
    moments.sort_unstable();
    moments
}
