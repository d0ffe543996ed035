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

use std::fs;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use rcgen::{KeyPair, PKCS_ED25519, SigningKey};
use yard_client::wire::operation::{PluginGet, PluginPush};
use yard_client::wire::plugin::Blob;
use yard_client::wire::value::{ToValue, Value};

use super::Session;
use crate::args::Written;
use crate::failure::Failure;
use crate::output;

pub(crate) use bench::bench;
pub(crate) use new::{build, new};
pub(crate) use run::{replay, test};

pub(crate) async fn push(session: &Session, written: &Written) -> Result<(), Failure> {
    let wasm = read(written.required("wasm")?)?;
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

fn read(path: &str) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::local(format!("{path}: {error}")))
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
