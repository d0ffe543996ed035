//! What an expression says, after its types were checked.

use std::cmp::Ordering;

use yard_abi::PropertyName;

use crate::like::Pattern;
use crate::number::Number;

/// One node. Children of AND and OR are in a list, so that a long chain is not deep.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Literal(Literal),
    /// What a message has under the name with this index.
    Property(usize),
    Negate(Box<Expr>),
    Arithmetic(Box<Expr>, Arithmetic, Box<Expr>),
    Compare(Box<Expr>, Compare, Box<Expr>),
    Between {
        value: Box<Expr>,
        low: Box<Expr>,
        high: Box<Expr>,
        not: bool,
    },
    In {
        value: Box<Expr>,
        list: List,
        not: bool,
    },
    Search {
        value: Box<Expr>,
        search: Search,
        not: bool,
    },
    IsNull {
        value: Box<Expr>,
        not: bool,
    },
    Not(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Number(Number),
    Text(Box<[u8]>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Compare {
    #[inline]
    pub(crate) fn holds(self, ordering: Ordering) -> bool {
        match self {
            Compare::Equal => ordering.is_eq(),
            Compare::NotEqual => ordering.is_ne(),
            Compare::Less => ordering.is_lt(),
            Compare::LessOrEqual => ordering.is_le(),
            Compare::Greater => ordering.is_gt(),
            Compare::GreaterOrEqual => ordering.is_ge(),
        }
    }

    /// Whether texts and booleans have it in every dialect.
    pub(crate) fn is_equality(self) -> bool {
        matches!(self, Compare::Equal | Compare::NotEqual)
    }
}

/// What IN looks through, in order; `null` when NULL is one of them.
#[derive(Clone, Debug)]
pub struct List {
    /// What is looked for.
    pub items: Items,
    /// Whether NULL is one of them.
    pub null: bool,
}

/// The items of a list, in order.
#[derive(Clone, Debug)]
pub enum Items {
    /// Numbers, for which a text is taken as well.
    Numbers(Vec<Number>),
    /// Texts; none where NULL is all there is.
    Texts(Vec<Box<[u8]>>),
}

/// What a text is searched for.
#[derive(Clone, Debug)]
pub enum Search {
    /// It fits the pattern as a whole.
    Like(Pattern),
    /// This is somewhere in it.
    Contains(Box<[u8]>),
    /// It begins with this.
    StartsWith(Box<[u8]>),
    /// It ends with this.
    EndsWith(Box<[u8]>),
}

impl Search {
    pub(crate) fn finds(&self, text: &[u8]) -> bool {
        match self {
            Search::Like(pattern) => pattern.matches(text),
            Search::Contains(part) => contains(text, part),
            Search::StartsWith(part) => text.starts_with(part),
            Search::EndsWith(part) => text.ends_with(part),
        }
    }

    /// Whether it was asked for nothing, which RocketMQ never finds.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Search::Like(_) => false,
            Search::Contains(part) | Search::StartsWith(part) | Search::EndsWith(part) => {
                part.is_empty()
            }
        }
    }
}

/// Looks for the first byte before it compares, which is what most places fail at.
fn contains(text: &[u8], part: &[u8]) -> bool {
    let Some((first, tail)) = part.split_first() else { return true };
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        rest = &rest[at + 1..];
        if rest.starts_with(tail) {
            return true;
        }
    }
    false
}

/// Where a name's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A property.
    Property,
    /// The tag.
    Tag,
    /// The keys, a space between them.
    Keys,
    /// When the message was born.
    Born,
    /// How often it was delivered before.
    Attempts,
}

/// A name of an expression.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub(crate) origin: Origin,
    pub(crate) property: PropertyName<Box<[u8]>>,
}

impl Name {
    /// RocketMQ's names of what is no property here mean the same.
    pub(crate) fn new(name: &str) -> Self {
        let (origin, property) = match name {
            "TAGS" => (Origin::Tag, name),
            "KEYS" => (Origin::Keys, name),
            "BORN_TIMESTAMP" => (Origin::Born, name),
            "RECONSUME_TIME" => (Origin::Attempts, name),
            "__SHARDINGKEY" => (Origin::Property, yard_abi::message::ORDER),
            _ => (Origin::Property, name),
        };
        Self { origin, property: PropertyName::new(property.as_bytes().into()) }
    }

    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(self.property.name()).expect("a name is a piece of a text")
    }
}
