//! Results as tables, as JSON, and as JSON a line a row.
use std::io::{self, IsTerminal, Write};

use serde_json::{Map, Number};
use yard_client::wire::value::Value;
pub(crate) use yard_console::show::Format;
use yard_console::show::table;

/// Shows a result on stdout.
pub(crate) fn show(value: &Value, format: Format) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text_of(value, format, io::stdout().is_terminal()).as_bytes())?;
    out.flush()
}

fn text_of(value: &Value, format: Format, terminal: bool) -> String {
    match (format, value) {
        (Format::Table, value) => table::text_of(&json(value), terminal),
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
