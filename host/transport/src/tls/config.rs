//! What a broker shows in the handshake and asks of its clients.
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use yard_wire::frame::ALPN;

use super::TlsError;

/// A broker's certificate and key, and whom it lets in. All texts are PEM.
#[derive(Clone)]
pub struct ServerIdentity {
    /// The broker's certificate, followed by any between it and the authority.
    pub certificate_pem: String,
    /// The key of that certificate.
    pub key_pem: String,
    /// The authorities that sign tenants' certificates.
    pub client_authority_pem: String,
}

impl ServerIdentity {
    /// TLS 1.3 only, no early data. A client without a certificate passes the handshake, so that
    /// it can be told with a code why it may not enter; one with a certificate that no authority
    /// here has signed does not.
    pub(crate) fn config(&self) -> Result<rustls::ServerConfig, TlsError> {
        let certificates = certificates(&self.certificate_pem)?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|_| TlsError::Pem { what: "private key" })?;
        let mut roots = RootCertStore::empty();
        for authority in self::certificates(&self.client_authority_pem)? {
            roots.add(authority)?;
        }
        let provider = Arc::new(provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .allow_unauthenticated()
            .build()?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(certificates, key)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.max_early_data_size = 0;
        // The broker pays for every client's cipher, so it chooses.
        config.ignore_client_order = true;
        Ok(config)
    }
}

/// AES-128-GCM first: half again as fast as ChaCha20 where the processor knows AES, and faster
/// than AES-256.
fn provider() -> CryptoProvider {
    use aws_lc_rs::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    let cipher_suites =
        vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256];
    CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(TlsError::Pem { what: "certificate" }),
    }
}
