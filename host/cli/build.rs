//! Embeds the pages of `protocol/errors`, so that `yard explain` needs no files.
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let pages = here.join("../../protocol/errors");
    println!("cargo::rerun-if-changed={}", pages.display());
    let mut found: Vec<(String, PathBuf)> = fs::read_dir(&pages)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path().canonicalize().ok()?;
            let label = path.file_stem()?.to_str()?.to_owned();
            let page = path.extension()? == "md" && label.starts_with('E');
            page.then_some((label, path))
        })
        .collect();
    found.sort();
    let mut table =
        String::from("/// Label and text of every page.\nconst PAGES: &[(&str, &str)] = &[\n");
    for (label, path) in found {
        println!("cargo::rerun-if-changed={}", path.display());
        writeln!(table, "    ({label:?}, include_str!({:?})),", path.display().to_string())
            .expect("a string can be written to");
    }
    table.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("pages.rs"), table).expect("the output folder of a build can be written");
}
