//! The transport profile: what a broker and its clients ask of QUIC and of a UDP socket.
//!
//! ```text
//!   TransportOptions ──quic()──► quinn::TransportConfig     controller, windows, MTU, acks
//!                    ├─endpoint()─► quinn::EndpointConfig    the largest packet that is let in
//!                    └─socket()──► UDP socket               buffers, and a line with what was got
//! ```
//!
//! Broker and client use the same profile, so that what was measured holds for both, and so does
//! whoever measures QUIC alone.
//!
//! Invariants:
//! - No setting lets a stream's window grow to where quinn's limit of 1,024 gaps a stream can
//!   close a connection that only loses packets: see [`STREAM_WINDOW_BYTES_MAX`].
//! - No early data, no datagrams.
//! - It knows no frame, no request and no crate of ours.
//!
//! Start reading at [`TransportOptions`].
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod options;
mod restraint;
mod socket;
mod spread;

pub use options::{
    Controller, GSO_MTU_BYTES_MAX, MTU_BYTES_MAX, MTU_BYTES_MIN, STREAM_WINDOW_BYTES_DEFAULT,
    STREAM_WINDOW_BYTES_MAX, TransportOptions, WINDOW_BYTES_MIN, keep_connection_ids,
};
pub use restraint::Delivery;
pub use spread::{PathSample, Spread};
