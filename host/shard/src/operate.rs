//! The operation that needs broker and log together: the state of the shard.
use yard_broker::Event;
use yard_store::LogState;
use yard_wire::operation::{BrokerReport, Operation, ShardRow};
use yard_wire::request::{Reply, Request};
use yard_wire::requests::Called;
use yard_wire::{Timestamp, Wire};

use crate::Shard;
use crate::output::Output;

impl Shard {
    /// Answers what only the shard can; `false` where the broker must.
    pub(crate) fn answer_here(&self, event: &Event, outputs: &mut Vec<Output>) -> bool {
        let Event::Request { origin, request: Request::Call(call), .. } = event else {
            return false;
        };
        if call.operation != Operation::BrokerInfo as u16 {
            return false;
        }
        let report = BrokerReport {
            broker: String::new(),
            started_ms: Timestamp(0),
            connections: 0,
            cpu_us: 0,
            rss_anon_bytes: 0,
            shards: vec![self.row()],
        };
        let reply = Reply::Call(Called { result: report.to_bytes() });
        outputs.push(Output::Reply { origin: *origin, result: Ok(reply) });
        true
    }

    /// The state of the shard, as `yard broker info` shows it.
    #[must_use]
    pub fn row(&self) -> ShardRow {
        let stats = self.store.stats();
        assert!(stats.synced <= stats.appended, "what is synced was appended");
        ShardRow {
            shard: self.shard,
            state: state(stats.state).to_owned(),
            appended: stats.appended.0,
            synced: stats.synced.0,
            groups: stats.groups,
            messages: stats.messages,
            segments: u32::try_from(stats.segments).unwrap_or(u32::MAX),
        }
    }
}

fn state(state: LogState) -> &'static str {
    match state {
        LogState::Fenced => "fenced",
        LogState::Full => "full",
        LogState::Open => "open",
    }
}
