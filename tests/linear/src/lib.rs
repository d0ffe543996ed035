//! Small objects of the broker, each judged for linearizability by a search: whether there is one
//! order of all operations, in accord with real time, in which every answer is the right one.
//!
//! ```text
//!   recorder ──► Histories: calls by object ──► judge ──► todc_utils::WGLChecker, an object each
//!   invoked, completed, or never answered                   by the specification of the object
//! ```
//!
//! | object | operations | what may not be |
//! |---|---|---|
//! | [`transaction`] | begin, commit, roll back | two decisions that both hold |
//! | [`key`] | store a message unless its dedupe key is known | two messages with a key |
//! | [`position`] | move a group, told where it was | a move that another one never saw |
//! | [`settings`] | change one setting, told both | a change that another one undoes |
//! | [`name`] | create a topic, remove it | one name for two topics |
//! | [`lock`] | hold a queue of one's own, let it go | two owners |
//! | [`fence`] | store under an epoch | an epoch that stores after a newer one |
//!
//! Invariants:
//! - Sound: an operation without an answer may have taken effect at any time since, or never. A
//!   refusal leaves at once, and may tell of what is about to be durable and then is not: beside
//!   an operation without an answer it says nothing.
//! - Bounded: an object has at most [`OPERATIONS_MAX`] operations, [`OPEN_MAX`] of them without
//!   an answer; a recorder goes on to another object.
//!
//! Logs of messages are judged without a search by `yard-checker`. Start reading at [`Histories`].
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod fence;
mod history;
pub mod key;
pub mod lock;
pub mod name;
pub mod position;
pub mod settings;
pub mod transaction;

pub use history::{Did, Histories, Judged, OPEN_MAX, OPERATIONS_MAX, Ticket, Time};
