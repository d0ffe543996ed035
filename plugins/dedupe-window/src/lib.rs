//! Dedupe by fields of a message, within a window of time.
//!
//! Messages are the same when all fields are: properties by name, `@tag`, `@id`. A message that
//! lacks one of the fields is never a duplicate.
#![deny(missing_docs)]

use switchyard_plugin::abi::verdict::KEY_BYTES_MAX;
use switchyard_plugin::prelude::*;
use switchyard_plugin::{duration, metrics};

manifest! {
    says: "Messages with the same fields within a window are duplicates.",
    points: ["dedupe"],
    capabilities: ["log", "metrics"],
    config: [
        { name: "fields", says: "properties, @tag or @id, with commas between; $key when not set" },
        { name: "window", says: "for how long keys are kept, such as 90s or 7d; 24h when not set" },
        { name: "on-duplicate", says: "ack-original, reject or mark; ack-original when not set" },
        { name: "keyspace", kind: "integer", says: "another when fields change; 1 if not set" },
    ],
    tests: "tests/vectors.json",
}
dedupe!(type WindowDedupe);

/// Fields of a key.
pub const FIELDS_MAX: usize = 16;

/// What makes messages the same, and for how long.
#[derive(Clone, Debug)]
pub struct WindowDedupe {
    fields: Vec<Field>,
    policy: Policy,
}

#[derive(Clone, Debug)]
enum Field {
    Id,
    Tag,
    Property(String),
}

impl Dedupe for WindowDedupe {
    fn open(config: &Config) -> Result<Self, String> {
        let fields = config.get("fields").unwrap_or("$key").split(',').map(str::trim);
        let fields: Vec<Field> = fields.map(field).collect::<Result<_, _>>()?;
        if fields.len() > FIELDS_MAX {
            return Err(format!("{} fields, the limit is {FIELDS_MAX}", fields.len()));
        }
        let window = duration::parse(config.get("window").unwrap_or("24h"))?;
        let on_duplicate = match config.get("on-duplicate") {
            None | Some("ack-original") => OnDuplicate::AckOriginal,
            Some("reject") => OnDuplicate::Reject,
            Some("mark") => OnDuplicate::Mark,
            Some(other) => {
                return Err(format!("`{other}`: expected ack-original, reject or mark"));
            }
        };
        let keyspace = config.parse("keyspace")?.unwrap_or(1);
        let policy = Policy { ttl_ms: duration::millis(window), on_duplicate, keyspace };
        Ok(Self { fields, policy })
    }

    fn needs(&self) -> Needs {
        let properties = self.fields.iter().filter_map(|field| match field {
            Field::Property(name) => Some(name.clone()),
            Field::Id | Field::Tag => None,
        });
        Needs { properties: properties.collect(), ..Needs::default() }
    }

    fn policy(&self) -> Policy {
        self.policy
    }

    fn key(&self, message: &Message<'_>, key: &mut Vec<u8>) {
        let message = message.packed();
        let id = message.id();
        for field in &self.fields {
            let value = match field {
                Field::Id => Some(&id[..]),
                Field::Tag => Some(message.tag()).filter(|tag| !tag.is_empty()),
                Field::Property(name) => message.property(name.as_bytes()),
            };
            let Some(value) = value else {
                key.clear();
                return;
            };
            // With lengths between them, "a", "bc" and "ab", "c" are different keys.
            if self.fields.len() > 1 {
                key.extend_from_slice(&(value.len() as u16).to_le_bytes());
            }
            key.extend_from_slice(value);
        }
        if key.len() > KEY_BYTES_MAX {
            metrics::add("keys_too_long", 1);
            key.clear();
        }
    }
}

fn field(name: &str) -> Result<Field, String> {
    match name {
        "" => Err("an empty name among the fields".to_owned()),
        "@id" => Ok(Field::Id),
        "@tag" => Ok(Field::Tag),
        _ if name.starts_with('@') => Err(format!("`{name}`: expected @id or @tag")),
        _ => Ok(Field::Property(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(settings: &[(&str, &str)]) -> Result<WindowDedupe, String> {
        WindowDedupe::open(&settings.iter().copied().collect())
    }

    fn key(fields: &str, message: MessageBuilder) -> Vec<u8> {
        let mut key = Vec::new();
        open(&[("fields", fields)]).expect("fields").key(&message.build(), &mut key);
        key
    }

    fn pair(a: &str, b: &str) -> MessageBuilder {
        Message::builder().property("a", a).property("b", b)
    }

    #[test]
    fn messages_with_the_same_fields_have_the_same_key() {
        assert_eq!(key("a", pair("x", "y")), b"x");
        assert_eq!(key("a, b", pair("x", "y")), key("a,b", pair("x", "y").tag("t")));
        assert_ne!(key("a,b", pair("a", "bc")), key("a,b", pair("ab", "c")));
        assert_ne!(key("a,b", pair("x", "y")), key("b,a", pair("x", "y")));
        assert_eq!(key("$key", Message::builder().key("k").key("l")), b"k");
        assert_eq!(key("@id", Message::builder().id([7; 16])), [7; 16]);
        assert_eq!(key("@tag", Message::builder().tag("t")), b"t");
    }

    #[test]
    fn what_lacks_a_field_is_never_a_duplicate() {
        assert_eq!(key("a,c", pair("x", "y")), b"");
        assert_eq!(key("@tag", pair("x", "y")), b"");
        assert_eq!(key("a", pair(&"x".repeat(KEY_BYTES_MAX + 1), "")), b"");
        assert_eq!(switchyard_plugin::testing::counted("keys_too_long"), 1);
    }

    #[test]
    fn settings() {
        let policy = open(&[]).expect("nothing is needed").policy();
        assert_eq!(policy, Policy::hours(24));
        let all = [("window", "90s"), ("on-duplicate", "mark"), ("keyspace", "7")];
        let policy = open(&all).expect("settings").policy();
        assert_eq!((policy.ttl_ms, policy.keyspace), (90_000, 7));
        assert_eq!(policy.on_duplicate, OnDuplicate::Mark);
        let fields = open(&[("fields", "a,@tag,b")]).expect("fields");
        assert_eq!(fields.needs().properties, ["a", "b"]);
        for (name, value, why) in [
            ("fields", "a,,b", "empty name"),
            ("fields", "@body", "expected @id or @tag"),
            ("window", "soon", "`soon`"),
            ("on-duplicate", "drop", "expected ack-original"),
            ("keyspace", "-1", "keyspace"),
        ] {
            let error = open(&[(name, value)]).expect_err(why);
            assert!(error.contains(why), "`{error}` does not say `{why}`");
        }
        assert!(open(&[("fields", &vec!["a"; 17].join(","))]).is_err());
    }
}
