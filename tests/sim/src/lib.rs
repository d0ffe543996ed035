//! The whole broker as values, in virtual time, under faults: one seed is one run, byte for byte.
//!
//! ```text
//!   seed ──► Plan ──► World ── agenda: what happens next ◄──────────────┐
//!                       ├─ clients    producers, consumers, readers ────┤
//!                       ├─ network    delays, stalls, cuts, replays ────┤
//!                       ├─ host       shards, their runner, lying disks ┤
//!                       └─ faults     kills, power cuts, full disks … ──┘
//!                            │
//!                            └─► History ──► yard_checker ──► verdict        Trace ──► hash
//! ```
//!
//! Invariants:
//! - Equal seeds give equal runs, in every build: no clock, no thread, no address decides.
//! - The code under test is the shipped one; what is planted is a wrapper around it.
//! - Whatever goes wrong stops going wrong at the end, and then everything must arrive.
//!
//! Start reading at [`World::run`], then `host/mod.rs`, and PLANTED.md.
#![forbid(unsafe_code)]

mod agenda;
mod base;
mod client;
mod host;
mod message;
mod network;
mod plan;
mod planted;
mod random;
pub mod sweep;
mod trace;
mod world;

pub use plan::Plan;
pub use planted::Plant;
pub use world::{Outcome, World};
