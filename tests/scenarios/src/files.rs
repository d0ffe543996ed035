//! The files, and where each is listed.
use std::fs;
use std::path::{Path, PathBuf};

use crate::host::Kind;
use crate::scenario::{self, Scenario};
use crate::words::Wrong;

/// Chooses scenarios: those whose file has this in its name.
const VARIABLE: &str = "SCENARIO";

/// The folder of files.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("files")
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).expect("the folder of files can be read");
    for entry in entries {
        let path = entry.expect("the folder of files can be read").path();
        if path.is_dir() {
            collect(&path, paths);
        } else {
            paths.push(path);
        }
    }
}

/// The names of all files, `AREA/NAME.txt`, in order.
///
/// # Panics
/// When the folder cannot be read.
#[must_use]
pub fn names() -> Vec<String> {
    let (folder, mut paths) = (folder(), Vec::new());
    collect(&folder, &mut paths);
    let name = |path: &PathBuf| {
        let name = path.strip_prefix(&folder).expect("it was found there");
        name.to_string_lossy().into_owned()
    };
    let mut names: Vec<String> = paths.iter().map(name).collect();
    names.sort_unstable();
    names
}

/// All scenarios, or those whose name has the environment's `SCENARIO` in it.
///
/// # Errors
/// What is wrong with files, each with its line.
///
/// # Panics
/// When a file cannot be read.
pub fn all() -> Result<Vec<Scenario>, Vec<Wrong>> {
    let wanted = std::env::var(VARIABLE).unwrap_or_default();
    let (mut scenarios, mut wrong) = (Vec::new(), Vec::new());
    for name in names().into_iter().filter(|name| name.contains(&wanted)) {
        let text = fs::read_to_string(folder().join(&name)).expect("a file can be read");
        match scenario::read(&name, &text) {
            Ok(scenario) => scenarios.push(scenario),
            Err(says) => wrong.push(says),
        }
    }
    if wrong.is_empty() { Ok(scenarios) } else { Err(wrong) }
}

/// Those that a host carries out, and how many are left out there.
#[must_use]
pub fn of_host(kind: Kind, scenarios: Vec<Scenario>) -> (Vec<Scenario>, usize) {
    let is_left_out = |it: &Scenario| it.not_on.iter().any(|(other, _)| *other == kind);
    let (left_out, kept): (Vec<_>, Vec<_>) = scenarios.into_iter().partition(is_left_out);
    (kept, left_out.len())
}
