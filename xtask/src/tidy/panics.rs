//! How production code may give up: by stating what cannot happen, never by `unwrap`.

use super::Finding;
use super::source::Token;
use super::tree::Tree;

/// A message of one word names a thing, not an invariant.
const WORDS_MIN: usize = 2;

pub(crate) fn unwrap(tree: &Tree, findings: &mut Vec<Finding>) {
    for (file, source) in tree.sources().filter(|(file, _)| !file.test) {
        for token in source.occurrences(&[".", "unwrap", "(", ")"]).filter(|it| !it.test) {
            let says = "unwrap(): return an error, or expect(\"the invariant in words\")";
            findings.push(Finding::at(file, token.line, says));
        }
    }
}

pub(crate) fn expect(tree: &Tree, findings: &mut Vec<Finding>) {
    for (file, source) in tree.sources().filter(|(file, _)| !file.test) {
        for window in source.tokens.windows(4) {
            let [dot, expect, open, message] = window else {
                continue;
            };
            let call = dot.text == "." && expect.text == "expect" && open.text == "(";
            if call && !expect.test && !states_invariant(message) {
                let says = "expect() takes a literal of two words or more: why this cannot fail";
                findings.push(Finding::at(file, expect.line, says));
            }
        }
    }
}

fn states_invariant(message: &Token) -> bool {
    let literal = message.text.starts_with('"') || message.text.starts_with("r\"");
    literal && message.text.split_whitespace().count() >= WORDS_MIN
}

#[cfg(test)]
mod tests {
    use super::super::{finds_none, finds_one};
    use super::*;

    #[test]
    fn unwrap_is_for_tests() {
        let good = "fn a() { b.unwrap_or(0); c(\".unwrap()\") } \
                    #[cfg(test)] mod t { fn d() { e.unwrap() } }";
        finds_none(unwrap, &[("a.rs", good), ("tests/a.rs", "fn a() { b.unwrap() }")]);
        finds_one(unwrap, &[("a.rs", "fn a() {\n assert!(b\n.unwrap()) }")], "a.rs:3: unwrap()");
    }

    #[test]
    fn expect_states_an_invariant() {
        let good = "#[expect(dead_code)] fn a() { b.expect(\"the map was filled above\") }";
        finds_none(expect, &[("a.rs", good), ("tests/a.rs", "fn a() { b.expect(\"b\") }")]);
        finds_one(expect, &[("a.rs", "fn a() { b.expect(\"b\") }")], "two words");
        finds_one(expect, &[("a.rs", "fn a() { b.expect(message) }")], "literal");
    }
}
