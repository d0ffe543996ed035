//! LIKE: `%` stands for any text, `_` for one character.

/// A pattern, cut into pieces at its `%`.
#[derive(Clone, Debug)]
pub struct Pattern {
    first: Vec<Piece>,
    /// What follows each `%`; empty when there is none.
    rest: Vec<Vec<Piece>>,
}

/// A piece of a pattern.
#[derive(Clone, Debug)]
pub enum Piece {
    /// This text, which is not empty.
    Text(Box<[u8]>),
    /// One character of UTF-8.
    AnyCharacter,
}

impl Pattern {
    /// What stands before the first `%`.
    #[must_use]
    pub fn first(&self) -> &[Piece] {
        &self.first
    }

    /// What follows each `%`, up to the next or the end.
    #[must_use]
    pub fn rest(&self) -> &[Vec<Piece>] {
        &self.rest
    }

    /// Reads a pattern; the character behind `escape` stands for itself.
    ///
    /// # Errors
    /// A sentence when nothing stands behind `escape`, or something that it need not escape.
    pub(crate) fn new(text: &str, escape: Option<char>) -> Result<Self, &'static str> {
        let mut parts = vec![Vec::new()];
        let mut literal = String::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let last = parts.last_mut().expect("there is one from the start");
            if Some(character) == escape {
                match characters.next() {
                    Some(next) if matches!(next, '%' | '_') || Some(next) == escape => {
                        literal.push(next);
                    }
                    _ => return Err("the escape character stands before %, _ or itself"),
                }
            } else if matches!(character, '%' | '_') {
                if !literal.is_empty() {
                    let text = std::mem::take(&mut literal).into_bytes();
                    last.push(Piece::Text(text.into()));
                }
                if character == '_' {
                    last.push(Piece::AnyCharacter);
                } else {
                    parts.push(Vec::new());
                }
            } else {
                literal.push(character);
            }
        }
        if !literal.is_empty() {
            let last = parts.last_mut().expect("there is one from the start");
            last.push(Piece::Text(literal.into_bytes().into()));
        }
        let rest = parts.split_off(1);
        let first = parts.pop().expect("there is one from the start");
        Ok(Self { first, rest })
    }

    /// Each part is taken at its first place, but the last, which must end the text: taking an
    /// earlier place never leaves less for what follows.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let Some(mut text) = strip(text, &self.first) else { return false };
        let Some((last, middle)) = self.rest.split_last() else { return text.is_empty() };
        for part in middle {
            let Some(after) = places(text).find_map(|from| strip(from, part)) else { return false };
            text = after;
        }
        places(text).any(|from| strip(from, last).is_some_and(<[u8]>::is_empty))
    }
}

/// The text from each of its characters on, and from its end.
fn places(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts = (0..=text.len()).filter(|at| text.get(*at).is_none_or(|byte| !continues(*byte)));
    starts.map(|at| &text[at..])
}

/// Whether a byte continues a character of UTF-8.
fn continues(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

fn strip<'t>(mut text: &'t [u8], pieces: &[Piece]) -> Option<&'t [u8]> {
    for piece in pieces {
        text = match piece {
            Piece::Text(literal) => text.strip_prefix(&**literal)?,
            Piece::AnyCharacter => {
                let (_, after) = text.split_first()?;
                let more = after.iter().take_while(|byte| continues(**byte)).count();
                &after[more..]
            }
        };
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str, expect: bool) {
        let read = Pattern::new(pattern, Some('!')).expect("a pattern");
        assert_eq!(read.matches(text.as_bytes()), expect, "{text} LIKE {pattern}");
    }

    #[test]
    fn patterns() {
        for (pattern, yes, no) in [
            ("abc", "abc", "abcd"),
            ("", "", "a"),
            ("%", "", "never"),
            ("a%", "a", "ba"),
            ("%a", "aba", "ab"),
            ("%b%", "abc", "ac"),
            ("a_c", "aöc", "ac"),
            ("_%_", "ab", "a"),
            ("%_", "é", ""),
            ("%a%b%", "xaxbx", "xbxax"),
            ("a%a", "aa", "a"),
            ("%ab%ab", "abab", "ab"),
            ("100!%", "100%", "1000"),
            ("!_!!", "_!", "a!"),
            ("%aab", "aaab", "aaba"),
        ] {
            check(pattern, yes, true);
            if no != "never" {
                check(pattern, no, false);
            }
        }
    }

    #[test]
    fn an_escape_that_escapes_nothing_is_refused() {
        assert!(Pattern::new("a!", Some('!')).is_err());
        assert!(Pattern::new("!a", Some('!')).is_err());
        assert!(Pattern::new("!a", None).is_ok());
    }
}
