//! A plugin on this machine, without a broker: accepted, compiled and run as a broker would.
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;

use yard_abi::manifest::Capability;
use yard_client::wire::TenantId;
use yard_client::wire::expression::{DIALECT_SETTING, Dialect};
use yard_client::wire::value::{ToValue, Value};
use yard_server::COMPILE_ARGUMENT;
use yard_wasm::{
    Accepted, Binding, Cache, Compiled, Compiler, Contender, Engine, Limits, Metering, Replay,
    ReplaySide, Signed, Terms, Upload,
};

use crate::args::Written;
use crate::failure::Failure;

/// The tenant of a machine without a broker.
const TENANT: TenantId = TenantId(0);

/// Where a message is: queue and offset.
pub(super) type Place = (u16, u64);

/// What runs a plugin here.
pub(super) struct Local {
    pub(super) engine: Engine,
    cache: Cache,
    compiler: Compiler,
    folder: PathBuf,
}

impl Drop for Local {
    fn drop(&mut self) {
        // What is left behind is in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::local(error.to_string())
}

impl Local {
    pub(super) fn start() -> Result<Self, Failure> {
        let number = RandomState::new().hash_one(std::process::id());
        let folder = std::env::temp_dir().join(format!("yard-plugin-{number:016x}"));
        let cache = Cache::open(&folder).map_err(failed)?;
        let program = std::env::current_exe().map_err(failed)?;
        let compiler = Compiler::new(program, vec![COMPILE_ARGUMENT.into()]);
        let engine = Engine::new(Metering::Both).map_err(failed)?;
        Ok(Self { engine, cache, compiler, folder })
    }

    /// Checks a file as a push does, but for who signed it, and makes it runnable.
    pub(super) fn prepare(&self, path: &str) -> Result<(Accepted, Compiled), Failure> {
        let file = super::read(path)?;
        let grants: BTreeSet<Capability> = Capability::ALL.into_iter().collect();
        let signed = Signed::Optional;
        let terms = Terms { limits: &Limits::DEFAULT, grants: &grants, trusted: &[], signed };
        let upload = Upload { bytes: &file, hash: None, signature: None };
        let accepted = yard_wasm::accept(&upload, &terms).map_err(failed)?;
        let Self { engine, cache, compiler, .. } = self;
        let (compiled, _) =
            Compiled::prepare(engine, cache, compiler, &accepted, &file).map_err(failed)?;
        Ok((accepted, compiled))
    }

    /// A replay of a filter, with the expression of the command line.
    pub(super) fn replay(
        &self,
        (accepted, compiled): (Accepted, Compiled),
        written: &Written,
    ) -> Replay<Place> {
        let text = written.text("filter").unwrap_or_default().to_owned();
        let dialect = written.text("dialect").and_then(Dialect::parse);
        let dialect = dialect.filter(|dialect| *dialect != Dialect::Plugin);
        let config = dialect.map(|dialect| (DIALECT_SETTING.to_owned(), dialect.text().to_owned()));
        let binding = Binding::new(text, config.into_iter().collect());
        let candidate = Contender { compiled, binding: Arc::clone(&binding) };
        Replay::new(&self.engine, TENANT, &accepted.limits, &candidate, None)
    }
}

/// What a replay came to, for people and scripts.
pub(super) fn shown(messages: u64, side: &ReplaySide<Place>) -> Value {
    let judged = side.judged.max(1);
    let usage = &side.usage;
    let poison = side.poison.iter().map(|((queue, offset), fault)| {
        Value::Record(vec![
            ("queue", queue.to_value()),
            ("offset", offset.to_value()),
            ("fault", Value::Text(fault.to_string())),
        ])
    });
    Value::Record(vec![
        ("messages", messages.to_value()),
        ("judged", side.judged.to_value()),
        ("delivered", side.delivered.to_value()),
        ("poisoned", side.poisoned.to_value()),
        ("failed", side.failed.to_value()),
        ("last_failure", side.last_failure.as_ref().map(ToString::to_string).to_value()),
        ("ns_a_message", (usage.spent_ns / judged).to_value()),
        ("fuel_a_message", (usage.fuel / judged).to_value()),
        ("memory_bytes", usage.memory_bytes.to_value()),
        ("poison", Value::List(poison.collect())),
    ])
}
