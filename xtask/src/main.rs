//! `cargo xtask`: everything that one does with this repository, with nothing to install first.
//!
//! One row of [`COMMANDS`] is one command. [`needs`] prepares the machine, [`tasks`] says what
//! each command does, [`tidy`] holds the rules that the compiler cannot. Start reading at
//! [`tasks::test`].

mod campaign;
mod measure;
mod needs;
mod plugins;
mod run;
mod tasks;
mod tidy;

use std::env;
use std::process::ExitCode;

use run::{Failed, Workspace};

/// One command of the menu.
struct Command {
    name: &'static str,
    arguments: &'static str,
    says: &'static str,
    run: fn(&Workspace, &[String]) -> Result<(), Failed>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "dev",
        arguments: "[ARGS]",
        says: "build and run a broker for development: `yard dev ARGS`",
        run: tasks::dev,
    },
    Command {
        name: "test",
        arguments: "",
        says: "set-up, format, tidy, clippy, all tests, slices of simulation and campaigns",
        run: tasks::test,
    },
    Command { name: "ci", arguments: "", says: "exactly what CI runs (= test)", run: tasks::test },
    Command {
        name: "plugins",
        arguments: "",
        says: "build plugins and examples to target/plugins/*.wasm; other builds embed them",
        run: plugins::command,
    },
    Command {
        name: "tidy",
        arguments: "[--report]",
        says: "check the rules of the house; --report lists them, with figures",
        run: tidy::command,
    },
    Command {
        name: "sim",
        arguments: "[ARGS]",
        says: "run the deterministic simulator; ARGS go to it",
        run: tasks::sim,
    },
    Command {
        name: "stack",
        arguments: "[ARGS]",
        says: "run client, QUIC and broker in a world from a seed; ARGS go to it",
        run: tasks::stack,
    },
    Command {
        name: "crash",
        arguments: "[--quick]",
        says: "kill a real broker, damage its files, fail its disk; a table of what was lost",
        run: campaign::crash,
    },
    Command {
        name: "powercut",
        arguments: "[--quick]",
        says: "cut the power at every write of recorded runs; a table of what was lost",
        run: campaign::powercut,
    },
    Command {
        name: "scale",
        arguments: "--what WHAT [ARGS]",
        says: "measure many topics and long logs: spread, memory, restart or lookups",
        run: tasks::scale,
    },
    Command {
        name: "bench",
        arguments: "[plugins] [--quick] [--only=RUN]",
        says: "measure everything beside the limits of this machine; writes docs/performance.md \
               (plugins: what they cost beside native code; writes its table in docs/plugins.md)",
        run: measure::bench,
    },
    Command {
        name: "profile",
        arguments: "",
        says: "where the processor time of a message goes; writes docs/performance.md",
        run: measure::profile,
    },
    Command {
        name: "golden",
        arguments: "",
        says: "run all tests and rewrite what they expect; review the difference",
        run: tasks::golden,
    },
    Command { name: "help", arguments: "", says: "this list", run: help },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let name = arguments.first().map_or("help", String::as_str);
    let name = if matches!(name, "-h" | "--help") { "help" } else { name };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprintln!("xtask: there is no command `{name}`; `cargo xtask help` lists them.");
        return ExitCode::FAILURE;
    };
    let rest = arguments.get(1..).unwrap_or_default();
    match Workspace::find().and_then(|workspace| (command.run)(&workspace, rest)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("xtask {name}: {failed}");
            ExitCode::FAILURE
        }
    }
}

fn help(_: &Workspace, _: &[String]) -> Result<(), Failed> {
    for Command { name, arguments, says, .. } in COMMANDS {
        println!("cargo xtask {:<18} {says}", format!("{name} {arguments}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::COMMANDS;

    #[test]
    fn each_command_has_one_name_and_a_line_of_help() {
        for (index, command) in COMMANDS.iter().enumerate() {
            assert!(!command.says.is_empty(), "{} says nothing", command.name);
            let first = COMMANDS.iter().position(|other| other.name == command.name);
            assert_eq!(first, Some(index), "{} is listed twice", command.name);
        }
    }
}
