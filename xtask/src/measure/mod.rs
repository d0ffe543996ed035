//! `cargo xtask bench` and `cargo xtask profile`: how fast it is, and where the time goes.
//!
//! ```text
//!   rows.rs: runs ──► yard bench, a pair of broker and limit after another ──► figures
//!            rows ◄── ratios of each pair: median, least, most; beside their bars
//!   profile.rs: perf ──► stages.rs: symbols to stages ──► figures
//!   docs/performance.json: the figures ──► page.rs ──► docs/performance.md
//! ```
mod machine;
mod page;
mod plugins;
mod profile;
mod rows;
mod stages;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::needs;
use crate::run::{self, Failed, Workspace};

/// Where figures are kept and where people read them, below the workspace.
const FIGURES: &str = "docs/performance.json";
const PAGE: &str = "docs/performance.md";
/// What is measured instead of the broker.
const PLUGINS: &str = "plugins";

/// Runs the table of what must be shown, and writes the page.
pub(crate) fn bench(workspace: &Workspace, arguments: &[String]) -> Result<(), Failed> {
    if let Some((PLUGINS, rest)) = arguments.split_first().map(|(first, rest)| (&**first, rest)) {
        return plugins::bench(workspace, rest);
    }
    let options = rows::Options::read(arguments)?;
    let measuring = Measuring::prepare(workspace)?;
    let (runs, rows) = rows::measure(&measuring, &options)?;
    let mut figures = figures(workspace);
    figures["machine"] = machine::describe();
    figures["pairs"] = options.pairs.into();
    figures["seconds"] = options.seconds.into();
    figures["priority"] = measuring.priority.into();
    if options.is_partial() {
        replace_part(&mut figures, runs, rows);
    } else {
        figures["runs"] = runs;
        figures["rows"] = rows;
    }
    keep(workspace, &figures)
}

/// Puts figures of some runs in the place of their earlier ones; the others stay.
fn replace_part(figures: &mut Value, runs: Value, rows: Value) {
    if let Value::Object(runs) = runs {
        for (name, run) in runs {
            figures["runs"][name] = run;
        }
    }
    let (Value::Array(rows), Some(kept)) = (rows, figures["rows"].as_array_mut()) else { return };
    for row in rows {
        match kept.iter_mut().find(|kept| kept["says"] == row["says"]) {
            Some(kept) => *kept = row,
            None => kept.push(row),
        }
    }
}

/// Profiles a run of producing and one of consuming, and writes the page.
pub(crate) fn profile(workspace: &Workspace, arguments: &[String]) -> Result<(), Failed> {
    if let Some(unknown) = arguments.first() {
        return Err(Failed(format!("profile takes no argument, not {unknown:?}.")));
    }
    if !run::succeeds_quietly(Command::new("perf").arg("--version")) {
        return Err(Failed(
            "there is no `perf`: install linux-perf (Debian) or linux-tools (Ubuntu).".to_owned(),
        ));
    }
    let measuring = Measuring::prepare(workspace)?;
    let mut figures = figures(workspace);
    figures["profile"] = json!({
        "produce": profile::run(&measuring, "produce")?,
        "consume": profile::run(&measuring, "consume")?,
    });
    keep(workspace, &figures)
}

/// What every measurement needs.
struct Measuring {
    yard: PathBuf,
    /// A folder on the disk that the build is on, for temporary data.
    folder: PathBuf,
    /// Whether latency can be measured under a real-time priority.
    priority: bool,
}

impl Measuring {
    fn prepare(workspace: &Workspace) -> Result<Self, Failed> {
        needs::set_up()?;
        // What is deployed: without debug assertions, which cost our own code more than QUIC.
        run::run(&mut workspace.cargo(["build", "--release", "-p", "yard-cli"]))?;
        let metadata = workspace.metadata()?;
        let target = metadata["target_directory"].as_str();
        let target = target.ok_or_else(|| Failed("cargo names no target folder.".to_owned()))?;
        let yard = Path::new(target).join("release/yard");
        let priority = run::succeeds_quietly(Command::new("chrt").args(["-f", "10", "true"]));
        if !priority {
            println!("`chrt -f 10` is not allowed here: latency is measured without it.");
        }
        Ok(Self { yard, folder: target.into(), priority })
    }
}

/// The figures of earlier runs; what is measured now takes their place.
fn figures(workspace: &Workspace) -> Value {
    let text = fs::read_to_string(workspace.root.join(FIGURES)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_else(|_| json!({}))
}

fn keep(workspace: &Workspace, figures: &Value) -> Result<(), Failed> {
    let write = |name: &str, text: String| {
        let path = workspace.root.join(name);
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = folder.and_then(|()| fs::write(&path, text));
        written.map_err(|error| Failed(format!("cannot write {name}: {error}.")))
    };
    write(FIGURES, format!("{figures:#}\n"))?;
    write(PAGE, page::write(figures))?;
    println!("{PAGE} is written.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_takes_the_place_of_its_earlier_figures() {
        let row = |says: &str, met: bool| json!({ "says": says, "met": met });
        let mut figures = json!({
            "runs": { "a": 1, "b": 2 },
            "rows": [row("x", false), row("y", false)],
        });
        let (runs, rows) = (json!({ "b": 3 }), json!([row("y", true), row("z", true)]));
        replace_part(&mut figures, runs, rows);
        assert_eq!(figures["runs"], json!({ "a": 1, "b": 3 }));
        assert_eq!(figures["rows"], json!([row("x", false), row("y", true), row("z", true)]));
    }
}
