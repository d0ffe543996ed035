//! A small certificate authority: it signs brokers and tenants of one installation.
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::TlsError;
use super::identity::{OPERATOR_URI, TENANT_URI_PREFIX};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A certificate holds for ten years: who may connect is decided by the broker's list of
/// tenants, where a removal counts at once.
const VALID_DAYS: u32 = 3_650;

/// Signs the certificates of brokers and tenants. Its key is as powerful as all of them.
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority with a new P-256 key.
    ///
    /// # Errors
    /// [`TlsError::Certificate`] when the system gives no randomness.
    pub fn create() -> Result<Self, TlsError> {
        let key = KeyPair::generate()?;
        let mut params = params("Switchyard authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self { certificate_pem, issuer: Issuer::new(params, key) })
    }

    /// The authority with this certificate and key.
    ///
    /// # Errors
    /// [`TlsError`] when either cannot be read or they do not belong together.
    pub fn load(certificate_pem: &str, key_pem: &str) -> Result<Self, TlsError> {
        let key = KeyPair::from_pem(key_pem).map_err(|_| TlsError::Pem { what: "private key" })?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|_| TlsError::Pem { what: "certificate" })?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
            .map_err(|_| TlsError::Pem { what: "certificate" })?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(TlsError::OtherKey);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { certificate_pem: certificate_pem.to_owned(), issuer })
    }

    /// The certificate that brokers and clients trust.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key. Whoever has it can be any broker and any tenant.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate and a new key for a broker that is reached under these host names and
    /// addresses.
    ///
    /// # Errors
    /// [`TlsError::Certificate`] when a name is no host name.
    pub fn issue_server(&self, names: &[String]) -> Result<(String, String), TlsError> {
        let key = KeyPair::generate()?;
        let mut params = params("Switchyard broker");
        params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// A certificate for a tenant's own key. Only the key of `request_pem` is taken, and that
    /// its sender holds the key is checked; what names the request asks for does not matter.
    ///
    /// # Errors
    /// [`TlsError::Name`] for a bad tenant name, [`TlsError::Certificate`] for a bad request.
    pub fn issue_tenant(
        &self,
        request_pem: &str,
        tenant: &str,
        operator: bool,
    ) -> Result<String, TlsError> {
        yard_wire::name::check(tenant).map_err(TlsError::Name)?;
        let request = CertificateSigningRequestParams::from_pem(request_pem)?;
        let mut params = params(tenant);
        let uri = format!("{TENANT_URI_PREFIX}{tenant}");
        params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        if operator {
            params.subject_alt_names.push(SanType::URI(OPERATOR_URI.try_into()?));
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params.signed_by(&request.public_key, &self.issuer)?.pem())
    }
}

/// A new P-256 key and a request to certify it, both PEM. The key need never leave the machine
/// on which it was made.
///
/// # Errors
/// [`TlsError::Certificate`] when the system gives no randomness.
pub fn new_key_and_request() -> Result<(String, String), TlsError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key)?;
    Ok((key.serialize_pem(), request.pem()?))
}

fn params(common_name: &str) -> CertificateParams {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    // A day of grace for peers whose clock is behind.
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * VALID_DAYS).into();
    params.use_authority_key_identifier_extension = true;
    params
}
