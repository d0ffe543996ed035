//! Scripts in files: what their head says, and the arguments that they take.
//!
//! ```text
//! #!/usr/bin/env -S yard run
//! //! Gives a topic more queues.
//! //! arg topic: text (required) - the topic
//! //! arg queues: number = 32 - how many queues it shall have
//! ```
use rhai::{Dynamic, Map};
use yard_client::wire::units::{read_bytes, read_duration_ms};

use crate::book::nearest;
use crate::fault::Fault;

/// What may be written for an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Duration,
    Size,
    Flag,
}

impl Kind {
    const ALL: &'static [(&'static str, Self)] = &[
        ("text", Self::Text),
        ("topic", Self::Text),
        ("group", Self::Text),
        ("number", Self::Number),
        ("duration", Self::Duration),
        ("size", Self::Size),
        ("flag", Self::Flag),
    ];

    fn read(self, name: &str, text: &str) -> Result<Dynamic, Fault> {
        let whole = |number: u64| i64::try_from(number).map(Dynamic::from).ok();
        let value = match self {
            Self::Text => Some(text.to_owned().into()),
            Self::Number => text.parse::<i64>().ok().map(Dynamic::from),
            Self::Duration => read_duration_ms(text).ok().and_then(whole),
            Self::Size => read_bytes(text).ok().and_then(whole),
            Self::Flag => text.parse::<bool>().ok().map(Dynamic::from),
        };
        let takes = match self {
            Self::Text => "a text",
            Self::Number => "a number",
            Self::Duration => "a duration like 30s",
            Self::Size => "a size like 64MiB",
            Self::Flag => "true or false",
        };
        value.ok_or_else(|| Fault::argument(format!("--{name} takes {takes}, not {text:?}")))
    }
}

/// One argument of a script, as its head declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Argument {
    name: String,
    kind: Kind,
    required: bool,
    default: Option<String>,
    help: String,
}

/// The head of a script: the lines at its beginning that start with `//!`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    about: Vec<String>,
    arguments: Vec<Argument>,
}

impl Head {
    /// Reads the head of a script.
    ///
    /// # Errors
    /// A line that begins with `//! arg` and is no declaration.
    pub fn of(script: &str) -> Result<Self, Fault> {
        let mut head = Self::default();
        let lines = script.lines().enumerate();
        let lines = lines.skip_while(|(at, line)| *at == 0 && line.starts_with("#!"));
        for (at, line) in lines {
            let Some(text) = line.strip_prefix("//!") else { break };
            match text.trim_start().strip_prefix("arg ") {
                Some(declaration) => {
                    head.arguments.push(argument(declaration).ok_or_else(|| {
                        let example =
                            "`//! arg NAME: KIND (required) - help` or `… = DEFAULT - help`";
                        let kinds: Vec<_> = Kind::ALL.iter().map(|(word, _)| *word).collect();
                        Fault::argument(format!(
                            "line {} declares no argument; write {example}, KIND being one of {}",
                            at + 1,
                            kinds.join(", ")
                        ))
                    })?)
                }
                None => head.about.push(text.trim().to_owned()),
            }
        }
        Ok(head)
    }

    /// What the script does and takes, for people.
    pub fn help(&self, file: &str) -> String {
        let mut out: String = self.about.iter().map(|line| format!("{line}\n")).collect();
        out.push_str(&format!("\nUsage: yard run {file} [ARGS]\n"));
        for it in &self.arguments {
            let note = match (&it.default, it.required) {
                (Some(default), _) => format!(" [default: {default}]"),
                (None, true) => " [required]".to_owned(),
                (None, false) => String::new(),
            };
            out.push_str(&format!("  --{:<16} {}{note}\n", it.name, it.help));
        }
        out
    }

    /// Reads what was written behind the file: the value of `args` for the script.
    ///
    /// # Errors
    /// An argument that is unknown, missing, or not of its kind.
    pub fn read(&self, words: &[String]) -> Result<Map, Fault> {
        let mut map = Map::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let flag = word.strip_prefix("--").ok_or_else(|| {
                Fault::argument(format!("{word:?} stands alone; arguments are --NAME VALUE"))
            })?;
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag, None),
            };
            let name = name.replace('-', "_");
            let known = self.arguments.iter().find(|it| it.name == name);
            let it = known.ok_or_else(|| self.unknown(&name))?;
            let value = match (value, it.kind) {
                (Some(value), _) => value,
                (None, Kind::Flag) => "true",
                (None, _) => words
                    .next()
                    .ok_or_else(|| Fault::argument(format!("--{name} is without a value")))?,
            };
            map.insert(name.as_str().into(), it.kind.read(&name, value)?);
        }
        for it in &self.arguments {
            if map.contains_key(it.name.as_str()) {
                continue;
            }
            let value = match (&it.default, it.kind) {
                (Some(default), kind) => kind.read(&it.name, default)?,
                (None, _) if it.required => {
                    return Err(Fault::argument(format!("--{} is missing: {}", it.name, it.help)));
                }
                (None, Kind::Flag) => false.into(),
                (None, _) => Dynamic::UNIT,
            };
            map.insert(it.name.as_str().into(), value);
        }
        Ok(map)
    }

    fn unknown(&self, name: &str) -> Fault {
        let names: Vec<&str> = self.arguments.iter().map(|it| it.name.as_str()).collect();
        Fault::argument(match (nearest(name, names.iter().copied()), names.is_empty()) {
            (Some(near), _) => format!("the script takes no --{name}; the nearest is --{near}"),
            (None, true) => format!("the script takes no --{name}; it declares no arguments"),
            (None, false) => {
                format!("the script takes no --{name}; it takes --{}", names.join(", --"))
            }
        })
    }
}

/// `NAME: KIND (required) - help` or `NAME: KIND = DEFAULT - help`.
fn argument(text: &str) -> Option<Argument> {
    let (declaration, help) = text.split_once(" - ").unwrap_or((text, ""));
    let (name, rest) = declaration.split_once(':')?;
    let (rest, default) = match rest.split_once('=') {
        Some((kind, default)) => (kind, Some(default.trim().to_owned())),
        None => (rest, None),
    };
    let (word, required) = match rest.trim().strip_suffix("(required)") {
        Some(word) => (word.trim(), true),
        None => (rest.trim(), false),
    };
    let word = word.to_ascii_lowercase();
    let kind = Kind::ALL.iter().find(|(known, _)| *known == word)?.1;
    let name = name.trim();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let valid = !name.is_empty() && name.chars().all(is_name);
    let (name, help) = (name.to_owned(), help.trim().to_owned());
    valid.then_some(Argument { name, kind, required, default, help })
}

/// The text of a script for the engine: a first line for the system's loader is a comment, so
/// that the places of all others stay what they are.
pub(crate) fn without_loader(script: &str) -> String {
    match script.split_once('\n').unwrap_or((script, "")) {
        // Three slashes would be the page of a function.
        (first, rest) if first.starts_with("#!") => format!("// {}\n{rest}", &first[2..]),
        _ => script.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "#!/usr/bin/env -S yard run\n//! Gives a topic more queues.\n\
        //! arg topic: Topic (required) - the topic\n//! arg queues: number = 32 - how many\n\
        //! arg span: duration\n//! arg now: flag - at once\nprint(1);\n//! arg late: text\n";

    fn read(line: &str) -> Result<Vec<String>, String> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let map = Head::of(SCRIPT).expect("a head").read(&words).map_err(|fault| fault.message)?;
        Ok(map.iter().map(|(name, value)| format!("{name}={value}")).collect())
    }

    #[test]
    fn arguments_are_what_the_head_declares() {
        let check = |line: &str, expected: &[&str]| {
            assert_eq!(read(line).expect(line), expected, "{line}");
        };
        check("--topic x", &["now=false", "queues=32", "span=", "topic=x"]);
        check(
            "--queues=8 --topic x --span 2m --now",
            &["now=true", "queues=8", "span=120000", "topic=x"],
        );
        let wrong = |line: &str, part: &str| {
            let why = read(line).expect_err(line);
            assert!(why.contains(part), "{line}: {why}");
        };
        wrong("", "--topic is missing");
        wrong("--topic", "without a value");
        wrong("--topic x --queues many", "takes a number");
        wrong("--topic x --queus 8", "the nearest is --queues");
        wrong("--topic x --late y", "it takes --topic");
        wrong("x", "stands alone");
    }

    #[test]
    fn a_head_that_cannot_be_read_is_refused() {
        for text in ["//! arg x", "//! arg x: colour", "//! arg : text", "//! arg a b: text"] {
            assert!(Head::of(text).is_err(), "{text}");
        }
        let help = Head::of(SCRIPT).expect("a head").help("widen.rhai");
        assert!(help.starts_with("Gives a topic more queues.\n\nUsage: yard run widen.rhai"));
        assert!(help.contains("--queues           how many [default: 32]"), "{help}");
    }

    #[test]
    fn places_stay_what_they_are() {
        assert_eq!(without_loader("#!/bin/x\n1"), "// /bin/x\n1");
        assert_eq!(without_loader("1 #!"), "1 #!");
    }
}
