//! An event log, read and put together: of each step what happened, and what became another.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use yard_client::wire::value::Value;

use crate::failure::Failure;
use crate::text::visible;

/// The version of the lines that this program reads.
const VERSION: u32 = 1;

#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
    seed: u64,
    operations: u64,
    kept: String,
}

#[derive(Deserialize)]
struct Written {
    step: u64,
    us: u64,
    events: Vec<String>,
    state: BTreeMap<String, Option<String>>,
}

#[derive(Deserialize)]
struct End {
    hash: String,
    failure: Option<String>,
}

/// What a step made of one line of the state.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    path: String,
    before: Option<String>,
    after: Option<String>,
}

/// One step of a run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) number: u64,
    us: u64,
    events: Vec<String>,
    changes: Vec<Change>,
}

/// A log.
pub(super) struct Log {
    head: Head,
    pub(super) steps: Vec<Step>,
    /// How the run ended; not there where it was cut off.
    end: Option<End>,
}

fn unreadable(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::local(format!("{}: {why}", path.display()))
}

impl Log {
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
        Self::parse(&text).map_err(|why| unreadable(path, why))
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        let head = lines.next().and_then(|line| serde_json::from_str::<Head>(line).ok());
        let head = head.filter(|head| head.format == "switchyard-sim-log");
        let head = head.ok_or("this is no event log of the simulator")?;
        if head.version != VERSION {
            let found = head.version;
            return Err(format!("the log has version {found}, this program reads {VERSION}"));
        }
        let (mut steps, mut end) = (Vec::new(), None);
        let mut state: BTreeMap<String, String> = BTreeMap::new();
        for (number, line) in (2..).zip(lines) {
            if let Ok(Written { step, us, events, state: changed }) = serde_json::from_str(line) {
                let change = |(path, after): (String, Option<String>)| {
                    let before = match &after {
                        Some(after) => state.insert(path.clone(), after.clone()),
                        None => state.remove(&path),
                    };
                    Change { path, before, after }
                };
                let changes = changed.into_iter().map(change).collect();
                steps.push(Step { number: step, us, events, changes });
            } else if let Ok(last) = serde_json::from_str::<End>(line) {
                end = Some(last);
            } else {
                return Err(format!("line {number} is neither a step nor an end"));
            }
        }
        Ok(Self { head, steps, end })
    }

    /// Number of the last step.
    pub(super) fn last(&self) -> u64 {
        self.steps.last().map_or(0, |step| step.number)
    }

    /// Where the step of this number is, or the next that there is.
    pub(super) fn place(&self, number: u64) -> usize {
        let at = self.steps.partition_point(|step| step.number < number);
        at.min(self.steps.len().saturating_sub(1))
    }

    /// The state after the step at this place.
    pub(super) fn state(&self, at: usize) -> BTreeMap<&str, &str> {
        let mut state = BTreeMap::new();
        for change in self.steps.iter().take(at + 1).flat_map(|step| &step.changes) {
            match &change.after {
                Some(after) => state.insert(&change.path[..], &after[..]),
                None => state.remove(&change.path[..]),
            };
        }
        state
    }

    /// Which run it is.
    pub(super) fn title(&self) -> String {
        let Head { seed, operations, kept, .. } = &self.head;
        let kept = if kept.is_empty() { String::new() } else { format!(", of it {kept}") };
        format!("seed {seed}, {operations} operations{}\n", visible(&kept))
    }

    /// How it ended.
    pub(super) fn outcome(&self) -> String {
        match &self.end {
            None => "the log ends before the run does\n".to_owned(),
            Some(End { failure: Some(failure), .. }) => {
                failure.lines().map(|line| format!("FAILED {}\n", visible(line))).collect()
            }
            Some(End { hash, failure: None }) => format!("clean, hash {}\n", visible(hash)),
        }
    }
}

impl Step {
    /// Whether an event, or what it changed, has this text in it.
    pub(super) fn speaks_of(&self, text: &str) -> bool {
        let has = |it: &Option<String>| it.as_ref().is_some_and(|it| it.contains(text));
        let changes = |it: &Change| it.path.contains(text) || has(&it.before) || has(&it.after);
        self.events.iter().any(|event| event.contains(text)) || self.changes.iter().any(changes)
    }

    /// The step as people read it.
    pub(super) fn text(&self, last: u64) -> String {
        let Self { number, us, events, changes } = self;
        let (seconds, micros) = (us / 1_000_000, us % 1_000_000);
        let mut text = format!("step {number} of {last}, after {seconds}.{micros:06} s\n");
        for event in events.iter().flat_map(|event| event.lines()) {
            text.push_str(&format!("  {}\n", visible(event)));
        }
        for Change { path, before, after } in changes {
            let shown = |it: &Option<String>| {
                it.as_deref().map_or_else(|| "-".to_owned(), |it| visible(it).to_string())
            };
            let (before, after) = (shown(before), shown(after));
            text.push_str(&format!("    {}: {before} -> {after}\n", visible(path)));
        }
        text
    }

    /// The step for programs.
    pub(super) fn value(&self) -> Value {
        let optional = |it: &Option<String>| it.clone().map_or(Value::Null, Value::Text);
        let change = |it: &Change| {
            Value::Record(vec![
                ("path", Value::Text(it.path.clone())),
                ("before", optional(&it.before)),
                ("after", optional(&it.after)),
            ])
        };
        Value::Record(vec![
            ("step", Value::Number(self.number)),
            ("us", Value::Number(self.us)),
            ("events", Value::List(self.events.iter().cloned().map(Value::Text).collect())),
            ("changes", Value::List(self.changes.iter().map(change).collect())),
        ])
    }
}

#[cfg(test)]
pub(super) const SAMPLE: &str = include_str!("sample.log");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_says_what_became_another() {
        let log = Log::parse(SAMPLE).expect("well-formed");
        assert_eq!(log.title(), "seed 7, 20 operations\n");
        let texts: String = log.steps.iter().map(|step| step.text(log.last())).collect();
        let expected = "step 1 of 5, after 0.000000 s\n  it starts\n    phase: - -> SetUp\n    \
                        shard/0/log/synced: - -> 64\nstep 4 of 5, after 1.500000 s\n    \
                        client/1/session: - -> 9\n    shard/0/log/synced: 64 -> 128\nstep 5 of 5, \
                        after 1.500010 s\n  a\\u{1b} cut\n    client/1/session: 9 -> -\n";
        assert_eq!(texts, expected);
        assert_eq!(log.outcome(), "FAILED lost-write\nFAILED of queue 1\n");
    }

    #[test]
    fn the_state_after_a_step_is_all_that_was_said_until_then() {
        let log = Log::parse(SAMPLE).expect("well-formed");
        let state = |number| log.state(log.place(number)).into_iter().collect::<Vec<_>>();
        assert_eq!(state(1), [("phase", "SetUp"), ("shard/0/log/synced", "64")]);
        let middle = [("client/1/session", "9"), ("phase", "SetUp"), ("shard/0/log/synced", "128")];
        assert_eq!(state(2), middle, "step 4 is the next that there is");
        assert_eq!(state(99), [("phase", "SetUp"), ("shard/0/log/synced", "128")]);
        assert!(log.steps[1].speaks_of("synced") && !log.steps[1].speaks_of("cut"));
    }

    #[test]
    fn what_is_no_log_is_said_to_be_none() {
        let cases = [
            ("", "no event log"),
            ("{}", "no event log"),
            (
                "{\"format\":\"x\",\"version\":1,\"seed\":1,\"operations\":1,\"kept\":\"\"}",
                "no event",
            ),
        ];
        for (text, why) in cases {
            let found = Log::parse(text).err().expect(text);
            assert!(found.contains(why), "{text}: {found}");
        }
        let newer = SAMPLE.replace("\"version\":1", "\"version\":2");
        assert!(Log::parse(&newer).err().expect("newer").contains("version 2"));
        let cut = SAMPLE.replace("{\"steps\"", "{\"stop\"").replace("\"hash\"", "\"cash\"");
        assert!(Log::parse(&cut).err().expect("damaged").contains("line 5"));
        let ends = SAMPLE.rsplit_once("{\"steps\"").expect("it has an end").0;
        let open = Log::parse(ends).expect("a run that was cut off has a log");
        assert_eq!(open.outcome(), "the log ends before the run does\n");
    }
}
