//! The plugins that come with the broker, in the sandbox and natively: what they cost.
//!
//! ```text
//!   target/plugins/NAME.wasm ─► sandbox ─► points, workers, swaps, loads    in this process
//!   the same crate, natively ─► points                                      beside it
//!   yard serve ◄─ pushes, consumers with filters and without ─ broker       over loopback
//! ```
//!
//! Ratios of one run mean something, times of one machine do not. Start reading at [`points`].
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod broker;
pub mod points;
pub mod sandbox;
pub mod speed;
pub mod traffic;
