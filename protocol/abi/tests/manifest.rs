//! Manifests: what is accepted, and the sentence for each thing that is not.

use yard_abi::manifest::{Capability, Manifest, Point};
use yard_abi::{Shown, View};

const GOOD: &str = r#"{
    "name": "big-orders",
    "version": "1.2.0",
    "points": ["filter"],
    "capabilities": ["log"],
    "config": [
        { "name": "least", "kind": "number", "required": true, "says": "least amount" },
        { "name": "strict", "kind": "boolean" },
        { "name": "most", "kind": "integer" }
    ],
    "tests": [{
        "point": "filter",
        "config": { "least": "100" },
        "message": { "properties": { "amount": "150" } },
        "expect": "deliver"
    }]
}"#;

fn check(from: &str, to: &str) -> Result<(), String> {
    assert!(from.is_empty() || GOOD.contains(from), "`{from}` is in the text");
    let text = if from.is_empty() { GOOD.to_owned() } else { GOOD.replacen(from, to, 1) };
    let manifest: Manifest = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    manifest.check()
}

fn refused(from: &str, to: &str, why: &str) {
    let error = check(from, to).expect_err("refused");
    assert!(error.contains(why), "`{error}` does not say `{why}`");
}

#[test]
fn a_whole_manifest_is_read_and_written_as_it_was() {
    assert_eq!(check("", ""), Ok(()));
    let manifest: Manifest = serde_json::from_str(GOOD).expect("JSON");
    let again = serde_json::to_string(&manifest).expect("JSON");
    assert_eq!(serde_json::from_str::<Manifest>(&again).expect("JSON"), manifest);
}

#[test]
fn what_cannot_be_is_refused() {
    refused("big-orders", "Big", "no name of a plugin");
    refused("big-orders", "", "no name of a plugin");
    refused("big-orders", &"x".repeat(64), "no name of a plugin");
    refused("1.2.0", "1.2", "no version");
    refused("1.2.0", "01.2.0", "no version");
    refused("1.2.0", "1.2.0-ä", "no version");
    refused("[\"filter\"]", "[]", "no point");
    refused("[\"filter\"]", "[\"filter\", \"filter\"]", "twice");
    refused("[\"filter\"]", "[\"filters\"]", "unknown variant");
    refused("[\"log\"]", "[\"net\"]", "unknown variant");
    refused("[\"log\"]", "[\"clock\"]", "may have the capability `clock`");
    refused("\"strict\"", "\"least\"", "the setting `least` is there twice");
    refused("\"point\": \"filter\"", "\"point\": \"retry\"", "none of the points");
    refused("\"tests\"", "\"test\"", "unknown field");
    let some = "\"properties\": \"some\", \"config\"";
    refused("\"config\"", some, "unknown variant `some`, expected `none` or `all`");
    refused("\"config\"", "\"properties\": false, \"config\"", "expected value");
    assert_eq!(check("1.2.0", "1.2.0-rc.1+b7"), Ok(()));
}

#[test]
fn a_manifest_says_whether_it_reads_properties() {
    let read = |text: &str| serde_json::from_str::<Manifest>(text).expect("JSON");
    let silent = read(GOOD);
    assert_eq!(silent.view(7), View { body_bytes: 7, properties: Shown::All });
    let written = serde_json::to_string(&silent).expect("JSON");
    assert!(!written.contains("\"properties\":\"all\""), "older hosts read it: {written}");
    let declared = |value: &str| {
        GOOD.replacen("\"config\"", &format!("\"properties\": \"{value}\", \"config\""), 1)
    };
    assert_eq!(read(&declared("all")), silent);
    let none = read(&declared("none"));
    assert_eq!((none.check(), none.properties), (Ok(()), Shown::None));
    let again = serde_json::to_string(&none).expect("JSON");
    assert_eq!(read(&again), none);
    let typed = declared("none").replace("\"filter\"", "\"txn-check\"");
    let error = read(&typed).check().expect_err("no frame is without properties here");
    assert!(error.contains("none of the points has any"), "{error}");
}

#[test]
fn settings_are_checked_before_the_plugin_sees_them() {
    let manifest: Manifest = serde_json::from_str(GOOD).expect("JSON");
    let check = |settings: &[(&str, &str)]| manifest.check_config(settings.iter().copied());
    assert_eq!(check(&[("least", "1.5"), ("strict", "true"), ("most", "-7")]), Ok(()));
    for (settings, why) in [
        (&[("strict", "true")][..], "needs the setting `least`"),
        (&[("least", "1"), ("lest", "1")], "no setting `lest`: it has `least`, `strict`, `most`"),
        (&[("least", "one")], "must be a number, not `one`"),
        (&[("least", "inf")], "must be a number"),
        (&[("least", "1"), ("most", "1.5")], "must be a whole number"),
        (&[("least", "1"), ("strict", "yes")], "must be `true` or `false`"),
        (&[("least", "1"), ("least", "2")], "twice"),
    ] {
        let error = check(settings).expect_err(why);
        assert!(error.contains(why), "`{error}` does not say `{why}`");
    }
    let none = Manifest { config: Vec::new(), ..manifest };
    let error = none.check_config([("least", "1")]).expect_err("nothing is declared");
    assert!(error.ends_with("has no setting `least`, nor any other"), "{error}");
}

#[test]
fn names_are_those_of_the_wit() {
    for point in Point::ALL {
        let wit = yard_abi::wit::TEXT;
        assert!(wit.contains(&format!("\ninterface {} {{", point.name())), "{}", point.name());
        let line = wit.lines().find(|line| line.starts_with(&format!("world {} ", point.world())));
        let line = line.expect("each point has a world");
        assert!(line.contains(&format!("export {};", point.name())), "{line}");
        for capability in Capability::ALL {
            let may = point.capabilities().contains(&capability);
            let imports = line.contains(&format!("import {};", capability.name()));
            assert_eq!(may, imports, "{} and {}", point.name(), capability.name());
        }
        let name = serde_json::to_value(point).expect("JSON");
        assert_eq!(name, point.name());
    }
    for capability in Capability::ALL {
        assert_eq!(serde_json::to_value(capability).expect("JSON"), capability.name());
    }
}
