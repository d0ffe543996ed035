//! How this package's programs begin and end.
use std::process::ExitCode;
use std::time::Duration;

use crate::Failed;
use crate::arguments::Arguments;

/// How long tasks may still run when a program has what it came for.
const TASKS_END: Duration = Duration::from_millis(100);

/// What a program found, as its exit code says it.
pub trait Verdict {
    /// Whether nothing is wrong.
    fn is_good(&self) -> bool;
}

/// A benchmark judges nothing.
impl Verdict for () {
    fn is_good(&self) -> bool {
        true
    }
}

impl Verdict for bool {
    fn is_good(&self) -> bool {
        *self
    }
}

/// Reads the program's arguments and runs it; `flags` are those that there are.
///
/// The exit code is 0 where nothing is wrong, 1 where something is, and 2 where the run could not
/// be carried out, which is then said under the program's name.
pub fn run<V: Verdict>(
    name: &str,
    flags: &[&str],
    program: impl AsyncFnOnce(&Arguments) -> Result<V, Failed>,
) -> ExitCode {
    if cfg!(debug_assertions) {
        // There the broker looks at its whole state now and then: 100 ms with 200,000 messages
        // that wait for their time.
        eprintln!("{name}: built with debug assertions, so its times say nothing of the product");
    }
    let run = || -> Result<V, Failed> {
        let arguments = Arguments::read(std::env::args().skip(1), flags)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let done = runtime.block_on(program(&arguments));
        runtime.shutdown_timeout(TASKS_END);
        done
    };
    match run() {
        Ok(verdict) if verdict.is_good() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(failed) => {
            eprintln!("{name}: {failed}");
            ExitCode::from(2)
        }
    }
}
