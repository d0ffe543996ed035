//! Topics: `topics()` and `topic("x")`.
use std::sync::Arc;

use rhai::{Dynamic, FnPtr, Map};
use yard_client::wire::operation::Operation;
use yard_client::{MessageId, QueueIndex, Timestamp, Wanted};

use super::{Options, catalogue, count};
use crate::book::{Book, Kind, free, method};
use crate::fault::{Fault, Result};
use crate::now;
use crate::plan::{Plan, Sending, Step};
use crate::session::Session;
use crate::show::text::read_time;
use crate::source::sample::Sample;
use crate::source::search::Search;
use crate::source::span::Span;
use crate::source::tail::Tail;
use crate::value::cursor::Cursor;
use crate::value::message::Message;
use crate::value::row::Row;

/// A topic by its name. It is looked up when something is asked of it.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
}

pub(crate) fn add(book: &mut Book, session: &Arc<Session>) {
    book.engine.register_type_with_name::<Topic>("topic");
    add_lookups(book, session);
    add_reads(book, session);
    add_search(book, session);
    add_changes(book, session);
}

fn add_lookups(book: &mut Book, session: &Arc<Session>) {
    let shared = session.clone();
    book.add(
        free(
            "topics",
            "",
            Kind::Cursor,
            "The topics, a row each, as `topic_ls`.",
            r#"topics().filter(|t| t.queues < 16).sort_by("name")"#,
        ),
        move || catalogue::call(&shared, Operation::TopicLs, &[], Map::new()),
    );
    book.add(
        free(
            "topic",
            "name",
            Kind::Topic,
            "A topic; its fields are those of `topic_info`, as they are at that moment.",
            r#"topic("orders").messages"#,
        ),
        |name: &str| Topic { name: name.into() },
    );
    let shared = session.clone();
    book.add(
        method(
            Kind::Topic,
            "info",
            "",
            Kind::Row,
            "Everything that the broker says of the topic.",
            r#"topic("orders").info()"#,
        ),
        move |topic: &mut Topic| info(&shared, topic),
    );
    let shared = session.clone();
    book.engine.register_indexer_get(move |topic: &mut Topic, field: &str| -> Result<Dynamic> {
        let info = info(&shared, topic)?;
        let row = info.read_lock::<Row>().expect("a topic's report is a row");
        row.get(field)
    });
    book.engine.register_fn("to_string", |topic: &mut Topic| format!("topic {}", topic.name));
}

fn info(session: &Arc<Session>, topic: &Topic) -> Result<Dynamic> {
    let name = Dynamic::from(topic.name.to_string());
    catalogue::call(session, Operation::TopicInfo, &[&name], Map::new())
}

fn span(session: &Arc<Session>, topic: &Topic, from: Option<Timestamp>) -> Cursor {
    let topic = topic.name.clone();
    Cursor::new(Span { topic, queue: None, from, to: None }, session)
}

fn add_reads(book: &mut Book, session: &Arc<Session>) {
    let on = |name, params, help, example| {
        method(Kind::Topic, name, params, Kind::Cursor, help, example)
    };
    let shared = session.clone();
    book.add(
        on(
            "all",
            "",
            "All messages that it holds now, oldest first.",
            r#"topic("orders").all().count()"#,
        ),
        move |topic: &mut Topic| span(&shared, topic, None),
    );
    let shared = session.clone();
    book.add(
        on(
            "since",
            "age",
            "The messages of so long ago until now, oldest first.",
            r#"topic("orders").since(15.minutes).count_by("tag")"#,
        ),
        move |topic: &mut Topic, age: i64| -> Result<Cursor> {
            let age = count("since", &age.into())?;
            Ok(span(&shared, topic, Some(Timestamp(now().0.saturating_sub(age)))))
        },
    );
    let shared = session.clone();
    book.add(
        on(
            "between",
            "from, to",
            "The messages stored from one time until another: times as \
             \"2013-01-01T10:00:00Z\", ages as \"2h\", or \"now\".",
            r#"topic("orders").between("1d", "now").filter(|m| m.tag == "pay").save("p.csv")"#,
        ),
        move |topic: &mut Topic, from: &str, to: &str| -> Result<Cursor> {
            let (from, to) = (Some(time(from)?), Some(time(to)?));
            let topic = topic.name.clone();
            Ok(Cursor::new(Span { topic, queue: None, from, to }, &shared))
        },
    );
    let shared = session.clone();
    book.add(
        on(
            "queue",
            "number",
            "The messages of one queue, in their order.",
            r#"topic("orders").queue(3).take(5)"#,
        ),
        move |topic: &mut Topic, number: i64| -> Result<Cursor> {
            let queue = Some(queue(number)?);
            let topic = topic.name.clone();
            Ok(Cursor::new(Span { topic, queue, from: None, to: None }, &shared))
        },
    );
    add_ends(book, session);
}

/// What follows a topic, and what looks at a part of it.
fn add_ends(book: &mut Book, session: &Arc<Session>) {
    let on = |name, params, help, example| {
        method(Kind::Topic, name, params, Kind::Cursor, help, example)
    };
    let tail = || {
        on(
            "tail",
            "|m| condition",
            "Messages as they are stored from now on; it ends with take(n) or Ctrl-C. No group is \
             made.",
            r#"topic("orders").tail(|m| m.tag == "pay" && m.json.amount > 1_000).take(20)"#,
        )
    };
    let shared = session.clone();
    book.add(tail(), move |topic: &mut Topic| {
        Cursor::new(Tail { topic: topic.name.clone() }, &shared)
    });
    let shared = session.clone();
    book.add(tail(), move |topic: &mut Topic, keeps: FnPtr| {
        Cursor::new(Tail { topic: topic.name.clone() }, &shared).filter(keeps)
    });
    let shared = session.clone();
    book.add(
        on(
            "sample",
            "count",
            "So many messages, spread evenly over what its queues hold.",
            r#"topic("orders").sample(10_000).count_by(|m| m.key).top(10)"#,
        ),
        move |topic: &mut Topic, number: i64| -> Result<Cursor> {
            let count = count("sample", &number.into())?;
            Ok(Cursor::new(Sample { topic: topic.name.clone(), count }, &shared))
        },
    );
}

fn add_search(book: &mut Book, session: &Arc<Session>) {
    let shared = session.clone();
    book.add(
        method(
            Kind::Topic,
            "find",
            "#{ key, last, from, to }",
            Kind::Cursor,
            "The messages with a key: of so long ago (`last`), or between two times.",
            r#"topic("orders").find(#{ key: "o-4711", last: 2.hours }).show()"#,
        ),
        move |topic: &mut Topic, options: Map| find(&shared, topic, options),
    );
    let shared = session.clone();
    book.add(
        method(
            Kind::Topic,
            "peek",
            "queue, offset",
            Kind::Message,
            "One message by its place.",
            r#"topic("orders").peek(3, 1_000).show()"#,
        ),
        move |topic: &mut Topic, number: i64, offset: i64| {
            peek(&shared, topic, queue(number)?, count("peek", &offset.into())?)
        },
    );
    let shared = session.clone();
    book.add(
        free(
            "msg",
            "id",
            Kind::Message,
            "The message with an id, wherever it is.",
            r#"msg("018f3a5c7e9b00112233445566778899").show()"#,
        ),
        move |id: &str| -> Result<Dynamic> {
            let wanted = MessageId::parse(id).map(Wanted::Id).ok_or_else(|| {
                Fault::argument(format!("an id has 32 hexadecimal digits, not {id:?}"))
            })?;
            let mut reading = Cursor::new(Search { wanted }, &shared).open()?;
            let found = reading.next()?;
            Ok(found.ok_or_else(|| {
                none(format!("no message has the id {id}: {}", reading.covered()))
            })?)
        },
    );
}

fn none(message: String) -> Fault {
    Fault::new(yard_client::Code::NoSuchMessage, message)
}

fn find(session: &Arc<Session>, topic: &Topic, options: Map) -> Result<Cursor> {
    let mut options = Options::new(options, &["key", "last", "from", "to"])?;
    let key = options.text("key")?.ok_or_else(|| Fault::argument("find needs a key"))?;
    let last = options.count("last")?.map(|age| Timestamp(now().0.saturating_sub(age)));
    let from = options.text("from")?.map(|text| time(&text)).transpose()?;
    let to = options.text("to")?.map(|text| time(&text)).transpose()?;
    if last.is_some() && from.is_some() {
        return Err(Fault::argument("give either last or from, not both").into());
    }
    let wanted = Wanted::Key {
        topic: topic.name.to_string(),
        key,
        from: last.or(from).unwrap_or(Timestamp(0)),
        to: to.unwrap_or(Timestamp(u64::MAX)),
    };
    Ok(Cursor::new(Search { wanted }, session))
}

fn peek(session: &Session, topic: &Topic, queue: QueueIndex, offset: u64) -> Result<Message> {
    let client = session.client()?;
    let offset = yard_client::QueueOffset(offset);
    let fetched = session.ask(client.fetch(&topic.name, queue, offset, 1))?;
    let (first, end) = (fetched.first, fetched.end);
    let found = fetched.records.into_iter().next().filter(|record| record.offset == offset);
    match found {
        Some(record) => Message::fetched(&topic.name, queue, record),
        None => {
            let message =
                format!("no message has offset {offset}; queue {queue} holds {first}..{end}");
            Err(none(message).into())
        }
    }
}

fn queue(number: i64) -> Result<QueueIndex> {
    let queue = u16::try_from(number).map(QueueIndex);
    queue.map_err(|_| Fault::argument(format!("no topic has a queue {number}")).into())
}

fn time(text: &str) -> Result<Timestamp> {
    let time = if text == "now" { Some(now()) } else { read_time(text, now()) };
    time.ok_or_else(|| {
        let message =
            format!("a time is as 2013-01-01T10:00:00Z, an age as 2h, or now; not {text:?}");
        Fault::argument(message).into()
    })
}

fn add_changes(book: &mut Book, session: &Arc<Session>) {
    let on =
        |name, params, help, example| method(Kind::Topic, name, params, Kind::Plan, help, example);
    let change = |operation| {
        let session = session.clone();
        move |topic: &mut Topic, options: Map| {
            let name = Dynamic::from(topic.name.to_string());
            catalogue::call(&session, operation, &[&name], options)
        }
    };
    book.add(
        on(
            "create",
            "#{ options of topic_create }",
            "Creates the topic.",
            r#"topic("orders").create(#{ queues: 16 }).apply()"#,
        ),
        change(Operation::TopicCreate),
    );
    book.add(
        on(
            "set",
            "#{ options of topic_set }",
            "Changes settings of the topic.",
            r#"topic("orders").set(#{ retain: 3.days }).apply()"#,
        ),
        change(Operation::TopicSet),
    );
    let expand = change(Operation::TopicSet);
    book.add(
        on(
            "expand",
            "queues",
            "Gives the topic more queues; it cannot be undone.",
            r#"topic("orders").expand(64).apply()"#,
        ),
        move |topic: &mut Topic, queues: i64| {
            expand(topic, Map::from([("queues".into(), queues.into())]))
        },
    );
    let remove = change(Operation::TopicRm);
    book.add(
        on("rm", "", "Removes the topic and its messages.", r#"topic("orders").rm()"#),
        move |topic: &mut Topic| remove(topic, Map::new()),
    );
    let send = || {
        on(
            "send",
            "body, #{ key, tag, order, properties }",
            "Sends a message.",
            r#"topic("orders").send("hello", #{ key: "k1", tag: "paid" }).apply()"#,
        )
    };
    book.add(send(), |topic: &mut Topic, body: &str| message(topic, body, Map::new()));
    book.add(send(), |topic: &mut Topic, body: &str, options: Map| message(topic, body, options));
}

fn message(topic: &Topic, body: &str, options: Map) -> Result<Plan> {
    let options = Options::new(options, &["key", "tag", "order", "properties"])?;
    let sending = Sending::new(&topic.name, body.to_owned(), options)?;
    Ok(Plan::new(vec![Step::Send(sending)]))
}
