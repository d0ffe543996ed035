//! `yard plugin bench`: what a message costs at each point of a plugin, by batch size and by what
//! bounds its calls.
use std::sync::Arc;

use yard_abi::manifest::{Point, TestMessage, TestVector};
use yard_client::wire::value::{ToValue, Value};
use yard_wasm::bench::{BenchRow, Subject};
use yard_wasm::{Accepted, Binding};

use super::local::{self, Local, failed};
use crate::args::Written;
use crate::failure::Failure;
use crate::output;
use crate::verbs::Session;

/// Messages of a round: those of the file, or the examples of the manifest, again and again.
const MESSAGES: usize = 4_096;
/// Messages of a batch.
const SIZES: [usize; 3] = [1, 32, 256];
/// Bytes of bodies that the plugin sees.
const BODY_BYTES: u32 = 1 << 16;

pub(crate) fn bench(session: &Session, written: &Written) -> Result<(), Failure> {
    let local = Local::start()?;
    let file = super::read(written.required("wasm")?)?;
    let accepted = local.accept(&file)?;
    let rounds = written.number("rounds", 1, 1_000)?.unwrap_or(9) as usize;
    let given = match written.text("messages") {
        Some(path) => Some(local::messages(path)?),
        None => None,
    };
    let mut rows = Vec::new();
    for point in &accepted.manifest.points {
        let examples: Vec<&TestVector> =
            accepted.manifest.tests.iter().filter(|test| test.point == *point).collect();
        let binding = binding(written, examples.first().copied());
        local::check(&binding, &accepted.manifest)?;
        let mut measure = |size: usize, subject: &Subject<'_>| {
            let (cache, compiler) = (&local.cache, &local.compiler);
            let of = (&accepted, &file[..]);
            let found =
                yard_wasm::bench::bench(of, (cache, compiler), &binding, subject, &mut [], rounds);
            rows.extend(found.map_err(failed)?.iter().map(|it| row(*point, size, it)));
            Ok::<_, Failure>(())
        };
        match point {
            Point::Filter | Point::Dedupe | Point::Interceptor => {
                let records = records(&accepted, given.as_deref(), &examples)?;
                for size in SIZES {
                    let (point, records) = (*point, &records[..]);
                    let body_bytes = BODY_BYTES;
                    measure(size, &Subject::Batches { point, records, body_bytes, size })?;
                }
            }
            Point::Retry => {
                let attempts = examples.iter().map(|it| yard_wasm::attempt_of(it));
                let attempts: Vec<_> = attempts.collect::<Result<_, _>>().map_err(failed)?;
                measure(1, &Subject::Retry(&repeated(&accepted, &attempts)?))?;
            }
            Point::TxnCheck => {
                let halves = examples.iter().map(|it| yard_wasm::half_of(it));
                let halves: Vec<_> = halves.collect::<Result<_, _>>().map_err(failed)?;
                measure(1, &Subject::TxnCheck(&repeated(&accepted, &halves)?))?;
            }
        }
    }
    Ok(output::show(&Value::List(rows), session.format)?)
}

/// What the command line says, else what the first example of the point does.
fn binding(written: &Written, example: Option<&TestVector>) -> Arc<Binding> {
    let is_given = written.text("filter").is_some() || written.text("dialect").is_some();
    match example.filter(|_| !is_given) {
        Some(example) => {
            let config = example.config.iter().map(|(name, value)| (name.clone(), value.clone()));
            Binding::new(example.expression.clone(), config.collect())
        }
        None => local::binding(written),
    }
}

fn records(
    accepted: &Accepted,
    given: Option<&[TestMessage]>,
    examples: &[&TestVector],
) -> Result<Vec<Vec<u8>>, Failure> {
    let record = |message: &TestMessage| message.record().0;
    let records: Vec<Vec<u8>> = match given {
        Some(given) => given.iter().map(record).collect(),
        None => examples.iter().map(|example| record(&example.message)).collect(),
    };
    repeated(accepted, &records)
}

fn repeated<T: Clone>(accepted: &Accepted, of: &[T]) -> Result<Vec<T>, Failure> {
    if of.is_empty() {
        let name = &accepted.manifest.name;
        let says = "has no examples for this point; give it messages with --messages";
        return Err(Failure::local(format!("{name} {says}")));
    }
    Ok(of.iter().cycle().take(MESSAGES.max(of.len())).cloned().collect())
}

fn row(point: Point, size: usize, row: &BenchRow) -> Value {
    let tenths = |figure: f64| Value::Text(format!("{figure:.1}"));
    Value::Record(vec![
        ("point", Value::Text(point.name().to_owned())),
        ("batch", (size as u64).to_value()),
        ("limits", row.name.to_value()),
        ("ns", tenths(row.ns)),
        ("ns_min", tenths(row.ns_min)),
        ("ns_max", tenths(row.ns_max)),
        ("fuel", tenths(row.fuel)),
        ("calls", row.calls.to_value()),
    ])
}
