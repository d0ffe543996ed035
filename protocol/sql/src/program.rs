//! An expression as tests with two ways out each, so that judging is a walk without recursion.
//!
//! ```text
//!   a > 1 AND NOT (b = 'x' OR c IS NULL)
//!
//!   a > 1 is TRUE ──yes──► b = 'x' is FALSE ──yes──► c IS NULL is FALSE ──yes──► accept
//!        └──no──► reject        └──no──► reject            └──no──► reject
//! ```
//!
//! NOT is pushed down to the tests by De Morgan's laws, which hold with NULL too. What is left are
//! AND and OR over tests, and there NULL may be taken for "no": only TRUE accepts, and AND and OR
//! never make TRUE out of NULL where they would not out of FALSE.

use std::cmp::Ordering;

use yard_abi::PropertyName;
use yard_abi::message::is_same;

use crate::ast::{Compare, Expr, List, Literal, Name, Origin, Search};
use crate::number::Number;
use crate::row::{Row, Value};
use crate::truth::{is_in, truth};

/// The tests of an expression; the last is the first to be made.
#[derive(Clone, Debug)]
pub struct Program {
    steps: Vec<Step>,
    first: usize,
}

/// A test, and where it leads.
#[derive(Clone, Debug)]
pub struct Step {
    test: Test,
    /// What the test must be for the way `yes`.
    wants: bool,
    yes: usize,
    no: usize,
}

/// Where a test leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The message is delivered.
    Accept,
    /// It is not.
    Reject,
    /// To the step of this number, which is less than that of the step that leads there.
    Step(usize),
}

impl From<usize> for Way {
    fn from(way: usize) -> Self {
        match way {
            ACCEPT => Way::Accept,
            REJECT => Way::Reject,
            step => Way::Step(step),
        }
    }
}

impl Step {
    /// What is looked at.
    #[must_use]
    pub fn test(&self) -> &Test {
        &self.test
    }

    /// What the test must be for the first of its ways; it goes the other one when the test is the
    /// opposite, or NULL.
    #[must_use]
    pub fn wants(&self) -> bool {
        self.wants
    }

    /// Its ways: where the test is as wanted, and where it is not.
    #[must_use]
    pub fn ways(&self) -> (Way, Way) {
        (self.yes.into(), self.no.into())
    }
}

/// Ways out; an expression has fewer steps than bytes.
const ACCEPT: usize = usize::MAX;
const REJECT: usize = usize::MAX - 1;

/// One thing to look at. Most expressions consist of tests of one property; they find it without
/// asking what kind of thing it is.
#[derive(Clone, Debug)]
pub enum Test {
    /// Asks the first property of this name; NULL where there is none.
    Property(PropertyName<Box<[u8]>>, Ask),
    /// Asks the tag; NULL where it is empty.
    Tag(Ask),
    /// Whether there is no property of this name; with `true`, whether there is one.
    IsNull(PropertyName<Box<[u8]>>, bool),
    /// Anything else.
    Other(Other),
}

/// A test of several values, or of what is no text.
#[derive(Clone, Debug)]
pub struct Other(Expr);

/// What is asked of a text.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Whether it is this text; for `true`.
    Same(Box<[u8]>, bool),
    /// Whether it is so in order to this text, byte by byte.
    Order(Orders, Box<[u8]>),
    /// Whether it is so in order to this number; NULL where it is none.
    Number(Orders, Number),
    /// Whether it is one of the numbers from the first to the second, or with `true` not; NULL
    /// where it is none.
    Between(Number, Number, bool),
    /// Whether it is in the list, or with `true` not; NULL as SQL has it.
    In(List, bool),
    /// Whether this is found in it, or with `true` not.
    Search(Search, bool),
}

/// A set of orders, one bit each from less to greater: a comparison is a shift then.
#[derive(Clone, Copy, Debug)]
pub struct Orders(u8);

impl Orders {
    fn new(operator: Compare) -> Self {
        let all = [Ordering::Less, Ordering::Equal, Ordering::Greater];
        let bits = all.iter().enumerate().map(|(bit, it)| u8::from(operator.holds(*it)) << bit);
        Self(bits.sum())
    }

    #[inline]
    fn has(self, ordering: Ordering) -> bool {
        self.0 >> (ordering as i8 + 1) & 1 == 1
    }

    /// Bit 0: less, bit 1: equal, bit 2: greater.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }
}

impl Program {
    /// The steps. Judging begins with the last; ways lead to lower numbers only.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    pub(crate) fn new(expr: Expr, names: &[Name]) -> Self {
        let mut program = Self { steps: Vec::new(), first: REJECT };
        program.first = program.add(expr, names, true, (ACCEPT, REJECT));
        assert_eq!(program.first + 1, program.steps.len(), "judging begins with the last step");
        program
    }

    /// Adds the steps of an expression, the last first, and gives the one to begin with.
    fn add(&mut self, expr: Expr, names: &[Name], wants: bool, ways: (usize, usize)) -> usize {
        // The children of a chain must all come out, or one of them.
        let (list, all) = match expr {
            Expr::Not(inner) => return self.add(*inner, names, !wants, ways),
            Expr::And(list) => (list, wants),
            Expr::Or(list) => (list, !wants),
            expr => {
                let (yes, no) = ways;
                self.steps.push(Step { test: Test::new(expr, names), wants, yes, no });
                return self.steps.len() - 1;
            }
        };
        let (yes, no) = ways;
        list.into_iter().rev().fold(if all { yes } else { no }, |next, expr| {
            self.add(expr, names, wants, if all { (next, no) } else { (yes, next) })
        })
    }

    pub(crate) fn accepts(&self, row: &Row<'_>) -> bool {
        let mut at = self.first;
        while let Some(step) = self.steps.get(at) {
            at = if step.test.judge(row) == Some(step.wants) { step.yes } else { step.no };
        }
        at == ACCEPT
    }
}

impl Test {
    fn new(expr: Expr, names: &[Name]) -> Self {
        let of = |expr: &Expr, origin: Origin| match expr {
            Expr::Property(name) if names[*name].origin == origin => Some(&names[*name].property),
            _ => None,
        };
        let (value, ask) = match &expr {
            Expr::Compare(left, operator, right) => (left, Ask::compare(*operator, right)),
            Expr::Between { value, low, high, not } => match (&**low, &**high) {
                (Expr::Literal(Literal::Number(low)), Expr::Literal(Literal::Number(high))) => {
                    (value, Some(Ask::Between(*low, *high, *not)))
                }
                _ => (value, None),
            },
            Expr::In { value, list, not } => (value, Some(Ask::In(list.clone(), *not))),
            Expr::Search { value, search, not } => (value, Some(Ask::Search(search.clone(), *not))),
            Expr::IsNull { value, not } => match of(value, Origin::Property) {
                Some(property) => return Test::IsNull(property.clone(), *not),
                None => (value, None),
            },
            _ => return Test::Other(Other(expr)),
        };
        match (of(value, Origin::Property), of(value, Origin::Tag), ask) {
            (Some(property), _, Some(ask)) => Test::Property(property.clone(), ask),
            (_, Some(_), Some(ask)) => Test::Tag(ask),
            _ => Test::Other(Other(expr)),
        }
    }

    #[inline]
    fn judge(&self, row: &Row<'_>) -> Option<bool> {
        match self {
            Test::Property(property, ask) => ask.judge(row.message.find(property)?),
            Test::Tag(ask) => match row.message.tag() {
                b"" => None,
                tag => ask.judge(tag),
            },
            Test::IsNull(property, not) => Some(row.message.find(property).is_none() != *not),
            Test::Other(Other(expr)) => truth(expr, row),
        }
    }
}

impl Ask {
    fn compare(operator: Compare, with: &Expr) -> Option<Self> {
        let orders = Orders::new(operator);
        match with {
            Expr::Literal(Literal::Number(with)) => Some(Ask::Number(orders, *with)),
            Expr::Literal(Literal::Text(with)) if operator.is_equality() => {
                Some(Ask::Same(with.clone(), operator == Compare::Equal))
            }
            Expr::Literal(Literal::Text(with)) => Some(Ask::Order(orders, with.clone())),
            _ => None,
        }
    }

    #[inline]
    fn judge(&self, text: &[u8]) -> Option<bool> {
        Some(match self {
            Ask::Same(with, equal) => is_same(text, with) == *equal,
            Ask::Order(orders, with) => orders.has(text.cmp(with)),
            Ask::Number(orders, with) => orders.has(Number::parse(text)?.compare(*with)),
            Ask::Between(low, high, not) => {
                let number = Number::parse(text)?;
                (number.compare(*low).is_ge() && number.compare(*high).is_le()) != *not
            }
            Ask::In(list, not) => is_in(Value::Open(text), list)? != *not,
            Ask::Search(search, not) => search.finds(text) != *not,
        })
    }
}
