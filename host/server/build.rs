//! Puts the first-party plugins into the program: what `cargo xtask plugins` has left in
//! `target/plugins`. Without them the program is built all the same, and says so where one is
//! wanted.
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders between the target folder and the output of a build script: profile, `build`, package.
const ABOVE_MAX: usize = 6;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where to write"));
    let plugins = folder(&out);
    println!("cargo::rerun-if-changed={}", plugins.display());
    let mut list = String::from("&[\n");
    for path in files(&plugins) {
        println!("cargo::rerun-if-changed={}", path.display());
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let path = path.display().to_string();
        writeln!(list, "    ({name:?}, include_bytes!({path:?})),").expect("memory takes it");
    }
    list.push_str("]\n");
    fs::write(out.join("embedded.rs"), list).expect("cargo's folder can be written");
}

/// The folder of built plugins: beside the profile's folder, where there is one; else where it
/// would be.
fn folder(out: &Path) -> PathBuf {
    let above = out.ancestors().skip(1).take(ABOVE_MAX).map(|above| above.join("plugins"));
    let mut usual = out.ancestors().skip(4).map(|target| target.join("plugins"));
    let found = above.filter(|folder| !files(folder).is_empty()).last();
    found.or_else(|| usual.next()).expect("the output has folders above it")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let files = entries.map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|it| it == "wasm")).collect();
    files.sort();
    files
}
