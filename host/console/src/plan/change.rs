//! One operation of the catalogue as a step: what is there before, what differs, whether it came
//! to be, what takes it back. All of it follows from the catalogue: the object is what the
//! operation's `name` says, and it is read by the `info` or the `ls` of the operation's noun.
use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use rhai::Dynamic;
use yard_client::wire::operation::{Field, GroupLs, Operation, Presence, Risk};
use yard_client::wire::value::Value;
use yard_client::{Code, Error};

use super::report::{State, Undo};
use crate::fault::{Fault, Result};
use crate::session::Session;
use crate::show::text::visible;

/// What an operation acts on.
const NAME: &str = "name";

/// Settings that cannot be set back, though the operation that sets them can be run again.
/// Queues of a topic can only become more.
const ONE_WAY: &[(Operation, &str)] = &[(Operation::TopicSet, "queues")];

/// Fields of a report by name, as texts that the operation would take.
type Record = BTreeMap<&'static str, String>;

/// What is known of the object of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Look {
    /// The catalogue has no report of it.
    Unknowable,
    Absent,
    There(Record),
}

/// What a step will do, as far as is known before.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Do,
    Skip(String),
    Refuse(String),
}

/// A setting that would change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Difference {
    field: &'static str,
    from: Option<String>,
    to: Option<String>,
}

/// An operation with its arguments, and what it would change.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) operation: Operation,
    written: BTreeMap<&'static str, String>,
    before: Look,
    differences: Vec<Difference>,
    fate: Fate,
}

impl Change {
    /// Looks at what is there, and says what would change.
    pub(crate) fn plan(
        session: &Session,
        operation: Operation,
        written: BTreeMap<&'static str, String>,
    ) -> Result<Self> {
        encode(operation, &written)?;
        let before = look(session, operation, &written)?;
        let mut change =
            Self { operation, written, before, differences: Vec::new(), fate: Fate::Do };
        change.compare();
        if operation == Operation::TopicRm && change.fate == Fate::Do {
            change.add_groups(session)?;
        }
        Ok(change)
    }

    /// Fills in differences and fate out of what was seen.
    fn compare(&mut self) {
        let subject = self.subject();
        let before = match &self.before {
            Look::Unknowable => None,
            Look::Absent => Some(None),
            Look::There(record) => Some(Some(record)),
        };
        let to = |field| self.written.get(field).cloned();
        let new = |field| Difference { field, from: None, to: to(field) };
        let optional = self.settings().map(|field| field.name).filter(|it| to(it).is_some());
        let (differences, fate): (Vec<_>, _) = match (self.operation.risk(), before) {
            (Risk::Adds, Some(Some(record))) => {
                let same = self.settings().all(|field| self.is_as_asked(field, record));
                let fate = match same {
                    true => Fate::Skip("is there already, as asked for".into()),
                    false => Fate::Refuse("is there already, with other settings".into()),
                };
                (Vec::new(), fate)
            }
            (Risk::Removes, Some(Some(record))) => {
                let gone = |(field, from): (&&'static str, &String)| Difference {
                    field,
                    from: Some(from.clone()),
                    to: None,
                };
                (record.iter().filter(|(field, _)| **field != NAME).map(gone).collect(), Fate::Do)
            }
            (Risk::Removes, Some(None)) => (Vec::new(), Fate::Skip("is not there".into())),
            (Risk::Changes, Some(None)) => {
                (Vec::new(), Fate::Refuse(format!("there is no {subject}")))
            }
            (Risk::Changes, Some(Some(record))) => {
                let asked = || self.settings().filter(|field| to(field.name).is_some());
                // What is not reported may be otherwise.
                let is_so = |field: &Field| {
                    record.contains_key(field.name) && self.is_as_asked(field, record)
                };
                let other = asked().filter(|field| !is_so(field));
                let difference = |field: &Field| Difference {
                    field: field.name,
                    from: record.get(field.name).cloned(),
                    to: to(field.name),
                };
                let differences: Vec<_> = other.map(difference).collect();
                let fate = match asked().count() > 0 && differences.is_empty() {
                    true => Fate::Skip("is so already".into()),
                    false => Fate::Do,
                };
                (differences, fate)
            }
            (Risk::Adds | Risk::Reads, _) | (Risk::Removes | Risk::Changes, None) => {
                (optional.map(new).collect(), Fate::Do)
            }
        };
        (self.differences, self.fate) = (differences, fate);
    }

    /// Who would miss a topic.
    fn add_groups(&mut self, session: &Session) -> Result<()> {
        let client = session.client()?;
        let groups = session.ask(client.admin().call(GroupLs {}))?;
        let topic = self.name();
        let of_topic = groups.into_iter().filter(|row| row.topic == topic);
        let names: Vec<_> = of_topic.map(|row| format!("{} (lag {})", row.name, row.lag)).collect();
        let from = if names.is_empty() { "none".into() } else { names.join(", ") };
        self.differences.push(Difference { field: "groups", from: Some(from), to: None });
        Ok(())
    }

    /// The settings of the object: arguments that do not name it.
    fn settings(&self) -> impl Iterator<Item = &'static Field> + use<> {
        let asked = |field: &&Field| {
            !matches!(field.presence, Presence::Required | Presence::Hidden | Presence::Rest)
        };
        self.operation.fields().iter().filter(asked)
    }

    fn name(&self) -> &str {
        self.written.get(NAME).map_or("", String::as_str)
    }

    pub(crate) fn subject(&self) -> String {
        format!("{} {}", self.operation.words()[0], self.name()).trim_end().to_owned()
    }

    pub(crate) fn is_needed(&self) -> bool {
        self.fate == Fate::Do
    }

    /// Whether a setting is what was asked for, or was not asked for, or is not reported.
    fn is_as_asked(&self, field: &Field, record: &Record) -> bool {
        let asked = self.written.get(field.name).map(String::as_str);
        let asked = asked.or(match field.presence {
            Presence::Default(text) if self.operation.risk() == Risk::Adds => Some(text),
            Presence::Switch if self.operation.risk() == Risk::Adds => Some("false"),
            _ => None,
        });
        let (Some(asked), Some(is)) = (asked, record.get(field.name)) else {
            return true;
        };
        let with = |text: &str| {
            let mut written = self.written.clone();
            written.insert(field.name, text.to_owned());
            encode(self.operation, &written).ok()
        };
        // Equal settings may be written differently: `72h` is `3d`.
        asked == is || with(asked).zip(with(is)).is_some_and(|(asked, is)| asked == is)
    }

    pub(crate) fn show(&self, out: &mut String) {
        let sign = match self.operation.risk() {
            Risk::Adds => '+',
            Risk::Removes => '-',
            Risk::Changes | Risk::Reads => '~',
        };
        let subject = self.subject();
        let words = self.operation.words().join(" ");
        let mut line = |text: String| {
            writeln!(out, "{}", visible(&text)).expect("a string can be written to");
        };
        match &self.fate {
            Fate::Do => line(format!("  {sign} {subject} ({words})")),
            Fate::Skip(why) => line(format!("  = {subject} {why}")),
            Fate::Refuse(why) => line(format!("  ! {subject} cannot be done: {why}")),
        }
        for Difference { field, from, to } in &self.differences {
            line(match (from, to) {
                (Some(from), Some(to)) => format!("      {field}: {from} -> {to}"),
                (Some(from), None) => format!("      {field}: {from}"),
                (None, Some(to)) => format!("      {field}: {to}"),
                (None, None) => continue,
            });
        }
    }

    /// Everything that it would do, as a text that is equal for equal steps.
    pub(crate) fn canonical(&self) -> String {
        let words = self.operation.words().join(" ");
        format!("{words} {:?} {:?} {:?}", self.written, self.differences, self.fate)
    }

    /// Does it, unless it is not needed or something has changed since, and reads back.
    pub(crate) fn apply(&self, session: &Session) -> Result<State> {
        match &self.fate {
            Fate::Skip(why) => return Ok(State::Skipped(why.clone())),
            Fate::Refuse(why) => return Ok(State::failed(Code::BadArgument, why.clone())),
            Fate::Do => {}
        }
        if let Some(why) = self.outdated(&look(session, self.operation, &self.written)?) {
            return Ok(State::failed(Code::PlanOutdated, why));
        }
        let args = encode(self.operation, &self.written)?;
        let client = session.client()?;
        // Not cut short: what was sent may be done, and its answer is waited for.
        let called = session.finish(client.admin().call_raw(self.operation, args));
        let is_unknown = |error: &Error| matches!(error.code, Code::TimedOut | Code::Disconnected);
        match called {
            Err(error) if !is_unknown(&error) => Ok(State::failed(error.code, error.detail)),
            // Without an answer only reading back can tell.
            called => self.verified(session, called.err()),
        }
    }

    /// Whether what was looked at is still as it was.
    fn outdated(&self, now: &Look) -> Option<String> {
        match (&self.before, now) {
            (Look::There(_), Look::Absent) => Some("it is gone since the plan was made".into()),
            (Look::Absent, Look::There(_)) => Some("it is there since the plan was made".into()),
            (Look::There(before), Look::There(now)) => {
                if before.get("id") != now.get("id") {
                    return Some("it is another of that name since the plan was made".into());
                }
                let settings = self.differences.iter().filter(|it| it.to.is_some());
                let mut other = settings.filter(|it| before.get(it.field) != now.get(it.field));
                other.next().map(|it| format!("{} has changed since the plan was made", it.field))
            }
            (Look::Absent, Look::Absent) | (Look::Unknowable, _) | (_, Look::Unknowable) => None,
        }
    }

    fn verified(&self, session: &Session, unanswered: Option<Error>) -> Result<State> {
        let now = session.finish(ask(session, self.operation, &self.written)?);
        let now = match now {
            Ok(now) => now,
            Err(error) => {
                let why = format!("it was done and cannot be read back: {}", error.detail);
                return Ok(State::failed(Code::NotVerified, why));
            }
        };
        let is_so = match (self.operation.risk(), &now) {
            (_, Look::Unknowable) => unanswered.is_none(),
            (Risk::Removes, now) => *now == Look::Absent,
            (_, Look::There(record)) => {
                self.settings().all(|field| self.is_as_asked(field, record))
            }
            (_, Look::Absent) => false,
        };
        Ok(match (is_so, unanswered) {
            (true, _) => State::Done(self.undo()),
            (false, Some(error)) => State::failed(error.code, error.detail),
            (false, None) => {
                State::failed(Code::NotVerified, "reading back does not show the change")
            }
        })
    }

    pub(crate) fn can_be_undone(&self) -> bool {
        let one_way = |it: &Difference| ONE_WAY.contains(&(self.operation, it.field));
        self.undo().is_some() && !self.differences.iter().any(one_way)
    }

    /// What takes it back, as far as that can be.
    fn undo(&self) -> Option<Undo> {
        let name = (NAME.to_owned(), self.name().to_owned());
        match self.operation.risk() {
            Risk::Changes => {
                let back = self.differences.iter().filter_map(|it| {
                    let one_way = ONE_WAY.contains(&(self.operation, it.field));
                    let from = it.from.clone().filter(|_| !one_way)?;
                    Some((it.field.to_owned(), from))
                });
                let back: Vec<_> = back.collect();
                let args = back.iter().cloned().chain([name]).collect();
                (!back.is_empty()).then(|| Undo { words: words(self.operation), args })
            }
            Risk::Adds => {
                let remove = of_noun(self.operation, "rm").filter(|it| takes_name_only(*it))?;
                Some(Undo { words: words(remove), args: [name].into() })
            }
            Risk::Reads | Risk::Removes => None,
        }
    }
}

fn words(operation: Operation) -> String {
    operation.words().join(" ")
}

/// The operation of the same noun with this verb.
fn of_noun(operation: Operation, verb: &str) -> Option<Operation> {
    let noun = operation.words()[0];
    Operation::ALL.iter().copied().find(|it| it.words() == [noun, verb])
}

fn takes_name_only(operation: Operation) -> bool {
    let mut required = operation.fields().iter().filter(|it| it.presence == Presence::Required);
    required.next().is_some_and(|field| field.name == NAME) && required.next().is_none()
}

fn encode(operation: Operation, written: &BTreeMap<&'static str, String>) -> Result<Bytes> {
    let text = |name: &str| written.get(name).cloned();
    let encoded = operation.encode_args(&text);
    encoded.map_err(|refusal| Fault::from(Error::from(refusal)).into())
}

/// Reads the object of an operation.
fn look(
    session: &Session,
    operation: Operation,
    written: &BTreeMap<&'static str, String>,
) -> Result<Look> {
    session.ask(ask(session, operation, written)?)
}

/// How the object of an operation is read.
fn ask(
    session: &Session,
    operation: Operation,
    written: &BTreeMap<&'static str, String>,
) -> Result<impl Future<Output = std::result::Result<Look, Error>> + use<>> {
    let info = of_noun(operation, "info").filter(|it| takes_name_only(*it));
    let reader = info.or_else(|| of_noun(operation, "ls"));
    let name = written.get(NAME).cloned();
    let admin = session.client()?.admin();
    Ok(async move {
        let (Some(reader), Some(name)) = (reader, name) else {
            return Ok(Look::Unknowable);
        };
        let args = reader.encode_args(&|field| (field == NAME).then(|| name.clone()))?;
        let result = match admin.call_raw(reader, args).await {
            Ok(result) => result,
            Err(error) if matches!(error.code, Code::UnknownTopic | Code::UnknownGroup) => {
                return Ok(Look::Absent);
            }
            Err(error) => return Err(error),
        };
        let malformed = |why| Error::new(Code::BadReply, format!("{why}"));
        Ok(found(reader.decode_result(result).map_err(malformed)?, &name))
    })
}

/// The record of that name in a report.
fn found(report: Value, name: &str) -> Look {
    match report {
        Value::Record(fields) => {
            let texts = fields.into_iter().map(|(field, value)| (field, text_of(&value)));
            Look::There(texts.collect())
        }
        Value::List(rows) => rows
            .into_iter()
            .map(|row| found(row, name))
            .find(|row| matches!(row, Look::There(row) if row.get(NAME).is_some_and(|n| n == name)))
            .unwrap_or(Look::Absent),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => Look::Unknowable,
    }
}

/// A reported value as an argument would be written; of a list its length.
fn text_of(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::Bool(yes) => yes.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::List(rows) => rows.len().to_string(),
        Value::Record(_) => "…".into(),
    }
}

/// A script's value as an argument is written.
pub(crate) fn text_of_dynamic(field: &Field, value: &Dynamic) -> Result<String> {
    if let Ok(number) = value.as_int() {
        // Spans of time are milliseconds in scripts, and have a unit on the way.
        let unit = if field.kind.contains("DURATION") { "ms" } else { "" };
        return Ok(format!("{number}{unit}"));
    }
    if value.is_unit() && field.kind.ends_with("|none") {
        return Ok("none".into());
    }
    match (value.as_bool(), value.as_immutable_string_ref()) {
        (Ok(yes), _) => Ok(yes.to_string()),
        (_, Ok(text)) => Ok(text.to_string()),
        _ => {
            let (name, kind, found) = (field.name, field.kind, value.type_name());
            Err(Fault::argument(format!("{name} takes {kind}, not {found}")).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::catalogue::is_offered;

    fn change(operation: Operation, written: &[(&'static str, &str)], before: Look) -> Change {
        let written = written.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        let mut change =
            Change { operation, written, before, differences: Vec::new(), fate: Fate::Do };
        change.compare();
        change
    }

    fn there(fields: &[(&'static str, &str)]) -> Look {
        Look::There(fields.iter().map(|(name, text)| (*name, (*text).to_owned())).collect())
    }

    #[track_caller]
    fn check(change: &Change, expected: &str) {
        let mut out = String::new();
        change.show(&mut out);
        assert_eq!(out, expected);
    }

    const TOPIC: &[(&str, &str)] = &[
        ("name", "x"),
        ("id", "7"),
        ("queues", "8"),
        ("note", ""),
        ("retain", "3d"),
        ("retain_bytes", "none"),
        ("discard_unconsumed", "false"),
        ("backlog_max", "none"),
    ];

    #[test]
    fn what_is_so_already_is_no_difference() {
        let set =
            |written: &[(&'static str, &str)]| change(Operation::TopicSet, written, there(TOPIC));
        check(&set(&[("name", "x"), ("retain", "72h")]), "  = topic x is so already\n");
        check(
            &set(&[("name", "x"), ("retain", "2d"), ("note", "n"), ("queues", "8")]),
            "  ~ topic x (topic set)\n      note:  -> n\n      retain: 3d -> 2d\n",
        );
        let absent = change(Operation::TopicSet, &[("name", "x")], Look::Absent);
        check(&absent, "  ! topic x cannot be done: there is no topic x\n");
    }

    #[test]
    fn what_is_added_may_be_there() {
        let create = |written: &[(&'static str, &str)], before| {
            change(Operation::TopicCreate, written, before)
        };
        check(
            &create(&[("name", "x"), ("queues", "4")], Look::Absent),
            "  + topic x (topic create)\n      queues: 4\n",
        );
        let written = [("name", "x"), ("retain", "3d")];
        check(&create(&written, there(TOPIC)), "  = topic x is there already, as asked for\n");
        check(
            &create(&[("name", "x")], there(TOPIC)),
            "  ! topic x cannot be done: is there already, with other settings\n",
        );
    }

    #[test]
    fn what_can_be_taken_back() {
        let undo = |change: Change| {
            let Undo { words, args } = change.undo()?;
            let args: Vec<_> = args.iter().map(|(name, text)| format!(" {name}={text}")).collect();
            Some(format!("{words}{}", args.concat()))
        };
        let set = change(
            Operation::TopicSet,
            &[("name", "x"), ("retain", "2d"), ("queues", "16")],
            there(TOPIC),
        );
        assert!(!set.can_be_undone(), "queues only become more");
        assert_eq!(undo(set).as_deref(), Some("topic set name=x retain=3d"));
        let create = change(Operation::TopicCreate, &[("name", "x")], Look::Absent);
        assert!(create.can_be_undone());
        assert_eq!(undo(create).as_deref(), Some("topic rm name=x"));
        let remove = change(Operation::TopicRm, &[("name", "x")], there(TOPIC));
        assert!(undo(remove).is_none());
    }

    #[test]
    fn a_plan_that_is_old_is_recognised() {
        let set = change(Operation::TopicSet, &[("name", "x"), ("retain", "2d")], there(TOPIC));
        assert_eq!(set.outdated(&there(TOPIC)), None);
        let with = |field: &'static str, text: &str| {
            let Look::There(mut record) = there(TOPIC) else { unreachable!("it is there") };
            record.insert(field, text.to_owned());
            Look::There(record)
        };
        assert_eq!(set.outdated(&with("note", "other")), None, "nobody asked for the note");
        assert!(set.outdated(&with("retain", "1d")).is_some());
        assert!(set.outdated(&with("id", "8")).is_some());
        assert!(set.outdated(&Look::Absent).is_some());
    }

    #[test]
    fn every_operation_that_changes_something_has_a_report() {
        let changes = Operation::ALL.iter().filter(|it| it.risk() != Risk::Reads);
        for operation in changes.filter(|it| is_offered(**it)) {
            let reader = of_noun(*operation, "info").or_else(|| of_noun(*operation, "ls"));
            assert!(reader.is_some(), "{operation:?} could not be read back");
        }
    }
}
