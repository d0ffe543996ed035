//! Who a peer is, by its certificate.
use x509_parser::extensions::GeneralName;

/// How the URI begins that names a certificate's tenant.
pub(super) const TENANT_URI_PREFIX: &str = "yard://tenant/";
/// The URI of an operator's certificate.
pub(super) const OPERATOR_URI: &str = "yard://operator";

/// What the authority says about a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Name of the tenant that the peer belongs to.
    pub tenant: String,
    /// Whether it may act on the whole installation.
    pub operator: bool,
}

/// The identity in a certificate that the handshake has verified. `None` when it names no
/// tenant, or more than one.
#[must_use]
pub fn identity_of(certificate_der: &[u8]) -> Option<PeerIdentity> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate_der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut tenant = None;
    let mut operator = false;
    for name in &names.value.general_names {
        let GeneralName::URI(uri) = name else {
            continue;
        };
        if *uri == OPERATOR_URI {
            operator = true;
        } else if let Some(name) = uri.strip_prefix(TENANT_URI_PREFIX) {
            if tenant.is_some() || yard_wire::name::check(name).is_err() {
                return None;
            }
            tenant = Some(name.to_owned());
        }
    }
    Some(PeerIdentity { tenant: tenant?, operator })
}
