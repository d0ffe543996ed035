//! What `yard context` saves: where a broker is and who the client is.
use yard_quic::Controller;

/// Everything that is needed to connect, as plain data. Files of contexts are read and written by
/// the program that uses this library; the library knows no files.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// Addresses, `host:port`, tried in turn.
    pub addresses: Vec<String>,
    /// Certificate of the authority that signs the broker's certificate, PEM.
    pub authority_pem: String,
    /// Certificate of the client, PEM; it says which tenant the client belongs to.
    pub certificate_pem: Option<String>,
    /// Private key of that certificate, PEM.
    pub key_pem: Option<String>,
    /// Name in the broker's certificate; `None`: the host of the address.
    pub server_name: Option<String>,
    /// Name of the tenant, for people: the certificate decides.
    pub tenant: String,
    /// How the client finds out how fast it may send on the way there.
    pub controller: Controller,
}

impl std::fmt::Debug for Context {
    // By hand, so that a private key is never written to a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("addresses", &self.addresses)
            .field("server_name", &self.server_name)
            .field("tenant", &self.tenant)
            .field("controller", &self.controller)
            .finish_non_exhaustive()
    }
}
