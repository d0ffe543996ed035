//! An operator who lets order groups go on that have stopped (what stopped them becomes a dead
//! letter), and has groups go on in wider topics for a while.
use yard_broker::{Event, Origin};
use yard_shard::Input;
use yard_wire::operation::{
    GroupDrain, GroupReturn, GroupStopped, GroupUnblock, Operation, StoppedRow,
};
use yard_wire::order::Unblock;
use yard_wire::request::{Reply, Request};
use yard_wire::requests::Call;
use yard_wire::{Correlation, Refusal, TenantId, Wire};

use super::Host;
use super::lag::OWN;
use crate::base::Base;
use crate::client::{group_name, topic_name, wide_name};

/// Questions for what has stopped.
const ASKING: u16 = 1;
/// Orders to go on.
const UNBLOCKING: u16 = 2;
/// Orders to go on elsewhere, or to return.
const DRAINING: u16 = 3;

impl Host {
    /// Asks every shard what has stopped in these groups.
    pub(crate) fn ask_stopped(&mut self, base: &mut Base, groups: &[u64]) {
        if !base.broker_is_up {
            return;
        }
        for shard in 0..self.slots.len() {
            for group in groups {
                let args = GroupStopped { name: group_name(*group) }.to_bytes();
                let number = (shard as u64) << 32 | *group;
                self.operate(base, shard, (ASKING, number), Operation::GroupStopped, args);
            }
        }
    }

    /// Has the first topic's messages of a group passed on to its wide topic. Where that cannot be
    /// done now, it is not.
    pub(crate) fn drain(&mut self, base: &mut Base, group: u64) {
        let (name, topic, to) = (group_name(group), topic_name(0), wide_name(group));
        let args = GroupDrain { name, topic, to }.to_bytes();
        self.operate_everywhere(base, Operation::GroupDrain, &args);
    }

    /// Lets a group return to the first topic.
    pub(crate) fn bring_back(&mut self, base: &mut Base, group: u64) {
        let (name, topic) = (group_name(group), topic_name(0));
        let args = GroupReturn { name, topic }.to_bytes();
        self.operate_everywhere(base, Operation::GroupReturn, &args);
    }

    fn operate_everywhere(&mut self, base: &mut Base, operation: Operation, args: &bytes::Bytes) {
        if !base.broker_is_up {
            return;
        }
        for shard in 0..self.slots.len() {
            self.operate(base, shard, (DRAINING, 0), operation, args.clone());
        }
    }

    fn operate(
        &mut self,
        base: &mut Base,
        shard: usize,
        (stream, number): (u16, u64),
        operation: Operation,
        args: bytes::Bytes,
    ) {
        let origin = Origin { session: OWN, stream, correlation: Correlation(number) };
        let request = Request::Call(Call { operation: operation as u16, args });
        let event = Event::Request { origin, tenant: TenantId(0), request };
        self.give(base, shard, Input::Event(event));
    }

    /// A shard has answered the operator; false when it has answered somebody else.
    pub(super) fn answers_operator(
        &mut self,
        base: &mut Base,
        origin: Origin,
        result: &Result<Reply, Refusal>,
    ) -> bool {
        if origin.stream == ASKING
            && let Ok(Reply::Call(called)) = result
        {
            let rows = Vec::<StoppedRow>::from_bytes(called.result.clone()).unwrap_or_default();
            let (shard, group) = (origin.correlation.0 >> 32, origin.correlation.0 & 0xffff_ffff);
            for row in rows {
                let unblock = GroupUnblock {
                    name: group_name(group),
                    topic: row.topic,
                    queue: row.queue.0,
                    offset: row.offset.0,
                    then: Unblock::Bury,
                };
                let (way, args) = ((UNBLOCKING, 0), unblock.to_bytes());
                self.operate(base, shard as usize, way, Operation::GroupUnblock, args);
            }
        }
        [ASKING, UNBLOCKING, DRAINING].contains(&origin.stream)
    }
}
