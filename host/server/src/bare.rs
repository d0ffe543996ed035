//! The broker's door with nothing behind it: an endpoint with its sockets, TLS and transport
//! settings, for measuring what QUIC alone can do on this machine.
use std::sync::Arc;

use quinn::{Connection, Endpoint, TokioRuntime, VarInt};
use yard_transport::tls::{Authority, ServerIdentity};
use yard_transport::{StartError, TransportConfig};

use crate::Connection as Reach;

/// An endpoint on loopback with a certificate of its own.
#[derive(Debug)]
pub struct Bare {
    endpoint: Endpoint,
    config: TransportConfig,
    reach: Reach,
}

impl Bare {
    /// Listens with these settings. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] when the address or the certificates cannot be used.
    pub fn start(config: TransportConfig) -> Result<Self, StartError> {
        let authority = Authority::create()?;
        let (certificate_pem, key_pem) = authority.issue_server(&["localhost".to_owned()])?;
        let client_authority_pem = authority.certificate_pem().to_owned();
        let identity = ServerIdentity { certificate_pem, key_pem, client_authority_pem };
        let address = config.listen;
        let listen = |source| StartError::Listen { address, source };
        let server = config.server(&identity)?;
        let socket = config.bind().map_err(listen)?;
        let endpoint =
            Endpoint::new(config.endpoint(), Some(server), socket, Arc::new(TokioRuntime))
                .map_err(listen)?;
        let reach = Reach {
            addresses: vec![endpoint.local_addr().map_err(listen)?.to_string()],
            server_name: "localhost".to_owned(),
            tenant: String::new(),
            authority: identity.client_authority_pem,
            certificate: None,
            key: None,
        };
        Ok(Self { endpoint, config, reach })
    }

    /// How to connect.
    #[must_use]
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// The next connection, with the windows that a broker gives after the hello; `None` when the
    /// endpoint was closed.
    pub async fn accept(&self) -> Option<Connection> {
        loop {
            let incoming = self.endpoint.accept().await?;
            let Ok(connecting) = incoming.accept() else { continue };
            let Ok(connection) = connecting.await else { continue };
            let streams = u32::from(self.config.lanes_max) + 1;
            connection.set_max_concurrent_bi_streams(VarInt::from_u32(streams));
            connection
                .set_receive_window(VarInt::from_u32(self.config.options.receive_window_bytes));
            return Some(connection);
        }
    }
}

/// The settings of a broker's transport on a free port of loopback.
#[must_use]
pub fn config() -> TransportConfig {
    let listen = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
    TransportConfig { listen, ..TransportConfig::default() }
}
