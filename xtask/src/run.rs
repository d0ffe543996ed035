//! Running programs and reporting steps: each has a name and a duration, the first failure ends
//! the run with a sentence.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Why a command of the menu ended early, as a sentence for the person who ran it.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) String);

impl fmt::Display for Failed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// How a step ended, when it did not fail.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done,
    /// Not run, and why.
    Skipped(&'static str),
}

/// The checkout that we work on.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    cargo: OsString,
}

impl Workspace {
    /// The workspace that this program was started from. Cargo names the folder of the manifest
    /// when it runs us; the value of compile time would be wrong when two checkouts share a
    /// target folder.
    pub(crate) fn find() -> Result<Workspace, Failed> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().map(PathBuf::from).filter(|root| root.is_dir());
        let root = root.ok_or_else(|| Failed("start me as `cargo xtask`.".to_owned()))?;
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Ok(Workspace { root, cargo })
    }

    /// A cargo command in the root of the workspace, still to be run.
    pub(crate) fn cargo<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = Command::new(&self.cargo);
        command.args(arguments).current_dir(&self.root);
        command
    }

    /// The compiler that cargo uses here, still to be run.
    pub(crate) fn rustc(&self) -> Command {
        let mut command = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        command.current_dir(&self.root);
        command
    }

    /// Whether this cargo subcommand is installed: rustfmt and clippy are optional components.
    pub(crate) fn has_component(&self, subcommand: &str) -> bool {
        succeeds_quietly(&mut self.cargo([subcommand, "--version"]))
    }

    /// A program of the workspace, built in the dev profile, still to be run. With the features of
    /// all packages, as the tests are built: alone, half of what it is made of would be built anew.
    pub(crate) fn program(&self, name: &str) -> Result<Command, Failed> {
        run(&mut self.cargo(["build", "--quiet", "--workspace", "--bin", name]))?;
        let metadata = self.metadata()?;
        // Cargo's answer honours CARGO_TARGET_DIR and every configuration file.
        let target = metadata["target_directory"].as_str();
        let target = target.ok_or_else(|| Failed("cargo names no target folder.".to_owned()))?;
        Ok(Command::new(Path::new(target).join("debug").join(name)))
    }

    /// `cargo metadata` of the workspace's own packages; needs no network.
    pub(crate) fn metadata(&self) -> Result<serde_json::Value, Failed> {
        let mut command = self.cargo(["metadata", "--no-deps", "--format-version", "1"]);
        let output = command.stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| not_started(&command, &error))?;
        if !output.status.success() {
            return Err(Failed(format!("`{}` failed.", line_of(&command))));
        }
        serde_json::from_slice(&output.stdout)
            .map_err(|error| Failed(format!("cannot read what cargo metadata says: {error}.")))
    }
}

/// Runs a command to its end, with our terminal as its own.
pub(crate) fn run(command: &mut Command) -> Result<(), Failed> {
    let status = command.status().map_err(|error| not_started(command, &error))?;
    if status.success() {
        return Ok(());
    }
    Err(Failed(format!("`{}` failed ({status}).", line_of(command))))
}

/// Whether a command can be run and succeeds; what it prints is thrown away.
pub(crate) fn succeeds_quietly(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The command as one would type it.
pub(crate) fn line_of(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program()).to_string_lossy();
    let mut line = program.into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// The failure of a program that could not even be started.
pub(crate) fn not_started(command: &Command, error: &std::io::Error) -> Failed {
    Failed(format!("cannot start `{}`: {error}.", line_of(command)))
}

/// Does one step of a longer run and says its name, how it ended and how long it took.
pub(crate) fn step(
    name: &str,
    work: impl FnOnce() -> Result<Outcome, Failed>,
) -> Result<(), Failed> {
    println!("== {name}");
    let begun = Instant::now();
    let outcome = work();
    let seconds = begun.elapsed().as_secs_f64();
    match outcome {
        Ok(Outcome::Done) => println!("== {name}: ok, {seconds:.1} s"),
        Ok(Outcome::Skipped(why)) => println!("== {name}: skipped, {why}"),
        Err(Failed(why)) => {
            println!("== {name}: FAILED, {seconds:.1} s");
            return Err(Failed(format!("stopped at step `{name}`: {why}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_is_named_in_the_sentence() {
        let failed = step("paint", || Err(Failed("no brush.".to_owned())));
        let failed = failed.expect_err("the step has failed");
        assert_eq!(failed.to_string(), "stopped at step `paint`: no brush.");
    }

    #[test]
    fn a_skipped_step_does_not_fail() {
        assert!(step("paint", || Ok(Outcome::Skipped("there is no wall"))).is_ok());
    }

    #[test]
    fn a_failing_program_is_quoted_as_one_would_type_it() {
        let failed = run(Command::new("/bin/sh").args(["-c", "exit 3"]));
        let failed = failed.expect_err("exit code 3 is a failure").to_string();
        assert!(failed.starts_with("`sh -c exit 3` failed"), "{failed}");
    }
}
