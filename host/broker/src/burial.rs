//! Dead letters: what is not delivered to a group again goes to the group's dead-letter topic.
//!
//! ```text
//!   rejected, or failed for the last time
//!        │ step Doomed, with the settlement or at the lease's end       recorded: never delivered
//!        ▼                                                              again, not yet settled
//!   doomed ──► place asked of the index ──► Release into $dead.GROUP, with the notes
//!                    ▲                       and step Dead: one entry, both or neither
//!                    └── no such topic yet: asked of the metadata shard, looked at again
//! ```
//!
//! Two entries instead of one, so that a settlement stays one entry however many of its messages
//! die, and so that a message can wait for its topic. Members have no part in it: it goes on when
//! they are gone, and after a restart from what the log says.
use std::collections::BTreeSet;

use yard_wire::limits::{BATCH_BYTES_MAX, NOTES_BYTES_MAX};
use yard_wire::name::{DEAD_PREFIX, TRACE_TOPIC, is_system};
use yard_wire::release::{Notes, Release};
use yard_wire::{QueueIndex, QueueOffset, RecordPlace, TenantId, Timestamp, TopicId};

use crate::bounds::{BURIAL_MAX, SYSTEM_TOPICS_MAX};
use crate::broker::{Broker, METADATA_SHARD};
use crate::effect::{Effect, Then};
use crate::entry::{Entry, GroupId, Outcome, Progress, Step};
use crate::errands::{Asked, GroupQueueId};
use crate::event::Ticket;
use crate::group::Group;
use crate::group::queue::push_step;
use crate::group::returned::Returned;
use crate::meta::{MetaChange, Topic};
use crate::meta_table::queues_on;

/// Name of the topic that gets the dead letters of a group.
pub(crate) fn dead_topic_name(group: &str) -> String {
    let name = format!("{DEAD_PREFIX}{group}");
    assert!(is_system(&name), "nobody else can make a topic of this name");
    name
}

/// The topic that a message was sent to, and the one that it was passed on to, if it was.
pub(crate) type Ways<'a> = (&'a Topic, Option<&'a Topic>);

impl Broker {
    /// Notes whether a queue of a group has messages to bury.
    pub(crate) fn list_burial(&mut self, id: GroupId, queue: QueueIndex) {
        let state = self.groups.get(id).and_then(|group| group.queues.get(&queue));
        if state.is_some_and(|state| state.progress.returned().doomed_count() > 0) {
            self.burials.put((id, queue), Timestamp(0));
        } else {
            self.burials.remove((id, queue));
        }
    }

    /// Finds what is to bury, when the log was read.
    pub(crate) fn list_burials(&mut self) {
        let queues = self.groups.iter().flat_map(|(id, group)| {
            let queues = group.queues.iter();
            let doomed = queues.filter(|(_, it)| it.progress.returned().doomed_count() > 0);
            doomed.map(move |(queue, _)| (id, *queue))
        });
        let queues: Vec<GroupQueueId> = queues.collect();
        queues.into_iter().for_each(|of| self.burials.put(of, Timestamp(0)));
    }

    /// A topic is there that messages may have waited for.
    pub(crate) fn topic_is_there(&mut self, name: &str) {
        if is_system(name) {
            self.burials.hurry();
        }
    }

    /// Asks where the messages are that are to be buried now.
    pub(crate) fn bury(&mut self, effects: &mut Vec<Effect>) {
        let mut wanted: BTreeSet<(TenantId, String)> = BTreeSet::new();
        while let Some((id, queue)) = self.burials.take_due(self.now) {
            let group = self.groups.get(id).expect("what is to bury is a group's");
            let name = dead_topic_name(&group.name);
            if self.meta.topic_named(group.tenant, &name).is_none() {
                yard_wire::mark!(BurialWantsTopic);
                wanted.insert((group.tenant, name));
                continue;
            }
            let state = group.queues.get(&queue).expect("what is to bury is a queue's");
            let doomed = state.progress.returned().first_doomed(BURIAL_MAX);
            let (from, count) = doomed.expect("a queue is listed while it has something to bury");
            let topic = group.topic;
            let ticket = self.next_ticket;
            self.next_ticket.0 += 1;
            self.burials.ask(ticket, Asked { of: (id, queue), from });
            let reads = None;
            effects.push(Effect::Locate { ticket, topic, queue, from, count, reads });
        }
        for (tenant, name) in wanted {
            if self.config.shard == METADATA_SHARD {
                self.ensure_topic(tenant, &name, effects);
            } else {
                effects.push(Effect::EnsureTopic { tenant, name });
            }
        }
        if let Some(at) = self.burials.next() {
            self.wake(at);
        }
    }

    /// New topics among the effects of this event. They are applied after it, so until then others
    /// must get neither their numbers nor their names.
    fn new_topics<'a>(&self, effects: &'a [Effect]) -> impl Iterator<Item = &'a Topic> + use<'a> {
        let next = self.meta.next_topic();
        let changes = effects.iter().flat_map(|effect| match effect {
            Effect::Append { entry: Entry::Meta { changes }, .. } => &changes[..],
            _ => &[],
        });
        changes.filter_map(move |change| match change {
            MetaChange::TopicPut(topic) if topic.topic >= next => Some(topic),
            _ => None,
        })
    }

    /// In the metadata shard: creates a topic of the system unless it is there, with one queue in
    /// each shard. Where that cannot be recorded, it is asked for again.
    pub(crate) fn ensure_topic(&mut self, tenant: TenantId, name: &str, effects: &mut Vec<Effect>) {
        assert!(self.config.shard == METADATA_SHARD, "topics are made in one place");
        assert!(is_system(name), "only topics of the system are made unasked");
        let is_it = |topic: &Topic| topic.tenant == tenant && *topic.name == *name;
        let is_made = self.new_topics(effects).any(is_it);
        let room = self.meta.topic_count_of(tenant) < SYSTEM_TOPICS_MAX;
        if self.meta.topic_named(tenant, name).is_some() || is_made || !room {
            yard_wire::mark!(SystemTopicThere);
            return;
        }
        let before = self.new_topics(effects).count() as u32;
        let mut topic = self.new_topic(tenant, name, self.config.shards, before);
        if name == TRACE_TOPIC {
            topic.settings = crate::trace::settings();
        }
        let change = MetaChange::TopicPut(topic);
        let then = vec![Then::Broadcast(change.clone())];
        effects.push(Effect::Append { entry: Entry::Meta { changes: vec![change] }, then });
        self.wake(self.now);
    }

    /// The index said where messages are; `false` when it was not asked for a burial.
    pub(crate) fn located_doomed(
        &mut self,
        ticket: Ticket,
        places: &[RecordPlace],
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Some(Asked { of: (id, queue), from }) = self.burials.answered(ticket) else {
            return false;
        };
        let Some(group) = self.groups.get(id) else {
            yard_wire::mark!(BurialForNobody);
            return true;
        };
        let name = dead_topic_name(&group.name);
        let dead = self.meta.topic_named(group.tenant, &name);
        // Looked at again where it is not there, or where the index could not be read.
        let to = dead.and_then(|dead| queues_on(dead, self.config.shard).next().zip(Some(dead)));
        let (Some((dead_queue, dead)), Some(topics)) = (to, self.topics_of(group)) else {
            return true;
        };
        let to = (dead.topic, dead_queue);
        let progress = group.queues.get(&queue).map(|state| &state.progress);
        let (mut items, mut steps) = (Vec::new(), Vec::new());
        for (offset, place) in (from.0..).map(QueueOffset).zip(places) {
            let returned = progress.and_then(|progress| progress.returned().get(offset));
            let Some(returned) = returned.filter(|returned| returned.doom.is_some()) else {
                continue;
            };
            let reason = returned.doom.expect("the message is doomed").to_string();
            let what = (returned, &reason[..]);
            items.push(release(group, topics, (queue, offset), what, place, to));
            push_step(&mut steps, 0, Step::of_one(queue, offset, Outcome::Dead));
        }
        assert_eq!(items.is_empty(), steps.is_empty(), "a letter settles its message");
        if !items.is_empty() {
            let (tenant, errors) = (group.tenant, Vec::new());
            let settle = Some(Progress { group: id, steps, errors });
            let entry = Entry::Release { tenant, items, settle, dues: Vec::new(), tx: None };
            effects.push(Effect::Append { entry, then: Vec::new() });
            self.wake(self.now);
        }
        true
    }

    /// The topic that the messages of a group were sent to, and the one that they were passed on
    /// to, if they were: they are sent again to the topic that they came from.
    pub(crate) fn topics_of(&self, group: &Group) -> Option<Ways<'_>> {
        let topic = self.meta.topic(group.topic)?;
        let source = group.source.and_then(|id| self.groups.get(id));
        let own = source.and_then(|source| self.meta.topic(source.topic));
        assert!(own.is_none_or(|own| own.topic != topic.topic), "a drain goes to another topic");
        Some((own.unwrap_or(topic), own.map(|_| topic)))
    }

    /// The log does not hold messages that were to be buried or passed on; `false` when it was not
    /// asked for such.
    pub(crate) fn lost_errand(
        &mut self,
        ticket: Ticket,
        until: QueueOffset,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let asked = self.burials.answered(ticket).or_else(|| self.drains.answered(ticket));
        let Some(Asked { of: (id, queue), from }) = asked else {
            return false;
        };
        if self.groups.get(id).is_some() {
            yard_wire::mark!(ErrandMetGap);
            assert!(from < until, "a gap begins where it was asked for");
            let step = Step { queue, from, to: until, outcome: Outcome::Trimmed };
            self.append_steps(id, &[step], effects);
            self.wake(self.now);
        }
        true
    }
}

/// A message that goes to another topic, a dead letter mostly: the message, and what became of it,
/// in the topic that it was sent to or one that it was passed on to.
pub(crate) fn release(
    group: &Group,
    (topic, through): Ways<'_>,
    (queue, offset): (QueueIndex, QueueOffset),
    (returned, reason): (&Returned, &str),
    place: &RecordPlace,
    to: (TopicId, QueueIndex),
) -> Release {
    let number = |number: u64| number.to_string();
    let attempts = number(returned.attempts.into());
    let (first, last) = (number(returned.first.0), number(returned.last.0));
    let (queue, offset) = (number(queue.0.into()), number(offset.0));
    let error = returned.error.as_deref().map(|error| ("$dead.error", error));
    let notes: [(&str, &str); 8] = [
        ("$dead.group", &group.name),
        ("$dead.reason", reason),
        ("$dead.attempts", &attempts),
        ("$dead.first_ms", &first),
        ("$dead.last_ms", &last),
        ("$dead.topic", &topic.name),
        ("$dead.queue", &queue),
        ("$dead.offset", &offset),
    ];
    let through = through.map(|topic| ("$dead.through", &*topic.name));
    let notes = Notes::new(notes.into_iter().chain(through).chain(error));
    let made = |notes| Release::new((*place).into(), to, notes);
    // A message that died very often has no room for more notes.
    let has_room = place.bytes as usize + NOTES_BYTES_MAX <= BATCH_BYTES_MAX;
    if has_room { made(notes) } else { made(Notes::default()) }
}
