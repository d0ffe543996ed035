//! The operations about transactions: operators see what is open, and decide what nobody else does.
use yard_wire::limits::GROUPS_MAX;
use yard_wire::operation::{
    TxDecidedRow, TxList, TxLs, TxMessageRow, TxReport, TxRow, TxSet, TxSettingsRow,
};
use yard_wire::transaction::CheckPolicy;
use yard_wire::{TenantId, Timestamp, TxId};

use super::Tx;
use super::prepared::TxName;
use crate::bounds::{TX_CHECKS_MAX, TX_ROWS_MAX, TX_SCAN_MAX};
use crate::broker::{Broker, METADATA_SHARD};
use crate::meta::{MetaChange, ProducerGroup};
use crate::operate::{Outcome, called};
use crate::refusal::{BadArgument, LimitReached, OperateError, TxError};

fn state(tx: &Tx) -> &'static str {
    match tx.decided {
        Some(true) => "committing",
        Some(false) => "rolling-back",
        None if tx.is_undecided() => "undecided",
        None => "open",
    }
}

/// Of messages whose coordinator does not know their transaction.
const UNKNOWN: &str = "unknown";

fn row(id: TxId, tx: &Tx) -> TxRow {
    TxRow {
        id,
        group: tx.group.to_string(),
        state: state(tx).to_owned(),
        begun_ms: tx.begun,
        checks: tx.checks,
        next_check_ms: if tx.decided.is_some() { Timestamp(0) } else { tx.next },
        note: tx.note.to_string(),
    }
}

fn unknown_row(id: TxId) -> TxRow {
    let (group, note, state) = (String::new(), String::new(), UNKNOWN.to_owned());
    let (begun_ms, next_check_ms) = (Timestamp(0), Timestamp(0));
    TxRow { id, group, state, begun_ms, checks: 0, next_check_ms, note }
}

impl Broker {
    /// Lists what is open here, by name.
    pub(crate) fn tx_ls(
        &self,
        tenant: TenantId,
        arguments: &TxLs,
    ) -> Result<Outcome, OperateError> {
        if !(1..=TX_ROWS_MAX).contains(&arguments.limit) {
            let detail = format!("a limit of {}: 1 to {TX_ROWS_MAX}", arguments.limit);
            return Err(OperateError::BadArgument(BadArgument(detail)));
        }
        let from = (tenant, arguments.after.unwrap_or_default());
        let counts = self.transactions.counts_of(tenant);
        let known = self.transactions.from(from).map(|(id, tx)| row(id, tx));
        let orphans = self.timers.prepared.orphans(from).map(unknown_row);
        let (mut rows, mut next) = (Vec::new(), String::new());
        let (mut last, limit) = (None, arguments.limit as usize);
        let mut orphans = orphans.peekable();
        let mut known = known.peekable();
        for looked_at in 0.. {
            let orphan_first = match (known.peek(), orphans.peek()) {
                (Some(known), Some(orphan)) => orphan.id < known.id,
                (None, Some(_)) => true,
                (_, None) => false,
            };
            let one = if orphan_first { orphans.next() } else { known.next() };
            let Some(one) = one else { break };
            if Some(one.id) == arguments.after {
                continue;
            }
            if looked_at >= TX_SCAN_MAX || rows.len() == limit {
                next = last.map_or(String::new(), |last: TxId| last.to_string());
                break;
            }
            last = Some(one.id);
            let is_of_group = arguments.group.as_ref().is_none_or(|group| *group == one.group);
            let is_undecided = one.state == "undecided" || one.state == UNKNOWN;
            if is_of_group && (is_undecided || !arguments.undecided) {
                rows.push(one);
            }
        }
        let (open, undecided) = (counts.open, counts.undecided);
        Ok(Outcome::Now(called(&TxList { open, undecided, rows, next })))
    }

    /// What this shard knows of a transaction.
    pub(crate) fn tx_info(&self, tenant: TenantId, id: TxId) -> Result<Outcome, OperateError> {
        let name = (tenant, id);
        let held = self.timers.prepared.of(name).unwrap_or_default();
        let row = match self.transactions.get(name) {
            Some(tx) => row(id, tx),
            None if held.is_empty() => {
                return Err(OperateError::Transaction(TxError::Unknown(id)));
            }
            None => unknown_row(id),
        };
        let TxRow { id, group, state, begun_ms, checks, next_check_ms, note } = row;
        let message = |((due_ms, _), it): &(crate::timers::Key, crate::timers::Delayed)| {
            let (queue, bytes, due_ms) = (it.queue, it.bytes, *due_ms);
            let topic = self.topic_name(it.topic);
            let (shard, segment, at) = (self.config.shard, it.lies.segment, it.lies.offset);
            let id = it.id.to_string();
            TxMessageRow { topic, queue, id, bytes, due_ms, shard, segment, at }
        };
        let messages = held.iter().map(message).collect();
        let report = TxReport { id, group, state, begun_ms, checks, next_check_ms, note, messages };
        Ok(Outcome::Now(called(&report)))
    }

    /// An operator decides: about what is open here, or about messages of a transaction that no
    /// coordinator knows.
    pub(crate) fn tx_settle(
        &self,
        tenant: TenantId,
        id: TxId,
        committed: bool,
    ) -> Result<Outcome, OperateError> {
        let name: TxName = (tenant, id);
        let reply = called(&TxDecidedRow { id, committed });
        let unknown = || OperateError::Transaction(TxError::Unknown(id));
        if self.timers.prepared.is_orphan(name) {
            let entry = self.settlement(name, committed).ok_or_else(unknown)?;
            return Ok(Outcome::Record(entry, reply));
        }
        if id.coordinator != self.config.shard {
            return Err(unknown());
        }
        match self.must_decide(name, committed).map_err(OperateError::Transaction)? {
            true => Ok(Outcome::Decide(name, committed, reply)),
            false => Ok(Outcome::Unchanged(reply)),
        }
    }

    /// Changes when producers of a group are asked.
    pub(crate) fn tx_set(
        &self,
        tenant: TenantId,
        arguments: TxSet,
    ) -> Result<Outcome, OperateError> {
        self.check_here(METADATA_SHARD).map_err(OperateError::NotHere)?;
        let TxSet { group, first, every, checks: max, check } = arguments;
        yard_wire::name::check(&group).map_err(OperateError::BadName)?;
        let old = self.meta.checks(tenant, &group);
        let old_check = self.meta.check_plugin(tenant, &group).cloned();
        let old_check = old_check.map_or(CheckPolicy::Native, CheckPolicy::Plugin);
        let is_new = !self.meta.has_checks(tenant, &group);
        if is_new && self.meta.checks_count_of(tenant) >= GROUPS_MAX {
            let fact = LimitReached { what: "producer groups of the tenant", max: GROUPS_MAX };
            return Err(OperateError::LimitReached(fact));
        }
        if let Some(max) = max.filter(|max| *max > TX_CHECKS_MAX) {
            let detail = format!("{max} checks; at most {TX_CHECKS_MAX}");
            return Err(OperateError::BadArgument(BadArgument(detail)));
        }
        let mut checks = old;
        checks.first = first.unwrap_or(checks.first);
        checks.every = every.unwrap_or(checks.every);
        checks.max = max.unwrap_or(checks.max);
        let (first, every) = (checks.first, checks.every);
        let check = check.unwrap_or_else(|| old_check.clone());
        let name = group.clone();
        let row =
            TxSettingsRow { group: name, first, every, checks: checks.max, check: check.clone() };
        if checks == old && check == old_check {
            return Ok(Outcome::Unchanged(called(&row)));
        }
        let settings = ProducerGroup { tenant, name: group, checks, check };
        Ok(Outcome::Change(MetaChange::ChecksPut(settings), called(&row)))
    }
}
