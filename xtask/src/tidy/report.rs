//! The figures behind the rules, so that anyone can see how far from the bounds the tree is.

use std::fmt::Write;

use super::RULES;
use super::assertions::{Density, ENGINES};
use super::tree::Tree;

/// The rules, then lengths of files and functions, then assertions of engines.
pub(crate) fn report(tree: &Tree) -> String {
    let mut out = String::new();
    for rule in RULES {
        line(&mut out, format_args!("{:<16}{}", rule.name, rule.says));
    }
    let production = || tree.sources().filter(|(file, _)| !file.test);
    let files = production().map(|(file, _)| {
        let text = file.text.as_deref();
        text.map_or(0, |text| text.lines().count())
    });
    let functions = production().flat_map(|(_, source)| source.functions.iter());
    let functions = functions.filter(|function| !function.test).map(|function| function.lines);
    line(&mut out, format_args!(""));
    line(&mut out, format_args!("{:<16}count  median  p90  max", "production"));
    for (what, lengths) in
        [("file, lines", files.collect()), ("function, lines", functions.collect())]
    {
        let Spread { count, median, p90, max } = Spread::of(lengths);
        line(&mut out, format_args!("{what:<16}{count:>5}  {median:>6}  {p90:>3}  {max:>3}"));
    }
    line(&mut out, format_args!(""));
    line(&mut out, format_args!("{:<16}assertions  functions  per function", "engine"));
    for engine in ENGINES {
        let density = Density::of(tree, engine);
        let share = density.per_function().map_or("-".to_owned(), |share| format!("{share:.2}"));
        let Density { assertions, functions } = density;
        line(&mut out, format_args!("{engine:<16}{assertions:>10}  {functions:>9}  {share:>12}"));
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes all that is written to it");
}

/// How a set of lengths is spread.
#[derive(Debug, PartialEq)]
struct Spread {
    count: usize,
    median: usize,
    p90: usize,
    max: usize,
}

impl Spread {
    /// By nearest rank: each figure is one of the lengths.
    fn of(mut lengths: Vec<usize>) -> Spread {
        lengths.sort_unstable();
        let count = lengths.len();
        let rank = |percent: usize| {
            let index = (count * percent).div_ceil(100).saturating_sub(1);
            lengths.get(index).copied().unwrap_or(0)
        };
        Spread { count, median: rank(50), p90: rank(90), max: rank(100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_by_nearest_rank() {
        let spread = Spread::of((1..=10).rev().collect());
        assert_eq!(spread, Spread { count: 10, median: 5, p90: 9, max: 10 });
        assert_eq!(Spread::of(vec![7]), Spread { count: 1, median: 7, p90: 7, max: 7 });
        assert_eq!(Spread::of(Vec::new()), Spread { count: 0, median: 0, p90: 0, max: 0 });
    }

    #[test]
    fn the_report_names_each_rule_and_engine() {
        let text = "fn a(b: u8) {\n    assert!(b > 0);\n}\n";
        let report = report(&Tree::of(&[("host/store/src/lib.rs", text)]));
        for name in RULES.iter().map(|rule| rule.name).chain(ENGINES.iter().copied()) {
            assert!(report.contains(name), "{name} is missing in\n{report}");
        }
        assert!(report.contains("host/store               1          1          1.00"), "{report}");
        assert!(report.contains("function, lines     1       3    3    3"), "{report}");
    }
}
