//! What a client asks of QUIC and of its socket, for [`crate::ClientBuilder::transport`]. A broker
//! uses the same.
pub use yard_quic::{
    Controller, GSO_MTU_BYTES_MAX, MTU_BYTES_MAX, MTU_BYTES_MIN, STREAM_WINDOW_BYTES_DEFAULT,
    STREAM_WINDOW_BYTES_MAX, TransportOptions, WINDOW_BYTES_MIN,
};
