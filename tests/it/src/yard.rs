//! The program under test: where it is, and how it is run to its end.
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::Failed;

/// Names the program; without it the one next to the running test is used, built first.
const VARIABLE: &str = "YARD_BIN";

/// The path of `yard`: the one given, that of the environment variable `YARD_BIN`, or the one in
/// the folder of this very program, brought up to date with cargo.
///
/// # Errors
/// When there is none and it cannot be built.
pub fn locate(given: Option<&Path>) -> Result<PathBuf, Failed> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let given = given.map(Path::to_owned).or_else(|| env::var_os(VARIABLE).map(PathBuf::from));
    match given {
        Some(path) if path.is_file() => Ok(path),
        Some(path) => Err(Failed(format!("{} is not there", path.display()))),
        None => FOUND.get_or_init(|| beside().map_err(|Failed(why)| why)).clone().map_err(Failed),
    }
}

/// Where a plugin is that was built beside a program; an example's is called `examples/NAME`.
#[must_use]
pub fn plugin(program: &Path, name: &str) -> PathBuf {
    let target = program.ancestors().nth(2).unwrap_or(Path::new("."));
    target.join("plugins").join(format!("{name}.wasm"))
}

fn beside() -> Result<PathBuf, Failed> {
    let me = env::current_exe()?;
    let mut folder = me.parent().unwrap_or(Path::new(".")).to_owned();
    if folder.file_name() == Some(OsStr::new("deps")) {
        folder.pop();
    }
    let path = folder.join("yard");
    // Cargo decides what must be built: one that is there may be older than its sources.
    let built = build(&folder);
    match (path.is_file(), built) {
        (true, Ok(())) => Ok(path),
        (true, Err(why)) => Err(Failed(format!("{} may be old: {why}", path.display()))),
        (false, built) => Err(built.err().unwrap_or_else(|| {
            Failed(format!("cargo built no {}; set {VARIABLE}", path.display()))
        })),
    }
}

fn build(folder: &Path) -> Result<(), Failed> {
    let target = folder.parent().unwrap_or(folder);
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--bin", "yard", "--manifest-path"]).arg(&manifest);
    command.arg("--target-dir").arg(target);
    if folder.file_name() == Some(OsStr::new("release")) {
        // As it is deployed.
        command.args(["--release", "-p", "yard-cli"]);
    } else {
        // With the features of all packages, as the tests are built: nothing is built twice.
        command.arg("--workspace");
    }
    // Meant for the package that cargo runs, not for the one that it shall build.
    command.env_remove("CARGO_MANIFEST_DIR").stdin(Stdio::null());
    let status = command.status()?;
    if status.success() {
        return Ok(());
    }
    Err(Failed(format!("`cargo build --bin yard` failed; {VARIABLE} can name a program")))
}

/// A command of `yard` for a broker, not yet run. It reads and writes nothing of the user's own.
#[must_use]
pub fn command(yard: &Path, context: &Path) -> Command {
    let mut command = Command::new(yard);
    command.arg("--context").arg(context).stdin(Stdio::null()).env_remove("YARD_CONTEXT");
    command.env("YARD_HOME", context.parent().unwrap_or(Path::new(".")).join("home"));
    command
}
