//! A group that was removed is over: it gets nothing, and settles nothing.

use super::Subscription;
use crate::anomaly::Kind;
use crate::event::Time;
use crate::verdict::Report;

pub(crate) fn check(subscription: &Subscription, removed: Time, report: &mut Report) {
    let (queue, group) = (subscription.queue, Some(subscription.group));
    for seen in subscription.seen.iter().filter(|seen| seen.invoked > removed) {
        report.add(Kind::AfterRemoval, queue, group, || {
            format!("removed at {removed}, offset {} delivered from {}", seen.offset, seen.invoked)
        });
    }
    let is_after = |invoked: Time| invoked > removed;
    let settles = subscription.settles.iter();
    for settle in settles.filter(|it| it.is_confirmed() && is_after(it.invoked)) {
        report.add(Kind::AfterRemoval, queue, group, || {
            let (from, to) = (settle.from, settle.to);
            format!("removed at {removed}, {from}..{to} settled from {}", settle.invoked)
        });
    }
}
