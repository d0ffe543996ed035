//! Tables in memory for engines that have very many small entries, of which every byte counts.
//!
//! ```text
//!   Paged   key 0 ─► [(0, …) (1, …) … (255, …)]   key 256 ─► [(256, …) …]   …     sorted
//!   Chunks  [0 … 1023] [1024 … 2047] …                                            by number
//! ```
//!
//! Invariants:
//! - Memory comes in pieces that are large beside a page of the system's, and nearly all of it is
//!   used. What is freed between them goes back to the system: small pieces, of which each holds
//!   on to a page, would not let it.
//! - Growing copies no more than one piece.
//! - Equal calls give equal tables, in equal order.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod chunks;
mod paged;

pub use chunks::Chunks;
pub use paged::Paged;
