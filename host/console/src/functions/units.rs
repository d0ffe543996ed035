//! Spans of time and sizes as numbers: milliseconds and bytes, as the broker's reports have them.
use crate::book::{Book, Kind, property};
use crate::fault::{Fault, Result};

/// Name, and how many milliseconds or bytes one is.
const UNITS: &[(&str, i64, &str, &str)] = &[
    ("ms", 1, "Milliseconds: the unit of all spans of time.", "sleep(500.ms)"),
    ("seconds", 1_000, "Seconds, in milliseconds.", "sleep(2.seconds)"),
    ("minutes", 60_000, "Minutes, in milliseconds.", r#"topic("orders").since(15.minutes)"#),
    ("hours", 3_600_000, "Hours, in milliseconds.", r#"topic("orders").since(2.hours)"#),
    ("days", 86_400_000, "Days, in milliseconds.", r#"topic("orders").set(#{ retain: 3.days })"#),
    (
        "kib",
        1 << 10,
        "Units of 1,024 bytes.",
        r#"topic("orders").all().filter(|m| m.size > 64.kib)"#,
    ),
    (
        "mib",
        1 << 20,
        "Units of 1,048,576 bytes.",
        r#"topic("orders").set(#{ retain_bytes: 64.mib })"#,
    ),
    (
        "gib",
        1 << 30,
        "Units of 1,073,741,824 bytes.",
        r#"topic("orders").set(#{ retain_bytes: 10.gib })"#,
    ),
];

pub(crate) fn add(book: &mut Book) {
    for (name, factor, help, example) in UNITS {
        let unit = move |number: &mut i64| -> Result<i64> {
            number.checked_mul(*factor).ok_or_else(|| {
                Fault::argument(format!("{number} {name} are more than a number holds")).into()
            })
        };
        book.add(property(Kind::Number, name, Kind::Number, help, example), unit);
    }
}
