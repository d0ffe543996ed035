//! The settings, and what they mean to QUIC.
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;

use crate::restraint::RestrainedConfig;

/// Smallest UDP payload that every path of QUIC carries, in bytes. Source: RFC 9000 section 14.
pub const MTU_BYTES_MIN: u16 = 1_200;
/// Largest UDP payload of which the system is given several in one call, in bytes. quinn gives
/// it 10 at a time, and they must fit the 65,507 bytes of one UDP datagram; larger ones are
/// refused by the system, taken for lost, and the path for one that carries only 1,200 bytes.
pub const GSO_MTU_BYTES_MAX: u16 = 6_500;
/// Largest window of a stream, in bytes. quinn closes a connection when what has arrived of one
/// stream lies in more than 1,024 pieces; with full packets of 1,200 bytes, every other one lost,
/// so many fill 2.4 MB.
pub const STREAM_WINDOW_BYTES_MAX: u32 = 2_000_000;
/// The window of a stream unless set, in bytes. Source: quinn's, the product of 100 Mbit/s and 100
/// ms.
pub const STREAM_WINDOW_BYTES_DEFAULT: u32 = 1_250_000;
/// Smallest window, in bytes.
pub const WINDOW_BYTES_MIN: u32 = 64 << 10;

/// Largest UDP payload over IPv4, in bytes.
pub const MTU_BYTES_MAX: u16 = 65_507;
/// What quinn looks for unless told otherwise: Ethernet's 1,500 bytes less IPv6 and UDP.
const MTU_BYTES_DEFAULT: u16 = 1_452;
/// Packets that may come out of order before an acknowledgement: one less than a sender takes for
/// a loss, which is 3. Source: RFC 9002 section 6.1.1.
const REORDERED_PACKETS: u32 = 2;
/// Segments that quinn gives to the system at once. Source: quinn 0.11, `MAX_TRANSMIT_SEGMENTS`.
const GSO_SEGMENTS: u32 = 10;

const _: () = {
    assert!(GSO_MTU_BYTES_MAX as u32 * GSO_SEGMENTS <= MTU_BYTES_MAX as u32);
    assert!(STREAM_WINDOW_BYTES_MAX / (2 * MTU_BYTES_MIN as u32) < 1_024);
};

/// How a connection finds out how fast it may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Controller {
    /// CUBIC, RFC 9438: by losses. Fair and frugal; slow on lines that lose packets by themselves.
    #[default]
    Cubic,
    /// BBR: by measured bandwidth and delay. Fast on such lines; sends more than necessary on
    /// others. Source: draft-cardwell-iccrg-bbr-congestion-control, as in quinn.
    Bbr,
}

impl Controller {
    /// Its name in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Controller {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Cubic, Self::Bbr];
        let found = all.into_iter().find(|controller| controller.name() == text);
        found.ok_or_else(|| format!("it takes cubic or bbr, not {text:?}"))
    }
}

/// What one side asks of QUIC and of its socket. Sizes are bytes, times milliseconds. The defaults
/// are right unless a measurement says otherwise; their sources are named where they were not
/// measured here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportOptions {
    /// The congestion controller of what this side sends.
    pub controller: Controller,
    /// Largest UDP payload that is looked for on a path, and that is let in: 1,200 to 65,507. What
    /// a path carries is found out by sending. Above [`GSO_MTU_BYTES_MAX`] every packet costs a
    /// call of the system.
    pub mtu_bytes_max: u16,
    /// What the peer may send ahead on one stream: [`WINDOW_BYTES_MIN`] to
    /// [`STREAM_WINDOW_BYTES_MAX`].
    pub stream_window_bytes: u32,
    /// What the peer may send ahead on all its streams; at least [`WINDOW_BYTES_MIN`].
    pub receive_window_bytes: u32,
    /// What this side sends ahead of the peer's confirmation; at least [`WINDOW_BYTES_MIN`].
    pub send_window_bytes: u32,
    /// Buffers of the UDP socket, each direction. Smaller ones lose packets in bursts. The system
    /// may give less: that costs speed, not correctness, and is logged.
    pub socket_buffer_bytes: u32,
    /// Round trip assumed until one was measured: how long a lost first packet holds things up.
    pub initial_rtt_ms: u32,
    /// A peer that is silent for so long is dead.
    pub idle_ms: u32,
    /// So often a silent connection is asked whether it still is there.
    pub keep_alive_ms: u32,
    /// Packets that the peer may receive for each acknowledgement that it sends; 0: what QUIC
    /// says by itself, two. Source: draft-ietf-quic-ack-frequency.
    pub packets_per_ack: u16,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            controller: Controller::default(),
            mtu_bytes_max: MTU_BYTES_DEFAULT,
            stream_window_bytes: STREAM_WINDOW_BYTES_DEFAULT,
            receive_window_bytes: 8 << 20,
            send_window_bytes: 8 << 20,
            socket_buffer_bytes: 4 << 20,
            initial_rtt_ms: 100,
            idle_ms: 30_000,
            keep_alive_ms: 10_000,
            packets_per_ack: 0,
        }
    }
}

fn milliseconds(count: u32) -> Duration {
    Duration::from_millis(count.into())
}

impl TransportOptions {
    /// What is wrong with the options, as a sentence.
    ///
    /// # Errors
    /// When a value is out of its bounds.
    pub fn check(&self) -> Result<(), String> {
        let within = |what: &str, found: u32, min: u32, max: u32| {
            if (min..=max).contains(&found) {
                return Ok(());
            }
            Err(format!("{what} is {found}; it may be {min} to {max}"))
        };
        let (mtu_min, mtu_max) = (MTU_BYTES_MIN.into(), MTU_BYTES_MAX.into());
        within("mtu_bytes_max", self.mtu_bytes_max.into(), mtu_min, mtu_max)?;
        let stream_max = STREAM_WINDOW_BYTES_MAX;
        within("stream_window_bytes", self.stream_window_bytes, WINDOW_BYTES_MIN, stream_max)?;
        let windows_max = 1 << 30;
        within("receive_window_bytes", self.receive_window_bytes, WINDOW_BYTES_MIN, windows_max)?;
        within("send_window_bytes", self.send_window_bytes, WINDOW_BYTES_MIN, windows_max)?;
        within("socket_buffer_bytes", self.socket_buffer_bytes, 0, windows_max)?;
        within("initial_rtt_ms", self.initial_rtt_ms, 1, 10_000)?;
        within("idle_ms", self.idle_ms, 1, 60 * 60 * 1_000)?;
        within("keep_alive_ms", self.keep_alive_ms, 1, self.idle_ms)
    }

    /// The settings of a connection. The peer may open no stream yet: a broker and a measurement
    /// allow what they want on top.
    #[must_use]
    pub fn quic(&self) -> quinn::TransportConfig {
        let mut quic = quinn::TransportConfig::default();
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(self.mtu_bytes_max);
        quic.max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(self.idle_ms))))
            .keep_alive_interval(Some(milliseconds(self.keep_alive_ms)))
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .stream_receive_window(VarInt::from_u32(self.stream_window_bytes))
            .receive_window(VarInt::from_u32(self.receive_window_bytes))
            .send_window(self.send_window_bytes.into())
            .initial_rtt(milliseconds(self.initial_rtt_ms))
            .mtu_discovery_config(Some(discovery))
            .enable_segmentation_offload(self.mtu_bytes_max <= GSO_MTU_BYTES_MAX)
            .datagram_receive_buffer_size(None);
        if self.packets_per_ack > 0 {
            let mut acks = AckFrequencyConfig::default();
            // The threshold is what may come without an acknowledgement.
            acks.ack_eliciting_threshold(VarInt::from_u32(u32::from(self.packets_per_ack) - 1))
                .reordering_threshold(VarInt::from_u32(REORDERED_PACKETS));
            quic.ack_frequency_config(Some(acks));
        }
        match self.controller {
            Controller::Cubic => {
                quic.congestion_controller_factory(Arc::new(CubicConfig::default()))
            }
            Controller::Bbr => {
                quic.congestion_controller_factory(Arc::new(RestrainedConfig::default()))
            }
        };
        quic
    }

    /// Makes an endpoint let in packets as large as are looked for. quinn lets in 1,472 bytes by
    /// itself, whatever the sender's discovery would find.
    pub fn endpoint(&self, endpoint: &mut quinn::EndpointConfig) {
        let bytes = self.mtu_bytes_max.max(1_472);
        let set = endpoint.max_udp_payload_size(bytes);
        set.expect("the size is between 1,200 and 65,527");
    }
}

/// Makes an endpoint number its connections so that a later one with the same `key` knows the
/// numbers for its own. quinn drops a packet of a connection whose number it does not know for one
/// of its own, and without that a broker that was killed and came back never sends the stateless
/// reset by which its old peers learn of it.
pub fn keep_connection_ids(endpoint: &mut quinn::EndpointConfig, key: u64) {
    endpoint.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(key)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_bounds_is_named() {
        let check = |change: fn(&mut TransportOptions), expect: Option<&str>| {
            let mut options = TransportOptions::default();
            change(&mut options);
            assert_eq!(options.check().err().as_deref(), expect);
        };
        check(|_| {}, None);
        check(|o| o.mtu_bytes_max = 6_500, None);
        check(|o| o.mtu_bytes_max = 1_000, Some("mtu_bytes_max is 1000; it may be 1200 to 65507"));
        check(
            |o| o.stream_window_bytes = 16 << 20,
            Some("stream_window_bytes is 16777216; it may be 65536 to 2000000"),
        );
        check(|o| o.keep_alive_ms = 31_000, Some("keep_alive_ms is 31000; it may be 1 to 30000"));
    }

    #[test]
    fn segments_are_given_together_only_where_ten_fit_a_datagram() {
        let check = |mtu_bytes_max: u16, is_together: bool| {
            let options = TransportOptions { mtu_bytes_max, ..TransportOptions::default() };
            let text = format!("{:?}", options.quic());
            let expect = format!("enable_segmentation_offload: {is_together}");
            assert!(text.contains(&expect), "{mtu_bytes_max}: {text}");
            let mut endpoint = quinn::EndpointConfig::default();
            options.endpoint(&mut endpoint);
            assert!(endpoint.get_max_udp_payload_size() >= mtu_bytes_max.into());
        };
        check(MTU_BYTES_MIN, true);
        check(GSO_MTU_BYTES_MAX, true);
        check(GSO_MTU_BYTES_MAX + 1, false);
        check(8_952, false);
    }

    #[test]
    fn controllers_are_read_by_name() {
        for controller in [Controller::Cubic, Controller::Bbr] {
            assert_eq!(controller.to_string().parse(), Ok(controller));
        }
        let error = "reno".parse::<Controller>().unwrap_err();
        assert_eq!(error, "it takes cubic or bbr, not \"reno\"");
    }
}
