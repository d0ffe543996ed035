//! Faults between the broker and the kernel, by strace: a call is answered by an error, by a
//! signal, or late.
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Failed;

/// Calls that change files.
pub const CHANGES: &[&str] = &[
    "pwrite64",
    "pwritev",
    "pwritev2",
    "fdatasync",
    "fsync",
    "fallocate",
    "ftruncate",
    "rename",
    "renameat2",
    "unlink",
    "mkdir",
];

/// What happens at a call instead of, or before, what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// The process is killed.
    Killed,
    /// The device has an error.
    Eio,
    /// There is no space.
    Enospc,
}

impl Instead {
    fn text(self) -> &'static str {
        match self {
            Self::Killed => "signal=9",
            Self::Eio => "error=EIO",
            Self::Enospc => "error=ENOSPC",
        }
    }
}

/// A fault at the n-th call of its kind of the thread that comes to it first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The call.
    pub call: &'static str,
    /// Which one, from 1 on.
    pub number: u64,
    /// What happens.
    pub instead: Instead,
}

/// Whether strace is there and may be used.
#[must_use]
pub fn is_there() -> bool {
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-e", "trace=none", "true"]);
    strace.stdin(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|done| done.success())
}

/// The words before a program's name that run it with a fault. The program stays the direct child
/// of whoever runs it.
#[must_use]
pub fn under(fault: Fault, log: &Path) -> Vec<String> {
    let Fault { call, number, instead } = fault;
    let inject = format!("inject={call}:{}:when={number}", instead.text());
    let trace = format!("trace={call}");
    words(&["-e", &trace, "-e", &inject], log)
}

/// The words before a program's name that run it and note the calls.
#[must_use]
pub fn noting(calls: &[&str], log: &Path) -> Vec<String> {
    words(&["-e", &format!("trace={}", calls.join(","))], log)
}

fn words(more: &[&str], log: &Path) -> Vec<String> {
    let head = ["strace", "-D", "-f", "-qq", "-e", "signal=none", "-o"];
    let mut words: Vec<String> = head.iter().map(|word| (*word).to_owned()).collect();
    words.push(log.display().to_string());
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words
}

/// Calls of a run, as noted: of each kind how many, and how many in the thread with most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// In all threads.
    pub all: u64,
    /// In the thread with most of them: faults have numbers up to this.
    pub most: u64,
}

/// Reads what [`noting`] has noted.
///
/// # Errors
/// When the file cannot be read.
pub fn read(log: &Path) -> Result<BTreeMap<String, Noted>, Failed> {
    let text = std::fs::read_to_string(log).map_err(Failed::file(log))?;
    Ok(count(&text))
}

fn count(text: &str) -> BTreeMap<String, Noted> {
    let mut threads: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for line in text.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        // A call that was resumed was counted when it began.
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        if call.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            *threads.entry((call, thread)).or_default() += 1;
        }
    }
    let mut calls: BTreeMap<String, Noted> = BTreeMap::new();
    for ((call, _), count) in threads {
        let noted = calls.entry(call.to_owned()).or_default();
        noted.all += count;
        noted.most = noted.most.max(count);
    }
    calls
}

/// Every call of a process is late by so much, until this is dropped.
#[derive(Debug)]
pub struct Late(std::process::Child);

impl Late {
    /// Makes `call` of the process `id` take `delay_us` longer.
    ///
    /// # Errors
    /// When strace cannot be run.
    pub fn begin(id: u32, call: &str, delay_us: u64) -> Result<Self, Failed> {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", "signal=none", "-o", "/dev/null", "-e"]);
        strace.arg(format!("trace={call}")).arg("-e");
        strace.arg(format!("inject={call}:delay_enter={delay_us}")).arg("-p").arg(id.to_string());
        Ok(Self(strace.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        // Asked to end, it lets go of the process; killed, it might take it along.
        let kill = format!("kill -TERM {}", self.0.id());
        let _ = Command::new("sh").arg("-c").arg(kill).status();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_thread() {
        let calls = count(
            "12 pwrite64(3, \"\", 4096, 0) = 4096\n\
             12 fdatasync(3 <unfinished ...>\n\
             13 pwrite64(4, \"a(\", 2, 0) = 2\n\
             12 <... fdatasync resumed>) = 0\n\
             12 pwrite64(3, \"\", 4096, 0) = 4096\n\
             12 +++ exited with 0 +++\n",
        );
        let noted = |all, most| Noted { all, most };
        let expected = [("fdatasync", noted(1, 1)), ("pwrite64", noted(3, 2))];
        let expected = expected.map(|(call, noted)| (call.to_owned(), noted));
        assert_eq!(calls, BTreeMap::from(expected));
    }
}
