//! A quick look at everything that the simulator promises; `cargo xtask sim` looks longer.
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use yard_sim::sweep::{Sweep, run_logged, run_seed};
use yard_sim::{Plan, Plant, kept, marks, powercut};

/// Operations in each run here: enough for several segments, few enough to be quick.
const OPERATIONS: u64 = 400;
/// Runs of each that is kept.
const KEPT_SEEDS: u64 = 20;

#[test]
fn a_slice_of_seeds_is_clean() {
    let swept = Sweep { start: 100_000, seeds: 200, operations: OPERATIONS, jobs: 2 }.run();
    assert_eq!(swept.failure, None, "repeat it: cargo xtask sim --ops {OPERATIONS} --seed …");
    assert_eq!((swept.seeds, swept.twice), (200, 2));
    assert!(swept.crashes > 100, "the broker dies in most runs: {}", swept.crashes);
}

/// What was once found wrong must not come back: a few runs of each, with other seeds.
#[test]
fn kept_runs_are_clean() {
    for kept in kept::ALL {
        for seed in 0..KEPT_SEEDS {
            assert_eq!(kept.run(seed).failure, None, "{}, seed {seed}", kept.name);
        }
    }
}

#[test]
fn equal_seeds_are_equal_runs() {
    let hash = |seed| run_seed(seed, OPERATIONS, None, false).hash;
    let first: Vec<u64> = (0..10).map(hash).collect();
    assert_eq!(first, (0..10).map(hash).collect::<Vec<u64>>());
    assert!(first.windows(2).all(|pair| pair[0] != pair[1]), "other seeds are other runs");
}

#[test]
fn a_slice_of_power_cuts_loses_nothing() {
    let campaign =
        powercut::Campaign { scripts: 2, draws: 3, jobs: 2, plant: None, states_max: u64::MAX };
    let report = campaign.run();
    assert_eq!((report.found, &report.findings[..]), (0, &[][..]));
    let (in_order, reordered) = (report.in_order, report.reordered);
    assert!(in_order.promised > 500 && reordered.promised > 300, "{in_order:?} {reordered:?}");
    assert!(in_order.outstanding > 300, "cuts come in the middle of work: {in_order:?}");
}

#[test]
fn planted_bugs_are_caught() {
    for plant in Plant::ALL {
        let caught = yard_sim::find(*plant, 0, yard_sim::sweep::OPERATIONS);
        assert!(caught.is_some(), "{} is missed", plant.name());
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
        assert_eq!(bound.replace(',', ""), plant.cases_max().to_string(), "{row}");
    }
}

#[test]
fn every_explained_mark_is_one_and_what_reaches_it_is_there() {
    let all: Vec<&str> = marks::all().iter().map(|mark| mark.name).collect();
    let names: BTreeSet<&str> = all.iter().copied().collect();
    assert_eq!(names.len(), all.len(), "each mark has a name of its own");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for marks::Explained { name, why, by } in marks::explained() {
        assert!(names.contains(name), "there is no mark {name}");
        assert!(why.len() > 10, "{name}: it is said why");
        if ["powercut", "damage"].contains(&by) {
            continue;
        }
        let (file, function) = by.split_once(": ").unwrap_or((by, ""));
        let text = fs::read_to_string(root.join(file)).unwrap_or_else(|_| panic!("no {file}"));
        assert!(text.contains(&format!("fn {function}(")) || function.is_empty(), "no {by}");
    }
}

#[test]
fn a_run_that_is_logged_is_the_same_run() {
    let (seed, operations) = (11, 200);
    let path = std::env::temp_dir().join(format!("yard-sim-log-{}", std::process::id()));
    let logged = run_logged(Plan::draw(seed, operations), None, (operations, ""), &path);
    let text = fs::read_to_string(&path).expect("the log was written");
    fs::remove_file(&path).expect("it is there");
    assert_eq!(
        logged.expect("it can be written").hash,
        run_seed(seed, operations, None, false).hash
    );
    let lines = text.lines().map(serde_json::from_str::<serde_json::Value>);
    let lines: Vec<_> = lines.collect::<Result<_, _>>().expect("every line is JSON");
    let [head, steps @ .., end] = &lines[..] else { panic!("a log has a head and an end") };
    assert_eq!((&head["format"], &head["seed"]), (&"switchyard-sim-log".into(), &seed.into()));
    assert!(end["failure"].is_null(), "{end}");
    assert_eq!(steps.first().map(|step| &step["state"]["phase"]), Some(&"SetUp".into()));
    let numbers: Vec<_> = steps.iter().map(|step| step["step"].as_u64()).collect();
    assert!(numbers.is_sorted() && numbers.len() > 100, "steps are numbered upwards");
    let speaks_of = |path: &str| {
        steps.iter().any(|step| step["state"].as_object().is_some_and(|it| it.contains_key(path)))
    };
    for path in ["shard/0/log/synced", "shard/0/waiting", "client/0/session", "process/life"] {
        assert!(speaks_of(path), "{path} is never told");
    }
}
