//! Results as tables: what is known of them is that they are JSON.
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Map, Value};
use yard_client::Timestamp;

use super::text;

/// A list is a table. A record is its fields, then each list in it under its name. `terminal`:
/// headings stand out, and columns fit.
pub fn text_of(value: &Value, terminal: bool) -> String {
    match value {
        Value::Array(rows) if rows.is_empty() => String::new(),
        Value::Array(rows) => rows_table(rows, terminal),
        Value::Object(fields) => record(fields, terminal),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            format!("{}\n", scalar("", value))
        }
    }
}

fn record(fields: &Map<String, Value>, terminal: bool) -> String {
    let mut out = fields_table(fields);
    for (name, value) in fields {
        if let Value::Array(rows) = value {
            out.push_str(&format!("\n{name}\n"));
            let none = || "(none)\n".to_owned();
            out.push_str(&if rows.is_empty() { none() } else { rows_table(rows, terminal) });
        }
    }
    out
}

fn rows_table(rows: &[Value], terminal: bool) -> String {
    let mut table = plain_table(terminal);
    if let Some(Value::Object(fields)) = rows.first() {
        let heading = |(name, value): (&String, &Value)| {
            let cell = Cell::new(heading(name)).set_alignment(alignment(name, value));
            if terminal { cell.add_attribute(Attribute::Bold) } else { cell }
        };
        table.set_header(fields.iter().map(heading));
    }
    for row in rows {
        match row {
            Value::Object(fields) => table.add_row(fields.iter().map(|(name, value)| {
                Cell::new(scalar(name, value)).set_alignment(alignment(name, value))
            })),
            other => table.add_row([scalar("", other)]),
        };
    }
    trimmed(&table)
}

fn fields_table(fields: &Map<String, Value>) -> String {
    let mut table = plain_table(false);
    for (name, value) in fields {
        if !value.is_array() {
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
fn heading(name: &str) -> &str {
    if is_instant(name) { name.trim_end_matches("_ms") } else { name }
}

fn is_instant(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "at_ms",
        "begun_ms",
        "born_ms",
        "connected_ms",
        "created_ms",
        "due_ms",
        "last_ms",
        "newest_ms",
        "next_check_ms",
        "oldest_ms",
        "since_ms",
        "started_ms",
        "stored_ms",
    ];
    NAMES.contains(&name)
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
        Value::String(text) if text.is_empty() => "-".into(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.into(),
        Value::Number(number) => match number.as_u64().filter(|_| is_instant(name)) {
            // What was there from the first moment was made at none.
            Some(0) => "-".into(),
            Some(ms) => text::instant(Timestamp(ms)),
            None => number.to_string(),
        },
        Value::String(text) => text::visible(text).into_owned(),
        Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_times_wherever_they_stand() {
        let check = |name: &str, value: u64, head: &str, shown: &str| {
            assert_eq!((heading(name), &scalar(name, &value.into())[..]), (head, shown));
        };
        let (ms, time) = (1_767_225_600_000, "2026-01-01T00:00:00.000Z");
        for name in ["due", "begun", "next_check", "since", "last", "at", "stored"] {
            check(&format!("{name}_ms"), ms, name, time);
        }
        check("due_ms", 0, "due", "-");
        check("bytes", ms, "bytes", "1767225600000");
        check("elapsed_ms", 7, "elapsed_ms", "7");
    }
}
