//! The result of a check, and the collector that the checks report to.

use crate::anomaly::{Anomaly, Kind};
use crate::check::Options;
use crate::event::Queue;
use std::fmt;

/// Examples in the printed verdict, of all kinds together.
const EXAMPLES_PRINTED: usize = 10;

/// How much a history held, so that a clean verdict over nothing is not mistaken for a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Sends, polls and settles.
    pub operations: u64,
    /// Messages sent.
    pub sends: u64,
    /// Sends accepted.
    pub acked: u64,
    /// Sends refused.
    pub refused: u64,
    /// Sends without a definite answer.
    pub unknown: u64,
    /// Sends without a definite answer that a scan or a poll showed to have happened.
    pub unknown_visible: u64,
    /// Answers with deliveries.
    pub polls: u64,
    /// Messages delivered, repeated deliveries included.
    pub delivered: u64,
    /// Deliveries with an attempt above 1.
    pub redelivered: u64,
    /// Settlements.
    pub settles: u64,
    /// Crashes.
    pub crashes: u64,
    /// Queues with a final scan.
    pub queues_scanned: u64,
    /// Queues sent to or polled without one: loss in them is judged by deliveries only.
    pub queues_not_scanned: u64,
    /// Messages in the final scans.
    pub stored: u64,
    /// Accepted sends that are gone, as the crashes after them allow at their level.
    pub losses_excused: u64,
    /// Accepted sends that are gone because retention removed them, or not due at the scan.
    pub absences_expected: u64,
}

/// What a history proves against the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How much was looked at.
    pub counts: Counts,
    /// The first anomaly of every kind, then the second of every kind, and so on; at most
    /// [`Options::examples_max`] of a kind.
    pub anomalies: Vec<Anomaly>,
    found: Vec<u64>,
}

impl Verdict {
    /// Whether no promise was broken.
    pub fn is_clean(&self) -> bool {
        self.total() == 0
    }

    /// Anomalies of one kind, those without an example included.
    pub fn count(&self, kind: Kind) -> u64 {
        self.found[kind as usize]
    }

    /// Anomalies of all kinds.
    pub fn total(&self) -> u64 {
        self.found.iter().sum()
    }

    /// The kinds found, in the order of the registry.
    pub fn kinds(&self) -> Vec<Kind> {
        Kind::ALL.iter().copied().filter(|kind| self.count(*kind) > 0).collect()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.total() {
            0 => writeln!(f, "verdict: clean")?,
            total => writeln!(f, "verdict: {total} anomalies")?,
        }
        let c = &self.counts;
        writeln!(
            f,
            "  {} operations: {} sends ({} acked, {} refused, {} unknown of which {} visible), \
             {} polls ({} delivered, {} of them again), {} settles; {} crashes",
            c.operations,
            c.sends,
            c.acked,
            c.refused,
            c.unknown,
            c.unknown_visible,
            c.polls,
            c.delivered,
            c.redelivered,
            c.settles,
            c.crashes,
        )?;
        writeln!(
            f,
            "  {} queues scanned with {} messages, {} not scanned; \
             acked and gone: {} by a crash that may, {} by retention or not yet due",
            c.queues_scanned, c.stored, c.queues_not_scanned, c.losses_excused, c.absences_expected,
        )?;
        for kind in self.kinds() {
            writeln!(f, "  {:>9} {kind}: {}", self.count(kind), kind.meaning())?;
        }
        for anomaly in self.anomalies.iter().take(EXAMPLES_PRINTED) {
            writeln!(f, "    {anomaly}")?;
        }
        Ok(())
    }
}

/// Collects anomalies. Counts all, keeps the first of each kind: a broken run of ten million
/// operations must not need the memory for ten million sentences.
pub(crate) struct Report<'o> {
    options: &'o Options,
    pub(crate) counts: Counts,
    found: Vec<u64>,
    ranked: Vec<(u64, Anomaly)>,
}

impl<'o> Report<'o> {
    pub(crate) fn new(options: &'o Options) -> Report<'o> {
        let found = vec![0; Kind::ALL.len()];
        Report { options, counts: Counts::default(), found, ranked: Vec::new() }
    }

    pub(crate) fn add(
        &mut self,
        kind: Kind,
        queue: Queue,
        group: Option<u64>,
        evidence: impl FnOnce() -> String,
    ) {
        if self.options.ignore.contains(&kind) {
            return;
        }
        let found = &mut self.found[kind as usize];
        *found += 1;
        if *found <= self.options.examples_max as u64 {
            let anomaly = Anomaly { kind, queue, group, evidence: evidence() };
            self.ranked.push((*found, anomaly));
        }
    }

    pub(crate) fn finish(mut self) -> Verdict {
        self.ranked.sort_by_key(|(rank, anomaly)| (*rank, anomaly.kind));
        let anomalies = self.ranked.into_iter().map(|(_, anomaly)| anomaly).collect();
        Verdict { counts: self.counts, anomalies, found: self.found }
    }
}
