//! Where groups may begin. One that begins while messages are about to go begins behind those; if
//! the broker dies before the log says that they are gone, they stay, and the group never gets
//! them. A group that the log does not know yet may have got messages already: if the broker dies
//! then, nothing keeps them for it, and it begins with the earliest that are left. Of nothing else
//! may a group that begins with the earliest message be ignorant.
use std::collections::{BTreeMap, BTreeSet};

use yard_broker::{Event, Origin};
use yard_checker::{Event as Recorded, Skip};
use yard_shard::Input;
use yard_store::Store;
use yard_wire::request::Request;
use yard_wire::{QueueOffset, TopicId};

use super::Host;
use crate::base::{Base, queue_name};
use crate::client::group_of;

/// A group in a topic and a shard.
type Name = (u64, TopicId, usize);

/// What is known of groups that begin.
#[derive(Default)]
pub(super) struct Beginnings {
    /// Subscriptions without an answer, of groups that may begin with them.
    asked: BTreeMap<Origin, Name>,
    /// Groups that are there: the log says so, and somebody was told.
    begun: BTreeSet<Name>,
    /// Of queues, where groups may have begun because what lies before was about to go.
    behind: BTreeMap<(u64, yard_checker::Queue), QueueOffset>,
}

impl Beginnings {
    /// A shard is about to take these in.
    pub(super) fn look(&mut self, base: &Base, shard: usize, store: &Store, inputs: &[Input]) {
        for input in inputs {
            let Input::Event(Event::Request { origin, request, .. }) = input else { continue };
            let Request::Subscribe(subscribe) = request else { continue };
            let route = base.routes.iter().find(|route| route.name == subscribe.topic);
            let Some((group, route)) = group_of(&subscribe.group).zip(route) else { continue };
            let group = base.removals.called(group);
            let name = (group, route.topic, shard);
            if self.begun.contains(&name) {
                continue;
            }
            self.asked.insert(*origin, name);
            let gone = store.queues().map(|(topic, queue, first, _)| (topic, queue, first));
            for (topic, queue, first) in gone.chain(store.going()).filter(|it| it.0 == route.topic)
            {
                let behind = self.behind.entry((group, queue_name(topic, queue)));
                let behind = behind.or_default();
                *behind = first.max(*behind);
            }
        }
    }

    /// A subscription is answered.
    pub(super) fn subscribed(&mut self, origin: Origin) {
        self.begun.extend(self.asked.remove(&origin));
    }
}

impl Host {
    /// Writes down what groups need not get because it was about to go when they began.
    pub(crate) fn finish(&mut self, base: &mut Base) {
        for ((group, queue), to) in std::mem::take(&mut self.beginnings.behind) {
            base.history.push(Recorded::Skip(Skip { group, queue, from: 0, to: to.0 }));
        }
    }
}
