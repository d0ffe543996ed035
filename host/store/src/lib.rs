//! The commit log of one shard: formats, groups, queue index and recovery, as bookkeeping that
//! emits I/O and receives its results.
//!
//! ```text
//!              append             close_group          Written, Synced
//!   entries ───────────► gather ──────────────► group ─────────────────► durable
//!                                                 │                        │
//!   log-0000000000   log-0000000001               ▼                        ▼
//!   ┌──────────────┐ ┌──────────────────────────────┐              queue index: (topic, queue,
//!   │ header       │ │ header                       │              offset) ──► place in the log
//!   │ group 0      │ │ group 812                    │              in memory for the active
//!   │ …            │ │ group 813 ◄── being written  │              segment, in idx-0000000000
//!   │ group 811    │ │ zeros                        │              for sealed ones
//!   └──────────────┘ └──────────────────────────────┘
//! ```
//!
//! Invariants:
//! - No clock, no threads, no I/O but below [`disk`]: time is an argument, [`io::perform`] does
//!   what [`Store`] emits, wherever it is called.
//! - Group n + 1 is written after group n was synced. So a valid later group proves that an
//!   invalid one was durable: that is damage, reported and never cut off, and what is left of it is
//!   served. Anything else at the end is a torn tail, zeroed when the log is opened.
//! - A queue's records have consecutive offsets, written in the log; the index holds each exactly
//!   once, or knows that it is gone.
//! - Nothing is located before it is durable. After a failed write or sync nothing becomes so.
//! - The index and the checkpoint are derived: lost or damaged, they are made again from the log.
//!
//! Start reading at [`io`], then [`Store`], [`recover`] and FORMAT.md.
#![deny(missing_docs)]

pub mod cache;
pub mod config;
mod derived;
pub mod disk;
pub mod error;
mod few;
pub mod format;
mod index;
pub mod io;
mod kept;
mod mark;
pub mod offline;
pub mod read;
pub mod recover;
mod released;
mod shard_state;
mod store;

pub use cache::{Found, LogCache};
pub use config::StoreConfig;
pub use derived::{
    DerivedIndex, KeyAnswer, KeyBudget, KeyFound, KeyJob, KeyQuery, KeySearch, LogPlace,
    RecordView, Sought, TimeSearch,
};
pub use disk::{Disk, FileName};
pub use error::{AppendError, OpenError, ReadError};
pub use format::checkpoint::Checkpoint;
pub use format::entry::{BATCH, RELEASE};
pub use format::keys::{KeyHead, KeyRun};
pub use format::retire::KeptRecord;
pub use format::sidecar::{IndexFile, IndexRead};
pub use index::{GapCause, Located, Part};
pub use io::{Io, IoDone};
pub use kept::{Carried, KeptAt, KeptFound, KeptRead, Token, Waiting};
pub use mark::marks;
pub use recover::{Lost, Opened, Parked, Recovered, Repair};
pub use shard_state::ShardState;
pub use store::{Appended, DoneReport, LogState, Reserve, Store, StoreStats};
