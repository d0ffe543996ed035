//! `yard plugin new` and `build`: a project of one filter, and the file that it becomes.
use std::fs;
use std::path::Path;
use std::process::Command;

use yard_client::wire::name;
use yard_client::wire::value::{ToValue, Value};

use crate::args::Written;
use crate::failure::Failure;
use crate::output;
use crate::verbs::Session;

const TARGET: &str = "wasm32-unknown-unknown";
/// As the broker's own plugins are built: searching texts is about twice as fast with vectors.
const FLAGS: &str = "-C target-feature=+simd128";
const FLAGS_VARIABLE: &str = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS";

const MANIFEST: &str = r#"[package]
name = "NAME"
version = "0.1.0"
edition = "2024"
publish = false

[lib]
crate-type = ["cdylib", "rlib"]
doctest = false

[dependencies]
switchyard-plugin = SDK

[profile.release]
lto = "fat"
codegen-units = 1
panic = "abort"
strip = "debuginfo"

[workspace]
"#;

const SOURCE: &str = r#"//! Large orders from Europe.
use switchyard_plugin::prelude::*;

manifest! { says: "Large orders from Europe.", points: ["filter"], tests: "tests/vectors.json" }
filter!(wanted);

fn wanted(m: &Message) -> bool {
    m.get("region") == Some("eu") && m.number("amount") > Some(100.0)
}

#[test]
fn small_orders_are_left_out() {
    let order = |amount| Message::builder().property("region", "eu").property("amount", amount);
    assert!(wanted(&order(150).build()) && !wanted(&order(50).build()));
}
"#;

const VECTORS: &str = r#"[
  { "point": "filter", "message": { "properties": { "region": "eu", "amount": "150" } },
    "expect": "deliver" },
  { "point": "filter", "message": { "properties": { "region": "eu", "amount": "50" } },
    "expect": "skip" }
]
"#;

pub(crate) fn new(session: &Session, written: &Written) -> Result<(), Failure> {
    let name = written.required("name")?;
    name::check(name)?;
    let sdk = sdk(written.text("sdk"))?;
    let folder = Path::new(name);
    let wrong = |error: std::io::Error| Failure::local(format!("{}: {error}", folder.display()));
    fs::create_dir(folder).map_err(wrong)?;
    fs::create_dir_all(folder.join("src")).map_err(wrong)?;
    fs::create_dir_all(folder.join("tests")).map_err(wrong)?;
    let manifest = MANIFEST.replace("NAME", name).replace("SDK", &sdk);
    for (path, text) in [
        ("Cargo.toml", manifest.as_str()),
        ("src/lib.rs", SOURCE),
        ("tests/vectors.json", VECTORS),
        (".gitignore", "target\n"),
    ] {
        fs::write(folder.join(path), text).map_err(wrong)?;
    }
    let row = Value::Record(vec![
        ("folder", folder.display().to_string().to_value()),
        ("next", format!("cd {name} && cargo test && yard plugin build").to_value()),
    ]);
    Ok(output::show(&row, session.format)?)
}

/// The dependency on the SDK: the folder that is named, that of the sources that this program was
/// built from, or a release.
fn sdk(named: Option<&str>) -> Result<String, Failure> {
    let own = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugin-sdk"));
    let folder = match named {
        Some(named) => Path::new(named),
        None if own.is_dir() => own,
        None => return Ok(format!("{:?}", env!("CARGO_PKG_VERSION"))),
    };
    let folder = fs::canonicalize(folder)
        .map_err(|error| Failure::local(format!("{}: {error}", folder.display())))?;
    Ok(format!("{{ path = {:?} }}", folder.display().to_string()))
}

pub(crate) fn build(session: &Session, written: &Written) -> Result<(), Failure> {
    let folder = Path::new(written.text("dir").unwrap_or("."));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(folder).args(["build", "--release", "--lib", "--target", TARGET]);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    if std::env::var_os(FLAGS_VARIABLE).is_none() {
        cargo.env(FLAGS_VARIABLE, FLAGS);
    }
    let built = cargo.stderr(std::process::Stdio::inherit()).output();
    let built = built.map_err(|error| Failure::local(format!("cargo does not run: {error}")))?;
    if !built.status.success() {
        let hint = format!("where the target is missing: rustup target add {TARGET}");
        return Err(Failure::local(format!("cargo did not build the plugin; {hint}")));
    }
    let messages = String::from_utf8_lossy(&built.stdout).into_owned();
    let file = messages.lines().filter_map(wasm_of).next_back();
    let file = file.ok_or_else(|| Failure::local("cargo built no file of WebAssembly"))?;
    let row = Value::Record(vec![
        ("file", file.to_value()),
        ("next", format!("yard plugin push {file}").to_value()),
    ]);
    Ok(output::show(&row, session.format)?)
}

/// The file of WebAssembly that a message of cargo is about.
fn wasm_of(line: &str) -> Option<String> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let files = message.get("filenames")?.as_array()?.iter();
    let mut files = files.filter_map(serde_json::Value::as_str);
    files.find(|file| file.ends_with(".wasm")).map(str::to_owned)
}
