//! A year of real events through the program, when the data is there.
use std::path::PathBuf;

use yard_it::flights::{self, Flights, Kills};
use yard_it::yard;

/// Next to the repository; it is not part of it.
pub(crate) fn file() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/flights-2013.ndjson.gz"
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_of_flights_arrives_exactly() {
    let path = file();
    if !path.is_file() {
        eprintln!("skipped: a_year_of_flights_arrives_exactly: there is no {}", path.display());
        return;
    }
    let flights = Flights::read(&path).unwrap();
    assert_eq!(flights.count(), 336_776);
    let yard = yard::locate(None).unwrap();
    let report = flights::run(&flights, &yard, 2, Kills::None).await.unwrap();
    assert!(report.is_exact(&flights), "{report:?}");
    assert_eq!(report.groups.len(), 2);
}
