//! The sends: nothing accepted is lost, nothing is out of order.

use super::Options;
use super::durable::Durable;
use crate::anomaly::Kind;
use crate::event::{Outcome, Sent};
use crate::index::{Index, NEVER, name};
use crate::sweep::{Span, disorder};
use crate::verdict::Report;
use std::collections::BTreeMap;

/// Judges loss and acknowledged offsets, then the order in each queue.
pub(crate) fn check(index: &mut Index, options: &Options, report: &mut Report) {
    let mut durable = None;
    for at in 0..index.history.sends.len() as u32 {
        let send = index.send(at);
        if let Outcome::Ok { offset } = send.outcome {
            check_scan_time(index, send, report);
            match (index.place(at), offset) {
                (None, _) => check_absent(index, at, options, &mut durable, report),
                (Some(place), Some(offset)) if place != offset => {
                    report.add(Kind::InconsistentOffsets, send.queue, None, || {
                        format!("{} was acked at offset {offset}, is at {place}", name(send))
                    });
                }
                (Some(_), _) => {}
            }
        }
    }
    check_order(index, report);
}

/// A scan that began before a send was accepted proves nothing about it: the record is wrong.
fn check_scan_time(index: &Index, send: &Sent, report: &mut Report) {
    let scanned = index.scans.get(&send.queue).map(|scan| scan.at);
    if let Some(at) = scanned.filter(|at| send.completed.is_some_and(|end| end > *at)) {
        report.add(Kind::Malformed, send.queue, None, || {
            format!("the final scan began at {at}, before {} was acked", name(send))
        });
    }
}

/// An accepted send without a place: lost, or rightly gone, or never looked for.
fn check_absent(
    index: &mut Index,
    at: u32,
    options: &Options,
    durable: &mut Option<Durable>,
    report: &mut Report,
) {
    let send = index.send(at);
    let offset = match send.outcome {
        Outcome::Ok { offset } => offset,
        Outcome::Refused | Outcome::Unknown => None,
    };
    if is_excused(index, send, offset, durable) {
        report.counts.losses_excused += 1;
        return;
    }
    let Some(scan) = index.scans.get(&send.queue) else {
        if options.expect_all_delivered && send.due.is_none() {
            report.add(Kind::Unseen, send.queue, None, || {
                format!("{} was acked, and no reader saw it", name(send))
            });
        }
        index.places[at as usize] = offset.unwrap_or(NEVER);
        return;
    };
    let removed = scan.start > 0 && offset.is_none_or(|offset| offset < scan.start);
    if removed || send.due.is_some_and(|due| due >= scan.at) {
        report.counts.absences_expected += 1;
        return;
    }
    report.add(Kind::LostWrite, send.queue, None, || {
        let at = offset.map_or(String::new(), |offset| format!(" at offset {offset}"));
        format!("{} was acked{at} ({:?}), and is not stored", name(send), send.level)
    });
}

/// Whether the first crash that the send's level does not survive may have taken it. If
/// something behind it was synced by then, so was it; later crashes can take it no more.
fn is_excused(
    index: &Index,
    send: &Sent,
    offset: Option<u64>,
    durable: &mut Option<Durable>,
) -> bool {
    let losing = index.crashes.losing(send.level);
    let Some(crash) = losing.get(losing.partition_point(|at| *at < send.invoked)) else {
        return false;
    };
    let durable = durable.get_or_insert_with(|| Durable::new(index));
    let synced = durable.highest_before(send.queue, *crash);
    offset.is_none_or(|offset| synced.is_none_or(|synced| synced <= offset))
}

fn check_order(index: &Index, report: &mut Report) {
    let mut placed: Vec<u32> = index.by_key().to_vec();
    placed.retain(|at| index.place(*at).is_some() && index.send(*at).due.is_none());
    // Stable: inside a queue they stay sorted by (producer, seq).
    placed.sort_by_key(|at| index.send(*at).queue);
    for queue in placed.chunk_by(|a, b| index.send(*a).queue == index.send(*b).queue) {
        for producer in queue.chunk_by(|a, b| index.send(*a).producer == index.send(*b).producer) {
            check_producer(index, producer, report);
        }
        check_real_time(index, queue, report);
        check_shared_places(index, queue, report);
    }
}

/// One producer's sends to one queue, in its order.
fn check_producer(index: &Index, sends: &[u32], report: &mut Report) {
    let mut highest = (0, None);
    let mut groups: BTreeMap<u64, (u64, u32)> = BTreeMap::new();
    for &at in sends {
        let (send, place) = (index.send(at), index.places[at as usize]);
        let evidence = |earlier: u32, offset: u64| {
            let first = index.send(earlier);
            format!("{} is at offset {offset}, {} at {place}", name(first), name(send))
        };
        let in_group = send.order_group.and_then(|group| groups.get(&group));
        match (in_group, highest) {
            (Some(&(offset, earlier)), _) if offset > place => {
                report.add(Kind::OrderGroup, send.queue, None, || evidence(earlier, offset));
            }
            (_, (offset, Some(earlier))) if offset > place => {
                report.add(Kind::NonmonotonicSend, send.queue, None, || evidence(earlier, offset));
            }
            _ => {}
        }
        if highest.1.is_none() || highest.0 < place {
            highest = (place, Some(at));
        }
        if let Some(group) = send.order_group {
            let last = groups.entry(group).or_insert((place, at));
            *last = (*last).max((place, at));
        }
    }
}

/// A send that was accepted, or in a reader's hands, before another began has the lower place.
fn check_real_time(index: &Index, sends: &[u32], report: &mut Report) {
    let mut spans: Vec<Span> = (sends.iter())
        .map(|&at| {
            let send = index.send(at);
            let accepted = match send.outcome {
                Outcome::Ok { .. } => send.completed.unwrap_or(NEVER),
                Outcome::Refused | Outcome::Unknown => NEVER,
            };
            Span {
                start: send.invoked,
                end: accepted.min(index.seen[at as usize]),
                value: index.places[at as usize],
                item: at,
            }
        })
        .collect();
    disorder(&mut spans, |earlier, later| {
        let (first, second) = (index.send(earlier.item), index.send(later.item));
        report.add(Kind::RealTimeOrder, first.queue, None, || {
            format!(
                "{} was there at {}, {} began at {}, but their offsets are {} and {}",
                name(first),
                earlier.end,
                name(second),
                later.start,
                earlier.value,
                later.value,
            )
        });
    });
}

/// Two sends at one offset: their acknowledgements, or their readers, disagree.
fn check_shared_places(index: &Index, sends: &[u32], report: &mut Report) {
    let mut by_place: Vec<(u64, u32)> =
        sends.iter().map(|at| (index.places[*at as usize], *at)).collect();
    by_place.sort_unstable();
    for pair in by_place.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let (first, second) = (index.send(pair[0].1), index.send(pair[1].1));
        report.add(Kind::InconsistentOffsets, first.queue, None, || {
            format!("{} and {} are both at offset {}", name(first), name(second), pair[0].0)
        });
    }
}
