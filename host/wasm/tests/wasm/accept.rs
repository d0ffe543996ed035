//! Uploads that are refused before anything of them is compiled, each by its own error.
use std::collections::BTreeSet;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use yard_abi::manifest::{Capability, Point, SECTION};
use yard_wasm::limits::TooMuch;
use yard_wasm::{
    AcceptError, Accepted, Limits, PluginHash, Signed, Terms, TrustedKey, Upload, accept,
};

use crate::support::{ALL, Filter, GOOD, accepted, manifest, plugin, typed, with_section};

fn good() -> Vec<u8> {
    GOOD.build(&[])
}

/// The error of an upload under the usual terms, as its sentence.
fn check(wasm: &[u8], expect: &str) {
    let error = accepted(wasm, &Limits::DEFAULT).expect_err(expect);
    let says = error.to_string();
    assert!(says.contains(expect), "`{says}` does not say `{expect}`");
}

fn with_manifest(json: &str) -> Vec<u8> {
    with_section(typed(Point::Filter, &GOOD.wat()), SECTION, json.as_bytes())
}

#[test]
fn a_core_module_with_types_is_accepted() {
    let wasm = good();
    let accepted = accepted(&wasm, &Limits::DEFAULT).unwrap();
    assert_eq!(accepted.hash, PluginHash::of(&wasm));
    assert_eq!(accepted.manifest.points, [Point::Filter]);
    assert_eq!(accepted.signer, None);
}

#[test]
fn a_core_module_may_have_what_is_called_after_its_exports() {
    let extra = r#"(func (export
        "cabi_post_switchyard:plugin/filter@1.0.0#[method]predicate.evaluate") (param i32))"#;
    let wasm = Filter { extra, ..GOOD }.build(&[]);
    assert!(accepted(&wasm, &Limits::DEFAULT).is_ok());
    let mut host = crate::support::Host::of(&wasm);
    assert_eq!(host.judge(&["a", "b"]).1.delivered().count(), 1);
    let extra = r#"(func (export "cabi_post_else:where/filter@1.0.0#evaluate") (param i32))"#;
    check(&Filter { extra, ..GOOD }.build(&[]), "exports `else:where/filter@1.0.0`");
}

#[test]
fn a_component_is_accepted_and_means_the_same() {
    let module = typed(Point::Filter, &GOOD.wat());
    let mut encoder = wit_component::ComponentEncoder::default().module(&module).unwrap();
    let component = encoder.encode().unwrap();
    let json = manifest(Point::Filter, &[]);
    let component = with_section(component, SECTION, json.as_bytes());
    assert!(wasmparser::Parser::is_component(&component));
    assert!(accepted(&component, &Limits::DEFAULT).is_ok());
    let mut host = crate::support::Host::of(&component);
    assert_eq!(host.judge(&["a", "b"]).1.delivered().count(), 1);
}

#[test]
fn what_is_not_wasm_is_refused() {
    for bytes in [&b""[..], b"\0as", b"\x7fELF and so on", b"(module)"] {
        assert_eq!(accepted(bytes, &Limits::DEFAULT), Err(AcceptError::NotWasm), "{bytes:?}");
    }
    let wasm = good();
    for cut in [9, 40, wasm.len() / 2, wasm.len() - 1] {
        let error = accepted(&wasm[..cut], &Limits::DEFAULT).expect_err("a cut file");
        let is_typed = matches!(error, AcceptError::Damaged(_) | AcceptError::NoTypes);
        assert!(is_typed, "cut at {cut}: {error}");
    }
}

#[test]
fn no_damaged_byte_makes_it_panic() {
    let wasm = good();
    for at in 0..wasm.len() {
        let mut damaged = wasm.clone();
        damaged[at] ^= 0xff;
        let _ = accepted(&damaged, &Limits::DEFAULT);
    }
}

#[test]
fn a_core_module_says_its_types() {
    let bare = wat::parse_str(GOOD.wat()).unwrap();
    assert_eq!(accepted(&bare, &Limits::DEFAULT), Err(AcceptError::NoTypes));
}

#[test]
fn size_and_hash_are_checked_first() {
    let wasm = good();
    let limits = Limits { wasm_bytes_max: 100, ..Limits::DEFAULT };
    let error = AcceptError::TooLarge { bytes: wasm.len() as u64, max: 100 };
    assert_eq!(accepted(&wasm, &limits), Err(error));
    let expected = PluginHash([1; 32]);
    let upload = Upload { bytes: &wasm, hash: Some(expected), signature: None };
    let found = PluginHash::of(&wasm);
    let error = AcceptError::WrongHash { expected, found };
    assert_eq!(terms(&upload, &[], Signed::Optional), Err(error));
}

fn terms(
    upload: &Upload<'_>,
    trusted: &[TrustedKey],
    signed: Signed,
) -> Result<Accepted, AcceptError> {
    let grants = ALL.into_iter().collect();
    let terms = Terms { limits: &Limits::DEFAULT, grants: &grants, trusted, signed };
    accept(upload, &terms)
}

#[test]
fn a_signature_is_of_a_trusted_key() {
    let wasm = good();
    let pair = Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap();
    let key = TrustedKey(pair.public_key().as_ref().try_into().unwrap());
    let signature = pair.sign(&PluginHash::of(&wasm).0).as_ref().to_vec();
    let unsigned = Upload { bytes: &wasm, hash: None, signature: None };
    let signed = Upload { signature: Some(&signature), ..unsigned };
    let other = TrustedKey([9; 32]);
    let accepted = terms(&signed, &[other, key], Signed::Required).unwrap();
    assert_eq!(accepted.signer, Some(key));
    assert_eq!(terms(&unsigned, &[key], Signed::Required), Err(AcceptError::NotSigned));
    assert!(terms(&unsigned, &[key], Signed::Optional).is_ok());
    let error = AcceptError::WrongSignature { trusted: 1 };
    assert_eq!(terms(&signed, &[other], Signed::Optional), Err(error.clone()));
    let longer = with_section(wasm.clone(), "other", b"");
    let forged = Upload { bytes: &longer, ..signed };
    assert_eq!(terms(&forged, &[key], Signed::Optional), Err(error));
}

#[test]
fn there_is_one_manifest_and_it_is_true() {
    let json = manifest(Point::Filter, &[]);
    let none = typed(Point::Filter, &GOOD.wat());
    assert_eq!(accepted(&none, &Limits::DEFAULT), Err(AcceptError::ManifestCount(0)));
    let two = with_section(with_manifest(&json), SECTION, json.as_bytes());
    assert_eq!(accepted(&two, &Limits::DEFAULT), Err(AcceptError::ManifestCount(2)));
    check(&with_manifest("{"), "EOF while parsing");
    check(&with_manifest(&json.replace("filter", "everything")), "unknown variant `everything`");
    check(&with_manifest(&json.replace("1.0.0", "one")), "`one` is no version");
    let some = json.replace("\"points\"", "\"properties\": \"some\", \"points\"");
    check(&with_manifest(&some), "unknown variant `some`, expected `none` or `all`");
    check(&with_manifest(&json.replace("\"test\"", "\"../x\"")), "no name of a plugin");
    let asks = json.replace("[]", r#"["network"]"#);
    check(&with_manifest(&asks), "unknown variant `network`");
    let mut points = json.replace(r#"["filter"]"#, r#"["filter", "dedupe"]"#);
    assert_eq!(
        accepted(&with_manifest(&points), &Limits::DEFAULT),
        Err(AcceptError::NotExported(Point::Dedupe))
    );
    points = json.replace(r#"["filter"]"#, r#"["dedupe"]"#);
    assert!(accepted(&with_manifest(&points), &Limits::DEFAULT).is_err());
}

#[test]
fn imports_are_known_asked_for_and_granted() {
    let import = |import: &'static str| Filter { imports: import, ..GOOD };
    let stranger = import(r#"(import "wasi:cli/stdout@0.2.0" "get-stdout" (func (result i32)))"#);
    let json = manifest(Point::Filter, &[]);
    let module = wat::parse_str(stranger.wat()).unwrap();
    // Without types of its own: that the import is unknown is seen before.
    let module = with_section(module, "component-type:x", b"");
    let module = with_section(module, SECTION, json.as_bytes());
    let error = AcceptError::UnknownImport { name: "wasi:cli/stdout@0.2.0".to_owned() };
    assert_eq!(accepted(&module, &Limits::DEFAULT), Err(error));
    let log = r#"(import "switchyard:plugin/log@1.0.0" "write" (func (param i32 i32 i32)))"#;
    let error = AcceptError::NotAsked(Capability::Log);
    assert_eq!(accepted(&import(log).build(&[]), &Limits::DEFAULT), Err(error));
    let asked = import(log).build(&[Capability::Log]);
    assert!(accepted(&asked, &Limits::DEFAULT).is_ok());
    let upload = Upload { bytes: &asked, hash: None, signature: None };
    let none = Terms {
        limits: &Limits::DEFAULT,
        grants: &BTreeSet::new(),
        trusted: &[],
        signed: Signed::Optional,
    };
    assert_eq!(accept(&upload, &none), Err(AcceptError::NotGranted(Capability::Log)));
    // A filter's world has no clock.
    let clock = GOOD.build(&[Capability::Clock]);
    check(&clock, "no point of this plugin may have the capability `clock`");
}

#[test]
fn another_major_version_is_refused() {
    let wat = GOOD.wat().replace("@1.0.0", "@2.0.0");
    let module = wat::parse_str(wat).unwrap();
    let json = manifest(Point::Filter, &[]);
    let module = with_section(module, "component-type:x", b"");
    let module = with_section(module, SECTION, json.as_bytes());
    check(&module, "is of another version of the interface; this host has 1.0.0");
}

#[test]
fn another_minor_version_is_served() {
    let text = yard_abi::wit::TEXT.replace("plugin@1.0.0;", "plugin@1.3.0;");
    let log = r#"(import "switchyard:plugin/log@1.0.0" "write"
        (func $log (param i32 i32 i32)))"#;
    let verdict = format!(
        "(call $log (i32.const 1) (i32.const 3000) (i32.const 2)) {}",
        GOOD.verdict.replace("(local $tag i32)", "")
    );
    let verdict = format!("(local $tag i32) {verdict}");
    let wat = Filter { imports: log, verdict: &verdict, ..GOOD }.wat().replace("@1.0.0", "@1.3.0");
    let module = crate::support::typed_by(&text, Point::Filter, &wat);
    let json = manifest(Point::Filter, &[Capability::Log]);
    let wasm = with_section(module, SECTION, json.as_bytes());
    let mut host = crate::support::Host::of(&wasm);
    assert_eq!(host.judge(&["a", "b"]).1.delivered().count(), 1);
    assert_eq!(host.worker.take_lines().values().next().map(|it| it.lines.len()), Some(2));
}

#[test]
fn limits_of_the_manifest_are_within_the_tenants() {
    let json = manifest(Point::Filter, &[])
        .replace(r#""capabilities""#, r#""limits": {"memory_bytes": 8388608}, "capabilities""#);
    let wasm = with_manifest(&json);
    let error = TooMuch { what: "memory_bytes", asked: 8 << 20, max: 4 << 20 };
    assert_eq!(accepted(&wasm, &Limits::DEFAULT), Err(AcceptError::TooMuch(error)));
    let limits = Limits { memory_bytes_max: 16 << 20, ..Limits::DEFAULT };
    assert_eq!(accepted(&wasm, &limits).unwrap().limits.memory_bytes_max, 8 << 20);
}

#[test]
fn what_it_exports_is_in_its_manifest() {
    let json = manifest(Point::Filter, &[]);
    let extra = r#"(func (export "switchyard:plugin/retry@1.0.0#open"))"#;
    let wat = Filter { extra, ..GOOD }.wat();
    let module = with_section(wat::parse_str(wat).unwrap(), "component-type:x", b"");
    let module = with_section(module, SECTION, json.as_bytes());
    let error = AcceptError::NotDeclared(Point::Retry);
    assert_eq!(accepted(&module, &Limits::DEFAULT), Err(error));
    let extra = r#"(func (export "other:thing/x@1.0.0#open"))"#;
    let wat = Filter { extra, ..GOOD }.wat();
    let module = with_section(wat::parse_str(wat).unwrap(), "component-type:x", b"");
    let module = with_section(module, SECTION, json.as_bytes());
    let error = AcceptError::UnknownExport { name: "other:thing/x@1.0.0".to_owned() };
    assert_eq!(accepted(&module, &Limits::DEFAULT), Err(error));
    assert!(accepted(&plugin(Point::Filter, &[], &GOOD.wat()), &Limits::DEFAULT).is_ok());
}
