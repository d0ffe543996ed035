//! The flights as messages, packed as a plugin sees them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::OnceLock;

use filter_sql::FilterPoint;
use flate2::read::GzDecoder;
use serde_json::{Map, Value};
use switchyard_plugin::abi::record::Parts;
use switchyard_plugin::abi::verdict::Bitmap;
use switchyard_plugin::abi::{Delivery, FrameBuilder, Room};
use switchyard_plugin::prelude::*;
use switchyard_plugin::run;

/// Beside the repository, as it is too large for it.
const FILE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/flights-2013.ndjson.gz");

/// One batch of flights.
pub(crate) struct Batch {
    pub(crate) frame: Vec<u8>,
    pub(crate) count: u32,
}

/// All flights: their lines, and batches of them in the same order.
pub(crate) struct Flights {
    pub(crate) lines: Vec<Map<String, Value>>,
    pub(crate) batches: Vec<Batch>,
}

/// The flights, or nothing where the file is not there.
pub(crate) fn flights() -> Option<&'static Flights> {
    static FLIGHTS: OnceLock<Option<Flights>> = OnceLock::new();
    FLIGHTS.get_or_init(|| read(Path::new(FILE))).as_ref()
}

fn read(path: &Path) -> Option<Flights> {
    let Ok(file) = File::open(path) else {
        println!("skipped: {} is not there", path.display());
        return None;
    };
    let mut flights = Flights { lines: Vec::new(), batches: Vec::new() };
    let mut builder = FrameBuilder::new(0);
    for line in BufReader::new(GzDecoder::new(file)).lines() {
        let line: Map<String, Value> =
            serde_json::from_str(&line.expect("a text")).expect("an object");
        let offset = flights.lines.len() as u64;
        let (record, delivery) = (record(&line), Delivery { offset, ..Delivery::default() });
        if builder.push(&record, delivery).expect("a record") == Room::Full {
            flights.close(&mut builder);
            assert_eq!(builder.push(&record, delivery), Ok(Room::Taken));
        }
        flights.lines.push(line);
    }
    flights.close(&mut builder);
    Some(flights)
}

impl Flights {
    fn close(&mut self, builder: &mut FrameBuilder) {
        self.batches.push(Batch { frame: builder.bytes().to_vec(), count: builder.count() });
        builder.clear();
    }
}

/// A flight as a message: its tag is the carrier, what is null is left out.
fn record(line: &Map<String, Value>) -> Vec<u8> {
    let properties = line.iter().filter_map(|(name, value)| match value {
        Value::Null => None,
        Value::String(text) => Some((name.clone(), text.clone())),
        other => Some((name.clone(), other.to_string())),
    });
    let tag = line["carrier"].as_str().unwrap_or_default().to_owned();
    Parts { tag, properties: properties.collect(), ..Parts::default() }.record()
}

/// How many flights a predicate keeps.
fn count(flights: &Flights, expression: &str) -> u32 {
    let filter = FilterPoint::compile(expression, &Config::default()).expect("an expression");
    let ones = flights.batches.iter().map(|batch| {
        let bits = run::filter(&filter, &batch.frame, batch.count);
        Bitmap::parse(&bits, batch.count).expect("a bitmap").ones()
    });
    ones.sum()
}

/// The counts that the file comes with.
const COUNTS: &[(&str, u32)] = &[
    ("carrier = 'UA'", 58_665),
    ("TAGS = 'UA'", 58_665),
    ("dep_delay > 60", 26_581),
    ("dep_delay IS NULL", 8_255),
    ("dep_delay > 60 AND origin IN ('JFK','EWR')", 19_341),
    ("dep_delay BETWEEN 15 AND 30 AND NOT (carrier = 'UA')", 19_585),
    ("year = 2013", 336_776),
];

#[test]
fn counts_are_those_that_the_file_comes_with() {
    let Some(flights) = flights() else { return };
    assert_eq!(flights.lines.len(), 336_776);
    for (expression, expect) in COUNTS {
        assert_eq!(count(flights, expression), *expect, "{expression}");
    }
}
