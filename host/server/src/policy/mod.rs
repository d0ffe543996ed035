//! Policies that run foreign code: which plugin decides about what, on which threads, and what
//! becomes of it when it fails.
//!
//! ```text
//!   metadata ──► registry: name ─► version that decides, version on trial   (registry.rs)
//!                    │
//!   deliver ──► ask ─┴─► pool: turns of tenants ─► workers: one call a turn   (pool.rs, turns.rs)
//!        ▲                                            │
//!        └───────────── verdicts, poison, or a time to wait
//! ```
//!
//! Invariants:
//! - A batch is judged by one version. Versions change between batches.
//! - Nobody guesses for a plugin that does not answer: what it would decide waits.
//! - What a plugin does costs its tenant's time, never the writer's or the network's.
//!
//! Start reading at [`Policies`], then `ask.rs`.
mod ask;
pub(crate) mod check;
mod embedded;
mod framed;
mod generate;
mod intercept;
mod journal;
mod key;
mod points;
mod pool;
mod registry;
pub(crate) mod retry;
mod sides;
mod turns;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use yard_abi::View;
use yard_abi::manifest::Point;
use yard_broker::{MetaChange, Pushed};
use yard_wasm::{
    AcceptError, Action, Ask, Binding, Cache, CompileError, Compiler, Directory, Engine,
    EngineError, HealthEvent, LoadError, Metering, PluginId, Policy, Worker,
};
use yard_wire::batch::Batch;
use yard_wire::expression::{DIALECT_SETTING, Dialect, Filter, PluginFilter};
use yard_wire::operation::{GroupReport, MemberRow, PluginPush};
use yard_wire::plugin::{
    Digest, PluginDifferenceRow, PluginLogRow, PluginReport, PluginRow, check_file_bytes,
};
use yard_wire::plugin_use::PluginUse;
use yard_wire::record::Record;
use yard_wire::requests::Expression;
use yard_wire::{Code, Refusal, TenantId, Timestamp, TopicId};

use crate::hub::lock;
use crate::os::{self, Priority};
use ask::{Asked, Checking, Filtering};
use framed::{Framed, Outs, Stage};
use generate::{Generator, Making};
use intercept::{Changed, Intercept};
use journal::{Journal, Whose};
use key::{Key, Keyspaces};
use points::{Before, Points, Used};
use pool::{Idle, Pool};
use registry::{NotRunnable, Registry, Tools};

pub(crate) use ask::{Answer, Question, Verdict};
pub(crate) use intercept::unchecked;
pub(crate) use key::Keyed;
pub(crate) use watch::run as watch_trials;

/// Deliveries of one tenant that may wait for its policies: what is more waits where it is.
const TENANT_ASKS_MAX: usize = 8;
/// Questions of one tenant about messages that failed which may wait: those beyond go by the
/// broker's own table.
const TENANT_RETRIES_MAX: usize = 64;
/// Questions of one tenant about transactions that are asked at a time,
const TENANT_CHECKS_MAX: usize = 16;
/// and those that may wait, these included: of those beyond producers are asked.
const TENANT_CHECKS_WAITING_MAX: usize = 4_096;
/// Bytes of one tenant that may wait for interceptors: some of the largest batches.
const TENANT_BEFORE_BYTES_MAX: usize = 32 << 20;
/// Who is refused because a plugin is not there asks again after this, in milliseconds.
const ABSENT_WAIT_MS: u32 = 1_000;
/// How long a request waits for its plugin to be compiled: well below what clients wait for an
/// answer,
const COMPILED_WITHIN: Duration = Duration::from_secs(2);
/// and when it may ask again after that, in milliseconds.
const COMPILING_WAIT_MS: u32 = 500;
/// Bindings that are remembered.
const BINDINGS_MAX: usize = 10_000;
/// What plugins wrote is collected at least this often while they run.
const COLLECT: Duration = Duration::from_millis(200);
/// Pushes that are checked at a time: each may take a process that compiles.
const PUSHES_MAX: usize = 2;

/// Why there are no policies.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// The engine does not run here.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A thread, or the folder of compiled plugins.
    #[error("plugins: {0}")]
    System(#[from] std::io::Error),
}

/// What the broker must know about plugins from the start.
pub(crate) struct PolicyOptions<'a> {
    /// Where compiled plugins are kept.
    pub(crate) folder: &'a Path,
    /// The program that compiles, and what it is told.
    pub(crate) compiler: Compiler,
    /// Threads that run plugins.
    pub(crate) workers: usize,
    /// Plugins must be signed, whatever their tenant says.
    pub(crate) require_signed: bool,
    /// Messages after which code of its own is made for an expression in SQL; none: never.
    pub(crate) generate_after: Option<u64>,
}

/// One thread's plugins.
pub(crate) struct PolicyWorker {
    plugins: Worker,
    keyspaces: Keyspaces,
    registry: Arc<Registry>,
    journal: Arc<Journal>,
    collected: Instant,
    /// Something ran since then.
    has_run: bool,
}

impl PolicyWorker {
    /// What a plugin wants to see at a point, with these settings.
    fn needs(&mut self, ask: &Ask, binding: &Arc<Binding>, point: Point) -> Wanted {
        match point {
            Point::Filter => self.plugins.needs(ask, binding),
            Point::Dedupe | Point::Interceptor | Point::Retry | Point::TxnCheck => {
                self.plugins.open(ask, binding, point)
            }
        }
    }

    /// Writes down changes of health, and now and then what plugins wrote.
    fn heard(&mut self, whose: &Whose, events: Vec<HealthEvent>) {
        for event in events {
            let HealthEvent { version, change, fault, .. } = event;
            let why = fault.map_or(String::new(), |fault| format!(": {fault}"));
            let text = format!("{:?}, {} faults{why}", change.to, change.faults);
            tracing::warn!(tenant = whose.0.0, plugin = %whose.1, version, %text, "plugin health");
            self.journal.say(whose, Timestamp(change.at_ms), version, text);
        }
        self.has_run = true;
        if self.collected.elapsed() >= COLLECT {
            self.collect();
        }
    }

    /// Takes in what plugins wrote and counted.
    fn collect(&mut self) {
        (self.collected, self.has_run) = (Instant::now(), false);
        for ((tenant, plugin), lines) in self.plugins.take_lines() {
            let Some((_, name)) = self.registry.name_of(plugin) else { continue };
            let whose = (tenant, name);
            for line in lines.lines {
                self.journal.say(&whose, Timestamp(line.at_ms), 0, line.text);
            }
        }
        for ((tenant, plugin), mut metrics) in self.plugins.take_metrics() {
            let Some((_, name)) = self.registry.name_of(plugin) else { continue };
            self.journal.measure(&(tenant, name), &mut metrics);
        }
    }
}

impl Idle for PolicyWorker {
    fn rests_in(&self) -> Option<Duration> {
        self.has_run.then(|| COLLECT.saturating_sub(self.collected.elapsed()))
    }

    fn rest(&mut self) {
        self.collect();
    }
}

/// What a plugin wants to see.
type Wanted = yard_wasm::Asked<View>;

/// What each version wants to see of messages.
type ByVersion = BTreeMap<u32, View>;

/// What each version wants to see of messages, for each expression.
#[derive(Default)]
pub(crate) struct Needs(Mutex<HashMap<(PluginId, Arc<Binding>), ByVersion>>);

impl Needs {
    /// What all versions together want, once this one is known; or any, where none is named.
    fn get(&self, asked: &Asked, version: Option<u32>) -> Option<View> {
        let known = lock(&self.0);
        let of = known.get(&(asked.plugin, Arc::clone(&asked.binding)))?;
        let is_known = version.is_none_or(|version| of.contains_key(&version));
        if is_known { of.values().copied().reduce(View::and) } else { None }
    }

    /// Notes what a version wants; what all want together.
    fn put(&self, asked: &Asked, version: u32, view: View) -> View {
        let mut known = lock(&self.0);
        if known.len() >= BINDINGS_MAX {
            known.clear();
        }
        let of = known.entry((asked.plugin, Arc::clone(&asked.binding))).or_default();
        of.insert(version, view);
        of.values().copied().fold(view, View::and)
    }
}

/// The policies of the process.
pub(crate) struct Policies {
    registry: Arc<Registry>,
    generator: Generator,
    pool: Arc<Pool<PolicyWorker>>,
    journal: Arc<Journal>,
    needs: Arc<Needs>,
    engine: Engine,
    bindings: Mutex<HashMap<PluginFilter, Arc<Binding>>>,
    asks: Mutex<BTreeMap<TenantId, Arc<Semaphore>>>,
    retries: Mutex<BTreeMap<TenantId, Arc<Semaphore>>>,
    checks: Mutex<BTreeMap<TenantId, Arc<Semaphore>>>,
    waiting_checks: Mutex<BTreeMap<TenantId, Arc<Semaphore>>>,
    /// Bytes that wait for interceptors.
    rooms: Mutex<BTreeMap<TenantId, Arc<Semaphore>>>,
    points: Points,
    pushes: Semaphore,
}

impl Policies {
    /// Starts the engine and its threads.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub(crate) fn start(options: PolicyOptions<'_>) -> Result<Self, PolicyError> {
        let engine = Engine::with_ticker(Metering::Both, || os::prefer(Priority::Log))?;
        let (directory, journal) = (Arc::<Directory>::default(), Arc::<Journal>::default());
        let making = Making {
            engine: engine.clone(),
            compiler: options.compiler.clone(),
            directory: Arc::clone(&directory),
            journal: Arc::clone(&journal),
            after: options.generate_after,
            workers: options.workers,
        };
        let generator = Generator::start(making, &options.folder.join("generated"))?;
        let registry = Arc::new(Registry::start(Tools {
            engine: engine.clone(),
            cache: Cache::open(options.folder)?,
            compiler: options.compiler,
            directory: Arc::clone(&directory),
            journal: Arc::clone(&journal),
            require_signed: options.require_signed,
        })?);
        let workers = (0..options.workers.max(1)).map(|_| {
            let (engine, directory) = (engine.clone(), Arc::clone(&directory));
            let (registry, journal) = (Arc::clone(&registry), Arc::clone(&journal));
            move || PolicyWorker {
                plugins: Worker::new(&engine, &directory),
                keyspaces: Keyspaces::default(),
                registry,
                journal,
                collected: Instant::now(),
                has_run: false,
            }
        });
        let pool = Pool::start(workers)?;
        let (needs, bindings) = (Arc::default(), Mutex::default());
        let (asks, retries, checks) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (waiting_checks, rooms) = (Mutex::default(), Mutex::default());
        let (points, pushes) = (Points::default(), Semaphore::new(PUSHES_MAX));
        Ok(Self {
            registry,
            generator,
            pool,
            journal,
            needs,
            engine,
            bindings,
            asks,
            retries,
            checks,
            waiting_checks,
            rooms,
            points,
            pushes,
        })
    }

    /// Takes in a change of the metadata. Never blocks.
    pub(crate) fn learn(&self, change: &MetaChange) {
        match change {
            MetaChange::ChecksPut(_)
            | MetaChange::GroupPut(_)
            | MetaChange::GroupRemoved { .. } => {}
            MetaChange::TopicPut(_) | MetaChange::TopicRemoved { .. } => self.points.learn(change),
            MetaChange::KeyPut(_)
            | MetaChange::KeyRemoved { .. }
            | MetaChange::PluginFile(_)
            | MetaChange::PluginPut(_)
            | MetaChange::PluginRemoved { .. }
            | MetaChange::TenantPut(_) => self.registry.learn(change),
        }
    }

    /// Asks a plugin about messages. `None` when the process ends.
    pub(crate) async fn ask(&self, filter: &PluginFilter, question: Question) -> Option<Answer> {
        let tenant = question.tenant;
        let _turn = turns(&self.asks, tenant, TENANT_ASKS_MAX).acquire_owned().await.ok()?;
        let Ok(asked) = self.resolve(tenant, filter).await else {
            return Some(Answer { wait_ms: Some(1_000), ..Answer::default() });
        };
        let (to, from) = oneshot::channel();
        let (needs, journal) = (Arc::clone(&self.needs), Arc::clone(&self.journal));
        let job = Filtering::new(asked, question, needs, journal, to);
        self.pool.put(tenant, Box::new(job));
        from.await.ok()
    }

    /// Whether a plugin is there and understands an expression.
    ///
    /// # Errors
    /// `UnknownPlugin`, `PluginCompiling`, `PluginNotRunning`, `BadExpression` with what the plugin
    /// says of it, `PluginFailed`.
    pub(crate) async fn check(
        &self,
        tenant: TenantId,
        filter: PluginFilter,
    ) -> Result<(), Refusal> {
        let asked = in_time(COMPILED_WITHIN, &filter.plugin, self.resolve(tenant, &filter)).await?;
        self.open(tenant, asked, Point::Filter).await.map(drop)
    }

    /// Whether a plugin serves a point and takes its settings; of a dedupe plugin, for how long it
    /// wants keys to be remembered, in milliseconds.
    ///
    /// # Errors
    /// `UnknownPlugin`, `PluginCompiling`, `PluginNotRunning`, `PluginExports`, `PluginFailed`, and
    /// `BadPluginUse` with what the manifest or the plugin says of its settings, or where it wants
    /// what this broker does not do.
    pub(crate) async fn check_use(
        &self,
        tenant: TenantId,
        point: Point,
        used: &PluginUse,
    ) -> Result<Option<u64>, Refusal> {
        let asked = in_time(COMPILED_WITHIN, used.plugin(), self.resolve_use(tenant, used)).await?;
        let Some(policy) = self.open(tenant, asked, point).await? else { return Ok(None) };
        if policy.on_duplicate != Action::AckOriginal {
            let (name, wants) = (used.plugin(), policy.on_duplicate);
            let detail = format!("{name}: {wants:?}; here duplicates are answered as the original");
            return Err(Refusal::new(Code::BadPluginUse, detail));
        }
        Ok(Some(policy.ttl_ms))
    }

    async fn open(
        &self,
        tenant: TenantId,
        asked: Asked,
        point: Point,
    ) -> Result<Option<Policy>, Refusal> {
        if self.registry.serves(asked.plugin, point) == Some(false) {
            let (name, point) = (&asked.whose.1, point.name());
            let detail = format!("plugin {name} does not serve the point {point}");
            return Err(Refusal::new(Code::PluginExports, detail));
        }
        let (to, from) = oneshot::channel();
        let to = Some(to);
        self.pool.put(tenant, Box::new(Checking { asked, tenant, point, to }));
        from.await.unwrap_or_else(|_| Err(Code::ShuttingDown.into()))
    }

    /// The right to ask about messages that failed, unless the tenant asks too much already.
    fn retry_turn(&self, tenant: TenantId) -> Option<OwnedSemaphorePermit> {
        turns(&self.retries, tenant, TENANT_RETRIES_MAX).try_acquire_owned().ok()
    }

    /// The right to ask about a transaction, when it is the tenant's turn, unless too many wait
    /// for theirs.
    async fn check_turn(&self, tenant: TenantId) -> Option<[OwnedSemaphorePermit; 2]> {
        let waits = turns(&self.waiting_checks, tenant, TENANT_CHECKS_WAITING_MAX);
        let waits = waits.try_acquire_owned().ok()?;
        let asks = turns(&self.checks, tenant, TENANT_CHECKS_MAX).acquire_owned().await.ok()?;
        Some([waits, asks])
    }

    /// The plugin of a topic or a group, with its settings.
    async fn resolve_use(&self, tenant: TenantId, used: &PluginUse) -> Result<Asked, Refusal> {
        let name = used.plugin();
        let plugin = self.registry.find(tenant, name).await.ok_or_else(|| unknown(name))?;
        let binding = Binding::new(String::new(), used.settings().to_vec());
        Ok(Asked { plugin, whose: (tenant, name.to_owned()), binding, heat: None })
    }

    /// Whether a plugin must see a batch before it is stored.
    pub(crate) fn is_before(&self, tenant: TenantId, batch: &Batch) -> bool {
        batch.runs().iter().any(|run| self.points.before(tenant, run.topic).is_some())
    }

    /// The plugins before a topic.
    pub(crate) fn before(&self, tenant: TenantId, topic: TopicId) -> Option<Arc<Before>> {
        self.points.before(tenant, topic)
    }

    /// Bytes that a tenant may have waiting for plugins.
    pub(crate) fn room_before(&self, tenant: TenantId) -> Arc<Semaphore> {
        turns(&self.rooms, tenant, TENANT_BEFORE_BYTES_MAX)
    }

    /// What an interceptor makes of records.
    ///
    /// # Errors
    /// `MessageRefused` with what the plugin says, `PluginFailed`; `PluginNotRunning` where nobody
    /// can say.
    pub(crate) async fn intercept(
        &self,
        tenant: TenantId,
        of: &Used,
        records: Vec<Record>,
    ) -> Changed {
        let asked = self.resolve_before(tenant, of).await?;
        self.framed::<Intercept>(tenant, asked, (records, of.queues)).await
    }

    /// The dedupe keys that a plugin gives records.
    ///
    /// # Errors
    /// `PluginNotRunning` where its tenant has used up its share of the workers for now.
    pub(crate) async fn key(
        &self,
        tenant: TenantId,
        of: &Used,
        records: Vec<Record>,
    ) -> Result<Vec<Keyed>, Refusal> {
        match self.resolve_before(tenant, of).await {
            Ok(asked) => self.framed::<Key>(tenant, asked, (records, of.queues)).await,
            Err(refusal) => {
                let nobody = Keyed::Unchecked { why: Arc::new(refusal), version: 0 };
                Ok(vec![nobody; records.len()])
            }
        }
    }

    /// Counts messages that are stored though a dedupe plugin has said nothing about them.
    pub(crate) fn unchecked(&self, tenant: TenantId, of: &Used, version: u32, count: u64) {
        let whose = (tenant, of.plugin.clone());
        self.journal.count(&whose, version, |run| run.unchecked += count);
    }

    /// The plugin that is before a topic.
    async fn resolve_before(&self, tenant: TenantId, of: &Used) -> Result<Asked, Refusal> {
        let name = &of.plugin;
        let plugin = self.registry.find(tenant, name).await.ok_or_else(|| {
            let detail = format!("plugin {name}, which is before the topic, is not there");
            Refusal::after(Code::PluginNotRunning, ABSENT_WAIT_MS, detail)
        })?;
        let (whose, binding) = ((tenant, name.clone()), Arc::clone(&of.binding));
        Ok(Asked { plugin, whose, binding, heat: None })
    }

    async fn framed<S: Stage>(
        &self,
        tenant: TenantId,
        asked: Asked,
        records: (Vec<Record>, u16),
    ) -> Outs<S::Out> {
        let (to, from) = oneshot::channel();
        let known = (Arc::clone(&self.needs), Arc::clone(&self.journal));
        self.pool.put(tenant, Box::new(Framed::<S>::new(asked, tenant, records, known, to)));
        from.await.unwrap_or_else(|_| Err(Code::ShuttingDown.into()))
    }

    /// Waits until what was learned so far is what workers go by.
    pub(crate) async fn caught_up(&self) {
        self.registry.caught_up().await;
    }

    async fn resolve(&self, tenant: TenantId, filter: &PluginFilter) -> Result<Asked, Refusal> {
        let name = &filter.plugin;
        let found = match filter.dialect {
            // The dialects of the system are not a tenant's to change.
            Some(_) => self.registry.of_system(name).await,
            None => self.registry.find(tenant, name).await,
        };
        let plugin = found.ok_or_else(|| unknown(name))?;
        let binding = self.binding(filter);
        let heat = match filter.dialect {
            Some(Dialect::Sql) => self.generator.heat(tenant, plugin, &binding),
            _ => None,
        };
        Ok(Asked { plugin, whose: (tenant, name.clone()), binding, heat })
    }

    fn binding(&self, filter: &PluginFilter) -> Arc<Binding> {
        let mut bindings = lock(&self.bindings);
        if let Some(known) = bindings.get(filter) {
            return Arc::clone(known);
        }
        if bindings.len() >= BINDINGS_MAX {
            bindings.clear();
        }
        let dialect = filter.dialect.map(|dialect| dialect.text().to_owned());
        let config = dialect.map(|dialect| (DIALECT_SETTING.to_owned(), dialect));
        let binding = Binding::new(filter.expression.clone(), config.into_iter().collect());
        bindings.insert(filter.clone(), Arc::clone(&binding));
        binding
    }

    /// Finds out whether a pushed file may run: by its tenant's rules, in a process that compiles,
    /// by its own examples. Takes seconds at most.
    ///
    /// # Errors
    /// What is wrong with it, each with a code of its own.
    pub(crate) async fn admit(
        &self,
        tenant: TenantId,
        push: PluginPush,
    ) -> Result<Pushed, Refusal> {
        let _turn = self.pushes.acquire().await.map_err(|_| Code::ShuttingDown)?;
        let PluginPush { wasm, sign, inactive } = push;
        check_file_bytes(wasm.0.len() as u64)?;
        let (registry, engine) = (Arc::clone(&self.registry), self.engine.clone());
        let checked = tokio::task::spawn_blocking(move || {
            os::prefer(Priority::Policy);
            let signature = sign.as_ref().map(|sign| &sign.0[..]);
            let (accepted, compiled) =
                registry.admit(tenant, &wasm.0, signature).map_err(|why| refusal(&why))?;
            yard_wasm::self_test(&engine, &compiled, &accepted.limits)
                .map_err(|why| Refusal::new(Code::PluginSelfTest, why.to_string()))?;
            let manifest = accepted.manifest;
            let points: Vec<&str> = manifest.points.iter().map(|point| point.name()).collect();
            Ok(Pushed {
                name: manifest.name,
                label: manifest.version,
                points: points.join(","),
                hash: Digest(accepted.hash.0),
                file: wasm.0,
                signer: accepted.signer.map_or(Digest::default(), |key| Digest(key.0)),
                inactive,
            })
        });
        checked.await.unwrap_or_else(|_| Err(Code::Internal.into()))
    }

    /// What a plugin wrote, and what happened to it.
    pub(crate) fn log_of(&self, tenant: TenantId, name: &str) -> Vec<PluginLogRow> {
        self.journal.lines(&(tenant, name.to_owned()))
    }

    /// The messages about which a version in shadow says something else.
    pub(crate) fn differences_of(&self, tenant: TenantId, name: &str) -> Vec<PluginDifferenceRow> {
        self.journal.differences(&(tenant, name.to_owned()))
    }

    /// Adds to a report what only the process knows.
    pub(crate) fn complete(&self, tenant: TenantId, report: &mut PluginReport) {
        self.complete_row(tenant, &mut report.plugin);
        let whose = (tenant, report.plugin.name.clone());
        (report.runs, report.metrics) = (self.journal.runs(&whose), self.journal.metrics(&whose));
    }

    /// As [`Policies::complete`], for a row of a list.
    pub(crate) fn complete_row(&self, tenant: TenantId, row: &mut PluginRow) {
        if let Some(state) = self.registry.state(tenant, &row.name) {
            state.clone_into(&mut row.state);
        }
    }

    /// Says of the expressions of a group's members how much code of their own has judged.
    pub(crate) fn mark_code(&self, tenant: TenantId, report: &mut GroupReport) {
        report.members.iter_mut().for_each(|row| self.mark_member(tenant, row));
    }

    fn mark_member(&self, tenant: TenantId, row: &mut MemberRow) {
        let sql = row.filter.strip_prefix(Dialect::Sql.text()).and_then(|it| it.strip_prefix(' '));
        let Some(text) = sql else { return };
        let expression = Expression { dialect: Dialect::Sql.text().into(), text: text.into() };
        let Ok(Filter::Plugin(filter)) = Filter::read(Some(&expression)) else { return };
        let counts = self.generator.counts(tenant, &self.binding(&filter));
        if let Some((judged, by_code @ 1..)) = counts {
            row.filter.push_str(&format!("  -- {by_code} of {judged} by code of its own"));
        }
    }

    /// Ends the threads.
    pub(crate) fn close(&self) {
        self.registry.close();
        self.generator.close();
        self.pool.close();
    }
}

/// The turns of a tenant.
fn turns(
    of: &Mutex<BTreeMap<TenantId, Arc<Semaphore>>>,
    tenant: TenantId,
    max: usize,
) -> Arc<Semaphore> {
    Arc::clone(lock(of).entry(tenant).or_insert_with(|| Arc::new(Semaphore::new(max))))
}

/// What is asked for with a plugin that is to be found, unless that takes too long: it is compiled
/// when it is wanted first, and after what was wanted before.
async fn in_time(
    time: Duration,
    name: &str,
    found: impl Future<Output = Result<Asked, Refusal>>,
) -> Result<Asked, Refusal> {
    tokio::time::timeout(time, found).await.unwrap_or_else(|_| {
        let detail = format!("plugin {name} is being compiled, try again; nothing was done");
        Err(Refusal::after(Code::PluginCompiling, COMPILING_WAIT_MS, detail))
    })
}

fn unknown(name: &str) -> Refusal {
    if embedded::is_name(name) {
        let detail = format!("{name} is not in this broker: it was built without plugins");
        return Refusal::new(Code::BuiltWithoutPlugins, detail);
    }
    Refusal::new(Code::UnknownPlugin, format!("no plugin {name:?}"))
}

/// Why a plugin may not run, as its author is told.
fn refusal(why: &NotRunnable) -> Refusal {
    let code = match why {
        NotRunnable::Refused(why) => match why {
            AcceptError::TooLarge { .. } => Code::PluginTooLarge,
            AcceptError::WrongHash { .. } => Code::BadChecksum,
            AcceptError::NotSigned | AcceptError::WrongSignature { .. } => Code::PluginSignature,
            AcceptError::NotWasm | AcceptError::Damaged(_) => Code::NotWasm,
            AcceptError::NoTypes => Code::NoComponentType,
            AcceptError::ManifestCount(_) | AcceptError::BadManifest(_) => Code::PluginManifest,
            AcceptError::WrongAbi { .. } => Code::PluginAbi,
            AcceptError::UnknownImport { .. } => Code::PluginImports,
            AcceptError::UnknownExport { .. }
            | AcceptError::NotExported(_)
            | AcceptError::NotDeclared(_) => Code::PluginExports,
            AcceptError::NotAsked(_) | AcceptError::NotGranted(_) | AcceptError::TooMuch(_) => {
                Code::PluginCapability
            }
        },
        NotRunnable::Unloadable(why) => match why {
            LoadError::Cache(_) => Code::Internal,
            LoadError::Misfit(_) => Code::PluginExports,
            LoadError::Compile(why) => match why {
                CompileError::TooLarge(_) => Code::PluginTooLarge,
                CompileError::Refused(_)
                | CompileError::TooSlow(_)
                | CompileError::TooMuchMemory(_)
                | CompileError::Failed { .. } => Code::PluginCompile,
                CompileError::System(_) => Code::Internal,
            },
        },
    };
    Refusal::new(code, why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_for_a_plugin_that_is_being_compiled_is_told_so() {
        let now = Duration::ZERO;
        let told = in_time(now, "slow", std::future::pending()).await.map(drop).unwrap_err();
        assert_eq!((told.code, told.retry_after_ms), (Code::PluginCompiling, COMPILING_WAIT_MS));
        assert!(told.code.is_retryable() && told.detail.contains("plugin slow is being compiled"));
        let binding = Binding::new(String::new(), Vec::new());
        let whose = (TenantId(1), "there".into());
        let asked = Asked { plugin: PluginId(1), whose, binding, heat: None };
        let found = in_time(now, "there", async { Ok(asked) }).await.unwrap();
        assert_eq!(found.whose.1, "there");
        let unknown = in_time(now, "nobody", async { Err(unknown("nobody")) }).await;
        assert_eq!(unknown.map(drop).unwrap_err().code, Code::UnknownPlugin);
    }
}
