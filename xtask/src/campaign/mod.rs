//! `cargo xtask crash` and `cargo xtask powercut`: faults of every kind, and one table of what came
//! of them.
//!
//! ```text
//!   PARTS ──► programs of tests/it and tests/sim ──► `row|name|count|detail|verdict` ──► table
//! ```
mod table;

use std::process::{Command, Stdio};

use crate::needs;
use crate::run::{self, Failed, Workspace};
use table::Row;

/// A program of a campaign.
struct Part {
    program: &'static str,
    arguments: &'static [&'static str],
    /// More, for a slice that takes seconds.
    quick: &'static [&'static str],
}

const fn part(
    program: &'static str,
    arguments: &'static [&'static str],
    quick: &'static [&'static str],
) -> Part {
    Part { program, arguments, quick }
}

const CRASH: &[Part] = &[
    part("yard-crash", &["--rounds", "1000"], &["--rounds", "1"]),
    part("yard-faults", &["--run", "kill"], &["--every", "60"]),
    part("yard-damage", &[], &["--logs", "1", "--flips", "400", "--cut-every", "512"]),
    part("yard-faults", &["--run", "sync"], &["--every", "60"]),
    part("yard-faults", &["--run", "read"], &["--every", "8"]),
    part("yard-faults", &["--run", "space"], &["--every", "60"]),
    part("yard-faults", &["--run", "full"], &["--times", "1"]),
    part("yard-faults", &["--run", "slow"], &["--times", "1", "--seconds", "1"]),
];

const POWERCUT: &[Part] = &[part(
    "yard-powercut",
    &["--scripts", "40", "--draws", "20"],
    &["--scripts", "4", "--draws", "6"],
)];

/// Kills, damage and failing disks.
pub(crate) fn crash(workspace: &Workspace, arguments: &[String]) -> Result<(), Failed> {
    needs::set_up()?;
    workspace.program("yard")?;
    campaign(workspace, CRASH, arguments)
}

/// Power cuts.
pub(crate) fn powercut(workspace: &Workspace, arguments: &[String]) -> Result<(), Failed> {
    needs::set_up()?;
    campaign(workspace, POWERCUT, arguments)
}

fn campaign(workspace: &Workspace, parts: &[Part], arguments: &[String]) -> Result<(), Failed> {
    let is_quick = match arguments {
        [] => false,
        [word] if word == "--quick" => true,
        other => {
            return Err(Failed(format!("there is only --quick, not `{}`.", other.join(" "))));
        }
    };
    let mut rows = Vec::new();
    for part in parts {
        let mut command = workspace.program(part.program)?;
        command.args(part.arguments);
        if is_quick {
            command.args(part.quick);
        }
        println!("{}", run::line_of(&command));
        rows.extend(rows_of(&mut command)?);
    }
    print!("{}", table::write(&rows));
    // A slice takes what the machine offers; who asks for all of it wants all of it.
    let may_pass = |row: &&Row| row.is_good() || is_quick && row.is_skipped();
    let bad = rows.len() - rows.iter().filter(may_pass).count();
    if bad == 0 { Ok(()) } else { Err(Failed(format!("{bad} of {} rows are not ok.", rows.len()))) }
}

/// Runs a program and reads its rows; what else it says is shown.
fn rows_of(command: &mut Command) -> Result<Vec<Row>, Failed> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| run::not_started(command, &error))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let (rows, rest): (Vec<_>, Vec<_>) = said.lines().partition(|line| line.starts_with("row|"));
    rest.iter().for_each(|line| println!("{line}"));
    let mut rows: Vec<Row> = rows.into_iter().filter_map(Row::read).collect();
    if !output.status.success() && rows.iter().all(Row::is_good) {
        let why = String::from_utf8_lossy(&output.stderr);
        let why = why.lines().last().unwrap_or_default().trim();
        rows.push(Row::failed(&run::line_of(command), why));
    }
    if rows.is_empty() {
        return Err(Failed(format!("`{}` has counted nothing.", run::line_of(command))));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Vec<Row>, Failed> {
        rows_of(Command::new("/bin/sh").args(["-c", script]))
    }

    #[test]
    fn rows_and_failures_are_read() {
        let rows = shell("echo begun; echo 'row|R1|3 kills|all there|ok'").expect("it counts");
        assert_eq!(rows.len(), 1);
        assert!(rows[0].is_good());
        let rows = shell("echo 'row|R1|3 kills|one lost|FOUND'; exit 1").expect("it counts");
        assert!(rows.len() == 1 && !rows[0].is_good());
        let rows = shell("echo 'row|R1|3 kills|all there|ok'; echo no port >&2; exit 2");
        let rows = rows.expect("it counts");
        assert!(rows.len() == 2 && !rows[1].is_good(), "a failure behind good rows is a row");
        let rows = shell("echo 'row|R8|0 runs|no strace|skipped'").expect("it says why not");
        assert!(!rows[0].is_good() && rows[0].is_skipped());
        assert!(shell("true").is_err(), "what counts nothing proves nothing");
    }
}
