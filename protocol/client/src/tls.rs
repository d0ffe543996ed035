//! TLS 1.3: whom the client trusts, and who it is.
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use yard_quic::TransportOptions;
use yard_wire::Code;
use yard_wire::frame::ALPN;

use crate::Error;

/// Whom the client trusts and who it is. All of it is PEM text. Validation of the broker's
/// certificate cannot be switched off.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Certificates of the authorities that may sign the broker's certificate; at least one.
    pub authority_pem: String,
    /// Certificate of the client, then those between it and its authority; `None` for a broker
    /// that asks for none.
    pub certificate_pem: Option<String>,
    /// Private key of the client's certificate; there exactly when the certificate is.
    pub key_pem: Option<String>,
    /// Name in the broker's certificate; `None`: the host of the address.
    pub server_name: Option<String>,
}

impl std::fmt::Debug for TlsOptions {
    // By hand, so that a private key is never written to a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let certificate = self.certificate_pem.is_some();
        f.debug_struct("TlsOptions")
            .field("server_name", &self.server_name)
            .field("client_certificate", &certificate)
            .finish_non_exhaustive()
    }
}

fn bad(what: &str, problem: impl std::fmt::Display) -> Error {
    Error::new(Code::BadArgument, format!("{what}: {problem}"))
}

/// The cryptography that the client uses.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The configuration of every connection of a client.
pub(crate) fn client_config(
    options: &TlsOptions,
    transport: &TransportOptions,
    provider: Arc<CryptoProvider>,
) -> Result<quinn::ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(options.authority_pem.as_bytes()) {
        let certificate = certificate.map_err(|e| bad("the authority's certificate", e))?;
        roots.add(certificate).map_err(|e| bad("the authority's certificate", e))?;
    }
    if roots.is_empty() {
        return Err(bad("the authority's certificate", "the PEM text holds none"));
    }
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| bad("TLS", e))?
        .with_root_certificates(roots);
    let mut tls = match (&options.certificate_pem, &options.key_pem) {
        (Some(certificate), Some(key)) => {
            let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| bad("the client's certificate", e))?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|e| bad("the client's key", e))?;
            builder.with_client_auth_cert(chain, key).map_err(|e| bad("the client's key", e))?
        }
        (None, None) => builder.with_no_client_auth(),
        (Some(_), None) => return Err(bad("the client's key", "there is only a certificate")),
        (None, Some(_)) => return Err(bad("the client's certificate", "there is only a key")),
    };
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.enable_early_data = false;
    let crypto = QuicClientConfig::try_from(tls).map_err(|e| bad("TLS", e))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    // The client opens every stream, so that the broker may open none is right as it is.
    config.transport_config(Arc::new(transport.quic()));
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let good = authority.cert.pem();
        let check =
            |authority: &str, certificate: Option<&str>, key: Option<&str>, expect: &str| {
                let options = TlsOptions {
                    authority_pem: authority.to_owned(),
                    certificate_pem: certificate.map(str::to_owned),
                    key_pem: key.map(str::to_owned),
                    server_name: None,
                };
                let found = match client_config(&options, &TransportOptions::default(), provider())
                {
                    Ok(_) => "good".to_owned(),
                    Err(error) => error.to_string(),
                };
                assert!(found.contains(expect), "{found}");
            };
        check(&good, None, None, "good");
        check("", None, None, "the PEM text holds none");
        check(&good, Some(&good), None, "there is only a certificate");
        check(&good, None, Some("key"), "there is only a key");
        check(&good, Some(&good), Some("key"), "the client's key");
    }
}
