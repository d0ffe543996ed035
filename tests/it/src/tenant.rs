//! Making tenants, as `yard tenant add` does: the key never leaves this side.
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use yard_client::wire::operation::TenantAdd;
use yard_client::{Client, Code, Context, Error};

use crate::Failed;

/// A new key and a request to certify it, both PEM.
///
/// # Errors
/// When the system gives no randomness.
pub fn key_and_request() -> Result<(String, String), Failed> {
    let make = || -> Result<(String, String), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        Ok((key.serialize_pem(), params.serialize_request(&key)?.pem()?))
    };
    make().map_err(|error| Failed(format!("no key could be made: {error}")))
}

/// Adds a tenant; returns how it connects.
///
/// # Errors
/// What the broker refuses with.
pub async fn add(
    operator: &Client,
    context: &Context,
    name: &str,
    auto_create_topics: bool,
) -> Result<Context, Error> {
    let made = key_and_request().map_err(|Failed(why)| Error::new(Code::Internal, why));
    let (key, request) = made?;
    let args = TenantAdd { name: name.to_owned(), auto_create_topics, request };
    let added = operator.admin().call(args).await?;
    Ok(Context {
        addresses: context.addresses.clone(),
        authority_pem: added.authority,
        certificate_pem: Some(added.certificate),
        key_pem: Some(key),
        server_name: context.server_name.clone(),
        tenant: added.name,
        ..Context::default()
    })
}
