//! Who gets in, and what certificates say.
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use yard_transport::tls::{identity_of, new_key_and_request};
use yard_transport::{Authority, TlsError};
use yard_wire::Code;
use yard_wire::frame::Role;
use yard_wire::request::{Kind, Reply};

use crate::support::{Answer, hello, start};

fn identity(pem: &str) -> Option<(String, bool)> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    identity_of(&der).map(|identity| (identity.tenant, identity.operator))
}

#[test]
fn a_certificate_says_what_the_authority_says() {
    let authority = Authority::create().unwrap();
    let (_, request) = new_key_and_request().unwrap();
    let issue = |tenant: &str, operator| authority.issue_tenant(&request, tenant, operator);
    assert_eq!(identity(&issue("acme", false).unwrap()), Some(("acme".into(), false)));
    assert_eq!(identity(&issue("acme", true).unwrap()), Some(("acme".into(), true)));
    for bad in ["", "a/b", "a b", ".."] {
        assert!(matches!(issue(bad, false), Err(TlsError::Name(_))), "{bad:?}");
    }
    let garbage = authority.issue_tenant("no request", "acme", false);
    assert!(matches!(garbage, Err(TlsError::Certificate(_))));
    // What the request asks for is not granted.
    let mut asking = CertificateParams::default();
    asking.subject_alt_names.push(SanType::URI("yard://operator".try_into().unwrap()));
    let asking = asking.serialize_request(&KeyPair::generate().unwrap()).unwrap();
    let issued = authority.issue_tenant(&asking.pem().unwrap(), "acme", false).unwrap();
    assert_eq!(identity(&issued), Some(("acme".into(), false)));
    let (server, _) = authority.issue_server(&["localhost".into(), "127.0.0.1".into()]).unwrap();
    assert_eq!(identity(&server), None);
}

#[test]
fn an_authority_is_kept_as_two_texts() {
    let authority = Authority::create().unwrap();
    let loaded = Authority::load(authority.certificate_pem(), &authority.key_pem()).unwrap();
    assert_eq!(loaded.certificate_pem(), authority.certificate_pem());
    let (_, request) = new_key_and_request().unwrap();
    assert!(identity(&loaded.issue_tenant(&request, "acme", false).unwrap()).is_some());
    let other = Authority::create().unwrap();
    let mixed = Authority::load(authority.certificate_pem(), &other.key_pem());
    assert!(matches!(mixed, Err(TlsError::OtherKey)));
    let garbage = Authority::load("nothing", &other.key_pem());
    assert!(matches!(garbage, Err(TlsError::Pem { .. })));
}

/// A certificate of `authority` with these URIs, as the authority would never issue it.
fn forged(authority: &Authority, uris: &[&str]) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let signer = KeyPair::from_pem(&authority.key_pem()).unwrap();
    let issuer = Issuer::from_ca_cert_pem(authority.certificate_pem(), signer).unwrap();
    let mut params = CertificateParams::default();
    let uri = |uri: &&str| SanType::URI((*uri).try_into().unwrap());
    params.subject_alt_names = uris.iter().map(uri).collect();
    (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn the_welcome_names_the_tenant() {
    let server = start(|_| {});
    let client = server.connect_with(Some(server.tenant("root", true))).await.unwrap();
    let mut control = client.open(Role::Control, 0).await;
    control.request(1, &hello()).await;
    let Answer::Reply(Reply::Hello(welcome)) = control.answer(Kind::Hello).await else { panic!() };
    assert_eq!((welcome.tenant_name.as_str(), welcome.tenant.0), ("root", 1));
}

#[tokio::test]
async fn who_names_no_tenant_is_told_so() {
    let server = start(|_| {});
    let check = async |who: Option<(String, String)>, code: Code| {
        let client = server.connect_with(who).await.unwrap();
        let mut control = client.open(Role::Control, 0).await;
        control.request(1, &hello()).await;
        assert_eq!(control.answer(Kind::Hello).await, Answer::Refusal(code));
        assert_eq!(client.close_code().await, Some(code));
    };
    check(None, Code::NoCertificate).await;
    let forged = |uris: &[&str]| Some(forged(&server.authority, uris));
    check(forged(&[]), Code::UnknownTenant).await;
    check(forged(&["yard://operator"]), Code::UnknownTenant).await;
    check(forged(&["yard://tenant/a", "yard://tenant/b"]), Code::UnknownTenant).await;
    check(forged(&["yard://tenant/../b"]), Code::UnknownTenant).await;
    assert_eq!(server.transport.counts().sessions, 0);
}

#[tokio::test]
async fn certificates_of_others_fail_the_handshake() {
    let server = start(|_| {});
    let stranger = Authority::create().unwrap();
    let (key, request) = new_key_and_request().unwrap();
    let certificate = stranger.issue_tenant(&request, "acme", true).unwrap();
    // A broker's certificate is none for a client.
    let broker = server.authority.issue_server(&["localhost".into()]).unwrap();
    for who in [(certificate, key), broker] {
        // In TLS 1.3 a client learns of it after its own half of the handshake.
        let error = match server.connect_with(Some(who)).await {
            Ok(client) => crate::support::within(client.connection.closed()).await,
            Err(error) => error,
        };
        assert!(matches!(error, quinn::ConnectionError::ConnectionClosed(_)), "{error:?}");
    }
    crate::support::until(|| server.transport.counts().handshakes_failed == 2).await;
}
