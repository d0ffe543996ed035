//! The marks of everything that runs in the simulator, and the page that explains those that it
//! cannot reach.
use std::collections::BTreeMap;
use std::fmt;

pub use yard_wire::mark::Reached;

use crate::{damage, powercut};

/// Marks that no seed can reach, why, and what reaches them.
const PAGE: &str = include_str!("../MARKS.md");

/// Every mark of wire, store, broker, shard and the lanes of the client, and how often runs in this
/// process came through it: none twice, in the order of the crates.
#[must_use]
pub fn all() -> Vec<Reached> {
    let engines = [yard_wire::mark::marks(), yard_store::marks(), yard_broker::marks()];
    let others = [yard_shard::marks(), yard_client::lane::marks()];
    engines.into_iter().chain(others).flatten().collect()
}

/// A mark that no seed reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Its name.
    pub name: &'static str,
    /// Why no seed reaches it.
    pub why: &'static str,
    /// What does: `damage` or `powercut`, or a test as `file: function`.
    pub by: &'static str,
}

/// The rows of MARKS.md.
#[must_use]
pub fn explained() -> Vec<Explained> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.trim_matches(['|', ' ']).split(" | ").collect::<Vec<_>>());
    let read = |cells: Vec<&'static str>| {
        let [name, why, by] = cells[..] else { panic!("a row has three cells: {cells:?}") };
        Explained { name: name.trim_matches('`'), why, by: by.trim_matches('`') }
    };
    cells.map(read).collect()
}

/// What a run of seeds, and after it the campaigns, came through.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// By seeds, by power cuts and by damage, in this order: how often each mark was reached.
    times: BTreeMap<&'static str, [u64; 3]>,
}

/// Campaigns that reach what no seed does, small enough to follow a run of seeds.
const POWERCUT: powercut::Campaign =
    powercut::Campaign { scripts: 3, draws: 3, jobs: 1, plant: None, states_max: u64::MAX };
const DAMAGE: damage::Campaign =
    damage::Campaign { logs: 4, flips: 3_000, cut_every: 64, erases: true, jobs: 1, plant: None };

impl Coverage {
    /// What seeds have come through by now; then both campaigns are run on so many threads.
    #[must_use]
    pub fn after_seeds(jobs: usize) -> Self {
        let mut coverage = Self::default();
        let mut before: Vec<u64> = vec![0; all().len()];
        for campaign in 0..3 {
            match campaign {
                0 => {}
                1 => drop(powercut::Campaign { jobs, ..POWERCUT }.run()),
                _ => drop(damage::Campaign { jobs, ..DAMAGE }.run()),
            }
            for (mark, before) in all().into_iter().zip(&mut before) {
                let times = coverage.times.entry(mark.name).or_default();
                times[campaign] = mark.times - *before;
                *before = mark.times;
            }
        }
        assert_eq!(coverage.times.len(), before.len(), "each mark has a name of its own");
        coverage
    }

    /// Marks that no seed came through and that nothing explains, or whose explanation names a
    /// campaign that did not come through them either.
    #[must_use]
    pub fn findings(&self) -> Vec<&'static str> {
        let explained: BTreeMap<&str, Explained> =
            explained().into_iter().map(|it| (it.name, it)).collect();
        let is_open = |(name, times): &(&&'static str, &[u64; 3])| {
            let by = explained.get(**name).map(|it| it.by);
            times[0] == 0
                && match by {
                    None => true,
                    Some("powercut") => times[1] == 0,
                    Some("damage") => times[2] == 0,
                    Some(_) => false,
                }
        };
        self.times.iter().filter(is_open).map(|(name, _)| *name).collect()
    }

    /// Marks that a seed came through although it is explained why none can.
    #[must_use]
    pub fn needless(&self) -> Vec<&'static str> {
        let is_reached = |name: &str| self.times.get(name).is_some_and(|times| times[0] > 0);
        explained().into_iter().map(|it| it.name).filter(|name| is_reached(name)).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>12} {:>10} {:>10}  mark", "seeds", "powercut", "damage")?;
        for (name, [seeds, powercut, damage]) in &self.times {
            writeln!(f, "{seeds:>12} {powercut:>10} {damage:>10}  {name}")?;
        }
        let reached = self.times.values().filter(|times| times[0] > 0).count();
        writeln!(f, "{reached} of {} marks reached by seeds", self.times.len())
    }
}
