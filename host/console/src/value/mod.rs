//! What scripts hold: rows, messages, cursors; and how they become JSON.
pub(crate) mod cursor;
pub(crate) mod held;
pub(crate) mod message;
pub(crate) mod row;

use rhai::{Array, Dynamic, ImmutableString, Map};
use serde_json::{Number, Value as Json};

use crate::fault::{Fault, Result};
use crate::plan::{Plan, Report};
use cursor::Cursor;
use message::Message;
use row::Row;

/// Any value as JSON. A cursor is a list of all its rows, as far as a table may go.
pub(crate) fn json_of(value: &Dynamic) -> Result<Json> {
    if let Some(row) = value.read_lock::<Row>() {
        let fields = row.fields().iter();
        let field =
            |(name, value): &(ImmutableString, Dynamic)| Ok((name.to_string(), json_of(value)?));
        return fields.map(field).collect::<Result<_>>().map(Json::Object);
    }
    if let Some(message) = value.read_lock::<Message>() {
        return Ok(message.json());
    }
    if let Some(cursor) = value.read_lock::<Cursor>() {
        let mut rows = Vec::new();
        for row in cursor.rows_of_table()? {
            rows.push(json_of(&row)?);
        }
        return Ok(Json::Array(rows));
    }
    if let Some(plan) = value.read_lock::<Plan>() {
        return Ok(plan.json());
    }
    if let Some(report) = value.read_lock::<Report>() {
        return Ok(report.json());
    }
    if let Some(fault) = value.read_lock::<Fault>() {
        return Ok(serde_json::json!({ "code": fault.code.label(), "message": fault.message }));
    }
    plain_json(value)
}

fn plain_json(value: &Dynamic) -> Result<Json> {
    if let Some(items) = value.read_lock::<Array>() {
        return items.iter().map(json_of).collect::<Result<_>>().map(Json::Array);
    }
    if let Some(map) = value.read_lock::<Map>() {
        let field = |(name, value): (&_, &Dynamic)| {
            let name: &rhai::Identifier = name;
            Ok((name.to_string(), json_of(value)?))
        };
        return map.iter().map(field).collect::<Result<_>>().map(Json::Object);
    }
    Ok(match (value.as_bool(), value.as_int(), value.as_float()) {
        (Ok(yes), _, _) => Json::Bool(yes),
        (_, Ok(number), _) => Json::Number(number.into()),
        (_, _, Ok(number)) => Number::from_f64(number).map_or(Json::Null, Json::Number),
        _ if value.is_unit() => Json::Null,
        _ => Json::String(value.to_string()),
    })
}

/// Any JSON as a value: objects as rows, so that fields keep their order and typos are errors.
pub(crate) fn value_of(json: Json) -> Dynamic {
    match json {
        Json::Null => Dynamic::UNIT,
        Json::Bool(yes) => yes.into(),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Json::String(text) => text.into(),
        Json::Array(items) => items.into_iter().map(value_of).collect::<Array>().into(),
        Json::Object(fields) => {
            let field = |(name, value): (String, Json)| (name.into(), value_of(value));
            Dynamic::from(Row::new(fields.into_iter().map(field)))
        }
    }
}

/// The order of two values: numbers, texts, truths; nothing comes last.
pub(crate) fn compare(a: &Dynamic, b: &Dynamic) -> Result<std::cmp::Ordering> {
    use std::cmp::Ordering;
    if let (Ok(a), Ok(b)) = (a.as_int(), b.as_int()) {
        return Ok(a.cmp(&b));
    }
    let float = |value: &Dynamic| value.as_float().or_else(|_| value.as_int().map(|n| n as f64));
    if let (Ok(a), Ok(b)) = (float(a), float(b)) {
        return Ok(a.total_cmp(&b));
    }
    if let (Ok(a), Ok(b)) = (a.as_immutable_string_ref(), b.as_immutable_string_ref()) {
        return Ok(a.as_str().cmp(b.as_str()));
    }
    if let (Ok(a), Ok(b)) = (a.as_bool(), b.as_bool()) {
        return Ok(a.cmp(&b));
    }
    match (a.is_unit(), b.is_unit()) {
        (true, true) => Ok(Ordering::Equal),
        (true, false) => Ok(Ordering::Greater),
        (false, true) => Ok(Ordering::Less),
        (false, false) => {
            let (a, b) = (a.type_name(), b.type_name());
            Err(Fault::argument(format!("{a} and {b} have no order")).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering;

    #[test]
    fn values_have_an_order_where_they_are_of_a_kind() {
        let check = |a: Dynamic, b: Dynamic, expected: Option<Ordering>| {
            assert_eq!(compare(&a, &b).ok(), expected, "{a} {b}");
        };
        check(1.into(), 2.into(), Some(Ordering::Less));
        check(i64::MAX.into(), (i64::MAX - 1).into(), Some(Ordering::Greater));
        check(2.into(), 1.5.into(), Some(Ordering::Greater));
        check("a".into(), "b".into(), Some(Ordering::Less));
        check(Dynamic::UNIT, 1.into(), Some(Ordering::Greater));
        check(false.into(), true.into(), Some(Ordering::Less));
        check("a".into(), 1.into(), None);
    }

    #[test]
    fn json_comes_back_as_it_was() {
        let text = r#"{"b":1,"a":[true,null,"x",{"c":-2.5}],"big":18446744073709551615}"#;
        let json: Json = serde_json::from_str(text).expect("JSON");
        let back = json_of(&value_of(json)).expect("plain values");
        assert_eq!(
            back.to_string(),
            text.replace("18446744073709551615", "1.8446744073709552e+19")
        );
    }
}
