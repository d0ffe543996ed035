//! Results as tables, as JSON, and as JSON a line a row.
use std::io::{self, IsTerminal, Write};

use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Map, Number};
use yard_client::wire::Timestamp;
use yard_client::wire::value::Value;

use crate::text;

/// How results are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// One JSON value.
    Json,
    /// One JSON value a row.
    Ndjson,
}

impl Format {
    /// Reads the word that the command line has checked.
    pub(crate) fn parse(word: &str) -> Self {
        match word {
            "json" => Self::Json,
            "ndjson" => Self::Ndjson,
            _ => Self::Table,
        }
    }
}

/// Shows a result on stdout.
pub(crate) fn show(value: &Value, format: Format) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text_of(value, format, io::stdout().is_terminal()).as_bytes())?;
    out.flush()
}

fn text_of(value: &Value, format: Format, terminal: bool) -> String {
    match (format, value) {
        (Format::Table, value) => tables(value, terminal),
        (Format::Json, value) => format!("{:#}\n", json(value)),
        (Format::Ndjson, Value::List(rows)) => {
            rows.iter().map(|row| format!("{}\n", json(row))).collect()
        }
        (Format::Ndjson, value) => format!("{}\n", json(value)),
    }
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(yes) => serde_json::Value::Bool(*yes),
        Value::Number(number) => serde_json::Value::Number(Number::from(*number)),
        Value::Text(text) => serde_json::Value::String(text.clone()),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Record(fields) => {
            let field = |(name, value): &(&str, Value)| ((*name).to_owned(), json(value));
            serde_json::Value::Object(fields.iter().map(field).collect::<Map<_, _>>())
        }
    }
}

/// A list is a table. A record is its fields, then each list in it under its name.
fn tables(value: &Value, terminal: bool) -> String {
    match value {
        Value::List(rows) if rows.is_empty() => String::new(),
        Value::List(rows) => rows_table(rows, terminal),
        Value::Record(fields) => {
            let mut out = fields_table(fields);
            for (name, value) in fields {
                if let Value::List(rows) = value {
                    out.push_str(&format!("\n{name}\n"));
                    let none = || "(none)\n".to_owned();
                    out.push_str(&if rows.is_empty() {
                        none()
                    } else {
                        rows_table(rows, terminal)
                    });
                }
            }
            out
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {
            format!("{}\n", scalar("", value))
        }
    }
}

fn rows_table(rows: &[Value], terminal: bool) -> String {
    let mut table = plain_table(terminal);
    if let Some(Value::Record(fields)) = rows.first() {
        let heading = |(name, value): &(&'static str, Value)| {
            let cell = Cell::new(heading(name)).set_alignment(alignment(name, value));
            if terminal { cell.add_attribute(Attribute::Bold) } else { cell }
        };
        table.set_header(fields.iter().map(heading));
    }
    for row in rows {
        match row {
            Value::Record(fields) => table.add_row(fields.iter().map(|(name, value)| {
                Cell::new(scalar(name, value)).set_alignment(alignment(name, value))
            })),
            other => table.add_row([scalar("", other)]),
        };
    }
    trimmed(&table)
}

fn fields_table(fields: &[(&'static str, Value)]) -> String {
    let mut table = plain_table(false);
    for (name, value) in fields {
        if !matches!(value, Value::List(_)) {
            table.add_row([heading(name).to_owned(), scalar(name, value)]);
        }
    }
    trimmed(&table)
}

fn plain_table(terminal: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(if terminal {
        ContentArrangement::Dynamic
    } else {
        ContentArrangement::Disabled
    });
    table
}

/// The lines of a table without the space around them.
fn trimmed(table: &Table) -> String {
    let line = |line: String| {
        let line = line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned();
        line + "\n"
    };
    table.lines().map(line).collect()
}

/// An instant is shown as a time, so its name says no unit.
fn heading(name: &'static str) -> &'static str {
    if is_instant(name) { name.trim_end_matches("_ms") } else { name }
}

fn is_instant(name: &str) -> bool {
    matches!(name, "created_ms" | "connected_ms" | "newest_ms" | "oldest_ms" | "started_ms")
}

fn alignment(name: &str, value: &Value) -> CellAlignment {
    match value {
        Value::Number(_) if !is_instant(name) => CellAlignment::Right,
        _ => CellAlignment::Left,
    }
}

fn scalar(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Text(text) if text.is_empty() => "-".into(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.into(),
        // What was there from the first moment was made at none.
        Value::Number(0) if is_instant(name) => "-".into(),
        Value::Number(ms) if is_instant(name) => text::instant(Timestamp(*ms)),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text::visible(text).into_owned(),
        Value::List(_) | Value::Record(_) => json(value).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, lag: u64) -> Value {
        let name = Value::Text(name.into());
        Value::Record(vec![("name", name), ("lag", Value::Number(lag)), ("note", Value::Null)])
    }

    #[track_caller]
    fn check(value: &Value, format: Format, expected: &str) {
        assert_eq!(text_of(value, format, false), expected);
    }

    #[test]
    fn rows() {
        let rows = Value::List(vec![row("a", 5), row("b\u{1b}", u64::MAX)]);
        check(
            &rows,
            Format::Table,
            "name                      lag  note\n\
             a                           5  -\n\
             b\\u{1b}  18446744073709551615  -\n",
        );
        check(
            &rows,
            Format::Ndjson,
            "{\"name\":\"a\",\"lag\":5,\"note\":null}\n\
             {\"name\":\"b\\u001b\",\"lag\":18446744073709551615,\"note\":null}\n",
        );
        check(&Value::List(vec![]), Format::Table, "");
        check(&Value::List(vec![]), Format::Json, "[]\n");
        check(&Value::List(vec![]), Format::Ndjson, "");
    }

    #[test]
    fn a_record_shows_its_lists_as_tables_of_their_own() {
        let record = Value::Record(vec![
            ("name", Value::Text("t".into())),
            ("created_ms", Value::Number(1_357_034_400_000)),
            ("started_ms", Value::Number(0)),
            ("queues", Value::List(vec![row("a", 1)])),
            ("members", Value::List(vec![])),
        ]);
        check(
            &record,
            Format::Table,
            "name     t\n\
             created  2013-01-01T10:00:00.000Z\n\
             started  -\n\
             \nqueues\n\
             name  lag  note\n\
             a       1  -\n\
             \nmembers\n\
             (none)\n",
        );
        check(
            &Value::Record(vec![("created_ms", Value::Number(7))]),
            Format::Json,
            "{\n  \"created_ms\": 7\n}\n",
        );
    }
}
