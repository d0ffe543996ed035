//! Bugs of features that few runs have.
use std::collections::BTreeMap;

use bytes::Bytes;
use yard_shard::Output;
use yard_wire::operation::{GroupInfo, GroupRemoved, GroupRm, Operation, TopicCreate, TraceRow};
use yard_wire::property::{ENCODING, EXPIRES, PRIORITY};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{Call, Called, JoinProducers, Start, TxBegin, TxDecide, Verdict};
use yard_wire::share::Share;
use yard_wire::{Code, Epoch, ProducerId, Timestamp, Wire, batch};

use super::{Plant, image};
use crate::agenda::MS;
use crate::base::Base;
use crate::client::{group_of, tx_group};
use crate::host::WALL_MS;
use crate::removal;

/// Leases that were not extended last so long, as it is said.
const FORGOTTEN_MS: u64 = 60_000;

/// Changes a request on its way to the shard.
pub(super) fn alter_request(base: &Base, request: &mut Request) {
    if let (Some(Plant::BroadcastShared), Request::Subscribe(subscribe)) =
        (base.plant, &mut *request)
        && let Some((group, _)) = subscribe.group.split_once(".member-")
    {
        subscribe.group = group.to_owned();
    }
    if let (Some(Plant::ExtensionForgotten), Request::Extend(extend)) = (base.plant, &mut *request)
    {
        extend.ranges.iter_mut().for_each(|range| range.attempt = u32::MAX);
    }
    match (base.plant, &mut *request) {
        (Some(Plant::ProducersMerged), Request::JoinProducers(JoinProducers { group, .. }))
        | (Some(Plant::ProducersMerged), Request::TxBegin(TxBegin { group, .. }))
        | (Some(Plant::ProducersMerged), Request::TxDecide(TxDecide { group, .. })) => {
            *group = tx_group(0).to_owned();
        }
        (Some(Plant::ForeignDecides), Request::TxDecide(decide)) => {
            let own = base.ledger.group(decide.tx);
            if !own.is_empty() {
                decide.group = own.to_owned();
            }
        }
        (Some(Plant::AllTraced), Request::Call(call))
            if call.operation == Operation::TopicCreate as u16 =>
        {
            if let Ok(create) = TopicCreate::from_bytes(call.args.clone()) {
                call.args = TopicCreate { trace: Share::WHOLE, ..create }.to_bytes();
            }
        }
        (Some(Plant::LatestForgotten), Request::Subscribe(subscribe)) => {
            subscribe.start = Start::Earliest;
        }
        (Some(Plant::RemovalForgotten), Request::Call(call))
            if call.operation == Operation::GroupRm as u16 =>
        {
            forget_removal(base, call);
        }
        _ => {}
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

/// A batch of an older process of a producer becomes one of its newest.
pub(super) fn make_newest(epochs: &mut BTreeMap<ProducerId, Epoch>, request: &mut Request) {
    match request {
        Request::OpenProducer(open) => drop(epochs.entry(open.producer).or_default()),
        Request::Produce(produce) => {
            let Ok((mut header, count)) = batch::parse_header(&produce.batch) else { return };
            let Some(newest) = epochs.get_mut(&header.producer) else { return };
            *newest = (*newest).max(header.epoch);
            header.epoch = *newest;
            let records = &produce.batch[batch::HEADER_BYTES..];
            produce.batch = batch::encode(&header, count, records);
        }
        _ => {}
    }
}

/// Changes what is told of a message.
fn alter_row(plant: Plant, row: &mut TraceRow) {
    if let (Plant::LifeMisplaced, Some(offset)) = (plant, &mut row.offset) {
        offset.0 += 1;
    }
    if plant == Plant::LifeOfNobody && row.event == "acked" {
        row.event = "rejected".to_owned();
    }
}

/// A group without members is asked for instead of being removed.
fn forget_removal(base: &Base, call: &mut Call) {
    let Ok(GroupRm { name }) = GroupRm::from_bytes(call.args.clone()) else { return };
    if group_of(&name).is_some_and(|group| !removal::has_members(base, group)) {
        *call =
            Call { operation: Operation::GroupInfo as u16, args: GroupInfo { name }.to_bytes() };
    }
}

/// Changes what a shard wants.
pub(super) fn alter_outputs(base: &Base, life: u32, outputs: &mut [Output]) {
    for output in outputs {
        let Output::Reply { result, .. } = output else { continue };
        if base.has(Plant::RemovalMadeUp)
            && result.as_ref().is_err_and(|refusal| refusal.code == Code::GroupHasMembers)
        {
            let removed = GroupRemoved { name: String::new(), lag: 0, waiting: 0 };
            *result = Ok(Reply::Call(Called { result: removed.to_bytes() }));
        }
        let Ok(reply) = result else { continue };
        if let Reply::OpenProducer(opened) = reply {
            match base.plant {
                Some(Plant::CountTooHigh) => {
                    opened.lanes.iter_mut().for_each(|(_, next)| next.0 += 1);
                }
                Some(Plant::CountNotRestored) if life > 1 => opened.lanes.clear(),
                _ => {}
            }
        }
        if let (Some(plant), Reply::Call(called)) = (base.plant, &mut *reply)
            && [Plant::LifeMisplaced, Plant::LifeOfNobody].contains(&plant)
            && let Ok(mut rows) = Vec::<TraceRow>::from_bytes(called.result.clone())
        {
            rows.iter_mut().for_each(|row| alter_row(plant, row));
            called.result = rows.to_bytes();
        }
        if let (Some(Plant::ExtensionForgotten), Reply::Extend(extended)) = (base.plant, reply)
            && !extended.other.is_empty()
        {
            let other = std::mem::take(&mut extended.other);
            extended.done += other.iter().map(|it| it.to.0 - it.from.0).sum::<u64>();
            extended.until = Timestamp(WALL_MS + base.now / MS + FORGOTTEN_MS);
        }
    }
}

/// Changes the records that were read for a delivery.
pub(super) fn alter_records(base: &Base, records: &mut [Bytes]) {
    let (name, instead) = match base.plant {
        Some(Plant::ExpiryBroughtForward) => (EXPIRES, Some("1")),
        Some(Plant::PriorityLost) => (PRIORITY, None),
        Some(Plant::PackingLost) => (ENCODING, None),
        _ => return,
    };
    for record in records {
        image::alter_property(record, name, instead);
    }
}
