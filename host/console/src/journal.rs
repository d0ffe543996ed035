//! The journal: which plans were applied by which script, and what came of them. A line of JSON
//! when a run begins, before anything is changed, and a line when it has ended.
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use yard_client::Code;

use crate::fault::{Fault, Result};
use crate::plan::Undo;

/// Bytes at the end of the file that are looked at for what was done lately.
const READ_BYTES_MAX: u64 = 4 << 20;

/// A run that begins to change something.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Begun {
    pub(crate) run: String,
    pub(crate) at_ms: u64,
    pub(crate) context: String,
    pub(crate) tenant: String,
    /// The exact text that ran.
    pub(crate) script: String,
    /// Hash of the plan.
    pub(crate) plan: String,
    pub(crate) matched: usize,
    pub(crate) risk: String,
    /// The first of its steps.
    pub(crate) steps: Vec<String>,
}

/// A run that has ended.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Ended {
    pub(crate) run: String,
    pub(crate) at_ms: u64,
    pub(crate) matched: usize,
    pub(crate) done: usize,
    pub(crate) skipped: usize,
    pub(crate) failed: usize,
    /// What takes it back, in order.
    pub(crate) undo: Vec<Undo>,
    /// The run that it took back.
    pub(crate) undoes: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Begun(Begun),
    Ended(Ended),
}

/// A run as the journal tells it; without an end it was cut short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) begun: Begun,
    pub(crate) ended: Option<Ended>,
}

/// The file of the journal.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    path: PathBuf,
}

impl Journal {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Writes down that a run begins. It must not begin where that fails.
    pub(crate) fn begin(&self, begun: &Begun) -> Result<()> {
        self.append(&Line::Begun(begun.clone()))
            .map_err(|error| self.unwritable(&error, "nothing was changed").into())
    }

    /// Writes down that a run has ended.
    pub(crate) fn end(&self, ended: &Ended) -> Result<()> {
        self.append(&Line::Ended(ended.clone()))
            .map_err(|error| self.unwritable(&error, "the run is done and its end is not").into())
    }

    fn unwritable(&self, error: &io::Error, so: &str) -> Fault {
        let message = format!("{} cannot be written: {error}; {so}", self.path.display());
        Fault::new(Code::JournalUnwritable, message)
    }

    fn append(&self, line: &Line) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut text = serde_json::to_string(line).map_err(io::Error::from)?;
        text.push('\n');
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
        // One call: lines of two consoles do not mix.
        file.write_all(text.as_bytes())?;
        file.sync_data()
    }

    /// The runs that the end of the journal tells of, oldest first.
    pub(crate) fn runs(&self) -> Result<Vec<Run>> {
        let text = match tail(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                let message = format!("{} cannot be read: {error}", self.path.display());
                return Err(Fault::new(Code::JournalUnwritable, message).into());
            }
        };
        let mut runs: Vec<Run> = Vec::new();
        // A line that was cut by a crash is none.
        for line in text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
            match line {
                Line::Begun(begun) => runs.push(Run { begun, ended: None }),
                Line::Ended(ended) => {
                    if let Some(run) = runs.iter_mut().find(|run| run.begun.run == ended.run) {
                        run.ended = Some(ended);
                    }
                }
            }
        }
        Ok(runs)
    }

    /// The last run at a place that can be taken back and was not.
    pub(crate) fn last_to_undo(&self, context: &str, tenant: &str) -> Result<Option<Run>> {
        let runs = self.runs()?;
        let ends = || runs.iter().filter_map(|run| run.ended.as_ref());
        let undone: Vec<&str> = ends().filter_map(|it| it.undoes.as_deref()).collect();
        let can = |run: &&Run| {
            let Some(ended) = &run.ended else { return false };
            let is_here = run.begun.context == context && run.begun.tenant == tenant;
            let is_fresh = !undone.contains(&&*ended.run) && ended.undoes.is_none();
            is_here && is_fresh && !ended.undo.is_empty()
        };
        Ok(runs.iter().rev().find(can).cloned())
    }
}

/// The end of a file, from the beginning of a line on.
fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(READ_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(READ_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let cut = length > READ_BYTES_MAX;
    Ok(if cut { text.split_once('\n').map_or("", |(_, rest)| rest).to_owned() } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(run: &str, context: &str) -> Begun {
        Begun {
            run: run.into(),
            at_ms: 1,
            context: context.into(),
            tenant: "t".into(),
            script: "topic(\"x\").rm().apply()\n".into(),
            plan: "0".into(),
            matched: 1,
            risk: "removes".into(),
            steps: vec!["- topic x".into()],
        }
    }

    fn ended(run: &str, undo: bool, undoes: Option<&str>) -> Ended {
        let args = [("name".to_owned(), "x".to_owned())].into();
        let back = Undo { words: "topic rm".into(), args };
        Ended {
            run: run.into(),
            at_ms: 2,
            matched: 1,
            done: 1,
            skipped: 0,
            failed: 0,
            undo: if undo { vec![back] } else { Vec::new() },
            undoes: undoes.map(str::to_owned),
        }
    }

    #[test]
    fn runs_are_told_as_they_were_and_taken_back_once() {
        let folder = std::env::temp_dir().join(format!("yard-journal-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let journal = Journal::new(folder.join("a/journal.ndjson"));
        assert!(journal.runs().expect("no journal is an empty one").is_empty());
        let last = || {
            let run = journal.last_to_undo("dev", "t").expect("readable");
            run.map(|run| run.begun.run)
        };
        for (run, context, undo) in
            [("1", "dev", true), ("2", "prod", true), ("3", "dev", false), ("4", "dev", true)]
        {
            journal.begin(&begun(run, context)).expect("written");
            if run != "4" {
                journal.end(&ended(run, undo, None)).expect("written");
            }
        }
        assert_eq!(last().as_deref(), Some("1"), "3 cannot be, 4 has no end, 2 is elsewhere");
        journal.begin(&begun("5", "dev")).expect("written");
        journal.end(&ended("5", true, Some("1"))).expect("written");
        assert_eq!(last(), None, "what was taken back, and the taking back, are not again");
        let runs = journal.runs().expect("readable");
        assert_eq!(runs.len(), 5);
        assert_eq!(runs[0], Run { begun: begun("1", "dev"), ended: Some(ended("1", true, None)) });
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_journal_that_cannot_be_written_stops_the_run() {
        let journal = Journal::new(PathBuf::from("/dev/null/journal"));
        let error = journal.begin(&begun("1", "dev")).expect_err("no folder can be there");
        let failure = crate::Failure::of_run(error, "");
        assert_eq!(failure.code, Code::JournalUnwritable);
        assert!(failure.message.ends_with("nothing was changed"), "{failure:?}");
    }
}
