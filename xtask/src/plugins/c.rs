//! Plugins in C: `plugin.json` beside one source of the same folder. Clang makes the object, the
//! linker of the Rust toolchain the module, and we add what the SDK adds for Rust.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::toolchain;
use crate::run::{self, Failed, Workspace};

/// What says that a folder is a plugin in C.
const MANIFEST: &str = "plugin.json";
/// The custom section of a plugin's manifest, see `protocol/abi`.
const SECTION: &str = "switchyard:manifest";
const WIT: &str = "protocol/abi/wit/plugin.wit";

/// The folders below `examples` that hold a plugin in C.
pub(crate) fn folders(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root.join("examples")).into_iter().flatten().flatten();
    let mut folders: Vec<_> = entries.map(|entry| entry.path()).collect();
    folders.retain(|folder| folder.join(MANIFEST).is_file());
    folders.sort();
    folders
}

/// Builds the module of a folder, unless it is younger than its sources. None where there is no
/// compiler.
pub(crate) fn module(
    workspace: &Workspace,
    folder: &Path,
    build: &Path,
) -> Result<Option<PathBuf>, Failed> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (source, manifest) = (folder.join("filter.c"), folder.join(MANIFEST));
    let module = build.join(format!("{name}.wasm"));
    let wit = workspace.root.join(WIT);
    if [&source, &manifest, &wit].into_iter().all(|it| super::is_younger(&module, it)) {
        return Ok(Some(module));
    }
    if !run::succeeds_quietly(Command::new("clang").arg("--version")) {
        println!("== plugins: {name} is skipped: it is built where clang is installed");
        return Ok(None);
    }
    let linker = toolchain::own_linker(workspace);
    let linker = linker.ok_or_else(|| Failed("the toolchain has no rust-lld.".to_owned()))?;
    let says = |path: &Path, error: &dyn std::fmt::Display| {
        Failed(format!("{}: {error}.", path.display()))
    };
    fs::create_dir_all(build).map_err(|error| says(build, &error))?;
    let (object, linked) = (module.with_extension("o"), module.with_extension("linked"));
    let mut clang = Command::new("clang");
    clang.args(["--target=wasm32", "-O3", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-c"]);
    run::run(clang.arg(&source).arg("-o").arg(&object))?;
    let mut link = Command::new(linker);
    link.args(["-flavor", "wasm", "--no-entry", "--gc-sections", "--strip-all"]);
    run::run(link.arg(&object).arg("-o").arg(&linked))?;
    let mut bytes = fs::read(&linked).map_err(|error| says(&linked, &error))?;
    let json = fs::read(&manifest).map_err(|error| says(&manifest, &error))?;
    let world = world(&json).map_err(|error| says(&manifest, &error))?;
    describe(&mut bytes, &wit, world, &json).map_err(|error| says(&source, &error))?;
    fs::write(&module, bytes).map_err(|error| says(&module, &error))?;
    Ok(Some(module))
}

/// The world of the first point that a manifest names.
fn world(json: &[u8]) -> Result<&'static str, String> {
    let manifest: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    match manifest["points"][0].as_str() {
        Some("filter") => Ok("filter-plugin"),
        Some("dedupe") => Ok("dedupe-plugin"),
        Some("interceptor") => Ok("interceptor-plugin"),
        _ => Err("expected filter, dedupe or interceptor as the first point".to_owned()),
    }
}

/// Adds to a module which world it is of, and its manifest.
fn describe(
    module: &mut Vec<u8>,
    wit: &Path,
    world: &str,
    json: &[u8],
) -> Result<(), Box<dyn std::error::Error>> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("plugin.wit", &fs::read_to_string(wit)?)?;
    let world = resolve.select_world(&[package], Some(world))?;
    embed_component_metadata(module, &resolve, world, StringEncoding::UTF8)?;
    let mut section = leb(SECTION.len());
    section.extend_from_slice(SECTION.as_bytes());
    section.extend_from_slice(json);
    module.push(0);
    module.extend_from_slice(&leb(section.len()));
    module.extend_from_slice(&section);
    Ok(())
}

/// A length as wasm writes it: seven bits a byte, the lowest first.
fn leb(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_wasm_does() {
        assert_eq!(leb(0), [0]);
        assert_eq!(leb(127), [127]);
        assert_eq!(leb(128), [0x80, 1]);
        assert_eq!(leb(624_485), [0xE5, 0x8E, 0x26]);
    }

    #[test]
    fn the_world_follows_from_the_manifest() {
        assert_eq!(world(br#"{"points":["filter"]}"#), Ok("filter-plugin"));
        assert!(world(br#"{"points":[]}"#).is_err());
        assert!(world(b"{").is_err());
    }
}
