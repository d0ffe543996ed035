//! Three-valued logic, as SQL has it: None is NULL.

use std::cmp::Ordering;

use yard_abi::message::is_same;

use crate::ast::{Compare, Expr, Items, List, Literal};
use crate::number::Number;
use crate::row::{Row, Value};

/// Whether an expression is TRUE, FALSE or NULL of a message.
pub(crate) fn truth(expr: &Expr, row: &Row<'_>) -> Option<bool> {
    match expr {
        Expr::And(list) => all(list, row, false),
        Expr::Or(list) => all(list, row, true),
        Expr::Not(inner) => truth(inner, row).map(|it| !it),
        Expr::Compare(a, operator, b) => {
            compare(value(a, row), value(b, row)).map(|ordering| operator.holds(ordering))
        }
        Expr::Between { value: it, low, high, not } => {
            let it = value(it, row);
            let low = compare(it, value(low, row)).map(|it| Compare::GreaterOrEqual.holds(it));
            let high = compare(it, value(high, row)).map(|it| Compare::LessOrEqual.holds(it));
            let both = match (low, high) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            };
            both.map(|it| it != *not)
        }
        Expr::In { value: it, list, not } => is_in(value(it, row), list).map(|it| it != *not),
        Expr::Search { value: it, search, not } => match value(it, row) {
            Value::Text(text) | Value::Open(text) => Some(search.finds(text) != *not),
            Value::Null | Value::Bool(_) | Value::Number(_) => None,
        },
        Expr::IsNull { value: it, not } => Some(matches!(value(it, row), Value::Null) != *not),
        Expr::Literal(_) | Expr::Property(_) | Expr::Negate(_) | Expr::Arithmetic(..) => {
            boolean(value(expr, row))
        }
    }
}

/// Stops at the first that decides; `decides` is TRUE for OR and FALSE for AND.
fn all(list: &[Expr], row: &Row<'_>, decides: bool) -> Option<bool> {
    let mut result = Some(!decides);
    for expr in list {
        match truth(expr, row) {
            Some(found) if found == decides => return Some(decides),
            Some(_) => {}
            None => result = None,
        }
    }
    result
}

/// What an expression gives.
pub(crate) fn value<'m>(expr: &'m Expr, row: &Row<'m>) -> Value<'m> {
    match expr {
        Expr::Property(name) => row.get(*name),
        Expr::Literal(literal) => constant(literal),
        Expr::Negate(inner) => number(value(inner, row)).map(Number::negate).into(),
        Expr::Arithmetic(a, operator, b) => {
            let (a, b) = (number(value(a, row)), number(value(b, row)));
            a.zip(b).and_then(|(a, b)| a.calculate(*operator, b)).into()
        }
        _ => truth(expr, row).map_or(Value::Null, Value::Bool),
    }
}

pub(crate) fn constant(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Number(number) => Value::Number(*number),
        Literal::Text(text) => Value::Text(text),
    }
}

impl From<Option<Number>> for Value<'_> {
    fn from(number: Option<Number>) -> Self {
        number.map_or(Value::Null, Value::Number)
    }
}

/// A value taken for a number.
fn number(value: Value<'_>) -> Option<Number> {
    match value {
        Value::Number(number) => Some(number),
        Value::Open(text) => Number::parse(text),
        Value::Null | Value::Bool(_) | Value::Text(_) => None,
    }
}

/// A value taken for TRUE or FALSE.
fn boolean(value: Value<'_>) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(value),
        Value::Open(text) if text.eq_ignore_ascii_case(b"true") => Some(true),
        Value::Open(text) if text.eq_ignore_ascii_case(b"false") => Some(false),
        Value::Open(_) | Value::Null | Value::Number(_) | Value::Text(_) => None,
    }
}

/// None where one is NULL, or not what the other is.
fn compare(a: Value<'_>, b: Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Null, _) | (_, Value::Null) => None,
        (Value::Number(_), _) | (_, Value::Number(_)) => Some(number(a)?.compare(number(b)?)),
        (Value::Bool(_), _) | (_, Value::Bool(_)) => Some(boolean(a)?.cmp(&boolean(b)?)),
        // Two properties are numbers when both are.
        (Value::Open(left), Value::Open(right)) => match (number(a), number(b)) {
            (Some(a), Some(b)) => Some(a.compare(b)),
            _ => Some(left.cmp(right)),
        },
        (Value::Text(a) | Value::Open(a), Value::Text(b) | Value::Open(b)) => Some(a.cmp(b)),
    }
}

/// TRUE when one item equals, NULL when none does and one is NULL.
pub(crate) fn is_in(value: Value<'_>, list: &List) -> Option<bool> {
    let found = match (&list.items, value) {
        (_, Value::Null) => return None,
        (Items::Numbers(items), _) => {
            let number = number(value)?;
            items.binary_search_by(|item| item.compare(number)).is_ok()
        }
        (Items::Texts(items), Value::Text(text) | Value::Open(text)) => has_text(items, text),
        (Items::Texts(_), Value::Bool(_) | Value::Number(_)) => false,
    };
    if found || !list.null { Some(found) } else { None }
}

/// A few are compared faster than they are searched.
pub(crate) fn has_text(items: &[Box<[u8]>], text: &[u8]) -> bool {
    const FEW: usize = 8;
    if items.len() <= FEW {
        return items.iter().any(|item| is_same(item, text));
    }
    items.binary_search_by(|item| (**item).cmp(text)).is_ok()
}
