//! Messages, rows and errors: their properties.
use std::sync::Arc;

use rhai::{Array, Dynamic};

use crate::book::{Book, Kind, method, property};
use crate::fault::{Fault, Result};
use crate::plan::{Plan, Sending, Step};
use crate::session::Session;
use crate::value::message::{Message, PROPERTIES};
use crate::value::row::Row;

pub(crate) fn add(book: &mut Book, session: &Arc<Session>) {
    book.engine.register_type_with_name::<Message>("message");
    book.engine.register_type_with_name::<Row>("row");
    book.engine.register_type_with_name::<Fault>("error");
    for it in PROPERTIES {
        let look = it.look;
        book.add(
            property(Kind::Message, it.name, it.kind, it.help, it.example),
            move |message: &mut Message| look(message),
        );
    }
    add_methods(book, session);
    add_rows(book);
    book.engine.register_fn("to_string", |message: &mut Message| message.to_string());
    book.engine.register_get("code", |fault: &mut Fault| fault.code.label());
    book.engine.register_get("message", |fault: &mut Fault| fault.message.clone());
    book.engine.register_get("retryable", |fault: &mut Fault| fault.code.is_retryable());
    book.engine.register_fn("to_string", |fault: &mut Fault| fault.to_string());
}

fn add_methods(book: &mut Book, session: &Arc<Session>) {
    let shared = session.clone();
    book.add(
        method(
            Kind::Message,
            "show",
            "",
            Kind::Nothing,
            "Shows the message on a page.",
            r#"topic("orders").peek(0, 0).show()"#,
        ),
        move |message: &mut Message| shared.print(&message.page()),
    );
    book.add(
        method(
            Kind::Message,
            "copy_to",
            "topic",
            Kind::Plan,
            "Sends the same to a topic: body, tag, keys, order group, properties.",
            r#"topic("orders").peek(0, 0).copy_to("orders_again").apply()"#,
        ),
        |message: &mut Message, topic: &str| {
            Plan::new(vec![Step::Send(Sending::copy(&topic.into(), message.clone()))])
        },
    );
    book.add(
        method(
            Kind::Message,
            "prop",
            "name",
            Kind::Text,
            "One of its own properties; nothing where it has none of that name.",
            r#"topic("orders").all().count_by(|m| m.prop("region"))"#,
        ),
        |message: &mut Message, name: &str| -> Dynamic {
            message.record().property(name).map_or(Dynamic::UNIT, |text| text.to_owned().into())
        },
    );
}

fn add_rows(book: &mut Book) {
    book.engine
        .register_indexer_get(|row: &mut Row, name: &str| -> Result<Dynamic> { row.get(name) });
    book.engine.register_fn("to_string", |row: &mut Row| row.to_string());
    book.engine.register_fn("contains", |row: &mut Row, name: &str| row.find(name).is_some());
    book.add(
        method(
            Kind::Row,
            "keys",
            "",
            Kind::Array,
            "The names of its fields.",
            r#"topic("orders").info().keys()"#,
        ),
        |row: &mut Row| -> Array {
            row.fields().iter().map(|(name, _)| name.clone().into()).collect()
        },
    );
}
