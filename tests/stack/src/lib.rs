//! The broker as it ships, in a world from a seed: client, QUIC, TLS, sessions, shards and recovery
//! on one thread, over a network and a disk in memory, in time that passes when nobody is busy.
//!
//! ```text
//!   seed ──► Plan ──► run: one runtime of one thread, its time paused
//!                      ├─ load      yard-client: producers, consumers, a reader ─┐
//!                      ├─ network   loss, delay, reordering, cuts, new addresses │ QUIC, TLS
//!                      ├─ world     yard-server, life after life ◄───────────────┘
//!                      │              └─ lying disks: what was not synced may be lost
//!                      └─ faults    when what strikes
//!                           │
//!                           └─► History ──► yard_checker ──► verdict          Trace ──► hash
//! ```
//!
//! Invariants:
//! - Equal seeds give equal runs: no clock of the machine, no other thread, no address decides.
//! - The code under test is the shipped one; it takes network, disks, clocks and randomness from
//!   outside, and what is planted is in these.
//! - Each seed is the first in its process, whose randomness is fixed (`entropy.rs`): tokio draws
//!   from it. The process is a copy of one that is ready (`nursery.rs`).
//! - TLS draws random numbers of its own, so the hash is over time, way and size of packets, and
//!   over what clients see. Keys and certificates are fixed, and of a kind whose signatures have
//!   one length.
//! - Whatever goes wrong stops going wrong at the end, and then everything must arrive, in time.
//!
//! Start reading at [`run_seed`], then `world.rs` and `network.rs`.
#![forbid(unsafe_code)]

mod counts;
mod faults;
mod identity;
mod ledger;
mod load;
mod network;
mod nursery;
mod plan;
mod planted;
mod recorder;
mod run;
mod sweep;
mod world;

pub use counts::Counts;
pub use nursery::{Copied, NURSERY_ARGUMENT, Nurseries, keep};
pub use plan::Plan;
pub use planted::Plant;
pub use run::{Outcome, run_seed};
pub use sweep::{OPERATIONS, SLICE_SEEDS, Sweep, Swept};
