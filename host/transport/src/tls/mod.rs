//! Keys and certificates: who may be a broker, who may be a tenant, and how a handshake is done.
//!
//! ```text
//!   authority ──signs──► broker's certificate   (names and addresses, for servers only)
//!       │
//!       └──────signs──► tenant's certificate    URI yard://tenant/NAME, for clients only
//!                                               and yard://operator where it is an operator
//! ```
//!
//! The identity of a peer is what the authority wrote into the certificate, never what the peer
//! asked for.
mod authority;
mod config;
mod identity;

pub use authority::{Authority, new_key_and_request};
pub use config::ServerIdentity;
pub use identity::{PeerIdentity, identity_of};

/// Why keys, certificates or requests could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM text holds no certificate or key.
    #[error("the PEM text holds no {what}")]
    Pem {
        /// What was looked for.
        what: &'static str,
    },
    /// The key is not the certificate's.
    #[error("the key does not belong to the certificate")]
    OtherKey,
    /// A tenant's name breaks the rules for names.
    #[error("{0}")]
    Name(yard_wire::Refusal),
    /// A certificate or a request for one could not be made or read.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// Certificate, key and authority make no usable configuration.
    #[error("TLS: {0}")]
    Config(#[from] rustls::Error),
    /// The authority's certificates verify no client.
    #[error("client authority: {0}")]
    ClientAuthority(#[from] rustls::server::VerifierBuilderError),
}
