//! What an expression sees of a message.

use std::borrow::Cow;

use yard_abi::Message;
use yard_abi::message::KEY;

use crate::ast::{Name, Origin};
use crate::number::Number;

/// A message, and the names by which the expression asks it.
pub(crate) struct Row<'m> {
    pub(crate) message: &'m Message<'m>,
    pub(crate) names: &'m [Name],
    /// Its keys, where the expression asks for them and it has any.
    pub(crate) keys: Option<&'m [u8]>,
}

/// What comes out of an expression.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'m> {
    Null,
    Bool(bool),
    Number(Number),
    Text(&'m [u8]),
    /// A text of which nobody has said yet what it is: a property.
    Open(&'m [u8]),
}

impl<'m> Row<'m> {
    #[inline]
    pub(crate) fn get(&self, name: usize) -> Value<'m> {
        let name = &self.names[name];
        let text = match name.origin {
            Origin::Property => self.message.find(&name.property),
            Origin::Tag => Some(self.message.tag()).filter(|tag| !tag.is_empty()),
            Origin::Keys => self.keys,
            Origin::Born => return whole(self.message.born_ms()),
            Origin::Attempts => return whole(self.message.attempts().into()),
        };
        text.map_or(Value::Null, Value::Open)
    }
}

fn whole(value: u64) -> Value<'static> {
    Value::Number(Number::Int(value.try_into().unwrap_or(i64::MAX)))
}

/// The keys of a message with a space between them.
pub(crate) fn joined_keys<'m>(message: &Message<'m>) -> Option<Cow<'m, [u8]>> {
    let mut keys = message.properties().filter(|(name, _)| *name == KEY.as_bytes());
    let mut joined = Cow::Borrowed(keys.next()?.1);
    for (_, key) in keys {
        let joined = joined.to_mut();
        joined.push(b' ');
        joined.extend_from_slice(key);
    }
    Some(joined)
}
