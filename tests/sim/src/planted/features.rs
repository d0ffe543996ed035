//! Bugs of features that few runs have.
use bytes::Bytes;
use yard_wire::property::EXPIRES;
use yard_wire::request::Request;
use yard_wire::requests::Verdict;

use super::{Plant, image};
use crate::base::Base;

/// Changes a request on its way to the shard.
pub(super) fn alter_request(base: &Base, request: &mut Request) {
    if let (Some(Plant::BroadcastShared), Request::Subscribe(subscribe)) =
        (base.plant, &mut *request)
        && let Some((group, _)) = subscribe.group.split_once(".member-")
    {
        subscribe.group = group.to_owned();
    }
    let Request::Settle(settle) = request else { return };
    let instead = match base.plant {
        Some(Plant::ExpiredComesAgain) => Verdict::Nack,
        Some(Plant::ExpiredAsAcked) => Verdict::Ack,
        _ => return,
    };
    for range in settle.ranges.iter_mut().filter(|range| range.verdict == Verdict::Expire) {
        range.verdict = instead;
    }
}

/// Changes the records that were read for a delivery.
pub(super) fn alter_records(base: &Base, records: &mut [Bytes]) {
    if base.has(Plant::ExpiryBroughtForward) {
        for record in records {
            image::alter_property(record, EXPIRES, |_| Some("1".to_owned()));
        }
    }
}
