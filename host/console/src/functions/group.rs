//! Groups of consumers: `groups()`, `group("g")` and `group("g").on("t")`.
use std::sync::Arc;

use rhai::{Dynamic, Map};
use yard_client::wire::operation::Operation;

use super::catalogue;
use crate::book::{Book, Kind, free, method};
use crate::fault::Result;
use crate::session::Session;
use crate::value::cursor::{Cursor, field};
use crate::value::row::Row;

/// A group by its name. It is looked up when something is asked of it.
#[derive(Clone, Debug)]
struct Group {
    name: String,
}

/// A group, as far as it consumes one topic.
#[derive(Clone, Debug)]
struct GroupTopic {
    group: Group,
    topic: String,
}

pub(crate) fn add(book: &mut Book, session: &Arc<Session>) {
    book.engine.register_type_with_name::<Group>("group");
    book.engine.register_type_with_name::<GroupTopic>("group of a topic");
    add_lookups(book, session);
    add_parts(book, session);
}

fn info(session: &Arc<Session>, group: &Group) -> Result<Dynamic> {
    let name = Dynamic::from(group.name.clone());
    catalogue::call(session, Operation::GroupInfo, &[&name], Map::new())
}

fn add_lookups(book: &mut Book, session: &Arc<Session>) {
    let shared = session.clone();
    book.add(
        free(
            "groups",
            "",
            Kind::Cursor,
            "The groups, a row for each topic that one consumes, as `group_ls`.",
            r#"groups().filter(|g| g.lag > 10_000).sort_by("-lag").table()"#,
        ),
        move || catalogue::call(&shared, Operation::GroupLs, &[], Map::new()),
    );
    book.add(
        free(
            "group",
            "name",
            Kind::Group,
            "A group; its fields are those of `group_info`, as they are at that moment.",
            r#"group("billing").lag"#,
        ),
        |name: &str| Group { name: name.to_owned() },
    );
    let shared = session.clone();
    book.add(
        method(
            Kind::Group,
            "info",
            "",
            Kind::Row,
            "Everything that the broker says of the group.",
            r#"group("billing").info()"#,
        ),
        move |group: &mut Group| info(&shared, group),
    );
    let shared = session.clone();
    book.engine.register_indexer_get(move |group: &mut Group, name: &str| -> Result<Dynamic> {
        field(&info(&shared, group)?, name)
    });
    book.engine.register_fn("to_string", |group: &mut Group| format!("group {}", group.name));
}

fn add_parts(book: &mut Book, session: &Arc<Session>) {
    book.add(
        method(
            Kind::Group,
            "on",
            "topic",
            Kind::GroupTopic,
            "The group, as far as it consumes one topic.",
            r#"group("billing").on("orders").queues()"#,
        ),
        |group: &mut Group, topic: &str| GroupTopic {
            group: group.clone(),
            topic: topic.to_owned(),
        },
    );
    let shared = session.clone();
    book.add(
        method(
            Kind::GroupTopic,
            "queues",
            "",
            Kind::Cursor,
            "Its progress in each queue of the topic.",
            r#"group("billing").on("orders").queues().sort_by("-lag").take(5)"#,
        ),
        move |part: &mut GroupTopic| rows(&shared, part, "queues"),
    );
    let shared = session.clone();
    book.add(
        method(
            Kind::GroupTopic,
            "members",
            "",
            Kind::Cursor,
            "Its members that consume the topic.",
            r#"group("billing").on("orders").members()"#,
        ),
        move |part: &mut GroupTopic| rows(&shared, part, "members"),
    );
    let shared = session.clone();
    book.add(
        method(
            Kind::GroupTopic,
            "lag",
            "",
            Kind::Number,
            "Committed messages of the topic that the group has not settled.",
            r#"group("billing").on("orders").lag()"#,
        ),
        move |part: &mut GroupTopic| -> Result<i64> {
            let mut lag = 0_i64;
            rows(&shared, part, "queues")?.each(|row| {
                lag = lag.saturating_add(field(&row, "lag")?.as_int().unwrap_or(0));
                Ok(())
            })?;
            Ok(lag)
        },
    );
    let text = |part: &mut GroupTopic| format!("group {} on {}", part.group.name, part.topic);
    book.engine.register_fn("to_string", text);
}

/// The rows of a list of the group's report that are of the topic.
fn rows(session: &Arc<Session>, part: &GroupTopic, list: &str) -> Result<Cursor> {
    let all = field(&info(session, &part.group)?, list)?;
    let all = all.try_cast::<Cursor>().expect("lists of a report are cursors");
    let mut of_topic = Vec::new();
    all.each(|row| {
        let is_of_topic = row
            .read_lock::<Row>()
            .and_then(|row| row.find("topic").map(|topic| topic.to_string() == part.topic));
        if is_of_topic == Some(true) {
            of_topic.push(row);
        }
        Ok(())
    })?;
    Ok(Cursor::of_rows(of_topic, session))
}
