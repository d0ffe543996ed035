//! Results on the screen: what a line or a script ends with, in the format that was asked for.
use std::sync::Arc;

use rhai::{Dynamic, Map};
use serde_json::Value as Json;

use crate::fault::{Fault, Result};
use crate::plan::{Plan, Report};
use crate::session::Session;
use crate::show::{Format, table};
use crate::value::cursor::Cursor;
use crate::value::json_of;
use crate::value::message::Message;
use crate::value::row::Row;

/// How much of a cursor is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The first rows; the user asks for more.
    Beginning,
    /// All of it.
    Whole,
}

/// Rows that are shown before the user asks for more.
const BEGINNING: usize = 20;

/// Shows a value; nothing for nothing.
pub(crate) fn show(session: &Arc<Session>, value: &Dynamic, extent: Extent) -> Result<()> {
    if value.is_unit() {
        return Ok(());
    }
    if let Some(cursor) = value.read_lock::<Cursor>() {
        return show_cursor(session, &cursor, extent);
    }
    match session.format {
        Format::Table => session.print(&text_of(session, value)?),
        Format::Json => session.print(&format!("{:#}\n", json_of(value)?)),
        Format::Ndjson => session.print(&format!("{}\n", json_of(value)?)),
    }
}

fn text_of(session: &Session, value: &Dynamic) -> Result<String> {
    if let Some(plan) = value.read_lock::<Plan>() {
        return Ok(plan.text());
    }
    if let Some(report) = value.read_lock::<Report>() {
        return Ok(report.text());
    }
    if let Some(message) = value.read_lock::<Message>() {
        return Ok(message.page());
    }
    if let Some(fault) = value.read_lock::<Fault>() {
        return Ok(format!("{}\n", *fault));
    }
    if value.is::<Row>() || value.is::<Map>() || value.is_array() {
        return Ok(table::text_of(&json_of(value)?, session.terminal));
    }
    match value.as_int() {
        Ok(number) => Ok(format!("{}\n", humane(number))),
        Err(_) => Ok(format!("{value}\n")),
    }
}

/// A number, and where it is large also in groups of three.
fn humane(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    if digits.len() < 5 {
        return number.to_string();
    }
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| str::from_utf8(group).expect("digits are ASCII"))
        .collect();
    let sign = if number < 0 { "-" } else { "" };
    format!("{number}  ({sign}{})", groups.join(","))
}

fn show_cursor(session: &Arc<Session>, cursor: &Cursor, extent: Extent) -> Result<()> {
    match (session.format, cursor.is_endless()) {
        // Each row as it comes; a list that never ends would never be shown.
        (Format::Json | Format::Ndjson, true) | (Format::Ndjson, false) => {
            cursor.each(|row| session.print(&format!("{}\n", json_of(&row)?)))
        }
        (Format::Json, false) => {
            let mut rows = Vec::new();
            for row in cursor.rows_of_table()? {
                rows.push(json_of(&row)?);
            }
            session.print(&format!("{:#}\n", Json::Array(rows)))
        }
        (Format::Table, true) => cursor.each(|row| session.print(&line(session, &row)?)),
        (Format::Table, false) => match extent {
            Extent::Whole => session.print(&table(session, &cursor.rows_of_table()?)?),
            Extent::Beginning => {
                let (rows, has_more) = cursor.head(BEGINNING)?;
                session.print(&table(session, &rows)?)?;
                match (has_more, rows.len()) {
                    (true, shown) => {
                        session.print(&format!("{shown} rows, and more: it.table()\n"))
                    }
                    (false, 1) => session.print("1 row\n"),
                    (false, shown) => session.print(&format!("{shown} rows\n")),
                }
            }
        },
    }
}

/// Rows as a table. Messages show what identifies them, and the beginning of their body.
pub(crate) fn table(session: &Session, rows: &[Dynamic]) -> Result<String> {
    let mut shown = Vec::with_capacity(rows.len());
    for row in rows {
        let summary = row.read_lock::<Message>().map(|message| message.summary());
        shown.push(summary.map_or_else(|| json_of(row), Ok)?);
    }
    Ok(table::text_of(&Json::Array(shown), session.terminal))
}

/// One row on a line.
fn line(session: &Session, row: &Dynamic) -> Result<String> {
    match row.read_lock::<Message>() {
        Some(message) => Ok(format!("{}\n", *message)),
        None => text_of(session, row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_shown_twice() {
        let cases = [
            (0, "0"),
            (-1_234, "-1234"),
            (12_345, "12345  (12,345)"),
            (-1_234_567, "-1234567  (-1,234,567)"),
            (i64::MIN, "-9223372036854775808  (-9,223,372,036,854,775,808)"),
        ];
        for (number, expected) in cases {
            assert_eq!(humane(number), expected);
        }
    }
}
