//! Proof on the real thing: what the tests of the real process and its programs share.
//!
//! ```text
//!   yard-crash ──────┐            ┌─► Server: `yard serve --dev`, killed and started again
//!   yard-faults ─────┤            │            also under strace: see `faults`
//!   yard-neighbour ──┤
//!   yard-life ───────┼─► this ────┼─► yard_client, or raw QUIC frames
//!   tests/all ───────┘            └─► History ─► yard_checker: the verdict
//! ```
//!
//! Invariants:
//! - A process that was started here is dead when its value is dropped.
//! - Nothing waits by sleeping for a fixed time: every wait has a condition and a deadline.
//! - A run is repeated by its seed, as far as a real machine can repeat anything.
//!
//! Start reading at [`server`], then [`crash`].
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod arguments;
pub mod crash;
mod failed;
mod far;
pub mod faults;
pub mod flights;
pub mod guests;
pub mod life;
pub mod lossy;
pub mod neighbour;
pub mod program;
pub mod raw;
pub mod scale;
pub mod scratch;
pub mod seeded;
pub mod server;
pub mod swaps;
pub mod tenant;
pub mod wait;
pub mod yard;

pub use failed::Failed;
pub use scratch::Scratch;
pub use seeded::Seeded;
pub use server::{Server, ServerOptions};
