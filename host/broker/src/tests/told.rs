//! What came out, as scripts tell it.
use yard_wire::ShardId;
use yard_wire::operation::{DrainRow, GroupReport, TopicRow};

use crate::DeliverItem;

pub(super) fn shards_of(shards: &[ShardId]) -> Vec<u16> {
    shards.iter().map(|shard| shard.0).collect()
}

pub(super) fn topic_text(row: &TopicRow) -> String {
    format!("topic {} queues={}", row.id, row.queues)
}

pub(super) fn drain_text(row: &DrainRow) -> String {
    let DrainRow { group, topic, to, state, backlog, in_flight, moved, wide_lag, .. } = row;
    format!(
        "{group} {topic} to {to} {state}: backlog={backlog} held={in_flight} moved={moved} \
         lag={wide_lag}"
    )
}

pub(super) fn report_text(report: &GroupReport) -> String {
    let queues = report.queues.iter().map(|row| {
        format!(
            "{}: {}..{} lag={} held={} waiting={} rejected={}{}",
            row.queue,
            row.settled_below,
            row.end,
            row.lag,
            row.in_flight,
            row.waiting,
            row.rejected,
            filtered(row.filtered)
        )
    });
    let members = report
        .members
        .iter()
        .map(|row| format!("; {} held={} credit={}", row.member, row.in_flight, row.credit));
    queues.collect::<Vec<_>>().join(", ") + &members.collect::<String>()
}

pub(super) fn filtered(count: u64) -> String {
    if count == 0 { String::new() } else { format!(" filtered={count}") }
}

/// `0..3` for first deliveries, `5x2` or `5..7x2` for later ones.
pub(super) fn items_text(items: &[DeliverItem]) -> String {
    let mut runs: Vec<(u64, u64, u32)> = Vec::new();
    for item in items {
        match runs.last_mut() {
            Some((_, to, attempt)) if *to == item.offset.0 && *attempt == item.attempt => *to += 1,
            _ => runs.push((item.offset.0, item.offset.0 + 1, item.attempt)),
        }
    }
    let texts = runs.into_iter().map(|(from, to, attempt)| {
        let times = if attempt == 1 { String::new() } else { format!("x{attempt}") };
        format!("{from}..{to}{times}")
    });
    texts.collect::<Vec<_>>().join(" ")
}
