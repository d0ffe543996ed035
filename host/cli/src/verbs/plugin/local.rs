//! A plugin on this machine, without a broker: accepted, compiled and run as a broker would.
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;

use yard_abi::manifest::{Capability, Manifest, TestMessage};
use yard_client::wire::expression::{DIALECT_SETTING, Dialect};
use yard_client::wire::value::{ToValue, Value};
use yard_client::wire::{Code, MessageId, TenantId};
use yard_server::COMPILE_ARGUMENT;
use yard_wasm::{
    Accepted, Binding, Cache, ColdError, Compiled, Compiler, Contender, Engine, Fault, FaultKind,
    Limits, Metering, Replay, ReplaySide, Signed, Terms, Upload,
};

use crate::args::Written;
use crate::failure::Failure;

/// The tenant of a machine without a broker.
const TENANT: TenantId = TenantId(0);
/// Messages that a report lists by their places; all of them are counted.
const LISTED_MAX: usize = 1_000;

/// Where a message is, and which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) queue: u16,
    pub(super) offset: u64,
    pub(super) id: MessageId,
}

impl Place {
    fn fields(self) -> Vec<(&'static str, Value)> {
        let Self { queue, offset, id } = self;
        let id = Value::Text(id.to_string());
        vec![("queue", queue.to_value()), ("offset", offset.to_value()), ("id", id)]
    }
}

/// What runs a plugin here.
pub(super) struct Local {
    pub(super) engine: Engine,
    pub(super) cache: Cache,
    pub(super) compiler: Compiler,
    folder: PathBuf,
}

impl Drop for Local {
    fn drop(&mut self) {
        // What is left behind is in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub(super) fn failed(error: impl std::fmt::Display) -> Failure {
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

    /// Checks a file as a push does, but for who signed it.
    pub(super) fn accept(&self, file: &[u8]) -> Result<Accepted, Failure> {
        let grants: BTreeSet<Capability> = Capability::ALL.into_iter().collect();
        let signed = Signed::Optional;
        let terms = Terms { limits: &Limits::DEFAULT, grants: &grants, trusted: &[], signed };
        let upload = Upload { bytes: file, hash: None, signature: None };
        yard_wasm::accept(&upload, &terms).map_err(failed)
    }

    /// The same, and makes it runnable.
    pub(super) fn prepare(&self, file: &[u8]) -> Result<(Accepted, Compiled), Failure> {
        let accepted = self.accept(file)?;
        let Self { engine, cache, compiler, .. } = self;
        let (compiled, _) =
            Compiled::prepare(engine, cache, compiler, &accepted, file).map_err(failed)?;
        Ok((accepted, compiled))
    }

    /// A replay of a filter, with the expression of the command line, beside another version of it
    /// where there is one. Both have taken the expression.
    pub(super) fn replay(
        &self,
        accepted: &Accepted,
        compiled: Compiled,
        against: Option<Compiled>,
        written: &Written,
    ) -> Result<Replay<Place>, Failure> {
        let binding = binding(written);
        for compiled in [Some(&compiled), against.as_ref()].into_iter().flatten() {
            check(&binding, compiled.manifest())?;
        }
        let contender = |compiled| Contender { compiled, binding: Arc::clone(&binding) };
        let (candidate, against) = (contender(compiled), against.map(contender));
        let (engine, limits) = (&self.engine, &accepted.limits);
        let mut replay = Replay::new(engine, TENANT, limits, &candidate, against.as_ref());
        replay.open().map_err(|why| match why {
            ColdError::Fault(Fault { kind: FaultKind::Refused, text }) => {
                failed(text).with_code(Code::BadExpression)
            }
            why => failed(why).with_code(Code::PluginFailed),
        })?;
        Ok(replay)
    }
}

/// What the command line says that a filter is told.
pub(super) fn binding(written: &Written) -> Arc<Binding> {
    let text = written.text("filter").unwrap_or_default().to_owned();
    let dialect = written.text("dialect").and_then(Dialect::parse);
    let dialect = dialect.filter(|dialect| *dialect != Dialect::Plugin);
    let config = dialect.map(|dialect| (DIALECT_SETTING.to_owned(), dialect.text().to_owned()));
    Binding::new(text, config.into_iter().collect())
}

/// Checks settings as a broker does before it lets a plugin see them.
pub(super) fn check(binding: &Binding, manifest: &Manifest) -> Result<(), Failure> {
    binding.check(manifest).map_err(|says| failed(says).with_code(Code::BadPluginUse))
}

/// The messages of a file, one a line.
pub(super) fn messages(path: &str) -> Result<Vec<TestMessage>, Failure> {
    let bytes = super::read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let message = |(at, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|error| Failure::local(format!("{path}, line {}: {error}", at + 1)))
    };
    lines.map(message).collect()
}

/// What a replay came to, for people and scripts.
pub(super) fn shown(replay: &Replay<Place>) -> Value {
    let mut fields = vec![("messages", replay.messages().to_value())];
    fields.extend(side(replay.candidate()));
    if let Some(against) = replay.against() {
        let found = replay.comparison();
        let listed = found.listed.iter().take(LISTED_MAX).map(|difference| {
            let says = if difference.candidate { "delivers" } else { "skips" };
            let mut fields = difference.id.fields();
            fields.push(("candidate", Value::Text(says.to_owned())));
            Value::Record(fields)
        });
        fields.push(("against", Value::Record(side(against))));
        fields.push(("compared", found.messages.to_value()));
        fields.push(("differing", found.differing.to_value()));
        fields.push(("differences", Value::List(listed.collect())));
    }
    Value::Record(fields)
}

fn side(side: &ReplaySide<Place>) -> Vec<(&'static str, Value)> {
    let judged = side.judged.max(1);
    let usage = &side.usage;
    let poison = side.poison.iter().take(LISTED_MAX).map(|(place, fault)| {
        let mut fields = place.fields();
        fields.push(("fault", Value::Text(fault.to_string())));
        Value::Record(fields)
    });
    vec![
        ("judged", side.judged.to_value()),
        ("delivered", side.delivered.to_value()),
        ("poisoned", side.poisoned.to_value()),
        ("failed", side.failed.to_value()),
        ("last_failure", side.last_failure.as_ref().map(ToString::to_string).to_value()),
        ("ns_a_message", (usage.spent_ns / judged).to_value()),
        ("fuel_a_message", (usage.fuel / judged).to_value()),
        ("memory_bytes", usage.memory_bytes.to_value()),
        ("poison", Value::List(poison.collect())),
    ]
}
