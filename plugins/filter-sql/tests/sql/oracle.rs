//! What SQLite says of generated predicates over the flights.

use filter_sql::FilterPoint;
use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, params_from_iter};
use serde_json::Value;
use switchyard_plugin::abi::verdict::Bitmap;
use switchyard_plugin::prelude::*;
use switchyard_plugin::run;

use crate::flights::{Flights, flights};
use crate::generate::{Columns, Random, predicate};

const COLUMNS: Columns = Columns {
    numbers: &[
        ("month", &[1, 2, 6, 7, 12]),
        ("day", &[1, 10, 15, 28, 31]),
        ("dep_time", &[600, 900, 1200, 1830, 2100]),
        ("sched_dep_time", &[600, 900, 1200, 1830]),
        ("dep_delay", &[-10, -2, 0, 5, 15, 60, 120]),
        ("arr_time", &[700, 1000, 1500, 2200]),
        ("arr_delay", &[-30, -10, 0, 10, 60]),
        ("flight", &[1, 100, 700, 1545, 4000]),
        ("air_time", &[40, 90, 150, 330]),
        ("distance", &[200, 500, 1000, 2475]),
        ("hour", &[6, 9, 12, 17, 21]),
        ("minute", &[0, 15, 30, 59]),
    ],
    texts: &[
        ("carrier", &["UA", "AA", "B6", "9E", "DL", "EV"]),
        ("tailnum", &["N14228", "N24211", "N619AA", "N804JB", "N5"]),
        ("origin", &["EWR", "JFK", "LGA"]),
        ("dest", &["IAH", "MIA", "BQN", "ATL", "ORD"]),
    ],
};
/// Columns in which something is missing.
const NULLABLE: &[&str] =
    &["dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "tailnum"];
const PREDICATES: usize = 2_000;
/// Each predicate is judged over one in so many of the batches, another share for each.
const SHARES: usize = 40;
const SEED: u64 = 2_013;

fn database(flights: &Flights) -> Connection {
    let database = Connection::open_in_memory().expect("memory");
    database.pragma_update(None, "case_sensitive_like", true).expect("a pragma");
    let numbers: Vec<&str> = COLUMNS.numbers.iter().map(|(name, _)| *name).collect();
    let texts: Vec<&str> = COLUMNS.texts.iter().map(|(name, _)| *name).collect();
    let all = [numbers.as_slice(), &texts].concat();
    let places = vec!["?"; all.len()].join(", ");
    let create = format!(
        "CREATE TABLE flights ({} INTEGER, {} TEXT); BEGIN",
        numbers.join(" INTEGER, "),
        texts.join(" TEXT, ")
    );
    database.execute_batch(&create).expect("a table");
    let insert = format!("INSERT INTO flights ({}) VALUES ({places})", all.join(", "));
    let mut insert = database.prepare(&insert).expect("a statement");
    for line in &flights.lines {
        let values = all.iter().map(|name| match &line[*name] {
            Value::String(text) => ToSqlOutput::from(text.as_str()),
            Value::Number(number) => ToSqlOutput::from(number.as_i64().expect("whole")),
            _ => ToSqlOutput::from(rusqlite::types::Null),
        });
        insert.execute(params_from_iter(values)).expect("a row");
    }
    drop(insert);
    database.execute_batch("COMMIT").expect("all rows");
    database
}

/// How many rows, and the sum of their numbers, so that equal counts of other rows are noticed.
type Found = (i64, i64);

fn ours(flights: &Flights, expression: &str, share: usize, shares: usize) -> (Found, i64) {
    let filter = FilterPoint::compile(expression, &Config::default());
    let filter = filter.unwrap_or_else(|error| panic!("{error} in {expression}"));
    let (mut found, mut judged, mut row) = ((0, 0), 0, 1);
    for (index, batch) in flights.batches.iter().enumerate() {
        if index % shares == share {
            let bits = run::filter(&filter, &batch.frame, batch.count);
            let bitmap = Bitmap::parse(&bits, batch.count).expect("a bitmap");
            for (at, _) in bitmap.iter().enumerate().filter(|(_, kept)| *kept) {
                found = (found.0 + 1, found.1 + row + at as i64);
            }
            judged += i64::from(batch.count);
        }
        row += i64::from(batch.count);
    }
    (found, judged)
}

fn theirs(database: &Connection, expression: &str) -> Found {
    let select = format!("SELECT count(*), ifnull(sum(row), 0) FROM share WHERE {expression}");
    let found = database.query_row(&select, [], |row| Ok((row.get(0)?, row.get(1)?)));
    found.unwrap_or_else(|error| panic!("{error} in {expression}"))
}

fn compare(shares: usize) {
    let Some(flights) = flights() else { return };
    let database = database(flights);
    let mut random = Random(SEED);
    let mut predicates = vec![Vec::new(); shares];
    let mut nullable = 0;
    for index in 0..PREDICATES {
        let depth = 3 + random.below(2);
        let text = predicate(&mut random, &COLUMNS, depth);
        nullable += usize::from(NULLABLE.iter().any(|name| text.contains(name)));
        predicates[index % shares].push(text);
    }
    let mut selectivity = [0; 11];
    for (share, predicates) in predicates.iter().enumerate() {
        select_share(&database, flights, share, shares);
        for text in predicates {
            let (found, judged) = ours(flights, text, share, shares);
            assert_eq!(found, theirs(&database, text), "{text}");
            let tenth = if found.0 == 0 { 0 } else { 1 + (found.0 * 10 - 1) / judged };
            selectivity[tenth as usize] += 1;
        }
    }
    println!("{PREDICATES} predicates agree; {nullable} touch columns with nulls");
    println!("selectivity, none and then by tenths: {selectivity:?}");
    assert!(nullable * 100 >= PREDICATES * 30, "{nullable} touch columns with nulls");
    assert!(selectivity.iter().all(|count| *count >= 20), "spread: {selectivity:?}");
}

/// Makes a table of the rows of one share.
fn select_share(database: &Connection, flights: &Flights, share: usize, shares: usize) {
    let mut statements = String::from("DROP TABLE IF EXISTS share;");
    let mut first = 1;
    let mut ranges = Vec::new();
    for (index, batch) in flights.batches.iter().enumerate() {
        let next = first + i64::from(batch.count);
        if index % shares == share {
            ranges.push(format!("rowid BETWEEN {first} AND {}", next - 1));
        }
        first = next;
    }
    statements.push_str("CREATE TABLE share AS SELECT rowid AS row, * FROM flights WHERE 0;");
    for range in ranges {
        statements.push_str(&format!(
            "INSERT INTO share SELECT rowid AS row, * FROM flights WHERE {range};"
        ));
    }
    database.execute_batch(&statements).expect("the rows are there");
}

#[test]
fn sqlite_agrees() {
    compare(SHARES);
}

#[test]
#[ignore = "every predicate over every flight: some minutes"]
fn sqlite_agrees_over_all_flights() {
    compare(1);
}
