//! Switchyard's door: sockets on one side, requests on the other.
//!
//! ```text
//!              endpoint ── handshakes, bounds on connections
//!                 │ one task a connection
//!            connection ── hello, then a task a stream
//!            ┌────┴─────┐
//!   bytes ► reader    writer ► bytes
//!            │ frames    ▲ a queue a stream, bounded in bytes
//!           gate         │
//!            │ requests  │ replies, pushes, deliveries
//!            ▼           │
//!          Service ─► SessionHandle
//! ```
//!
//! Invariants:
//! - It knows neither store nor broker: what a request means is the [`Service`]'s business.
//! - A peer costs what its windows and budgets say and no more, whatever it sends or does not
//!   read; before its hello, 64 KiB.
//! - Every request that reaches the service was checked: its stream, its bytes, its checksums,
//!   the right to make it.
//! - A panic, and anything that a peer does, ends one connection at most.
//! - No early data: what a handshake's eavesdropper sends again never becomes a request.
//!
//! Start reading at [`Service`], then `connection.rs`.
mod config;
mod connection;
mod counters;
mod endpoint;
mod gate;
mod outgoing;
mod reader;
mod service;
mod session;
pub mod tls;

pub use config::{RESET_KEY_BYTES, TransportConfig, new_reset_key};
pub use counters::Counts;
pub use endpoint::{StartError, Transport};
pub use outgoing::StreamEnded;
pub use service::{Incoming, Peer, Service};
pub use session::{CONTROL, SessionHandle};
pub use tls::{Authority, PeerIdentity, ServerIdentity, TlsError};
pub use yard_quic::{
    Controller, MTU_BYTES_MAX, MTU_BYTES_MIN, STREAM_WINDOW_BYTES_MAX, TransportOptions,
    WINDOW_BYTES_MIN,
};
