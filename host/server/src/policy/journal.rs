//! What plugins did since the start of the process: counts of each version, and lines for authors.
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use yard_broker::About;
use yard_wasm::canary::Evidence;
use yard_wasm::{Fault, LISTED_MAX, Metric, Metrics, Poison, Role, Usage};
use yard_wire::plugin::{PluginDifferenceRow, PluginLogRow, PluginMetricRow, PluginRunRow};
use yard_wire::{MessageId, QueueIndex, QueueOffset, TenantId, Timestamp, TopicId};

use crate::hub::lock;

/// Lines that are kept of a plugin.
const LINES_MAX: usize = 1_000;

/// A tenant's plugin, by name; those of the system as each tenant uses them.
pub(crate) type Whose = (TenantId, String);

/// A message about which a version in shadow says something else.
pub(crate) struct Differing {
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueIndex,
    pub(crate) offset: QueueOffset,
    pub(crate) id: MessageId,
    pub(crate) version: u32,
    pub(crate) against: u32,
    /// What the version in shadow says.
    pub(crate) is_wanted: bool,
    pub(crate) about: Arc<About>,
}

/// A message in a group: one that is delivered twice is listed once.
type InGroup = (TopicId, QueueIndex, QueueOffset, String);

/// What is known of one plugin.
#[derive(Default)]
struct Known {
    runs: BTreeMap<u32, PluginRunRow>,
    /// At most [`LISTED_MAX`].
    differing: BTreeMap<InGroup, Differing>,
    lines: VecDeque<PluginLogRow>,
    /// As many names as one plugin may have.
    metrics: Metrics,
    evidence: Evidence,
}

/// The journal of all plugins.
#[derive(Default)]
pub(crate) struct Journal(Mutex<BTreeMap<Whose, Known>>);

impl Journal {
    /// Changes the counts of a version.
    pub(crate) fn count(&self, whose: &Whose, version: u32, add: impl FnOnce(&mut PluginRunRow)) {
        self.with(whose, |known| {
            let new = || PluginRunRow { version, ..empty() };
            add(known.runs.entry(version).or_insert_with(new));
        });
    }

    /// Counts a frame, of which so many messages came out well.
    pub(crate) fn frame(
        &self,
        whose: &Whose,
        version: u32,
        (messages, well): (usize, usize),
        poison: &[Poison],
        usage: &Usage,
    ) {
        self.count(whose, version, |run| {
            run.batches += 1;
            run.messages += messages as u64;
            run.matched += well as u64;
            run.poisoned += poison.len() as u64;
            run.faults += poison.len() as u64;
            run.busy_us += usage.spent_ns / 1_000;
            if let Some(poison) = poison.last() {
                run.last_fault = poison.fault.to_string();
            }
        });
    }

    /// A version failed.
    pub(crate) fn fault(&self, whose: &Whose, version: u32, fault: &Fault) {
        self.count(whose, version, |run| {
            run.faults += 1;
            run.last_fault = fault.to_string();
        });
    }

    /// What a version did with messages, in its part: what a canary is judged by. Before it one
    /// may have failed that was on trial.
    pub(crate) fn weigh(
        &self,
        whose: &Whose,
        role: Role,
        (messages, faults, spent_ns): (u64, u64, u64),
        canary_fault: Option<&(u32, Fault)>,
    ) {
        self.with(whose, |known| {
            match role {
                Role::Canary => known.evidence.canary.add(messages, faults, spent_ns),
                Role::Active => known.evidence.active.add(messages, faults, spent_ns),
                Role::Previous => {}
            }
            if canary_fault.is_some() {
                known.evidence.canary.add(0, 1, 0);
            }
        });
        if let Some((version, fault)) = canary_fault {
            self.fault(whose, *version, fault);
        }
    }

    /// Nothing is known of a canary: another one begins. What a shadow has found stays until there
    /// is another trial.
    pub(crate) fn begin_trial(&self, whose: &Whose, is_on: bool) {
        self.with(whose, |known| {
            known.evidence = Evidence::default();
            if is_on {
                known.differing.clear();
            }
        });
    }

    /// A version in shadow says something else about a message.
    pub(crate) fn differs(&self, whose: &Whose, it: Differing) {
        self.with(whose, |known| {
            let key = (it.topic, it.queue, it.offset, it.about.group.clone());
            if known.differing.len() < LISTED_MAX || known.differing.contains_key(&key) {
                known.differing.insert(key, it);
            }
        });
    }

    /// The messages about which a version in shadow says something else, in the order of their
    /// places.
    pub(crate) fn differences(&self, whose: &Whose) -> Vec<PluginDifferenceRow> {
        let row = |it: &Differing| PluginDifferenceRow {
            topic: it.about.topic.clone(),
            group: it.about.group.clone(),
            queue: it.queue,
            offset: it.offset,
            id: it.id,
            version: it.version,
            says: if it.is_wanted { "deliver" } else { "skip" }.to_owned(),
            against: it.against,
        };
        let known = lock(&self.0);
        known.get(whose).map(|it| it.differing.values().map(row).collect()).unwrap_or_default()
    }

    /// What is known of a canary.
    pub(crate) fn evidence(&self, whose: &Whose) -> Evidence {
        lock(&self.0).get(whose).map(|known| known.evidence).unwrap_or_default()
    }

    /// Adds a line.
    pub(crate) fn say(&self, whose: &Whose, at: Timestamp, version: u32, text: String) {
        self.with(whose, |known| {
            known.lines.push_back(PluginLogRow { at_ms: at, version, text });
            while known.lines.len() > LINES_MAX {
                known.lines.pop_front();
            }
        });
    }

    /// The counts of each version, oldest first.
    pub(crate) fn runs(&self, whose: &Whose) -> Vec<PluginRunRow> {
        let known = lock(&self.0);
        known.get(whose).map(|known| known.runs.values().cloned().collect()).unwrap_or_default()
    }

    /// A version was asked a single question.
    pub(crate) fn called(&self, whose: &Whose, version: u32, spent_ns: u64, fault: Option<&str>) {
        self.count(whose, version, |run| {
            run.batches += 1;
            run.messages += 1;
            run.matched += u64::from(fault.is_none());
            run.busy_us += spent_ns / 1_000;
            if let Some(fault) = fault {
                run.faults += 1;
                fault.clone_into(&mut run.last_fault);
            }
        });
    }

    /// Adds what a plugin has counted, and leaves it empty.
    pub(crate) fn measure(&self, whose: &Whose, more: &mut Metrics) {
        self.with(whose, |known| known.metrics.append(more));
    }

    /// What a plugin has counted, by name.
    pub(crate) fn metrics(&self, whose: &Whose) -> Vec<PluginMetricRow> {
        let row = |(name, metric): (&String, &Metric)| {
            let Metric { added, count: observed, sum, max } = *metric;
            let text = |value: f64| if observed > 0 { value.to_string() } else { String::new() };
            let (mean, max) = (text(sum / observed as f64), text(max));
            PluginMetricRow { name: name.clone(), added, observed, mean, max }
        };
        let known = lock(&self.0);
        known
            .get(whose)
            .map(|known| known.metrics.metrics.iter().map(row).collect())
            .unwrap_or_default()
    }

    /// The lines, oldest first.
    pub(crate) fn lines(&self, whose: &Whose) -> Vec<PluginLogRow> {
        let known = lock(&self.0);
        known.get(whose).map(|known| known.lines.iter().cloned().collect()).unwrap_or_default()
    }

    /// A plugin is gone.
    pub(crate) fn forget(&self, whose: &Whose) {
        lock(&self.0).remove(whose);
    }

    fn with(&self, whose: &Whose, change: impl FnOnce(&mut Known)) {
        let mut all = lock(&self.0);
        // Most calls are about what is known: no name is copied for them.
        match all.get_mut(whose) {
            Some(known) => change(known),
            None => change(all.entry(whose.clone()).or_default()),
        }
    }
}

fn empty() -> PluginRunRow {
    PluginRunRow {
        version: 0,
        batches: 0,
        messages: 0,
        matched: 0,
        faults: 0,
        poisoned: 0,
        unchecked: 0,
        compared: 0,
        differing: 0,
        busy_us: 0,
        last_fault: String::new(),
    }
}
