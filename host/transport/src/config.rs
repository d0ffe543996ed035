//! The settings of a transport and what they mean to QUIC.
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{EndpointConfig, ServerConfig, VarInt};
use yard_quic::TransportOptions;
use yard_wire::limits;

use crate::tls::{ServerIdentity, TlsError};

/// What a connection may send before it has said hello, in bytes.
pub(crate) const WINDOW_BYTES_BEFORE_HELLO: u32 = 64 << 10;
/// Streams that a connection may open before it has said hello.
pub(crate) const STREAMS_BEFORE_HELLO: u32 = 1;
/// Bytes that all handshakes not yet accepted may have buffered.
const INCOMING_BYTES_MAX: u64 = 8 << 20;
/// Bytes that one of them may have buffered.
const INCOMING_BYTES_EACH_MAX: u64 = 64 << 10;

/// Bytes of the secret behind stateless resets: the block of its hash function.
pub const RESET_KEY_BYTES: usize = 64;

/// A new secret for [`TransportConfig::reset_key`].
///
/// # Errors
/// When the system gives no randomness.
pub fn new_reset_key() -> std::io::Result<[u8; RESET_KEY_BYTES]> {
    let mut key = [0; RESET_KEY_BYTES];
    let filled = aws_lc_rs::rand::fill(&mut key);
    filled.map_err(|_| std::io::Error::other("the system gives no randomness"))?;
    Ok(key)
}

/// Settings of a transport. Sizes are bytes, times milliseconds. The defaults are right unless a
/// measurement says otherwise; their sources are named where they were not chosen here.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What is asked of QUIC and of the socket.
    pub options: TransportOptions,
    /// From the first packet to the hello; a connection that takes longer is closed.
    pub handshake_ms: u32,
    /// From a stream's first byte to the end of its preamble, and to the hello.
    pub preamble_ms: u32,
    /// A frame that was begun must be complete after so long …
    pub frame_grace_ms: u32,
    /// … or have gone on at this rate, in bytes a second, and so for every such while.
    pub frame_rate_min: u32,
    /// Data streams of a connection.
    pub lanes_max: u16,
    /// Connections at a time.
    pub connections_max: u32,
    /// Handshakes at a time; more are refused.
    pub handshakes_max: u32,
    /// With more handshakes than this, an address must first prove that it receives answers.
    pub handshakes_before_retry: u32,
    /// Requests of one stream that are not answered yet; the stream is not read meanwhile.
    pub requests_in_flight_max: u32,
    /// Bytes that the unanswered requests of a connection and their answers may take together.
    pub in_flight_bytes_max: u32,
    /// Bytes of deliveries that may wait for one stream.
    pub lane_queue_bytes_max: u32,
    /// Bytes of deliveries that may wait for one connection.
    pub queue_bytes_max: u32,
    /// Secret from which the tokens of stateless resets are made. Kept over restarts, it lets
    /// the clients of a process that died notice at their next packet; drawn anew, they wait
    /// until the silence is long enough.
    pub reset_key: Option<[u8; RESET_KEY_BYTES]>,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7420)),
            options: TransportOptions::default(),
            handshake_ms: 5_000,
            preamble_ms: 2_000,
            frame_grace_ms: 5_000,
            frame_rate_min: 1 << 10,
            lanes_max: limits::LANES_MAX,
            connections_max: 20_000,
            handshakes_max: 1_024,
            handshakes_before_retry: 64,
            requests_in_flight_max: 256,
            in_flight_bytes_max: 16 << 20,
            lane_queue_bytes_max: 256 << 10,
            queue_bytes_max: 1 << 20,
            reset_key: None,
        }
    }
}

pub(crate) fn milliseconds(count: u32) -> Duration {
    Duration::from_millis(count.into())
}

impl TransportConfig {
    /// The settings of one endpoint.
    ///
    /// # Errors
    /// [`TlsError`] when keys and certificates are not usable.
    pub fn server(&self, tls: &ServerIdentity) -> Result<ServerConfig, TlsError> {
        let crypto = QuicServerConfig::try_from(tls.config()?)
            .expect("the provider has the cipher of initial packets");
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server
            .transport_config(Arc::new(self.quic()))
            .max_incoming(self.handshakes_max as usize)
            .incoming_buffer_size(INCOMING_BYTES_EACH_MAX)
            .incoming_buffer_size_total(INCOMING_BYTES_MAX)
            .migration(true);
        Ok(server)
    }

    /// The settings of a connection that has not said hello: one stream and 64 KiB.
    #[must_use]
    pub fn quic(&self) -> quinn::TransportConfig {
        let mut quic = self.options.quic();
        quic.max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_BEFORE_HELLO))
            .receive_window(VarInt::from_u32(WINDOW_BYTES_BEFORE_HELLO));
        quic
    }

    /// The settings of the endpoint: the largest packet that is let in, and what stateless resets
    /// need: the secret behind their tokens, and numbers of connections that outlive a process.
    #[must_use]
    pub fn endpoint(&self) -> EndpointConfig {
        let mut endpoint = EndpointConfig::default();
        if let Some(secret) = self.reset_key {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
            // Not the secret itself: what numbers connections is no keyed hash.
            let ids = hmac::sign(&key, b"connection ids");
            let (ids, _) = ids.as_ref().split_first_chunk().expect("a SHA-256 has 32 bytes");
            endpoint = EndpointConfig::new(Arc::new(key));
            yard_quic::keep_connection_ids(&mut endpoint, u64::from_le_bytes(*ids));
        }
        self.options.endpoint(&mut endpoint);
        endpoint
    }

    /// The socket to listen with, with its buffers.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn bind(&self) -> std::io::Result<UdpSocket> {
        self.options.socket(self.listen)
    }
}
