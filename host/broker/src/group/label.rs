//! What a record says that decides about its delivery: its order group, and its business key.
use yard_wire::DedupeKey;
use yard_wire::record::Record;

use crate::group::order::OrderKey;

/// What a record says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// Its order group.
    pub order: OrderKey,
    /// The value of the property by which the group that asked compares messages, if it has one.
    pub key: Option<DedupeKey>,
}

impl Label {
    /// Of the record that fills `record`, for a group that compares messages by this property; one
    /// that is malformed says nothing.
    #[must_use]
    pub fn peek(record: &[u8], property: Option<&str>) -> Self {
        let key = property.and_then(|name| {
            let value = Record::peek_property(record, name).ok().flatten()?;
            DedupeKey::of_property(name, value)
        });
        Self { order: OrderKey::peek(record), key }
    }
}
