//! Arrows between crates: downwards only, and never to what a crate must not know.
//!
//! ```text
//! ring 6  proof      tests/*   xtask   examples/*
//! ring 5  front      host/cli
//! ring 4  process    host/server
//! ring 3  door       host/gateway
//! ring 2  assembly   host/shard  host/wasm  host/transport  host/console  host/dashboard
//!                    plugins/*
//! ring 1  engines    host/store  host/broker  host/replica  protocol/client  protocol/sql
//!                    plugin-sdk
//! ring 0  words      protocol/wire  protocol/abi  protocol/quic  host/tables
//! ```

use super::Finding;
use super::tree::{Arrow, Kind, Package, Tree};

/// Ring of each folder; `/*` stands for the folders directly below.
const RINGS: &[(&str, usize)] = &[
    ("protocol/wire", 0),
    ("protocol/abi", 0),
    ("protocol/quic", 0),
    ("host/tables", 0),
    ("protocol/client", 1),
    ("host/store", 1),
    ("host/broker", 1),
    ("host/replica", 1),
    ("protocol/sql", 1),
    ("plugin-sdk", 1),
    ("host/shard", 2),
    ("host/transport", 2),
    ("host/wasm", 2),
    ("host/console", 2),
    ("host/dashboard", 2),
    ("plugins/*", 2),
    ("host/gateway", 3),
    ("host/server", 4),
    ("host/cli", 5),
    ("xtask", PROOF),
    ("tests/*", PROOF),
    ("examples/*", PROOF),
];

/// The outermost ring: it ships nothing, so it may look at everything, itself included.
const PROOF: usize = 6;

/// What the crates of a folder must not know: crates of others by name, with all that continue
/// it after a dash (`tokio`, `tokio-util`), and crates of ours by folder.
struct Ignorance {
    folder: &'static str,
    crates: &'static [&'static str],
    folders: &'static [&'static str],
}

/// What would make an engine wait, talk or depend on a format that is not ours.
const SHELL: &[&str] = &["tokio", "quinn", "serde"];

const IGNORANCE: &[Ignorance] = &[
    Ignorance { folder: "protocol/wire", crates: SHELL, folders: &[] },
    Ignorance { folder: "host/tables", crates: SHELL, folders: &[] },
    Ignorance { folder: "host/store", crates: SHELL, folders: &[] },
    Ignorance { folder: "host/broker", crates: SHELL, folders: &[] },
    Ignorance { folder: "host/shard", crates: SHELL, folders: &[] },
    Ignorance { folder: "host/wasm", crates: &["tokio", "quinn"], folders: &[] },
    Ignorance {
        folder: "host/transport",
        crates: &[],
        folders: &["host/store", "host/broker", "host/shard"],
    },
    Ignorance { folder: "protocol/client", crates: &[], folders: &["host/*"] },
    Ignorance { folder: "protocol/sql", crates: SHELL, folders: &["host/*"] },
    Ignorance { folder: "plugin-sdk", crates: &[], folders: &["host/*"] },
    Ignorance { folder: "plugins/*", crates: &[], folders: &["host/*"] },
    Ignorance { folder: "host/console", crates: &[], folders: &["host/*"] },
    // Of the host it knows the process that it starts, and the plugin host, in which authors try
    // their plugins; all else it asks as a client.
    Ignorance {
        folder: "host/cli",
        crates: &[],
        folders: &["host/store", "host/broker", "host/shard", "host/transport"],
    },
];

pub(crate) fn rings(tree: &Tree, findings: &mut Vec<Finding>) {
    for package in &tree.packages {
        let manifest = format!("{}/Cargo.toml", package.folder);
        let Some(ring) = ring_of(&package.folder) else {
            let says = format!("{} is in no ring: give it one in rings.rs", package.name);
            findings.push(Finding::on(&manifest, says));
            continue;
        };
        for arrow in &package.arrows {
            let Some(target) = ours(tree, arrow) else {
                continue;
            };
            let Some(below) = ring_of(&target.folder) else {
                continue;
            };
            let proof = below == PROOF && (ring == PROOF || arrow.kind == Kind::Dev);
            if below >= ring && !proof {
                let says = format!(
                    "{} (ring {ring}) must not depend on {} (ring {below}): arrows go down",
                    package.name, target.name
                );
                findings.push(Finding::on(&manifest, says));
            }
        }
    }
}

pub(crate) fn forbidden(tree: &Tree, findings: &mut Vec<Finding>) {
    for package in &tree.packages {
        let rows = IGNORANCE.iter().filter(|row| matches(row.folder, &package.folder));
        for row in rows {
            // What tests use is not in what ships.
            for arrow in package.arrows.iter().filter(|arrow| arrow.kind != Kind::Dev) {
                let ours = ours(tree, arrow).is_some_and(|target| {
                    row.folders.iter().any(|folder| matches(folder, &target.folder))
                });
                if ours || row.crates.iter().any(|name| is_of_family(&arrow.to, name)) {
                    let says = format!("{} must not know {}", package.name, arrow.to);
                    findings.push(Finding::on(&format!("{}/Cargo.toml", package.folder), says));
                }
            }
        }
    }
}

/// The package of this workspace that an arrow leads to.
fn ours<'a>(tree: &'a Tree, arrow: &Arrow) -> Option<&'a Package> {
    tree.packages.iter().find(|package| package.name == arrow.to)
}

fn ring_of(folder: &str) -> Option<usize> {
    RINGS.iter().find(|(pattern, _)| matches(pattern, folder)).map(|(_, ring)| *ring)
}

fn matches(pattern: &str, folder: &str) -> bool {
    match pattern.strip_suffix("/*") {
        None => pattern == folder,
        Some(parent) => folder.strip_prefix(parent).is_some_and(|rest| rest.starts_with('/')),
    }
}

fn is_of_family(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a rule says of a workspace, given as `folder: dependencies`; a package is called as
    /// its folder is, without the `/`, and `dev ` before a dependency makes it one of tests.
    fn check(rule: fn(&Tree, &mut Vec<Finding>), workspace: &[(&str, &[&str])]) -> Vec<String> {
        let arrow = |text: &&str| {
            let (kind, to) = match text.strip_prefix("dev ") {
                Some(to) => (Kind::Dev, to),
                None => (Kind::Normal, *text),
            };
            Arrow { to: to.to_owned(), kind }
        };
        let package = |(folder, arrows): &(&str, &[&str])| Package {
            name: folder.replace('/', "-"),
            folder: (*folder).to_owned(),
            arrows: arrows.iter().map(arrow).collect(),
        };
        let packages = workspace.iter().map(package).collect();
        let mut findings = Vec::new();
        rule(&Tree { files: Vec::new(), packages }, &mut findings);
        findings.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn arrows_go_down() {
        let good: &[(&str, &[&str])] = &[
            ("protocol/wire", &["bytes"]),
            ("host/store", &["protocol-wire", "dev tests-checker"]),
            ("host/shard", &["host-store", "protocol-wire"]),
            ("tests/checker", &[]),
            ("tests/sim", &["host-shard", "tests-checker"]),
        ];
        assert_eq!(check(rings, good), Vec::<String>::new());
    }

    #[test]
    fn arrows_up_and_sideways_are_found() {
        let up = check(rings, &[("protocol/wire", &["host-store"]), ("host/store", &[])]);
        assert_eq!(
            up,
            ["protocol/wire/Cargo.toml: protocol-wire (ring 0) must not depend on host-store \
              (ring 1): arrows go down"]
        );
        let sideways = check(rings, &[("host/store", &["host-broker"]), ("host/broker", &[])]);
        assert_eq!(sideways.len(), 1, "{sideways:?}");
        let test = check(rings, &[("host/store", &["dev host-shard"]), ("host/shard", &[])]);
        assert_eq!(test.len(), 1, "only proof crates serve tests from above: {test:?}");
        let proof = check(rings, &[("host/store", &["tests-sim"]), ("tests/sim", &[])]);
        assert_eq!(proof.len(), 1, "proof crates serve only tests: {proof:?}");
        let nowhere = check(rings, &[("host/new", &[])]);
        assert!(nowhere[0].contains("is in no ring"), "{nowhere:?}");
    }

    #[test]
    fn crates_do_not_know_what_they_must_not() {
        let good: &[(&str, &[&str])] = &[
            ("host/store", &["bytes", "dev serde", "tokionic"]),
            ("host/cli", &["host-server", "serde"]),
            ("host/server", &["tokio"]),
        ];
        assert_eq!(check(forbidden, good), Vec::<String>::new());
        let bad = |folder: &str, arrow: &str| {
            let found = check(forbidden, &[(folder, &[arrow]), ("host/store", &[])]);
            let says = format!("{} must not know {arrow}", folder.replace('/', "-"));
            assert!(found.len() == 1 && found[0].contains(&says), "{says}: {found:?}");
        };
        bad("protocol/wire", "serde");
        bad("host/broker", "tokio-util");
        bad("host/shard", "quinn");
        bad("protocol/client", "host-store");
        bad("host/cli", "host-store");
        bad("plugins/filter", "host-store");
    }
}
