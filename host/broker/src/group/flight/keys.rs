//! The business keys of messages that are under way in a queue, where their group compares them.
//!
//! As in an ordered topic, new messages go to `ready` as soon as they were read; what is not
//! delivered because of its key goes `behind` until its key is free or it is settled.
use std::collections::BTreeMap;

use yard_wire::{DedupeKey, QueueOffset, Timestamp};

use super::{Again, Flight};
use crate::bounds::KEYS_BEHIND_MAX;
use crate::group::claims::Gate;
use crate::group::label::Label;
use crate::group::order::Stand;

/// What is known of the keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Of messages under way that were read; none: the message has no key.
    known: BTreeMap<QueueOffset, Option<DedupeKey>>,
    /// Messages that are not delivered now because of their keys.
    behind: BTreeMap<QueueOffset, Again>,
}

impl Flight {
    /// Whether new messages are read before they are delivered, and put in line.
    pub(super) fn lines_up(&self) -> bool {
        self.orders.is_some() || self.keys.is_some()
    }

    /// Whether a message may be ready as far as its key is concerned.
    pub(super) fn knows_key(&self, offset: QueueOffset) -> bool {
        self.keys.as_ref().is_none_or(|keys| keys.known.contains_key(&offset))
    }

    pub(super) fn learn_key(&mut self, offset: QueueOffset, label: Label) {
        if let Some(keys) = &mut self.keys {
            keys.known.insert(offset, label.key);
        }
    }

    /// Takes in the keys of messages that wait or are to be delivered again.
    pub(super) fn learn_keys(&mut self, from: QueueOffset, labels: &[Label]) {
        let Some(keys) = &mut self.keys else { return };
        let to = QueueOffset(from.0 + labels.len() as u64);
        let again = self.waiting.range(from..to).map(|(offset, _)| *offset);
        for offset in again.chain(self.unplaced.range(from..to).map(|(offset, _)| *offset)) {
            keys.known.insert(offset, labels[(offset.0 - from.0) as usize].key);
        }
    }

    fn behind(&self) -> impl Iterator<Item = (QueueOffset, &Again)> {
        let behind = self.keys.iter().flat_map(|keys| &keys.behind);
        behind.map(|(offset, again)| (*offset, again))
    }

    pub(super) fn behind_count(&self) -> usize {
        self.keys.as_ref().map_or(0, |keys| keys.behind.len())
    }

    /// Messages that are not delivered now because of their keys, in order.
    pub(super) fn offsets_behind(&self) -> impl Iterator<Item = QueueOffset> {
        self.behind().map(|(offset, _)| offset)
    }

    /// Those of them that were never delivered.
    pub(super) fn new_behind(&self) -> usize {
        self.behind().filter(|(_, again)| again.attempts == 0).count()
    }

    /// Whether so much waits for keys, or is read already, that nothing more is read.
    pub(super) fn keys_are_far_ahead(&self) -> bool {
        let is_read = self.keys.is_some() && self.orders.is_none() && !self.ready.is_empty();
        is_read || self.behind_count() >= KEYS_BEHIND_MAX
    }

    /// Whether a message that is ready is not delivered now because of its key; then it is not
    /// ready any more.
    pub(super) fn keeps_back(&mut self, offset: QueueOffset, gate: Option<&mut Gate<'_>>) -> bool {
        let Some(key) = self.key_of(offset) else { return false };
        let gate = gate.expect("a group that compares messages has a gate");
        if gate.admits(offset, key) {
            return false;
        }
        let (attempts, place) = self.ready.remove(&offset).expect("it was ready");
        let again = Again { attempts, place: Some(place) };
        let keys = self.keys.as_mut().expect("it has a key");
        let absent = keys.behind.insert(offset, again).is_none();
        assert!(absent, "a message waits for its key once");
        self.stand(offset, Stand::Barred);
        true
    }

    /// A message is leased: its key is in the same hands.
    pub(super) fn claim(&self, offset: QueueOffset, gate: Option<&mut Gate<'_>>) {
        if let Some(key) = self.key_of(offset) {
            gate.expect("a group that compares messages has a gate").claim(offset, key);
        }
    }

    /// The key of a message that is ready, if the group compares messages and it has one.
    fn key_of(&self, offset: QueueOffset) -> Option<DedupeKey> {
        let keys = self.keys.as_ref()?;
        *keys.known.get(&offset).expect("what is ready was read")
    }

    /// A message need not wait for its key any more. Whether it did.
    pub(crate) fn unbar(&mut self, offset: QueueOffset) -> bool {
        let again = self.keys.as_mut().and_then(|keys| keys.behind.remove(&offset));
        let Some(again) = again else { return false };
        self.make_ready(offset, again);
        true
    }

    /// Duplicates could not be recorded: they are looked at again later.
    pub(crate) fn try_again(&mut self, from: QueueOffset, to: QueueOffset, until: Timestamp) {
        assert!(from < to, "a step is about messages");
        self.held_until = self.held_until.max(Some(until));
        (from.0..to.0).map(QueueOffset).for_each(|offset| {
            self.unbar(offset);
        });
    }

    /// Messages are compared from now on, or not any more, or by something else: what is nobody's
    /// is read anew. What somebody has keeps no key.
    pub(crate) fn compare(&mut self, is_compared: bool) {
        let keys = if is_compared { self.keys.replace(Box::default()) } else { self.keys.take() };
        let behind = keys.map(|keys| keys.behind).unwrap_or_default();
        self.leases.note_ends(is_compared);
        if let Some(asked) = &mut self.asked {
            asked.is_stale = true;
        }
        self.prefetched.clear();
        let ready = std::mem::take(&mut self.ready).into_iter();
        let ready = ready.map(|(offset, (attempts, place))| {
            let place = Some(place);
            (offset, Again { attempts, place })
        });
        let open: Vec<(QueueOffset, Again)> = ready.chain(behind).collect();
        open.into_iter().for_each(|(offset, again)| self.make_ready(offset, again));
        assert!(!is_compared || self.ready.is_empty(), "what is compared is read first");
    }

    /// Messages are settled.
    pub(super) fn forget_keys(&mut self, from: QueueOffset, to: QueueOffset) {
        let Some(keys) = &mut self.keys else { return };
        while let Some((offset, _)) = keys.known.range(from..to).next() {
            let offset = *offset;
            keys.known.remove(&offset);
        }
    }

    /// Messages are not behind their keys any more.
    pub(super) fn take_behind(&mut self, from: QueueOffset, to: QueueOffset) {
        let Some(keys) = &mut self.keys else { return };
        while let Some((offset, _)) = keys.behind.range(from..to).next() {
            let offset = *offset;
            keys.behind.remove(&offset);
        }
    }

    pub(super) fn check_keys(&self, is_under_way: impl Fn(QueueOffset) -> bool) {
        let Some(keys) = &self.keys else { return };
        for offset in keys.known.keys() {
            assert!(is_under_way(*offset), "what is known of a key is under way");
        }
        let ready = self.ready.keys().chain(keys.behind.keys());
        for offset in ready {
            assert!(keys.known.contains_key(offset), "what is ready was read");
        }
        assert!(self.prefetched.is_empty(), "new messages are put in line");
    }
}
