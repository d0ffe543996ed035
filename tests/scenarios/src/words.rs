//! Lines into words: blanks part them, quotes hold them together, `name=` names one.
use std::fmt;

/// A word of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// What stands before an equals sign, if one does.
    pub name: Option<String>,
    /// The word, or what stands behind its name; without quotes.
    pub text: String,
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The file, under the folder of files.
    pub file: String,
    /// The line, from 1 on.
    pub line: usize,
    /// A sentence.
    pub says: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.says)
    }
}

/// What parts a step from what comes of it.
const ARROW: &str = "->";

impl Word {
    /// A word as it would be written.
    #[must_use]
    pub fn written(&self) -> String {
        match &self.name {
            Some(name) => format!("{name}={}", written(&self.text)),
            None => written(&self.text),
        }
    }
}

/// A text as one word of a line.
#[must_use]
pub fn written(text: &str) -> String {
    let is_plain = !text.is_empty()
        && text != ARROW
        && !text.starts_with('#')
        && !text.contains(|c: char| c.is_whitespace() || c == '"' || c == '=');
    if is_plain { text.to_owned() } else { format!("{text:?}") }
}

/// Words of a line, and those behind its arrow, if it has one.
///
/// # Errors
/// A sentence that says what cannot be read.
pub fn split(line: &str) -> Result<(Vec<Word>, Option<Vec<Word>>), String> {
    let mut before = Vec::new();
    let mut after: Option<Vec<Word>> = None;
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, was_quoted, left) = take(rest)?;
        rest = left.trim_start();
        let is_arrow = !was_quoted && word.name.is_none() && word.text == ARROW;
        match &mut after {
            None if is_arrow => after = Some(Vec::new()),
            None => before.push(word),
            Some(_) if is_arrow => return Err("two arrows in one line".to_owned()),
            Some(after) => after.push(word),
        }
    }
    Ok((before, after))
}

fn is_name(text: &str) -> bool {
    let may = |c: char| c.is_ascii_alphanumeric() || "$._-{}".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '$') && text.chars().all(may)
}

fn take(line: &str) -> Result<(Word, bool, &str), String> {
    let (mut name, mut text, mut was_quoted) = (None, String::new(), false);
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c.is_whitespace() => return Ok((Word { name, text }, was_quoted, &line[at..])),
            '"' => {
                was_quoted = true;
                loop {
                    match chars.next().map(|(_, c)| c) {
                        None => return Err("a quote is not closed".to_owned()),
                        Some('"') => break,
                        Some('\\') => text.push(escaped(chars.next().map(|(_, c)| c))?),
                        Some(c) => text.push(c),
                    }
                }
            }
            '=' if name.is_none() && !was_quoted && is_name(&text) => {
                name = Some(std::mem::take(&mut text));
            }
            c => text.push(c),
        }
    }
    Ok((Word { name, text }, was_quoted, ""))
}

fn escaped(c: Option<char>) -> Result<char, String> {
    match c {
        Some('n') => Ok('\n'),
        Some('t') => Ok('\t'),
        Some('0') => Ok('\0'),
        Some(c @ ('"' | '\\')) => Ok(c),
        other => Err(format!("a backslash before {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_part_words_and_quotes_hold_them_together() {
        let texts = |line: &str| {
            let (before, after) = split(line).expect("it can be read");
            let text = |word: &Word| word.written();
            let after = after.map(|after| after.iter().map(text).collect::<Vec<_>>());
            (before.iter().map(text).collect::<Vec<_>>(), after)
        };
        assert_eq!(texts("send t x"), (vec!["send".into(), "t".into(), "x".into()], None));
        let (before, after) = texts(r#" send  t "a \"b\"" prop.n="1 2" -> 0@1  "->" "#);
        assert_eq!(before, ["send", "t", r#""a \"b\"""#, r#"prop.n="1 2""#]);
        assert_eq!(after.expect("an arrow"), ["0@1", r#""->""#]);
        assert_eq!(texts(r#"send "" "a=b" 1=2"#).0, ["send", r#""""#, r#""a=b""#, r#""1=2""#]);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        assert_eq!(split("send \"x").unwrap_err(), "a quote is not closed");
        assert_eq!(split("a -> b -> c").unwrap_err(), "two arrows in one line");
        assert!(split(r#"send "\q""#).unwrap_err().contains("backslash"));
    }
}
