//! Bounds: a file, a function and a line that one can see at a glance.

use super::Finding;
use super::markdown::lines;
use super::tree::Tree;

/// Lines of a `.rs` file.
const FILE_LINES_MAX: usize = 800;
/// Lines of a function, from signature to closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Characters of a line.
const COLUMNS_MAX: usize = 100;
/// Characters of a line in a code block of Markdown, where output cannot be wrapped.
const COLUMNS_MAX_IN_CODE_BLOCK: usize = 120;
/// Bytes of a file; a repository keeps what it was ever given.
const FILE_BYTES_MAX: usize = 256 * 1024;

/// The other rules see only files that could be read, so that is a rule of its own.
pub(crate) fn parses(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in &tree.files {
        if let Some(Err(error)) = &file.source {
            findings.push(Finding::on(&file.path, format!("is not Rust: {error}")));
        }
    }
}

pub(crate) fn file_lines(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in tree.files.iter().filter(|file| file.path.ends_with(".rs")) {
        let count = file.text.iter().flat_map(|text| text.lines()).count();
        if count > FILE_LINES_MAX {
            let says = format!("{count} lines, at most {FILE_LINES_MAX}: split it by subject");
            findings.push(Finding::on(&file.path, says));
        }
    }
}

pub(crate) fn function_lines(tree: &Tree, findings: &mut Vec<Finding>) {
    for (file, source) in tree.sources().filter(|(file, _)| !file.test) {
        for function in source.functions.iter().filter(|function| !function.test) {
            let (name, count) = (&function.name, function.lines);
            if count > FUNCTION_LINES_MAX {
                let says = format!("`{name}` has {count} lines, at most {FUNCTION_LINES_MAX}");
                findings.push(Finding::at(file, function.line, says));
            }
        }
    }
}

pub(crate) fn columns(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in &tree.files {
        let Some(text) = &file.text else { continue };
        let markdown = file.is_markdown();
        if !markdown && !file.path.ends_with(".rs") {
            continue;
        }
        for line in lines(text) {
            if markdown && line.text.trim_start().starts_with('|') {
                continue; // a row of a table cannot be wrapped
            }
            let in_code = markdown && line.in_code;
            let max = if in_code { COLUMNS_MAX_IN_CODE_BLOCK } else { COLUMNS_MAX };
            let count = line.text.chars().count();
            if count > max {
                let says = format!("{count} columns, at most {max}");
                findings.push(Finding::at(file, line.number, says));
            }
        }
    }
}

pub(crate) fn file_bytes(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in &tree.files {
        let free = file.path == "Cargo.lock" || file.is_golden();
        if file.bytes > FILE_BYTES_MAX && !free {
            let says = format!("{} bytes, at most {FILE_BYTES_MAX}", file.bytes);
            findings.push(Finding::on(&file.path, says));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{finds_none, finds_one};
    use super::*;

    #[test]
    fn parses_wants_rust() {
        finds_none(parses, &[("a.rs", "fn a() {}"), ("a.md", "fn {")]);
        finds_one(parses, &[("a.rs", "fn {")], "a.rs: is not Rust");
    }

    #[test]
    fn file_lines_are_bounded_in_tests_too() {
        finds_none(file_lines, &[("a.rs", &"\n".repeat(800)), ("a.md", &"\n".repeat(801))]);
        finds_one(file_lines, &[("tests/a.rs", &"\n".repeat(801))], "801 lines");
    }

    #[test]
    fn function_lines_are_bounded_outside_tests() {
        let function = |lines: usize| format!("\nfn a() {{{}}}", "\n".repeat(lines - 1));
        let tests = format!("#[cfg(test)] mod tests {{ {} }}", function(71));
        finds_none(function_lines, &[("a.rs", &function(70)), ("b.rs", &tests)]);
        finds_none(function_lines, &[("tests/a.rs", &function(71))]);
        finds_one(function_lines, &[("a.rs", &function(71))], "a.rs:2: `a` has 71 lines");
    }

    #[test]
    fn columns_count_characters_and_let_tables_and_code_be_wider() {
        let wide = |count: usize| "ö".repeat(count);
        let code = format!("```\n{}\n```", wide(120));
        let table = format!("| {} |", wide(150));
        finds_none(columns, &[("a.md", &wide(100)), ("b.md", &code), ("c.md", &table)]);
        finds_none(columns, &[("a.toml", &wide(101)), ("tests/golden/a.md", &wide(101))]);
        finds_one(columns, &[("a.md", &wide(101))], "a.md:1: 101 columns");
        finds_one(columns, &[("a.rs", &format!("//{}", wide(99)))], "a.rs:1: 101 columns");
        finds_one(columns, &[("a.md", &format!("```\n{}", wide(121)))], "at most 120");
    }

    #[test]
    fn file_bytes_are_bounded() {
        let big = "a".repeat(FILE_BYTES_MAX + 1);
        finds_none(file_bytes, &[("Cargo.lock", &big), ("tests/golden/log", &big)]);
        finds_none(file_bytes, &[("a.bin", &big[1..])]);
        finds_one(file_bytes, &[("a.bin", &big)], "262145 bytes");
    }
}
