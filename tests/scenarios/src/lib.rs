//! Scenarios: what the broker promises, one text file a rule, carried out on three hosts.
//!
//! ```text
//!   files/AREA/NAME.txt ──► Scenario ──► run ──► Host ─┬─ Wired<Bare>       exact, no time passes
//!                            file:line            │    ├─ Wired<Simulated>  faults nobody may see
//!                                                 │    └─ tests/real       a process, QUIC, client
//!                                                 └──► rows, compared with what the file says
//! ```
//!
//! Invariants:
//! - A step says what comes of it, or goes well; what arrives and is not said fails the scenario.
//! - A file that cannot be read fails with its line, before anything is carried out.
//! - What a host cannot do is said in the file, with the reason.
//!
//! Start reading at a file, then [`steps`], [`run`].
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod bare;
pub mod files;
pub mod filter;
pub mod host;
mod member;
mod read;
pub mod rows;
pub mod run;
pub mod scenario;
pub mod simulated;
pub mod steps;
pub mod units;
pub mod wired;
pub mod words;

pub use host::{Host, Kind};
pub use run::run;
pub use scenario::Scenario;
