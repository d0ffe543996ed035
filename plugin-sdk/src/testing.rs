//! Tests of plugins, natively: the test vectors of the manifest, and what the host was asked.

use std::{env, fs};

use serde_json::Value;
use yard_abi::manifest::{MANIFEST_BYTES_MAX, Manifest, Point, TestVector};

use crate::log::Level;
use crate::macros::ManifestText;
use crate::{
    Answer, Attempt, Config, Dedupe, Fate, Filter, Half, Interceptor, Message, Next, Retry,
    TxnCheck, host,
};

/// The lines that this thread's plugin has written since the last call.
#[must_use]
pub fn logged() -> Vec<(Level, String)> {
    host::with(|host| std::mem::take(&mut host.lines))
}

/// Sets what [`crate::clock::now_ms`] says in this thread; `kv` forgets by it as well.
pub fn set_now_ms(now_ms: u64) {
    host::with(|host| host.now_ms = now_ms);
}

/// What was added to a counter in this thread.
#[must_use]
pub fn counted(name: &str) -> u64 {
    host::with(|host| host.counters.get(name).copied().unwrap_or(0))
}

/// What was added to a distribution in this thread.
#[must_use]
pub fn observed(name: &str) -> Vec<f64> {
    host::with(|host| host.observed.get(name).cloned().unwrap_or_default())
}

/// The manifest, as a broker reads it.
///
/// # Panics
/// With a sentence, when a broker would refuse it.
#[must_use]
pub fn read_manifest(text: &ManifestText) -> Manifest {
    let bytes = text.json.len();
    assert!(bytes <= MANIFEST_BYTES_MAX, "{bytes} bytes, at most {MANIFEST_BYTES_MAX}");
    let manifest: Manifest = match serde_json::from_str(text.json) {
        Ok(manifest) => manifest,
        Err(error) => panic!("{error} in {}", text.json),
    };
    if let Err(error) = manifest.check() {
        panic!("{error}");
    }
    manifest
}

/// Checks the manifest as a broker does.
///
/// # Panics
/// As [`read_manifest`].
pub fn manifest(text: &ManifestText) {
    let _ = read_manifest(text);
}

/// Runs the test vectors of a filter.
///
/// # Panics
/// When one does not come out.
pub fn filter<F: Filter>(text: &ManifestText) {
    run(text, Point::Filter, |vector, config| {
        let filter = F::compile(&vector.expression, config)?;
        Ok(if filter.keep(&message(vector, text)) { "deliver" } else { "skip" }.to_owned())
    });
}

/// Runs the test vectors of a dedupe plugin.
///
/// # Panics
/// When one does not come out.
pub fn dedupe<D: Dedupe>(text: &ManifestText) {
    run(text, Point::Dedupe, |vector, config| {
        let mut key = Vec::new();
        D::open(config)?.key(&message(vector, text), &mut key);
        Ok(String::from_utf8_lossy(&key).into_owned())
    });
}

/// Runs the test vectors of a retry policy.
///
/// # Panics
/// When one does not come out.
pub fn retry<R: Retry>(text: &ManifestText) {
    run(text, Point::Retry, |vector, config| {
        let attempt = Attempt {
            count: number(vector, "count") as u32,
            max: number(vector, "max") as u32,
            age_ms: number(vector, "age-ms"),
            topic: fact(vector, "topic"),
            group: fact(vector, "group"),
            reason: fact(vector, "reason"),
            last_delay_ms: number(vector, "last-delay-ms"),
            properties: properties(vector),
        };
        Ok(match R::open(config)?.decide(&attempt) {
            Next::DelayMs(delay) => format!("delay-ms {delay}"),
            Next::ToTopic(topic) => format!("to-topic {topic}"),
            Next::DeadLetter(reason) => format!("dead-letter {reason}"),
            Next::Drop => "drop".to_owned(),
        })
    });
}

/// Runs the test vectors of a transaction check.
///
/// # Panics
/// When one does not come out.
pub fn txn_check<T: TxnCheck>(text: &ManifestText) {
    run(text, Point::TxnCheck, |vector, config| {
        let half = Half {
            id: fact(vector, "id"),
            topic: fact(vector, "topic"),
            group: fact(vector, "group"),
            age_ms: number(vector, "age-ms"),
            checks: number(vector, "checks") as u32,
            properties: properties(vector),
            body: Some(vector.message.body.clone().into_bytes()),
        };
        Ok(match T::open(config)?.check(&half) {
            Fate::Commit => "commit",
            Fate::Rollback => "rollback",
            Fate::Unknown => "unknown",
            Fate::AskProducer => "ask-producer",
        }
        .to_owned())
    });
}

/// Runs the test vectors of an interceptor.
///
/// # Panics
/// When one does not come out.
pub fn interceptor<I: Interceptor>(text: &ManifestText) {
    run(text, Point::Interceptor, |vector, config| {
        Ok(match I::open(config)?.apply(&message(vector, text)) {
            Answer::Pass => "pass".to_owned(),
            Answer::Replace(_) => "replace".to_owned(),
            Answer::Reject(reason) => format!("reject {reason}"),
        })
    });
}

/// The message of a vector, with the properties that the manifest declares.
fn message(vector: &TestVector, text: &ManifestText) -> Message<'static> {
    let (record, delivery) = vector.message.record();
    Message::own(&record, delivery, read_manifest(text).properties)
}

fn properties(vector: &TestVector) -> Vec<(String, String)> {
    vector.message.properties.clone().into_iter().collect()
}

fn fact(vector: &TestVector, name: &str) -> String {
    vector.facts.get(name).cloned().unwrap_or_default()
}

fn number(vector: &TestVector, name: &str) -> u64 {
    let Some(text) = vector.facts.get(name) else { return 0 };
    text.parse().unwrap_or_else(|_| panic!("the fact `{name}` is `{text}`, not a number"))
}

/// Asks all vectors of a point, and compares; with `UPDATE_EXPECT=1` writes what comes out.
fn run(
    text: &ManifestText,
    point: Point,
    ask: impl Fn(&TestVector, &Config) -> Result<String, String>,
) {
    let manifest = read_manifest(text);
    let mut differences = Vec::new();
    let mut found = Vec::new();
    for (index, vector) in manifest.tests.iter().enumerate() {
        if vector.point != point {
            found.push(vector.expect.clone());
            continue;
        }
        let config = Config::from_iter(vector.config.clone());
        let declared = manifest.check_config(config.iter());
        let verdict = declared.and_then(|()| ask(vector, &config));
        let verdict = verdict.unwrap_or_else(|error| format!("refused {error}"));
        if verdict != vector.expect {
            let expect = &vector.expect;
            differences.push(format!("vector {index}: `{verdict}`, expected `{expect}`"));
        }
        found.push(verdict);
    }
    match text.vectors {
        Some(path) if env::var_os("UPDATE_EXPECT").is_some() => rewrite(path, &found),
        _ => assert!(differences.is_empty(), "{}", differences.join("\n")),
    }
}

fn rewrite(path: &str, found: &[String]) {
    let text = fs::read_to_string(path).expect("the file was there when this was built");
    let mut vectors: Value = serde_json::from_str(&text).expect("it was JSON then");
    let list = vectors.as_array_mut().expect("a list of vectors");
    for (vector, verdict) in list.iter_mut().zip(found) {
        vector["expect"] = Value::String(verdict.clone());
    }
    let mut text = serde_json::to_string_pretty(&vectors).expect("it came from JSON");
    text.push('\n');
    fs::write(path, text).expect("the file can be written");
}
