//! The checks of an upload, before anything of it is compiled or run.
//!
//! ```text
//!   bytes ─► size ─► hash ─► signature ─► wasm: names of imports and exports, manifest
//!                                            │
//!   grants, limits of the tenant ────────────┴─► Accepted, or one sentence that says why not
//! ```
//!
//! Only names are read here. Types and code are looked at by the process that compiles, which may
//! be stopped; and what a plugin can reach is what the host links to it, whatever it imports.
use std::collections::BTreeSet;

use wasmparser::{Encoding, Parser, Payload};
use yard_abi::manifest::{Capability, MANIFEST_BYTES_MAX, Manifest, Point, SECTION};
use yard_abi::wit;

use crate::limits::{Limits, TooMuch};
use crate::signature::{PluginHash, TrustedKey};

/// What begins the names of custom sections in which a core module says its types.
const TYPES_SECTION: &str = "component-type";
/// The interface that has only types.
const TYPES: &str = "types";
/// What a core module imports to handle the resources that it exports.
const EXPORT_PREFIX: &str = "[export]";
/// What it exports to be called after an export, which frees what that returned. Source: the
/// canonical ABI's names of core modules.
const POST_PREFIX: &str = "cabi_post_";
/// Names of imports and exports that are read at most.
const NAMES_MAX: usize = 10_000;

/// What comes in.
#[derive(Clone, Copy, Debug)]
pub struct Upload<'a> {
    /// The file.
    pub bytes: &'a [u8],
    /// Its hash, as the sender knows it.
    pub hash: Option<PluginHash>,
    /// A signature over the hash.
    pub signature: Option<&'a [u8]>,
}

/// Whether a plugin without a signature is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// A signature that is there must be good.
    Optional,
    /// There must be one.
    Required,
}

/// What the tenant may have.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Limits of the tenant.
    pub limits: &'a Limits,
    /// Capabilities that the tenant may give to its plugins.
    pub grants: &'a BTreeSet<Capability>,
    /// Keys that the tenant trusts.
    pub trusted: &'a [TrustedKey],
    /// Whether there must be a signature.
    pub signed: Signed,
}

/// A plugin that may be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// SHA-256 of the file.
    pub hash: PluginHash,
    /// What it says of itself.
    pub manifest: Manifest,
    /// Its limits: the tenant's, or less where it asks for less.
    pub limits: Limits,
    /// Who signed it.
    pub signer: Option<TrustedKey>,
}

/// Why an upload is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// Too many bytes.
    #[error("the plugin has {bytes} bytes; the tenant's limit is {max}")]
    TooLarge {
        /// What it has.
        bytes: u64,
        /// What it may have.
        max: u64,
    },
    /// The bytes are not those that were sent.
    #[error("the plugin's SHA-256 is {found}, not {expected}")]
    WrongHash {
        /// What was said.
        expected: PluginHash,
        /// What came.
        found: PluginHash,
    },
    /// There is no signature.
    #[error("the plugin is not signed, and only signed ones are accepted here")]
    NotSigned,
    /// No trusted key made the signature.
    #[error("none of the tenant's {trusted} trusted keys made this signature over this plugin")]
    WrongSignature {
        /// Keys that were tried.
        trusted: usize,
    },
    /// Something else than wasm.
    #[error("this is not WebAssembly: a file of it begins with 00 61 73 6d")]
    NotWasm,
    /// Wasm that cannot be read.
    #[error("the WebAssembly is damaged: {0}")]
    Damaged(String),
    /// A core module that does not say its types.
    #[error(
        "this is a core module without a `component-type` section: build it with the SDK, or \
         make a component of it"
    )]
    NoTypes,
    /// No manifest, or several.
    #[error("there are {0} custom sections `switchyard:manifest`; there must be one")]
    ManifestCount(usize),
    /// A manifest that cannot be used.
    #[error("the manifest: {0}")]
    BadManifest(String),
    /// Made for another major version of the interface.
    #[error("`{name}` is of another version of the interface; this host has {}", wit::VERSION)]
    WrongAbi {
        /// The import or export.
        name: String,
    },
    /// It wants what no host of ours has.
    #[error("the plugin imports `{name}`, which a host does not have")]
    UnknownImport {
        /// The import.
        name: String,
    },
    /// It exports what nobody asks for.
    #[error("the plugin exports `{name}`, which is no plugin point")]
    UnknownExport {
        /// The export.
        name: String,
    },
    /// It imports a capability that its manifest does not name.
    #[error("the plugin imports `{}`, which its manifest does not ask for", .0.name())]
    NotAsked(Capability),
    /// The manifest asks for a capability that the tenant may not give.
    #[error("the manifest asks for `{}`, which is not granted to plugins here", .0.name())]
    NotGranted(Capability),
    /// The manifest asks for a limit above the tenant's.
    #[error(transparent)]
    TooMuch(#[from] TooMuch),
    /// The manifest names a point without an export.
    #[error("the manifest names the point `{}`, and the plugin does not export it", .0.name())]
    NotExported(Point),
    /// An export without its point in the manifest.
    #[error("the plugin exports the point `{}`, and the manifest does not name it", .0.name())]
    NotDeclared(Point),
}

/// Checks an upload.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn accept(upload: &Upload<'_>, terms: &Terms<'_>) -> Result<Accepted, AcceptError> {
    let (bytes, max) = (upload.bytes.len() as u64, terms.limits.bounded().wasm_bytes_max);
    if bytes > max {
        return Err(AcceptError::TooLarge { bytes, max });
    }
    let hash = PluginHash::of(upload.bytes);
    if let Some(expected) = upload.hash.filter(|it| *it != hash) {
        return Err(AcceptError::WrongHash { expected, found: hash });
    }
    let signer = signer(&hash, upload.signature, terms)?;
    let names = Names::read(upload.bytes)?;
    let manifest = names.manifest()?;
    names.check_imports(&manifest)?;
    names.check_exports(&manifest)?;
    if let Some(asked) = manifest.capabilities.iter().find(|it| !terms.grants.contains(it)) {
        return Err(AcceptError::NotGranted(*asked));
    }
    let limits = terms.limits.of_plugin(&manifest.limits)?;
    Ok(Accepted { hash, manifest, limits, signer })
}

fn signer(
    hash: &PluginHash,
    signature: Option<&[u8]>,
    terms: &Terms<'_>,
) -> Result<Option<TrustedKey>, AcceptError> {
    match (signature, terms.signed) {
        (None, Signed::Optional) => Ok(None),
        (None, Signed::Required) => Err(AcceptError::NotSigned),
        (Some(signature), _) => {
            let signer = terms.trusted.iter().find(|key| key.signed(hash, signature));
            let trusted = terms.trusted.len();
            signer.copied().map(Some).ok_or(AcceptError::WrongSignature { trusted })
        }
    }
}

/// The names in a file: what it imports and exports, and its manifests.
#[derive(Debug, Default)]
struct Names<'a> {
    is_core: bool,
    has_types: bool,
    imports: BTreeSet<&'a str>,
    exports: BTreeSet<&'a str>,
    manifests: Vec<&'a [u8]>,
}

impl<'a> Names<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, AcceptError> {
        if !bytes.starts_with(b"\0asm") {
            return Err(AcceptError::NotWasm);
        }
        let mut names = Self::default();
        // Modules and components lie inside of components; only the outermost is linked to us.
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(damaged)?;
            match payload {
                Payload::Version { encoding, .. } if depth == 0 => {
                    names.is_core = encoding == Encoding::Module;
                }
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::CustomSection(section) => {
                    if section.name() == SECTION && section.data().len() <= MANIFEST_BYTES_MAX {
                        names.manifests.push(section.data());
                    }
                    names.has_types |= section.name().starts_with(TYPES_SECTION);
                }
                payload if depth == 0 => names.take(payload).map_err(damaged)?,
                _ => {}
            }
            if names.imports.len() + names.exports.len() > NAMES_MAX {
                return Err(AcceptError::Damaged(format!("more than {NAMES_MAX} names")));
            }
        }
        if names.is_core && !names.has_types {
            return Err(AcceptError::NoTypes);
        }
        Ok(names)
    }

    /// Takes the names of a section of the outermost module or component.
    fn take(&mut self, payload: Payload<'a>) -> Result<(), wasmparser::BinaryReaderError> {
        match payload {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    self.imports.insert(import?.module);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    // What else a module exports is for the adapters that are put around it.
                    let name = export?.name;
                    let name = name.strip_prefix(POST_PREFIX).unwrap_or(name);
                    if let Some((interface, _)) = name.split_once('#') {
                        self.exports.insert(interface);
                    }
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    self.imports.insert(import?.name.name);
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    self.exports.insert(export?.name.name);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn manifest(&self) -> Result<Manifest, AcceptError> {
        let [json] = self.manifests[..] else {
            return Err(AcceptError::ManifestCount(self.manifests.len()));
        };
        let bad = |error: serde_json::Error| AcceptError::BadManifest(error.to_string());
        let manifest: Manifest = serde_json::from_slice(json).map_err(bad)?;
        manifest.check().map_err(AcceptError::BadManifest)?;
        Ok(manifest)
    }

    fn check_imports(&self, manifest: &Manifest) -> Result<(), AcceptError> {
        for import in &self.imports {
            let unknown = || AcceptError::UnknownImport { name: (*import).to_owned() };
            let of_export = import.strip_prefix(EXPORT_PREFIX).filter(|_| self.is_core);
            let interface = interface(of_export.unwrap_or(import))?.ok_or_else(unknown)?;
            if interface == TYPES || (of_export.is_some() && point(interface).is_some()) {
                continue;
            }
            let capability = Capability::ALL.into_iter().find(|it| it.name() == interface);
            let capability = capability.ok_or_else(unknown)?;
            if !manifest.capabilities.contains(&capability) {
                return Err(AcceptError::NotAsked(capability));
            }
        }
        Ok(())
    }

    fn check_exports(&self, manifest: &Manifest) -> Result<(), AcceptError> {
        let mut exported = BTreeSet::new();
        for export in &self.exports {
            let unknown = || AcceptError::UnknownExport { name: (*export).to_owned() };
            let interface = interface(export)?.ok_or_else(unknown)?;
            if interface == TYPES {
                continue;
            }
            exported.insert(point(interface).ok_or_else(unknown)?);
        }
        let declared: BTreeSet<Point> = manifest.points.iter().copied().collect();
        if let Some(missing) = declared.difference(&exported).next() {
            return Err(AcceptError::NotExported(*missing));
        }
        match exported.difference(&declared).next() {
            Some(extra) => Err(AcceptError::NotDeclared(*extra)),
            None => Ok(()),
        }
    }
}

fn damaged(error: wasmparser::BinaryReaderError) -> AcceptError {
    AcceptError::Damaged(error.to_string())
}

fn point(interface: &str) -> Option<Point> {
    Point::ALL.into_iter().find(|point| point.name() == interface)
}

/// The interface of our package that a name means; `None` when it is of another package.
///
/// # Errors
/// When it is ours, and of another major version.
fn interface(name: &str) -> Result<Option<&str>, AcceptError> {
    let ours = name.strip_prefix(wit::PACKAGE).and_then(|rest| rest.strip_prefix('/'));
    let Some((interface, version)) = ours.map(|ours| ours.split_once('@').unwrap_or((ours, "")))
    else {
        return Ok(None);
    };
    let major = |version: &str| version.split('.').next().map(str::to_owned);
    if major(version) != major(wit::VERSION) {
        return Err(AcceptError::WrongAbi { name: name.to_owned() });
    }
    Ok(Some(interface))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_ours_in_this_major_version() {
        assert_eq!(interface("switchyard:plugin/filter@1.0.0"), Ok(Some("filter")));
        assert_eq!(interface("switchyard:plugin/filter@1.7.2"), Ok(Some("filter")));
        assert_eq!(interface("wasi:cli/stdout@0.2.0"), Ok(None));
        for other in ["switchyard:plugin/filter@2.0.0", "switchyard:plugin/filter"] {
            let error = AcceptError::WrongAbi { name: other.to_owned() };
            assert_eq!(interface(other), Err(error));
        }
    }
}
