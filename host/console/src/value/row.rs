//! Named values in the order of the broker's report.
use std::fmt;
use std::sync::Arc;

use rhai::{Dynamic, ImmutableString};
use yard_client::wire::value::Value;

use super::cursor::Cursor;
use super::json_of;
use crate::book::nearest;
use crate::fault::{Fault, Result};
use crate::session::Session;

/// A row of a result. A field that it does not have is an error that names the nearest.
#[derive(Clone)]
pub(crate) struct Row(Arc<[(ImmutableString, Dynamic)]>);

impl Row {
    pub(crate) fn new(fields: impl IntoIterator<Item = (ImmutableString, Dynamic)>) -> Self {
        Self(fields.into_iter().collect())
    }

    pub(crate) fn fields(&self) -> &[(ImmutableString, Dynamic)] {
        &self.0
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Dynamic> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    pub(crate) fn get(&self, name: &str) -> Result<Dynamic> {
        self.find(name).cloned().ok_or_else(|| self.unknown(name).into())
    }

    fn unknown(&self, name: &str) -> Fault {
        let names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        Fault::argument(match nearest(name, names.iter().copied()) {
            Some(near) => format!("there is no field {name}; the nearest is {near}"),
            None => format!("there is no field {name}; there are: {}", names.join(", ")),
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            match json_of(value) {
                Ok(shown) => write!(f, "{comma}{name}: {shown}")?,
                Err(_) => write!(f, "{comma}{name}: …")?,
            }
        }
        Ok(())
    }
}

/// A result of the broker as a script holds it: records as rows, lists as cursors.
pub(crate) fn value_of(value: Value, session: &Arc<Session>) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(yes) => yes.into(),
        // Ids and counts beyond it would be no numbers that a script can count with.
        Value::Number(number) => {
            i64::try_from(number).map_or(number.to_string().into(), Into::into)
        }
        Value::Text(text) => text.into(),
        Value::List(rows) => {
            let rows = rows.into_iter().map(|row| value_of(row, session)).collect();
            Dynamic::from(Cursor::of_rows(rows, session))
        }
        Value::Record(fields) => {
            let field = |(name, value): (&'static str, Value)| {
                (ImmutableString::from(name), value_of(value, session))
            };
            Dynamic::from(Row::new(fields.into_iter().map(field)))
        }
    }
}
