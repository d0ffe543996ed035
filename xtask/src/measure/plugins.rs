//! `cargo xtask bench plugins`: what a message costs at each plugin point beside native code, and
//! what the host does in time. The table goes into the guide of authors.
use std::fs;

use super::Measuring;
use crate::plugins;
use crate::run::{self, Failed, Workspace};

/// Where the table is, between these lines.
const GUIDE: &str = "docs/plugins.md";
const BEGIN: &str = "<!-- what `cargo xtask bench plugins` has measured -->\n";
const END: &str = "<!-- end of what it has measured -->\n";

/// What is measured, in this order.
const RUNS: [&str; 6] = [POINTS, "workers", "swaps", "loads", "uploads", "consume"];
const POINTS: &str = "points";

/// Measures, and rewrites the table where points were measured.
pub(super) fn bench(workspace: &Workspace, arguments: &[String]) -> Result<(), Failed> {
    let (only, rounds) = read(arguments)?;
    plugins::build(workspace)?;
    let measuring = Measuring::prepare(workspace)?;
    let table = measuring.folder.join("plugins-table.md");
    for what in RUNS.into_iter().filter(|run| only.is_none_or(|only| only == *run)) {
        let mut run = workspace.cargo(["run", "--quiet", "--release", "-p", "yard-plugins", "--"]);
        run.args(["--what", what, "--yard"]).arg(&measuring.yard);
        if let Some(rounds) = rounds {
            run.args(["--rounds", rounds]);
        }
        if what == POINTS {
            run.arg("--table").arg(&table);
        }
        run::run(&mut run)?;
        if what == POINTS {
            let read = fs::read_to_string(&table);
            let rows = read.map_err(|error| failed(&table.display(), &error))?;
            keep(workspace, &rows)?;
        }
    }
    Ok(())
}

fn read(arguments: &[String]) -> Result<(Option<&str>, Option<&'static str>), Failed> {
    let (mut only, mut rounds) = (None, None);
    for argument in arguments {
        match argument.strip_prefix("--only=") {
            Some(run) if RUNS.contains(&run) => only = Some(run),
            Some(run) => return Err(Failed(format!("{run}: one of {}.", RUNS.join(", ")))),
            None if argument == "--quick" => rounds = Some("3"),
            None => return Err(Failed(format!("bench plugins takes no {argument:?}."))),
        }
    }
    Ok((only, rounds))
}

fn failed(what: &dyn std::fmt::Display, error: &dyn std::fmt::Display) -> Failed {
    Failed(format!("{what}: {error}."))
}

/// Puts the table into the guide.
fn keep(workspace: &Workspace, rows: &str) -> Result<(), Failed> {
    let path = workspace.root.join(GUIDE);
    let text = fs::read_to_string(&path).map_err(|error| failed(&GUIDE, &error))?;
    let text = replaced(&text, rows)
        .ok_or_else(|| Failed(format!("{GUIDE} has no place for the table: {BEGIN}")))?;
    fs::write(&path, text).map_err(|error| failed(&GUIDE, &error))?;
    println!("{GUIDE} is rewritten.");
    Ok(())
}

/// The text with these rows in the place of others.
fn replaced(text: &str, rows: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{rows}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_takes_the_place_of_an_older_one() {
        let page = |rows: &str| format!("a\n{BEGIN}\n{rows}\n{END}b\n");
        assert_eq!(replaced(&page("| 1 |\n"), "| 2 |\n| 3 |\n"), Some(page("| 2 |\n| 3 |\n")));
        assert_eq!(replaced("a\nb\n", "| 2 |\n"), None);
    }

    #[test]
    fn one_run_may_be_chosen() {
        let words = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        assert_eq!(read(&words(&["--only=swaps", "--quick"])).unwrap(), (Some("swaps"), Some("3")));
        assert!(read(&words(&["--only=nothing"])).is_err() && read(&words(&["fast"])).is_err());
    }
}
