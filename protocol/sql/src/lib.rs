//! The language of filter expressions: what SQL says behind WHERE, over the properties of a
//! message.
//!
//! ```text
//!   text ──lexer──► tokens ──parse──► Expr ──program──► tests with two ways out each ──► deliver?
//!                                      └────rocketmq──────────────────────────────────┘
//! ```
//!
//! Values are texts, as properties are; a comparison says what they are taken for. What is missing
//! or is not what it is taken for is NULL, and a message is delivered when the expression is TRUE.
//!
//! Invariants:
//! - An expression of bounded length and depth is judged in bounded steps and stack, without
//!   allocating (but for `KEYS` of a message that has several).
//! - Nothing that a message holds makes judging fail: no error, no panic.
//! - No I/O, no clock, no unsafe.
//!
//! Start reading at [`Predicate`], then `ast.rs`.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod ast;
mod lexer;
mod like;
mod number;
mod parse;
mod program;
mod rocketmq;
mod row;
mod truth;

/// An expression in parts, for who makes code of it.
pub mod code {
    pub use crate::ast::{Items, List, Search};
    pub use crate::like::{Pattern, Piece};
    pub use crate::number::Number;
    pub use crate::program::{Ask, Orders, Other, Program, Step, Test, Way};
}

use std::fmt;
use std::str::FromStr;

use yard_abi::Message;

use ast::{Expr, Name, Origin};
use program::Program;
use row::Row;

/// Bytes of an expression. The protocol has the same bound.
pub const EXPRESSION_BYTES_MAX: usize = 16 << 10;
/// How deep an expression may be nested: parentheses, NOT, signs and chains of arithmetic.
pub const DEPTH_MAX: usize = 64;

/// Which rules hold where RocketMQ and SQL differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// SQL's: three-valued logic throughout, arithmetic, LIKE, numbers in IN, texts in order.
    Sql,
    /// RocketMQ's, as its broker behaves.
    RocketMq,
}

impl Dialect {
    /// Both dialects.
    pub const ALL: [Dialect; 2] = [Dialect::Sql, Dialect::RocketMq];

    /// Its name in a subscription.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Dialect::Sql => "sql",
            Dialect::RocketMq => "sql-rocketmq",
        }
    }
}

impl FromStr for Dialect {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Dialect::ALL.into_iter().find(|dialect| dialect.name() == name);
        found.ok_or_else(|| format!("`{name}` is no dialect: sql or sql-rocketmq"))
    }
}

/// Why a text is no expression, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Line, counted from 1.
    pub line: usize,
    /// Character of the line, counted from 1.
    pub column: usize,
    /// What was expected and what is there instead.
    pub says: String,
}

impl ParseError {
    fn at(text: &str, byte: usize, says: String) -> Self {
        let before = text.get(..byte).unwrap_or(text);
        let line_at = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        Self { line, column: before[line_at..].chars().count() + 1, says }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "line {}, column {}: {}", self.line, self.column, self.says)
    }
}

impl std::error::Error for ParseError {}

/// An expression that was understood.
#[derive(Clone, Debug)]
pub struct Predicate {
    names: Vec<Name>,
    /// Whether it asks for the keys, of which there may be several.
    asks_keys: bool,
    judge: Judge,
}

#[derive(Clone, Debug)]
enum Judge {
    Sql(Program),
    RocketMq(Expr),
}

impl Predicate {
    /// Understands an expression.
    ///
    /// # Errors
    /// [`ParseError`] when it is none of this dialect, or exceeds [`EXPRESSION_BYTES_MAX`] or
    /// [`DEPTH_MAX`].
    pub fn parse(text: &str, dialect: Dialect) -> Result<Self, ParseError> {
        let parse::Parsed { expr, names } = parse::parse(text, dialect)?;
        let judge = match dialect {
            Dialect::Sql => Judge::Sql(Program::new(expr, &names)),
            Dialect::RocketMq => Judge::RocketMq(expr),
        };
        let asks_keys = names.iter().any(|name| name.origin == Origin::Keys);
        Ok(Self { names, asks_keys, judge })
    }

    /// The names that it asks messages for, each once.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(Name::as_str)
    }

    /// Its tests, in the dialect that has them.
    #[must_use]
    pub fn program(&self) -> Option<&Program> {
        match &self.judge {
            Judge::Sql(program) => Some(program),
            Judge::RocketMq(_) => None,
        }
    }

    /// Whether it is TRUE of a message.
    #[must_use]
    #[inline]
    pub fn matches(&self, message: &Message<'_>) -> bool {
        if self.asks_keys {
            let keys = row::joined_keys(message);
            return self.judge(&Row { message, names: &self.names, keys: keys.as_deref() });
        }
        self.judge(&Row { message, names: &self.names, keys: None })
    }

    #[inline]
    fn judge(&self, row: &Row<'_>) -> bool {
        match &self.judge {
            Judge::Sql(program) => program.accepts(row),
            Judge::RocketMq(expr) => rocketmq::accepts(expr, row),
        }
    }
}
