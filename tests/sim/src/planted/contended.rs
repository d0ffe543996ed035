//! Bugs of small objects that several clients contend for.
use yard_shard::Output;
use yard_wire::operation::{GroupSet, Operation, TopicCreate};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::{AckNodes, AckPlace, Placed, Produced, TxDecided, TxVerdict};
use yard_wire::retry::Attempts;
use yard_wire::{Code, QueueIndex, QueueOffset, Refusal, ShardId, TopicId, Wire};

use super::Plant;
use crate::base::Base;

/// Changes a request on its way to the shard.
pub(super) fn alter_request(base: &Base, request: &mut Request) {
    match (base.plant, request) {
        (Some(Plant::OwnersMixed), Request::Subscribe(subscribe)) => subscribe.exclusive = false,
        (Some(Plant::SettingUndone), Request::Call(call))
            if call.operation == Operation::GroupSet as u16 =>
        {
            if let Ok(mut set) = GroupSet::from_bytes(call.args.clone()) {
                set.max_attempts.get_or_insert(Attempts::default());
                call.args = set.to_bytes();
            }
        }
        (Some(Plant::NameShared), Request::Call(call))
            if call.operation == Operation::TopicCreate as u16 =>
        {
            if let Ok(create) = TopicCreate::from_bytes(call.args.clone()) {
                let queues = if create.queues == 2 { 1 } else { create.queues };
                call.args = TopicCreate { queues, ..create }.to_bytes();
            }
        }
        _ => {}
    }
}

/// Changes what a shard wants.
pub(super) fn alter_outputs(base: &Base, outputs: &mut [Output]) {
    for output in outputs {
        let Output::Reply { result, .. } = output else { continue };
        match base.plant {
            Some(Plant::DecisionTaken) if is_refused(result, Code::TransactionFinished) => {
                *result = Ok(Reply::TxDecide(TxDecided { verdict: TxVerdict::Commit }));
            }
            Some(Plant::EpochForgotten) if is_refused(result, Code::ProducerFenced) => {
                let (shard, duplicate) = (ShardId(0), false);
                let (place, nodes) = (AckPlace::Synced, AckNodes::One);
                let (placed, originals) = (Vec::new(), Vec::new());
                let stored = Produced { shard, place, nodes, duplicate, placed, originals };
                *result = Ok(Reply::Produce(stored));
            }
            Some(Plant::OriginalForgotten) => forget_originals(result),
            Some(Plant::MoveUnseen) => {
                if let Ok(Reply::MoveGroup(moved)) = result {
                    moved.queues.iter_mut().for_each(|queue| queue.before = QueueOffset(0));
                }
            }
            _ => {}
        }
    }
}

fn is_refused(result: &Result<Reply, Refusal>, code: Code) -> bool {
    result.as_ref().is_err_and(|refusal| refusal.code == code)
}

/// A batch of one message that was stored before is answered as if it had been stored.
fn forget_originals(result: &mut Result<Reply, Refusal>) {
    let Ok(Reply::Produce(produced)) = result else { return };
    if produced.placed.is_empty() && produced.originals.len() == 1 {
        produced.originals.clear();
        let (topic, queue, first) = (TopicId(1), QueueIndex(0), QueueOffset(0));
        produced.placed.push(Placed { topic, queue, first, count: 1 });
    }
}
