//! Plans: changes that can be looked at before they are made. Making one reads what is there and
//! says the difference; applying one does exactly that, and reads back.
//!
//! ```text
//!   topic("x").set(#{ … }) ──► Plan { steps, hash } ──► .apply() ──► Report
//!                               │ before, difference     │ journal: the run begins
//!                               ▼                        │ each step: as it was? do, read back
//!                              .show()                   ▼ journal: the run has ended, undo
//! ```
//!
//! Invariant: `matched = done + skipped + failed`, also of a run that was interrupted.
mod apply;
mod change;
mod report;
mod send;

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use xxhash_rust::xxh3::Xxh3;
use yard_client::wire::operation::Risk;

pub(crate) use apply::apply;
pub(crate) use change::{Change, text_of_dynamic};
pub(crate) use report::{Report, Undo};
pub(crate) use send::Sending;

/// Steps that a printed plan shows.
const SHOWN_MAX: usize = 20;

/// One thing that a plan does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// An operation of the catalogue.
    Change(Change),
    /// A message that is sent.
    Send(Sending),
}

impl Step {
    pub(crate) fn subject(&self) -> String {
        match self {
            Self::Change(change) => change.subject(),
            Self::Send(sending) => sending.subject(),
        }
    }

    pub(crate) fn risk(&self) -> Risk {
        match self {
            Self::Change(change) => change.operation.risk(),
            Self::Send(_) => Risk::Adds,
        }
    }

    /// Whether applying it would do anything.
    pub(crate) fn is_needed(&self) -> bool {
        match self {
            Self::Change(change) => change.is_needed(),
            Self::Send(_) => true,
        }
    }

    fn show(&self, out: &mut String) {
        match self {
            Self::Change(change) => change.show(out),
            Self::Send(sending) => sending.show(out),
        }
    }

    fn hash(&self, hash: &mut Xxh3) {
        match self {
            Self::Change(change) => hash.update(change.canonical().as_bytes()),
            Self::Send(sending) => sending.hash(hash),
        }
    }
}

/// Changes that were looked at and not made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) steps: Arc<[Step]>,
    /// The run that it takes back, where it is made for that.
    pub(crate) undoes: Option<String>,
}

impl Plan {
    pub(crate) fn new(steps: Vec<Step>) -> Self {
        Self { steps: steps.into(), undoes: None }
    }

    /// This plan, then another.
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self::new(self.steps.iter().chain(other.steps.iter()).cloned().collect())
    }

    /// Says which plan it is: equal plans have equal hashes.
    pub(crate) fn hash(&self) -> String {
        let mut hash = Xxh3::new();
        for step in &*self.steps {
            step.hash(&mut hash);
            hash.update(b"\n");
        }
        format!("{:016x}", hash.digest())
    }

    /// The worst that any of its steps could cost.
    pub(crate) fn risk(&self) -> Risk {
        let needed = self.steps.iter().filter(|step| step.is_needed());
        needed.map(Step::risk).max_by_key(|risk| *risk as u8).unwrap_or(Risk::Reads)
    }

    /// How many of its steps would do something.
    pub(crate) fn needed(&self) -> usize {
        self.steps.iter().filter(|step| step.is_needed()).count()
    }

    /// How many of its steps remove something.
    pub(crate) fn removals(&self) -> usize {
        let removes = |step: &&Step| step.is_needed() && step.risk() == Risk::Removes;
        self.steps.iter().filter(removes).count()
    }

    fn can_be_undone(&self) -> bool {
        let mut needed = self.steps.iter().filter(|step| step.is_needed());
        needed.all(|step| matches!(step, Step::Change(change) if change.can_be_undone()))
    }

    /// The plan for people.
    pub(crate) fn text(&self) -> String {
        let (matched, needed) = (self.steps.len(), self.needed());
        let plural = if matched == 1 { "" } else { "s" };
        let hash = self.hash();
        let risk = self.risk().text();
        let mut out =
            format!("plan {hash}: {matched} step{plural}, {needed} to do; risk: {risk}\n");
        for step in self.steps.iter().take(SHOWN_MAX) {
            step.show(&mut out);
        }
        if matched > SHOWN_MAX {
            let more = matched - SHOWN_MAX;
            writeln!(out, "  … and {more} more").expect("a string can be written to");
        }
        out.push_str(match (needed, self.can_be_undone()) {
            (0, _) => "nothing to do\n",
            (_, true) => "can be undone: yes\nnothing is done before .apply()\n",
            (_, false) => "can be undone: no, or not all of it\nnothing is done before .apply()\n",
        });
        out
    }

    pub(crate) fn json(&self) -> Json {
        json!({
            "hash": self.hash(),
            "matched": self.steps.len(),
            "needed": self.needed(),
            "risk": self.risk().text(),
            "can_be_undone": self.can_be_undone(),
            "steps": self.lines(),
        })
    }

    /// The steps as texts, those that are shown.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |step: &Step| {
            let mut out = String::new();
            step.show(&mut out);
            out.trim().to_owned()
        };
        self.steps.iter().take(SHOWN_MAX).map(line).collect()
    }
}
