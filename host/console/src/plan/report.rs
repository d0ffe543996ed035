//! What became of a plan.
use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use yard_client::Code;

use crate::show::text::visible;

/// Steps that a report names: those that were not done.
const NAMED_MAX: usize = 20;

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It was done and read back; what takes it back, where something does.
    Done(Option<Undo>),
    /// Nothing had to be done, or it was not tried.
    Skipped(String),
    /// It was not done, or it is not known to be.
    Failed(Code, String),
}

impl State {
    pub(crate) fn failed(code: Code, why: impl Into<String>) -> Self {
        Self::Failed(code, why.into())
    }
}

/// An operation that takes a step back.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Undo {
    /// Noun and verb.
    pub(crate) words: String,
    /// Its arguments.
    pub(crate) args: BTreeMap<String, String>,
}

/// What became of a plan: every step is in exactly one of the three counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) run: String,
    pub(crate) plan: String,
    pub(crate) matched: usize,
    pub(crate) done: usize,
    pub(crate) skipped: usize,
    pub(crate) failed: usize,
    /// Some of those that were not done, each with why.
    pub(crate) named: Vec<String>,
    pub(crate) undo: Vec<Undo>,
}

impl Report {
    pub(crate) fn add(&mut self, subject: &str, state: State) {
        let mut name = |word: &str, why: &str| {
            if self.named.len() < NAMED_MAX {
                self.named.push(format!("{word} {subject}: {why}"));
            }
        };
        match state {
            State::Done(undo) => {
                self.done += 1;
                self.undo.extend(undo);
            }
            State::Skipped(why) => {
                name("skipped", &why);
                self.skipped += 1;
            }
            State::Failed(code, why) => {
                name("failed", &format!("{code}: {why}"));
                self.failed += 1;
            }
        }
    }

    pub(crate) fn text(&self) -> String {
        let Self { matched, done, skipped, failed, .. } = self;
        debug_assert_eq!(*matched, done + skipped + failed);
        let mut out =
            format!("matched {matched} = done {done} + skipped {skipped} + failed {failed}\n");
        for line in &self.named {
            writeln!(out, "  {}", visible(line)).expect("a string can be written to");
        }
        let more = skipped + failed - self.named.len().min(skipped + failed);
        if more > 0 {
            writeln!(out, "  … and {more} more").expect("a string can be written to");
        }
        out
    }

    pub(crate) fn json(&self) -> Json {
        json!({
            "run": self.run,
            "plan": self.plan,
            "matched": self.matched,
            "done": self.done,
            "skipped": self.skipped,
            "failed": self.failed,
            "not_done": self.named,
            "undo": self.undo,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_counted_once_and_what_was_not_done_is_named() {
        let mut report = Report { matched: 25, ..Report::default() };
        report.add("topic a", State::Done(None));
        report.add("topic b", State::Skipped("is so already".into()));
        report.add("topic c\u{1b}", State::failed(Code::Forbidden, "no right"));
        for at in 0..22 {
            report.add(&format!("topic {at}"), State::Skipped("interrupted".into()));
        }
        let text = report.text();
        let begin = "matched 25 = done 1 + skipped 23 + failed 1\n  \
            skipped topic b: is so already\n  \
            failed topic c\\u{1b}: E0503 Forbidden: no right\n";
        assert!(text.starts_with(begin), "{text}");
        assert!(text.ends_with("  … and 4 more\n"), "{text}");
    }
}
