//! A plugin whose manifest says that it reads no properties.

use std::panic::{AssertUnwindSafe, catch_unwind};

use switchyard_plugin::abi::{FrameBuilder, Room, Shown, View};
use switchyard_plugin::prelude::*;
use switchyard_plugin::{ManifestText, run, testing};

manifest! {
    says: "Tags alone.",
    points: ["filter"],
    properties: "none",
    capabilities: [],
}
filter!(paid);

fn paid(m: &Message) -> bool {
    m.tag() == "paid" && m.body_bytes() > 0
}

/// What a plugin may not do that says so.
struct Reads(fn(&Message<'_>) -> bool);

impl Filter for Reads {
    fn compile(name: &str, _: &Config) -> Result<Self, String> {
        Ok(Self(match name {
            "get" => |m| m.get("region").is_some(),
            "number" => |m| m.number("amount").is_some(),
            "properties" => |m| m.properties().next().is_some(),
            "keys" => |m| m.keys().next().is_some(),
            "order group" => |m| m.order_group().is_some(),
            _ => |m| m.packed().property(b"region").is_some(),
        }))
    }

    fn keep(&self, message: &Message<'_>) -> bool {
        self.0(message)
    }
}

fn frame(properties: Shown) -> Vec<u8> {
    let mut builder = FrameBuilder::of(View { body_bytes: 0, properties });
    for tag in ["paid", "open"] {
        let message = Message::builder().tag(tag).property("region", "eu").body("{}");
        let (record, delivery) = message.record();
        assert_eq!(builder.push(&record, delivery), Ok(Room::Taken));
    }
    builder.bytes().to_vec()
}

fn says(run: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("it panics");
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()))
        .expect("a panic with a text")
}

#[test]
fn the_manifest_says_so() {
    assert_eq!(testing::read_manifest(&MANIFEST).properties, Shown::None);
}

#[test]
fn tag_and_fixed_part_are_there() {
    let filter = FilterPoint::compile("", &Config::default()).expect("no expression");
    for properties in [Shown::None, Shown::All] {
        assert_eq!(run::filter(&filter, &frame(properties), 2), [0b01]);
    }
}

#[test]
fn reading_a_property_is_a_panic_that_says_why() {
    for name in ["get", "number", "properties", "keys", "order group"] {
        let filter = Reads::compile(name, &Config::default()).expect("a name");
        let _ = run::filter(&filter, &frame(Shown::All), 2);
        let why = says(|| drop(run::filter(&filter, &frame(Shown::None), 2)));
        assert!(why.contains("its manifest says `properties: \"none\"`"), "{name}: {why}");
    }
    let bytes = Reads::compile("packed", &Config::default()).expect("a name");
    assert_eq!(run::filter(&bytes, &frame(Shown::None), 2), [0], "as bytes there are none");
}

#[test]
fn the_test_vectors_find_it() {
    let vectors = |properties: &str| {
        let json = format!(
            r#"{{"name": "reads", "version": "1.0.0", "points": ["filter"], {properties}
                "tests": [{{"point": "filter", "expression": "get", "expect": "deliver",
                            "message": {{"properties": {{"region": "eu"}}}}}}]}}"#
        );
        ManifestText { json: json.leak(), vectors: None }
    };
    testing::filter::<Reads>(&vectors(""));
    let none = vectors(r#""properties": "none","#);
    let why = says(|| testing::filter::<Reads>(&none));
    assert!(why.contains("the plugin reads a property"), "{why}");
}

#[test]
fn a_value_that_nobody_knows_is_refused() {
    let json = r#"{"name": "a", "version": "1.0.0", "points": ["filter"], "properties": "few"}"#;
    let why = says(|| testing::manifest(&ManifestText { json, vectors: None }));
    assert!(why.contains("unknown variant `few`, expected `none` or `all`"), "{why}");
}
