//! The text of the WIT package, for hosts that check a component and for tools that make one.

/// The package `switchyard:plugin@1.0.0`, whole.
pub const TEXT: &str = include_str!("../wit/plugin.wit");
/// Name and version of the package, as a component spells them before an interface.
pub const PACKAGE: &str = "switchyard:plugin";
/// Version of the package. A host accepts exports of every version with this major number.
pub const VERSION: &str = "1.0.0";
/// XXH3-64 of [`TEXT`], frozen: whoever changes the text gives it a new version.
pub const XXH3_64: u64 = 0xe34b_d75a_a9fc_f297;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_the_frozen_one() {
        let found = xxhash_rust::xxh3::xxh3_64(TEXT.as_bytes());
        assert_eq!(found, XXH3_64, "the WIT changed: {found:#018x}");
    }

    #[test]
    fn the_text_names_its_version() {
        assert!(TEXT.contains(&std::format!("package {PACKAGE}@{VERSION};")));
    }
}
