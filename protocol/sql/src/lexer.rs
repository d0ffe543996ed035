//! Text to tokens.

use crate::number::Number;
use crate::{Dialect, EXPRESSION_BYTES_MAX, ParseError};

/// A token and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) at: usize,
    pub(crate) end: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Name(String),
    Text(String),
    Number(Number),
    Word(Word),
    Symbol(Symbol),
    End,
}

macro_rules! spelled {
    ($(#[$doc:meta])* $type:ident { $($name:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $type { $($name,)+ }

        impl $type {
            const ALL: &[($type, &str)] = &[$(($type::$name, $text),)+];
        }
    };
}

spelled! {
    /// Words with a meaning, in any case.
    Word {
        And = "AND", Or = "OR", Not = "NOT", Between = "BETWEEN", In = "IN", Is = "IS",
        Null = "NULL", True = "TRUE", False = "FALSE", Like = "LIKE", Escape = "ESCAPE",
        Contains = "CONTAINS", StartsWith = "STARTSWITH", EndsWith = "ENDSWITH",
    }
}

spelled! {
    /// Symbols; of two that begin alike the longer comes first.
    Symbol {
        NotEqual = "<>", AlsoNotEqual = "!=", LessOrEqual = "<=", GreaterOrEqual = ">=",
        Equal = "=", Less = "<", Greater = ">", Plus = "+", Minus = "-", Times = "*",
        Over = "/", Percent = "%", Open = "(", Close = ")", Comma = ",",
    }
}

/// All tokens of a text, the last of which is [`Kind::End`].
pub(crate) fn tokens(text: &str, dialect: Dialect) -> Result<Vec<Token>, ParseError> {
    if text.len() > EXPRESSION_BYTES_MAX {
        let (found, max) = (text.len(), EXPRESSION_BYTES_MAX);
        let says = format!("an expression has at most {max} bytes, this one has {found}");
        return Err(ParseError::at(text, 0, says));
    }
    let mut lexer = Lexer { text, dialect, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks()?;
        let at = lexer.at;
        let kind = lexer.next()?;
        let is_end = kind == Kind::End;
        tokens.push(Token { kind, at, end: lexer.at });
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    dialect: Dialect,
    at: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn error<T>(&self, at: usize, says: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError::at(self.text, at, says.into()))
    }

    /// Takes what `is` accepts.
    fn take(&mut self, is: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|character| !is(character)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn skip_blanks(&mut self) -> Result<(), ParseError> {
        loop {
            self.take(|it| matches!(it, ' ' | '\t' | '\n' | '\r' | '\x0C'));
            if self.rest().starts_with("--") {
                self.take(|it| !matches!(it, '\n' | '\r'));
            } else if self.rest().starts_with("/*") {
                let Some(length) = self.rest()[2..].find("*/") else {
                    return self.error(self.at, "this comment has no end: expected `*/`");
                };
                self.at += length + 4;
            } else {
                return Ok(());
            }
        }
    }

    fn next(&mut self) -> Result<Kind, ParseError> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(Kind::End) };
        let after = &rest[first.len_utf8()..];
        match first {
            '\'' => self.quoted('\'').map(Kind::Text),
            '"' if self.dialect == Dialect::Sql => self.quoted('"').map(Kind::Name),
            '0'..='9' => self.number(),
            '.' if after.starts_with(|it: char| it.is_ascii_digit()) => self.number(),
            _ if is_name_start(first) => {
                let name = self.take(|it| is_name_start(it) || it.is_ascii_digit());
                let word = Word::ALL.iter().find(|(_, word)| name.eq_ignore_ascii_case(word));
                Ok(match word {
                    Some((word, _)) if self.knows(*word) => Kind::Word(*word),
                    _ => Kind::Name(name.to_owned()),
                })
            }
            _ => match Symbol::ALL.iter().find(|(_, symbol)| rest.starts_with(symbol)) {
                Some((symbol, text)) => {
                    self.at += text.len();
                    Ok(Kind::Symbol(*symbol))
                }
                None => self.error(self.at, format!("`{first}` means nothing here")),
            },
        }
    }

    /// RocketMQ has no LIKE, so a property may be called so.
    fn knows(&self, word: Word) -> bool {
        self.dialect == Dialect::Sql || !matches!(word, Word::Like | Word::Escape)
    }

    /// What stands in quotes; a quote in it is doubled.
    fn quoted(&mut self, quote: char) -> Result<String, ParseError> {
        let start = self.at;
        let mut out = String::new();
        loop {
            self.at += 1;
            out.push_str(self.take(|it| it != quote));
            if self.rest().is_empty() {
                return self.error(start, format!("expected a closing {quote} for this one"));
            }
            self.at += 1;
            if !self.rest().starts_with(quote) {
                return Ok(out);
            }
            out.push(quote);
        }
    }

    fn number(&mut self) -> Result<Kind, ParseError> {
        let start = self.at;
        let is_digit = |it: char| it.is_ascii_digit();
        self.take(is_digit);
        let is_whole = !self.rest().starts_with(['.', 'e', 'E']);
        if self.rest().starts_with('.') {
            self.at += 1;
            self.take(is_digit);
        }
        if self.rest().starts_with(['e', 'E']) {
            self.at += 1;
            if self.rest().starts_with(['+', '-']) {
                self.at += 1;
            }
            if self.take(is_digit).is_empty() {
                return self.error(start, "expected digits behind the E of this number");
            }
        }
        let digits = &self.text[start..self.at];
        if is_whole && self.rest().starts_with(['l', 'L']) {
            self.at += 1;
        }
        if self.rest().starts_with(|it| is_name_start(it) || it.is_ascii_digit()) {
            return self.error(start, "expected a blank behind this number");
        }
        match Number::parse(digits.as_bytes()) {
            Some(number) => self.checked(start, number, digits, is_whole),
            None => self.error(start, "this is no number"),
        }
    }

    fn checked(
        &self,
        start: usize,
        number: Number,
        digits: &str,
        is_whole: bool,
    ) -> Result<Kind, ParseError> {
        match number {
            Number::Float(_) if is_whole => {
                self.error(start, "a whole number has at most 64 bits with its sign")
            }
            Number::Float(value) if value.is_infinite() => {
                self.error(start, "this number is too large for a double")
            }
            Number::Float(0.0) if self.dialect == Dialect::RocketMq => {
                self.error(start, "RocketMQ takes no floating zero; 0 means the same")
            }
            Number::Int(_)
                if self.dialect == Dialect::RocketMq
                    && digits.len() > 1
                    && digits.starts_with('0') =>
            {
                self.error(start, "in RocketMQ a whole number does not begin with 0")
            }
            _ => Ok(Kind::Number(number)),
        }
    }
}

fn is_name_start(character: char) -> bool {
    character.is_ascii_alphabetic() || matches!(character, '_' | '$')
}
