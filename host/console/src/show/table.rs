//! Results as tables: what is known of them is that they are JSON.
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Map, Value};
use yard_client::Timestamp;

use super::text;

/// A list is a table. A record is its fields, then each list and each record in it under its name.
/// `terminal`: headings stand out, and columns fit.
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
        let part = match value {
            Value::Array(rows) if rows.is_empty() => "(none)\n".to_owned(),
            Value::Array(rows) => rows_table(rows, terminal),
            Value::Object(fields) => record(fields, terminal),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => continue,
        };
        let space = if out.is_empty() { "" } else { "\n" };
        out.push_str(&format!("{space}{name}\n{part}"));
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
        if !value.is_array() && !value.is_object() {
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
        "added_ms",
        "at_ms",
        "begun_ms",
        "born_ms",
        "changed_ms",
        "connected_ms",
        "created_ms",
        "due_ms",
        "last_ms",
        "newest_ms",
        "next_check_ms",
        "oldest_ms",
        "pushed_ms",
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
    use serde_json::json;

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

    #[test]
    fn every_instant_of_a_report_is_one() {
        const REPORTS: [&str; 2] = [
            include_str!("../../../../protocol/wire/src/operation/rows.rs"),
            include_str!("../../../../protocol/wire/src/plugin.rs"),
        ];
        let fields = REPORTS.iter().flat_map(|text| text.lines());
        let fields = fields.filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(": "));
        let instants = fields.filter(|(_, kind)| kind.contains("Timestamp"));
        let instants: Vec<&str> = instants.map(|(name, _)| name).collect();
        assert!(instants.contains(&"created_ms") && instants.contains(&"changed_ms"));
        for name in instants {
            assert!(is_instant(name), "{name} is shown as a number");
        }
    }

    #[test]
    fn a_record_in_a_record_stands_under_its_name() {
        let check = |record: Value, shown: &str| assert_eq!(text_of(&record, false), shown);
        let plugin = || json!({"name": "letters", "changed_ms": 1_767_225_600_000_u64});
        let letters = "name     letters\nchanged  2026-01-01T00:00:00.000Z\n";
        let versions = "\nversions\nversion\n      1\n";
        check(
            json!({"plugin": plugin(), "versions": [{"version": 1}]}),
            &format!("plugin\n{letters}{versions}"),
        );
        check(
            json!({"tests": 3, "replay": plugin(), "poison": []}),
            &format!("tests  3\n\nreplay\n{letters}\npoison\n(none)\n"),
        );
    }
}
