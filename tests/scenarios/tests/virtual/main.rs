//! The scenarios on a bare shard, and in the simulator with faults that nobody may see.
use std::collections::BTreeSet;
use std::fs;

use yard_scenarios::bare::Bare;
use yard_scenarios::files::{all, folder, names, of_host};
use yard_scenarios::simulated::Simulated;
use yard_scenarios::wired::Wired;
use yard_scenarios::{Host, Kind, Scenario, run};

/// Runs of each scenario in the simulator, each with another seed.
const SEEDS: u64 = 8;

fn scenarios(kind: Kind) -> Vec<Scenario> {
    let read = all().unwrap_or_else(|wrong| {
        let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        panic!("files cannot be read:\n{}", wrong.join("\n"))
    });
    let (kept, left_out) = of_host(kind, read);
    println!("{}: {} scenarios, {left_out} left out", kind.text(), kept.len());
    kept
}

/// Carries all of them out, and says everything that failed.
fn check(kind: Kind, runs: u64, host: impl Fn(&Scenario, u64) -> Box<dyn Host>) {
    let (mut steps, mut failures) = (0, Vec::new());
    for scenario in scenarios(kind) {
        for number in 0..runs {
            match run(&scenario, &mut *host(&scenario, number)) {
                Ok(counts) => steps += counts.steps,
                Err(failure) => failures.push(format!("seed {number}: {failure}")),
            }
        }
    }
    println!("{}: {steps} steps", kind.text());
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn on_a_bare_shard() {
    check(Kind::Bare, 1, |scenario, _| Box::new(Wired::new(Bare::new(scenario.segment_bytes))));
}

#[test]
fn in_the_simulator_with_faults_that_nobody_may_see() {
    check(Kind::Simulated, SEEDS, |scenario, seed| {
        Box::new(Wired::new(Simulated::new(seed, scenario.segment_bytes)))
    });
}

/// The page that links the areas.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/semantics.md");

#[test]
fn every_file_is_in_an_area_of_the_page() {
    let page = fs::read_to_string(PAGE).expect("the page is there");
    let linked = page.split("](../tests/scenarios/files/").skip(1);
    let linked: BTreeSet<&str> = linked.filter_map(|rest| rest.split(')').next()).collect();
    let names = names();
    let area = |name: &String| match name.split('/').collect::<Vec<_>>()[..] {
        [area, file] if file.ends_with(".txt") => area.to_owned(),
        _ => panic!("{name} is not AREA/NAME.txt"),
    };
    let areas: BTreeSet<String> = names.iter().map(area).collect();
    assert_eq!(linked, areas.iter().map(String::as_str).collect(), "of the page and of the files");
    assert!(linked.iter().all(|area| folder().join(area).is_dir()));
}

#[test]
fn no_rule_is_said_twice() {
    let scenarios = all().expect("files can be read");
    let mut titles = BTreeSet::new();
    for scenario in &scenarios {
        assert!(titles.insert(&scenario.title), "{}: {}", scenario.file, scenario.title);
        assert!(scenario.title.len() <= 100 && scenario.reason.len() <= 240, "{}", scenario.file);
    }
    println!("{} scenarios", scenarios.len());
}
