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
//! Start reading at [`World::run`], then `host/mod.rs`, and PLANTED.md. [`stage`] lets others act
//! where clients of the plan do here.
#![forbid(unsafe_code)]

mod agenda;
mod alike;
mod base;
mod client;
pub mod damage;
mod expired;
mod host;
mod jobs;
pub mod kept;
mod keys;
mod ledger;
mod lives;
mod log;
pub mod marks;
mod message;
mod network;
mod objects;
mod plan;
mod planted;
pub mod powercut;
mod random;
mod removal;
mod repairs;
pub mod shrink;
pub mod stage;
pub mod sweep;
mod trace;
mod wide;
mod world;

pub use jobs::share_out;
pub use ledger::TxCounts;
pub use plan::Plan;
pub use planted::{Finder, Plant};
pub use random::Random;
pub use trace::Trace;
pub use world::{Outcome, World};

/// The first case of its campaign that shows a planted bug, with what it shows; `None` when it is
/// missed within its bound. `start` and `operations` are the simulator's.
#[must_use]
pub fn find(plant: Plant, start: u64, operations: u64) -> Option<(u64, String)> {
    match plant.finder() {
        Finder::Sim => sweep::catch(plant, start, plant.cases_max(), operations),
        Finder::Powercut => powercut::catch(plant),
        Finder::Damage => damage::catch(plant),
    }
}
