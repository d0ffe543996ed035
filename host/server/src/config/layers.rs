//! Where settings are written: a file, the environment, flags.
use std::collections::BTreeMap;
use std::path::Path;

use super::{Problem, Settings};

/// What stands before the names of settings in the environment.
const PREFIX: &str = "YARD_";
/// Variables that are not settings of a broker.
const NOT_SETTINGS: &[&str] = &["YARD_CONFIG", "YARD_CONTEXT", "YARD_HOME", "YARD_LOG"];
/// Letters that may be wrong in a variable's name before it is taken for somebody else's:
/// Kubernetes, for one, sets `YARD_PORT` in every pod beside a service named `yard`.
const LETTERS_WRONG_MAX: usize = 2;

/// Settings as they were written in one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    origin: String,
    /// Name as it was written, name of the setting, text.
    entries: Vec<(String, String, String)>,
}

impl Layer {
    /// Settings from flags of a command line.
    pub fn flags(entries: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let entry = |(name, text): (&str, String)| {
            (format!("--{}", name.replace('_', "-")), name.to_owned(), text)
        };
        Self { origin: "flags".into(), entries: entries.into_iter().map(entry).collect() }
    }
}

/// Settings from environment variables, given by name and text: `YARD_SEGMENT_BYTES=64MiB`.
pub fn environment(variables: impl IntoIterator<Item = (String, String)>) -> Layer {
    let mut entries: Vec<_> = variables
        .into_iter()
        .filter_map(|(variable, text)| {
            let name = variable.strip_prefix(PREFIX)?.to_ascii_lowercase();
            let near = nearest(&name).is_some_and(|(letters, _)| letters <= LETTERS_WRONG_MAX);
            (near && !NOT_SETTINGS.contains(&variable.as_str())).then_some((variable, name, text))
        })
        .collect();
    entries.sort();
    Layer { origin: "environment".into(), entries }
}

/// Settings from a file, `name = value` in TOML.
///
/// # Errors
/// The file could not be read, or is not TOML.
pub fn file(path: &Path) -> Result<Layer, Problem> {
    let origin = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| Problem {
        origin: origin.clone(),
        name: "file".into(),
        detail: format!("it cannot be read: {error}"),
    })?;
    parse(origin, &text)
}

pub(super) fn parse(origin: String, text: &str) -> Result<Layer, Problem> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| Problem {
        origin: origin.clone(),
        name: "file".into(),
        detail: format!("it is not TOML: {}", error.to_string().trim_end()),
    })?;
    let entry = |(name, value): (String, toml::Value)| {
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(yes) => yes.to_string(),
            // Not a kind that any setting has: its reader says what may be written.
            toml::Value::Float(_)
            | toml::Value::Datetime(_)
            | toml::Value::Array(_)
            | toml::Value::Table(_) => value.to_string(),
        };
        (name.clone(), name, text)
    };
    Ok(Layer { origin, entries: table.into_iter().map(entry).collect() })
}

/// One text a setting, with where and under which name it was written.
pub(super) type Texts = BTreeMap<&'static str, Written>;

/// What was written for one setting.
pub(super) struct Written {
    pub(super) origin: String,
    pub(super) name: String,
    pub(super) text: String,
}

/// Puts layers upon each other; a name that is no setting is a problem.
pub(super) fn merge(layers: &[Layer], problems: &mut Vec<Problem>) -> Texts {
    let mut texts = Texts::new();
    for layer in layers {
        for (written, name, text) in &layer.entries {
            let (origin, as_written) = (layer.origin.clone(), written.clone());
            match Settings::KEYS.iter().find(|key| key.name == name) {
                Some(key) => {
                    let text = text.clone();
                    texts.insert(key.name, Written { origin, name: as_written, text });
                }
                None => {
                    let detail = unknown(name);
                    problems.push(Problem { origin, name: as_written, detail });
                }
            }
        }
    }
    texts
}

fn unknown(name: &str) -> String {
    let near = nearest(name).map_or("", |(_, near)| near);
    format!("there is no such setting; the nearest is {near}")
}

/// The setting whose name is nearest, and how many letters differ.
fn nearest(name: &str) -> Option<(usize, &'static str)> {
    let distance = |key: &super::Key| (strsim::damerau_levenshtein(name, key.name), key.name);
    Settings::KEYS.iter().map(distance).min()
}
