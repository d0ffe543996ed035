//! Code of its own for expressions in SQL that judge many messages.
//!
//! ```text
//!   policy workers: count what an expression judges ──► enough ──► thread: child process, cache
//!        ▲ the next batch                                                │ compiled
//!        └────── Directory: code in the place of the plugin ◄────────────┘
//! ```
//!
//! Nothing waits for it, and nothing depends on it: where there is no code, or it fails, the plugin
//! judges. How many there are is bounded, for each has an instance on each worker.
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use yard_wasm::limits::INSTANCES_MAX;
use yard_wasm::{
    Binding, Cache, Compiled, Compiler, Directory, Engine, Installed, Judging, Limits, PluginId,
    Source,
};
use yard_wire::TenantId;

use super::BINDINGS_MAX;
use super::journal::Journal;
use crate::hub::lock;
use crate::os::{self, Priority};

/// Expressions of one tenant that have code. With one instance each, they leave most of the
/// instances of a worker that a tenant may have to its plugins.
const OF_TENANT_MAX: usize = 8;
/// Of all instances of the process, one in so many may be code of expressions.
const INSTANCES_SHARE: usize = 4;
/// Compiled code that is kept on the disk, also when nobody uses it.
const KEPT_MAX: usize = 256;
/// Code that failed so often goes for good, where that is more than one fault in so many messages:
/// a fault costs a new instance, and judging the batch twice.
const FAULTS_MAX: u64 = 8;
const FAULT_MESSAGES: u64 = 100_000;
/// Code that nobody asked for so long gives way, in milliseconds.
const IDLE_MS: u64 = 600_000;
/// How often it is looked for.
const LOOK: Duration = Duration::from_secs(60);
/// Counts as never.
const NEVER: u64 = u64::MAX;

/// Whose expression it is.
type Of = (TenantId, Arc<Binding>);

/// What an expression of a tenant has judged.
pub(crate) struct Heat {
    of: Of,
    plugin: PluginId,
    orders: Sender<Order>,
    judged: AtomicU64,
    by_code: AtomicU64,
    /// Code is wanted when so many were judged.
    wants_at: AtomicU64,
    faults: AtomicU64,
    used_ms: AtomicU64,
}

impl Heat {
    fn new(of: Of, plugin: PluginId, orders: Sender<Order>, after: u64) -> Self {
        Self {
            of,
            plugin,
            orders,
            judged: AtomicU64::new(0),
            by_code: AtomicU64::new(0),
            wants_at: AtomicU64::new(after),
            faults: AtomicU64::new(0),
            used_ms: AtomicU64::new(crate::time::now().0),
        }
    }

    /// A batch of so many messages was judged.
    pub(crate) fn judged(self: &Arc<Self>, messages: u64, judging: &Judging) {
        self.used_ms.store(crate::time::now().0, Ordering::Relaxed);
        if judging.is_generated() {
            self.by_code.fetch_add(messages, Ordering::Relaxed);
        }
        if let Some(fault) = judging.generated_fault() {
            let faults = self.faults.fetch_add(1, Ordering::Relaxed) + 1;
            let by_code = self.by_code.load(Ordering::Relaxed);
            if faults >= FAULTS_MAX && faults * FAULT_MESSAGES > by_code {
                // Without its thread the process ends.
                let _ = self.orders.send(Order::Withdraw(Arc::clone(self), fault.to_string()));
            }
        }
        let judged = self.judged.fetch_add(messages, Ordering::Relaxed) + messages;
        self.want(judged);
    }

    /// Asks for code, once so many messages were judged.
    fn want(self: &Arc<Self>, judged: u64) {
        let is_enough = judged >= self.wants_at.load(Ordering::Relaxed);
        if is_enough && self.wants_at.swap(NEVER, Ordering::Relaxed) != NEVER {
            let _ = self.orders.send(Order::Make(Arc::clone(self)));
        }
    }

    fn used_ms(&self) -> u64 {
        self.used_ms.load(Ordering::Relaxed)
    }
}

enum Order {
    Make(Arc<Heat>),
    Withdraw(Arc<Heat>, String),
    Close,
}

/// What making code takes.
pub(crate) struct Making {
    pub(crate) engine: Engine,
    pub(crate) compiler: Compiler,
    pub(crate) directory: Arc<Directory>,
    pub(crate) journal: Arc<Journal>,
    /// Messages after which code is made; none: never.
    pub(crate) after: Option<u64>,
    /// Threads that run plugins.
    pub(crate) workers: usize,
}

/// Makes code of expressions, on a thread of its own.
pub(crate) struct Generator {
    after: Option<u64>,
    orders: Sender<Order>,
    known: Mutex<HashMap<Of, Arc<Heat>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Generator {
    /// Starts the thread; compiled code is kept in a folder.
    ///
    /// # Errors
    /// When the system gives no thread, or the folder cannot be used.
    pub(crate) fn start(making: Making, folder: &Path) -> std::io::Result<Self> {
        let (orders, from) = channel();
        let (after, cache) = (making.after, Cache::open(folder)?);
        let all_max = INSTANCES_MAX as usize / INSTANCES_SHARE / making.workers.max(1);
        let mut maker = Maker { making, cache, all_max: all_max.max(1), made: BTreeMap::new() };
        let run = move || maker.run(&from);
        let thread = os::spawn("sql-generator".to_owned(), Priority::Policy, run)?;
        let (known, thread) = (Mutex::default(), Mutex::new(Some(thread)));
        Ok(Self { after, orders, known, thread })
    }

    /// What an expression of the dialect `sql` has judged for a tenant; none where no code is made.
    pub(crate) fn heat(
        &self,
        tenant: TenantId,
        plugin: PluginId,
        expression: &Arc<Binding>,
    ) -> Option<Arc<Heat>> {
        let after = self.after?;
        let of = (tenant, Arc::clone(expression));
        let mut known = lock(&self.known);
        if let Some(heat) = known.get(&of) {
            return Some(Arc::clone(heat));
        }
        if known.len() >= BINDINGS_MAX {
            // Those that have code are known to the thread that made it.
            known.clear();
        }
        let heat = Arc::new(Heat::new(of.clone(), plugin, self.orders.clone(), after));
        known.insert(of, Arc::clone(&heat));
        heat.want(0);
        Some(heat)
    }

    /// How many messages an expression has judged, and how many of them by code of its own.
    pub(crate) fn counts(&self, tenant: TenantId, expression: &Arc<Binding>) -> Option<(u64, u64)> {
        let known = lock(&self.known);
        let heat = known.get(&(tenant, Arc::clone(expression)))?;
        Some((heat.judged.load(Ordering::Relaxed), heat.by_code.load(Ordering::Relaxed)))
    }

    /// Ends the thread.
    pub(crate) fn close(&self) {
        let _ = self.orders.send(Order::Close);
        let thread = lock(&self.thread).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the generator of filters panicked");
        }
    }
}

struct Maker {
    making: Making,
    cache: Cache,
    all_max: usize,
    /// What has code, by when it was made.
    made: BTreeMap<u64, Arc<Heat>>,
}

impl Maker {
    fn run(&mut self, orders: &Receiver<Order>) {
        loop {
            match orders.recv_timeout(LOOK) {
                Ok(Order::Make(heat)) => self.make(&heat),
                Ok(Order::Withdraw(heat, why)) => {
                    if self.remove(&heat) {
                        self.say(&heat, &format!("failed too often and is gone: {why}"));
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.give_way(),
                Ok(Order::Close) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Makes code of an expression, and has it judge from the next batch on.
    fn make(&mut self, heat: &Arc<Heat>) {
        if self.is_full(heat) {
            self.give_way();
        }
        if self.is_full(heat) {
            return self.later(heat);
        }
        let (_, table) = self.making.directory.table();
        let rollout = table.plugins.get(&heat.plugin);
        let Some(active) = rollout.and_then(|rollout| rollout.active.clone()) else {
            return self.later(heat);
        };
        let (tenant, expression) = &heat.of;
        let source = Source::new(expression.expression());
        let accepted = source.accepted(&Limits::DEFAULT);
        let Making { engine, compiler, directory, .. } = &self.making;
        let cache = &self.cache;
        let made = Compiled::prepare(engine, cache, compiler, &accepted, source.bytes());
        let compiled = match made {
            Ok((compiled, _)) => compiled,
            Err(error) => return self.say(heat, &format!("cannot be made: {error}")),
        };
        let code = Installed::generated(heat.plugin, active.version(), compiled, expression);
        directory.publish(|table| {
            table.generated.insert((*tenant, Arc::clone(expression)), code);
        });
        self.made.retain(|_, it| it.of != heat.of);
        let number = self.made.last_key_value().map_or(0, |(last, _)| last + 1);
        self.made.insert(number, Arc::clone(heat));
        self.say(heat, "judges from now on");
        if let Err(error) = self.cache.keep_newest(KEPT_MAX) {
            tracing::warn!(%error, "generated code cannot be removed");
        }
    }

    fn is_full(&self, heat: &Heat) -> bool {
        let of_tenant = self.made.values().filter(|it| it.of.0 == heat.of.0).count();
        of_tenant >= OF_TENANT_MAX || self.made.len() >= self.all_max
    }

    /// It may have code when it has judged as much again.
    fn later(&self, heat: &Heat) {
        let judged = heat.judged.load(Ordering::Relaxed);
        let after = self.making.after.unwrap_or(NEVER).max(judged).max(1);
        heat.wants_at.store(judged.saturating_add(after), Ordering::Relaxed);
    }

    /// Removes what nobody has asked for long.
    fn give_way(&mut self) {
        let since_ms = crate::time::now().0.saturating_sub(IDLE_MS);
        let idle = self.made.values().filter(|heat| heat.used_ms() < since_ms);
        let idle: Vec<Arc<Heat>> = idle.cloned().collect();
        for heat in idle {
            self.remove(&heat);
            self.later(&heat);
            self.say(&heat, "was not needed for long and is gone");
        }
    }

    fn remove(&mut self, heat: &Arc<Heat>) -> bool {
        let before = self.made.len();
        self.made.retain(|_, it| it.of != heat.of);
        self.making.directory.publish(|table| {
            table.generated.remove(&heat.of);
        });
        self.made.len() < before
    }

    /// Writes down what became of an expression's code.
    fn say(&self, heat: &Heat, what: &str) {
        let (tenant, expression) = &heat.of;
        let text = format!("code for `{}` {what}", expression.expression());
        tracing::info!(tenant = tenant.0, %text, "generated filter");
        let whose = (*tenant, yard_wire::expression::SQL_PLUGIN.to_owned());
        self.making.journal.say(&whose, crate::time::now(), 0, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_wanted_once_when_enough_was_judged() {
        let (orders, from) = channel();
        let of = (TenantId(1), Binding::new("a = 1".to_owned(), Vec::new()));
        let heat = Arc::new(Heat::new(of, PluginId(1), orders, 1_000));
        let wanted = |messages: u64| {
            heat.judged(messages, &Judging::default());
            from.try_iter().filter(|order| matches!(order, Order::Make(_))).count()
        };
        assert_eq!([wanted(999), wanted(1), wanted(1_000), wanted(5_000)], [0, 1, 0, 0]);
        // As after an answer that there is no room now.
        heat.wants_at.store(8_000, Ordering::Relaxed);
        assert_eq!([wanted(999), wanted(1), wanted(1)], [0, 1, 0]);
        assert_eq!(heat.by_code.load(Ordering::Relaxed), 0, "the plugin has judged all of it");
    }
}
