//! The bench as a function: that it measures what it says. Its figures are for a quiet machine.
use yard_abi::manifest::Point;
use yard_wasm::bench::{BenchError, BenchRow, Native, Subject, bench};
use yard_wasm::{Binding, Limits, Metering};
use yard_wire::record::RecordParts;

use crate::points;
use crate::support::{CACHE, GOOD, accepted, compiler};

fn records(count: usize) -> Vec<Vec<u8>> {
    let record = |index: usize| {
        let mut record = Vec::new();
        let tag = if index.is_multiple_of(2) { "a" } else { "b" };
        RecordParts { tag, body: b"body", ..RecordParts::default() }
            .encode(&mut record)
            .expect("a small record");
        record
    };
    (0..count).map(record).collect()
}

fn run(
    wasm: &[u8],
    subject: &Subject<'_>,
    native: &mut [Native<'_>],
) -> Result<Vec<BenchRow>, BenchError> {
    let accepted = accepted(wasm, &Limits::DEFAULT).expect("a good plugin");
    let binding = Binding::new(String::new(), Vec::new());
    bench((&accepted, wasm), (&CACHE, &compiler()), &binding, subject, native, 3)
}

#[test]
fn every_metering_and_the_native_twin_have_a_row() {
    let records = records(100);
    let subject =
        Subject::Batches { point: Point::Filter, records: &records, body_bytes: 0, size: 32 };
    let mut calls = 0;
    let mut twin = || {
        calls += 1;
        records.iter().filter(|record| record[80] == b'a').count() as u64
    };
    let mut native = [Native { name: "native", run: &mut twin }];
    let rows = run(&GOOD.build(&[]), &subject, &mut native).unwrap();
    let names: Vec<&str> = rows.iter().map(|row| &*row.name).collect();
    assert_eq!(names, ["none", "epoch", "fuel", "both", "native"]);
    assert_eq!(calls, 4, "three rounds and one to warm up");
    for (metering, row) in Metering::ALL.iter().zip(&rows) {
        // Four batches, of 32 messages at most.
        assert_eq!(row.calls, 4, "{}", row.name);
        let has_fuel = matches!(metering, Metering::Fuel | Metering::Both);
        assert_eq!(row.fuel > 0.0, has_fuel, "{}", row.name);
        assert!(row.ns_min <= row.ns && row.ns <= row.ns_max);
    }
    assert_eq!(rows[2].fuel, rows[3].fuel, "fuel is the same whatever else bounds the call");
}

#[test]
fn questions_are_measured_one_by_one() {
    let attempts = vec![points::attempt(); 5];
    let (module, capabilities) = points::retry_module();
    let json = crate::support::manifest(Point::Retry, &capabilities);
    let name = yard_abi::manifest::SECTION;
    let wasm = crate::support::with_section(module, name, json.as_bytes());
    let rows = run(&wasm, &Subject::Retry(&attempts), &mut []).unwrap();
    assert_eq!(rows.len(), 4);
    // Each instance is opened in the round that is not counted.
    assert!(rows.iter().all(|row| row.calls == 5), "{rows:?}");
}

#[test]
fn a_bench_without_messages_is_an_error() {
    let rows = run(&GOOD.build(&[]), &Subject::Retry(&[]), &mut []);
    assert!(matches!(rows, Err(BenchError::Empty)));
}
