//! Dedupe keys that producers share, and what must hold of them: of the messages with a key one is
//! ever seen, and whoever is told that another one was stored in place of its own is told so truly.
use std::collections::{BTreeMap, BTreeSet};

use yard_wire::record::{DEDUPE, Record};
use yard_wire::requests::{AckPlace, Original};
use yard_wire::{MessageId, TopicId};

use crate::base::Base;

/// A key of a topic.
type Key = (TopicId, u64);

/// What is known of the keys.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    /// The messages that were sent with each.
    sent: BTreeMap<Key, BTreeSet<MessageId>>,
    /// The one that was seen.
    seen: BTreeMap<Key, MessageId>,
    /// The one that somebody was promised.
    promised: BTreeMap<Key, MessageId>,
}

impl Keys {
    /// A message is sent with a key.
    pub(crate) fn sent(&mut self, key: Key, id: MessageId) {
        self.sent.entry(key).or_default().insert(id);
    }
}

/// Somebody was told that a message was not stored, because this one with its key was.
pub(crate) fn answered(
    base: &mut Base,
    key: Option<Key>,
    own: MessageId,
    (original, place): (Original, AckPlace),
) {
    let Some(key) = key else {
        return base.fail(|| format!("a message without a key was left out for {original:?}"));
    };
    let is_of_it = base.keys.sent.get(&key).is_some_and(|ids| ids.contains(&original.id));
    if !is_of_it || original.id == own {
        base.fail(|| format!("{original:?} is not another message with the key {key:?}"));
    }
    // One that was delayed may have been taken back since.
    if place == AckPlace::Synced && original.offset.is_some() {
        base.keys.promised.insert(key, original.id);
    }
}

/// Somebody read a message.
pub(crate) fn seen(base: &mut Base, record: &Record) {
    let Some(number) = record.property(DEDUPE).and_then(|key| key.parse().ok()) else { return };
    let (key, id) = ((record.topic(), number), record.id());
    // A group's dead letters are of several topics, each of which may have the key.
    if !base.routes.iter().chain(&base.wide_routes).any(|route| route.topic == key.0) {
        return;
    }
    let first = *base.keys.seen.entry(key).or_insert(id);
    if first != id {
        base.fail(|| format!("{first} and {id} are both stored with the key {key:?}"));
    }
}

/// Everything was read: what was promised is there, in topics that keep everything.
pub(crate) fn check(base: &mut Base) {
    for (key, id) in std::mem::take(&mut base.keys.promised) {
        let number = base.routes.iter().position(|route| route.topic == key.0);
        let keeps_all = number.is_some_and(|number| base.plan.retain_bytes[number] == 0);
        let found = base.keys.seen.get(&key).copied();
        if keeps_all && found != Some(id) {
            base.fail(|| format!("{id} was stored with the key {key:?}, now it is {found:?}"));
        }
    }
}
