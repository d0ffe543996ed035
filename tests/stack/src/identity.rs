//! Who is who in a world: fixed Ed25519 keys and certificates, so that every handshake has packets
//! of the same sizes. They hold from 2020 to 2120, by the machine's clock, and open nothing.
use yard_client::TlsOptions;
use yard_transport::ServerIdentity;

const AUTHORITY: &str = include_str!("../keys/authority.pem");

/// The broker's.
pub(crate) fn broker() -> ServerIdentity {
    ServerIdentity {
        certificate_pem: include_str!("../keys/broker.pem").to_owned(),
        key_pem: include_str!("../keys/broker.key").to_owned(),
        client_authority_pem: AUTHORITY.to_owned(),
    }
}

/// That of every client: an operator of the default tenant.
pub(crate) fn client() -> TlsOptions {
    TlsOptions {
        authority_pem: AUTHORITY.to_owned(),
        certificate_pem: Some(include_str!("../keys/client.pem").to_owned()),
        key_pem: Some(include_str!("../keys/client.key").to_owned()),
        server_name: Some("broker.sim".to_owned()),
    }
}
