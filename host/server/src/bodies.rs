//! Encoded messages that several groups are sent: what is new in a queue goes to each group that
//! follows it, mostly in the same portions, and then it is copied out of the log once.
use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::Bytes;
use yard_broker::DeliverItem;
use yard_wire::QueueOffset;

use crate::hub::lock;

/// Portions that are remembered: those of some queues and commits.
const BODIES_MAX: usize = 32;
/// Bytes of them.
const BYTES_MAX: usize = 2 << 20;

/// Names a portion: messages in a row, none delivered before. The place of a record in the log
/// says which queue it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Portion {
    first: QueueOffset,
    first_at: (u32, u32),
    last_at: (u32, u32),
    count: usize,
}

impl Portion {
    /// The portion that these are, if they are one.
    pub(crate) fn of(items: &[DeliverItem]) -> Option<Self> {
        let (first, last) = (items.first()?, items.last()?);
        let is_row = last.offset.0.checked_sub(first.offset.0) == Some(items.len() as u64 - 1);
        let is_new = items.iter().all(|item| item.attempt == 1);
        let at = |item: &DeliverItem| (item.place.segment, item.place.offset);
        let (first_at, last_at) = (at(first), at(last));
        let portion = Self { first: first.offset, first_at, last_at, count: items.len() };
        (is_row && is_new).then_some(portion)
    }
}

/// The portions encoded last.
#[derive(Default)]
pub(crate) struct Bodies(Mutex<VecDeque<(Portion, Bytes)>>);

impl Bodies {
    /// A portion that was encoded for another group.
    pub(crate) fn get(&self, portion: &Portion) -> Option<Bytes> {
        let bodies = lock(&self.0);
        let found = bodies.iter().rev().find(|(other, _)| other == portion);
        found.map(|(_, body)| body.clone())
    }

    /// Remembers a portion.
    pub(crate) fn put(&self, portion: Portion, body: Bytes) {
        let mut bodies = lock(&self.0);
        bodies.push_back((portion, body));
        let sum = |bodies: &VecDeque<(Portion, Bytes)>| {
            bodies.iter().map(|(_, body)| body.len()).sum::<usize>()
        };
        while bodies.len() > BODIES_MAX || sum(&bodies) > BYTES_MAX {
            bodies.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yard_wire::{RecordPlace, Timestamp};

    fn item(offset: u64, attempt: u32) -> DeliverItem {
        let at = offset as u32 * 100;
        let (segment, bytes, stored, released) = (1, 100, Timestamp(1), false);
        let place = RecordPlace { segment, offset: at, bytes, stored, released };
        DeliverItem { offset: QueueOffset(offset), attempt, order: None, place }
    }

    #[test]
    fn only_new_messages_in_a_row_are_a_portion() {
        let portion = |items: &[DeliverItem]| Portion::of(items);
        let row = [item(5, 1), item(6, 1), item(7, 1)];
        assert!(portion(&row).is_some());
        assert_eq!(portion(&row), portion(&row.map(|item| item)));
        assert_ne!(portion(&row), portion(&row[1..]));
        assert_ne!(portion(&row), portion(&row[..2]));
        assert_eq!(portion(&[]), None);
        assert_eq!(portion(&[item(5, 1), item(7, 1)]), None, "a gap");
        assert_eq!(portion(&[item(5, 1), item(6, 2)]), None, "delivered before");
        assert_eq!(portion(&[item(6, 1), item(5, 1)]), None, "not in order");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let bodies = Bodies::default();
        let of = |n: u64| Portion::of(&[item(n, 1)]).expect("one is a row");
        for n in 0..100 {
            bodies.put(of(n), Bytes::from(vec![n as u8; 300 << 10]));
            assert_eq!(bodies.get(&of(n)).expect("the newest")[0], n as u8);
        }
        let held = (0..100).filter(|n| bodies.get(&of(*n)).is_some()).count();
        assert_eq!(held, BYTES_MAX / (300 << 10));
    }
}
