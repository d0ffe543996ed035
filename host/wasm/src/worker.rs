//! What one thread has of plugins: its instances, and how batches and questions go through them.
//!
//! ```text
//!   batch ─► table of this generation ─► version ─► slot (plugin, version, tenant, binding)
//!                                                       │ instance, made when it is missing
//!              verdicts ◄── passed ─────────────────────┤
//!              bisect, turn by turn ◄── fault: the instance is dropped
//! ```
//!
//! Nothing here is shared with other threads but the published table and the health of versions,
//! which is looked at where there is trouble only.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use yard_wire::TenantId;

use crate::canary::{Split, Traffic};
use crate::capability::{LogLines, Metrics};
use crate::engine::Engine;
use crate::fault::{Fault, FaultKind};
use crate::guest::{Binding, Failed, Instance, Usage};
use crate::health::HealthChange;
use crate::lifecycle::VersionNumber;
use crate::limits::FuelBucket;
use crate::table::{Choice, Directory, Installed, PluginId, Role, Rollout, Table, Went};

mod batch;
mod cold;

pub use batch::{Batch, Hold, Intercepting, Judging, Keying, Poison, Shadowed, Turn};
pub use cold::{Asked, ColdError};

/// How long nobody has a place for an instance before it is tried again.
const NO_ROOM_MS: u64 = 10;

/// A worker is made where the threads are, and moved to its own.
const _: fn() = || {
    fn is_sent<T: Send>() {}
    is_sent::<Worker>();
};

/// Who asks which plugin, when, and about what.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// The tenant whose messages they are.
    pub tenant: TenantId,
    /// The plugin.
    pub plugin: PluginId,
    /// By what a canary's share is taken.
    pub traffic: Traffic,
    /// The broker's time.
    pub now_ms: u64,
}

/// A version whose health changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthEvent {
    /// The plugin.
    pub plugin: PluginId,
    /// The version.
    pub version: VersionNumber,
    /// For whom.
    pub tenant: TenantId,
    /// What changed.
    pub change: HealthChange,
    /// The latest fault; none where it healed.
    pub fault: Option<Fault>,
}

/// Which instance: never one for two tenants, and one for all expressions of a filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct SlotKey {
    tenant: TenantId,
    plugin: PluginId,
    version: VersionNumber,
    /// Where the instance is opened for one binding: everywhere but at filters.
    binding: Option<Arc<Binding>>,
    /// Where it is code for one expression.
    generated: Option<Arc<Binding>>,
}

struct Slot {
    instance: Instance,
    used: u64,
}

/// The plugins of one thread.
pub struct Worker {
    engine: Engine,
    directory: Arc<Directory>,
    generation: u64,
    table: Arc<Table>,
    slots: HashMap<SlotKey, Slot>,
    buckets: BTreeMap<TenantId, FuelBucket>,
    /// Batches judged so far: what samples are taken by.
    batches: u64,
    /// Counts uses of slots, so that the one unused for longest is known.
    uses: u64,
    /// The messages of a part of a batch.
    part: Vec<u8>,
    lines: BTreeMap<(TenantId, PluginId), LogLines>,
    metrics: BTreeMap<(TenantId, PluginId), Metrics>,
}

impl Worker {
    /// A worker without instances.
    #[must_use]
    pub fn new(engine: &Engine, directory: &Arc<Directory>) -> Self {
        let (generation, table) = directory.table();
        Self {
            engine: engine.clone(),
            directory: Arc::clone(directory),
            generation,
            table,
            slots: HashMap::new(),
            buckets: BTreeMap::new(),
            batches: 0,
            uses: 0,
            part: Vec::new(),
            lines: BTreeMap::new(),
            metrics: BTreeMap::new(),
        }
    }

    /// The table that this worker goes by.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What of a plugin's traffic a canary gets, from the newest table: who makes a batch puts in
    /// it what one version is to judge. Another table may be taken when the batch begins; then
    /// [`Worker::generation`] is another.
    pub fn split(&mut self, plugin: PluginId) -> Option<Split> {
        self.refresh();
        let rollout = self.table.plugins.get(&plugin)?;
        rollout.canary.as_ref().map(|(_, split)| *split)
    }

    /// Instances that live.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.slots.len()
    }

    /// What plugins wrote since the last call, by tenant and plugin.
    pub fn take_lines(&mut self) -> BTreeMap<(TenantId, PluginId), LogLines> {
        self.drain_slots();
        std::mem::take(&mut self.lines)
    }

    /// What plugins counted since the last call, by tenant and plugin.
    pub fn take_metrics(&mut self) -> BTreeMap<(TenantId, PluginId), Metrics> {
        self.drain_slots();
        std::mem::take(&mut self.metrics)
    }

    /// Takes the published table, when there is another: what a batch begins with.
    fn refresh(&mut self) {
        if self.directory.generation() == self.generation {
            return;
        }
        (self.generation, self.table) = self.directory.table();
        let old = self.slots.keys().filter(|key| {
            let generated = key.generated.as_ref();
            let is_gone = |expression: &Arc<Binding>| {
                !self.table.generated.contains_key(&(key.tenant, Arc::clone(expression)))
            };
            !self.table.has(key.plugin, key.version) || generated.is_some_and(is_gone)
        });
        let old: Vec<SlotKey> = old.cloned().collect();
        old.iter().for_each(|key| self.drop_slot(key));
        for (tenant, bucket) in &mut self.buckets {
            bucket.set_per_s(self.table.limits(*tenant).bounded().fuel_per_s);
        }
    }

    /// Milliseconds that the tenant has to wait for its share of this thread.
    fn over_budget_ms(&mut self, ask: &Ask) -> u64 {
        let per_s = self.table.limits(ask.tenant).bounded().fuel_per_s;
        let bucket = self.buckets.entry(ask.tenant);
        bucket.or_insert_with(|| FuelBucket::new(per_s, ask.now_ms)).wait_ms(ask.now_ms)
    }

    fn bill(&mut self, tenant: TenantId, fuel: u64) {
        if let Some(bucket) = self.buckets.get_mut(&tenant) {
            bucket.take(fuel);
        }
    }

    fn choose(&self, ask: &Ask) -> (Option<Arc<Rollout>>, Choice) {
        match self.table.plugins.get(&ask.plugin) {
            Some(rollout) => {
                let choice = rollout.choose(ask.tenant, &ask.traffic, ask.now_ms);
                (Some(Arc::clone(rollout)), choice)
            }
            None => (None, Choice::Nobody),
        }
    }

    /// Runs a call in the instance of a slot, which is made when it is missing, and dropped after
    /// a fault.
    fn in_slot<R>(
        &mut self,
        ask: &Ask,
        installed: &Installed,
        binding: Option<&Arc<Binding>>,
        usage: &mut Usage,
        call: impl FnOnce(&mut Instance, &mut Usage) -> Result<R, Failed>,
    ) -> Result<R, Failed> {
        let key = SlotKey {
            tenant: ask.tenant,
            plugin: installed.plugin(),
            version: installed.version(),
            binding: binding.cloned(),
            generated: installed.expression().cloned(),
        };
        self.uses += 1;
        let used = self.uses;
        let result = match self.slots.get_mut(&key) {
            Some(slot) => {
                slot.used = used;
                call(&mut slot.instance, usage)
            }
            None => {
                let instance = self.instantiate(ask, installed, usage)?;
                let slot = self.slots.entry(key.clone()).insert_entry(Slot { instance, used });
                call(&mut slot.into_mut().instance, usage)
            }
        };
        // A refusal is an answer; after anything else the guest may be in any state.
        let is_broken = result.as_ref().is_err_and(|it| it.fault().kind != FaultKind::Refused);
        if is_broken {
            self.drop_slot(&key);
        }
        result
    }

    fn instantiate(
        &mut self,
        ask: &Ask,
        installed: &Installed,
        usage: &mut Usage,
    ) -> Result<Instance, Failed> {
        let limits = *self.table.limits(ask.tenant);
        let of_tenant = self.slots.keys().filter(|key| key.tenant == ask.tenant).count();
        if of_tenant >= limits.bounded().instances_max {
            self.drop_oldest(|key| key.tenant == ask.tenant);
        }
        let (engine, compiled) = (self.engine.clone(), installed.compiled());
        let (tenant, plugin) = (ask.tenant, installed.plugin());
        let mut make = || Instance::new(&engine, compiled, tenant, plugin, &limits, usage);
        match make() {
            Err(failed) if failed.fault().kind == FaultKind::NoRoom && !self.slots.is_empty() => {
                self.drop_oldest(|_| true);
                make()
            }
            made => made,
        }
    }

    fn drop_oldest(&mut self, of: impl Fn(&SlotKey) -> bool) {
        let slots = self.slots.iter().filter(|(key, _)| of(key));
        let oldest = slots.min_by_key(|(_, slot)| slot.used).map(|(key, _)| key.clone());
        oldest.iter().for_each(|key| self.drop_slot(key));
    }

    /// Drops an instance; what it wrote and counted stays.
    fn drop_slot(&mut self, key: &SlotKey) {
        if let Some(mut slot) = self.slots.remove(key) {
            let place = (key.tenant, key.plugin);
            let lines = self.lines.entry(place).or_default();
            slot.instance.take(lines, self.metrics.entry(place).or_default());
        }
    }

    fn drain_slots(&mut self) {
        for (key, slot) in &mut self.slots {
            let place = (key.tenant, key.plugin);
            let lines = self.lines.entry(place).or_default();
            slot.instance.take(lines, self.metrics.entry(place).or_default());
        }
        self.lines.retain(|_, lines| !lines.is_empty());
        self.metrics.retain(|_, metrics| !metrics.is_empty());
    }

    /// Notes how a batch went; what changed is an event.
    fn record(
        ask: &Ask,
        installed: &Installed,
        rollout: &Rollout,
        role: Role,
        went: Went,
        fault: Option<&Fault>,
    ) -> Option<HealthEvent> {
        let back = rollout.fallback(role);
        let change = installed.record(ask.tenant, ask.now_ms, went, back)?;
        Some(HealthEvent {
            plugin: installed.plugin(),
            version: installed.version(),
            tenant: ask.tenant,
            change,
            fault: fault.cloned(),
        })
    }
}
