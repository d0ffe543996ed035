//! The first-party plugins that this program was built with.

/// Names and files.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The names of the first-party plugins, whether this program has them or not.
const NAMES: &[&str] =
    &["dedupe-window", "filter-sql", "filter-tag", "redact", "retry-ladder", "txn-check"];

/// The file of a plugin of the system.
pub(crate) fn file(name: &str) -> Option<&'static [u8]> {
    FILES.iter().find(|(known, _)| *known == name).map(|(_, file)| *file)
}

/// Whether a plugin of the system has this name.
pub(crate) fn is_name(name: &str) -> bool {
    NAMES.contains(&name)
}
