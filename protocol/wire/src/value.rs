//! Results as people and scripts see them: a small tree of named values, without knowledge of the
//! type that it came from.
use crate::{LogPos, QueueIndex, QueueOffset, ShardId, TenantId, TopicId};

/// A value that can be shown as a table or as JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A count or an id.
    Number(u64),
    /// A text.
    Text(String),
    /// Several values, rows of a table when they are records.
    List(Vec<Value>),
    /// Named values, in order.
    Record(Vec<(&'static str, Value)>),
}

/// Types that can be shown.
pub trait ToValue {
    /// Whether its values are shown as a list.
    const IS_LIST: bool = false;

    /// The value to show.
    fn to_value(&self) -> Value;
}

macro_rules! number_to_value {
    ($($type:ty),*) => { $(
        impl ToValue for $type {
            fn to_value(&self) -> Value {
                Value::Number(u64::from(*self))
            }
        }
    )* };
}
number_to_value!(u16, u32, u64);

macro_rules! id_to_value {
    ($($type:ty),*) => { $(
        impl ToValue for $type {
            fn to_value(&self) -> Value {
                Value::Number(u64::from(self.0))
            }
        }
    )* };
}
id_to_value!(LogPos, QueueIndex, QueueOffset, ShardId, TenantId, TopicId);

impl ToValue for bool {
    fn to_value(&self) -> Value {
        Value::Bool(*self)
    }
}

impl ToValue for crate::MessageId {
    fn to_value(&self) -> Value {
        Value::Text(self.to_string())
    }
}

impl ToValue for String {
    fn to_value(&self) -> Value {
        Value::Text(self.clone())
    }
}

impl<T: ToValue> ToValue for Vec<T> {
    const IS_LIST: bool = true;

    fn to_value(&self) -> Value {
        Value::List(self.iter().map(ToValue::to_value).collect())
    }
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null, ToValue::to_value)
    }
}

/// The name of a field as people write it: without what lets a word of Rust be one.
#[must_use]
pub const fn plain(name: &str) -> &str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

/// Defines messages that can be shown.
#[macro_export]
macro_rules! report {
    ($( $(#[$doc:meta])* pub struct $name:ident {
        $( $(#[$field_doc:meta])* pub $field:ident : $type:ty ),* $(,)?
    } )*) => {
        $( $crate::message! {
            $(#[$doc])* pub struct $name { $( $(#[$field_doc])* pub $field: $type ),* }
        }
        impl $crate::value::ToValue for $name {
            fn to_value(&self) -> $crate::value::Value {
                $crate::value::Value::Record(vec![
                    $( (
                        const { $crate::value::plain(stringify!($field)) },
                        $crate::value::ToValue::to_value(&self.$field),
                    ) ),*
                ])
            }
        } )*
    };
}
