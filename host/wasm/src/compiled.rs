//! A plugin that can be instantiated: its artefact mapped, its imports linked.
#![expect(unsafe_code, reason = "an artefact is machine code, which the engine must believe")]
use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use wasmtime::component::{Component, InstancePre, Linker};
use yard_abi::manifest::{Capability, Manifest};

use crate::accept::Accepted;
use crate::bindings::Indices;
use crate::cache::Cache;
use crate::capability;
use crate::compile::{CompileError, Compiler};
use crate::engine::Engine;
use crate::guest::Guest;
use crate::limits::Limits;
use crate::signature::PluginHash;

/// Why a plugin cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The cache cannot be read or written.
    #[error("the folder of compiled plugins: {0}")]
    Cache(#[from] io::Error),
    /// It does not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// It needs more than an instance may have, or imports with other types than ours.
    #[error("the plugin does not fit this host: {0}")]
    Misfit(String),
}

/// Where an artefact came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was there.
    Cache,
    /// It was made now.
    Compiler,
}

struct Inner {
    hash: PluginHash,
    manifest: Manifest,
    pre: InstancePre<Guest>,
    indices: Indices,
}

/// A compiled plugin. Clones are the same.
#[derive(Clone)]
pub struct Compiled {
    inner: Arc<Inner>,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { hash, manifest, .. } = &*self.inner;
        write!(out, "Compiled({} {} {hash})", manifest.name, manifest.version)
    }
}

impl Compiled {
    /// Takes a plugin from the cache, or compiles it, which takes its time.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn prepare(
        engine: &Engine,
        cache: &Cache,
        compiler: &Compiler,
        accepted: &Accepted,
        wasm: &[u8],
    ) -> Result<(Self, Origin), LoadError> {
        assert_eq!(PluginHash::of(wasm), accepted.hash, "the bytes are those that were accepted");
        if let Some(compiled) = Self::load(engine, cache, accepted)? {
            return Ok((compiled, Origin::Cache));
        }
        let limits: &Limits = &accepted.limits;
        let artefact = compiler.compile(wasm, engine.metering(), limits)?;
        cache.put(&engine.artefact(accepted.hash), &artefact)?;
        let compiled = Self::load(engine, cache, accepted)?;
        let compiled = compiled.ok_or_else(|| io::Error::other("an artefact was lost"))?;
        Ok((compiled, Origin::Compiler))
    }

    /// Takes a plugin from the cache; `None` where it has to be compiled.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(
        engine: &Engine,
        cache: &Cache,
        accepted: &Accepted,
    ) -> Result<Option<Self>, LoadError> {
        let Some(file) = cache.get(&engine.artefact(accepted.hash))? else {
            return Ok(None);
        };
        let component = map(engine, &file).map_err(misfit)?;
        let Accepted { hash, manifest, .. } = accepted;
        let capabilities: BTreeSet<Capability> = manifest.capabilities.iter().copied().collect();
        let mut linker = Linker::new(engine.wasmtime());
        capability::link(&mut linker, &capabilities).map_err(misfit)?;
        let pre = linker.instantiate_pre(&component).map_err(misfit)?;
        let indices = Indices::of(&pre, &manifest.points).map_err(misfit)?;
        let inner = Inner { hash: *hash, manifest: manifest.clone(), pre, indices };
        Ok(Some(Self { inner: Arc::new(inner) }))
    }

    /// SHA-256 of the wasm.
    #[must_use]
    pub fn hash(&self) -> PluginHash {
        self.inner.hash
    }

    /// What the plugin says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    pub(crate) fn pre(&self) -> &InstancePre<Guest> {
        &self.inner.pre
    }

    pub(crate) fn indices(&self) -> &Indices {
        &self.inner.indices
    }
}

fn misfit(error: wasmtime::Error) -> LoadError {
    LoadError::Misfit(format!("{error:#}"))
}

/// Maps an artefact, from the very file that was checked.
fn map(engine: &Engine, file: &File) -> wasmtime::Result<Component> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // SAFETY: the engine believes what it is given, and this was made by it: the cache gives only
    // files that carry a tag by the key of the data folder over all their bytes and the name of
    // this engine. The path is that of the open file, so it cannot have been replaced since; and
    // files of the cache are never changed.
    unsafe { Component::deserialize_file(engine.wasmtime(), path) }
}
