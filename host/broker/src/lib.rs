//! The decisions of one shard as a value: who may store what, who receives what, what is settled.
//!
//! ```text
//!   handle(now, event) ──► effects        the only way in, the only way out
//!                            │
//!                            └─ Append(entry) ──► log ──► apply(entry)      live, and at recovery
//!
//!   Broker ─┬─ meta        tenants, topics; names are resolved inside a tenant   (meta_table.rs)
//!           ├─ producers   numbering of batches, remembered answers             (producer.rs)
//!           ├─ groups      progress of each group in each queue, leases, credit (group/)
//!           ├─ timers      delayed messages by the instant when they are due    (timers.rs)
//!           ├─ transactions   what is open, and what waits for its decision  (transaction/)
//!           ├─ windows     dedupe keys that are remembered                 (windows.rs)
//!           ├─ settled_keys   business keys that groups have acked     (business.rs, windows.rs)
//!           ├─ drains      what is passed on to a wider topic               (drain/)
//!           ├─ limits      what may go, who must wait                         (retention.rs)
//!           └─ ends        first and committed end of each queue of this shard
//! ```
//!
//! Invariants:
//! - No I/O, no clock, no randomness of its own: equal inputs give equal effects.
//! - Durable state changes only in [`Broker::apply`]; what `handle` changes itself (leases, credit,
//!   cursors) is lost with the process and rebuilt from the durable part.
//! - A message of a group is settled, leased, ready, waiting or not yet delivered: exactly one.
//! - Nothing is delivered above the committed end of its queue.
//! - A name or id of another tenant is answered as one that does not exist.
//!
//! Start reading at [`Broker::handle`], then [`Entry`], then `group/queue.rs`.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod bounds;
mod broker;
mod burial;
mod business;
mod check;
mod dedupe;
mod delay;
mod deliver;
mod dlq;
mod drain;
mod effect;
mod entry;
mod errands;
mod event;
mod extend;
mod fetch;
mod find;
mod group;
mod judged;
mod look;
mod mark;
mod meta;
mod meta_table;
mod operate;
mod plugin_table;
mod plugins;
mod policy;
mod produce;
mod producer;
mod refusal;
mod relocate;
mod remove;
mod report;
mod retention;
mod retry;
mod route;
mod saving;
mod settle;
mod snapshot;
mod stopped;
mod subscribe;
#[cfg(test)]
mod tests;
mod timers;
mod trace;
mod transaction;
mod windows;

pub use broker::{Broker, BrokerConfig, Stats};
pub use business::{AckedKey, GroupKey, Settled};
pub use dedupe::{Dedupe, Deduped, First, Fresh, Same};
pub use drain::{DrainBegun, DrainEntry};
pub use effect::{DeliverItem, Effect, Reads, Then};
pub use entry::{Cancelled, Doom, Entry, GroupCreated, GroupId, Moved, Outcome, Progress, Step};
pub use event::{Applied, Event, Held, Judged, Origin, QueueTail, SessionId, Ticket};
pub use find::{Asked, Findings, Hit, Search};
pub use group::label::Label;
pub use group::order::OrderKey;
pub use judged::{About, Asking, Range, Rounds};
pub use mark::marks;
pub use meta::{
    DedupeBy, DedupeWindow, GroupSettings, MetaChange, Plugin, PluginFile, PluginVersion,
    ProducerGroup, Settings, Tenant, Topic, TopicLimits, TopicOrder, TopicSettings, Trial,
    TrialKind, TrustedKey,
};
pub use plugins::Pushed;
pub use policy::{
    Decision, Failure, Fate, PolicyAnswer, PolicyQuestion, RetryAnswer, RetryQuestion,
};
pub use retention::{DiskLevel, Part, QueueParts};
pub use saving::Snapshot;
pub use transaction::{CheckAnswer, CheckFate, CheckQuestion, Notice, NoticeWhat, TxEntry, TxStep};
pub use yard_wire::Malformed;
