//! The words of Switchyard: ids, limits, records, batches, frames, requests, error codes. Bytes
//! and nothing else.
//!
//! ```text
//!   stream   = preamble frame*                     (frame.rs)
//!   frame    = header body                         body: one request, reply, refusal or push
//!   produce  = ack_level batch                     (requests/produce.rs)
//!   batch    = header record*                      (batch.rs)    one lane, one shard
//!   record   = header tag property* body           (record.rs)   what the log holds, verbatim
//!   release  = header note*                        (release.rs)  a stored record, given its place
//! ```
//!
//! Invariants:
//! - No I/O, no clock, no async, no unsafe.
//! - Decoding any bytes never panics and never allocates more than a small multiple of the input.
//! - `decode(encode(x)) == x`, and decoding leaves no byte unread.
//!
//! Start reading at [`record`], then [`batch`], [`frame`], and the registry in [`request`].
#![deny(missing_docs)]
#![forbid(unsafe_code)]

#[macro_use]
pub mod mark;
#[macro_use]
pub mod codec;
#[macro_use]
pub mod value;
pub mod batch;
pub mod catalogue;
pub mod code;
pub mod dedupe;
pub mod expression;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod name;
pub mod operation;
pub mod order;
pub mod plugin;
pub mod plugin_use;
pub mod property;
pub mod record;
pub mod release;
pub mod request;
pub mod requests;
pub mod retry;
pub mod share;
pub mod transaction;
pub mod units;

pub use code::{Code, Refusal};
pub use codec::{Malformed, Wire};
pub use dedupe::{BusinessKey, DedupeKey};
pub use ids::{
    Correlation, Epoch, GroupNumber, Lane, LogPos, MessageId, ProducerId, QueueIndex, QueueOffset,
    RecordPlace, Sequence, ShardId, SubscriptionId, TenantId, Timestamp, TopicId,
};
pub use transaction::TxId;
