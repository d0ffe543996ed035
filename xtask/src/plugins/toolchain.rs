//! The compiler for guests: that of this workspace where it has the target, else a
//! distribution's.
//!
//! ```text
//!   rustc has wasm32 ──► as it is
//!   rustup can add it ──► added, as it is
//!   /usr/bin/rustc with its library's source (Debian: rustc-web) ──► builds the library as well
//!   root on Debian ──► installs that one
//!   else ──► a sentence
//! ```

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::needs::{self, Need};
use crate::run::{self, Failed, Workspace};

/// The target of guests: no system, so nothing to grant.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";
/// The compiler of the distribution.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";
const SYSTEM_CARGO: &str = "/usr/bin/cargo";
/// Guests have vectors: searching texts is about twice as fast with them.
const FLAGS: &str = "-C target-feature=+simd128";
const FLAGS_VARIABLE: &str = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS";
const LINKER_VARIABLE: &str = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER";

const SYSTEM: Need = Need {
    name: "a compiler for WebAssembly",
    probe: &["test", "-f", "/usr/bin/rustc"],
    debian: &["rustc-web", "cargo-web", "rust-web-src"],
    sentence: "Plugins need a compiler for WebAssembly: run `rustup target add \
               wasm32-unknown-unknown`, or on Debian and Ubuntu `sudo apt-get install -y \
               --no-install-recommends rustc-web cargo-web rust-web-src`.",
};

/// A compiler for guests.
#[derive(Debug, PartialEq)]
pub(crate) enum Toolchain {
    /// The workspace's own.
    Own,
    /// The distribution's.
    System {
        /// Its standard library has to be built first.
        builds_library: bool,
        /// A linker for wasm, where the workspace's own toolchain has one.
        linker: Option<PathBuf>,
    },
}

impl Toolchain {
    /// Finds a compiler, and gets one where we may.
    pub(crate) fn find(workspace: &Workspace, folder: &Path) -> Result<Self, Failed> {
        let own = sysroot(&mut workspace.rustc());
        if own.as_deref().is_some_and(has_target) {
            return Ok(Self::Own);
        }
        // Asked once for each target folder: without a network rustup takes its time to say no.
        let asked = folder.join("rustup-was-asked");
        if !asked.exists() {
            let mut rustup = Command::new("rustup");
            let added = run::succeeds_quietly(rustup.args(["target", "add", TARGET]));
            if added && sysroot(&mut workspace.rustc()).as_deref().is_some_and(has_target) {
                return Ok(Self::Own);
            }
            let noted = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&asked, ""));
            noted.map_err(|error| Failed(format!("{}: {error}.", asked.display())))?;
        }
        let linker = own_linker(workspace);
        if let Some(found) = Self::system(linker.clone()) {
            return Ok(found);
        }
        needs::meet(&SYSTEM, false)?;
        Self::system(linker).ok_or_else(|| Failed(SYSTEM.sentence.to_owned()))
    }

    fn system(linker: Option<PathBuf>) -> Option<Self> {
        let sysroot = sysroot(&mut Command::new(SYSTEM_RUSTC))?;
        let has_target = has_target(&sysroot);
        let has_source = sysroot.join("lib/rustlib/src/rust/library").is_dir();
        let is_usable = has_target || has_source;
        is_usable.then_some(Self::System { builds_library: !has_target, linker })
    }

    /// A cargo command that compiles with it, still without its arguments; flags that must come
    /// before a subcommand's are in the environment.
    pub(crate) fn cargo(&self, workspace: &Workspace) -> Command {
        let mut cargo = match self {
            Self::Own => workspace.cargo([]),
            Self::System { builds_library, linker } => {
                let mut cargo = Command::new(SYSTEM_CARGO);
                cargo.current_dir(&workspace.root).env("RUSTC", SYSTEM_RUSTC);
                cargo.env("PATH", path_with_system_first());
                // Variables of the cargo that runs us name its own compiler.
                cargo.env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTC_WRAPPER");
                if *builds_library {
                    cargo.env("RUSTC_BOOTSTRAP", "1");
                    cargo.env("CARGO_UNSTABLE_BUILD_STD", "std,panic_abort");
                }
                if let Some(linker) = linker {
                    cargo.env(LINKER_VARIABLE, linker);
                }
                cargo
            }
        };
        cargo.env(FLAGS_VARIABLE, FLAGS).env_remove("RUSTFLAGS");
        cargo
    }
}

/// The linker of the workspace's own toolchain.
pub(crate) fn own_linker(workspace: &Workspace) -> Option<PathBuf> {
    linker(&sysroot(&mut workspace.rustc())?)
}

fn path_with_system_first() -> OsString {
    let mut path = OsString::from("/usr/bin");
    if let Some(rest) = env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    path
}

fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    let output = rustc.args(["--print", "sysroot"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}

fn has_target(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir()
}

/// The linker that every toolchain of rustup has, in the folder of its host's target.
fn linker(sysroot: &Path) -> Option<PathBuf> {
    let targets = std::fs::read_dir(sysroot.join("lib/rustlib")).ok()?;
    let mut linkers = targets.flatten().map(|target| target.path().join("bin/rust-lld"));
    linkers.find(|linker| linker.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sysroot_has_the_target_when_its_library_is_there() {
        let folder = env::temp_dir().join(format!("xtask-toolchain-{}", std::process::id()));
        assert!(!has_target(&folder));
        std::fs::create_dir_all(folder.join("lib/rustlib").join(TARGET).join("lib"))
            .expect("the temporary folder can be written");
        assert!(has_target(&folder));
        std::fs::remove_dir_all(&folder).expect("the folder is there");
    }

    #[test]
    fn the_sentence_for_who_must_install_it_names_both_ways() {
        assert!(SYSTEM.sentence.contains(TARGET) && SYSTEM.sentence.contains(SYSTEM.debian[0]));
    }
}
