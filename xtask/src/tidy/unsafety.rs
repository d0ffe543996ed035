//! Where `unsafe` may be, and that each block says why it is sound.

use super::Finding;
use super::tree::Tree;

/// The files that talk to the kernel, or the processor, in ways the standard library has no word
/// for.
const ALLOWED: &[&str] = &[
    "host/store/src/disk/real.rs",
    "host/server/src/os.rs",
    // Maps machine code that the plugin host has made itself.
    "host/wasm/src/compiled.rs",
    // Asks for bytes that are read soon.
    "host/wasm/src/early.rs",
    // An attribute: the manifest of a plugin is a section of its file.
    "plugin-sdk/src/macros.rs",
    // Replace the C library's randomness in one test program, and copy its process.
    "tests/stack/src/entropy.rs",
    "tests/stack/src/fork.rs",
];

pub(crate) fn unsafety(tree: &Tree, findings: &mut Vec<Finding>) {
    for (file, source) in tree.sources() {
        let allowed = ALLOWED.contains(&file.path.as_str());
        let lines: Vec<&str> = file.text.iter().flat_map(|text| text.lines()).collect();
        for pair in source.tokens.windows(2) {
            let [keyword, next] = pair else { continue };
            if keyword.text != "unsafe" {
                continue;
            }
            if !allowed {
                let says = "unsafe outside the files that tidy allows it in";
                findings.push(Finding::at(file, keyword.line, says));
            } else if matches!(next.text.as_str(), "{" | "impl") && !is_argued(&lines, keyword.line)
            {
                let says = "unsafe without a `SAFETY:` comment directly above";
                findings.push(Finding::at(file, keyword.line, says));
            }
        }
    }
}

/// Whether a comment with `SAFETY:` ends directly above this line, counted from 1, or above the
/// statement that goes on in it.
fn is_argued(lines: &[&str], line: usize) -> bool {
    assert!((1..=lines.len()).contains(&line), "the line is in the file");
    let mut above = lines[..line - 1].iter().rev().map(|line| line.trim()).peekable();
    let goes_on = |line: &&str| line.ends_with('=') || line.ends_with('(');
    while above.next_if(goes_on).is_some() {}
    while above.next_if(|line| line.starts_with("#[")).is_some() {}
    above.take_while(|line| line.starts_with("//")).any(|line| line.contains("SAFETY:"))
}

#[cfg(test)]
mod tests {
    use super::super::{finds_none, finds_one};
    use super::*;

    const ALLOWED_PATH: &str = ALLOWED[0];

    #[test]
    fn unsafe_is_in_listed_files_only() {
        finds_none(unsafety, &[("a.rs", "#![deny(unsafe_code)] fn a() { \"unsafe {\"; }")]);
        finds_one(unsafety, &[("a.rs", "fn a() { unsafe { b() } }")], "a.rs:1: unsafe outside");
    }

    #[test]
    fn unsafe_is_argued() {
        let good = "fn a() {\n// SAFETY: b is\n// sound.\nlet c =\nunsafe { b() };\n}";
        finds_none(unsafety, &[(ALLOWED_PATH, good)]);
        finds_none(unsafety, &[(ALLOWED_PATH, "unsafe fn a() {}")]);
        let bad = "fn a() {\n// SAFETY: too far above.\n\nunsafe { b() };\n}";
        finds_one(unsafety, &[(ALLOWED_PATH, bad)], ":4: unsafe without");
        finds_one(unsafety, &[(ALLOWED_PATH, "unsafe impl Send for A {}")], "SAFETY:");
    }
}
