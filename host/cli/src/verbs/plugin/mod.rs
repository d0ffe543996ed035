//! What of `yard plugin` is more than one call: pushing a file, and what an author does without a
//! broker.
//!
//! ```text
//!   new ──► cargo test ──► build ──► test ──► replay over what a topic holds ──► push
//! ```
mod bench;
mod local;
mod new;
mod run;

use std::{fs, io};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use rcgen::{KeyPair, PKCS_ED25519, SigningKey};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use yard_client::wire::operation::{Arg, PluginGet, PluginPush};
use yard_client::wire::plugin::{Blob, Digest, check_file_bytes};
use yard_client::wire::value::{ToValue, Value};

use super::Session;
use crate::args::{Written, bad_argument};
use crate::failure::Failure;
use crate::output;

pub(crate) use bench::bench;
pub(crate) use new::{build, new};
pub(crate) use run::{replay, test};

pub(crate) async fn push(session: &Session, written: &Written) -> Result<(), Failure> {
    let path = written.required("wasm")?;
    // Before it is read: nothing of what is too large has to be in memory.
    let bytes = fs::metadata(path).map_err(|error| unreadable(path, &error))?.len();
    check_file_bytes(bytes).map_err(yard_client::Error::from)?;
    let wasm = read(path)?;
    let sign = match written.text("sign") {
        Some(path) => Some(Blob(sign(&wasm, path)?)),
        None => None,
    };
    let inactive = written.switch("inactive");
    let client = session.connect(Some(1)).await?;
    let push = PluginPush { wasm: Blob(wasm.into()), sign, inactive };
    let pushed = client.admin().call(push).await;
    super::leave(&client).await;
    Ok(output::show(&pushed?.to_value(), session.format)?)
}

/// Writes the file of a version into the folder in which the program runs.
pub(crate) async fn get(session: &Session, written: &Written) -> Result<(), Failure> {
    let name = written.required("name")?.to_owned();
    let version = written.number("version", 1, u32::MAX.into())?;
    let version = version.map(|it| u32::try_from(it).expect("checked against its most"));
    let client = session.connect(Some(1)).await?;
    let copy = client.admin().call(PluginGet { name, version }).await;
    super::leave(&client).await;
    let copy = copy?;
    let path = format!("{}-{}.wasm", copy.name, copy.version);
    fs::write(&path, &copy.wasm.0).map_err(|error| Failure::local(format!("{path}: {error}")))?;
    let row = Value::Record(vec![
        ("file", path.to_value()),
        ("version", copy.version.to_value()),
        ("hash", copy.hash.to_value()),
        ("bytes", (copy.wasm.0.len() as u64).to_value()),
    ]);
    Ok(output::show(&row, session.format)?)
}

fn unreadable(path: &str, error: &io::Error) -> Failure {
    Failure::local(format!("{path}: {error}"))
}

fn read(path: &str) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| unreadable(path, &error))
}

/// Puts the key of a file into the place of its path; digits are left as they were written.
pub(crate) fn with_key(written: &mut Written) -> Result<(), Failure> {
    let path = written.required("key")?;
    if Digest::parse("key", Some(path)).is_ok() {
        return Ok(());
    }
    let wrong = |why: String| {
        let kind = Digest::KIND;
        bad_argument("key", &format!("takes {kind} or the file of a public key; {path}: {why}"))
    };
    let pem = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let key = public_key(&pem).map_err(wrong)?;
    written.fill("key", key.to_string());
    Ok(())
}

/// What stands before the 32 bytes of a public key of Ed25519. Source: RFC 8410, sections 3 and 4.
const ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The public key in a PEM file.
fn public_key(pem: &[u8]) -> Result<Digest, String> {
    let found = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|error| {
        let make = "openssl pkey -in author.pem -pubout -out author.pub.pem";
        match PrivateKeyDer::from_pem_slice(pem) {
            Ok(_) => {
                format!("is a private key, which stays with its author; its public key: {make}")
            }
            Err(_) => format!("is no public key (PEM): {error}"),
        }
    })?;
    let key = found.strip_prefix(&ED25519[..]).and_then(|key| key.try_into().ok());
    key.map(Digest).ok_or_else(|| "is a public key of another kind than Ed25519".to_owned())
}

/// The signature of a file by the private key in another.
fn sign(file: &[u8], path: &str) -> Result<Bytes, Failure> {
    let wrong = |error: rcgen::Error| {
        Failure::local(format!("{path} is no private key of Ed25519 (PKCS#8, PEM): {error}"))
    };
    let pem = String::from_utf8_lossy(&read(path)?).into_owned();
    let key = KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &PKCS_ED25519).map_err(wrong)?;
    let signature = key.sign(digest(&SHA256, file).as_ref()).map_err(wrong)?;
    Ok(signature.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of RFC 8410, section 10.1, and its 32 bytes.
    const PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
        -----END PUBLIC KEY-----\n";
    const DIGITS: &str = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";

    #[track_caller]
    fn check(pem: &str, expect: Result<&str, &str>) {
        let found = public_key(pem.as_bytes()).map(|key| key.to_string());
        match (found, expect) {
            (Ok(found), Ok(digits)) => assert_eq!(found, digits),
            (Err(found), Err(part)) => assert!(found.contains(part), "{found}"),
            (found, _) => panic!("{found:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn public_keys_are_read_from_their_files() {
        check(PEM, Ok(DIGITS));
        check(&format!("a remark\n{PEM}"), Ok(DIGITS));
        check("", Err("is no public key (PEM)"));
        check(DIGITS, Err("is no public key (PEM)"));
        let private = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        check(&private.serialize_pem(), Err("openssl pkey -in author.pem -pubout"));
        let own = private.public_key_raw();
        let shown = own.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        check(&private.public_key_pem(), Ok(&shown));
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        check(&other.public_key_pem(), Err("of another kind than Ed25519"));
    }
}
