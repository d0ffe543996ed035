//! Reading the command lines of this package's programs: flags with values, nothing else.
use std::str::FromStr;

use crate::Failed;

/// What was written after the program's name.
#[derive(Debug)]
pub struct Arguments {
    flags: Vec<(String, String)>,
}

impl Arguments {
    /// Takes `--name value` pairs; `known` are the names that there are.
    ///
    /// # Errors
    /// For a name that there is not, or one without its value.
    pub fn read(written: impl IntoIterator<Item = String>, known: &[&str]) -> Result<Self, Failed> {
        let mut flags = Vec::new();
        let mut written = written.into_iter();
        while let Some(word) = written.next() {
            let name = word.strip_prefix("--").filter(|name| known.contains(name));
            let Some(name) = name else {
                let known = known.join(", --");
                return Err(Failed(format!("{word:?} is not known; there are --{known}")));
            };
            let Some(value) = written.next() else {
                return Err(Failed(format!("--{name} needs a value")));
            };
            flags.push((name.to_owned(), value));
        }
        Ok(Self { flags })
    }

    /// The text of a flag; the last one counts.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.flags.iter().rev().find(|(flag, _)| flag == name).map(|(_, value)| value.as_str())
    }

    /// The value of a flag, or what it is unless given.
    ///
    /// # Errors
    /// When the text is no such value.
    pub fn value<T: FromStr>(&self, name: &str, unless_given: T) -> Result<T, Failed> {
        let Some(text) = self.text(name) else { return Ok(unless_given) };
        text.parse().map_err(|_| Failed(format!("--{name} does not take {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments, Failed> {
        Arguments::read(line.split_whitespace().map(str::to_owned), &["rounds", "yard"])
    }

    #[test]
    fn flags_are_read_and_mistakes_are_named() {
        let arguments = read("--rounds 5 --rounds 7").unwrap();
        assert_eq!(arguments.value("rounds", 1).unwrap(), 7);
        assert_eq!(arguments.value("shards", 1u16).unwrap(), 1);
        assert_eq!(arguments.text("yard"), None);
        for (line, expect) in [
            ("--seed 1", "\"--seed\" is not known"),
            ("rounds 1", "\"rounds\" is not known"),
            ("--rounds", "--rounds needs a value"),
        ] {
            assert!(read(line).unwrap_err().0.contains(expect), "{line}");
        }
        let text = read("--rounds many").unwrap().value("rounds", 1).unwrap_err().0;
        assert!(text.contains("does not take \"many\""), "{text}");
    }
}
