//! What a machine must have before we build, and how it is got: one row of [`NEEDS`] each.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use crate::run::{self, Failed};

/// One thing that must be there before the first build.
pub(crate) struct Need {
    pub(crate) name: &'static str,
    /// Succeeds when it is there.
    pub(crate) probe: &'static [&'static str],
    /// Debian packages that bring it.
    pub(crate) debian: &'static [&'static str],
    /// What to tell somebody for whom we cannot install it.
    pub(crate) sentence: &'static str,
}

const NEEDS: &[Need] = &[Need {
    name: "a C compiler",
    // Preprocesses one header, because a compiler without the C library's headers is no use.
    probe: &["cc", "-E", "-include", "stdlib.h", "-x", "c", "/dev/null"],
    debian: &["gcc", "libc6-dev"],
    sentence: "The TLS library needs a C compiler: on Debian and Ubuntu, run \
               `sudo apt-get install -y gcc libc6-dev`; elsewhere, install gcc or clang.",
}];

/// Makes the machine ready: installs what is missing where we may, else says how.
pub(crate) fn set_up() -> Result<(), Failed> {
    for need in NEEDS {
        meet(need, run::succeeds_quietly(&mut command(need.probe)))?;
    }
    Ok(())
}

/// Meets one need, unless it is found to be met.
pub(crate) fn meet(need: &Need, found: bool) -> Result<(), Failed> {
    match way(found, is_root(), Path::new("/usr/bin/apt-get").exists()) {
        Way::There => Ok(()),
        Way::Install => install(need),
        Way::Tell => Err(Failed(need.sentence.to_owned())),
    }
}

/// How one need is met.
#[derive(Debug, PartialEq)]
enum Way {
    There,
    Install,
    Tell,
}

fn way(found: bool, root: bool, debian: bool) -> Way {
    match (found, root && debian) {
        (true, _) => Way::There,
        (false, true) => Way::Install,
        (false, false) => Way::Tell,
    }
}

fn install(need: &Need) -> Result<(), Failed> {
    println!("== set-up: installing {} ({})", need.name, need.debian.join(" "));
    run::run(&mut command(&["apt-get", "update"]))?;
    let mut install = command(&["apt-get", "install", "-y", "--no-install-recommends"]);
    run::run(install.args(need.debian).env("DEBIAN_FRONTEND", "noninteractive"))?;
    if run::succeeds_quietly(&mut command(need.probe)) {
        return Ok(());
    }
    Err(Failed(format!("{} is installed and does not work. {}", need.name, need.sentence)))
}

fn command(line: &[&str]) -> Command {
    assert!(!line.is_empty(), "a command line begins with a program");
    let mut command = Command::new(line[0]);
    command.args(&line[1..]);
    command
}

/// Whether we may install packages. The kernel makes our user the owner of our folder in
/// `/proc`; asking there needs neither unsafe code nor a program.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|folder| folder.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_on_debian_installs() {
        assert_eq!(way(true, true, true), Way::There);
        assert_eq!(way(true, false, false), Way::There);
        assert_eq!(way(false, true, true), Way::Install);
        assert_eq!(way(false, false, true), Way::Tell);
        assert_eq!(way(false, true, false), Way::Tell);
    }

    #[test]
    fn each_row_is_complete() {
        for need in NEEDS {
            assert!(!need.probe.is_empty() && !need.debian.is_empty(), "{}", need.name);
            assert!(need.sentence.ends_with('.'), "{}: one sentence, please", need.name);
        }
    }

    #[test]
    fn a_program_that_is_not_there_fails_its_probe() {
        assert!(!run::succeeds_quietly(&mut command(&["no-such-program-at-all"])));
    }
}
