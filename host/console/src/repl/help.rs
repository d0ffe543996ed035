//! Help, out of the book of functions. No broker is asked.
use std::fmt::Write as _;

use yard_client::Code;

use super::command::COMMANDS;
use crate::book::{Entry, Kind, nearest};
use crate::fault::Fault;

/// Columns of what is written, before what it does.
const SIGNATURE_COLUMNS: usize = 44;

/// The page of a function, of what something has, of an error code; or what there is.
pub(crate) fn page(entries: &[Entry], name: &str) -> Result<String, Fault> {
    let name = name.trim_end_matches("()").trim_start_matches('.');
    if name.is_empty() {
        return Ok(overview(entries));
    }
    let of_name = entries.iter().filter(|entry| entry.name == name).map(full);
    let of_kind = entries.iter().filter(|entry| entry.on.word() == name).map(line);
    let found: String = of_name.chain(of_kind).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let code = Code::ALL.iter().find(|code| code.label().eq_ignore_ascii_case(name));
    if let Some(code) = code {
        let (name, label) = (code.name(), code.label());
        let sentence = code.sentence();
        return Ok(format!("{label} {name}: {sentence}\nthe whole page: yard explain {label}\n"));
    }
    let names = entries.iter().map(|entry| &*entry.name);
    let near =
        nearest(name, names).map_or(String::new(), |near| format!("; the nearest is {near}"));
    Err(Fault::argument(format!("there is no page {name}{near}")))
}

fn overview(entries: &[Entry]) -> String {
    let mut out = String::from("Functions\n");
    for entry in entries.iter().filter(|entry| entry.on == Kind::Console) {
        out.push_str(&line(entry));
    }
    out.push_str("\nWhat has functions and properties (.help cursor)\n ");
    let mut kinds: Vec<Kind> = entries.iter().map(|entry| entry.on).collect();
    kinds.dedup();
    for kind in kinds.into_iter().filter(|kind| *kind != Kind::Console) {
        write!(out, " {},", kind.word()).expect("a string can be written to");
    }
    out.pop();
    out.push_str("\n\nCommands\n");
    for (name, takes, help) in COMMANDS {
        let signature = format!("{name} {takes}");
        writeln!(out, "  {signature:<SIGNATURE_COLUMNS$} {help}")
            .expect("a string can be written to");
    }
    out.push_str("\nThe last result is `it`. Nothing changes before `.apply()` of a plan.\n");
    out
}

fn line(entry: &Entry) -> String {
    let signature = entry.signature();
    format!("  {signature:<SIGNATURE_COLUMNS$} {}\n", entry.help)
}

fn full(entry: &Entry) -> String {
    let (signature, gives) = (entry.signature(), entry.gives.word());
    format!("{signature} -> {gives}\n  {}\n  {}\n", entry.help, entry.example)
}
