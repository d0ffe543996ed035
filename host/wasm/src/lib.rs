//! The plugin host: accepts WebAssembly, compiles it elsewhere, runs it within limits, and says
//! what it decided.
//!
//! ```text
//!   upload ─► accept ─► compile (child process) ─► cache ─► Compiled ─► Installed, in a Rollout
//!                                                                            │ publish
//!   batch, question ─► Worker ─► Instance ─► verdicts, keys, answers ◄───────┘
//!                        │ fault: bisect, health ─► events
//! ```
//!
//! Invariants:
//! - Knows neither sockets nor brokers; the time of the broker is an argument.
//! - One engine a process. A store is of one version, one tenant, one thread.
//! - What a guest can do is what its manifest asked for and its tenant granted, within limits that
//!   each call has anew. What it returns is checked before it is believed.
//! - A batch is judged by exactly one version, and no message of it is lost by a fault.
//! - Machine code is loaded from this host's own compiler only.
//!
//! Start reading at [`Worker`], then [`accept`] and `guest.rs`.
#![deny(missing_docs)]

mod accept;
pub mod bench;
mod bindings;
mod bisect;
mod bits;
mod cache;
pub mod canary;
mod capability;
mod compare;
mod compile;
mod compiled;
mod early;
mod engine;
mod fault;
mod guest;
pub mod health;
pub mod lifecycle;
pub mod limits;
mod replay;
mod selftest;
mod signature;
mod sql;
mod table;
mod ticker;
mod worker;

pub use accept::{AcceptError, Accepted, Signed, Terms, Upload, accept};
pub use bindings::{Action, Attempt, Fate, Half, Next, Policy};
pub use bits::Bits;
pub use cache::{ArtefactName, Cache};
pub use capability::{KvStores, Level, LogLine, LogLines, Metric, Metrics};
pub use compare::{Comparison, Difference, LISTED_MAX, Sample};
pub use compile::{CompileError, Compiler, compile_child};
pub use compiled::{Compiled, LoadError, Origin};
pub use early::{Early, early};
pub use engine::{Engine, EngineError, Metering, Pool};
pub use fault::{Fault, FaultKind};
pub use guest::{Binding, Usage};
pub use limits::Limits;
pub use replay::{Contender, Replay, ReplaySide};
pub use selftest::{SelfTest, SelfTestError, attempt_of, half_of, self_test};
pub use signature::{PluginHash, TrustedKey};
pub use sql::Source;
pub use table::{Directory, Installed, PluginId, Role, Rollout, Table};
pub use worker::{
    Ask, Asked, Batch, ColdError, HealthEvent, Hold, Intercepting, Judging, Keying, Poison,
    Shadowed, Turn, Worker,
};
