//! Which versions decide now: written by who rolls out, read by workers at batch boundaries.
//!
//! ```text
//!   Directory: generation 7 ──► Table: plugin ─► Rollout { active, canary, shadow, previous }
//!        ▲ publish                ▲                           each an Arc<Installed>
//!        └─ who rolls out         └─ a worker's own, until it sees another generation
//! ```
//!
//! A worker compares one number a batch. What it holds stays alive until it lets go, so a version
//! that was replaced ends with the last batch that it began.
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use yard_wire::TenantId;

use crate::canary::{Split, Traffic};
use crate::compare::Sample;
use crate::compiled::Compiled;
use crate::guest::Binding;
use crate::health::{Fallback, Health, HealthChange, HealthState};
use crate::lifecycle::VersionNumber;
use crate::limits::Limits;

/// A plugin, unique over all tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PluginId(pub u32);

/// A version that workers may use, and how well it does.
#[derive(Debug)]
pub struct Installed {
    plugin: PluginId,
    version: VersionNumber,
    compiled: Compiled,
    /// The expression that it is code for, where it is for one only.
    generated: Option<Arc<Binding>>,
    /// Whether there is anything in `health`: all that a healthy version's batch reads.
    has_trouble: AtomicBool,
    health: Mutex<BTreeMap<TenantId, Health>>,
}

/// How a batch, or a call, went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Went {
    Well,
    Poisoned { count: usize, any_passed: bool },
    Failed,
}

impl Installed {
    /// A version, healthy until it is not.
    #[must_use]
    pub fn new(plugin: PluginId, version: VersionNumber, compiled: Compiled) -> Arc<Self> {
        Arc::new(Self::with(plugin, version, compiled, None))
    }

    /// Code for one expression, in the place of a version that understands every one.
    #[must_use]
    pub fn generated(
        plugin: PluginId,
        version: VersionNumber,
        compiled: Compiled,
        expression: &Arc<Binding>,
    ) -> Arc<Self> {
        Arc::new(Self::with(plugin, version, compiled, Some(Arc::clone(expression))))
    }

    fn with(
        plugin: PluginId,
        version: VersionNumber,
        compiled: Compiled,
        generated: Option<Arc<Binding>>,
    ) -> Self {
        let (has_trouble, health) = (AtomicBool::new(false), Mutex::default());
        Self { plugin, version, compiled, generated, has_trouble, health }
    }

    /// The one expression that it understands; none where it understands every one.
    #[must_use]
    pub fn expression(&self) -> Option<&Arc<Binding>> {
        self.generated.as_ref()
    }

    /// Its plugin.
    #[must_use]
    pub fn plugin(&self) -> PluginId {
        self.plugin
    }

    /// Its number.
    #[must_use]
    pub fn version(&self) -> VersionNumber {
        self.version
    }

    /// What it runs.
    #[must_use]
    pub fn compiled(&self) -> &Compiled {
        &self.compiled
    }

    /// How it does for a tenant.
    #[must_use]
    pub fn health(&self, tenant: TenantId) -> HealthState {
        self.lock().get(&tenant).map_or(HealthState::Healthy, Health::state)
    }

    /// When it may be asked for a tenant; 0 means now.
    pub(crate) fn wait_until_ms(&self, tenant: TenantId, now_ms: u64) -> u64 {
        if !self.has_trouble.load(Ordering::Acquire) {
            return 0;
        }
        let until_ms = self.lock().get(&tenant).map_or(0, Health::until_ms);
        if until_ms > now_ms { until_ms } else { 0 }
    }

    /// Messages of a tenant that were poison since one last passed.
    pub(crate) fn poisoned_in_a_row(&self, tenant: TenantId) -> usize {
        if !self.has_trouble.load(Ordering::Acquire) {
            return 0;
        }
        self.lock().get(&tenant).map_or(0, Health::poisoned_in_a_row)
    }

    /// Notes how a batch went.
    pub(crate) fn record(
        &self,
        tenant: TenantId,
        now_ms: u64,
        went: Went,
        back: Fallback,
    ) -> Option<HealthChange> {
        if went == Went::Well && !self.has_trouble.load(Ordering::Acquire) {
            return None;
        }
        let mut all = self.lock();
        let health = all.entry(tenant).or_default();
        let change = match went {
            Went::Well => health.passed(now_ms),
            Went::Poisoned { count, any_passed } => {
                health.poisoned(now_ms, count, any_passed, back)
            }
            Went::Failed => health.failed(now_ms, back),
        };
        if health.is_spotless() {
            all.remove(&tenant);
        }
        self.has_trouble.store(!all.is_empty(), Ordering::Release);
        change
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TenantId, Health>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The versions of one plugin that have something to do.
#[derive(Clone, Debug, Default)]
pub struct Rollout {
    /// Decides.
    pub active: Option<Arc<Installed>>,
    /// Decides for a part of the traffic.
    pub canary: Option<(Arc<Installed>, Split)>,
    /// Decides beside, without effect, for a part of the batches.
    pub shadow: Option<(Arc<Installed>, Sample)>,
    /// Decides while the active version is quarantined.
    pub previous: Option<Arc<Installed>>,
}

/// In which part a version decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// As the active version.
    Active,
    /// As the canary.
    Canary,
    /// As the previous version, for an active one in quarantine.
    Previous,
}

/// Which version judges a batch.
#[derive(Clone, Debug)]
pub(crate) enum Choice {
    Use(Arc<Installed>, Role),
    WaitUntil(u64),
    Nobody,
}

impl Rollout {
    /// The version for this traffic now.
    pub(crate) fn choose(&self, tenant: TenantId, traffic: &Traffic, now_ms: u64) -> Choice {
        if let Some((canary, split)) = &self.canary
            && split.takes(traffic)
            && canary.wait_until_ms(tenant, now_ms) == 0
        {
            return Choice::Use(Arc::clone(canary), Role::Canary);
        }
        let Some(active) = &self.active else {
            return Choice::Nobody;
        };
        let until_ms = active.wait_until_ms(tenant, now_ms);
        if until_ms == 0 {
            return Choice::Use(Arc::clone(active), Role::Active);
        }
        // A queue that is held up for a moment waits; one in quarantine has another version.
        let is_out = active.health(tenant) == HealthState::Quarantined;
        let previous = self.previous.as_ref().filter(|_| is_out);
        match previous.filter(|it| it.wait_until_ms(tenant, now_ms) == 0) {
            Some(previous) => Choice::Use(Arc::clone(previous), Role::Previous),
            None => Choice::WaitUntil(until_ms),
        }
    }

    /// Whether a version in this part has another to return to.
    pub(crate) fn fallback(&self, role: Role) -> Fallback {
        match (role, &self.previous) {
            (Role::Canary, _) | (Role::Active, Some(_)) => Fallback::Previous,
            (Role::Active, None) | (Role::Previous, _) => Fallback::Missing,
        }
    }

    fn versions(&self) -> impl Iterator<Item = &Arc<Installed>> {
        let compared = self.canary.iter().map(|(it, _)| it);
        let compared = compared.chain(self.shadow.iter().map(|(it, _)| it));
        self.active.iter().chain(&self.previous).chain(compared)
    }
}

/// Everything that workers need to know.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// By plugin.
    pub plugins: BTreeMap<PluginId, Arc<Rollout>>,
    /// Limits of the tenants whose are not the default.
    pub limits: BTreeMap<TenantId, Limits>,
    /// Code for single expressions of tenants, each in the place of the active version of its
    /// plugin.
    pub generated: HashMap<(TenantId, Arc<Binding>), Arc<Installed>>,
}

impl Table {
    /// The limits of a tenant.
    #[must_use]
    pub fn limits(&self, tenant: TenantId) -> &Limits {
        self.limits.get(&tenant).unwrap_or(&Limits::DEFAULT)
    }

    /// Code for an expression, in the place of this version.
    pub(crate) fn generated(
        &self,
        tenant: TenantId,
        expression: &Arc<Binding>,
        version: &Installed,
    ) -> Option<&Arc<Installed>> {
        if self.generated.is_empty() {
            return None;
        }
        let found = self.generated.get(&(tenant, Arc::clone(expression)));
        found.filter(|it| (it.plugin, it.version) == (version.plugin, version.version))
    }

    /// Whether a version has anything to do.
    pub(crate) fn has(&self, plugin: PluginId, version: VersionNumber) -> bool {
        let rollout = self.plugins.get(&plugin);
        rollout.is_some_and(|it| it.versions().any(|installed| installed.version == version))
    }
}

/// Where the table is published.
#[derive(Debug, Default)]
pub struct Directory {
    generation: AtomicU64,
    table: Mutex<Arc<Table>>,
}

impl Directory {
    /// Publishes a changed table; workers take it at their next batch. Returns its generation.
    pub fn publish(&self, change: impl FnOnce(&mut Table)) -> u64 {
        let mut current = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&current);
        change(&mut table);
        *current = Arc::new(table);
        // Under the lock, so that who sees the number finds at least that table.
        self.generation.fetch_add(1, Ordering::Release) + 1
    }

    /// The number of the table that is published.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The table, and its number.
    #[must_use]
    pub fn table(&self) -> (u64, Arc<Table>) {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        (self.generation(), Arc::clone(&table))
    }
}
