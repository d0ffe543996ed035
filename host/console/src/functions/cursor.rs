//! What can be done with rows: all of it native, so that any number of them costs little.
use std::sync::Arc;

use rhai::{Array, Dynamic, FnPtr, ImmutableString, Map};

use super::{Options, count};
use crate::book::{Book, Entry, Kind, free, method};
use crate::display;
use crate::fault::{Fault, Result};
use crate::plan::{Plan, Sending, Step};
use crate::session::Session;
use crate::show::text;
use crate::value::cursor::{By, Cursor};
use crate::value::held::{Grouped, Held, Sorted};
use crate::value::message::Message;
use crate::value::row::Row;
use crate::{save, value};

pub(crate) fn add(book: &mut Book, session: &Arc<Session>) {
    book.engine.register_type_with_name::<Cursor>("cursor");
    book.engine.register_iterator_result::<Cursor, Dynamic>();
    add_stages(book, session);
    add_held(book);
    add_ends(book);
    add_sums(book);
    add_output(book);
    add_bulk(book);
}

const fn on(
    name: &'static str,
    params: &'static str,
    gives: Kind,
    help: &'static str,
    example: &'static str,
) -> Entry {
    method(Kind::Cursor, name, params, gives, help, example)
}

fn add_stages(book: &mut Book, session: &Arc<Session>) {
    let shared = session.clone();
    book.add(
        free(
            "rows",
            "array",
            Kind::Cursor,
            "A cursor over an array.",
            r#"rows(["orders", "refunds"]).map(|name| topic(name).messages).sum()"#,
        ),
        move |rows: Array| Cursor::of_rows(rows, &shared),
    );
    book.add(
        on(
            "filter",
            "|row| condition",
            Kind::Cursor,
            "The rows for which the condition holds.",
            r#"topics().filter(|t| t.name.starts_with("o"))"#,
        ),
        |rows: &mut Cursor, keeps: FnPtr| rows.filter(keeps),
    );
    book.add(
        on(
            "map",
            "|row| value",
            Kind::Cursor,
            "Another value for each row.",
            r#"topics().map(|t| #{ topic: t.name, queues: t.queues })"#,
        ),
        |rows: &mut Cursor, makes: FnPtr| rows.map(makes),
    );
    book.add(
        on("take", "count", Kind::Cursor, "The first rows.", r#"topic("orders").all().take(10)"#),
        |rows: &mut Cursor, number: i64| -> Result<Cursor> {
            Ok(rows.take(count("take", &number.into())?))
        },
    );
    book.add(
        on("skip", "count", Kind::Cursor, "All but the first rows.", "topics().skip(1)"),
        |rows: &mut Cursor, number: i64| -> Result<Cursor> {
            Ok(rows.skip(count("skip", &number.into())?))
        },
    );
}

fn add_held(book: &mut Book) {
    book.add(
        on(
            "sort_by",
            "field or |row| value",
            Kind::Cursor,
            "The rows in an order; a field with - before it from the largest on.",
            r#"topics().sort_by("-queues")"#,
        ),
        |rows: &mut Cursor, by: Dynamic| sorted(rows, by),
    );
    let group = |with_items: bool| {
        move |rows: &mut Cursor, by: Dynamic| -> Result<Cursor> {
            let (session, rows) = (rows.session().clone(), rows.clone());
            Ok(Cursor::new(Grouped { rows, by: By::of(by)?, with_items }, &session))
        }
    };
    book.add(
        on(
            "count_by",
            "field or |row| value",
            Kind::Cursor,
            "How many rows have a value in common: `key` and `count`, the most first.",
            r#"topic("orders").sample(10_000).count_by("tag")"#,
        ),
        group(false),
    );
    book.add(
        on(
            "group_by",
            "field or |row| value",
            Kind::Cursor,
            "The rows by what they have in common: `key`, `count` and the rows, `items`.",
            r#"groups().group_by("topic").map(|g| #{ topic: g.key, lag: g.items.sum("lag") })"#,
        ),
        group(true),
    );
    let top = || {
        on(
            "top",
            "count, field",
            Kind::Cursor,
            "The rows with the largest `count`, or another field.",
            r#"groups().top(5, "lag")"#,
        )
    };
    let largest = |rows: &Cursor, number: i64, field: &str| -> Result<Cursor> {
        let number = count("top", &number.into())?;
        Ok(sorted(rows, format!("-{field}").into())?.take(number))
    };
    book.add(top(), move |rows: &mut Cursor, number: i64| largest(rows, number, "count"));
    book.add(top(), move |rows: &mut Cursor, number: i64, field: &str| {
        largest(rows, number, field)
    });
}

fn sorted(rows: &Cursor, by: Dynamic) -> Result<Cursor> {
    if rows.is_endless() {
        return Err(Fault::argument("this never ends, so it has no order; take(n) first").into());
    }
    Ok(Cursor::new(Sorted { rows: rows.clone(), by: By::of(by)? }, rows.session()))
}

fn add_ends(book: &mut Book) {
    book.add(
        on(
            "count",
            "",
            Kind::Number,
            "How many rows there are.",
            r#"topic("orders").since(1.hours).count()"#,
        ),
        |rows: &mut Cursor| -> Result<i64> {
            let mut count = 0;
            rows.each(|_| {
                count += 1;
                Ok(())
            })?;
            Ok(count)
        },
    );
    book.add(
        on(
            "first",
            "",
            Kind::Any,
            "The first row; nothing where there is none.",
            "topics().first()",
        ),
        |rows: &mut Cursor| -> Result<Dynamic> {
            Ok(rows.open()?.next()?.unwrap_or(Dynamic::UNIT))
        },
    );
    book.add(
        on(
            "collect",
            "max",
            Kind::Array,
            "The first rows as an array, at most so many.",
            "let names = topics().map(|t| t.name).collect(100);",
        ),
        |rows: &mut Cursor, max: i64| -> Result<Array> {
            let items = rows.session().limits.array_items;
            let max = usize::try_from(count("collect", &max.into())?).unwrap_or(usize::MAX);
            if max > items {
                let message = format!("an array has at most {items} items; cursors have no bound");
                return Err(Fault::argument(message).into());
            }
            Ok(rows.head(max)?.0)
        },
    );
    book.add(
        on(
            "each",
            "|row| …",
            Kind::Number,
            "Does something for each row; how many there were.",
            r#"topic("orders").tail().take(20).each(|m| print(`${m.time} ${m.key}`))"#,
        ),
        |rows: &mut Cursor, does: FnPtr| -> Result<i64> {
            let (session, mut count) = (rows.session().clone(), 0);
            rows.each(|row| {
                let _ = session.call(&does, (row,))?;
                count += 1;
                Ok(())
            })?;
            Ok(count)
        },
    );
}

fn add_sums(book: &mut Book) {
    let sum = || {
        on(
            "sum",
            "field or |row| value",
            Kind::Number,
            "The sum of a field, of what a closure gives, or of the rows themselves.",
            r#"topic("orders").since(1.hours).sum("size")"#,
        )
    };
    book.add(sum(), |rows: &mut Cursor| total(rows, None));
    book.add(sum(), |rows: &mut Cursor, by: Dynamic| total(rows, Some(By::of(by)?)));
    let largest = |name, help, example| on(name, "field or |row| value", Kind::Any, help, example);
    book.add(
        largest("max", "The row with the largest value.", r#"groups().max("lag")"#),
        |rows: &mut Cursor, by: Dynamic| extreme(rows, by, std::cmp::Ordering::Greater),
    );
    book.add(
        largest("min", "The row with the smallest value.", r#"topics().min("created_ms")"#),
        |rows: &mut Cursor, by: Dynamic| extreme(rows, by, std::cmp::Ordering::Less),
    );
}

fn total(rows: &Cursor, by: Option<By>) -> Result<Dynamic> {
    let session = rows.session().clone();
    let (mut whole, mut fraction, mut is_whole) = (0_i64, 0.0, true);
    rows.each(|row| {
        let value = match &by {
            Some(by) => by.look(&session, &row)?,
            None => row,
        };
        if let Ok(number) = value.as_int() {
            whole = whole
                .checked_add(number)
                .ok_or_else(|| Fault::argument("the sum is more than a number holds"))?;
        } else if let Ok(number) = value.as_float() {
            (fraction, is_whole) = (fraction + number, false);
        } else {
            let kind = value.type_name();
            return Err(Fault::argument(format!("a sum is of numbers, not of {kind}")).into());
        }
        Ok(())
    })?;
    Ok(if is_whole { whole.into() } else { (whole as f64 + fraction).into() })
}

fn extreme(rows: &Cursor, by: Dynamic, wanted: std::cmp::Ordering) -> Result<Dynamic> {
    let (session, by) = (rows.session().clone(), By::of(by)?);
    let mut best: Option<(Dynamic, Dynamic)> = None;
    rows.each(|row| {
        let value = by.look(&session, &row)?;
        let is_better = match &best {
            Some((known, _)) => value::compare(&value, known)? == wanted,
            None => true,
        };
        if is_better && !value.is_unit() {
            best = Some((value, row));
        }
        Ok(())
    })?;
    Ok(best.map_or(Dynamic::UNIT, |(_, row)| row))
}

fn add_output(book: &mut Book) {
    book.add(
        on("table", "", Kind::Nothing, "Shows all rows as a table.", "topics().table()"),
        |rows: &mut Cursor| -> Result<()> {
            let session = rows.session().clone();
            let rows = rows.rows_of_table()?;
            session.print(&display::table(&session, &rows)?)
        },
    );
    book.add(
        on(
            "show",
            "",
            Kind::Nothing,
            "Shows each message on a page, and what was looked at.",
            r#"topic("orders").find(#{ key: "o-4711" }).show()"#,
        ),
        |rows: &mut Cursor| -> Result<()> {
            let (session, mut reading) = (rows.session().clone(), rows.open()?);
            while let Some(row) = reading.next()? {
                let page = row.read_lock::<Message>().map(|message| message.page());
                let page =
                    page.map_or_else(|| display::table(&session, std::slice::from_ref(&row)), Ok)?;
                session.print(&format!("{page}\n"))?;
            }
            let covered = reading.covered();
            if covered.is_empty() { Ok(()) } else { session.print(&format!("{covered}\n")) }
        },
    );
    book.add(
        on(
            "save",
            "path",
            Kind::Row,
            "Writes all rows to a file: .ndjson, .json or .csv, with .gz packed.",
            r#"topic("audit").since(1.days).save("audit.ndjson.gz")"#,
        ),
        |rows: &mut Cursor, path: &str| -> Result<Row> {
            let saved = save::save(rows, path)?;
            let bytes = i64::try_from(saved.bytes).unwrap_or(i64::MAX);
            let size = text::bytes(saved.bytes);
            Ok(Row::new([
                (ImmutableString::from("path"), Dynamic::from(path.to_owned())),
                ("rows".into(), saved.rows.into()),
                ("bytes".into(), bytes.into()),
                ("size".into(), size.into()),
            ]))
        },
    );
    book.engine.register_fn("to_string", |rows: &mut Cursor| -> Result<String> {
        let session = rows.session().clone();
        display::table(&session, &rows.rows_of_table()?)
    });
}

fn add_bulk(book: &mut Book) {
    book.add(
        on(
            "plan",
            "|row| plan",
            Kind::Plan,
            "One plan of the plans for each row.",
            r#"topics().filter(|t| t.queues < 4).plan(|t| topic(t.name).set(#{ queues: 4 }))"#,
        ),
        |rows: &mut Cursor, makes: FnPtr| -> Result<Plan> {
            let (session, mut steps) = (rows.session().clone(), Vec::new());
            let mut held = Held::new(&session);
            rows.each(|row| {
                held.add(&row)?;
                let made = session.call(&makes, (row,))?;
                let kind = made.type_name();
                let plan = made.try_cast::<Plan>().ok_or_else(|| {
                    Fault::argument(format!("a plan is wanted for each row, not {kind}"))
                })?;
                steps.extend(plan.steps.iter().cloned());
                Ok(())
            })?;
            Ok(Plan::new(steps))
        },
    );
    book.add(
        on(
            "copy_to",
            "topic",
            Kind::Plan,
            "Sends messages again to a topic: body, tag, keys, order group, properties; new ids.",
            r#"topic("orders").since(1.hours).copy_to("orders_wide").apply(#{ rate: 5_000 })"#,
        ),
        |rows: &mut Cursor, topic: &str| -> Result<Plan> {
            if rows.is_endless() {
                return Err(Fault::argument("this never ends; take(n) first").into());
            }
            let (topic, mut steps): (Arc<str>, _) = (topic.into(), Vec::new());
            let mut held = Held::new(rows.session());
            rows.each(|row| {
                held.add(&row)?;
                let kind = row.type_name();
                let message = row
                    .try_cast::<Message>()
                    .ok_or_else(|| Fault::argument(format!("messages are copied, not {kind}")))?;
                steps.push(Step::Send(Sending::copy(&topic, message)));
                Ok(())
            })?;
            Ok(Plan::new(steps))
        },
    );
}

/// The options of an application.
pub(crate) fn rate(options: Map) -> Result<Option<u64>> {
    let rate = Options::new(options, &["rate"])?.count("rate")?;
    match rate {
        Some(0) => Err(Fault::argument("rate takes messages a second, at least 1").into()),
        rate => Ok(rate),
    }
}
