//! Words that must not be written, each with what to write instead.

use std::collections::BTreeSet;

use super::Finding;
use super::source::{self, Source};
use super::tree::{File, Tree};

/// Crates that are values: no suspension point, so that an invariant holds from call to return.
const WITHOUT_AWAIT: &[&str] =
    &["protocol/wire", "protocol/abi", "host/store", "host/broker", "host/shard"];
/// Crates that decide: same inputs, same outputs, on every machine.
const PURE: &[&str] = &["protocol/wire", "host/broker", "host/shard"];
const STORE: &[&str] = &["host/store"];
/// The store's door to the world.
const DISK: &str = "host/store/src/disk";
const EVERYWHERE: &[&str] = &[""];

/// One banned word: Rust tokens, where they are banned, and the replacement.
struct Ban {
    tokens: &'static str,
    folders: &'static [&'static str],
    in_tests: bool,
    instead: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        tokens: "dbg!",
        folders: EVERYWHERE,
        in_tests: true,
        instead: "look, then remove it; or write a trace event",
    },
    Ban {
        tokens: "todo!",
        folders: EVERYWHERE,
        in_tests: true,
        instead: "write it, or refuse with an error code",
    },
    Ban {
        tokens: "unbounded_channel",
        folders: EVERYWHERE,
        in_tests: true,
        instead: "a queue that is bounded in bytes",
    },
    Ban { tokens: "HashMap", folders: PURE, in_tests: false, instead: "BTreeMap" },
    Ban { tokens: "HashSet", folders: PURE, in_tests: false, instead: "BTreeSet" },
    Ban { tokens: "Mutex", folders: PURE, in_tests: false, instead: "one owner: &mut self" },
    Ban { tokens: "Instant::now", folders: PURE, in_tests: false, instead: "time is an argument" },
    Ban {
        tokens: "SystemTime::now",
        folders: PURE,
        in_tests: false,
        instead: "time is an argument",
    },
    Ban { tokens: "std::thread", folders: PURE, in_tests: false, instead: "emit an effect" },
    Ban { tokens: "HashMap", folders: STORE, in_tests: false, instead: "BTreeMap" },
    Ban { tokens: "SystemTime", folders: STORE, in_tests: false, instead: "time is an argument" },
    Ban {
        tokens: "std::fs",
        folders: STORE,
        in_tests: false,
        instead: "emit an effect; files are for src/disk/",
    },
    Ban { tokens: "std::thread", folders: STORE, in_tests: false, instead: "emit an effect" },
];

/// A note to oneself that nobody reads again; in two parts, so that this file does not hold it.
const NOTE: &str = concat!("FIX", "ME");

/// Paths of somebody's machine. They are in two parts for the same reason.
const NEVER: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/")];

pub(crate) fn awaits(tree: &Tree, findings: &mut Vec<Finding>) {
    for (file, source) in tree.sources() {
        if !WITHOUT_AWAIT.iter().any(|folder| file.is_in(folder)) {
            continue;
        }
        for token in source.occurrences(&[".", "await"]) {
            let says = "an await: this crate is a value; emit an effect";
            findings.push(Finding::at(file, token.line, says));
        }
    }
}

pub(crate) fn banned(tree: &Tree, findings: &mut Vec<Finding>) {
    for ban in BANS {
        let pattern = source::tokens(ban.tokens).expect("a banned word is made of tokens");
        let pattern: Vec<&str> = pattern.iter().map(|token| token.text.as_str()).collect();
        for (file, source) in tree.sources().filter(|(file, _)| applies(ban, file)) {
            for line in lines_with(source, ban, &pattern) {
                let says = format!("`{}` is banned here; instead: {}", ban.tokens, ban.instead);
                findings.push(Finding::at(file, line, says));
            }
        }
    }
    for file in tree.files.iter().filter(|it| it.path.ends_with(".rs") || it.is_markdown()) {
        let says = format!("`{NOTE}` is banned: repair it, or state the condition for doing so");
        find_text(file, |line| line.contains(NOTE), &says, findings);
    }
}

fn applies(ban: &Ban, file: &File) -> bool {
    let here = ban.folders.iter().any(|folder| file.is_in(folder));
    here && (ban.in_tests || !file.test) && !(ban.folders == STORE && file.is_in(DISK))
}

/// The lines that have a banned path as tokens, or import it out of a group.
fn lines_with(source: &Source, ban: &Ban, pattern: &[&str]) -> BTreeSet<usize> {
    let tokens = source.occurrences(pattern).filter(|token| ban.in_tests || !token.test);
    let imports = source.imports.iter().filter(|import| {
        let rest = import.path.strip_prefix(ban.tokens);
        let imported = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        imported && (ban.in_tests || !import.test)
    });
    tokens.map(|token| token.line).chain(imports.map(|import| import.line)).collect()
}

pub(crate) fn never(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in tree.files.iter().filter(|file| file.path != "Cargo.lock") {
        for word in NEVER {
            let says = format!("`{word}` is a path of one machine");
            let has = |line: &str| line.to_ascii_lowercase().contains(word);
            find_text(file, has, &says, findings);
        }
    }
}

fn find_text(file: &File, has: impl Fn(&str) -> bool, says: &str, findings: &mut Vec<Finding>) {
    let lines = file.text.iter().flat_map(|text| text.lines()).enumerate();
    for (index, _) in lines.filter(|(_, line)| has(line)) {
        findings.push(Finding::at(file, index + 1, says));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{finds_none, finds_one};
    use super::*;

    #[test]
    fn engines_do_not_wait() {
        finds_none(awaits, &[("host/server/src/a.rs", "async fn a() { b.await }")]);
        finds_none(awaits, &[("host/shard/src/a.rs", "//! .await\nfn a() { b(\".await\") }")]);
        let bad = "fn a() { select! { b = c.await => d } }";
        finds_one(awaits, &[("host/shard/src/a.rs", bad)], "a.rs:1: an await");
    }

    #[test]
    fn some_words_are_banned_everywhere() {
        finds_none(banned, &[("a.rs", "// todo! is a word here\nfn a(todo: u8) { debug!() }")]);
        finds_one(banned, &[("tests/a.rs", "fn a() { dbg!(b) }")], "`dbg!` is banned");
        finds_one(banned, &[("a.rs", "fn a() { todo!() }")], "`todo!` is banned");
        finds_one(banned, &[("a.rs", "use tokio::sync::mpsc::unbounded_channel;")], "bytes");
        finds_one(banned, &[("a.md", &format!("{NOTE}: later"))], "a.md:1");
    }

    #[test]
    fn engines_have_no_clock_no_thread_and_no_random_order() {
        let good = "fn a(now: Instant) {} #[cfg(test)] mod tests { use std::thread; }";
        finds_none(banned, &[("host/broker/src/a.rs", good)]);
        finds_none(banned, &[("host/server/src/a.rs", "use std::{fs, thread}; fn a(b: Mutex) {}")]);
        let bad = |text: &str, says: &str| {
            finds_one(banned, &[("host/broker/src/a.rs", text)], says);
        };
        bad("fn a(b: HashMap<u8, u8>) {}", "`HashMap`");
        bad("fn a(b: HashSet<u8>) {}", "`HashSet`");
        bad("fn a(b: Mutex<u8>) {}", "`Mutex`");
        bad("fn a() { Instant::now(); }", "`Instant::now`");
        bad("fn a() { std::time::SystemTime::now(); }", "`SystemTime::now`");
        bad("fn a() { std::thread::sleep(b) }", "`std::thread`");
        bad("use std::{fmt, thread::{self, JoinHandle}};", "`std::thread`");
    }

    #[test]
    fn the_store_meets_the_world_at_its_disk() {
        let text = "use std::fs;";
        finds_none(banned, &[("host/store/src/disk/real.rs", text)]);
        finds_none(banned, &[("host/store/src/a.rs", "use std::fmt; fn a(b: Mutex) {}")]);
        finds_one(banned, &[("host/store/src/log.rs", text)], "`std::fs`");
        finds_one(banned, &[("host/store/src/log.rs", "use std::{fmt, fs::File};")], "src/disk/");
    }

    #[test]
    fn paths_of_one_machine_are_nowhere() {
        finds_none(never, &[("a.md", "a framework/in a/workshop")]);
        finds_one(never, &[("a.toml", &format!("x = \"{}b\"", NEVER[0]))], "a.toml:1");
        finds_one(never, &[("a", &NEVER[1].to_uppercase())], "path of one machine");
    }
}
