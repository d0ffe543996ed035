//! Produced messages on their way through an interceptor, frame by frame and turn by turn.
//!
//! ```text
//!   records ─► frame ─► Worker::intercept ─┬─ pass, replace ─► the record, or one made of it
//!                                          └─ refused, poison, no answer ─► a refusal of all
//! ```
//!
//! Nobody guesses for an interceptor: it may be what takes secrets out. Where it does not answer,
//! nothing is stored, and the producer may try again.
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use yard_abi::manifest::Point;
use yard_abi::verdict::{self, Patch};
use yard_abi::{Delivery, FrameBuilder, Room};
use yard_wasm::canary::Traffic;
use yard_wasm::{Ask, Batch, Intercepting, Turn};
use yard_wire::property::REPLACED;
use yard_wire::record::{Record, RecordParts};
use yard_wire::{Code, Refusal, TenantId};

use super::ask::{ABSENT_MS, Asked, wait_ms};
use super::journal::Journal;
use super::pool::{Job, Next};
use super::{Needs, PolicyWorker};

/// What becomes of records: of each its bytes, where they are others now.
pub(crate) type Changed = Result<Vec<Option<Bytes>>, Refusal>;

/// Records on a worker.
pub(crate) struct Before {
    pub(crate) asked: Asked,
    pub(crate) tenant: TenantId,
    pub(crate) records: Vec<Record>,
    pub(crate) needs: Arc<Needs>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) to: Option<oneshot::Sender<Changed>>,
    frame: Option<(FrameBuilder, u32)>,
    intercepting: Intercepting,
    changed: Vec<Option<Bytes>>,
}

impl Before {
    pub(crate) fn new(
        asked: Asked,
        tenant: TenantId,
        records: Vec<Record>,
        (needs, journal): (Arc<Needs>, Arc<Journal>),
        to: oneshot::Sender<Changed>,
    ) -> Self {
        assert!(!records.is_empty(), "an interceptor looks at something");
        let (frame, intercepting, changed) = (None, Intercepting::default(), Vec::new());
        let to = Some(to);
        Self { asked, tenant, records, needs, journal, to, frame, intercepting, changed }
    }

    /// Fills a frame with the next records, one at least.
    fn fill(&self, body_bytes: u32) -> Result<FrameBuilder, Refusal> {
        let mut frame = FrameBuilder::new(body_bytes);
        for record in &self.records[self.changed.len()..] {
            let delivery = Delivery { queue: record.queue().0.into(), ..Delivery::default() };
            match frame.push(record.bytes(), delivery) {
                Ok(Room::Taken) => {}
                Ok(Room::Full) => break,
                Err(error) => {
                    let detail = format!("plugin {}: {error}", self.asked.whose.1);
                    return Err(Refusal::new(Code::Internal, detail));
                }
            }
        }
        assert!(frame.count() > 0, "an empty frame takes any message");
        Ok(frame)
    }

    fn finish(&mut self, result: Changed) -> Next {
        if let Some(to) = self.to.take() {
            // Whoever asked may have gone.
            let _ = to.send(result);
        }
        Next::Done
    }

    fn held(&mut self, wait_ms: u32) -> Next {
        let detail = format!("plugin {}, which is before the topic, does not run", self.name());
        self.finish(Err(Refusal::after(Code::PluginNotRunning, wait_ms, detail)))
    }

    fn name(&self) -> &str {
        &self.asked.whose.1
    }

    /// Takes in what the plugin said of a frame.
    fn answered(&mut self, count: usize) -> Result<(), Refusal> {
        let intercepting = std::mem::take(&mut self.intercepting);
        let begin = self.changed.len();
        let version = intercepting.version().map_or(0, |(version, _)| version);
        let mark = format!("{}/{version}", self.name());
        let (mut refused, mut refusals) = (None, 0);
        for (record, answer) in
            self.records[begin..begin + count].iter().zip(intercepting.answers())
        {
            let changed = if answer.is_empty() {
                // It is poison; which fault that was is told below.
                Ok(None)
            } else {
                self.apply(record, answer, &mark)
            };
            match changed {
                Ok(changed) => self.changed.push(changed),
                Err(refusal) => {
                    refused.get_or_insert(refusal);
                    refusals += 1;
                    self.changed.push(None);
                }
            }
        }
        let poison = intercepting.poison();
        self.journal.count(&self.asked.whose, version, |run| {
            run.batches += 1;
            run.messages += count as u64;
            run.matched += (count - poison.len() - refusals) as u64;
            run.poisoned += poison.len() as u64;
            run.faults += poison.len() as u64;
            run.busy_us += intercepting.usage().spent_ns / 1_000;
            if let Some(poison) = poison.last() {
                run.last_fault = poison.fault.to_string();
            }
        });
        if let Some(poison) = poison.first() {
            let id = self.records[begin + poison.index].id();
            let detail = format!("plugin {} at message {id}: {}", self.name(), poison.fault);
            return Err(Refusal::new(Code::PluginFailed, detail));
        }
        refused.map_or(Ok(()), Err)
    }

    /// The record as it is to be stored, where that is not as it is.
    fn apply(&self, record: &Record, answer: &[u8], mark: &str) -> Result<Option<Bytes>, Refusal> {
        let answers = verdict::answers(answer, 1).expect("the host has checked the answer");
        match &answers[..] {
            [verdict::Answer::Pass] => Ok(None),
            [verdict::Answer::Replace(patch)] => {
                patched(record, patch, mark).map(Some).map_err(|refusal| {
                    let detail = format!("plugin {}: {}", self.name(), refusal.detail);
                    Refusal::new(Code::MessageRefused, detail)
                })
            }
            [verdict::Answer::Reject(reason)] => {
                let detail = format!("plugin {} at message {}: {reason}", self.name(), record.id());
                Err(Refusal::new(Code::MessageRefused, detail))
            }
            _ => unreachable!("one answer was checked"),
        }
    }

    fn body_bytes(
        &self,
        worker: &mut PolicyWorker,
        ask: &Ask<'_>,
        version: Option<u32>,
    ) -> Result<u32, u32> {
        let known = (&*self.needs, &*self.journal);
        self.asked.body_bytes(worker, ask, Point::Interceptor, version, known)
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
    let parts = RecordParts {
        topic: record.topic(),
        queue: record.queue(),
        id: record.id(),
        born: record.born(),
        flags: record.flags(),
        tag: record.tag(),
        properties: &properties,
        body: patch.body.unwrap_or(&body),
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

impl Job<PolicyWorker> for Before {
    fn step(&mut self, worker: &mut PolicyWorker) -> Next {
        let now_ms = crate::time::now().0;
        let first = &self.records[self.changed.len()];
        let traffic = Traffic::Queue { topic: first.topic().0, queue: first.queue().0.into() };
        let ask = Ask { tenant: self.tenant, plugin: self.asked.plugin, traffic, now_ms };
        let (frame, body_bytes) = match self.frame.take() {
            Some(frame) => frame,
            None => match self.body_bytes(worker, &ask, None) {
                Ok(body_bytes) => match self.fill(body_bytes) {
                    Ok(frame) => (frame, body_bytes),
                    Err(refusal) => return self.finish(Err(refusal)),
                },
                Err(wait_ms) => return self.held(wait_ms),
            },
        };
        let batch = Batch::new(&frame);
        let intercepting = &mut self.intercepting;
        let turn = worker.plugins.intercept(&ask, &self.asked.binding, &batch, intercepting);
        let events = self.intercepting.take_events();
        worker.heard(&self.journal, &self.asked.whose, events);
        if let Some((version, _)) = self.intercepting.version() {
            // The version that answers may have been published after the frame was made.
            match self.body_bytes(worker, &ask, Some(version)) {
                Ok(wanted) if wanted > body_bytes => {
                    self.intercepting = Intercepting::default();
                    return Next::Again;
                }
                Ok(_) => {}
                Err(wait_ms) => return self.held(wait_ms),
            }
        }
        match turn {
            Turn::More => {
                self.frame = Some((frame, body_bytes));
                Next::Again
            }
            Turn::Done => match self.answered(batch.count()) {
                Err(refusal) => self.finish(Err(refusal)),
                Ok(()) if self.changed.len() < self.records.len() => Next::Again,
                Ok(()) => {
                    let changed = std::mem::take(&mut self.changed);
                    self.finish(Ok(changed))
                }
            },
            Turn::Held { until_ms, .. } => self.held(wait_ms(until_ms, now_ms)),
            Turn::Absent => self.held(ABSENT_MS),
        }
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
        let system = Patch { properties: vec![(KEY, Some("x"))], body: None };
        let refused = patched(&record, &system, "m/1").unwrap_err();
        assert_eq!(refused.code, Code::ReservedProperty);
    }
}
