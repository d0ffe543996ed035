//! The final scans: dense offsets, every message known, whole and in one place.

use crate::anomaly::Kind;
use crate::event::{Outcome, Scan};
use crate::index::{Index, NEVER, NO_SEND, ScanView, Sight};
use crate::verdict::Report;

/// Joins the parts of each queue's scan, judges their messages and notes each send's place.
pub(crate) fn check(index: &mut Index, report: &mut Report) {
    for scan in &index.history.scans {
        let dead = index.is_dead_letter(scan.queue.topic);
        let scans = if dead { &mut index.dead_scans } else { &mut index.scans };
        let mut view = scans.remove(&scan.queue).unwrap_or_else(|| ScanView {
            at: scan.at,
            start: scan.start,
            messages: Vec::with_capacity(scan.messages.len()),
        });
        view.at = view.at.min(scan.at);
        read_part(index, scan, dead, &mut view, report);
        let scans = if dead { &mut index.dead_scans } else { &mut index.scans };
        scans.insert(scan.queue, view);
    }
    for view in index.scans.values_mut().chain(index.dead_scans.values_mut()) {
        view.messages.sort_by_key(|(offset, _)| *offset);
    }
}

fn read_part(index: &mut Index, scan: &Scan, dead: bool, view: &mut ScanView, report: &mut Report) {
    let queue = scan.queue;
    let mut expected =
        view.messages.last().map_or(view.start, |(offset, _)| offset.saturating_add(1));
    for stored in &scan.messages {
        if stored.offset != expected {
            report.add(Kind::OffsetGap, queue, None, || {
                format!("the scan has offset {} where {expected} follows", stored.offset)
            });
        }
        expected = stored.offset.saturating_add(1);
        let sight = Sight {
            queue,
            group: None,
            offset: stored.offset,
            producer: stored.producer,
            seq: stored.seq,
            hash: stored.hash,
        };
        let found = index.identify(&sight, report);
        view.messages.push((stored.offset, found.unwrap_or(NO_SEND)));
        if let Some(at) = found.filter(|_| !dead) {
            note_place(index, at, stored.offset, report);
        }
    }
}

/// Notes where a send is stored. Of two places the acknowledged one counts, if it is one.
fn note_place(index: &mut Index, at: u32, offset: u64, report: &mut Report) {
    let send = index.send(at);
    let place = &mut index.places[at as usize];
    if *place == NEVER {
        *place = offset;
        return;
    }
    report.add(Kind::Duplicate, send.queue, None, || {
        format!("{} is stored at offsets {place} and {offset}", crate::index::name(send))
    });
    if send.outcome == (Outcome::Ok { offset: Some(offset) }) {
        *place = offset;
    }
}
