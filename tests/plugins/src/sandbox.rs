//! Plugins from `target/plugins`, accepted and compiled as a broker would.
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use yard_abi::FrameBuilder;
use yard_abi::manifest::Capability;
use yard_it::{Failed, Scratch, yard};
use yard_server::COMPILE_ARGUMENT;
use yard_wasm::canary::Traffic;
use yard_wasm::{
    Accepted, Ask, Batch, Binding, Cache, Compiled, Compiler, Directory, Engine, Installed,
    Judging, Limits, PluginId, Rollout, Signed, Terms, Turn, Upload, Worker,
};
use yard_wire::TenantId;

const PLUGIN: PluginId = PluginId(1);
const TENANT: TenantId = TenantId(0);

/// Any failure of the host, as a sentence.
pub(crate) fn failed(error: impl std::fmt::Display) -> Failed {
    Failed(error.to_string())
}

/// What accepting and compiling takes.
pub struct Tools {
    program: PathBuf,
    _scratch: Scratch,
    /// Where compiled plugins are.
    pub cache: Cache,
    /// The program that compiles.
    pub compiler: Compiler,
}

impl Tools {
    /// Those of a program: its plugins are in the target folder that it is in.
    ///
    /// # Errors
    /// Where there is no program, or no folder for what is compiled.
    pub fn new(given: Option<&Path>) -> Result<Self, Failed> {
        let program = yard::locate(given)?;
        let scratch = Scratch::new("plugins")?;
        let cache = Cache::open(scratch.path())?;
        let compiler = Compiler::new(program.clone(), vec![COMPILE_ARGUMENT.into()]);
        Ok(Self { program, _scratch: scratch, cache, compiler })
    }

    /// The file of a plugin; an example's is in `examples/NAME`.
    ///
    /// # Errors
    /// Where the plugins were not built.
    pub fn file(&self, name: &str) -> Result<Vec<u8>, Failed> {
        let path = yard::plugin(&self.program, name);
        std::fs::read(&path).map_err(|error| {
            Failed(format!("{}: {error}; `cargo xtask plugins` builds it", path.display()))
        })
    }

    /// What a file is.
    ///
    /// # Errors
    /// Where a broker would not accept it.
    pub fn accept(&self, file: &[u8]) -> Result<Accepted, Failed> {
        let grants: BTreeSet<Capability> = Capability::ALL.into_iter().collect();
        let signed = Signed::Optional;
        let terms = Terms { limits: &Limits::DEFAULT, grants: &grants, trusted: &[], signed };
        let upload = Upload { bytes: file, hash: None, signature: None };
        yard_wasm::accept(&upload, &terms).map_err(failed)
    }

    /// The same, and makes it runnable.
    ///
    /// # Errors
    /// Where it cannot be accepted or compiled.
    pub fn compile(&self, engine: &Engine, file: &[u8]) -> Result<(Accepted, Compiled), Failed> {
        let accepted = self.accept(file)?;
        let prepared = Compiled::prepare(engine, &self.cache, &self.compiler, &accepted, file);
        let (compiled, _) = prepared.map_err(failed)?;
        Ok((accepted, compiled))
    }
}

/// A filter in the sandbox, alone on its worker.
pub struct Sandbox {
    directory: Arc<Directory>,
    worker: Worker,
    now_ms: u64,
}

impl Sandbox {
    /// A worker of an engine. It goes by what is published in the directory.
    #[must_use]
    pub fn new(engine: &Engine, directory: &Arc<Directory>) -> Self {
        let worker = Worker::new(engine, directory);
        Self { directory: Arc::clone(directory), worker, now_ms: 0 }
    }

    /// The same, with a plugin that decides.
    ///
    /// # Errors
    /// Where it cannot be accepted or compiled.
    pub fn of(tools: &Tools, engine: &Engine, file: &[u8]) -> Result<Self, Failed> {
        let (_, compiled) = tools.compile(engine, file)?;
        let sandbox = Self::new(engine, &Arc::new(Directory::default()));
        publish(&sandbox.directory, &installed(1, compiled));
        Ok(sandbox)
    }

    /// Judges a frame.
    ///
    /// # Panics
    /// When the plugin fails.
    pub fn judge(&mut self, binding: &Arc<Binding>, frame: &FrameBuilder) -> Judging {
        // So much time between batches that the tenant's share of the thread holds up none.
        self.now_ms += 1_000;
        let (traffic, now_ms) = (Traffic::ALONE, self.now_ms);
        let ask = Ask { tenant: TENANT, plugin: PLUGIN, traffic, now_ms };
        let mut judging = Judging::default();
        let turn = self.worker.judge(&ask, binding, &Batch::new(frame), &mut judging);
        assert_eq!((turn, judging.poison()), (Turn::Done, &[][..]));
        judging
    }
}

/// A version of the one plugin.
#[must_use]
pub fn installed(version: u32, compiled: Compiled) -> Arc<Installed> {
    Installed::new(PLUGIN, version, compiled)
}

/// Makes a version decide.
pub fn publish(directory: &Directory, version: &Arc<Installed>) {
    directory.publish(|table| {
        let limits = Limits { fuel_per_s: Limits::MAX.fuel_per_s, ..Limits::DEFAULT };
        table.limits.insert(TENANT, limits);
        let active = Some(Arc::clone(version));
        let rollout = Rollout { active, ..Rollout::default() };
        table.plugins.insert(PLUGIN, Arc::new(rollout));
    });
}
