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

#[derive(Clone, Debug)]
pub(crate) struct Program {
    steps: Vec<Step>,
    first: usize,
}

#[derive(Clone, Debug)]
struct Step {
    test: Test,
    /// What the test must be for the way `yes`.
    wants: bool,
    yes: usize,
    no: usize,
}

/// Ways out; an expression has fewer steps than bytes.
const ACCEPT: usize = usize::MAX;
const REJECT: usize = usize::MAX - 1;

/// One thing to look at. Most expressions consist of tests of one property; they find it without
/// asking what kind of thing it is.
#[derive(Clone, Debug)]
enum Test {
    Property(PropertyName<Box<[u8]>>, Ask),
    IsNull(PropertyName<Box<[u8]>>, bool),
    Other(Expr),
}

/// What is asked of the text of a property.
#[derive(Clone, Debug)]
enum Ask {
    /// Whether it is this text; for `true`.
    Same(Box<[u8]>, bool),
    Order(Orders, Box<[u8]>),
    Number(Orders, Number),
    Between(Number, Number, bool),
    In(List, bool),
    Search(Search, bool),
}

/// A set of orders, one bit each from less to greater: a comparison is a shift then.
#[derive(Clone, Copy, Debug)]
struct Orders(u8);

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
}

impl Program {
    pub(crate) fn new(expr: Expr, names: &[Name]) -> Self {
        let mut program = Self { steps: Vec::new(), first: REJECT };
        program.first = program.add(expr, names, true, (ACCEPT, REJECT));
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
        let property = |expr: &Expr| match expr {
            Expr::Property(name) if names[*name].origin == Origin::Property => {
                Some(names[*name].property.clone())
            }
            _ => None,
        };
        let test = match &expr {
            Expr::Compare(left, operator, right) => {
                property(left).zip(Ask::compare(*operator, right))
            }
            Expr::Between { value, low, high, not } => match (&**low, &**high) {
                (Expr::Literal(Literal::Number(low)), Expr::Literal(Literal::Number(high))) => {
                    property(value).zip(Some(Ask::Between(*low, *high, *not)))
                }
                _ => None,
            },
            Expr::In { value, list, not } => property(value).zip(Some(Ask::In(list.clone(), *not))),
            Expr::Search { value, search, not } => {
                property(value).zip(Some(Ask::Search(search.clone(), *not)))
            }
            Expr::IsNull { value, not } => match property(value) {
                Some(property) => return Test::IsNull(property, *not),
                None => None,
            },
            _ => None,
        };
        match test {
            Some((property, ask)) => Test::Property(property, ask),
            None => Test::Other(expr),
        }
    }

    #[inline]
    fn judge(&self, row: &Row<'_>) -> Option<bool> {
        match self {
            Test::Property(property, ask) => ask.judge(row.message.find(property)?),
            Test::IsNull(property, not) => Some(row.message.find(property).is_none() != *not),
            Test::Other(expr) => truth(expr, row),
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
