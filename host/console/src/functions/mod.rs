//! What scripts can call, by what it is called on.
pub(crate) mod catalogue;
mod cursor;
mod group;
mod message;
mod plan;
mod topic;
mod units;

use std::sync::Arc;

use rhai::{Dynamic, Map};

use crate::book::{Book, nearest};
use crate::fault::{Fault, Result};
use crate::session::Session;

pub(crate) use catalogue::names;

/// Registers everything.
pub(crate) fn add(book: &mut Book, session: &Arc<Session>) {
    catalogue::add(book, session);
    units::add(book);
    topic::add(book, session);
    group::add(book, session);
    message::add(book, session);
    cursor::add(book, session);
    plan::add(book, session);
}

/// The options of a function, taken out one by one; what is left over was misspelt.
pub(crate) struct Options {
    map: Map,
    known: &'static [&'static str],
}

impl Options {
    pub(crate) fn new(map: Map, known: &'static [&'static str]) -> Result<Self> {
        if let Some(name) = map.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(unknown(name, known).into());
        }
        Ok(Self { map, known })
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Dynamic> {
        debug_assert!(self.known.contains(&name), "only what is known can be there");
        self.map.remove(name)
    }

    /// A number that is not negative.
    pub(crate) fn count(&mut self, name: &str) -> Result<Option<u64>> {
        self.take(name).map(|value| count(name, &value)).transpose()
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>> {
        self.take(name).map(|value| text(name, value)).transpose()
    }
}

/// An option that there is not.
pub(crate) fn unknown(name: &str, known: &[&str]) -> Fault {
    let list = if known.is_empty() { "none".into() } else { known.join(", ") };
    match nearest(name, known.iter().copied()) {
        Some(near) => Fault::argument(format!("there is no option {name}; the nearest is {near}")),
        None => Fault::argument(format!("there is no option {name}; there are: {list}")),
    }
}

/// Reads a number that is not negative.
pub(crate) fn count(name: &str, value: &Dynamic) -> Result<u64> {
    let number = value.as_int().ok().and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| {
        Fault::argument(format!("{name} takes a number, 0 or more, not {value}")).into()
    })
}

fn text(name: &str, value: Dynamic) -> Result<String> {
    let shown = value.to_string();
    let kind = value.type_name();
    value
        .into_string()
        .map_err(|_| Fault::argument(format!("{name} takes a text, not {shown} ({kind})")).into())
}
