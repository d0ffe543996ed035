//! `yard tenant add`: a key that never leaves this machine, a certificate for it from the broker,
//! a context file of both.
use std::io::{self, Write};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use yard_client::Context;
use yard_client::wire::name;
use yard_client::wire::operation::TenantAdd;
use yard_client::wire::value::{ToValue, Value};

use super::Session;
use crate::args::Written;
use crate::context::Contexts;
use crate::failure::Failure;
use crate::output;

pub(crate) async fn add(session: &Session, written: Written) -> Result<(), Failure> {
    let name = written.required("name")?.to_owned();
    name::check(&name)?;
    let contexts = Contexts::of_user()?;
    if contexts.find(&name).is_some_and(|known| known.tenant != name) {
        return Err(Failure::local(format!(
            "a context of another tenant is saved as {name:?}; it would be lost"
        )));
    }
    let operator = session.context()?;
    let (key, request) = key_and_request(&name)
        .map_err(|error| Failure::local(format!("no key could be made: {error}")))?;
    let args = TenantAdd {
        name: name.clone(),
        auto_create_topics: written.switch("auto_create_topics"),
        request,
    };
    let client = super::connect(operator.clone(), Some(1)).await?;
    let added = client.admin().call(args).await;
    super::leave(&client).await;
    let added = added?;
    let context = Context {
        addresses: operator.addresses,
        authority_pem: added.authority,
        certificate_pem: Some(added.certificate),
        key_pem: Some(key),
        server_name: operator.server_name,
        tenant: added.name,
        controller: operator.controller,
    };
    let path = contexts.save(&name, context)?.display().to_string();
    let row = Value::Record(vec![
        ("name", Value::Text(name.clone())),
        ("id", added.id.to_value()),
        ("auto_create_topics", Value::Bool(added.auto_create_topics)),
        ("context", Value::Text(path.clone())),
    ]);
    output::show(&row, session.format)?;
    let mut hints = io::stderr().lock();
    writeln!(hints, "The key and its certificate are in {path}. As this tenant:")?;
    writeln!(hints, "  yard --context {name} topic create orders")?;
    Ok(())
}

/// A new key and a request for a certificate of it, both PEM.
fn key_and_request(name: &str) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let request = params.serialize_request(&key)?.pem()?;
    Ok((key.serialize_pem(), request))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::CertificateSigningRequestParams;

    #[test]
    fn a_request_names_the_tenant_and_is_of_the_key() {
        let (key, request) = key_and_request("acme").expect("made");
        let request = CertificateSigningRequestParams::from_pem(&request).expect("signed");
        let names: Vec<_> = request.params.distinguished_name.iter().collect();
        assert_eq!(names, [(&DnType::CommonName, &rcgen::DnValue::Utf8String("acme".into()))]);
        let key = KeyPair::from_pem(&key).expect("a key");
        assert_eq!(rcgen::PublicKeyData::der_bytes(&request.public_key), key.public_key_raw());
    }
}
