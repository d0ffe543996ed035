//! The operator: lists what nobody has decided, shard by shard, and decides it.
use yard_wire::operation::{Operation, TxCommit, TxList, TxLs, TxRollback, TxRow};
use yard_wire::request::Request;
use yard_wire::requests::Call;
use yard_wire::{Code, Refusal, ShardId, Wire};

use crate::base::Base;
use crate::client::CALL_STREAM;
use crate::ledger::Fate;

/// Rows of a list.
const ROWS_MAX: u32 = 100;

/// What the operator does next.
#[derive(Debug, Default)]
pub(super) struct Operator {
    /// The shard whose list is read next.
    shard: u16,
    /// What a list showed and is to be decided.
    found: Vec<TxRow>,
    decisions: u64,
}

impl Operator {
    /// The next request, and the stream that leads to its shard.
    pub(super) fn next(&mut self, base: &mut Base) -> (u16, Request) {
        let call = |operation: Operation, args: bytes::Bytes| {
            Request::Call(Call { operation: operation as u16, args })
        };
        while let Some(row) = self.found.last() {
            let id = row.id;
            let commit = match base.ledger.fate(id) {
                // Its producer is slow, and will say.
                Fate::Working => {
                    self.found.pop();
                    continue;
                }
                Fate::Committed(_) => true,
                Fate::RolledBack => false,
                Fate::Silent => {
                    self.decisions += 1;
                    base.ledger.counts.by_operator += 1;
                    let commit = self.decisions.is_multiple_of(2);
                    let at = base.now;
                    let fate = if commit { Fate::Committed(at) } else { Fate::RolledBack };
                    base.ledger.record(id, fate);
                    commit
                }
            };
            let stream = CALL_STREAM + id.coordinator.0;
            let request = match commit {
                true => call(Operation::TxCommit, TxCommit { id }.to_bytes()),
                false => call(Operation::TxRollback, TxRollback { id }.to_bytes()),
            };
            return (stream, request);
        }
        self.shard = (self.shard + 1) % base.plan.shards;
        let list = TxLs { undecided: true, limit: ROWS_MAX, ..TxLs::default() };
        let stream = CALL_STREAM + ShardId(self.shard).0;
        (stream, call(Operation::TxLs, list.to_bytes()))
    }

    /// An answer: a list, or to a decision. Whether there is more to do at once.
    pub(super) fn answered(
        &mut self,
        base: &mut Base,
        result: &Result<bytes::Bytes, Refusal>,
    ) -> bool {
        if self.found.pop().is_some() {
            let codes = [Code::LogFenced, Code::DiskFull, Code::Busy];
            if let Err(refusal) = result
                && !codes.contains(&refusal.code)
            {
                base.fail(|| format!("an operator's decision was refused: {refusal}"));
            }
            return true;
        }
        let Ok(list) = result else { return false };
        match TxList::from_bytes(list.clone()) {
            Ok(list) => {
                if let Some(row) = list.rows.iter().find(|row| row.state != "undecided") {
                    base.fail(|| format!("{} is listed as {}", row.id, row.state));
                }
                self.found = list.rows;
            }
            Err(error) => base.fail(|| format!("a list of transactions: {error}")),
        }
        !self.found.is_empty()
    }
}
