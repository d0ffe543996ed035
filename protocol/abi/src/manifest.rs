//! What a plugin says of itself: JSON in the custom section `switchyard:manifest` of its wasm.
//!
//! ```json
//! {
//!   "name": "big-orders",
//!   "version": "1.2.0",
//!   "points": ["filter"],
//!   "properties": "all",
//!   "capabilities": ["log"],
//!   "config": [{ "name": "least", "kind": "number", "required": true, "says": "least amount" }],
//!   "tests": [{ "point": "filter", "config": { "least": "100" },
//!               "message": { "properties": { "amount": "150" } }, "expect": "deliver" }]
//! }
//! ```
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::frame::{Delivery, Shown, View};
use crate::record::Parts;

/// Name of the custom section.
pub const SECTION: &str = "switchyard:manifest";
/// Bytes of the JSON.
pub const MANIFEST_BYTES_MAX: usize = 64 << 10;
/// Bytes of the name of a plugin.
pub const NAME_BYTES_MAX: usize = 63;
/// Bytes of the version of a plugin.
pub const VERSION_BYTES_MAX: usize = 63;
/// Settings that a plugin may declare.
pub const CONFIG_KEYS_MAX: usize = 64;
/// Bytes of the value of a setting.
pub const CONFIG_VALUE_BYTES_MAX: usize = 16 << 10;
/// Test vectors that a plugin may carry.
pub const TESTS_MAX: usize = 256;

/// The manifest of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name, unique in its tenant: `a-z`, `0-9` and `-`, beginning with a letter.
    pub name: String,
    /// Version, three numbers as in semantic versioning, and possibly more behind `-` or `+`.
    pub version: String,
    /// One sentence for who looks at the list of plugins.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub says: String,
    /// Points that it serves; the wasm exports the interface of each.
    pub points: Vec<Point>,
    /// Properties that it reads in its frames: all, or none, which is for plugins that decide by
    /// tag and fixed part, or by the body. Then frames have none, and are made and read faster.
    #[serde(default, skip_serializing_if = "is_all")]
    pub properties: Shown,
    /// Capabilities that it asks for. Whatever else it imports is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<Capability>,
    /// Limits that it asks for; the tenant's bound them.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// Settings that it understands. Others are refused before it is opened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<ConfigKey>,
    /// What the host tries before it lets the plugin judge anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<TestVector>,
}

fn is_all(properties: &Shown) -> bool {
    *properties == Shown::All
}

/// Where a plugin may decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Point {
    /// Which messages a subscription gets.
    Filter,
    /// What counts as a duplicate.
    Dedupe,
    /// When a message that failed comes back.
    Retry,
    /// What becomes of a transaction whose producer fell silent.
    TxnCheck,
    /// What a produced message becomes before it is stored.
    Interceptor,
}

impl Point {
    /// All points.
    pub const ALL: [Point; 5] =
        [Point::Filter, Point::Dedupe, Point::Retry, Point::TxnCheck, Point::Interceptor];

    /// Its name, which is also that of its WIT interface.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Point::Filter => "filter",
            Point::Dedupe => "dedupe",
            Point::Retry => "retry",
            Point::TxnCheck => "txn-check",
            Point::Interceptor => "interceptor",
        }
    }

    /// The world whose imports and exports a plugin for it has.
    #[must_use]
    pub const fn world(self) -> &'static str {
        match self {
            Point::Filter => "filter-plugin",
            Point::Dedupe => "dedupe-plugin",
            Point::Retry => "retry-plugin",
            Point::TxnCheck => "txn-plugin",
            Point::Interceptor => "interceptor-plugin",
        }
    }

    /// Whether it is asked about the messages of a frame, and not one question at a time.
    #[must_use]
    pub const fn has_frames(self) -> bool {
        match self {
            Point::Filter | Point::Dedupe | Point::Interceptor => true,
            Point::Retry | Point::TxnCheck => false,
        }
    }

    /// What its world lets a plugin ask for.
    #[must_use]
    pub const fn capabilities(self) -> &'static [Capability] {
        use Capability::{Clock, Kv, Log, Metrics};
        match self {
            Point::Filter | Point::Dedupe => &[Log, Metrics],
            Point::Retry | Point::TxnCheck => &[Log, Metrics, Clock, Kv],
            Point::Interceptor => &[Log, Metrics, Kv],
        }
    }
}

/// What a plugin may import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// Lines for its author.
    Log,
    /// The broker's time.
    Clock,
    /// State that expires.
    Kv,
    /// Counters and distributions.
    Metrics,
}

impl Capability {
    /// All capabilities.
    pub const ALL: [Capability; 4] =
        [Capability::Log, Capability::Clock, Capability::Kv, Capability::Metrics];

    /// Its name, which is also that of its WIT interface.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Capability::Log => "log",
            Capability::Clock => "clock",
            Capability::Kv => "kv",
            Capability::Metrics => "metrics",
        }
    }
}

/// Limits that a plugin asks for; what it does not name is the host's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of its memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u32>,
    /// Fuel for each message of a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel_per_message: Option<u64>,
    /// Time of a call, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_ms: Option<u32>,
}

impl Limits {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A setting that a plugin understands. Values travel as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigKey {
    /// Its name.
    pub name: String,
    /// What its text must be.
    #[serde(default)]
    pub kind: ConfigKind,
    /// Whether the plugin cannot do without.
    #[serde(default)]
    pub required: bool,
    /// What the plugin does, and what it takes when nobody sets it.
    #[serde(default)]
    pub says: String,
}

/// What the text of a setting must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigKind {
    /// Any text.
    #[default]
    Text,
    /// A whole number of 64 bits with a sign.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
}

impl ConfigKind {
    /// What it is called in a sentence.
    #[must_use]
    pub const fn article(self) -> &'static str {
        match self {
            ConfigKind::Text => "a text",
            ConfigKind::Integer => "a whole number",
            ConfigKind::Number => "a number",
            ConfigKind::Boolean => "`true` or `false`",
        }
    }

    /// Whether a text is one of this kind.
    #[must_use]
    pub fn accepts(self, text: &str) -> bool {
        match self {
            ConfigKind::Text => true,
            ConfigKind::Integer => text.parse::<i64>().is_ok(),
            ConfigKind::Number => text.parse::<f64>().is_ok_and(f64::is_finite),
            ConfigKind::Boolean => matches!(text, "true" | "false"),
        }
    }
}

/// One thing that must come out, tried by the host before the plugin becomes active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestVector {
    /// The point that is asked.
    pub point: Point,
    /// Of a filter: its expression.
    #[serde(default)]
    pub expression: String,
    /// Settings.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// The message. Retry sees its properties, transaction check its properties and body.
    #[serde(default)]
    pub message: TestMessage,
    /// What retry and transaction check are told besides, by the names of the WIT records'
    /// fields: `count`, `age-ms`, `reason` and so on; numbers are 0 and texts empty unless said.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
    /// The verdict: `deliver` or `skip`; the dedupe key; `delay-ms 10000`, `to-topic NAME`,
    /// `dead-letter REASON` or `drop`; a fate; `pass`, `replace` or `reject REASON`. And
    /// `refused SENTENCE` where the plugin refuses its expression or its settings.
    pub expect: String,
}

/// A message of a test vector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestMessage {
    /// Tag.
    #[serde(default)]
    pub tag: String,
    /// Properties; one that occurs several times cannot be said here.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// Body, as text.
    #[serde(default)]
    pub body: String,
    /// Index of its queue.
    #[serde(default)]
    pub queue: u32,
    /// Offset in its queue.
    #[serde(default)]
    pub offset: u64,
    /// When it was born, in milliseconds since 1970 UTC.
    #[serde(default)]
    pub born_ms: u64,
    /// When it was stored, in milliseconds since 1970 UTC.
    #[serde(default)]
    pub stored_ms: u64,
    /// Deliveries before.
    #[serde(default)]
    pub attempts: u32,
}

impl TestMessage {
    /// The record as it would be stored, and what the broker adds to it.
    #[must_use]
    pub fn record(&self) -> (Vec<u8>, Delivery) {
        let pair = |(name, value): (&String, &String)| (name.clone(), value.clone());
        let parts = Parts {
            born_ms: self.born_ms,
            tag: self.tag.clone(),
            properties: self.properties.iter().map(pair).collect(),
            body: self.body.clone().into_bytes(),
            ..Parts::default()
        };
        let Self { offset, stored_ms, queue, attempts, .. } = *self;
        (parts.record(), Delivery { offset, stored_ms, queue, attempts })
    }
}

impl Manifest {
    /// Checks what JSON cannot say. What a host grants and a tenant allows is not looked at.
    ///
    /// # Errors
    /// A sentence for the author.
    pub fn check(&self) -> Result<(), String> {
        check_name(&self.name)?;
        check_version(&self.version)?;
        if self.points.is_empty() {
            return Err("the manifest names no point".to_string());
        }
        no_repeats("point", self.points.iter().map(|point| point.name()))?;
        if !is_all(&self.properties) && !self.points.iter().any(|point| point.has_frames()) {
            return Err("`properties` is about frames, and none of the points has any".to_string());
        }
        no_repeats("capability", self.capabilities.iter().map(|it| it.name()))?;
        for capability in &self.capabilities {
            if !self.points.iter().any(|point| point.capabilities().contains(capability)) {
                let name = capability.name();
                return Err(format!("no point of this plugin may have the capability `{name}`"));
            }
        }
        at_most("settings", self.config.len(), CONFIG_KEYS_MAX)?;
        no_repeats("setting", self.config.iter().map(|key| key.name.as_str()))?;
        at_most("test vectors", self.tests.len(), TESTS_MAX)?;
        for (index, test) in self.tests.iter().enumerate() {
            if !self.points.contains(&test.point) {
                let point = test.point.name();
                return Err(format!("test {index} asks `{point}`, which is none of the points"));
            }
        }
        Ok(())
    }

    /// What the frames of the plugin have of a message when it asks for so many bytes of bodies.
    #[must_use]
    pub fn view(&self, body_bytes: u32) -> View {
        View { body_bytes, properties: self.properties }
    }

    /// Checks settings against those that the plugin declares.
    ///
    /// # Errors
    /// A sentence for who set them.
    pub fn check_config<'a>(
        &self,
        settings: impl IntoIterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Result<(), String> {
        for (name, value) in settings.clone() {
            let Some(key) = self.config.iter().find(|key| key.name == name) else {
                return Err(self.no_setting(name));
            };
            at_most("bytes of a setting", value.len(), CONFIG_VALUE_BYTES_MAX)?;
            if !key.kind.accepts(value) {
                return Err(format!("`{name}` must be {}, not `{value}`", key.kind.article()));
            }
        }
        no_repeats("setting", settings.clone().into_iter().map(|(name, _)| name))?;
        let is_set = |key: &&ConfigKey| settings.clone().into_iter().any(|(it, _)| it == key.name);
        match self.config.iter().filter(|key| key.required).find(|key| !is_set(key)) {
            Some(key) => Err(format!("`{}` needs the setting `{}`", self.name, key.name)),
            None => Ok(()),
        }
    }

    fn no_setting(&self, name: &str) -> String {
        let declared: Vec<String> =
            self.config.iter().map(|key| format!("`{}`", key.name)).collect();
        match &declared[..] {
            [] => format!("`{}` has no setting `{name}`, nor any other", self.name),
            declared => {
                format!("`{}` has no setting `{name}`: it has {}", self.name, declared.join(", "))
            }
        }
    }
}

fn at_most(what: &str, found: usize, max: usize) -> Result<(), String> {
    if found > max { Err(format!("{what}: {found}, the limit is {max}")) } else { Ok(()) }
}

fn no_repeats<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut seen = Vec::new();
    for name in names {
        if seen.contains(&name) {
            return Err(format!("the {what} `{name}` is there twice"));
        }
        seen.push(name);
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), String> {
    let is_letter = |byte: u8| byte.is_ascii_lowercase();
    let is_rest = |byte: u8| is_letter(byte) || byte.is_ascii_digit() || byte == b'-';
    let is_name = name.bytes().next().is_some_and(is_letter) && name.bytes().all(is_rest);
    if is_name && name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    let most = NAME_BYTES_MAX;
    Err(format!("`{name}` is no name of a plugin: a letter, then a-z, 0-9 and -, at most {most}"))
}

fn check_version(version: &str) -> Result<(), String> {
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let is_number = |part: &str| part.parse::<u32>().is_ok_and(|it| it.to_string() == part);
    let is_text = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+');
    let three = numbers.split('.').count() == 3 && numbers.split('.').all(is_number);
    if three && version.bytes().all(is_text) && version.len() <= VERSION_BYTES_MAX {
        return Ok(());
    }
    Err(format!("`{version}` is no version: three numbers, such as 1.0.0"))
}
