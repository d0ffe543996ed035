//! Judges a recorded history of a broker: what was asked, what was answered, what was delivered,
//! when it crashed, what is stored at the end. Says which promises were broken, by name.
//!
//! ```text
//!   recorder ──► History ──► check ──► Verdict
//!   (simulator,   │  ▲         │ index          sends by (producer, seq); crashes; final scans
//!    kill -9 run, ▼  │         │ scans          one pass over what is stored
//!    benchmark)  text file     │ deliveries     one pass over what was delivered
//!                              │ sends          loss; order by producer, by group, by real time
//!                              │ subscriptions  each (group, queue): order, attempts, acks, gaps
//!                              ▼ dead_letters   copies of what was rejected
//! ```
//!
//! Invariants:
//! - No I/O but reading and writing a history's text, no clock, no dependency: plain integers.
//! - Sound: a history that a correct broker can produce is clean. Where the record leaves room
//!   (an answer that never came, two overlapping calls, a crash), the broker has the benefit.
//! - Nothing passes in silence: losses that a crash excuses, queues without a final scan and
//!   records that contradict themselves are counted in the verdict.
//! - O(n log n) in the number of operations and deliveries.
//!
//! The names of the anomalies follow `tests/kafka.clj` of Jepsen, so that reports compare.
//!
//! Start reading at [`event`], then [`Kind`], then [`check()`].
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod anomaly;
mod check;
pub mod event;
mod history;
mod index;
mod intervals;
pub mod made;
mod sweep;
mod taken;
mod text;
mod verdict;

pub use anomaly::{Anomaly, Kind};
pub use check::{Options, check};
pub use event::{
    AckLevel, Crash, CrashKind, DeadLetter, Delivery, Event, Hold, Outcome, Poll, Queue, Removal,
    Reset, Scan, Sent, Settle, SettleVerdict, Skip, Stored, Time,
};
pub use history::History;
pub use taken::Taken;
pub use text::{ReadError, TextError};
pub use verdict::{Counts, Verdict};
