//! The client of Switchyard: everything that an application needs to send and receive messages,
//! and that an operator needs to run operations.
//!
//! ```text
//!   Client ──► Producer ──► a lane per (shard, lane) ──► LaneCore         numbering, resending
//!     │          └ compress, Health (which shards are well)
//!     │                          │
//!     ├─────► Consumer ──► subscription task per shard ──► Settlements    coalesced ranges
//!     │                          │
//!     ├─────► Transactions       │     prepared messages, checks
//!     ├─────► Admin              │
//!     ▼                          ▼
//!   Link per node (reconnects) ──► Connection: control stream + K data streams over QUIC
//! ```
//!
//! Invariants:
//! - A message that was sent is reported stored at most once, and is stored at most once: its
//!   place in the numbering of its lane never changes, however often it is sent again.
//! - The messages of one queue, sent by one producer, are stored in the order of the calls.
//! - Every queue is bounded: what is sent by a budget in bytes, what is received by credit, what
//!   is unsettled by what the application holds.
//! - The broker's certificate is always verified. There is no setting against it.
//! - What changes something is never sent twice blindly, unless its numbering makes that
//!   harmless.
//!
//! Start reading at [`Client`]; the rules of resending are in [`lane`].
#![deny(missing_docs)]

mod admin;
pub mod assign;
mod backoff;
mod client;
mod clock;
pub mod compress;
mod connection;
mod consumer;
mod context;
mod error;
mod exchange;
mod find;
mod group;
pub mod health;
pub mod lane;
pub mod ledger;
mod link;
mod mark;
mod message;
mod producer;
mod random;
mod reader;
mod spans;
mod surroundings;
mod tls;
mod topology;
mod trace;
mod transaction;
pub mod transport;

pub use admin::Admin;
pub use client::{Client, ClientBuilder, PathReport};
pub use compress::Compression;
pub use consumer::{
    Broadcast, Consumer, ConsumerBuilder, Delivery, Failures, Given, Keeping, Kept, OrderLine,
    Start, Turn, has_expired, order_line,
};
pub use context::Context;
pub use error::Error;
pub use exchange::Response;
pub use find::{SearchCursor, SearchResult};
pub use group::{QueueMove, QueueSought, SeekPlan, SeekReport, SeekTo};
pub use message::{DELAY_LEVELS, Message, priority_queues};
pub use producer::{Producer, ProducerBuilder, Receipt, SendResult};
pub use reader::{ReadMessage, Reader};
pub use surroundings::Surroundings;
pub use tls::TlsOptions;
pub use trace::{TraceContext, TracePropagator};
pub use transaction::{PendingTransaction, Transaction, Transactions, TransactionsBuilder};
pub use yard_wire::record::Record;
pub use yard_wire::requests::{
    AckNodes, AckPlace as Ack, Covered, Fetched, FetchedRecord, FoundMessage, Sought, TopicRoute,
    TxVerdict, Wanted,
};
pub use yard_wire::{self as wire, Code, MessageId, QueueIndex, QueueOffset, Timestamp, TxId};
