//! The dead-letter topics: one copy of what a group rejected, and nothing else.

use crate::anomaly::Kind;
use crate::event::{DeadLetter, Queue, SettleVerdict, Time};
use crate::index::{Index, NO_SEND, name};
use crate::intervals::Intervals;
use crate::verdict::Report;
use std::collections::BTreeMap;

/// Judges every declared dead-letter topic that was scanned.
pub(crate) fn check(index: &Index, report: &mut Report) {
    let declared = &index.history.dead_letters;
    for (row, dead) in declared.iter().enumerate() {
        let first = Queue { topic: dead.topic, index: 0 };
        let last = Queue { topic: dead.topic, index: u32::MAX };
        if index.dead_scans.range(first..=last).next().is_none() {
            continue;
        }
        let mut copies: Vec<(u32, Queue)> = (index.dead_scans.range(first..=last))
            .flat_map(|(queue, scan)| scan.messages.iter().map(|(_, at)| (*at, *queue)))
            .filter(|(at, _)| *at != NO_SEND)
            .collect();
        copies.sort_unstable();
        if !declared[..row].iter().any(|other| other.topic == dead.topic) {
            check_copies(index, dead, &copies, report);
        }
        // What waited to be copied goes with the group.
        if !index.history.removals.iter().any(|removal| removal.group == dead.group) {
            check_rejected(index, dead, &copies, report);
        }
    }
}

fn check_copies(index: &Index, dead: &DeadLetter, copies: &[(u32, Queue)], report: &mut Report) {
    for run in copies.chunk_by(|a, b| a.0 == b.0) {
        let (send, queue) = (index.send(run[0].0), run[0].1);
        if !index
            .history
            .dead_letters
            .iter()
            .any(|other| other.topic == dead.topic && other.source == send.queue.topic)
        {
            report.add(Kind::Phantom, queue, Some(dead.group), || {
                format!("{} was sent to topic {}", name(send), send.queue.topic)
            });
        }
        // Groups of the same name, one after another, have the topic in common.
        let declared = &index.history.dead_letters;
        let its = |it: &&DeadLetter| it.topic == dead.topic && it.source == send.queue.topic;
        if run.len() > declared.iter().filter(its).count().max(1) {
            report.add(Kind::Duplicate, queue, Some(dead.group), || {
                format!("{} has {} copies", name(send), run.len())
            });
        }
    }
}

fn check_rejected(index: &Index, dead: &DeadLetter, copies: &[(u32, Queue)], report: &mut Report) {
    let mut rejected: BTreeMap<Queue, Intervals> = BTreeMap::new();
    for settle in &index.history.settles {
        let holds = settle.verdict == SettleVerdict::Reject
            && settle.is_confirmed()
            && !index.crashes.may_lose(settle.level, settle.invoked, Time::MAX);
        if settle.group == dead.group && settle.queue.topic == dead.source && holds {
            rejected.entry(settle.queue).or_default().insert(settle.from, settle.to);
        }
    }
    for (queue, offsets) in rejected {
        let Some(scan) = index.scans.get(&queue) else {
            continue;
        };
        for (from, to) in offsets.iter() {
            let first = scan.messages.partition_point(|(offset, _)| *offset < from);
            let last = scan.messages.partition_point(|(offset, _)| *offset < to);
            for (offset, at) in &scan.messages[first..last.max(first)] {
                if *at != NO_SEND && copies.binary_search_by_key(at, |copy| copy.0).is_err() {
                    report.add(Kind::DeadLetterLost, queue, Some(dead.group), || {
                        format!("{} was rejected at offset {offset}", name(index.send(*at)))
                    });
                }
            }
        }
    }
}
