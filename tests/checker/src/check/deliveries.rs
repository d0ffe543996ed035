//! Each delivery by itself: a message that was sent, by this tenant, whole, in time, and that is
//! stored where it was delivered from.

use crate::anomaly::Kind;
use crate::event::{Delivery, Poll};
use crate::index::{Index, NEVER, Sight, name};
use crate::verdict::Report;

/// Judges every delivery; notes when each send was first seen and, in queues without a final
/// scan, where.
pub(crate) fn check(index: &mut Index, report: &mut Report) {
    let history = index.history;
    for poll in &history.polls {
        let dead = index.is_dead_letter(poll.queue.topic);
        for delivery in &poll.deliveries {
            let sight = Sight {
                queue: poll.queue,
                group: Some(poll.group),
                offset: delivery.offset,
                producer: delivery.producer,
                seq: delivery.seq,
                hash: delivery.hash,
            };
            let Some(at) = index.identify(&sight, report) else {
                // From the wrong queue, or refused: it may be another tenant's all the same.
                if let Some(at) = index.find(delivery.producer, delivery.seq) {
                    check_tenant(index, at, poll, delivery, report);
                }
                continue;
            };
            check_tenant(index, at, poll, delivery, report);
            check_message(index, at, poll, report);
            if !dead {
                index.seen[at as usize] = index.seen[at as usize].min(poll.completed);
                check_place(index, at, poll, delivery, report);
            }
        }
    }
}

fn check_tenant(index: &Index, at: u32, poll: &Poll, delivery: &Delivery, report: &mut Report) {
    let send = index.send(at);
    if send.tenant != poll.tenant {
        report.add(Kind::TenantLeak, poll.queue, Some(poll.group), || {
            format!(
                "{} of tenant {} at offset {} was delivered to tenant {}",
                name(send),
                send.tenant,
                delivery.offset,
                poll.tenant,
            )
        });
    }
}

fn check_message(index: &Index, at: u32, poll: &Poll, report: &mut Report) {
    let (send, group) = (index.send(at), Some(poll.group));
    if poll.completed < send.invoked {
        report.add(Kind::Phantom, poll.queue, group, || {
            format!("{} arrived at {}, sent at {}", name(send), poll.completed, send.invoked)
        });
    }
    if let Some(due) = send.due.filter(|due| poll.completed < *due) {
        report.add(Kind::Early, poll.queue, group, || {
            format!("{} was due at {due}, arrived at {}", name(send), poll.completed)
        });
    }
}

fn check_place(index: &mut Index, at: u32, poll: &Poll, delivery: &Delivery, report: &mut Report) {
    let send = index.send(at);
    let (queue, group, offset) = (poll.queue, Some(poll.group), delivery.offset);
    let place = &mut index.places[at as usize];
    match index.scans.get(&queue) {
        Some(scan) if offset < scan.start => {}
        Some(_) if *place == NEVER => report.add(Kind::PrecommittedRead, queue, group, || {
            format!("{} was delivered from offset {offset}, but is not stored", name(send))
        }),
        Some(_) if *place != offset => report.add(Kind::InconsistentOffsets, queue, group, || {
            format!("{} was delivered from offset {offset}, stored at {place}", name(send))
        }),
        Some(_) => {}
        None if *place == NEVER => *place = offset,
        None if *place != offset => report.add(Kind::Duplicate, queue, group, || {
            format!("{} was delivered from offsets {place} and {offset}", name(send))
        }),
        None => {}
    }
}
