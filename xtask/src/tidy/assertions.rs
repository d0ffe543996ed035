//! Engines assert what they believe: a share of assertions to functions, crate by crate.
//!
//! The measure is TigerBeetle's (`docs/TIGER_STYLE.md`, "assertion density").

use super::Finding;
use super::tree::Tree;

/// The crates whose mistakes lose messages.
pub(crate) const ENGINES: &[&str] = &["host/store", "host/broker", "host/shard"];
/// Assertions for each function that could have one.
const PER_FUNCTION_MIN: f64 = 0.5;

/// What was counted in one engine, tests aside.
pub(crate) struct Density {
    pub(crate) assertions: usize,
    /// Functions, getters aside.
    pub(crate) functions: usize,
}

impl Density {
    pub(crate) fn of(tree: &Tree, engine: &str) -> Density {
        let mut density = Density { assertions: 0, functions: 0 };
        for (_, source) in tree.sources().filter(|(file, _)| !file.test && file.is_in(engine)) {
            let counts = source.functions.iter().filter(|it| !it.test && !it.getter);
            density.functions += counts.count();
            density.assertions += source
                .tokens
                .windows(2)
                .filter(|pair| {
                    let name = pair[0].text.trim_start_matches("debug_");
                    name.starts_with("assert") && pair[1].text == "!" && !pair[0].test
                })
                .count();
        }
        density
    }

    /// None when there is nothing to assert in.
    pub(crate) fn per_function(&self) -> Option<f64> {
        (self.functions > 0).then(|| self.assertions as f64 / self.functions as f64)
    }
}

pub(crate) fn assertions(tree: &Tree, findings: &mut Vec<Finding>) {
    for engine in ENGINES {
        let density = Density::of(tree, engine);
        let Some(share) = density.per_function().filter(|it| *it < PER_FUNCTION_MIN) else {
            continue;
        };
        let Density { assertions, functions } = density;
        let says = format!(
            "{assertions} assertions in {functions} functions, {share:.2} each: at least \
             {PER_FUNCTION_MIN}"
        );
        findings.push(Finding::on(engine, says));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{finds_none, finds_one};
    use super::*;

    const PATH: &str = "host/broker/src/lib.rs";

    #[test]
    fn one_assertion_serves_two_functions() {
        let good = "const _: () = assert!(A < B); fn a(b: u8) { debug_assert_eq!(b, 1); } \
                    fn c(b: u8) {} fn d(b: u8) {} fn e(&self) -> u8 { self.0 }";
        finds_none(assertions, &[(PATH, good), ("host/cli/src/main.rs", "fn main(a: u8) {}")]);
    }

    #[test]
    fn assertions_of_tests_do_not_count() {
        let bad = "fn a(b: u8) {} #[cfg(test)] mod tests { fn c() { assert!(true) } }";
        finds_one(assertions, &[(PATH, bad)], "0 assertions in 1 functions");
    }
}
