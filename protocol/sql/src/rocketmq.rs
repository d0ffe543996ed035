//! The same expressions by RocketMQ's rules, as its broker behaves.
//!
//! A text becomes what it is compared with, and when it cannot, the whole message is not
//! delivered. A comparison with what is missing is not always NULL. Source: the classes
//! `ComparisonExpression`, `LogicExpression` and `UnaryExpression` of its module `filter`.

use std::cmp::Ordering;

use crate::ast::{Compare, Expr, Items, Search};
use crate::number::Number;
use crate::row::{Row, Value};
use crate::truth::{constant, has_text};

/// A text was not what it was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failed;

type Truth = Result<Option<bool>, Failed>;

/// Whether an expression is TRUE, and could be judged at all.
pub(crate) fn accepts(expr: &Expr, row: &Row<'_>) -> bool {
    truth(expr, row) == Ok(Some(true))
}

fn truth(expr: &Expr, row: &Row<'_>) -> Truth {
    match expr {
        Expr::And(list) => chain(list.iter().map(|expr| truth(expr, row)), false),
        Expr::Or(list) => chain(list.iter().map(|expr| truth(expr, row)), true),
        Expr::Not(inner) => Ok(truth(inner, row)?.map(|it| !it)),
        Expr::Compare(a, Compare::NotEqual, b) => {
            Ok(equal(value(a, row)?, value(b, row)?)?.map(|it| !it))
        }
        Expr::Compare(a, Compare::Equal, b) => equal(value(a, row)?, value(b, row)?),
        Expr::Compare(a, operator, b) => ordered(value(a, row)?, *operator, value(b, row)?),
        Expr::Between { value: it, low, high, not } => {
            let (lower, upper) = match not {
                false => (Compare::GreaterOrEqual, Compare::LessOrEqual),
                true => (Compare::Less, Compare::Greater),
            };
            let bounds = [(lower, low), (upper, high)];
            let judged = bounds
                .iter()
                .map(|(operator, bound)| ordered(value(it, row)?, *operator, value(bound, row)?));
            chain(judged, *not)
        }
        Expr::In { value: it, list, not } => Ok(match (value(it, row)?, &list.items) {
            (Value::Open(text), Items::Texts(items)) => Some(has_text(items, text) != *not),
            _ => None,
        }),
        Expr::Search { value: it, search, not } => Ok(Some(finds(value(it, row)?, search, *not))),
        Expr::IsNull { value: it, not } => Ok(Some(matches!(value(it, row)?, Value::Null) != *not)),
        Expr::Literal(_) | Expr::Property(_) | Expr::Negate(_) | Expr::Arithmetic(..) => {
            Ok(match value(expr, row)? {
                Value::Null => None,
                Value::Bool(it) => Some(it),
                // Even the text `true` is not true there.
                Value::Number(_) | Value::Text(_) | Value::Open(_) => Some(false),
            })
        }
    }
}

/// Stops at the first that decides; what comes after it is not judged, and cannot fail.
fn chain(list: impl Iterator<Item = Truth>, decides: bool) -> Truth {
    let mut result = Some(!decides);
    for found in list {
        match found? {
            Some(found) if found == decides => return Ok(Some(decides)),
            Some(_) => {}
            None => result = None,
        }
    }
    Ok(result)
}

/// Neither finds anything in what is missing, nor nothing anywhere; and its NOT does not either.
fn finds(value: Value<'_>, search: &Search, not: bool) -> bool {
    match value {
        Value::Text(text) | Value::Open(text) => !search.is_empty() && search.finds(text) != not,
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn value<'m>(expr: &'m Expr, row: &Row<'m>) -> Result<Value<'m>, Failed> {
    match expr {
        Expr::Property(name) => Ok(row.get(*name)),
        Expr::Literal(literal) => Ok(constant(literal)),
        Expr::Negate(inner) => Ok(match value(inner, row)? {
            Value::Number(number) => Value::Number(number.negate()),
            _ => Value::Null,
        }),
        _ => Ok(truth(expr, row)?.map_or(Value::Null, Value::Bool)),
    }
}

/// What is missing equals what is missing; it is unknown whether it equals anything else, and
/// nothing else equals it.
fn equal(a: Value<'_>, b: Value<'_>) -> Truth {
    match (a, b) {
        (Value::Null, Value::Null) => Ok(Some(true)),
        (Value::Null, _) => Ok(None),
        (_, Value::Null) => Ok(Some(false)),
        (a, b) => Ok(Some(compare(a, b)?.is_eq())),
    }
}

fn ordered(a: Value<'_>, operator: Compare, b: Value<'_>) -> Truth {
    let ordering = match (a, b) {
        (Value::Null, _) | (_, Value::Null) => return Ok(None),
        // Two texts are in order as numbers only.
        (Value::Text(a) | Value::Open(a), Value::Text(b) | Value::Open(b)) => {
            double(a)?.total_cmp(&double(b)?)
        }
        (a, b) => compare(a, b)?,
    };
    Ok(Some(operator.holds(ordering)))
}

/// Neither is NULL.
fn compare(a: Value<'_>, b: Value<'_>) -> Result<Ordering, Failed> {
    match (a, b) {
        (Value::Text(a) | Value::Open(a), Value::Text(b) | Value::Open(b)) => Ok(a.cmp(b)),
        (Value::Text(a) | Value::Open(a), Value::Number(b)) => compare_text(a, b),
        (Value::Number(a), Value::Text(b) | Value::Open(b)) => {
            compare_text(b, a).map(Ordering::reverse)
        }
        (Value::Number(a), Value::Number(b)) => Ok(a.compare(b)),
        (Value::Text(a) | Value::Open(a), Value::Bool(b)) => {
            Ok(a.eq_ignore_ascii_case(b"true").cmp(&b))
        }
        (Value::Bool(_), Value::Text(_) | Value::Open(_)) => Err(Failed),
        (Value::Bool(a), Value::Bool(b)) => Ok(a.cmp(&b)),
        (Value::Bool(_), Value::Number(_)) | (Value::Number(_), Value::Bool(_)) => {
            Ok(Ordering::Less)
        }
        (Value::Null, _) | (_, Value::Null) => Err(Failed),
    }
}

/// The text is read as the type that the number has in Java: `int`, `long` or `double`.
fn compare_text(text: &[u8], with: Number) -> Result<Ordering, Failed> {
    match with {
        Number::Float(with) => Ok(double(text)?.total_cmp(&with)),
        Number::Int(with) => {
            let text = str::from_utf8(text).map_err(|_| Failed)?;
            let whole = match i32::try_from(with) {
                Ok(_) => text.parse::<i32>().map(i64::from),
                Err(_) => text.parse::<i64>(),
            };
            Ok(whole.map_err(|_| Failed)?.cmp(&with))
        }
    }
}

/// What `Double.valueOf` reads, hexadecimal numbers aside.
fn double(text: &[u8]) -> Result<f64, Failed> {
    let text = text.trim_ascii();
    let (is_negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let value = match unsigned {
        b"NaN" => return Ok(f64::NAN),
        b"Infinity" => f64::INFINITY,
        [digits @ .., b'd' | b'D' | b'f' | b'F'] => plain_double(digits)?,
        digits => plain_double(digits)?,
    };
    Ok(if is_negative { -value } else { value })
}

fn plain_double(digits: &[u8]) -> Result<f64, Failed> {
    match Number::parse(digits) {
        Some(Number::Int(whole)) if !digits.starts_with(b"-") => Ok(whole as f64),
        Some(Number::Float(value)) if !digits.starts_with(b"-") => Ok(value),
        _ => Err(Failed),
    }
}
