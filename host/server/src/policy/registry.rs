//! From the metadata to what workers may run: loads versions, publishes who decides.
//!
//! ```text
//!   writer of shard 0 ──► orders ──► loader thread: accept, cache or compile ──► Directory
//! ```
//!
//! A version decides when it is loaded, not before: until then the one before it does. All of it is
//! done by one thread, in the order of the metadata.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::oneshot;
use yard_abi::manifest::{Capability, Point};
use yard_broker::{MetaChange, Plugin, Trial, TrialKind};
use yard_wasm::canary::{Share, Split};
use yard_wasm::health::HealthState;
use yard_wasm::{
    AcceptError, Accepted, Cache, Compiled, Compiler, Directory, Engine, Installed, Limits,
    LoadError, PluginId, Rollout, Sample, Signed, Terms, TrustedKey, Upload,
};
use yard_wire::TenantId;
use yard_wire::plugin::Digest;

use super::embedded;
use super::journal::{Journal, Whose};
use crate::hub::lock;
use crate::os::{self, Priority};

/// Whose the first-party plugins are: no tenant has this number.
pub(crate) const SYSTEM: TenantId = TenantId(u32::MAX);

enum Order {
    Learn(MetaChange),
    /// A plugin is wanted that nobody knows: by its tenant, or of the system.
    Want(TenantId, String, oneshot::Sender<Option<PluginId>>),
    /// Somebody waits for everything before.
    Catch(oneshot::Sender<()>),
    Close,
}

/// What plugins there are, as far as whoever asks needs to know.
#[derive(Default)]
struct Names {
    ids: BTreeMap<Whose, PluginId>,
    names: BTreeMap<PluginId, Whose>,
    metas: BTreeMap<Whose, Plugin>,
    keys: BTreeMap<TenantId, BTreeSet<Digest>>,
    signed: BTreeSet<TenantId>,
}

/// The plugins of the process.
pub(crate) struct Registry {
    orders: Sender<Order>,
    thread: Mutex<Option<JoinHandle<()>>>,
    names: Arc<RwLock<Names>>,
    tools: Arc<Tools>,
}

/// What making a version runnable takes.
pub(crate) struct Tools {
    pub(crate) engine: Engine,
    pub(crate) cache: Cache,
    pub(crate) compiler: Compiler,
    pub(crate) directory: Arc<Directory>,
    pub(crate) journal: Arc<Journal>,
    /// Plugins must be signed, whatever their tenant says.
    pub(crate) require_signed: bool,
}

impl Tools {
    /// Checks a file and makes it runnable.
    fn prepare(&self, file: &[u8], terms: &Terms<'_>) -> Result<(Accepted, Compiled), NotRunnable> {
        let upload = Upload { bytes: file, hash: None, signature: None };
        let accepted = yard_wasm::accept(&upload, terms)?;
        let (compiled, _) =
            Compiled::prepare(&self.engine, &self.cache, &self.compiler, &accepted, file)?;
        Ok((accepted, compiled))
    }
}

/// Why a file cannot run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRunnable {
    #[error(transparent)]
    Refused(#[from] AcceptError),
    #[error(transparent)]
    Unloadable(#[from] LoadError),
}

/// Every capability may be asked for; what a point may have is the manifest's to check.
pub(crate) fn grants() -> BTreeSet<Capability> {
    Capability::ALL.into_iter().collect()
}

impl Registry {
    /// Starts the thread that loads.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(tools: Tools) -> std::io::Result<Self> {
        let (orders, from) = channel();
        let (tools, names) = (Arc::new(tools), Arc::<RwLock<Names>>::default());
        let mut loader = Loader {
            tools: Arc::clone(&tools),
            names: Arc::clone(&names),
            files: BTreeMap::new(),
            installed: BTreeMap::new(),
            next: 1,
        };
        let run = move || loader.run(&from);
        let thread = os::spawn("plugin-loader".to_owned(), Priority::Policy, run)?;
        Ok(Self { orders, thread: Mutex::new(Some(thread)), names, tools })
    }

    /// Takes in a change of the metadata. Never blocks.
    pub(crate) fn learn(&self, change: &MetaChange) {
        // Without its thread the process ends.
        let _ = self.orders.send(Order::Learn(change.clone()));
    }

    /// The plugin of this name that a tenant uses: its own before the system's. It may have to be
    /// loaded first, and so may what was learned before.
    pub(crate) async fn find(&self, tenant: TenantId, name: &str) -> Option<PluginId> {
        let known = self.own(tenant, name).or_else(|| self.own(SYSTEM, name));
        match known {
            Some(id) => Some(id),
            None => self.want(tenant, name).await,
        }
    }

    /// Asks the thread that loads, which has taken in by then what was learned before.
    async fn want(&self, tenant: TenantId, name: &str) -> Option<PluginId> {
        let (to, from) = oneshot::channel();
        self.orders.send(Order::Want(tenant, name.to_owned(), to)).ok()?;
        from.await.ok().flatten()
    }

    /// Waits until everything that was learned is taken in: versions that decide are loaded, and
    /// published, or cannot be.
    pub(crate) async fn caught_up(&self) {
        let (to, from) = oneshot::channel();
        if self.orders.send(Order::Catch(to)).is_ok() {
            // Without its thread the process ends.
            let _ = from.await;
        }
    }

    /// A plugin of the tenant itself.
    fn own(&self, tenant: TenantId, name: &str) -> Option<PluginId> {
        self.with(|names| names.ids.get(&(tenant, name.to_owned())).copied())
    }

    /// A plugin of the system.
    pub(crate) async fn of_system(&self, name: &str) -> Option<PluginId> {
        match self.own(SYSTEM, name) {
            Some(id) => Some(id),
            None => self.want(SYSTEM, name).await,
        }
    }

    /// Whose plugin it is, and what it is called.
    pub(crate) fn name_of(&self, id: PluginId) -> Option<Whose> {
        self.with(|names| names.names.get(&id).cloned())
    }

    /// Whether the version that decides serves a point; none: there is no such version now.
    pub(crate) fn serves(&self, id: PluginId, point: Point) -> Option<bool> {
        let (_, table) = self.tools.directory.table();
        let active = table.plugins.get(&id)?.active.as_ref()?;
        Some(active.compiled().manifest().points.contains(&point))
    }

    /// What a plugin does, where that is not what the metadata says.
    pub(crate) fn state(&self, tenant: TenantId, name: &str) -> Option<&'static str> {
        let whose = (tenant, name.to_owned());
        let (id, meta) =
            self.with(|names| Some((*names.ids.get(&whose)?, names.metas.get(&whose)?.clone())))?;
        if meta.disabled || meta.active == 0 {
            return None;
        }
        let (_, table) = self.tools.directory.table();
        let active = table.plugins.get(&id).and_then(|rollout| rollout.active.clone());
        match active.map(|active| active.health(tenant)) {
            None => Some("loading"),
            Some(HealthState::Healthy) => None,
            Some(HealthState::Degraded) => Some("degraded"),
            Some(HealthState::Quarantined) => Some("quarantined"),
        }
    }

    /// Plugins with a version on trial.
    pub(crate) fn trials(&self) -> Vec<(Whose, Plugin, Trial)> {
        self.with(|names| {
            let tried =
                |(whose, meta): (&Whose, &Plugin)| Some((whose.clone(), meta.clone(), meta.trial?));
            names.metas.iter().filter_map(tried).collect()
        })
    }

    /// Checks a pushed file by its tenant's rules, and makes it runnable, which may take seconds.
    pub(crate) fn admit(
        &self,
        tenant: TenantId,
        file: &[u8],
        signature: Option<&[u8]>,
    ) -> Result<(Accepted, Compiled), NotRunnable> {
        let (trusted, required) = self.with(|names| {
            let keys = names.keys.get(&tenant).into_iter().flatten();
            let trusted: Vec<TrustedKey> = keys.map(|key| TrustedKey(key.0)).collect();
            (trusted, names.signed.contains(&tenant))
        });
        let is_required = required || self.tools.require_signed;
        let signed = if is_required { Signed::Required } else { Signed::Optional };
        let grants = grants();
        let terms = Terms { limits: &Limits::DEFAULT, grants: &grants, trusted: &trusted, signed };
        let upload = Upload { bytes: file, hash: None, signature };
        let accepted = yard_wasm::accept(&upload, &terms)?;
        let Tools { engine, cache, compiler, .. } = &*self.tools;
        let (compiled, _) = Compiled::prepare(engine, cache, compiler, &accepted, file)?;
        Ok((accepted, compiled))
    }

    /// Ends the thread.
    pub(crate) fn close(&self) {
        let _ = self.orders.send(Order::Close);
        let thread = lock(&self.thread).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the loader of plugins panicked");
        }
    }

    fn with<T>(&self, look: impl FnOnce(&Names) -> T) -> T {
        look(&self.names.read().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Loader {
    tools: Arc<Tools>,
    names: Arc<RwLock<Names>>,
    files: BTreeMap<Digest, Bytes>,
    installed: BTreeMap<(PluginId, u32), Arc<Installed>>,
    next: u32,
}

impl Loader {
    fn run(&mut self, orders: &Receiver<Order>) {
        while let Ok(order) = orders.recv() {
            match order {
                Order::Learn(change) => self.learn(change),
                // Whoever asked may have gone.
                Order::Want(tenant, name, to) => {
                    let _ = to.send(self.want(tenant, &name));
                }
                Order::Catch(to) => {
                    let _ = to.send(());
                }
                Order::Close => return,
            }
        }
    }

    fn learn(&mut self, change: MetaChange) {
        match change {
            MetaChange::PluginFile(file) => {
                self.files.insert(file.hash, file.bytes);
            }
            MetaChange::PluginPut(plugin) => self.put(plugin),
            MetaChange::PluginRemoved { tenant, name, .. } => self.remove((tenant, name)),
            MetaChange::KeyPut(key) => self.note(|names| {
                names.keys.entry(key.tenant).or_default().insert(key.key);
            }),
            MetaChange::KeyRemoved { tenant, key } => self.note(|names| {
                names.keys.entry(tenant).or_default().remove(&key);
            }),
            MetaChange::TenantPut(tenant) => self.note(|names| {
                let id = tenant.tenant;
                let _ = match tenant.require_signed {
                    true => names.signed.insert(id),
                    false => names.signed.remove(&id),
                };
            }),
            MetaChange::ChecksPut(_)
            | MetaChange::GroupPut(_)
            | MetaChange::GroupRemoved { .. }
            | MetaChange::TopicPut(_)
            | MetaChange::TopicRemoved { .. } => {}
        }
    }

    fn note(&self, change: impl FnOnce(&mut Names)) {
        change(&mut self.names.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The id of a plugin, or one that no other has: it is told when the plugin can be asked.
    fn id_of(&mut self, whose: &Whose) -> PluginId {
        if let Some(id) = self.known(whose) {
            return id;
        }
        self.next += 1;
        PluginId(self.next - 1)
    }

    fn known(&self, whose: &Whose) -> Option<PluginId> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.ids.get(whose).copied()
    }

    /// Lets others know of a plugin.
    fn tell(&self, whose: &Whose, id: PluginId) {
        self.note(|names| {
            names.ids.insert(whose.clone(), id);
            names.names.insert(id, whose.clone());
        });
    }

    fn put(&mut self, plugin: Plugin) {
        let whose = (plugin.tenant, plugin.name.clone());
        let id = self.id_of(&whose);
        let tried = plugin.trial.map_or(0, |trial| trial.version);
        for version in [plugin.active, plugin.previous, tried] {
            self.load(id, &whose, &plugin, version);
        }
        let rollout = Arc::new(self.rollout(id, &plugin));
        let _ = self.tools.directory.publish(|table| {
            table.plugins.insert(id, rollout);
        });
        self.tell(&whose, id);
        let text = match (plugin.disabled, plugin.trial) {
            (true, _) => "disabled".to_owned(),
            (false, Some(trial)) => {
                format!("version {}: {} {} %", trial.version, trial.kind, trial.share)
            }
            (false, None) if plugin.active == 0 => "uploaded".to_owned(),
            (false, None) => format!("version {} is active", plugin.active),
        };
        self.tools.journal.begin_trial(&whose, plugin.trial.is_some());
        tracing::info!(tenant = whose.0.0, plugin = %whose.1, %text, "plugin changed");
        self.tools.journal.say(&whose, crate::time::now(), plugin.active, text);
        let kept: BTreeSet<u32> = plugin.versions.iter().map(|version| version.number).collect();
        self.installed.retain(|(of, version), _| *of != id || kept.contains(version));
        self.note(|names| {
            names.metas.insert(whose, plugin);
        });
        self.forget_files();
    }

    /// Keeps the files of versions that there are.
    fn forget_files(&mut self) {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let versions = names.metas.values().flat_map(|plugin| &plugin.versions);
        let known: BTreeSet<Digest> = versions.map(|version| version.hash).collect();
        self.files.retain(|hash, _| known.contains(hash));
    }

    fn remove(&mut self, whose: Whose) {
        let id = self.id_of(&whose);
        let _ = self.tools.directory.publish(|table| {
            table.plugins.remove(&id);
        });
        self.installed.retain(|(of, _), _| *of != id);
        self.tools.journal.forget(&whose);
        self.note(|names| {
            names.metas.remove(&whose);
            names.ids.remove(&whose);
            names.names.remove(&id);
        });
        self.forget_files();
    }

    fn load(&mut self, id: PluginId, whose: &Whose, plugin: &Plugin, number: u32) {
        if self.installed.contains_key(&(id, number)) {
            return;
        }
        let Some(version) = plugin.version(number) else { return };
        let Some(file) = self.files.get(&version.hash) else {
            tracing::error!(plugin = %whose.1, number, "the file of a plugin is missing");
            return;
        };
        let grants = grants();
        // Its signature was looked at when it was pushed.
        let signed = Signed::Optional;
        let terms = Terms { limits: &Limits::DEFAULT, grants: &grants, trusted: &[], signed };
        match self.tools.prepare(file, &terms) {
            Ok((_, compiled)) => {
                let installed = Installed::new(id, number, compiled);
                self.installed.insert((id, number), installed);
            }
            Err(error) => {
                tracing::error!(plugin = %whose.1, number, %error, "a plugin cannot be loaded");
                let text = format!("cannot be loaded: {error}");
                self.tools.journal.say(whose, crate::time::now(), number, text);
            }
        }
    }

    fn rollout(&self, id: PluginId, plugin: &Plugin) -> Rollout {
        if plugin.disabled {
            return Rollout::default();
        }
        let of = |number: u32| self.installed.get(&(id, number)).map(Arc::clone);
        let mut rollout = Rollout {
            active: of(plugin.active),
            previous: of(plugin.previous),
            ..Rollout::default()
        };
        if let Some(trial) = plugin.trial
            && let Some(tried) = of(trial.version)
        {
            let per_mille = trial.share * 10;
            match trial.kind {
                TrialKind::Canary => {
                    let share = Share::new(per_mille).expect("a share is at most a hundred");
                    let split = Split { share, salt: plugin.version };
                    rollout.canary = Some((tried, split));
                }
                TrialKind::Shadow => rollout.shadow = Some((tried, Sample { per_mille })),
            }
        }
        rollout
    }

    /// A plugin of a tenant, or one of the system, loaded when it is wanted first.
    fn want(&mut self, tenant: TenantId, name: &str) -> Option<PluginId> {
        if let Some(id) = self.known(&(tenant, name.to_owned())) {
            return Some(id);
        }
        let whose = (SYSTEM, name.to_owned());
        let file = embedded::file(name)?;
        let id = self.id_of(&whose);
        if self.installed.contains_key(&(id, 1)) {
            return Some(id);
        }
        let grants = grants();
        let signed = Signed::Optional;
        let terms = Terms { limits: &Limits::DEFAULT, grants: &grants, trusted: &[], signed };
        match self.tools.prepare(file, &terms) {
            Ok((_, compiled)) => {
                let installed = Installed::new(id, 1, compiled);
                self.installed.insert((id, 1), Arc::clone(&installed));
                let rollout = Rollout { active: Some(installed), ..Rollout::default() };
                let _ = self.tools.directory.publish(|table| {
                    table.plugins.insert(id, Arc::new(rollout));
                });
            }
            Err(error) => {
                tracing::error!(plugin = name, %error, "a plugin of the system cannot be loaded");
            }
        }
        self.tell(&whose, id);
        Some(id)
    }
}
