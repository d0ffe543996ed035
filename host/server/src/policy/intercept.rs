//! What an interceptor makes of produced messages.
//!
//! ```text
//!   pass, replace ─► the record, or one made of it
//!   refused, poison, no answer ─► a refusal of all
//! ```
//!
//! Nobody guesses for an interceptor: it may be what takes secrets out. Where it does not answer,
//! nothing is stored, and the producer may try again.
use std::sync::Arc;

use bytes::Bytes;
use yard_abi::manifest::Point;
use yard_abi::verdict::{self, Patch};
use yard_wasm::{Ask, Batch, Binding, HealthEvent, Intercepting, Role, Turn, Worker};
use yard_wire::property::{REPLACED, UNCHECKED};
use yard_wire::record::{Record, RecordParts};
use yard_wire::{Code, Refusal};

use super::ask::Unanswered;
use super::framed::{At, Stage};

/// What becomes of records: of each its bytes, where they are others now.
pub(crate) type Changed = Result<Vec<Option<Bytes>>, Refusal>;

/// The point.
pub(super) struct Intercept;

impl Stage for Intercept {
    type Out = Option<Bytes>;
    type Progress = Intercepting;

    const POINT: Point = Point::Interceptor;

    fn turn(
        plugins: &mut Worker,
        ask: &Ask,
        binding: &Arc<Binding>,
        batch: &Batch<'_>,
        progress: &mut Intercepting,
    ) -> Turn {
        plugins.intercept(ask, binding, batch, progress)
    }

    fn version(progress: &Intercepting) -> Option<(u32, Role)> {
        progress.version()
    }

    fn take_events(progress: &mut Intercepting) -> Vec<HealthEvent> {
        progress.take_events()
    }

    fn answered(
        at: &mut At<'_>,
        records: &[&Record],
        progress: &Intercepting,
    ) -> Result<Option<Vec<Option<Bytes>>>, Refusal> {
        let by = progress.version().expect("who has answered was chosen");
        let mark = format!("{}/{}", at.name(), by.0);
        let (mut outs, mut refused, mut refusals) = (Vec::with_capacity(records.len()), None, 0);
        for (record, answer) in records.iter().zip(progress.answers()) {
            let changed = if answer.is_empty() {
                // It is poison; which fault that was is told below.
                Ok(None)
            } else {
                apply(at.name(), record, answer, &mark)
            };
            outs.push(changed.unwrap_or_else(|refusal| {
                refused.get_or_insert(refusal);
                refusals += 1;
                None
            }));
        }
        let poison = progress.poison();
        let well = records.len() - poison.len() - refusals;
        let faults = (poison, progress.canary_fault());
        at.count(by, (records.len(), well), faults, progress.usage());
        if let Some(poison) = poison.first() {
            let id = records[poison.index].id();
            let detail = format!("plugin {} at message {id}: {}", at.name(), poison.fault);
            return Err(Refusal::new(Code::PluginFailed, detail));
        }
        refused.map_or(Ok(Some(outs)), Err)
    }

    fn unanswered(at: &At<'_>, why: Unanswered) -> Result<Option<Bytes>, Refusal> {
        Err(at.held(why.wait_ms()))
    }
}

/// The record as it is to be stored, where that is not as it is.
fn apply(name: &str, record: &Record, answer: &[u8], mark: &str) -> Result<Option<Bytes>, Refusal> {
    let answers = verdict::answers(answer, 1).expect("the host has checked the answer");
    match &answers[..] {
        [verdict::Answer::Pass] => Ok(None),
        [verdict::Answer::Replace(patch)] => {
            patched(record, patch, mark).map(Some).map_err(|refusal| {
                let detail = format!("plugin {name}: {}", refusal.detail);
                Refusal::new(Code::MessageRefused, detail)
            })
        }
        [verdict::Answer::Reject(reason)] => {
            let detail = format!("plugin {name} at message {}: {reason}", record.id());
            Err(Refusal::new(Code::MessageRefused, detail))
        }
        _ => unreachable!("one answer was checked"),
    }
}

/// A record with changes: everything that they do not name stays, and it says who made them.
fn patched(record: &Record, patch: &Patch<'_>, mark: &str) -> Result<Bytes, Refusal> {
    let mut properties: Vec<(&str, &str)> = record.properties().collect();
    for (name, value) in &patch.properties {
        if name.starts_with('$') {
            let detail = format!("it changes {name:?}, which is the system's");
            return Err(Refusal::new(Code::ReservedProperty, detail));
        }
        set(&mut properties, name, *value);
    }
    set(&mut properties, REPLACED, Some(mark));
    let body = record.body();
    remade(record, &properties, patch.body.unwrap_or(&body))
}

/// The record with a property that says whose keys it was not compared by.
///
/// # Errors
/// Where it has no room for that.
pub(crate) fn unchecked(record: &Record, plugin: &str) -> Result<Bytes, Refusal> {
    let mut properties: Vec<(&str, &str)> = record.properties().collect();
    set(&mut properties, UNCHECKED, Some(plugin));
    remade(record, &properties, &record.body())
}

/// The record with these properties and this body.
fn remade(record: &Record, properties: &[(&str, &str)], body: &[u8]) -> Result<Bytes, Refusal> {
    let parts = RecordParts {
        topic: record.topic(),
        queue: record.queue(),
        id: record.id(),
        born: record.born(),
        flags: record.flags(),
        tag: record.tag(),
        properties,
        body,
    };
    let mut out = Vec::with_capacity(parts.encoded_bytes());
    parts.encode(&mut out)?;
    Ok(out.into())
}

/// The first property of a name keeps its place, others of the name go.
fn set<'a>(properties: &mut Vec<(&'a str, &'a str)>, name: &'a str, value: Option<&'a str>) {
    let first = properties.iter().position(|(found, _)| *found == name);
    let mut at = 0;
    properties.retain(|(found, _)| {
        at += 1;
        *found != name || (value.is_some() && Some(at - 1) == first)
    });
    match (first, value) {
        (Some(first), Some(value)) => properties[first].1 = value,
        (None, Some(value)) => properties.push((name, value)),
        (_, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_wire::record::KEY;

    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else() {
        let properties = [(KEY, "k"), ("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")];
        let parts =
            RecordParts { tag: "t", properties: &properties, body: b"old", ..Default::default() };
        let mut out = Vec::new();
        parts.encode(&mut out).unwrap();
        let record = Record::parse(out.into()).unwrap();
        let changes = vec![("a", Some("9")), ("b", None), ("z", Some("5"))];
        let patch = Patch { properties: changes, body: Some(b"new") };
        let new = Record::parse(patched(&record, &patch, "redact/3").unwrap()).unwrap();
        let found: Vec<_> = new.properties().collect();
        let expect = [(KEY, "k"), ("a", "9"), ("c", "4"), ("z", "5"), (REPLACED, "redact/3")];
        assert_eq!(found, expect);
        assert_eq!((new.id(), new.tag(), &new.body()[..]), (record.id(), "t", &b"new"[..]));
        let again = patched(&new, &Patch::default(), "redact/4").unwrap();
        let again = Record::parse(again).unwrap();
        assert_eq!(again.property(REPLACED), Some("redact/4"));
        assert_eq!(again.body(), new.body());
        let marked = Record::parse(unchecked(&record, "d").unwrap()).unwrap();
        assert_eq!((marked.property(UNCHECKED), marked.body()), (Some("d"), record.body()));
        let system = Patch { properties: vec![(KEY, Some("x"))], body: None };
        let refused = patched(&record, &system, "m/1").unwrap_err();
        assert_eq!(refused.code, Code::ReservedProperty);
    }
}
