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

use yard_abi::message::is_same;

use crate::ast::{Compare, Expr, Literal};
use crate::number::Number;
use crate::row::{Row, Value};
use crate::truth::{compare, truth};

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

/// One thing to look at. The first two are what most expressions consist of.
#[derive(Clone, Debug)]
enum Test {
    Number { name: usize, operator: Compare, with: Number },
    Text { name: usize, operator: Compare, with: Box<[u8]> },
    Other(Expr),
}

impl Program {
    pub(crate) fn new(expr: Expr) -> Self {
        let mut program = Self { steps: Vec::new(), first: REJECT };
        program.first = program.add(expr, true, ACCEPT, REJECT);
        program
    }

    /// Adds the steps of an expression, the last first, and gives the one to begin with.
    fn add(&mut self, expr: Expr, wants: bool, yes: usize, no: usize) -> usize {
        match expr {
            Expr::Not(inner) => self.add(*inner, !wants, yes, no),
            Expr::And(list) => self.chain(list, wants, wants, yes, no),
            Expr::Or(list) => self.chain(list, wants, !wants, yes, no),
            expr => {
                self.steps.push(Step { test: Test::new(expr), wants, yes, no });
                self.steps.len() - 1
            }
        }
    }

    /// A chain of which all must come out, or one.
    fn chain(&mut self, list: Vec<Expr>, wants: bool, all: bool, yes: usize, no: usize) -> usize {
        let mut next = if all { yes } else { no };
        for expr in list.into_iter().rev() {
            next = match all {
                true => self.add(expr, wants, next, no),
                false => self.add(expr, wants, yes, next),
            };
        }
        next
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
    fn new(expr: Expr) -> Self {
        if let Expr::Compare(left, operator, right) = &expr
            && let (Expr::Property(name), Expr::Literal(with)) = (&**left, &**right)
        {
            let (name, operator) = (*name, *operator);
            match with {
                Literal::Number(with) => return Test::Number { name, operator, with: *with },
                Literal::Text(with) => return Test::Text { name, operator, with: with.clone() },
                Literal::Null | Literal::Bool(_) => {}
            }
        }
        Test::Other(expr)
    }

    #[inline]
    fn judge(&self, row: &Row<'_>) -> Option<bool> {
        match self {
            Test::Number { name, operator, with } => {
                let number = match row.get(*name) {
                    Value::Open(text) => Number::parse(text)?,
                    value => return Some(operator.holds(compare(value, Value::Number(*with))?)),
                };
                Some(operator.holds(number.compare(*with)))
            }
            Test::Text { name, operator, with } => match row.get(*name) {
                Value::Open(text) if operator.is_equality() => {
                    Some(is_same(text, with) == (*operator == Compare::Equal))
                }
                value => Some(operator.holds(compare(value, Value::Text(with))?)),
            },
            Test::Other(expr) => truth(expr, row),
        }
    }
}
