//! Code of its own for an expression in SQL: a filter that understands this one and no other.
//!
//! ```text
//!   broker:  expression ─► Source ─► where a plugin's file would be: hash, cache, child process
//!   child:   Source ─► yard-sql's tests ─► text (text.rs, runtime.wat) ─► component ─► artefact
//! ```
//!
//! It is a plugin like any other: it speaks the same interface, has the same limits, and gives the
//! verdicts of the plugin that understands every expression. What is too rare to be worth code is
//! refused here; and at a value that takes more than the code can do it traps. Both times that
//! plugin is asked, so nothing is ever judged otherwise.
use wasm_encoder::{CustomSection, Section};
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;
use xxhash_rust::xxh3::xxh3_64;
use yard_abi::manifest::{self, ConfigKey, ConfigKind, Manifest, Point};
use yard_abi::{Shown, wit};
use yard_sql::{Dialect, Predicate};

use crate::accept::Accepted;
use crate::limits::Limits;
use crate::signature::PluginHash;

mod text;

/// What a source begins with; no WebAssembly does.
const MAGIC: &[u8] = b"switchyard-sql ";
/// Where the expression begins: behind the magic and a hash of what makes code of it, so that
/// another generator makes other artefacts.
const EXPRESSION_AT: usize = MAGIC.len() + 8;
/// Bytes of an expression that code is made of. A longer one is a list of thousands, in which a
/// search is quicker than code.
const EXPRESSION_BYTES_MAX: usize = 4 << 10;

/// What code is made of in the child process, in the place of a plugin's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    bytes: Vec<u8>,
}

impl Source {
    /// The source of an expression of the dialect `sql`.
    #[must_use]
    pub fn new(expression: &str) -> Self {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&generator().to_le_bytes());
        bytes.extend_from_slice(expression.as_bytes());
        Self { bytes }
    }

    /// What a compiler takes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it is for a host: a plugin of the host's own making, within these limits.
    #[must_use]
    pub fn accepted(&self, limits: &Limits) -> Accepted {
        let manifest = Manifest {
            name: "generated".to_owned(),
            version: "1.0.0".to_owned(),
            says: String::new(),
            points: vec![Point::Filter],
            properties: Shown::All,
            capabilities: Vec::new(),
            limits: manifest::Limits::default(),
            config: vec![dialect()],
            tests: Vec::new(),
        };
        let hash = PluginHash::of(&self.bytes);
        Accepted { hash, manifest, limits: limits.bounded(), signer: None }
    }
}

/// The setting that comes along with every expression. There is code for one dialect, so its value
/// is not looked at.
fn dialect() -> ConfigKey {
    let (name, says) = ("dialect".to_owned(), String::new());
    ConfigKey { name, kind: ConfigKind::Text, required: false, says }
}

/// Says which generator made something.
fn generator() -> u64 {
    let parts = [include_str!("sql/text.rs"), include_str!("sql/runtime.wat")].map(str::as_bytes);
    xxh3_64(&parts.concat()) ^ xxh3_64(env!("CARGO_PKG_VERSION").as_bytes())
}

/// Makes a core module of a source; `None` when the bytes are none.
///
/// # Errors
/// A sentence that says why there is no code for the expression.
pub(crate) fn generate(source: &[u8]) -> Option<Result<Vec<u8>, String>> {
    source.strip_prefix(MAGIC)?;
    Some(module(source))
}

fn module(source: &[u8]) -> Result<Vec<u8>, String> {
    let expression = source.get(EXPRESSION_AT..).ok_or("there is no expression")?;
    let expression = str::from_utf8(expression).map_err(|error| error.to_string())?;
    if expression.len() > EXPRESSION_BYTES_MAX {
        let (found, max) = (expression.len(), EXPRESSION_BYTES_MAX);
        return Err(format!("the expression has {found} bytes; code is made of {max} at most"));
    }
    let parsed = Predicate::parse(expression, Dialect::Sql).map_err(|error| error.to_string())?;
    let program = parsed.program().ok_or("its dialect has no tests")?;
    let text = text::of(expression, program)?;
    let mut module = wat::parse_str(&text).map_err(|error| error.to_string())?;
    let mut resolve = Resolve::default();
    let says = |error: &dyn std::fmt::Display| format!("the interface: {error:#}");
    let package = resolve.push_str("plugin.wit", wit::TEXT).map_err(|error| says(&error))?;
    let world = resolve.select_world(&[package], Some(Point::Filter.world()));
    let world = world.map_err(|error| says(&error))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .map_err(|error| says(&error))?;
    // For who looks at a core dump or a profile.
    let name = "switchyard:expression".into();
    CustomSection { name, data: expression.as_bytes().into() }.append_to(&mut module);
    Ok(module)
}
