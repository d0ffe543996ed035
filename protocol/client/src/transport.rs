//! The settings of the client's side of a connection, and what they mean to QUIC.
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use yard_wire::limits::IDLE_MS_DEFAULT;

/// How a connection finds out how fast it may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Controller {
    /// By losses: CUBIC, RFC 9438.
    #[default]
    Cubic,
    /// By measured bandwidth and delay: for lines that lose packets by themselves.
    Bbr,
}

/// Settings of the transport. Sizes are bytes, times milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportOptions {
    /// The congestion controller.
    pub controller: Controller,
    /// Largest UDP payload that discovery may find. Source: quinn's default.
    pub mtu_bytes_max: u16,
    /// What the broker may send ahead on one stream.
    pub stream_window_bytes: u32,
    /// What the broker may send ahead on all streams of a connection.
    pub receive_window_bytes: u32,
    /// What the client sends ahead of the broker's confirmation.
    pub send_window_bytes: u32,
    /// Buffers of the UDP socket, each direction.
    pub socket_buffer_bytes: u32,
    /// Round trip assumed until one was measured.
    pub initial_rtt_ms: u32,
    /// A peer that is silent for so long is dead.
    pub idle_ms: u32,
    /// So often a silent connection is asked whether it still is there.
    pub keep_alive_ms: u32,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            controller: Controller::default(),
            mtu_bytes_max: 1_452,
            stream_window_bytes: 1_250_000,
            receive_window_bytes: 8 << 20,
            send_window_bytes: 8 << 20,
            socket_buffer_bytes: 4 << 20,
            initial_rtt_ms: 100,
            idle_ms: IDLE_MS_DEFAULT,
            keep_alive_ms: 10_000,
        }
    }
}

impl TransportOptions {
    /// What the settings mean to QUIC.
    #[must_use]
    pub fn quic(&self) -> quinn::TransportConfig {
        let ms = |count: u32| Duration::from_millis(count.into());
        let idle = quinn::IdleTimeout::from(quinn::VarInt::from_u32(self.idle_ms));
        let mut discovery = quinn::MtuDiscoveryConfig::default();
        discovery.upper_bound(self.mtu_bytes_max);
        let mut quic = quinn::TransportConfig::default();
        quic.stream_receive_window(self.stream_window_bytes.into())
            .receive_window(self.receive_window_bytes.into())
            .send_window(self.send_window_bytes.into())
            .keep_alive_interval(Some(ms(self.keep_alive_ms)))
            .max_idle_timeout(Some(idle))
            .initial_rtt(ms(self.initial_rtt_ms))
            .mtu_discovery_config(Some(discovery))
            // The client opens every stream.
            .max_concurrent_bidi_streams(0u32.into())
            .max_concurrent_uni_streams(0u32.into());
        match self.controller {
            Controller::Cubic => quic
                .congestion_controller_factory(Arc::new(quinn::congestion::CubicConfig::default())),
            Controller::Bbr => quic
                .congestion_controller_factory(Arc::new(quinn::congestion::BbrConfig::default())),
        };
        quic
    }

    /// An endpoint with a socket of its own, with large buffers where the system gives them. Must
    /// be called within a tokio runtime.
    ///
    /// # Errors
    /// When no socket can be opened on `local`.
    pub fn bind(&self, local: SocketAddr) -> std::io::Result<quinn::Endpoint> {
        let socket = UdpSocket::bind(local)?;
        let buffers = socket2::SockRef::from(&socket);
        // Smaller buffers than asked for cost speed under load, not correctness.
        let _ = buffers.set_recv_buffer_size(self.socket_buffer_bytes as usize);
        let _ = buffers.set_send_buffer_size(self.socket_buffer_bytes as usize);
        let runtime = Arc::new(quinn::TokioRuntime);
        quinn::Endpoint::new(quinn::EndpointConfig::default(), None, socket, runtime)
    }
}
