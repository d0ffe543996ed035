//! `yard`: the one binary. It runs a broker, and it is a client of one.
//!
//! ```text
//!   catalogue ──► args ──► verbs ──► operation   any operation: texts -> call -> value -> output
//!                            ├─────► publish     lines -> messages -> receipts -> summary
//!                            ├─────► subscribe   deliveries -> lines -> settlements
//!                            ├─────► bench       a broker beside the limits of the machine
//!                            ├─────► find, peek  one message, or those of a key -> page or lines
//!                            ├─────► log         files of a broker that need not run
//!                            ├─────► fetch, dev, serve, explain, contexts
//!                            ▼
//!              stdout: data only      stderr: everything else      exit code: how it ended
//! ```
//!
//! Invariants: nothing is started before the command line was read; a closed output is no error;
//! what others wrote reaches a terminal without control characters, unless bodies are asked for
//! as they are.
//!
//! Start reading at [`args`], then [`verbs`].
mod args;
mod context;
mod failure;
mod message;
mod output;
mod terminal;
mod text;
mod verbs;

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use yard_server::COMPILE_ARGUMENT;

use crate::failure::Failure;
use crate::output::Format;

fn main() -> ExitCode {
    let started = Instant::now();
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == COMPILE_ARGUMENT) {
        return yard_server::compile_child(arguments);
    }
    let matches = match args::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return misused(&error),
    };
    let parsed = args::parsed(&matches);
    let format = parsed.format;
    match verbs::run(parsed, started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report(format);
            failure.exit.into()
        }
    }
}

/// What clap has to say: help on stdout, a mistake on stderr in the format that was asked for.
fn misused(error: &clap::Error) -> ExitCode {
    let words: Vec<_> = env::args().collect();
    let json = words.windows(2).any(|pair| {
        matches!(&pair[0][..], "-o" | "--output") && matches!(&pair[1][..], "json" | "ndjson")
    }) || words.iter().any(|word| {
        matches!(&word[..], "-ojson" | "-ondjson" | "--output=json" | "--output=ndjson")
    });
    if error.use_stderr() && json {
        let text = error.to_string();
        let failure = Failure::usage(text.trim_start_matches("error: ").trim_end());
        failure.report(Format::Json);
        return failure.exit.into();
    }
    // Help that nobody reads any more is not worth an error.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
