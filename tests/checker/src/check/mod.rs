//! The check: passes over the history, each reporting the anomalies of its subject.

mod dead_letters;
mod deliveries;
mod durable;
mod scans;
mod sends;
mod subscriptions;

use crate::anomaly::Kind;
use crate::event::{Outcome, Queue};
use crate::history::History;
use crate::index::{Index, NEVER};
use crate::verdict::{Counts, Report, Verdict};
use std::collections::BTreeSet;

/// What the run promised beyond what every history promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The run ended by draining: every stored message was delivered to (or settled or skipped
    /// by) every group that polled its topic. Also, without a final scan of a queue, every
    /// accepted message was seen by someone.
    pub expect_all_delivered: bool,
    /// The run ended when nothing was outstanding: every delivered message was acknowledged
    /// or rejected, or had used up its attempts.
    pub expect_all_settled: bool,
    /// Delivery attempts are counted durably. Otherwise they may begin again after a crash.
    pub attempts_survive_crashes: bool,
    /// Deliveries of one message to one group that the retry policy allows, the first included.
    pub attempts_max: Option<u32>,
    /// Topics that deliver the messages of an order group one after another. What was given back
    /// is delivered again under the same attempt there.
    pub ordered: Vec<u32>,
    /// Groups that compare messages by a key: what waits until its key is free is overtaken, but in
    /// ordered topics.
    pub compared: Vec<u64>,
    /// Messages, by their offsets, that the broker could not read when it was to deliver them: they
    /// come later, and where that could not be noted either, with a full disk, as if for the first
    /// time.
    pub unread: BTreeSet<(Queue, u64)>,
    /// Deliveries are limited: the end of a message's last lease, which leaves no trace, may be its
    /// end.
    pub limited: bool,
    /// What has expired is given to groups all the same, and passed over by their members. Else it
    /// need not be delivered any more.
    pub expired_come: bool,
    /// Kinds that this run does not promise, say [`Kind::NonmonotonicSend`] for producers that
    /// pipeline without sequence numbers. They are neither counted nor shown.
    pub ignore: Vec<Kind>,
    /// Examples kept of each kind.
    pub examples_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            expect_all_delivered: false,
            expect_all_settled: false,
            attempts_survive_crashes: false,
            attempts_max: None,
            ordered: Vec::new(),
            compared: Vec::new(),
            unread: BTreeSet::new(),
            limited: false,
            expired_come: false,
            ignore: Vec::new(),
            examples_max: 10,
        }
    }
}

impl Options {
    /// For a run that ended by draining: everything stored was delivered and settled.
    pub fn drained() -> Options {
        Options { expect_all_delivered: true, expect_all_settled: true, ..Options::default() }
    }
}

/// Judges a history. O(n log n) in time; memory beyond the history itself is some 50 bytes for
/// each send, and as much for each delivery to the subscription at hand.
pub fn check(history: &History, options: &Options) -> Verdict {
    let mut report = Report::new(options);
    let mut index = Index::new(history, &mut report);
    scans::check(&mut index, &mut report);
    deliveries::check(&mut index, &mut report);
    sends::check(&mut index, options, &mut report);
    subscriptions::check(&index, options, &mut report);
    dead_letters::check(&index, &mut report);
    report.counts = count(&index, report.counts);
    report.finish()
}

/// Adds what is counted over the whole history to what the passes counted.
fn count(index: &Index, passed: Counts) -> Counts {
    let history = index.history;
    let outcomes = |wanted: fn(&Outcome) -> bool| {
        history.sends.iter().filter(|send| wanted(&send.outcome)).count() as u64
    };
    let unknown_visible = (history.sends.iter().zip(&index.places))
        .filter(|(send, place)| send.outcome == Outcome::Unknown && **place != NEVER)
        .count() as u64;
    let deliveries = || history.polls.iter().flat_map(|poll| &poll.deliveries);
    let mut queues: BTreeSet<Queue> = history.sends.iter().map(|send| send.queue).collect();
    queues.extend(history.polls.iter().map(|poll| poll.queue));
    let scanned =
        |queue: &&Queue| index.scans.contains_key(queue) || index.dead_scans.contains_key(queue);
    let scans = || index.scans.values().chain(index.dead_scans.values());
    Counts {
        operations: history.operations() as u64,
        sends: history.sends.len() as u64,
        acked: outcomes(|outcome| matches!(outcome, Outcome::Ok { .. })),
        refused: outcomes(|outcome| *outcome == Outcome::Refused),
        unknown: outcomes(|outcome| *outcome == Outcome::Unknown),
        unknown_visible,
        polls: history.polls.len() as u64,
        delivered: deliveries().count() as u64,
        redelivered: deliveries().filter(|delivery| delivery.attempt > 1).count() as u64,
        settles: history.settles.len() as u64,
        crashes: history.crashes.len() as u64,
        queues_scanned: scans().count() as u64,
        queues_not_scanned: queues.iter().filter(|queue| !scanned(queue)).count() as u64,
        stored: scans().map(|scan| scan.messages.len() as u64).sum(),
        ..passed
    }
}
