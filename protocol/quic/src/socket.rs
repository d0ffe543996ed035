//! UDP sockets with buffers that hold a burst.
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::{Endpoint, EndpointConfig, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};

use crate::TransportOptions;

impl TransportOptions {
    /// A socket on an address, with the buffers of the options as far as the system gives them. One
    /// line of the log says what was got where that is less.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn socket(&self, local: SocketAddr) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
        if local.is_ipv6() && local.ip().is_unspecified() {
            // Both families, where the system has both.
            socket.set_only_v6(false)?;
        }
        let wanted = self.socket_buffer_bytes as usize;
        enlarge(&socket, wanted);
        socket.bind(&local.into())?;
        let (receive, send) = (socket.recv_buffer_size()?, socket.send_buffer_size()?);
        if receive.min(send) < wanted {
            tracing::warn!(
                wanted,
                receive,
                send,
                "the system gives smaller socket buffers than wanted: bursts may lose packets; \
                 raise net.core.rmem_max and net.core.wmem_max"
            );
        } else {
            tracing::debug!(receive, send, "socket buffers");
        }
        Ok(socket.into())
    }

    /// A client's endpoint on an address; port 0 takes a free one. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn bind(&self, local: SocketAddr) -> io::Result<Endpoint> {
        let mut config = EndpointConfig::default();
        self.endpoint(&mut config);
        Endpoint::new(config, None, self.socket(local)?, Arc::new(TokioRuntime))
    }
}

/// Asks for buffers: beyond the system's bound where this process may, else up to it.
fn enlarge(socket: &Socket, bytes: usize) {
    let asked = [socket.set_recv_buffer_size(bytes), socket.set_send_buffer_size(bytes)];
    for refused in asked.into_iter().filter_map(Result::err) {
        tracing::debug!(error = %refused, "socket buffers keep their size");
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::net::sockopt;
        // As root, or with CAP_NET_ADMIN.
        if socket.recv_buffer_size().is_ok_and(|got| got < bytes) {
            let _refused = sockopt::set_socket_recv_buffer_size_force(socket, bytes);
        }
        if socket.send_buffer_size().is_ok_and(|got| got < bytes) {
            let _refused = sockopt::set_socket_send_buffer_size_force(socket, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_socket_is_had_with_any_buffers() {
        for socket_buffer_bytes in [0, 64 << 10, 4 << 20, 1 << 30] {
            let options = TransportOptions { socket_buffer_bytes, ..TransportOptions::default() };
            let socket = options.socket((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            assert_ne!(socket.local_addr().unwrap().port(), 0);
        }
    }

    #[test]
    fn an_address_that_is_taken_is_an_error() {
        let options = TransportOptions::default();
        let first = options.socket((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let taken = options.socket(first.local_addr().unwrap());
        assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
