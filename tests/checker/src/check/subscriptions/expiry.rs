//! What is passed over as expired had a time of expiry, and it had come.

use super::Subscription;
use crate::anomaly::Kind;
use crate::event::{SettleVerdict, Time};
use crate::index::{Index, NO_SEND, name};
use crate::verdict::Report;
use std::collections::BTreeMap;

pub(crate) fn check(index: &Index, subscription: &Subscription, report: &mut Report) {
    let is_it = |verdict| verdict == SettleVerdict::Expire;
    if !subscription.settles.iter().any(|settle| is_it(settle.verdict)) {
        return;
    }
    let known = subscription.seen.iter().filter(|seen| seen.send != NO_SEND);
    let sends: BTreeMap<u64, u32> = known.map(|seen| (seen.offset, seen.send)).collect();
    for settle in subscription.settles.iter().filter(|settle| is_it(settle.verdict)) {
        for (offset, send) in sends.range(settle.from..settle.to) {
            let send = index.send(*send);
            if has_expired(send.expires, settle.invoked) {
                continue;
            }
            let (queue, group) = (subscription.queue, Some(subscription.group));
            report.add(Kind::ExpiredEarly, queue, group, || {
                let when = send.expires.map_or("never".to_owned(), |at| format!("at {at}"));
                let by = settle.invoked;
                format!("{} at offset {offset} expires {when}, passed over at {by}", name(send))
            });
        }
    }
}

/// Whether nobody wants what expires then any more at this time.
pub(crate) fn has_expired(expires: Option<Time>, at: Time) -> bool {
    expires.is_some_and(|expires| expires <= at)
}
