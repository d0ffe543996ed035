//! The console of operators: scripts of rhai against a broker, by the same API as everybody.
//!
//! ```text
//!   repl ──► Console ──► a thread a run ──► engine (strict, limited) ──► functions, from the book
//!   script ──┘  │                              │                           │
//!               │ Stop: a flag and a token ────┴── looked at by each ──────┤
//!               ▼                                                          ├─► cursors ──► source
//!            display ◄── value                                             └─► plan ──► journal
//!                                                           both ask the broker through a client
//! ```
//!
//! Invariants:
//! - Nothing is changed but by `apply` of a plan, which is written to the journal before it begins
//!   and read back afterwards; `matched = done + skipped + failed`, always.
//! - Every function of the catalogue is a function here; none of it knows more than a client does.
//! - A run ends within one operation of the engine, or one wait, after it was told to.
//! - Rows are read when they are needed, and what is held of them is bounded in bytes.
//!
//! Start reading at [`Console`], then `functions`; what a script may use is in [`Limits`].
mod book;
mod console;
mod display;
mod engine;
mod fault;
mod functions;
mod journal;
mod limits;
mod plan;
mod repl;
mod save;
mod script;
mod session;
pub mod show;
mod source;
mod stop;
mod value;

use std::time::{SystemTime, UNIX_EPOCH};

use yard_client::Timestamp;

pub use book::{Entry, Kind};
pub use console::{Console, Ended, Setup};
pub use fault::{Failure, Fault, Place as ScriptPlace};
pub use limits::{Limits, OPERATOR};

pub use repl::ask;
pub use script::Head;
pub use session::{Connecting, Place, Safety, Surroundings};
pub use stop::Stop;

/// The clock on the wall, in the broker's unit.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_millis() as u64)
}

#[cfg(test)]
mod tests;
