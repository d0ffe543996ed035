//! What a record says that decides about its delivery: its order group, and its business key.
use yard_wire::DedupeKey;
use yard_wire::record::Record;

use crate::effect::Reads;
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
    /// Of the record that fills `record`; one that is malformed says nothing.
    #[must_use]
    pub fn peek(record: &[u8], reads: &Reads) -> Self {
        let key = reads.property.as_deref().and_then(|name| {
            let value = Record::peek_property(record, name).ok().flatten()?;
            DedupeKey::of_property(name, value)
        });
        let order = match OrderKey::peek(record) {
            OrderKey::NONE if reads.keys => {
                let key = Record::peek_keys(record).ok().and_then(|(_, mut keys)| keys.next());
                key.map_or(OrderKey::NONE, OrderKey::named)
            }
            order => order,
        };
        Self { order, key }
    }
}
