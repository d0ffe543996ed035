//! A filter over messages of the past: what it would have decided, and what that would have cost.
//!
//! A replay has instances, state and health of its own. Nothing that it does is seen elsewhere.
use std::sync::Arc;

use yard_abi::Shown;
use yard_wire::TenantId;

use crate::bits::Bits;
use crate::canary::Traffic;
use crate::compare::{Comparison, LISTED_MAX};
use crate::compiled::Compiled;
use crate::engine::Engine;
use crate::fault::Fault;
use crate::guest::{Binding, Usage};
use crate::health::{QUARANTINE_MS_MAX, WINDOW_MS};
use crate::limits::Limits;
use crate::table::{Directory, Installed, PluginId, Rollout};
use crate::worker::{Ask, Batch, ColdError, Hold, Judging, Turn, Worker};

const CANDIDATE: PluginId = PluginId(0);
const AGAINST: PluginId = PluginId(1);
/// Between batches so much time passes for the replay that no hold and no quarantine reaches the
/// next: each batch is tried.
const STEP_MS: u64 = QUARANTINE_MS_MAX + WINDOW_MS;

/// A version and the binding that it runs with.
#[derive(Clone, Debug)]
pub struct Contender {
    /// What runs.
    pub compiled: Compiled,
    /// Expression and settings.
    pub binding: Arc<Binding>,
}

/// What one side of a replay did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplaySide<Id> {
    /// Messages that it judged.
    pub judged: u64,
    /// Of them, those that it delivers.
    pub delivered: u64,
    /// Messages that it cannot bear, at most [`LISTED_MAX`] of them with their faults.
    pub poison: Vec<(Id, Fault)>,
    /// All such messages.
    pub poisoned: u64,
    /// Messages of batches in which everything failed, and the last fault.
    pub failed: u64,
    /// The latest reason for that.
    pub last_failure: Option<Fault>,
    /// What it took.
    pub usage: Usage,
}

impl<Id> Default for ReplaySide<Id> {
    fn default() -> Self {
        Self {
            judged: 0,
            delivered: 0,
            poison: Vec::new(),
            poisoned: 0,
            failed: 0,
            last_failure: None,
            usage: Usage::default(),
        }
    }
}

/// A replay under way.
pub struct Replay<Id> {
    worker: Worker,
    tenant: TenantId,
    now_ms: u64,
    candidate_binding: Arc<Binding>,
    against_binding: Option<Arc<Binding>>,
    properties: Shown,
    messages: u64,
    candidate: ReplaySide<Id>,
    against: Option<ReplaySide<Id>>,
    comparison: Comparison<Id>,
}

impl<Id: Copy> Replay<Id> {
    /// Begins a replay of a candidate, beside a version to compare with if there is one, within
    /// the limits of a tenant.
    #[must_use]
    pub fn new(
        engine: &Engine,
        tenant: TenantId,
        limits: &Limits,
        candidate: &Contender,
        against: Option<&Contender>,
    ) -> Self {
        let both = [Some(candidate), against].into_iter().flatten();
        let properties = both.map(|it| it.compiled.manifest().properties).max().unwrap_or_default();
        let directory = Arc::new(Directory::default());
        directory.publish(|table| {
            let limits = Limits { fuel_per_s: Limits::MAX.fuel_per_s, ..*limits };
            table.limits.insert(tenant, limits);
            let sides = [(CANDIDATE, Some(candidate)), (AGAINST, against)];
            for (plugin, contender) in sides {
                let Some(contender) = contender else { continue };
                let active = Some(Installed::new(plugin, 1, contender.compiled.clone()));
                let rollout = Rollout { active, ..Rollout::default() };
                table.plugins.insert(plugin, Arc::new(rollout));
            }
        });
        Self {
            worker: Worker::new(engine, &directory),
            tenant,
            now_ms: 0,
            candidate_binding: Arc::clone(&candidate.binding),
            against_binding: against.map(|it| Arc::clone(&it.binding)),
            properties,
            messages: 0,
            candidate: ReplaySide::default(),
            against: against.map(|_| ReplaySide::default()),
            comparison: Comparison::default(),
        }
    }

    /// Has both sides compile their expressions, as a subscription does when it is made.
    ///
    /// # Errors
    /// [`ColdError`]; a fault of kind [`crate::FaultKind::Refused`] has what the manifest says of
    /// the settings, or the guest of the expression.
    pub fn open(&mut self) -> Result<(), ColdError> {
        let candidate = (CANDIDATE, Some(Arc::clone(&self.candidate_binding)));
        for (plugin, binding) in [candidate, (AGAINST, self.against_binding.clone())] {
            let Some(binding) = binding else { continue };
            let (tenant, traffic, now_ms) = (self.tenant, Traffic::ALONE, self.now_ms);
            self.worker.needs(&Ask { tenant, plugin, traffic, now_ms }, &binding).answer?;
        }
        Ok(())
    }

    /// The properties that frames must have, so that both sides see what they decide by.
    #[must_use]
    pub fn properties(&self) -> Shown {
        self.properties
    }

    /// Judges the messages of a batch, which has the properties that [`Replay::properties`] says;
    /// `id` says which they are.
    pub fn batch(&mut self, batch: &Batch<'_>, id: impl Fn(usize) -> Id) {
        self.messages += batch.count() as u64;
        self.now_ms += STEP_MS;
        let binding = Arc::clone(&self.candidate_binding);
        let side = &mut self.candidate;
        let ask = Ask {
            tenant: self.tenant,
            plugin: CANDIDATE,
            traffic: Traffic::ALONE,
            now_ms: self.now_ms,
        };
        let candidate = run(&mut self.worker, &ask, &binding, batch, side, &id);
        let (Some(binding), Some(side)) = (self.against_binding.clone(), &mut self.against) else {
            return;
        };
        let ask = Ask { plugin: AGAINST, ..ask };
        let against = run(&mut self.worker, &ask, &binding, batch, side, &id);
        let judged = candidate.judged.and(against.judged);
        self.comparison.add(judged, against.delivered, candidate.delivered, id);
    }

    /// Messages so far.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// What the candidate did.
    #[must_use]
    pub fn candidate(&self) -> &ReplaySide<Id> {
        &self.candidate
    }

    /// What the other did.
    #[must_use]
    pub fn against(&self) -> Option<&ReplaySide<Id>> {
        self.against.as_ref()
    }

    /// Where they differ.
    #[must_use]
    pub fn comparison(&self) -> &Comparison<Id> {
        &self.comparison
    }
}

struct Ran {
    judged: Bits,
    delivered: Bits,
}

fn run<Id>(
    worker: &mut Worker,
    ask: &Ask,
    binding: &Arc<Binding>,
    batch: &Batch<'_>,
    side: &mut ReplaySide<Id>,
    id: impl Fn(usize) -> Id,
) -> Ran {
    let mut judging = Judging::default();
    let turn = loop {
        match worker.judge(ask, binding, batch, &mut judging) {
            Turn::More => {}
            turn => break turn,
        }
    };
    assert_ne!(turn, Turn::Blind, "the frame has what both sides read");
    side.usage.add(judging.usage());
    let mut judged = Bits::first(batch.count());
    if let Turn::Held { hold, .. } = turn {
        side.failed += batch.count() as u64;
        if let Hold::Plugin(fault @ Some(_)) = hold {
            side.last_failure = fault;
        }
        return Ran { judged: Bits::default(), delivered: Bits::default() };
    }
    for poison in judging.poison() {
        judged = judged.without(poison.index);
        side.poisoned += 1;
        if side.poison.len() < LISTED_MAX {
            side.poison.push((id(poison.index), poison.fault.clone()));
        }
    }
    let delivered = judging.delivered().and(judged);
    side.judged += judged.count() as u64;
    side.delivered += delivered.count() as u64;
    Ran { judged, delivered }
}
