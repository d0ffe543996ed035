//! Bad weather on loopback: a UDP relay that loses, delays, limits and reorders packets, by a seed.
//!
//! ```text
//!   client ◄──► relay's address │ Line: lost? queued? due when? │ a socket a client ◄──► broker
//!                               └── one thread: poll, receive, send what is due ──┘
//! ```
//!
//! Invariants:
//! - It sends to loopback only, holds a bounded number of packets, and ends with its value.
//! - What becomes of a packet is decided by [`Line`], a value without clock and I/O: equal seeds
//!   and equal offers give equal fates.
//! - It is late only where the machine is: packets leave when they are due, in one thread that
//!   sleeps in between.
//!
//! Start reading at [`line`].
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod line;
mod relay;

pub use line::{Fate, Line, Weather};
pub use relay::{Counts, Relay};
