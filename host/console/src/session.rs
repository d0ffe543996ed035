//! What the functions of a run share: the way to the broker, how to wait for it, what they may
//! use, and where output goes.
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use rhai::{AST, Dynamic, Engine, FnPtr, FuncArgs};
use tokio::runtime::Handle;
use yard_client::{Client, Code, Error};

use crate::fault::{Fault, Result};
use crate::journal::Journal;
use crate::limits::Limits;
use crate::show::Format;
use crate::stop::Stop;

/// A connection that is being made.
pub type Connecting = Pin<Box<dyn Future<Output = std::result::Result<Client, Fault>> + Send>>;

/// What the console asks of the program around it.
pub trait Surroundings: Send + Sync {
    /// Connects with a saved context, or with the one that the program was started with.
    fn connect(&self, context: Option<&str>) -> Connecting;

    /// The name of the context and its tenant, for people.
    ///
    /// # Errors
    /// When there is no such context, or it cannot be used.
    fn place(&self, context: Option<&str>) -> std::result::Result<Place, Fault>;

    /// The names of the saved contexts.
    fn contexts(&self) -> Vec<String>;

    /// Shows a text. An error ends the run.
    ///
    /// # Errors
    /// What the system says, for example that nobody reads any more.
    fn print(&self, text: &str) -> std::io::Result<()>;

    /// Asks the user; `None` where there is nobody to ask, or no answer.
    fn ask(&self, question: &str) -> Option<String>;
}

/// Where a console is connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Name of the context.
    pub context: String,
    /// Name of the tenant.
    pub tenant: String,
}

/// Whether plans are applied, and who is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Safety {
    /// Plans are shown and not applied.
    pub dry: bool,
    /// A plan may remove more than one thing.
    pub removes_many: bool,
    /// Each plan must be confirmed by the user.
    pub confirms: bool,
}

/// The connection, and which context it is of.
#[derive(Default)]
struct Way {
    /// The chosen context; that of the program where none was chosen.
    context: Option<String>,
    client: Option<Client>,
}

pub(crate) struct Session {
    pub(crate) limits: Limits,
    pub(crate) format: Format,
    /// Whether tables are as wide as a terminal.
    pub(crate) terminal: bool,
    pub(crate) journal: Option<Journal>,
    pub(crate) stop: Stop,
    pub(crate) surroundings: Box<dyn Surroundings>,
    runtime: Handle,
    way: Mutex<Way>,
    connecting: tokio::sync::Mutex<()>,
    safety: Mutex<Safety>,
    script: Mutex<String>,
    engine: RwLock<Weak<Engine>>,
    /// The functions of the run, those of earlier lines among them: closures are found there.
    functions: RwLock<Arc<AST>>,
    operations: AtomicU64,
    closure_level: AtomicUsize,
    has_failures: AtomicBool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// What a session is made of.
pub(crate) struct Parts {
    pub(crate) limits: Limits,
    pub(crate) format: Format,
    pub(crate) terminal: bool,
    pub(crate) journal: Option<Journal>,
    pub(crate) safety: Safety,
    pub(crate) runtime: Handle,
    pub(crate) surroundings: Box<dyn Surroundings>,
}

impl Session {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            limits: parts.limits,
            format: parts.format,
            terminal: parts.terminal,
            journal: parts.journal,
            stop: Stop::default(),
            surroundings: parts.surroundings,
            runtime: parts.runtime,
            way: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            safety: Mutex::new(parts.safety),
            script: Mutex::default(),
            engine: RwLock::default(),
            functions: RwLock::default(),
            operations: AtomicU64::new(0),
            closure_level: AtomicUsize::new(0),
            has_failures: AtomicBool::new(false),
        }
    }

    /// The engine exists once, and after the session that its functions hold.
    pub(crate) fn set_engine(&self, engine: &Arc<Engine>) {
        *self.engine.write().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(engine);
    }

    pub(crate) fn begin(&self, script: &str, functions: Arc<AST>) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = script.to_owned();
        *self.functions.write().unwrap_or_else(PoisonError::into_inner) = functions;
        self.operations.store(0, Ordering::Relaxed);
        self.closure_level.store(0, Ordering::Relaxed);
        self.has_failures.store(false, Ordering::Relaxed);
    }

    /// The exact text of what runs.
    pub(crate) fn script(&self) -> String {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn safety(&self) -> Safety {
        *self.safety.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_dry(&self, dry: bool) {
        self.safety.lock().unwrap_or_else(PoisonError::into_inner).dry = dry;
    }

    /// Remembers that a part of what was asked for was not done.
    pub(crate) fn note_failure(&self) {
        self.has_failures.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_failures(&self) -> bool {
        self.has_failures.load(Ordering::Relaxed)
    }

    /// Counts one operation of the engine; what ends the run, if anything does.
    pub(crate) fn operation(&self) -> Option<Fault> {
        if self.stop.is_set() {
            return Some(Fault::interrupted());
        }
        // One thread counts at a time, and two that did would only miscount.
        let operations = self.operations.load(Ordering::Relaxed) + 1;
        self.operations.store(operations, Ordering::Relaxed);
        let max = self.limits.operations;
        (operations > max).then(|| {
            Fault::new(Code::ScriptLimit, format!("the script took more than {max} operations"))
        })
    }

    /// Ends a run that was told to: for loops that are not the script's own.
    pub(crate) fn check(&self) -> Result<()> {
        if self.stop.is_set() { Err(Fault::interrupted().into()) } else { Ok(()) }
    }

    /// Waits for something, or for the end of the run.
    pub(crate) fn wait<T>(&self, waited_for: impl Future<Output = T>) -> Result<T> {
        self.check()?;
        let token = self.stop.token();
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = token.cancelled() => Err(Fault::interrupted().into()),
                found = waited_for => Ok(found),
            }
        })
    }

    /// Waits for a time, or for the end of the run.
    pub(crate) fn pause(&self, pause: Duration) -> Result<()> {
        // A timer belongs to the runtime in which it is made.
        self.wait(async { tokio::time::sleep(pause).await })
    }

    /// Waits for an answer of the broker.
    pub(crate) fn ask<T>(
        &self,
        asked: impl Future<Output = std::result::Result<T, Error>>,
    ) -> Result<T> {
        self.wait(asked)?.map_err(|error| Fault::from(error).into())
    }

    /// Carries something through that must not be cut short: its own timeout ends it.
    pub(crate) fn finish<T>(&self, waited_for: impl Future<Output = T>) -> T {
        self.runtime.block_on(waited_for)
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The client, connected at the first use.
    pub(crate) fn client(&self) -> Result<Client> {
        if let Some(client) = self.connected() {
            return Ok(client);
        }
        let client = self.wait(async {
            // Who completes names connects as well: one of them does it.
            let _one = self.connecting.lock().await;
            if let Some(client) = self.connected() {
                return Ok(client);
            }
            let context = self.with_way(|way| way.context.clone());
            let client = self.surroundings.connect(context.as_deref()).await?;
            self.with_way(|way| way.client = Some(client.clone()));
            Ok::<_, Fault>(client)
        })?;
        Ok(client?)
    }

    /// The client, where there is one already.
    pub(crate) fn connected(&self) -> Option<Client> {
        self.with_way(|way| way.client.clone())
    }

    /// Leaves the broker; the next use connects with `context`.
    pub(crate) fn choose(&self, context: Option<String>) -> Option<Client> {
        self.with_way(|way| {
            way.context = context;
            way.client.take()
        })
    }

    pub(crate) fn place(&self) -> Place {
        let context = self.with_way(|way| way.context.clone());
        self.surroundings.place(context.as_deref()).unwrap_or_default()
    }

    fn with_way<T>(&self, look: impl FnOnce(&mut Way) -> T) -> T {
        look(&mut self.way.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows a text; a reader who has gone ends the run.
    pub(crate) fn print(&self, text: &str) -> Result<()> {
        self.surroundings.print(text).map_err(|error| {
            let gone = error.kind() == std::io::ErrorKind::BrokenPipe;
            let why =
                if gone { "nobody reads the output any more".into() } else { error.to_string() };
            Fault::new(Code::Interrupted, why).into()
        })
    }

    /// Calls a closure of the script, which may come from an earlier line.
    pub(crate) fn call(&self, closure: &FnPtr, args: impl FuncArgs) -> Result<Dynamic> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner).upgrade();
        let engine = engine.expect("a closure is called by a run, and a run holds the engine");
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner).clone();
        let max = self.limits.closure_levels;
        if self.closure_level.fetch_add(1, Ordering::Relaxed) >= max {
            let message = format!("closures call each other more than {max} levels deep");
            return Err(Fault::new(Code::ScriptLimit, message).into());
        }
        let result = closure.call(&engine, &functions, args);
        self.closure_level.fetch_sub(1, Ordering::Relaxed);
        result
    }
}
