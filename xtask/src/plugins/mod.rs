//! Builds the plugins of this repository: `plugins/NAME` becomes `target/plugins/NAME.wasm`, an
//! example `target/plugins/examples/NAME.wasm`.
//!
//! ```text
//!   crates with a cdylib that use the SDK ──cargo, wasm32──► core modules ──► components
//! ```
//!
//! Cargo knows what is stale, and a component is made anew when its module is younger; so a second
//! run has nothing to do.

mod c;
mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use wit_component::ComponentEncoder;

use crate::run::{self, Failed, Workspace};
use toolchain::{TARGET, Toolchain};

/// The crate that makes a crate a plugin.
const SDK: &str = "switchyard-plugin";
/// The profile of the workspace that guests are built with.
const PROFILE: &str = "plugin";

/// One plugin of the workspace.
struct Plugin {
    package: String,
    /// Name of the module that the compiler writes.
    module: String,
    is_example: bool,
}

/// Builds all plugins, and says what is new.
pub(crate) fn command(workspace: &Workspace, _: &[String]) -> Result<(), Failed> {
    crate::needs::set_up()?;
    build(workspace)
}

/// Builds those plugins whose sources have changed.
pub(crate) fn build(workspace: &Workspace) -> Result<(), Failed> {
    let metadata = workspace.metadata()?;
    let plugins = plugins(&metadata, &workspace.root);
    let folder = target_folder(&metadata)?.join("plugins");
    let build = folder.join("build");
    let toolchain = Toolchain::find(workspace, &folder)?;
    let mut cargo = toolchain.cargo(workspace);
    cargo.args(["build", "--quiet", "--lib", "--target", TARGET, "--profile", PROFILE]);
    cargo.arg("--target-dir").arg(&build);
    for plugin in &plugins {
        cargo.args(["--package", &plugin.package]);
    }
    run::run(&mut cargo)?;
    for plugin in &plugins {
        let module = build.join(TARGET).join(PROFILE).join(format!("{}.wasm", plugin.module));
        let place = if plugin.is_example { folder.join("examples") } else { folder.clone() };
        encode(&module, &place.join(format!("{}.wasm", plugin.package)))?;
    }
    for source in c::folders(&workspace.root) {
        if let Some(module) = c::module(workspace, &source, &build.join("c"))? {
            let name = module.file_name().expect("a module is a file");
            encode(&module, &folder.join("examples").join(name))?;
        }
    }
    Ok(())
}

fn target_folder(metadata: &Value) -> Result<PathBuf, Failed> {
    let target = metadata["target_directory"].as_str().map(PathBuf::from);
    target.ok_or_else(|| Failed("cargo names no target folder.".to_owned()))
}

/// The packages that use the SDK and make a library that others than Rust can load.
fn plugins(metadata: &Value, root: &Path) -> Vec<Plugin> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let is_cdylib = |target: &&Value| list(&target["crate_types"]).contains(&"cdylib".into());
    let uses_sdk = |package: &&Value| {
        list(&package["dependencies"]).iter().any(|it| it["name"] == SDK && it["kind"].is_null())
    };
    let packages = list(&metadata["packages"]);
    let plugins = packages.iter().filter(uses_sdk).filter_map(|package| {
        let targets = list(&package["targets"]);
        let module = targets.iter().find(is_cdylib)?["name"].as_str()?.replace('-', "_");
        let manifest = Path::new(package["manifest_path"].as_str()?);
        let is_example = !manifest.starts_with(root.join("plugins"));
        Some(Plugin { package: package["name"].as_str()?.to_owned(), module, is_example })
    });
    plugins.collect()
}

/// Makes a component of a module, unless it is made already.
fn encode(module: &Path, component: &Path) -> Result<(), Failed> {
    if is_younger(component, module) {
        return Ok(());
    }
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Failed(format!("{}: {what}: {error}.", module.display()))
    };
    let bytes = fs::read(module).map_err(|error| failed("cannot be read", &error))?;
    let encoder = ComponentEncoder::default().validate(true);
    let encoded = encoder.module(&bytes).and_then(|mut encoder| encoder.encode());
    let encoded = encoded.map_err(|error| failed("is no component", &format!("{error:#}")))?;
    let place = component.parent().expect("a component lies in a folder");
    fs::create_dir_all(place).map_err(|error| failed("no folder for it", &error))?;
    // Whole or not at all: an embedding build may read it meanwhile.
    let new = component.with_extension("new");
    let written = fs::write(&new, &encoded).and_then(|()| fs::rename(&new, component));
    written.map_err(|error| failed("cannot be written", &error))?;
    let name = component.file_name().unwrap_or_default().to_string_lossy();
    println!("== plugins: {name}, {} bytes", encoded.len());
    Ok(())
}

fn is_younger(what: &Path, than: &Path) -> bool {
    let time = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    time(what).zip(time(than)).is_some_and(|(what, than)| what >= than)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_uses_the_sdk_and_is_a_cdylib() {
        let package = |name: &str, folder: &str, types: &[&str], needs: Value| {
            serde_json::json!({
                "name": name,
                "manifest_path": format!("/r/{folder}/Cargo.toml"),
                "dependencies": [needs],
                "targets": [{ "name": name, "crate_types": types }],
            })
        };
        let sdk = serde_json::json!({ "name": SDK, "kind": null });
        let dev = serde_json::json!({ "name": SDK, "kind": "dev" });
        let both = ["cdylib", "rlib"];
        let metadata = serde_json::json!({ "packages": [
            package("a-b", "plugins/a-b", &both, sdk.clone()),
            package("c", "examples/c", &both, sdk.clone()),
            package("only-tests", "plugins/d", &both, dev),
            package("library", "plugins/e", &["lib"], sdk),
        ] });
        let plugins = plugins(&metadata, Path::new("/r"));
        let names: Vec<_> = plugins.iter().map(|it| (it.module.as_str(), it.is_example)).collect();
        assert_eq!(names, [("a_b", false), ("c", true)]);
    }
}
