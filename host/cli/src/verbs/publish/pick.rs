//! What is picked out of a line for tag, key, order group and properties.
//!
//! A line is parsed only as far as it is asked for: fields are found as raw JSON, and only those
//! that are picked are read. A number or a truth value is its JSON text, as it is in the line.
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use yard_client::Message;

use crate::text::Delay;

/// Where one text of a message comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// It is the same for every message.
    Constant(String),
    /// It is the value of a field: names from the outside in.
    Field(Vec<String>),
}

impl Pick {
    /// Reads `TEXT` or `.field.sub`.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        match text.strip_prefix('.') {
            None => Ok(Self::Constant(text.to_owned())),
            Some(path) => read_path(path).map(Self::Field),
        }
    }

    fn needs_fields(&self) -> bool {
        matches!(self, Self::Field(_))
    }

    fn text<'l>(&'l self, fields: &Fields<'l>) -> Result<Option<Cow<'l, str>>, String> {
        match self {
            Self::Constant(text) => Ok(Some(Cow::Borrowed(text))),
            Self::Field(path) => fields.text_at(path),
        }
    }
}

fn read_path(path: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> = path.split('.').map(str::to_owned).collect();
    if names.iter().any(String::is_empty) {
        return Err(format!("takes a field like .id or .user.id, not {path:?}"));
    }
    Ok(names)
}

/// Which fields become properties.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Properties {
    /// None.
    #[default]
    None,
    /// Every field of the outermost object.
    All,
    /// These: the property's name, the path of the field.
    Named(Vec<(String, Vec<String>)>),
}

impl Properties {
    /// Reads `all` or `a,b.c`.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let named = text.split(',').map(|name| {
            let name = name.trim().trim_start_matches('.');
            read_path(name).map(|path| (name.to_owned(), path))
        });
        named.collect::<Result<_, _>>().map(Self::Named)
    }
}

/// The fields whose values, in this order, make messages the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DedupeBy(Vec<Vec<String>>);

impl DedupeBy {
    /// Reads `.a` or `.a,.b.c`.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let path = |text: &str| match text.trim().strip_prefix('.') {
            Some(path) => read_path(path),
            None => Err(format!("takes fields like .id or .user.id,.day, not {text:?}")),
        };
        text.split(',').map(path).collect::<Result<_, _>>().map(Self)
    }

    /// The dedupe key of a line: the values as a JSON list, so that no two lists look the same. The
    /// value of a single field stays as it is.
    fn key(&self, fields: &Fields<'_>) -> Result<String, String> {
        let mut values = Vec::with_capacity(self.0.len());
        for path in &self.0 {
            let Some(value) = fields.text_at(path)? else {
                return Err(format!("it has no .{}, which --dedupe needs", path.join(".")));
            };
            values.push(value);
        }
        match &values[..] {
            [value] => Ok(value.to_string()),
            values => serde_json::to_string(values).map_err(|error| error.to_string()),
        }
    }
}

/// How a line becomes a message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Picks {
    pub(crate) tag: Option<Pick>,
    pub(crate) key: Option<Pick>,
    pub(crate) order: Option<Pick>,
    pub(crate) dedupe: Option<DedupeBy>,
    pub(crate) properties: Properties,
    pub(crate) queue: Option<u16>,
    pub(crate) delay: Option<Delay>,
    pub(crate) priority: Option<u8>,
    pub(crate) expires: Option<Duration>,
}

impl Picks {
    fn need_fields(&self) -> bool {
        let picks = [&self.tag, &self.key, &self.order];
        self.properties != Properties::None
            || self.dedupe.is_some()
            || picks.into_iter().flatten().any(Pick::needs_fields)
    }

    /// The message of a line. A field that is missing or null is left out.
    pub(crate) fn message(&self, line: &[u8]) -> Result<Message, String> {
        let fields = if self.need_fields() { Fields::of_line(line)? } else { Fields::default() };
        let mut message = Message::new(line.to_vec());
        if let Some(tag) = text(&self.tag, &fields)? {
            message = message.tag(tag);
        }
        if let Some(key) = text(&self.key, &fields)? {
            message = message.key(key);
        }
        if let Some(order) = text(&self.order, &fields)? {
            message = message.order_group(order);
        }
        if let Some(dedupe) = &self.dedupe {
            message = message.dedupe(dedupe.key(&fields)?);
        }
        match &self.properties {
            Properties::None => {}
            Properties::All => {
                for (name, raw) in &fields.0 {
                    if let Some(value) = raw_text(raw)? {
                        message = message.property(name.as_ref(), value);
                    }
                }
            }
            Properties::Named(named) => {
                for (name, path) in named {
                    if let Some(value) = fields.text_at(path)? {
                        message = message.property(name.as_str(), value);
                    }
                }
            }
        }
        if let Some(queue) = self.queue {
            message = message.queue(queue);
        }
        if let Some(priority) = self.priority {
            message = message.priority(priority);
        }
        if let Some(expires) = self.expires {
            message = message.expires_after(expires);
        }
        Ok(match self.delay {
            Some(Delay::After(delay)) => message.deliver_after(delay),
            Some(Delay::At(instant)) => message.deliver_at(instant),
            None => message,
        })
    }
}

fn text<'l>(pick: &'l Option<Pick>, fields: &Fields<'l>) -> Result<Option<Cow<'l, str>>, String> {
    pick.as_ref().map_or(Ok(None), |pick| pick.text(fields))
}

/// The fields of an object, in order, their values unread.
#[derive(Debug, Default)]
struct Fields<'l>(Vec<(Cow<'l, str>, &'l RawValue)>);

impl<'l> Fields<'l> {
    fn of_line(line: &'l [u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| format!("it is not a JSON object: {error}"))
    }

    /// The last field of this name: JSON leaves open which of several counts, most take the last.
    fn raw(&self, name: &str) -> Option<&'l RawValue> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, raw)| *raw)
    }

    /// The value at a path as a text; `None` where it is missing or null.
    fn text_at(&self, path: &[String]) -> Result<Option<Cow<'l, str>>, String> {
        let (first, rest) = path.split_first().expect("a path has at least one name");
        let Some(raw) = self.raw(first) else {
            return Ok(None);
        };
        if rest.is_empty() {
            return raw_text(raw);
        }
        if !raw.get().starts_with('{') {
            return Ok(None);
        }
        Fields::of_line(raw.get().as_bytes())?.text_at(rest)
    }
}

/// A value as a text: what a string says, the JSON of anything else; `None` for null.
fn raw_text(raw: &RawValue) -> Result<Option<Cow<'_, str>>, String> {
    let json = raw.get();
    match json.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') if !json.contains('\\') => Ok(Some(Cow::Borrowed(&json[1..json.len() - 1]))),
        Some(b'"') => {
            let text: String = serde_json::from_str(json).map_err(|error| error.to_string())?;
            Ok(Some(Cow::Owned(text)))
        }
        _ => Ok(Some(Cow::Borrowed(json))),
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::with_capacity(32);
                while let Some((Name(name), raw)) = map.next_entry()? {
                    fields.push((name, raw));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A field's name, borrowed from the line unless it has escapes.
struct Name<'l>(Cow<'l, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_fields() {
        let line =
            br#"{"id":7,"f":1.50,"t":true,"s":"a\"b","n":null,"e":"","u":{"id":"x","v":{"w":2}},
            "l":[1, 2],"k\u0065y":"esc","id2":1,"id2":2,"big":123456789012345678901234567890}"#;
        let cases = [
            (".id", Some("7")),
            (".f", Some("1.50")),
            (".t", Some("true")),
            (".s", Some("a\"b")),
            (".n", None),
            (".missing", None),
            (".e", Some("")),
            (".u.id", Some("x")),
            (".u.v.w", Some("2")),
            (".u.missing", None),
            (".id.sub", None),
            (".n.sub", None),
            (".u", Some(r#"{"id":"x","v":{"w":2}}"#)),
            (".l", Some("[1, 2]")),
            (".key", Some("esc")),
            (".id2", Some("2")),
            (".big", Some("123456789012345678901234567890")),
            ("constant", Some("constant")),
        ];
        let fields = Fields::of_line(line).expect("an object");
        for (pick, expected) in cases {
            let pick = Pick::read(pick).expect("valid");
            assert_eq!(pick.text(&fields).expect("read").as_deref(), expected, "{pick:?}");
        }
    }

    #[test]
    fn wrong_paths_and_lines() {
        for text in [".", "..", ".a.", ".a..b"] {
            assert!(Pick::read(text).is_err(), "{text}");
        }
        for text in ["", "a,,b", "a,"] {
            assert!(Properties::read(text).is_err(), "{text}");
        }
        let picks = Picks { tag: Some(Pick::Field(vec!["a".into()])), ..Picks::default() };
        for line in ["", "plain", "[1]", "3", "null", "{\"a\":1} x", "{\"a\":"] {
            assert!(picks.message(line.as_bytes()).is_err(), "{line:?}");
        }
    }

    #[test]
    fn dedupe_keys() {
        let line = br#"{"id":7,"day":"a","n":null,"u":{"id":"x\",\"y"}}"#;
        let check = |by: &str, expected: Result<&str, &str>| {
            let dedupe = DedupeBy::read(by).expect("valid");
            let picks = Picks { dedupe: Some(dedupe), ..Picks::default() };
            let expected = expected.map(|key| Message::new(line.to_vec()).dedupe(key));
            assert_eq!(picks.message(line), expected.map_err(str::to_owned), "{by}");
        };
        check(".id", Ok("7"));
        check(".day,.id", Ok(r#"["a","7"]"#));
        check(".u.id,.id", Ok(r#"["x\",\"y","7"]"#));
        check(".n", Err("it has no .n, which --dedupe needs"));
        check(".id,.u.v", Err("it has no .u.v, which --dedupe needs"));
        for wrong in ["", "id", ".", ".a,,.b", ".a,b"] {
            assert!(DedupeBy::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn messages() {
        let line = br#"{"carrier":"UA","flight":1545,"tailnum":null,"origin":"EWR"}"#;
        let check = |picks: Picks, expected: Message| {
            assert_eq!(picks.message(line).expect("valid"), expected);
        };
        let body = || Message::new(line.to_vec());
        let field = |name: &str| Some(Pick::Field(vec![name.to_owned()]));
        check(Picks::default(), body());
        check(
            Picks { tag: field("carrier"), key: field("tailnum"), ..Picks::default() },
            body().tag("UA"),
        );
        check(
            Picks { order: field("flight"), queue: Some(3), ..Picks::default() },
            body().order_group("1545").queue(3),
        );
        check(
            Picks { properties: Properties::All, ..Picks::default() },
            body().property("carrier", "UA").property("flight", "1545").property("origin", "EWR"),
        );
        check(
            Picks {
                properties: Properties::read("origin,tailnum,.flight").expect("valid"),
                ..Picks::default()
            },
            body().property("origin", "EWR").property("flight", "1545"),
        );
        let no_json = Picks { key: Some(Pick::Constant("k".into())), ..Picks::default() };
        let bytes = b"x\xff\r";
        assert_eq!(no_json.message(bytes).ok(), Some(Message::new(bytes.to_vec()).key("k")));
    }
}
