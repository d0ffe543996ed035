//! Registries and their companions: an error code has its page, a public item its sentence.

use std::collections::BTreeMap;

use super::Finding;
use super::tree::Tree;

/// Crates whose readers do not read their source.
const DOCUMENTED: &[&str] = &["protocol/wire", "protocol/abi", "protocol/client", "plugin-sdk"];
/// Where error codes are declared, one `Name = 101, …` a line.
const CODES: &str = "protocol/wire/src/code.rs";
/// Where each has its page, `E0101.md`.
const PAGES: &str = "protocol/errors";

pub(crate) fn documented(tree: &Tree, findings: &mut Vec<Finding>) {
    for folder in DOCUMENTED {
        let path = format!("{folder}/src/lib.rs");
        let library = tree.sources().find(|(file, _)| file.path == path);
        if library.is_some_and(|(_, source)| !denies_missing_docs(&source.tokens)) {
            let says = "must have `#![deny(missing_docs)]`: others read only its documentation";
            findings.push(Finding::on(&path, says));
        }
    }
}

fn denies_missing_docs(tokens: &[super::source::Token]) -> bool {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    (0..tokens.len()).any(|start| {
        let inner = text(start) == "#" && text(start + 1) == "!" && text(start + 2) == "[";
        let strict = matches!(text(start + 3), "deny" | "forbid");
        let rest = tokens.iter().skip(start).take_while(|token| token.text != "]");
        inner && strict && rest.into_iter().any(|token| token.text == "missing_docs")
    })
}

pub(crate) fn error_pages(tree: &Tree, findings: &mut Vec<Finding>) {
    let Some(registry) = tree.file(CODES) else {
        findings.push(Finding::on(CODES, "is missing: it is the registry of error codes"));
        return;
    };
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    let text = registry.text.as_deref().unwrap_or_default();
    for (index, line) in text.lines().enumerate() {
        let Some(number) = code_of(line) else {
            continue;
        };
        let says = format!("code {number} is given twice");
        if codes.insert(number, index + 1).is_some() {
            findings.push(Finding::at(registry, index + 1, says));
        }
    }
    if codes.is_empty() {
        let says = "has no line `Name = 101, …` that tidy could read";
        findings.push(Finding::on(CODES, says));
    }
    for (number, line) in &codes {
        let page = format!("{PAGES}/E{number}.md");
        if tree.file(&page).is_none() {
            let says = format!("code {number} has no page {page}");
            findings.push(Finding::at(registry, *line, says));
        }
    }
    for file in tree.files.iter().filter(|file| file.is_in(PAGES)) {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        let number = name.strip_prefix('E').and_then(|rest| rest.strip_suffix(".md"));
        if number.is_some_and(|number| !codes.contains_key(number)) {
            let says = format!("is the page of a code that {CODES} does not have");
            findings.push(Finding::on(&file.path, says));
        }
    }
}

/// The number in a registry line, `Name = 101, …`, with four digits as a page's name has them.
/// Numbers begin at 100, so that a smaller one is something else.
fn code_of(line: &str) -> Option<String> {
    let (name, rest) = line.trim().split_once('=')?;
    let (number, _) = rest.split_once(',')?;
    let (name, number) = (name.trim(), number.trim());
    let is_name = name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric());
    let is_number =
        matches!(number.len(), 3 | 4) && number.bytes().all(|digit| digit.is_ascii_digit());
    (is_name && is_number).then(|| format!("{number:0>4}"))
}

#[cfg(test)]
mod tests {
    use super::super::{finds_none, finds_one};
    use super::*;

    #[test]
    fn crates_for_others_deny_missing_documentation() {
        let path = "protocol/wire/src/lib.rs";
        finds_none(documented, &[(path, "//! Words.\n#![deny(missing_docs)]\nmod a;")]);
        finds_none(documented, &[(path, "#![forbid(unsafe_code, missing_docs)]")]);
        finds_none(documented, &[("host/cli/src/lib.rs", "mod a;")]);
        finds_one(documented, &[(path, "//! #![deny(missing_docs)]\n#![deny(x)]")], "must have");
        finds_one(documented, &[(path, "#![allow(missing_docs)]")], "must have");
    }

    const REGISTRY: &str = "codes! {
        /// Refused.
        // Old = 100, Never;
        NoSuchTopic = 101, Never;
        Small = 1, Never;
        Busy = 0207, After;
    }";

    #[test]
    fn each_code_has_its_page() {
        let pages = [("protocol/errors/E0101.md", ""), ("protocol/errors/E0207.md", "")];
        finds_none(error_pages, &[(CODES, REGISTRY), pages[0], pages[1]]);
        finds_none(
            error_pages,
            &[(CODES, REGISTRY), pages[0], pages[1], ("protocol/errors/README.md", "")],
        );
        finds_one(error_pages, &[(CODES, REGISTRY), pages[0]], "code.rs:6: code 0207 has no page");
    }

    #[test]
    fn each_page_has_its_code() {
        let pages = [("protocol/errors/E0101.md", ""), ("protocol/errors/E0001.md", "")];
        let registry = "NoSuchTopic = 0101, Never;\n";
        finds_one(error_pages, &[(CODES, registry), pages[0], pages[1]], "E0001.md: is the page");
        finds_one(error_pages, &[], "registry of error codes");
        finds_one(error_pages, &[(CODES, "enum Code {}")], "no line");
        let twice = "A = 101, Never;\nB = 0101, Never;\n";
        finds_one(error_pages, &[(CODES, twice), pages[0]], "code.rs:2: code 0101 is given twice");
    }
}
