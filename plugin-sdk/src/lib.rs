//! Write plugins for Switchyard: what a subscription gets, what a duplicate is, when a failed
//! message comes back, what becomes of an undecided transaction, what is stored of a message.
//!
//! ```text
//! use switchyard_plugin::prelude::*;
//!
//! manifest! { says: "Orders above 100 from Europe.", points: ["filter"] }
//! filter!(big_orders);
//!
//! fn big_orders(m: &Message) -> bool {
//!     m.tag() == "paid" && m.get("region") == Some("eu") && m.number("amount") > Some(100.0)
//! }
//! ```
//!
//! A plugin is a function, or a type where it has settings: [`filter!`], [`dedupe!`], [`retry!`],
//! [`txn_check!`] and [`interceptor!`] take either. The same source is a component for the broker
//! and an ordinary library for `cargo test`: tests build messages with [`Message::builder`], and
//! the test vectors of the manifest are run natively by `cargo test` and in the sandbox by the
//! broker.
//!
//! Invariants:
//! - Nothing in here is slower than reading the packed frame by hand, but for `str` instead of
//!   bytes: [`Message::packed`] gives those.
//! - Natively no wasm tool is needed, and the host's functions are stand-ins of the same meaning.
//!
//! Start reading at [`Message`], then [`Filter`].
#![deny(missing_docs)]

mod config;
mod dedupe;
mod filter;
mod host;
mod interceptor;
mod macros;
mod message;
mod retry;
mod txn;

pub mod clock;
pub mod duration;
pub mod kv;
pub mod log;
pub mod metrics;
pub mod prelude;
pub mod run;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

// Names that the macros use in the crates of authors.
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod guest;
#[doc(hidden)]
pub use macros::ManifestText;

pub use config::{Config, Needs};
pub use dedupe::{Dedupe, OnDuplicate, Policy};
pub use filter::Filter;
pub use interceptor::{Answer, Interceptor, Patch};
pub use message::{Message, MessageBuilder};
pub use retry::{Attempt, Next, Retry};
pub use txn::{Fate, Half, TxnCheck};

/// The layout of frames and messages, for who wants the bytes.
pub use yard_abi as abi;
