//! Cursors that must hold all their rows before they give the first: sorted, counted, grouped.
use std::collections::BTreeMap;
use std::sync::Arc;

use rhai::{Dynamic, ImmutableString};

use super::cursor::{By, Cursor, Pull, Source};
use super::message::Message;
use super::row::Row;
use super::{compare, json_of};
use crate::fault::{Fault, Result};
use crate::session::Session;
use yard_client::Code;

/// What a row that is no message takes in memory, about.
const ROW_BYTES: usize = 512;

/// Counts what is held.
pub(crate) struct Held {
    bytes: usize,
    max: usize,
}

impl Held {
    pub(crate) fn new(session: &Session) -> Self {
        Self { bytes: 0, max: session.limits.held_bytes }
    }

    pub(crate) fn add(&mut self, row: &Dynamic) -> Result<()> {
        self.bytes += row.read_lock::<Message>().map_or(ROW_BYTES, |message| message.bytes());
        if self.bytes <= self.max {
            return Ok(());
        }
        let mib = self.max >> 20;
        let message = format!("more than {mib} MiB of rows would be held; narrow them down first");
        Err(Fault::new(Code::ScriptLimit, message).into())
    }
}

/// Rows in an order; a name with `-` before it is from the largest on.
pub(crate) struct Sorted {
    pub(crate) rows: Cursor,
    pub(crate) by: By,
}

impl Source for Sorted {
    fn open(&self, session: &Arc<Session>) -> Result<Box<dyn Pull>> {
        let (by, is_descending) = match &self.by {
            By::Name(name) => match name.strip_prefix('-') {
                Some(name) => (By::Name(name.to_owned()), true),
                None => (By::Name(name.clone()), false),
            },
            By::Closure(closure) => (By::Closure(closure.clone()), false),
        };
        let (mut held, mut rows) = (Held::new(session), Vec::new());
        self.rows.each(|row| {
            held.add(&row)?;
            rows.push((by.look(session, &row)?, row));
            Ok(())
        })?;
        let mut failed = None;
        rows.sort_by(|(a, _), (b, _)| {
            let order = compare(a, b).unwrap_or_else(|error| {
                failed.get_or_insert(error);
                std::cmp::Ordering::Equal
            });
            if is_descending { order.reverse() } else { order }
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(Cursor::read(rows.into_iter().map(|(_, row)| row).collect())),
        }
    }
}

/// Rows by what they have in common.
pub(crate) struct Grouped {
    pub(crate) rows: Cursor,
    pub(crate) by: By,
    /// Whether the rows themselves are wanted, or only how many there are.
    pub(crate) with_items: bool,
}

#[derive(Default)]
struct Group {
    key: Dynamic,
    count: i64,
    items: Vec<Dynamic>,
}

impl Source for Grouped {
    fn open(&self, session: &Arc<Session>) -> Result<Box<dyn Pull>> {
        let mut held = Held::new(session);
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        self.rows.each(|row| {
            let key = self.by.look(session, &row)?;
            let group = groups.entry(json_of(&key)?.to_string()).or_default();
            if group.count == 0 || self.with_items {
                held.add(&row)?;
            }
            group.key = key;
            group.count += 1;
            if self.with_items {
                group.items.push(row);
            }
            Ok(())
        })?;
        let mut groups: Vec<Group> = groups.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        let row = |group: Group| {
            let mut fields: Vec<(ImmutableString, Dynamic)> =
                vec![("key".into(), group.key), ("count".into(), group.count.into())];
            if self.with_items {
                let items = Cursor::of_rows(group.items, session);
                fields.push(("items".into(), Dynamic::from(items)));
            }
            Dynamic::from(Row::new(fields))
        };
        Ok(Cursor::read(groups.into_iter().map(row).collect()))
    }
}
