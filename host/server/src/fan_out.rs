//! Operations whose answers the server works on: where every shard answers, rows are joined and
//! sums added; where a tenant was added, its certificate is signed.
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tokio::sync::oneshot;
use yard_broker::Origin;
use yard_wire::operation::{
    Arguments, BrokerReport, DelayCancelled, DelayReport, DlqCounts, DlqRange, DlqRow, DrainRow,
    GroupRemoved, GroupReport, GroupRow, Operation, StoppedRow, TenantAdd, TenantAdded,
    TopicReport, TraceRow, TxDecidedRow, TxList, TxReport, UnblockRow,
};
use yard_wire::plugin::PluginRow;
use yard_wire::request::Reply;
use yard_wire::requests::Called;
use yard_wire::{Code, Refusal, TenantId, Wire};

use crate::dispatch::BROKER;
use crate::hub::Hub;
use crate::os;

/// Who gets the answer to an operation.
#[derive(Debug)]
pub(crate) enum Asker {
    /// A client.
    Client(Origin),
    /// This process.
    Here(oneshot::Sender<Result<Reply, Refusal>>),
}

/// One operation that waits for its shards.
#[derive(Debug)]
pub(crate) struct FanOut {
    /// Who asked.
    pub asker: Asker,
    tenant: TenantId,
    arguments: Arguments,
    missing: usize,
    answers: Vec<Result<Reply, Refusal>>,
}

impl FanOut {
    /// Waits for `shards` answers.
    #[must_use]
    pub(crate) fn new(asker: Asker, tenant: TenantId, arguments: Arguments, shards: usize) -> Self {
        assert!(shards > 0, "somebody answers");
        Self { asker, tenant, arguments, missing: shards, answers: Vec::new() }
    }

    /// Takes one answer; the client's when it was the last.
    pub(crate) fn answer(
        &mut self,
        answer: Result<Reply, Refusal>,
        hub: &Hub,
    ) -> Option<Result<Reply, Refusal>> {
        self.gather(answer).map(|merged| self.complete(merged?, hub))
    }

    /// Whether it says which versions of plugins decide: that is so when it is answered.
    #[must_use]
    pub(crate) fn changes_plugins(&self) -> bool {
        matches!(
            self.arguments,
            Arguments::PluginCanary(_)
                | Arguments::PluginDisable(_)
                | Arguments::PluginPromote(_)
                | Arguments::PluginPush(_)
                | Arguments::PluginRm(_)
                | Arguments::PluginRollback(_)
                | Arguments::PluginShadow(_)
        )
    }

    fn gather(&mut self, answer: Result<Reply, Refusal>) -> Option<Result<Reply, Refusal>> {
        assert!(self.missing > 0, "a shard answers once");
        self.missing -= 1;
        self.answers.push(answer);
        if self.missing > 0 {
            return None;
        }
        let mut answers = std::mem::take(&mut self.answers);
        let operation = self.arguments.operation();
        if asks_every_shard(operation) { Some(merge(operation, answers)) } else { answers.pop() }
    }

    /// Adds what only the process knows.
    fn complete(&self, reply: Reply, hub: &Hub) -> Result<Reply, Refusal> {
        let internal = |e: &dyn std::fmt::Display| Refusal::new(Code::Internal, e.to_string());
        let Reply::Call(Called { result }) = reply else {
            return Err(internal(&"a call was answered with something else"));
        };
        let result = match &self.arguments {
            Arguments::BrokerInfo(_) => {
                edited(result, |it| complete_broker(it, hub)).map_err(|e| internal(&e))?
            }
            Arguments::TenantAdd(add) => {
                let added = TenantAdded::from_bytes(result).map_err(|e| internal(&e))?;
                certified(added, add, hub)?.to_bytes()
            }
            Arguments::DelayLs(list) => {
                edited(result, |it| cut(it, list.limit as usize)).map_err(|e| internal(&e))?
            }
            Arguments::TxLs(list) => {
                let report = TxList::from_bytes(result).map_err(|e| internal(&e))?;
                cut_transactions(report, list.limit as usize).to_bytes()
            }
            Arguments::GroupInfo(_) => edited(result, |it| hub.policies.mark_code(self.tenant, it))
                .map_err(|e| internal(&e))?,
            Arguments::PluginInfo(_) => edited(result, |it| hub.policies.complete(self.tenant, it))
                .map_err(|e| internal(&e))?,
            Arguments::PluginLs(_) => {
                let complete = |row: &mut _| hub.policies.complete_row(self.tenant, row);
                let complete = |rows: &mut Vec<PluginRow>| rows.iter_mut().for_each(complete);
                edited(result, complete).map_err(|e| internal(&e))?
            }
            Arguments::ClientLs(_)
            | Arguments::DelayCancel(_)
            | Arguments::DlqDone(_)
            | Arguments::DlqLs(_)
            | Arguments::DlqWaiting(_)
            | Arguments::GroupDrain(_)
            | Arguments::GroupDrained(_)
            | Arguments::GroupLs(_)
            | Arguments::GroupReturn(_)
            | Arguments::GroupRm(_)
            | Arguments::GroupSet(_)
            | Arguments::GroupStopped(_)
            | Arguments::GroupUnblock(_)
            | Arguments::MsgTrace(_)
            | Arguments::PluginCanary(_)
            | Arguments::PluginDisable(_)
            | Arguments::PluginDistrust(_)
            | Arguments::PluginGet(_)
            | Arguments::PluginKeys(_)
            | Arguments::PluginDifferences(_)
            | Arguments::PluginLogs(_)
            | Arguments::PluginPromote(_)
            | Arguments::PluginPush(_)
            | Arguments::PluginRm(_)
            | Arguments::PluginRollback(_)
            | Arguments::PluginShadow(_)
            | Arguments::PluginTrust(_)
            | Arguments::TxCommit(_)
            | Arguments::TxInfo(_)
            | Arguments::TxRollback(_)
            | Arguments::TxSet(_)
            | Arguments::TenantLs(_)
            | Arguments::TenantSet(_)
            | Arguments::TopicCreate(_)
            | Arguments::TopicInfo(_)
            | Arguments::TopicLs(_)
            | Arguments::TopicRm(_)
            | Arguments::TopicSet(_) => result,
        };
        Ok(Reply::Call(Called { result }))
    }
}

/// Makes the certificate of a tenant that was added.
fn certified(mut added: TenantAdded, add: &TenantAdd, hub: &Hub) -> Result<TenantAdded, Refusal> {
    let authority = hub.authority.as_ref().ok_or(Code::Internal)?;
    let issued = authority.issue_tenant(&add.request, &add.name, false);
    added.certificate = issued.map_err(|e| Refusal::new(Code::Internal, e.to_string()))?;
    authority.certificate_pem().clone_into(&mut added.authority);
    Ok(added)
}

/// A result, changed.
fn edited<T: Wire>(
    result: bytes::Bytes,
    edit: impl FnOnce(&mut T),
) -> Result<bytes::Bytes, yard_wire::Malformed> {
    let mut value = T::from_bytes(result)?;
    edit(&mut value);
    Ok(value.to_bytes())
}

/// What the process knows of itself.
fn complete_broker(report: &mut BrokerReport, hub: &Hub) {
    report.broker = BROKER.to_owned();
    report.started_ms = hub.started;
    report.connections = u32::try_from(hub.connections()).unwrap_or(u32::MAX);
    report.cpu_us = os::cpu_us();
    report.rss_anon_bytes = os::rss_anon_bytes();
}

/// Keeps so many rows of a list, and says where it goes on.
fn cut(report: &mut DelayReport, rows_max: usize) {
    if report.rows.len() > rows_max {
        report.rows.truncate(rows_max);
        let last = report.rows.last().map(|row| row.place.clone());
        report.next = last.unwrap_or_default();
    }
}

/// The same for a list of transactions.
fn cut_transactions(mut report: TxList, rows_max: usize) -> TxList {
    if report.rows.len() > rows_max {
        report.rows.truncate(rows_max);
        let last = report.rows.last().map(|row| row.id.to_string());
        report.next = last.unwrap_or_default();
    }
    report
}

/// Whether a tenant's certificate request could be signed here.
///
/// # Errors
/// `BadArgument` with the reason, or where this broker has no authority to sign with.
pub(crate) fn check_certificate_request(hub: &Hub, request: &str) -> Result<(), Refusal> {
    let Some(authority) = &hub.authority else {
        let detail = "this broker has no authority's key to sign a tenant's certificate with";
        return Err(Refusal::new(Code::BadArgument, detail));
    };
    match authority.issue_tenant(request, "probe", false) {
        Ok(_) => Ok(()),
        Err(error) => {
            let detail = format!("the certificate request cannot be signed: {error}");
            Err(Refusal::new(Code::BadArgument, detail))
        }
    }
}

/// Whether every shard must be asked.
#[must_use]
pub(crate) fn asks_every_shard(operation: Operation) -> bool {
    match operation {
        Operation::BrokerInfo
        | Operation::DelayCancel
        | Operation::DelayLs
        | Operation::DlqDone
        | Operation::DlqLs
        | Operation::DlqWaiting
        | Operation::GroupDrain
        | Operation::GroupDrained
        | Operation::GroupInfo
        | Operation::GroupLs
        | Operation::GroupReturn
        | Operation::GroupRm
        | Operation::GroupStopped
        | Operation::GroupUnblock
        | Operation::MsgTrace
        | Operation::TopicInfo
        | Operation::TxCommit
        | Operation::TxInfo
        | Operation::TxLs
        | Operation::TxRollback => true,
        Operation::ClientLs
        | Operation::GroupSet
        | Operation::PluginCanary
        | Operation::PluginDifferences
        | Operation::PluginDisable
        | Operation::PluginDistrust
        | Operation::PluginGet
        | Operation::PluginInfo
        | Operation::PluginKeys
        | Operation::PluginLogs
        | Operation::PluginLs
        | Operation::PluginPromote
        | Operation::PluginPush
        | Operation::PluginRm
        | Operation::PluginRollback
        | Operation::PluginShadow
        | Operation::PluginTrust
        | Operation::TenantAdd
        | Operation::TenantLs
        | Operation::TenantSet
        | Operation::TopicCreate
        | Operation::TopicLs
        | Operation::TopicRm
        | Operation::TopicSet
        | Operation::TxSet => false,
    }
}

fn merge(operation: Operation, answers: Vec<Result<Reply, Refusal>>) -> Result<Reply, Refusal> {
    let (good, bad): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    let is_ignorance = |refusal: &Refusal| ignorance(operation) == Some(refusal.code);
    let (ignorant, refusals): (Vec<Refusal>, Vec<Refusal>) =
        bad.into_iter().filter_map(Result::err).partition(is_ignorance);
    // Not to know it says something only where nobody does.
    let ignorant = ignorant.into_iter().filter(|_| good.is_empty());
    if let Some(refusal) = refusals.into_iter().chain(ignorant).next() {
        return Err(refusal);
    }
    let parts = good.into_iter().filter_map(|answer| match answer {
        Ok(Reply::Call(Called { result })) => Some(result),
        _ => None,
    });
    let merged = match operation {
        Operation::BrokerInfo => merge_all(parts, |all: &mut BrokerReport, one| {
            all.shards.extend(one.shards);
            all.shards.sort_by_key(|row| row.shard);
        }),
        Operation::DelayCancel => merge_all(parts, |all: &mut DelayCancelled, one| {
            if one.cancelled {
                *all = one;
            }
        }),
        Operation::DelayLs => merge_all(parts, merge_delays),
        Operation::DlqDone => merge_all(parts, merge_dlq_counts),
        Operation::DlqLs => merge_all(parts, merge_dlq_rows),
        Operation::DlqWaiting => merge_all(parts, |all: &mut Vec<DlqRange>, one| all.extend(one)),
        Operation::GroupInfo => merge_all(parts, |all: &mut GroupReport, one| {
            all.keys += one.keys;
            all.lag += one.lag;
            all.queues.extend(one.queues);
            all.members.extend(one.members);
            all.queues.sort_by(|a, b| (&a.topic, a.queue).cmp(&(&b.topic, b.queue)));
        }),
        Operation::GroupDrain | Operation::GroupReturn => merge_all(parts, merge_drain),
        Operation::GroupDrained => merge_all(parts, merge_drains),
        Operation::GroupLs => merge_all(parts, merge_group_rows),
        Operation::TxCommit | Operation::TxRollback => {
            merge_all(parts, |_all: &mut TxDecidedRow, _same| {})
        }
        Operation::TxInfo => merge_all(parts, merge_transaction),
        Operation::TxLs => merge_all(parts, merge_transactions),
        Operation::GroupStopped => merge_all(parts, |all: &mut Vec<StoppedRow>, one| {
            all.extend(one);
            all.sort_by(|a, b| (&a.topic, a.queue, a.offset).cmp(&(&b.topic, b.queue, b.offset)));
        }),
        Operation::GroupRm => merge_all(parts, merge_removed),
        Operation::GroupUnblock => merge_all(parts, |all: &mut UnblockRow, one| {
            if one.done {
                *all = one;
            }
        }),
        Operation::MsgTrace => merge_all(parts, |all: &mut Vec<TraceRow>, one| {
            all.extend(one);
            all.sort_by_key(TraceRow::order);
        }),
        Operation::TopicInfo => merge_all(parts, |all: &mut TopicReport, one| {
            all.dedupe_keys += one.dedupe_keys;
            all.messages += one.messages;
            all.queues.extend(one.queues);
            all.queues.sort_by_key(|row| row.queue);
        }),
        other => unreachable!("only one shard is asked for {other:?}"),
    };
    merged.map_err(|e| Refusal::new(Code::Internal, e.to_string()))
}

fn merge_dlq_counts(all: &mut DlqCounts, one: DlqCounts) {
    all.done += one.done;
    all.skipped += one.skipped;
    all.left += one.left;
}

fn merge_removed(all: &mut GroupRemoved, one: GroupRemoved) {
    all.lag += one.lag;
    all.waiting += one.waiting;
}

/// How a shard says that it does not have what the operation is about, while others may: a group
/// lives only in shards that it has consumed from, a transaction where it is decided and where its
/// messages are, a message where its queue is.
fn ignorance(operation: Operation) -> Option<Code> {
    match operation {
        Operation::DlqDone
        | Operation::DlqWaiting
        | Operation::GroupDrain
        | Operation::GroupInfo
        | Operation::GroupRm
        | Operation::GroupStopped => Some(Code::UnknownGroup),
        Operation::GroupReturn => Some(Code::NotDrained),
        Operation::MsgTrace => Some(Code::UnknownMessage),
        Operation::TxCommit | Operation::TxInfo | Operation::TxRollback => {
            Some(Code::UnknownTransaction)
        }
        _ => None,
    }
}

fn merge_all<T: Wire>(
    parts: impl Iterator<Item = bytes::Bytes>,
    add: impl Fn(&mut T, T),
) -> Result<Reply, yard_wire::Malformed> {
    let mut all: Option<T> = None;
    for part in parts {
        let one = T::from_bytes(part)?;
        match &mut all {
            Some(all) => add(all, one),
            None => all = Some(one),
        }
    }
    let all = all.expect("at least one shard answered well");
    Ok(Reply::Call(Called { result: all.to_bytes() }))
}

/// Joins two lists of delayed messages: behind where one of them stopped, nothing is known.
fn merge_delays(all: &mut DelayReport, one: DelayReport) {
    all.waiting += one.waiting;
    all.rows.extend(one.rows);
    // Places of a list sort as their texts.
    all.rows.sort_by(|a, b| a.place.cmp(&b.place));
    let stopped = [&all.next, &one.next].into_iter().filter(|next| !next.is_empty()).min();
    if let Some(next) = stopped.cloned() {
        all.rows.retain(|row| row.place <= next);
        all.next = next;
    }
}

/// Adds the messages of a transaction to what its coordinator knows of it.
fn merge_transaction(all: &mut TxReport, mut one: TxReport) {
    if all.group.is_empty() {
        std::mem::swap(all, &mut one);
    }
    all.messages.append(&mut one.messages);
}

/// Joins two lists of transactions, as those of delayed messages.
fn merge_transactions(all: &mut TxList, one: TxList) {
    all.open += one.open;
    all.undecided += one.undecided;
    all.rows.extend(one.rows);
    all.rows.sort_by_key(|row| row.id);
    // Names are as long as each other and sort as their texts. Shards with messages that no
    // coordinator knows of all list them.
    all.rows.dedup_by_key(|row| row.id);
    let stopped = [&all.next, &one.next].into_iter().filter(|next| !next.is_empty()).min();
    if let Some(next) = stopped.cloned() {
        all.rows.retain(|row| row.id.to_string() <= next);
        all.next = next;
    }
}

/// Adds what another shard has of a drain. A state is that of the shard that has most to do.
fn merge_drain(all: &mut DrainRow, one: DrainRow) {
    let rank = |state: &str| match state {
        "returning" => 3,
        "draining" => 2,
        "forwarding" => 1,
        _ => 0,
    };
    if rank(&one.state) > rank(&all.state) {
        all.state = one.state;
    }
    all.backlog += one.backlog;
    all.in_flight += one.in_flight;
    all.moved += one.moved;
    all.wide_lag += one.wide_lag;
    let began = [all.since_ms, one.since_ms].into_iter().filter(|at| at.0 > 0).min();
    all.since_ms = began.unwrap_or_default();
}

/// Joins the lists of drains, by group and topic.
fn merge_drains(all: &mut Vec<DrainRow>, one: Vec<DrainRow>) {
    let mut rows: BTreeMap<(String, String), DrainRow> = BTreeMap::new();
    for row in all.drain(..).chain(one) {
        match rows.entry((row.group.clone(), row.topic.clone())) {
            Entry::Vacant(free) => drop(free.insert(row)),
            Entry::Occupied(mut known) => merge_drain(known.get_mut(), row),
        }
    }
    all.extend(rows.into_values());
}

/// Adds up the dead letters of each group; a shard may not know the newest topics yet.
fn merge_dlq_rows(all: &mut Vec<DlqRow>, one: Vec<DlqRow>) {
    let mut rows: BTreeMap<String, DlqRow> =
        all.drain(..).map(|row| (row.group.clone(), row)).collect();
    for row in one {
        match rows.get_mut(&row.group) {
            Some(sum) => {
                sum.waiting += row.waiting;
                sum.done += row.done;
            }
            None => {
                rows.insert(row.group.clone(), row);
            }
        }
    }
    all.extend(rows.into_values());
}

fn merge_group_rows(all: &mut Vec<GroupRow>, one: Vec<GroupRow>) {
    let mut rows: BTreeMap<(String, String), GroupRow> = BTreeMap::new();
    for row in all.drain(..).chain(one) {
        let key = (row.name.clone(), row.topic.clone());
        match rows.get_mut(&key) {
            Some(sum) => {
                // A consumer subscribes at every shard, so its members are not added up.
                sum.members = sum.members.max(row.members);
                sum.lag += row.lag;
                sum.in_flight += row.in_flight;
                sum.rejected += row.rejected;
            }
            None => {
                rows.insert(key, row);
            }
        }
    }
    all.extend(rows.into_values());
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_broker::SessionId;
    use yard_wire::dedupe::BusinessKey;
    use yard_wire::operation::{
        DelayCancel, DelayLs, DelayRow, GroupDrained, GroupInfo, GroupLs, GroupReturn,
    };
    use yard_wire::retry::{Attempts, RetryPolicy};
    use yard_wire::units::{AgeLimit, CountLimit};
    use yard_wire::{Correlation, QueueIndex, Timestamp};

    fn row(name: &str, lag: u64) -> GroupRow {
        let (name, topic) = (name.to_owned(), "t".to_owned());
        GroupRow { name, topic, members: 1, lag, in_flight: 1, rejected: 0 }
    }

    fn run(arguments: Arguments, answers: Vec<Result<Reply, Refusal>>) -> Result<Reply, Refusal> {
        let origin = Origin { session: SessionId(1), stream: 0, correlation: Correlation(1) };
        let asker = Asker::Client(origin);
        let mut fan_out = FanOut::new(asker, TenantId(0), arguments, answers.len());
        let mut merged = None;
        for answer in answers {
            assert!(merged.is_none());
            merged = fan_out.gather(answer);
        }
        merged.expect("complete")
    }

    fn called(result: &impl Wire) -> Result<Reply, Refusal> {
        Ok(Reply::Call(Called { result: result.to_bytes() }))
    }

    #[test]
    fn rows_of_one_group_become_one() {
        let merged = run(
            Arguments::GroupLs(GroupLs {}),
            vec![called(&vec![row("b", 1), row("a", 2)]), called(&vec![row("a", 5)])],
        );
        let mut a = row("a", 7);
        a.in_flight = 2;
        assert_eq!(merged, called(&vec![a, row("b", 1)]));
    }

    #[test]
    fn lists_of_delayed_messages_are_joined_as_far_as_all_of_them_go() {
        let report = |places: &[&str], next: &str| {
            let row = |place: &&str| DelayRow {
                due_ms: Timestamp(1),
                topic: "t".into(),
                queue: QueueIndex(0),
                id: String::new(),
                bytes: 1,
                place: (*place).to_owned(),
            };
            let rows = places.iter().map(row).collect();
            DelayReport { waiting: places.len() as u64, rows, next: next.to_owned() }
        };
        let joined = |one: DelayReport, other: DelayReport| {
            let list = DelayLs { topic: None, limit: 9, after: None };
            let merged = run(Arguments::DelayLs(list), vec![called(&one), called(&other)]);
            let Ok(Reply::Call(Called { result })) = merged else { panic!("{merged:?}") };
            DelayReport::from_bytes(result).expect("whole")
        };
        let all = joined(report(&["1", "4"], ""), report(&["2", "3"], ""));
        let places: Vec<_> = all.rows.iter().map(|row| &row.place[..]).collect();
        assert_eq!((places, &all.next[..], all.waiting), (vec!["1", "2", "3", "4"], "", 4));
        // The other may have more between 3 and 4.
        let all = joined(report(&["1", "4"], "4"), report(&["2", "3"], "3"));
        let places: Vec<_> = all.rows.iter().map(|row| &row.place[..]).collect();
        assert_eq!((places, &all.next[..]), (vec!["1", "2", "3"], "3"));
    }

    #[test]
    fn a_message_was_taken_back_where_one_shard_had_it() {
        let id = yard_wire::MessageId([1; 16]);
        let answer = |cancelled| DelayCancelled {
            id: id.to_string(),
            cancelled,
            topic: String::new(),
            due_ms: Timestamp(u64::from(cancelled)),
        };
        for answers in [[true, false], [false, true]] {
            let all = answers.map(|cancelled| called(&answer(cancelled))).to_vec();
            let merged = run(Arguments::DelayCancel(DelayCancel { id }), all);
            assert_eq!(merged, called(&answer(true)));
        }
    }

    #[test]
    fn a_group_is_unknown_only_where_no_shard_knows_it() {
        let unknown = || Err(Refusal::from(Code::UnknownGroup));
        let (retry, max_attempts) = (RetryPolicy::Levels, Attempts(17));
        let (queues, members) = (Vec::new(), Vec::new());
        let (key, key_window, key_count) = (BusinessKey(None), AgeLimit(1), CountLimit(1));
        let report = GroupReport {
            name: "g".into(),
            retry,
            max_attempts,
            key,
            key_window,
            key_count,
            keys: 2,
            lag: 3,
            queues,
            members,
        };
        let ask = || Arguments::GroupInfo(GroupInfo { name: "g".into() });
        assert_eq!(run(ask(), vec![unknown(), called(&report)]), called(&report));
        let refusal = run(ask(), vec![unknown(), unknown()]).unwrap_err();
        assert_eq!(refusal.code, Code::UnknownGroup);
    }

    #[test]
    fn a_drain_is_as_far_as_the_shard_that_has_most_to_do() {
        let row = |state: &str, backlog, since| DrainRow {
            group: "g".into(),
            topic: "t".into(),
            to: "w".into(),
            state: state.into(),
            backlog,
            moved: 2,
            since_ms: Timestamp(since),
            ..DrainRow::default()
        };
        let none = || Err(Refusal::from(Code::NotDrained));
        let back = || Arguments::GroupReturn(GroupReturn { name: "g".into(), topic: "t".into() });
        let rows = [row("returned", 0, 0), row("returning", 3, 9), row("draining", 1, 7)];
        let answers: Vec<_> = rows.iter().map(called).chain([none()]).collect();
        let all = DrainRow { moved: 6, ..row("returning", 4, 7) };
        assert_eq!(run(back(), answers), called(&all));
        assert_eq!(run(back(), vec![none(), none()]).unwrap_err().code, Code::NotDrained);
        let list = || Arguments::GroupDrained(GroupDrained {});
        let other = DrainRow { topic: "u".into(), ..row("forwarding", 0, 5) };
        let one = called(&vec![row("draining", 4, 8), other.clone()]);
        let merged = run(list(), vec![one, called(&vec![row("forwarding", 0, 6)])]);
        let sum = DrainRow { moved: 4, ..row("draining", 4, 6) };
        assert_eq!(merged, called(&vec![sum, other]));
    }
}
