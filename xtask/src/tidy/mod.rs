//! The rules of the house that neither compiler nor clippy holds, each a function from the tree
//! to its findings, each with a good and a bad example as its test.
//!
//! ```text
//! tree (files, packages) ──► RULES ──► findings, sorted by place
//!   └ source: tokens and functions of one Rust file
//! ```
//!
//! There is no list of exceptions: what a rule allows is part of the rule.

mod assertions;
mod markdown;
mod panics;
mod registry;
mod report;
mod rings;
mod size;
mod source;
mod tree;
mod unsafety;
mod words;

use std::fmt;

use crate::run::{Failed, Workspace};
use tree::{File, Tree};

/// One rule: what it is called, what it says, and who checks it.
struct Rule {
    name: &'static str,
    says: &'static str,
    check: fn(&Tree, &mut Vec<Finding>),
}

const RULES: &[Rule] = &[
    Rule { name: "parses", says: "every .rs file is Rust", check: size::parses },
    Rule { name: "file-lines", says: "a .rs file has at most 800 lines", check: size::file_lines },
    Rule {
        name: "function-lines",
        says: "a function has at most 70 lines, tests aside",
        check: size::function_lines,
    },
    Rule {
        name: "columns",
        says: "a line of .rs and .md has at most 100 columns (Markdown code 120, tables free)",
        check: size::columns,
    },
    Rule {
        name: "file-bytes",
        says: "a file has at most 256 KiB, Cargo.lock and tests/golden/ aside",
        check: size::file_bytes,
    },
    Rule { name: "unwrap", says: "no unwrap() outside tests", check: panics::unwrap },
    Rule {
        name: "expect",
        says: "expect() states the invariant in two words or more, tests aside",
        check: panics::expect,
    },
    Rule {
        name: "unsafe",
        says: "unsafe only in the files listed in unsafety.rs, each block with its SAFETY: comment",
        check: unsafety::unsafety,
    },
    Rule {
        name: "assertions",
        says: "an engine has at least 0.5 assertions a function, getters aside",
        check: assertions::assertions,
    },
    Rule { name: "await", says: "no .await in words and engines", check: words::awaits },
    Rule {
        name: "banned",
        says: "no word of the list in words.rs, where it is banned",
        check: words::banned,
    },
    Rule { name: "never", says: "no path of somebody's machine, anywhere", check: words::never },
    Rule {
        name: "title",
        says: "a Markdown file has exactly one `# Title`",
        check: markdown::title,
    },
    Rule { name: "links", says: "relative links lead to a file", check: markdown::links },
    Rule {
        name: "readme",
        says: "README.md has at most 120 lines, its first command by line 20",
        check: markdown::readme,
    },
    Rule {
        name: "documented",
        says: "crates that others read deny(missing_docs)",
        check: registry::documented,
    },
    Rule {
        name: "error-pages",
        says: "each error code has its page in protocol/errors, and each page its code",
        check: registry::error_pages,
    },
    Rule {
        name: "rings",
        says: "a crate depends on crates of lower rings only",
        check: rings::rings,
    },
    Rule {
        name: "outside-crates",
        says: "no crate knows what it must not know, such as an engine tokio",
        check: rings::forbidden,
    },
];

/// One place where a rule is not kept.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    says: String,
}

impl Finding {
    /// A finding about one line, counted from 1.
    fn at(file: &File, line: usize, says: impl Into<String>) -> Finding {
        assert!(line > 0, "lines are counted from 1");
        Finding { path: file.path.clone(), line, says: says.into() }
    }

    /// A finding about a whole file or folder.
    fn on(path: &str, says: impl Into<String>) -> Finding {
        Finding { path: path.to_owned(), line: 0, says: says.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(out, "{}: {}", self.path, self.says),
            line => write!(out, "{}:{line}: {}", self.path, self.says),
        }
    }
}

/// The command: checks, or with `--report` says what is checked and the tree's figures.
pub(crate) fn command(workspace: &Workspace, arguments: &[String]) -> Result<(), Failed> {
    match arguments {
        [] => check(workspace),
        [flag] if flag == "--report" => {
            print!("{}", report::report(&Tree::load(workspace)?));
            Ok(())
        }
        _ => Err(Failed("tidy takes nothing, or --report.".to_owned())),
    }
}

/// Checks every rule on the whole tree and prints all findings.
pub(crate) fn check(workspace: &Workspace) -> Result<(), Failed> {
    let tree = Tree::load(workspace)?;
    let mut count = 0_usize;
    for rule in RULES {
        let mut findings = Vec::new();
        (rule.check)(&tree, &mut findings);
        findings.sort();
        for finding in &findings {
            println!("{finding} [{}]", rule.name);
        }
        count += findings.len();
    }
    match count {
        0 => Ok(()),
        1 => Err(Failed("1 place breaks a rule of tidy; it is named above.".to_owned())),
        many => Err(Failed(format!("{many} places break a rule of tidy; they are named above."))),
    }
}

/// What one rule finds in a tree of these files, as `path:line: sentence`.
#[cfg(test)]
fn found(rule: fn(&Tree, &mut Vec<Finding>), files: &[(&str, &str)]) -> Vec<String> {
    let mut findings = Vec::new();
    rule(&Tree::of(files), &mut findings);
    findings.sort();
    findings.iter().map(Finding::to_string).collect()
}

/// Asserts that a rule finds exactly one thing, and that it says this.
#[cfg(test)]
fn finds_one(rule: fn(&Tree, &mut Vec<Finding>), files: &[(&str, &str)], says: &str) {
    let found = found(rule, files);
    assert_eq!(found.len(), 1, "expected one finding, {says}: {found:?}");
    assert!(found[0].contains(says), "expected {says}: {found:?}");
}

/// Asserts that a rule has nothing to say.
#[cfg(test)]
fn finds_none(rule: fn(&Tree, &mut Vec<Finding>), files: &[(&str, &str)]) {
    assert_eq!(found(rule, files), Vec::<String>::new());
}

#[cfg(test)]
mod tests {
    use super::RULES;

    #[test]
    fn each_rule_has_one_name() {
        for (index, rule) in RULES.iter().enumerate() {
            let first = RULES.iter().position(|other| other.name == rule.name);
            assert_eq!(first, Some(index), "{} is listed twice", rule.name);
        }
    }
}
