//! Rows to a file, in the format that its name says; the file appears when it is whole.
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value as Json;
use yard_client::Code;

use crate::fault::{Fault, Result};
use crate::value::cursor::Cursor;
use crate::value::json_of;

/// What was written.
pub(crate) struct Saved {
    pub(crate) rows: i64,
    /// Of the file.
    pub(crate) bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// An object a line.
    Lines,
    /// One array.
    Array,
    /// The fields of the first row as a heading.
    Csv,
}

/// Form of a file, and whether it is packed.
fn form_of(path: &str) -> Option<(Form, bool)> {
    let (path, packed) = match path.strip_suffix(".gz") {
        Some(path) => (path, true),
        None => (path, false),
    };
    let form = match path.rsplit_once('.')?.1 {
        "ndjson" | "jsonl" => Form::Lines,
        "json" => Form::Array,
        "csv" => Form::Csv,
        _ => return None,
    };
    Some((form, packed))
}

/// Writes all rows of a cursor.
pub(crate) fn save(rows: &Cursor, path: &str) -> Result<Saved> {
    let (form, packed) = form_of(path).ok_or_else(|| {
        let message = format!("save takes .ndjson, .jsonl, .json or .csv, with .gz or not: {path}");
        Fault::argument(message)
    })?;
    let failed = |error: io::Error| {
        Fault::new(Code::ScriptFailed, format!("{path} cannot be written: {error}"))
    };
    let new = PathBuf::from(format!("{path}.{}.part", std::process::id()));
    let written = write(rows, &new, form, packed, &failed);
    let saved = written.and_then(|count| {
        fs::rename(&new, path).map_err(failed)?;
        Ok(Saved { rows: count, bytes: fs::metadata(path).map_err(failed)?.len() })
    });
    if saved.is_err() {
        let _ = fs::remove_file(&new);
    }
    saved
}

fn write(
    rows: &Cursor,
    path: &Path,
    form: Form,
    packed: bool,
    failed: &dyn Fn(io::Error) -> Fault,
) -> Result<i64> {
    let file = BufWriter::new(File::create(path).map_err(failed)?);
    if !packed {
        let (mut out, count) = write_rows(rows, file, form, failed)?;
        out.flush().map_err(failed)?;
        return Ok(count);
    }
    let (out, count) =
        write_rows(rows, GzEncoder::new(file, Compression::default()), form, failed)?;
    out.finish().and_then(|mut file| file.flush()).map_err(failed)?;
    Ok(count)
}

fn write_rows<W: Write>(
    rows: &Cursor,
    mut out: W,
    form: Form,
    failed: &dyn Fn(io::Error) -> Fault,
) -> Result<(W, i64)> {
    let (mut count, mut columns) = (0, Vec::new());
    rows.each(|row| {
        let json = json_of(&row)?;
        let written = match form {
            Form::Lines => writeln!(out, "{json}"),
            Form::Array => writeln!(out, "{}{json}", if count == 0 { "[" } else { "," }),
            Form::Csv => write_csv(&mut out, &json, &mut columns),
        };
        written.map_err(failed)?;
        count += 1;
        Ok(())
    })?;
    if form == Form::Array {
        out.write_all(if count == 0 { b"[]\n" } else { b"]\n" }).map_err(failed)?;
    }
    Ok((out, count))
}

/// A row in the columns of the first.
fn write_csv(out: &mut impl Write, row: &Json, columns: &mut Vec<String>) -> io::Result<()> {
    let Json::Object(fields) = row else {
        return writeln!(out, "{}", csv_cell(row));
    };
    if columns.is_empty() {
        *columns = fields.keys().cloned().collect();
        let heading: Vec<_> =
            columns.iter().map(|name| csv_cell(&Json::String(name.clone()))).collect();
        writeln!(out, "{}", heading.join(","))?;
    }
    let cell = |name: &String| fields.get(name).map_or(String::new(), csv_cell);
    let cells: Vec<_> = columns.iter().map(cell).collect();
    writeln!(out, "{}", cells.join(","))
}

/// A cell as RFC 4180 has it.
fn csv_cell(value: &Json) -> String {
    let text = match value {
        Json::Null => return String::new(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_the_form() {
        let cases = [
            ("a.ndjson", Some((Form::Lines, false))),
            ("a.b.jsonl.gz", Some((Form::Lines, true))),
            ("a.json", Some((Form::Array, false))),
            ("a.csv.gz", Some((Form::Csv, true))),
            ("a.txt", None),
            ("a", None),
        ];
        for (path, expected) in cases {
            assert_eq!(form_of(path), expected, "{path}");
        }
    }

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        let (mut out, mut columns) = (Vec::new(), Vec::new());
        for row in [r#"{"a":1,"b":"x,\"y\""}"#, r#"{"b":null,"c":2}"#] {
            let row = serde_json::from_str(row).expect("JSON");
            write_csv(&mut out, &row, &mut columns).expect("a vector");
        }
        assert_eq!(String::from_utf8(out).expect("texts"), "a,b\n1,\"x,\"\"y\"\"\"\n,\n");
    }
}
