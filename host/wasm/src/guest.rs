//! One instance of a plugin: its store, its limits, and calls into it.
//!
//! A store belongs to one version of one plugin for one tenant on one worker. After a fault it is
//! dropped: an instance that trapped refuses every call.
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use rustix::time::{ClockId, Timespec, clock_gettime};
use wasmtime::component::ResourceAny;
use wasmtime::{ResourceLimiter, Store, Trap, UpdateDeadline};
use xxhash_rust::xxh3::Xxh3;
use yard_abi::manifest::{Manifest, Point};
use yard_abi::{Shown, View};
use yard_wire::TenantId;

use crate::bindings::{self, Exports, Needs};
use crate::capability::{Kv, KvFull, Log, LogLines, Metrics};
use crate::compiled::Compiled;
use crate::engine::{Engine, Metering, ticks};
use crate::fault::{Fault, FaultKind};
use crate::limits::{
    CORE_INSTANCES_MAX, Limits, MEMORIES_MAX, PREDICATES_MAX, RESULT_BYTES_MAX, TABLES_MAX,
};
use crate::table::PluginId;

/// What calls took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Calls into plugins.
    pub calls: u64,
    /// Fuel that they burnt; 0 where fuel is not metered.
    pub fuel: u64,
    /// Time that they took by the wall, nanoseconds, new instances included.
    pub spent_ns: u64,
    /// Instances that were made.
    pub instances: u64,
    /// The most memory that an instance had, bytes.
    pub memory_bytes: u64,
}

impl Usage {
    /// Adds what others took.
    pub fn add(&mut self, more: &Usage) {
        self.calls += more.calls;
        self.fuel += more.fuel;
        self.spent_ns += more.spent_ns;
        self.instances += more.instances;
        self.memory_bytes = self.memory_bytes.max(more.memory_bytes);
    }
}

/// What a guest reaches of the host.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) limits: Limits,
    pub(crate) metering: Metering,
    pub(crate) now_ms: u64,
    pub(crate) log: Log,
    pub(crate) metrics: Metrics,
    pub(crate) kv: Arc<Kv>,
    memory_bytes: usize,
    deadline: Deadline,
}

/// How long a call may take, in processor time of its thread: time in which the thread did not
/// run is not the guest's. Asked only when a tick passes in the call, so quick calls pay nothing.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    ticks_max: u64,
    since: Option<Timespec>,
}

impl Deadline {
    fn passes(&mut self) -> bool {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        let since = *self.since.get_or_insert(now);
        let ms = (now.tv_sec - since.tv_sec) * 1_000 + (now.tv_nsec - since.tv_nsec) / 1_000_000;
        // Before the first look up to a tick has passed.
        1 + ms.unsigned_abs() >= self.ticks_max
    }
}

/// Why a guest does not get more memory.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum NoMemory {
    #[error("the plugin wants {wanted} bytes of memory, and may have {max}")]
    Memory { wanted: usize, max: usize },
    #[error("the plugin wants a table of {wanted} elements, and may have {max}")]
    Table { wanted: usize, max: usize },
}

impl ResourceLimiter for Guest {
    fn memory_growing(
        &mut self,
        _current: usize,
        wanted: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let max = self.limits.memory_bytes_max;
        if wanted > max {
            return Err(NoMemory::Memory { wanted, max }.into());
        }
        self.memory_bytes = self.memory_bytes.max(wanted);
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        wanted: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let max = self.limits.table_elements_max;
        if wanted > max {
            return Err(NoMemory::Table { wanted, max }.into());
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

/// How a plugin is bound to a subscription, topic or group: made once, shared by all who use it.
#[derive(Debug, PartialEq, Eq)]
pub struct Binding {
    expression: String,
    config: Vec<(String, String)>,
    hash: u64,
}

impl Binding {
    /// The expression of a subscription, empty for other points than filters, and the settings.
    #[must_use]
    pub fn new(expression: String, mut config: Vec<(String, String)>) -> Arc<Self> {
        config.sort();
        let mut hasher = Xxh3::new();
        (&expression, &config).hash(&mut hasher);
        Arc::new(Self { expression, config, hash: hasher.digest() })
    }

    /// The expression.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Names and values, in order of the names.
    #[must_use]
    pub fn config(&self) -> &Vec<(String, String)> {
        &self.config
    }

    /// Checks the settings against those that a plugin declares.
    ///
    /// # Errors
    /// A sentence for who set them.
    pub fn check(&self, manifest: &Manifest) -> Result<(), String> {
        manifest.check_config(self.config.iter().map(|(name, value)| (&name[..], &value[..])))
    }
}

impl Hash for Binding {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

/// A call that failed, and whether its messages may be to blame.
#[derive(Clone, Debug)]
pub(crate) enum Failed {
    /// There was no instance to ask, or it could not be opened: no message is to blame.
    Opening(Fault),
    /// It was asked.
    Answering(Fault),
}

impl Failed {
    pub(crate) fn fault(&self) -> &Fault {
        let (Self::Opening(fault) | Self::Answering(fault)) = self;
        fault
    }

    pub(crate) fn into_fault(self) -> Fault {
        let (Self::Opening(fault) | Self::Answering(fault)) = self;
        fault
    }
}

struct Predicate {
    resource: ResourceAny,
    used: u64,
}

/// An instance.
pub(crate) struct Instance {
    engine: Engine,
    compiled: Compiled,
    store: Store<Guest>,
    exports: Exports,
    predicates: HashMap<Arc<Binding>, Predicate>,
    /// Points that were opened with their settings, and what their frames must have.
    opened: BTreeMap<Point, View>,
    calls: u64,
}

impl Instance {
    /// Makes an instance.
    pub(crate) fn new(
        engine: &Engine,
        compiled: &Compiled,
        tenant: TenantId,
        plugin: PluginId,
        limits: &Limits,
        usage: &mut Usage,
    ) -> Result<Self, Failed> {
        let limits = limits.lowered(&compiled.manifest().limits);
        let guest = Guest {
            limits,
            metering: engine.metering(),
            now_ms: 0,
            log: Log::new(&limits),
            metrics: Metrics::default(),
            kv: engine.kv().open(tenant, plugin),
            memory_bytes: 0,
            deadline: Deadline { ticks_max: ticks(limits.open_ms_max), since: None },
        };
        let mut store = Store::new(engine.wasmtime(), guest);
        store.limiter(|guest| guest);
        store.set_hostcall_fuel(RESULT_BYTES_MAX);
        // A predicate is one handle for the guest's side and one for ours.
        store.set_max_component_handles(4 * PREDICATES_MAX);
        if engine.metering().has_epoch() {
            store.epoch_deadline_callback(|mut context| {
                let passed = context.data_mut().deadline.passes();
                Ok(if passed { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) })
            });
        }
        let started = Instant::now();
        let ticking = engine.begin_call();
        arm(&mut store, engine.metering(), limits.open_fuel, limits.open_ms_max);
        let made = bindings::instantiate(&mut store, compiled);
        drop(ticking);
        usage.instances += 1;
        usage.spent_ns += elapsed_ns(started);
        let exports = made.map_err(|error| Failed::Opening(fault(&mut store, &error)))?;
        Ok(Self {
            engine: engine.clone(),
            compiled: compiled.clone(),
            store,
            exports,
            predicates: HashMap::new(),
            opened: BTreeMap::new(),
            calls: 0,
        })
    }

    /// Asks the guest about so many messages, within limits.
    pub(crate) fn call<R>(
        &mut self,
        messages: u32,
        now_ms: u64,
        usage: &mut Usage,
        call: impl FnOnce(&mut Store<Guest>, &Exports) -> wasmtime::Result<R>,
    ) -> Result<R, Failed> {
        let limits = &self.store.data().limits;
        let (fuel, ms) = (limits.fuel(messages), limits.call_ms_max);
        self.metered(fuel, ms, now_ms, usage, call).map_err(Failed::Answering)
    }

    /// Has the guest prepare itself: that may take longer, and is no message's fault.
    pub(crate) fn prepare<R>(
        &mut self,
        now_ms: u64,
        usage: &mut Usage,
        call: impl FnOnce(&mut Store<Guest>, &Exports) -> wasmtime::Result<R>,
    ) -> Result<R, Failed> {
        let limits = &self.store.data().limits;
        let (fuel, ms) = (limits.open_fuel, limits.open_ms_max);
        self.metered(fuel, ms, now_ms, usage, call).map_err(Failed::Opening)
    }

    fn metered<R>(
        &mut self,
        fuel: u64,
        ms: u32,
        now_ms: u64,
        usage: &mut Usage,
        call: impl FnOnce(&mut Store<Guest>, &Exports) -> wasmtime::Result<R>,
    ) -> Result<R, Fault> {
        let metering = self.engine.metering();
        self.calls += 1;
        let guest = self.store.data_mut();
        guest.now_ms = now_ms;
        guest.log.begin_call(now_ms);
        let started = Instant::now();
        let ticking = self.engine.begin_call();
        arm(&mut self.store, metering, fuel, ms);
        let result = call(&mut self.store, &self.exports);
        drop(ticking);
        usage.calls += 1;
        usage.spent_ns += elapsed_ns(started);
        if metering.has_fuel() {
            let left = self.store.get_fuel().expect("an engine with fuel has fuel");
            usage.fuel += fuel.saturating_sub(left);
        }
        usage.memory_bytes = usage.memory_bytes.max(self.store.data().memory_bytes as u64);
        result.map_err(|error| fault(&mut self.store, &error))
    }

    /// The predicate of an expression, compiled by the guest when it is new.
    pub(crate) fn predicate(
        &mut self,
        binding: &Arc<Binding>,
        now_ms: u64,
        usage: &mut Usage,
    ) -> Result<ResourceAny, Failed> {
        if let Some(predicate) = self.predicates.get_mut(binding) {
            predicate.used = self.calls;
            return Ok(predicate.resource);
        }
        if self.predicates.len() == PREDICATES_MAX {
            self.drop_oldest_predicate(now_ms, usage)?;
        }
        self.check(binding)?;
        let made = self.prepare(now_ms, usage, |store, exports| exports.compile(store, binding))?;
        let resource = made.map_err(|says| refused(&says))?;
        let predicate = Predicate { resource, used: self.calls };
        self.predicates.insert(Arc::clone(binding), predicate);
        Ok(resource)
    }

    fn drop_oldest_predicate(&mut self, now_ms: u64, usage: &mut Usage) -> Result<(), Failed> {
        let oldest = self.predicates.iter().min_by_key(|(_, predicate)| predicate.used);
        let oldest = oldest.map(|(binding, _)| Arc::clone(binding));
        match oldest {
            Some(binding) => self.forget(&binding, now_ms, usage),
            None => Ok(()),
        }
    }

    /// Drops the predicate of an expression that nobody uses any more.
    pub(crate) fn forget(
        &mut self,
        binding: &Arc<Binding>,
        now_ms: u64,
        usage: &mut Usage,
    ) -> Result<(), Failed> {
        let Some(predicate) = self.predicates.remove(binding) else {
            return Ok(());
        };
        self.prepare(now_ms, usage, |store, _| predicate.resource.resource_drop(store))
    }

    /// What the frames of a subscription's expression must have.
    pub(crate) fn wanted(
        &mut self,
        expression: &Arc<Binding>,
        now_ms: u64,
        usage: &mut Usage,
    ) -> Result<View, Failed> {
        let predicate = self.predicate(expression, now_ms, usage)?;
        let needs =
            self.prepare(now_ms, usage, |store, exports| exports.needs(store, predicate))?;
        self.view(&needs)
    }

    /// Opens a point with its settings, once; what its frames must have.
    pub(crate) fn open(
        &mut self,
        point: Point,
        binding: &Binding,
        now_ms: u64,
        usage: &mut Usage,
    ) -> Result<View, Failed> {
        if let Some(view) = self.opened.get(&point) {
            return Ok(*view);
        }
        self.check(binding)?;
        let opened =
            self.prepare(now_ms, usage, |store, exports| exports.open(store, point, binding))?;
        let view = self.view(&opened.map_err(|says| refused(&says))?)?;
        self.opened.insert(point, view);
        Ok(view)
    }

    /// What its frames must have: the bytes of bodies that it asks for at run time, the properties
    /// that its manifest declares. Single properties that it asks for come with all others.
    fn view(&self, needs: &Needs) -> Result<View, Failed> {
        let manifest = self.compiled.manifest();
        match needs.columns.first() {
            Some(name) if manifest.properties == Shown::None => {
                let says = format!(
                    "it asks for the property `{name}`, and its manifest says that it reads none"
                );
                Err(Failed::Opening(Fault::new(FaultKind::BadAnswer, &says)))
            }
            _ => Ok(manifest.view(needs.body)),
        }
    }

    /// Keeps from the guest what its manifest does not declare.
    fn check(&self, binding: &Binding) -> Result<(), Failed> {
        binding.check(self.compiled.manifest()).map_err(|says| refused(&says))
    }

    /// Moves what the guest wrote and counted.
    pub(crate) fn take(&mut self, lines: &mut LogLines, metrics: &mut Metrics) {
        let guest = self.store.data_mut();
        guest.log.take(lines);
        metrics.append(&mut guest.metrics);
    }
}

fn arm(store: &mut Store<Guest>, metering: Metering, fuel: u64, ms: u32) {
    if metering.has_fuel() {
        store.set_fuel(fuel).expect("an engine with fuel takes fuel");
    }
    if metering.has_epoch() {
        store.data_mut().deadline = Deadline { ticks_max: ticks(ms), since: None };
        store.set_epoch_deadline(1);
    }
}

fn refused(says: &str) -> Failed {
    Failed::Opening(Fault::new(FaultKind::Refused, says))
}

fn elapsed_ns(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Says what a failed call was.
fn fault(store: &mut Store<Guest>, error: &wasmtime::Error) -> Fault {
    let said = store.data_mut().log.last_error();
    if let Some(fault) = error.downcast_ref::<Fault>() {
        return fault.clone();
    }
    if error.is::<NoMemory>() || error.is::<KvFull>() {
        return Fault::new(FaultKind::OutOfMemory, &format!("{}", error.root_cause()));
    }
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        return Fault::new(FaultKind::NoRoom, &error.to_string());
    }
    let Some(trap) = error.downcast_ref::<Trap>() else {
        // Not the guest's code but what it handed over: pointers, lengths, texts, handles.
        return Fault::new(FaultKind::BadAnswer, &format!("{error:#}"));
    };
    let kind = match trap {
        Trap::OutOfFuel => FaultKind::OutOfFuel,
        Trap::Interrupt => FaultKind::TimedOut,
        Trap::StackOverflow => FaultKind::StackOverflow,
        _ => FaultKind::Trapped,
    };
    let says = trap.to_string();
    Fault::new(kind, &said.map_or(says, |said| said))
}
