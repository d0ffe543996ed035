//! The event log of a run: what happened at each step, and what of the broker's state became
//! another by it. `yard sim show` steps through it.
//!
//! One JSON object a line; README.md draws them:
//!
//! ```text
//!   {"format":"switchyard-sim-log","version":1,"seed":7,"operations":20,"kept":"","plan":"…"}
//!   {"step":1,"us":0,"events":["…"],"state":{"phase":"SetUp","shard/0/log/state":"open"}}
//!   {"step":9,"us":310,"events":["…","…"],"state":{"client/3/session":null}}
//!   {"steps":9,"hash":"…","failure":"…"}
//! ```
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::agenda::Micros;
use crate::plan::Plan;
use crate::world::Outcome;

/// Version of the lines.
const VERSION: u32 = 1;
/// Bytes of an event's text that are kept.
const EVENT_BYTES_MAX: usize = 1_000;

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct Log {
    out: BufWriter<File>,
    /// What the lines until now say.
    state: BTreeMap<String, String>,
    events: RefCell<Vec<String>>,
    failed: Option<io::Error>,
}

impl Log {
    /// A log of this run.
    pub(crate) fn create(path: &Path, plan: &Plan, of: (u64, &str)) -> io::Result<Self> {
        let mut out = BufWriter::new(File::create(path)?);
        let (seed, (operations, kept), plan) = (plan.seed, of, format!("{plan:#?}"));
        let head = json!({
            "format": "switchyard-sim-log",
            "version": VERSION,
            "seed": seed,
            "operations": operations,
            "kept": kept,
            "plan": plan,
        });
        writeln!(out, "{head}")?;
        let (state, events) = (BTreeMap::new(), RefCell::default());
        Ok(Self { out, state, events, failed: None })
    }

    /// Notes something that happens in the step under way.
    pub(crate) fn note(&self, mut text: String) {
        let end = (0..=EVENT_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        self.events.borrow_mut().push(text);
    }

    /// A step is over; `now` is everything that is to be seen of the state. Steps of which there is
    /// nothing to tell are left out.
    pub(crate) fn step(&mut self, step: u64, at: Micros, now: BTreeMap<String, String>) {
        let mut changed = Map::new();
        for (path, text) in &now {
            if self.state.get(path) != Some(text) {
                changed.insert(path.clone(), Value::String(text.clone()));
            }
        }
        for path in self.state.keys().filter(|path| !now.contains_key(*path)) {
            changed.insert(path.clone(), Value::Null);
        }
        self.state = now;
        let events = self.events.take();
        if events.is_empty() && changed.is_empty() {
            return;
        }
        let line = json!({ "step": step, "us": at, "events": events, "state": changed });
        if let Err(error) = writeln!(self.out, "{line}") {
            self.failed.get_or_insert(error);
        }
    }

    /// Everything is in the file.
    pub(crate) fn close(mut self) -> io::Result<()> {
        self.out.flush()?;
        self.failed.map_or(Ok(()), Err)
    }
}

/// Writes how the run ended behind what its log holds: also of a run that panicked.
pub(crate) fn end(path: &Path, outcome: &Outcome) -> io::Result<()> {
    let (steps, hash) = (outcome.happenings, format!("{:016x}", outcome.hash));
    let line = json!({ "steps": steps, "hash": hash, "failure": outcome.failure });
    writeln!(OpenOptions::new().append(true).open(path)?, "{line}")
}
