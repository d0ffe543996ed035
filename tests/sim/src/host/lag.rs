//! Asking the shards how much of the groups is not settled, as the process itself asks them.
use yard_broker::{Event, Origin, SessionId};
use yard_shard::Input;
use yard_wire::operation::{GroupInfo, GroupReport, Operation};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::Call;
use yard_wire::{Code, Correlation, Refusal, TenantId, Wire};

use super::Host;
use crate::base::Base;
use crate::client::{group_name, group_of};
use crate::expired::Reported;

/// The session of the process itself.
pub(super) const OWN: SessionId = SessionId(u64::MAX);

impl Host {
    /// What all groups have not settled, as answered since it was last asked; `None` when an
    /// answer is missing.
    #[must_use]
    pub(crate) fn lag(&self) -> Option<u64> {
        let total: Option<u64> = self.lags.iter().copied().sum();
        total.filter(|_| !self.lags.is_empty())
    }

    /// Asks every shard about these groups.
    pub(crate) fn ask_lag(&mut self, base: &mut Base, groups: &[u64]) {
        self.lags = vec![None; self.slots.len() * groups.len()];
        if !base.broker_is_up {
            return;
        }
        for shard in 0..self.slots.len() {
            for (at, group) in groups.iter().enumerate() {
                let operation = Operation::GroupInfo as u16;
                let args = GroupInfo { name: group_name(*group) }.to_bytes();
                let correlation = Correlation((shard * groups.len() + at) as u64);
                let origin = Origin { session: OWN, stream: 0, correlation };
                let request = Request::Call(Call { operation, args });
                let event = Event::Request { origin, tenant: TenantId(0), request };
                self.give(base, shard, Input::Event(event));
            }
        }
    }

    /// What groups have last reported as expired, over all shards.
    #[must_use]
    pub(crate) fn expired(&self) -> Reported {
        let mut all = Reported::new();
        for ((group, _), count) in &self.expired {
            *all.entry(*group).or_default() += count;
        }
        all
    }

    fn expired_is(&mut self, origin: Origin, report: &GroupReport) {
        if let Some(group) = group_of(&report.name) {
            let count = report.queues.iter().map(|queue| queue.expired).sum();
            self.expired.insert((group, origin.correlation.0), count);
        }
    }

    pub(super) fn lag_is(&mut self, origin: Origin, result: Result<Reply, Refusal>) {
        let lag = match result {
            Ok(Reply::Call(called)) => {
                let report = GroupReport::from_bytes(called.result).ok();
                report.map(|report| {
                    self.expired_is(origin, &report);
                    report.lag
                })
            }
            // Nobody has subscribed in this shard.
            Err(refusal) if refusal.code == Code::UnknownGroup => Some(0),
            Ok(_) | Err(_) => None,
        };
        if let Some(place) = self.lags.get_mut(origin.correlation.0 as usize) {
            *place = lag;
        }
    }
}
