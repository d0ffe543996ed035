//! The vectors of a manifest, tried before a version may decide anything.
use std::sync::Arc;

use yard_abi::manifest::{Point, TestVector};
use yard_abi::verdict::{self, Answer};
use yard_abi::{FrameBuilder, Room};
use yard_wire::TenantId;

use crate::bindings::{Attempt, Fate, Half, Next};
use crate::canary::Traffic;
use crate::compiled::Compiled;
use crate::engine::Engine;
use crate::fault::{Fault, FaultKind};
use crate::guest::{Binding, Usage};
use crate::limits::Limits;
use crate::table::{Directory, Installed, PluginId, Rollout};
use crate::worker::{
    Ask, Asked, Batch, ColdError, Hold, Intercepting, Judging, Keying, Turn, Worker,
};

/// The plugin of a self-test: none that is installed has this number.
const PLUGIN: PluginId = PluginId(u32::MAX);
/// Bytes of the body that a vector's message shows.
const BODY_BYTES: u32 = 1 << 16;

/// A self-test that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelfTest {
    /// Vectors that were tried.
    pub vectors: usize,
    /// What they took together.
    pub usage: Usage,
}

/// A vector that came out otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("test {number} of the manifest: expected `{expected}`, found `{found}`")]
pub struct SelfTestError {
    /// Which, counted from 1.
    pub number: usize,
    /// What the manifest says.
    pub expected: String,
    /// What the plugin said, or how it failed.
    pub found: String,
}

/// Tries the vectors of a plugin's manifest within these limits.
///
/// # Errors
/// The first that comes out otherwise.
pub fn self_test(
    engine: &Engine,
    compiled: &Compiled,
    limits: &Limits,
) -> Result<SelfTest, SelfTestError> {
    let tenant = TenantId(u32::MAX);
    let mut usage = Usage::default();
    let vectors = &compiled.manifest().tests;
    for (index, vector) in vectors.iter().enumerate() {
        // Each with a worker of its own, so that no vector depends on those before it.
        let directory = Arc::new(Directory::default());
        let active = Some(Installed::new(PLUGIN, 1, compiled.clone()));
        directory.publish(|table| {
            table.limits.insert(tenant, *limits);
            let rollout = Rollout { active, ..Rollout::default() };
            table.plugins.insert(PLUGIN, Arc::new(rollout));
        });
        let mut worker = Worker::new(engine, &directory);
        let traffic = Traffic::ALONE;
        let ask = Ask { tenant, plugin: PLUGIN, traffic, now_ms: vector.message.stored_ms };
        let found = try_vector(&mut worker, &ask, vector, &mut usage);
        let found = found.unwrap_or_else(|failed| failed);
        engine.kv().forget(PLUGIN);
        if found != vector.expect {
            let expected = vector.expect.clone();
            return Err(SelfTestError { number: index + 1, expected, found });
        }
    }
    Ok(SelfTest { vectors: vectors.len(), usage })
}

/// What a plugin says to a vector, as manifests spell it; or how it failed.
fn try_vector(
    worker: &mut Worker,
    ask: &Ask,
    vector: &TestVector,
    usage: &mut Usage,
) -> Result<String, String> {
    let config = vector.config.iter().map(|(name, value)| (name.clone(), value.clone()));
    let binding = Binding::new(vector.expression.clone(), config.collect());
    match vector.point {
        Point::Retry => {
            let asked = worker.decide(ask, &binding, &attempt_of(vector)?);
            answer(asked, usage).map(|next| match next {
                Next::DelayMs(delay_ms) => format!("delay-ms {delay_ms}"),
                Next::ToTopic(topic) => format!("to-topic {topic}"),
                Next::DeadLetter(reason) => format!("dead-letter {reason}"),
                Next::Drop => "drop".to_owned(),
            })
        }
        Point::TxnCheck => {
            let asked = worker.check(ask, &binding, &half_of(vector)?);
            answer(asked, usage).map(|fate| {
                let name = match fate {
                    Fate::Commit => "commit",
                    Fate::Rollback => "rollback",
                    Fate::Unknown => "unknown",
                    Fate::AskProducer => "ask-producer",
                };
                name.to_owned()
            })
        }
        Point::Filter | Point::Dedupe | Point::Interceptor => {
            let frame = frame(vector)?;
            let batch = Batch::new(&frame);
            try_batch(worker, ask, vector.point, &binding, &batch, usage)
        }
    }
}

fn try_batch(
    worker: &mut Worker,
    ask: &Ask,
    point: Point,
    binding: &Arc<Binding>,
    batch: &Batch<'_>,
    usage: &mut Usage,
) -> Result<String, String> {
    if point == Point::Filter {
        let mut judging = Judging::default();
        let turn = worker.judge(ask, binding, batch, &mut judging);
        usage.add(judging.usage());
        is_done(&turn, judging.poison().first().map(|it| &it.fault))?;
        let verdict = if judging.delivered().has(0) { "deliver" } else { "skip" };
        return Ok(verdict.to_owned());
    }
    if point == Point::Dedupe {
        let mut keying = Keying::default();
        let turn = worker.keys(ask, binding, batch, &mut keying);
        usage.add(keying.usage());
        is_done(&turn, keying.poison().first().map(|it| &it.fault))?;
        return Ok(String::from_utf8_lossy(&keying.keys()[0]).into_owned());
    }
    let mut intercepting = Intercepting::default();
    let turn = worker.intercept(ask, binding, batch, &mut intercepting);
    usage.add(intercepting.usage());
    is_done(&turn, intercepting.poison().first().map(|it| &it.fault))?;
    let answers = verdict::answers(&intercepting.answers()[0], 1);
    match answers.as_deref() {
        Ok([Answer::Pass]) => Ok("pass".to_owned()),
        Ok([Answer::Replace(_)]) => Ok("replace".to_owned()),
        Ok([Answer::Reject(reason)]) => Ok(format!("reject {reason}")),
        other => Err(format!("{other:?}")),
    }
}

fn is_done(turn: &Turn, fault: Option<&Fault>) -> Result<(), String> {
    match (turn, fault) {
        (Turn::Done, None) => Ok(()),
        (Turn::Done, Some(fault)) | (Turn::Held { hold: Hold::Plugin(Some(fault)), .. }, _) => {
            Err(failed(fault))
        }
        (turn, _) => Err(format!("{turn:?}")),
    }
}

fn answer<T>(asked: Asked<T>, usage: &mut Usage) -> Result<T, String> {
    usage.add(&asked.usage);
    asked.answer.map_err(|error| match error {
        ColdError::Fault(fault) => failed(&fault),
        error => error.to_string(),
    })
}

/// A refusal is something that a manifest may expect; other faults are not.
fn failed(fault: &Fault) -> String {
    match fault.kind {
        FaultKind::Refused => format!("refused {}", fault.text),
        _ => fault.to_string(),
    }
}

fn frame(vector: &TestVector) -> Result<FrameBuilder, String> {
    let (record, delivery) = vector.message.record();
    let mut builder = FrameBuilder::new(BODY_BYTES);
    match builder.push(&record, delivery) {
        Ok(Room::Taken) => Ok(builder),
        other => Err(format!("the message does not fit a frame: {other:?}")),
    }
}

/// The question to a retry plugin that a vector asks.
///
/// # Errors
/// A sentence that says which of its facts is no number.
pub fn attempt_of(vector: &TestVector) -> Result<Attempt, String> {
    Ok(Attempt {
        count: number(vector, "count")?,
        max: number(vector, "max")?,
        age_ms: number(vector, "age-ms")?,
        topic: text(vector, "topic"),
        group: text(vector, "group"),
        reason: text(vector, "reason"),
        last_delay_ms: number(vector, "last-delay-ms")?,
        properties: properties(vector),
    })
}

/// The question to a transaction plugin that a vector asks.
///
/// # Errors
/// A sentence that says which of its facts is no number.
pub fn half_of(vector: &TestVector) -> Result<Half, String> {
    let body = Some(&vector.message.body).filter(|body| !body.is_empty());
    Ok(Half {
        id: text(vector, "id"),
        topic: text(vector, "topic"),
        group: text(vector, "group"),
        age_ms: number(vector, "age-ms")?,
        checks: number(vector, "checks")?,
        properties: properties(vector),
        body: body.map(|body| body.clone().into_bytes()),
    })
}

fn properties(vector: &TestVector) -> Vec<(String, String)> {
    let properties = &vector.message.properties;
    properties.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn text(vector: &TestVector, name: &str) -> String {
    vector.facts.get(name).cloned().unwrap_or_default()
}

fn number<T: std::str::FromStr + Default>(vector: &TestVector, name: &str) -> Result<T, String> {
    match vector.facts.get(name) {
        Some(text) => text.parse().map_err(|_| format!("`{text}` is no number for `{name}`")),
        None => Ok(T::default()),
    }
}
