//! The one engine of a process: how guests are compiled, stopped, and given memory.
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, OperatorCost, OptLevel, PoolingAllocationConfig,
    Strategy, WasmBacktraceDetails,
};
use xxhash_rust::xxh3::Xxh3;

use crate::cache::ArtefactName;
use crate::capability::KvStores;
use crate::limits::{
    CORE_INSTANCES_MAX, INSTANCES_MAX, Limits, MEMORIES_MAX, STACK_BYTES, TABLES_MAX,
};
use crate::signature::PluginHash;
use crate::ticker::{TICK_MS, Ticker, Ticking};

/// Addresses reserved for each memory, so that its bounds need no checks in the code.
const RESERVED_BYTES: u64 = 4 << 30;
/// Addresses behind it that nobody may touch.
const GUARD_BYTES: u64 = 32 << 20;
/// Bytes of a memory that stay when an instance goes, zeroed, for the next.
const MEMORY_KEPT_BYTES: usize = 256 << 10;
/// The same for tables.
const TABLE_KEPT_BYTES: usize = 64 << 10;
/// What a page of new memory costs in fuel, and an element of a new table; free unless said.
const PAGE_FUEL: u8 = u8::MAX;
const ELEMENT_FUEL: u8 = 1;

/// How calls are bounded. Production uses [`Metering::Both`]; the others are there to measure
/// what that costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metering {
    /// Not at all: for trusted code only.
    Unlimited,
    /// By time.
    Epoch,
    /// By work.
    Fuel,
    /// By both.
    Both,
}

impl Metering {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Unlimited, Self::Epoch, Self::Fuel, Self::Both];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unlimited => "none",
            Self::Epoch => "epoch",
            Self::Fuel => "fuel",
            Self::Both => "both",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    pub(crate) fn has_epoch(self) -> bool {
        matches!(self, Self::Epoch | Self::Both)
    }

    pub(crate) fn has_fuel(self) -> bool {
        matches!(self, Self::Fuel | Self::Both)
    }
}

/// Where instances get their memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// From addresses that were reserved at the start: the usual.
    Reserved,
    /// From the system for each: where addresses are short.
    OnDemand,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The processor or the system lacks something.
    #[error("the plugin engine cannot run here: {0}")]
    Unsupported(String),
    /// The thread of the epoch did not start.
    #[error("the plugin engine's ticker did not start: {0}")]
    Ticker(std::io::Error),
}

struct Shared {
    engine: wasmtime::Engine,
    metering: Metering,
    pool: Pool,
    /// Says which artefacts are for this engine.
    name: u64,
    ticker: Option<Ticker>,
    kv: KvStores,
}

/// An engine. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { metering, pool, name, .. } = &*self.shared;
        write!(out, "Engine({name:016x}, {metering:?}, {pool:?})")
    }
}

impl Engine {
    /// Starts an engine. Where the system refuses the addresses for a pool, instances get their
    /// memory one by one.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn new(metering: Metering) -> Result<Self, EngineError> {
        Self::with_ticker(metering, || {})
    }

    /// The same. `begin` runs first on the thread that ends calls which take too long: where a
    /// machine is busy it must run before what it ends, so the host may give it a priority.
    ///
    /// # Errors
    /// [`EngineError`].
    pub fn with_ticker(
        metering: Metering,
        begin: impl FnOnce() + Send + 'static,
    ) -> Result<Self, EngineError> {
        let pooled = wasmtime::Engine::new(&config(metering, Pool::Reserved));
        let (engine, pool) = match pooled {
            Ok(engine) => (Ok(engine), Pool::Reserved),
            Err(_) => (wasmtime::Engine::new(&config(metering, Pool::OnDemand)), Pool::OnDemand),
        };
        let engine = engine.map_err(unsupported)?;
        let ticker = metering.has_epoch().then(|| {
            // The thread must not keep the engine: it ends with the last who has it.
            let weak = engine.weak();
            Ticker::start(begin, move || {
                if let Some(engine) = weak.upgrade() {
                    engine.increment_epoch();
                }
            })
        });
        let ticker = ticker.transpose().map_err(EngineError::Ticker)?;
        let mut hasher = Xxh3::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let name = hasher.digest();
        let kv = KvStores::default();
        let shared = Shared { engine, metering, pool, name, ticker, kv };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// How calls are bounded.
    #[must_use]
    pub fn metering(&self) -> Metering {
        self.shared.metering
    }

    /// Where instances get their memory.
    #[must_use]
    pub fn pool(&self) -> Pool {
        self.shared.pool
    }

    /// The state that plugins keep with the host.
    #[must_use]
    pub fn kv(&self) -> &KvStores {
        &self.shared.kv
    }

    /// What an artefact of this plugin for this engine is called.
    #[must_use]
    pub fn artefact(&self, hash: PluginHash) -> ArtefactName {
        ArtefactName { hash, engine: self.shared.name }
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.shared.engine
    }

    /// A call begins; its deadlines pass until what is returned is dropped.
    pub(crate) fn begin_call(&self) -> Option<Ticking<'_>> {
        self.shared.ticker.as_ref().map(Ticker::begin_call)
    }

    /// Compiles a component for engines with this metering: the work of the child process.
    pub(crate) fn precompile(component: &[u8], metering: Metering) -> Result<Vec<u8>, String> {
        // It runs nothing, and reserves nothing: its address space is small.
        let engine = wasmtime::Engine::new(&config(metering, Pool::OnDemand));
        let engine = engine.map_err(|error| format!("{error:#}"))?;
        engine.precompile_component(component).map_err(|error| format!("{error:#}"))
    }
}

fn unsupported(error: wasmtime::Error) -> EngineError {
    EngineError::Unsupported(format!("{error:#}"))
}

/// The settings of an engine. All that artefacts depend on follows from `metering`.
fn config(metering: Metering, pool: Pool) -> Config {
    let mut cost = OperatorCost::new();
    cost.variable.memory_grow_per_page = PAGE_FUEL;
    cost.variable.table_grow_per_element = ELEMENT_FUEL;
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(metering.has_epoch())
        .consume_fuel(metering.has_fuel())
        .operator_cost(cost)
        .concurrency_support(false)
        .wasm_backtrace_max_frames(None)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .max_wasm_stack(STACK_BYTES)
        .memory_reservation(RESERVED_BYTES)
        .memory_guard_size(GUARD_BYTES)
        .guard_before_linear_memory(true)
        .wasm_component_model(true)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_relaxed_simd(false)
        .wasm_tail_call(false)
        .wasm_simd(true)
        .wasm_bulk_memory(true);
    if pool == Pool::Reserved {
        let mut pooling = PoolingAllocationConfig::default();
        pooling
            .total_memories(INSTANCES_MAX)
            .total_tables(INSTANCES_MAX * TABLES_MAX as u32)
            .total_core_instances(INSTANCES_MAX * CORE_INSTANCES_MAX as u32)
            .total_component_instances(INSTANCES_MAX)
            .max_core_instances_per_component(CORE_INSTANCES_MAX as u32)
            .max_memories_per_component(MEMORIES_MAX as u32)
            .max_tables_per_component(TABLES_MAX as u32)
            .max_memory_size(Limits::MAX.memory_bytes_max)
            .table_elements(Limits::MAX.table_elements_max)
            .linear_memory_keep_resident(MEMORY_KEPT_BYTES)
            .table_keep_resident(TABLE_KEPT_BYTES)
            .pagemap_scan(Enabled::Auto);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling));
    }
    config
}

/// Milliseconds of processor time, in ticks of the epoch.
pub(crate) const fn ticks(ms: u32) -> u64 {
    (ms as u64).div_ceil(TICK_MS)
}
