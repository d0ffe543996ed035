//! What a tenant's plugins may use, each with its default and the most that a tenant can get.
//!
//! Source of the figures: measured; the honest worst case fits ten times.
use yard_abi::manifest;

/// Bytes of host state behind which a plugin cannot grow: instances of core modules in one
/// component. What wit-component makes has three.
pub const CORE_INSTANCES_MAX: usize = 8;
/// Tables of one instance: the plugin's own, and one of the adapters of wit-component.
pub const TABLES_MAX: usize = 4;
/// Memories of one instance.
pub const MEMORIES_MAX: usize = 1;
/// Live instances of one process; each has 4 GiB of addresses reserved.
pub const INSTANCES_MAX: u32 = 1_000;
/// Bytes of the stack of a guest.
pub const STACK_BYTES: usize = 256 << 10;
/// Predicates that one instance keeps; of more, the one unused for longest is compiled anew.
pub const PREDICATES_MAX: usize = 4_096;
/// Bytes of an expression of a subscription.
pub const EXPRESSION_BYTES_MAX: usize = 16 << 10;
/// Bytes that a guest may hand to the host in one call, in lists and texts.
pub const RESULT_BYTES_MAX: usize = 2 << 20;
/// Lines of all plugins that a worker keeps until somebody takes them.
pub const LOG_LINES_KEPT_MAX: usize = 1_000;
/// Metrics of one plugin.
pub const METRICS_MAX: usize = 64;
/// Bytes of the name of a metric.
pub const METRIC_NAME_BYTES_MAX: usize = 64;

/// The limits of a tenant's plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the wasm that is uploaded.
    pub wasm_bytes_max: u64,
    /// Bytes of the artefact that is made of it.
    pub compiled_bytes_max: u64,
    /// Processor time for compiling, seconds.
    pub compile_cpu_s_max: u64,
    /// Memory for compiling, bytes of address space.
    pub compile_memory_bytes_max: u64,
    /// Bytes of an instance's memory.
    pub memory_bytes_max: usize,
    /// Elements of a table.
    pub table_elements_max: usize,
    /// Fuel of a call, whatever it is about.
    pub call_fuel: u64,
    /// Fuel of a call for each of its messages, besides.
    pub message_fuel: u64,
    /// Processor time of a call, milliseconds.
    pub call_ms_max: u32,
    /// Fuel for opening a plugin or compiling a predicate.
    pub open_fuel: u64,
    /// Processor time for that, milliseconds.
    pub open_ms_max: u32,
    /// Bytes of a line of the log; the rest of a longer one is cut.
    pub log_line_bytes_max: usize,
    /// Lines of the log a second; more are only counted.
    pub log_lines_per_s_max: u32,
    /// Keys of a plugin's `kv`.
    pub kv_keys_max: usize,
    /// Bytes of a plugin's `kv`, keys and 64 of overhead each.
    pub kv_bytes_max: usize,
    /// For so long a key of `kv` may stay, milliseconds.
    pub kv_ttl_ms_max: u64,
    /// Instances that a tenant has on one worker.
    pub instances_max: usize,
    /// Fuel a second on one worker; over that, the tenant's batches wait.
    pub fuel_per_s: u64,
}

/// Fuel that a processor burns in a second of ordinary code: 12 to 15 units take a nanosecond.
const FUEL_PER_PROCESSOR_S: u64 = 12_000_000_000;

impl Limits {
    /// What a tenant has unless its operator says otherwise.
    pub const DEFAULT: Self = Self {
        wasm_bytes_max: 4 << 20,
        compiled_bytes_max: 32 << 20,
        compile_cpu_s_max: 10,
        compile_memory_bytes_max: 512 << 20,
        memory_bytes_max: 4 << 20,
        table_elements_max: 10_000,
        call_fuel: 1_000_000,
        message_fuel: 20_000,
        call_ms_max: 2,
        open_fuel: 50_000_000,
        open_ms_max: 10,
        log_line_bytes_max: 1 << 10,
        log_lines_per_s_max: 100,
        kv_keys_max: 10_000,
        kv_bytes_max: 4 << 20,
        kv_ttl_ms_max: 7 * 24 * 3_600_000,
        instances_max: 32,
        fuel_per_s: FUEL_PER_PROCESSOR_S * 3 / 10,
    };

    /// The most that a tenant can get: what engines of other languages in wasm need.
    pub const MAX: Self = Self {
        wasm_bytes_max: 24 << 20,
        compiled_bytes_max: 64 << 20,
        compile_cpu_s_max: 30,
        compile_memory_bytes_max: 2 << 30,
        memory_bytes_max: 32 << 20,
        table_elements_max: 20_000,
        call_fuel: 10_000_000,
        message_fuel: 100_000,
        call_ms_max: 10,
        open_fuel: 500_000_000,
        open_ms_max: 100,
        log_line_bytes_max: 4 << 10,
        log_lines_per_s_max: 1_000,
        kv_keys_max: 1_000_000,
        kv_bytes_max: 64 << 20,
        kv_ttl_ms_max: 30 * 24 * 3_600_000,
        instances_max: 256,
        fuel_per_s: FUEL_PER_PROCESSOR_S,
    };

    /// These limits, none above [`Limits::MAX`].
    #[must_use]
    pub fn bounded(&self) -> Self {
        let Self { wasm_bytes_max, compiled_bytes_max, compile_cpu_s_max, .. } = *self;
        let max = Self::MAX;
        Self {
            wasm_bytes_max: wasm_bytes_max.min(max.wasm_bytes_max),
            compiled_bytes_max: compiled_bytes_max.min(max.compiled_bytes_max),
            compile_cpu_s_max: compile_cpu_s_max.min(max.compile_cpu_s_max),
            compile_memory_bytes_max: self
                .compile_memory_bytes_max
                .min(max.compile_memory_bytes_max),
            memory_bytes_max: self.memory_bytes_max.min(max.memory_bytes_max),
            table_elements_max: self.table_elements_max.min(max.table_elements_max),
            call_fuel: self.call_fuel.min(max.call_fuel),
            message_fuel: self.message_fuel.min(max.message_fuel),
            call_ms_max: self.call_ms_max.clamp(1, max.call_ms_max),
            open_fuel: self.open_fuel.min(max.open_fuel),
            open_ms_max: self.open_ms_max.clamp(1, max.open_ms_max),
            log_line_bytes_max: self.log_line_bytes_max.min(max.log_line_bytes_max),
            log_lines_per_s_max: self.log_lines_per_s_max.min(max.log_lines_per_s_max),
            kv_keys_max: self.kv_keys_max.min(max.kv_keys_max),
            kv_bytes_max: self.kv_bytes_max.min(max.kv_bytes_max),
            kv_ttl_ms_max: self.kv_ttl_ms_max.min(max.kv_ttl_ms_max),
            instances_max: self.instances_max.clamp(1, max.instances_max),
            fuel_per_s: self.fuel_per_s.min(max.fuel_per_s),
        }
    }

    /// The limits of a plugin that asks for some in its manifest: what it asks for, or what there
    /// is where that is less.
    #[must_use]
    pub fn lowered(&self, asked: &manifest::Limits) -> Self {
        let limits = self.bounded();
        let memory = asked.memory_bytes.map_or(usize::MAX, |it| it as usize);
        let message_fuel = asked.fuel_per_message.unwrap_or(u64::MAX);
        Self {
            memory_bytes_max: memory.min(limits.memory_bytes_max),
            message_fuel: message_fuel.min(limits.message_fuel),
            call_ms_max: asked.call_ms.unwrap_or(u32::MAX).clamp(1, limits.call_ms_max),
            ..limits
        }
    }

    /// As [`Limits::lowered`], for who wants to know that there is less.
    ///
    /// # Errors
    /// What is asked for too much of.
    pub fn of_plugin(&self, asked: &manifest::Limits) -> Result<Self, TooMuch> {
        let limits = self.bounded();
        let asks = [
            ("memory_bytes", asked.memory_bytes.map(u64::from), limits.memory_bytes_max as u64),
            ("fuel_per_message", asked.fuel_per_message, limits.message_fuel),
            ("call_ms", asked.call_ms.map(u64::from), u64::from(limits.call_ms_max)),
        ];
        for (what, asked, max) in asks {
            if let Some(asked) = asked.filter(|it| *it > max) {
                return Err(TooMuch { what, asked, max });
            }
        }
        Ok(limits.lowered(asked))
    }

    /// Fuel of a call about so many messages.
    #[must_use]
    pub fn fuel(&self, messages: u32) -> u64 {
        self.call_fuel + self.message_fuel * u64::from(messages)
    }
}

/// A plugin asks for more than its tenant has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the manifest asks for {asked} {what}; the tenant has {max}")]
pub struct TooMuch {
    /// Name of the limit in the manifest.
    pub what: &'static str,
    /// What is asked.
    pub asked: u64,
    /// What there is.
    pub max: u64,
}

/// A tenant's share of a worker's time, in fuel: what was burnt beyond it is waited for.
///
/// ```text
///   level ──── take(fuel) ───► may go below 0: the next batch waits until it is 0 again
///     ▲ refilled with `per_s`, up to what a tenth of a second burns
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FuelBucket {
    per_s: u64,
    level: i64,
    filled_ms: u64,
}

/// A bucket holds what so long a time fills.
const BUCKET_MS: u64 = 100;

impl FuelBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(per_s: u64, now_ms: u64) -> Self {
        let per_s = per_s.clamp(1, Limits::MAX.fuel_per_s);
        Self { per_s, level: Self::size(per_s), filled_ms: now_ms }
    }

    /// From now on it fills so fast; what was burnt stays burnt.
    pub fn set_per_s(&mut self, per_s: u64) {
        self.per_s = per_s.clamp(1, Limits::MAX.fuel_per_s);
        self.level = self.level.min(Self::size(self.per_s));
    }

    /// Milliseconds until the tenant may run; 0 means now.
    pub fn wait_ms(&mut self, now_ms: u64) -> u64 {
        let passed_ms = now_ms.saturating_sub(self.filled_ms).min(60_000);
        let filled = i64::try_from(self.per_s * passed_ms / 1_000).unwrap_or(i64::MAX);
        self.level = self.level.saturating_add(filled).min(Self::size(self.per_s));
        self.filled_ms = self.filled_ms.max(now_ms);
        match self.level {
            0.. => 0,
            below => (below.unsigned_abs() * 1_000).div_ceil(self.per_s),
        }
    }

    /// Takes what a call has burnt.
    pub fn take(&mut self, fuel: u64) {
        self.level = self.level.saturating_sub_unsigned(fuel);
    }

    fn size(per_s: u64) -> i64 {
        i64::try_from(per_s * BUCKET_MS / 1_000).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_within_what_a_tenant_can_get() {
        assert_eq!(Limits::DEFAULT.bounded(), Limits::DEFAULT);
        assert_eq!(Limits::MAX.bounded(), Limits::MAX);
        let greedy = Limits { memory_bytes_max: usize::MAX, call_ms_max: 0, ..Limits::DEFAULT };
        let bounded = greedy.bounded();
        assert_eq!(bounded.memory_bytes_max, Limits::MAX.memory_bytes_max);
        assert_eq!(bounded.call_ms_max, 1);
    }

    #[test]
    fn a_manifest_may_ask_for_less() {
        let ask = |memory: u32| manifest::Limits {
            memory_bytes: Some(memory),
            ..manifest::Limits::default()
        };
        let limits = Limits::DEFAULT.of_plugin(&ask(65_536)).unwrap();
        assert_eq!(limits.memory_bytes_max, 65_536);
        let error = Limits::DEFAULT.of_plugin(&ask(5 << 20)).unwrap_err();
        let says = "the manifest asks for 5242880 memory_bytes; the tenant has 4194304";
        assert_eq!(error.to_string(), says);
    }

    #[test]
    fn a_tenant_over_its_share_waits_for_what_it_burnt() {
        let mut bucket = FuelBucket::new(1_000_000, 0);
        assert_eq!(bucket.wait_ms(0), 0);
        bucket.take(100_000);
        assert_eq!(bucket.wait_ms(0), 0);
        bucket.take(50_000);
        assert_eq!(bucket.wait_ms(0), 50);
        assert_eq!(bucket.wait_ms(49), 1);
        assert_eq!(bucket.wait_ms(50), 0);
        bucket.take(1);
        assert_eq!(bucket.wait_ms(1_000_000), 0);
        bucket.take(100_001);
        assert_eq!(bucket.wait_ms(1_000_000), 1, "idle time is not saved up");
    }
}
