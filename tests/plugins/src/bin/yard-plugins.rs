//! Measures plugins: what a message costs at each point, and what the host does in time.
//!
//! ```text
//! yard-plugins --what points|workers|swaps|loads|uploads|consume [--messages N] [--rounds N]
//!              [--swaps N] [--plugin NAME] [--batch N] [--yard PATH]
//!              [--table PATH]
//! ```
//!
//! `points` measures one plugin where `--plugin` names it and batches of one size where `--batch`
//! does, and writes its table to the file of `--table`. Exit codes: 0 measured, 2 not run.
use std::path::Path;
use std::process::ExitCode;

use yard_it::arguments::Arguments;
use yard_it::{Failed, program};
use yard_plugins::sandbox::Tools;
use yard_plugins::{broker, points, speed};

fn main() -> ExitCode {
    let flags = ["what", "messages", "rounds", "swaps", "plugin", "batch", "yard", "table"];
    program::run("yard-plugins", &flags, measure)
}

async fn measure(arguments: &Arguments) -> Result<(), Failed> {
    let given = arguments.text("yard").map(Path::new);
    let tools = Tools::new(given)?;
    let rounds = arguments.value("rounds", 9)?;
    let messages = |unless_given| arguments.value("messages", unless_given);
    let report = match arguments.text("what") {
        // More bytes than any cache has, so that records are met cold.
        Some("points") => {
            let messages = messages(160_000)?;
            let plugin = arguments.text("plugin");
            let batch = arguments.text("batch").map(|_| arguments.value("batch", 0)).transpose()?;
            let only = points::Only { plugin, batch };
            let costs = points::measure(&tools, only, messages, rounds)?;
            let table = points::table(&costs);
            print!("{table}");
            if let Some(path) = arguments.text("table") {
                std::fs::write(path, table)?;
            }
            points::report(&costs, messages, rounds)
        }
        Some("workers") => speed::workers(&tools, messages(160_000)?, rounds)?,
        Some("swaps") => speed::swaps(&tools, arguments.value("swaps", 1_000)?)?,
        Some("loads") => speed::loads(&tools)?,
        Some("uploads") => broker::uploads(&tools, given, rounds).await?,
        Some("consume") => broker::consume(given, messages(400_000)?, rounds).await?,
        other => {
            let known = "points, workers, swaps, loads, uploads, consume";
            return Err(Failed(format!("--what takes one of {known}, not {other:?}")));
        }
    };
    print!("{report}");
    Ok(())
}
