//! What each command of the menu does.

use std::os::unix::process::CommandExt;

use crate::run::{self, Failed, Outcome, Workspace, step};
use crate::{campaign, needs, plugins, tidy};

/// What `test` asks of the simulators: enough seeds to notice a broken invariant, few enough for
/// every push. Each knows how many that is.
const SLICE: &str = "--slice";

/// Asks a campaign for a slice of some seconds.
const QUICK: &str = "--quick";

/// Everything that must hold before a change is taken, in the order of what fails fastest.
pub(crate) fn test(workspace: &Workspace, _: &[String]) -> Result<(), Failed> {
    step("set-up", || set_up(workspace).map(|()| Outcome::Done))?;
    step("format", || {
        if !workspace.has_component("fmt") {
            return Ok(Outcome::Skipped("rustfmt is missing: `rustup component add rustfmt`"));
        }
        let done = run::run(&mut workspace.cargo(["fmt", "--all", "--check"]));
        done.map_err(|Failed(why)| Failed(format!("{why} `cargo fmt --all` repairs it.")))?;
        Ok(Outcome::Done)
    })?;
    step("tidy", || tidy::check(workspace).map(|()| Outcome::Done))?;
    step("clippy", || {
        if !workspace.has_component("clippy") {
            return Ok(Outcome::Skipped("clippy is missing: `rustup component add clippy`"));
        }
        let mut clippy = workspace.cargo(["clippy", "--workspace", "--all-targets"]);
        run::run(clippy.args(["--", "-D", "warnings"]))?;
        Ok(Outcome::Done)
    })?;
    step("tests", || {
        // What fails is listed whole, not one program at a time.
        run::run(&mut workspace.cargo(["test", "--workspace", "--no-fail-fast"]))?;
        Ok(Outcome::Done)
    })?;
    let slice = [SLICE.to_owned()];
    step("simulation", || sim(workspace, &slice).map(|()| Outcome::Done))?;
    step("whole stack", || stack(workspace, &slice).map(|()| Outcome::Done))?;
    let quick = [QUICK.to_owned()];
    step("power cuts", || campaign::powercut(workspace, &quick).map(|()| Outcome::Done))?;
    step("crashes", || campaign::crash(workspace, &quick).map(|()| Outcome::Done))
}

/// A broker for development. Replaces this process, so that Ctrl-C and the exit code are the
/// broker's own.
pub(crate) fn dev(workspace: &Workspace, arguments: &[String]) -> Result<(), Failed> {
    set_up(workspace)?;
    let mut yard = workspace.program("yard")?;
    let error = yard.arg("dev").args(arguments).exec();
    Err(run::not_started(&yard, &error))
}

/// The simulator, with its arguments passed through. The dev profile is optimised.
pub(crate) fn sim(workspace: &Workspace, arguments: &[String]) -> Result<(), Failed> {
    needs::set_up()?;
    run::run(workspace.program("yard-sim")?.args(arguments))
}

/// Client, QUIC, TLS and broker in a world from a seed, with its arguments passed through.
pub(crate) fn stack(workspace: &Workspace, arguments: &[String]) -> Result<(), Failed> {
    needs::set_up()?;
    run::run(workspace.program("yard-stack")?.args(arguments))
}

/// What many topics and a long log cost, with its arguments passed through. Both programs are as
/// they are deployed; the measuring one builds the other.
pub(crate) fn scale(workspace: &Workspace, arguments: &[String]) -> Result<(), Failed> {
    needs::set_up()?;
    let mut scale =
        workspace.cargo(["run", "--quiet", "--release", "-p", "yard-it", "--bin", "yard-scale"]);
    run::run(scale.arg("--").args(arguments))
}

/// All tests, rewriting the files that they compare with.
pub(crate) fn golden(workspace: &Workspace, _: &[String]) -> Result<(), Failed> {
    set_up(workspace)?;
    run::run(workspace.cargo(["test", "--workspace"]).env("UPDATE_EXPECT", "1"))?;
    println!("Expectations are rewritten: read `git diff` before you keep them.");
    Ok(())
}

/// What the broker and its tests are built from: a ready machine, and the plugins as wasm.
fn set_up(workspace: &Workspace) -> Result<(), Failed> {
    needs::set_up()?;
    plugins::build(workspace)
}
