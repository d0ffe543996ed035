//! A quick look at what this tier promises; `cargo xtask stack` looks longer.
use std::fs;

use yard_stack::{Nurseries, OPERATIONS, Plant, Sweep};

/// The program that runs each seed in a process of its own.
const PROGRAM: &str = env!("CARGO_BIN_EXE_yard-stack");

#[test]
fn equal_seeds_are_equal_runs() {
    let hashes = |nurseries: &Nurseries| -> Vec<u64> {
        (0..10).map(|seed| nurseries.run(seed, OPERATIONS, None).hash).collect()
    };
    let first = hashes(&Nurseries::new(PROGRAM));
    assert_eq!(first, hashes(&Nurseries::new(PROGRAM)));
    assert!(first.windows(2).all(|pair| pair[0] != pair[1]), "other seeds are other runs");
}

#[test]
fn a_slice_of_seeds_is_clean() {
    let (operations, keeps_going) = (OPERATIONS, false);
    let sweep = Sweep { start: 10_000, seeds: 40, operations, jobs: 2, keeps_going };
    let swept = sweep.run(&Nurseries::new(PROGRAM));
    assert_eq!(swept.failures, [], "repeat it: cargo xtask stack --seed …");
    assert!(swept.counts.crashes > 5, "the broker dies in some runs: {}", swept.counts.crashes);
    assert!(swept.counts.stored > 20 * swept.seeds, "messages are stored: {}", swept.counts.stored);
}

#[test]
fn planted_bugs_are_caught() {
    let nurseries = Nurseries::new(PROGRAM);
    for plant in Plant::ALL {
        assert!(nurseries.catch(*plant, OPERATIONS).is_some(), "{} is missed", plant.name());
    }
}

#[test]
fn every_planted_bug_is_described_with_its_bound() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/PLANTED.md");
    let page = fs::read_to_string(page).expect("the page is beside the code");
    let rows: Vec<&str> = page.lines().filter(|line| line.contains("| `")).collect();
    assert_eq!(rows.len(), Plant::ALL.len());
    for (row, plant) in rows.iter().zip(Plant::ALL) {
        let bound = row.trim_end_matches([' ', '|']).rsplit("| ").next().unwrap_or_default();
        assert!(row.contains(&format!("`{}`", plant.name())), "{row}");
        assert_eq!(bound, plant.seeds_max().to_string(), "{row}");
    }
}
